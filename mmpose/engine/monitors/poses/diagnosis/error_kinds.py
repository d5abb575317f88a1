# Copyright (c) OpenMMLab. All rights reserved.
"""Why keypoints are wrong: the kind of error of each.

As defined by M. R. Ronchi and P. Perona, "Benchmarking and Error Diagnosis in
Multi-Instance Pose Estimation", ICCV 2017, https://arxiv.org/abs/1707.05388.
"""
import re
from typing import NamedTuple, Optional, Sequence

import numpy as np

from ..accuracy.instances import InstanceBatch

KINDS = ('good', 'jitter', 'inversion', 'swap', 'miss', 'not_found')
_GOOD, _JITTER, _INVERSION, _SWAP, _MISS, _NOT_FOUND = range(len(KINDS))
# Of the similarity of a keypoint: more is good, and less is not near.
GOOD = 0.85
NEAR = 0.5
# Two keypoints that are so far apart: what is near one is not near the other;
# twice as far as the farthest that is near, squared.
_APART = -4 * np.log(NEAR)
# So many pairs of instances at once.
_CHUNK = 4096


class ErrorCounts(NamedTuple):
    """What kinds of error there are in a validation.

    Attributes:
        counts (np.ndarray): The annotated keypoints of each of :data:`KINDS`,
            int64 of shape (6, K).
        gains (np.ndarray): How much higher the sum of all instances' object
            keypoint similarity (OKS) would be if that kind alone were
            corrected, shape (6, ).
        instances (int): How many these are.
        sides (np.ndarray): Of the keypoints that are apart from their mirrored
            ones, the number, those predicted near their own place, and those
            near the mirrored one's, int64 of shape (3, K).
    """
    counts: np.ndarray
    gains: np.ndarray
    instances: int
    sides: np.ndarray

    def __add__(self, other: 'ErrorCounts') -> 'ErrorCounts':
        return ErrorCounts(*(a + b for a, b in zip(self, other)))

    def spread(self, places: Sequence[int],
               num_keypoints: int) -> 'ErrorCounts':
        """Return the same counts as those of a larger set of keypoints.

        Args:
            places (Sequence[int]): Where in the larger set each keypoint is.
            num_keypoints (int): How many that set has.
        """
        counts = np.zeros((len(self.counts), num_keypoints), np.int64)
        sides = np.zeros((len(self.sides), num_keypoints), np.int64)
        counts[:, places] = self.counts
        sides[:, places] = self.sides
        return self._replace(counts=counts, sides=sides)


