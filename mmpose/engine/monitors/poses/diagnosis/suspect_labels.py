# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from ..accuracy.data_set_accuracy import DataSetAccuracy
from ..accuracy.instances import InstanceBatch
from ..accuracy.keypoint_tally import keypoint_similarity
from ..accuracy.matching import equal_sigmas
from .confidence import PCK_THRESHOLD, SortedScores, chunks, keypoint_hits
from .error_kinds import KINDS, NEAR, ErrorKinds, mirrored_keypoints
from .keypoint_errors import box_sizes

# The suspicion from which on an annotation is named.
LEAST_SUSPICION = 0.6
# The number of consecutive validations in which a keypoint stays far away, and
# how far that is, as a fraction of the box's longer side.
VALIDATIONS = 3
FAR = 0.2
# Two keypoints with a lower similarity are so far apart that no point is near
# both: twice as far as the farthest that is near.
_APART = NEAR**4
# The least number of keypoints that tell whether an instance is mirrored, and
# the fraction on the wrong side in a model that does not distinguish them. It
# is a half in one that guesses, and less where many labels are exchanged.
_MIN_SIDES = 4
_EXCHANGED = 0.4
# A score is high if so many of the keypoints from there on are right.
_PRECISION = 0.9
_MIN_COUNT = 20


class Suspect(NamedTuple):
    """An annotation that may be wrong.

    Attributes:
        suspicion (float): From 0 to 1.
        reason (str): 'mirrored', 'far' or 'absent', see
            :class:`SuspectLabels`.
        row (int): The index of the instance.
        keypoints (tuple[int]): The indices of the keypoints in question.
        detail (str): The numbers, in words.
    """
    suspicion: float
    reason: str
    row: int
    keypoints: Tuple[int, ...]
    detail: str


