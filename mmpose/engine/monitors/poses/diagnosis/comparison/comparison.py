# Copyright (c) OpenMMLab. All rights reserved.
import functools
import logging
from typing import Iterator, List, Optional

import numpy as np
from mmengine.logging import print_log

from ....core.monitor import Chart
from ....core.other_runs.compared_run import find_saved_instances
from ....writers.record import (IMAGE, LAYER_SCALAR, Image, Record, Scalar,
                                Text, Value)
from ..diagnosis import Diagnosis, Validation
from .changed_instances import changed_counts, changed_instances, draw_changed
from .difference_figure import draw_differences
from .differences import Differences, differences
from .pairing import Pairs, measure_of, pair
from .saved_instances import SavedInstances, load


class Comparison(Diagnosis):
    """Compare a validation with that of another run on the same data.

    ================================ =======================================
    ``compare/OKS``                  How much the mean OKS of the instances is
                                     above that of the run in ``compare``
    ``compare/PCK@0.05``             Instead of it, where the data set has no
                                     sigmas: the mean fraction of keypoints
                                     less than 0.05 of the box's longer side
                                     away
    ``compare/low``                  The lower bound of that difference
    ``compare/high``                 The upper bound
    ``compare/KS/<keypoint>``        The difference of the mean keypoint
                                     similarity (KS)
    ``compare/PCK@0.05/<keypoint>``  Instead of it, without sigmas
    ``compare/by_keypoint``          A figure of the differences and their
                                     bounds
    ``compare/better``               The instances whose OKS has increased
                                     most: ground truth, the prediction of the
                                     other run and of this one
    ``compare/worse``                Those whose OKS has decreased most
    ``compare/summary``              A text: the differences as a table, and
                                     how many instances became better and worse
    ================================ =======================================

    Instances with the same annotation id are compared, see :func:`pair`. The
    bounds hold 95 % of the differences between resampled images, see
    :func:`differences`: if 0 is between them, another validation set could
    show the opposite. The bounds say nothing about what another random seed in
    training would change.

    Args:
        run (str): The directory of the other run, or its ``instances.npz``.

    Attributes:
        failed (str, optional): Why the last validation was not compared.

    Raises:
        ValueError: There is no such file, or it is of another kind.
    """

    compares = True
    charts = (Chart(
        'Keypoints',
        'difference from the compared run',
        'compare/OKS',
        margins=('compare/low', 'compare/high')), )

    def __init__(self, run: str) -> None:
        self.failed: Optional[str] = None
        # Now: the own run may have the same work directory, and will have
        # such a file there.
        self._saved = load(find_saved_instances(run))

    def records(self, runner, validation: Validation) -> Iterator[Record]:

        @functools.lru_cache(None)
        def compared() -> Optional[_Compared]:  # In the writer's thread, once.
            try:
                found = _Compared(self._saved, validation)
            except ValueError as error:
                self._tell(str(error))
                return None
            self.failed = None
            return found

        for values, kind in ((_Compared.scalars, LAYER_SCALAR),
                             (_Compared.figure, IMAGE), (_Compared.pictures,
                                                         IMAGE)):
            yield Record(
                validation.step,
                functools.partial(_values, compared, values),
                kind=kind)

    def _tell(self, reason: str) -> None:
        if self.failed is None:
            print_log(
                'EnhancedTensorBoardHook cannot compare with '
                f'{self._saved.run}: {reason}.', 'current', logging.WARNING)
        self.failed = reason


def _values(compared, values) -> Iterator[Value]:
    found = compared()
    return iter(()) if found is None else values(found)


class _Compared:
    """A validation beside that of another run.

    Args:
        saved (SavedInstances): The other run.
        validation (Validation): The validation.

    Raises:
        ValueError: They cannot be compared.
    """

    def __init__(self, saved: SavedInstances, validation: Validation) -> None:
        self._title = f'{saved.run}, {saved.when}'
        self._validation = validation
        self._measure = measure_of(validation.parts)
        self._pairs: List[Pairs] = pair(validation.parts, saved)
        self._differences: Differences = differences(self._pairs)

    def scalars(self) -> Iterator[Value]:
        """Yield the differences, and the text."""
        found = self._differences
        *names, whole = found.names
        *changes, change = found.change
        for name, value in zip(names, changes):
            if np.isfinite(value):
                yield Scalar(f'compare/{self._measure}/{name}', value)
        if np.isfinite(change):
            yield Scalar(f'compare/{whole}', change)
            yield Scalar('compare/low', found.low[-1])
            yield Scalar('compare/high', found.high[-1])
        yield Text('compare/summary', self._summary())

    def figure(self) -> Iterator[Image]:
        """Draw the differences, if there are any."""
        if not self._differences.counts[-1]:
            return
        yield Image('compare/by_keypoint', [
            draw_differences(
                self._differences,
                f'{self._measure}: {self._validation.when} minus {self._title}'
            )
        ])

    def pictures(self) -> Iterator[Image]:
        """Draw the instances that changed most."""
        for tag, sign in (('better', 1), ('worse', -1)):
            pictures = [
                picture for instance in changed_instances(self._pairs, sign)
                for picture in draw_changed(instance, self._validation)
            ]
            if pictures:
                yield Image(f'compare/{tag}', pictures, photo=True)

    def _summary(self) -> str:
        found, pairs = self._differences, self._pairs
        missing = sum(p.missing for p in pairs)
        changed = sum(p.changed for p in pairs)
        lines = [
            f'**{self._validation.when}** minus **{self._title}**, '
            f'{sum(len(p.rows) for p in pairs):,} instances.', ''
        ]
        if missing:
            lines += [f'{missing:,} instances are not in the other run.', '']
        if changed:
            lines += [
                f'{changed:,} had another ground truth then: the present one '
                'counts.', ''
            ]
        better, worse, alike = changed_counts(pairs)
        lines += [
            f'{better:,} instances became better by more than 0.1, '
            f'{worse:,} worse, {alike:,} neither.', '',
            f'| {self._measure} of | other run | this run | difference | 95 % '
            'interval | number |', '|---|---:|---:|---:|---:|---:|'
        ]
        *names, whole = found.names
        rows = zip([*names, f'**{whole}**'], found.earlier, found.now,
                   found.change, found.low, found.high, found.counts)
        lines += [
            f'| {name} | {earlier:.3f} | {now:.3f} | {change:+.3f} | '
            f'{low:+.3f} to {high:+.3f} | {count:,} |'
            for name, earlier, now, change, low, high, count in rows if count
        ]
        return '\n'.join(lines)
