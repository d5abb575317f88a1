# Copyright (c) OpenMMLab. All rights reserved.
import logging
import shutil
import time
from typing import Optional

from mmengine.logging import print_log

from .dropping_queue import KINDS
from .event_file import EventFile

# From which share of a limit on each kind is given up, in the order of KINDS.
_SHARES_OF_SIZE = (0.7, 0.8, 0.9, 1.0)
# All scalars of a training fit into a corner of the disk: of what has to stay
# free they may have nearly everything.
_SHARES_OF_DISK = (0.7, 0.8, 0.9, 16)


class DiskQuota:
    """What may still be written, by the room that is left on the disk.

    Near a limit images are given up, then histograms, then the scalars of
    layers. The other scalars, MMEngine's own among them, are given up only
    where the event files have reached their size or the disk is all but full.
    When there is room again, all come back.

    Args:
        max_bytes (int, optional): The largest size of the run's event files.
            Defaults to None: no limit.
        min_free_bytes (int): What has to stay free on the disk; scalars may
            have all of it but a sixteenth. Defaults to 1 GiB.
        check_secs (float): The shortest time between two looks at the disk,
            in seconds. Defaults to 1.
    """

    def __init__(self,
                 max_bytes: Optional[int] = None,
                 min_free_bytes: int = 1 << 30,
                 check_secs: float = 1) -> None:
        self.max_bytes = max_bytes
        self.min_free_bytes = min_free_bytes
        self._check_secs = check_secs
        self._check_at = 0.
        self._used = 0
        self._free = float('inf')
        self._accepted = 0
        self._given_up = 0
        self._said = set()

    def check(self, file: EventFile) -> None:
        """Judge anew, from a look at the disk that was taken not long ago.

        Args:
            file (EventFile): The event file of the run.

        Raises:
            OSError: The directory is not there.
        """
        now = time.monotonic()
        accepted = file.bytes_written + file.bytes_waiting
        if now >= self._check_at:
            self._check_at = now + self._check_secs
            self._used = file.bytes_on_disk() + file.bytes_waiting
            self._accepted = accepted
            self._free = shutil.disk_usage(
                file.log_dir).free - file.bytes_waiting
        since = accepted - self._accepted
        self._judge(self._used + since, self._free - since)

    def _judge(self, used: float, free: float) -> None:
        strains = [(self.min_free_bytes / max(free, 1), _SHARES_OF_DISK)]
        if self.max_bytes:
            strains.append((used / self.max_bytes, _SHARES_OF_SIZE))

        def beyond(part: float) -> int:
            return max(
                sum(strain >= part * share for share in shares)
                for strain, shares in strains)

        # Back only with some distance, or it would come and go.
        given_up = max(beyond(1), min(self._given_up, beyond(0.95)))
        if given_up == self._given_up:
            return
        self._given_up = given_up
        print_log(
            'TensorBoard: ' +
            (f'no more {", ".join(KINDS[:given_up])} events are written'
             if given_up else 'everything is written again') +
            f', {free / 2**20:,.0f} MiB are free on the disk and '
            f'{used / 2**20:,.0f} MiB used by this run (disk_quota: '
            f'max_bytes={self.max_bytes}, '
            f'min_free_bytes={self.min_free_bytes}).',
            logger='current',
            level=logging.INFO if given_up in self._said else logging.WARNING)
        self._said.update(range(given_up + 1))

    def allows(self, kind: Optional[str]) -> bool:
        """Whether events of a kind are written at present.

        Args:
            kind (str, optional): One of :data:`KINDS`; None is always
                allowed.

        Returns:
            bool: The answer of the last :meth:`check`.
        """
        return kind is None or KINDS.index(kind) >= self._given_up
