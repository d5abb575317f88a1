# Copyright (c) OpenMMLab. All rights reserved.
import atexit
import logging
import os
import threading
import time
from functools import partial
from typing import Callable, Iterable, List, Optional, Tuple

import torch
from mmengine.logging import print_log
from torch import Tensor

from .dropping_queue import DroppingQueue, Item
from .record import IMAGE, Record
from .writer import Guard, Writer


class BackgroundWriter(Writer):
    """Move another writer off the training thread.

    Only :meth:`close` and ``flush(wait=True)`` make the calling thread wait
    for the device or the disk. An error that a guard raises is raised by the
    next call.

    Args:
        writer (Writer): The writer to call in a thread of its own.
        queue (DroppingQueue): Keeps the records until the thread takes them.
        guard (Guard, optional): Told of errors outside of a record, and of
            records without a guard. Defaults to None: one that raises.
        flush_secs (float): The longest time that a record stays in memory, in
            seconds. Defaults to 30.
        drain_secs (float): The longest time that :meth:`close` waits for the
            thread, in seconds. Defaults to 30.
        to (str): Where the records go, for the log. Defaults to
            'TensorBoard'.

    Attributes:
        cpu_seconds (float): The CPU time that the thread has used so far.
    """

    def __init__(self,
                 writer: Writer,
                 queue: DroppingQueue,
                 guard: Optional[Guard] = None,
                 flush_secs: float = 30,
                 drain_secs: float = 30,
                 to: str = 'TensorBoard') -> None:
        self.cpu_seconds = 0.
        self.drain_secs = drain_secs
        # At 0 the thread would never sleep.
        self.flush_secs = max(flush_secs, 0.01)
        self._to = to
        self._writer = writer
        self._queue = queue
        self._guard = guard or Guard()
        self._flush_at = time.monotonic() + self.flush_secs
        self._pid = os.getpid()
        self._ends_when_idle = False
        self._closing = False
        self._ended = False
        self._finished = threading.Event()
        # The event for which the last waiting timed out.
        self._unmet: Optional[threading.Event] = None
        # To be raised in the training thread.
        self._error: Optional[Exception] = None
        self._thread: Optional[threading.Thread] = None
        self._deaths = 0
        self._start()
        # An exception or Ctrl-C ends the training without a last event.
        atexit.register(self.close)

    def write(self, record: Record, guard: Optional[Guard] = None) -> None:
        """Hand a record to the thread.

        Args:
            record (Record): What was measured.
            guard (Guard, optional): Told whether it was written. Defaults to
                None: the one of the writer.
        """
        if not self._is_open():
            return
        tensors, ready = start_copies(record.tensors)
        # The queue must not keep memory of the device.
        record = record._replace(
            tensors=tensors,
            ready=ready,
            wall_time=record.wall_time or time.time())
        self._put(
            partial(self._write, record, guard or self._guard), record.kind,
            record.size + sum(t.numel() * t.element_size() for t in tensors))

    def call(self, function: Callable[[], None]) -> None:
        """Call a function in the thread, after what was written before.

        Args:
            function (Callable): The function. It is never dropped.
        """
        if self._is_open():
            self._put(partial(self._call, function))

    def flush(self, wait: bool = True) -> None:
        """Bring to disk what was written so far.

        Args:
            wait (bool): Return only when that is done, or after
                ``drain_secs``. Defaults to True.
        """
        if not self._is_open():
            return
        done = threading.Event()
        self._put(partial(self._finish, self._flush, done))
        if wait:
            self._wait(done)

    def end_when_idle(self) -> None:
        """End the thread when nothing is left to write, without waiting.

        A later record starts another one, which ends in the same way.
        """
        self._ends_when_idle = True
        self.flush(wait=False)

    def close(self) -> None:
        """Bring everything to disk; nothing is written any more.

        Waits ``drain_secs`` at most.
        """
        if self._ended or os.getpid() != self._pid:
            return
        if not self._closing:
            self._enqueue(
                partial(self._finish, self._writer.close, self._finished))
            self._closing = True
        if not self._wait(self._finished):
            print_log(
                f'{self._to} events could not all be written within '
                f'{self.drain_secs:g} seconds: the last {len(self._queue)} '
                'or so are lost.',
                logger='current',
                level=logging.WARNING)
        # Not earlier: if Ctrl-C ends the waiting, it continues at exit.
        atexit.unregister(self.close)
        self._ended = True
        self._raise_error()

    # In the training thread

    def _is_open(self) -> bool:
        # A forked process, such as a data loader's worker, has no thread.
        return not self._closing and os.getpid() == self._pid

    def _put(self, *item) -> None:
        self._enqueue(*item)
        self._raise_error()

    def _enqueue(self,
                 content: Callable[[], None],
                 kind: Optional[str] = None,
                 size: int = 0) -> None:
        self._revive()
        self._queue.put(Item(kind, size, content))

    def _raise_error(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _wait(self, done: threading.Event) -> bool:
        """Wait for the thread, but not again while it is stuck."""
        stuck = self._unmet is not None and not self._unmet.is_set()
        until = time.monotonic() + (0 if stuck else self.drain_secs)
        while not done.wait(max(0, min(0.1, until - time.monotonic()))):
            if time.monotonic() >= until:
                self._unmet = done
                return False
            self._revive()
        return True

    def _revive(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        if self._finished.is_set():  # Checked last: it may have just ended.
            return
        if not self._ends_when_idle:
            self._deaths += 1
            print_log(
                f'The thread that writes {self._to} events has died; it is '
                'started again.',
                logger='current',
                level=logging.WARNING if self._deaths == 1 else logging.DEBUG)
        self._start()

    def _start(self) -> None:
        thread = threading.Thread(
            target=self._work, name='EventWriter', daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # The system has no thread left.
            self._report(self._guard, error)
        else:
            self._thread = thread

    # In the writer's thread

    def _work(self) -> None:
        self._cpu_seconds_before = self.cpu_seconds
        while not (self._finished.is_set()
                   or self._ends_when_idle and not len(self._queue)):
            self._handle(
                self._queue.get(max(0, self._flush_at - time.monotonic())))
            self._count_time()
        if not self._finished.is_set():
            self._call(self._flush)

    def _handle(self, item: Optional[Item]) -> None:
        if item is not None:
            item.content()
        if time.monotonic() >= self._flush_at:
            self._call(self._flush)

    def _write(self, record: Record, guard: Guard) -> None:
        if record.kind == IMAGE:
            # Drawing may wait for image files.
            self._call(self._flush)
        try:
            self._writer.write(record)
        except Exception as error:
            self._report(guard, error)
        else:
            guard.succeeded()

    def _flush(self) -> None:
        self._flush_at = time.monotonic() + self.flush_secs
        self._writer.flush()

    def _finish(self, function: Callable, done: threading.Event) -> None:
        try:
            self._call(function)
        finally:
            self._count_time()
            done.set()

    def _count_time(self) -> None:
        self.cpu_seconds = self._cpu_seconds_before + time.thread_time()

    def _call(self, function: Callable[[], None]) -> None:
        try:
            function()
        except Exception as error:
            self._report(self._guard, error)

    def _report(self, guard: Guard, error: Exception) -> None:
        try:
            guard.report(error)
        except Exception as raised:
            self._error = raised


def start_copies(tensors: Iterable[Tensor]
                 ) -> Tuple[List[Tensor], List['torch.cuda.Event']]:
    """Start to copy tensors to the host without waiting for the device.

    Args:
        tensors (Iterable[Tensor]): Tensors on any device.

    Returns:
        tuple[list[Tensor], list[torch.cuda.Event]]: Tensors on the host, or
        on a device that cannot do it, those of bfloat16 as float32; and the
        events after which they hold their values.
    """
    copies, devices = [], set()
    for tensor in tensors:
        tensor = tensor.detach()
        if tensor.dtype == torch.bfloat16:  # NumPy does not know it.
            tensor = tensor.float()
        if tensor.is_cuda:
            # Only a copy into pinned memory runs asynchronously.
            pinned = torch.empty(
                tensor.shape, dtype=tensor.dtype, pin_memory=True)
            devices.add(tensor.device)
            tensor = pinned.copy_(tensor, non_blocking=True)
        copies.append(tensor)
    return copies, [
        # Blocking: the thread that waits for it leaves the core to others.
        torch.cuda.current_stream(device).record_event(
            torch.cuda.Event(blocking=True)) for device in devices
    ]