class SuspectLabels:
    """Find annotations that contradict a model that is right elsewhere.

    ============ ===========================================================
    ``mirrored`` With left and right exchanged, the annotation fits the
                 prediction far better. The suspicion is the difference of the
                 mean keypoint similarities (KS), over the keypoints that are
                 apart from their mirrored ones
    ``far``      A keypoint was predicted with a high score, more than 0.2 of
                 the box's longer side away from its annotation, near no other
                 annotation of the image, and at the same place in three
                 consecutive validations
    ``absent``   A keypoint that is annotated as absent was predicted with a
                 high score, on an instance of which most keypoints are right
    ============ ===========================================================

    A score is high if at least 0.9 of the keypoints with that score or a
    higher one are right, as of ``pr/keypoints/PCK@0.1``. The suspicion of
    ``far`` and ``absent`` is the fraction of the right keypoints whose scores
    are not higher. A model whose scores are all the same has no high ones.

    The same object looks at all validations of a training.
    """

    def __init__(self) -> None:
        # By data set and instance, of each keypoint: in how many validations
        # it was away, and where it was predicted.
        self._away: Dict[tuple, Dict[int, tuple]] = {}

    def find(self, part: DataSetAccuracy) -> List[Suspect]:
        """Look at a validation.

        Args:
            part (DataSetAccuracy): A data set.

        Returns:
            list[Suspect]: Those with :data:`LEAST_SUSPICION` or more, the
            highest first. The row is that in ``part.instances.batch()``.
        """
        sigmas = part.sigmas
        if sigmas is None:
            sigmas = equal_sigmas(len(part.names))
        mirrored = mirrored_keypoints(part.names, part.meta)
        batch = part.instances.batch()
        known = batch.found.copy()
        found = [] if mirrored is None else _mirrored(part, sigmas, mirrored)
        known[[suspect.row for suspect in found]] = False
        scores = _high_scores(part, known)
        annotated = batch.visible.any(0)
        before = self._away
        self._away = {k: v for k, v in before.items() if k[0] != part.name}
        for first, block in part.instances.blocks():
            counted, hit = keypoint_hits(block)
            of_block = known[first:first + len(block.found)]
            high = of_block[:, None] & (block.keypoint_scores >= scores.least)
            offset = block.predicted - block.truth
            away = high & counted & (
                np.hypot(offset[..., 0], offset[..., 1]) >
                FAR * box_sizes(block)[:, None])
            away &= _is_miss(block, away.any(1), sigmas, mirrored)
            suspects = [*self._far(part.name, block, away, scores, before)]

            absent = high & ~block.visible & annotated
            absent &= (2 * hit.sum(1) > counted.sum(1))[:, None]
            if mirrored is not None:
                # Seen from the side, one hides the other.
                absent &= _similarity(block, block.predicted, sigmas,
                                      mirrored) < NEAR
            suspects += _absent(block, absent, scores)
            found += [s._replace(row=first + s.row) for s in suspects]
        return sorted(
            (s for s in found if s.suspicion >= LEAST_SUSPICION),
            key=lambda s:
            (-s.suspicion, batch.images[s.row], batch.ids[s.row], s.reason))

    def _far(self, name: Optional[str], batch: InstanceBatch, away: np.ndarray,
             scores: 'HighScores', before: Dict[tuple,
                                                dict]) -> Iterator[Suspect]:
        sides = box_sizes(batch)
        for row in np.flatnonzero(away.any(1)).tolist():
            key = (name, *_key(batch, row))
            earlier, now = before.get(key, {}), {}
            for k in np.flatnonzero(away[row]).tolist():
                # A view would keep all instances.
                place = batch.predicted[row, k].copy()
                count, last = earlier.get(k, (0, place))
                stays = np.hypot(*(place - last)) < PCK_THRESHOLD * sides[row]
                now[k] = (count + 1 if stays else 1), place
            self._away[key] = now
            stayed = [k for k, (n, _) in now.items() if n >= VALIDATIONS]
            if stayed:
                distance = np.linalg.norm(
                    batch.predicted[row, stayed] - batch.truth[row, stayed],
                    axis=-1).max() / sides[row]
                yield scores.suspect(
                    'far', batch, row, stayed, f'up to {distance:.2f} of the '
                    f'box away in {max(n for n, _ in now.values())} '
                    'validations, {score}')


class HighScores:
    """Tell which scores are high.

    Args:
        scores (np.ndarray): The scores of annotated keypoints, shape (n, ).
        hits (np.ndarray): Which of them are right, bool of shape (n, ).

    Attributes:
        least (float): The lowest of the high scores, infinite if there is
            none.
    """

    def __init__(self, scores: np.ndarray, hits: np.ndarray) -> None:
        self._scores = SortedScores(scores, hits)
        self.least = np.inf
        if not len(scores) or scores.min() == scores.max():
            return
        for values in (self._scores.right, self._scores.wrong):
            for some in chunks(values):
                right, wrong = self._scores.kept(some)
                is_high = (right + wrong >= _MIN_COUNT) & (
                    right >= _PRECISION * (right + wrong))
                if is_high.any():
                    self.least = min(self.least, some[is_high].min())

    def rank(self, scores: np.ndarray) -> np.ndarray:
        """Return the fraction of the right keypoints whose scores are not
        higher."""
        right = self._scores.right
        return np.searchsorted(
            right, scores, side='right') / max(len(right), 1)

    def suspect(self, reason: str, batch: InstanceBatch, row: int,
                keypoints: List[int], detail: str) -> Suspect:
        """Return a suspect, the keypoint with the highest score first."""
        scores = batch.keypoint_scores[row, keypoints]
        order = np.argsort(-scores, kind='stable')
        highest = scores[order[0]]
        return Suspect(
            float(self.rank(highest)), reason, row,
            tuple(keypoints[i] for i in order),
            detail.format(score=f'with a score of {highest:.2f}'))


