# Copyright (c) OpenMMLab. All rights reserved.
import logging
import pickle
import time

import pytest
from mmengine.logging import MMLogger

from mmpose.engine.monitors import Dispatcher, FailureGuard, Monitor, Record
from mmpose.engine.monitors.core import failure_guard


@pytest.fixture
def log():
    """The records of MMEngine's current logger, and its level at DEBUG."""
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)
    logger.setLevel(level)


def messages(log, level):
    return [r.getMessage() for r in log if r.levelno == level]


class Failing(Monitor):

    def __init__(self, errors, **kwargs):
        super().__init__(**kwargs)
        self.errors = iter(errors)
        self.calls = 0

    def after_train_epoch(self, runner):
        self.calls += 1
        error = next(self.errors)
        if error:
            raise error
        self.emit(Record(0, list))


class Sink:

    def write(self, record, guard):
        guard.succeeded()


def run(monitor, times):
    monitor.writer = Sink()
    for _ in range(times):
        monitor.notify('after_train_epoch', None)


def test_the_first_of_a_kind_is_one_warning_repeats_are_debug(log):
    """P2."""
    monitor = Failing([KeyError('a'), KeyError('b'), None, OSError('full')])
    run(monitor, 4)
    warnings = messages(log, logging.WARNING)
    assert len(warnings) == 2
    assert 'Failing' in warnings[0] and "KeyError: 'a'" in warnings[0]
    assert 'strict=True' in warnings[0]
    assert 'OSError: full' in warnings[1]
    assert any("KeyError: 'b'" in m for m in messages(log, logging.DEBUG))
    assert monitor.guard.failures == 3


def test_three_in_a_row_switch_it_off_and_it_says_so(log):
    """P2."""
    monitor = Failing([KeyError(1)] * 10)
    run(monitor, 10)
    assert monitor.calls == 3
    assert [m for m in messages(log, logging.INFO) if 'switched off' in m]
    assert len(messages(log, logging.WARNING)) == 1


def test_a_success_in_between_keeps_it_on(log):
    monitor = Failing([KeyError(1), KeyError(1), None] * 3)
    run(monitor, 9)
    assert monitor.calls == 9
    assert not monitor.guard.tripped


def test_strict_raises():
    monitor = Failing([KeyError('a')], strict=True)
    with pytest.raises(KeyError):
        run(monitor, 1)


def test_ctrl_c_passes():
    guard = FailureGuard('guard')
    with pytest.raises(KeyboardInterrupt):
        with guard:
            raise KeyboardInterrupt
    assert guard.failures == 0


def test_a_failure_that_cannot_be_reported_is_held_back(monkeypatch):
    """P2: there may be no memory for the text."""

    def print_log(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(failure_guard, 'print_log', print_log)
    guard = FailureGuard('guard')
    with guard:
        raise KeyError
    assert guard.failures == 1


def test_a_guard_that_never_trips():
    """Defect: it did where another thread had a success meanwhile."""
    guard = FailureGuard('guard', limit=0)
    for guard._in_a_row in (-1, 0, 1, 2):
        with guard:
            raise KeyError
    assert guard.failures == 4 and not guard.tripped


def test_time_is_counted_also_of_a_failure():
    guard = FailureGuard('guard')
    with guard:
        raise KeyError
    assert guard.seconds > 0


def test_the_time_of_blocks_inside_each_other_counts_once(monkeypatch):
    """That of the outermost, whole."""
    now = [0]
    monkeypatch.setattr(time, 'perf_counter', lambda: now[0])
    guard = FailureGuard('guard')
    with guard:
        now[0] = 1
        with guard:
            now[0] = 3
        now[0] = 9
    assert guard.seconds == 9


class Sharing(Monitor):
    """Reads its own name, or fails."""

    def __init__(self, broken=False, **kwargs):
        super().__init__(**kwargs)
        self.broken = broken
        self.writer = Sink()

    def rank_results(self):
        if self.broken:
            raise KeyError('a')
        return 'mine'


@pytest.fixture
def gathered(monkeypatch):
    """Stands for three ranks: what was sent, and what the others send."""
    sent, others = [], [pickle.dumps('second'), pickle.dumps('third')]

    def gather(shard):
        sent.append(shard)
        return [shard, *others]

    monkeypatch.setattr(
        'mmpose.engine.monitors.core.monitor.all_gather_object', gather)
    return sent, others


def test_ranks_bring_together_what_they_have_read(gathered):
    monitor = Sharing(strict=True)
    monitor.gather_results()
    assert monitor.all_results == ['mine', 'second', 'third']
    # Elsewhere it would be in vain.
    monitor.writer = None
    monitor.gather_results()
    assert monitor.all_results == [] and len(gathered[0]) == 2


def test_without_one_rank_there_is_nothing_to_show(gathered, log):
    """P2."""
    gathered[1][1] = None
    monitor = Sharing()
    for _ in range(3):
        monitor.gather_results()
        assert monitor.all_results == []
    warning, = messages(log, logging.WARNING)
    assert 'Sharing' in warning and 'rank [2] of 3' in warning
    assert monitor.guard.tripped


def test_the_others_never_wait_in_vain(gathered, log):
    """P2: what fails here is said once, and not again as what it lacks."""
    monitor = Sharing(broken=True)
    monitor.gather_results()
    assert monitor.guard.failures == 1 and monitor.all_results == []
    for _ in range(3):
        monitor.gather_results()
    assert monitor.guard.tripped and monitor.guard.failures == 3
    # Switched off, it goes on to send that it has nothing.
    assert gathered[0] == [None] * 4
    assert len(messages(log, logging.WARNING)) == 1


def test_what_cannot_be_pickled_is_a_failure(gathered, log, monkeypatch):
    """P2: it is said to the others, who would wait for it."""
    monitor = Sharing()
    monkeypatch.setattr(monitor, 'rank_results', lambda: lambda: 'mine')
    monitor.gather_results()
    assert gathered[0] == [None]
    assert monitor.guard.failures == 1 and monitor.all_results == []
    assert 'pickle' in messages(log, logging.WARNING)[0]


def test_where_nothing_is_written_a_reading_is_a_success(gathered, log):
    """Else three failures in the whole run would switch it off."""
    monitor = Sharing()
    monitor.writer = None
    for broken in [True, True, False] * 3:
        monitor.broken = broken
        monitor.gather_results()
    assert monitor.guard.failures == 6 and not monitor.guard.tripped


def test_a_monitor_is_told_what_it_handles_and_nothing_else(monkeypatch):
    told = []
    notify = Monitor.notify

    def remember(self, event, *args):
        told.append((type(self).__name__, event))
        notify(self, event, *args)

    class Ends(Monitor):

        def after_train(self, runner):
            pass

    monkeypatch.setattr(Monitor, 'notify', remember)
    dispatcher = Dispatcher([Ends(), Monitor()], FailureGuard('', strict=True))
    dispatcher.before_run(None, object())
    dispatcher.notify('before_train', None)
    dispatcher.notify('after_train', None)
    assert told == [('Ends', 'after_train')]
