# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from ....core.runner_parts import without_side
from ...accuracy.data_set_accuracy import DataSetAccuracy
from ...accuracy.keypoint_curves import curve_groups
from ..keypoint_errors import keypoint_errors
from .groups import (CROWDING, KEYPOINTS, SIZE, VISIBILITY, Grouping,
                     crowding_of, keypoints_of, sizes_of)

_OF_INSTANCES = {
    SIZE: sizes_of,
    CROWDING: crowding_of,
    KEYPOINTS: keypoints_of
}
GROUPINGS = (*_OF_INSTANCES, VISIBILITY)
# A group with fewer keypoints, or that costs less of the mean OKS, is not
# named as the weakest.
_MIN_CASES = 30
_MIN_COST = 0.005
# Of groups that cost nearly as much, the one with the simplest name is named.
_NEARLY = 0.98


class GroupMeans(NamedTuple):
    """The accuracy of groups; all arrays have the same shape.

    Attributes:
        oks (np.ndarray): The mean object keypoint similarity (OKS) of the
            instances, or of the keypoints (KS); NaN without one.
        nme (np.ndarray): The mean distance of the located keypoints over the
            longer side of the box; NaN without one.
        counts (np.ndarray): The number of instances or keypoints.
    """
    oks: np.ndarray
    nme: np.ndarray
    counts: np.ndarray


class WeakestGroup(NamedTuple):
    """The group of keypoints that lowers the mean OKS most.

    Attributes:
        name (str): Which keypoints, of which instances.
        similarity (float): Their mean keypoint similarity (KS).
        count (int): How many there are.
        cost (float): How much the mean OKS would rise if their similarity
            were the mean OKS.
        mean (float): The mean OKS.
    """
    name: str
    similarity: float
    count: int
    cost: float
    mean: float


class GroupTally:
    """Compare the accuracy of groups of instances and keypoints.

    Args:
        parts (Sequence[DataSetAccuracy]): The data sets of a validation, at
            least one. Their instances are added.
    """

    def __init__(self, parts: Sequence[DataSetAccuracy]) -> None:
        # Left and right are one.
        self._names = list(
            dict.fromkeys(name for part in parts for name in _names_of(part)))
        places = {name: i for i, name in enumerate(self._names)}
        cases = [_cases(part, places) for part in parts]
        self._cases = _Cases(*(np.concatenate(values, axis=-1)
                               for values in zip(*cases)))

    def means(self, *by: Grouping) -> GroupMeans:
        """Return the accuracy by one or several of :data:`GROUPINGS`.

        Returns:
            GroupMeans: An axis for each grouping: its groups, and all of them
            together.
        """
        rows = [GROUPINGS.index(grouping) for grouping in by]
        shape = [len(grouping.groups) for grouping in by]
        cases = self._cases
        of_keypoints = cases.keypoint_groups[rows]
        if VISIBILITY in by:
            of_compared, compared = of_keypoints, cases.similarity
        else:
            of_compared, compared = cases.groups[rows], cases.oks
        return GroupMeans(
            _means(of_compared, shape, compared),
            _means(of_keypoints, shape, cases.distances),
            _sums(of_compared, shape).astype(int))

    def weakest(self) -> Optional[WeakestGroup]:
        """Return the group of keypoints that lowers the mean OKS most.

        The groups are all combinations of a keypoint (left and right
        together), a visibility, a size and a crowding, or of some of them.
        The cost is the weighted relative accuracy of N. Lavrac et al., "Rule
        Evaluation Measures: A Unifying View", ILP 1999.

        Returns:
            WeakestGroup | None: None if no group stands out, or without a
            similarity.
        """
        known = np.isfinite(self._cases.similarity)
        if not known.any():
            return None
        oks = self._cases.oks[np.isfinite(self._cases.oks)]
        _, _, groups, names, similarity, _, weights = self._cases
        by = (VISIBILITY, SIZE, CROWDING)
        rows = [GROUPINGS.index(grouping) for grouping in by]
        groups = np.vstack([names, groups[rows]])[:, known]
        similarity, weights = similarity[known], weights[known]
        shape = [len(self._names), *(len(grouping.groups) for grouping in by)]
        counts = _sums(groups, shape)
        costs = _sums(groups, shape, weights *
                      (oks.mean() - similarity)) / len(oks)
        costs[counts < _MIN_CASES] = 0
        if costs.max() < _MIN_COST:
            return None
        # The fewest conditions, then the highest cost.
        best = min(
            zip(*np.nonzero(costs >= _NEARLY * costs.max())),
            key=lambda place: (np.less(place, shape).sum(), -costs[place]))
        total = _sums(groups, shape, similarity)[best]
        return WeakestGroup(
            self._phrase(*best), float(total / counts[best]),
            int(counts[best]), float(costs[best]), float(oks.mean()))

    def _phrase(self, keypoint: int, *of: int) -> str:
        """Return what a sentence calls a group."""
        visibility, size, crowding = ((*by.words, '')[group]
                                      for by, group in zip((VISIBILITY, SIZE,
                                                            CROWDING), of))
        name = (*self._names, '')[keypoint]
        words = [visibility, name, 'keypoints']
        if size or crowding:
            words += ['of', size, 'instances', crowding]
        return ' '.join(filter(None, words))


