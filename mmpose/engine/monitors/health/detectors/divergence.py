# Copyright (c) OpenMMLab. All rights reserved.
from typing import List, NamedTuple, Optional

from ...core.measurements import LearningRates, Losses
from ...core.registry import DETECTORS
from ..chains import FirstDivergence
from ..detector import Detector
from ..report import ERROR, Finding

# A loss has diverged that is so many times the lowest before. Batches scatter
# by less, and a median of a hundred of them by much less.
_RATIO = 3
# If the lowest was the first, it is that of a single batch.
_RATIO_OF_FIRST = 10
# Where the loss may be negative, so that ratios say nothing: a MAD z-score.
_SCORE = 6
# It does not come back: so many consecutive measurements, over so many
# iterations at least.
_MEASUREMENTS = 3
_ITERS = 100


class _Measured(NamedTuple):
    """The loss at a step."""
    step: int
    median: float
    deviation: float
    lr: Optional[float]
    terms: tuple


@DETECTORS.register_module()
class DivergenceDetector(Detector):
    """``learning_rate_too_high``: the loss has risen and stays there.

    Where the loss is another one since then, because it has other terms or
    other weights, it is compared with itself from there on.

    Args:
        ratio (float): The loss over the lowest before from which it has
            diverged. Defaults to 3.
    """

    wants = (LearningRates, Losses)
    chain = FirstDivergence

    def __init__(self, ratio: float = _RATIO) -> None:
        self._ratio = ratio

    def before_train(self, runner) -> None:
        self._first_step = runner.iter + 1
        self._lr: Optional[float] = None
        # The highest so far, and what it was when the loss was lowest.
        self._highest_lr = 0.
        self._highest_lr_at_best = 0.
        self._best: Optional[_Measured] = None
        self._above: List[_Measured] = []
        self._present: List[Finding] = []

    def see(self, step: int, measurement) -> Optional[List[Finding]]:
        if isinstance(measurement, LearningRates):
            self._lr = measurement.highest
            self._highest_lr = max(self._highest_lr, self._lr)
            return None
        if measurement.median is None:
            return None
        self._judge(
            _Measured(step, measurement.median, measurement.deviation,
                      self._lr, measurement.terms))
        return self._present

    def _judge(self, measured: _Measured) -> None:
        best = self._best
        if (best is None or measured.median < best.median
                or measured.terms != best.terms):
            self._best = measured
            self._highest_lr_at_best = self._highest_lr
        elif self._is_far_above(measured, best) and not self._restarted():
            self._above.append(measured)
            if not self._present and self._stays_there():
                self._present = [self._finding(self._above[0], measured)]
            return
        self._above = []
        self._present = []

    def _is_far_above(self, measured: _Measured, best: _Measured) -> bool:
        ratio = (
            max(_RATIO_OF_FIRST, self._ratio)
            if best.step == self._first_step else self._ratio)
        return measured.median - best.median > max(
            (ratio - 1) * abs(best.median), _SCORE * best.deviation)

    def _restarted(self) -> bool:
        """Whether the schedule went back to a rate that did no harm before.

        There the loss rises because it had been annealed.
        """
        return (self._lr is not None and self._best.lr is not None
                and 2 * self._best.lr < self._lr <= self._highest_lr_at_best)

    def _stays_there(self) -> bool:
        above = self._above
        return (len(above) >= _MEASUREMENTS
                and above[-1].step - above[0].step >= _ITERS
                and above[-1].median >= above[-_MEASUREMENTS].median)

    def _finding(self, first: _Measured, last: _Measured) -> Finding:
        rate = 'rate' if first.lr is None else f'rate of {first.lr:.3g}'
        best = self._best
        return Finding(
            'learning_rate_too_high',
            f'The loss diverges; likely the learning {rate} is too high.',
            f'The median of the loss was {best.median:.4g} at step '
            f'{best.step:,}; from step {first.step:,} on it has been far '
            f'above, and is {last.median:.4g} at step {last.step:,}. The '
            'loss has the same terms and weights as before.',
            'Lower the learning rate to a third or a tenth, make the warm-up '
            'longer, or clip the gradients (clip_grad in optim_wrapper). If '
            'there was a jump of the loss right before, look at the samples '
            'of that step first. If the training data or a ramp inside of a '
            'loss changed on purpose there, it is no divergence.', ERROR)
