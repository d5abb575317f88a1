# Copyright (c) OpenMMLab. All rights reserved.
import math
from typing import Dict, List, NamedTuple, Optional

from ...core.measurements import LearningRates, Losses
from ...core.registry import DETECTORS
from ...core.statistics.recent_losses import RecentLosses
from ..chains import FirstDivergence
from ..detector import Detector
from ..report import ERROR, NOTE, WARNING, Finding, is_worse

# The ratio of a diverged loss to the lowest loss before. Batches scatter by
# less, and a median of a hundred of them by much less.
_RATIO = 3
# The same if the lowest loss is that of so few batches. While the lowest
# median is not yet one of a hundred, all losses since have to be above it as
# well: a single batch may be far below the others by chance.
_RATIO_OF_FEW = 10
_FEW = 10
# A rise by less than this fraction of how far the loss has fallen undoes
# nothing: of an overfitted model it is a rise from next to 0.
_OF_FALL = 0.01
# With this fraction of the accuracy at its lowest loss, if that was
# above chance, the model has not diverged: the loss has got another weight.
_ACCURATE = 0.5
_BY_CHANCE = 0.05
# Nor has it, as a whole, if a single loss that had fallen by this fraction is
# still below this multiple of what it was then.
_PART_FELL = 0.1
_PART_STAYS = 1.5
# A loss that has jumped, and no more than that, stays within this factor and
# scatters, relative to its size, by no more than the other one: all of it may
# have got another weight. Most that diverge scatter by several times more.
_FLAT = 1.25
_SCATTERS_MORE = 2
# Any loss may scatter by this fraction of its median.
_SCATTERS = .05
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
    accuracy: Optional[float]
    parts: Dict[str, float]
    count: int
    lowest: Optional[float]


