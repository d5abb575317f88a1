# Copyright (c) OpenMMLab. All rights reserved.
from typing import List

import numpy as np

from ....core.pose_measurements import KeypointBias
from ....core.registry import DETECTORS
from ...detector import Detector, Streaks
from ...report import Finding

# The mean offset of all keypoints, in pixels of the heatmap. Codecs that do
# not fit together make 0.4 to 0.5.
_OFFSET = 0.25
# The fraction of the keypoints that are off in the same direction; by chance
# it would be half of them.
_AGREE = 0.8
# The fraction of the keypoints that are in place, and the number of keypoints
# that there must be.
_IN_PLACE = 0.6
_MIN_KEYPOINTS = 5


@DETECTORS.register_module()
class KeypointBiasDetector(Detector):
    """``keypoint_bias``: all keypoints are off in the same direction.

    In three consecutive validations.

    Args:
        pixels (float): The mean offset of all keypoints in x or y, in pixels
            of the heatmap, above which they are. Defaults to 0.25.
    """

    findings = ('keypoint_bias', )
    wants = (KeypointBias, )

    def __init__(self, pixels: float = _OFFSET) -> None:
        self._pixels = pixels

    def before_train(self, runner) -> None:
        self._streaks = Streaks()

    def see(self, step: int, bias: KeypointBias) -> List[Finding]:
        offsets = np.array(list(bias.offsets.values())).reshape(-1, 2)
        if len(offsets) < _MIN_KEYPOINTS or bias.in_place < _IN_PLACE:
            self._streaks.update([])
            return []
        mean = offsets.mean(0)
        agree = (np.sign(offsets) == np.sign(mean)).mean(0)
        axes = {
            axis: (float(m), float(a))
            for axis, m, a in zip('xy', mean, agree)
            if a >= _AGREE and abs(m) > self._pixels *
            self._streaks.hysteresis(axis)
        }
        present = self._streaks.update(axes)
        if not present:
            return []
        evidence = '; '.join(
            f'{axis}: {axes[axis][0]:+.2f} pixels of the heatmap, the same '
            f'direction for {axes[axis][1]:.0%} of the keypoints'
            for axis in present)
        return [
            Finding(
                'keypoint_bias', 'All keypoints are predicted too far '
                f'{" and ".join(_where(a, axes[a][0]) for a in present)}: '
                'codecs or transforms do not fit together.',
                f'Mean offsets of the correct keypoints: {evidence}.',
                f'See that the decoder of the head ({bias.codec}) is the '
                'encoder of the training pipeline, with the same input_size '
                'and heatmap_size, and that use_udp of TopdownAffine is the '
                'same in both pipelines: True for UDPHeatmap, False for '
                'others. flip_test needs shift_heatmap=True with MSRAHeatmap '
                'and False with UDPHeatmap.')
        ]


def _where(axis: str, offset: float) -> str:
    return dict(x=('left', 'right'), y=('up', 'down'))[axis][offset > 0]
