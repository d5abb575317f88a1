# Copyright (c) OpenMMLab. All rights reserved.
"""Why keypoints are wrong: the kind of error of each.

As defined by M. R. Ronchi and P. Perona, "Benchmarking and Error Diagnosis in
Multi-Instance Pose Estimation", ICCV 2017, https://arxiv.org/abs/1707.05388.
"""
import hashlib
import re
from typing import Dict, Hashable, List, NamedTuple, Optional, Sequence

import numpy as np

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
        images (int): Those in which false positives were looked for.
        false_positives (int): High-scoring predictions that belong to no
            instance.
    """
    counts: np.ndarray
    gains: np.ndarray
    instances: int
    sides: np.ndarray
    images: int
    false_positives: int

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

    The instances of an image may come in several batches and to several
    ranks, so all are kept until :meth:`results`: about 17 K + 24 bytes for
    each, as a :obj:`CocoMetric` keeps, in its results, several times as much.

    Args:
        sigmas (np.ndarray): Each keypoint's, shape (K, ).
        mirrored (np.ndarray, optional): The index of each keypoint's mirrored
            one, its own where it has none, shape (K, ). Defaults to None:
            inversions are not looked for.
    """

    def __init__(self,
                 sigmas: np.ndarray,
                 mirrored: Optional[np.ndarray] = None) -> None:
        self._sigmas = sigmas
        places = np.arange(len(sigmas))
        self._mirrored = places if mirrored is None else mirrored
        self._has_mirrored = self._mirrored != places
        self._chunks: List[Dict[str, np.ndarray]] = []
        self._images = self._false_positives = 0

    def add(self, images: Sequence[Hashable], truth: np.ndarray,
            visible: np.ndarray, areas: np.ndarray, predicted: np.ndarray,
            found: np.ndarray) -> None:
        """Add a batch of N instances.

        Args:
            images (Sequence[Hashable]): Which image each is in, N of them.
            truth (np.ndarray): See :meth:`KeypointTally.add`, as the others.
            visible (np.ndarray): Shape (N, K).
            areas (np.ndarray): Shape (N, ).
            predicted (np.ndarray): Shape (N, K, 2).
            found (np.ndarray): Shape (N, ).
        """
        finite = np.isfinite(truth).all(-1)
        has_area = np.isfinite(areas) & (areas >= 0)
        self._chunks.append(
            dict(
                images=np.array([_number(image) for image in images],
                                np.int64),
                truth=np.where(finite[..., None], truth, 0).astype(np.float32),
                visible=visible.astype(bool) & finite & has_area[:, None],
                predicted=np.array(predicted, np.float32),
                areas=np.where(has_area, areas, 0).astype(float),
                found=np.array(found, bool)))

    def add_false_positives(self, counts: Sequence[int]) -> None:
        """Add images in which false positives were looked for.

        Args:
            counts (Sequence[int]): The false positives in each.
        """
        self._images += len(counts)
        self._false_positives += sum(counts)

    def merge(self, other: 'ErrorKinds') -> None:
        """Add what another process has seen.

        Args:
            other (ErrorKinds): One with the same sigmas.
        """
        self._chunks += other._chunks
        self._images += other._images
        self._false_positives += other._false_positives

    def results(self) -> ErrorCounts:
        """Count the kinds of error of all instances."""
        number = len(self._sigmas)
        counts = np.zeros((len(KINDS), number), np.int64)
        gains = np.zeros(len(KINDS))
        sides = np.zeros((3, number), np.int64)
        instances = 0
        if self._chunks:
            rows = self._rows()
            kinds, own, mirrored, best = self._judge(rows)
            counts = np.stack([(kinds == i).sum(0) for i in range(len(KINDS))])
            # Of an instance, each keypoint's part of its similarity.
            parts = rows['visible'].sum(1)
            instances = int((parts > 0).sum())
            weights = 1 / np.maximum(parts, 1)[:, None]
            corrected = {
                _JITTER: GOOD,
                _INVERSION: best,
                _SWAP: best,
                _MISS: NEAR
            }
            for kind, value in corrected.items():
                gains[kind] = (weights *
                               np.where(kinds == kind, value - own, 0)).sum()
            found = rows['found'] & (parts > 0)
            if found.any():
                mean = (weights * own)[found].sum() / found.sum()
                gains[_NOT_FOUND] = mean * (instances - found.sum())
            sides = self._sides(rows, own, mirrored)
        return ErrorCounts(counts, gains, instances, sides, self._images,
                           self._false_positives)

    def kinds_of(self, image: Hashable,
                 truth: np.ndarray) -> Optional[List[Optional[str]]]:
        """Return the kinds of error of an instance that was added.

        Args:
            image (Hashable): The image that it is in.
            truth (np.ndarray): Its keypoints, shape (K, 2).

        Returns:
            list[str | None] | None: Of each keypoint, None where it is not
            annotated; None if there is no such instance.
        """
        number = _number(image)
        rows = self._rows(lambda chunk: chunk['images'] == number)
        if not len(rows['truth']):
            return None
        same = (rows['truth'] == np.float32(truth)).all((1, 2))
        if not same.any():
            return None
        kinds = self._judge(rows)[0][same.argmax()]
        return [KINDS[kind] if kind >= 0 else None for kind in kinds.tolist()]

    def _rows(self, chosen=lambda chunk: slice(None)) -> Dict[str, np.ndarray]:
        """All instances, or those chosen, image by image."""
        rows = {
            name: np.concatenate(
                [chunk[name][chosen(chunk)] for chunk in self._chunks])
            for name in self._chunks[0]
        }
        order = np.argsort(rows['images'], kind='stable')
        return {name: values[order] for name, values in rows.items()}

    def _judge(self, rows: Dict[str, np.ndarray]) -> tuple:
        """Of the keypoints of N instances the kinds, -1 where there is none,
        and the similarities with their own place, the mirrored one and the
        nearest one; each of shape (N, K)."""
        everybody = np.arange(len(rows['truth']))
        own = np.exp(-self._distances(rows, everybody, everybody))
        mirrored = np.exp(
            -self._distances(rows, everybody, everybody, mirrored=True))
        own[~rows['found']] = mirrored[~rows['found']] = 0
        best = np.maximum(np.maximum(own, mirrored), self._others(rows))
        kinds = np.full(own.shape, _MISS, np.int8)
        kinds[best >= NEAR] = _SWAP
        # Of what is equally near, its own place.
        kinds[(mirrored >= NEAR) & (mirrored == best)] = _INVERSION
        is_own = (own >= NEAR) & (own == best)
        kinds[is_own] = _JITTER
        kinds[is_own & (own > GOOD)] = _GOOD
        kinds[~rows['found']] = _NOT_FOUND
        kinds[~rows['visible']] = -1
        return kinds, own, mirrored, best

    def _others(self, rows: Dict[str, np.ndarray]) -> np.ndarray:
        """The highest similarity with another instance of the image, 0 where
        there is none, shape (N, K)."""
        nearest = np.full(rows['visible'].shape, np.inf)
        _, begins, sizes = np.unique(
            rows['images'], return_index=True, return_counts=True)
        # Each instance that was found, and all of its image.
        begins, sizes = np.repeat(begins, sizes), np.repeat(sizes, sizes)
        first = np.flatnonzero(rows['found'] & (sizes > 1))
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
                    self._distances(rows, one, other, mirrored), edges)
                nearest[one[edges]] = np.minimum(nearest[one[edges]], near)
        return np.exp(-nearest)

    def _distances(self,
                   rows: Dict[str, np.ndarray],
                   predicted: np.ndarray,
                   truth: np.ndarray,
                   mirrored: bool = False,
                   points: str = 'predicted') -> np.ndarray:
        """What :func:`keypoint_similarity` has in its exponent, between some
        predictions and the ground truth of others, or their mirrored
        keypoints; infinite where there is none."""
        place, visible = rows['truth'][truth], rows['visible'][truth]
        if mirrored:
            place = place[:, self._mirrored]
            visible = visible[:, self._mirrored] & self._has_mirrored
        offset = rows[points][predicted].astype(float)
        offset -= place
        np.square(offset, out=offset)
        squares = offset[..., 0] + offset[..., 1]
        # As COCO's evaluation, so that an area of 0 is none to divide by.
        squares /= (rows['areas'][truth] + np.spacing(1))[:, None]
        squares /= 2 * np.square(2 * self._sigmas)
        # A prediction that is no number is near nothing.
        squares[~visible | np.isnan(squares)] = np.inf
        return squares

    def _sides(self, rows: Dict[str, np.ndarray], own: np.ndarray,
               mirrored: np.ndarray) -> np.ndarray:
        """See :class:`ErrorCounts`."""
        everybody = np.arange(len(rows['truth']))
        between = self._distances(
            rows, everybody, everybody, mirrored=True, points='truth')
        apart = np.isfinite(between) & (between > _APART)
        apart &= rows['visible'] & rows['found'][:, None]
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


def _number(image: Hashable) -> int:
    """The same in every process, unlike ``hash``."""
    digest = hashlib.blake2b(repr(image).encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'little', signed=True)
