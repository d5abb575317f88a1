# Copyright (c) OpenMMLab. All rights reserved.
from typing import List, NamedTuple, Optional, Sequence

import numpy as np

from ...accuracy.data_set_accuracy import DataSetAccuracy
from ...accuracy.instances import InstanceBatch
from ..keypoint_errors import keypoint_errors
from .saved_instances import SavedInstances, SavedPart, truth_numbers

# Without sigmas, what is compared is whether a keypoint is this near.
PCK_THRESHOLD = 0.05


class Pairs(NamedTuple):
    """The predictions of two runs for N instances with K keypoints.

    Attributes:
        part (DataSetAccuracy): The data set of the validation.
        rows (np.ndarray): The indices of the instances in
            ``part.instances.batch()``, shape (N, ).
        earlier (InstanceBatch): The instances with the predictions of the
            other run.
        counted (np.ndarray): Which keypoints are compared, bool of shape
            (N, K).
        values (np.ndarray): The keypoint similarity (KS) of the other run and
            of the validation, 0 for an instance that was not found, shape
            (2, N, K). Without sigmas, whether the distance is less than 0.05
            of the box's longer side.
        missing (int): The number of instances that the other run has not.
        changed (int): Of the N, the number with another ground truth then.
            The other run's predictions are compared with the present one.
    """
    part: DataSetAccuracy
    rows: np.ndarray
    earlier: InstanceBatch
    counted: np.ndarray
    values: np.ndarray
    missing: int
    changed: int

    @property
    def images(self) -> np.ndarray:
        """np.ndarray: The number of each one's image, shape (N, )."""
        return self.earlier.images

    def scores(self) -> np.ndarray:
        """Return the mean of each instance's keypoints in both runs.

        With sigmas that is the object keypoint similarity (OKS).

        Returns:
            np.ndarray: NaN where nothing is compared, shape (2, N).
        """
        numbers = self.counted.sum(1)
        return np.where(numbers > 0,
                        self.values.sum(2) / np.maximum(numbers, 1), np.nan)


def measure_of(parts: Sequence[DataSetAccuracy]) -> str:
    """Return what is compared: 'KS', or 'PCK@0.05' without any sigmas."""
    if any(part.sigmas is not None for part in parts):
        return 'KS'
    return f'PCK@{PCK_THRESHOLD}'


def score_name(part: DataSetAccuracy) -> str:
    """Return what :meth:`Pairs.scores` are of a data set."""
    return f'PCK@{PCK_THRESHOLD}' if part.sigmas is None else 'OKS'


def pair(parts: Sequence[DataSetAccuracy],
         saved: SavedInstances) -> List[Pairs]:
    """Find the predictions of another run for the same instances.

    Args:
        parts (Sequence[DataSetAccuracy]): The data sets of the validation.
        saved (SavedInstances): What the other run has saved.

    Returns:
        list[Pairs]: At least one. If any data set has sigmas, only those that
        have.

    Raises:
        ValueError: The other run was validated on other data.
    """
    by_name = {part.name: part for part in saved.parts}
    chosen = [part for part in parts if part.sigmas is not None] or parts
    reasons, found = [], []
    for part in chosen:
        try:
            found.append(_paired(part, by_name.get(part.name)))
        except ValueError as error:
            reasons.append(f'{_title(part.name)} {error}')
    if reasons and not found:
        raise ValueError('; '.join(reasons))
    return found


def _paired(part: DataSetAccuracy, other: Optional[SavedPart]) -> Pairs:
    if other is None:
        raise ValueError('was not validated there')
    if other.keypoints != part.names:
        raise ValueError(
            f'has {_list(part.names)} here and {_list(other.keypoints)} '
            'there; only the same keypoints can be compared')
    batch = part.instances.batch()
    truth = truth_numbers(batch)
    rows, there = _common(batch.ids, truth, other)
    if not len(rows):
        raise ValueError(f'has {len(batch.ids):,} instances here and '
                         f'{len(other.ids):,} there, and none in common; only '
                         'validations on the same data can be compared')
    changed = int((truth[rows] != other.truth[there]).sum())
    if 2 * changed > len(rows):
        raise ValueError(
            f'has {len(rows):,} annotations with the same ids as there, '
            f'but {changed:,} have another ground truth; only validations '
            'on the same data can be compared')
    now = batch.take(rows)
    earlier = now._replace(
        predicted=other.predicted[there],
        found=other.found[there],
        keypoint_scores=other.scores[there] / np.float32(255))
    errors = [keypoint_errors(b, part.sigmas) for b in (earlier, now)]
    if part.sigmas is None:
        counted = errors[0].counted
        values = [e.located & (e.distances < PCK_THRESHOLD) for e in errors]
    else:
        counted = errors[0].compared
        values = [e.similarity for e in errors]
    return Pairs(part, rows, earlier, counted, np.where(counted, values, 0.),
                 len(batch.ids) - len(rows), changed)


def _common(ids: np.ndarray, truth: np.ndarray, other: SavedPart) -> tuple:
    """Return the indices of the same instances here and there.

    They have the same id or, where ids are not known or not unique, the same
    ground truth.
    """
    keys = ids, other.ids
    if not all(map(_are_known, keys)):
        keys = truth, other.truth
    _, here, there = np.intersect1d(*keys, return_indices=True)
    order = np.argsort(here)
    return here[order], there[order]


def _are_known(ids: np.ndarray) -> bool:
    return bool((ids >= 0).all()) and len(np.unique(ids)) == len(ids)


def _title(name: Optional[str]) -> str:
    return 'The data set' if name is None else f'The data set {name}'


def _list(names: Sequence[str]) -> str:
    shown = ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')
    return f'{len(names)} keypoints ({shown})'
