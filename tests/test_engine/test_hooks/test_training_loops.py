# Copyright (c) OpenMMLab. All rights reserved.
"""Every way of training that MMEngine and MMPose have, in one process."""
import copy
import importlib
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from mmengine.runner.amp import autocast
from test_enhanced_tensorboard_hook import final_state, messages, scalars

from mmpose.engine.monitors.poses.pictures import sample_pictures
from mmpose.engine.monitors.poses.pictures.fixed_samples import FixedSamples
from mmpose.models import PoseDataPreprocessor, TopdownPoseEstimator
from mmpose.registry import (DATASETS, HOOKS, MODELS,
                             OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS,
                             TRANSFORMS)

NEEDS = ('HealthMonitor', 'NonfiniteDetector', 'NonfiniteLossDetector')
# Nearly everything. The images of the validation exist nowhere.
OFTEN = dict(
    grad_norm_interval=1,
    weight_hist_interval=1,
    train_image_interval=5,
    max_train_images=1,
    log_graph=True,
    log_val_images=False,
    hard_samples=0)
SGD = dict(type='SGD', lr=0.01)
MOMENTUM = dict(optimizer=dict(SGD, momentum=0.9))
ADAMW = dict(type='AdamW', lr=1e-3)
NORM = 'train/gradient_norm/global'
CAN_COMPILE = hasattr(torch, 'compile') and (sys.version_info < (3, 12)
                                             or torch.__version__ >= '2.4')


@OPTIM_WRAPPERS.register_module(force=True)
class Bfloat16OnCpu(OptimWrapper):
    """AmpOptimWrapper needs a GPU."""

    def optim_context(self, model):
        return autocast(device_type='cpu', dtype=torch.bfloat16)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(force=True)
class BackboneAndHead:
    """Makes an optimizer for the backbone and one for the head."""

    def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
        pass

    def __call__(self, model):
        return OptimWrapperDict(
            backbone=OptimWrapper(
                torch.optim.SGD(model.backbone.parameters(), lr=0.01)),
            head=OptimWrapper(
                torch.optim.AdamW(model.head.parameters(), lr=0.001)))


@MODELS.register_module(force=True)
class SteppingByTurns(TopdownPoseEstimator):
    """Each of its optimizers steps once in an iteration."""

    def train_step(self, data, optim_wrapper):
        data = self.data_preprocessor(data, True)
        loss, log_vars = self.parse_losses(self(**data, mode='loss'))
        loss.backward()
        for wrapper in optim_wrapper.values():
            wrapper.step()
            wrapper.zero_grad()
        return log_vars


@MODELS.register_module(force=True)
class SteppingWithClosure(TopdownPoseEstimator):
    """Has the gradients computed inside the step, several times."""

    def train_step(self, data, optim_wrapper):
        data = self.data_preprocessor(data, True)
        logs = []

        def closure():
            optim_wrapper.zero_grad()
            loss, log_vars = self.parse_losses(self(**data, mode='loss'))
            logs.append(log_vars)
            loss.backward()
            return loss

        optim_wrapper.step(closure=closure)
        return logs[0]


@DATASETS.register_module(force=True)
class PipedPoseDataset(DATASETS.get('TinyPoseDataset')):
    """The same with a pipeline, as MMEngine's data sets have it."""

    def __init__(self, noise=True, pipeline=()):
        super().__init__(noise)
        self.pipeline = Config(dict(pipeline=pipeline)).pipeline

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        return self.pipeline(sample) if callable(self.pipeline) else sample


def loader(sampler='DefaultSampler', dataset='TinyPoseDataset'):
    return dict(
        batch_size=4,
        num_workers=0,
        sampler=dict(type=sampler, shuffle=True),
        dataset=dict(type=dataset))


@TRANSFORMS.register_module(force=True)
class Darken:
    """A transform of a pipeline to switch to."""

    def __call__(self, results):
        results['inputs'] = results['inputs'] // 2
        return results


