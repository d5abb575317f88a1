# Copyright (c) OpenMMLab. All rights reserved.
import logging
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from mmengine.logging import MMLogger
from torch.utils.tensorboard import SummaryWriter

from mmpose.engine.monitors import (Detector, EventWriter, FailureGuard,
                                    Finding, HealthMonitor, Measurement,
                                    Record, Scalar)
from mmpose.engine.monitors.core.measurements import Remark, SuspectSamples
from mmpose.engine.monitors.health.recent_batches import RecentBatches

both_ways = pytest.mark.parametrize(
    'async_write', [True, False], ids=['async', 'sync'])


@dataclass(frozen=True)
class Degrees(Measurement):
    value: float


@dataclass(frozen=True)
class OfValidation(Measurement):
    """One that stands at the epoch."""
    iteration: int


degrees = Degrees


def finding(what, severity='warning'):
    return Finding('cold', what, '3 degrees.', 'Close the window.', severity)


class ColdDetector(Detector):
    """Finds what it is told in degrees, a multiple of 10."""

    wants = (Degrees, OfValidation)

    def __init__(self):
        self.seen = []
        self.trainings = []

    def before_train(self, runner):
        self.trainings.append(runner.iter)

    def see(self, step, measurement):
        self.seen.append((step, measurement))
        if not isinstance(measurement, Degrees):
            return None
        value = measurement.value
        if value < -100:
            raise RuntimeError('broken on purpose')
        return [] if value > 0 else [finding(f'It is {value:.0f}.')]


@pytest.fixture
def logged():
    """The level and text of what is logged."""
    lines = []
    handler = logging.Handler(logging.DEBUG)
    handler.emit = lambda r: lines.append((r.levelname, r.getMessage()))
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.fixture
def health(tmp_path):
    """A function that lets a health monitor see measurements.

    Takes pairs of a step and a measurement; returns the detector and the
    monitor.
    """

    def run(events, async_write=True, strict=False, start=0, detectors=()):
        detector = ColdDetector()
        monitor = HealthMonitor(strict=strict)
        monitor.detectors = [detector, *detectors]
        summary_writer = SummaryWriter(str(tmp_path))
        writer = EventWriter(summary_writer, async_write=async_write)
        monitor.writer = writer
        monitor.notify('before_train', SimpleNamespace(iter=start))
        others = FailureGuard('Other', strict=True)
        for step, value in events:
            writer.write(Record(step, lambda value=value: [value]), others)
            if strict:
                writer.flush()
        summary_writer.close()
        return detector, monitor

    return run


def written(events):
    """Step and value of each tag of 'health/'."""
    values = {}
    for event in events:
        for value in event.summary.value:
            if value.tag.startswith('health/'):
                shown = value.simple_value if value.HasField(
                    'simple_value') else value.tensor.string_val[0].decode()
                values.setdefault(value.tag, []).append((event.step, shown))
    return values


COURSE = [(1, degrees(9)), (2, degrees(0)), (3, Scalar('loss', 1)),
          (4, degrees(0)), (5, degrees(-10)), (6, degrees(9)), (7, degrees(9))]


@both_ways
def test_a_finding_is_told_when_it_begins_changes_and_ends(
        health, tmp_path, read_events, logged, async_write):
    health(COURSE, async_write)
    values = written(read_events(tmp_path))
    assert values['health/findings'] == [(1, 0), (2, 1), (5, 1), (6, 0)]
    assert values['health/finding/cold'] == [(2, 1), (6, 0)]
    steps, texts = zip(*values['health/report/text_summary'])
    assert steps == (1, 2, 5, 6)
    assert 'Healthy run' in texts[0] and 'Healthy run' in texts[3]
    assert 'It is 0.' in texts[1] and 'It is -10.' in texts[2]
    lines = [(level, text) for level, text in logged if 'health' in text]
    assert [level for level, _ in lines] == ['WARNING', 'WARNING', 'INFO']
    assert lines[0][1] == ('Training health, step 2: warning: It is 0. '
                           'Evidence: 3 degrees. Suggested action: Close the '
                           'window.')
    assert 'step 5: warning: It is -10.' in lines[1][1]
    assert lines[2][1].endswith('step 6: resolved: It is -10.')


@both_ways
def test_a_finding_that_becomes_more_serious_is_a_warning(
        health, tmp_path, read_events, logged, async_write, monkeypatch):
    monkeypatch.setattr(
        ColdDetector, 'see', lambda self, step, measured:
        [finding('It is cold.', 'note' if measured.value > -5 else 'warning')])
    health([(step, degrees(-step)) for step in range(1, 10)], async_write)
    values = written(read_events(tmp_path))
    assert values['health/findings'] == [(1, 0), (5, 1)]
    assert values['health/finding/cold'] == [(1, 1), (5, 1)]
    assert 'warning: It is cold.' in values['health/report/text_summary'][1][1]
    levels = [level for level, text in logged if 'health' in text]
    assert levels == ['INFO', 'WARNING']


