# Copyright (c) OpenMMLab. All rights reserved.
"""The measures of MMPose's metrics, by keypoint."""
from functools import partial
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

# For each data set (None for all together) and measure: the sum of each
# keypoint's values and their number, shape (2, K).
Sums = Dict[Tuple[Optional[str], str], np.ndarray]
# The arrays that a metric has collected of N instances, each of length N.
_Arrays = Dict[str, np.ndarray]
# The values of N instances and which of them count, both of shape (N, K).
_Values = Tuple[np.ndarray, np.ndarray]
# Computes the size of each instance, shape (N, ).
_Size = Callable[[_Arrays], np.ndarray]
_Measure = Callable[[_Arrays], _Values]


class EvaluatorMeasures:
    """Sum up, by keypoint, what the metrics of an evaluator collect.

    The metric thus decides which keypoints count and by what lengths are
    normalized. A metric that has collected something else is skipped. A
    keypoint in several parts of a :obj:`KeypointPartitionMetric` counts once.
    If two metrics have the same measure, the name of the second one begins
    with its prefix.

    ======================= =================================================
    ``PCK@<thr>``           :obj:`PCKAccuracy`, :obj:`JhmdbPCKAccuracy`
    ``PCKh@<thr>``          The same by the size of the head;
                            :obj:`MpiiPCKAccuracy`, in percent
    ``tPCK@<thr>``          The same by the size of the torso
    ``NME``, ``EPE``,       The metrics of that name
    ``AUC``
    ``MPJPE``,              :obj:`MPJPE`, :obj:`SimpleMPJPE`;
    ``P-MPJPE``,            :obj:`InterHandMetric`
    ``N-MPJPE``
    ======================= =================================================

    Args:
        evaluator (Evaluator, optional): The evaluator of the validation.

    Attributes:
        sums (dict[tuple, np.ndarray]): See :data:`Sums`.
    """

    def __init__(self, evaluator) -> None:
        self.sums: Sums = {}
        by_name = getattr(evaluator, 'metrics_dict', {})
        metrics = by_name.items() or [
            (None, metric) for metric in getattr(evaluator, 'metrics', ())
        ]
        self._readers: List[_Reader] = []
        for name, metric in metrics:
            taken = {
                measure
                for reader in self._readers if reader.dataset_name == name
                for measure in reader.measures
            }
            # Evaluators distinguish metrics by their prefixes.
            prefix = getattr(metric, 'prefix', None) or type(metric).__name__
            measures = {
                f'{prefix}/{measure}' if measure in taken else measure: compute
                for measure, compute in _measures(metric)
            }
            self._readers += _readers(name, metric, measures)
        # The data set of a sample without a name, as in
        # MultiDatasetEvaluator.
        self._default = by_name and (evaluator.dataset_meta
                                     or {}).get('dataset_name')

    @property
    def names(self) -> List[str]:
        """list[str]: The names of the measures."""
        return list(
            dict.fromkeys(n for r in self._readers for n in r.measures))

    def read(self, outputs: Sequence, own: int) -> None:
        """Add a batch that the metrics have processed.

        Args:
            outputs (Sequence[PoseDataSample]): What the model returned.
            own (int): The number of them that are not repeated, from the first
                on.
        """
        names: List[Optional[str]] = [None] * len(outputs)
        if self._default and self._readers:
            names = [s.get('dataset_name', self._default) for s in outputs]
        for reader in self._readers:
            chosen = [name == reader.dataset_name for name in names]
            found = reader.read(sum(chosen), sum(chosen[:own]))
            add_sums(self.sums, {(reader.dataset_name, measure): sums
                                 for measure, sums in found})


def add_sums(total: Sums, other: Sums) -> None:
    """Add the sums of another rank.

    Args:
        total (dict[tuple, np.ndarray]): The sums to change.
        other (dict[tuple, np.ndarray]): The sums to add.
    """
    for key, sums in other.items():
        total[key] = total[key] + sums if key in total else sums


