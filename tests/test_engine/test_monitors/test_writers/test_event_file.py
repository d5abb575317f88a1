# Copyright (c) OpenMMLab. All rights reserved.
import errno
import glob
import io
import os
import shutil

import pytest
from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from mmpose.engine.monitors.writers.event_file import EventFile
from mmpose.engine.monitors.writers.record import IMAGE, SCALAR

# A version event and nine scalars take less, ten and more do not.
ROOM = 500


class Disk:
    """A disk with little room, or with a fault."""

    def __init__(self):
        self.room = 1 << 30
        self.error = None
        self.truncates = True

    def open(self, path):
        if self.error in (errno.EROFS, errno.EACCES):
            raise OSError(self.error, os.strerror(self.error))
        return DiskFile(self, path)


class DiskFile(io.FileIO):

    def __init__(self, disk, path):
        super().__init__(path, 'ab')
        self.disk = disk

    def write(self, data):
        if isinstance(self.disk.error, int):
            raise OSError(self.disk.error, os.strerror(self.disk.error))
        size = min(len(data), self.disk.room)
        if not size:
            raise self.disk.error or OSError(errno.ENOSPC, 'No space left')
        self.disk.room -= size
        return super().write(data[:size])

    def truncate(self, size=None):
        if not self.disk.truncates:
            raise OSError(errno.EIO, 'Input/output error')
        before = os.fstat(self.fileno()).st_size
        super().truncate(size)
        self.disk.room += before - os.fstat(self.fileno()).st_size


@pytest.fixture
def disk():
    return Disk()


def event_file(log_dir, **kwargs):
    path = os.path.join(log_dir, 'events.out.tfevents.0000000001.host.1.0')
    return EventFile(path, retry_secs=0, **kwargs)


def append(file, steps, kind=SCALAR, size=0):
    for step in steps:
        value = Summary.Value(tag='tag' + 'x' * size, simple_value=step)
        file.append(Event(step=step, summary=Summary(value=[value])), kind)


def steps(events):
    return [event.step for event in events]


def scalars(log_dir):
    events = EventAccumulator(str(log_dir)).Reload()
    return [scalar.step for scalar in events.Scalars('tag')]


def files(log_dir):
    return glob.glob(f'{log_dir}/*')


def test_a_full_disk_in_the_middle_of_a_write(tmp_path, disk, read_events,
                                              warnings_logged):
    """P2, P7: cut back to whole events; goes on in a new file with all."""
    file = event_file(tmp_path, opener=disk.open)
    append(file, range(5))
    file.flush()
    disk.room = ROOM
    append(file, range(5, 50))
    file.flush()
    assert file.failing and disk.room == ROOM, 'all or nothing'
    assert steps(read_events(tmp_path)) == list(range(5))
    append(file, [50])
    file.flush()
    file.flush()
    assert len(files(tmp_path)) == 1, 'failed attempts leave no files'

    disk.room = 1 << 30
    append(file, [51])
    file.flush()
    append(file, [52])
    file.close()
    assert not file.failing
    assert steps(read_events(tmp_path)) == list(range(53))
    assert scalars(tmp_path) == list(range(53))
    assert len(files(tmp_path)) == 2
    assert len(warnings_logged) == 1 and 'No space' in warnings_logged[0]


def test_half_an_event_that_cannot_be_cut_off(tmp_path, disk):
    """P7: nothing is written behind it, and the file loads."""
    file = event_file(tmp_path, opener=disk.open)
    append(file, range(5))
    file.flush()
    disk.room, disk.truncates = ROOM, False
    append(file, range(5, 50))
    file.flush()
    disk.room, disk.truncates = 1 << 30, True
    file.close()
    loaded = scalars(tmp_path)
    assert loaded[-45:] == list(range(5, 50))
    assert set(loaded[:-45]) >= set(range(5))


@pytest.mark.parametrize('error', [errno.EIO, errno.EROFS, errno.EACCES])
def test_a_broken_or_read_only_disk(tmp_path, disk, read_events,
                                    warnings_logged, error):
    """P2: one WARNING for a cause; what was logged meanwhile comes later."""
    file = event_file(tmp_path, opener=disk.open)
    for step in range(3):
        disk.error = error
        append(file, [2 * step])
        file.flush()
        assert file.failing
        disk.error = None
        append(file, [2 * step + 1])
        file.flush()
        assert not file.failing
    file.close()
    assert steps(read_events(tmp_path)) == list(range(6))
    assert len(warnings_logged) == 1
    assert os.strerror(error) in warnings_logged[0]