@HOOKS.register_module(force=True)
class Switched(Hook):
    """Requires that the switches of a training are made in time."""
    priority = 'LOWEST'

    def after_train_epoch(self, runner):
        dataset = runner.train_loop.dataloader.dataset
        pipeline = getattr(dataset, 'pipeline', None)
        weight = runner.model.head.loss_module.loss_weight
        assert (dataset.noise, bool(pipeline), weight) == [
            (True, False, 1.),
            (True, True, 0.5),
            (False, False, 0.5),
            (False, False, 0.5),
        ][runner.epoch]


def can_be_fused():
    parameter = torch.nn.Parameter(torch.ones(1))
    parameter.grad = torch.ones(1)
    try:
        torch.optim.AdamW([parameter], fused=True).step()
    except (RuntimeError, TypeError):
        return False
    return True


ITER_BASED = dict(
    log_processor=dict(by_epoch=False),
    default_hooks=dict(
        logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
        checkpoint=None))


def case(name, needs=True, **kwargs):
    """A way of training: what it is called and the Runner's arguments."""
    return pytest.param(
        kwargs,
        id=name,
        marks=pytest.mark.skipif(
            not needs, reason='this PyTorch cannot do it on a CPU'))


LOOPS = [
    case(
        'epochs',
        train_cfg=dict(
            type='EpochBasedTrainLoop',
            max_epochs=4,
            val_interval=2,
            dynamic_intervals=[(3, 1)])),
    case(
        'iterations',
        train_cfg=dict(
            type='IterBasedTrainLoop',
            max_iters=10,
            val_interval=4,
            dynamic_intervals=[(8, 1)]),
        train_dataloader=loader('InfiniteSampler'),
        **ITER_BASED),
    case(
        'two_optimizers',
        model=dict(type='SteppingByTurns'),
        optim_wrapper=dict(constructor='BackboneAndHead')),
    case(
        'bfloat16',
        # MMPose's accuracy goes through NumPy, which knows no bfloat16.
        model=dict(train_cfg=dict(compute_acc=False)),
        optim_wrapper=dict(type='Bfloat16OnCpu', optimizer=SGD)),
    case('foreach', optim_wrapper=dict(optimizer=dict(ADAMW, foreach=True))),
    case(
        'fused',
        can_be_fused(),
        optim_wrapper=dict(optimizer=dict(ADAMW, fused=True))),
    case(
        'closure',
        model=dict(type='SteppingWithClosure'),
        optim_wrapper=dict(optimizer=dict(type='LBFGS', lr=0.1, max_iter=2))),
    case(
        'compiled',
        CAN_COMPILE,
        cfg=dict(compile=dict(backend='eager')),
        # To compile a larger one takes half a minute.
        model=dict(
            backbone=dict(
                num_stages=1,
                strides=(1, ),
                dilations=(1, ),
                out_indices=(0, )),
            head=dict(
                in_channels=8,
                deconv_out_channels=None,
                deconv_kernel_sizes=None))),
    case(
        'switches',
        train_cfg=dict(by_epoch=True, max_epochs=4, val_interval=1),
        train_dataloader=loader(dataset='PipedPoseDataset'),
        custom_hooks=[
            dict(type='SyncNormHook'),
            dict(
                type='YOLOXPoseModeSwitchHook',
                num_last_epochs=1,
                new_train_dataset=dict(type='TinyPoseDataset', noise=False)),
            dict(
                type='RTMOModeSwitchHook',
                epoch_attributes={1: {
                    'loss_module.loss_weight': 0.5
                }}),
            dict(
                type='mmdet.PipelineSwitchHook',
                switch_epoch=1,
                switch_pipeline=[dict(type='Darken')]),
            dict(type='Switched'),
        ]),
]


