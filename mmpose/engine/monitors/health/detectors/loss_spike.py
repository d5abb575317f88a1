# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, List, Optional

from ...core.measurements import Losses, Spike
from ...core.registry import DETECTORS
from ..detector import Detector
from ..rank_losses import RankLosses
from ..report import Finding

# None of 300,000 losses drawn from distributions like those of real trainings
# had a MAD z-score above 6.
_SCORE = 6
# Where losses scatter little, a MAD z-score of 6 may be harmless.
_RATIO = 3
# A training recovers from a spike within this many iterations: a later one is
# another spike.
_LENGTH = 50
# With this many in the last ten measurements, or 1000 iterations where these
# are more, the loss scatters so: it is told once.
_OFTEN = 4
_MEASUREMENTS = 10
_ITERS = 1000


@DETECTORS.register_module()
class LossSpikeDetector(Detector):
    """``loss_spike``: the loss of an iteration is far above those around it.

    ``loss_spike/rank_<n>`` is one of another rank in distributed training. A
    loss that jumps often is told once, until it does so no more.

    Args:
        score (float): The least MAD z-score. Defaults to 6.
        ratio (float): The least multiple of their median. Defaults
            to 3.
    """

    findings = ('loss_spike', )
    wants = (Losses, RankLosses)

    def __init__(self, score: float = _SCORE, ratio: float = _RATIO) -> None:
        self._score = score
        self._ratio = ratio

    def before_train(self, runner) -> None:
        # By rank.
        self._present: Dict[int, Finding] = {}
        self._last: Dict[int, int] = {}
        self._seen_at = 0
        self._step = runner.iter
        # Those of the first rank.
        self._steps: List[int] = []
        self._is_often = False

    def see(self, step: int, measurement) -> Optional[List[Finding]]:
        spike = measurement.spike
        if spike is None:
            return None
        rank = getattr(measurement, 'rank', 0)
        if is_spike(spike, self._score, self._ratio):
            last = self._last.get(rank, -_LENGTH)
            is_new = spike.step - last > _LENGTH
            if is_new and not rank:
                self._steps.append(spike.step)
            if rank not in self._present or is_new:
                self._present[rank] = _finding(spike, rank)
            self._last[rank] = spike.step
        elif rank == 0 and not self._is_often:
            self._present.pop(0, None)
        if not rank:
            self._count(step, spike)
        if rank:
            self._seen_at = step
        elif step > self._seen_at:
            # The others tell of spikes alone.
            self._present = {k: v for k, v in self._present.items() if not k}
        return list(self._present.values())

    def _count(self, step: int, spike: Spike) -> None:
        """Make one finding of spikes that come often."""
        reach = max(_ITERS, _MEASUREMENTS * (step - self._step)) + _LENGTH
        self._step = step
        self._steps = [s for s in self._steps if s > step - reach]
        was_often = self._is_often
        self._is_often = len(self._steps) >= (1 if was_often else _OFTEN)
        if self._is_often and 0 in self._present:
            if not was_often or self._last[0] == spike.step:
                self._present[0] = _often(self._steps, self._present[0])
        elif was_often and not self._is_often:
            self._present.pop(0, None)


def is_spike(spike: Spike,
             score: float = _SCORE,
             ratio: float = _RATIO) -> bool:
    """Return whether a loss is above the limits of a detector."""
    return spike.score >= score and (spike.ratio is None
                                     or spike.ratio >= ratio)


def _finding(spike: Spike, rank: int) -> Finding:
    times = (''
             if spike.ratio is None else f', {spike.ratio:.3g} times as large')
    place, where = (f'/rank_{rank}', f' on rank {rank}') if rank else ('', '')
    return Finding(
        f'loss_spike{place}',
        f'The loss jumped at step {spike.step:,}{where}.',
        f'It has a MAD z-score of {spike.score:.3g} among the losses around '
        f'it{times}.',
        'Look at the samples of that step for wrong annotations. If there are '
        'none, clip the gradients, so that one batch cannot undo what was '
        'learned.',
        batch=spike.step,
        rank=rank)


def _often(steps: List[int], last: Finding) -> Finding:
    return last._replace(
        what='The loss jumps again and again.',
        evidence=f'It did so {len(steps)} times from step {steps[0]:,} to '
        f'step {steps[-1]:,}. Of the last time: {last.evidence}',
        advice='Where batches are small, or of several data sets, some losses '
        'are far above the others by nature. If that is not so, look at what '
        'the samples in suspects.json have in common, and clip the gradients.')
