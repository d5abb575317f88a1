# Copyright (c) OpenMMLab. All rights reserved.
"""Real trainings with an illness that shows where the optimizer steps."""
import copy
import time

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from stepping import ScalingWrapper
from torch import nn

from mmpose.engine.hooks import EnhancedTensorBoardHook
from mmpose.engine.monitors.core.optimizer_probe import OptimizerProbe
from mmpose.engine.monitors.health import detector
from mmpose.models import TopdownPoseEstimator
from mmpose.registry import HOOKS, MODELS

# Every step, and nothing that these illnesses are not seen by.
WATCH = dict(
    grad_norm_interval=1,
    log_weight_hist=False,
    log_train_images=False,
    log_val_images=False,
    log_keypoints=False,
    hard_samples=0,
    log_graph=False,
    log_model_stats=False)
SGD = dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=1e-4)
ADAMW = dict(type='AdamW', lr=1e-3, weight_decay=0.01)


@pytest.fixture
def findings(train, read_events):
    """A function that trains and returns what was found.

    Takes the number of iterations and arguments of the Runner, returns for
    each finding the steps at which it began (1) and ended (0), and the lines
    of the log that have the words.
    """

    def run(iters,
            hook=WATCH,
            optimizer=ADAMW,
            words='Training health',
            **kwargs):
        kwargs.setdefault('optim_wrapper', dict(optimizer=optimizer))
        runner = train(
            hook,
            train_cfg=dict(
                by_epoch=True, max_epochs=iters // 4, val_interval=iters),
            **copy.deepcopy(kwargs))
        assert runner.iter == iters
        found, prefix = {}, 'health/finding/'
        for event in read_events(f'{runner.log_dir}/vis_data'):
            for value in event.summary.value:
                if value.tag.startswith(prefix):
                    found.setdefault(value.tag[len(prefix):], []).append(
                        (event.step, value.simple_value))
        with open(f'{runner.log_dir}/{runner.timestamp}.log') as file:
            return found, [line for line in file if words in line]

    return run


@pytest.mark.parametrize(
    'optim_wrapper', [
        dict(optimizer=SGD),
        dict(optimizer=ADAMW),
        dict(optimizer=ADAMW, clip_grad=dict(max_norm=0.1)),
        dict(optimizer=SGD, clip_grad=dict(type='value', clip_value=0.01)),
        dict(optimizer=SGD, accumulative_counts=3),
        dict(
            optimizer=ADAMW,
            paramwise_cfg=dict(
                norm_decay_mult=0., custom_keys=dict(head=dict(lr_mult=0.1)))),
    ],
    ids=['sgd', 'adamw', 'norm', 'value', 'accumulate', 'paramwise'])
def test_a_healthy_training_has_no_findings(findings, optim_wrapper):
    assert findings(
        36,
        optim_wrapper=optim_wrapper,
        param_scheduler=dict(
            type='LinearLR',
            start_factor=0.001,
            begin=0,
            end=10,
            by_epoch=False)) == ({}, [])


def test_the_tags(train, read_events):
    """Without health, there is none of them."""
    optim_wrapper = dict(
        type=ScalingWrapper.__name__, overflows=[False] * 12, optimizer=SGD)
    expected = {
        'health/updates', 'health/update_ratio', 'health/dead_channels',
        'health/unused_parameters', 'health/amp/loss_scale',
        'health/amp/updates', 'health/amp/skipped'
    }
    clipping = {
        f'health/clipping/{name}'
        for name in ('norm_before', 'norm_after', 'share', 'threshold',
                     'learning_rate_factor')
    }
    for hook, optim_wrapper, tags in [
        (WATCH, optim_wrapper, expected),
        (WATCH, dict(optimizer=SGD, clip_grad=dict(max_norm=1.)), clipping),
        (dict(WATCH, log_health=False), optim_wrapper, set())
    ]:
        runner = train(hook, optim_wrapper=copy.deepcopy(optim_wrapper))
        found = {
            value.tag
            for event in read_events(f'{runner.log_dir}/vis_data')
            for value in event.summary.value if value.tag.startswith('health/')
        }
        assert tags <= found and bool(tags) == bool(found)
        groups = {t for t in found if t.startswith('health/update_ratio/')}
        assert len(groups) == 20 * bool(tags)


@MODELS.register_module(force=True)
class CutOffPoseEstimator(TopdownPoseEstimator):
    """Has a branch that the loss does not depend on."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.branch = nn.Sequential(*(nn.Conv2d(64, 64, 1) for _ in range(15)))

    def extract_feat(self, inputs):
        feats = super().extract_feat(inputs)
        return tuple(feat + self.branch(feat).detach() for feat in feats)


def test_a_branch_that_is_cut_off(findings, runner_cfg):
    model = dict(runner_cfg()['model'], type='CutOffPoseEstimator')
    found, (line, ) = findings(12, model=model)
    assert found == {'no_gradient/branch': [(10, 1)]}
    assert 'No gradient ever arrives at branch.' in line
    assert '30 of its parameters' in line


def test_a_branch_that_is_cut_off_on_purpose(findings, runner_cfg):
    """As DEKR's head.rescore_net, which has been trained before."""
    model = dict(runner_cfg()['model'], type='CutOffPoseEstimator')
    found, lines = findings(
        12,
        model=model,
        cfg=dict(find_unused_parameters=True),
        words='no gradient arrives')
    assert found == {}
    line, = lines
    assert 'INFO' in line and 'no gradient arrives at branch.' in line


@HOOKS.register_module(force=True)
class Write(Hook):
    """Writes a number into a parameter, after a step."""

    def __init__(self, step, name, value):
        self.step = step
        self.name = name
        self.value = value

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter + 1 == self.step:
            parameter = runner.model.get_parameter(self.name)
            parameter.data.view(-1)[:] = self.value


@pytest.mark.parametrize('interval, at', [(1, 6), (3, 6)])
@pytest.mark.parametrize(
    'name', ['backbone.layer3.0.conv1.weight', 'head.final_layer.bias'])
def test_weights_that_are_nan_from_a_known_step_on(findings, name, interval,
                                                   at):
    """The loss and all gradients follow, and are not findings of theirs."""
    found, (line, ) = findings(
        16,
        dict(WATCH, grad_norm_interval=interval),
        custom_hooks=[
            dict(type='Write', step=5, name=name, value=float('nan'))
        ])
    assert found == {'nonfinite_weight': [(at, 1)]}
    assert f'NaN or infinite, first those of {name}.' in line
    assert f'update of step {at}' in line


def test_weights_that_became_nan_between_two_readings(findings):
    """They are all NaN by then: the loss knows its step."""
    found, (line, ) = findings(
        16,
        dict(WATCH, grad_norm_interval=8),
        custom_hooks=[
            dict(
                type='Write',
                step=3,
                name='backbone.conv1.weight',
                value=float('nan'))
        ])
    assert found == {'nonfinite_loss': [(4, 1)]}
    assert 'at step 4' in line


@pytest.fixture
def on_cpu(monkeypatch):
    """Elsewhere it is rounded otherwise, and comes to something else."""
    monkeypatch.setattr('mmengine.runner.runner.get_device', lambda: 'cpu')


def test_a_learning_rate_that_is_much_too_high(findings, on_cpu):
    found, lines = findings(
        40,
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=50.), clip_grad=dict(max_norm=1.)))
    (step, begins), = found.pop('update_ratio')
    assert step <= 20 and begins and not found
    assert 'updates of the model are too large' in lines[0]
    # And where that is the end of it, that is the one thing more to say.
    found, lines = findings(12, optimizer=dict(type='SGD', lr=30.))
    assert found.pop('update_ratio') == [(4, 1)]
    (name, course), = found.items()
    assert name.startswith('nonfinite_') and len(course) == 1


