# Copyright (c) OpenMMLab. All rights reserved.
import os
import signal
import time

import pytest
from mmengine.dataset import Compose
from test_enhanced_tensorboard_hook import (final_state, hook_of, messages,
                                            monitor_of)

from mmpose.engine.monitors import TransformTimeMonitor
from mmpose.engine.monitors.core.measurements import DataTime, TransformTimes
from mmpose.engine.monitors.health.detectors.machine.data_loader import \
    DataLoaderDetector
from mmpose.engine.monitors.run.timing import transform_time
from mmpose.registry import DATASETS

ALONE = dict(
    grad_norm_interval=1,
    log_health=False,
    log_val_images=False,
    log_train_images=False,
    log_keypoints=False)


class Quick:

    def __call__(self, results):
        return results


class Slow:
    """Takes 8 ms of the process that measures, and none of the training."""
    parent = os.getpid()

    def __call__(self, results):
        time.sleep(0.008 * (os.getpid() != self.parent))
        return results


class Broken(Slow):

    def __call__(self, results):
        if os.getpid() != self.parent:
            raise OSError('broken on purpose')
        return results


class Dies(Slow):

    def __call__(self, results):
        if os.getpid() != self.parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return results


@pytest.fixture
def with_pipeline(monkeypatch):
    """Gives the data set of the training a pipeline, as MMPose's have."""

    def give(*transforms):
        kind = DATASETS.get('TinyPoseDataset')
        get = kind.__getitem__
        pipeline = Compose(transforms)
        monkeypatch.setattr(kind, 'pipeline', pipeline, raising=False)
        monkeypatch.setattr(kind, '__getitem__',
                            lambda self, i: pipeline(get(self, i)))
        return pipeline

    return give


class Waits:
    """Lets a training last until the child is done."""

    def __init__(self, monkeypatch):
        look = TransformTimeMonitor._look

        def wait(monitor, step):
            monitor._results.poll(20)
            look(monitor, step)

        monkeypatch.setattr(TransformTimeMonitor, '_look', wait)


def test_each_transform_has_its_time_and_nothing_changes(
        train, read_events, with_pipeline, monkeypatch):
    """P1: the child draws random numbers of its own."""
    pipeline = with_pipeline(Quick(), Slow())
    before = list(pipeline.transforms)
    Waits(monkeypatch)
    witness = dict(custom_hooks=[dict(type='Witness')])
    runner = train(ALONE, **witness)
    event, = read_events(runner).Tensors('data/transforms/text_summary')
    table = event.tensor_proto.string_val[0].decode()
    rows = {
        cells[1].strip(): float(cells[2])
        for cells in (line.split('|') for line in table.splitlines()[4:])
    }
    assert list(rows) == ['Quick', 'Slow', 'the data set itself']
    assert 8 <= rows['Slow'] < 80 and rows['Quick'] < 4
    assert pipeline.transforms == before
    assert monitor_of(hook_of(runner), TransformTimeMonitor)._process is None
    assert final_state(runner) == final_state(train(**witness))


@pytest.mark.parametrize('kind, said', [
    (Broken, 'OSError: broken on purpose'),
    (Dies, 'has died'),
])
def test_what_fails_there_is_said_and_costs_nothing(train, with_pipeline,
                                                    monkeypatch, kind, said):
    """P2."""
    with_pipeline(kind())
    Waits(monkeypatch)
    runner = train(dict(ALONE, strict=False))
    assert runner.iter == 12
    warning, = [
        m for m in messages(runner, 'WARNING') if 'TransformTimeMonitor' in m
    ]
    assert said in warning


def test_a_training_that_ends_first_leaves_no_process(train, with_pipeline):
    with_pipeline(Slow(), Slow(), Slow())
    began = []
    end = TransformTimeMonitor._end

    def remember(monitor):
        began.append(monitor._process)
        end(monitor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransformTimeMonitor, '_end', remember)
        patch.setattr(TransformTimeMonitor, '_look', lambda *_: None)
        train(ALONE)
    process, = filter(None, began)
    assert not process.is_alive()


def test_a_data_set_without_a_pipeline_takes_no_process(train, monkeypatch):
    monkeypatch.setattr(transform_time.multiprocessing, 'get_context', None)
    train(ALONE)


def test_the_finding_names_the_slowest_and_how_many_workers(train):
    detector = DataLoaderDetector()
    detector.before_train(train())
    detector.see(1, TransformTimes(dict(Crop=2., GenerateTarget=30.)))
    # A batch of 64 takes a worker 2.048 s, the rest of an iteration 0.5 s.
    for step in range(1, 300, 50):
        found = detector.see(step, DataTime(0.7, 0.5, 64))
    finding, = found
    assert 'GenerateTarget' in finding.evidence
    assert 'num_workers=5 would be enough' in finding.advice
    assert 'make GenerateTarget faster' in finding.advice
