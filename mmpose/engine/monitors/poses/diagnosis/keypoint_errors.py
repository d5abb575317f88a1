# Copyright (c) OpenMMLab. All rights reserved.
from typing import NamedTuple, Optional

import numpy as np

from ..accuracy.instances import InstanceBatch
from ..accuracy.keypoint_tally import keypoint_similarity


class KeypointErrors(NamedTuple):
    """The errors of N instances with K keypoints.

    They count as in :class:`KeypointTally`.

    Attributes:
        counted (np.ndarray): Which keypoints are annotated, in an instance
            whose box has a size, bool of shape (N, K).
        located (np.ndarray): Which of these have a prediction, bool of shape
            (N, K).
        offsets (np.ndarray): The prediction minus the ground truth, as
            fractions of the box's longer side, shape (N, K, 2); 0 where not
            located.
        compared (np.ndarray): Which keypoints have a similarity: those
            annotated in an instance with an area, if there are sigmas, bool of
            shape (N, K).
        similarity (np.ndarray): Of these, see :func:`keypoint_similarity`; 0
            for the others, shape (N, K).
    """
    counted: np.ndarray
    located: np.ndarray
    offsets: np.ndarray
    compared: np.ndarray
    similarity: np.ndarray

    @property
    def distances(self) -> np.ndarray:
        """np.ndarray: The lengths of the offsets, shape (N, K)."""
        return np.hypot(self.offsets[..., 0], self.offsets[..., 1])

    def oks(self) -> np.ndarray:
        """Return the object keypoint similarity (OKS) of each instance, NaN
        where nothing was compared, shape (N, )."""
        numbers = self.compared.sum(1)
        return np.where(numbers > 0,
                        self.similarity.sum(1) / np.maximum(numbers, 1),
                        np.nan)


def keypoint_errors(batch: InstanceBatch,
                    sigmas: Optional[np.ndarray] = None) -> KeypointErrors:
    """Compute the errors of instances.

    Args:
        batch (InstanceBatch): The instances.
        sigmas (np.ndarray, optional): The sigmas, shape (K, ). Defaults to
            None: there is no similarity.
    """
    sizes = box_sizes(batch)
    predicted = batch.predicted
    # ``all(axis=2)`` is much slower over so short an axis.
    located = batch.visible & batch.found[:, None] & np.isfinite(
        predicted[..., 0]) & np.isfinite(predicted[..., 1])
    offsets = np.where(located[..., None],
                       predicted.astype(float) - batch.truth, 0)
    has_area = np.isfinite(batch.areas) & (batch.areas >= 0)
    compared = batch.visible & has_area[:, None]
    similarity = np.zeros(batch.visible.shape)
    if sigmas is None:
        compared = np.zeros_like(compared)
    else:
        near = keypoint_similarity(
            np.square(offsets[..., 0]) + np.square(offsets[..., 1]),
            np.where(has_area, batch.areas, 1)[:, None], sigmas)
        similarity = np.where(located & compared, near, 0)
    has_size = (sizes > 0)[:, None]
    located &= has_size
    offsets /= np.where(sizes > 0, sizes, 1)[:, None, None]
    offsets[~located] = 0
    return KeypointErrors(batch.visible & has_size, located, offsets, compared,
                          similarity)


def box_sizes(batch: InstanceBatch) -> np.ndarray:
    """Return the longer sides of the boxes in pixels, 0 where a box is not
    finite or has none, shape (N, )."""
    boxes = batch.boxes.astype(float)
    boxes[~np.isfinite(boxes).all(1)] = 0
    return (boxes[:, 2:] - boxes[:, :2]).max(1, initial=0)
