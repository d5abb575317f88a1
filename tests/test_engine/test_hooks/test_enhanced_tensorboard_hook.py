# Copyright (c) OpenMMLab. All rights reserved.
import copy
import glob
import random
import sys
import time
from collections import defaultdict
from unittest import mock

import numpy as np
import pytest
import torch
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator
from torch import nn
from torch.utils.tensorboard.writer import FileWriter

from mmpose.engine.hooks import EnhancedTensorBoardHook
from mmpose.engine.monitors import (EventWriter, GradientMonitor, Monitor,
                                    OverheadBudget, WeightMonitor)
from mmpose.engine.monitors.core.layer_groups import (layer_groups,
                                                      named_parameters)
from mmpose.engine.monitors.core.runner_parts import bare_model
from mmpose.models import TopdownPoseEstimator
from mmpose.registry import (HOOKS, METRICS, OPTIM_WRAPPER_CONSTRUCTORS,
                             OPTIMIZERS)

EVERY_ITER = dict(grad_norm_interval=1)
# Without pictures and diagnoses, which take most of the time of a training of
# this size.
NUMBERS = dict(
    EVERY_ITER,
    log_keypoints=False,
    log_val_images=False,
    log_train_images=False,
    log_model_stats=False,
    log_run_info=False,
    hard_samples=0)
EVENTS = [
    'before_train', 'before_train_iter', 'after_train_iter',
    'after_train_epoch', 'after_val_iter', 'after_val_epoch', 'after_train'
]


def hook_of(runner) -> EnhancedTensorBoardHook:
    hook, = [h for h in runner.hooks if isinstance(h, EnhancedTensorBoardHook)]
    return hook


def monitor_of(hook, kind) -> Monitor:
    monitor, = [m for m in hook.monitors if isinstance(m, kind)]
    return monitor


def messages(runner, level):
    """What was logged at a level, from the run's log file."""
    path, = glob.glob(f'{runner.log_dir}/*.log')
    with open(path) as file:
        return [line for line in file if f'- {level} -' in line]


def scalars(events, tag):
    return {e.step: e.value for e in events.Scalars(tag)}


# Promise P1: neutral


def leaves(value, path=''):
    """All that a nested value holds, by its path and comparable."""
    if isinstance(value, BaseDataElement):
        value = dict(value.all_items())
    if isinstance(value, dict):
        value = list(value.items())
    if isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from leaves(item, f'{path}.{i}')
    elif isinstance(value, torch.Tensor):
        yield path, value.cpu().numpy().tobytes()
    elif isinstance(value, np.ndarray):
        yield path, value.tobytes()
    else:
        yield path, value


@HOOKS.register_module(force=True)
class Witness(Hook):
    """What every module, batch and output looks like after all hooks."""
    priority = 'LOWEST'

    def __init__(self):
        self.seen = []

    def see(self, runner, *values):
        self.seen.append([m.training for m in runner.model.modules()])
        self.seen.append(hash(tuple(leaves(values))))

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.see(runner, data_batch,
                 {k: v.detach()
                  for k, v in outputs.items()})

    def after_val_iter(self, runner, batch_idx, data_batch, outputs):
        self.see(runner, data_batch, outputs)


def final_state(runner):
    """All that a run leaves behind, in memory and seen on the way."""
    witness, = [h for h in runner.hooks if isinstance(h, Witness)]
    return dict(
        leaves([
            runner.model.state_dict(),
            runner.optim_wrapper.state_dict(),
            torch.get_rng_state(),
            torch.cuda.get_rng_state_all(),
            np.random.get_state(),
            random.getstate(),
            witness.seen,
        ]))


@pytest.mark.parametrize(
    'optim_wrapper', [
        dict(),
        dict(clip_grad=dict(max_norm=0.1)),
        dict(clip_grad=dict(type='value', clip_value=0.01)),
        dict(accumulative_counts=3),
        dict(optimizer=dict(type='AdamW', lr=1e-3)),
    ],
    ids=['plain', 'norm', 'value', 'accumulate', 'adamw'])
def test_training_is_the_same_bit_for_bit(train, optim_wrapper):
    """P1: weights, optimizer, buffers, generators, flags, data, outputs."""
    optim_wrapper.setdefault('optimizer',
                             dict(type='SGD', lr=0.01, momentum=0.9))
    states = []
    for hook in (None, EVERY_ITER):
        runner = train(
            hook,
            train_cfg=dict(by_epoch=True, max_epochs=6, val_interval=2),
            optim_wrapper=copy.deepcopy(optim_wrapper),
            custom_hooks=[dict(type='Witness')])
        assert runner.iter == 24
        states.append(final_state(runner))
    without, with_hook = states
    assert without.keys() == with_hook.keys() and len(without) > 1000
    assert not [k for k in without if without[k] != with_hook[k]]


def test_the_optimizer_is_left_as_it_was(train):
    """P1: nothing stays attached after the training."""
    for clip_grad in (None, dict(max_norm=1.)):
        runner = train(
            EVERY_ITER,
            optim_wrapper=dict(
                optimizer=dict(type='SGD', lr=0.01), clip_grad=clip_grad))
        wrapper = runner.optim_wrapper
        assert 'step' not in vars(wrapper.optimizer)
        if clip_grad:
            assert wrapper.clip_func is torch.nn.utils.clip_grad_norm_


# Promise P2: harmless


