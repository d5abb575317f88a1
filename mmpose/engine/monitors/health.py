# Copyright (c) OpenMMLab. All rights reserved.
import logging
from typing import Dict, Iterable, Iterator, List, Optional

from mmengine.logging import print_log

from .base import Monitor
from .health_report import Change, Finding, HealthReport
from .record import Record, Scalar, Text, Value


class Detector:
    """Looks for one kind of illness in the scalars that are written anyway.

    Called in the thread that writes, in the order of the events.
    """

    def before_train(self, runner) -> None:
        """A training begins: forget the last one, learn what is planned.

        Args:
            runner (Runner): The runner of the training process.
        """

    def see(self, step: int,
            scalars: Dict[str, float]) -> Optional[Iterable[Finding]]:
        """Look at the scalars of an event.

        Args:
            step (int): The training step; of a validation's scalars the last
                training step before it.
            scalars (dict[str, float]): Values by their tags, of whoever wrote
                them: the monitors, MMEngine or the user.

        Returns:
            Iterable[Finding] | None: All that is wrong at present; None if
            these scalars say nothing about it, and all stays as it was.
        """
        raise NotImplementedError


class HealthMonitor(Monitor):
    """Says what is going wrong in a training, and where.

    ========================== ==============================================
    ``health/report``          A text: what is wrong since when, the numbers
                               it is seen by, and what to do
    ``health/findings``        How many findings there are
    ``health/finding/<name>``  1 while there is this finding, 0 when it ends
    ========================== ==============================================

    What it tells: Whether anything is wrong: a training that is well has no
    finding. Of findings that follow from each other there is the one that
    began first.

    Each finding is also a line in the log: a WARNING when it begins or
    changes, an INFO when it ends.

    Args:
        detectors (list[Detector]): What to look for.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    def __init__(self,
                 detectors: List[Detector],
                 strict: bool = False) -> None:
        super().__init__(strict=strict)
        self._detectors = detectors

    def before_train(self, runner) -> None:
        self._report = HealthReport()
        self._step = runner.iter + 1
        self._told = False
        for detector in self._detectors:
            detector.before_train(runner)
        self.writer.observe(self._observe, self.guard)

    def _observe(self, step: int, scalars: Dict[str,
                                                float]) -> Optional[Record]:
        # What this monitor has just written itself.
        if all(tag.startswith('health/finding') for tag in scalars):
            return None
        # A validation stands at the epoch, where training is by epochs.
        self._step = max(self._step, step)
        # All before the first is told: one of them may fail.
        found = [(type(detector).__name__, detector.see(self._step, scalars))
                 for detector in self._detectors]
        changes: List[Change] = []
        for name, findings in found:
            if findings is not None:
                changes += self._report.update(self._step, name, findings)
        for change in changes:
            self._log(change)
        if self._told and not changes:
            return None
        self._told = True  # In the beginning too, that nothing is wrong.
        values = list(self._values(changes))
        return Record(self._step, lambda: values)

    def _values(self, changes: List[Change]) -> Iterator[Value]:
        yield Text('health/report', self._report.markdown(self._step))
        yield Scalar('health/findings', len(self._report.names))
        for kind, finding in changes:
            if kind != 'changes':
                yield Scalar(f'health/finding/{finding.name}',
                             float(kind == 'begins'))

    def _log(self, change: Change) -> None:
        kind, finding = change
        if kind == 'ends':
            text, level = f'no more: {finding.what}', logging.INFO
        else:
            text = f'{finding.what} {finding.evidence} {finding.advice}'
            level = logging.WARNING
        print_log(
            f'Training health, step {self._step}: {text}',
            logger='current',
            level=level)
