# Copyright (c) OpenMMLab. All rights reserved.
import logging
import shutil
from collections import Counter
from contextlib import suppress
from typing import Optional, Sequence

from mmengine.logging import print_log

from .event_file import EventFile
from .record import KINDS, SCALAR, Record, Scalar
from .writer import Writer

# The fraction of a limit from which on each kind is dropped, as in KINDS.
_FRACTIONS_OF_SIZE = (0.7, 0.8, 0.9, 1)
# Scalars are small and may use nearly all of the space that must stay free.
_FRACTIONS_OF_FREE = (0.7, 0.8, 0.9, 16)


class DiskQuota:
    """Decide which kinds of records are written, by the space on the disk.

    Near a limit images are dropped, then histograms, then the scalars of
    layers. The other scalars, MMEngine's own among them, are dropped only if
    the event files have reached their largest size or the disk is nearly full.
    When there is space again, all are written again.

    Args:
        max_bytes (int, optional): The largest size of the run's event files.
            Defaults to None: no limit.
        min_free_bytes (int): The space that must stay free on the disk;
            scalars may use all of it but a sixteenth. Defaults to 1 GiB.
    """

    def __init__(self,
                 max_bytes: Optional[int] = None,
                 min_free_bytes: int = 1 << 30) -> None:
        self.max_bytes = max_bytes
        self.min_free_bytes = min_free_bytes
        self._num_dropped = 0
        self._warned = 0

    def check(self, file: EventFile) -> None:
        """Update the decision by the space that is free now.

        Args:
            file (EventFile): The event file of the run.

        Raises:
            OSError: The directory is not there.
        """
        used = file.bytes_on_disk() + file.bytes_waiting
        free = shutil.disk_usage(file.log_dir).free - file.bytes_waiting
        strain = self.min_free_bytes / max(free, 1)
        num_dropped = sum(strain >= f for f in _FRACTIONS_OF_FREE)
        if self.max_bytes:
            strain = used / self.max_bytes
            num_dropped = max(num_dropped,
                              sum(strain >= f for f in _FRACTIONS_OF_SIZE))
        if num_dropped != self._num_dropped:
            self._num_dropped = num_dropped
            self._log(used, free)

    def allows(self, kind: str) -> bool:
        """Return whether records of a kind are written at present.

        Args:
            kind (str): One of :data:`KINDS`.
        """
        return KINDS.index(kind) >= self._num_dropped

    def _log(self, used: float, free: float) -> None:
        is_new = self._num_dropped > self._warned
        self._warned = max(self._warned, self._num_dropped)
        kinds = ', '.join(KINDS[:self._num_dropped])
        print_log(
            'TensorBoard: ' + (f'no more {kinds} events are written'
                               if kinds else 'everything is written again') +
            f', {free / 2**20:,.0f} MiB are free on the disk and '
            f'{used / 2**20:,.0f} MiB used by this run (disk_quota: '
            f'max_bytes={self.max_bytes}, '
            f'min_free_bytes={self.min_free_bytes}).',
            logger='current',
            level=logging.WARNING if is_new else logging.DEBUG)


class BoundedWriter(Writer):
    """Drop records for which there is no space, and count them.

    The numbers of dropped records are scalars, written at a flush if they have
    changed.

    Args:
        writer (Writer): Writes the other records.
        file (EventFile): The file that they are written to.
        quota (DiskQuota): Decides which records are dropped.
        elsewhere (Sequence[Counter]): Numbers of records that others have
            dropped, by kind. Defaults to ().
    """

    def __init__(self,
                 writer: Writer,
                 file: EventFile,
                 quota: DiskQuota,
                 elsewhere: Sequence[Counter] = ()) -> None:
        self._writer = writer
        self._file = file
        self._quota = quota
        self._refused: Counter = Counter(dict.fromkeys(KINDS, 0))
        self._counts = [self._refused, *elsewhere]
        self._reported: Counter = Counter()
        self._step = 0

    @property
    def dropped(self) -> Counter:
        """Counter: The number of dropped records, by kind."""
        return sum(self._counts, Counter())

    def write(self, record: Record) -> None:
        """Write a record if there is space for it."""
        self._step = max(self._step, record.step)
        with suppress(OSError):  # The directory is gone: the file says so.
            self._quota.check(self._file)
        if self._quota.allows(record.kind):
            self._writer.write(record)
        else:
            self._refused[record.kind] += 1

    def flush(self) -> None:
        # At the limit of the disk the totals wait for the end.
        if self._quota.allows(SCALAR):
            self._write_totals()
        self._writer.flush()

    def close(self) -> None:
        self._write_totals()
        self._writer.close()

    def _write_totals(self) -> None:
        dropped = self.dropped
        if dropped == self._reported:
            return
        if not self._reported:
            print_log(
                'TensorBoard events are being dropped, the least important '
                f'first: {dict(dropped)} so far. The totals are under '
                'telemetry/dropped/.',
                logger='current',
                level=logging.WARNING)
        self._reported = dropped
        self._writer.write(
            Record(
                self._step, lambda: [
                    Scalar(f'telemetry/dropped/{kind}', float(dropped[kind]))
                    for kind in KINDS
                ]))
