# Copyright (c) OpenMMLab. All rights reserved.
import functools
import math
from collections import defaultdict
from itertools import chain
from typing import Dict, Iterator, Optional, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ..core.arguments import GRAD_NORM_INTERVAL, LOG_HEALTH
from ..core.measurements import Buffers, DeadChannels, Nonfinite
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import bare_model
from ..writers.record import Record, Scalar, Value
from .norms import named_norms

# A scale starts at 1, or at 0 in a residual branch that is to start without
# effect. So a channel counts as dead if its scale is below the second and has
# ever been above the first.
_ALIVE = 0.1
_DEAD = 1e-3


@MONITORS.register_module()
class BatchNormMonitor(Monitor):
    """Log the scales and the running statistics of batch norms.

    ==================================== ==================================
    ``health/dead_channels``             Fraction of the channels that are
                                         scaled by less than 1e-3, of those
                                         whose scale has ever been above 0.1
    ``health/nonfinite_buffer/<buffer>`` Fraction of the running means and
                                         variances that are NaN or infinite;
                                         only if there is one. The buffer is
                                         the first such one of the model
    ==================================== ==================================

    What it tells: A channel with a scale of 0 has no effect and gets no
    gradient. A growing fraction means that the weight decay or the learning
    rate is too high. A running statistic that is NaN stays NaN. The loss does
    not show it, since only validations use it.

    Frozen scales do not count.

    Args:
        interval (int | dict | Schedule): At which iterations to measure.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_HEALTH, )
    settings = dict(interval=GRAD_NORM_INTERVAL)

    of_whole_model = True

    def before_train(self, runner) -> None:
        layers = {
            name: module
            for name, module in bare_model(runner.model).named_modules()
            if isinstance(module, _BatchNorm)
        }
        self._scales = [
            layer.weight for layer in layers.values()
            if layer.weight is not None and layer.weight.requires_grad
        ]
        self._statistics: Dict[str, Tensor] = {
            f'{name}.{kind}': getattr(layer, kind)
            for name, layer in layers.items()
            for kind in ('running_mean', 'running_var')
            if getattr(layer, kind) is not None
        }
        self._alive: Optional[np.ndarray] = None

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        step = runner.iter + 1
        if not self._statistics and not self._scales or not self.is_due(step):
            return
        if self._scales:
            by_device = defaultdict(list)
            for scale in self._scales:
                by_device[scale.device].append(scale.detach().float())
            self.emit(
                Record(step, self._of_scales,
                       [torch.cat(scales) for scales in by_device.values()]))
        if self._statistics:
            names, largest = zip(
                *named_norms(self._statistics.items(), math.inf))
            self.emit(
                Record(step,
                       functools.partial(_of_statistics, list(chain(*names))),
                       largest))

    def _of_scales(self, *scales: np.ndarray) -> Iterator[Value]:
        size = np.abs(np.concatenate(scales))
        alive = size > _ALIVE
        self._alive = alive if self._alive is None else self._alive | alive
        if self._alive.any():
            dead = (size < _DEAD) & self._alive
            fraction = dead.sum() / self._alive.sum()
            yield Scalar('health/dead_channels', fraction)
            yield DeadChannels(fraction)


def _of_statistics(names: Sequence[str],
                   *largest: np.ndarray) -> Iterator[Value]:
    finite = dict(zip(names, np.isfinite(np.concatenate(largest))))
    nonfinite = [name for name in names if not finite[name]]
    found = None
    if nonfinite:
        found = Nonfinite(nonfinite[0], len(nonfinite) / len(names))
        yield Scalar(f'health/nonfinite_buffer/{found.name}', found.fraction)
    yield Buffers(found)
