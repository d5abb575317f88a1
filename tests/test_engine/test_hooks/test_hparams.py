# Copyright (c) OpenMMLab. All rights reserved.
import glob
import math
import time
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from tensorboard.backend.event_processing.data_provider import \
    MultiplexerDataProvider
from tensorboard.backend.event_processing.event_file_loader import \
    RawEventFileLoader
from tensorboard.backend.event_processing.plugin_event_multiplexer import \
    EventMultiplexer
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.list_session_groups import Handler
from test_enhanced_tensorboard_hook import (Interrupt, hook_of, messages,
                                            scalars)
from torch import nn

from mmpose.engine.hooks import EnhancedTensorBoardHook
from mmpose.engine.monitors.run.hparams import standard_hparams
from mmpose.registry import METRICS, OPTIM_WRAPPER_CONSTRUCTORS

# What takes long and is not looked at here is left out.
HOOK = dict(
    log_train_images=False,
    log_val_images=False,
    log_keypoints=False,
    hard_samples=0,
    log_model_stats=False,
    log_weight_hist=False)
START = metadata.SESSION_START_INFO_TAG
EXPERIMENT = metadata.EXPERIMENT_TAG
END = metadata.SESSION_END_INFO_TAG


def epochs(number):
    return dict(
        train_cfg=dict(by_epoch=True, max_epochs=number, val_interval=1))


def parts_of(work_dir):
    """All that is written for the HParams page, by tag, of all files."""
    parts = {START: [], EXPERIMENT: [], END: []}
    for path in glob.glob(f'{work_dir}/**/*tfevents*', recursive=True):
        for data in RawEventFileLoader(path).Load():
            for value in Event.FromString(data).summary.value:
                if value.tag.startswith('_hparams_/'):
                    parts[value.tag].append(value.metadata.plugin_data.content)
    return parts


def hparams_of(work_dir):
    start, = parts_of(work_dir)[START]
    hparams = metadata.parse_session_start_info_plugin_data(start).hparams
    return {
        name: getattr(value, value.WhichOneof('kind'))
        for name, value in hparams.items()
    }


def metrics_of(work_dir):
    content, = parts_of(work_dir)[EXPERIMENT]
    experiment = metadata.parse_experiment_plugin_data(content)
    return [info.name.tag for info in experiment.metric_infos]


def page(log_dir):
    """The rows of TensorBoard's HParams page: hyperparameters, metrics."""
    runs = EventMultiplexer().AddRunsFromDirectory(str(log_dir)).Reload()
    context = TBContext(data_provider=MultiplexerDataProvider(runs, log_dir))
    request = api_pb2.ListSessionGroupsRequest(
        slice_size=100,
        allowed_statuses=[
            api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_SUCCESS,
            api_pb2.STATUS_RUNNING
        ])
    groups = Handler(RequestContext(), Context(context), '', request).run()
    rows = {}
    for group in groups.session_groups:
        session, = group.sessions
        name = group.name.split('/')[0]
        assert name not in rows
        rows[name] = SimpleNamespace(
            hparams={
                k: getattr(v, v.WhichOneof('kind'))
                for k, v in group.hparams.items()
            },
            metrics={m.name.tag: m.value
                     for m in group.metric_values},
            status=session.status)
    return rows


@METRICS.register_module(force=True)
class Scripted:
    """An evaluator whose metrics are known beforehand."""

    def __init__(self, **metrics):
        self.metrics = metrics
        self.calls = 0

    def process(self, data_batch, data_samples):
        pass

    def evaluate(self, size):
        self.calls += 1
        return {k: v[self.calls - 1] for k, v in self.metrics.items()}


def scripted(**metrics):
    return dict(
        val_evaluator=dict(type='Scripted', **metrics),
        **epochs(len(next(iter(metrics.values())))))


# The page


