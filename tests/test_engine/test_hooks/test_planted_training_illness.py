# Copyright (c) OpenMMLab. All rights reserved.
"""Trainings that are ill on purpose, and what the hook says of them."""
import copy
import glob
import json
import math
import time

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner

from mmpose.engine.monitors import NonfiniteTrainingError
from mmpose.registry import DATASETS, HOOKS, METRICS

# What the training as a whole is judged by, and nothing that takes time.
WATCH = dict(
    grad_norm_interval=10,
    log_details=True,
    log_grad_norm=False,
    log_weight_hist=False,
    log_train_images=False,
    log_val_images=False,
    log_keypoints=False,
    hard_samples=0,
    log_model_stats=False,
    # Beside so small models the data may take most of the time.
    detectors=[dict(type='DataLoaderDetector', enabled=False)])


def iterations(count):
    """Four in an epoch, without a validation."""
    return dict(by_epoch=True, max_epochs=count // 4, val_interval=count)


HEALTHY_LR = 0.05
CLIP = dict(max_norm=1.)


def sgd(lr=HEALTHY_LR):
    return dict(
        optimizer=dict(type='SGD', lr=lr), clip_grad=copy.deepcopy(CLIP))


def adamw(lr=1e-3):
    return dict(optimizer=dict(type='AdamW', lr=lr))


@HOOKS.register_module(force=True)
class Poison(Hook):
    """Multiplies the heatmaps that the model is to learn, in one batch.

    Of all samples, or of one.
    """

    def __init__(self, step, factor, sample=None):
        self.step = step
        self.factor = factor
        self.samples = slice(sample, None if sample is None else sample + 1)
        self.ids = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.step:
            for sample in data_batch['data_samples'][self.samples]:
                sample.gt_fields.heatmaps *= self.factor
                self.ids.append(sample.id)


@METRICS.register_module(force=True)
class ScriptedMetric(BaseMetric):
    """A metric that takes the course it is told."""

    def __init__(self, course, name='AP'):
        super().__init__()
        self.course = list(course)
        self.name = name

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return {self.name: self.course.pop(0)}


def history(events):
    """When each finding began (1) and ended (0)."""
    prefix = 'health/finding/'
    return {
        tag[len(prefix):]: [(e.step, e.value) for e in events.Scalars(tag)]
        for tag in events.Tags()['scalars'] if tag.startswith(prefix)
    }


def reports(events):
    return [
        e.tensor_proto.string_val[0].decode()
        for e in events.Tensors('health/report/text_summary')
    ]


def logged(runner):
    path, = glob.glob(f'{runner.log_dir}/*.log')
    with open(path) as file:
        return [line for line in file if 'Training health' in line]


@pytest.mark.parametrize(
    'optim_wrapper', [sgd(), adamw()], ids=['sgd', 'adamw'])
def test_a_healthy_training_has_no_findings(train, read_events, optim_wrapper):
    runner = train(
        WATCH,
        train_cfg=dict(by_epoch=True, max_epochs=30, val_interval=4),
        optim_wrapper=copy.deepcopy(optim_wrapper),
        param_scheduler=[
            dict(
                type='LinearLR',
                start_factor=0.001,
                begin=0,
                end=30,
                by_epoch=False),
            dict(type='MultiStepLR', milestones=[20, 27], gamma=0.1)
        ])
    events = read_events(runner)
    assert history(events) == {}
    assert len(events.Scalars('health/loss/spike_score')) == 2
    first, report = reports(events)
    assert 'Healthy run' in first and 'At the end, step 120' in report
    assert 'Healthy run' in report and not logged(runner)


@pytest.mark.parametrize('name, until, words', [
    ('update_ratio', 50,
     'The updates of the model are too large for its weights'),
    ('learning_rate_too_high', 120,
     'likely since the learning rate of 50 is too high, or all of it got '
     'another weight'),
])
def test_a_learning_rate_that_is_a_thousand_times_too_high(
        train, read_events, name, until, words):
    # That the loss does not come back follows from such updates and is known
    # later: it is a finding where they are not measured.
    measured = name == 'update_ratio'
    runner = train(
        dict(WATCH, monitors=[dict(type='UpdateMonitor', enabled=measured)]),
        train_cfg=iterations(120),
        optim_wrapper=sgd(1000 * HEALTHY_LR))
    events = read_events(runner)
    found = history(events)
    assert list(found) == [name]
    (step, begins), = found[name]
    assert begins == 1 and step <= until
    line, = logged(runner)
    assert words in line
    assert 'Since step' in reports(events)[-1]


def test_a_learning_rate_that_is_much_too_low(train, read_events):
    runner = train(
        WATCH, train_cfg=iterations(320), optim_wrapper=sgd(1e-6 * HEALTHY_LR))
    found = history(read_events(runner))
    assert list(found) == ['not_learning']
    (step, begins), = found['not_learning']
    assert begins == 1 and 300 <= step <= 320
    line, = logged(runner)
    assert 'the loss is where it was in the beginning' in line
    assert 'learning rates ten times as high' in line


@pytest.mark.parametrize('interval', [1, 10, 100])
def test_a_loss_that_becomes_nan_at_a_known_step(train, read_events, interval):
    runner = train(
        dict(WATCH, grad_norm_interval=interval),
        train_cfg=iterations(100 if interval == 100 else 52),
        optim_wrapper=adamw(),
        custom_hooks=[dict(type='Poison', step=37, factor=float('nan'))])
    events = read_events(runner)
    # At once, whatever the interval.
    assert history(events) == {'nonfinite_loss': [(37, 1)]}
    line, = logged(runner)
    assert 'WARNING' in line
    assert 'became NaN or infinite at step 37: loss_kpt.' in line
    first = events.Scalars('health/nonfinite_loss/loss_kpt')[0]
    assert (first.step, first.value) == (37, 37)


def test_a_batch_that_makes_the_loss_jump(train, read_events):
    runner = train(
        WATCH,
        train_cfg=iterations(140),
        optim_wrapper=adamw(),
        custom_hooks=[dict(type='Poison', step=77, factor=30)])
    events = read_events(runner)
    # Fifty iterations later, and for one reading.
    assert history(events) == {'loss_spike': [(130, 1), (140, 0)]}
    begins, ends = logged(runner)
    assert 'The loss jumped at step 77.' in begins and 'resolved' in ends


def suspects(runner):
    path, = glob.glob(f'{runner.work_dir}/**/suspects.json', recursive=True)
    with open(path) as file:
        return json.load(file)


def poisoned(runner):
    hook, = [hook for hook in runner.hooks if isinstance(hook, Poison)]
    return hook.ids


def test_the_sample_with_a_target_of_nan_is_named(train, read_events):
    runner = train(
        dict(WATCH, grad_norm_interval=100),
        train_cfg=iterations(52),
        optim_wrapper=adamw(),
        custom_hooks=[
            dict(type='Poison', step=37, factor=float('nan'), sample=1)
        ])
    broken, = poisoned(runner)
    report = reports(read_events(runner))[-1]
    assert ('Of the 4 samples of step 37 these hold a NaN or an infinity '
            'before they reach the model: ') in report
    assert f'(id {broken}, heatmaps); see suspects.json.' in report
    entry, = suspects(runner)
    assert (entry['finding'], entry['step']) == ('nonfinite_loss', 37)
    assert [sample['id'] for sample in entry['samples']] == [broken]


def test_the_samples_of_a_batch_long_ago_are_named(train, read_events):
    """Its loss stands out when fifty more are known."""
    runner = train(
        WATCH,
        train_cfg=iterations(140),
        optim_wrapper=adamw(),
        custom_hooks=[dict(type='Poison', step=77, factor=30)])
    line = logged(runner)[0]
    assert 'Samples of step 77: ' in line
    entry, = suspects(runner)
    assert entry['step'] == 77
    ids = [sample['id'] for sample in entry['samples']]
    assert ids == poisoned(runner) and len(ids) == 4
    assert all(f'(id {i})' in line for i in ids)


def test_a_data_loader_that_sleeps(train, read_events):

    @DATASETS.register_module(force=True)
    class SleepyPoseDataset(DATASETS.get('TinyPoseDataset')):

        def __getitem__(self, index):
            time.sleep(0.01)
            return super().__getitem__(index)

    loader = dict(
        batch_size=4,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True),
        dataset=dict(type='SleepyPoseDataset'))
    runner = train(
        dict(WATCH, detectors=None),
        train_cfg=iterations(72),
        train_dataloader=loader,
        optim_wrapper=adamw())
    events = read_events(runner)
    found = history(events)
    assert list(found) == ['data_loader'] and len(found['data_loader']) == 1
    assert found['data_loader'][0][0] >= 60
    line, = logged(runner)
    assert 'The data loader is the bottleneck' in line
    assert 'num_workers of train_dataloader, which is 0' in line