class Raising(Monitor):

    def __init__(self, event):
        super().__init__()
        self.calls = 0

        def handler(*args):
            self.calls += 1
            raise RuntimeError('broken on purpose')

        setattr(self, event, handler)


@pytest.mark.parametrize('event', EVENTS)
def test_a_monitor_that_raises_costs_one_warning(runner_cfg, read_events,
                                                 event):
    """P2, and that the error handler itself works."""
    runner = Runner(**runner_cfg(EVERY_ITER))
    hook = hook_of(runner)
    raising = Raising(event)
    hook.monitors.insert(0, raising)
    runner.train()
    assert runner.iter == 12
    assert 1 <= raising.calls <= 3
    warnings = [m for m in messages(runner, 'WARNING') if 'Raising' in m]
    assert len(warnings) == 1
    assert 'RuntimeError: broken on purpose' in warnings[0]
    # The others go on.
    events = read_events(runner)
    assert len(events.Scalars('train/gradient_norm/global')) == 12
    assert any(f'{raising.calls} failures' in m
               for m in messages(runner, 'INFO'))


def test_a_failure_inside_the_optimizer_step_is_held_back(train, monkeypatch):
    """P2: a reading is guarded also where no hook event is running."""
    from mmpose.engine.monitors.optimization import gradients

    def fail(*args):
        raise RuntimeError('broken on purpose')

    monkeypatch.setattr(gradients, 'named_norms', fail)
    for clip_grad in (None, dict(max_norm=1.)):
        runner = train(
            dict(strict=False, **EVERY_ITER),
            optim_wrapper=dict(
                optimizer=dict(type='SGD', lr=0.01), clip_grad=clip_grad))
        assert runner.iter == 12
        assert sum('GradientMonitor failed' in m
                   for m in messages(runner, 'WARNING')) == 1
        # P1: taken off also after it was switched off.
        hook = hook_of(runner)
        assert monitor_of(hook, GradientMonitor).guard.tripped
        assert 'step' not in vars(runner.optim_wrapper.optimizer)


@pytest.mark.parametrize('part', ['is_sharded', 'is_on_every_rank'])
def test_what_is_asked_at_the_beginning_may_fail(train, read_events,
                                                 monkeypatch, part):
    """P2: all else is written."""
    from mmpose.engine.monitors.core import dispatch

    def fail(*args):
        raise RuntimeError('broken on purpose')

    owner = dispatch if part == 'is_sharded' else WeightMonitor
    monkeypatch.setattr(owner, part, fail)
    runner = train(dict(strict=False, **EVERY_ITER))
    warnings = [m for m in messages(runner, 'WARNING') if 'failed with' in m]
    assert len(warnings) == 1 and 'broken on purpose' in warnings[0]
    tags = read_events(runner).Tags()['scalars']
    assert 'train/gradient_norm/global' in tags and 'val/PCK' in tags


def test_a_writer_that_fails_does_not_stop_the_training(train, monkeypatch):
    """P2: every monitor is refused by a full disk."""
    from mmpose.engine.monitors import EventWriter

    def fail(self, record, guard):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(EventWriter, 'write', fail)
    runner = train(dict(strict=False, **EVERY_ITER))
    assert runner.iter == 12
    assert 'switched off' in ''.join(messages(runner, 'INFO'))


def test_strict_raises(runner_cfg):
    runner = Runner(**runner_cfg(EVERY_ITER))
    hook_of(runner).monitors.append(Raising('after_train_epoch'))
    hook_of(runner).monitors[-1].guard.strict = True
    with pytest.raises(RuntimeError, match='broken on purpose'):
        runner.train()