def test_the_page_compares_runs(runner_cfg, tmp_path):
    for name, lr in (('a', 0.01), ('b', 0.3), ('c', 0.1)):
        runner = Runner(**runner_cfg(
            HOOK,
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=lr)),
            work_dir=str(tmp_path / 'runs' / name),
            custom_hooks=[dict(type=Interrupt, at=2)] if name == 'c' else [],
            **epochs(2)))
        if name == 'c':
            with pytest.raises(KeyboardInterrupt):
                runner.train()
            hook_of(runner)._writer.close()
        else:
            runner.train()
    rows = page(tmp_path / 'runs')
    assert sorted(rows) == ['a', 'b', 'c']
    assert {n: row.hparams['learning_rate']
            for n, row in rows.items()} == dict(
                a=0.01, b=0.3, c=0.1)
    for name in ('a', 'b'):
        assert set(rows[name].metrics) == {'loss', 'best/PCK'}
        assert rows[name].status == api_pb2.STATUS_SUCCESS
    # It has come to no validation, and not to its end.
    assert set(rows['c'].metrics) == {'loss'}
    assert rows['c'].status == api_pb2.STATUS_UNKNOWN


def test_what_is_a_column_from_the_beginning(train):
    """TensorBoard takes the first five, in the order of this flag."""
    runner = train(
        dict(HOOK, hparams=['model.head.type']),
        cfg=dict(model=dict(head=dict(type='HeatmapHead'))),
        **epochs(1))
    content, = parts_of(runner.work_dir)[EXPERIMENT]
    infos = metadata.parse_experiment_plugin_data(content).hparam_infos
    assert {i.name for i in infos} == set(hparams_of(runner.work_dir))
    assert [i.name for i in infos if getattr(i, 'differs', True)] == [
        'learning_rate', 'optimizer', 'total_batch_size', 'backbone',
        'model.head.type'
    ] or not hasattr(infos[0], 'differs')


# Hyperparameters


def test_the_standard_hyperparameters(train):
    runner = train(HOOK, **epochs(2))
    assert hparams_of(runner.work_dir) == dict(
        learning_rate=0.01,
        optimizer='SGD',
        batch_size=4,
        total_batch_size=4,
        epochs=2,
        iterations=8,
        input_size='64x64',
        backbone='ResNet-18',
        parameters=sum(p.numel() for p in runner.model.parameters()),
        pretrained='no',
        seed='0')


def test_of_iteration_based_training_and_accumulation(train):
    runner = train(
        HOOK,
        train_cfg=dict(by_epoch=False, max_iters=2, val_interval=2),
        optim_wrapper=dict(
            optimizer=dict(type='AdamW', lr=1e-3), accumulative_counts=2),
        param_scheduler=[
            dict(type='LinearLR', start_factor=1e-3, by_epoch=False)
        ])
    hparams = hparams_of(runner.work_dir)
    expected = dict(
        # Not the one that a warm-up begins with.
        learning_rate=1e-3,
        optimizer='AdamW',
        batch_size=4,
        total_batch_size=8,
        epochs=0.5,
        iterations=2)
    assert {k: hparams[k] for k in expected} == expected


def read_hparams(runner_cfg, config=None, **kwargs):
    """As when the training begins."""
    if config is not None:
        kwargs['cfg'] = config
    runner = Runner(**runner_cfg(None, **kwargs))
    runner.train()
    return standard_hparams(runner)


def test_a_scaled_learning_rate(runner_cfg):
    hparams = read_hparams(
        runner_cfg,
        dict(auto_scale_lr=dict(enable=True, base_batch_size=16)),
        auto_scale_lr=dict(enable=True, base_batch_size=16),
        **epochs(1))
    assert hparams['learning_rate'] == 0.01 * 4 / 16


def test_several_optimizers(runner_cfg):

    @OPTIM_WRAPPER_CONSTRUCTORS.register_module(force=True)
    class SGDAndAdam:

        def __init__(self, optim_wrapper_cfg, paramwise_cfg):
            pass

        def __call__(self, model):
            return OptimWrapperDict(
                backbone=OptimWrapper(
                    torch.optim.SGD(model.backbone.parameters(), lr=0.5)),
                head=OptimWrapper(
                    torch.optim.Adam(model.head.parameters(), lr=0.25)))

    runner = Runner(
        **runner_cfg(None, optim_wrapper=dict(constructor='SGDAndAdam')))
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    hparams = standard_hparams(runner)
    assert hparams['backbone.learning_rate'] == 0.5
    assert hparams['head.learning_rate'] == 0.25
    assert hparams['backbone.optimizer'] == 'SGD'
    assert hparams['head.optimizer'] == 'Adam'


