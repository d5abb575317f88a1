# Copyright (c) OpenMMLab. All rights reserved.
from typing import List

from ....core.pose_measurements import SanityValidation
from ....core.registry import DETECTORS
from ...detector import Detector
from ...report import Finding


@DETECTORS.register_module()
class SanityDetector(Detector):
    """``sanity_val``: a validation goes wrong, as a few samples show.

    Before the first iteration, with ``sanity_val``.
    """

    findings = ('sanity_val', )
    wants = (SanityValidation, )

    def see(self, step: int, sanity: SanityValidation) -> List[Finding]:
        if not sanity.problems:
            return []
        first, *others = sanity.problems
        return [
            Finding(
                'sanity_val', f'The validation goes wrong. {first}.',
                f'{sanity.samples} samples were predicted before the training.'
                + ''.join(f' {problem}.' for problem in others),
                'Correct it now: the first validation of the training meets '
                'the same. Compare val_evaluator with the data set of '
                'val_dataloader, above all their ann_file.')
        ]
