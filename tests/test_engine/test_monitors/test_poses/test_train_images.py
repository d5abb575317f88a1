# Copyright (c) OpenMMLab. All rights reserved.
import copy
import gc
import importlib
import pickle
import sys
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine import dist
from mmengine.dataset import Compose, pseudo_collate
from mmengine.hooks import Hook
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.runner import Runner
from mmengine.structures import InstanceData, PixelData
from painted_people import paint_data_set, painted_data_set, upstream
from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator
from torch import nn
from torch.utils.data import DataLoader

from mmpose.engine.monitors import TrainImageMonitor, build_schedule
from mmpose.engine.monitors.poses import train_images
from mmpose.engine.monitors.poses.pictures import (fixed_samples,
                                                   sample_pictures)
from mmpose.engine.monitors.poses.pictures.heatmaps import largest
from mmpose.engine.monitors.poses.pictures.model_inputs import VisibleInput
from mmpose.engine.monitors.poses.pictures.panels import (PANEL_HEIGHT, shrink,
                                                          view)
from mmpose.engine.monitors.poses.pictures.scenes import mean_error
from mmpose.engine.monitors.writers import summaries
from mmpose.models import (PoseDataPreprocessor, PoseLifter,
                           TopdownPoseEstimator)
from mmpose.registry import DATASETS, HOOKS, MODELS
from mmpose.structures import PoseDataSample
from mmpose.testing import get_packed_inputs
from mmpose.utils import register_all_modules

sys.path.append(str(Path(__file__).parents[2] / 'test_hooks'))
hook_tests = importlib.import_module('test_enhanced_tensorboard_hook')

TinyPoseDataset = DATASETS.get('TinyPoseDataset')
TAG = 'train/images'
ONLY_IMAGES = dict(
    train_image_interval=1,
    log_grad_norm=False,
    log_weight_hist=False,
    log_val_images=False,
    log_keypoints=False,
    hard_samples=0)


def pictures(runner):
    """What TensorBoard shows: by step RGB pictures, read back."""
    events = EventAccumulator(
        f'{runner.log_dir}/vis_data', size_guidance=dict(tensors=0)).Reload()
    shown = {}
    if TAG not in events.Tags()['tensors']:
        return shown
    for event in events.Tensors(TAG):
        width, height, *pngs = event.tensor_proto.string_val
        shown[event.step] = [
            cv2.imdecode(np.frombuffer(png, np.uint8), 1)[..., ::-1]
            for png in pngs
        ]
        assert shown[event.step][0].shape[:2] == (int(height), int(width))
    return shown


def iterations(number):
    """Arguments of a Runner: a short training without validations."""
    return dict(
        train_cfg=dict(by_epoch=False, max_iters=number),
        val_cfg=None,
        val_dataloader=None,
        val_evaluator=None)


def probe_of(runner):
    hook = hook_tests.hook_of(runner)
    return hook_tests.monitor_of(hook, TrainImageMonitor)._sets[0][0]


def panels(picture, count):
    """The panels of a picture, of one width."""
    width = (picture.shape[1] - 8 * (count - 1)) // count
    return [
        picture[-PANEL_HEIGHT:, i * (width + 8):i * (width + 8) + width]
        for i in range(count)
    ]


@pytest.fixture
def drawn(monkeypatch):
    """What is put into pictures: by step, for each its caption and titles."""
    seen = []
    compose = sample_pictures.compose

    def remember(panels, caption, name):
        seen.append((caption, [title for title, _ in panels]))
        return compose(panels, caption, name)

    monkeypatch.setattr(sample_pictures, 'compose', remember)
    return seen


@pytest.fixture
def exact(monkeypatch):
    """What is drawn, without what a JPEG in the size of a card loses."""
    monkeypatch.setattr(sample_pictures, '_for_a_card', lambda drawn: drawn)
    monkeypatch.setattr(
        summaries, 'encode_photo',
        lambda picture: cv2.imencode('.png', picture[..., ::-1])[1].tobytes())


# When and what


@pytest.mark.parametrize('number, expected', [(2, 2), (30, 4)])
def test_the_steps_and_the_number(train, number, expected):
    """P5: the first iteration, and as MMEngine counts."""
    shown = pictures(
        train(
            dict(ONLY_IMAGES, train_image_interval=3, max_train_images=number),
            **iterations(7)))
    assert list(shown) == [1, 3, 6]
    assert {len(found) for found in shown.values()} == {expected}


def test_none_are_wanted(train):
    for hook in (dict(max_train_images=0), dict(train_image_interval=0),
                 dict(log_train_images=False)):
        assert not pictures(train({**ONLY_IMAGES, **hook}, **iterations(1)))


def test_the_same_people_at_every_step(train, exact):
    shown = pictures(
        train(
            dict(ONLY_IMAGES, kpt_thr=0, max_train_images=2), **iterations(3)))
    assert len(shown) == 3
    for i in range(2):
        targets, predictions, heatmaps = zip(
            *[panels(found[i], 3) for found in shown.values()])
        assert all((t == targets[0]).all() for t in targets)
        for panel in (predictions, heatmaps):
            assert any((p != panel[0]).any() for p in panel), 'it learns'
    assert len({found.tobytes() for found in shown[1]}) == 2


def test_what_stands_over_a_picture(train, drawn):
    runner = train(ONLY_IMAGES, **iterations(2))
    assert len(drawn) == 8
    for _, titles in drawn:
        assert [title.split()[0]
                for title in titles] == ['target', 'prediction,', 'heatmap,']
    probe = probe_of(runner)
    predicted = predicted_by(probe, runner.model)
    for (caption, _), target, (keypoints, *_) in zip(drawn[-4:], probe.targets,
                                                     predicted):
        points, counted = target
        off = np.linalg.norm(points - keypoints, axis=-1)[counted].mean()
        assert caption == (f'step 2   error {off / 64:.3f} of the box, '
                           f'{off:.1f} px of the input')


