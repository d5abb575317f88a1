# Copyright (c) OpenMMLab. All rights reserved.
"""Measurements of the targets of a training, see ``measurements``."""
from dataclasses import dataclass
from typing import Optional, Tuple

from ..writers.record import Measurement


@dataclass(frozen=True)
class CodecCeiling(Measurement):
    """How accurate the predictions of a perfect model would be.

    Attributes:
        codec (str): The class of the codec.
        pixel (float): The longer side of a pixel of its heatmaps in pixels of
            the input; 1 where there are no heatmaps.
        pck (float): As in :class:`KeypointAccuracy`.
        oks (float, optional): As in :class:`KeypointAccuracy`.
    """
    codec: str
    pixel: float
    pck: float
    oks: Optional[float] = None


@dataclass(frozen=True)
class TargetErrors(Measurement):
    """How far the decoded targets of a training are from the annotations.

    Attributes:
        count (int): The number of samples that were compared.
        allowed (float): The largest error that the codec explains, in pixels
            of the input.
        misplaced (tuple[dict]): The samples with a larger one: ``img_path``
            and ``id``, as far as they are known, and ``error``, that of the
            median keypoint.
    """
    count: int
    allowed: float
    misplaced: Tuple[dict, ...] = ()
