# Copyright (c) OpenMMLab. All rights reserved.
"""Each writer by itself, and one around another."""
import glob
import threading
from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from mmpose.engine.monitors import FailureGuard, Measurement, Record, Scalar
from mmpose.engine.monitors.writers.background_writer import BackgroundWriter
from mmpose.engine.monitors.writers.dropping_queue import DroppingQueue
from mmpose.engine.monitors.writers.foreground_writer import ForegroundWriter
from mmpose.engine.monitors.writers.observed_writer import (Listeners,
                                                            ObservedWriter)
from mmpose.engine.monitors.writers.record import Image
from mmpose.engine.monitors.writers.tensorboard_writer import TensorBoardWriter
from mmpose.engine.monitors.writers.writer import Writer


class Told(Writer):
    """A writer for another backend, which keeps what it is told."""

    def __init__(self):
        self.told = []
        self.threads = set()

    def write(self, record):
        self.threads.add(threading.current_thread())
        self.told += [(record.step, value.tag) for value in record.read()
                      if isinstance(value, Scalar)]

    def flush(self):
        self.told.append('flush')

    def close(self):
        self.told.append('close')


class Sum(Measurement):

    def __init__(self, value):
        self.value = value


def record(step, tag='tag'):
    return Record(
        step,
        lambda x: [Scalar(tag, x.sum()), Sum(x.sum())], [torch.ones(2)])


def test_a_direct_writer_needs_nothing_else(tmp_path):
    """No thread, no hook; the SummaryWriter goes on with its own events."""
    summary_writer = SummaryWriter(str(tmp_path))
    summary_writer.flush()
    threads = threading.active_count()
    writer = TensorBoardWriter.of(summary_writer)
    for step in range(1, 4):
        writer.write(record(step))
        summary_writer.add_scalar('theirs', step, step)
    with pytest.raises(ZeroDivisionError):
        writer.write(Record(4, lambda: 1 / 0))
    assert threading.active_count() == threads
    writer.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    for tag in ('tag', 'theirs'):
        assert [scalar.step for scalar in events.Scalars(tag)] == [1, 2, 3]
    assert [scalar.value for scalar in events.Scalars('tag')] == [2, 2, 2]
    assert writer.written == Counter(Scalar=3)
    assert len(glob.glob(f'{tmp_path}/*')) == 1


@pytest.mark.parametrize('is_background', [True, False])
def test_any_writer_can_be_moved_and_listened_to(is_background):
    """What a new writer needs is write(record), flush() and close()."""
    told, listeners, heard = Told(), Listeners(), []
    listeners.append((Sum, lambda step, measured: heard.append(
        (step, measured.value)), FailureGuard('Listener')))
    inner = ObservedWriter(told, listeners)
    if is_background:
        outer = BackgroundWriter(inner, DroppingQueue(10, 1000))
    else:
        outer = ForegroundWriter(inner)
    outer.write(record(1))
    outer.flush()
    outer.write(record(2, 'other'))
    outer.close()
    outer.write(record(3))
    assert told.told == [(1, 'tag'), 'flush', (2, 'other'), 'close']
    assert heard == [(1, 2), (2, 2)]
    assert (threading.current_thread() in told.threads) != is_background


def test_without_a_guard_an_error_reaches_the_training():
    """With the next call, at the latest with the last."""
    writer = BackgroundWriter(Told(), DroppingQueue(10, 1000))
    writer.write(Record(1, lambda: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        writer.close()


def photograph():
    """A picture as large as those of a training: photographs and lines."""
    rng = np.random.RandomState(0)
    small = rng.randint(0, 255, (60, 150, 3)).astype(np.uint8)
    picture = cv2.resize(small, (1168, 468), interpolation=cv2.INTER_CUBIC)
    picture = cv2.GaussianBlur(picture, (0, 0), 3)
    picture += rng.randint(0, 6, picture.shape).astype(np.uint8)
    for i in range(20):
        cv2.line(picture, (40 * i, 50), (40 * i + 99, 400), (255, 128, 0), 3)
    return picture


def test_photographs_are_small_and_figures_exact(tmp_path):
    """Bytes on disk; TensorBoard shows both as they are."""
    picture, sizes, shown = photograph(), {}, {}
    for photo in (True, False):
        log_dir = tmp_path / str(photo)
        writer = TensorBoardWriter.of(SummaryWriter(str(log_dir)))
        image = Image('images', [picture, picture[:99]], photo=photo)
        writer.write(Record(1, lambda: [image]))
        writer.close()
        path, = log_dir.glob('*')
        sizes[photo] = path.stat().st_size
        event, = EventAccumulator(str(path)).Reload().Tensors('images')
        width, height, *encoded = event.tensor_proto.string_val
        assert (int(width), int(height)) == (1168, 468)
        shown[photo] = [
            cv2.imdecode(np.frombuffer(e, np.uint8), 1)[..., ::-1]
            for e in encoded
        ]
    assert sizes[True] < sizes[False] / 4
    for exact, close, drawn in zip(shown[False], shown[True],
                                   [picture, picture[:99]]):
        assert np.array_equal(exact, drawn)
        difference = np.abs(close.astype(int) - drawn)
        assert close.shape == drawn.shape and difference.mean() < 9
