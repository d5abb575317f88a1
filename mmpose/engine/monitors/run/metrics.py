# Copyright (c) OpenMMLab. All rights reserved.
import functools
import logging
from numbers import Real
from typing import Dict, Iterator, Optional

import numpy as np
from mmengine.logging import print_log
from mmengine.runner import BaseLoop
from torch import Tensor

from ..core.arguments import Arguments, flag
from ..core.measurements import ValidationMetrics
from ..core.monitor import Chart, Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import evaluation_step
from ..writers.record import Record, Scalar, Value

_LOG_VAL_METRICS = flag(
    'log_val_metrics', 'Write the metrics of validations and '
    'tests, see :class:`MetricMonitor`.')


@MONITORS.register_module()
class MetricMonitor(Monitor):
    """Log the metrics that the evaluators return.

    ==================== ==================================================
    ``val/<metric>``     A metric of the validation, as its evaluator names
                         it: ``val/coco/AP``
    ``test/<metric>``    The same for a test run
    ==================== ==================================================

    What it tells: How good the model is on data that it was not trained on. A
    metric that gets worse while the loss falls means overfitting.

    The step is the epoch in epoch-based training, and the iteration in
    iteration-based training. A metric that is not a single number is skipped,
    and named in the log once.

    Args:
        curves (bool): Whether to write them; :class:`HealthMonitor` and
            :class:`HParamsMonitor` need them in any case. Defaults to True.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (_LOG_VAL_METRICS, )
    settings = dict(curves=_LOG_VAL_METRICS)
    charts = (Chart(
        'Overview', 'validation metrics', 'val/(?!loss)', position=10), )

    @classmethod
    def is_wanted(cls, given: Arguments) -> bool:
        return (given.log_val_metrics or given.is_on('log_health')
                or given.is_on('log_run_info'))

    def __init__(self, curves: bool = True, strict: bool = False) -> None:
        super().__init__(strict=strict)
        self.writes_curves = curves
        self._skipped = set()

    def after_val_epoch(self, runner, metrics: Optional[Dict]) -> None:
        self._write(runner, 'val', metrics)

    def after_test_epoch(self, runner, metrics: Optional[Dict]) -> None:
        self._write(runner, 'test', metrics)

    def _write(self, runner, mode: str, metrics: Optional[Dict]) -> None:
        numbers = {}
        for name, value in (metrics or {}).items():
            if is_number(value):
                numbers[name] = value
            elif name not in self._skipped:
                self._skipped.add(name)
                print_log(
                    f'{type(self).__name__}: the metric {name!r} is a '
                    f'{type(value).__name__} and no single number, so it is '
                    'not written to TensorBoard.',
                    logger='current',
                    level=logging.INFO)
        tensors = [v for v in numbers.values() if isinstance(v, Tensor)]
        # ``runner.iter`` would build a loop where nothing is trained.
        loop = runner._train_loop
        iteration = loop.iter if isinstance(loop, BaseLoop) else 0
        self.emit(
            Record(
                evaluation_step(runner),
                functools.partial(self._values, mode, iteration, numbers),
                tensors))

    def _values(self, mode: str, iteration: int, metrics: dict,
                *arrays: np.ndarray) -> Iterator[Value]:
        arrays = iter(arrays)
        values = {
            name:
            _number(next(arrays) if isinstance(value, Tensor) else value)
            for name, value in metrics.items()
        }
        for name, value in values.items() if self.writes_curves else ():
            yield Scalar(f'{mode}/{name}', value)
        if mode == 'val' and values:
            yield ValidationMetrics(iteration, values)


def is_number(value) -> bool:
    """Return whether a value is one real number.

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


def _number(value) -> float:
    return float(np.asarray(value).reshape(()))
