# Copyright (c) OpenMMLab. All rights reserved.
import glob
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from mmpose.engine.monitors import EventWriter, FailureGuard, Record, Scalar

# How long something may take that is only a hang if it takes longer.
LONG = 30


@pytest.fixture
def summary_writer(tmp_path):
    return SummaryWriter(str(tmp_path / 'run'))


@pytest.fixture
def guard():
    return FailureGuard('SomeMonitor')


def record(step):
    return Record(step, lambda x: [Scalar('ours', x.sum())],
                  [torch.full((2, ), step)])


def files(summary_writer):
    return sorted(glob.glob(f'{summary_writer.log_dir}/*'))


def loaded(summary_writer, tag):
    events = EventAccumulator(str(summary_writer.log_dir)).Reload()
    return [scalar.step for scalar in events.Scalars(tag)]


def end(process, until):
    """Wait for a child; kill it and fail if it hangs."""
    while os.waitpid(process, os.WNOHANG) == (0, 0):
        if time.monotonic() > until:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            pytest.fail('the process hangs')
        time.sleep(0.01)


# kill -9

FLUSH_SECS = 0.05
# A thread that is due may get its turn that late on a busy machine.
MARGIN = 0.2


def train_and_tell(log_dir, pipe, seed):
    """Write until killed, and tell each step and its time."""
    rng = random.Random(seed)
    summary_writer = SummaryWriter(log_dir)
    writer = EventWriter(summary_writer, flush_secs=FLUSH_SECS)
    guard = FailureGuard('SomeMonitor')
    step = 0
    while True:
        summary_writer.add_scalar('loss', step, step)
        writer.write(record(step), guard)
        if rng.random() < 0.05:
            summary_writer.add_text('text', 'x' * rng.randrange(100000), step)
        os.write(pipe, struct.pack('<qd', step, time.monotonic()))
        time.sleep(rng.random() * 0.004)
        step += 1


def start_child(log_dir, seed):
    reader, pipe = os.pipe()
    process = os.fork()
    if not process:
        # Never back into pytest.
        with suppress(BaseException):
            os.close(reader)
            train_and_tell(log_dir, pipe, seed)
        os._exit(1)
    os.close(pipe)
    return process, os.fdopen(reader, 'rb')


@pytest.mark.parametrize('seed', range(10))
def test_kill_9_at_any_moment(tmp_path, seed):
    """P7: the file loads; at most flush_secs are missing (50 kills)."""
    rng = random.Random(seed)
    children = []
    for number in range(5):
        log_dir = str(tmp_path / str(number))
        process, told = start_child(log_dir, 100 * seed + number)
        children.append([rng.uniform(0.05, 0.8), process, log_dir, told])
    began = time.monotonic()
    kept = 0
    for after, process, log_dir, told in sorted(children):
        time.sleep(max(0, began + after - time.monotonic()))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        with told:
            steps = list(struct.iter_unpack('<qd', told.read()))
        if not steps:
            continue  # It had not begun.
        last = steps[-1][1]
        due = sum(t < last - FLUSH_SECS - MARGIN for _, t in steps)
        events = EventAccumulator(log_dir).Reload()
        for tag in ('loss', 'ours'):
            there = []
            if tag in events.Tags()['scalars']:
                there = [scalar.step for scalar in events.Scalars(tag)]
            assert there == list(range(len(there))), 'no gap'
            assert len(there) >= due
        kept += due
    assert kept > 0


# Other ends

SCRIPT = '''
import sys, time
from torch.utils.tensorboard import SummaryWriter
from mmpose.engine.monitors import EventWriter
summary_writer = SummaryWriter(sys.argv[1])
EventWriter(summary_writer, flush_secs=1000)
for step in range(100):
    summary_writer.add_scalar('tag', step, step)
print('ready', flush=True)
if sys.argv[2] == 'exception':
    raise ValueError
time.sleep(60)
'''


@pytest.mark.parametrize('ending', ['exception', 'Ctrl-C'])
def test_a_training_that_ends_early_is_on_disk(tmp_path, ending):
    """P7: an exception and Ctrl-C drain."""
    process = subprocess.Popen(
        [sys.executable, '-c', SCRIPT,
         str(tmp_path), ending],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True)
    assert process.stdout.readline() == 'ready\n'
    if ending == 'Ctrl-C':
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=LONG)
    assert process.returncode
    assert ('KeyboardInterrupt'
            if ending == 'Ctrl-C' else 'ValueError') in errors
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [s.step for s in events.Scalars('tag')] == list(range(100))


