# Copyright (c) OpenMMLab. All rights reserved.
"""The kinds of error of keypoints.

They were defined by M. R. Ronchi and P. Perona, "Benchmarking and Error
Diagnosis in Multi-Instance Pose Estimation", ICCV 2017,
https://arxiv.org/abs/1707.05388.
"""
from typing import NamedTuple, Optional, Sequence

import numpy as np

from ...core.runner_parts import other_side
from ..accuracy.instances import InstanceBatch
from .groups.neighbours import image_pairs

KINDS = ('good', 'jitter', 'inversion', 'swap', 'miss', 'not_found')
_GOOD, _JITTER, _INVERSION, _SWAP, _MISS, _NOT_FOUND = range(len(KINDS))
# The similarity above which a keypoint is good, and from which on it is near.
GOOD = 0.85
NEAR = 0.5
# If two keypoints are so far apart, no point is near both: twice the largest
# distance that is near, squared.
_APART = -4 * np.log(NEAR)
# The number of pairs of instances that are compared at once.
_CHUNK = 1024


class ErrorCounts(NamedTuple):
    """The numbers of errors of each kind in a validation.

    Attributes:
        counts (np.ndarray): The number of annotated keypoints of each of
            :data:`KINDS`, int64 of shape (6, K).
        corrected (np.ndarray): The increase of the sum of the found
            instances' object keypoint similarity (OKS) if that kind alone were
            corrected, shape (6, ).
        instances (int): The number of instances.
        found (int): The number of the found ones.
        similarity (float): The sum of their OKS.
        sides (np.ndarray): The number of keypoints that are apart from their
            mirrored ones; of these, the number predicted near their own place
            and near the mirrored one's, int64 of shape (3, K).
    """
    counts: np.ndarray
    corrected: np.ndarray
    instances: int
    found: int
    similarity: float
    sides: np.ndarray

    @property
    def gains(self) -> np.ndarray:
        """np.ndarray: The increase of the sum of all instances' OKS if a kind
        alone were corrected, shape (6, )."""
        gains = self.corrected.copy()
        if self.found:
            gains[_NOT_FOUND] = (
                self.similarity / self.found * (self.instances - self.found))
        return gains

    def __add__(self, other: 'ErrorCounts') -> 'ErrorCounts':
        return ErrorCounts(*(a + b for a, b in zip(self, other)))

    def spread(self, places: Sequence[int],
               num_keypoints: int) -> 'ErrorCounts':
        """Return the same counts with the keypoints of a larger set.

        Args:
            places (Sequence[int]): The index of each keypoint in the set.
            num_keypoints (int): The number of keypoints of the set.
        """
        counts = np.zeros((len(self.counts), num_keypoints), np.int64)
        sides = np.zeros((len(self.sides), num_keypoints), np.int64)
        counts[:, places] = self.counts
        sides[:, places] = self.sides
        return self._replace(counts=counts, sides=sides)