def test_a_head_that_is_frozen_by_mistake(findings):
    frozen = dict(
        optimizer=ADAMW,
        paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=0.))))
    found, (line, ) = findings(12, optim_wrapper=frozen)
    assert found == {'unchanged_weights/head': [(4, 1)]}
    assert 'note: head does not learn: its learning rate is 0.' in line
    assert 'INFO' in line


@HOOKS.register_module(force=True)
class Freeze(Hook):
    """Freezes as one should."""

    def __init__(self, part='backbone'):
        self.part = part

    def before_run(self, runner):
        getattr(runner.model, self.part).requires_grad_(False)


def test_a_backbone_that_is_frozen_on_purpose(findings):
    assert findings(12, custom_hooks=[dict(type='Freeze')]) == ({}, [])


def test_a_head_that_requires_no_gradient(findings):
    found, (line, ) = findings(
        16, custom_hooks=[dict(type='Freeze', part='head')])
    assert found == {'frozen_head': [(10, 1)]}
    assert 'The head is frozen, while other parts of the model are' in line
    assert 'At step 10 none of its 11 parameters requires a gradient' in line


def test_a_resumed_run_ends_what_is_wrong_no_more(runner_cfg, read_events):
    checkpoint = dict(type='CheckpointHook', interval=1)

    def train(epochs, **kwargs):
        runner = Runner(**runner_cfg(
            WATCH,
            train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=9),
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1),
                checkpoint=checkpoint),
            **kwargs))
        runner.train()
        return runner

    first = train(3, custom_hooks=[dict(type='Freeze', part='head')])
    time.sleep(1)  # A Runner's directory is named by the second.
    train(4, work_dir=first.work_dir, resume=True)
    found, count = [[(event.step, value.simple_value)
                     for event in read_events(f'{first.log_dir}/vis_data')
                     for value in event.summary.value if value.tag == tag]
                    for tag in ('health/finding/frozen_head',
                                'health/findings')]
    assert found == [(10, 1), (13, 0)]
    assert count == [(1, 0), (10, 1), (13, 0)]