def mean_over(measure: str, sums: np.ndarray) -> float:
    """Return the mean over keypoints as the metric computes it.

    Args:
        measure (str): The name of the measure.
        sums (np.ndarray): The sums of the keypoints, shape (2, K).

    Returns:
        float: The mean over keypoints for a rate, over all points for an
        error; NaN where nothing was measured.
    """
    total, count = sums[:, sums[1] > 0]
    if not len(count):
        return np.nan
    measure = measure.rpartition('/')[2]
    if measure == 'AUC' or 'PCK' in measure:
        return (total / count).mean()
    return total.sum() / count.sum()


class _Reader:
    """Read what a metric has collected.

    Args:
        dataset_name (str, optional): The name of the data set.
        metric (BaseMetric): The metric.
        measures (dict[str, Callable]): Its measures by name.
        columns (Sequence[int], optional): The index of each keypoint of the
            metric in the data set, -1 if it does not count. Defaults to None:
            the same keypoints.
        num_keypoints (int): The number of keypoints of the data set. Defaults
            to 0.
    """

    def __init__(self,
                 dataset_name: Optional[str],
                 metric,
                 measures: Dict[str, _Measure],
                 columns: Optional[Sequence[int]] = None,
                 num_keypoints: int = 0) -> None:
        self.dataset_name = dataset_name
        self.measures = measures
        self._metric = metric
        self._columns = columns
        self._num_keypoints = num_keypoints
        self._seen: Optional[int] = None

    def read(self, count: int, own: int) -> Iterator[Tuple[str, np.ndarray]]:
        """Yield the sums of the last batch by measure.

        Args:
            count (int): The number of samples.
            own (int): The number of them that count, from the first on.
        """
        results = self._metric.results
        if self._seen is None:
            # Results of an interrupted validation may be left.
            self._seen = max(len(results) - count, 0)
        new, self._seen = results[self._seen:][:own], len(results)
        if not new:
            return
        arrays = {
            name: np.concatenate([result[name] for result in new])
            for name, value in new[0].items() if isinstance(value, np.ndarray)
        }
        for name, measure in self.measures.items():
            try:
                values, counted = measure(arrays)
            except KeyError:  # A metric of the user's own.
                continue
            counted = counted & np.isfinite(values)
            sums = np.stack([
                np.where(counted, values, 0).sum(0, dtype=float),
                counted.sum(0)
            ])
            if self._columns is not None:
                parts, columns = sums, np.array(self._columns)
                sums = np.zeros((2, self._num_keypoints))
                sums[:, columns[columns >= 0]] = parts[:, columns >= 0]
            yield name, sums


def _readers(dataset_name: Optional[str], metric,
             measures: Dict[str, _Measure]) -> Iterator[_Reader]:
    if not measures:
        return
    if not _is_partitioned(metric):
        yield _Reader(dataset_name, metric, measures)
        return
    meta = metric.dataset_meta or {}  # None for a data set without any.
    size = 1 + max(map(max, metric.partitions.values()))
    seen: set = set()
    for part, keypoints in metric.partitions.items():
        columns = [-1 if k in seen else k for k in keypoints]
        seen.update(keypoints)
        yield _Reader(dataset_name, metric.metrics[part], measures, columns,
                      meta.get('num_keypoints', size))


def _is_partitioned(metric) -> bool:
    return hasattr(metric, 'partitions')


def _measures(metric) -> Iterator[Tuple[str, _Measure]]:
    if _is_partitioned(metric):  # All parts have the same kind of metric.
        metric = next(iter(metric.metrics.values()))
    # By name: not every version of MMPose has all of them.
    kinds = {base.__name__ for base in type(metric).__mro__}
    if 'PCKAccuracy' in kinds:
        is_mpii = 'MpiiPCKAccuracy' in kinds
        for item, name in dict(bbox='PCK', head='PCKh', torso='tPCK').items():
            # MPII's has only this one, in percent, and its ground truth counts
            # pixels from 1.
            if item in metric.norm_item and (item == 'head' or not is_mpii):
                yield f'{name}@{metric.thr:g}', partial(
                    _rate,
                    size=partial(_column, name=f'{item}_size'),
                    thresholds=[metric.thr],
                    offset=1. if is_mpii else 0.,
                    full=100 if is_mpii else 1)
    elif 'AUC' in kinds:
        yield 'AUC', partial(
            _rate,
            size=partial(_constant, size=metric.norm_factor),
            thresholds=np.arange(metric.num_thrs) / metric.num_thrs)
    elif 'EPE' in kinds or 'InterHandMetric' in kinds:
        yield 'EPE' if 'EPE' in kinds else 'MPJPE', _errors
    elif 'NME' in kinds:
        yield 'NME', partial(_errors, size=_norm(metric))
    elif kinds & {'MPJPE', 'SimpleMPJPE'}:
        yield metric.mode.upper(), partial(_aligned_errors, mode=metric.mode)


