# Copyright (c) OpenMMLab. All rights reserved.
"""P7: a run that a signal ends has lost nothing."""
import multiprocessing
import os
import random
import signal
import threading
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from mmpose.engine.monitors.writers.drain_on_signal import drain_on_signal
from mmpose.engine.monitors.writers.event_writer import EventWriter
from mmpose.engine.monitors.writers.record import IMAGE, Record, Scalar

LONG = 120
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def nothing(*args):
    """Before the writer is made, and after it was."""


def work(folder, say, async_write, before, after):
    """Write scalars, and say which, until a signal comes."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    before(say)
    writer = EventWriter(
        SummaryWriter(folder), async_write=async_write, flush_secs=1000)
    drain_on_signal(writer)
    after(say, writer)
    for i in range(10**6):
        writer.write(Record(i, lambda i=i: [Scalar('tag', i)]))
        say.send(i)
        time.sleep(0.001)


@pytest.fixture
def run(tmp_path):
    """A function that sends signals to such a process, the first one after
    some messages.

    Returns the exit status, the messages and the steps in the event file.
    """
    context = multiprocessing.get_context('fork')

    def run(*numbers,
            moment=50,
            async_write=True,
            before=nothing,
            after=nothing):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(
            target=work,
            args=(str(folder), theirs, async_write, before, after))
        process.start()
        theirs.close()
        said = [ours.recv() for _ in range(moment)]
        for number in numbers:
            os.kill(process.pid, number)
            until = time.monotonic() + 0.5
            while number is not numbers[-1] and time.monotonic() < until:
                if ours.poll(0.1):
                    said.append(ours.recv())
        try:
            while True:
                said.append(ours.recv())
        except (EOFError, OSError):
            process.join(LONG)
        events = EventAccumulator(str(folder)).Reload()
        steps = []
        if 'tag' in events.Tags()['scalars']:
            steps = [s.step for s in events.Scalars('tag')]
        return process.exitcode, said, steps

    return run


@pytest.mark.parametrize('number', SIGNALS)
def test_what_was_written_is_on_disk(run, number):
    """And the process ends by the signal, as without it."""
    status, _, steps = run(number)
    assert status == -number
    # What is written while the thread drains may be there or not.
    assert steps == list(range(len(steps))) and len(steps) >= 50


@pytest.mark.parametrize('async_write', [True, False])
def test_at_any_moment(run, async_write):
    """A lock may be held then."""
    for i in range(10):
        moment = random.Random(i).randint(1, 500)
        status, _, steps = run(
            signal.SIGTERM, moment=moment, async_write=async_write)
        assert status == -signal.SIGTERM
        assert len(steps) >= moment


def test_a_handler_that_is_there_is_called(run):
    """It may save a checkpoint, and the training may go on."""

    def before(say):
        signal.signal(signal.SIGUSR1, lambda *args: say.send('requeued'))

    status, said, steps = run(signal.SIGUSR1, signal.SIGTERM, before=before)
    assert status == -signal.SIGTERM
    assert said.count('requeued') == 1
    assert said[-1] > said[said.index('requeued') - 1]
    assert len(steps) > 50


def test_what_is_ignored_stays_so(run):
    """As by nohup."""

    def before(say):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    status, _, steps = run(signal.SIGHUP, signal.SIGTERM, before=before)
    assert status == -signal.SIGTERM
    assert len(steps) > 50


def test_pictures_that_take_too_long_cost_no_curve(run):
    """As on a machine with too much to do."""

    def draw():
        time.sleep(1.5)
        return []

    def after(say, writer):
        for i in range(20):
            writer.write(Record(i, draw, kind=IMAGE))
        for i in range(50):
            writer.write(Record(i, lambda i=i: [Scalar('tag', i)]))
            say.send(i)
        time.sleep(LONG)

    status, _, steps = run(signal.SIGTERM, after=after)
    assert status == -signal.SIGTERM
    assert steps == list(range(50))


def hang(say, writer):
    """As a device that does not answer."""
    writer.write(Record(0, lambda: time.sleep(1000) or []))


@pytest.mark.parametrize('numbers', [SIGNALS[:1], SIGNALS[:1] * 2])
def test_a_writer_that_hangs_is_not_waited_for(run, numbers):
    """And a second signal does not wait at all."""
    status, _, steps = run(*numbers, after=hang)
    assert status == -signal.SIGTERM
    assert steps == []


def test_a_forked_process_ends_at_once(run):
    """It has no thread that writes."""

    def after(say, writer):
        child = os.fork()
        if not child:
            time.sleep(1000)
        time.sleep(0.1)
        os.kill(child, signal.SIGTERM)
        say.send(os.waitpid(child, 0)[1])

    status, said, _ = run(signal.SIGTERM, moment=1, after=after)
    assert said[0] == signal.SIGTERM
    assert status == -signal.SIGTERM


def test_in_another_thread_nothing_happens(tmp_path):
    """Python has the main one handle signals."""
    before = signal.getsignal(signal.SIGTERM)
    writer = EventWriter(SummaryWriter(tmp_path))
    thread = threading.Thread(target=drain_on_signal, args=[writer])
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
    writer.close()