# Colours


@DATASETS.register_module(force=True)
class RedDataset:
    """Red images, as MMPose loads them: BGR."""
    metainfo = dict(dataset_name='red')

    def __len__(self):
        return 4

    def __getitem__(self, index):
        batch = get_packed_inputs(
            1,
            img_shape=(64, 64),
            input_size=(64, 64),
            heatmap_size=(16, 16),
            num_keypoints=1,
            with_simcc_label=False)
        sample, = batch['data_samples']
        sample.gt_instance_labels.keypoint_weights[:] = 0
        sample.gt_fields.heatmaps[:] = 0
        image = torch.tensor([0, 0, 255], dtype=torch.uint8).view(3, 1, 1)
        return dict(inputs=image.repeat(1, 64, 64), data_samples=sample)


@pytest.fixture
def with_red_data(runner_cfg):
    """Arguments of a Runner: one keypoint, not seen, no names, no colours."""
    cfg = runner_cfg()
    cfg['model']['head']['out_channels'] = 1
    loader = dict(cfg['train_dataloader'], dataset=dict(type='RedDataset'))
    return dict(model=cfg['model'], train_dataloader=loader, **iterations(2))


def test_red_is_red(train, with_red_data, drawn, exact):
    """And an instance of which nothing is seen has no error."""
    shown = pictures(train(ONLY_IMAGES, **with_red_data))
    for picture in (*shown[1], *shown[2]):
        assert (panels(picture, 3)[0] == (255, 0, 0)).all()
    assert drawn[0][0] == 'step 1'


def test_without_bgr_to_rgb_red_is_blue(train, with_red_data, exact):
    """P8: in TensorBoard, as the documentation says."""
    with_red_data['model']['data_preprocessor'].pop('bgr_to_rgb')
    shown = pictures(train(ONLY_IMAGES, **with_red_data))
    target = panels(shown[1][0], 3)[0].astype(int)
    assert np.abs(target - (0, 0, 255)).max() <= 2


# Promise P1: neutral


@MODELS.register_module(force=True)
class ForgetfulNeck(nn.Module):
    """Drops features, and keeps something from the first time it is called."""

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.3)
        self.register_buffer('calls', torch.zeros(1))
        self.scale = nn.Parameter(torch.ones(64, 1, 1))
        self.grid = None

    def forward(self, feats):
        if not self.training:
            self.calls += 1
        if self.grid is None:
            self.grid = torch.ones(64, 1, 1) * 1.5
        return tuple(
            self.dropout(feat) * (self.scale * self.grid) for feat in feats)


FROZEN = dict(
    type='ResNet',
    depth=18,
    stem_channels=8,
    base_channels=8,
    frozen_stages=1,
    norm_eval=True)


@pytest.mark.parametrize(
    'change', [
        dict(),
        dict(neck=dict(type='ForgetfulNeck')),
        dict(backbone=FROZEN),
        dict(test_cfg=dict(flip_test=True, flip_mode='heatmap')),
    ],
    ids=['plain', 'dropout', 'frozen', 'flip'])
def test_training_is_the_same_bit_for_bit(runner_cfg, train, change):
    """P1: with every picture, at every iteration."""
    model = {**runner_cfg()['model'], **change}
    states = []
    every_picture = dict(
        train_image_interval=1,
        val_image_interval=1,
        max_train_images=2,
        max_val_images=2)
    for hook in (None, every_picture):
        runner = train(
            hook,
            model=copy.deepcopy(model),
            train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1),
            custom_hooks=[dict(type='Witness')])
        if 'neck' in change:
            # Nor is the counter in the state that is compared.
            assert runner.model.neck.calls == 8
        states.append(hook_tests.final_state(runner))
    without, with_hook = states
    assert without.keys() == with_hook.keys() and len(without) > 500
    assert not [k for k in without if without[k] != with_hook[k]]


def test_the_settings_of_the_model_are_as_before(train):
    runner = train(ONLY_IMAGES, **iterations(1))
    assert runner.model.test_cfg == dict(output_heatmaps=False)


@MODELS.register_module(force=True)
class SynchronisedResize(nn.Module):
    """Stands for an augmentation in which all ranks must take part."""
    calls = 0

    def forward(self, inputs, data_samples):
        type(self).calls += 1
        return inputs, data_samples


def test_the_other_ranks_are_not_waited_for(runner_cfg, monkeypatch):
    """No augmentation of the batch and no collective."""
    model = runner_cfg()['model']
    model['data_preprocessor']['batch_augments'] = [
        dict(type='SynchronisedResize')
    ]
    SynchronisedResize.calls = 0
    runner = Runner(**runner_cfg(ONLY_IMAGES, model=model, **iterations(2)))
    # MMEngine's own collective.
    monkeypatch.setattr(runner, '_init_model_weights', lambda: None)

    def fail(*args, **kwargs):
        raise AssertionError('a collective')

    for name in ('all_reduce', 'all_gather', 'broadcast', 'barrier',
                 'all_gather_object', 'broadcast_object_list', 'gather'):
        monkeypatch.setattr(torch.distributed, name, fail)
    # Those of MMEngine do nothing in a process that is alone.
    for name, value in (('is_initialized', True), ('get_world_size', 2),
                        ('get_rank', 0), ('get_backend', 'gloo')):
        monkeypatch.setattr(
            torch.distributed, name, lambda *_, value=value: value)
    for module in dist.dist, dist.utils:
        monkeypatch.setattr(module, 'get_default_group', lambda: None)
    for collective in (dist.barrier, lambda: dist.all_gather_object(1),
                       lambda: dist.all_reduce(torch.ones(1))):
        with pytest.raises(AssertionError, match='a collective'):
            collective()
    # As of a model that DDP wraps.
    monkeypatch.setattr(train_images, 'needs_all_ranks', lambda model: False)
    runner.train()
    assert SynchronisedResize.calls == 2 and list(pictures(runner)) == [1, 2]


