# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, List, NamedTuple, Optional

from ..core.runner_parts import is_iter_based
from .health import Detector
from .health_report import Finding

# A loss has diverged that is so many times the lowest before. Batches scatter
# by less, and a median of a hundred of them by much less.
_DIVERGED_RATIO = 3
# If the lowest was the first, it is that of a single batch.
_DIVERGED_RATIO_OF_FIRST = 10
# Where the loss may be negative, so that ratios say nothing: so many robust
# standard deviations above the lowest.
_DIVERGED_DEVIATIONS = 6
# It does not come back: so many readings, over so many iterations at least.
_DIVERGED_READINGS = 3
_DIVERGED_ITERS = 100
# Or a hook has changed the weights of the losses, at a known epoch say: they
# make the loss jump once, by no more than this, and it rises no further.
_REWEIGHTED_RATIO = 20

# Below it nothing is learned: float32 weights of usual size do not change.
_LEAST_LEARNING_RATE = 1e-10
# A schedule may begin and end near 0, for so much of the training or for an
# epoch, which in a short training is more, but not for more than the second.
_EDGE = 0.05
_LONGEST_EDGE = 0.2


class LearningRateZeroDetector(Detector):
    """``learning_rate_zero``: there are steps that change nothing."""

    def before_train(self, runner) -> None:
        self._was_above = False
        self._present: List[Finding] = []
        max_iters = runner.max_iters
        edge = _EDGE * max_iters
        if not is_iter_based(runner):
            edge = max(edge, max_iters / runner.max_epochs)
        edge = max(1, min(edge, _LONGEST_EDGE * max_iters))
        self._start_until = edge
        self._end_after = max_iters - edge

    def see(self, step: int, scalars: Dict[str,
                                           float]) -> Optional[List[Finding]]:
        lr = highest_learning_rate(scalars)
        if lr is None:
            return None
        starts = not self._was_above and step <= self._start_until
        if lr >= _LEAST_LEARNING_RATE:
            self._was_above = True
            self._present = []
        elif not (self._present or starts or step > self._end_after):
            self._present = [self._finding(step, lr)]
        return self._present

    def _finding(self, step: int, lr: float) -> Finding:
        return Finding(
            'learning_rate_zero',
            'The learning rate is 0: the training goes on without learning.',
            f'The largest of all param groups is {lr:.3g} at step {step:,}.',
            'Compare begin, end, T_max and by_epoch of each param_scheduler '
            'with the length of the training.')


class _Reading(NamedTuple):
    """The loss at a step."""
    step: int
    median: float
    deviation: float
    lr: Optional[float]


class DivergenceDetector(Detector):
    """``learning_rate_too_high``: the loss has risen and stays there."""

    def before_train(self, runner) -> None:
        self._first_step = runner.iter + 1
        self._lr: Optional[float] = None
        # The highest so far, and what it was when the loss was lowest.
        self._highest_lr = 0.
        self._highest_lr_at_best = 0.
        self._best: Optional[_Reading] = None
        self._above: List[_Reading] = []
        self._present: List[Finding] = []

    def see(self, step: int, scalars: Dict[str,
                                           float]) -> Optional[List[Finding]]:
        lr = highest_learning_rate(scalars)
        if lr is not None:
            self._lr = lr
            self._highest_lr = max(self._highest_lr, lr)
        if 'health/loss/median' not in scalars:
            return None
        self._judge(
            _Reading(step, scalars['health/loss/median'],
                     scalars['health/loss/deviation'], self._lr))
        return self._present

    def _judge(self, reading: _Reading) -> None:
        best = self._best
        if best is None or reading.median < best.median:
            self._best = reading
            self._highest_lr_at_best = self._highest_lr
        elif self._is_far_above(reading, best) and not self._restarted():
            self._above.append(reading)
            if self._present or not self._stays_there():
                return
            if not self._is_reweighted():
                self._present = [self._finding(self._above[0], reading)]
                return
            self._best = reading
            self._highest_lr_at_best = self._highest_lr
        self._above = []
        self._present = []

    def _is_far_above(self, reading: _Reading, best: _Reading) -> bool:
        ratio = (
            _DIVERGED_RATIO_OF_FIRST
            if best.step == self._first_step else _DIVERGED_RATIO)
        return reading.median - best.median > max(
            (ratio - 1) * abs(best.median),
            _DIVERGED_DEVIATIONS * best.deviation)

    def _restarted(self) -> bool:
        """Whether the schedule went back to a rate that did no harm before.

        There the loss rises because it had been annealed.
        """
        return (self._lr is not None and self._best.lr is not None
                and 2 * self._best.lr < self._lr <= self._highest_lr_at_best)

    def _stays_there(self) -> bool:
        above = self._above
        return (len(above) >= _DIVERGED_READINGS
                and above[-1].step - above[0].step >= _DIVERGED_ITERS
                and above[-1].median >= above[-_DIVERGED_READINGS].median)

    def _is_reweighted(self) -> bool:
        """Whether it is the loss that is another one, not the model."""
        last = self._above[-1]
        # The first may be a median of both.
        lowest = min(reading.median for reading in self._above[1:])
        return (self._best.step != self._first_step
                and last.median - lowest <= last.deviation
                and last.median < _REWEIGHTED_RATIO * abs(self._best.median))

    def _finding(self, first: _Reading, last: _Reading) -> Finding:
        rate = 'rate' if first.lr is None else f'rate of {first.lr:.3g}'
        best = self._best
        return Finding(
            'learning_rate_too_high',
            f'The loss diverges: the learning {rate} is too high.',
            f'The median of the loss was {best.median:.4g} at step '
            f'{best.step:,}; from step {first.step:,} on it has been far '
            f'above, and is {last.median:.4g} at step {last.step:,}.',
            'Lower the learning rate to a third or a tenth, make the warm-up '
            'longer, or clip the gradients (clip_grad in optim_wrapper). If '
            'there was a jump of the loss right before, look at the samples '
            'of that step first.')


def highest_learning_rate(scalars: Dict[str, float]) -> Optional[float]:
    """The learning rate of the param group where it is highest.

    Groups that are frozen have none.

    Args:
        scalars (dict[str, float]): Of one event, by tags.

    Returns:
        float | None: None if the event is not about learning rates.
    """
    return max((value for tag, value in scalars.items()
                if tag.startswith('train/learning_rate/')),
               default=None)
