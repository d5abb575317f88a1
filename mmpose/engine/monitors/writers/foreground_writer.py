# Copyright (c) OpenMMLab. All rights reserved.
import atexit
import os
import threading
import time
from typing import Callable, Optional

from .record import Record
from .writer import Guard, Writer


class ForegroundWriter(Writer):
    """Write in the calling threads, which take turns.

    Does what :class:`BackgroundWriter` does, without a thread.

    Args:
        writer (Writer): The writer.
        guard (Guard, optional): See :class:`BackgroundWriter`.
    """
    # The calling thread's time is counted there.
    cpu_seconds = 0.

    def __init__(self, writer: Writer, guard: Optional[Guard] = None) -> None:
        self._writer = writer
        self._guard = guard or Guard()
        self._pid = os.getpid()
        self._closed = False
        self._lock = threading.RLock()
        atexit.register(self.close)

    def write(self, record: Record, guard: Optional[Guard] = None) -> None:
        """Write a record; see :meth:`BackgroundWriter.write`."""
        record = record._replace(wall_time=record.wall_time or time.time())
        self._call(lambda: self._writer.write(record), guard or self._guard)

    def call(self, function: Callable[[], None]) -> None:
        """Call a function, and report a failure to a guard."""
        self._call(function, self._guard)

    def flush(self, wait: bool = True) -> None:
        """Bring to disk what was written so far."""
        self.call(self._writer.flush)

    def close(self) -> None:
        """Bring everything to disk; nothing is written any more."""
        atexit.unregister(self.close)
        self.call(self._writer.close)
        self._closed = True

    def end_when_idle(self) -> None:
        """Do nothing: there is no thread."""

    def _call(self, function: Callable[[], None], guard: Guard) -> None:
        # A forked process would write into the same file.
        if self._closed or os.getpid() != self._pid:
            return
        with self._lock:
            try:
                function()
            except Exception as error:
                guard.report(error)
            else:
                guard.succeeded()