def test_the_wrapper_of_a_distributed_model_is_not_called(monitor):
    """It would wait for the other ranks."""
    monitor, runner = monitor
    wrapped = MMDistributedDataParallel.__new__(MMDistributedDataParallel)
    nn.Module.__init__(wrapped)  # Any call fails.
    wrapped.module = runner.model
    runner.model = wrapped
    monitor.before_train(runner)
    monitor.before_train_iter(runner, 0, batch_of(False, 4))
    monitor.after_train_iter(runner, 0, None, None)


# Cost: counted


def test_the_training_thread_only_predicts(train, monkeypatch):
    """And only when it is due; drawing is for the writer's thread."""
    calls, threads = dict(predict=0, decode=0, evaluate=0), set()

    def counted(name, function):

        def call(*args, **kwargs):
            calls[name] += 1
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(TopdownPoseEstimator, 'predict',
                        counted('predict', TopdownPoseEstimator.predict))
    monkeypatch.setattr(fixed_samples, 'decode_target',
                        counted('decode', fixed_samples.decode_target))
    monkeypatch.setattr(
        fixed_samples, 'eval_without_side_effects',
        counted('evaluate', fixed_samples.eval_without_side_effects))
    compose = sample_pictures.compose

    def draw(*args):
        threads.add(threading.current_thread())
        return compose(*args)

    monkeypatch.setattr(sample_pictures, 'compose', draw)
    train(
        dict(ONLY_IMAGES, train_image_interval=6, max_train_images=2),
        **iterations(12))
    # At steps 1, 6 and 12; each target once.
    assert calls == dict(predict=3, decode=2, evaluate=3)
    assert threads and threading.main_thread() not in threads


def batch_of(stacked, number=64):
    batch = get_packed_inputs(
        number, img_shape=(256, 192), with_simcc_label=False)
    if stacked:
        batch['inputs'] = torch.stack(batch['inputs'])
    return batch


@pytest.fixture
def monitor(train):
    """A monitor in a training that has just begun, and the Runner."""
    runner = train(None, **iterations(1))
    monitor = TrainImageMonitor(build_schedule(1), 4, 0.3, strict=True)
    monitor.before_train(runner)
    return monitor, runner


@pytest.mark.parametrize('stacked', [False, True])
def test_the_batch_is_not_kept(monitor, stacked):
    """Memory: 1.5 MB for four samples of 256x192 with their heatmaps."""
    monitor, runner = monitor
    batch = batch_of(stacked)
    gone = [
        weakref.ref(batch['inputs'] if stacked else batch['inputs'][0]),
        weakref.ref(batch['data_samples'][0]),
        weakref.ref(batch['data_samples'][0].gt_fields.heatmaps)
    ]
    monitor.before_train_iter(runner, 0, batch)
    (probe, _), = monitor._sets
    assert len(probe.targets) == 4
    kept = {k: v for k, v in vars(probe).items() if k != '_codec'}
    assert len(pickle.dumps(kept)) < 1.5e6
    del batch
    gc.collect()
    assert not any(reference() is not None for reference in gone)


@pytest.mark.parametrize('stacked', [False, True])
def test_the_preprocessor_gets_what_it_got(monitor, monkeypatch, stacked):
    monitor, runner = monitor
    monitor.before_train_iter(runner, 0, batch_of(stacked, 4))
    forward, kinds = PoseDataPreprocessor.forward, []

    def look(self, data, training):
        assert not training
        kinds.append(type(data['inputs']))
        return forward(self, data, training)

    monkeypatch.setattr(PoseDataPreprocessor, 'forward', look)
    monitor.after_train_iter(runner, 0, None, None)
    assert kinds == [torch.Tensor if stacked else list]


def test_what_the_model_is_given_is_a_copy(monitor, monkeypatch):
    """Whatever it does with it, the samples stay the same."""
    monitor, runner = monitor
    monitor.before_train_iter(runner, 0, batch_of(False, 4))
    (probe, _), = monitor._sets
    before = pickle.dumps([probe.inputs, probe._samples])
    forward = PoseDataPreprocessor.forward

    def scribble(self, data, training):
        data['inputs'][0].fill_(7)
        data['data_samples'][0].gt_instances.bboxes[:] = 7
        return forward(self, data, training)

    monkeypatch.setattr(PoseDataPreprocessor, 'forward', scribble)
    monitor.after_train_iter(runner, 0, None, None)
    assert pickle.dumps([probe.inputs, probe._samples]) == before


@pytest.mark.parametrize('predicted, expected', [
    ([[(0, 0), (0, 0)]], 3.5),
    ([[(9, 9), (0, 0)], [(3, 0), (9, 9)]], 2.5),
    ([[(3, 0), (0, 0)], [(np.nan, 0), (0, 0)]], 2.5),
    ([[(3, 0), (0, 0)], [(-1e38, 1e38), (0, 0)]], 2.5),
    (np.zeros((0, 2, 2)), np.nan),
])
@pytest.mark.filterwarnings('error')
def test_the_error_is_the_mean_distance_of_what_is_counted(
        predicted, expected):
    """To whoever is nearest; of a keypoint that is not counted, nothing."""
    truth = np.array([[(3, 0), (np.nan, 0)], [(0, 4), (1e9, 0)]], float)
    counted = np.array([[True, False], [True, False]])
    predicted = np.array(predicted, np.float32)
    error = mean_error(truth, counted, predicted)
    np.testing.assert_allclose(error, expected)
    assert np.isnan(mean_error(truth, counted & False, truth))


