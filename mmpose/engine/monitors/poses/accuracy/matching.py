# Copyright (c) OpenMMLab. All rights reserved.
"""Matching of predictions and annotated instances, as in COCO's evaluation.

See https://cocodataset.org/#keypoints-eval.
"""
from typing import Optional

import numpy as np

from .keypoint_tally import keypoint_similarity

# The largest number of predictions of an image in COCO's evaluation.
MAX_PREDICTIONS = 20
# The least object keypoint similarity of a match, as in the evaluation of
# localization errors by Ronchi and Perona (ICCV 2017).
MIN_SIMILARITY = 0.1
# The sigma of all keypoints of a data set without sigmas.
_SIGMA = 0.05


def equal_sigmas(num_keypoints: int) -> np.ndarray:
    """Return the sigmas to match by where a data set has none, shape (K, )."""
    return np.full(num_keypoints, _SIGMA)


def match(truth: np.ndarray, visible: np.ndarray, areas: np.ndarray,
          predicted: np.ndarray, sigmas: Optional[np.ndarray]) -> np.ndarray:
    """Match predictions with the instances of an image, greedily.

    Beginning with the highest-scoring prediction, each takes the most similar
    of the instances that are left, as in COCO's evaluation at the threshold
    :data:`MIN_SIMILARITY`.

    Args:
        truth (np.ndarray): Annotated keypoints, shape (N, K, 2).
        visible (np.ndarray): Which keypoints are annotated, bool of shape
            (N, K).
        areas (np.ndarray): The instances' areas, shape (N, ).
        predicted (np.ndarray): Predicted keypoints, the highest-scoring
            instance first, shape (M, K, 2).
        sigmas (np.ndarray, optional): The sigmas, shape (K, ). None: the same
            for all keypoints.

    Returns:
        np.ndarray: For each instance the index of its prediction, -1 if it
        has none, shape (N, ).
    """
    owners = [-1] * len(truth)
    if not owners:
        return np.zeros(0, int)
    similarity = object_similarity(truth, visible, areas, predicted, sigmas)
    for index, row in enumerate(similarity.T.tolist()):
        best, chosen = MIN_SIMILARITY, -1
        for i, value in enumerate(row):
            if value >= best and owners[i] < 0:
                best, chosen = value, i
        if chosen >= 0:
            owners[chosen] = index
    return np.array(owners, int)


def object_similarity(truth: np.ndarray, visible: np.ndarray,
                      areas: np.ndarray, predicted: np.ndarray,
                      sigmas: Optional[np.ndarray]) -> np.ndarray:
    """Compute the object keypoint similarity (OKS) of all pairs.

    Args:
        See :func:`match`.

    Returns:
        np.ndarray: Shape (N, M); 0 where no keypoint is visible.
    """
    if sigmas is None:
        sigmas = equal_sigmas(truth.shape[1])
    near = np.nan_to_num(
        keypoint_similarity(
            _square_distances(truth, predicted), areas[:, None],
            sigmas[:, None, None]))
    return (near * visible.T[..., None]).sum(0) / np.maximum(
        visible.sum(1, keepdims=True), 1)


def suppress(keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray,
             sigmas: np.ndarray, threshold: float, soft: bool) -> np.ndarray:
    """Suppress predictions that are similar to a better one.

    Greedy non-maximum suppression over the object keypoint similarity of two
    predictions, which has the mean of their areas, as in
    :func:`mmpose.evaluation.functional.oks_nms` and ``soft_oks_nms``.

    Args:
        keypoints (np.ndarray): Shape (M, K, 2).
        scores (np.ndarray): Shape (M, ).
        areas (np.ndarray): Shape (M, ).
        sigmas (np.ndarray): The sigmas, shape (K, ).
        threshold (float): The largest similarity of two predictions that are
            both kept; for the soft variant, the width of the Gaussian.
        soft (bool): Whether to lower the scores of similar predictions
            instead, and to keep the first :data:`MAX_PREDICTIONS`.

    Returns:
        np.ndarray: The indices of the predictions to keep.
    """
    similarity = keypoint_similarity(
        _square_distances(keypoints, keypoints), (areas[:, None] + areas) / 2,
        sigmas[:, None, None])
    similarity = (similarity.sum(0) / len(sigmas)).astype(np.float32)
    order = scores.argsort()[::-1]
    if soft:
        return _suppress_softly(similarity, scores, order, threshold)
    distinct = similarity <= threshold
    left = np.ones(len(scores), bool)
    kept = []
    for i in order.tolist():
        if left[i]:
            kept.append(i)
            if len(kept) == MAX_PREDICTIONS:
                break
            left &= distinct[i]
    return np.array(kept, int)


def _suppress_softly(similarity: np.ndarray, scores: np.ndarray,
                     order: np.ndarray, threshold: float) -> np.ndarray:
    scores, kept = scores[order], []
    while len(order) and len(kept) < MAX_PREDICTIONS:
        kept.append(order[0])
        overlap = similarity[order[0], order[1:]]
        scores = scores[1:] * np.exp(-np.square(overlap) / threshold)
        again = scores.argsort()[::-1]
        order, scores = order[1:][again], scores[again]
    return np.array(kept, int)


def _square_distances(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Compute the distances of all pairs of instances, shape (K, N, M).

    The keypoints come first, since sums over a short last axis are slow.
    """
    points = points.astype(float).transpose(2, 1, 0)[..., None]
    others = others.astype(float).transpose(2, 1, 0)[..., None, :]
    squares = np.square(points[0] - others[0])
    squares += np.square(points[1] - others[1])
    return squares