class ErrorKinds:
    """Find the kinds of error in a validation.

    ============= =========================================================
    ``good``      The keypoint's similarity is above 0.85
    ``jitter``    It is from 0.5 to 0.85
    ``inversion`` The prediction is near the mirrored keypoint of the same
                  instance: its similarity with that is at least 0.5, and
                  higher than with any other
    ``swap``      It is near that keypoint, or the mirrored one, of another
                  instance of the image in the same way
    ``miss``      It is near none of them
    ``not_found`` No prediction belongs to the instance
    ============= =========================================================

    When corrected, a jitter has a similarity of 0.85, a miss one of 0.5, and
    an inversion or a swap its similarity in the wrong place; an instance that
    was not found has the mean OKS of the found ones.

    Args:
        batch (InstanceBatch): All instances, image by image.
        sigmas (np.ndarray): The sigmas, shape (K, ).
        mirrored (np.ndarray, optional): The index of each keypoint's mirrored
            one, or its own if it has none, shape (K, ). Defaults to None:
            there are no inversions.

    Attributes:
        batch (InstanceBatch): The instances; of those without an area no
            keypoint is visible.
    """

    def __init__(self,
                 batch: InstanceBatch,
                 sigmas: np.ndarray,
                 mirrored: Optional[np.ndarray] = None) -> None:
        has_area = np.isfinite(batch.areas) & (batch.areas >= 0)
        self.batch = batch._replace(
            visible=batch.visible & has_area[:, None],
            areas=np.where(has_area, batch.areas, 0))
        self._sigmas = sigmas
        places = np.arange(len(sigmas))
        self._mirrored = places if mirrored is None else mirrored
        self._has_mirrored = self._mirrored != places
        self._judgement: Optional[tuple] = None

    def results(self) -> ErrorCounts:
        """Count the kinds of error of all instances."""
        batch = self.batch
        kinds, own, mirrored, best = self._judged
        counts = np.stack([(kinds == i).sum(0) for i in range(len(KINDS))])
        # The weight of each keypoint in the similarity of its instance.
        parts = batch.visible.sum(1)
        instances = int((parts > 0).sum())
        weights = 1 / np.maximum(parts, 1)[:, None]
        corrected = {_JITTER: GOOD, _INVERSION: best, _SWAP: best, _MISS: NEAR}
        gains = np.zeros(len(KINDS))
        for kind, value in corrected.items():
            gains[kind] = (weights *
                           np.where(kinds == kind, value - own, 0)).sum()
        found = batch.found & (parts > 0)
        return ErrorCounts(counts, gains, instances, int(found.sum()),
                           float((weights * own)[found].sum()),
                           self._sides(own, mirrored))

    def kinds(self) -> np.ndarray:
        """Return which of :data:`KINDS` each keypoint is, -1 where it is not
        annotated, int8 of shape (N, K)."""
        return self._judged[0]

    def losses(self, kind: str) -> np.ndarray:
        """Return what the similarities of the keypoints with a kind of error
        lack of 1, summed up by instance, shape (N, )."""
        kinds, own, *_ = self._judged
        return ((kinds == KINDS.index(kind)) * (1 - own)).sum(1)

    @property
    def _judged(self) -> tuple:
        if self._judgement is None:
            self._judgement = self._judge()
        return self._judgement

    def _judge(self) -> tuple:
        """Return the kind of each keypoint, -1 where it is not annotated, and
        its similarities with its own place, the mirrored one and the nearest
        one; each of shape (N, K)."""
        visible, found = self.batch.visible, self.batch.found
        everybody = np.arange(len(found))
        own = np.exp(-self._distances(everybody, everybody))
        mirrored = np.exp(
            -self._distances(everybody, everybody, mirrored=True))
        own[~found] = mirrored[~found] = 0
        best = np.maximum(np.maximum(own, mirrored), self._others())
        kinds = np.full(own.shape, _MISS, np.int8)
        kinds[best >= NEAR] = _SWAP
        # Its own place takes precedence.
        kinds[(mirrored >= NEAR) & (mirrored == best)] = _INVERSION
        is_own = (own >= NEAR) & (own == best)
        kinds[is_own] = _JITTER
        kinds[is_own & (own > GOOD)] = _GOOD
        kinds[~found] = _NOT_FOUND
        kinds[~visible] = -1
        return kinds, own, mirrored, best

    def _others(self) -> np.ndarray:
        """Return the highest similarity with another instance of the image, 0
        where there is none, shape (N, K)."""
        nearest = np.full(self.batch.visible.shape, np.inf)
        first, second = image_pairs(self.batch.images, self.batch.found)
        for start in range(0, len(first), _CHUNK):
            one = first[start:start + _CHUNK]
            other = second[start:start + _CHUNK]
            edges = np.flatnonzero(np.diff(one, prepend=-1))
            for mirrored in (False, True):
                near = np.minimum.reduceat(
                    self._distances(one, other, mirrored), edges)
                nearest[one[edges]] = np.minimum(nearest[one[edges]], near)
        return np.exp(-nearest)

    def _distances(self,
                   predicted: np.ndarray,
                   truth: np.ndarray,
                   mirrored: bool = False,
                   points: Optional[np.ndarray] = None) -> np.ndarray:
        """Return the negative exponents of :func:`keypoint_similarity` between
        some predictions and the ground truth of others, or their mirrored
        keypoints; infinite where there is none."""
        place, visible = self.batch.truth[truth], self.batch.visible[truth]
        if mirrored:
            place = place[:, self._mirrored]
            visible = visible[:, self._mirrored] & self._has_mirrored
        if points is None:
            points = self.batch.predicted
        offset = points[predicted].astype(float)
        offset -= place
        np.square(offset, out=offset)
        squares = offset[..., 0] + offset[..., 1]
        # COCO's evaluation does the same, so that an area of 0 is no divisor.
        squares /= (self.batch.areas[truth] + np.spacing(1))[:, None]
        squares /= 2 * np.square(2 * self._sigmas)
        # A prediction that is NaN is near nothing.
        squares[~visible | np.isnan(squares)] = np.inf
        return squares

    def _sides(self, own: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
        """See :class:`ErrorCounts`."""
        batch = self.batch
        everybody = np.arange(len(batch.found))
        between = self._distances(
            everybody, everybody, mirrored=True, points=batch.truth)
        apart = np.isfinite(between) & (between > _APART)
        apart &= batch.visible & batch.found[:, None]
        return np.stack([
            apart.sum(0), (apart & (own >= NEAR)).sum(0),
            (apart & (mirrored >= NEAR)).sum(0)
        ])


def mirrored_keypoints(names: Sequence[str],
                       meta: dict) -> Optional[np.ndarray]:
    """Return the keypoint that each becomes when the image is flipped.

    Args:
        names (Sequence[str]): The names of the K keypoints, which tell the
            counterpart if they contain 'left' or 'right'.
        meta (dict): The metainfo of the data set, whose ``flip_indices`` tell
            the counterparts of the others.

    Returns:
        np.ndarray | None: The index of each one's counterpart, or its own if
        it has none, shape (K, ); None if none has one.
    """
    number = len(names)
    flipped = np.array(meta.get('flip_indices', ()), int)
    if flipped.shape != (number, ) or not ((flipped >= 0) &
                                           (flipped < number)).all():
        flipped = np.arange(number)
    places = {name: i for i, name in enumerate(names)}
    mirrored = [
        places.get(other_side(name), flipped[i])
        if other_side(name) != name else flipped[i]
        for i, name in enumerate(names)
    ]
    return None if mirrored == list(range(number)) else np.array(mirrored)
