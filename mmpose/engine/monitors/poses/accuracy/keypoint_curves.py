# Copyright (c) OpenMMLab. All rights reserved.
from typing import Callable, Dict, Iterator, List, Optional

import numpy as np

from ...core.runner_parts import keypoint_names
from ...writers.record import Scalar, Value
from .data_set_accuracy import DataSetAccuracy, accuracy, together
from .evaluator_measures import Sums, mean_over
from .keypoint_parts import keypoint_parts
from .keypoint_tally import KeypointTally

# With more keypoints, each scalar is the mean of a body part.
_MAX_SCALARS = 30


def keypoint_curves(parts: List[DataSetAccuracy], evaluated: Sums,
                    details: bool, meta_of: Callable[[Optional[str], int],
                                                     dict]) -> Iterator[Value]:
    """Yield the scalars of a validation.

    Args:
        parts (list[DataSetAccuracy]): One for each data set, at least one.
        evaluated (dict[tuple, np.ndarray]): The evaluator's measures to write,
            see :class:`EvaluatorMeasures`.
        details (bool): Whether to write all of our own measures. Else they
            are the keypoint similarity and, where there is none, PCK@0.05.
        meta_of (Callable): Returns the metainfo of a data set's keypoints,
            see :meth:`PoseSampleReader.meta`.

    Yields:
        Value: A scalar for each measure and each keypoint or body part, the
        mean object keypoint similarity, and the accuracy for detectors.
    """
    yield from _scalars('', parts[0].meta, *together(parts), details)
    for part in parts if len(parts) > 1 else ():
        yield from _scalars(f'{part.name}/', part.meta, part.names, part.tally,
                            details)
    yield from measured_curves(evaluated, meta_of, len(parts) > 1)


def measured_curves(sums_of: Sums, meta_of: Callable[[Optional[str], int],
                                                     dict],
                    several: bool) -> Iterator[Scalar]:
    """Yield the scalars of sums that are kept by keypoint.

    Args:
        sums_of (dict[tuple, np.ndarray]): See :class:`EvaluatorMeasures`.
        meta_of (Callable): See :func:`keypoint_curves`.
        several (bool): Whether the tags name the data sets.

    Yields:
        Scalar: One for each data set, measure and keypoint or body part.
    """
    for (name, measure), sums in sums_of.items():
        prefix = f'{name}/' if name and several else ''
        meta = meta_of(name, sums.shape[1])
        names = keypoint_names(meta, sums.shape[1])
        for group, indices in curve_groups(names, meta).items():
            value = mean_over(measure, sums[:, indices])
            if np.isfinite(value):
                yield Scalar(f'keypoints/{prefix}{measure}/{group}', value)


def _scalars(prefix: str, meta: dict, names: List[str], tally: KeypointTally,
             details: bool) -> Iterator[Value]:
    """Yield the scalars of one data set, or of all together."""
    for group, indices in curve_groups(names, meta).items():
        means = {}
        for measure, values in tally.measures().items():
            known = values[indices][np.isfinite(values[indices])]
            if len(known):
                means[measure] = known.mean()
        shown = ('OKS', ) if 'OKS' in means else ('PCK@0.05', )
        for measure in means if details else means.keys() & shown:
            yield Scalar(f'keypoints/{prefix}{measure}/{group}',
                         means[measure])
    if not prefix:  # Of all together.
        yield from accuracy(tally)
    oks = tally.mean_oks()
    if np.isfinite(oks):
        yield Scalar(f'instances/OKS/{prefix}'.rstrip('/'), oks)


def curve_groups(names: List[str], meta: dict) -> Dict[str, List[int]]:
    """Return the indices of each keypoint or body part that has a curve."""
    if len(names) > _MAX_SCALARS:
        return keypoint_parts(names, meta.get('dataset_name'))
    return {name: [i] for i, name in enumerate(names)}
