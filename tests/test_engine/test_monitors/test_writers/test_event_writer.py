# Copyright (c) OpenMMLab. All rights reserved.
import glob
import threading
import time
import weakref

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import \
    RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from torch.utils.tensorboard import SummaryWriter

from mmpose.engine.monitors import (EventWriter, FailureGuard, Histogram,
                                    Record, Scalar, Text)
from mmpose.engine.monitors.writers import background_writer
from mmpose.engine.monitors.writers.record import HISTOGRAM, LAYER_SCALAR

# MMPose supports versions of PyTorch that do not have it.
TorchDispatchMode = pytest.importorskip(
    'torch.utils._python_dispatch').TorchDispatchMode


@pytest.fixture
def summary_writer(tmp_path):
    return SummaryWriter(str(tmp_path))


@pytest.fixture
def guard():
    return FailureGuard('SomeMonitor')


def event_file(summary_writer):
    summary_writer.close()
    path, = glob.glob(f'{summary_writer.log_dir}/*')
    return path


def record(step, kind='scalar'):
    return Record(step, lambda: [Scalar('tag', step)], kind=kind)


def block(writer, guard):
    """Keep the thread busy until the event that is returned is set."""
    begun, release = threading.Event(), threading.Event()
    writer.write(
        Record(0, lambda: begun.set() or release.wait(20) and []), guard)
    assert begun.wait(20)
    return release


def test_a_record_is_one_event(summary_writer, guard):
    writer = EventWriter(summary_writer)
    tensor = torch.arange(3.)
    writer.write(
        Record(
            step=7,
            values=lambda array:
            [Scalar(f'tag/{i}', float(x)) for i, x in enumerate(array)],
            tensors=[tensor]), guard)
    path = event_file(summary_writer)
    events = [Event.FromString(e) for e in RawEventFileLoader(path).Load()]
    written = [e for e in events if e.HasField('summary')]
    assert [len(e.summary.value) for e in written] == [3]
    assert written[0].step == 7
    assert writer.written['Scalar'] == 3
    assert writer.bytes_on_disk() > 0


def test_a_device_is_waited_for_in_the_thread_that_writes(
        summary_writer, guard, monkeypatch):
    """P3, also of devices from which nothing is copied by itself."""
    threads = []
    cpu = torch.Tensor.cpu

    def waiting(tensor):
        threads.append(threading.current_thread())
        return cpu(tensor)

    monkeypatch.setattr(torch.Tensor, 'cpu', waiting)
    writer = EventWriter(summary_writer)
    writer.write(Record(1, lambda array: [], [torch.zeros(2)]), guard)
    writer.close()
    assert threads and threading.current_thread() not in threads
    assert not guard.failures


def test_bfloat16_is_read_as_float32(summary_writer, guard):
    """NumPy does not know it."""
    writer = EventWriter(summary_writer)
    tensors = [torch.full((2, ), 0.75).bfloat16(), torch.tensor(2).half()]
    read = []

    def values(*arrays):
        read.extend(arrays)
        return []

    writer.write(Record(1, values, tensors), guard)
    writer.close()
    assert [array.dtype for array in read] == [np.float32, np.float16]
    assert read[0].tolist() == [0.75, 0.75] and not guard.failures


def test_an_empty_record_is_no_event(summary_writer, guard):
    EventWriter(summary_writer).write(Record(1, list), guard)
    events = list(RawEventFileLoader(event_file(summary_writer)).Load())
    assert len(events) == 1, 'only the version of the file format'


def test_a_text_and_a_histogram_are_read_back(summary_writer, guard):
    edges = np.array([-np.inf, -1., 0, 1, 2, 3, 4, np.inf])
    counts = np.array([0, 2, 0, 0, 0, 5, 0])
    EventWriter(summary_writer).write(
        Record(
            3, lambda: [
                Histogram('weights', edges, counts, -1., 3.5, 4., 9.),
                Text('note', '| a |')
            ]), guard)
    events = EventAccumulator(event_file(summary_writer)).Reload()
    histogram = events.Histograms('weights')[0].histogram_value
    assert (histogram.min, histogram.max, histogram.num) == (-1, 3.5, 7)
    # The two filled buckets, and the last empty one before the second,
    # whose limit is the second's lower edge.
    assert histogram.bucket_limit == [0, 3, 4]
    assert histogram.bucket == [2, 0, 5]
    text = events.Tensors('note/text_summary')[0].tensor_proto
    assert text.string_val[0] == b'| a |'


