# Copyright (c) OpenMMLab. All rights reserved.
from typing import List, NamedTuple, Optional

from ...core.measurements import LearningRates, Losses
from ...core.registry import DETECTORS
from ..chains import FirstDivergence
from ..detector import Detector
from ..report import ERROR, Finding

# The ratio of a diverged loss to the lowest loss before. Batches scatter by
# less, and a median of a hundred of them by much less.
_RATIO = 3
# The same if the lowest loss is the first one, which is that of a single
# batch.
_RATIO_OF_FIRST = 10
# A rise by less than this fraction of how far the loss has fallen undoes
# nothing: of an overfitted model it is a rise from next to 0.
_OF_FALL = 0.01
# With this fraction of the accuracy at its lowest loss, if that was
# above chance, the model has not diverged: the loss has got another weight.
_ACCURATE = 0.5
_BY_CHANCE = 0.05
# The MAD z-score that counts where ratios are of no use, since the loss may be
# negative.
_SCORE = 6
# It has to last for this many consecutive measurements, over at least this
# many iterations.
_MEASUREMENTS = 3
_ITERS = 100


class _Measured(NamedTuple):
    """Hold the loss at a step, and the accuracy of the batches before it."""
    step: int
    median: float
    deviation: float
    lr: Optional[float]
    terms: tuple
    accuracy: Optional[float]


@DETECTORS.register_module()
class DivergenceDetector(Detector):
    """``learning_rate_too_high``: the loss has risen and stays there.

    When the terms of the loss or their weights change, the comparison starts
    anew. It is none where ``acc_pose`` is still half of what it was.

    Args:
        ratio (float): The ratio of the loss to the lowest one before, above
            which it has diverged. Defaults to 3.
    """

    findings = ('learning_rate_too_high', )
    wants = (LearningRates, Losses)
    chain = FirstDivergence

    def __init__(self, ratio: float = _RATIO) -> None:
        self._ratio = ratio

    def before_train(self, runner) -> None:
        self._first_step = runner.iter + 1
        self._lr: Optional[float] = None
        # The highest so far: now, and when the loss was lowest.
        self._highest_lr = 0.
        self._highest_lr_at_best = 0.
        self._best: Optional[_Measured] = None
        # The highest loss with these terms: now, and before the best one.
        self._highest = self._fell_from = 0.
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
                      self._lr, measurement.terms, measurement.accuracy))
        return self._present

    def _judge(self, measured: _Measured) -> None:
        best = self._best
        if best is None or measured.terms != best.terms:
            best, self._highest = None, measured.median
        self._highest = max(self._highest, measured.median)
        if best is None or measured.median < best.median:
            self._best, self._fell_from = measured, self._highest
            self._highest_lr_at_best = self._highest_lr
        elif (self._is_far_above(measured, best) and not self._restarted()
              and not _is_accurate(measured, best)):
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
            (ratio - 1) * abs(best.median), _SCORE * best.deviation,
            _OF_FALL * (self._fell_from - best.median))

    def _restarted(self) -> bool:
        """Return whether the schedule went back to a rate that was fine.

        After a restart the loss rises, since the rate had been annealed.
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


def _is_accurate(measured: _Measured, best: _Measured) -> bool:
    """Return whether the model still predicts what it did."""
    return (None not in (measured.accuracy, best.accuracy)
            and best.accuracy > _BY_CHANCE
            and measured.accuracy >= _ACCURATE * best.accuracy)
