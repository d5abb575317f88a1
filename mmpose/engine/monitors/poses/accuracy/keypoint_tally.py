# Copyright (c) OpenMMLab. All rights reserved.
import copy
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

import numpy as np

PCK_THRESHOLDS = (0.05, 0.2)
# The rows of counts: visible, hit at each threshold, located, compared.
_COUNTS = ('visible', *PCK_THRESHOLDS, 'located', 'compared')


class InstanceScores(NamedTuple):
    """The accuracy of N predicted instances.

    Attributes:
        scores (np.ndarray): The object keypoint similarity, from 0 to 1.
            Without sigmas, the mean error as a fraction of the box's longer
            side; a keypoint counts at most 1, as much as a miss. NaN where
            nothing could be measured. Shape (N, ).
        costs (np.ndarray): The sum of 1 - similarity over all visible
            keypoints; without sigmas, the sum of the errors. NaN where nothing
            could be measured. Shape (N, ).
    """
    scores: np.ndarray
    costs: np.ndarray


class KeypointTally:
    """Sum up how well each keypoint is predicted in a validation.

    It keeps sums and counts, so its size does not depend on the number of
    samples, and merged tallies of several processes equal the tally of one.

    An instance counts only for the object keypoint similarity, which is scaled
    by the area, if its box is not finite or its longer side not positive. It
    does not count for that similarity if its area is not finite or negative;
    with an area of 0, every error is too large. A ground truth that is not
    finite counts as not visible. A visible keypoint is a miss, with a
    similarity of 0 and without an error, if its instance was not found or its
    prediction is not finite.

    Args:
        num_keypoints (int): The number of keypoints K.
        sigmas (Sequence[float], optional): The keypoints' standard deviations
            of annotation, shape (K, ). Unless :func:`usable_sigmas` accepts
            them, there is no object keypoint similarity. Defaults to None.
    """

    def __init__(self,
                 num_keypoints: int,
                 sigmas: Optional[Sequence[float]] = None) -> None:
        self._sigmas = usable_sigmas(sigmas, num_keypoints)
        # One column for each keypoint. The rows of sums are those of the
        # errors and of the similarities.
        self._counts = np.zeros((len(_COUNTS), num_keypoints), np.int64)
        self._sums = np.zeros((2, num_keypoints))
        # The number of instances, the number of those with an object keypoint
        # similarity, and the sum of the latter.
        self._totals = np.zeros(3)
        # How many keypoints it has, its size, and where they are.
        self._example = 0, 0., np.full((num_keypoints, 2), np.nan)

    def add(self, truth: np.ndarray, visible: np.ndarray,
            predicted: np.ndarray, boxes: np.ndarray, areas: np.ndarray,
            found: np.ndarray) -> InstanceScores:
        """Add a batch of N instances.

        Args:
            truth (np.ndarray): Ground truth in pixels, shape (N, K, 2).
            visible (np.ndarray): Which keypoints are annotated, bool of
                shape (N, K).
            predicted (np.ndarray): Predictions in pixels, shape (N, K, 2).
            boxes (np.ndarray): Ground truth boxes as left, top, right and
                bottom in pixels, shape (N, 4).
            areas (np.ndarray): The instances' areas in square pixels, shape
                (N, ).
            found (np.ndarray): Whether there is a prediction for the
                instance, bool of shape (N, ).

        Returns:
            InstanceScores: Of the N instances.
        """
        truth = np.asarray(truth, np.float64)
        boxes = np.asarray(boxes, np.float64)
        boxes = np.where(np.isfinite(boxes).all(axis=1)[:, None], boxes, 0)
        size = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)
        has_size = size > 0
        size = np.where(has_size, size, 1)[:, None]
        has_area = np.isfinite(areas) & (areas >= 0)

        visible = visible.astype(bool) & _finite(truth)
        # Any finite number does where nothing is measured.
        truth = np.where(visible[..., None], truth, 0)
        located = visible & found.astype(bool)[:, None] & _finite(predicted)
        offset = np.where(located[..., None], predicted - truth, 0)
        distance = np.hypot(offset[..., 0], offset[..., 1])

        counted = visible & has_size[:, None]
        hit = located & has_size[:, None]
        error = np.where(hit, distance / size, 0)
        compared = visible & has_area[:, None]
        if self._sigmas is None:
            compared = np.zeros_like(compared)
            lost, known = np.where(hit, np.minimum(error, 1), counted), counted
            costs = lost.sum(axis=1)
            scores = costs
        else:
            similarity = np.where(
                located & compared,
                keypoint_similarity(distance**2,
                                    np.where(has_area, areas, 1)[:, None],
                                    self._sigmas), 0)
            self._sums[1] += similarity.sum(axis=0)
            scores, known = similarity.sum(axis=1), compared
            costs = known.sum(axis=1) - scores
        self._counts += np.stack([
            counted.sum(axis=0),
            *((hit & (error < threshold)).sum(axis=0)
              for threshold in PCK_THRESHOLDS),
            hit.sum(axis=0),
            compared.sum(axis=0),
        ])
        self._sums[0] += error.sum(axis=0)
        number = known.sum(axis=1)
        scores = _mean(scores, number)
        costs = np.where(number > 0, costs, np.nan)
        measured = number > 0
        self._totals[0] += (visible.any(axis=1) & (has_size | measured)).sum()
        if self._sigmas is not None:
            self._totals[1:] += measured.sum(), scores[measured].sum()
        poses = np.where(counted[..., None], truth, np.nan)
        self._keep_example(*zip(counted.sum(axis=1), size[:, 0], poses))
        return InstanceScores(scores, costs)

    def merge(self, other: 'KeypointTally') -> None:
        """Add the sums of another process.

        Args:
            other (KeypointTally): A tally with the same keypoints and sigmas.
        """
        self._counts += other._counts
        self._sums += other._sums
        self._totals += other._totals
        self._keep_example(other._example)

    def __add__(self, other: 'KeypointTally') -> 'KeypointTally':
        total = copy.deepcopy(self)
        total.merge(other)
        return total

    def spread(self, places: Sequence[int],
               num_keypoints: int) -> 'KeypointTally':
        """Return the same sums with the keypoints of a larger set.

        Args:
            places (Sequence[int]): The index of each keypoint in the set.
            num_keypoints (int): The number of keypoints of the set.

        Returns:
            KeypointTally: It can be merged and read; no batch can be added.
        """
        tally = KeypointTally(num_keypoints)
        tally._counts[:, places] = self._counts
        tally._sums[:, places] = self._sums
        tally._totals[:] = self._totals
        count, size, pose = self._example
        tally._example = count, size, np.full((num_keypoints, 2), np.nan)
        tally._example[2][places] = pose
        return tally

    @property
    def instances(self) -> int:
        """int: The number of instances with a keypoint that counts."""
        return int(self._totals[0])

    @property
    def counts(self) -> np.ndarray:
        """np.ndarray: The number of instances with a size in which each
        keypoint is visible, int64 of shape (K, )."""
        return self._counts[0]

    def measures(self) -> Dict[str, np.ndarray]:
        """Return the measures of each keypoint.

        ==================== ==============================================
        ``PCK@0.05``,        Percentage of correct keypoints, from 0 to 1:
        ``PCK@0.2``          the fraction that is less than 0.05 or 0.2 of
                             the box's longer side away, as in
                             :class:`mmpose.evaluation.PCKAccuracy`
        ``normalized_error`` Mean distance of the found keypoints as a
                             fraction of the box's longer side (NME)
        ``OKS``              Mean of :func:`keypoint_similarity` (KS), where
                             there are sigmas
        ==================== ==============================================

        Returns:
            dict[str, np.ndarray]: Each of shape (K, ), NaN where nothing was
            measured.
        """
        counted, *hits, located, compared = self._counts
        measures = {
            f'PCK@{threshold}': _mean(count, counted)
            for threshold, count in zip(PCK_THRESHOLDS, hits)
        }
        measures['normalized_error'] = _mean(self._sums[0], located)
        if self._sigmas is not None or compared.any():
            measures['OKS'] = _mean(self._sums[1], compared)
        return measures

    def mean_oks(self) -> float:
        """Return the mean object keypoint similarity of the instances.

        Returns:
            float: From 0 to 1; an instance that was not found counts as 0. NaN
            without instances or sigmas.
        """
        _, count, total = self._totals
        return total / count if count else np.nan

    def example_pose(self) -> np.ndarray:
        """Return a pose to draw the keypoints on.

        It is the ground truth with the most visible keypoints and, of those,
        the largest. A mean over instances would be a blob for hands and
        animals, which are seen from all sides.

        Returns:
            np.ndarray: In pixels, NaN where a keypoint is not visible, shape
            (K, 2).
        """
        return self._example[2]

    def _keep_example(self, *candidates: Tuple[int, float,
                                               np.ndarray]) -> None:
        self._example = max([self._example, *candidates],
                            key=lambda example: example[:2])