def write_much(log_dir, guard, **kwargs):
    summary_writer = SummaryWriter(str(log_dir))
    writer = EventWriter(summary_writer, **kwargs)
    rng = np.random.RandomState(0)
    for step in range(20):
        summary_writer.add_scalar('loss', step / 7, step)
        # Not of ``rng.rand(9)``: PyTorch 1.13 asks NumPy for what is gone.
        summary_writer.add_histogram_raw('theirs', 0, 1, 1, rng.rand(), 1, [1],
                                         [1], step)
        writer.write(
            Record(
                step,
                lambda x: [Scalar('ours', x.sum()),
                           Text('note', str(x))],
                tensors=[torch.arange(3.) + step]), guard)
        summary_writer.add_image('image', rng.rand(3, 8, 8), step)
        writer.write(record(step, LAYER_SCALAR), guard)
        if step == 10:
            summary_writer.flush()
    summary_writer.close()


def test_in_the_calling_thread_it_writes_the_same(tmp_path, guard,
                                                  read_events):
    """async_write=False: the same records in the same order."""
    files = []
    for name, async_write in (('a', True), ('b', False)):
        write_much(tmp_path / name, guard, async_write=async_write)
        files.append(read_events(tmp_path / name))
        for event in files[-1]:
            event.ClearField('wall_time')
    assert len(files[0]) == 100
    assert files[0] == files[1]
    assert [e.step for e in files[0]] == sorted(e.step for e in files[0])


def test_in_the_calling_thread_nothing_waits(summary_writer, read_events):
    """P7: nobody would come to flush it."""
    EventWriter(summary_writer, async_write=False, flush_secs=1000)
    summary_writer.add_scalar('tag', 1, 1)
    assert len(read_events(summary_writer.log_dir)) == 1


def test_it_flushes_with_no_more_to_come(summary_writer, read_events):
    """P7: at most flush_secs are missing, in a long validation as well."""
    EventWriter(summary_writer, flush_secs=0.05)
    summary_writer.add_scalar('tag', 1, 1)
    until = time.monotonic() + 20
    while not read_events(summary_writer.log_dir):
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize('async_write', [True, False])
def test_a_failure_of_a_reading_is_the_guards(summary_writer, async_write,
                                              warnings_logged, guard):
    """P2: one WARNING, and what comes after is written."""
    writer = EventWriter(summary_writer, async_write=async_write)
    for step in range(2):
        writer.write(Record(step, lambda: 1 / 0), guard)
        writer.write(record(step), guard)
    events = EventAccumulator(event_file(summary_writer)).Reload()
    assert len(events.Scalars('tag')) == 2
    assert guard.failures == 2 and not guard.tripped
    assert len(warnings_logged) == 1
    assert 'SomeMonitor failed with ZeroDivisionError' in warnings_logged[0]


@pytest.mark.parametrize('async_write', [True, False])
def test_an_error_that_nobody_foresaw_stays_inside(summary_writer, async_write,
                                                   warnings_logged, guard,
                                                   monkeypatch):
    """P2: neither into the training nor the end of the thread."""
    writer = EventWriter(
        summary_writer,
        async_write=async_write,
        guard=FailureGuard('TheHook', limit=0))
    for _ in range(4):
        writer.write(Record('no step', lambda: [Scalar('tag', 1)]), guard)
    assert writer.flush() is None and guard.failures == 4
    with monkeypatch.context() as patch:
        patch.setattr(writer._shared.file, 'flush', lambda: 1 / 0)
        writer.flush()
    writer.write(record(1), guard)
    events = EventAccumulator(event_file(summary_writer)).Reload()
    assert len(events.Scalars('tag')) == 1
    # Of both errors and of the guard that has had enough, the first is said.
    assert 'SomeMonitor failed with TypeError' in warnings_logged[0]
    assert 'TheHook failed with ZeroDivisionError' in warnings_logged[1]
    assert len(warnings_logged) == 2


def test_strict_raises_in_the_training_thread(summary_writer):
    """P2: with the next call, at the latest with the last."""
    strict = FailureGuard('SomeMonitor', strict=True)
    writer = EventWriter(summary_writer)
    writer.write(Record(1, lambda: 1 / 0), strict)
    done = threading.Event()
    writer.write(Record(1, lambda: done.set() or []), strict)
    done.wait(20)
    with pytest.raises(ZeroDivisionError):
        writer.write(record(1), strict)
    writer.write(Record(1, lambda: 1 / 0), strict)
    with pytest.raises(ZeroDivisionError):
        writer.close()
    events = EventAccumulator(event_file(summary_writer)).Reload()
    assert len(events.Scalars('tag')) == 1