@pytest.fixture
def make_runner(runner_cfg):
    """A function that makes a Runner as ``tools/train.py`` does."""

    def make(hook=None, model=(), cfg=(), **kwargs):
        kwargs = copy.deepcopy(kwargs)
        witness = dict(type='Witness')
        kwargs['custom_hooks'] = [*kwargs.get('custom_hooks', []), witness]
        if CAN_COMPILE:
            # The next Runner is to be compiled as the last one was.
            torch._dynamo.reset()
        cfg = Config(
            dict(runner_cfg(hook, **kwargs), env_cfg=dict(), **dict(cfg)))
        cfg.merge_from_dict(dict(model=dict(model)))
        return Runner.from_cfg(cfg)

    return make


@pytest.fixture
def compile_what_can_be(monkeypatch):
    """MMEngine's preprocessor cannot, which is an error unless one says so."""
    if CAN_COMPILE:
        config = importlib.import_module('torch._dynamo.config')
        monkeypatch.setattr(config, 'suppress_errors', True)
        monkeypatch.setattr(config, 'cache_size_limit', 1)  # It is faster.


@pytest.mark.usefixtures('compile_what_can_be')
@pytest.mark.parametrize('loop', LOOPS)
def test_the_training_is_the_same_and_all_is_logged(make_runner, read_events,
                                                    loop):
    """P1, P2, P4 and P5, whatever trains."""
    if 'RTMO' in str(loop) and HOOKS.get('RTMOModeSwitchHook') is None:
        pytest.skip('this MMPose has no RTMO')
    plain = make_runner(**loop)
    plain.train()
    runner = make_runner(OFTEN, **loop)
    runner.train()
    without, with_hook = final_state(plain), final_state(runner)
    assert without.keys() == with_hook.keys() and len(without) > 100
    assert not [k for k in without if without[k] != with_hook[k]]

    events = read_events(runner)
    steps = list(range(1, runner.iter + 1))
    assert len(steps) >= 10
    # An optimizer makes its state in the first update, which is not read.
    for tag, expected in ((NORM, steps), ('health/update_ratio', steps[1:]),
                          ('loss', steps)):
        found = scalars(events, tag)
        assert list(found) == expected
        assert np.isfinite(list(found.values())).all()
    assert scalars(events, 'val/PCK') == scalars(events, 'PCK')
    images = events.Tensors('train/images')
    assert [i.step
            for i in images] == [s for s in steps if s == 1 or s % 5 == 0]
    # No two of them in the same place.
    tags = events.Tags()['scalars']
    assert len(tags) == len(set(tags))
    assert not [tag for tag in tags if '_orig_mod' in tag]
    log = ''.join(messages(runner, 'WARNING'))
    assert 'EnhancedTensorBoardHook' not in log and 'failed' not in log
    assert any('0 failures' in line for line in messages(runner, 'INFO'))


def test_norms_of_a_closure_are_those_of_its_last_evaluation(
        make_runner, read_events):
    """And its parameters do have gradients, though not before the step."""
    found = []

    @HOOKS.register_module(force=True)
    class LastGradients(Hook):

        def after_train_iter(self, runner, *args, **kwargs):
            found.append(
                torch.cat([
                    p.grad.flatten() for p in runner.model.parameters()
                ]).norm().item())

    runner = make_runner(
        OFTEN,
        model=dict(type='SteppingWithClosure'),
        optim_wrapper=dict(
            optimizer=dict(type='LBFGS', lr=0.1, max_iter=2),
            clip_grad=dict(max_norm=1.)),
        custom_hooks=[dict(type='LastGradients')])
    runner.train()
    events = read_events(runner)
    assert list(scalars(events, NORM).values()) == pytest.approx(
        found, rel=1e-5)
    assert set(scalars(events, 'health/unused_parameters').values()) == {0}
    assert not [
        tag for tag in events.Tags()['scalars']
        if 'no_gradient' in tag or 'unchanged' in tag
    ]
    assert scalars(events, 'health/updates')[runner.iter] == runner.iter


@pytest.mark.skipif(
    not CAN_COMPILE, reason='this PyTorch cannot do it on a CPU')
