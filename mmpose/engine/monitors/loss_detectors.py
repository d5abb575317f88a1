# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, List, Optional

from .health import Detector
from .health_report import Finding

# What LossMonitor writes.
_LOSS = 'health/loss/'
_NONFINITE = 'health/nonfinite_loss/'

# A spike is so many robust standard deviations above its neighbours; beyond 6
# there was none in 300,000 losses drawn as scattered as those of real
# trainings.
_SPIKE_SCORE = 6
# And so many times their median: where the scatter is small, 6 of it may be
# nothing to worry about.
_SPIKE_RATIO = 3
# A training recovers from a spike within so many iterations: what stands out
# later is another one.
_SPIKE_LENGTH = 50


class NonfiniteLossDetector(Detector):
    """``nonfinite_loss``: a loss is NaN or infinite."""

    def before_train(self, runner) -> None:
        self._present: List[Finding] = []

    def see(self, step: int, scalars: Dict[str,
                                           float]) -> Optional[List[Finding]]:
        first = {
            tag[len(_NONFINITE):]: int(value)
            for tag, value in scalars.items() if tag.startswith(_NONFINITE)
        }
        if first and not self._present:
            self._present = [self._finding(first)]
        elif not first and _LOSS + 'median' in scalars:
            self._present = []
        elif not first:
            return None
        return self._present

    def _finding(self, first: Dict[str, int]) -> Finding:
        step = min(first.values())
        # Their sum says nothing that they do not say.
        names = [n for n in first if first[n] == step and n != 'loss']
        where = ', '.join(names) or 'loss'
        return Finding(
            'nonfinite_loss',
            f'The loss became NaN or infinite at step {step:,}: {where}.',
            f'{where} at step {step:,}, before the update of that step.',
            'Look at the samples of that step for empty or broken '
            'annotations, and at the gradients before it. If they had been '
            'growing, lower the learning rate or clip them. Go on from a '
            'checkpoint that is older: the weights are lost.')


class LossSpikeDetector(Detector):
    """``loss_spike``: the loss of an iteration is far above those around."""

    def before_train(self, runner) -> None:
        self._present: List[Finding] = []
        self._last = -_SPIKE_LENGTH

    def see(self, step: int, scalars: Dict[str,
                                           float]) -> Optional[List[Finding]]:
        score = scalars.get(_LOSS + 'spike_score')
        if score is None:
            return None
        ratio = scalars.get(_LOSS + 'spike_ratio')
        at = int(scalars[_LOSS + 'spike_step'])
        if score < _SPIKE_SCORE or ratio is not None and ratio < _SPIKE_RATIO:
            self._present = []
        else:
            if not self._present or at - self._last > _SPIKE_LENGTH:
                self._present = [self._finding(at, score, ratio)]
            self._last = at
        return self._present

    def _finding(self, step: int, score: float,
                 ratio: Optional[float]) -> Finding:
        times = '' if ratio is None else f', {ratio:.3g} times as large'
        return Finding(
            'loss_spike', f'The loss jumped at step {step:,}.',
            f'It is {score:.3g} robust standard deviations above the median '
            f'of the losses around it{times}.',
            'Look at the samples of that step for wrong annotations. If there '
            'are none, clip the gradients, so that one batch cannot undo what '
            'was learned.')