def test_a_schedule_that_comes_to_zero_too_soon(train, read_events):
    """Its end was meant in epochs and is taken for iterations."""
    runner = train(
        WATCH,
        train_cfg=iterations(60),
        optim_wrapper=adamw(),
        param_scheduler=dict(
            type='LinearLR',
            start_factor=1.,
            end_factor=0.,
            begin=0,
            end=40,
            by_epoch=False))
    events = read_events(runner)
    # At 40 and at 50: a cosine that turns is 0 for a moment.
    assert history(events) == {'learning_rate_zero': [(50, 1)]}
    line, = logged(runner)
    assert 'The learning rate is 0' in line


@pytest.mark.parametrize('name, course', [
    ('plateau', [.1, .5, .5, .5, .5, .49, .5, .5, .5, .5, .5, .5]),
    ('overfitting', [.1, .5, .48, .46, .44, .42, .40, .38, .36, .34, .32, .30
                     ]),
])
def test_validations_that_do_not_get_better(train, read_events, name, course):
    runner = train(
        WATCH,
        train_cfg=dict(by_epoch=True, max_epochs=12, val_interval=1),
        optim_wrapper=sgd(),
        val_evaluator=dict(type='ScriptedMetric', course=course))
    events = read_events(runner)
    found = history(events)
    # After the fifth without a better one, which is four iterations each.
    assert found == {name: [(7 * 4, 1)]}
    line, = logged(runner)
    assert 'AP' in line and 'since step 8' in line


