# Copyright (c) OpenMMLab. All rights reserved.
from typing import Iterator, Sequence

import numpy as np

from ....core.pose_measurements import PoseSpread
from ....writers.record import Scalar, Value
from ...accuracy.data_set_accuracy import DataSetAccuracy
from ..keypoint_errors import box_sizes, keypoint_errors
from .errors import pck_auc


def spread_values(parts: Sequence[DataSetAccuracy],
                  details: bool) -> Iterator[Value]:
    """Yield the scalars and the measurement, where they are known.

    Args:
        parts (Sequence[DataSetAccuracy]): The data sets of a validation. The
            deviations of all keypoints are averaged as squares; each data set
            has its own mean pose.
        details (bool): Whether to yield the scalars.
    """
    squares = np.zeros(2)
    instances = 0
    errors, of_mean = [], []
    for part in parts:
        batch = part.instances.batch()
        found = keypoint_errors(batch)
        instances += int(found.located.any(1).sum())
        sizes = box_sizes(batch)[:, None, None]
        centers = np.nan_to_num(batch.boxes).reshape(-1, 2, 2).mean(
            1, keepdims=True)
        truth = (batch.truth - centers) / np.where(sizes > 0, sizes, 1)
        for i, points in enumerate((truth + found.offsets, truth)):
            squares[i] += _from_mean(points, found.located).sum()
        errors.append(
            np.where(found.located, found.distances, np.inf)[found.counted])
        of_mean.append(
            np.sqrt(_from_mean(truth, found.counted)[found.counted]))
    errors, of_mean = map(np.concatenate, (errors, of_mean))
    if not len(errors):
        return
    area = pck_auc(of_mean)
    if details:
        yield Scalar('keypoints/PCK_AUC_of_mean_pose', area)
    if squares[1]:
        spread = float(np.sqrt(squares[0] / squares[1]))
        if details:
            yield Scalar('keypoints/spread', spread)
        yield PoseSpread(instances, spread, float(pck_auc(errors)),
                         float(area))


def _from_mean(points: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the squared distance of each known keypoint from its mean over
    the instances, 0 for the others, shape (N, K)."""
    counts = np.maximum(known.sum(0), 1)[:, None]
    mean = np.where(known[..., None], points, 0).sum(0) / counts
    return np.where(known, np.square(points - mean).sum(-1), 0)
