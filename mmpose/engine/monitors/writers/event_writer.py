# Copyright (c) OpenMMLab. All rights reserved.
import atexit
import functools
import logging
import os
import os.path as osp
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import (Callable, Dict, Iterable, List, NamedTuple, Optional,
                    Tuple, Type)
from weakref import WeakKeyDictionary, ref

import torch
from mmengine.logging import print_log
from mmengine.visualization import TensorboardVisBackend
from torch import Tensor

from ..core.failure_guard import FailureGuard
from .disk_quota import DiskQuota
from .dropping_queue import (HISTOGRAM, IMAGE, KINDS, LAYER_SCALAR, SCALAR,
                             DroppingQueue, Item)
from .event_file import EventFile
from .record import Image, Measurement, Record, Scalar
from .summaries import to_summary

# Sees the step and the scalars of an event.
Observer = Callable[[int, Dict[str, float]], Optional[Record]]
# Gets the step and a measurement.
Listener = Callable[[int, Measurement], Optional[Record]]
# For each SummaryWriter the last one that took its file over.
_last_writers: WeakKeyDictionary = WeakKeyDictionary()


class EventWriter:
    """Writes records, and all else that goes into the run's event file.

    Takes the place of the ``EventFileWriter`` inside the ``SummaryWriter``
    that the run has already. So everything that anybody writes through that,
    MMEngine's own scalars included, passes here: it waits in a queue and is
    written by one thread, which never raises into the training. No second
    ``SummaryWriter`` is opened.

    Args:
        summary_writer (torch.utils.tensorboard.SummaryWriter): The run's.
        async_write (bool): Write in a thread of its own; False writes the
            same in the calling thread. Defaults to True.
        flush_secs (float): The longest time that something written stays in
            memory, in seconds. Defaults to 30.
        drain_secs (float): The longest time that :meth:`close` waits for the
            thread, in seconds. Defaults to 30.
        disk_quota (DiskQuota, optional): What may be written as the disk
            fills. Defaults to None, which is ``DiskQuota()``.
        max_items (int): The largest number of records in the queue. Defaults
            to 1000.
        max_bytes (int): The largest size of the queue. Defaults to 256 MiB.

    Attributes:
        log_dir (str): The directory of the event file.
        continues (bool): Whether an earlier run has written there, which this
            one goes on with.
        written (Counter): How many values were written, by the name of their
            type: 'Scalar', 'Histogram', 'Text'; of an 'Image' its pictures.
        dropped (Counter): How many records and events were dropped, by kind.
    """

    def __init__(self,
                 summary_writer,
                 async_write: bool = True,
                 flush_secs: float = 30,
                 drain_secs: float = 30,
                 disk_quota: Optional[DiskQuota] = None,
                 max_items: int = 1000,
                 max_bytes: int = 1 << 28) -> None:
        self.written: Counter = Counter()
        self.continues = False
        # At 0 the thread would never sleep.
        self.flush_secs = max(flush_secs, 0.01)
        self.drain_secs = drain_secs
        self._async = async_write
        self._quota = disk_quota or DiskQuota()
        self._refused: Counter = Counter(dict.fromkeys(KINDS, 0))
        self._dropped_reported: Counter = Counter()
        self._dropped_warned = False
        self._last_step = 0
        self._flush_at = time.monotonic() + self.flush_secs
        self._pid = os.getpid()
        self._closed = False
        self._ended = False
        self._finished = threading.Event()
        # What was waited for in vain.
        self._unmet: Optional[threading.Event] = None
        # Of a strict monitor, on its way to the training thread.
        self._error: Optional[Exception] = None
        # For what nobody foresaw; never trips.
        self._guard = FailureGuard(type(self).__name__, limit=0)
        self._lock = threading.RLock()
        self._queue = DroppingQueue(max_items, max_bytes)
        self._thread: Optional[threading.Thread] = None
        self._deaths = 0
        self._observers: List[Tuple[Observer, FailureGuard]] = []
        self._listeners: List[Tuple[type, Listener, FailureGuard]] = []

        self._take_over(summary_writer)
        if async_write:
            self._start()
        # An exception or Ctrl-C ends the training without a last event.
        atexit.register(self.close)

    @classmethod
    def of_run(cls, runner, **kwargs) -> Tuple['EventWriter', bool]:
        """The writer that shares the event file of ``LoggerHook``.

        Args:
            runner (Runner): The runner, whose visualizer gets a TensorBoard
                backend if it has none.
            **kwargs: See :class:`EventWriter`.

        Returns:
            tuple[EventWriter, bool]: The writer, and whether a backend was
            added for it.

        Raises:
            ImportError: tensorboard is missing or broken.
        """
        backends = runner.visualizer._vis_backends
        for backend in backends.values():
            if isinstance(backend, TensorboardVisBackend):
                return cls(backend.experiment, **kwargs), False

        backend = TensorboardVisBackend(osp.join(runner.log_dir, 'vis_data'))
        try:
            writer = cls(backend.experiment, **kwargs)
        except ImportError as error:
            raise ImportError(
                'tensorboard cannot be imported, so nothing is logged. '
                'Install it with: pip install tensorboard') from error
        backends[type(backend).__name__] = backend
        # As the runner did for the backends that were there in time.
        if runner.cfg:
            backend.add_config(runner.cfg)
        return writer, True

    @property
    def dropped(self) -> Counter:
        return self._queue.dropped + self._refused + self._file.pending.dropped

    @property
    def queue_depth(self) -> int:
        """How many records and events wait for the thread."""
        return len(self._queue)

    def write(self, record: Record, guard: FailureGuard) -> None:
        """Write all values of a record as one event.

        Does not wait: neither for the device nor for the disk.

        Args:
            record (Record): What was read.
            guard (FailureGuard): Whom to tell if its values cannot be made.
        """
        if not self._is_open():
            return
        tensors, ready = _start_copies(record.tensors)
        size = sum(t.numel() * t.element_size() for t in tensors)
        # The device's memory is not to wait in the queue as well.
        record = record._replace(tensors=())
        self._put(
            Item(record.kind, size,
                 _Reading(record, tensors, ready, guard, time.time())))

    def observe(self, observer: Observer, guard: FailureGuard) -> None:
        """Let somebody see all scalars that are written, by whomever.

        Args:
            observer (Callable): Called in the thread that writes, with the
                step and the scalars of each event by their tags. May return a
                record without tensors, which is written then.
            guard (FailureGuard): Whom to tell if it fails.
        """
        self._observers.append((observer, guard))

    def listen(self, measured: Optional[Type[Measurement]], listener: Listener,
               guard: FailureGuard) -> None:
        """Deliver measurements of a type, in the order of their records.

        Args:
            measured (type[Measurement], optional): Subclasses count. None:
                measurements of all types.
            listener (Callable): Called in the thread that writes, with the
                step and one measurement. May return a record without tensors,
                which is written then.
            guard (FailureGuard): Whom to tell if it fails.
        """
        self._listeners.append((measured or Measurement, listener, guard))

    def continue_run(self, log_dir: str, step: int) -> None:
        """Go on with the curves of a run that ended before its time.

        The event file moves to that run's directory, and what that run has
        written from ``step`` on is taken back, as by ``SummaryWriter``'s
        ``purge_step``.

        Args:
            log_dir (str): The directory of that run's event files.
            step (int): The first step that is written anew.
        """
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        self.log_dir = log_dir
        self.continues = True
        self._put(Item(None, 0, _Move(log_dir)))
        self.add_event(
            Event(
                wall_time=time.time(),
                step=step,
                session_log=SessionLog(status=SessionLog.START)))

    def flush(self, wait: bool = True) -> None:
        """Bring to disk what was written so far.

        Args:
            wait (bool): Return only when that is done, or after
                ``drain_secs``. Defaults to True.
        """
        if not self._is_open():
            return
        done = threading.Event()
        self._put(Item(None, 0, done))
        if wait:
            self._wait(done)

    def hold_open(self, held: bool) -> None:
        """Set whether closing the ``SummaryWriter`` only flushes.

        Else the next one to write through it would open a second file.

        Args:
            held (bool): False: closing it closes this writer, too.
        """
        summary_writer = self._summary_writer()
        if summary_writer is None:
            return
        if held:
            summary_writer.close = functools.partial(self.flush, wait=False)
        else:
            vars(summary_writer).pop('close', None)

    def close(self) -> None:
        """Bring everything to disk and stop; nothing is written any more.

        Waits ``drain_secs`` at most.
        """
        if self._ended or os.getpid() != self._pid:
            return
        if not self._closed:
            self._enqueue(Item(None, 0, self._finished))
            self._closed = True
        if not self._wait(self._finished):
            print_log(
                f'TensorBoard events could not all be written within '
                f'{self.drain_secs:g} seconds: the last {len(self._queue)} '
                'or so are lost.',
                logger='current',
                level=logging.WARNING)
        # Not before: if Ctrl-C ends the waiting, it goes on at exit.
        atexit.unregister(self.close)
        self._ended = True
        self._raise_error()

    def bytes_on_disk(self) -> int:
        """The size of the run's event files, in bytes."""
        return self._file.bytes_on_disk()

    # What else ``EventFileWriter`` has, for the ``FileWriter`` around it, and
    # for an ``EventWriter`` that takes the place of this one.

    @property
    def _file_name(self) -> str:
        return self._file.path

    def get_logdir(self) -> str:
        """The directory of the event file."""
        return str(self.log_dir)

    def add_event(self, event) -> None:
        """Write an event that somebody else has made.

        Args:
            event (tensorboard.compat.proto.event_pb2.Event): The event.
        """
        if self._is_open():
            self._put(Item(_kind(event), event.ByteSize(), event))

    # In the training thread

    def _take_over(self, summary_writer) -> None:
        """Go on with the file of the ``EventFileWriter``, in its place."""
        # Weak: it is a key of ``_last_writers``, and this one the value.
        self._summary_writer = ref(summary_writer)
        # An exception has ended what the last one was held open for.
        self.hold_open(False)
        last = _last_writers.get(summary_writer)
        if summary_writer.file_writer is None and last is not None:
            # ``LoggerHook`` has closed it after an earlier run of the same
            # Runner. To ask for a new one would begin a second file.
            from torch.utils.tensorboard.writer import FileWriter
            file_writer = FileWriter.__new__(FileWriter)
            file_writer.event_writer = last
            summary_writer.file_writer = file_writer
            summary_writer.all_writers = {summary_writer.log_dir: file_writer}
        file_writer = summary_writer._get_file_writer()
        replaced = file_writer.event_writer
        self._file = EventFile(replaced._file_name)
        self.log_dir = self._file.log_dir
        try:
            replaced.flush()
            replaced.close()
        except OSError as error:  # Maybe in the middle of an event.
            self._file.give_up(error)
        file_writer.event_writer = self
        _last_writers[summary_writer] = self

    def _is_open(self) -> bool:
        # A process forked off, a data loader's worker say, has no thread.
        return not self._closed and os.getpid() == self._pid

    def _put(self, item: Item) -> None:
        self._enqueue(item)
        self._raise_error()

    def _enqueue(self, item: Item) -> None:
        if self._async:
            self._revive()
            self._queue.put(item)
        else:
            with self._lock:
                self._handle(item)

    def _raise_error(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _wait(self, done: threading.Event) -> bool:
        """Wait for the thread, once and not again while it is stuck."""
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
        if self._finished.is_set():  # Asked after: it may have just ended.
            return
        self._deaths += 1
        print_log(
            'The thread that writes TensorBoard events has died; it is '
            'started again.',
            logger='current',
            level=logging.WARNING if self._deaths == 1 else logging.DEBUG)
        self._start()

    def _start(self) -> None:
        with self._guard:  # The system may have no thread left.
            thread = threading.Thread(
                target=self._work, name='EventWriter', daemon=True)
            thread.start()
            self._thread = thread

    # In the thread that writes

    def _work(self) -> None:
        while not self._finished.is_set():
            self._handle(
                self._queue.get(max(0, self._flush_at - time.monotonic())))

    def _handle(self, item: Optional[Item]) -> None:
        with self._guard:
            if item is not None and isinstance(item.content, threading.Event):
                self._come_to(item.content)
                return
            if item is not None and isinstance(item.content, _Move):
                self._file.move_to(item.content.log_dir)
                return
            if item is not None:
                if item.kind == IMAGE and isinstance(item.content, _Reading):
                    # It may have to wait for images.
                    self._flush()
                self._append(item)
            if time.monotonic() >= self._flush_at:
                self._flush()
            elif not self._async:
                self._file.flush()

    def _come_to(self, mark: threading.Event) -> None:
        """Flush, and close the file if it is the end, before setting it."""
        try:
            self._flush(last=mark is self._finished)
            if mark is self._finished:
                self._file.close()
        finally:
            mark.set()

    def _append(self, item: Item) -> None:
        with suppress(OSError):  # The directory is gone: the file will say so.
            self._quota.check(self._file)
        is_refused = not self._quota.allows(item.kind)
        if is_refused:
            self._refused[item.kind] += 1
            # Who observes goes on seeing what goes wrong.
            if (item.kind not in (LAYER_SCALAR, SCALAR)
                    or not (self._observers or self._listeners)):
                return
        event, measurements = item.content, []
        if isinstance(event, _Reading):
            event, measurements = self._event(event, is_refused)
        if event is not None:
            self._last_step = max(self._last_step, event.step)
            if not is_refused:
                self._file.append(event.SerializeToString(), item.kind)
            self._show(event)
        for measurement in measurements:
            self._deliver(item.content, measurement)

    def _deliver(self, reading: '_Reading', measurement: Measurement) -> None:
        """Give a measurement to those who listen for its type."""
        for measured, listener, guard in self._listeners:
            if isinstance(measurement, measured):
                self._call(guard, reading.wall_time, listener,
                           reading.record.step, measurement)

    def _show(self, event) -> None:
        """Show the scalars of an event to the observers."""
        scalars = {
            value.tag: value.simple_value
            for value in event.summary.value if value.HasField('simple_value')
        }
        for observer, guard in self._observers if scalars else ():
            self._call(guard, event.wall_time, observer, event.step, scalars)

    def _call(self, guard: FailureGuard, wall_time: float, function: Callable,
              *args) -> None:
        """Call an observer or a listener, and write what it returns."""
        if guard.tripped:
            return
        try:
            record = function(*args)
        except Exception as error:
            self._fail(guard, error)
            return
        guard.succeeded()
        if record is not None:
            self._append(
                Item(record.kind, 0, _Reading(record, [], [], guard,
                                              wall_time)))

    def _fail(self, guard: FailureGuard, error: Exception) -> None:
        # Not ``with guard``: its time is the training thread's.
        if guard.strict:
            self._error = error
        else:
            guard.report(error)

    def _event(self, reading: '_Reading', is_refused: bool = False):
        """TensorBoard's event of a record, None if it has no values; and the
        measurements."""
        from tensorboard.compat.proto.event_pb2 import Event
        record, guard = reading.record, reading.guard
        try:
            for copied in reading.ready:
                copied.synchronize()
            # Other devices than CUDA's are waited for here.
            values = list(
                record.values(*(t.cpu().numpy() for t in reading.tensors)))
            measurements = [v for v in values if isinstance(v, Measurement)]
            values = [v for v in values if not isinstance(v, Measurement)]
            summary = to_summary(values)
        except Exception as error:
            self._fail(guard, error)
            return None, []
        guard.succeeded()
        if not values:
            return None, measurements
        for value in () if is_refused else values:
            self.written[type(value).__name__] += (
                len(value.pictures) if isinstance(value, Image) else 1)
        return Event(
            wall_time=reading.wall_time, step=record.step,
            summary=summary), measurements

    def _flush(self, last: bool = False) -> None:
        self._flush_at = time.monotonic() + self.flush_secs
        self._report_dropped(last)
        self._file.flush()

    def _report_dropped(self, last: bool) -> None:
        dropped = self.dropped
        if dropped and not self._dropped_warned:
            self._dropped_warned = True
            print_log(
                'TensorBoard events are being dropped, the least important '
                f'first: {dict(dropped)} so far. The totals are under '
                'telemetry/dropped/.',
                logger='current',
                level=logging.WARNING)
        if dropped == self._dropped_reported:
            return
        # At the limit of the disk the totals wait for the end.
        if not last and not self._quota.allows(SCALAR):
            return
        self._dropped_reported = dropped
        record = Record(
            self._last_step, lambda: [
                Scalar(f'telemetry/dropped/{kind}', float(dropped[kind]))
                for kind in KINDS
            ])
        event, _ = self._event(
            _Reading(record, [], [], FailureGuard('EventWriter'), time.time()))
        self._file.append(event.SerializeToString(), SCALAR)


class _Move(NamedTuple):
    """The directory that the event file is to move to."""
    log_dir: str


class _Reading(NamedTuple):
    """A record on its way to the host."""
    record: Record
    tensors: List[Tensor]
    ready: List['torch.cuda.Event']
    guard: FailureGuard
    wall_time: float


def _start_copies(tensors: Iterable[Tensor]
                  ) -> Tuple[List[Tensor], List['torch.cuda.Event']]:
    """Copy tensors to the host without waiting for the device.

    Args:
        tensors (Iterable[Tensor]): Tensors on any device.

    Returns:
        tuple[list[Tensor], list[torch.cuda.Event]]: Tensors on the host, or
        on a device that cannot do it, those of bfloat16 as float32; and the
        events after which they hold what they should.
    """
    copies, devices = [], set()
    for tensor in tensors:
        tensor = tensor.detach()
        if tensor.dtype == torch.bfloat16:  # NumPy does not know it.
            tensor = tensor.float()
        if tensor.is_cuda:
            # Only into pinned memory does the copy run by itself.
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


def _kind(event) -> str:
    """How important an event is that MMEngine or the user has made."""
    fields = {value.WhichOneof('value') for value in event.summary.value}
    if 'image' in fields:
        return IMAGE
    return HISTOGRAM if 'histo' in fields else SCALAR
