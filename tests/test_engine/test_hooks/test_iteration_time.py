# Copyright (c) OpenMMLab. All rights reserved.
"""Where the time of an iteration goes, in real trainings.

What takes long sleeps for a known time, so only a lower bound and the order of
the parts are certain on a busy machine.
"""
import time
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from test_enhanced_tensorboard_hook import hook_of, monitor_of, scalars

from mmpose.engine.monitors import IterationTimeMonitor
from mmpose.engine.monitors.run.timing import stopwatch
from mmpose.engine.monitors.run.timing.iteration_time import PARTS
from mmpose.models import TopdownPoseEstimator
from mmpose.registry import DATASETS, HOOKS, OPTIM_WRAPPER_CONSTRUCTORS

# Alone, so that no other monitor takes time.
ALONE = dict(
    grad_norm_interval=1,
    log_grad_norm=False,
    log_health=False,
    log_val_images=False,
    log_train_images=False,
    log_keypoints=False)


def slow(monkeypatch, owner, name: str, milliseconds: float) -> None:
    """Let a method take longer."""
    method = getattr(owner, name)

    def sleep_first(*args, **kwargs):
        time.sleep(milliseconds / 1000)
        return method(*args, **kwargs)

    monkeypatch.setattr(owner, name, sleep_first)


@HOOKS.register_module(force=True)
class Sleeps(Hook):
    """Takes its time before and after an iteration, and validates in it."""
    priority = 'LOWEST'

    def before_train_iter(self, runner, **_):
        time.sleep(0.015)

    after_train_iter = before_train_iter

    def after_train_epoch(self, runner, metrics=None):
        time.sleep(0.5)  # It belongs to no iteration.

    after_val_epoch = after_train_epoch


def times(events) -> dict:
    return {part: scalars(events, f'time/{part}_ms') for part in PARTS}


@pytest.mark.parametrize('by_epoch', [True, False])
def test_each_part_has_its_own_time(train, read_events, monkeypatch, by_epoch):
    """P8: sleeps of 50, 10, 20, 40 and 30 ms are found where they were."""
    kind = DATASETS.get('TinyPoseDataset')
    slow(monkeypatch, kind, '__getitem__', 50 / 4)
    slow(monkeypatch, TopdownPoseEstimator, 'loss', 10)
    slow(monkeypatch, torch.Tensor, 'backward', 20)
    slow(monkeypatch, torch.optim.SGD, 'step', 40)
    cfg = dict(by_epoch=True, max_epochs=2, val_interval=1)
    if not by_epoch:
        # MMEngine sleeps for two seconds where the data begins anew.
        cfg = dict(by_epoch=False, max_iters=4, val_interval=2)
    runner = train(ALONE, train_cfg=cfg, custom_hooks=[dict(type='Sleeps')])
    found = times(read_events(runner))
    # The first iteration does not count, the last one has no later step.
    assert list(found['data']) == list(range(3, runner.iter + 1))
    quiet = {part: min(values.values()) for part, values in found.items()}
    least = dict(data=50, forward=10, backward=20, optimizer=40, hooks=30)
    for part, milliseconds in least.items():
        assert milliseconds <= quiet[part] < milliseconds + 200, quiet
    for values in found.values():
        assert max(values.values()) < 450
    # MMEngine's timer knows nothing of ours.
    total = runner.message_hub.get_scalar('train/time').data[0][1:-1]
    ours = sum(sum(values.values()) for values in found.values())
    if by_epoch:
        assert ours == pytest.approx(1000 * total.sum(), rel=0.1)


@pytest.mark.parametrize('accumulate', [1, 2])
def test_a_mean_is_over_all_iterations_since_the_last(train, read_events,
                                                      monkeypatch, accumulate):
    slow(monkeypatch, torch.optim.SGD, 'step', 40)
    runner = train(
        dict(ALONE, grad_norm_interval=5),
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.01),
            accumulative_counts=accumulate),
        train_cfg=dict(by_epoch=True, max_epochs=3, val_interval=10))
    found = scalars(read_events(runner), 'time/optimizer_ms')
    assert list(found) == [5, 10]
    # Iterations 5 to 9, of which 6 and 8 step if two are accumulated.
    steps = 5 if accumulate == 1 else 2
    assert steps * 40 / 5 <= found[10]
    if accumulate == 2:
        assert found[10] < 40, 'as if there were a step in each'