def test_a_metric_that_becomes_nan(train, read_events):
    runner = train(
        WATCH,
        train_cfg=dict(by_epoch=True, max_epochs=7, val_interval=1),
        optim_wrapper=sgd(),
        val_evaluator=dict(
            type='ScriptedMetric', course=[.1, .3, .4, .5] + 3 * [math.nan]))
    assert history(read_events(runner)) == {'validation_nan': [(5 * 4, 1)]}
    assert 'after 4 validations in which it was a number' in logged(runner)[0]


def test_curves_that_are_not_written_switch_no_finding_off(train, read_events):
    """Defect: the report was made of the curves."""
    course = [.1, .5, .48, .46, .44, .42, .40, .38, .36, .34, .32, .30]
    runner = train(
        dict(
            WATCH,
            log_val_metrics=False,
            log_lr=False,
            log_system=False,
            val_loss_samples=0),
        train_cfg=dict(by_epoch=True, max_epochs=12, val_interval=1),
        optim_wrapper=sgd(),
        param_scheduler=dict(
            type='LinearLR',
            start_factor=1.,
            end_factor=0.,
            begin=0,
            end=30,
            by_epoch=False),
        val_evaluator=dict(type='ScriptedMetric', course=course))
    events = read_events(runner)
    assert history(events) == {
        'overfitting': [(28, 1)],
        'learning_rate_zero': [(40, 1)]
    }
    assert not [
        tag for tag in events.Tags()['scalars']
        if tag.startswith(('val/', 'train/learning_rate', 'system/'))
    ]


@HOOKS.register_module(force=True)
class Change(Hook):
    """Changes something of the training after a step."""

    priority = 'HIGHEST'

    def __init__(self, what, step=0):
        self.what = what
        self.step = step

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        samples = data_batch['data_samples']
        for sample in samples if self.what == 'invisible' else ():
            sample.gt_instance_labels.keypoint_weights *= 0
        # Labels of other images.
        for sample in samples if self.what == 'labels' else ():
            sample.gt_fields.heatmaps = sample.gt_fields.heatmaps.flatten(
                1)[:, torch.randperm(256)].view(17, 16, 16)

    def after_train_iter(self, runner, *args, **kwargs):
        if self.what == 'ema' and runner.iter + 1 == self.step:
            ema, = [h for h in runner.hooks if isinstance(h, EMAHook)]
            ema.ema_model.module.backbone.layer1[0].conv1.weight[0] = math.nan
        if self.what == 'running_var' and runner.iter + 1 == self.step:
            norm = runner.model.backbone.layer2[0].bn1
            norm.running_var[0] = float('nan')


@pytest.mark.parametrize(
    'optim_wrapper', [sgd(), adamw()], ids=['sgd', 'adamw'])
def test_a_loss_of_exactly_0(train, read_events, optim_wrapper):
    """Defect: with AdamW nothing was said, for ever."""
    runner = train(
        WATCH,
        train_cfg=iterations(40),
        optim_wrapper=copy.deepcopy(optim_wrapper),
        custom_hooks=[dict(type='Change', what='invisible')])
    events = read_events(runner)
    assert {e.value for e in events.Scalars('loss')} == {0}
    assert history(events) == {'zero_loss': [(20, 1)]}
    line, = logged(runner)
    assert '0% of the keypoints' in line and 'visibility flags' in line