def test_without_tensorboard_one_warning_and_the_training_goes_on(
        train, monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', None)
    runner = train(
        dict(strict=False), visualizer=dict(type='PoseLocalVisualizer'))
    assert runner.iter == 12
    warnings = [
        m for m in messages(runner, 'WARNING')
        if 'EnhancedTensorBoardHook' in m
    ]
    assert len(warnings) == 1
    assert 'pip install tensorboard' in warnings[0]


# Promise P4: one run


def test_the_writer_is_named_and_shared(train, read_events):
    """P4: one file with LoggerHook's scalars and the hook's."""
    runner = train(EVERY_ITER)
    tags = read_events(runner).Tags()['scalars']
    assert 'loss' in tags and 'train/gradient_norm/global' in tags
    assert f'writes to {runner.log_dir}' in ''.join(messages(runner, 'INFO'))


def test_a_backend_by_another_name_is_found(train, read_events):
    runner = train(
        EVERY_ITER,
        visualizer=dict(
            type='PoseLocalVisualizer',
            vis_backends=[dict(type='TensorboardVisBackend', name='mine')]))
    assert list(runner.visualizer._vis_backends) == ['mine']
    assert 'loss' in read_events(runner).Tags()['scalars']


@pytest.mark.parametrize(
    'backends', [None, [dict(type='LocalVisBackend')]], ids=['none', 'local'])
def test_without_a_backend_one_is_added(train, read_events, backends):
    """P4: and the losses are there too."""
    runner = train(
        EVERY_ITER,
        visualizer=dict(type='PoseLocalVisualizer', vis_backends=backends))
    tags = read_events(runner).Tags()['scalars']
    assert 'loss' in tags and 'train/gradient_norm/global' in tags
    assert 'it added' in ''.join(messages(runner, 'INFO'))


def test_other_backends_get_nothing(train):
    """Defect: pictures went to every backend as files."""

    def files(hook):
        runner = train(
            hook,
            visualizer=dict(
                type='PoseLocalVisualizer',
                vis_backends=[
                    dict(type='LocalVisBackend'),
                    dict(type='TensorboardVisBackend')
                ]))
        found = glob.glob(f'{runner.log_dir}/vis_data/**', recursive=True)
        return sorted(f[len(runner.log_dir):].replace(runner.timestamp, '')
                      for f in found
                      if 'tfevents' not in f and 'instances.npz' not in f)

    assert files(EVERY_ITER) == files(None)


def test_a_test_after_the_training_goes_into_the_same_file(
        runner_cfg, read_events):
    """P4: also after ``LoggerHook`` has closed the SummaryWriter."""
    runner = Runner(**runner_cfg(EVERY_ITER))
    runner.train()
    runner.test()
    events = read_events(runner)
    assert len(events.Scalars('train/gradient_norm/global')) == 12
    assert list(scalars(events, 'test/PCK')) == [3]


def test_two_runners_one_after_the_other(train, read_events):
    first, second = train(EVERY_ITER), train(EVERY_ITER)
    for runner in (first, second):
        events = read_events(runner)
        assert len(events.Scalars('train/gradient_norm/global')) == 12


# Promise P5: one x axis


def test_steps_of_epoch_based_training(train, read_events):
    """P5."""
    events = read_events(
        train(
            dict(grad_norm_interval=5, weight_hist_interval=2),
            train_cfg=dict(by_epoch=True, max_epochs=4, val_interval=2)))
    iters = [1, 5, 10, 15]
    assert list(scalars(events, 'train/gradient_norm/global')) == iters
    assert list(scalars(events, 'train/learning_rate/lr')) == iters
    # After epochs 1, 2 and 4 of 4 iterations each.
    assert [h.step for h in events.Histograms('weights/backbone/conv1')
            ] == [4, 8, 16]
    assert list(scalars(events, 'val/PCK')) == [2, 4]
    assert scalars(events, 'val/PCK') == scalars(events, 'PCK')
    assert scalars(events, 'loss').keys() >= set(iters)


@HOOKS.register_module(force=True)
class Interrupt(Hook):
    """Ends the training once, after the optimizer has stepped."""
    priority = 'VERY_HIGH'

    def __init__(self, at=6):
        self.at = at

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        if runner.iter + 1 == self.at:
            self.at = None
            raise KeyboardInterrupt


ITER_BASED = dict(
    train_cfg=dict(by_epoch=False, max_iters=12, val_interval=6),
    log_processor=dict(by_epoch=False),
    default_hooks=dict(
        logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
        checkpoint=None))


@pytest.mark.parametrize('interval, steps', [
    (5, [1, 5, 10]),
    (None, [1, 4, 8, 12]),
    (0, []),
])
def test_steps_of_iteration_based_training(train, read_events, interval,
                                           steps):
    """P5: weights by iterations, or by passes over the data if not set."""
    events = read_events(
        train(
            dict(grad_norm_interval=5, weight_hist_interval=interval),
            **copy.deepcopy(ITER_BASED)))
    assert list(scalars(events, 'train/gradient_norm/global')) == [1, 5, 10]
    assert scalars(events, 'val/PCK') == scalars(events, 'PCK')
    assert list(scalars(events, 'val/PCK')) == [6, 12]
    tags = events.Tags()['histograms']
    assert bool(tags) == bool(steps)
    for tag in tags:
        assert [h.step for h in events.Histograms(tag)] == steps


def test_a_resumed_run_logs_the_steps_of_an_unbroken_one(
        train, read_events, tmp_path):
    """P5."""
    checkpoint = dict(
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', interval=1)))
    first = train(
        dict(grad_norm_interval=5),
        train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1),
        **checkpoint)
    resumed = train(
        dict(grad_norm_interval=5),
        resume=True,
        load_from=f'{first.work_dir}/epoch_2.pth',
        train_cfg=dict(by_epoch=True, max_epochs=4, val_interval=1))
    events = read_events(resumed)
    assert list(scalars(events, 'train/gradient_norm/global')) == [10, 15]


def test_a_resumed_run_goes_on_with_the_curves_of_the_dead_one(runner_cfg):
    """No fork and no overlap: what the dead run had too much is purged."""

    def start(**kwargs):
        return Runner(**runner_cfg(
            dict(grad_norm_interval=1),
            train_cfg=dict(by_epoch=True, max_epochs=4, val_interval=1),
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1),
                checkpoint=dict(type='CheckpointHook', interval=1)),
            **kwargs))

    dead = start(custom_hooks=[dict(type='Interrupt', at=10)])
    with pytest.raises(KeyboardInterrupt):
        dead.train()
    hook_of(dead)._writer.close()
    time.sleep(1)  # A Runner's directory is named by the second.

    resumed = start(work_dir=dead.work_dir, resume=True)
    assert resumed.log_dir != dead.log_dir
    resumed.train()
    assert 'continues the curves' in ''.join(messages(resumed, 'INFO'))
    assert not glob.glob(f'{resumed.log_dir}/vis_data/*tfevents*')
    log_dir = f'{dead.log_dir}/vis_data'
    assert len(glob.glob(f'{log_dir}/*tfevents*')) == 2
    events = EventAccumulator(log_dir).Reload()
    for tag in ('train/gradient_norm/global', 'loss'):
        assert [e.step for e in events.Scalars(tag)] == list(range(1, 17))
    assert list(scalars(events, 'val/PCK')) == [1, 2, 3, 4]
    walltimes = [e.wall_time for e in events.Scalars('loss')]
    assert walltimes == sorted(walltimes)


