# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, Iterable, Iterator, List, Tuple

from torch import Tensor, nn

from ..core.arguments import LOG_MODEL_STATS, MAX_LAYERS_TO_LOG
from ..core.layer_groups import layer_groups, named_parameters
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import bare_model
from ..writers.record import Record, Scalar, Text


@MONITORS.register_module()
class ModelInfoMonitor(Monitor):
    """Log the size of the model, once, when training begins.

    ============================== =======================================
    ``model/total_parameters``     Elements of all parameters
    ``model/trainable_parameters`` Elements of those that need a gradient
    ``model/model_size_mb``        Parameters and buffers in MB (10^6 bytes)
    ``model/parameters``           Parameters by layer group, as a table
    ============================== =======================================

    What it tells: Whether the intended parameters are frozen, and what the
    names of the layer groups stand for.

    Args:
        max_groups (int): See :func:`layer_groups`.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_MODEL_STATS, )
    settings = dict(max_groups=MAX_LAYERS_TO_LOG)

    of_whole_model = True

    def __init__(self, max_groups: int, strict: bool = False) -> None:
        super().__init__(strict=strict)
        self._max_groups = max_groups

    def before_train(self, runner) -> None:
        model = bare_model(runner.model)
        named = dict(named_parameters(model))
        members = {
            group: [named[name] for name in names]
            for group, names in layer_groups(named, self._max_groups).items()
        }

        parameters = list(named.values())
        total, trainable = _elements(parameters)
        size = _bytes(parameters) + _bytes(model.buffers())
        values = [
            Scalar('model/total_parameters', total),
            Scalar('model/trainable_parameters', trainable),
            Scalar('model/model_size_mb', size / 1e6),
            Text('model/parameters',
                 _table({
                     **members, '**total**': parameters
                 })),
        ]
        self.emit(Record(runner.iter, lambda: values))


def _elements(parameters: Iterable[nn.Parameter]) -> Tuple[int, int]:
    total = sum(p.numel() for p in parameters)
    return total, sum(p.numel() for p in parameters if p.requires_grad)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _table(members: Dict[str, List[nn.Parameter]]) -> str:
    """Return a table in Markdown with a row for each group."""

    def rows() -> Iterator[Tuple]:
        yield 'layer group', 'tensors', 'parameters', 'trainable', 'MB'
        yield ':--', '--:', '--:', '--:', '--:'
        for group, parameters in members.items():
            total, trainable = _elements(parameters)
            yield (group, len(parameters), f'{total:,}', f'{trainable:,}',
                   f'{_bytes(parameters) / 1e6:.2f}')

    return '\n'.join(f'| {" | ".join(map(str, row))} |' for row in rows())
