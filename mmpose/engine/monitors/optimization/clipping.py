# Copyright (c) OpenMMLab. All rights reserved.
import functools
import math
from collections import defaultdict
from contextlib import ExitStack
from typing import Dict, Iterable, Iterator, Optional

import numpy as np
import torch
from torch import Tensor

from ..core.arguments import GRAD_NORM_INTERVAL, LOG_HEALTH
from ..core.measurements import Clipping
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import optim_wrappers
from ..core.schedule import Interval
from ..core.step_wrapping import call_around
from ..writers.record import Record, Scalar, Value
from .norms import cut, joined, named_norms


@MONITORS.register_module()
class ClippingMonitor(Monitor):
    """What gradient clipping does to the updates.

    ========================================= =============================
    ``health/clipping/norm_before``           Norm of all gradients before
                                              clipping
    ``health/clipping/norm_after``            The same after clipping
    ``health/clipping/share``                 Share of the updates since the
                                              last reading that were clipped
    ``health/clipping/threshold``             ``max_norm`` or ``clip_value``
    ``health/clipping/learning_rate_factor``  By what clipping multiplies the
                                              length of the step, and so in
                                              effect the learning rate; of
                                              SGD only: the length of Adam's
                                              step does not depend on that of
                                              the gradient
    ========================================= =============================

    What it tells: A norm that is above the threshold at every reading means
    that every step is clipped: the threshold decides how long the steps are. A
    share near 0 is clipping that catches outliers, which is what it is for.

    With several optimizers the optimizer's name stands before the last part.
    Norms are those of the last update, and of the type that is clipped by;
    of clipping by value, L2. Every update counts for the share. By value, one
    is clipped if any element of a gradient is.

    Args:
        interval (int | dict | Schedule): At which iterations to read. Where
            gradients are accumulated, the next update after such an iteration
            counts.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_HEALTH, )
    settings = dict(interval=GRAD_NORM_INTERVAL)

    of_whole_model = True

    def __init__(self, interval: Interval, strict: bool = False) -> None:
        super().__init__(interval, strict)
        self._detach = ExitStack()

    def before_train(self, runner) -> None:
        # A training that was interrupted has left these behind.
        self._detach.close()
        self._wanted = False
        # Whether there was an update in this iteration.
        self._updated = False
        # By optimizer.
        self._clipped: Dict[str, _Clipped] = {}
        for name, optim_wrapper in optim_wrappers(runner.optim_wrapper):
            settings = getattr(optim_wrapper, 'clip_grad_kwargs', None) or {}
            if 'max_norm' in settings:
                self._attach_to_norm(name, optim_wrapper)
            elif 'clip_value' in settings:
                self._attach_to_value(name, optim_wrapper)

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        if not self._wanted:
            self._wanted = self.is_due(runner.iter + 1)

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        updated, self._updated = self._updated, False
        if not self._wanted or not updated:
            return
        self._wanted = False
        # By value, an optimizer that steps in other iterations has no norms.
        complete = {
            name: clipped
            for name, clipped in self._clipped.items()
            if clipped.norm_before is not None
        }
        for name, clipped in complete.items():
            self._clipped.pop(name)
            tag = '/'.join(filter(None, ('health', 'clipping', name)))
            self.emit(
                Record(
                    runner.iter + 1,
                    functools.partial(clipped.values, tag, name),
                    [clipped.number, clipped.norm_before, clipped.norm_after]))

    def after_train(self, runner) -> None:
        self._detach.close()

    def _attach_to_norm(self, name: str, optim_wrapper) -> None:

        def after(norm, *_, **__):
            norm = torch.as_tensor(norm).detach()
            max_norm = optim_wrapper.clip_grad_kwargs['max_norm']
            # As clip_grad_norm_ does it.
            factor = (max_norm / (norm + 1e-6)).clamp(max=1)
            after = norm * factor
            clipped = self._count(name, optim_wrapper, max_norm, after < norm)
            clipped.norm_before, clipped.norm_after = norm, after

        self._detach.callback(
            call_around(optim_wrapper, 'clip_func', self.guard, after=after))

    def _attach_to_value(self, name: str, optim_wrapper) -> None:

        def before(parameters, *_, **__):
            clip_value = optim_wrapper.clip_grad_kwargs['clip_value']
            largest = _largest_element(parameters)
            clipped = self._count(name, optim_wrapper, clip_value,
                                  (largest > clip_value) & largest.isfinite())
            if self._wanted:
                clipped.norm_before = _total_norm(parameters)

        def after(_, parameters, *__, **___):
            if self._wanted:
                self._clipped[name].norm_after = _total_norm(parameters)

        self._detach.callback(
            call_around(optim_wrapper, 'clip_func', self.guard, before, after))

    def _count(self, name: str, optim_wrapper, threshold: float,
               is_clipped: Tensor) -> '_Clipped':
        self._updated = True
        clipped = self._clipped.setdefault(
            name,
            _Clipped(isinstance(optim_wrapper.optimizer, torch.optim.SGD)))
        clipped.count(threshold, is_clipped)
        return clipped


class _Clipped:
    """What was clipped since the last reading.

    Args:
        scales_step (bool): Whether a gradient of half the length makes a step
            of half the length.

    Attributes:
        number (Tensor): How many updates.
        norm_before (Tensor, optional): Norm of all gradients of the last
            update for which it was taken.
        norm_after (Tensor, optional): The same after clipping.
    """

    def __init__(self, scales_step: bool) -> None:
        self._scales_step = scales_step
        self._num_updates = 0
        self.number = 0
        self.norm_before: Optional[Tensor] = None
        self.norm_after: Optional[Tensor] = None

    def count(self, threshold: float, is_clipped: Tensor) -> None:
        """Count an update, on the device.

        Args:
            threshold (float): By what it is clipped.
            is_clipped (Tensor): Whether it is, of shape (). Not if it is not
                finite.
        """
        self._threshold = threshold
        self._num_updates += 1
        self.number = self.number + is_clipped

    def values(self, tag: str, optimizer: str, number: np.ndarray,
               before: np.ndarray, after: np.ndarray) -> Iterator[Value]:
        """The values, once the attributes are on the host.

        Args:
            tag (str): What the names begin with.
            optimizer (str): The name of the optimizer.
            number (np.ndarray): Of shape (), as the others.
            before (np.ndarray): Norm before clipping.
            after (np.ndarray): Norm after clipping.

        Yields:
            Scalar: One after another.
        """
        yield Scalar(f'{tag}/norm_before', float(before))
        yield Scalar(f'{tag}/norm_after', float(after))
        yield Scalar(f'{tag}/share', int(number) / self._num_updates)
        yield Scalar(f'{tag}/threshold', self._threshold)
        factor = None
        if self._scales_step and np.isfinite(before) and before:
            factor = float(after / before)
            yield Scalar(f'{tag}/learning_rate_factor', factor)
        yield Clipping(optimizer, float(before), self._threshold,
                       float(number) / self._num_updates, factor)


@torch.no_grad()
def _largest_element(parameters: Iterable[Tensor]) -> Tensor:
    """The largest size of an element of any gradient."""
    alike = defaultdict(list)
    for parameter in parameters:
        grad = parameter.grad
        if grad is not None and grad.numel():
            alike[grad.dtype, grad.device].append(grad)
    largest = [
        torch.stack(torch._foreach_norm(grads, math.inf)).max()
        for grads in alike.values()
    ]
    # MMEngine clips nothing where there is no gradient.
    return torch.stack(
        [size.float().to(largest[0].device) for size in largest]).max()


def _total_norm(parameters: Iterable[Tensor]) -> Tensor:
    """L2 norm of all gradients."""
    parameters = list(parameters)
    _, norms = joined(
        named_norms(cut([''] * len(parameters), parameters), 'grad'))
    return torch.linalg.vector_norm(norms)
