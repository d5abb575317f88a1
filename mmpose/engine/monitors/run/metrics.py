# Copyright (c) OpenMMLab. All rights reserved.
import functools
import logging
from numbers import Real
from typing import Dict, Iterable, Optional

import numpy as np
from mmengine.logging import print_log
from torch import Tensor

from ..core.arguments import flag
from ..core.monitor import Chart, Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import evaluation_step
from ..writers.record import Record, Scalar


@MONITORS.register_module()
class MetricMonitor(Monitor):
    """Everything that the evaluators return.

    ==================== ==================================================
    ``val/<metric>``     A metric of the validation, as its evaluator names
                         it: ``val/coco/AP``
    ``test/<metric>``    The same for a test run
    ==================== ==================================================

    What it tells: How good the model is on data that it was not trained on. A
    metric that gets worse while the loss falls is overfitting.

    At the epoch in epoch-based training, at the iteration in iteration-based
    training. What is not a single number is skipped and named once.

    Args:
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (flag(
        'log_val_metrics', 'Write the metrics of validations and '
        'tests, see :class:`MetricMonitor`.'), )
    charts = (Chart('Overview', 'validation metrics', 'val/', position=10), )

    def __init__(self, strict: bool = False) -> None:
        super().__init__(strict=strict)
        self._skipped = set()

    def after_val_epoch(self, runner, metrics: Optional[Dict]) -> None:
        self._write(runner, 'val', metrics)

    def after_test_epoch(self, runner, metrics: Optional[Dict]) -> None:
        self._write(runner, 'test', metrics)

    def _write(self, runner, mode: str, metrics: Optional[Dict]) -> None:
        numbers = {}
        for name, value in (metrics or {}).items():
            if is_number(value):
                numbers[f'{mode}/{name}'] = value
            elif name not in self._skipped:
                self._skipped.add(name)
                print_log(
                    f'{type(self).__name__}: the metric {name!r} is a '
                    f'{type(value).__name__} and no single number, so it is '
                    'not written to TensorBoard.',
                    logger='current',
                    level=logging.INFO)
        plain = {
            tag: value
            for tag, value in numbers.items() if not isinstance(value, Tensor)
        }
        tensors = {
            tag: value
            for tag, value in numbers.items() if isinstance(value, Tensor)
        }
        self.emit(
            Record(
                step=evaluation_step(runner),
                values=functools.partial(_scalars, plain, list(tensors)),
                tensors=list(tensors.values())))


def is_number(value) -> bool:
    """Whether a value is one real number.

    Args:
        value (Any): A number, or a tensor or array of any shape.

    Returns:
        bool: True for numbers and for tensors and arrays of one element.
    """
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_complex()
    if isinstance(value, np.ndarray):
        return value.size == 1 and value.dtype.kind in 'biuf'
    return isinstance(value, (Real, np.bool_))


def _scalars(plain: dict, tags: Iterable[str], *arrays) -> Iterable[Scalar]:
    for tag, value in [*plain.items(), *zip(tags, arrays)]:
        yield Scalar(tag, float(np.asarray(value).reshape(())))