# Gradients


@OPTIMIZERS.register_module(force=True)
class SpyingSGD(torch.optim.SGD):
    """Remembers the norms of the gradients that it steps with.

    PyTorch runs the step hooks twice for it, here and in its base class.
    """
    steps = []

    def step(self, closure=None):
        grads = [
            p.grad.double().flatten() for group in self.param_groups
            for p in group['params'] if p.grad is not None
        ]
        self.steps.append(torch.cat(grads).norm().item())
        return super().step(closure)


@pytest.fixture
def spy():
    SpyingSGD.steps = []
    return dict(type='SpyingSGD', lr=0.01)


def assert_norms(events, expected, num_groups=20):
    """``expected`` are all norms by step; layers must add up to them."""
    found = scalars(events, 'train/gradient_norm/global')
    assert list(found) == list(expected)
    np.testing.assert_allclose(
        list(found.values()), list(expected.values()), rtol=1e-6)
    layers = [
        t for t in events.Tags()['scalars']
        if t.startswith('train/gradient_norm/layers/')
    ]
    assert len(layers) == num_groups
    squares = defaultdict(float)
    for tag in layers:
        for step, value in scalars(events, tag).items():
            squares[step] += value**2
    for step, value in found.items():
        assert squares[step]**0.5 == pytest.approx(value, rel=1e-5)


def test_norms_without_clipping(train, read_events, spy):
    runner = train(NUMBERS, optim_wrapper=dict(optimizer=spy))
    assert_norms(
        read_events(runner), dict(enumerate(SpyingSGD.steps, start=1)))


@pytest.mark.parametrize('max_norm', [1e-3, 1e3])
def test_norms_are_those_that_clip_grad_norm_returns(train, read_events,
                                                     monkeypatch, max_norm):
    returned = []
    clip_grad_norm = torch.nn.utils.clip_grad_norm_

    def clip_and_remember(*args, **kwargs):
        norm = clip_grad_norm(*args, **kwargs)
        returned.append(norm.item())
        return norm

    monkeypatch.setattr(torch.nn.utils, 'clip_grad_norm_', clip_and_remember)
    runner = train(
        NUMBERS,
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.01),
            clip_grad=dict(max_norm=max_norm)))
    assert len(returned) == 12
    assert_norms(read_events(runner), dict(enumerate(returned, start=1)))


def test_norms_before_clipping_by_value(train, read_events, spy):
    runner = train(
        NUMBERS,
        optim_wrapper=dict(
            optimizer=spy, clip_grad=dict(type='value', clip_value=1e-4)))
    norms = scalars(read_events(runner), 'train/gradient_norm/global')
    assert all(norm > 2 * clipped
               for norm, clipped in zip(norms.values(), SpyingSGD.steps))


@pytest.mark.parametrize('interval, at', [(1, [3, 6, 9, 12]),
                                          (4, [3, 6, 9, 12]), (7, [3, 9])])
def test_norms_only_at_real_updates(train, read_events, spy, interval, at):
    """Under accumulation the first update after a due iteration counts."""
    runner = train(
        dict(grad_norm_interval=interval),
        optim_wrapper=dict(optimizer=spy, accumulative_counts=3))
    updates = dict(zip([3, 6, 9, 12], SpyingSGD.steps))
    assert_norms(read_events(runner), {step: updates[step] for step in at})


def test_norms_with_frozen_shared_and_unused_parameters(
        runner_cfg, read_events, spy):
    runner = Runner(**runner_cfg(NUMBERS, optim_wrapper=dict(optimizer=spy)))
    backbone = runner.model.backbone
    backbone.conv1.weight.requires_grad = False
    backbone.layer1[1].conv1.weight = backbone.layer1[0].conv1.weight
    runner.model.unused = nn.Linear(3, 3).to(get_device())
    runner.train()
    events = read_events(runner)
    # 20 groups, two of which have no gradient.
    assert_norms(events, dict(enumerate(SpyingSGD.steps, start=1)), 18)
    tags = events.Tags()['scalars']
    assert 'train/gradient_norm/layers/backbone/conv1' not in tags
    assert 'train/gradient_norm/layers/unused' not in tags


def test_norms_with_several_param_groups(train, read_events, spy):
    runner = train(
        NUMBERS,
        optim_wrapper=dict(
            optimizer=spy,
            paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=0.1)))))
    assert len(runner.optim_wrapper.param_groups) > 1
    assert_norms(
        read_events(runner), dict(enumerate(SpyingSGD.steps, start=1)))


def test_norms_with_two_optimizers(train, read_events, spy):
    """The norms are over all that stepped in the iteration."""

    @OPTIM_WRAPPER_CONSTRUCTORS.register_module(force=True)
    class TwoOptimizers:

        def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
            pass

        def __call__(self, model):
            return OptimWrapperDict(
                backbone=OptimWrapper(
                    SpyingSGD(model.backbone.parameters(), lr=0.01)),
                head=OptimWrapper(
                    SpyingSGD(model.head.parameters(), lr=0.001)))

    def train_step(self, data, optim_wrapper):
        data = self.data_preprocessor(data, True)
        losses = self(**data, mode='loss')
        loss, log_vars = self.parse_losses(losses)
        loss.backward()
        for wrapper in optim_wrapper.values():
            wrapper.step()
            wrapper.zero_grad()
        return log_vars

    with mock.patch.object(TopdownPoseEstimator, 'train_step', train_step):
        runner = train(
            NUMBERS,
            optim_wrapper=dict(constructor='TwoOptimizers'),
            param_scheduler=None)
    norms = np.hypot(SpyingSGD.steps[0::2], SpyingSGD.steps[1::2])
    events = read_events(runner)
    assert_norms(events, dict(enumerate(norms, start=1)))
    for name, rate in [('backbone', 0.01), ('head', 0.001)]:
        rates = scalars(events, f'train/learning_rate/{name}/lr')
        assert rates[12] == pytest.approx(rate)


