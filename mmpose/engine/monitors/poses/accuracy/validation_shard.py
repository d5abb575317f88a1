# Copyright (c) OpenMMLab. All rights reserved.
from collections import Counter
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from ..pose_samples import PoseSample, taken
from .data_set_accuracy import DataSetAccuracy
from .detections import Detections
from .error_kinds import ErrorKinds, mirrored_keypoints
from .evaluator_measures import Sums, add_sums
from .hard_samples import HardSample, HardSamples, image_key


class ValidationShard:
    """What a rank has seen of a validation.

    Args:
        hard_samples (int): How many instances are shown.
        error_kinds (bool): Whether to tell the kinds of error.

    Attributes:
        parts (dict[tuple, DataSetAccuracy]): By data set and number of
            keypoints.
        errors (dict[tuple, ErrorKinds]): The kinds of error of those that
            have sigmas.
        detections (dict[str, Detections]): By data set, what a detector's
            boxes are of.
        skipped (Counter): How many samples of which data set were not
            compared, by the numbers of annotated and predicted keypoints.
        evaluated (dict[tuple, np.ndarray]): What the metrics of the evaluator
            measure.
        hardest (HardSamples): Which instances were predicted worst.
    """

    def __init__(self, hard_samples: int, error_kinds: bool) -> None:
        self._error_kinds = error_kinds
        self.parts: Dict[tuple, DataSetAccuracy] = {}
        self.errors: Dict[tuple, ErrorKinds] = {}
        self.detections: Dict[Optional[str], Detections] = {}
        self.skipped: Counter = Counter()
        self.evaluated: Sums = {}
        self.hardest = HardSamples(hard_samples)

    def add(self, key: tuple, samples: Sequence[PoseSample],
            owners: Sequence[np.ndarray], positions: Sequence[float]) -> None:
        """Add the instances of some images.

        Args:
            key (tuple): Which of :attr:`parts` they belong to.
            samples (Sequence[PoseSample]): The images.
            owners (Sequence[np.ndarray]): Of each image what :func:`owners`
                has found.
            positions (Sequence[float]): Where in the validation each is.
        """
        part = self.parts[key]
        matches = list(map(taken, samples, owners))
        part.add(samples, matches, positions, self.hardest)
        if not self._error_kinds or part.sigmas is None:
            return
        if key not in self.errors:
            self.errors[key] = ErrorKinds(
                part.sigmas, mirrored_keypoints(part.names, part.meta))
        self.errors[key].add(
            [image_key(sample) for sample in samples for _ in sample.truth],
            *(np.concatenate([getattr(sample, name) for sample in samples])
              for name in ('truth', 'visible', 'areas')),
            *map(np.concatenate, zip(*matches)))

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

    def worst(self) -> List[HardSample]:
        """Return the hard samples, with the kinds of their errors."""
        return [
            hard._replace(kinds=self._kinds_of(hard))
            for hard in self.hardest.worst()
        ]

    def _kinds_of(self, hard: HardSample) -> Optional[List[Optional[str]]]:
        truth = hard.sample.truth[hard.person]
        for (_, num_keypoints), errors in self.errors.items():
            kinds = None
            if num_keypoints == len(truth):
                kinds = errors.kinds_of(hard.image, truth)
            if kinds is not None:
                return kinds
        return None

    def merge(self, other: 'ValidationShard') -> 'ValidationShard':
        """Add what another rank has seen, and return the sum."""
        for key, part in other.parts.items():
            if key in self.parts:
                self.parts[key].tally.merge(part.tally)
            else:
                self.parts[key] = part
        _merge(self.errors, other.errors)
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
