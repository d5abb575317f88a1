# Copyright (c) OpenMMLab. All rights reserved.
from collections import Counter
from typing import Dict, Iterator, Optional, Tuple

from .data_set_accuracy import DataSetAccuracy
from .detections import Detections
from .evaluator_measures import Sums, add_sums
from .hard_samples import HardSamples


class ValidationShard:
    """The part of a validation that a rank has seen.

    Args:
        hard_samples (int): The number of instances to show.

    Attributes:
        parts (dict[tuple, DataSetAccuracy]): The accuracy by data set and
            number of keypoints.
        detections (dict[str, Detections]): The predictions in a detector's
            boxes, by data set.
        skipped (Counter): The number of samples that could not be compared, by
            data set and numbers of annotated and predicted keypoints.
        evaluated (dict[tuple, np.ndarray]): See :class:`EvaluatorMeasures`.
        hardest (HardSamples): The worst instances.
    """

    def __init__(self, hard_samples: int) -> None:
        self.parts: Dict[tuple, DataSetAccuracy] = {}
        self.detections: Dict[Optional[str], Detections] = {}
        self.skipped: Counter = Counter()
        self.evaluated: Sums = {}
        self.hardest = HardSamples(hard_samples)

    def skip_reasons(self) -> Iterator[Tuple[Optional[str], str]]:
        """Yield the data sets that could not be compared, and why."""
        for (name, annotated,
             predicted), count in sorted(self.skipped.items()):
            reason = (f'{annotated} keypoints are annotated, {predicted} '
                      'predicted, and val_evaluator has no converter')
            if annotated is None:
                reason = ("a detector's boxes have no annotations, and "
                          'val_evaluator has no CocoMetric that loads them')
            of = f' of {name!r}' if name else ''
            yield name, (f'skips {count:,} samples{of} in keypoints/*, '
                         f'errors/* and val/hard_samples: {reason}.')

    def merge(self, other: 'ValidationShard') -> 'ValidationShard':
        """Add the part of another rank, and return the sum."""
        _merge(self.parts, other.parts)
        _merge(self.detections, other.detections)
        self.skipped.update(other.skipped)
        add_sums(self.evaluated, other.evaluated)
        self.hardest.merge(other.hardest)
        return self


def _merge(parts: dict, others: dict) -> None:
    for key, part in others.items():
        if key in parts:
            parts[key].merge(part)
        else:
            parts[key] = part
