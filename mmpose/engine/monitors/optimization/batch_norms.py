# Copyright (c) OpenMMLab. All rights reserved.
from collections import defaultdict
from typing import Iterator, List, Optional

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from ..core.arguments import GRAD_NORM_INTERVAL, LOG_HEALTH
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import bare_model
from ..writers.record import Record, Scalar

# A scale starts at 1, or at 0 where a residual branch is to start as nothing:
# only what has ever been above the first has died when it is below the second.
_ALIVE = 0.1
_DEAD = 1e-3


@MONITORS.register_module()
class BatchNormMonitor(Monitor):
    """Log the channels that batch norms do not let through any more.

    ========================== ============================================
    ``health/dead_channels``   Fraction of the channels that are scaled by
                               less than 1e-3, of those whose scale has ever
                               been above 0.1
    ========================== ============================================

    What it tells: A channel that is scaled to nothing computes for nothing and
    gets no gradient any more. A growing fraction means that the weight decay
    or the learning rate is too high.

    Scales that are frozen do not count.

    Args:
        interval (int | dict | Schedule): At which iterations to measure.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_HEALTH, )
    settings = dict(interval=GRAD_NORM_INTERVAL)

    of_whole_model = True

    def before_train(self, runner) -> None:
        self._scales = [
            module.weight for module in bare_model(runner.model).modules()
            if isinstance(module, _BatchNorm) and module.weight is not None
            and module.weight.requires_grad
        ]
        self._alive: Optional[np.ndarray] = None

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        step = runner.iter + 1
        if not self._scales or not self.is_due(step):
            return
        by_device = defaultdict(list)
        for scale in self._scales:
            by_device[scale.device].append(scale.detach().float())
        self.emit(
            Record(step, self._values,
                   [torch.cat(scales) for scales in by_device.values()]))

    def _values(self, *scales: List[np.ndarray]) -> Iterator[Scalar]:
        size = np.abs(np.concatenate(scales))
        alive = size > _ALIVE
        self._alive = alive if self._alive is None else self._alive | alive
        if self._alive.any():
            dead = (size < _DEAD) & self._alive
            yield Scalar('health/dead_channels',
                         dead.sum() / self._alive.sum())