def test_a_compiled_part_has_its_names(make_runner, read_events):
    """Without ``_orig_mod``, which ``torch.compile`` puts in them."""
    tags = []
    for compiled in (False, True):
        runner = make_runner(OFTEN)
        if compiled:
            # MMEngine cannot initialize what recent ones of torch compiled.
            runner.model.init_weights()
            runner.model.init_weights = lambda: None
            runner.model.head = torch.compile(
                runner.model.head, backend='eager')
        names = dict(runner.model.named_parameters())
        assert any('_orig_mod' in name for name in names) == compiled
        runner.train()
        written = read_events(runner).Tags()
        tags.append({*written['scalars'], *written['histograms']})
    # What is compiled cannot be traced as well, and the log says so.
    assert tags[0] - tags[1] == {'model/flops'} and tags[1] < tags[0]
    log = ''.join(messages(runner, 'INFO'))
    for left_out in ('skips the FLOPs', 'skips the graph'):
        assert log.count(left_out) == 1


@pytest.mark.skipif(
    not CAN_COMPILE, reason='this PyTorch cannot do it on a CPU')
def test_nothing_of_ours_is_compiled(make_runner, read_events, monkeypatch):
    """As many frames, graphs and recompilations as without the hook.

    Of the training itself, MMEngine's preprocessor and SGD with momentum
    cannot be compiled.
    """
    dynamo = importlib.import_module('torch._dynamo')
    utils = importlib.import_module('torch._dynamo.utils')
    monkeypatch.setattr(PoseDataPreprocessor, 'forward',
                        dynamo.disable(PoseDataPreprocessor.forward))
    compiled, = [loop for loop in LOOPS if loop.id == 'compiled']
    counted = []
    for hook in None, OFTEN:
        utils.counters.clear()
        runner = make_runner(
            hook,
            train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1),
            optim_wrapper=dict(optimizer=dict(SGD)),
            **compiled.values[0])
        runner.train()
        counted.append(
            (dict(utils.counters['frames']), dict(utils.counters['stats']),
             sum(utils.counters['graph_break'].values()),
             sum(map(len, utils.guard_failures.values()))))
    assert counted[0] == counted[1]
    assert counted[0][0]['ok'] > 10
    assert len(scalars(read_events(runner), NORM)) == runner.iter


@HOOKS.register_module(force=True)
class NewOptimizer(Hook):
    """Thaws a model by a new optimizer, as some do."""

    def before_train_epoch(self, runner):
        if runner.epoch == 1:
            runner.optim_wrapper = OptimWrapper(
                torch.optim.AdamW(runner.model.parameters(), lr=1e-3),
                clip_grad=dict(max_norm=1e-3))
            runner.optim_wrapper.initialize_count_status(
                runner.model, runner.iter, runner.max_iters)


def test_an_optimizer_that_is_replaced_is_followed(make_runner, read_events):
    """All curves go on, and what clips only now has its own."""
    replaced = dict(custom_hooks=[dict(type='NewOptimizer')])
    plain = make_runner(**replaced)
    plain.train()
    runner = make_runner(OFTEN, **replaced)
    runner.train()
    without, with_hook = final_state(plain), final_state(runner)
    assert not [k for k in without if without[k] != with_hook[k]]
    events = read_events(runner)
    steps = list(range(1, runner.iter + 1))
    for tag in NORM, 'train/learning_rate/lr':
        assert list(scalars(events, tag)) == steps
    first = runner.iter // 3 + 1
    # While an optimizer makes its state, its update is not measured.
    for tag in 'health/update_ratio', 'health/updates':
        assert list(scalars(events, tag)) == [
            step for step in steps if step not in (1, first)
        ]
    assert scalars(events, 'health/updates')[runner.iter] == runner.iter
    assert list(scalars(events, 'health/clipping/share')) == steps[first - 1:]
    assert scalars(events,
                   'train/learning_rate/lr')[first] == pytest.approx(1e-3)
    assert 'step' not in vars(runner.optim_wrapper.optimizer)


