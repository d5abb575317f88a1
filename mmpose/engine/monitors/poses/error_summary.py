# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from ..core.measurements import LocalizationErrors, Sides
from ..core.monitor import Chart
from ..core.runner_parts import data_set_parts, keypoint_names
from ..writers.record import Image, Scalar, Value
from .accuracy.data_set_accuracy import DataSetAccuracy
from .accuracy.error_kinds import (KINDS, ErrorCounts, mirrored_keypoints,
                                   other_side)
from .accuracy.keypoint_curves import curve_groups
from .accuracy.validation_shard import ValidationShard
from .pictures.error_figure import draw_error_figure

ERROR_CHARTS = (Chart('Keypoints', 'kinds of error',
                      'errors/(jitter|inversion|swap|miss|not_found)$'),
                Chart('Keypoints', 'OKS lost by kind of error',
                      'errors/oks_lost/'))
# By keypoint there are those of its place alone.
_BY_KEYPOINT = ('jitter', 'inversion', 'swap', 'miss')


class ErrorSummary:
    """What kinds of error the keypoints of a validation have.

    Args:
        parts (Sequence[tuple[DataSetAccuracy, ErrorCounts]]): Of each data set
            that has sigmas. Keypoints of the same name are added up.
        flips (Sequence[tuple[str, str, str]]): See
            :class:`LocalizationErrors`. Defaults to ().
    """

    def __init__(
        self,
        parts: Sequence[Tuple[DataSetAccuracy, ErrorCounts]],
        flips: Sequence[Tuple[str, str, str]] = ()
    ) -> None:
        self._flips = tuple(flips)
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
        # What cannot be there has no curve.
        self._kinds = [
            kind for kind in KINDS if self._mirrored or kind != 'inversion'
        ]

    def values(self, by_keypoint: bool) -> Iterator[Value]:
        """Yield the scalars and the measurement; nothing without an instance.

        Args:
            by_keypoint (bool): Whether to yield those of each keypoint.
        """
        if self._counts.instances:
            yield from self.scalars(by_keypoint)
            yield self.measurement()

    def scalars(self, by_keypoint: bool) -> Iterator[Scalar]:
        """Yield the scalars.

        Args:
            by_keypoint (bool): Whether to yield those of each keypoint.
        """
        counts = self._by_kind()
        for kind in self._kinds:
            fraction = counts[kind].sum() / max(self._counts.counts.sum(), 1)
            yield Scalar(f'errors/{kind}', fraction)
        for kind in self._kinds[1:]:
            gain = self._counts.gains[KINDS.index(kind)]
            yield Scalar(f'errors/oks_lost/{kind}',
                         gain / self._counts.instances)
        if self._counts.images:
            yield Scalar('errors/false_positives',
                         self._counts.false_positives / self._counts.images)
        totals = self._counts.counts.sum(0)
        for kind in self._kinds if by_keypoint else ():
            for name, indices in self._groups.items():
                if kind in _BY_KEYPOINT and totals[indices].any():
                    yield Scalar(
                        f'errors/{kind}/{name}',
                        counts[kind][indices].sum() / totals[indices].sum())

    def figure(self, when: str) -> Iterator[Image]:
        """Draw the kinds of error by keypoint.

        Args:
            when (str): Of which validation, for the title.
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
        """Return what detectors judge."""
        total = max(self._counts.counts.sum(), 1)
        places = {name: i for i, name in enumerate(self._names)}
        sides: List[Sides] = []
        for name, mirrored in self._mirrored.items():
            if name > mirrored and self._mirrored.get(mirrored) == name:
                continue  # It is the other one of a pair.
            both = [places[name], places[mirrored]]
            sides.append(
                Sides((name, mirrored),
                      *map(int, self._counts.sides[:, both].sum(1))))
        return LocalizationErrors(
            {
                kind: float(count.sum() / total)
                for kind, count in self._by_kind().items()
            }, tuple(sides), self._flips)

    def _by_kind(self) -> Dict[str, np.ndarray]:
        return dict(zip(KINDS, self._counts.counts))


def summarize(shard: ValidationShard,
              flips: Sequence[Tuple[str, str, str]]) -> ErrorSummary:
    """Summarize what all ranks have seen of a validation."""
    return ErrorSummary([(shard.parts[key], errors.results())
                         for key, errors in shard.errors.items()], flips)


def unmeasured(part: DataSetAccuracy) -> Optional[str]:
    """Return why errors of a data set cannot be told, in a sentence."""
    of = f' of {part.name!r}' if part.name else ''
    if part.sigmas is None:
        return f'writes no errors/*{of}: the data set has no sigmas.'
    if mirrored_keypoints(part.names, part.meta) is None:
        return (f'writes no errors/inversion{of}: no keypoint of the data set '
                'has a mirrored one (flip_indices).')
    return None


def wrong_flips_of(runner,
                   shard: ValidationShard) -> List[Tuple[str, str, str]]:
    """Return what ``flip_indices`` exchange against the keypoints' names.

    Of the data sets of the training and the validation, see
    :class:`LocalizationErrors`.
    """
    metas = [part.meta for part in shard.parts.values()]
    loader = getattr(getattr(runner, '_train_loop', None), 'dataloader', None)
    if loader is not None:
        metas += [
            getattr(dataset, 'metainfo', {})
            for dataset in data_set_parts(loader.dataset)
        ]
    return list(
        dict.fromkeys(flip for meta in metas for flip in wrong_flips(meta)))


def wrong_flips(meta: dict) -> Iterator[Tuple[str, str, str]]:
    """Yield them of one data set."""
    flipped = meta.get('flip_indices', ())
    names = keypoint_names(meta, len(flipped))
    for name, index in zip(names, flipped):
        other = other_side(name)
        if other != name and other in names and names[index] != other:
            yield name, names[index], other
