# Copyright (c) OpenMMLab. All rights reserved.
"""Measurements reach who listens for them, and no event file."""
import threading
from typing import NamedTuple

import pytest
from torch.utils.tensorboard import SummaryWriter

from mmpose.engine.monitors import (DiskQuota, EventWriter, FailureGuard,
                                    Measurement, Record, Scalar)


class Loss(Measurement):

    def __init__(self, value):
        self.value = value


class Norm(Loss):
    pass


class Other(NamedTuple):
    """No measurement, and nothing that TensorBoard knows."""


@pytest.fixture
def summary_writer(tmp_path):
    return SummaryWriter(str(tmp_path))


@pytest.fixture
def guard():
    return FailureGuard('SomeMonitor')


def record(step, *values):
    return Record(step, lambda: values)


@pytest.mark.parametrize('async_write', [True, False])
def test_they_are_delivered_by_type_in_order(summary_writer, guard,
                                             async_write, read_events):
    """In the thread that writes; scalars beside them are written."""
    writer = EventWriter(summary_writer, async_write=async_write)
    seen, threads = {}, set()

    def listener(name):

        def listen(step, measurement):
            threads.add(threading.current_thread())
            seen.setdefault(name, []).append((step, measurement.value))

        return listen

    writer.listen(None, listener('all'), guard)
    writer.listen(Loss, listener('losses'), guard)
    writer.listen(Norm, listener('norms'), guard)
    for step in range(3):
        writer.write(
            record(step, Loss(step), Scalar('tag', step), Norm(-step)), guard)
    writer.write(record(3, Norm(-3)), guard)
    writer.close()
    norms = [(0, 0), (1, -1), (2, -2), (3, -3)]
    assert seen['norms'] == norms
    assert seen['all'] == seen['losses'] == [(0, 0), (0, 0), (1, 1), (1, -1),
                                             (2, 2), (2, -2), (3, -3)]
    assert (threading.current_thread() in threads) != async_write
    tags = [[v.tag for v in event.summary.value]
            for event in read_events(summary_writer.log_dir)]
    assert tags == [['tag']] * 3, 'nothing of a measurement is in the file'
    assert not guard.failures


def test_a_listener_may_answer_with_a_record(summary_writer, guard,
                                             read_events):
    """It is written, and its own measurements are delivered."""
    writer = EventWriter(summary_writer)
    norms = []

    def answer(step, measurement):
        if not isinstance(measurement, Norm):
            return record(step, Norm(2), Scalar('answer', measurement.value))

    writer.listen(Loss, answer, guard)
    writer.listen(Norm, lambda step, norm: norms.append(step), guard)
    writer.write(record(5, Loss(7.)), guard)
    writer.close()
    event, = read_events(summary_writer.log_dir)
    assert (event.step, event.summary.value[0].simple_value) == (5, 7)
    assert norms == [5]


def test_a_full_disk_hides_no_measurement(summary_writer, guard, read_events):
    """P6: what is not written any more is looked at all the same."""
    seen = []
    writer = EventWriter(
        summary_writer, disk_quota=DiskQuota(min_free_bytes=1 << 60))
    writer.listen(None, lambda step, norm: seen.append(step), guard)
    writer.write(record(1, Scalar('tag', 1), Norm(1)), guard)
    writer.close()
    tags = [
        value.tag for event in read_events(summary_writer.log_dir)
        for value in event.summary.value
    ]
    assert seen == [1] and 'tag' not in tags


def test_a_listener_that_fails_is_its_guards(summary_writer, guard,
                                             warnings_logged):
    """P2: others go on, and it is asked no more after three failures."""
    writer = EventWriter(summary_writer)
    asked, seen = [], []
    writer.listen(None, lambda step, norm: asked.append(step) or 1 / 0, guard)
    writer.listen(None, lambda step, norm: seen.append(step),
                  FailureGuard('Another'))
    for step in range(5):
        writer.write(record(step, Norm(step)), FailureGuard('Monitor'))
    writer.close()
    assert (asked, seen) == ([0, 1, 2], [0, 1, 2, 3, 4])
    assert guard.tripped and len(warnings_logged) == 1


def test_what_nobody_knows_is_said(summary_writer, guard, warnings_logged):
    """P2: a value that is neither written nor delivered is a mistake."""
    writer = EventWriter(summary_writer)
    writer.write(record(1, Other()), guard)
    writer.close()
    assert guard.failures == 1 and 'Other' in warnings_logged[0]
