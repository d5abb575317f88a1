# Copyright (c) OpenMMLab. All rights reserved.
import glob
import time
import warnings
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from tensorboard.backend.event_processing.event_file_loader import \
    RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from test_enhanced_tensorboard_hook import (Interrupt, final_state, hook_of,
                                            messages, scalars)
from torch import nn

from mmpose.engine.hooks import EnhancedTensorBoardHook
from mmpose.engine.monitors.run import tracing
from mmpose.engine.monitors.run.graph import model_graph
from mmpose.engine.monitors.run.tracing import Untraceable
from mmpose.models import HeatmapHead
from mmpose.registry import MODELS
from mmpose.utils import register_all_modules

# What takes long and is not looked at here is left out.
HOOK = dict(
    log_graph=True,
    log_train_images=False,
    log_val_images=False,
    log_keypoints=False,
    hard_samples=0)
ONE_EPOCH = dict(train_cfg=dict(by_epoch=True, max_epochs=1, val_interval=1))
LEFT_OUT = 'skips the graph of the model: '


def nodes_of(graph):
    """The nodes by their names, which are all different."""
    nodes = {node.name: node for node in graph.node}
    assert len(nodes) == len(graph.node)
    return nodes


def shapes_of(node):
    return [[dim.size for dim in shape.dim]
            for shape in node.attr['_output_shapes'].list.shape]


def ancestors(nodes, name):
    """All nodes that a node reads, also through others."""
    seen, left = set(), [name]
    while left:
        for source in nodes[left.pop()].input:
            if source not in seen:
                seen.add(source)
                left.append(source)
    return seen


def handles_of(model):
    """What tracing puts on modules and takes off again."""
    return [(list(m._forward_hooks), list(m._forward_pre_hooks),
             vars(m).get('forward'), m.training) for m in model.modules()]


# In a training


def test_training_is_the_same_bit_for_bit(train):
    """P1, with FLOPs and graph and without any hook."""
    states, handles = [], []
    for hook in (None, HOOK):
        runner = train(
            hook,
            optim_wrapper=dict(
                optimizer=dict(type='SGD', lr=0.01, momentum=0.9)),
            custom_hooks=[dict(type='Witness')],
            **ONE_EPOCH)
        assert runner.iter == 4
        states.append(final_state(runner))
        handles.append(handles_of(runner.model))
    without, with_hook = states
    assert without.keys() == with_hook.keys() and len(without) > 1000
    assert not [k for k in without if without[k] != with_hook[k]]
    assert handles[0] == handles[1]
    assert torch._C._get_tracing_state() is None


def test_the_graph_is_the_model(train, read_events):
    runner = train(HOOK, **ONE_EPOCH)
    assert not [m for m in messages(runner, 'INFO') if LEFT_OUT in m]
    nodes = nodes_of(read_events(runner).Graph())
    named = dict(runner.model.named_modules())
    for kind in (nn.Conv2d, nn.BatchNorm2d, nn.ConvTranspose2d):
        layers = {
            name.replace('.', '/')
            for name, module in named.items() if isinstance(module, kind)
        }
        assert layers
        assert layers == {n for n in nodes if nodes[n].op == kind.__name__}

    conv = nodes['backbone/conv1']
    assert list(conv.input) == ['input']
    assert shapes_of(nodes['input']) == [[1, 3, 64, 64]]
    assert shapes_of(conv) == [[1, 8, 32, 32]]
    assert b'kernel_size=(7, 7)' in conv.attr['settings'].s
    # A module that is called twice, and what is in no submodule.
    assert list(
        nodes['backbone/layer1/0/relu'].input) == ['backbone/layer1/0/bn1']
    assert list(
        nodes['backbone/layer1/0/relu_1'].input) == ['backbone/layer1/0/add']
    assert sorted(nodes['backbone/layer1/0/add'].input) == [
        'backbone/layer1/0/bn2', 'backbone/maxpool'
    ]
    assert list(nodes['output'].input) == ['head/final_layer']
    assert shapes_of(nodes['output']) == [[1, 17, 16, 16]]
    # Nothing dangles, and all of it leads from the input to the output.
    assert all(source in nodes for n in nodes.values() for source in n.input)
    assert ancestors(nodes, 'output') == set(nodes) - {'output'}


def test_batches_may_be_collated(train, read_events):
    runner = train(
        HOOK,
        train_dataloader=dict(
            batch_size=4,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=collate,
            dataset=dict(type='TinyPoseDataset')),
        **ONE_EPOCH)
    assert shapes_of(nodes_of(
        read_events(runner).Graph())['input']) == [[1, 3, 64, 64]]