def test_the_prediction_is_that_of_the_model(train):
    """Its own, in evaluation mode, of the inputs as they were."""
    runner = train(ONLY_IMAGES, **iterations(1))
    model = runner.model.eval()
    probe = probe_of(runner)
    inputs = torch.stack(probe.inputs)
    inputs = model.data_preprocessor(
        dict(inputs=inputs, data_samples=copy.deepcopy(probe._samples)), False)
    with torch.no_grad():
        expected = model.head.predict(
            model.extract_feat(inputs['inputs']), inputs['data_samples'])
    model.train()
    for found, instances in zip(predicted_by(probe, model), expected):
        np.testing.assert_allclose(found[0], instances.keypoints, atol=1e-4)
        np.testing.assert_allclose(found[1], instances.keypoint_scores)
    assert model.training


# Where things lie


@MODELS.register_module(force=True)
class Patchwork(nn.Module):
    """A backbone that takes no time: each feature sees one patch."""

    def __init__(self, channels, stride):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, stride, stride)

    def forward(self, x):
        return (self.conv(x), )


# Each with the stride of its features; coarse where a head is slow.
UPSTREAM = {
    'topdown_heatmap/coco/td-hm_res50_dark-8xb64-210e_coco-256x192': 32,
    'rtmpose/coco/rtmpose-t_8xb256-420e_coco-256x192': 32,
    'topdown_regression/coco/td-reg_res50_rle-8xb64-210e_coco-256x192': 32,
    'integral_regression/coco/ipr_res50_8xb64-210e_coco-256x256': 32,
    'dekr/coco/dekr_hrnet-w32_8xb10-140e_coco-512x512': 32,
    'cid/coco/cid_hrnet-w32_8xb20-140e_coco-512x512': 32,
}
HEATMAP, RTMPOSE, REGRESSION, _, DEKR, CID = UPSTREAM


@pytest.fixture(scope='module')
def painted(tmp_path_factory):
    """Folders of people of whom 14 keypoints are annotated, or one."""
    register_all_modules()
    folders = {}
    for shown in (14, 1):
        folders[shown] = tmp_path_factory.mktemp(f'painted_{shown}')
        paint_data_set(folders[shown], num_images=4, shown=shown)
    return folders


def with_one_layer(name, stride=None):
    """A config with its own head behind a backbone of one layer."""
    cfg = upstream(name)
    cfg.model.head.in_channels = 8
    cfg.model.head.pop('rescore_cfg', None)
    cfg.model.backbone = dict(
        type='Patchwork', channels=8, stride=stride or UPSTREAM[name])
    if cfg.model.get('neck', {}).get('type') != 'GlobalAveragePooling':
        cfg.model.pop('neck', None)
    return cfg


def predicted_by(probe, model):
    """For each sample the keypoints, their scores, the heatmap, its stride."""
    return [
        (one.keypoints, one.scores,
         *((None, None) if one.heatmap is None else
           (largest([tensor.numpy()
                     for tensor in one.heatmap.tensors]), one.heatmap.stride)))
        for one in probe.predict(model)
    ]


def probe_with(cfg, dataset):
    """A probe of samples from a real pipeline, its model and the samples."""
    model = MODELS.build(cfg.model)
    batch = pseudo_collate([dataset[i] for i in range(2)])
    probe = fixed_samples.FixedSamples(model, batch, 2, dataset.metainfo)
    probe.decode_targets(batch['data_samples'])
    return probe, model, batch['data_samples']


@pytest.mark.parametrize('name', UPSTREAM)
@pytest.mark.filterwarnings('ignore')
def test_a_real_head_predicts_in_the_middle_of_its_training(name, painted):
    """Also one that takes one image at a time."""
    cfg = with_one_layer(name)
    probe, model, _ = probe_with(cfg, painted_data_set(painted[14], cfg))
    for _ in range(2):
        predicted = predicted_by(probe, model)
        assert len(predicted) == 2
        for keypoints, scores, heatmap, _ in predicted:
            assert keypoints.shape == (*scores.shape, 2)
            assert keypoints.shape[1] == 17
            # The only one of DEKR, here, is that of the centres.
            assert (heatmap is None) == (name == REGRESSION)
    assert all(module.training for module in model.modules())


@pytest.mark.filterwarnings('ignore')
def test_nobody_is_found(painted):
    """As in the beginning of a training: then there is no heatmap either."""
    cfg = with_one_layer(CID)
    probe, model, _ = probe_with(cfg, painted_data_set(painted[14], cfg))
    model.head.iia_module.forward_test = lambda feats, test_cfg: (torch.zeros(
        0, 8), torch.zeros(0, 2), torch.zeros(0))
    for keypoints, scores, heatmap, _ in predicted_by(probe, model):
        assert keypoints.shape == (0, 17, 2) and heatmap is None


def labels_as_output(name, labels, fields):
    """What a network returns that has learned its labels by heart."""
    if name == RTMPOSE:
        return labels.keypoint_x_labels, labels.keypoint_y_labels
    if name == REGRESSION:
        return labels.keypoint_labels.repeat(1, 1, 2)
    if name == DEKR:
        return fields.heatmaps[None], fields.displacements[None]
    return fields.heatmaps[None]


