# Copyright (c) OpenMMLab. All rights reserved.
import functools
from typing import Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from ...core.measurements import LocalizationErrors, Sides
from ...core.monitor import Chart
from ...writers.record import IMAGE, LAYER_SCALAR, Image, Record, Scalar, Value
from ..accuracy.data_set_accuracy import DataSetAccuracy
from ..accuracy.hard_samples import HardSample
from ..accuracy.keypoint_curves import curve_groups
from .diagnosis import Diagnosis, Validation
from .error_examples import JudgedPart, error_examples, judge
from .error_figure import draw_error_figure
from .error_kinds import KINDS, ErrorCounts, ErrorKinds, mirrored_keypoints

# The kinds that are logged by keypoint.
_BY_KEYPOINT = ('jitter', 'inversion', 'swap', 'miss')


class ErrorDiagnosis(Diagnosis):
    """Log the kind of error of each keypoint.

    ========================================= ==============================
    ``errors/<kind>``                         Fraction of the annotated
                                              keypoints that are jitter,
                                              inversion, swap, miss or
                                              not_found and, with
                                              ``log_details``, good, see
                                              :class:`ErrorKinds`; where the
                                              data set has sigmas
    ``errors/<kind>/<keypoint>``              The same for each keypoint, with
                                              ``log_details``
    ``errors/oks_lost/<kind>``                The increase of ``instances/OKS``
                                              if that kind alone were corrected
    ``errors/false_positives``                Unmatched predictions with a high
                                              score, per image; with a
                                              detector's boxes and bottom-up
                                              models
    ``errors/by_keypoint``                    A figure of the kinds of error:
                                              a bar for each keypoint
    ``errors/examples/<kind>``                The two instances that lose most
                                              by each kind of error, from
                                              different images
    ========================================= ==============================

    Wrong keypoints are jittered, exchanged with the other side, on another
    instance, or missed.
    """

    charts = (Chart('Keypoints', 'kinds of error',
                    'errors/(jitter|inversion|swap|miss|not_found)$'),
              Chart('Keypoints', 'OKS lost by kind of error',
                    'errors/oks_lost/'))

    def unmeasured(self, part: DataSetAccuracy) -> Optional[str]:
        of = f' of {part.name!r}' if part.name else ''
        if part.sigmas is None:
            return f'writes no errors/*{of}: the data set has no sigmas.'
        if mirrored_keypoints(part.names, part.meta) is None:
            return (f'writes no errors/inversion{of}: no keypoint of the data '
                    'set has a mirrored one (flip_indices).')
        return None

    def records(self, runner, validation: Validation) -> Iterator[Record]:
        parts = [part for part in validation.parts if part.sigmas is not None]
        if not parts:
            return

        @functools.lru_cache(None)
        def judged() -> List[JudgedPart]:  # In the writer's thread, once.
            return [judge(part) for part in parts]

        @functools.lru_cache(None)
        def summary() -> ErrorSummary:
            return ErrorSummary([(part, counts)
                                 for part, counts, _ in judged()])

        yield Record(
            validation.step,
            lambda: summary().values(validation.details),
            kind=LAYER_SCALAR)
        yield Record(
            validation.step,
            lambda: summary().figure(validation.when),
            kind=IMAGE)
        yield Record(
            validation.step,
            lambda: error_examples(judged(), validation),
            kind=IMAGE)


