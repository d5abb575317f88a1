# Copyright (c) OpenMMLab. All rights reserved.
from typing import List, Optional

from ....core.measurements import LearningRates
from ....core.pose_measurements import HeatmapPeaks
from ....core.registry import DETECTORS
from ...chains import NothingLearned
from ...detector import Detector, Streaks, WarmUp, started_at
from ...report import ERROR, Finding

# The fraction of the target's peak below which a heatmap is empty.
_EMPTY = 0.1
# The fraction of keypoints that are in place although their peaks are low.
_IN_PLACE = 0.2


@DETECTORS.register_module()
class EmptyHeatmapDetector(Detector):
    """``heatmap_empty``: the predicted heatmaps have no peaks.

    In three consecutive measurements, 1000 updates after the learning rate has
    reached its highest value: the mean peak of the fixed training samples is
    below a tenth of the target's, and fewer than a fifth of the keypoints have
    it near their target.

    Args:
        peak (float): The fraction of the target's peak. Defaults to 0.1.
    """

    findings = ('heatmap_empty', )
    wants = (HeatmapPeaks, LearningRates)
    chain = NothingLearned
    priority = 'ABOVE_NORMAL'

    def __init__(self, peak: float = _EMPTY) -> None:
        self._peak = peak

    def before_train(self, runner) -> None:
        self._begins = started_at(runner)
        self._updates = self._begins - runner.iter - 1
        self._warm_up = WarmUp()
        self._streaks = Streaks()

    def see(self, step: int, measured) -> Optional[List[Finding]]:
        if isinstance(measured, LearningRates):
            self._warm_up.add(step, measured)
            return None
        limit = self._peak / self._streaks.hysteresis('empty')
        is_empty = (
            step >= self._begins
            and step - self._warm_up.last_step >= self._updates
            and measured.peak < limit and measured.near < _IN_PLACE)
        if not self._streaks.update(['empty'] if is_empty else []):
            return []
        return [
            Finding(
                'heatmap_empty',
                'The predicted heatmaps of the fixed training samples stay '
                'empty: the model predicts the background everywhere.',
                f'At step {step:,} their mean peak is {measured.peak:.3f} of '
                f'the target\'s, and {measured.near:.0%} of the keypoints '
                'have it near their target.',
                'Look at train/heatmaps. Almost all of a target is 0, so '
                'that an empty heatmap has a low loss: try a higher learning '
                'rate or loss_weight, a larger sigma, or a loss that weighs '
                'the peak more (AdaptiveWingLoss, FocalHeatmapLoss). If '
                'train/images shows targets that are not on the subject, '
                'mend these first.', ERROR)
        ]