class _Cases(NamedTuple):
    """N instances and their M annotated keypoints.

    ``groups`` and ``keypoint_groups`` have a row for each of
    :data:`GROUPINGS`, of the instances without the visibility; -1 where
    unknown. ``weights`` are those of the keypoints in the OKS of their
    instance. What was not measured is NaN.
    """
    groups: np.ndarray
    oks: np.ndarray
    keypoint_groups: np.ndarray
    names: np.ndarray
    similarity: np.ndarray
    distances: np.ndarray
    weights: np.ndarray


def _cases(part: DataSetAccuracy, places: Dict[str, int]) -> _Cases:
    batch = part.instances.batch()
    errors = keypoint_errors(batch, part.sigmas)
    groups = np.stack([group(batch) for group in _OF_INSTANCES.values()])
    row, column = np.nonzero(batch.visible)
    visibility = batch.occluded[row, column].astype(int)
    if not batch.occluded.any():  # The data set does not tell.
        visibility[:] = -1
    names = np.array([places[name] for name in _names_of(part)])
    compared, located = errors.compared, errors.located
    weights = 1 / np.maximum(compared.sum(1), 1)
    annotated = batch.visible.any(1)
    return _Cases(groups[:, annotated],
                  errors.oks()[annotated],
                  np.vstack([groups[:, row], visibility]), names[column],
                  np.where(compared, errors.similarity, np.nan)[row, column],
                  np.where(located, errors.distances, np.nan)[row, column],
                  weights[row])


def _means(groups: np.ndarray, shape: List[int],
           values: np.ndarray) -> np.ndarray:
    """Return the means of the groups' finite values, see :func:`_sums`."""
    known = np.isfinite(values)
    counts = _sums(groups[:, known], shape)
    totals = _sums(groups[:, known], shape, values[known])
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)


def _sums(groups: np.ndarray,
          shape: List[int],
          values: Optional[np.ndarray] = None) -> np.ndarray:
    """Sum up the values of groups, and of all together.

    Args:
        groups (np.ndarray): Of each value, the group by each of G properties,
            -1 where unknown, shape (G, M).
        shape (list[int]): The numbers of groups of each property.
        values (np.ndarray, optional): Shape (M, ). Defaults to None: 1 each.

    Returns:
        np.ndarray: Each axis has the groups of a property; at its end, the
        sum of all groups and of the unknown.
    """
    sizes = [number + 1 for number in shape]
    place = np.ravel_multi_index(groups % np.array(sizes)[:, None], sizes)
    sums = np.bincount(place, values, int(np.prod(sizes))).reshape(sizes)
    for axis in range(len(sizes)):
        np.moveaxis(sums, axis, 0)[-1] = sums.sum(axis)
    return sums


def _names_of(part: DataSetAccuracy) -> List[str]:
    """Return what a sentence calls each keypoint, or its body part."""
    names = list(part.names)
    for group, indices in curve_groups(part.names, part.meta).items():
        for i in indices:
            names[i] = without_side(group)
    return names
