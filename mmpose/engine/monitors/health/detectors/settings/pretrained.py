# Copyright (c) OpenMMLab. All rights reserved.
from typing import List

from ....core.pose_measurements import PretrainedWeights
from ....core.registry import DETECTORS
from ...detector import Detector
from ...report import Finding

# A new head has fewer weights than the rest; of a checkpoint of another
# architecture hardly any fits.
_HARDLY_ANY = 0.1


@DETECTORS.register_module()
class PretrainedDetector(Detector):
    """``pretrained_not_loaded``: hardly any weight is that of the checkpoint.

    Args:
        fraction (float): The fraction of the weights below which it is hardly
            any. Defaults to 0.1.
    """

    findings = ('pretrained_not_loaded', )
    wants = (PretrainedWeights, )

    def __init__(self, fraction: float = _HARDLY_ANY) -> None:
        self._fraction = fraction

    def see(self, step: int, weights: PretrainedWeights) -> List[Finding]:
        if weights.fraction >= self._fraction:
            return []
        return [
            Finding(
                'pretrained_not_loaded',
                f'Hardly any weight of {weights.place} is that of its '
                'checkpoint: the training starts from random weights.',
                f'{weights.fraction:.1%} of the weights of {weights.place} '
                f'are in {weights.checkpoint}.',
                'Look in the log for "unexpected key" and "size mismatch" '
                'when it is loaded. Often prefix of init_cfg is missing '
                "(prefix='backbone.' for the checkpoint of a whole model), or "
                'depth or arch is another.')
        ]
