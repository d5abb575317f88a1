# Copyright (c) OpenMMLab. All rights reserved.
from typing import List, Optional

from ...core.measurements import KeypointWeights, Losses
from ...core.registry import DETECTORS
from ..chains import NothingLearned
from ..detector import Detector
from ..report import ERROR, Finding

# A batch without any annotated keypoint has a loss of 0; this many consecutive
# ones are no accident.
_LENGTH = 20


@DETECTORS.register_module()
class ZeroLossDetector(Detector):
    """``zero_loss``: the loss is exactly 0, so nothing is learned.

    Args:
        length (int): The number of consecutive iterations. Defaults to 20.
    """

    findings = ('zero_loss', )
    wants = (KeypointWeights, Losses)
    chain = NothingLearned
    priority = 'VERY_HIGH'

    def __init__(self, length: int = _LENGTH) -> None:
        self._length = length

    def before_train(self, runner) -> None:
        self._present: List[Finding] = []
        self._weights: Optional[float] = None

    def see(self, step: int, measurement) -> Optional[List[Finding]]:
        if isinstance(measurement, KeypointWeights):
            self._weights = measurement.fraction
            return None
        if measurement.num_zero < self._length:
            self._present = []
            return self._present
        first = step - measurement.num_zero + 1
        weight = self._weights
        seen = ('' if weight is None else f' {weight:.0%} of the keypoints of '
                'the last batch have a weight in the loss.')
        self._present = [
            Finding(
                'zero_loss',
                f'The loss is exactly 0 since step {first:,}: nothing is '
                'learned.',
                f'It was 0 in {measurement.num_zero:,} consecutive '
                f'iterations, up to step {step:,}.{seen}',
                'Look at the training images with their targets. No keypoint '
                'counts where the visibility flags are 0, where the boxes do '
                'not contain the keypoints, or where keypoint weights or '
                'loss_weight are 0.' if not weight else
                'Keypoints count, so look for a loss_weight of 0, and whether '
                'the targets are all 0 (sigma, heatmap_size).', ERROR)
        ]
        return self._present
