# Copyright (c) OpenMMLab. All rights reserved.
"""Real trainings with an anomaly that no loss shows plainly."""
import time
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.structures import InstanceData
from test_planted_training_illness import (WATCH, adamw, history, iterations,
                                           logged)
from test_training_loops import SteppingByTurns  # noqa: F401, registered

from mmpose.engine.monitors.run import system
from mmpose.evaluation.metrics import PCKAccuracy
from mmpose.models import TopdownPoseEstimator
from mmpose.registry import HOOKS, METRICS, MODELS, OPTIM_WRAPPER_CONSTRUCTORS

# At exactly these iterations, whatever it costs.
IMAGES = dict(
    WATCH, log_train_images=True, train_image_interval=4, overhead_budget=None)
SELDOM = dict(logger=dict(type='LoggerHook', interval=50), checkpoint=None)

# learning_rate_zero of one optimizer of two


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(force=True)
class StoppedHead:
    """Makes an optimizer of the head whose learning rate is 0."""

    def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
        pass

    def __call__(self, model):
        return OptimWrapperDict(
            backbone=OptimWrapper(
                torch.optim.AdamW(model.backbone.parameters(), lr=1e-3)),
            head=OptimWrapper(
                torch.optim.AdamW(model.head.parameters(), lr=0.)))


def test_one_optimizer_of_two_at_learning_rate_0(train, read_events,
                                                 runner_cfg):
    runner = train(
        WATCH,
        train_cfg=iterations(60),
        model=dict(runner_cfg()['model'], type='SteppingByTurns'),
        optim_wrapper=dict(constructor='StoppedHead'))
    found = history(read_events(runner))
    # After a twentieth of the training, or an epoch.
    assert found.pop('learning_rate_zero/head') == [(10, 1)]
    # The note says so as well; the other optimizer has nothing.
    assert set(found) <= {'unchanged_weights/head'}
    assert 'The learning rate of the optimizer head is 0' in logged(runner)[0]


# dead_activation, saturated


@HOOKS.register_module(force=True)
class ShiftNorm(Hook):
    """Makes what leaves a batch norm negative, after a step."""

    def __init__(self, step, name, value=-1e3):
        self.step = step
        self.name = name
        self.value = value

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter + 1 == self.step:
            module = runner.model.get_submodule(self.name)
            module.bias.data.fill_(self.value)


@pytest.mark.parametrize(
    'norm, layer',
    [
        ('head.deconv_layers.1', 'head.deconv_layers.2'),
        # The only ReLU of a block is called after each of its two.
        ('backbone.layer2.0.bn1', 'backbone.layer2.0.relu'),
    ])
def test_a_relu_that_is_dead(train, read_events, norm, layer):
    runner = train(
        IMAGES,
        train_cfg=iterations(24),
        optim_wrapper=adamw(),
        custom_hooks=[dict(type='ShiftNorm', step=9, name=norm)])
    found = history(read_events(runner))
    name = f'dead_activation/{layer.replace(".", "/")}'
    # Seen at 12, and once more.
    assert found == {name: [(16, 1)]}
    line, = logged(runner)
    assert f'{layer} (ReLU) is dead' in line and '100%' in line


