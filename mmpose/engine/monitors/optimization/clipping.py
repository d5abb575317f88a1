# Copyright (c) OpenMMLab. All rights reserved.
import functools
import math
from collections import defaultdict
from typing import Dict, Iterable, Iterator, List, Optional

import numpy as np
import torch
from torch import Tensor

from ..core.arguments import GRAD_NORM_INTERVAL, LOG_HEALTH
from ..core.measurements import Clipping
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import optim_wrappers
from ..writers.record import Record, Scalar, Value
from .norms import joined, named_norms


@MONITORS.register_module()
class ClippingMonitor(Monitor):
    """Log what gradient clipping does to the updates.

    ========================================= =============================
    ``health/clipping/norm_before``           Norm of all gradients before
                                              clipping
    ``health/clipping/norm_after``            The same after clipping
    ``health/clipping/share``                 Fraction of the updates since the
                                              last measurement that were
                                              clipped
    ``health/clipping/threshold``             ``max_norm`` or ``clip_value``
    ``health/clipping/learning_rate_factor``  By what clipping multiplies the
                                              length of the step, and so in
                                              effect the learning rate; of
                                              SGD only: the length of Adam's
                                              step does not depend on that of
                                              the gradient
    ========================================= =============================

    What it tells: A norm that is above the threshold at every measurement
    means that every step is clipped: the threshold decides how long the steps
    are. A fraction near 0 is clipping that catches outliers, which is what it
    is for.

    With several optimizers, the optimizer's name precedes the last part.
    The norms are those of the last update. They are of the type that
    ``clip_grad`` names, with clipping by value L2 norms. The fraction is of
    all updates but those that AMP skips for an overflow. With clipping by
    value, an update is clipped if any element of a gradient is.

    Args:
        interval (int | dict | Schedule): At which iterations to measure. Where
            gradients are accumulated, the next update after such an iteration
            counts.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_HEALTH, )
    settings = dict(interval=GRAD_NORM_INTERVAL)

    of_whole_model = True

    def before_train(self, runner) -> None:
        self._wanted = False
        # Whether there was an update in this iteration.
        self._updated = False
        # By optimizer: the update under way; since the last measurement, the
        # number of updates and of those that were clipped; and the last of
        # them, with whether it was taken.
        self._current: Dict[str, _Clipping] = {}
        self._counts: Dict[str, tuple] = defaultdict(lambda: (0, 0))
        self._last: Dict[str, tuple] = {}

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        if not self._wanted:
            self._wanted = self.is_due(runner.iter + 1)

    def before_clipping(self, name: str, optim_wrapper) -> None:
        clipping = self._current[name] = _Clipping(optim_wrapper)
        if clipping.by_value:
            grads = _gradients(optim_wrapper.optimizer)
            largest = _largest_element(grads)
            clipping.is_clipped = ((largest > clipping.threshold)
                                   & largest.isfinite())
            if self._wanted:
                clipping.norm_before = _total_norm(grads)

    def after_clipping(self, name: str, optim_wrapper) -> None:
        clipping = self._current[name]
        if clipping.norm_before is not None:
            clipping.norm_after = _total_norm(
                _gradients(optim_wrapper.optimizer))

    def after_step(self, name: str, optimizer, taken) -> None:
        clipping = self._current.pop(name, None)
        if clipping is None or taken is False:
            return
        if not clipping.by_value:
            clipping.read_norm()
        updates, clipped = self._counts[name]
        self._counts[name] = (updates + taken * 1,
                              clipped + clipping.is_clipped * taken)
        self._last[name] = clipping, taken
        self._updated = True

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        updated, self._updated = self._updated, False
        if not self._wanted or not updated:
            return
        self._wanted = False
        wrappers = dict(optim_wrappers(runner.optim_wrapper))
        for name, (clipping, taken) in list(self._last.items()):
            # By value, an optimizer that steps in other iterations has no
            # norms.
            if clipping.norm_before is None or name not in wrappers:
                continue
            del self._last[name]
            values = functools.partial(
                _values, name, clipping.threshold,
                isinstance(wrappers[name].optimizer, torch.optim.SGD))
            numbers = (*self._counts.pop(name), taken, clipping.norm_before,
                       clipping.norm_after)
            self.emit(
                Record(runner.iter + 1, values,
                       list(map(torch.as_tensor, numbers))))


class _Clipping:
    """Describe what clipping does to one update.

    Args:
        optim_wrapper (OptimWrapper): The wrapper that clips.

    Attributes:
        by_value (bool): Whether it clips by value rather than by norm.
        threshold (float): The value or norm.
        is_clipped (bool | Tensor): Whether a gradient is clipped. Not if it
            is not finite.
        norm_before (float | Tensor, optional): Norm of all gradients, if it
            was measured.
        norm_after (float | Tensor, optional): The same after clipping.
    """

    def __init__(self, optim_wrapper) -> None:
        self._wrapper = optim_wrapper
        settings = optim_wrapper.clip_grad_kwargs
        self.by_value = 'clip_value' in settings
        self.threshold = settings['clip_value' if self.
                                  by_value else 'max_norm']
        self.norm_before = self.norm_after = None

    def read_norm(self) -> None:
        """Take the norm that MMEngine has brought to the host."""
        norm = self._wrapper.message_hub.get_scalar(
            f'train/{self._wrapper.grad_name}').current()
        # clip_grad_norm_ does the same.
        factor = self.threshold / (norm + 1e-6)
        self.norm_before = norm
        self.norm_after = norm * factor if factor < 1 else norm
        self.is_clipped = self.norm_after < norm


def _values(optimizer: str, threshold: float, scales_step: bool,
            updates: np.ndarray, clipped: np.ndarray, taken: np.ndarray,
            before: np.ndarray, after: np.ndarray) -> Iterator[Value]:
    """Return the values of a measurement.

    Args:
        optimizer (str): Its name.
        threshold (float): By what is clipped.
        scales_step (bool): Whether a gradient of half the length makes a step
            of half the length.
        updates (np.ndarray): How many updates there were, of shape (), as all
            others.
        clipped (np.ndarray): How many of them were clipped.
        taken (np.ndarray): Whether the last one was taken.
        before (np.ndarray): Norm of its gradients before clipping.
        after (np.ndarray): The same after clipping.
    """
    tag = '/'.join(filter(None, ('health', 'clipping', optimizer)))
    factor = None
    if updates:
        yield Scalar(f'{tag}/share', int(clipped) / int(updates))
        yield Scalar(f'{tag}/threshold', threshold)
    if taken:
        yield Scalar(f'{tag}/norm_before', float(before))
        yield Scalar(f'{tag}/norm_after', float(after))
        if scales_step and np.isfinite(before) and before:
            factor = float(after / before)
            yield Scalar(f'{tag}/learning_rate_factor', factor)
    if updates and taken:
        yield Clipping(optimizer, float(before), threshold,
                       int(clipped) / int(updates), factor)


def _gradients(optimizer) -> List[Tensor]:
    return [
        parameter.grad for group in optimizer.param_groups
        for parameter in group['params'] if parameter.grad is not None
    ]


def _largest_element(grads: Iterable[Tensor]) -> Tensor:
    """Compute the largest magnitude of an element of any gradient."""
    _, norms = joined(
        named_norms((('', grad) for grad in grads if grad.numel()), math.inf))
    return norms.max()


def _total_norm(grads: Iterable[Tensor]) -> Tensor:
    """Compute the L2 norm of all gradients."""
    _, norms = joined(named_norms(('', grad) for grad in grads))
    return torch.norm(norms)
