# Copyright (c) OpenMMLab. All rights reserved.
import time
from typing import Iterator, Optional

from ..core.arguments import GRAD_NORM_INTERVAL, Arguments
from ..core.measurements import HookTime
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..writers.record import Record, Scalar, Value


@MONITORS.register_module()
class TelemetryMonitor(Monitor):
    """What the hook itself costs, since the last reading.

    Comes last of the monitors.

    ===================================== ==================================
    ``telemetry/overhead_percent``        Share of the training's time that
                                          all monitors took of its thread
    ``telemetry/time_percent/<monitor>``  The same of one monitor
    ``telemetry/interval/<monitor>``      The interval in force, stretched by
                                          the budget: of the weights in
                                          epochs, else in iterations
    ``telemetry/queue_depth``             Records that wait to be written
    ``telemetry/bytes_written``           Size of the event file, in bytes
    ``telemetry/dropped/<kind>``          Records that were dropped since the
                                          run began, by kind; there only if
                                          one was, and from the writer
    ===================================== ==================================

    What it tells: Whether the hook costs too much, and which interval to make
    longer then. A queue that stays long, or anything dropped, means that more
    is logged than the disk takes.

    Args:
        interval (int | dict | Schedule): When to read.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    settings = dict(interval=GRAD_NORM_INTERVAL)
    # It looks at what all others took of the iteration.
    priority = 'LOWEST'
    watches_others = True

    @classmethod
    def is_wanted(cls, given: Arguments) -> bool:
        return True

    def before_train(self, runner) -> None:
        self._monitors = [m for m in self.peers if m is not self]
        self._since = time.perf_counter()
        self._spent = [monitor.guard.seconds for monitor in self._monitors]

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        if not self.schedule.is_due(runner.iter + 1):
            return
        now = time.perf_counter()
        spent = [monitor.guard.seconds for monitor in self._monitors]
        shares = [
            100 * (after - before) / (now - self._since)
            for after, before in zip(spent, self._spent)
        ]
        self._since, self._spent = now, spent
        depth = self.writer.queue_depth
        intervals = {
            monitor.guard.name: monitor.interval()
            for monitor in self._monitors if monitor.schedule
        }

        def values() -> Iterator[Value]:
            names = [m.guard.name for m in self._monitors]
            yield Scalar('telemetry/overhead_percent', sum(shares))
            yield HookTime(sum(shares) / 100)
            yield Scalar('telemetry/queue_depth', depth)
            yield Scalar('telemetry/bytes_written',
                         self.writer.bytes_on_disk())
            for name, share in zip(names, shares):
                yield Scalar(f'telemetry/time_percent/{name}', share)
            for name, interval in intervals.items():
                yield Scalar(f'telemetry/interval/{name}', interval)

        self.emit(Record(runner.iter + 1, values))
