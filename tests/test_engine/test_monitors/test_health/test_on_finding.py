# Copyright (c) OpenMMLab. All rights reserved.
"""A command is told of findings, and the training never waits for it."""
import json
import time
from types import SimpleNamespace

import pytest
from torch.utils.tensorboard import SummaryWriter

from mmpose.engine.hooks import EnhancedTensorBoardHook
from mmpose.engine.monitors import EventWriter, Record
from mmpose.engine.monitors.health.on_finding import OnFindingMonitor
from mmpose.engine.monitors.writers.record import Alert


def alert(begins=True):
    return Alert('loss_spike', begins, 'warning', 'Ein Ausschlag: ä.',
                 '9 to 1.', 'Look.')


@pytest.fixture
def tell(tmp_path):
    """A function that makes findings and returns the monitor."""

    def run(command, alerts):
        monitor = OnFindingMonitor(command, strict=True)
        monitor.writer = EventWriter(
            SummaryWriter(str(tmp_path / 'log')), async_write=False)
        monitor.notify('before_train', SimpleNamespace(work_dir='work'))
        for step, value in enumerate(alerts, 1):
            monitor.writer.write(
                Record(step, lambda value=value: [value]), monitor.guard)
        return monitor

    return run


def finished(monitor):
    for process in monitor._running:
        process.wait(10)


def test_the_command_gets_one_line_of_json(tell, tmp_path):
    told = tmp_path / 'told'
    monitor = tell(f'cat >> {told}', [alert()])
    finished(monitor)
    line, = told.read_text().splitlines()
    message = json.loads(line)
    assert time.time() - message.pop('time') < 60
    assert message == dict(
        name='loss_spike',
        event='begins',
        severity='warning',
        what='Ein Ausschlag: ä.',
        evidence='9 to 1.',
        advice='Look.',
        step=1,
        log_dir=str(tmp_path / 'log'),
        work_dir='work',
        skipped=0)
    monitor = tell(f'cat > {told}', [alert(begins=False)])
    finished(monitor)
    assert json.loads(told.read_text())['event'] == 'ends'


def test_nobody_waits_and_the_number_is_limited(tell, tmp_path):
    """Of those that hang, four run; of those that end, ten."""
    monitor = tell('sleep 60', [alert()] * 9)
    assert len(monitor._running) == 4
    assert monitor._skipped == 5
    for process in monitor._running:
        process.kill()
    told = tmp_path / 'told'
    monitor = tell('exit', [])
    monitor._command = f'cat >> {told}'
    for step in range(15):
        monitor._notify(step, alert())
        finished(monitor)
    assert len(told.read_text().splitlines()) == 10
    assert monitor._skipped == 5
    monitor._starts[0] -= 601  # Ten minutes later.
    monitor._notify(99, alert())
    finished(monitor)
    assert json.loads(told.read_text().splitlines()[-1])['skipped'] == 5


def test_a_command_that_does_not_exist_or_read_harms_nobody(tell):
    monitor = tell('no-such-command-here', [alert()] * 3)
    finished(monitor)
    assert monitor.guard.failures == 0


@pytest.mark.parametrize('command', ['', ' ', 7, ['ls']])
def test_other_commands_are_refused(command):
    with pytest.raises((TypeError, ValueError), match='on_finding must be'):
        EnhancedTensorBoardHook(on_finding=command)


def test_it_is_off_unless_asked_for():
    kinds = [type(m) for m in EnhancedTensorBoardHook().monitors]
    assert OnFindingMonitor not in kinds
    hook = EnhancedTensorBoardHook(on_finding='true')
    assert OnFindingMonitor in map(type, hook.monitors)


def test_without_a_report_a_warning_says_so(warnings_logged):
    EnhancedTensorBoardHook(on_finding='true', log_health=False)
    assert len(warnings_logged) == 1
    assert 'on_finding is never run' in warnings_logged[0]


def test_the_report_tells_it(tmp_path):
    """From the measurement to the command."""
    from test_health import ColdDetector, degrees

    from mmpose.engine.monitors import HealthMonitor
    told = tmp_path / 'told'
    writer = EventWriter(
        SummaryWriter(str(tmp_path / 'log')), async_write=False)
    health, command = HealthMonitor(strict=True), OnFindingMonitor(
        f'cat >> {told}', strict=True)
    health.detectors = [ColdDetector()]
    for monitor in (health, command):
        monitor.writer = writer
        monitor.notify('before_train',
                       SimpleNamespace(iter=0, work_dir='work'))
    for step, value in ((1, 9), (2, 0), (3, -10), (4, 9)):
        writer.write(Record(step, lambda value=value: [degrees(value)]))
        finished(command)
    messages = [json.loads(line) for line in told.read_text().splitlines()]
    assert [(m['step'], m['event'], m['what'])
            for m in messages] == [(2, 'begins', 'It is 0.'),
                                   (4, 'ends', 'It is -10.')]