def test_a_loss_of_nan_is_known_though_the_training_dies_of_it(
        make_runner, read_events):
    """In the next iteration, long before anything is due."""

    @MODELS.register_module(force=True)
    class DyingOfNan(TopdownPoseEstimator):
        count = 0

        def loss(self, inputs, data_samples):
            losses = super().loss(inputs, data_samples)
            self.count += 1
            if self.count == 6:
                losses['loss_kpt'] = losses['loss_kpt'] * float('nan')
            if self.count == 7:
                raise ValueError('matrix contains invalid numeric entries')
            return losses

    runner = make_runner(
        dict(OFTEN, grad_norm_interval=100), model=dict(type='DyingOfNan'))
    with pytest.raises(ValueError, match='invalid numeric'):
        runner.train()
    hook, = [h for h in runner.hooks if hasattr(h, 'monitors')]
    hook._writer.close()  # As when the process ends.
    events = read_events(runner)
    for name in ('loss', 'loss_kpt'):
        assert scalars(events, f'health/nonfinite_loss/{name}') == {6: 6}
    line, = [m for m in messages(runner, 'WARNING') if 'NaN' in m]
    assert 'step 6' in line


def what_does_not_depend_on_time(events):
    """All scalars of a run by tag and step; of what else there is the tags."""
    tags = events.Tags()
    return {
        tag: scalars(events, tag) if tag in tags['scalars'] else None
        for kind in ('scalars', 'histograms', 'tensors') for tag in tags[kind]
        if not tag.startswith(('system/', 'telemetry/', 'time/'))
        and tag not in ('time', 'data_time', 'memory')
    }


@pytest.mark.skipif(
    not CAN_COMPILE, reason='this PyTorch cannot do it on a CPU')
def test_a_model_that_is_compiled_as_a_whole(make_runner, read_events):
    """P1, and what is read is that of the model inside."""
    runners = []
    for hook, compiled in (OFTEN, False), (OFTEN, True), (None, True):
        runner = make_runner(hook)
        if compiled:
            runner.model.init_weights()
            runner.model.init_weights = lambda: None
            runner.model = torch.compile(runner.model, backend='eager')
        runner.train()
        runners.append(runner)
    uncompiled, watched, plain = runners
    without, with_hook = final_state(plain), final_state(watched)
    assert without.keys() == with_hook.keys() and len(without) > 100
    assert not [k for k in without if without[k] != with_hook[k]]
    # What is set for a prediction would stay there.
    assert vars(watched.model).keys() == vars(plain.model).keys()
    assert 'test_cfg' not in vars(watched.model)
    written = [
        what_does_not_depend_on_time(read_events(runner))
        for runner in (uncompiled, watched)
    ]
    assert written[0].keys() == written[1].keys() and len(written[0]) > 50
    assert not [
        tag for tag in written[0] if written[0][tag] != written[1][tag]
    ]


def test_validations_are_those_of_the_averaged_model(make_runner, monkeypatch):
    """And say so; training pictures are those of the model in training."""
    titles, training, validation = [], [], []

    def weight(model):
        return model.head.final_layer.bias.detach().clone()

    compose = sample_pictures.compose
    predict = FixedSamples.predict

    def remember_titles(panels, caption, name):
        titles.append([title.split(',')[0] for title, _ in panels])
        return compose(panels, caption, name)

    def remember_weight(self, model):
        training.append(weight(model))
        return predict(self, model)

    @HOOKS.register_module(force=True)
    class Weights(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner, *args, **kwargs):
            assert torch.equal(weight(runner.model), training[-1])

        def after_val_iter(self, runner, *args, **kwargs):
            validation.append(weight(runner.model))

        def after_val_epoch(self, runner, metrics):
            averaged, = [
                h.ema_model for h in runner.hooks if isinstance(h, EMAHook)
            ]
            assert torch.equal(validation[-1], weight(averaged.module))
            assert not torch.equal(validation[-1], weight(runner.model))

    monkeypatch.setattr(sample_pictures, 'compose', remember_titles)
    monkeypatch.setattr(FixedSamples, 'predict', remember_weight)
    runner = make_runner(
        dict(train_image_interval=1, val_image_interval=1),
        train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1),
        custom_hooks=[dict(type='EMAHook'),
                      dict(type='Weights')])
    runner.train()
    assert len(training) == 8 and len(validation) == 8
    kinds = {tuple(title[:2]) for title in titles}
    assert kinds == {('target', 'prediction'), ('GT', 'EMA prediction')}
    line, = [m for m in messages(runner, 'INFO') if 'EMA model' in m]
    assert 'train/images' in line