@pytest.mark.parametrize('name', [HEATMAP, RTMPOSE, REGRESSION, DEKR])
@pytest.mark.filterwarnings('ignore')
def test_a_prediction_is_in_the_pixels_of_the_input(name, painted):
    """A network that returns its labels predicts its target."""
    cfg = with_one_layer(name)
    cfg.model.test_cfg.flip_test = False
    probe, model, samples = probe_with(cfg, painted_data_set(painted[14], cfg))
    probe._batch_size = 1
    turn = iter(samples)
    # Its weights are random, and put the instances in any order.
    model.head.rescore_net = None

    def forward(feats):
        sample = next(turn)
        return labels_as_output(name, sample.gt_instance_labels,
                                sample.get('gt_fields'))

    model.head.forward = forward
    for result, target in zip(predicted_by(probe, model), probe.targets):
        keypoints, _, heatmap, stride = result
        points, counted = target
        away = np.linalg.norm(points[:, None] - keypoints, axis=-1).min(1)
        assert counted.any() and away[counted].max() < 0.1
        if name in (HEATMAP, RTMPOSE):
            # The brightest place is a keypoint's.
            top = np.unravel_index(int(heatmap.argmax()), heatmap.shape)[::-1]
            away = np.abs(points[counted] - top * stride).max(-1)
            assert away.min() <= max(stride)


@pytest.mark.parametrize('count', [0, 1, 3])
def test_what_only_a_prediction_needs_is_made_up(count):
    """The box of everybody is all of the input, and is surely one."""
    sample = PoseDataSample(metainfo=dict(flip_indices=[0]))
    if count:
        sample.gt_instances = InstanceData(labels=np.arange(count))
    else:
        sample.gt_instances = InstanceData()
    bare = fixed_samples._in_input(sample, (256, 192), dict(flip_indices=[1]))
    people = bare.gt_instances
    assert people.bboxes.tolist() == [[0, 0, 192, 256]] * max(count, 1)
    assert people.bbox_scores.tolist() == [1] * max(count, 1)
    assert people.bboxes.dtype == people.bbox_scores.dtype == np.float32
    assert bare.flip_indices == [0] and 'bboxes' not in sample.gt_instances


def test_boxes_that_are_there_are_kept():
    sample = PoseDataSample()
    sample.gt_instances = InstanceData(
        bboxes=np.float32([[1, 2, 3, 4]]), bbox_scores=np.float32([0.5]))
    people = fixed_samples._in_input(sample, (256, 192), {}).gt_instances
    assert people.bboxes.tolist() == [[1, 2, 3, 4]]
    assert people.bbox_scores.tolist() == [0.5]


@pytest.mark.filterwarnings('ignore')
def test_a_model_predicts_without_boxes(painted):
    """A head that gives each prediction the score of its box."""
    cfg = with_one_layer(HEATMAP)
    dataset = painted_data_set(painted[14], cfg)
    batch = pseudo_collate([dataset[i] for i in range(2)])
    for sample in batch['data_samples']:
        for name in 'bboxes', 'bbox_scores':
            sample.gt_instances.pop(name, None)
    model = MODELS.build(cfg.model)
    probe = fixed_samples.FixedSamples(model, batch, 2, dataset.metainfo)
    for keypoints, *_ in predicted_by(probe, model):
        assert keypoints.shape == (1, 17, 2)


@pytest.mark.filterwarnings('ignore')
def test_a_heatmap_is_restored_to_the_size_of_the_input(painted):
    """Not to that of the image, which the sample still knows."""
    cfg = with_one_layer(
        'associative_embedding/coco/ae_hrnet-w32_8xb24-300e_coco-512x512', 32)
    dataset = painted_data_set(painted[14], upstream(CID))
    probe, model, samples = probe_with(cfg, dataset)
    assert samples[0].img_shape == (288, 320)
    for _, _, heatmap, stride in predicted_by(probe, model):
        assert heatmap.shape == (512, 512) and tuple(stride) == (1, 1)


@pytest.mark.filterwarnings('ignore')
def test_offsets_are_no_part_of_a_heatmap(painted):
    """UDP may put two of them behind each keypoint's heatmap."""
    cfg = with_one_layer(
        'topdown_heatmap/coco/'
        'td-hm_hrnet-w32_udp-regress-8xb64-210e_coco-256x192', 4)
    cfg.model.test_cfg.flip_test = False
    probe, model, _ = probe_with(cfg, painted_data_set(painted[14], cfg))
    output = torch.rand(2, 51, 64, 48)
    output[:, 1::3] += 5
    output[:, 2::3] += 9
    model.head.forward = lambda feats: output
    for (_, _, heatmap,
         _), expected in zip(predicted_by(probe, model), output):
        assert (heatmap == expected[::3].amax(0).numpy()).all()


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name, num_tensors', [(HEATMAP, 1), (RTMPOSE, 2)])
def test_the_heatmap_is_that_of_the_model(painted, name, num_tensors):
    """Where a model makes it of two vectors, so does who draws it."""
    cfg = with_one_layer(name)
    probe, model, _ = probe_with(cfg, painted_data_set(painted[14], cfg))
    for one in probe.predict(model):
        assert len(one.heatmap.tensors) == num_tensors
    returned = []
    predict = model.forward

    def remember(*args, **kwargs):
        results = predict(*args, **kwargs)
        returned.extend(r.pred_fields.heatmaps.amax(0) for r in results)
        return results

    model.forward = remember
    shown = [heatmap for *_, heatmap, _ in predicted_by(probe, model)]
    np.testing.assert_allclose(shown, torch.stack(returned), rtol=1e-6)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name, batches', [(HEATMAP, 1), (RTMPOSE, 2)])
