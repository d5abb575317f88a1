# Copyright (c) OpenMMLab. All rights reserved.
from typing import Iterator, NamedTuple, Sequence, Tuple

import numpy as np

from ..accuracy.data_set_accuracy import DataSetAccuracy
from ..accuracy.instances import InstanceBatch
from .keypoint_errors import box_sizes

# A keypoint is right if it is less than this fraction of the box's longer side
# away.
PCK_THRESHOLD = 0.1
_CHUNK = 8192


class Confidence(NamedTuple):
    """How sure the model is of n keypoints, and of which it is right.

    Attributes:
        scores (np.ndarray): Their scores, float32 of shape (n, ).
        hits (np.ndarray): Which are right, bool of shape (n, ).
        positives (int): The number of annotated keypoints, of which those of
            instances that were not found have no score.
    """
    scores: np.ndarray
    hits: np.ndarray
    positives: int


class SortedScores:
    """Keep the scores of right and of wrong keypoints.

    Args:
        scores (np.ndarray): The scores of n keypoints, shape (n, ).
        hits (np.ndarray): Which are right, bool of shape (n, ).

    Attributes:
        right (np.ndarray): The scores of the right ones, ascending.
        wrong (np.ndarray): Those of the wrong ones, ascending.
    """

    def __init__(self, scores: np.ndarray, hits: np.ndarray) -> None:
        self.right = np.sort(scores[hits])
        self.wrong = np.sort(scores[~hits])

    def kept(self, thresholds: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Return how many right and how many wrong ones have a score that is
        not below each threshold."""
        return tuple(
            len(scores) - np.searchsorted(scores, thresholds)
            for scores in (self.right, self.wrong))


def chunks(values: np.ndarray) -> Iterator[np.ndarray]:
    """Yield some thousand values at a time, so that what is computed of them
    needs little memory."""
    for start in range(0, len(values), _CHUNK):
        yield values[start:start + _CHUNK]


def keypoint_confidence(parts: Sequence[DataSetAccuracy]) -> Confidence:
    """Return the scores of all annotated keypoints of a validation.

    Args:
        parts (Sequence[DataSetAccuracy]): The data sets; at least one.
    """
    scores, hits, positives = [], [], 0
    for part in parts:
        for _, block in part.instances.blocks():
            counted, hit = keypoint_hits(block)
            positives += int(counted.sum())
            counted &= block.found[:, None]
            scores.append(block.keypoint_scores[counted])
            hits.append(hit[counted])
    if not scores:
        return Confidence(np.zeros(0, np.float32), np.zeros(0, bool), 0)
    scores, hits = map(np.concatenate, (scores, hits))
    return Confidence(np.nan_to_num(scores, copy=False), hits, positives)


def keypoint_hits(batch: InstanceBatch) -> tuple:
    """Tell the right keypoints of some instances from the wrong ones.

    Args:
        batch (InstanceBatch): N instances.

    Returns:
        tuple[np.ndarray, np.ndarray]: Which keypoints count, since they are
        annotated and their instance's box has a size, and which of these are
        right; bool of shape (N, K).
    """
    sides = box_sizes(batch)
    counted = batch.visible & (sides > 0)[:, None]
    offset = batch.predicted.astype(float) - batch.truth
    squares = np.square(offset[..., 0]) + np.square(offset[..., 1])
    limit = np.square(PCK_THRESHOLD * sides)
    hit = counted & batch.found[:, None] & (squares < limit[:, None])
    return counted, hit