def test_a_layer_that_dies(findings):
    """The ReLU behind that batch norm lets nothing through any more."""
    found, (line, ) = findings(
        24,
        custom_hooks=[
            dict(
                type='Write',
                step=15,
                name='head.deconv_layers.4.bias',
                value=-1e3)
        ])
    # What is closest to the loss has an input of 0.
    assert found == {'vanishing_gradient/head/deconv_layers/6': [(18, 1)]}
    assert 'head.deconv_layers.4' in line and 'backbone.conv1' in line


@HOOKS.register_module(force=True)
class WeighLoss(Hook):
    """Gives the loss another weight from a step on."""

    def __init__(self, step, weight):
        self.step = step
        self.weight = weight

    def before_train_iter(self, runner, *args, **kwargs):
        if runner.iter + 1 == self.step:
            runner.model.head.loss_module.loss_weight = self.weight


def test_gradients_that_explode(findings):
    """Adam's steps are as long as before."""
    found, (line, ) = findings(
        24, custom_hooks=[dict(type='WeighLoss', step=18, weight=1e5)])
    assert found == {'exploding_gradient': [(20, 1)]}
    assert 'The gradients of the model explode.' in line


def test_updates_that_are_too_large_in_one_group(findings):
    """A convolution in front of a batch norm, with a decay to match."""
    name = 'backbone.layer4.1.conv1'
    decay = dict(custom_keys={name: dict(lr_mult=2., decay_mult=3e4)})
    found, (line, ) = findings(
        100,
        dict(WATCH, max_layers_to_log=-1),
        optim_wrapper=dict(optimizer=ADAMW, paramwise_cfg=decay))
    (finding, ((step, begins), )), = found.items()
    assert finding == 'update_ratio/backbone/layer4/1/conv1/weight'
    assert begins and step < 100
    assert f'The updates of {name}.weight are too large' in line


def test_updates_that_are_too_small(findings, monkeypatch, on_cpu):
    monkeypatch.setattr(detector, 'STARTED', 10)
    found, (line, ) = findings(16, optimizer=dict(type='AdamW', lr=2e-7))
    assert found == {'update_ratio': [(13, 1)]}
    assert 'The updates of the model are too small to change' in line


@HOOKS.register_module(force=True)
class SwitchOff(Hook):
    """Scales all channels of the backbone to nothing, after a step."""

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter + 1 == 4:
            for name, parameter in runner.model.backbone.named_parameters():
                if 'bn' in name and name.endswith('weight'):
                    parameter.data.zero_()


def test_channels_that_are_switched_off(findings):
    found, (line, ) = findings(
        12,
        optimizer=dict(type='SGD', lr=1e-4),
        custom_hooks=[dict(type='SwitchOff')])
    assert found == {'dead_channels': [(6, 1)]}
    assert 'Batch norms have switched many channels off.' in line


def test_every_step_is_clipped(findings):
    found, (line, ) = findings(
        120,
        dict(WATCH, grad_norm_interval=10, log_grad_norm=False),
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=1.), clip_grad=dict(max_norm=1e-4)))
    assert found == {'clipping': [(120, 1)]}
    assert '100% of the updates since the last logging step' in line


@HOOKS.register_module(force=True)
class Spoil(Hook):
    """Makes a gradient NaN at a step, or the optimizer's memory of it."""

    def __init__(self, step, name, what):
        self.step = step
        self.name = name
        self.what = what

    def before_train_iter(self, runner, *args, **kwargs):
        if runner.iter + 1 != self.step:
            return
        parameter = runner.model.get_parameter(self.name)
        if self.what == 'gradient':
            parameter.register_hook(lambda gradient: gradient * float('nan'))
        else:
            state = runner.optim_wrapper.optimizer.state[parameter]
            state['exp_avg'].fill_(float('nan'))