class ErrorKinds:
    """The kinds of error in a validation.

    ============= =========================================================
    ``good``      The keypoint's similarity is above 0.85
    ``jitter``    It is from 0.5 to 0.85
    ``inversion`` The prediction is near the mirrored keypoint of the same
                  instance: its similarity with that is at least 0.5, and
                  higher than with any other
    ``swap``      The same of that keypoint, or of the mirrored one, of
                  another instance of the image
    ``miss``      It is near none of them
    ``not_found`` No prediction belongs to the instance
    ============= =========================================================

    Corrected, a jitter has a similarity of 0.85 and a miss of 0.5; an
    inversion and a swap the one that they have in the wrong place; an instance
    that was not found the mean OKS of those that were.

    Args:
        batch (InstanceBatch): All instances, image by image.
        sigmas (np.ndarray): Each keypoint's, shape (K, ).
        mirrored (np.ndarray, optional): The index of each keypoint's mirrored
            one, its own where it has none, shape (K, ). Defaults to None:
            inversions are not looked for.
    """

    def __init__(self,
                 batch: InstanceBatch,
                 sigmas: np.ndarray,
                 mirrored: Optional[np.ndarray] = None) -> None:
        has_area = np.isfinite(batch.areas) & (batch.areas >= 0)
        self._batch = batch._replace(
            visible=batch.visible & has_area[:, None],
            areas=np.where(has_area, batch.areas, 0))
        self._sigmas = sigmas
        places = np.arange(len(sigmas))
        self._mirrored = places if mirrored is None else mirrored
        self._has_mirrored = self._mirrored != places

    def results(self) -> ErrorCounts:
        """Count the kinds of error of all instances."""
        batch = self._batch
        kinds, own, mirrored, best = self._judge()
        counts = np.stack([(kinds == i).sum(0) for i in range(len(KINDS))])
        # Of an instance, each keypoint's part of its similarity.
        parts = batch.visible.sum(1)
        instances = int((parts > 0).sum())
        weights = 1 / np.maximum(parts, 1)[:, None]
        corrected = {_JITTER: GOOD, _INVERSION: best, _SWAP: best, _MISS: NEAR}
        gains = np.zeros(len(KINDS))
        for kind, value in corrected.items():
            gains[kind] = (weights *
                           np.where(kinds == kind, value - own, 0)).sum()
        found = batch.found & (parts > 0)
        if found.any():
            mean = (weights * own)[found].sum() / found.sum()
            gains[_NOT_FOUND] = mean * (instances - found.sum())
        return ErrorCounts(counts, gains, instances,
                           self._sides(own, mirrored))

    def kinds(self) -> np.ndarray:
        """Return which of :data:`KINDS` each keypoint is, -1 where it is not
        annotated, int8 of shape (N, K)."""
        return self._judge()[0]

    def _judge(self) -> tuple:
        """Of the keypoints of N instances the kinds, -1 where there is none,
        and the similarities with their own place, the mirrored one and the
        nearest one; each of shape (N, K)."""
        visible, found = self._batch.visible, self._batch.found
        everybody = np.arange(len(found))
        own = np.exp(-self._distances(everybody, everybody))
        mirrored = np.exp(
            -self._distances(everybody, everybody, mirrored=True))
        own[~found] = mirrored[~found] = 0
        best = np.maximum(np.maximum(own, mirrored), self._others())
        kinds = np.full(own.shape, _MISS, np.int8)
        kinds[best >= NEAR] = _SWAP
        # Of what is equally near, its own place.
        kinds[(mirrored >= NEAR) & (mirrored == best)] = _INVERSION
        is_own = (own >= NEAR) & (own == best)
        kinds[is_own] = _JITTER
        kinds[is_own & (own > GOOD)] = _GOOD
        kinds[~found] = _NOT_FOUND
        kinds[~visible] = -1
        return kinds, own, mirrored, best

    def _others(self) -> np.ndarray:
        """The highest similarity with another instance of the image, 0 where
        there is none, shape (N, K)."""
        nearest = np.full(self._batch.visible.shape, np.inf)
        _, begins, sizes = np.unique(
            self._batch.images, return_index=True, return_counts=True)
        # Each instance that was found, and all of its image.
        begins, sizes = np.repeat(begins, sizes), np.repeat(sizes, sizes)
        first = np.flatnonzero(self._batch.found & (sizes > 1))
        sizes = sizes[first]
        second = np.arange(sizes.sum()) - np.repeat(
            np.cumsum(sizes) - sizes - begins[first], sizes)
        first = np.repeat(first, sizes)
        is_other = first != second
        first, second = first[is_other], second[is_other]
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
        """What :func:`keypoint_similarity` has in its exponent, between some
        predictions and the ground truth of others, or their mirrored
        keypoints; infinite where there is none."""
        place, visible = self._batch.truth[truth], self._batch.visible[truth]
        if mirrored:
            place = place[:, self._mirrored]
            visible = visible[:, self._mirrored] & self._has_mirrored
        if points is None:
            points = self._batch.predicted
        offset = points[predicted].astype(float)
        offset -= place
        np.square(offset, out=offset)
        squares = offset[..., 0] + offset[..., 1]
        # As COCO's evaluation, so that an area of 0 is none to divide by.
        squares /= (self._batch.areas[truth] + np.spacing(1))[:, None]
        squares /= 2 * np.square(2 * self._sigmas)
        # A prediction that is no number is near nothing.
        squares[~visible | np.isnan(squares)] = np.inf
        return squares

    def _sides(self, own: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
        """See :class:`ErrorCounts`."""
        batch = self._batch
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
    """Return which keypoint each is when the image is flipped.

    Args:
        names (Sequence[str]): What the K keypoints are called. A name with
            'left' or 'right' in it says it.
        meta (dict): The metainfo of the data set, whose ``flip_indices`` say
            it of the others.

    Returns:
        np.ndarray | None: The index of each one's counterpart, its own where
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


def other_side(name: str) -> str:
    """Return a name with left for right and right for left."""
    return _SIDE.sub(lambda match: _OTHER[match[0]], name)


_OTHER = dict(left='right', right='left', l='r', r='l', L='R', R='L')
_OTHER.update({a.title(): b.title() for a, b in _OTHER.items()})
_SIDE = re.compile('(?<![A-Za-z])(left|right|Left|Right|[lrLR])(?![A-Za-z])')