@MODELS.register_module(force=True)
class GatedPoseEstimator(TopdownPoseEstimator):
    """Multiplies its features by a sigmoid of a norm of them."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.norm = torch.nn.BatchNorm2d(64)
        self.gate = torch.nn.Sigmoid()

    def extract_feat(self, inputs):
        feats = super().extract_feat(inputs)
        return tuple(feat * self.gate(self.norm(feat)) for feat in feats)


@pytest.mark.parametrize('value', [-100., 100.])
def test_a_sigmoid_that_is_saturated(train, read_events, runner_cfg, value):
    runner = train(
        IMAGES,
        train_cfg=iterations(24),
        model=dict(runner_cfg()['model'], type='GatedPoseEstimator'),
        optim_wrapper=adamw(),
        custom_hooks=[
            dict(type='ShiftNorm', step=9, name='norm', value=value)
        ])
    assert history(read_events(runner)) == {'saturated/gate': [(16, 1)]}
    line, = logged(runner)
    assert 'gate (Sigmoid) is saturated' in line


# stalled


@HOOKS.register_module(force=True)
class Hang(Hook):

    def before_train_iter(self, runner, *args, **kwargs):
        if runner.iter == 20:
            time.sleep(3)


def test_a_training_that_stands_still(train, read_events):
    """The writer's thread says so meanwhile, and where it is."""
    runner = train(
        dict(
            WATCH,
            flush_secs=0.2,
            detectors=[dict(type='StalledDetector', seconds=1, times=5)]),
        train_cfg=iterations(40),
        optim_wrapper=adamw(),
        custom_hooks=[dict(type='Hang')])
    (name, ((step, begins), (end,
                             ends))), = history(read_events(runner)).items()
    assert name == 'stalled' and (step, begins) == (20, 1)
    assert ends == 0 and 20 <= end <= 40
    line = logged(runner)[0]
    assert 'stands still since iteration 20' in line
    assert 'test_planted_silent_anomalies.py' in line
    assert '(before_train_iter)' in line


# memory_grows


@HOOKS.register_module(force=True)
class Leak(Hook):
    """Keeps 2 MiB of each iteration, or of the first ones."""

    def __init__(self, until=10**9):
        self.until = until
        self.kept = []

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter < self.until:
            self.kept.append(np.ones(1 << 18))


@pytest.fixture
def small_memory(monkeypatch):
    """A machine of which this process may use 250 MiB more than now."""
    process = psutil.Process()
    total = process.memory_info().rss + (250 << 20)
    monkeypatch.setattr(
        system.psutil, 'virtual_memory',
        lambda: SimpleNamespace(available=total - process.memory_info().rss))


@pytest.mark.parametrize('until', [10**9, 30])
def test_memory_that_grows_without_end(train, read_events, small_memory,
                                       until):
    runner = train(
        # Measured in the iteration, and not some iterations later.
        dict(WATCH, grad_norm_interval=1, async_write=False),
        train_cfg=iterations(160),
        model=dict(type='OneConvolution'),
        default_hooks=SELDOM,
        optim_wrapper=adamw(),
        custom_hooks=[dict(type='Leak', until=until)])
    found = history(read_events(runner))
    if until < 160:  # A cache that is full after an epoch or some.
        assert not found
        return
    (name, ((step, begins), *_)), = found.items()
    assert name == 'memory_grows' and begins and step <= 80
    assert 'by this process' in logged(runner)[0]


# loss_oscillates


