# Copyright (c) OpenMMLab. All rights reserved.
import functools
from collections import defaultdict
from typing import Dict, Iterator, Optional, Union

import numpy as np
import torch
from torch import Tensor

from ..core.arguments import GRAD_NORM_INTERVAL, LOG_HEALTH
from ..core.measurements import LossScale
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import optim_wrappers
from ..writers.record import Record, Scalar, Value


@MONITORS.register_module()
class LossScaleMonitor(Monitor):
    """Log the loss scale of mixed precision, and the updates it skips.

    =========================== ===========================================
    ``health/amp/loss_scale``   What ``GradScaler`` multiplies the loss by
    ``health/amp/updates``      Number of updates since the last
                                measurement, skipped ones included
    ``health/amp/skipped``      Those that were skipped, since a gradient
                                was beyond float16
    =========================== ===========================================

    What it tells: A scale that keeps falling, or many skipped updates, mean
    that values leave the range of float16: train in bfloat16 or float32. A few
    skipped updates while the scale is being found are usual.

    With several optimizers, the optimizer's name precedes the last part.
    Without a ``GradScaler`` nothing is written.

    Args:
        interval (int | dict | Schedule): At which iterations to measure.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_HEALTH, )
    settings = dict(interval=GRAD_NORM_INTERVAL)

    def before_train(self, runner) -> None:
        # For each optimizer. The number of skipped updates may be on the
        # device.
        self._updates: Dict[str, int] = defaultdict(int)
        self._skipped: Dict[str, Union[int, Tensor]] = defaultdict(int)

    def after_step(self, name: str, optimizer, taken) -> None:
        self._updates[name] += 1
        self._skipped[name] = self._skipped[name] + 1 - taken * 1

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        if not self.is_due(runner.iter + 1):
            return
        for name, optim_wrapper in optim_wrappers(runner.optim_wrapper):
            scaler = getattr(optim_wrapper, 'loss_scaler', None)
            scale = getattr(scaler, '_scale', None)
            # Under accumulation there may have been no update; a scaler that
            # is not enabled has no scale.
            if scale is None or not self._updates[name]:
                continue
            tag = '/'.join(filter(None, ('health', 'amp', name)))
            self.emit(
                Record(
                    runner.iter + 1,
                    functools.partial(_values, tag, name,
                                      self._updates.pop(name)),
                    [
                        # It is changed in place.
                        scale.clone(),
                        torch.as_tensor(self._skipped.pop(name))
                    ]))


def _values(tag: str, optimizer: str, updates: int, scale: np.ndarray,
            skipped: np.ndarray) -> Iterator[Value]:
    yield Scalar(f'{tag}/loss_scale', float(scale))
    yield Scalar(f'{tag}/updates', updates)
    yield Scalar(f'{tag}/skipped', float(skipped))
    yield LossScale(optimizer, float(scale), updates, int(skipped))
