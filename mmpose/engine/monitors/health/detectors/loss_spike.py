# Copyright (c) OpenMMLab. All rights reserved.
from typing import List, Optional

from ...core.measurements import Losses, Spike
from ...core.registry import DETECTORS
from ..detector import Detector
from ..report import Finding

# None of 300,000 losses drawn from distributions like those of real trainings
# had a MAD z-score above 6.
_SCORE = 6
# Where losses scatter little, a MAD z-score of 6 may be harmless.
_RATIO = 3
# A training recovers from a spike within this many iterations: a later one is
# another spike.
_LENGTH = 50


@DETECTORS.register_module()
class LossSpikeDetector(Detector):
    """``loss_spike``: the loss of an iteration is far above those around it.

    Args:
        score (float): The least MAD z-score. Defaults to 6.
        ratio (float): The least multiple of their median. Defaults
            to 3.
    """

    findings = ('loss_spike', )
    wants = (Losses, )

    def __init__(self, score: float = _SCORE, ratio: float = _RATIO) -> None:
        self._score = score
        self._ratio = ratio

    def before_train(self, runner) -> None:
        self._present: List[Finding] = []
        self._last = -_LENGTH

    def see(self, step: int, losses: Losses) -> Optional[List[Finding]]:
        spike = losses.spike
        if spike is None:
            return None
        if spike.score < self._score or (spike.ratio is not None
                                         and spike.ratio < self._ratio):
            self._present = []
        else:
            if not self._present or spike.step - self._last > _LENGTH:
                self._present = [_finding(spike)]
            self._last = spike.step
        return self._present


def _finding(spike: Spike) -> Finding:
    times = (''
             if spike.ratio is None else f', {spike.ratio:.3g} times as large')
    return Finding(
        'loss_spike',
        f'The loss jumped at step {spike.step:,}.',
        f'It has a MAD z-score of {spike.score:.3g} among the losses around '
        f'it{times}.',
        'Look at the samples of that step for wrong annotations. If there are '
        'none, clip the gradients, so that one batch cannot undo what was '
        'learned.',
        batch=spike.step)
