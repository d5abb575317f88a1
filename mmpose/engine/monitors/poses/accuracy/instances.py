# Copyright (c) OpenMMLab. All rights reserved.
import hashlib
from typing import Hashable, List, NamedTuple, Sequence

import numpy as np

from ..pose_samples import PoseSample
from .hard_samples import image_key


class InstanceBatch(NamedTuple):
    """N annotated instances with K keypoints, and their predictions.

    Attributes:
        images (np.ndarray): The number of each one's image, see
            :func:`image_number`, int64 of shape (N, ).
        ids (np.ndarray): The ids of the annotations, -1 where unknown, int64
            of shape (N, ).
        truth (np.ndarray): GT in pixels, float32 of shape (N, K, 2); 0 where
            it is not finite.
        visible (np.ndarray): Which keypoints are annotated, with a finite GT,
            bool of shape (N, K).
        occluded (np.ndarray): Which of these are annotated as occluded, bool
            of shape (N, K); none if the data set does not annotate it.
        areas (np.ndarray): The areas in square pixels, float64 of shape (N, ).
        boxes (np.ndarray): GT boxes, (left, top, right, bottom), float32 of
            shape (N, 4).
        predicted (np.ndarray): Predictions in pixels, float32 of shape
            (N, K, 2); 0 for an instance that was not found.
        found (np.ndarray): Whether there is a prediction, bool of shape
            (N, ).
        scores (np.ndarray): The scores by which the evaluator sorts the
            predictions, float32 of shape (N, ); 0 for an instance that was not
            found.
        keypoint_scores (np.ndarray): The same of the keypoints, float32 of
            shape (N, K).
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
        scores (np.ndarray): The scores by which the evaluator sorts them,
            float32 of shape (M, ).
        keypoint_scores (np.ndarray): The mean keypoint score of each, float32
            of shape (M, ).
        images (int): The number of images that were searched for them.
    """
    scores: np.ndarray
    keypoint_scores: np.ndarray
    images: int


class Instances:
    """Keep all instances of a validation, to diagnose them at its end.

    A diagnosis may need the other instances of an image, which may be in other
    batches and on other ranks. An instance takes 22 K + 45 bytes and an
    unmatched prediction 8, much less than in the results of a
    :obj:`CocoMetric`.
    """

    def __init__(self) -> None:
        self._batches: List[InstanceBatch] = []
        self._unmatched: List[Unmatched] = []

    def add(self, batch: InstanceBatch) -> None:
        """Add a batch."""
        self._batches.append(batch)

    def add_unmatched(self, unmatched: Unmatched) -> None:
        """Add predictions that belong to no instance."""
        self._unmatched.append(unmatched)

    def merge(self, other: 'Instances') -> None:
        """Add the instances of another rank."""
        self._batches += other._batches
        self._unmatched += other._unmatched

    def __len__(self) -> int:
        return sum(len(batch.found) for batch in self._batches)

    def batch(self) -> InstanceBatch:
        """Return all, image by image; at least one must have been added."""
        batch = _joined(self._batches)
        if (np.diff(batch.images) < 0).any():
            batch = batch.take(np.argsort(batch.images, kind='stable'))
        self._batches = [batch]  # The next call is fast.
        return batch

    def of_image(self, image: Hashable) -> InstanceBatch:
        """Return the instances of an image, see :func:`image_key`."""
        number = image_number(image)
        return _joined([
            batch.take(np.flatnonzero(batch.images == number))
            for batch in self._batches
        ])

    def unmatched(self) -> Unmatched:
        """Return all predictions that belong to no instance."""
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
        owners (Sequence[np.ndarray]): The result of :func:`owners` for each.
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
    # ``all(axis=2)`` is much slower over so short an axis.
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