def collate(samples):
    return dict(
        inputs=torch.stack([s['inputs'] for s in samples]),
        data_samples=[s['data_samples'] for s in samples])


@pytest.mark.parametrize('arguments, written', [
    (dict(), False),
    (dict(preset='fast'), False),
    (dict(preset='detailed'), True),
    (dict(preset='detailed', log_graph=False), False),
    (dict(log_graph=True), True),
])
def test_only_the_detailed_preset_asks_for_it(arguments, written):
    hook = EnhancedTensorBoardHook(**arguments)
    names = [type(monitor).__name__ for monitor in hook.monitors]
    assert ('GraphMonitor' in names) is hook.log_graph is written


def test_a_bad_flag_is_named():
    with pytest.raises(TypeError, match='log_graph must be True, False or No'):
        EnhancedTensorBoardHook(log_graph='yes')


def test_a_resumed_run_keeps_its_graph(runner_cfg):
    """TensorBoard warns of a second one."""

    def start(**kwargs):
        return Runner(**runner_cfg(
            HOOK,
            train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1),
            default_hooks=dict(
                checkpoint=dict(type='CheckpointHook', interval=1)),
            **kwargs))

    dead = start(custom_hooks=[dict(type=Interrupt, at=5)])
    with pytest.raises(KeyboardInterrupt):
        dead.train()
    hook_of(dead)._writer.close()
    time.sleep(1)  # A Runner's directory is named by the second.
    start(work_dir=dead.work_dir, resume=True).train()
    paths = glob.glob(f'{dead.work_dir}/**/*tfevents*', recursive=True)
    assert len(paths) == 2
    events = [
        Event.FromString(data) for path in paths
        for data in RawEventFileLoader(path).Load()
    ]
    assert len([e for e in events if e.graph_def]) == 1


def test_the_tracer_warns_in_vain(train, monkeypatch):
    """Of each ``if`` on a shape or value, that is."""
    forward = HeatmapHead.forward

    def warning_forward(self, feats):
        if feats[-1].sum() > 1e9:
            raise ValueError
        return forward(self, feats)

    monkeypatch.setattr(HeatmapHead, 'forward', warning_forward)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        runner = train(HOOK, **ONE_EPOCH)
    assert not [w for w in caught if 'racer' in w.category.__name__]
    logged = ''.join(messages(runner, 'WARNING'))
    assert 'nsupported' not in logged and 'submodules' not in logged


# Without a graph


def fail(self, feats):
    """As a head does that needs the annotations."""
    if len(feats[-1]) == 1:
        raise ValueError('no annotations\nat all')
    return HEAD_FORWARD(self, feats)


HEAD_FORWARD = HeatmapHead.forward


@pytest.mark.parametrize('sharded', [False, True])
def test_a_model_that_cannot_be_traced_costs_a_line(train, read_events,
                                                    monkeypatch, sharded):
    """P2, P1: also where ``strict``, which is for defects of the hook."""
    if sharded:
        monkeypatch.setattr(tracing, 'needs_all_ranks', lambda model: True)
        reason = 'it takes all processes to run it.'
    else:
        monkeypatch.setattr(HeatmapHead, 'forward', fail)
        reason = 'ValueError: no annotations (at '
    # The FLOPs' trace comes first; what MMEngine puts on modules for it must
    # not get into the graph's.
    runner = train(HOOK, **ONE_EPOCH)
    for what in (LEFT_OUT, 'skips the FLOPs of the model: '):
        line, = [m for m in messages(runner, 'INFO') if what in m]
        assert what + reason in line
    assert not [
        m for m in messages(runner, 'WARNING') if 'Graph' in m or 'Compl' in m
    ]
    events = read_events(runner)
    assert not events.Tags()['graph']
    assert 'model/flops' not in events.Tags()['scalars']
    assert len(scalars(events, 'val/PCK')) == 1
    assert not [h for h in handles_of(runner.model) if h[:3] != ([], [], None)]
    assert torch._C._get_tracing_state() is None
    assert any('0 failures' in m for m in messages(runner, 'INFO'))


# MMPose's own models


def build(name, tmp_path):
    """A model of MMPose's configs, without pretrained weights."""
    register_all_modules()
    path = tmp_path / 'config.py'
    path.write_text(f"_base_ = ['mmpose::{name}']\n")
    model = Config.fromfile(str(path)).model
    model.backbone.init_cfg = None
    return MODELS.build(model)


