# Copyright (c) OpenMMLab. All rights reserved.
import functools
from contextlib import ExitStack
from typing import Dict, Iterator, Optional, Union

import numpy as np
import torch
from torch import Tensor

from ..core.arguments import GRAD_NORM_INTERVAL, LOG_HEALTH
from ..core.measurements import LossScale
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import optim_wrappers
from ..core.schedule import Interval
from ..core.step_wrapping import call_around
from ..writers.record import Record, Scalar, Value


@MONITORS.register_module()
class LossScaleMonitor(Monitor):
    """How mixed-precision training copes with the range of float16.

    =========================== ===========================================
    ``health/amp/loss_scale``   What ``GradScaler`` multiplies the loss by
    ``health/amp/updates``      Number of updates since the last reading,
                                those that were skipped included
    ``health/amp/skipped``      Those that were skipped, since a gradient
                                was beyond float16
    =========================== ===========================================

    What it tells: A scale that keeps falling, or many skipped updates, mean
    that values leave the range of float16: train in bfloat16 or float32. A few
    skipped updates while the scale is being found are usual.

    With several optimizers the optimizer's name stands before the last part.
    Without a ``GradScaler`` nothing is written.

    Args:
        interval (int | dict | Schedule): At which iterations to read.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_HEALTH, )
    settings = dict(interval=GRAD_NORM_INTERVAL)

    def __init__(self, interval: Interval, strict: bool = False) -> None:
        super().__init__(interval, strict)
        self._detach = ExitStack()

    def before_train(self, runner) -> None:
        # A training that was interrupted has left these behind.
        self._detach.close()
        self._counts: Dict[str, _Counts] = {}
        for name, optim_wrapper in optim_wrappers(runner.optim_wrapper):
            scaler = getattr(optim_wrapper, 'loss_scaler', None)
            if scaler is not None and hasattr(scaler, '_scale'):
                self._attach(name, optim_wrapper.optimizer, scaler)

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        step = runner.iter + 1
        if not self._counts or not self.is_due(step):
            return
        for name, counts in self._counts.items():
            # Under accumulation there may have been none; a scaler that is
            # not enabled has no scale.
            if counts.updates and counts.scaler._scale is not None:
                tag = '/'.join(filter(None, ('health', 'amp', name)))
                self.emit(
                    Record(
                        step,
                        functools.partial(_values, tag, name, counts.updates),
                        [
                            # It is changed in place.
                            counts.scaler._scale.clone(),
                            torch.as_tensor(counts.skipped)
                        ]))
                counts.reset()

    def after_train(self, runner) -> None:
        self._detach.close()

    def _attach(self, name: str, optimizer, scaler) -> None:
        """Compare how often the scaler is to step with how often it does."""
        counts = self._counts[name] = _Counts(scaler)

        def before_scaler_step(stepping, *_, **__):
            if stepping is optimizer:
                counts.updates += 1
                counts.skipped = counts.skipped + 1

        def before_step(*_, **__):
            # A fused optimizer finds out inside its step, on the device.
            overflow = getattr(optimizer, 'found_inf', None)
            skipped = 0 if overflow is None else overflow.detach()
            counts.skipped = counts.skipped - 1 + skipped

        self._detach.callback(
            call_around(scaler, 'step', self.guard, before_scaler_step))
        self._detach.callback(
            call_around(optimizer, 'step', self.guard, before_step))


class _Counts:
    """The updates since the last reading.

    Args:
        scaler (GradScaler): Who decides which are skipped.

    Attributes:
        updates (int): How many there were.
        skipped (int | Tensor): How many of them were skipped.
    """

    def __init__(self, scaler) -> None:
        self.scaler = scaler
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.updates = 0
        self.skipped: Union[int, Tensor] = 0


def _values(tag: str, optimizer: str, updates: int, scale: np.ndarray,
            skipped: np.ndarray) -> Iterator[Value]:
    yield Scalar(f'{tag}/loss_scale', float(scale))
    yield Scalar(f'{tag}/updates', updates)
    yield Scalar(f'{tag}/skipped', float(skipped))
    yield LossScale(optimizer, float(scale), updates, int(skipped))
