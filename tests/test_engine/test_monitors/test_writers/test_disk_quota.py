# Copyright (c) OpenMMLab. All rights reserved.
import os
import shutil

import pytest
from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from mmpose.engine.monitors import DiskQuota, EventWriter
from mmpose.engine.monitors.writers.event_file import EventFile
from mmpose.engine.monitors.writers.record import KINDS


@pytest.fixture
def file(tmp_path):
    return EventFile(str(tmp_path / 'events.out.tfevents.1'))


def allowed(quota, file):
    quota.check(file)
    return [kind for kind in KINDS if quota.allows(kind)]


def free(file):
    return shutil.disk_usage(file.log_dir).free


@pytest.mark.parametrize('share, given_up', [(0.6, 0), (0.75, 1), (0.85, 2),
                                             (0.95, 3), (1.1, 3), (15, 3),
                                             (17, 4)])
def test_kinds_are_given_up_in_order_as_the_disk_fills(file, warnings_logged,
                                                       share, given_up):
    """P6: images, histograms, layer scalars; it says so once.

    MMEngine's own scalars only where the disk is all but full.
    """
    quota = DiskQuota(min_free_bytes=int(share * free(file)))
    for _ in range(3):
        assert allowed(quota, file) == list(KINDS[given_up:])
    assert len(warnings_logged) == (given_up > 0)
    assert all(', '.join(KINDS[:given_up]) in text for text in warnings_logged)


def test_kinds_are_given_up_in_order_as_the_files_grow(file, warnings_logged):
    """P6: up to the size that the user has set, then back with room."""
    quota = DiskQuota(max_bytes=1000, min_free_bytes=0)
    other = file.path + '.of_this_run'
    seen = []
    for size in (600, 750, 850, 950, 1050, 0):
        with open(other, 'wb') as f:
            f.write(bytes(size))
        seen.append(len(allowed(quota, file)))
    assert seen == [4, 3, 2, 1, 0, 4]
    assert len(warnings_logged) == 4


def test_at_a_limit_it_warns_once(file, warnings_logged):
    """P6: also where somebody else's files come and go."""
    quota = DiskQuota(max_bytes=1000, min_free_bytes=0)
    other = file.path + '.of_this_run'
    for size in (710, 690) * 10:
        with open(other, 'wb') as f:
            f.write(bytes(size))
        assert len(allowed(quota, file)) == (3 if size > 700 else 4)
    assert len(warnings_logged) == 1


def test_what_is_not_on_the_disk_yet_counts(tmp_path):
    """P6: before a flush."""
    summary_writer = SummaryWriter(str(tmp_path))
    EventWriter(
        summary_writer,
        flush_secs=1000,
        disk_quota=DiskQuota(max_bytes=20000, min_free_bytes=0))
    for step in range(2000):
        summary_writer.add_scalar('tag', step, step)
    summary_writer.close()
    path, = map(str, tmp_path.glob('*'))
    # The last one that was allowed, and the totals of what was dropped.
    assert 19000 < os.path.getsize(path) < 20500
    events = EventAccumulator(path).Reload()
    written = len(events.Scalars('tag'))
    dropped, = events.Scalars('telemetry/dropped/scalar')
    assert written + dropped.value == 2000


def test_it_resumes_when_there_is_room(tmp_path, read_events):
    """P6: a user who frees space gets everything back."""
    summary_writer = SummaryWriter(str(tmp_path))
    quota = DiskQuota(min_free_bytes=1 << 60)
    EventWriter(summary_writer, disk_quota=quota)
    summary_writer.add_scalar('tag', 1, 1)
    summary_writer.flush()
    assert not read_events(tmp_path), 'at the limit not even the totals'
    quota.min_free_bytes = 0
    summary_writer.add_scalar('tag', 2, 2)
    summary_writer.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [scalar.step for scalar in events.Scalars('tag')] == [2]
    assert [s.value for s in events.Scalars('telemetry/dropped/scalar')] == [1]


def test_a_deleted_directory_is_no_news_for_the_quota(tmp_path, read_events,
                                                      warnings_logged):
    """P2: the file says so and makes it again."""
    summary_writer = SummaryWriter(str(tmp_path / 'run'))
    EventWriter(summary_writer, disk_quota=DiskQuota())
    shutil.rmtree(str(tmp_path / 'run'))
    summary_writer.add_scalar('tag', 1, 1)
    summary_writer.close()
    assert len(read_events(tmp_path / 'run')) == 1
    assert len(warnings_logged) == 1 and 'No such file' in warnings_logged[0]
