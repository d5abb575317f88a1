# Copyright (c) OpenMMLab. All rights reserved.
import logging

import pytest
from mmengine.logging import MMLogger

from mmpose.engine.monitors import FailureGuard, Monitor, Record


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


def test_time_is_counted_also_of_a_failure():
    guard = FailureGuard('guard')
    with guard:
        raise KeyError
    assert guard.seconds > 0