class ErrorSummary:
    """Summarize the kinds of error of a validation.

    Args:
        parts (Sequence[tuple[DataSetAccuracy, ErrorCounts]]): The data sets
            with sigmas. Keypoints with the same name are added.
    """

    def __init__(self, parts: Sequence[Tuple[DataSetAccuracy,
                                             ErrorCounts]]) -> None:
        predictions = list(
            filter(None, (part.instances.predictions() for part, _ in parts)))
        self._images = sum(of_part.images for of_part in predictions)
        self._false_positives = sum(of_part.false_positives
                                    for of_part in predictions)
        names = list(
            dict.fromkeys(name for part, _ in parts for name in part.names))
        places = {name: i for i, name in enumerate(names)}
        counts = [
            counts.spread([places[name] for name in part.names], len(names))
            for part, counts in parts
        ]
        self._counts = sum(counts[1:], counts[0])
        self._names = names
        self._groups = curve_groups(names, parts[0][0].meta)
        self._mirrored: Dict[str, str] = {}
        for part, _ in parts:
            mirrored = mirrored_keypoints(part.names, part.meta)
            if mirrored is not None:
                self._mirrored.update((name, part.names[j])
                                      for name, j in zip(part.names, mirrored)
                                      if part.names[j] != name)
        # Without mirrored keypoints there are no inversions.
        self._kinds = [
            kind for kind in KINDS if self._mirrored or kind != 'inversion'
        ]

    def values(self, details: bool) -> Iterator[Value]:
        """Yield the scalars and the measurement, if there is an instance.

        Args:
            details (bool): See :meth:`scalars`.
        """
        if self._counts.instances:
            yield from self.scalars(details)
            yield self.measurement()

    def scalars(self, details: bool) -> Iterator[Scalar]:
        """Yield the scalars.

        Args:
            details (bool): Whether to yield the fraction of the good ones and
                the scalars of each keypoint, too.
        """
        counts = self._by_kind()
        for kind in self._kinds if details else self._kinds[1:]:
            fraction = counts[kind].sum() / max(self._counts.counts.sum(), 1)
            yield Scalar(f'errors/{kind}', fraction)
        for kind in self._kinds[1:]:
            gain = self._counts.gains[KINDS.index(kind)]
            yield Scalar(f'errors/oks_lost/{kind}',
                         gain / self._counts.instances)
        if self._images:
            yield Scalar('errors/false_positives',
                         self._false_positives / self._images)
        totals = self._counts.counts.sum(0)
        for kind in self._kinds if details else ():
            for name, indices in self._groups.items():
                if kind in _BY_KEYPOINT and totals[indices].any():
                    yield Scalar(
                        f'errors/{kind}/{name}',
                        counts[kind][indices].sum() / totals[indices].sum())

    def figure(self, when: str) -> Iterator[Image]:
        """Draw the kinds of error by keypoint.

        Args:
            when (str): The epoch or iteration, for the title.
        """
        if not self._counts.instances:
            return
        counts = np.stack([
            self._counts.counts[:, indices].sum(1)
            for indices in self._groups.values()
        ])
        kept = [KINDS.index(kind) for kind in self._kinds]
        yield Image('errors/by_keypoint', [
            draw_error_figure(
                list(self._groups), self._kinds, counts[:, kept],
                f'Kinds of error, {when}')
        ])

    def measurement(self) -> LocalizationErrors:
        """Return the measurement for the detectors."""
        total = max(self._counts.counts.sum(), 1)
        places = {name: i for i, name in enumerate(self._names)}
        sides: List[Sides] = []
        for name, mirrored in self._mirrored.items():
            if name > mirrored and self._mirrored.get(mirrored) == name:
                continue  # The pair has been counted already.
            both = [places[name], places[mirrored]]
            sides.append(
                Sides((name, mirrored),
                      *map(int, self._counts.sides[:, both].sum(1))))
        return LocalizationErrors(
            {
                kind: float(count.sum() / total)
                for kind, count in self._by_kind().items()
            }, tuple(sides))

    def _by_kind(self) -> Dict[str, np.ndarray]:
        return dict(zip(KINDS, self._counts.counts))


def kinds_of(hard: HardSample,
             parts: Iterable[DataSetAccuracy]) -> Optional[List]:
    """Return the kinds of error of an instance.

    Args:
        hard (HardSample): The instance.
        parts (Iterable[DataSetAccuracy]): The data sets.

    Returns:
        list[str | None] | None: The kind of each keypoint, None for one that
        is not annotated. None if the kinds are not known.
    """
    truth = hard.sample.truth[hard.instance]
    for part in parts:
        if part.sigmas is None or truth.shape != (len(part.names), 2):
            continue
        image = part.instances.of_image(hard.image)
        same = (image.truth == np.float32(truth)).all((1, 2))
        if same.any():
            kinds = ErrorKinds(image, part.sigmas,
                               mirrored_keypoints(
                                   part.names,
                                   part.meta)).kinds()[same.argmax()]
            return [KINDS[k] if k >= 0 else None for k in kinds.tolist()]
    return None