def test_ctrl_c_while_it_drains(summary_writer, guard):
    """P7: the next close, at exit, goes on with it."""
    writer = EventWriter(summary_writer)
    begun, release = threading.Event(), threading.Event()
    writer.write(
        Record(0, lambda: begun.set() or release.wait(LONG) and []), guard)
    begun.wait(LONG)
    writer.write(record(1), guard)

    def interrupt():
        while not writer._outer._closing:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        writer.close()
    threading.Timer(0.5, release.set).start()
    writer.close()
    assert release.is_set()
    assert loaded(summary_writer, 'ours') == [1]


@pytest.mark.parametrize('async_write', [True, False])
def test_nothing_is_written_after_close(summary_writer, guard, async_write):
    """P4: it would open a second file."""
    writer = EventWriter(
        summary_writer, async_write=async_write, drain_secs=LONG)
    inner = summary_writer._get_file_writer()
    writer.write(record(1), guard)
    summary_writer.close()
    before = [(path, os.path.getsize(path)) for path in files(summary_writer)]
    began = time.monotonic()
    writer.write(record(2), guard)
    inner.add_summary(torch.utils.tensorboard.summary.scalar('loss', 2), 2)
    inner.flush()
    inner.close()
    writer.close()
    assert time.monotonic() - began < LONG / 2, 'waits for a thread that ended'
    assert before == [(path, os.path.getsize(path))
                      for path in files(summary_writer)]
    assert len(before) == 1
    assert loaded(summary_writer, 'ours') == [1]


def test_closing_takes_no_thread_for_dead(tmp_path, warnings_logged):
    """P2: the thread may be through before close has looked."""
    began = time.monotonic()
    for number in range(30):
        summary_writer = SummaryWriter(str(tmp_path / str(number)))
        writer = EventWriter(summary_writer, drain_secs=LONG)
        summary_writer.add_scalar('tag', 1, 1)
        summary_writer.close()
        writer._outer._thread.join(LONG)
        writer._outer._revive()
    assert time.monotonic() - began < LONG
    assert warnings_logged == []


def test_closing_drains_what_is_queued(summary_writer, guard):
    """P7."""
    writer = EventWriter(summary_writer, flush_secs=1000)
    for step in range(900):
        writer.write(record(step), guard)
    writer.close()
    assert loaded(summary_writer, 'ours') == list(range(900))


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='there are no pipes')
def test_a_stuck_disk_does_not_hang_the_end(summary_writer, warnings_logged):
    """P2: flush and close together wait no longer than the bound."""
    writer = EventWriter(summary_writer, drain_secs=2)
    path, = files(summary_writer)
    os.remove(path)
    os.mkfifo(path)  # Opening it waits for a reader.
    began = time.monotonic()
    summary_writer.add_scalar('tag', 1, 1)
    summary_writer.close()
    assert 2 <= time.monotonic() - began < 3.8
    assert len(warnings_logged) == 1 and 'are lost' in warnings_logged[0]
    assert writer._outer._thread.is_alive()
    # Free the thread, for the tests after this one.
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    writer._outer._thread.join(LONG)


# Faults in between


def test_a_fork_while_the_queue_is_full(summary_writer, guard):
    """P2: a data loader's worker neither hangs nor writes anything."""
    writer = EventWriter(summary_writer, max_items=10, drain_secs=2 * LONG)
    begun, release = threading.Event(), threading.Event()
    writer.write(
        Record(0, lambda: begun.set() or release.wait(LONG) and []), guard)
    begun.wait(LONG)
    for step in range(20):
        writer.write(record(step), guard)
    process = os.fork()
    if not process:
        with suppress(BaseException):
            release.set()
            summary_writer.add_scalar('loss', 1, 1)
            writer.write(record(99), guard)
            writer.flush()
            writer.close()
            summary_writer.close()
            os._exit(0)
        os._exit(1)
    end(process, time.monotonic() + LONG)
    release.set()
    summary_writer.close()
    assert loaded(summary_writer, 'ours') == list(range(10, 20))
    assert len(files(summary_writer)) == 1


def wait_for_death(thread):
    thread.join(LONG)
    assert not thread.is_alive()


def die():
    raise SystemExit