@HOOKS.register_module(force=True)
class CompileSomething(Hook):

    def before_run(self, runner):
        torch.compile(nn.Linear(1, 1), backend='eager')


@pytest.mark.skipif(
    not hasattr(torch, 'compile') or sys.version_info >=
    (3, 12) and torch.__version__ < '2.4',
    reason='torch.compile is of torch 2.0, on Python 3.12 of torch 2.4')
def test_norms_after_something_was_compiled(train, read_events, spy):
    """``torch.compile`` takes the step hooks away from all optimizers."""
    runner = train(
        NUMBERS,
        optim_wrapper=dict(optimizer=spy),
        custom_hooks=[dict(type='CompileSomething')])
    assert_norms(
        read_events(runner), dict(enumerate(SpyingSGD.steps, start=1)))


def test_an_overflow_between_clipping_and_step_is_no_reading(
        train, read_events, monkeypatch):
    """``GradScaler`` skips the step then; the next one is read instead."""
    steps = []

    def step(self, **kwargs):
        steps.append(len(steps) + 1)
        if len(steps) == 5:
            self.optimizer.param_groups[0]['params'][0].grad.fill_(
                float('inf'))
        self._clip_grad()
        if len(steps) != 5:
            self.optimizer.step(**kwargs)

    monkeypatch.setattr(OptimWrapper, 'step', step)
    runner = train(
        dict(grad_norm_interval=5),
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.01), clip_grad=dict(max_norm=1.)))
    norms = scalars(read_events(runner), 'train/gradient_norm/global')
    assert list(norms) == [1, 6, 10]
    assert np.isfinite(list(norms.values())).all()


def test_an_interrupted_iteration_leaves_nothing_behind(
        runner_cfg, read_events, spy, monkeypatch):
    """In a notebook, training goes on in the same process."""
    from mmpose.engine.monitors.optimization import gradients
    named_norms = gradients.named_norms
    calls = []

    def count(*args):
        calls.append(args)
        return named_norms(*args)

    monkeypatch.setattr(gradients, 'named_norms', count)
    runner = Runner(**runner_cfg(
        NUMBERS,
        # So loose that nothing is clipped.
        optim_wrapper=dict(optimizer=spy, clip_grad=dict(max_norm=1e6)),
        custom_hooks=[dict(type='Interrupt')]))
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    before = len(SpyingSGD.steps)
    runner.train()
    events = read_events(runner)
    norms = scalars(events, 'train/gradient_norm/global')
    assert norms[6] == pytest.approx(SpyingSGD.steps[before], rel=1e-6)
    assert norms[runner.iter] == pytest.approx(SpyingSGD.steps[-1], rel=1e-6)
    assert len(calls) == len(SpyingSGD.steps), 'once for each update'


def test_of_several_steps_in_an_iteration_the_first_is_read(
        train, read_events, spy, monkeypatch):

    def step_twice(self, **kwargs):
        self.optimizer.step(**kwargs)
        for parameter in self.optimizer.param_groups[0]['params']:
            parameter.grad.mul_(2)
        self.optimizer.step(**kwargs)

    monkeypatch.setattr(OptimWrapper, 'step', step_twice)
    runner = train(NUMBERS, optim_wrapper=dict(optimizer=spy))
    assert_norms(
        read_events(runner), dict(enumerate(SpyingSGD.steps[::2], start=1)))


@OPTIMIZERS.register_module(force=True)
class UnscalingSGD(torch.optim.SGD):
    """Unscales inside its step, as a fused kernel does."""

    def step(self, closure=None):
        # Recent ones of torch raise if SGD is told it and has no such kernel.
        scale = vars(self).pop('grad_scale')
        for parameter in self.param_groups[0]['params']:
            parameter.grad.div_(scale)
        super().step(closure)
        self.grad_scale = scale


def test_scaled_gradients_of_a_fused_optimizer_are_unscaled(
        train, read_events, monkeypatch):
    """GradScaler leaves unscaling to fused optimizers, in their step."""
    plain = train(
        NUMBERS, optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)))
    expected = scalars(read_events(plain), 'train/gradient_norm/global')

    def scaled_backward(self, loss, **kwargs):
        (loss * 1024).backward(**kwargs)
        self._inner_count += 1

    def scaled_step(self, **kwargs):
        self.optimizer.grad_scale = torch.tensor(1024.)
        self.optimizer.step(**kwargs)
        del self.optimizer.grad_scale

    monkeypatch.setattr(OptimWrapper, 'backward', scaled_backward)
    monkeypatch.setattr(OptimWrapper, 'step', scaled_step)
    fused = train(
        NUMBERS,
        optim_wrapper=dict(optimizer=dict(type='UnscalingSGD', lr=0.01)))
    found = scalars(read_events(fused), 'train/gradient_norm/global')
    np.testing.assert_allclose(
        list(found.values()), list(expected.values()), rtol=1e-5)


