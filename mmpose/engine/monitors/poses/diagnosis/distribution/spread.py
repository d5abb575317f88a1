# Copyright (c) OpenMMLab. All rights reserved.
from typing import Iterator, Sequence, Tuple

import numpy as np

from ....core.pose_measurements import PoseSpread
from ....writers.record import Scalar, Value
from ...accuracy.data_set_accuracy import DataSetAccuracy
from ..keypoint_errors import KeypointErrors, box_sizes, keypoint_errors
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
    instances = counted = 0
    area = area_of_mean = 0.
    for part in parts:
        means = _means(part)
        for points, found in _points(part):
            instances += int(found.located.any(1).sum())
            counted += int(found.counted.sum())
            # As in :func:`pck_auc`, of all blocks.
            distances = np.where(found.located, found.distances, np.inf)
            area += _area(distances[found.counted])
            offsets = points - means
            squares += np.where(found.located,
                                np.square(offsets[:2]).sum(-1), 0).sum((1, 2))
            area_of_mean += _area(
                np.hypot(offsets[2, ..., 0], offsets[2, ...,
                                                     1])[found.counted])
    if not counted:
        return
    area, area_of_mean = area / counted, area_of_mean / counted
    if details:
        yield Scalar('keypoints/PCK_AUC_of_mean_pose', area_of_mean)
    if squares[1]:
        spread = float(np.sqrt(squares[0] / squares[1]))
        if details:
            yield Scalar('keypoints/spread', spread)
        yield PoseSpread(instances, spread, area, area_of_mean)


def _points(part: DataSetAccuracy
            ) -> Iterator[Tuple[np.ndarray, KeypointErrors]]:
    """Yield, of some instances at a time, where the keypoints are in their
    boxes, and their errors.

    Yields:
        tuple[np.ndarray, KeypointErrors]: The located predictions, their
        ground truth and all ground truth, relative to the center of the box
        and over its longer side, shape (3, N, K, 2).
    """
    for _, block in part.instances.blocks():
        found = keypoint_errors(block)
        sizes = box_sizes(block)[:, None, None]
        centers = np.nan_to_num(block.boxes).reshape(-1, 2, 2).mean(
            1, keepdims=True)
        truth = (block.truth - centers) / np.where(sizes > 0, sizes, 1)
        yield np.stack([truth + found.offsets, truth, truth]), found


def _means(part: DataSetAccuracy) -> np.ndarray:
    """Return the mean poses of what :func:`_points` yields, shape (3, 1, K,
    2)."""
    number = len(part.names)
    sums, counts = np.zeros((3, number, 2)), np.zeros((3, number))
    for points, found in _points(part):
        known = np.stack([found.located, found.located, found.counted])
        sums += np.where(known[..., None], points, 0).sum(1)
        counts += known.sum(1)
    return (sums / np.maximum(counts, 1)[..., None])[:, None]


def _area(errors: np.ndarray) -> float:
    return pck_auc(errors) * len(errors) if len(errors) else 0.
