# Copyright (c) OpenMMLab. All rights reserved.
import functools
import logging
from typing import Dict, Iterator, List, NamedTuple, Tuple, Union

from mmengine.logging import print_log
from torch import Tensor

from ..core.arguments import LOG_MODEL_STATS, MAX_LAYERS_TO_LOG
from ..core.layer_groups import bare_name, layer_groups, named_parameters
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import bare_model
from ..writers.record import Record, Scalar, Text
from .tracing import TensorPath, Untraceable, traceable


@MONITORS.register_module()
class ComplexityMonitor(Monitor):
    """What the model computes for one sample, once, when training begins.

    ==================== ==================================================
    ``model/flops``      FLOPs from the input to the head's output, as
                         :class:`mmengine.analysis.FlopAnalyzer` counts
                         them: a multiply-add is one
    ``model/complexity`` Parameters and FLOPs by layer group and their
                         shares, as a table
    ==================== ==================================================

    What it tells: Where the work is, and whether a change of the architecture
    made the model as cheap as was meant.

    At the first iteration, which has an input to count with. A model that
    cannot be traced costs one line in the log.

    Args:
        max_groups (int): See :func:`layer_groups`.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_MODEL_STATS, )
    settings = dict(max_groups=MAX_LAYERS_TO_LOG)

    def __init__(self, max_groups: int, strict: bool = False) -> None:
        super().__init__(strict=strict)
        self._max_groups = max_groups

    def before_train(self, runner) -> None:
        self._done = False

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        if self._done:
            return
        self._done = True
        try:
            with traceable(runner, data_batch) as (path, sample):
                flops = count_flops(path, sample)
        except Untraceable as error:
            print_log(
                'EnhancedTensorBoardHook leaves out the FLOPs of the model: '
                f'{error}.',
                logger='current',
                level=logging.INFO)
            return
        named = dict(named_parameters(bare_model(runner.model)))
        elements = {name: p.numel() for name, p in named.items()}
        groups = layer_groups(named, self._max_groups)
        self.emit(
            Record(runner.iter,
                   functools.partial(_values, flops, elements, groups)))


class Flops(NamedTuple):
    """What a model computes for one sample.

    Attributes:
        by_module (dict[str, float]): The FLOPs of each module with all that
            is in it, by its name with '/' for '.'; those of the model by ''.
        uncounted (dict[str, int]): How often there was an operation that is
            not counted, by PyTorch's name of it.
        shape (tuple): The shape of the sample.
    """
    by_module: Dict[str, float]
    uncounted: Dict[str, int]
    shape: Tuple[int, ...]


def count_flops(path: TensorPath, sample: Tensor) -> Flops:
    """Count the FLOPs of a model.

    Args:
        path (TensorPath): The model, in evaluation mode.
        sample (Tensor): Its input, shape (1, ...).

    Returns:
        Flops: By module.
    """
    from mmengine.analysis import FlopAnalyzer
    analyzer = FlopAnalyzer(path, (sample, ))
    analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    by_module = {'': float(analyzer.total())}
    for name, count in analyzer.by_module().items():
        if name.startswith('model.'):
            name = bare_name(name[len('model.'):])
            by_module[name.replace('.', '/')] = float(count)
    return Flops(by_module, analyzer.unsupported_ops(),
                 tuple(sample.shape[1:]))


def flops_by_group(flops: Flops, groups: Dict[str,
                                              List[str]]) -> Dict[str, float]:
    """The FLOPs of each layer group, without those of groups inside it.

    Args:
        flops (Flops): By module.
        groups (dict[str, list[str]]): See :func:`layer_groups`.

    Returns:
        dict[str, float]: Where each parameter is a group of its own, a
        module's are those of its first parameter.
    """
    owners: Dict[str, str] = {}
    for group, names in groups.items():
        module = '' if group == 'model' else group
        if module == names[0].replace('.', '/'):
            module = module.rpartition('/')[0]
        owners.setdefault(module, group)
    counts = dict.fromkeys(groups, 0.)
    for module, group in owners.items():
        count = flops.by_module.get(module, 0.)
        counts[group] += count
        while module:
            module = module.rpartition('/')[0]
            if module in owners:
                counts[owners[module]] -= count
                break
    return counts


def _values(flops: Flops, elements: Dict[str, int],
            groups: Dict[str, List[str]]) -> Iterator[Union[Scalar, Text]]:
    yield Scalar('model/flops', flops.by_module[''])
    text = '\n'.join(_table(flops, elements, groups))
    text += f'\n\nOf a sample of shape {flops.shape}; a multiply-add is one.'
    if flops.uncounted:
        text += ' Not counted: ' + ', '.join(
            f'{kind} ({times})'
            for kind, times in sorted(flops.uncounted.items())) + '.'
    yield Text('model/complexity', text)


def _table(flops: Flops, elements: Dict[str, int],
           groups: Dict[str, List[str]]) -> Iterator[str]:
    """A table in Markdown, a row for each group, and what is in none."""
    all_elements, all_flops = sum(elements.values()), flops.by_module['']

    def row(group: str, part: int, count: float) -> str:
        return (f'| {group} | {part:,} | {_share(part, all_elements)} '
                f'| {count / 1e6:,.2f} | {_share(count, all_flops)} |')

    yield '| layer group | parameters | share | MFLOPs | share |'
    yield '| :-- | --: | --: | --: | --: |'
    counts = flops_by_group(flops, groups)
    for group, names in groups.items():
        yield row(group, sum(elements[name] for name in names), counts[group])
    rest = all_flops - sum(counts.values())
    if groups and rest > 0:
        yield row('other', 0, rest)
    yield row('**total**', all_elements, all_flops)


def _share(part: float, whole: float) -> str:
    return f'{part / whole:.1%}' if whole else '-'