@both_ways
def test_samples_of_a_finding_that_lasts_are_shown(health, monkeypatch,
                                                   async_write):
    """Of a loss that jumps again and again, each time."""
    monkeypatch.setattr(RecentBatches, 'samples',
                        lambda self, step: [dict(img_path='a.jpg', id=step)])
    monkeypatch.setattr(
        ColdDetector, 'see', lambda self, step, measured:
        [finding('It is cold.')._replace(batch=step // 5)])
    shown, listen = [], EventWriter.listen

    def too(writer, kind, *args):
        listen(writer, kind, *args)
        listen(writer, SuspectSamples,
               lambda _, found: shown.append(found.step), *args[1:])

    monkeypatch.setattr(EventWriter, 'listen', too)
    health([(step, degrees(-step)) for step in range(5, 20)], async_write)
    assert shown == [1, 2, 3]


@both_ways
def test_a_healthy_training_is_said_to_be_so_once(health, tmp_path,
                                                  read_events, logged,
                                                  async_write):
    health([(step, degrees(9)) for step in range(1, 50)], async_write)
    values = written(read_events(tmp_path))
    assert values.pop('health/findings') == [(1, 0)]
    assert len(values.pop('health/report/text_summary')) == 1
    assert not values
    assert not [text for _, text in logged if 'health' in text]


@both_ways
def test_a_remark_is_in_the_report_at_once_and_at_the_end(
        health, tmp_path, read_events, logged, async_write):
    """And it is no finding."""
    events = [(1, degrees(9)), (2, Remark('gain', 'Small ones cost 3.')),
              (4, Remark('gain', 'Small ones cost 2.'))]
    health(events, async_write)
    values = written(read_events(tmp_path))
    assert values.pop('health/findings') == [(1, 0)]
    steps, texts = zip(*values.pop('health/report/text_summary'))
    assert steps == (1, 2, 4) and not values
    assert '- Small ones cost 3. (step 2)' in texts[1]
    assert 'cost 3' not in texts[2] and 'cost 2' in texts[2]
    assert not [text for _, text in logged if 'health' in text]


def test_a_detector_sees_what_it_wants_and_no_curve(health):
    """Nor what it has written itself."""
    detector, _ = health([(1, degrees(-10)), (2, Scalar('health/loss/x', 3)),
                          (3, Measurement())])
    assert detector.seen == [(1, degrees(-10))]


def test_a_validation_belongs_to_the_last_training_step(health):
    """Where training is by epochs it is written at the epoch."""
    detector, _ = health([(39, degrees(9)), (3, OfValidation(41)),
                          (40, degrees(9))])
    assert [step for step, _ in detector.seen] == [39, 41, 41]


def test_a_resumed_training_begins_where_it_was(health):
    detector, _ = health([(3, degrees(-10))], start=40)
    assert detector.trainings == [40]
    assert [step for step, _ in detector.seen] == [41]


@both_ways
def test_a_detector_that_fails_is_held_back(health, tmp_path, read_events,
                                            warnings_logged, async_write):
    """P2."""
    # Not three in a row: in between there was just nothing to say.
    events = list(
        enumerate((degrees(d) for d in (9, -999, 9, -999, 9, -999, -10)),
                  start=1))
    _, monitor = health(events, async_write)
    assert monitor.guard.failures == 3 and not monitor.guard.tripped
    line, = [t for t in warnings_logged if 'failed' in t]
    assert 'ColdDetector' in line and 'RuntimeError' in line
    values = written(read_events(tmp_path))
    assert values['health/finding/cold'] == [(7, 1)]


class Broken(Detector):
    """Fails always."""

    asked = 0

    wants = (Measurement, )

    def see(self, step, measurement):
        self.asked += 1
        raise RuntimeError('broken on purpose')


class CannotBegin(Broken):

    def before_train(self, runner):
        raise RuntimeError('broken on purpose')


@both_ways
@pytest.mark.parametrize('kind, asked', [(Broken, 3), (CannotBegin, 0)])
def test_a_detector_that_always_fails_leaves_the_others_at_work(
        health, tmp_path, read_events, logged, kind, asked, async_write):
    """P2: it is named once, and switched off."""
    broken = kind()
    events = [(step, degrees(9 if step < 6 else -9)) for step in range(1, 9)]
    detector, monitor = health(events, async_write, detectors=[broken])
    assert not monitor.guard.tripped
    assert len(detector.seen) == 8 and broken.asked == asked
    assert monitor.guard.failures == max(asked, 1)
    named = [text for _, text in logged if text.startswith(kind.__name__)]
    assert len(named) == 2
    assert 'failed' in named[0] and 'is switched off' in named[1]
    values = written(read_events(tmp_path))
    assert values['health/finding/cold'] == [(6, 1)]


@both_ways
def test_strict_raises_in_the_training_thread(health, async_write):
    with pytest.raises(RuntimeError, match='broken on purpose'):
        health([(1, degrees(-999)), (2, degrees(9))], async_write, strict=True)


def test_what_one_finds_is_told_though_another_fails(health, tmp_path,
                                                     read_events):
    health([(1, degrees(-10)), (2, degrees(-10))], detectors=[Broken()])
    values = written(read_events(tmp_path))
    assert values['health/finding/cold'] == [(1, 1)]


@both_ways
def test_a_user_s_own_steps_are_not_those_of_the_training(
        health, tmp_path, read_events, async_write):
    """Who counts samples is far ahead."""
    samples = Scalar('train/my_metric', 1.)
    health([(1, degrees(9)), (128, samples), (2, degrees(-9)), (256, samples),
            (3, degrees(9))], async_write)
    values = written(read_events(tmp_path))
    assert values['health/finding/cold'] == [(2, 1), (3, 0)]


# EventWriter.listen


def test_what_a_listener_takes_is_not_the_training_thread_s_time(tmp_path):
    """P3: the overhead counts what the training waits for."""
    summary_writer = SummaryWriter(str(tmp_path))
    writer = EventWriter(summary_writer)
    guard, heard = FailureGuard('Listener'), []
    writer.listen(Degrees, lambda step, measured: heard.append(step), guard)
    writer.write(Record(3, lambda: [degrees(1)]), guard)
    summary_writer.close()
    assert heard == [3] and guard.seconds == 0
