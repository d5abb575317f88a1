# Copyright (c) OpenMMLab. All rights reserved.
from typing import Optional

import numpy as np

from ..accuracy.data_set_accuracy import DataSetAccuracy
from ..pictures.scenes import Scene, file_scene
from ..pose_samples import PoseSample
from .diagnosis import Validation


def instance_scene(part: DataSetAccuracy, row: int, caption: str,
                   validation: Validation) -> Optional[Scene]:
    """Return the scene of an instance of a validation.

    Args:
        part (DataSetAccuracy): The data set.
        row (int): The index of the instance in ``part.instances.batch()``.
        caption (str): The caption.
        validation (Validation): The validation.

    Returns:
        Scene | None: None if the image cannot be read.
    """
    batch = part.instances.batch()
    number = int(batch.images[row])
    rows = np.flatnonzero(batch.images == number)
    image = batch.take(rows)
    sample = PoseSample(
        part.instances.images().get(number, (None, None))[0],
        truth=image.truth,
        visible=image.visible,
        boxes=image.boxes,
        areas=image.areas,
        predicted=image.predicted[image.found],
        scores=image.keypoint_scores[image.found],
        meta=part.meta)
    return file_scene(sample, validation.files, validation.prefixes, caption,
                      int((rows == row).argmax()))
