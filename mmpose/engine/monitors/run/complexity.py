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
    """Log the FLOPs of the model, once, when training begins.

    ==================== ==================================================
    ``model/flops``      FLOPs for one sample, from the input to the head's
                         output, counted by
                         :class:`mmengine.analysis.FlopAnalyzer`: a
                         multiply-add is one
    ``model/complexity`` Parameters and FLOPs by layer group and their
                         fractions, as a table
    ==================== ==================================================

    What it tells: Which layers take most of the computation, and whether a
    change of the architecture has made the model as cheap as intended.

    They are counted at the first iteration, with its input. If the model
    cannot be traced, a line in the log says why.

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
                'EnhancedTensorBoardHook skips the FLOPs of the model: '
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
    """Hold the FLOPs of a model for one sample.

    Attributes:
        by_module (dict[str, float]): The FLOPs of each module, its submodules
            included, by its name with '/' instead of '.'; those of the model
            by ''.
        uncounted (dict[str, int]): The number of calls of each operation that
            is not counted, by its name in PyTorch.
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
    """Return the FLOPs of each layer group, without those of groups inside it.

    Args:
        flops (Flops): By module.
        groups (dict[str, list[str]]): See :func:`layer_groups`.

    Returns:
        dict[str, float]: The FLOPs by group. Where each parameter is a group,
        the FLOPs of a module belong to its first parameter.
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
    text += f'\n\nFor a sample of shape {flops.shape}; a multiply-add is one.'
    if flops.uncounted:
        text += ' Not counted: ' + ', '.join(
            f'{kind} ({times})'
            for kind, times in sorted(flops.uncounted.items())) + '.'
    yield Text('model/complexity', text)


def _table(flops: Flops, elements: Dict[str, int],
           groups: Dict[str, List[str]]) -> Iterator[str]:
    """Yield a table in Markdown: each group, and the rest."""
    all_elements, all_flops = sum(elements.values()), flops.by_module['']

    def row(group: str, part: int, count: float) -> str:
        return (f'| {group} | {part:,} | {_percent(part, all_elements)} '
                f'| {count / 1e6:,.2f} | {_percent(count, all_flops)} |')

    yield '| layer group | parameters | fraction | MFLOPs | fraction |'
    yield '| :-- | --: | --: | --: | --: |'
    counts = flops_by_group(flops, groups)
    for group, names in groups.items():
        yield row(group, sum(elements[name] for name in names), counts[group])
    rest = all_flops - sum(counts.values())
    if groups and rest > 0:
        yield row('other', 0, rest)
    yield row('**total**', all_elements, all_flops)


def _percent(part: float, whole: float) -> str:
    return f'{part / whole:.1%}' if whole else '-'
