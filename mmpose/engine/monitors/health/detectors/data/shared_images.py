# Copyright (c) OpenMMLab. All rights reserved.
from typing import List

from ....core.pose_measurements import SharedImages
from ....core.registry import DETECTORS
from ...chains import FromSettings
from ...detector import Detector
from ...report import NOTE, WARNING, Finding

# A smaller fraction of the validation hardly changes its metrics.
_FRACTION = 0.01


@DETECTORS.register_module()
class SharedImagesDetector(Detector):
    """``shared_images``: images of the validation are trained on.

    Args:
        fraction (float): The fraction of the validation above which it is more
            than a note. Defaults to 0.01.
    """

    findings = ('shared_images', )
    wants = (SharedImages, )
    chain = FromSettings

    def __init__(self, fraction: float = _FRACTION) -> None:
        self._fraction = fraction

    def see(self, step: int, images: SharedImages) -> List[Finding]:
        count = images.same_path + images.same_content
        if not count:
            return []
        fraction = count / max(images.total, 1)
        named = '; '.join(one if one == other else f'{one} is a copy of '
                          f'{other}' for one, other in images.first)
        more = '' if images.is_complete else ' There may be more: the search '\
            'has ended at its limit.'
        return [
            Finding(
                'shared_images',
                f'{count:,} of the {images.total:,} images of the validation '
                'are in the training as well.',
                f'{images.same_path:,} by the same file and '
                f'{images.same_content:,} by the same content: {named}.{more}',
                'The metrics of the validation are too good by what the model '
                'remembers of them. Remove these images from the annotations '
                f'of the training or of the validation; {images.listed_in} '
                'lists them all. If it is meant, to see whether a model can '
                'overfit a few images, ignore this.',
                WARNING if fraction > self._fraction else NOTE)
        ]
