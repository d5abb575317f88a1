# Copyright (c) OpenMMLab. All rights reserved.
"""P4: several runs in one process, and several jobs at one time."""
import glob
import os
import subprocess
import sys
import uuid

import pytest
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.visualization import BaseVisBackend
from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator
from test_enhanced_tensorboard_hook import hook_of, messages

from mmpose.engine.monitors import Monitor, Record
from mmpose.registry import HOOKS, VISBACKENDS

STEPS = list(range(1, 13))
TAGS = ('loss', 'train/gradient_norm/global')


@pytest.fixture
def shared(runner_cfg):
    """A function that makes the arguments of a Runner, as MMPose's configs: of
    one name for all visualizers."""
    name = uuid.uuid4().hex

    def make(**kwargs):
        return runner_cfg(
            dict(grad_norm_interval=1, log_val_images=False, hard_samples=0),
            visualizer=dict(
                type='PoseLocalVisualizer',
                name=name,
                vis_backends=[dict(type='TensorboardVisBackend')]),
            **kwargs)

    return make


def steps_in(log_dir):
    events = EventAccumulator(log_dir).Reload()
    tags = events.Tags()['scalars']
    return [[s.step for s in events.Scalars(tag)] if tag in tags else []
            for tag in TAGS]


def directory(runner):
    return hook_of(runner)._writer.log_dir


def test_each_runner_has_its_own_curves(shared):
    """Of one of them a test follows, and it is trained on: still its own."""
    runners = [Runner(**shared()) for _ in range(2)]
    assert runners[0].visualizer is runners[1].visualizer
    for runner in runners:
        runner.train()
    runners[0].test()
    for runner in runners:
        assert directory(runner) == os.path.abspath(
            f'{runner.log_dir}/vis_data')
        assert steps_in(directory(runner)) == [STEPS, STEPS]
    said = ''.join(messages(runners[1], 'INFO'))
    assert f'writes to {directory(runners[1])}: the visualizer' in said
    assert f'writes to {directory(runners[0])}.' in said


def test_two_that_begin_in_the_same_second(shared, tmp_path, monkeypatch):
    """They have one directory in one work directory."""
    runners = [Runner(**shared(work_dir=str(tmp_path))) for _ in range(2)]
    for runner in runners:
        runner._timestamp = runners[0].timestamp
        runner._log_dir = runners[0].log_dir
        runner.train()
    assert directory(runners[0]) != directory(runners[1])
    for runner in runners:
        assert os.path.dirname(directory(runner)) == os.path.abspath(
            runner.log_dir)
        assert steps_in(directory(runner)) == [STEPS, STEPS]


def test_a_job_of_another_process_in_the_same_second(shared, tmp_path):
    runner = Runner(**shared(work_dir=str(tmp_path)))
    vis_data = f'{runner.log_dir}/vis_data'
    subprocess.run([
        sys.executable, '-c', 'from torch.utils.tensorboard import *; '
        f'w = SummaryWriter({vis_data!r}); w.add_scalar("loss", 1, 77); '
        'w.close()'
    ],
                   check=True)
    runner.train()
    assert directory(runner) != os.path.abspath(vis_data)
    assert 'same second' in ''.join(messages(runner, 'INFO'))
    assert steps_in(directory(runner)) == [STEPS, STEPS]
    assert steps_in(vis_data) == [[77], []]


@HOOKS.register_module(force=True)
class TrainInside(Hook):
    """Trains another Runner in the middle of a training."""

    def __init__(self, make):
        self.make = make

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        if runner.iter == 5:
            self.inner = Runner(**self.make())
            self.inner.train()


def test_a_runner_inside_a_training(shared):
    outer = Runner(**shared(
        custom_hooks=[dict(type='TrainInside', make=shared)]))
    outer.train()
    inner = next(h for h in outer.hooks if isinstance(h, TrainInside)).inner
    for runner in (outer, inner):
        assert steps_in(directory(runner)) == [STEPS, STEPS]
    assert directory(outer) != directory(inner)


def test_a_directory_that_the_config_names_is_kept(runner_cfg, tmp_path):
    """Two runs in one directory, if somebody wants it so."""
    for _ in range(2):
        runner = Runner(**runner_cfg(
            dict(log_val_images=False, hard_samples=0),
            visualizer=dict(
                type='PoseLocalVisualizer',
                name=f'named {tmp_path}',
                save_dir=str(tmp_path / 'tb'),
                vis_backends=[dict(type='TensorboardVisBackend')])))
        runner.train()
        assert directory(runner) == str(tmp_path / 'tb' / 'vis_data')
    assert len(glob.glob(f'{tmp_path}/tb/vis_data/*tfevents*')) == 1


def test_a_resumed_run_in_another_work_directory(shared, tmp_path):
    """Says that its curves begin anew."""
    hooks = dict(
        logger=dict(type='LoggerHook', interval=1),
        checkpoint=dict(type='CheckpointHook', interval=1))
    first = Runner(**shared(
        work_dir=str(tmp_path / 'first'),
        default_hooks=hooks,
        train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=9)))
    first.train()
    second = Runner(**shared(
        work_dir=str(tmp_path / 'second'),
        resume=True,
        load_from=str(tmp_path / 'first' / 'epoch_2.pth')))
    second.train()
    assert steps_in(directory(second)) == [STEPS[8:], STEPS[8:]]
    assert 'curves begin anew at iteration 9' in ''.join(
        messages(second, 'INFO'))
    assert 'begin anew' not in ''.join(messages(first, 'INFO'))


def test_a_training_writes_its_report_when_it_ends(train):
    runner = train(dict(html_report=True, log_val_images=False))
    folder = directory(runner)
    with open(f'{folder}/report.html') as file:
        page = file.read()
    assert 'finished.' in page and '<svg' in page
    with open(f'{folder}/scalars.csv') as file:
        assert 'loss' in file.read()
    assert any('report.html' in line for line in messages(runner, 'INFO'))


@VISBACKENDS.register_module(force=True)
class UnfinishedBackend(BaseVisBackend):
    """It lacks what is abstract, so that it cannot be built."""


class FailsToCompute(Monitor):
    """The thread that writes logs it."""

    def before_train(self, runner):
        self.emit(Record(1, lambda: 1 / 0))


def test_one_after_a_runner_that_could_not_be_built(train, read_events):
    """MMEngine keeps a lock then, which the thread that writes would need."""
    with pytest.raises(TypeError, match='abstract'):
        train(
            visualizer=dict(
                type='Visualizer',
                vis_backends=[dict(type='UnfinishedBackend')]))
    runner = train(
        dict(
            grad_norm_interval=1,
            log_val_images=False,
            strict=False,
            monitors=[dict(type=FailsToCompute)]))
    assert steps_in(directory(runner)) == [STEPS, STEPS]
    warnings = ''.join(messages(runner, 'WARNING'))
    assert 'ZeroDivisionError' in warnings and 'lost' not in warnings
