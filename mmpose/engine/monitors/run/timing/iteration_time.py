# Copyright (c) OpenMMLab. All rights reserved.
from collections import Counter
from contextlib import ExitStack
from functools import partial
from typing import Callable, Dict, List, Optional

from mmengine.dist import get_world_size

from ...core.arguments import GRAD_NORM_INTERVAL
from ...core.monitor import Chart, Monitor
from ...core.optimizer_probe import observe_method
from ...core.registry import MONITORS
from ...core.runner_parts import optim_wrappers
from ...core.schedule import Interval
from ...writers.record import Record, Scalar
from ..arguments import LOG_SYSTEM
from .stopwatch import DeviceClock, HostClock, Stopwatch

PARTS = ('data', 'forward', 'backward', 'optimizer', 'hooks')
# What an optimizer wrapper does in which part.
_METHODS = dict(backward='backward', step='optimizer', zero_grad='optimizer')
# The other ranks wait for a rank where these take longer. In the forward pass
# a rank waits itself: DDP sends buffers there, and so does SyncBatchNorm.
_WAITED_FOR = ('data', 'hooks')


@MONITORS.register_module()
class IterationTimeMonitor(Monitor):
    """Log where the time of a training iteration goes.

    ========================= ==============================================
    ``time/data_ms``          Waiting for the batch, in milliseconds
    ``time/forward_ms``       Preprocessing, the model and its losses
    ``time/backward_ms``      Backpropagation; under DDP also the exchange of
                              gradients, with the waiting for other ranks
    ``time/optimizer_ms``     Clipping, the step and ``zero_grad``
    ``time/hooks_ms``         Hooks before and after the iteration
    ``time/slowest_rank``     With several ranks, the one that takes longest
                              for its data and hooks
    ``time/slowest_rank_ms``  By how much longer than the fastest one
    ========================= ==============================================

    What it tells: What to make faster. The sum of the first five is the time
    of an iteration. High ``data``: more workers, see the finding
    ``data_loader``. High ``hooks``: a hook does too much in each iteration.
    High ``forward`` or ``backward`` under DDP: look at
    ``time/slowest_rank_ms``, since the others wait there for the slowest rank.

    Means over all iterations since the last measurement that the device has
    finished. On a CUDA device they are times of its queue, by events:
    nothing waits for it, and ``data`` and ``hooks`` are how long they keep
    the device idle. On other devices they are times of the host.

    A training step that does not use its optimizer wrapper's ``backward``,
    ``step`` and ``zero_grad`` counts as ``forward`` as a whole. What monitors
    measure inside the optimizer's step counts as ``optimizer``. The first
    iteration, validations and what happens between epochs do not count. The
    ranks are compared at each validation.

    Args:
        interval (int | dict | Schedule): At which iterations.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_SYSTEM, )
    settings = dict(interval=GRAD_NORM_INTERVAL)
    charts = (Chart(
        'Overview',
        'time of an iteration (ms)',
        f'time/({"|".join(PARTS)})_ms$',
        position=55), )

    def __init__(self, interval: Interval, strict: bool = False) -> None:
        super().__init__(interval, strict)
        self._detach = ExitStack()
        self._since_record: Counter = Counter()
        self._since_validation: Counter = Counter()

    def is_on_every_rank(self, runner) -> bool:
        return get_world_size() > 1

    def before_train(self, runner) -> None:
        self._detach.close()  # Of a training that was interrupted.
        self._since_record.clear()
        self._since_validation.clear()
        self._is_first = True
        # The optimizer wrappers, and the parts that are interrupted.
        self._observed: list = []
        self._outer: List[str] = []
        on_cuda = next(runner.model.parameters()).is_cuda
        self._watch = Stopwatch(DeviceClock() if on_cuda else HostClock())
        if self.schedule.interval_at(1):
            self._observe(runner, 'call_hook', self._before_hooks,
                          self._after_hooks)

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        if not self.schedule.interval_at(1):
            return
        # A hook may replace an optimizer.
        for _, wrapper in optim_wrappers(runner.optim_wrapper):
            if not any(wrapper is other for other in self._observed):
                self._observed.append(wrapper)
                for method, part in _METHODS.items():
                    self._observe(wrapper, method,
                                  partial(self._interrupt, part), self._resume)

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        for milliseconds in self._watch.read():
            if not self._is_first:
                self._since_record.update(milliseconds, iterations=1)
                self._since_validation.update(milliseconds, iterations=1)
            self._is_first = False
        step = runner.iter + 1
        if self.is_due(step) and self._since_record:
            means = _means(self._since_record)
            self._since_record.clear()
            self.emit(
                Record(
                    step, lambda:
                    [Scalar(f'time/{part}_ms', means[part])
                     for part in PARTS]))

    def rank_results(self) -> Dict[str, float]:
        means = _means(self._since_validation)
        self._since_validation.clear()
        return means

    def after_val_epoch(self, runner, metrics: Optional[Dict]) -> None:
        if not self.all_results or not all(self.all_results):
            return
        waited_for = [
            sum(means[part] for part in _WAITED_FOR)
            for means in self.all_results
        ]
        longest = max(waited_for)
        rank = waited_for.index(longest)
        values = [
            Scalar('time/slowest_rank', rank),
            Scalar('time/slowest_rank_ms', longest - min(waited_for))
        ]
        self.emit(Record(runner.iter, lambda: values))

    def after_train(self, runner) -> None:
        self._detach.close()

    def _observe(self, owner, method: str, before: Callable,
                 after: Callable) -> None:
        """Call functions before and after a method, whatever they raise."""

        def guarded(function: Callable, *args, **kwargs) -> None:
            if not self.guard.tripped:
                with self.guard:
                    function(*args, **kwargs)

        self._detach.callback(
            observe_method(owner, method, partial(guarded, before),
                           partial(guarded, after)))

    def _before_hooks(self, fn_name: str, **_) -> None:
        if fn_name == 'before_train_iter':
            self._outer = []
            self._watch.begin('data', 'hooks')
        elif fn_name == 'after_train_iter':
            self._watch.switch('hooks')

    def _after_hooks(self, fn_name: str, **_) -> None:
        if fn_name == 'before_train_iter':
            self._watch.switch('forward')
        elif fn_name == 'after_train_iter':
            self._watch.end()
        # After a validation, or as an epoch begins.
        elif fn_name in ('before_train_epoch', 'after_val'):
            self._watch.idle()

    def _interrupt(self, part: str, *_, **__) -> None:
        self._outer.append(self._watch.part)
        self._watch.switch(part)

    def _resume(self, *_, **__) -> None:
        self._watch.switch(self._outer.pop())


def _means(sums: Counter) -> Dict[str, float]:
    """Return the mean of each part; empty without an iteration."""
    count = sums['iterations']
    return {part: sums[part] / count for part in PARTS} if count else {}
