# Copyright (c) OpenMMLab. All rights reserved.
import functools
import logging
import math
from typing import Dict, Iterable, Iterator, List, Optional

from mmengine.logging import print_log

from ..core.arguments import LOG_HEALTH, Arguments
from ..core.failure_guard import FailureGuard
from ..core.measurements import Remark
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import losses_of_iteration
from ..writers.record import Alert, Measurement, Record, Scalar, Text, Value
from ..writers.tfrecord import events_in
from .arguments import ON_NONFINITE
from .chains import Chain
from .detector import DETECTOR_CHANGES, Detector, build_detectors, documented
from .rank_losses import RankLosses
from .recent_batches import RecentBatches
from .report import NOTE, Change, Finding, HealthReport
from .suspects import Suspects

_FINDING = 'health/finding/'


@MONITORS.register_module()
class HealthMonitor(Monitor):
    """Report what is going wrong in a training, and where.

    ========================== ==============================================
    ``health/report``          A text: the anomalies since they began, the
                               evidence and a suggested action
    ``health/findings``        Number of findings, notes excluded
    ``health/finding/<name>``  1 while there is this finding, 0 when it ends
    ========================== ==============================================

    What it tells: Whether anything is wrong: a healthy run has no finding. If
    findings follow from each other, only the first one is reported.

    Each finding is also a line in the log: a WARNING when it begins, changes
    or becomes more serious (an INFO if it is a note), an INFO when it ends. A
    resumed training begins without findings; lasting anomalies are found
    again.

    Args:
        detectors (list[dict | Detector], optional): Changes to the detectors,
            see :func:`build_detectors`. Defaults to None: none.
        on_nonfinite (str): See :data:`ON_NONFINITE`. Defaults to 'warn'.
        strict (bool): See :class:`Monitor`. Defaults to False.

    Attributes:
        detectors (list[Detector]): The detectors.
    """

    switches = (LOG_HEALTH, )
    settings = dict(detectors=DETECTOR_CHANGES, on_nonfinite=ON_NONFINITE)
    # After the monitors whose measurements it judges.
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
                 detectors: Optional[Iterable] = None,
                 on_nonfinite: str = 'warn',
                 strict: bool = False) -> None:
        super().__init__(strict=strict)
        self.detectors = build_detectors(detectors, on_nonfinite != 'ignore')

    def before_train(self, runner) -> None:
        self._report = HealthReport(documented(self.detectors))
        self._step = runner.iter + 1
        self._told = False
        self._batches = RecentBatches()
        self._suspects = Suspects(self._batches, self.writer.log_dir)
        self._was_finite = True
        chains: Dict[object, _Chained] = {}
        for i, detector in enumerate(self.detectors):
            # A detector that fails must not stop the others.
            guard = FailureGuard(type(detector).__name__, self.guard.strict)
            # A detector without a chain gets a chain of its own.
            is_alone = detector.chain is Detector.chain
            chained = chains.setdefault(i if is_alone else detector.chain,
                                        _Chained(f'{i}', detector.chain()))
            chained.detectors.append(detector)
            chained.guards.append(guard)
            with guard:
                detector.before_train(runner)
                continue
            self.guard.failures += 1
            guard.trip('it could not begin')
        self._chains = list(chains.values())
        if self.writer.continues:
            self.emit(
                Record(self._step, functools.partial(self._left, runner.iter)))
        self.writer.listen(None, self._look, self.guard)

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        self._batches.add(runner.iter + 1, data_batch)

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        losses = losses_of_iteration(runner.message_hub, outputs or {})
        is_finite = all(math.isfinite(loss) for _, loss in losses)
        if self._was_finite and not is_finite:
            self._batches.keep()
        self._batches.release()
        self._was_finite = is_finite

    def after_train(self, runner) -> None:
        # After the last measurements, in the writer's thread.
        self.emit(Record(runner.iter, self._last_report))

    def _look(self, step: int, measurement: Measurement) -> Optional[Record]:
        """Judge a measurement, in the writer's thread."""
        # The step of a validation is the epoch in epoch-based training.
        step = getattr(measurement, 'iteration', step)
        self._step = max(self._step, step)
        if isinstance(measurement, RankLosses):
            self._suspects.add(measurement)
        if isinstance(measurement, Remark):
            self._report.remark(self._step, measurement.name, measurement.text)
            self._told = True
            text = Text('health/report', self._report.markdown(self._step))
            return Record(self._step, lambda: [text])
        changes: List[Change] = []
        for chained in self._chains:
            findings = self._findings(chained, measurement)
            if findings is not None:
                changes += self._report.update(self._step, chained.name,
                                               map(self._named, findings))
        for change in changes:
            self._log(change)
        values = [*self._suspects.found()]
        if changes or not self._told:
            values += self._values(changes)
        if not values:
            return None
        self._told = True  # Also, at first, that nothing is wrong.
        return Record(self._step, lambda: values)

    def _findings(self, chained: '_Chained',
                  measurement: Measurement) -> Optional[List[Finding]]:
        """Return all findings of a chain; None if they are unchanged."""
        seen: Dict[int, List[Finding]] = {}
        for i, (detector,
                guard) in enumerate(zip(chained.detectors, chained.guards)):
            if guard.tripped or not isinstance(measurement, detector.wants):
                continue
            with guard:
                findings = detector.see(self._step, measurement)
                if findings is not None:
                    seen[i] = list(findings)
                guard.succeeded()
                continue
            # Counted in the last line of the run's log.
            self.guard.failures += 1
        return chained.chain.update(seen) if seen else None

    def _named(self, finding: Finding) -> Finding:
        try:
            return self._suspects.name(finding)
        except Exception as error:
            # The guard would count the time as the training's.
            self.guard.report(error)
            return finding

    def _left(self, step: int) -> Iterator[Scalar]:
        """Resolve the findings that the resumed run had at a step."""
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
                             float(kind != 'ends'))
                yield Alert(finding.name, kind != 'ends', finding.severity,
                            finding.what, finding.evidence, finding.advice)

    def _last_report(self) -> Iterator[Value]:
        if self._told:
            yield Text('health/report',
                       self._report.markdown(self._step, ended=True))

    def _log(self, change: Change) -> None:
        kind, finding = change
        if kind == 'ends':
            text, level = f'resolved: {finding.what}', logging.INFO
        else:
            text = (f'{finding.severity}: {finding.what} Evidence: '
                    f'{finding.evidence} Suggested action: {finding.advice}')
            level = (
                logging.INFO if finding.severity == NOTE else logging.WARNING)
        print_log(
            f'Training health, step {self._step}: {text}',
            logger='current',
            level=level)


class _Chained:
    """Hold the detectors of a chain, and a guard for each."""

    def __init__(self, name: str, chain: Chain) -> None:
        self.name = name
        self.chain = chain
        self.detectors: List[Detector] = []
        self.guards: List[FailureGuard] = []
