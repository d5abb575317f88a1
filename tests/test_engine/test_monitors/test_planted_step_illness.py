# Copyright (c) OpenMMLab. All rights reserved.
"""Real trainings with an illness that shows where the optimizer steps."""
import copy

import pytest
from mmengine.hooks import Hook
from stepping import ScalingWrapper
from torch import nn

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
    each finding the steps at which it began (1) and ended (0), and the texts
    that were logged.
    """

    def run(iters, hook=WATCH, optimizer=ADAMW, **kwargs):
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
            return found, [line for line in file if 'Training health' in line]

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
    assert 'No gradient ever arrives at branch. 30 of its parameters' in line


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
    assert found == {'nonfinite_loss': [(8, 1)]}
    assert 'at step 4' in line


def test_a_learning_rate_that_is_much_too_high(findings):
    found, lines = findings(
        40,
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=50.), clip_grad=dict(max_norm=1.)))
    (step, begins), = found.pop('update_ratio')
    assert step <= 20 and begins and not found
    assert 'updates of the model are too large' in lines[0]
    # And where that is the end of it, that is the one thing more to say.
    found, lines = findings(12, optimizer=dict(type='SGD', lr=1e3))
    assert found.pop('update_ratio') == [(3, 1)]
    (name, course), = found.items()
    assert name.startswith('nonfinite_') and len(course) == 1


def test_a_head_that_is_frozen_by_mistake(findings):
    frozen = dict(
        optimizer=ADAMW,
        paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=0.))))
    found, (line, ) = findings(12, optim_wrapper=frozen)
    assert found == {'unchanged_weights/head': [(3, 1)]}
    assert 'head does not learn: its learning rate is 0.' in line


@HOOKS.register_module(force=True)
class Freeze(Hook):
    """Freezes as one should."""

    def before_run(self, runner):
        runner.model.backbone.requires_grad_(False)


def test_a_backbone_that_is_frozen_on_purpose(findings):
    assert findings(12, custom_hooks=[dict(type='Freeze')]) == ({}, [])


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
