# Copyright (c) OpenMMLab. All rights reserved.
import statistics
import sys
import threading
import time
import traceback
from collections import deque
from typing import Dict, Optional, Sequence

from ..core.arguments import LOG_HEALTH
from ..core.measurements import Progress
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..writers.observed_writer import Tick
from ..writers.record import Record

# How many times between two events make up the usual one.
_LENGTH = 100
# How many times as long as usual, and how many seconds, it is told from.
_TIMES = 5
_SECONDS = 0.5
# How many lines of code are named.
_LINES = 4


@MONITORS.register_module()
class ProgressMonitor(Monitor):
    """Notice that a training has come to a standstill.

    What it tells: There is no curve. The report says so if nothing has
    happened for many times as long as usual, and which lines of code the
    training is in.

    A training that hangs has no iteration to measure it in, so the writer's
    thread looks every ``flush_secs``; with ``async_write=False`` nothing
    does.
    """

    switches = (LOG_HEALTH, )
    # A validation may be no part of a training.
    _last, _started = 0., False

    def before_train(self, runner) -> None:
        self._durations: deque = deque(maxlen=_LENGTH)
        self._longest = 0.
        self._was_long = False
        self._iteration = runner.iter
        # The first iteration takes longer, and says nothing of the others.
        self._started = False
        self._thread: Optional[int] = threading.get_ident()
        # By its frame a loop is known to be still at work: an exception may
        # have ended it, and the process may live on.
        run = getattr(type(runner._train_loop), 'run', None)
        self._code = getattr(run, '__code__', None)
        self._last = time.monotonic()
        self.writer.listen(Tick, self._look, self.guard)

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        self._happened()

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        self._iteration = runner.iter + 1
        self._happened()
        self._started = True

    def after_val_iter(self, runner, batch_idx: int, data_batch,
                       outputs: Optional[Sequence]) -> None:
        self._happened()

    def after_val_epoch(self, runner, metrics: Optional[Dict]) -> None:
        self._happened()

    def after_train(self, runner) -> None:
        self._thread = None

    def _happened(self) -> None:
        now = time.monotonic()
        duration, self._last = now - self._last, now
        if self._started:
            self._durations.append(duration)
            self._longest = max(self._longest, duration)

    def _look(self, step: int, tick: Tick) -> Optional[Record]:
        """Measure how long nothing has happened, in the writer's thread."""
        idle, usual = time.monotonic() - self._last, tuple(self._durations)
        frame = sys._current_frames().get(self._thread)
        if frame is None or not usual:
            return None
        lines = list(traceback.walk_stack(frame))
        codes = [frame.f_code for frame, _ in lines]
        if self._code is not None and self._code not in codes:
            return None
        median = statistics.median(usual)
        is_long = idle > max(_TIMES * median, _SECONDS)
        if not is_long and not self._was_long:
            return None
        # Records that still wait are those of an earlier step.
        is_last = is_long and not self.writer.queue_depth
        step = self._iteration if is_last else 0
        self._was_long = is_long
        progress = Progress(
            self._iteration, idle, median, self._longest,
            ', called by '.join(_line(*of) for of in lines[:_LINES]))
        return Record(step, lambda: [progress])


def _line(frame, number: int) -> str:
    path = frame.f_code.co_filename.replace('\\', '/')
    path = '/'.join(path.split('/')[-2:])
    return f'{path}:{number} ({frame.f_code.co_name})'
