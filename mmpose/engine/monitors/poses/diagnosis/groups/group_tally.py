# Copyright (c) OpenMMLab. All rights reserved.
from typing import List, NamedTuple, Optional, Sequence

import numpy as np

from ....core.runner_parts import without_side
from ...accuracy.data_set_accuracy import DataSetAccuracy
from ...accuracy.instances import InstanceBatch
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
# What is summed up. The weight of a keypoint is that in the OKS of its
# instance.
_OF_INSTANCE = ('number', 'compared', 'OKS')
_OF_KEYPOINT = ('number', 'compared', 'similarity', 'weight',
                'weighted similarity', 'located', 'distance')
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
        # The last of each is that of the unknown.
        shape = [len(by.groups) + 1 for by in GROUPINGS]
        self._instances = np.zeros((len(_OF_INSTANCE), *shape[:-1]))
        self._keypoints = np.zeros(
            (len(_OF_KEYPOINT), len(self._names), *shape))
        for part in parts:
            names = np.array([places[name] for name in _names_of(part)])
            # Without any, the data set does not tell.
            tells = any(block.occluded.any()
                        for _, block in part.instances.blocks())
            for _, block in part.instances.blocks():
                self._add(block, part.sigmas, names, tells)

    def _add(self, batch: InstanceBatch, sigmas: Optional[np.ndarray],
             names: np.ndarray, tells_occluded: bool) -> None:
        errors = keypoint_errors(batch, sigmas)
        groups = np.stack([group(batch) for group in _OF_INSTANCES.values()])
        annotated = batch.visible.any(1)
        oks = errors.oks()
        has_oks = np.isfinite(oks)
        _add_up(
            self._instances, groups[:, annotated],
            [None, has_oks[annotated],
             np.where(has_oks, oks, 0)[annotated]])
        row, column = np.nonzero(batch.visible)
        visibility = np.full(len(row), -1)
        if tells_occluded:
            visibility = batch.occluded[row, column].astype(int)
        weights = errors.compared / np.maximum(
            errors.compared.sum(1, keepdims=True), 1)
        values = (errors.compared, errors.similarity, weights,
                  weights * errors.similarity, errors.located,
                  errors.distances)
        _add_up(self._keypoints,
                np.vstack([names[column], groups[:, row], visibility]),
                [None, *(value[row, column] for value in values)])

    def means(self, *by: Grouping) -> GroupMeans:
        """Return the accuracy by one or several of :data:`GROUPINGS`.

        Returns:
            GroupMeans: An axis for each grouping: its groups, and all of them
            together.
        """
        axes = [GROUPINGS.index(grouping) for grouping in by]
        counts, compared, similarity, _, _, located, distances = (
            _with_totals(sums, axes) for sums in self._keypoints.sum(1))
        if VISIBILITY not in by:
            counts, compared, similarity = (
                _with_totals(sums, axes) for sums in self._instances)
        return GroupMeans(
            _mean(similarity, compared), _mean(distances, located),
            counts.astype(int))

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
        _, instances, oks = self._instances.reshape(len(_OF_INSTANCE),
                                                    -1).sum(1)
        if not instances:
            return None
        mean = oks / instances
        # The first axis is that of the names, which are all known.
        axes = [
            0,
            *(1 + GROUPINGS.index(by) for by in (VISIBILITY, SIZE, CROWDING))
        ]
        none = np.zeros_like(self._keypoints[0, :1])
        _, counts, similarity, weights, weighted, *_ = (
            _with_totals(np.concatenate([sums, none]), axes)
            for sums in self._keypoints)
        costs = (mean * weights - weighted) / instances
        costs[counts < _MIN_CASES] = 0
        if costs.max() < _MIN_COST:
            return None
        # The fewest conditions, then the highest cost.
        most = np.array(costs.shape) - 1
        best = min(
            zip(*np.nonzero(costs >= _NEARLY * costs.max())),
            key=lambda place: (np.less(place, most).sum(), -costs[place]))
        return WeakestGroup(
            self._phrase(*best), float(similarity[best] / counts[best]),
            int(counts[best]), float(costs[best]), float(mean))

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


def _add_up(table: np.ndarray, groups: np.ndarray,
            values: Sequence[Optional[np.ndarray]]) -> None:
    """Add values to the sums of their groups.

    Args:
        table (np.ndarray): A table of sums for each kind of value; the last
            place of an axis is that of the unknown, shape (V, ...).
        groups (np.ndarray): Of each value, its place on each of the G axes of
            a table, -1 where unknown, shape (G, M).
        values (Sequence[np.ndarray | None]): V arrays of shape (M, ); None: 1
            each.
    """
    shape = table.shape[1:]
    place = np.ravel_multi_index(groups % np.array(shape)[:, None], shape)
    for sums, of_kind in zip(table, values):
        sums += np.bincount(place, of_kind, sums.size).reshape(shape)


def _with_totals(sums: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """Return the sums by some axes, in their order; the last place of each
    becomes the sum of all groups and of the unknown."""
    others = tuple(set(range(sums.ndim)) - set(axes))
    sums = sums.sum(others).transpose(np.argsort(np.argsort(axes)))
    for axis in range(sums.ndim):
        np.moveaxis(sums, axis, 0)[-1] = sums.sum(axis)
    return sums


def _mean(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _names_of(part: DataSetAccuracy) -> List[str]:
    """Return what a sentence calls each keypoint, or its body part."""
    names = list(part.names)
    for group, indices in curve_groups(part.names, part.meta).items():
        for i in indices:
            names[i] = without_side(group)
    return names