def test_a_thread_that_dies_is_started_again(summary_writer, guard,
                                             warnings_logged):
    """P2: one WARNING, and nothing but its item is missing."""
    writer = EventWriter(summary_writer)
    for step in range(3):
        writer.write(Record(step, die), guard)
        wait_for_death(writer._outer._thread)
        writer.write(record(step), guard)
        assert writer._outer._thread.is_alive()
        summary_writer.add_scalar('loss', step, step)
    # And once when only the end is to come.
    writer.write(Record(3, die), guard)
    writer.write(record(3), guard)
    summary_writer.close()
    assert loaded(summary_writer, 'ours') == [0, 1, 2, 3]
    assert loaded(summary_writer, 'loss') == [0, 1, 2]
    assert len(warnings_logged) == 1 and 'has died' in warnings_logged[0]


def test_a_thread_that_cannot_be_started(summary_writer, guard, monkeypatch,
                                         warnings_logged):
    """P2: not raised; tried again with the next event."""
    writer = EventWriter(
        summary_writer, guard=FailureGuard('TheHook', limit=0))
    writer.write(Record(0, die), guard)
    wait_for_death(writer._outer._thread)

    def start(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, 'start', start)
        summary_writer.add_scalar('loss', 1, 1)
    summary_writer.close()
    assert loaded(summary_writer, 'loss') == [1]
    assert len(warnings_logged) == 2


@pytest.mark.parametrize('async_write', [True, False])
@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no /dev/full')
def test_a_full_disk_is_survived_by_all_who_write(summary_writer, guard,
                                                  async_write,
                                                  warnings_logged):
    """P2: MMEngine's scalars as well; goes on in a new file."""
    path, = files(summary_writer)
    summary_writer.flush()
    writer = EventWriter(
        summary_writer, async_write=async_write, flush_secs=0.01)
    writer._shared.file._retry_secs = 0
    os.remove(path)
    os.symlink('/dev/full', path)
    for step in range(20):
        summary_writer.add_scalar('loss', step, step)
        writer.write(record(step), guard)
        if step == 5:
            summary_writer.flush()
    summary_writer.close()
    assert loaded(summary_writer, 'loss') == list(range(20))
    assert loaded(summary_writer, 'ours') == list(range(20))
    assert len(files(summary_writer)) == 1
    assert 'resumed' in files(summary_writer)[0]
    assert len(warnings_logged) == 1 and 'No space' in warnings_logged[0]


@pytest.mark.parametrize('async_write', [True, False])
def test_a_deleted_log_directory_is_survived(summary_writer, guard,
                                             async_write, warnings_logged):
    """P2: and made again."""
    writer = EventWriter(summary_writer, async_write=async_write)
    writer._shared.file._retry_secs = 0
    for step in range(3):
        summary_writer.add_scalar('loss', step, step)
        summary_writer.flush()
        if step == 1:
            shutil.rmtree(summary_writer.log_dir)
    summary_writer.close()
    assert loaded(summary_writer, 'loss') == [2]
    assert len(warnings_logged) == 1 and 'deleted' in warnings_logged[0]


def test_a_disk_that_failed_before_the_hook_came(summary_writer, monkeypatch,
                                                 warnings_logged):
    """P7: the file may end in half an event; nothing is written behind it."""

    def fail(self):
        raise OSError(28, 'No space left on device')

    inner = summary_writer._get_file_writer().event_writer
    monkeypatch.setattr(inner._async_writer, 'flush', lambda: fail(inner))
    path, = files(summary_writer)
    with open(path, 'ab') as f:
        f.write(b'half an event')
    writer = EventWriter(summary_writer)
    writer._shared.file._retry_at = 0
    summary_writer.add_scalar('loss', 1, 1)
    summary_writer.close()
    assert loaded(summary_writer, 'loss') == [1]
    assert len(warnings_logged) == 1


def test_threads_take_turns(summary_writer, guard):
    """P7: events do not mix where the calling threads write them."""
    writer = EventWriter(summary_writer, async_write=False)
    begun, release = threading.Event(), threading.Event()
    first = threading.Thread(
        target=writer.write,
        args=(Record(0,
                     lambda: begun.set() or release.wait(LONG) and []), guard))
    first.start()
    begun.wait(LONG)
    second = threading.Thread(
        target=summary_writer.add_scalar, args=('loss', 1, 1))
    second.start()
    second.join(0.3)
    assert second.is_alive()
    release.set()
    first.join(LONG)
    second.join(LONG)
    summary_writer.close()
    assert loaded(summary_writer, 'loss') == [1]