@MODELS.register_module(force=True)
class OneConvolution(BaseModel):
    """Learns heatmaps by a convolution, and predicts what it is told.

    Args:
        period (int): After how many iterations the targets become three times
            as large, and as they were again. 0: never.
    """

    def __init__(self, period=0, data_preprocessor=None):
        super().__init__(dict(type='PoseDataPreprocessor'))
        self.layer = torch.nn.Conv2d(3, 17, 3, 4, 1)
        self.period = period
        self.calls = self.predictions = 0

    def forward(self, inputs, data_samples=None, mode='tensor'):
        heatmaps = self.layer(inputs / 255)
        if mode == 'loss':
            self.calls += 1
            targets = torch.stack([s.gt_fields.heatmaps for s in data_samples])
            if self.period and self.calls // self.period % 2:
                targets = 3 * targets
            return dict(loss=(heatmaps - targets).square().mean())
        self.predictions += 1
        for sample in data_samples:
            truth = sample.gt_instances.keypoints
            # The error becomes less from each validation to the next.
            error = 40 * 0.7**(self.predictions // 4)
            shift = torch.linspace(0, error, 17).numpy()[:, None]
            sample.pred_instances = InstanceData(
                keypoints=truth + shift, keypoint_scores=np.ones((1, 17)))
        return data_samples


# learning_rate_too_high, or another weight


@MODELS.register_module(force=True)
class HiddenWeight(OneConvolution):
    """Has a second loss, with a weight that is no attribute.

    Args:
        step (int): From when on it is 25, and a little more each time.
        of_both (bool): Whether the first loss gets it as well.
    """

    def __init__(self, step, of_both=False, data_preprocessor=None):
        super().__init__()
        self.step = step
        self.of_both = of_both
        self.other = torch.nn.Linear(3, 1)
        self.weight_of_other = lambda: (25 + self.calls / 100
                                        if self.calls > self.step else 1.)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        outputs = super().forward(inputs, data_samples, mode)
        if mode == 'loss':
            # It cannot become better than 1.
            other = self.other(inputs.mean((2, 3)) / 255).square().mean() + 1
            weight = self.weight_of_other()
            return dict(
                loss_kpt=outputs['loss'] * (weight if self.of_both else 1),
                loss_other=other * weight)
        return outputs


@pytest.mark.parametrize('of_both, words', [
    (False, 'note: loss_other alone has risen'),
    (True, 'too high, or all of it got another weight'),
])
def test_a_weight_that_nobody_sees_is_no_divergence(train, read_events,
                                                    of_both, words):
    """A single loss becomes 25 times as large, the other one goes on.

    Or both do: no accuracy tells that from a divergence.
    """
    runner = train(
        WATCH,
        train_cfg=iterations(320),
        model=dict(type='HiddenWeight', step=140, of_both=of_both),
        default_hooks=SELDOM,
        optim_wrapper=adamw(3e-3))
    assert list(history(read_events(runner))) == ['learning_rate_too_high']
    line = logged(runner)[0]
    assert words in line and ('WARNING' if of_both else 'INFO') in line
    assert ' error: ' not in line


def test_a_loss_that_goes_up_and_down(train, read_events):
    runner = train(
        dict(WATCH, overhead_budget=None),
        train_cfg=iterations(600),
        model=dict(type='OneConvolution', period=80),
        default_hooks=SELDOM,
        optim_wrapper=adamw(1e-2))
    (name, ((step, begins), )), = history(read_events(runner)).items()
    assert name == 'loss_oscillates' and begins and 480 <= step <= 600
    line, = logged(runner)
    assert 'turned 6 times' in line and 'Lower the learning rate' in line


# validation_unmoved


@METRICS.register_module(force=True)
class StalePCK(PCKAccuracy):
    """Evaluates the predictions of the second validation again and again."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.kept = []

    def compute_metrics(self, results):
        self.kept.append(results)
        return super().compute_metrics(self.kept[:2][-1])


def test_a_validation_of_old_predictions(train, read_events):
    runner = train(
        dict(WATCH, log_keypoints=True),
        train_cfg=dict(by_epoch=True, max_epochs=8, val_interval=1),
        model=dict(type='OneConvolution'),
        optim_wrapper=adamw(),
        val_evaluator=dict(type='StalePCK', thr=0.2))
    events = read_events(runner)
    values = [e.value for e in events.Scalars('val/PCK')]
    assert len(set(values[1:])) == 1
    (name, ((step, begins), )), = history(events).items()
    assert name == 'validation_unmoved' and begins
    line, = logged(runner)
    assert 'val/PCK does not move' in line


# A metric that nobody knows


@pytest.mark.parametrize('name, sign, which, course', [
    ('plateau', 1, 'higher', [.1, .2, .3, *[.5] * 10, .49]),
    ('overfitting', -1, 'lower',
     [.1, .2, .3, .5, .48, .46, .44, .42, .4, .38, .36, .34, .32, .3]),
])
def test_a_metric_of_one_s_own(train, read_events, name, course, sign, which):
    """Defect: nothing was said of one whose name is not known."""
    runner = train(
        dict(WATCH, grad_norm_interval=2),
        train_cfg=dict(by_epoch=True, max_epochs=14, val_interval=1),
        model=dict(type='OneConvolution'),
        optim_wrapper=adamw(1e-2),
        val_evaluator=dict(
            type='ScriptedMetric',
            course=[sign * value for value in course],
            name='quality'))
    # The best one is the fourth; five without a better one.
    assert history(read_events(runner)) == {name: [(9 * 4, 1)]}
    line, = logged(runner)
    assert 'val/quality' in line
    assert f'taken to be better when it is {which}' in line