@DETECTORS.register_module()
class DivergenceDetector(Detector):
    """``learning_rate_too_high``: the loss has risen and stays there.

    When the terms of the loss or their weights change, the comparison starts
    anew, once the median is of such losses alone. It is none where
    ``acc_pose`` is still half of what it was, a note where single losses alone
    have risen, and a warning where all of the loss has jumped and scatters no
    more, and no ``acc_pose`` tells: a weight may have changed. If it rises on,
    either becomes an error.

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
        self._lr: Optional[float] = None
        # How many losses with these terms there have been; None: all.
        self._terms: Optional[tuple] = None
        self._with_terms: Optional[int] = None
        # The highest so far: now, and when the loss was lowest.
        self._highest_lr = 0.
        self._highest_lr_at_best = 0.
        self._best: Optional[_Measured] = None
        # The lowest loss of all iterations since.
        self._lowest = math.inf
        # The highest loss with these terms: now, and before the best one.
        self._highest = self._fell_from = 0.
        # The same of each single loss.
        self._highest_parts: Dict[str, float] = {}
        self._parts_fell_from: Dict[str, float] = {}
        self._above: List[_Measured] = []
        self._present: List[Finding] = []
        # The loss at which it was found.
        self._told_at = 0.

    def see(self, step: int, measurement) -> Optional[List[Finding]]:
        if isinstance(measurement, LearningRates):
            self._lr = measurement.highest
            self._highest_lr = max(self._highest_lr, self._lr)
            return None
        if measurement.median is None:
            return None
        if self._is_mixed(measurement):
            self._best, self._above, self._present = None, [], []
        else:
            self._judge(
                _Measured(step, measurement.median, measurement.deviation,
                          self._lr, measurement.accuracy, measurement.parts,
                          measurement.count, measurement.lowest))
        return self._present

    def _is_mixed(self, losses: Losses) -> bool:
        """Return whether some of the losses had other terms."""
        if losses.terms != self._terms:
            # Nobody knows since which iteration.
            self._with_terms = None if self._terms is None else 0
            self._terms = losses.terms
        elif self._with_terms is not None:
            self._with_terms += losses.new
        return (self._with_terms is not None
                and self._with_terms < losses.count)

    def _judge(self, measured: _Measured) -> None:
        best = self._best
        if best is None:
            self._highest = measured.median
            self._highest_parts = {}
        self._highest = max(self._highest, measured.median)
        for name, loss in measured.parts.items():
            self._highest_parts[name] = max(
                self._highest_parts.get(name, loss), loss)
        if best is None or measured.median < best.median:
            self._best, self._fell_from = measured, self._highest
            self._lowest = math.inf
            self._parts_fell_from = dict(self._highest_parts)
            self._highest_lr_at_best = self._highest_lr
            self._above, self._present = [], []
            return
        if measured.lowest is not None:
            self._lowest = min(self._lowest, measured.lowest)
        if (self._is_far_above(measured, best) and not self._restarted()
                and not _is_accurate(measured, best)):
            self._above.append(measured)
            if self._stays_there():
                self._tell(self._finding(self._above[0], measured), measured)
            return
        self._above = []
        self._present = []

    def _is_far_above(self, measured: _Measured, best: _Measured) -> bool:
        if best.count < RecentLosses.NUMBER and self._lowest <= best.median:
            return False
        ratio = (
            max(_RATIO_OF_FEW, self._ratio)
            if best.count < _FEW else self._ratio)
        return measured.median - best.median > max(
            (ratio - 1) * abs(best.median), _SCORE * best.deviation,
            _OF_FALL * (self._fell_from - best.median))

    def _parts_that_rose(self, measured: _Measured) -> Dict[str, float]:
        """Return the single losses that rose, if others are where they were.

        Returns:
            dict[str, float]: By name, the factor to their median at the
            lowest loss. Empty if all rose, or it is not known.
        """
        at_best, now = self._best.parts, measured.parts
        has_learned = [
            name for name, loss in at_best.items()
            if loss > 0 and loss < (1 - _PART_FELL) *
            self._parts_fell_from.get(name, loss)
        ]
        if not any(
                now.get(name, math.inf) < _PART_STAYS * at_best[name]
                for name in has_learned):
            return {}
        return {
            name: loss / at_best[name]
            for name, loss in now.items()
            if at_best.get(name, 0) > 0 and loss > self._ratio * at_best[name]
        }

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

    def _only_jumped(self) -> bool:
        """Return whether the loss is a multiple of what it was."""
        medians = [measured.median for measured in self._above]
        if self._best.median <= 0 or max(medians) > _FLAT * min(medians):
            return False
        # The last one: while the jump is among the losses, they scatter by
        # more.
        before, after = (
            m.deviation / m.median for m in (self._best, self._above[-1]))
        return after <= max(_SCATTERS_MORE * before, _SCATTERS)

    def _tell(self, finding: Finding, measured: _Measured) -> None:
        """Keep what was told, unless the loss rises on and this is worse."""
        if self._present and not (is_worse(finding, self._present[0])
                                  and measured.median > _FLAT * self._told_at):
            return
        self._present, self._told_at = [finding], measured.median

    def _finding(self, first: _Measured, last: _Measured) -> Finding:
        rate = 'rate' if first.lr is None else f'rate of {first.lr:.3g}'
        best = self._best
        rose = self._parts_that_rose(last)
        if rose:
            names = ', '.join(rose)
            factors = ', '.join(f'{name}: {factor:.3g} times'
                                for name, factor in rose.items())
            return Finding(
                'learning_rate_too_high',
                f'{names} alone has risen and stays there: a weight in the '
                'loss was changed, or this branch diverges.',
                f'Compared with step {best.step:,}, {factors}, at step '
                f'{last.step:,}; the other losses are where they were.',
                'If a hook or a schedule changes the weight or the data of '
                'this loss there, it is no divergence. Else lower its weight '
                'or the learning rate.', NOTE)
        evidence = (
            f'The median of the loss was {best.median:.4g} at step '
            f'{best.step:,}; from step {first.step:,} on it has been far '
            f'above, and is {last.median:.4g} at step {last.step:,}. The '
            'loss has the same terms and weights as before.')
        if self._only_jumped() and not _has_learned(best):
            factor = last.median / best.median
            return Finding(
                'learning_rate_too_high',
                f'The loss has become {factor:.3g} times as large at once and '
                f'stays there: it diverges, likely since the learning {rate} '
                'is too high, or all of it got another weight.',
                f'{evidence} It scatters no more than before; no acc_pose '
                'says whether the predictions are worse.',
                'Look at the predictions, in train/images or the next '
                'validation. Are they as good as before, look for what '
                'multiplies the loss: it multiplies the steps of SGD, too. '
                'Are they worse, resume from a checkpoint before that step, '
                'with a learning rate of a third or a tenth.', WARNING)
        return Finding(
            'learning_rate_too_high',
            f'The loss diverges; likely the learning {rate} is too high.',
            evidence,
            'Lower the learning rate to a third or a tenth, make the warm-up '
            'longer, or clip the gradients (clip_grad in optim_wrapper). If '
            'there was a jump of the loss right before, look at the samples '
            'of that step first. If the training data or a ramp inside of a '
            'loss changed on purpose there, it is no divergence.', ERROR)


def _is_accurate(measured: _Measured, best: _Measured) -> bool:
    """Return whether the model still predicts what it did."""
    return (measured.accuracy is not None and _has_learned(best)
            and measured.accuracy >= _ACCURATE * best.accuracy)


def _has_learned(best: _Measured) -> bool:
    """Return whether the accuracy at the lowest loss was above chance."""
    return best.accuracy is not None and best.accuracy > _BY_CHANCE
