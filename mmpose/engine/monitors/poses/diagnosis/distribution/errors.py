# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, Iterator, List, Sequence

import numpy as np

from ....writers.record import Histogram, Image, Scalar
from ...accuracy.data_set_accuracy import DataSetAccuracy
from ...accuracy.keypoint_curves import curve_groups
from ..confidence import chunks
from ..keypoint_errors import keypoint_errors
from .pck_figure import draw_pck_curves

# The largest threshold of the PCK curve.
LARGEST = 0.2
# How many of the best and of the worst keypoints are in the figure.
_SHOWN = 3
_PERCENTILES = (10, 50, 90)
# The buckets of the histograms; the last one has what is further away, too.
_EDGES = np.linspace(0, 0.5, 51)


class ErrorDistribution:
    """Describe how the errors of keypoints are distributed.

    An error is the distance over the longer side of the box. A keypoint
    without a prediction has none; in the PCK it is a miss.

    Args:
        parts (Sequence[DataSetAccuracy]): The data sets of a validation, at
            least one. Keypoints with the same name are added.
    """

    def __init__(self, parts: Sequence[DataSetAccuracy]) -> None:
        names = list(dict.fromkeys(n for part in parts for n in part.names))
        errors: Dict[str, List[np.ndarray]] = {name: [] for name in names}
        for part in parts:
            for _, block in part.instances.blocks():
                found = keypoint_errors(block)
                distances = np.where(found.located, found.distances,
                                     np.inf).astype(np.float32)
                for k, name in enumerate(part.names):
                    errors[name].append(distances[found.counted[:, k], k])
        # Sorted, infinite where there is no prediction; float32.
        self._errors = {}
        for group, indices in curve_groups(names, parts[0].meta).items():
            of_group = [e for i in indices for e in errors.pop(names[i])]
            values = np.concatenate(of_group)
            if len(values):
                values.sort()
                self._errors[group] = values

    def scalars(self, details: bool) -> Iterator[Scalar]:
        """Yield the percentiles of all keypoints.

        Args:
            details (bool): Whether to yield those of each keypoint and the
                areas under the PCK, too.
        """
        if not self._errors:
            return
        groups = {'': self._all()}
        if details:
            groups.update({f'/{k}': v for k, v in self._errors.items()})
        for group, errors in groups.items():
            located = _located(errors)
            for percent in _PERCENTILES if len(located) else ():
                yield Scalar(f'keypoints/error_p{percent}{group}',
                             _percentile(located, percent))
            if details:
                yield Scalar(f'keypoints/PCK_AUC{group}', pck_auc(errors))

    def histograms(self) -> Iterator[Histogram]:
        """Yield the histograms of the errors of each keypoint."""
        for group, errors in self._errors.items():
            located = _located(errors).astype(float).clip(max=_EDGES[-1])
            if len(located):
                counts, _ = np.histogram(located, _EDGES)
                yield Histogram(f'keypoints/error/{group}', _EDGES, counts,
                                located.min(), located.max(), located.sum(),
                                np.square(located).sum())

    def figure(self, when: str) -> Iterator[Image]:
        """Draw the PCK over the thresholds.

        Args:
            when (str): The epoch or iteration, for the title.
        """
        if not self._errors:
            return
        together = self._all()
        areas = {name: pck_auc(e) for name, e in self._errors.items()}
        best_first = sorted(areas, key=areas.get, reverse=True)
        # The same one twice where there are few.
        shown = dict.fromkeys(best_first[:_SHOWN] + best_first[-_SHOWN:])
        errors = {'all': together, **{n: self._errors[n] for n in shown}}
        thresholds = np.linspace(0, LARGEST, 101)
        yield Image('keypoints/PCK_curve', [
            draw_pck_curves(thresholds, {
                name: pck(e, thresholds)
                for name, e in errors.items()
            }, dict(areas, all=pck_auc(together)), f'PCK by threshold, {when}')
        ])

    def _all(self) -> np.ndarray:
        errors = np.concatenate(list(self._errors.values()))
        errors.sort()
        return errors


def pck(errors: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return the percentage of correct keypoints, from 0 to 1.

    Args:
        errors (np.ndarray): The errors, ascending, infinite for a miss, shape
            (N, ).
        thresholds (np.ndarray): An error below is correct, shape (T, ).

    Returns:
        np.ndarray: Shape (T, ).
    """
    return np.searchsorted(errors, thresholds) / len(errors)


def pck_auc(errors: np.ndarray) -> float:
    """Return the area under the PCK over the thresholds from 0 to 0.2.

    Args:
        errors (np.ndarray): The errors, infinite for a miss, shape (N, ).

    Returns:
        float: From 0 to 1.
    """
    total = sum((1 - some.clip(max=LARGEST).astype(float) / LARGEST).sum()
                for some in chunks(errors))
    return float(total / len(errors))


def _located(errors: np.ndarray) -> np.ndarray:
    """Return the finite errors of a sorted array."""
    return errors[:np.searchsorted(errors, np.inf)]


def _percentile(values: np.ndarray, percent: float) -> float:
    """Return what :func:`numpy.percentile` does, of a sorted array without a
    copy."""
    place = (len(values) - 1) * percent / 100
    nearest = values[int(place):int(place) + 2].astype(float)
    return float(np.interp(place % 1, range(len(nearest)), nearest))