def _mirrored(part: DataSetAccuracy, sigmas: np.ndarray,
              mirrored: np.ndarray) -> List[Suspect]:
    """Return the instances whose mirrored annotation fits far better."""
    suspects = []
    right = wrong = 0
    for first, block in part.instances.blocks():
        own = _similarity(block, block.predicted, sigmas)
        other = _similarity(block, block.predicted, sigmas, mirrored)
        apart = _similarity(block, block.truth, sigmas, mirrored) < _APART
        apart &= block.visible & block.visible[:, mirrored]
        apart &= block.found[:, None] & (mirrored != np.arange(len(mirrored)))
        right += np.count_nonzero(apart & (own >= NEAR))
        wrong += np.count_nonzero(apart & (other >= NEAR))
        counts = apart.sum(1)
        own, other = (
            np.where(apart, near, 0).sum(1) / np.maximum(counts, 1)
            for near in (own, other))
        gains = np.where(counts >= _MIN_SIDES, other - own, 0)
        counted, hit = keypoint_hits(block)
        for row in np.flatnonzero(gains >= LEAST_SUSPICION).tolist():
            missed = apart[row] & counted[row] & ~hit[row]
            suspects.append(
                Suspect(
                    float(gains[row]), 'mirrored', first + row,
                    tuple(np.flatnonzero(missed).tolist()),
                    f'mirrored a KS of {other[row]:.2f}, as annotated '
                    f'{own[row]:.2f}'))
    # Else the model does not distinguish the sides.
    return [] if wrong > _EXCHANGED * (right + wrong) else suspects


def _high_scores(part: DataSetAccuracy, known: np.ndarray) -> HighScores:
    """Return the scores of the annotated keypoints of some instances."""
    scores, hits = [], []
    for first, block in part.instances.blocks():
        counted, hit = keypoint_hits(block)
        counted &= known[first:first + len(block.found), None]
        scores.append(block.keypoint_scores[counted])
        hits.append(hit[counted])
    scores, hits = map(np.concatenate, (scores, hits))
    return HighScores(scores, hits)


def _absent(batch: InstanceBatch, absent: np.ndarray,
            scores: HighScores) -> Iterator[Suspect]:
    for row in np.flatnonzero(absent.any(1)).tolist():
        yield scores.suspect('absent', batch, row,
                             np.flatnonzero(absent[row]).tolist(),
                             'annotated as absent, predicted {score}')


def _is_miss(batch: InstanceBatch, rows: np.ndarray, sigmas: np.ndarray,
             mirrored: Optional[np.ndarray]) -> np.ndarray:
    """Return which keypoints of some instances are near no annotation of the
    image, bool of shape (N, K)."""
    missed = np.zeros(batch.visible.shape, bool)
    of_images = np.isin(batch.images, batch.images[rows])
    if of_images.any():
        kinds = ErrorKinds(batch.take(of_images), sigmas, mirrored).kinds()
        missed[of_images] = kinds == KINDS.index('miss')
    return missed


def _similarity(batch: InstanceBatch,
                points: np.ndarray,
                sigmas: np.ndarray,
                mirrored: Optional[np.ndarray] = None) -> np.ndarray:
    """Return the similarity of points with the annotation, 0 where there is
    none, shape (N, K)."""
    truth, visible = batch.truth, batch.visible
    if mirrored is not None:
        truth, visible = truth[:, mirrored], visible[:, mirrored]
    offset = points.astype(float) - truth
    squares = np.square(offset[..., 0]) + np.square(offset[..., 1])
    areas = np.where(batch.areas >= 0, batch.areas, np.nan)
    near = keypoint_similarity(squares, areas[:, None], sigmas)
    return np.where(visible, np.nan_to_num(near), 0)


def _key(batch: InstanceBatch, row: int) -> tuple:
    """Return what identifies an instance in all validations."""
    number = int(batch.ids[row])
    return int(batch.images[row]), number, (None if number >= 0 else
                                            batch.truth[row].tobytes())