def test_without_an_average_nothing_is_said_of_one(make_runner):
    runner = make_runner(OFTEN)
    runner.train()
    assert not [m for m in messages(runner, 'INFO') if 'EMA model' in m]


def test_a_resumed_training_is_the_same(make_runner, tmp_path):
    """P1, with everything attached a second time."""
    checkpoint = dict(
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', interval=1)))

    def train_and_resume(hook):
        train_cfg = dict(by_epoch=True, max_epochs=1, val_interval=1)
        first = make_runner(
            hook, train_cfg=train_cfg, optim_wrapper=MOMENTUM, **checkpoint)
        first.train()
        resumed = make_runner(
            hook,
            resume=True,
            load_from=f'{first.work_dir}/epoch_1.pth',
            train_cfg=dict(train_cfg, max_epochs=2),
            optim_wrapper=MOMENTUM)
        resumed.train()
        assert resumed.iter == 8
        return final_state(resumed)

    assert train_and_resume(OFTEN) == train_and_resume(None)


@pytest.mark.skipif(
    not hasattr(torch, 'amp') or not hasattr(torch.amp, 'GradScaler'),
    reason='this PyTorch has a GradScaler for a GPU only')
@pytest.mark.parametrize('fused', [False, True])
def test_a_grad_scaler_stepped_by_hand(make_runner, read_events, fused):
    """Gradients are read unscaled, and none of an update that is skipped."""
    overflow = 5

    @MODELS.register_module(force=True)
    class SteppingByScaler(TopdownPoseEstimator):

        def __init__(self, scales, **kwargs):
            super().__init__(**kwargs)
            self.scales, self.count = scales, 0
            self.scaler = torch.amp.GradScaler(
                'cpu', init_scale=2.**10, enabled=scales)

        def train_step(self, data, optim_wrapper):
            data = self.data_preprocessor(data, True)
            loss, log_vars = self.parse_losses(self(**data, mode='loss'))
            self.scaler.scale(loss).backward()
            self.count += 1
            if self.count != overflow:
                self.scaler.step(optim_wrapper.optimizer)
            elif self.scales:
                self.head.final_layer.bias.grad[0] = float('inf')
                self.scaler.step(optim_wrapper.optimizer)
            self.scaler.update()
            optim_wrapper.zero_grad()
            return log_vars

    norms = []
    for scales in False, True:
        runner = make_runner(
            OFTEN,
            model=dict(type='SteppingByScaler', scales=scales),
            optim_wrapper=dict(
                optimizer=dict(type='SGD', lr=0.01, fused=fused)))
        runner.train()
        norms.append(scalars(read_events(runner), NORM))
    assert overflow not in norms[0] and len(norms[0]) == runner.iter - 1
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_runners_one_after_the_other_share_nothing(make_runner, read_events):
    """Trained, tested and validated in turn, as in a notebook."""
    first = make_runner(OFTEN)
    first.train()
    tested = make_runner(OFTEN)
    tested.test()
    second = make_runner(OFTEN, **LOOPS[2].values[0])
    second.train()
    validated = make_runner(OFTEN)
    validated.val()
    for runner in (first, second):
        steps = list(scalars(read_events(runner), NORM))
        assert steps == list(range(1, 13))
    of_test = read_events(tested).Tags()['scalars']
    assert 'test/PCK' in of_test and NORM not in of_test
    of_validation = read_events(validated).Tags()
    assert 'val/PCK' in of_validation['scalars']
    assert 'keypoints/accuracy' in of_validation['tensors']
    assert NORM not in of_validation['scalars']
