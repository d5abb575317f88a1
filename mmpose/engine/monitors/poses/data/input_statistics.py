# Copyright (c) OpenMMLab. All rights reserved.
import functools
import logging
from collections import deque
from typing import Deque, Iterator, Optional

import numpy as np
import torch
from mmengine.logging import print_log

from ...core.arguments import GRAD_NORM_INTERVAL, LOG_DETAILS, Arguments
from ...core.monitor import Chart, Monitor
from ...core.registry import MONITORS
from ...core.runner_parts import bare_model
from ...core.schedule import Interval
from ...writers.record import Record, Scalar
from ..arguments import LOG_DATA

# A curve is over so many measured batches.
_BATCHES = 20
# Of each side, every fourth pixel is enough.
_STRIDE = 4


@MONITORS.register_module()
class InputStatisticsMonitor(Monitor):
    """Log the mean and the deviation of what the model sees.

    ============================= ===========================================
    ``data/input_mean/<channel>`` Mean of a channel of the input, after the
                                  data preprocessor, with ``log_details``
    ``data/input_std/<channel>``  Its standard deviation, with
                                  ``log_details``
    ============================= ===========================================

    What it tells: Whether the normalization fits the data. Pretrained
    backbones expect means near 0 and deviations near 1. Means that change in
    the training are those of another pipeline or of another data set.

    Measured at every fourth pixel along both sides, padding included, in the
    batches of the last 20 logging steps. A line of the log says where it
    cannot be measured.

    Args:
        interval (int | dict | Schedule): At which iterations.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    # Both are needed.
    switches = (LOG_DETAILS, )
    settings = dict(interval=GRAD_NORM_INTERVAL)
    charts = (Chart('Data', 'mean of the input', 'data/input_mean/'),
              Chart('Data', 'deviation of the input', 'data/input_std/'))

    @classmethod
    def is_wanted(cls, given: Arguments) -> bool:
        return bool(super().is_wanted(given) and getattr(given, LOG_DATA.name))

    def __init__(self, interval: Interval, strict: bool = False) -> None:
        super().__init__(interval, strict)
        self._handle: Optional[torch.utils.hooks.RemovableHandle] = None

    def before_train(self, runner) -> None:
        # Mean, mean square and number of images of each batch; only the
        # writer's thread touches them.
        self._batches: Deque[tuple] = deque(maxlen=_BATCHES)
        model = bare_model(runner.model)
        # A hook on a part of it would have it compiled anew.
        self._off = hasattr(model.train_step, '_torchdynamo_orig_callable')
        if self._off:
            _say('the data preprocessor is compiled')

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        step = runner.iter + 1
        if self._off or not self.is_due(step):
            return
        self._detach()
        preprocessor = bare_model(runner.model).data_preprocessor
        self._handle = preprocessor.register_forward_hook(
            functools.partial(self._seen, step))

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        self._detach()

    def after_train(self, runner) -> None:
        self._detach()

    def _detach(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _seen(self, step: int, module, given, output) -> None:
        """Measure a batch as the data preprocessor returns it."""
        if given[1:] == (False, ):  # Another monitor lets it predict.
            return
        self._detach()
        with self.guard, torch.no_grad():
            inputs = output['inputs']
            if not isinstance(inputs, torch.Tensor) or inputs.ndim < 4:
                self._off = True
                _say('the input is no batch of images')
                return
            values = inputs.detach()[..., ::_STRIDE, ::_STRIDE].float()
            # Of frames, shape (N, T, C, H, W), of all.
            others = [d for d in range(values.ndim) if d != values.ndim - 3]
            moments = torch.stack(
                [values.mean(others), (values**2).mean(others)])
            self.emit(
                Record(step, functools.partial(self._scalars, len(inputs)),
                       [moments]))

    def _scalars(self, count: int, moments: np.ndarray) -> Iterator[Scalar]:
        """Yield the curves, in the writer's thread."""
        self._batches.append((count, moments.astype(float)))
        total = sum(n for n, _ in self._batches)
        mean, square = sum(n * m for n, m in self._batches) / total
        std = np.sqrt(np.maximum(square - mean**2, 0))
        for channel, values in enumerate(zip(mean, std)):
            yield Scalar(f'data/input_mean/{channel}', values[0])
            yield Scalar(f'data/input_std/{channel}', values[1])


def _say(reason: str) -> None:
    print_log(
        f'EnhancedTensorBoardHook writes no data/input_*: {reason}.',
        logger='current',
        level=logging.INFO)
