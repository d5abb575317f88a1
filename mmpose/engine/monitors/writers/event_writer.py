# Copyright (c) OpenMMLab. All rights reserved.
import time
import weakref
from collections import Counter
from functools import partial
from typing import Optional, Sequence, Type

from .background_writer import BackgroundWriter
from .disk_quota import BoundedWriter, DiskQuota
from .dropping_queue import DroppingQueue
from .foreground_writer import ForegroundWriter
from .mirrors.mirror_writer import Mirror, MirrorWriter
from .observed_writer import Listener, Listeners, ObservedWriter
from .record import Measurement, Record
from .shared_file import SharedFile
from .tensorboard_writer import TensorBoardWriter
from .writer import Guard, Writer


class EventWriter(Writer):
    """Write the records of a run into its existing event file.

    It combines the writers of a run: records wait in a queue for one thread,
    which delivers their measurements, applies a disk quota and writes them
    with :class:`TensorBoardWriter`, in one order with the events of the run's
    ``SummaryWriter``.

    Args:
        summary_writer (torch.utils.tensorboard.SummaryWriter): The
            SummaryWriter of the run.
        async_write (bool): Whether to write in a thread of its own instead of
            the calling thread. Defaults to True.
        flush_secs (float): See :class:`BackgroundWriter`. Defaults to 30.
        drain_secs (float): See :class:`BackgroundWriter`. Defaults to 30.
        disk_quota (DiskQuota, optional): Decides what is written when the
            disk fills. Defaults to None, which is ``DiskQuota()``.
        max_items (int): The largest number of records in the queue. Defaults
            to 1000.
        max_bytes (int): The largest size of the queue. Defaults to 256 MiB.
        guard (Guard, optional): Told of errors outside of a record, and of
            events of the SummaryWriter that cannot be written. Defaults to
            None: one that raises.
        mirrors (Sequence[Mirror]): The experiment trackers that receive what
            is written, also what the disk has no space for. Defaults to ().

    Attributes:
        log_dir (str): The directory of the event file.
        continues (bool): Whether this run continues an earlier one in the same
            directory.
        mirrors (Sequence[Mirror]): The experiment trackers.
    """

    def __init__(self,
                 summary_writer,
                 async_write: bool = True,
                 flush_secs: float = 30,
                 drain_secs: float = 30,
                 disk_quota: Optional[DiskQuota] = None,
                 max_items: int = 1000,
                 max_bytes: int = 1 << 28,
                 guard: Optional[Guard] = None,
                 mirrors: Sequence[Mirror] = ()) -> None:
        self._shared = SharedFile(
            summary_writer, max_batch_bytes=1 << 20 if async_write else 0)
        file = self._shared.file
        self.log_dir = file.log_dir
        self.continues = False
        self.mirrors = mirrors
        self._listeners = Listeners()
        self._queue = DroppingQueue(max_items, max_bytes)
        self._tensorboard = TensorBoardWriter(file)
        self._bounded = BoundedWriter(
            self._tensorboard, file, disk_quota or DiskQuota(),
            [self._queue.dropped, file.pending.dropped])
        mirrored = (
            MirrorWriter(self._bounded, mirrors) if mirrors else self._bounded)
        observed = ObservedWriter(mirrored, self._listeners)
        if async_write:
            self._outer = BackgroundWriter(observed, self._queue, guard,
                                           flush_secs, drain_secs)
        else:
            self._outer = ForegroundWriter(observed, guard)
        self._shared.writer = self._outer
        # If an exception ends the training, this writer is not closed. The
        # thread has no reference to it and ends after the run was collected.
        for thread in (self._outer, *mirrors):
            weakref.finalize(self, thread.end_when_idle).atexit = False

    @property
    def written(self) -> Counter:
        """Counter: The number of written values, by the name of their type."""
        return self._tensorboard.written

    @property
    def dropped(self) -> Counter:
        """Counter: The number of dropped records and events, by kind."""
        return self._bounded.dropped

    @property
    def queue_depth(self) -> int:
        """int: The number of records and events that wait for the thread."""
        return len(self._queue)

    @property
    def cpu_seconds(self) -> float:
        """float: The CPU time of the writer's thread, in seconds."""
        return self._outer.cpu_seconds

    def bytes_on_disk(self) -> int:
        """Return the size of the event files in the directory, in bytes.

        It includes those of earlier runs that this one continues.
        """
        return self._shared.file.bytes_on_disk()

    def write(self, record: Record, guard: Optional[Guard] = None) -> None:
        """Write all values of a record as one event.

        It waits neither for the device nor for the disk.

        Args:
            record (Record): The record.
            guard (Guard, optional): Told whether its values could be written.
                Defaults to None: the one of the writer.
        """
        self._outer.write(record, guard)

    def add_event(self, event) -> None:
        """Write an event of TensorBoard without a change.

        Args:
            event (tensorboard.compat.proto.event_pb2.Event): The event.
        """
        self._shared.add_event(event)

    def listen(self, measured: Optional[Type[Measurement]], listener: Listener,
               guard: Guard) -> None:
        """Deliver measurements of a type, in the order of their records.

        Args:
            measured (type[Measurement], optional): Subclasses count. None:
                measurements of all types. :class:`Tick`: called every
                ``flush_secs`` as well where nothing is measured.
            listener (Callable): Called in the writer's thread, with the
                step and one measurement. May return a record without tensors,
                which is written then.
            guard (Guard): Told whether it fails.
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
        self._outer.call(partial(self._shared.file.move_to, log_dir))
        self.add_event(
            Event(
                wall_time=time.time(),
                step=step,
                session_log=SessionLog(status=SessionLog.START)))

    def hold_open(self, held: bool) -> None:
        """Set whether closing the ``SummaryWriter`` only flushes.

        Args:
            held (bool): False: closing it closes this writer, too.
        """
        self._shared.hold_open(held)

    def flush(self, wait: bool = True) -> None:
        """Bring to disk what was written so far.

        Args:
            wait (bool): Return only when that is done, or after
                ``drain_secs``. Defaults to True.
        """
        self._outer.flush(wait)

    def drain(self) -> None:
        """Flush, images last: there may be no time to draw them."""
        self._queue.images_last = True
        self.flush()

    def close(self) -> None:
        """Bring everything to disk; nothing is written any more.

        Waits ``drain_secs`` at most.
        """
        self._outer.close()