@pytest.mark.parametrize('config, name, value', [
    (dict(
        model=dict(
            backbone=dict(
                init_cfg=dict(type='Pretrained', checkpoint='x.pth')))),
     'pretrained', 'yes'),
    (dict(model=dict(neck=[dict(init_cfg=[dict(checkpoint='x.pth')])])),
     'pretrained', 'yes'),
    (dict(codec=dict(input_size=(192, 256))), 'input_size', '64x64'),
])
def test_what_the_config_says(runner_cfg, config, name, value):
    runner = Runner(**runner_cfg(None, cfg=config))
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    assert standard_hparams(runner)[name] == value
    if name == 'input_size':
        # A head without a decoder, as of bottom-up models.
        runner.model.head.decoder = None
        assert standard_hparams(runner)[name] == '192x256'
        runner.cfg.codec = [dict(input_size=(8, 8)), dict(input_size=(4, 4))]
        assert standard_hparams(runner)[name] == '4x4'
        runner.cfg.codec = None
        assert name not in standard_hparams(runner)


def test_a_checkpoint_that_is_loaded(train):
    first = train(
        None,
        default_hooks=dict(checkpoint=dict(type='CheckpointHook')),
        **epochs(1))
    runner = train(
        HOOK, load_from=f'{first.work_dir}/epoch_1.pth', **epochs(1))
    assert hparams_of(runner.work_dir)['pretrained'] == '1.00'


def test_keys_of_the_config(runner_cfg):
    config = runner_cfg(
        dict(
            HOOK,
            hparams=[
                'model.head.loss.type', 'model.head.deconv_out_channels',
                'optim_wrapper.optimizer.momentum', 'default_hooks.checkpoint',
                'visualizer.vis_backends.0.type', 'model.head.los.type',
                'visualizer.vis_backends.7', 'model.head.loss.type.x'
            ]), **epochs(1))
    runner = Runner.from_cfg(Config(config))
    runner.train()
    hparams = hparams_of(runner.work_dir)
    expected = {
        'model.head.loss.type': 'KeypointMSELoss',
        'model.head.deconv_out_channels': '(8, 8, 8)',
        'optim_wrapper.optimizer.momentum': 0.9,
        'default_hooks.checkpoint': 'None',
        'visualizer.vis_backends.0.type': 'TensorboardVisBackend',
    }
    assert {k: v for k, v in hparams.items() if '.' in k} == expected
    line, = [m for m in messages(runner, 'WARNING') if 'hparams' in m]
    assert ("'model.head.los.type', 'visualizer.vis_backends.7', "
            "'model.head.loss.type.x'") in line


@pytest.mark.parametrize('value', ['model.head', dict(a=1), 3])
def test_a_bad_type_is_named(value):
    with pytest.raises(TypeError, match='hparams must be a list of config ke'):
        EnhancedTensorBoardHook(hparams=value)


def test_a_bad_key_is_named():
    with pytest.raises(ValueError, match='hparams must be .*but got .*3'):
        EnhancedTensorBoardHook(hparams=['model', 3])


# Metrics


def test_the_best_values(train, read_events):
    nan = math.nan
    runner = train(
        dict(HOOK, log_details=True),
        **scripted(
            AP=[0.1, 0.5, 0.3],
            NME=[3., nan, 2.],
            other=[1., 3., 2.],
            tensor=[torch.tensor(i) for i in range(3)]))
    events = read_events(runner)
    best = {
        t: scalars(events, t)
        for t in events.Tags()['scalars'] if t.startswith('best/')
    }
    assert best == {
        'best/AP': {
            1: pytest.approx(0.1),
            2: 0.5,
            3: 0.5
        },
        'best/NME': {
            1: 3,
            2: 3,
            3: 2
        },
        'best/other': {
            1: 1,
            2: 3,
            3: 2
        },
        'best/tensor': {
            1: 0,
            2: 1,
            3: 2
        },
    }
    assert metrics_of(runner.work_dir) == ['loss', *best]


