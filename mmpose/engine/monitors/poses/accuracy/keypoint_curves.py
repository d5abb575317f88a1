# Copyright (c) OpenMMLab. All rights reserved.
from typing import Callable, Dict, Iterator, List, Optional, Sequence

import numpy as np

from ...core.runner_parts import keypoint_names
from ...writers.record import Scalar, Value
from .data_set_accuracy import DataSetAccuracy, accuracy, together
from .evaluator_measures import Sums, mean_over
from .keypoint_parts import keypoint_parts
from .keypoint_tally import KeypointTally

# With more keypoints the scalars are by body part.
_MAX_SCALARS = 30


def keypoint_curves(parts: List[DataSetAccuracy], evaluated: Sums,
                    measures: Sequence[str],
                    meta_of: Callable[[Optional[str], int],
                                      dict]) -> Iterator[Value]:
    """Yield the scalars of a validation.

    Args:
        parts (list[DataSetAccuracy]): Of each data set, at least one.
        evaluated (dict[tuple, np.ndarray]): What to write of the evaluator's
            measures, see :class:`EvaluatorMeasures`.
        measures (Sequence[str]): Which of ours to write.
        meta_of (Callable): Returns the metainfo of a data set's keypoints,
            see :meth:`PoseSampleReader.meta`.

    Yields:
        Value: A scalar by keypoint or body part and measure, the mean object
        keypoint similarity, and the measurement of all together.
    """
    yield from _scalars('', parts[0].meta, *together(parts), measures)
    for part in parts if len(parts) > 1 else ():
        yield from _scalars(f'{part.name}/', part.meta, part.names, part.tally,
                            measures)
    yield from measured_curves(evaluated, meta_of, len(parts) > 1)


def measured_curves(sums_of: Sums, meta_of: Callable[[Optional[str], int],
                                                     dict],
                    several: bool) -> Iterator[Scalar]:
    """Yield the scalars of sums by keypoint.

    Args:
        sums_of (dict[tuple, np.ndarray]): See :class:`EvaluatorMeasures`.
        meta_of (Callable): See :func:`keypoint_curves`.
        several (bool): Whether there are several data sets to be named.

    Yields:
        Scalar: By data set, measure and keypoint or body part.
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
             chosen: Sequence[str]) -> Iterator[Value]:
    """The scalars of a data set, or of all together."""
    measures = tally.measures()
    for measure in [m for m in measures if m in chosen]:
        values = measures[measure]
        for group, indices in curve_groups(names, meta).items():
            known = values[indices][np.isfinite(values[indices])]
            if len(known):
                yield Scalar(f'keypoints/{prefix}{measure}/{group}',
                             known.mean())
    if not prefix:  # Of all together.
        yield from accuracy(tally)
    oks = tally.mean_oks()
    if np.isfinite(oks):
        yield Scalar(f'instances/OKS/{prefix}'.rstrip('/'), oks)


def curve_groups(names: List[str], meta: dict) -> Dict[str, List[int]]:
    """Return the indices of what has a curve: a keypoint, or a body part."""
    if len(names) > _MAX_SCALARS:
        return keypoint_parts(names, meta.get('dataset_name'))
    return {name: [i] for i, name in enumerate(names)}