def _norm(metric) -> _Size:
    """Return how an :obj:`NME` computes its divisors."""
    if metric.norm_mode == 'use_norm_item':
        return partial(_column, name=metric.norm_item)
    keypoints = metric.keypoint_indices
    if keypoints is None:
        keypoints = metric.DEFAULT_KEYPOINT_INDICES.get(
            (metric.dataset_meta or {}).get('dataset_name'))
    return partial(_distance_between, keypoints=keypoints)


def _column(arrays: _Arrays, name: str) -> np.ndarray:
    return arrays[name][:, 0]


def _constant(arrays: _Arrays, size: float) -> np.ndarray:
    return np.full(len(arrays['mask']), float(size))


def _distance_between(arrays: _Arrays, keypoints: Sequence[int]) -> np.ndarray:
    first, second = (arrays['gt_coords'][:, k] for k in keypoints)
    return np.linalg.norm(first - second, axis=-1)


def _errors(arrays: _Arrays,
            size: Optional[_Size] = None,
            offset: float = 0) -> _Values:
    """Compute distances, normalized as in MMPose, and which of them count."""
    offsets = arrays['pred_coords'] + offset - arrays['gt_coords']
    counted = arrays['mask'].astype(bool)
    if size is not None:
        sizes = size(arrays)
        counted = counted & (sizes != 0)[:, None]
        offsets = offsets / np.where(sizes > 0, sizes, 1e6)[:, None, None]
    # MMPose compares them with thresholds in single precision.
    return np.linalg.norm(offsets, axis=-1).astype(np.float32), counted


def _rate(arrays: _Arrays,
          size: _Size,
          thresholds: Sequence[float],
          offset: float = 0,
          full: float = 1) -> _Values:
    """Compute the fraction of thresholds that each distance is below."""
    distances, counted = _errors(arrays, size, offset)
    hits = distances[..., None] < np.float32(thresholds)
    return full * hits.mean(-1), counted


def _aligned_errors(arrays: _Arrays, mode: str) -> _Values:
    """Compute distances of 3D poses, each aligned with its ground truth."""
    predicted, truth = arrays['pred_coords'], arrays['gt_coords']
    if mode == 'n-mpjpe':
        predicted = predicted * _scale_between(predicted, truth)
    elif mode == 'p-mpjpe':
        predicted = _superimposed(predicted, truth)
    return np.linalg.norm(
        predicted - truth, axis=-1), arrays['mask'].astype(bool)


def _scale_between(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the scale factors of least squares, shape (N, 1, 1)."""
    with np.errstate(invalid='ignore', divide='ignore'):
        return ((predicted * truth).sum(
            (1, 2), keepdims=True) / (predicted**2).sum((1, 2), keepdims=True))


def _superimposed(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Translate, rotate and scale poses to fit best, shape (N, K, 3).

    Kabsch and Umeyama: https://en.wikipedia.org/wiki/Kabsch_algorithm.
    """
    middle = truth.mean(1, keepdims=True)
    poses = predicted - predicted.mean(1, keepdims=True)
    targets = truth - middle
    correlation = np.einsum('nki,nkj->nij', poses, targets)
    known = np.isfinite(correlation).all((1, 2), keepdims=True)
    left, strengths, right = np.linalg.svd(np.where(known, correlation, 0))
    # A rotation, not a reflection.
    sign = np.sign(np.linalg.det(left @ right))
    right[:, -1] *= sign[:, None]
    strengths[:, -1] *= sign
    with np.errstate(invalid='ignore', divide='ignore'):
        scale = strengths.sum(1) / (poses**2).sum((1, 2))
    return scale[:, None, None] * (poses @ (left @ right)) + middle