# Weights


def test_histograms_hold_every_parameter(train, read_events):
    """Defect: only the first 20 parameters of 170 were ever seen."""
    runner = train(dict(weight_hist_interval=1))
    events = read_events(runner)
    named = dict(named_parameters(runner.model))
    groups = layer_groups(named, 20)
    assert events.Tags()['histograms'] == [f'weights/{g}' for g in groups]
    for group, names in groups.items():
        last = events.Histograms(f'weights/{group}')[-1].histogram_value
        weights = torch.cat([named[n].detach().flatten() for n in names])
        assert last.num == len(weights) == sum(last.bucket)
        assert last.min == weights.min() and last.max == weights.max()
        # Of the middles of the buckets.
        assert last.sum == pytest.approx(
            weights.double().sum().item(),
            abs=0.07 * weights.abs().sum().item())


@pytest.mark.parametrize('max_layers_to_log', [0, -1])
def test_without_groups_or_elements_nothing_fails(runner_cfg, read_events,
                                                  max_layers_to_log):
    runner = Runner(**runner_cfg(dict(max_layers_to_log=max_layers_to_log)))
    runner.model.empty = nn.Parameter(torch.zeros(0))
    runner.train()
    tags = read_events(runner).Tags()['histograms']
    assert bool(tags) == (max_layers_to_log == -1)
    assert 'weights/empty' not in tags


def test_every_parameter_for_itself(train, read_events):
    runner = train(dict(max_layers_to_log=-1))
    tags = read_events(runner).Tags()['histograms']
    assert tags == [
        f'weights/{n.replace(".", "/")}'
        for n, _ in runner.model.named_parameters()
    ]


# Learning rate


def test_the_learning_rate_is_the_one_of_the_step(train, read_events):
    """Schedulers step before the hook's ``after_train_iter``."""
    runner = train(
        dict(log_details=True, **NUMBERS),
        param_scheduler=[
            dict(
                type='LinearLR',
                start_factor=0.1,
                begin=0,
                end=10,
                by_epoch=False)
        ])
    events = read_events(runner)
    rates = scalars(events, 'train/learning_rate/lr')
    assert rates == scalars(events, 'lr')
    assert len(set(rates.values())) == 10
    for tag, value in [('momentum', 0.9), ('weight_decay', 1e-4)]:
        written = scalars(events, f'train/{tag}/{tag}')
        assert written == {step: pytest.approx(value) for step in rates}


def test_every_param_group_has_its_rate(train, read_events):
    runner = train(
        dict(max_layers_to_log=-1, log_details=True, **NUMBERS),
        optim_wrapper=dict(
            optimizer=dict(type='Adam', lr=0.01, betas=(0.8, 0.99)),
            paramwise_cfg=dict(
                custom_keys={'head.final_layer': dict(lr_mult=0.1)})))
    events = read_events(runner)
    for i, group in enumerate(runner.optim_wrapper.optimizer.param_groups):
        rates = scalars(events, f'train/learning_rate/group_{i}')
        assert rates[12] == pytest.approx(group['lr'])
        betas = scalars(events, f'train/momentum/group_{i}')
        assert betas[12] == pytest.approx(0.8)


def test_many_param_groups_with_equal_values_are_written_once(
        train, read_events):
    """``paramwise_cfg`` makes a param group of every parameter."""
    runner = train(
        NUMBERS,
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.01),
            paramwise_cfg=dict(
                custom_keys={'head.final_layer': dict(lr_mult=0.1)})))
    groups = runner.optim_wrapper.optimizer.param_groups
    assert len(groups) > 20
    events = read_events(runner)
    tags = [
        t for t in events.Tags()['scalars']
        if t.startswith('train/learning_rate/')
    ]
    first_of_head = [g['lr'] for g in groups].index(0.001)
    assert tags == [
        'train/learning_rate/group_0',
        f'train/learning_rate/group_{first_of_head}'
    ]


# Metrics


@METRICS.register_module(force=True)
class AllKindsOfMetrics:
    """Returns what evaluators return in the wild."""
    dataset_meta = None

    def process(self, data_batch, data_samples):
        pass

    def evaluate(self, size):
        return {
            'kinds/int': 3,
            'kinds/numpy': np.float32(0.5),
            'kinds/tensor': torch.tensor([0.25]),
            'kinds/bfloat16': torch.tensor(0.75, dtype=torch.bfloat16),
            'kinds/array': np.array([0.125]),
            'kinds/list': [1, 2],
            'kinds/nested': dict(a=1),
            'kinds/text': 'good',
        }


def test_every_scalar_of_every_evaluator(train, read_events):
    """Defect: ``after_val_epoch`` without ``metrics`` killed the run."""
    runner = train(
        dict(val_loss_samples=0),
        # MMEngine's own hooks do not survive nested metrics.
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1), checkpoint=None),
        val_evaluator=[
            dict(type='PCKAccuracy', thr=0.5, prefix='a'),
            dict(type='PCKAccuracy', thr=0.2, prefix='b'),
            dict(type='AllKindsOfMetrics')
        ])
    events = read_events(runner)
    written = {
        t: scalars(events, t)[3]
        for t in events.Tags()['scalars'] if t.startswith('val/')
    }
    assert written == {
        'val/a/PCK': pytest.approx(scalars(events, 'a/PCK')[3]),
        'val/b/PCK': pytest.approx(scalars(events, 'b/PCK')[3]),
        'val/kinds/int': 3,
        'val/kinds/numpy': 0.5,
        'val/kinds/tensor': 0.25,
        'val/kinds/bfloat16': 0.75,
        'val/kinds/array': 0.125,
    }
    log = messages(runner, 'INFO')
    for name in ('list', 'nested', 'text'):
        assert sum(f"'kinds/{name}'" in m for m in log) == 1


