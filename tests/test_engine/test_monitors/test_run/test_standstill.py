# Copyright (c) OpenMMLab. All rights reserved.
"""What is measured where nothing happens: time, and memory."""
import math
import threading
import time
from types import SimpleNamespace

import pytest

from mmpose.engine.monitors import Record, Scalar
from mmpose.engine.monitors.run import progress
from mmpose.engine.monitors.run.container_memory import free_in_container
from mmpose.engine.monitors.writers.observed_writer import (Listeners,
                                                            ObservedWriter,
                                                            Tick)


class Loop:
    """A training of two iterations, which then waits for an event."""

    def __init__(self, monitor, event=None):
        self.monitor = monitor
        self.event = event

    def run(self):
        runner = SimpleNamespace(iter=0, _train_loop=self)
        self.monitor.before_train(runner)
        for runner.iter in range(2):
            self.monitor.before_train_iter(runner, 0, None)
            self.monitor.after_train_iter(runner, 0, None, None)
        if self.event is None:
            raise RuntimeError('broken on purpose')
        self.event.wait(10)


@pytest.fixture
def monitor(monkeypatch):
    monkeypatch.setattr(progress, '_SECONDS', 0.05)
    monitor = progress.ProgressMonitor(strict=True)
    monitor.writer = SimpleNamespace(listen=lambda *args: None, queue_depth=0)
    return monitor


def look(monitor):
    record = monitor._look(0, Tick())
    return record and (record.step, *record.read())


def test_it_says_where_the_training_is_and_that_it_goes_on(monitor):
    event = threading.Event()
    thread = threading.Thread(target=Loop(monitor, event).run)
    thread.start()
    time.sleep(0.2)
    step, measured = look(monitor)
    assert step == measured.last_step == 2
    assert 0.1 < measured.idle < 2 and measured.usual < 0.05
    assert 'threading.py' in measured.where.split(', called by ')[0]
    # Defect: under load, detectors took what still waited for measurements of
    # that step.
    monitor.writer.queue_depth = 1
    assert look(monitor)[0] == 0
    monitor.writer.queue_depth = 0
    # In the next iteration, once.
    monitor._happened()
    step, measured = look(monitor)
    assert step == 0 and measured.idle < 0.05
    assert look(monitor) is None
    event.set()
    thread.join()


def test_a_training_that_an_exception_has_ended_does_not_stand_still(monitor):
    """In a notebook, its process lives on for days."""
    with pytest.raises(RuntimeError):
        Loop(monitor).run()
    time.sleep(0.1)
    assert look(monitor) is None


def test_each_flush_is_a_tick_and_what_it_finds_is_brought_to_disk():
    done = []

    class Writer:

        def write(self, record):
            done.append([value.value for value in record.read()])

        def flush(self):
            done.append('flush')

    guard = SimpleNamespace(
        tripped=False, succeeded=lambda: None, report=done.append)
    listeners = Listeners([
        (Tick, lambda step, tick: Record(7, lambda: [Scalar('a', 1.)]), guard)
    ])
    ObservedWriter(Writer(), listeners).flush()
    assert done == [[1.], 'flush']


@pytest.mark.parametrize('limit, statistics, expected', [
    ('1000\n', 'anon 300\nfile 500\n', 700),
    ('max\n', 'anon 300\n', math.inf),
    ('1000\n', 'file 500\n', math.inf),
    (None, None, math.inf),
])
def test_the_memory_of_a_container(tmp_path, limit, statistics, expected):
    """Cached files are given back."""
    files = str(tmp_path / 'limit'), str(tmp_path / 'stat'), 'anon'
    if limit is not None:
        (tmp_path / 'limit').write_text(limit)
        (tmp_path / 'stat').write_text(statistics)
    assert free_in_container([files]) == expected