def test_strict_raises_in_the_same_call(summary_writer):
    """P2: where there is no other thread."""
    writer = EventWriter(summary_writer, async_write=False)
    with pytest.raises(ZeroDivisionError):
        writer.write(
            Record(1, lambda: 1 / 0), FailureGuard('SomeMonitor', strict=True))


def test_a_full_queue_drops_and_says_so(summary_writer, warnings_logged,
                                        guard):
    """P6: images first; totals in the file and one WARNING; never waits."""
    writer = EventWriter(summary_writer, max_items=10)
    release = block(writer, guard)
    for step in range(1, 101):
        summary_writer.add_image('image', torch.zeros(3, 4, 4), step)
        writer.write(record(step, HISTOGRAM), guard)
        if step % 20 == 0:
            summary_writer.add_scalar('loss', step, step)
        assert len(writer._queue) <= 10
    assert writer.dropped == {'image': 100, 'histogram': 95}
    release.set()
    events = EventAccumulator(event_file(summary_writer)).Reload()
    assert 'image' not in events.Tags()['images']
    assert [e.step for e in events.Scalars('loss')] == [20, 40, 60, 80, 100]
    assert [e.step for e in events.Scalars('tag')] == list(range(96, 101))
    for kind in ('image', 'histogram', 'layer_scalar', 'scalar'):
        total, = events.Scalars(f'telemetry/dropped/{kind}')
        assert (total.step, total.value) == (100, writer.dropped[kind])
    assert len(warnings_logged) == 1 and 'dropped' in warnings_logged[0]


def test_a_full_queue_is_bounded_in_bytes(summary_writer, guard):
    """P6: a reading counts with its tensors, an event with its size."""
    writer = EventWriter(summary_writer, max_bytes=10000)
    release = block(writer, guard)
    for step in range(100):
        writer.write(Record(step, list, [torch.zeros(100)]), guard)
        summary_writer.add_text('text', 'x' * 400, step)
        assert writer._queue.bytes <= 10000
    assert sum(writer.dropped.values()) > 170
    release.set()
    writer.close()


def test_a_second_writer_goes_on_with_the_file(summary_writer, guard):
    """P4: the hook attaches to the same run again."""
    for step in range(2):
        EventWriter(summary_writer).write(record(step), guard)
    events = EventAccumulator(event_file(summary_writer)).Reload()
    assert [scalar.step for scalar in events.Scalars('tag')] == [0, 1]


def test_what_waits_holds_nothing_on_the_device(summary_writer, guard,
                                                monkeypatch):
    """P6: its memory is free again as soon as the copy is made."""

    def copy(tensors):
        return [tensor.clone() for tensor in tensors], []

    monkeypatch.setattr(background_writer, 'start_copies', copy)
    writer = EventWriter(summary_writer)
    release = block(writer, guard)
    tensor = torch.ones(3)
    alive = weakref.ref(tensor)
    writer.write(
        Record(1, lambda x: [Scalar('tag', x.sum())], [tensor]), guard)
    del tensor
    assert alive() is None
    release.set()
    events = EventAccumulator(event_file(summary_writer)).Reload()
    assert [scalar.value for scalar in events.Scalars('tag')] == [3]


class Operations(TorchDispatchMode):

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_tensors_on_the_host_are_neither_read_nor_copied(
        summary_writer, guard):
    """P3: by the thread that trains."""
    writer = EventWriter(summary_writer)
    tensors = [torch.arange(3.), torch.ones((), requires_grad=True)]
    with Operations() as operations:
        writer.write(
            Record(1, lambda x, y: [Scalar('tag',
                                           x.sum() + y)], tensors), guard)
    assert set(operations.names) <= {'aten.detach.default'}
    events = EventAccumulator(event_file(summary_writer)).Reload()
    assert [scalar.value for scalar in events.Scalars('tag')] == [4]


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')
def test_the_training_thread_does_not_wait_for_the_device(
        summary_writer, guard):
    """P3: no host-device synchronisation."""
    writer = EventWriter(summary_writer)
    x = torch.ones(1000, 1000, device='cuda')
    torch.cuda.set_sync_debug_mode('error')
    try:
        for step in range(1, 21):
            x = x @ x / 1000
            writer.write(
                Record(step, lambda x, y: [Scalar('tag', x + y[0])],
                       [x.sum(), step * x[0]]), guard)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    events = EventAccumulator(event_file(summary_writer)).Reload()
    assert [scalar.value for scalar in events.Scalars('tag')
            ] == [1e6 + step for step in range(1, 21)]