def test_a_test_run_is_written_under_test(runner_cfg, read_events):
    cfg = runner_cfg(dict())
    for key in ('train_cfg', 'train_dataloader', 'optim_wrapper'):
        cfg.pop(key)
    runner = Runner(**cfg)
    metrics = runner.test()
    events = read_events(runner)
    assert scalars(events, 'test/PCK') == {0: pytest.approx(metrics['PCK'])}
    assert any('wrote 1 scalars' in m for m in messages(runner, 'INFO'))


def test_a_validation_alone_is_written_under_val(runner_cfg, read_events):
    runner = Runner(**runner_cfg(dict()))
    metrics = runner.val()
    assert isinstance(runner._train_loop, dict), 'the hook built a loop'
    assert scalars(read_events(runner), 'val/PCK') == {
        0: pytest.approx(metrics['PCK'])
    }


def test_only_wrappers_are_unwrapped():
    """Defect: ``hasattr(model, 'module')`` took any attribute of the name."""

    class WithModule(nn.Module):

        def __init__(self):
            super().__init__()
            self.module = nn.Linear(2, 2)

    model = WithModule()
    assert bare_model(model) is model
    wrapped = MMDistributedDataParallel.__new__(MMDistributedDataParallel)
    nn.Module.__init__(wrapped)
    wrapped.module = model
    assert bare_model(wrapped) is model


# When to log, and what it costs


def test_an_adaptive_interval_is_often_first_and_rarely_later(
        train, read_events):
    runner = train(
        dict(
            grad_norm_interval=dict(
                type='adaptive', start=1, end=4, ramp_iters=8)))
    events = read_events(runner)
    steps = list(scalars(events, 'train/gradient_norm/global'))
    assert steps == list(scalars(events, 'train/learning_rate/lr'))
    gaps = np.diff(steps)
    assert steps[0] == 1 and gaps[0] == 1 and gaps[-1] == 4
    assert (np.diff(gaps) >= 0).all()


# The hook itself


@pytest.mark.parametrize('flag, prefix', [
    ('log_grad_norm', 'train/gradient_norm'),
    ('log_lr', 'train/learning_rate'),
    ('log_weight_hist', 'weights/'),
    ('log_val_metrics', 'val/PCK'),
    ('log_model_stats', 'model/'),
])
def test_each_part_can_be_switched_off(train, read_events, flag, prefix):
    tags = read_events(train({flag: False})).Tags()
    everything = tags['scalars'] + tags['histograms'] + tags['tensors']
    assert not [t for t in everything if t.startswith(prefix)]
    assert 'loss' in everything


def test_the_last_line_counts(train, read_events):
    runner = train(EVERY_ITER)
    events = read_events(runner)
    # LoggerHook's have no group here.
    ours = [t for t in events.Tags()['scalars'] if '/' in t]
    num_scalars = sum(len(events.Scalars(t)) for t in ours)
    num_histograms = sum(
        len(events.Histograms(t)) for t in events.Tags()['histograms'])
    line = [m for m in messages(runner, 'INFO') if ' wrote ' in m]
    assert len(line) == 1
    assert f'wrote {num_scalars:,} scalars, {num_histograms} histograms' \
        in line[0]
    assert '0 failures' in line[0] and '% of the training time' in line[0]
    assert f'tensorboard --logdir {runner.work_dir}' in line[0]


def test_an_explicit_argument_wins_over_the_preset():
    hook = EnhancedTensorBoardHook(preset='fast', grad_norm_interval=100)
    assert hook.grad_norm_interval == 100
    assert hook.weight_hist_interval == 5
    assert hook.max_layers_to_log == 10


@pytest.mark.parametrize('given, steps', [
    ({}, [*range(1, 13)]),
    (dict(preset='fast'), [*range(1, 13)]),
    (dict(grad_norm_interval=100), [1]),
    (dict(monitors=[dict(type='GradientMonitor', interval=5)]), [1, 5, 10]),
])
def test_intervals_of_a_preset_fit_a_short_training(train, read_events, given,
                                                    steps):
    """Those that a config gives are left as they are."""
    runner = train(given, **copy.deepcopy(ITER_BASED))
    norms = scalars(read_events(runner), 'train/gradient_norm/global')
    assert [*norms] == steps


def test_other_processes_than_the_first_write_nothing(train, monkeypatch):
    """P4: in distributed training rank 0 alone writes."""
    from mmpose.engine.hooks import enhanced_tensorboard_hook as module
    monkeypatch.setattr(module, 'is_main_process', lambda: False)
    runner = train(EVERY_ITER, visualizer=dict(type='PoseLocalVisualizer'))
    assert not glob.glob(f'{runner.work_dir}/**/*tfevents*', recursive=True)