def test_each_input_is_seen_once(painted, name, batches):
    """Not mirrored as well, so a pipeline need not pack how that is done; one
    at a time where the heatmaps of several would take much memory."""
    cfg = with_one_layer(name)
    assert cfg.model.test_cfg.flip_test
    dataset = painted_data_set(
        painted[14],
        cfg,
        meta_keys=('input_size', 'input_center', 'input_scale'))
    probe, model, samples = probe_with(cfg, dataset)
    assert 'flip_indices' not in samples[0]
    seen = []
    model.backbone.register_forward_pre_hook(
        lambda _, args: seen.append(len(args[0])))
    assert len(predicted_by(probe, model)) == 2
    assert (len(seen), sum(seen)) == (batches, 2)
    assert model.test_cfg.flip_test


@pytest.mark.filterwarnings('ignore')
def test_all_keypoints_that_are_trained_are_shown(painted):
    """Also if fewer are tested, as after training on several data sets."""
    cfg = with_one_layer(HEATMAP)
    cfg.model.test_cfg.output_keypoint_indices = [0, 1, 2]
    probe, model, _ = probe_with(cfg, painted_data_set(painted[14], cfg))
    assert predicted_by(probe, model)[0][0].shape == (1, 17, 2)
    assert model.test_cfg.output_keypoint_indices == [0, 1, 2]
    assert 'output_heatmaps' not in model.test_cfg


def arguments_of(cfg, root, **packing):
    """Arguments of a Runner: one iteration of an upstream config."""
    return dict(
        model=cfg.model,
        train_dataloader=dict(
            batch_size=8,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=painted_data_set(root, cfg, **packing)),
        **iterations(1))


@pytest.mark.filterwarnings('ignore')
def test_red_in_the_file_is_red(tmp_path, train, exact):
    register_all_modules()
    paint_data_set(tmp_path, num_images=4)
    for path in tmp_path.glob('*.png'):
        cv2.imwrite(str(path), np.full((288, 320, 3), (0, 0, 255), np.uint8))
    cfg = with_one_layer(REGRESSION)
    shown = pictures(train(ONLY_IMAGES, **arguments_of(cfg, tmp_path)))
    for picture in shown[1]:
        target, _ = panels(picture, 2)
        # The rest is outside of the image.
        seen = np.median(target[target.max(-1) > 128], 0)
        assert tuple(seen) == (255, 0, 0)


def inputs_of(runner):
    """The inputs without anything drawn on them, in the size of a panel."""
    for one in probe_of(runner).predict(runner.model):
        visible = VisibleInput(*(part.numpy() for part in one.seen))
        yield shrink(view(visible.pictures()[-1][1]).picture)


def circle_and_dot(picture, plain, count):
    """Where a target is drawn, and the annotated keypoint beside it."""
    target = panels(picture, count)[0]
    circle = np.nonzero(np.abs(target.astype(int) - plain).max(-1) > 30)
    if not len(circle[0]):
        return None
    circle = np.mean(circle, 1)
    # That of another person may be seen as well.
    dots = np.stack(np.nonzero(np.ptp(plain, -1) > 120), -1)
    dot = dots[np.hypot(*(dots - circle).T) < 20].mean(0)
    return circle[::-1], dot[::-1]


@pytest.mark.parametrize('name', [RTMPOSE, REGRESSION])
@pytest.mark.filterwarnings('ignore')
def test_a_keypoint_is_drawn_on_its_pixel(name, painted, train, exact):
    """In TensorBoard, flipped and rotated: within 1.5 pixels of the input."""
    cfg = with_one_layer(name)
    arguments = arguments_of(
        cfg, painted[1], meta_keys=('flip', 'bbox_rotation'))
    runner = train(dict(ONLY_IMAGES, max_train_images=8), **arguments)
    found = []
    for picture, plain, sample in zip(
            pictures(runner)[1], inputs_of(runner),
            probe_of(runner)._samples):
        places = circle_and_dot(picture, plain, 2 + (name == RTMPOSE))
        if places is not None:
            assert np.hypot(*np.subtract(*places)) < 1.5 * PANEL_HEIGHT / 256
            found.append((bool(sample.flip), abs(sample.bbox_rotation) > 5))
    assert len(found) >= 4
    flipped, rotated = zip(*found)
    assert any(flipped) and any(rotated)


@DATASETS.register_module(force=True)
class TurnedDataset:
    """A dot 40 pixels right of the middle of a box that is turned by 30
    degrees, and lies right of and below the middle of the image."""
    metainfo = dict(dataset_name='turned')

    def __init__(self, codec):
        self.pipeline = Compose([
            dict(type='TopdownAffine', input_size=(192, 256)),
            dict(type='GenerateTarget', encoder=codec),
            dict(type='PackPoseInputs')
        ])

    def __len__(self):
        return 1

    def __getitem__(self, index):
        image = np.full((300, 320, 3), 128, np.uint8)
        cv2.circle(image, (210, 160), 4, (0, 255, 0), -1)
        return self.pipeline(
            dict(
                img=image,
                img_shape=(300, 320),
                bbox=np.float32([[74, 32, 266, 288]]),
                bbox_center=np.float32([[170, 160]]),
                bbox_scale=np.float32([[192, 256]]),
                bbox_rotation=np.float32([30]),
                bbox_score=np.float32([1]),
                keypoints=np.float32([[[210, 160]]]),
                keypoints_visible=np.float32([[1]]),
                dataset_keypoint_weights=np.float32([1])))


@pytest.mark.filterwarnings('ignore')
def test_a_keypoint_is_drawn_where_an_affine_map_puts_it(train, exact):
    """The box upright: up and right of its middle, which is (96, 128)."""
    cfg = with_one_layer(HEATMAP)
    cfg.model.head.out_channels = 1
    dataset = dict(type='TurnedDataset', codec=cfg.codec)
    runner = train(
        ONLY_IMAGES,
        model=cfg.model,
        train_dataloader=dict(
            batch_size=1,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dataset),
        **iterations(1))
    picture, = pictures(runner)[1]
    plain, = inputs_of(runner)
    for place in circle_and_dot(picture, plain, 3):
        # 40 times the cosine and the sine of 30 degrees.
        off = place * 256 / PANEL_HEIGHT - (96 + 34.6, 128 - 20)
        assert np.hypot(*off) < 1.5