def test_two_optimizers_in_a_training_step_of_ones_own(train, read_events,
                                                       monkeypatch):

    @OPTIM_WRAPPER_CONSTRUCTORS.register_module(force=True)
    class TwoTimedOptimizers:

        def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
            pass

        def __call__(self, model):
            return OptimWrapperDict(
                **{
                    name: OptimWrapper(
                        torch.optim.SGD(
                            getattr(model, name).parameters(), lr=0.01))
                    for name in ('backbone', 'head')
                })

    def train_step(self, data, optim_wrapper):
        """As that of a GAN: forward, update, forward, update."""
        data = self.data_preprocessor(data, True)
        for wrapper in optim_wrapper.values():
            time.sleep(0.03)
            loss, log_vars = self.parse_losses(self(**data, mode='loss'))
            wrapper.update_params(loss)
        return log_vars

    monkeypatch.setattr(TopdownPoseEstimator, 'train_step', train_step)
    slow(monkeypatch, torch.optim.SGD, 'step', 40)
    slow(monkeypatch, torch.Tensor, 'backward', 50)
    runner = train(
        dict(ALONE, grad_norm_interval=4),
        optim_wrapper=dict(constructor='TwoTimedOptimizers'),
        param_scheduler=None)
    found = {part: of[12] for part, of in times(read_events(runner)).items()}
    for part, milliseconds in dict(
            forward=60, backward=100, optimizer=80).items():
        assert milliseconds <= found[part] < milliseconds + 200, found
    for wrapper in runner.optim_wrapper.values():
        assert not {'backward', 'step', 'zero_grad'} & set(vars(wrapper))
    assert 'call_hook' not in vars(runner)


def test_without_an_interval_nothing_is_wrapped(train):
    with mock.patch(
            f'{IterationTimeMonitor.__module__}.observe_method',
            side_effect=AssertionError):
        train(dict(ALONE, grad_norm_interval=0))


def test_a_clock_that_fails_does_not_stop_the_training(train, read_events):
    """P2."""
    with mock.patch.object(
            stopwatch.HostClock, 'now', side_effect=OSError('broken')):
        runner = train(dict(ALONE, strict=False))
    assert runner.iter == 12
    guard = monitor_of(hook_of(runner), IterationTimeMonitor).guard
    assert guard.tripped and guard.failures == 3
    assert 'loss' in read_events(runner).Tags()['scalars']


class PlayedEvent:
    """An event of a device that needs 10 ms for what takes the host none.

    The device has come to it only when the test says so.
    """
    device_ms, done = 0, 0

    def __init__(self, enable_timing=False):
        assert enable_timing
        self.at = None

    def record(self):
        PlayedEvent.device_ms += 10
        self.at = PlayedEvent.device_ms

    def query(self):
        return self.at <= PlayedEvent.done

    def elapsed_time(self, end):
        assert self.query() and end.query(), 'that would wait for the device'
        return end.at - self.at


def test_a_device_is_not_waited_for(monkeypatch):
    """P3: only what it has finished is read, later, and in order."""
    monkeypatch.setattr(
        stopwatch, 'torch',
        SimpleNamespace(cuda=SimpleNamespace(Event=PlayedEvent)))
    watch = stopwatch.Stopwatch(stopwatch.DeviceClock())
    watch.idle()
    for _ in range(2):
        watch.begin('data', 'hooks')
        watch.switch('forward')
        watch.switch('backward')
        watch.switch('hooks')
        watch.end()
    assert watch.read() == []
    PlayedEvent.done = 60  # The first iteration ends there.
    expected = dict(data=10, hooks=20, forward=10, backward=10)
    assert watch.read() == [expected]
    assert watch.read() == []
    PlayedEvent.done = 10**6
    assert watch.read() == [expected]


def test_a_device_that_hangs_costs_no_memory(monkeypatch):
    monkeypatch.setattr(stopwatch.HostClock, 'has_come',
                        lambda self, mark: False)
    watch = stopwatch.Stopwatch(stopwatch.HostClock())
    for _ in range(1000):
        watch.begin('data', 'hooks')
        watch.end()
    monkeypatch.undo()
    assert len(watch.read()) <= 100