@pytest.mark.parametrize('metrics, main', [
    (dict(AR=[0.1], AP=[0.5], NME=[3.]), ['AP']),
    (dict(mine=[1.], yours=[2.]), ['mine', 'yours']),
])
def test_runs_are_compared_by_the_main_metric(train, read_events, metrics,
                                              main):
    runner = train(HOOK, **scripted(**metrics))
    tags = read_events(runner).Tags()['scalars']
    best = [f'best/{name}' for name in main]
    assert [t for t in tags if t.startswith('best/')] == best
    row, = page(runner.work_dir).values()
    assert set(row.metrics) == {'loss', *best}


def test_the_checkpoint_hook_knows_better(train, read_events):
    checkpoint = dict(
        type='CheckpointHook', interval=9, save_best='other', rule='less')
    runner = train(
        HOOK,
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1), checkpoint=checkpoint),
        **scripted(AP=[0., 0., 0.], other=[2., 1., 3.]))
    events = read_events(runner)
    assert scalars(events, 'best/other') == {1: 2, 2: 1, 3: 1}
    assert 'best/AP' not in events.Tags()['scalars']


def test_without_validation(train):
    runner = train(
        HOOK,
        train_cfg=dict(by_epoch=True, max_epochs=1),
        val_cfg=None,
        val_dataloader=None,
        val_evaluator=None)
    assert metrics_of(runner.work_dir) == ['loss']
    assert len(parts_of(runner.work_dir)[END]) == 1


# One row of a run


@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_resumed_run_goes_on_with_its_row(runner_cfg, by_epoch):
    """What was validated after the checkpoint is validated again."""

    # MMEngine's endless loader sleeps between passes: this is just one.
    length = epochs(4) if by_epoch else dict(
        train_cfg=dict(by_epoch=False, max_iters=8, val_interval=2),
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=dict(type='TinyPoseDataset')))

    def start(values, **kwargs):
        checkpoint = dict(
            type='CheckpointHook',
            interval=2 if by_epoch else 4,
            by_epoch=by_epoch)
        return Runner(**runner_cfg(
            HOOK,
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1),
                checkpoint=checkpoint),
            val_evaluator=dict(type='Scripted', AP=values),
            **length,
            **kwargs))

    dead = start([0.1, 0.5, 0.9],
                 custom_hooks=[dict(type=Interrupt, at=13 if by_epoch else 6)])
    with pytest.raises(KeyboardInterrupt):
        dead.train()
    hook_of(dead)._writer.close()
    time.sleep(1)  # A Runner's directory is named by the second.
    resumed = start([0.3, 0.4], work_dir=dead.work_dir, resume=True)
    resumed.train()
    assert resumed.iter == resumed.max_iters

    parts = parts_of(dead.work_dir)
    assert {tag: len(found)
            for tag, found in parts.items()} == {
                START: 1,
                EXPERIMENT: 1,
                END: 1
            }
    row, = page(dead.work_dir).values()
    assert row.metrics['best/AP'] == 0.5
    assert row.status == api_pb2.STATUS_SUCCESS


def test_a_run_that_died_early_gets_what_it_lacks(runner_cfg):

    def start(hook, **kwargs):
        return Runner(**runner_cfg(
            dict(HOOK, **hook),
            default_hooks=dict(
                checkpoint=dict(
                    type='CheckpointHook', interval=2, by_epoch=False)),
            **epochs(1),
            **kwargs))

    dead = start(
        dict(log_run_info=False), custom_hooks=[dict(type=Interrupt, at=2)])
    with pytest.raises(KeyboardInterrupt):
        dead.train()
    hook_of(dead)._writer.close()
    assert not any(parts_of(dead.work_dir).values())
    time.sleep(1)
    start(dict(), work_dir=dead.work_dir, resume=True).train()
    parts = parts_of(dead.work_dir)
    assert [len(found) for found in parts.values()] == [1, 1, 1]
    assert metrics_of(dead.work_dir) == ['loss', 'best/PCK']


def test_models_without_a_backbone():
    model = nn.Linear(2, 3)
    loader = SimpleNamespace(batch_size=2)
    runner = SimpleNamespace(
        model=model,
        train_dataloader=loader,
        cfg=Config(dict()),
        optim_wrapper=OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.)),
        max_iters=10,
        max_epochs=1,
        _train_loop=None,
        _load_from=None,
        seed=3)
    hparams = standard_hparams(runner)
    assert (hparams['backbone'], hparams['parameters']) == ('Linear', 9)
    assert 'input_size' not in hparams
