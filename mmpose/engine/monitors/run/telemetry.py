# Copyright (c) OpenMMLab. All rights reserved.
import time
from typing import Dict, Iterator, Optional

from ..core.arguments import GRAD_NORM_INTERVAL, LOG_DETAILS, Arguments
from ..core.measurements import HookTime
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.schedule import Interval
from ..writers.record import Record, Scalar, Value


@MONITORS.register_module()
class TelemetryMonitor(Monitor):
    """Log what the hook itself costs, since the last measurement.

    ===================================== ==================================
    ``telemetry/overhead_percent``        Percentage of the training's time
                                          that all monitors took of its
                                          thread
    ``telemetry/writer_percent``          Percentage that the thread that
                                          writes computed beside it: its CPU
                                          time. Only with a thread that writes
    ``telemetry/time_percent/<monitor>``  The same for one monitor, with
                                          ``log_details``
    ``telemetry/interval/<monitor>``      The current interval, stretched by
                                          the budget: of the weights in
                                          epochs, else in iterations; with
                                          ``log_details``
    ``telemetry/queue_depth``             Records that wait to be written; with
                                          ``log_details``
    ``telemetry/bytes_written``           Size of the event file, in bytes;
                                          with ``log_details``
    ``telemetry/dropped/<kind>``          Records that were dropped since the
                                          run began, by kind. The writer logs
                                          it once a record was dropped
    ===================================== ==================================

    What it tells: Whether the hook costs too much, and which interval to make
    longer then. A queue that stays long, or dropped records, mean that more is
    logged than the disk can take.

    Args:
        interval (int | dict | Schedule): At which iterations to measure.
        details (bool): Whether to log more than the overhead. Defaults to
            False.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    settings = dict(interval=GRAD_NORM_INTERVAL, details=LOG_DETAILS)
    # After all other monitors have spent their time in the iteration.
    priority = 'LOWEST'
    watches_others = True

    @classmethod
    def is_wanted(cls, given: Arguments) -> bool:
        return True

    def __init__(self,
                 interval: Interval,
                 details: bool = False,
                 strict: bool = False) -> None:
        super().__init__(interval, strict)
        self._details = details

    def before_train(self, runner) -> None:
        self._monitors = [m for m in self.peers if m is not self]
        self._since = time.perf_counter()
        self._spent = self._seconds()
        self._writer_spent = self.writer.cpu_seconds

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        if not self.schedule.is_due(runner.iter + 1):
            return
        now, spent = time.perf_counter(), self._seconds()
        percent = {
            name: 100 * (seconds - self._spent[name]) / (now - self._since)
            for name, seconds in spent.items()
        }
        writer_spent = self.writer.cpu_seconds
        writer_percent = 100 * (writer_spent - self._writer_spent) / (
            now - self._since)
        self._since, self._spent = now, spent
        self._writer_spent = writer_spent
        depth = self.writer.queue_depth
        intervals = {
            monitor.guard.name: monitor.interval()
            for monitor in self._monitors if monitor.schedule
        }

        def values() -> Iterator[Value]:
            total = sum(percent.values())
            yield HookTime(total / 100)
            yield Scalar('telemetry/overhead_percent', total)
            if writer_spent:  # Else each monitor writes what it measures.
                yield Scalar('telemetry/writer_percent', writer_percent)
            if self._details:
                yield Scalar('telemetry/queue_depth', depth)
                yield Scalar('telemetry/bytes_written',
                             self.writer.bytes_on_disk())
                for name, value in percent.items():
                    yield Scalar(f'telemetry/time_percent/{name}', value)
                for name, interval in intervals.items():
                    yield Scalar(f'telemetry/interval/{name}', interval)

        self.emit(Record(runner.iter + 1, values))

    def _seconds(self) -> Dict[str, float]:
        return {m.guard.name: m.guard.seconds for m in self._monitors}