def test_a_second_hook_in_the_config_stays_off(train, read_events):
    runner = train(
        EVERY_ITER,
        custom_hooks=[dict(type='EnhancedTensorBoardHook', log_lr=False)])
    events = read_events(runner)
    assert 'train/learning_rate/lr' not in events.Tags()['scalars']
    assert 'train/gradient_norm/global' in events.Tags()['scalars']
    assert sum('is there twice' in m for m in messages(runner, 'WARNING')) == 1


def test_each_run_is_counted_for_itself(runner_cfg, monkeypatch):
    from mmpose.engine.monitors.optimization import weights

    def fail(tensors):
        raise RuntimeError('broken on purpose')

    runner = Runner(**runner_cfg(dict(strict=False)))
    with monkeypatch.context() as patch:
        patch.setattr(weights, 'count_values', fail)
        runner.train()
    guard = monitor_of(hook_of(runner), WeightMonitor).guard
    assert guard.tripped and guard.failures == 3
    runner.test()
    assert not guard.tripped
    last = [m for m in messages(runner, 'INFO') if ' wrote ' in m][-1]
    assert '0 failures' in last


def test_a_hook_may_serve_another_runner_after_the_first(train, read_events):
    """That trains by epochs where the first has trained by iterations."""
    hook = EnhancedTensorBoardHook(strict=True, **EVERY_ITER)
    first = train(
        custom_hooks=[hook],
        train_cfg=dict(by_epoch=False, max_iters=8, val_interval=8),
        train_dataloader=dict(
            batch_size=4,
            num_workers=0,
            sampler=dict(type='InfiniteSampler', shuffle=True),
            dataset=dict(type='TinyPoseDataset')))
    # As a sharded model leaves it.
    monitor_of(hook, GradientMonitor).waited_for = True
    second = train(custom_hooks=[hook])
    for runner, steps in (first, [1, 4, 8]), (second, [4, 8, 12]):
        events = read_events(runner)
        assert [h.step for h in events.Histograms('weights/head/final_layer')
                ] == steps
        assert list(scalars(events, 'train/gradient_norm/global')) == list(
            range(1, runner.iter + 1))


def test_a_monitor_that_cannot_begin_costs_one_warning(train, monkeypatch):
    """P2: and no second one about what it then lacks."""
    from mmpose.engine.monitors.optimization import weights

    def fail(*args):
        raise RuntimeError('broken on purpose')

    monkeypatch.setattr(weights, 'layer_groups', fail)
    runner = train(dict(strict=False))
    warnings = [m for m in messages(runner, 'WARNING') if 'failed with' in m]
    assert len(warnings) == 1 and 'broken on purpose' in warnings[0]


def test_iteration_based_histograms_at_every_iteration_are_warned_of(
        train, read_events):
    runner = train(dict(weight_hist_interval=1), **copy.deepcopy(ITER_BASED))
    assert any('weight_hist_interval counts iterations' in m
               for m in messages(runner, 'WARNING'))


def test_the_budget_is_asked_once_for_an_update(train, monkeypatch):
    """Not in each iteration whose gradients are accumulated."""
    asked = []
    allows = OverheadBudget.allows
    monkeypatch.setattr(
        OverheadBudget, 'allows',
        lambda self, guard: asked.append(guard) or allows(self, guard))
    runner = train(
        dict(overhead_budget=0.9, grad_norm_interval=1),
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.01), accumulative_counts=3))
    hook = hook_of(runner)
    monitor = monitor_of(hook, GradientMonitor)
    assert asked.count(monitor.guard) == 4


@pytest.mark.parametrize('method', ['start', 'allows'])
def test_a_budget_that_fails_does_not_stop_the_training(
        train, read_events, monkeypatch, method):
    """P2."""

    def fail(self, *args):
        raise RuntimeError('broken on purpose')

    monkeypatch.setattr(OverheadBudget, method, fail)
    runner = train(dict(strict=False, overhead_budget=0.5, **EVERY_ITER))
    assert runner.iter == 12
    assert any('broken on purpose' in m for m in messages(runner, 'WARNING'))
    assert 'loss' in read_events(runner).Tags()['scalars']


def test_a_flush_that_fails_switches_nothing_off(train, read_events,
                                                 monkeypatch):
    """P2: one warning, and no false word."""

    def fail(self, wait=True):
        raise RuntimeError('broken on purpose')

    monkeypatch.setattr(EventWriter, 'flush', fail)
    # What closes the SummaryWriter flushes it as well.
    monkeypatch.setattr(FileWriter, 'flush', lambda self: None)
    runner = train(dict(strict=False, **EVERY_ITER))
    assert sum('broken on purpose' in m
               for m in messages(runner, 'WARNING')) == 1
    assert 'switched off' not in ''.join(messages(runner, 'INFO'))
    norms = read_events(runner).Scalars('train/gradient_norm/global')
    assert len(norms) == 12


def test_ema_is_neutral_too(train):
    """P1 with an averaged model, which is swapped in for validations."""
    states = [
        final_state(
            train(
                hook,
                custom_hooks=[dict(type='EMAHook'),
                              dict(type='Witness')]))
        for hook in (None, EVERY_ITER)
    ]
    assert states[0] == states[1]


def test_failures_are_logged_by_mmengine(train, monkeypatch):
    """Defect: errors went to DEBUG, so nobody noticed them."""
    from mmpose.engine.monitors.optimization import weights

    def fail(tensors):
        raise RuntimeError('broken on purpose')

    monkeypatch.setattr(weights, 'count_values', fail)
    runner = train(dict(strict=False))
    assert any('WeightMonitor failed' in m
               for m in messages(runner, 'WARNING'))