def test_a_failing_disk_is_left_alone_for_a_while(tmp_path, disk):
    """P2: a broken disk is not asked with every flush."""
    file = event_file(tmp_path, opener=disk.open)
    file._retry_secs = 1000
    disk.error = errno.EIO
    append(file, [0])
    file.flush()
    disk.error = None
    file.flush()
    assert file.failing and len(file.pending) == 1
    file.close()
    assert scalars(tmp_path) == [0], 'at the end it is asked once more'


def test_a_deleted_directory(tmp_path, read_events, warnings_logged):
    """P2, P7: it is made again."""
    log_dir = tmp_path / 'run'
    log_dir.mkdir()
    file = event_file(log_dir)
    append(file, [0])
    file.flush()
    shutil.rmtree(log_dir)
    append(file, [1])
    file.flush()
    append(file, [2])
    file.close()
    assert steps(read_events(log_dir)) == [1, 2]
    assert len(warnings_logged) == 1 and 'deleted' in warnings_logged[0]


def test_what_waits_for_the_disk_is_bounded(tmp_path, disk, warnings_logged):
    """P6: images go before scalars, and at the end it says what is lost."""
    file = event_file(tmp_path, opener=disk.open, max_pending_bytes=ROOM)
    file._retry_secs = 1000
    disk.error = errno.EIO
    append(file, [0])
    file.flush()
    for step in range(20):
        append(file, [step], SCALAR)
        append(file, [step], IMAGE)
        assert file.bytes_waiting <= ROOM
    assert file.pending.dropped[IMAGE] == 20
    assert file.pending.dropped[SCALAR] > 0
    lost = len(file.pending)
    file.close()
    assert len(warnings_logged) == 2
    assert warnings_logged[1].startswith(f'{lost} TensorBoard events')


def test_a_disk_that_works_drops_nothing(tmp_path, disk):
    """P6: what waits for the flush may be more than what may wait for long."""
    file = event_file(tmp_path, opener=disk.open, max_pending_bytes=ROOM)
    append(file, range(100), IMAGE)
    append(file, [100], IMAGE, size=1 << 20)
    assert file.bytes_waiting == 0, 'written before the flush'
    file.close()
    assert not sum(file.pending.dropped.values())
    assert scalars(tmp_path) == list(range(100))


def test_ctrl_c_in_the_middle_of_a_write(tmp_path, disk, read_events):
    """P7: it passes, and nothing is lost or there twice."""
    file = event_file(tmp_path, opener=disk.open)
    append(file, range(5))
    file.flush()
    disk.room, disk.error = ROOM, KeyboardInterrupt()
    append(file, range(5, 50))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            file.flush()
    disk.room = 1 << 30
    file.close()
    assert steps(read_events(tmp_path)) == list(range(50))
    assert len(files(tmp_path)) == 1


def test_without_a_batch_nothing_waits(tmp_path, disk, read_events):
    """P7: nobody would come to flush it, and a failing disk is tried again."""
    file = event_file(tmp_path, opener=disk.open, max_batch_bytes=0)
    append(file, [0])
    assert steps(read_events(tmp_path)) == [0]
    disk.error = errno.EIO
    append(file, [1])
    disk.error = None
    append(file, [2])
    assert steps(read_events(tmp_path)) == [0, 1, 2]


def test_a_file_that_is_gone_has_no_size(tmp_path, monkeypatch):
    """P2: removed in the midst of it, or a link to nowhere."""
    file = event_file(tmp_path)
    append(file, range(5))
    file.flush()
    size = os.path.getsize(file.path)
    (tmp_path / 'tfevents.link').symlink_to(tmp_path / 'nowhere')
    found = glob.glob

    def find_too_much(pattern):
        return [*found(pattern), str(tmp_path / 'tfevents.removed')]

    monkeypatch.setattr(glob, 'glob', find_too_much)
    assert file.bytes_on_disk() == size


def test_a_real_disk_that_fills(small_disk, read_events, warnings_logged):
    """P2, P7: and goes on when the user has made room."""
    ballast = small_disk / 'ballast'
    ballast.write_bytes(bytes(200 << 10))
    file = event_file(small_disk)
    # Only the scalars are read as a tag: this is nearly 1 KB each.
    for step in range(100):
        append(file, [step], size=900)
        file.flush()
    assert file.failing
    on_disk = steps(read_events(small_disk))
    assert on_disk == list(range(len(on_disk))) and 10 < len(on_disk) < 90
    ballast.unlink()
    file.close()
    assert steps(read_events(small_disk)) == list(range(100))
    EventAccumulator(str(small_disk)).Reload()
    assert len(warnings_logged) == 1
