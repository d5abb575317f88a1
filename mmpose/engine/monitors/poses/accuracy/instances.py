# Copyright (c) OpenMMLab. All rights reserved.
import hashlib
from typing import (Dict, Hashable, Iterator, List, NamedTuple, Optional,
                    Sequence, Tuple, Union)

import numpy as np

from ..pose_samples import PoseSample
from .hard_samples import image_key

# About how many instances are diagnosed at once, so that what is computed of
# them needs little memory.
_BLOCK = 256


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

    def take(self, rows: Union[np.ndarray, slice]) -> 'InstanceBatch':
        """Return some of the instances, by a mask, indices or a slice."""
        return InstanceBatch(*(values[rows] for values in self))


class ScoredPredictions(NamedTuple):
    """M predictions, and which of them the evaluator takes to be right.

    Attributes:
        scores (np.ndarray): The scores by which the evaluator sorts them,
            float32 of shape (M, ).
        matches (np.ndarray): Whether each matches an instance, at each of
            :data:`OKS_THRESHOLDS`: 1, 0 if it does not, or -1 if it matches
            one that does not count; int8 of shape (T, M).
        false_positives (int): How many with a high score match none, in the
            images in which an instance counts.
        images (int): The number of these images.
    """
    scores: np.ndarray
    matches: np.ndarray
    false_positives: int
    images: int


class Instances:
    """Keep all instances of a validation, to diagnose them at its end.

    A diagnosis may need the other instances of an image, which may be in other
    batches and on other ranks. An instance takes 22 K + 45 bytes and a
    prediction 6, much less than in the results of a :obj:`CocoMetric`.
    """

    def __init__(self) -> None:
        self._batches: List[InstanceBatch] = []
        self._predictions: List[ScoredPredictions] = []
        self._images: Dict[int, Hashable] = {}

    def add(self, batch: InstanceBatch,
            images: Sequence[Hashable] = ()) -> None:
        """Add a batch.

        Args:
            batch (InstanceBatch): The batch.
            images (Sequence[Hashable]): Of each image in it what
                :func:`image_key` returns. Defaults to (): nobody will ask.
        """
        self._batches.append(batch)
        self._images.update((image_number(key), key) for key in images
                            if isinstance(key, tuple))

    def add_predictions(self, predictions: ScoredPredictions) -> None:
        """Add predictions that do not belong to one instance each."""
        self._predictions.append(predictions)

    def merge(self, other: 'Instances') -> None:
        """Add the instances of another rank."""
        self._batches += other._batches
        self._predictions += other._predictions
        self._images.update(other._images)

    def __len__(self) -> int:
        return sum(len(batch.found) for batch in self._batches)

    def batch(self) -> InstanceBatch:
        """Return all, image by image; at least one must have been added.

        The first call joins the batches; no other thread may use them
        meanwhile.
        """
        if len(self._batches) > 1:
            columns = [list(column) for column in zip(*self._batches)]
            self._batches.clear()
            # One after the other: only one is in memory twice.
            fields = []
            while columns:
                fields.append(np.concatenate(columns.pop(0)))
            self._batches.append(InstanceBatch(*fields))
            del fields
        batch = self._batches[0]
        # Differences of such large numbers would overflow.
        if (batch.images[1:] < batch.images[:-1]).any():
            order = np.argsort(batch.images, kind='stable')
            fields = list(batch)
            del batch
            self._batches.clear()
            for i in range(len(fields)):
                fields[i] = fields[i][order]
            self._batches.append(InstanceBatch(*fields))
        return self._batches[0]

    def blocks(self) -> Iterator[Tuple[int, InstanceBatch]]:
        """Yield all by and by, the instances of an image together.

        Yields:
            tuple[int, InstanceBatch]: The index of the first one in
            :meth:`batch`, and some hundred instances, which share the memory
            of all.
        """
        batch = self.batch()
        start, total = 0, len(batch.found)
        while start < total:
            end = min(start + _BLOCK, total)
            # Up to the last one of its image.
            end = int(
                np.searchsorted(batch.images, batch.images[end - 1], 'right'))
            yield start, batch.take(slice(start, end))
            start = end

    def of_image(self, image: Hashable) -> InstanceBatch:
        """Return the instances of an image, see :func:`image_key`."""
        number = image_number(image)
        return _joined([
            batch.take(np.flatnonzero(batch.images == number))
            for batch in self._batches
        ])

    def images(self) -> Dict[int, Hashable]:
        """Return what :func:`image_key` returned, by the numbers of images."""
        return self._images

    def predictions(self) -> Optional[ScoredPredictions]:
        """Return all predictions; None if each belongs to one instance, since
        it was made in its box."""
        if not self._predictions:
            return None
        if len(self._predictions) > 1:
            scores, matches, *numbers = zip(*self._predictions)
            self._predictions = [
                ScoredPredictions(
                    np.concatenate(scores), np.concatenate(matches, 1),
                    *map(sum, numbers))
            ]
        return self._predictions[0]


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