def test_an_ema_model_that_has_hardly_begun(train, read_events):
    """Its momentum is that of a training that is a hundred times as long."""
    runner = train(
        dict(WATCH, log_val_metrics=False),
        train_cfg=dict(by_epoch=True, max_epochs=15, val_interval=2),
        optim_wrapper=adamw(3e-3),
        custom_hooks=[dict(type='EMAHook', momentum=0.0002)])
    (name, ((step, begins), )), = history(read_events(runner)).items()
    assert name == 'ema_lags' and begins and step <= 49
    line, = logged(runner)
    assert 'over about 5,000 updates; the training has 60' in line


def test_an_ema_model_with_a_nan(train, read_events):
    runner = train(
        WATCH,
        train_cfg=iterations(32),
        optim_wrapper=adamw(),
        custom_hooks=[
            dict(type='EMAHook', momentum=0.5),
            dict(type='Change', what='ema', step=12)
        ])
    assert history(read_events(runner)) == {'nonfinite_ema': [(20, 1)]}
    line, = logged(runner)
    assert 'backbone.layer1.0.conv1.weight of the EMA model' in line


def test_labels_of_other_images(train, read_events):
    """Defect: the loss falls, so nothing was said."""
    runner = train(
        dict(WATCH, detectors=[dict(type='ZeroAccuracyDetector', iters=60)]),
        train_cfg=iterations(80),
        optim_wrapper=adamw(),
        custom_hooks=[dict(type='Change', what='labels')])
    events = read_events(runner)
    (name, ((step, begins), )), = history(events).items()
    assert name == 'zero_accuracy' and begins and 60 <= step <= 80
    line, = logged(runner)
    assert 'images and annotations do not match' in line


def test_a_running_variance_that_is_nan(train, read_events):
    """Defect: no loss shows it, and nothing was said."""
    runner = train(
        WATCH,
        train_cfg=iterations(60),
        optim_wrapper=adamw(),
        custom_hooks=[dict(type='Change', what='running_var', step=37)])
    events = read_events(runner)
    assert history(events) == {'nonfinite_buffer': [(40, 1)]}
    line, = logged(runner)
    assert 'backbone.layer2.0.bn1.running_var is NaN' in line
    tag = 'health/nonfinite_buffer/backbone.layer2.0.bn1.running_var'
    # Of 20 batch norms and three of the head, means and variances.
    assert events.Scalars(tag)[0].value == pytest.approx(1 / 46)


# on_nonfinite


def ill(hook, **kwargs):
    """Arguments of a training whose loss is NaN at step 37."""
    return dict(
        hook=dict(WATCH, **hook),
        train_cfg=iterations(60),
        optim_wrapper=adamw(),
        custom_hooks=[dict(type='Poison', step=37, factor=float('nan'))],
        **kwargs)


def test_nonfinite_losses_may_be_ignored(train, read_events):
    runner = train(**ill(dict(on_nonfinite='ignore')))
    assert runner.iter == 60
    assert history(read_events(runner)) == {} and not logged(runner)


@pytest.fixture
def stopped(runner_cfg):
    """A function that trains until the hook ends it.

    Returns the Runner and the exception.
    """

    def run(**kwargs):
        runner = Runner(**runner_cfg(**kwargs))
        with pytest.raises(NonfiniteTrainingError) as info:
            runner.train()
        return runner, str(info.value)

    return run


@pytest.mark.parametrize('strict', [True, False])
@pytest.mark.parametrize('async_write', [True, False], ids=['async', 'sync'])
def test_a_nonfinite_loss_may_end_the_training(stopped, read_events, strict,
                                               async_write):
    runner, message = stopped(**ill(
        dict(on_nonfinite='stop', strict=strict, async_write=async_write)))
    # It is known before long.
    assert runner.iter == 37 or async_write and 37 < runner.iter < 47
    assert message.startswith(
        'the loss loss_kpt was NaN or infinite at step 37.')
    assert "on_nonfinite='stop'" in message
    assert 'No checkpoint was saved.' in message
    # P7: everything up to there is on disk.
    events = read_events(runner)
    assert history(events) == {'nonfinite_loss': [(37, 1)]}
    assert events.Scalars('train/learning_rate/lr')[-1].step >= 30


@pytest.mark.parametrize('interval, words', [
    (3, ['The last checkpoint is ', 'epoch_9.pth.']),
])
def test_the_last_checkpoint_is_named(stopped, interval, words):
    runner, message = stopped(**ill(
        dict(on_nonfinite='stop', async_write=False),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', interval=interval))))
    assert runner.iter == 37
    for word in words:
        assert word in message
    assert runner.work_dir in message


def test_a_healthy_training_is_not_ended(train):
    runner = train(
        dict(WATCH, on_nonfinite='stop'),
        train_cfg=iterations(60),
        optim_wrapper=adamw())
    assert runner.iter == 60