def usable_sigmas(sigmas: Optional[Sequence[float]],
                  num_keypoints: int) -> Optional[np.ndarray]:
    """Return the sigmas of a data set if they are valid.

    Args:
        sigmas (Sequence[float], optional): The sigmas in the metainfo.
        num_keypoints (int): The number of keypoints K.

    Returns:
        np.ndarray, optional: K finite numbers above 0, or None.
    """
    if sigmas is None:
        return None
    sigmas = np.array(sigmas, np.float64)
    if sigmas.shape != (num_keypoints, ):
        return None
    return sigmas if (np.isfinite(sigmas) & (sigmas > 0)).all() else None


def keypoint_similarity(squares: np.ndarray, areas: np.ndarray,
                        sigmas: np.ndarray) -> np.ndarray:
    r"""Compute each keypoint's part of the object keypoint similarity (OKS).

    .. math:: \exp\left(-\frac{d^2}{2 s^2 k^2}\right)

    where :math:`s^2` is the object's area and :math:`k` twice the sigma. See
    https://cocodataset.org/#keypoints-eval.

    Args:
        squares (np.ndarray): The squared distances from the ground truth in
            pixels, of any shape.
        areas (np.ndarray): The objects' areas in square pixels, at least 0.
        sigmas (np.ndarray): Above 0.

    Returns:
        np.ndarray: From 0 to 1, of the shape that all three broadcast to.
    """
    # COCO's evaluation does the same, so that an area of 0 is no divisor.
    areas = areas + np.spacing(1)
    return np.exp(-squares / (2 * np.square(2 * sigmas)) / areas)


def _finite(points: np.ndarray) -> np.ndarray:
    # ``all(axis=2)`` is much slower over so short an axis.
    return np.isfinite(points[..., 0]) & np.isfinite(points[..., 1])


def _mean(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return ``sums / counts``, NaN where the count is 0."""
    return np.divide(
        sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