@pytest.mark.parametrize('config, shape, last', [
    ('body_2d_keypoint/topdown_heatmap/coco/'
     'td-hm_mobilenetv2_8xb64-210e_coco-256x192.py',
     (3, 64, 64), 'head/final_layer'),
    pytest.param(
        'body_2d_keypoint/rtmpose/coco/rtmpose-t_8xb256-420e_coco-256x192.py',
        (3, 256, 192),
        'head/cls_y',
        marks=pytest.mark.skipif(
            torch.__version__ < '2',
            reason='before, SyncBatchNorm is for a GPU only')),
    ('body_2d_keypoint/rtmo/coco/rtmo-s_8xb32-600e_coco-640x640.py',
     (3, 64, 64), 'head/head_module/out_kpt_vis/0'),
    ('body_3d_keypoint/image_pose_lift/h36m/'
     'image-pose-lift_tcn_8xb64-200e_h36m.py', (34, 1), 'head/reshape'),
])
def test_models_of_mmpose(config, shape, last, tmp_path):
    model = build(config, tmp_path)
    before = handles_of(model)
    sample = torch.full(
        shape, 100, dtype=torch.uint8 if shape[0] == 3 else torch.float32)
    graph = model_graph(SimpleNamespace(model=model), dict(inputs=[sample]))
    assert handles_of(model) == before
    nodes = nodes_of(graph)
    assert last in nodes['output'].input
    reached = ancestors(nodes, 'output')
    assert 'input' in reached and len(reached) > 0.9 * len(nodes)
    assert [n for n in nodes if not nodes[n].input] == ['input']
    if last == 'head/reshape':
        # It reads the sizes of another one, which is not what flows.
        assert list(nodes['backbone/tcn_blocks/1/slice_2'].input) == [
            'backbone/tcn_blocks/1/slice_1'
        ]


@pytest.mark.parametrize('collated', [False, True])
def test_the_batch_is_left_as_it_is(collated):
    """P1, also with a model that works in place on what it gets."""
    model = nn.Module()
    model.data_preprocessor = lambda data, training: data
    model.forward = lambda inputs, data_samples, mode: inputs.add_(1)
    sample = torch.zeros(3, 4)
    inputs = sample[None] if collated else [sample]
    graph = model_graph(SimpleNamespace(model=model), dict(inputs=inputs))
    assert 'add' in nodes_of(graph)
    assert not sample.any()


def test_a_model_of_mmpose_that_needs_annotations():
    """ED-Pose's head takes the size of the image from them."""
    register_all_modules()
    attention = dict(embed_dims=32, num_heads=4)
    layer = dict(
        self_attn_cfg=dict(num_levels=1, **attention),
        ffn_cfg=dict(embed_dims=32, feedforward_channels=32, num_fcs=2))
    decoder_layer = dict(layer, self_attn_cfg=attention)
    decoder_layer['cross_attn_cfg'] = dict(num_levels=1, **attention)
    model = MODELS.build(
        dict(
            type='BottomupPoseEstimator',
            data_preprocessor=dict(type='PoseDataPreprocessor'),
            backbone=dict(type='ResNet', depth=18),
            neck=dict(
                type='ChannelMapper',
                in_channels=[512],
                out_channels=32,
                num_outs=1),
            head=dict(
                type='EDPoseHead',
                num_queries=10,
                num_feature_levels=1,
                num_keypoints=17,
                as_two_stage=True,
                encoder=dict(num_layers=1, layer_cfg=layer),
                decoder=dict(
                    num_layers=2,
                    embed_dims=32,
                    layer_cfg=decoder_layer,
                    query_dim=4,
                    num_feature_levels=1,
                    num_group=10,
                    num_dn=10,
                    num_box_decoder_layers=1,
                    return_intermediate=True),
                out_head=dict(num_classes=2),
                positional_encoding=dict(num_pos_feats=16, normalize=True),
                denosing_cfg=dict(dn_labelbook_size=10))))
    before = handles_of(model)
    with pytest.raises(Untraceable, match='AssertionError .at .*edpose_head'):
        model_graph(
            SimpleNamespace(model=model),
            dict(inputs=[torch.zeros(3, 64, 64, dtype=torch.uint8)]))
    assert handles_of(model) == before
    assert torch._C._get_tracing_state() is None