# The model is asked as MMEngine asks it


@MODELS.register_module(force=True)
class OwnModel(BaseModel):
    """As MMEngine wants it: no ``predict``, no ``test_cfg``."""

    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.layer = nn.Conv2d(3, 17, 3, 4, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        heatmaps = self.layer(inputs)
        if mode == 'loss':
            target = torch.stack([s.gt_fields.heatmaps for s in data_samples])
            return dict(loss=(heatmaps - target).square().mean())
        assert mode == 'predict' and not self.training
        for sample, heatmap in zip(data_samples, heatmaps):
            sample.pred_instances = InstanceData(
                keypoints=np.full((1, 17, 2), 32.),
                keypoint_scores=np.ones((1, 17)))
            sample.pred_fields = PixelData(heatmaps=heatmap)
        return data_samples


def test_a_model_of_ones_own_has_pictures(train, drawn):
    runner = train(
        ONLY_IMAGES,
        model=dict(
            type='OwnModel',
            data_preprocessor=dict(type='PoseDataPreprocessor')),
        **iterations(2))
    assert list(pictures(runner)) == [1, 2]
    assert drawn[0][1][-1].startswith('heatmap')
    assert not hasattr(runner.model, 'test_cfg')


@pytest.mark.filterwarnings('ignore')
def test_multiscale_test_is_switched_off(painted):
    """An option of AE, DEKR and CID, which training data have no scales
    for."""
    cfg = with_one_layer(
        'associative_embedding/coco/ae_hrnet-w32_8xb24-300e_coco-512x512', 32)
    cfg.model.test_cfg.multiscale_test = True
    dataset = painted_data_set(painted[14], upstream(CID))
    probe, model, _ = probe_with(cfg, dataset)
    assert len(predicted_by(probe, model)) == 2
    assert model.test_cfg.multiscale_test


@pytest.mark.parametrize('values', ['float', '16 bit'])
def test_the_model_predicts_on_the_input_as_it_came(values):
    """It was clamped to a byte, and predicted so."""
    batch = batch_of(False, 2)
    scale = dict(float=1 / 180, **{'16 bit': 257.})[values]
    batch['inputs'] = [image.float() * scale for image in batch['inputs']]
    seen = []

    class Model(OwnModel):

        def forward(self, inputs, data_samples, mode):
            seen.extend(inputs)
            return super().forward(inputs, data_samples, mode)

    model = Model(dict(type='PoseDataPreprocessor'))
    samples = fixed_samples.FixedSamples(model, batch, 2, {})
    samples.predict(model)
    for given, image in zip(batch['inputs'], seen):
        assert torch.equal(given, image)


def test_what_torch_compiled_for_the_training_is_not_called(train):
    """It would be compiled anew, for minutes."""
    runner = train(None, **iterations(1))
    model = runner.model
    samples = fixed_samples.FixedSamples(model, batch_of(False, 2), 2, {})
    forward = model.forward

    def compiled(*args, **kwargs):
        raise AssertionError('compiles')

    compiled._torchdynamo_orig_callable = forward
    model.forward = compiled
    assert len(samples.predict(model)) == 2


def test_a_keypoint_without_a_peak_is_no_error(train, drawn, monkeypatch):
    """Outside of the input it has a weight and an empty heatmap, which is
    decoded as (-4, -4): 100 to 200 pixels, for ever."""
    load = TinyPoseDataset.__getitem__

    def without_peak(self, index):
        data = load(self, index)
        sample = data['data_samples']
        sample.gt_instance_labels.keypoint_weights[:] = 1
        sample.gt_fields.heatmaps[1:] = 0
        return data

    monkeypatch.setattr(TinyPoseDataset, '__getitem__', without_peak)
    runner = train(ONLY_IMAGES, **iterations(1))
    for points, counted in probe_of(runner).targets:
        assert counted.sum() == 1 and counted[0, 0]
        assert (points[~counted] < 0).all()


def test_a_picture_names_its_sample(train, monkeypatch):
    names = []
    compose = sample_pictures.compose

    def remember(panels, caption, name):
        names.append(name)
        return compose(panels, caption, name)

    monkeypatch.setattr(sample_pictures, 'compose', remember)
    load = TinyPoseDataset.__getitem__

    def with_path(self, index):
        data = load(self, index)
        data['data_samples'].set_metainfo(
            dict(
                img_path=f'/data/train/video/{index:06}.jpg',
                raw_ann_info=dict(id=100 + index)))
        return data

    monkeypatch.setattr(TinyPoseDataset, '__getitem__', with_path)
    monkeypatch.setattr(
        TinyPoseDataset,
        'data_prefix',
        dict(img='/data/train/'),
        raising=False)
    train(dict(ONLY_IMAGES, max_train_images=2), **iterations(1))
    for name in names:
        index = int(name[6:12])
        assert name == f'video/{index:06}.jpg  id {100 + index}'


# A second set after a switch of the pipeline


@HOOKS.register_module(force=True)
class SwitchPipeline(Hook):
    """As MMDetection's ``PipelineSwitchHook``, or a loader of its own."""

    def __init__(self, kind):
        self.kind = kind

    def before_train_epoch(self, runner):
        if runner.epoch != 1:
            return
        if self.kind == 'pipeline':
            runner.train_dataloader.dataset.pipeline = Compose([])
            return
        runner.train_loop.dataloader = DataLoader(
            copy.copy(runner.train_dataloader.dataset),
            batch_size=4,
            collate_fn=pseudo_collate)


@pytest.mark.parametrize('kind', ['pipeline', 'loader'])
def test_after_a_switch_there_is_a_second_set_beside_the_first(
        train, drawn, exact, kind):
    """The second stage of RTMPose, YOLOX-Pose and RTMO was never seen."""
    runner = train(
        dict(ONLY_IMAGES, train_image_interval=2, max_train_images=2),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        val_cfg=None,
        val_dataloader=None,
        val_evaluator=None,
        custom_hooks=[dict(type='SwitchPipeline', kind=kind)])
    shown = pictures(runner)
    assert {step: len(of_step)
            for step, of_step in shown.items()} == {
                1: 2,
                2: 2,
                4: 2,
                6: 4,
                8: 4
            }
    for i in range(2):
        before, after = (panels(shown[step][i], 3)[0] for step in (4, 8))
        np.testing.assert_array_equal(before, after)
    captions = [caption for caption, _ in drawn[-4:]]
    assert [', pipeline of step 5' in caption
            for caption in captions] == [False, False, True, True]


def test_another_switch_replaces_the_second_set(monitor):
    monitor, runner = monitor
    first = None
    for i in range(4):
        runner.train_dataloader.dataset.pipeline = object()
        monitor.before_train_iter(runner, 0, batch_of(False, 4))
        assert len(monitor._sets) == min(i + 1, 2)
        first = first or monitor._sets[0]
        assert monitor._sets[0] is first


# Promise P2: harmless


@MODELS.register_module(force=True)
class FlatPreprocessor(PoseDataPreprocessor):
    """Takes inputs that are no images."""

    def forward(self, data, training=False):
        data = dict(data, inputs=[i.view(3, 64, 64) for i in data['inputs']])
        return super().forward(data, training)


def warnings_of(runner):
    return [
        message for message in hook_tests.messages(runner, 'WARNING')
        if 'TrainImageMonitor' in message
    ]


def test_inputs_that_are_no_images_cost_one_warning(train, with_red_data,
                                                    monkeypatch):
    """P2."""
    load = RedDataset.__getitem__

    def load_flat(self, index):
        data = load(self, index)
        return dict(data, inputs=data['inputs'].flatten())

    monkeypatch.setattr(RedDataset, '__getitem__', load_flat)
    with_red_data['model']['data_preprocessor']['type'] = 'FlatPreprocessor'
    runner = train(dict(ONLY_IMAGES, strict=False), **with_red_data)
    assert runner.iter == 2 and not pictures(runner)
    warning, = warnings_of(runner)
    assert 'ValueError' in warning and '(12288,)' in warning


def test_a_model_that_cannot_predict_costs_one_warning(train, monkeypatch):
    """P2: and it is not asked any more."""
    calls = []

    def fail(self, *args, **kwargs):
        calls.append(self.training)
        raise RuntimeError('broken on purpose')

    monkeypatch.setattr(TopdownPoseEstimator, 'predict', fail)
    runner = train(dict(ONLY_IMAGES, strict=False), **iterations(6))
    assert runner.iter == 6 and calls == [False] * 3
    assert all(module.training for module in runner.model.modules())
    assert len(warnings_of(runner)) == 1
    assert runner.model.test_cfg == dict(output_heatmaps=False)


def test_without_a_target_there_is_still_the_prediction(
        train, monkeypatch, drawn):
    """P2."""

    def fail(codec, sample):
        raise RuntimeError('broken on purpose')

    monkeypatch.setattr(fixed_samples, 'decode_target', fail)
    runner = train(dict(ONLY_IMAGES, strict=False), **iterations(2))
    assert list(pictures(runner)) == [1, 2]
    assert len(warnings_of(runner)) == 1
    for caption, titles in drawn:
        assert caption in ('step 1', 'step 2')
        assert titles[0].startswith('prediction') and len(titles) == 2


def test_a_data_set_without_any_information(train, with_red_data, monkeypatch):
    monkeypatch.delattr(RedDataset, 'metainfo')
    assert pictures(train(ONLY_IMAGES, **with_red_data))


def test_a_sharded_model_is_left_alone(train, monkeypatch):
    """It predicts on all ranks together, or hangs."""
    monkeypatch.setattr(train_images, 'needs_all_ranks', lambda model: True)

    def fail(self, *args, **kwargs):
        raise AssertionError

    monkeypatch.setattr(TopdownPoseEstimator, 'predict', fail)
    runner = train(ONLY_IMAGES, **iterations(2))
    assert not pictures(runner)
    line, = [
        message for message in hook_tests.messages(runner, 'INFO')
        if 'TrainImageMonitor' in message
    ]
    assert 'sharded' in line


def test_a_lifter_has_no_images(monitor):
    monitor, runner = monitor
    model = PoseLifter.__new__(PoseLifter)
    nn.Module.__init__(model)
    monitor.before_train(
        SimpleNamespace(model=model, train_dataloader=runner.train_dataloader))
    monitor.before_train_iter(runner, 0, dict(inputs=[torch.zeros(1, 34)]))
    monitor.after_train_iter(runner, 0, None, None)


def test_a_second_training_has_samples_of_its_own(monitor):
    monitor, runner = monitor
    monitor.before_train_iter(runner, 0, batch_of(False, 4))
    (first, _), = monitor._sets
    monitor.before_train_iter(runner, 1, batch_of(False, 4))
    assert [samples for samples, _ in monitor._sets] == [first]
    monitor.before_train(runner)
    monitor.before_train_iter(runner, 0, batch_of(False, 4))
    assert [samples for samples, _ in monitor._sets] != [first]
