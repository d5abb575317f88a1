# Copyright (c) OpenMMLab. All rights reserved.
import hashlib
from typing import Hashable, List, NamedTuple, Sequence

import numpy as np

from ..pose_samples import PoseSample
from .hard_samples import image_key


class InstanceBatch(NamedTuple):
    """N annotated instances with K keypoints, and what was predicted of them.

    Attributes:
        images (np.ndarray): Which image each is in, see :func:`image_number`,
            int64 of shape (N, ).
        ids (np.ndarray): Of their annotations, -1 where unknown, int64 of
            shape (N, ).
        truth (np.ndarray): GT in pixels, float32 of shape (N, K, 2); 0 where
            it is not finite.
        visible (np.ndarray): Which keypoints are annotated, with a finite GT,
            bool of shape (N, K).
        occluded (np.ndarray): Which of these are annotated as occluded, bool
            of shape (N, K); none where the data set does not say it.
        areas (np.ndarray): In square pixels, float64 of shape (N, ).
        boxes (np.ndarray): GT boxes, (left, top, right, bottom), float32 of
            shape (N, 4).
        predicted (np.ndarray): Predictions in pixels, float32 of shape
            (N, K, 2); 0 of an instance that was not found.
        found (np.ndarray): Whether there is a prediction, bool of shape
            (N, ).
        scores (np.ndarray): Of the predicted instances, by which the evaluator
            sorts them, float32 of shape (N, ); 0 if it was not found.
        keypoint_scores (np.ndarray): float32 of shape (N, K); likewise.
    """
    images: np.ndarray
    ids: np.ndarray
    truth: np.ndarray
    visible: np.ndarray
    occluded: np.ndarray
    areas: np.ndarray
    boxes: np.ndarray
    predicted: np.ndarray
    found: np.ndarray
    scores: np.ndarray
    keypoint_scores: np.ndarray

    def take(self, rows: np.ndarray) -> 'InstanceBatch':
        """Return some of the instances, by a mask or their indices."""
        return InstanceBatch(*(values[rows] for values in self))


class Unmatched(NamedTuple):
    """M predictions that belong to no instance.

    Attributes:
        scores (np.ndarray): By which the evaluator sorts them, float32 of
            shape (M, ).
        keypoint_scores (np.ndarray): The mean of each, float32 of shape
            (M, ).
        images (int): In how many images they were looked for.
    """
    scores: np.ndarray
    keypoint_scores: np.ndarray
    images: int


class Instances:
    """All instances of a validation, to say afterwards why they are wrong.

    A diagnosis may need the other instances of an image, which come in other
    batches and to other ranks. So all are kept: 22 K + 45 bytes for each, and
    8 for a prediction of none, as a :obj:`CocoMetric` keeps, in its results,
    several times as much.
    """

    def __init__(self) -> None:
        self._batches: List[InstanceBatch] = []
        self._unmatched: List[Unmatched] = []

    def add(self, batch: InstanceBatch) -> None:
        """Add some."""
        self._batches.append(batch)

    def add_unmatched(self, unmatched: Unmatched) -> None:
        """Add predictions that belong to none."""
        self._unmatched.append(unmatched)

    def merge(self, other: 'Instances') -> None:
        """Add what another process has seen."""
        self._batches += other._batches
        self._unmatched += other._unmatched

    def __len__(self) -> int:
        return sum(len(batch.found) for batch in self._batches)

    def batch(self) -> InstanceBatch:
        """Return all, image by image; at least one must have been added."""
        batch = _joined(self._batches)
        if (np.diff(batch.images) < 0).any():
            batch = batch.take(np.argsort(batch.images, kind='stable'))
        self._batches = [batch]  # Who asks next need not wait.
        return batch

    def of_image(self, image: Hashable) -> InstanceBatch:
        """Return those of an image, see :func:`image_key`."""
        number = image_number(image)
        return _joined([
            batch.take(np.flatnonzero(batch.images == number))
            for batch in self._batches
        ])

    def unmatched(self) -> Unmatched:
        """Return all predictions that belong to none."""
        none = Unmatched(*2 * [np.zeros(0, np.float32)], 0)
        scores, keypoint_scores, images = zip(none, *self._unmatched)
        return Unmatched(
            np.concatenate(scores), np.concatenate(keypoint_scores),
            sum(images))


def instance_batch(samples: Sequence[PoseSample],
                   owners: Sequence[np.ndarray]) -> InstanceBatch:
    """Collect the instances of some images.

    Args:
        samples (Sequence[PoseSample]): The images, all with K keypoints; at
            least one.
        owners (Sequence[np.ndarray]): Of each image what :func:`owners` has
            found.
    """

    def joined(name: str, dtype: type) -> np.ndarray:
        values = [getattr(sample, name) for sample in samples]
        return np.concatenate(values).astype(dtype, copy=False)

    counts = [len(sample.truth) for sample in samples]
    firsts = np.cumsum([0] + [len(sample.predicted) for sample in samples])
    owner = np.concatenate(owners)
    found = owner >= 0
    chosen = (owner + np.repeat(firsts[:-1], counts))[found]

    def matched(name: str) -> np.ndarray:
        values = joined(name, np.float32)
        kept = np.zeros((len(owner), *values.shape[1:]), np.float32)
        kept[found] = values[chosen]
        return kept

    truth = joined('truth', np.float32)
    # Much faster than all(axis=2) over so short an axis.
    finite = np.isfinite(truth[..., 0]) & np.isfinite(truth[..., 1])
    visible = joined('visible', bool) & finite
    images = [image_number(image_key(sample)) for sample in samples]
    return InstanceBatch(
        images=np.repeat(np.array(images, np.int64), counts),
        ids=joined('ids', np.int64),
        truth=np.where(finite[..., None], truth, np.float32(0)),
        visible=visible,
        occluded=joined('occluded', bool) & visible,
        areas=joined('areas', float),
        boxes=joined('boxes', np.float32),
        predicted=matched('predicted'),
        found=found,
        scores=matched('instance_scores'),
        keypoint_scores=matched('scores'))


def image_number(image: Hashable) -> int:
    """Return a number of an image, the same in every process.

    Args:
        image (Hashable): See :func:`image_key`.
    """
    digest = hashlib.blake2b(repr(image).encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'little', signed=True)


def _joined(batches: Sequence[InstanceBatch]) -> InstanceBatch:
    return InstanceBatch(*map(np.concatenate, zip(*batches)))
