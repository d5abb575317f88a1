# Copyright (c) OpenMMLab. All rights reserved.
import itertools
import logging
import os
import os.path as osp
import socket
import time
from contextlib import suppress
from typing import BinaryIO, Callable, List, Optional

from mmengine.logging import print_log

from .dropping_queue import DroppingQueue, Item
from .tfrecord import event_files, frame

_numbers = itertools.count(1)


def open_unbuffered(path: str) -> BinaryIO:
    """Open a file to append to it, each write going to the system at once.

    Args:
        path (str): The file.

    Returns:
        BinaryIO: The open file, without a buffer that a forked process could
        write a second time.
    """
    return open(path, 'ab', buffering=0)


class EventFile:
    """Write the event file of a run, on a disk that may fail.

    Events are kept in memory until :meth:`flush`. When the disk refuses them
    (it is full, read-only or broken, or the directory was deleted), the file
    is truncated to its last whole event, pending events are kept within a
    limit, and writing is retried later, in a new file beside it:
    TensorBoard reads all files of a directory as one run.

    Args:
        path (str): An event file that is complete and closed; it is
            continued.
        retry_secs (float): How long to leave a failing disk alone, in
            seconds. Defaults to 5.
        max_pending_bytes (int): The largest size of the events that wait for
            a failing disk; the least important are dropped. Defaults to
            16 MiB.
        max_batch_bytes (int): The largest size of the events that wait for a
            flush; 0 to write each at once. Defaults to 1 MiB.
        opener (Callable): Opens a file to append to. Defaults to
            :func:`open_unbuffered`.

    Attributes:
        path (str): The file that is written.
        log_dir (str): Its directory.
        pending (DroppingQueue): Keeps events while the disk is failing.
        failing (bool): Whether the last attempt to write failed.
        bytes_written (int): Bytes that reached the disk through this object.
    """

    def __init__(self,
                 path: str,
                 retry_secs: float = 5,
                 max_pending_bytes: int = 1 << 24,
                 max_batch_bytes: int = 1 << 20,
                 opener: Callable[[str], BinaryIO] = open_unbuffered) -> None:
        self.path = osp.abspath(path)
        self.log_dir = osp.dirname(self.path)
        self.failing = False
        self.bytes_written = 0
        self.pending = DroppingQueue(1 << 20, max_pending_bytes)
        self._batch: List[Item] = []
        self._batch_bytes = 0
        self._max_batch_bytes = max_batch_bytes
        self._opener = opener
        self._retry_secs = retry_secs
        self._retry_at = 0.
        self._file: Optional[BinaryIO] = None
        self._warned = set()

    @property
    def bytes_waiting(self) -> int:
        """int: The size of the events in memory, in bytes."""
        return self._batch_bytes + self.pending.bytes

    def append(self, event, kind: str) -> None:
        """Keep an event for the next flush.

        Args:
            event (tensorboard.compat.proto.event_pb2.Event): The event.
            kind (str): One of :data:`KINDS`, how important it is.
        """
        data = frame(event.SerializeToString())
        item = Item(kind, len(data), data)
        if self.failing:
            self.pending.put(item)
        else:  # As long as the disk works, nothing is dropped.
            self._batch.append(item)
            self._batch_bytes += item.size
        if self.bytes_waiting > self._max_batch_bytes:
            self.flush()

    def flush(self) -> None:
        """Bring to disk what is kept, unless the disk is failing."""
        if not self.bytes_waiting or time.monotonic() < self._retry_at:
            return
        items = [self.pending.get() for _ in range(len(self.pending))]
        items += self._batch
        self._batch, self._batch_bytes = [], 0
        try:
            self._write(items)
        except BaseException as error:  # Ctrl-C as well
            for item in items:
                self.pending.put(item)
            if not isinstance(error, OSError):
                raise
            self.give_up(error)
        else:
            if self.failing:
                self.failing = False
                print_log(
                    f'TensorBoard events are written again, to {self.path}; '
                    f'{sum(self.pending.dropped.values())} were dropped.',
                    logger='current')

    def give_up(self, error: OSError) -> None:
        """Close the file and log why; writing goes on in another one.

        Args:
            error (OSError): The error. Each cause is one WARNING.
        """
        self.failing = True
        self._retry_at = time.monotonic() + self._retry_secs
        if self._file is not None:
            with suppress(OSError):
                if not osp.getsize(self.path):
                    os.remove(self.path)
            with suppress(OSError):
                self._file.close()
        self._file = None
        seen = error.errno in self._warned
        self._warned.add(error.errno)
        print_log(
            f'TensorBoard events cannot be written to {self.log_dir}: '
            f'{error}. The training goes on; what is logged is kept in memory '
            f'up to {self.pending.max_bytes / 2**20:g} MiB, and writing is '
            'tried again from time to time, in a new file.',
            logger='current',
            level=logging.DEBUG if seen else logging.WARNING)

    def close(self) -> None:
        """Bring everything to disk if it takes it, and close the file."""
        self._retry_at = 0.
        self.flush()
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
        self._file = None
        if len(self.pending):
            print_log(
                f'{len(self.pending)} TensorBoard events could not be written '
                f'to {self.log_dir} and are lost.',
                logger='current',
                level=logging.WARNING)

    def move_to(self, log_dir: str) -> None:
        """Go on in another directory, with the file and all that is in it.

        Args:
            log_dir (str): A directory on the same disk, of event files that
                this one is to continue.
        """
        self.close()
        path = osp.join(osp.abspath(log_dir), osp.basename(self.path))
        os.replace(self.path, path)
        self.path, self.log_dir = path, osp.dirname(path)

    def bytes_on_disk(self) -> int:
        """Return the size of all event files in the directory, in bytes."""
        total = 0
        for path in event_files(self.log_dir):
            with suppress(OSError):  # The user may be removing it.
                total += osp.getsize(path)
        return total

    def _write(self, items: List[Item]) -> None:
        """Write all items or, if the disk fails, none."""
        if self._file is not None and not osp.exists(self.path):
            raise FileNotFoundError(2, 'the event file was deleted', self.path)
        if self._file is None:
            self._open()
        whole = self._file.tell()
        data = b''.join(item.content for item in items)
        if not whole:
            data = frame(_version()) + data
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left):]
        except BaseException:
            with suppress(OSError):
                self._file.seek(whole)
                self._file.truncate()
            raise
        self.bytes_written += len(data)

    def _open(self) -> None:
        if self.failing:
            os.makedirs(self.log_dir, exist_ok=True)
            # Sorted after the earlier files, as TensorBoard names them.
            self.path = osp.join(
                self.log_dir, f'events.out.tfevents.{int(time.time()):010d}.'
                f'{socket.gethostname()}.{os.getpid()}.resumed'
                f'{next(_numbers):04d}')
        self._file = self._opener(self.path)


def _version() -> bytes:
    """Return the event that every event file begins with."""
    from tensorboard.compat.proto.event_pb2 import Event
    return Event(
        wall_time=time.time(),
        file_version='brain.Event:2').SerializeToString()
