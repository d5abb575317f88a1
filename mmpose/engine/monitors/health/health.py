# Copyright (c) OpenMMLab. All rights reserved.
import functools
import logging
from typing import Dict, Iterable, Iterator, List, Optional

from mmengine.logging import print_log

from ..core.arguments import LOG_HEALTH, Arguments
from ..core.failure_guard import FailureGuard
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..writers.record import Record, Scalar, Text, Value
from ..writers.tfrecord import events_in
from .arguments import ON_NONFINITE
from .health_report import Change, Finding, HealthReport

# Of these the step is that of the training, whoever is told it by them:
# 'loss' is LoggerHook's. A user may count samples.
_OF_TRAINING = ('health/', 'system/', 'train/gradient_norm/',
                'train/learning_rate/')
_LOSS = 'loss'
_FINDING = 'health/finding/'


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


@MONITORS.register_module()
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
    changes, an INFO when it ends. A resumed training begins without findings:
    what is still wrong is found again.

    Args:
        detectors (list[Detector], optional): What to look for. Defaults to
            None: all.
        on_nonfinite (str): See :data:`ON_NONFINITE`. Defaults to 'warn'.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_HEALTH, )
    settings = dict(on_nonfinite=ON_NONFINITE)
    # Behind the monitors whose measurements it looks at.
    priority = 'LOW'

    @classmethod
    def settings_from(cls, given: Arguments) -> dict:
        if given.grad_norm_interval == 0:
            print_log(
                'EnhancedTensorBoardHook: with grad_norm_interval=0 the '
                'report is made from validations alone. log_grad_norm=False '
                'skips the gradients alone.',
                logger='current',
                level=logging.INFO)
        return super().settings_from(given)

    def __init__(self,
                 detectors: Optional[List[Detector]] = None,
                 on_nonfinite: str = 'warn',
                 strict: bool = False) -> None:
        super().__init__(strict=strict)
        if detectors is None:
            from .step_detectors import step_detectors
            from .training_detectors import training_detectors
            detectors = [
                *training_detectors(),
                *step_detectors(on_nonfinite != 'ignore')
            ]
        self._detectors = detectors

    def before_train(self, runner) -> None:
        self._report = HealthReport()
        self._step = runner.iter + 1
        self._told = False
        # One that fails leaves the others at work.
        self._guards = [
            FailureGuard(type(detector).__name__, self.guard.strict)
            for detector in self._detectors
        ]
        for detector, guard in zip(self._detectors, self._guards):
            with guard:
                detector.before_train(runner)
                continue
            self.guard.failures += 1
            guard.trip('it could not begin')
        if self.writer.continues:
            self.emit(
                Record(self._step, functools.partial(self._left, runner.iter)))
        self.writer.observe(self._observe, self.guard)

    def _observe(self, step: int, scalars: Dict[str,
                                                float]) -> Optional[Record]:
        # What this monitor has just written itself.
        if all(tag.startswith('health/finding') for tag in scalars):
            return None
        # A validation stands at the epoch, where training is by epochs.
        if _LOSS in scalars or any(
                tag.startswith(_OF_TRAINING) for tag in scalars):
            self._step = max(self._step, step)
        changes: List[Change] = []
        for detector, guard in zip(self._detectors, self._guards):
            if not guard.tripped:
                changes += self._ask(detector, guard, scalars)
        for change in changes:
            self._log(change)
        if self._told and not changes:
            return None
        self._told = True  # In the beginning too, that nothing is wrong.
        values = list(self._values(changes))
        return Record(self._step, lambda: values)

    def _ask(self, detector: Detector, guard: FailureGuard,
             scalars: Dict[str, float]) -> List[Change]:
        with guard:
            findings = detector.see(self._step, scalars)
            guard.succeeded()
            if findings is None:
                return []
            return self._report.update(self._step, guard.name, findings)
        # For the line at the end of the run.
        self.guard.failures += 1
        return []

    def _left(self, step: int) -> Iterator[Scalar]:
        """An end for each finding that the run which ended had at a step."""
        last: Dict[str, float] = {}
        for event in events_in(self.writer.log_dir):
            if event.step <= step:
                last.update({
                    value.tag: value.simple_value
                    for value in event.summary.value
                    if value.tag.startswith(_FINDING)
                })
        return (Scalar(tag, 0.) for tag, value in last.items() if value)

    def _values(self, changes: List[Change]) -> Iterator[Value]:
        yield Text('health/report', self._report.markdown(self._step))
        yield Scalar('health/findings', len(self._report.names))
        for kind, finding in changes:
            if kind != 'changes':
                yield Scalar(f'{_FINDING}{finding.name}',
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
