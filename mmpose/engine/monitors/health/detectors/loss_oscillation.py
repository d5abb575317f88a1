# Copyright (c) OpenMMLab. All rights reserved.
from typing import List, NamedTuple, Optional

from ...core.measurements import LearningRates, Losses
from ...core.registry import DETECTORS
from ..chains import FirstDivergence
from ..detector import Detector
from ..report import Finding

# The ratio of a maximum of the loss to the minima around it, and by how many
# of its standard deviations they differ. These are of medians of a hundred
# losses, which scatter by an eighth of that.
_RATIO = 1.5
_DEVIATIONS = 1
# The number of turning points: three times up and three times down.
_TURNS = 6
# A minimum that is below this fraction of all before it is progress.
_LOWER = 0.8
# A learning rate that changes by this factor between two of them explains it.
_SCHEDULED = 1.5


class _Turn(NamedTuple):
    """Hold a turning point of the loss."""
    step: int
    median: float
    lr: Optional[float]


@DETECTORS.register_module()
class LossOscillationDetector(Detector):
    """``loss_oscillates``: the loss goes up and down, again and again.

    The median of a hundred losses is judged, so an oscillation that is faster
    is not seen. It counts if the loss has not become lower by a fifth since
    the first of the turning points, and if neither the learning rate nor the
    terms of the loss go up and down with it.

    Args:
        ratio (float): The ratio of a maximum to the minima around it. Defaults
            to 1.5.
        turns (int): The number of turning points. Defaults to 6.
    """

    findings = ('loss_oscillates', )
    wants = (LearningRates, Losses)
    chain = FirstDivergence
    priority = 'LOW'

    def __init__(self, ratio: float = _RATIO, turns: int = _TURNS) -> None:
        self._ratio = ratio
        self._num_turns = turns

    def before_train(self, runner) -> None:
        try:
            self._epoch = len(runner.train_dataloader)
        except TypeError:  # An iterable data set has no length.
            self._epoch = 0
        self._lr: Optional[float] = None
        self._present: List[Finding] = []
        self._restart(())

    def see(self, step: int, measurement) -> Optional[List[Finding]]:
        if isinstance(measurement, LearningRates):
            self._lr = measurement.highest
            return None
        if measurement.median is None:
            return None
        if measurement.terms != self._terms or measurement.median <= 0:
            self._restart(measurement.terms)
        if measurement.median > 0:
            self._follow(
                _Turn(step, measurement.median, self._lr),
                _DEVIATIONS * measurement.deviation)
        return self._present

    def _restart(self, terms: tuple) -> None:
        self._terms = terms
        # Minima and maxima in turn; the last may not be one yet.
        self._turns: List[_Turn] = []
        self._rises = False
        self._extreme: Optional[_Turn] = None
        self._present = []

    def _follow(self, now: _Turn, deviation: float) -> None:
        extreme = self._extreme
        if extreme is None or (now.median > extreme.median) == self._rises:
            # It goes on as before.
            self._extreme = now
            if not self._rises and self._turns and now.median < _LOWER * min(
                    t.median for t in self._turns):
                self._turns, self._present = [], []
            return
        low, high = sorted((now.median, extreme.median))
        if high < self._ratio * low or high - low < deviation:
            return
        if self._turns and self._is_scheduled(self._turns[-1], extreme):
            self._turns, self._present = [], []
        self._turns.append(extreme)
        self._extreme, self._rises = now, not self._rises
        if len(self._turns) >= self._num_turns and not self._present:
            self._present = [self._finding()]

    def _is_scheduled(self, one: _Turn, other: _Turn) -> bool:
        if None in (one.lr, other.lr):
            return False
        low, high = sorted((one.lr, other.lr))
        return high > _SCHEDULED * low

    def _finding(self) -> Finding:
        turns = self._turns
        medians = [turn.median for turn in turns]
        period = 2 * (turns[-1].step - turns[0].step) / (len(turns) - 1)
        advice = (
            'Lower the learning rate, or train on larger batches '
            '(accumulative_counts), so that one batch does not undo another.')
        epochs = period / self._epoch if self._epoch else 0.
        if 0.8 <= epochs <= 1.25:
            advice = (
                'It has the period of an epoch: look whether the samples are '
                'shuffled (shuffle=True of the sampler of train_dataloader), '
                'and whether parts of the data set differ. If they are, '
                f'{advice[0].lower()}{advice[1:]}')
        return Finding(
            'loss_oscillates',
            'The loss goes up and down, and does not become lower.',
            f'From step {turns[0].step:,} to step {turns[-1].step:,} its '
            f'median turned {len(turns)} times between {min(medians):.4g} and '
            f'{max(medians):.4g}, about every {period / 2:,.0f} iterations.',
            advice)