@pytest.mark.parametrize('what, words', [
    ('gradient', 'A gradient became NaN or infinite, first that of '),
    ('update', 'An update made weights NaN or infinite, first those of '),
])
def test_what_becomes_nan_in_backpropagation_or_the_optimizer(
        findings, what, words):
    name = 'backbone.layer3.0.conv1.weight'
    found, (line, ) = findings(
        12, custom_hooks=[dict(type='Spoil', step=5, name=name, what=what)])
    assert found == {f'nonfinite_{what}': [(5, 1)]}
    assert f'{words}{name}.' in line and 'step 5' in line


def test_everything_on_and_nothing_but_the_cause_is_found(findings):
    """At the intervals that are the default."""
    # The images of the validation exist nowhere.
    everything = dict(log_val_images=False, hard_samples=0)
    name = 'backbone.layer3.0.conv1.weight'
    found, (line, ) = findings(
        104,
        everything,
        custom_hooks=[
            dict(type='Write', step=36, name=name, value=float('nan'))
        ])
    assert found == {'nonfinite_loss': [(37, 1)]}
    assert 'NaN or infinite at step 37: loss_kpt.' in line


@pytest.mark.parametrize('interval, name', [(1, 'nonfinite_weight'),
                                            (8, 'nonfinite_loss')])
def test_a_weight_that_is_nan_in_mixed_precision(findings, interval, name):
    """No update comes after it, and that is not the finding."""
    weight = 'backbone.layer3.0.conv1.weight'
    found, (line, ) = findings(
        32,
        dict(WATCH, grad_norm_interval=interval),
        optim_wrapper=dict(
            type=ScalingWrapper.__name__,
            overflows=[False] * 5 + [True] * 27,
            optimizer=ADAMW),
        custom_hooks=[
            dict(type='Write', step=5, name=weight, value=float('nan'))
        ])
    # The loss is known at once.
    assert found == {name: [(6, 1)]}
    assert (weight if interval == 1 else 'loss_kpt') in line


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_float16_that_overflows(findings):
    found, (line, ) = findings(
        28,
        optim_wrapper=dict(type='AmpOptimWrapper', optimizer=ADAMW),
        custom_hooks=[dict(type='WeighLoss', step=1, weight=1e20)])
    # The scale has been halved from 2**16 to below 1 by then.
    assert found == {'amp_overflow': [(17, 1)]}
    assert '17 of the last 17 were skipped' in line


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('optim_wrapper', [
    dict(optimizer=SGD, clip_grad=dict(max_norm=1.)),
    dict(optimizer=SGD, clip_grad=dict(type='value', clip_value=0.01)),
    dict(type='AmpOptimWrapper', optimizer=ADAMW)
])
def test_no_handler_waits_for_the_gpu(findings, monkeypatch, optim_wrapper):
    """P3: once it has begun, also inside the optimizer's step."""

    def without_waiting(function):

        def call(*args, **kwargs):
            torch.cuda.set_sync_debug_mode('error')
            try:
                return function(*args, **kwargs)
            finally:
                torch.cuda.set_sync_debug_mode('default')

        return call

    for owner, name in [(EnhancedTensorBoardHook, 'before_train_iter'),
                        (EnhancedTensorBoardHook, 'after_train_iter'),
                        (OptimizerProbe, '_tell')]:
        monkeypatch.setattr(owner, name, without_waiting(getattr(owner, name)))
    assert findings(12, optim_wrapper=optim_wrapper) == ({}, [])


def test_mixed_precision_that_overflows(findings):
    found, (line, ) = findings(
        24,
        optim_wrapper=dict(
            type=ScalingWrapper.__name__,
            overflows=[False] * 2 + [True] * 30,
            optimizer=ADAMW))
    assert list(found) == ['amp_overflow']
    assert found['amp_overflow'][0] == (13, 1)
    assert 'loss scale is 0.5' in line


def test_a_loss_scale_is_found_in_the_beginning(findings):
    assert findings(
        24,
        optim_wrapper=dict(
            type=ScalingWrapper.__name__,
            overflows=[True] * 9 + [False] * 15,
            optimizer=ADAMW)) == ({}, [])


def test_gradients_that_float16_hardly_holds(findings):
    """Few updates are skipped, but each halves the loss scale."""
    found, (line, ) = findings(
        64,
        dict(WATCH, grad_norm_interval=5),
        optim_wrapper=dict(
            type=ScalingWrapper.__name__,
            overflows=[i % 3 == 0 and i < 24 for i in range(64)],
            optimizer=ADAMW))
    # From 1024, halved at the first iteration already. It has settled at 50.
    assert found == {'amp_near_limit': [(60, 1)]}
    assert 'from 512 to 4, at step 60' in line
