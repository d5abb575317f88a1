# Copyright (c) OpenMMLab. All rights reserved.
import copy
import glob
import importlib.util
import logging
import pickle
import random
import uuid
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.logging import MessageHub
from mmengine.model import BaseDataPreprocessor
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator
from torch import nn
from written_datasets import predict, write_dataset

from mmpose.codecs import MotionBERTLabel
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.engine.monitors import Every, LiftingMonitor
from mmpose.engine.monitors.poses import lifting
from mmpose.engine.monitors.poses.accuracy.keypoint_parts import keypoint_parts
from mmpose.engine.monitors.poses.lifted_poses import (LiftingProbe,
                                                       joint_errors,
                                                       middle_pose)
from mmpose.evaluation.metrics import MPJPE
from mmpose.models import PoseLifter
from mmpose.registry import DATASETS
from mmpose.structures import PoseDataSample
from mmpose.utils import register_all_modules

# MMPose supports versions of PyTorch that do not have it.
fsdp = pytest.importorskip('torch.distributed.fsdp')
FullyShardedDataParallel = fsdp.FullyShardedDataParallel

ROOT = Path(__file__).resolve().parents[4]
CONFIGS = dict(
    image='image_pose_lift/h36m/image-pose-lift_tcn_8xb64-200e_h36m.py',
    video='video_pose_lift/h36m/'
    'video-pose-lift_tcn-27frm-supv_8xb128-160e_h36m.py',
    motionbert='motionbert/h36m/motionbert_dstformer-243frm_8xb32-240e_h36m.py'
)
# Of MotionBERT: in full an iteration takes minutes.
FRAMES, WIDTH = 9, 32
EPOCHS, ITERS, TRAIN_IMAGES, VAL_IMAGES = 2, 3, 3, 5


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


synthetic_h36m = load(ROOT / 'tools/dataset_generators/synthetic_h36m.py')


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'synthetic_h36m'
    synthetic_h36m.generate_dataset(root, num_sequences=2, num_frames=40)
    return root


def upstream(name, data_root, folder) -> Config:
    """An upstream config with other data, for six iterations."""
    path = folder / f'{name}.py'
    path.write_text(f"_base_ = ['mmpose::body_3d_keypoint/{CONFIGS[name]}']\n")
    cfg = Config.fromfile(str(path))
    loader = dict(num_workers=0, persistent_workers=False)
    dataset = dict(data_root=f'{data_root}/')
    if name == 'motionbert':
        loader.update(pin_memory=False)
        dataset.update(
            multiple_target=FRAMES, multiple_target_step=FRAMES // 2)
        cfg.merge_from_dict({
            'model.backbone.seq_len': FRAMES,
            'model.backbone.feat_size': WIDTH,
            'model.head.in_channels': WIDTH,
            'model.head.embedding_size': WIDTH
        })
    # Of the last of three batches of a validation only one sample is left.
    for split, batch_size, samples in (('train', 4, 4 * ITERS), ('val', 3, 7)):
        options = dict(loader, batch_size=batch_size)
        options['dataset'] = dict(dataset, indices=samples)
        cfg.merge_from_dict({f'{split}_dataloader': options})
        cfg[f'{split}_dataloader'].pop('prefetch_factor', None)
    cfg.merge_from_dict(
        dict(
            train_cfg=dict(max_epochs=EPOCHS, val_interval=1),
            randomness=dict(seed=0),
            work_dir=str(folder / uuid.uuid4().hex),
            # Otherwise the second run of a process writes to the first's.
            visualizer=dict(name=uuid.uuid4().hex)))
    cfg.default_hooks.checkpoint = None
    return cfg


def train(name, data_root, folder, **hook) -> Runner:
    cfg = upstream(name, data_root, folder)
    if hook:
        cfg.custom_hooks = [
            dict(
                type='EnhancedTensorBoardHook',
                log_grad_norm=False,
                log_weight_hist=False,
                log_health=False,
                strict=True,
                **hook)
        ]
    torch.set_num_threads(1)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def generators():
    return random.getstate(), np.random.get_state()[1].tolist(), (
        torch.get_rng_state().tolist())


@pytest.fixture(scope='module', params=CONFIGS)
def run(request, data_root, tmp_path_factory):
    """A training of an upstream model, without the hook and with it."""
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        # To print a config nicely takes longer than to train.
        patch.setattr(Config, 'pretty_text', '')
        plain = train(name, data_root, folder)
        generators_plain = generators()

        def remember(*args):
            drawn.append(SimpleNamespace(**dict(zip(DRAWN, args))))
            return draw_skeletons(*args)

        draw_skeletons = lifting.draw_skeletons
        patch.setattr(lifting, 'draw_skeletons', remember)
        watched = train(
            name,
            data_root,
            folder,
            train_image_interval=2,
            val_image_interval=1,
            max_train_images=TRAIN_IMAGES,
            max_val_images=VAL_IMAGES)
    path, = glob.glob(f'{watched.work_dir}/*/vis_data/*tfevents*')
    return SimpleNamespace(
        name=name,
        plain=plain,
        watched=watched,
        generators=(generators_plain, generators()),
        drawn=drawn,
        events=EventAccumulator(
            path, size_guidance=dict(tensors=0, scalars=0)).Reload())


DRAWN = ('truth', 'predicted', 'visible', 'links', 'colors', 'caption')
TRAIN_STEPS = [1, 2, 4, 6]


def monitor_of(runner) -> LiftingMonitor:
    monitor, = [
        monitor for hook in runner.hooks
        for monitor in getattr(hook, 'monitors', ())
        if isinstance(monitor, LiftingMonitor)
    ]
    return monitor


def of_training(drawn):
    return [d for d in drawn if d.caption.startswith('step')]


def of_validation(drawn):
    return [d for d in drawn if not d.caption.startswith('step')]


# Real runs of upstream models


def test_the_training_is_the_same(run):
    """P1."""
    plain, watched = (
        runner.model.state_dict() for runner in (run.plain, run.watched))
    assert plain.keys() == watched.keys()
    assert all(torch.equal(plain[key], watched[key]) for key in plain)
    assert run.generators[0] == run.generators[1]


def test_a_picture_of_each_training_sample(run):
    """P5: of the first iteration and of every second one."""
    events = run.events.Tensors('train/images')
    assert [event.step for event in events] == TRAIN_STEPS
    for event in events:
        assert len(event.tensor_proto.string_val) == 2 + TRAIN_IMAGES


def test_the_training_samples_stay_and_their_prediction_moves(run):
    drawn = of_training(run.drawn)
    assert len(drawn) == len(TRAIN_STEPS) * TRAIN_IMAGES
    for i in range(TRAIN_IMAGES):
        same = drawn[i::TRAIN_IMAGES]
        for before, after in zip(same, same[1:]):
            assert (before.truth == after.truth).all()
            assert (before.predicted != after.predicted).any()


def test_the_training_target_is_the_annotated_pose(run):
    """Whatever the label is: normalized, without the root, in pixels.

    A flipped person is as far extended as before, with left and right
    exchanged. Up is up.
    """
    flip = run.watched.train_dataloader.dataset.metainfo['flip_indices']
    annotated = annotated_poses(run.watched)
    for shown in of_training(run.drawn):
        distances = extent(shown.truth)
        errors = [
            np.abs(distances - extent(pose)[order][:, order]).max()
            for pose in annotated for order in (range(17), flip)
        ]
        assert min(errors) < 1e-4
        assert shown.truth[10, 2] > shown.truth[[3, 6], 2].max()


def annotated_poses(runner):
    """The middle pose of each training sample, in metres."""
    dataset = runner.train_dataloader.dataset
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    decoder = runner.model.head.decoder
    if not isinstance(decoder, MotionBERTLabel):
        return [info['lifting_target'][0] for info in infos]
    # It is evaluated on another pose, seen without perspective.
    keys = ('keypoints', 'keypoints_visible', *decoder.auxiliary_encode_keys)
    return [
        decoder.encode(**{key: info[key]
                          for key in keys})['lifting_target'][FRAMES // 2]
        for info in infos
    ]


def extent(pose):
    """All distances between two joints, shape (K, K)."""
    return np.linalg.norm(pose[:, None] - pose, axis=-1)


def test_the_caption_is_the_error_of_the_pose(run):
    for shown in run.drawn:
        error = np.linalg.norm(shown.predicted - shown.truth, axis=1).mean()
        assert shown.caption.endswith(f'MPJPE {1000 * error:.1f} mm')
    steps = [shown.caption.split()[1] for shown in of_training(run.drawn)]
    assert steps == [str(s) for s in TRAIN_STEPS for _ in range(TRAIN_IMAGES)]


def test_the_same_validation_samples_in_every_epoch(run):
    events = run.events.Tensors('val/images')
    assert [event.step for event in events] == [1, 2]
    for event in events:
        assert len(event.tensor_proto.string_val) == 2 + VAL_IMAGES
    first, second = np.reshape(
        [shown.truth for shown in of_validation(run.drawn)],
        (2, VAL_IMAGES, 17, 3))
    assert (first == second).all()
    assert len(np.unique(first.reshape(VAL_IMAGES, -1), axis=0)) == VAL_IMAGES


def test_validation_shows_what_is_evaluated(run):
    """To the right, away from the camera and up; as in ``MPJPE``."""
    evaluated = [
        sample['data_samples'].gt_instances.lifting_target
        for sample in run.watched.val_dataloader.dataset
    ]
    poses = [poses[len(poses) // 2] for poses in evaluated]
    for shown in of_validation(run.drawn):
        right, forward, up = shown.truth.T
        assert any(
            np.allclose(np.stack((right, -up, forward), axis=1), pose)
            for pose in poses)
        assert shown.visible.all()


def test_bones_are_those_of_the_data_set(run):
    meta = run.watched.train_dataloader.dataset.metainfo
    for shown in run.drawn:
        assert shown.links == meta['skeleton_links']
        assert (shown.colors[:-1] == meta['skeleton_link_colors']).all()


def test_the_first_four_can_be_turned(run):
    for i in range(4):
        events = run.events.Tensors(f'val/skeletons/{i}_VERTEX')
        assert [event.step for event in events] == [1, 2]
    assert 'val/skeletons/4_VERTEX' not in run.events.Tags()['tensors']


def test_the_errors_of_the_joints(run):
    """P8: their mean is MMPose's own metric, all joints being visible."""
    names = run.watched.val_dataloader.dataset.metainfo['keypoint_id2name']
    modes = [
        metric.mode.upper() for metric in run.watched.val_evaluator.metrics
    ]
    assert len(modes) == 2 and 'MPJPE' in modes
    tags = {
        mode: [f'keypoints/{mode}/{name}' for name in names.values()]
        for mode in modes
    }
    tags_written = run.events.Tags()['scalars']
    assert {t
            for t in tags_written
            if 'keypoints/' in t} == set(sum(tags.values(), []))
    for mode in modes:
        for i, metric in enumerate(run.events.Scalars(f'val/{mode}')):
            scalars = [run.events.Scalars(tag)[i] for tag in tags[mode]]
            assert {scalar.step for scalar in scalars} == {metric.step}
            errors = [scalar.value for scalar in scalars]
            np.testing.assert_allclose(
                np.mean(errors), metric.value, rtol=1e-6)
            assert len(set(errors)) > 1


@pytest.mark.parametrize('log_keypoints', [False, True])
def test_ranks_exchange_the_errors_of_joints_alone(data_root, tmp_path,
                                                   monkeypatch, log_keypoints):
    """Nothing where they are not wanted, and nothing of 2D keypoints."""
    sent = []
    monkeypatch.setattr(
        'mmpose.engine.monitors.core.monitor.all_gather_object',
        lambda shard: sent.append(shard) or [shard])
    monkeypatch.setattr(Config, 'pretty_text', '')  # It takes seconds.
    cfg = upstream('image', data_root, tmp_path)
    cfg.custom_hooks = [
        dict(
            type='EnhancedTensorBoardHook',
            log_keypoints=log_keypoints,
            strict=True)
    ]
    Runner.from_cfg(cfg).val()
    assert len(sent) == int(log_keypoints) and None not in sent


def test_the_probe_is_no_part_of_a_batch(run, monkeypatch):
    """P1: it neither changes with the batch nor changes it."""
    # One of another model need not copy.
    monkeypatch.setattr(BaseDataPreprocessor, 'forward',
                        lambda self, data, training: self.cast_data(data))
    batch = next(iter(run.watched.train_dataloader))
    before = copy.deepcopy(batch)
    probe = LiftingProbe(batch, 2)
    poses = probe.predict(run.watched.model)
    assert_equal(batch, before)
    assert not any('pred_instances' in kept for kept in probe._samples)
    for inputs, sample in zip(*batch.values()):
        inputs.zero_()
        for part in (sample.gt_instances, sample.gt_instance_labels):
            for value in part.values():
                value[:] = 0
        for value in sample.metainfo.values():
            if isinstance(value, np.ndarray) and value.dtype.kind == 'f':
                value[:] = 0
    assert_equal(probe.predict(run.watched.model), poses)


def assert_equal(one, other):
    """Whatever they are made of."""
    assert type(one) is type(other)
    if isinstance(one, (np.ndarray, torch.Tensor)):
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for a, b in zip(one, other):
            assert_equal(a, b)
    elif hasattr(one, 'all_items'):
        assert_equal(dict(one.all_items()), dict(other.all_items()))
    else:
        assert one == other


# Without a run


def lifted(truth, predicted, visible=None) -> PoseDataSample:
    """What a model returns for a sample."""
    instances = InstanceData(lifting_target=truth)
    if visible is not None:
        instances.lifting_target_visible = visible
    sample = PoseDataSample(
        metainfo=dict(target_img_path=['S9_Walking_1.54138969_000001.jpg']),
        gt_instances=instances)
    sample.pred_instances = InstanceData()
    sample.pred_instances.set_field(predicted, 'keypoints')
    return sample


def random_samples(number, num_poses=3, num_joints=5, seed=0):
    rng = np.random.default_rng(seed)
    shape = (num_poses, num_joints)
    return [
        lifted(
            rng.normal(size=(*shape, 3)).astype(np.float32),
            rng.normal(size=(1, *shape, 3)).astype(np.float32),
            (rng.random(shape) < 0.7).astype(np.float32))
        for _ in range(number)
    ]


class Validation:
    """A runner in a validation, and the records that come of it."""

    def __init__(self,
                 batches,
                 dataset=None,
                 sampler=None,
                 evaluator=None,
                 **monitor):
        monitor = {
            **dict(
                train_interval=None,
                val_interval=Every(1),
                max_train_images=0,
                max_val_images=2,
                strict=True),
            **monitor
        }
        self.monitor = LiftingMonitor(**monitor)
        self.records = []
        self.monitor.writer = SimpleNamespace(
            write=lambda record, guard: self.records.append(record))
        model = PoseLifter.__new__(PoseLifter)
        nn.Module.__init__(model)
        self.batches = batches
        self.runner = SimpleNamespace(
            model=model,
            val_dataloader=Loader(batches, dataset or SimpleNamespace(),
                                  sampler),
            val_evaluator=evaluator,
            _train_loop=None,
            message_hub=MessageHub.get_current_instance())
        self.runner.train_dataloader = self.runner.val_dataloader

    def train(self, batch):
        """Two iterations before it."""
        runner, notify = self.runner, self.monitor.notify
        notify('before_train', runner)
        for runner.iter in range(2):
            notify('before_train_iter', runner, runner.iter, batch)
            notify('after_train_iter', runner, runner.iter, batch, {})

    def read(self):
        for i, outputs in enumerate(self.batches):
            if self.runner.val_evaluator:
                self.runner.val_evaluator.process(outputs)
            self.monitor.notify('after_val_iter', self.runner, i, None,
                                outputs)

    def values(self, shards):
        """What is written, by tag."""
        self.monitor.all_results = shards
        self.monitor.notify('after_val_epoch', self.runner, {})
        values = [v for record in self.records for v in record.values()]
        return {value.tag: value for value in values}


class Loader(list):

    def __init__(self, batches, dataset, sampler):
        super().__init__(batches)
        self.dataset, self.sampler = dataset, sampler


def scalars(values):
    return {
        tag.split('/')[-1]: value.value
        for tag, value in values.items() if tag.startswith('keypoints/MPJPE/')
    }


def expected_errors(samples):
    errors = [[]
              for _ in range(samples[0].gt_instances.lifting_target.shape[1])]
    for sample in samples:
        truth = sample.gt_instances.lifting_target
        visible = sample.gt_instances.lifting_target_visible
        predicted = sample.pred_instances.keypoints.reshape(truth.shape)
        for pose, joint in zip(*np.nonzero(visible)):
            offset = predicted[pose, joint] - truth[pose, joint]
            errors[joint].append(np.sqrt(np.square(offset).sum()))
    return {
        f'keypoint_{joint}': pytest.approx(np.mean(known), rel=1e-6)
        for joint, known in enumerate(errors) if known
    }


@pytest.mark.parametrize('shape', [(1, 5, 3), (4, 5, 3), (1, 4, 5, 3)])
def test_errors_agree_with_the_metric(shape):
    """One pose, several ones, a sequence; some joints invisible."""
    rng = np.random.default_rng(0)
    truth, predicted = rng.normal(size=(2, *shape)).astype(np.float32)
    truth = truth.reshape(shape[-3:])
    visible = (rng.random(truth.shape[:2]) < 0.7).astype(np.float32)
    for visible in (visible, visible[..., None]):
        sample = lifted(truth, predicted, visible)
        metric = MPJPE()
        metric.process(None, [sample.to_dict()])
        expected = metric.compute_metrics(metric.results)['MPJPE']
        sums, counts = joint_errors(sample)
        assert counts.sum() == np.count_nonzero(visible)
        np.testing.assert_allclose(
            sums.sum() / counts.sum(), expected, rtol=1e-6)


@pytest.mark.parametrize('skipped', [[], ['S9_Walking_1']])
@pytest.mark.parametrize('mode', ['mpjpe', 'p-mpjpe', 'n-mpjpe'])
def test_errors_as_the_evaluator_aligns_them(mode, skipped):
    """P8: over the points that are visible in what is not skipped."""
    samples = random_samples(9)
    for sample in samples[3:]:
        sample.set_metainfo(
            dict(target_img_path=['S9_Eating_1.54138969_000001.jpg']))
    evaluator = Evaluator(dict(type='MPJPE', mode=mode, skip_list=skipped))
    validation = Validation([samples[:4], samples[4:]], evaluator=evaluator)
    validation.read()
    evaluated = evaluator.evaluate(9)
    values = validation.values([validation.monitor.rank_results()])
    known = samples[3:] if skipped else samples
    counts = sum(s.gt_instances.lifting_target_visible.sum(0) for s in known)
    errors = [
        values[f'keypoints/{mode.upper()}/keypoint_{i}'].value
        for i in range(5)
    ]
    assert np.average(
        errors, weights=counts) == pytest.approx(
            evaluated[mode.upper()], rel=1e-6)


@pytest.mark.parametrize('kind', ['UBody3dDataset', 'H36MWholeBodyDataset'])
def test_every_data_set(kind, tmp_path):
    """P8: Human3.6M is in the real runs above."""
    register_all_modules()
    dataset = DATASETS.build(write_dataset(kind, tmp_path))
    batch = [dataset[i]['data_samples'] for i in range(len(dataset))]
    evaluator = Evaluator([
        dict(type='SimpleMPJPE', mode=mode)
        for mode in ('mpjpe', 'p-mpjpe', 'n-mpjpe')
    ])
    validation = Validation([predict(batch)], dataset, evaluator=evaluator)
    validation.read()
    values = validation.values([validation.monitor.rank_results()])
    visible = sum(s.gt_instances.lifting_target_visible.sum(0) for s in batch)
    names = dataset.metainfo['keypoint_id2name']
    parts = keypoint_parts([names[i] for i in range(133)])
    if kind == 'UBody3dDataset':  # It names 137 keypoints, and reads 133.
        parts = dict(all=list(range(133)))
    for mode, expected in evaluator.evaluate(len(dataset)).items():
        errors = [values[f'keypoints/{mode}/{part}'].value for part in parts]
        weights = [visible[joints].sum() for joints in parts.values()]
        assert np.average(
            errors, weights=weights) == pytest.approx(
                expected, rel=1e-6)


def test_bones_of_other_joints_are_not_drawn(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        lifting, 'draw_skeletons',
        lambda *args: drawn.append(args) or np.zeros((9, 9, 3)))
    register_all_modules()
    for kind in ('UBody3dDataset', 'H36MWholeBodyDataset'):
        dataset = DATASETS.build(write_dataset(kind, tmp_path))
        batch = predict([dataset[0]['data_samples']])
        validation = Validation([batch], dataset)
        validation.read()
        validation.values([])
    assert [len(scene[3]) for scene in drawn
            ] == [0, len(dataset.metainfo['skeleton_links'])]
    assert drawn[0][4].shape == (1, 3) and drawn[1][3]


def test_many_joints_are_shown_by_body_part():
    """The error of a part is that over all of its points."""
    meta = parse_pose_metainfo(
        dict(from_file='configs/_base_/datasets/h3wb.py'))
    samples = random_samples(4, num_joints=133)
    validation = Validation([samples], SimpleNamespace(metainfo=meta))
    validation.read()
    shown = scalars(validation.values([validation.monitor.rank_results()]))
    assert set(shown) == {'body', 'feet', 'face', 'left_hand', 'right_hand'}
    metric = MPJPE()
    for sample in samples:
        face = sample.to_dict()
        visible = face['gt_instances']['lifting_target_visible']
        visible[:, :23] = visible[:, 91:] = 0
        metric.process(None, [face])
    expected = metric.compute_metrics(metric.results)['MPJPE']
    assert shown['face'] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('name, caption', [
    ('h36m', 'MPJPE 1500000.0 mm'),
    ('h3wb', 'MPJPE 1500000.0 mm'),
    ('ubody3d', 'MPJPE 1,500 data set units'),
    (None, 'MPJPE 1,500 data set units'),
])
def test_the_unit_of_the_caption(name, caption, monkeypatch):
    """Millimetres only where it is known how long the unit is."""
    captions = []
    monkeypatch.setattr(
        lifting, 'draw_skeletons',
        lambda *args: captions.append(args[-1]) or np.zeros((9, 9, 3)))
    truth = np.zeros((1, 3, 3))
    validation = Validation([[lifted(truth, truth + (0, 0, 1500))]],
                            SimpleNamespace(metainfo=dict(dataset_name=name)))
    validation.read()
    validation.values([])
    assert captions == [caption]


def test_without_visibility_all_joints_count():
    sample = random_samples(1)[0]
    del sample.gt_instances.lifting_target_visible
    assert (joint_errors(sample)[1] == 3).all()


def test_each_joint_for_itself():
    samples = random_samples(7)
    for sample in samples:
        sample.gt_instances.lifting_target_visible[:, 2] = 0
    validation = Validation([samples[:3], samples[3:6], samples[6:]])
    before = copy.deepcopy(samples)
    for _ in range(2):
        validation.read()
        shown = scalars(validation.values([validation.monitor.rank_results()]))
        assert shown == expected_errors(samples)
        assert 'keypoint_2' not in shown
    assert_equal(samples, before)


def test_a_validation_begins_anew():
    """P5: nothing is left of the one before, be it whole or broken off."""
    samples = random_samples(4)
    validation = Validation([samples[:3], samples[3:]], max_val_images=3)
    validation.monitor.notify('after_val_iter', validation.runner, 0, None,
                              samples[:3])
    validation.read()
    values = validation.values([validation.monitor.rank_results()])
    assert scalars(values) == expected_errors(samples)
    assert len(values['val/images'].pictures) == 3
    validation.records.clear()
    assert not validation.values([validation.monitor.rank_results()])


def test_the_error_of_a_pose_is_that_of_its_visible_joints():
    truth = np.zeros((1, 3, 3))
    predicted = truth + np.array((1, 2, 4))[:, None] * (0, 0, 1)
    for visible, error in (((1, 1, 1), 7 / 3), ((1, 0, 1), 5 / 2)):
        pose = middle_pose(lifted(truth, predicted, np.array([visible])))
        assert pose.error == pytest.approx(error)
    with np.errstate(all='raise'):
        pose = middle_pose(lifted(truth, predicted, np.zeros((1, 3))))
        assert np.isnan(pose.error)


def test_the_ranks_are_added_up():
    """The second has other samples, the third none."""
    samples = random_samples(7)
    ranks = [
        Validation([samples[:3], samples[3:4]]),
        Validation([samples[4:]]),
        Validation([])
    ]
    for rank in ranks:
        rank.read()
    shards = [rank.monitor.rank_results() for rank in ranks]
    assert scalars(ranks[0].values(shards)) == expected_errors(samples)


def test_a_repeated_sample_counts_once():
    """A sampler makes the shares equal: 2 processes, 5 samples."""
    samples = random_samples(5)
    ranks = []
    for rank in range(2):
        sampler = DefaultSampler(samples, shuffle=False)
        sampler.rank, sampler.world_size = rank, 2
        share = (samples + samples[:1])[rank::2]
        ranks.append(Validation([share[:2], share[2:]], samples, sampler))
        ranks[-1].read()
    shards = [rank.monitor.rank_results() for rank in ranks]
    assert scalars(ranks[0].values(shards)) == expected_errors(samples)


def test_a_batch_that_cannot_be_read_leaves_no_numbers():
    """P2: half a validation would be taken for a whole one."""
    samples = random_samples(4)
    batches = [samples[:1], [PoseDataSample()], samples[1:]]
    validation = Validation(batches, strict=False)
    validation.read()
    assert validation.monitor.guard.failures == 1
    assert validation.monitor.rank_results() is None
    validation.batches = [samples]
    validation.read()
    shown = scalars(validation.values([validation.monitor.rank_results()]))
    assert shown == expected_errors(samples)


def test_a_validation_that_cannot_begin_leaves_no_numbers(monkeypatch):
    monkeypatch.delattr(lifting, 'own_samples')
    validation = Validation([random_samples(1)], strict=False)
    validation.read()
    assert validation.monitor.rank_results() is None


@pytest.mark.parametrize('side', ['errors', 'pictures'])
def test_one_side_can_be_switched_off(side):
    options = dict(
        errors=dict(log_joint_errors=False), pictures=dict(val_interval=None))
    validation = Validation([random_samples(3)], **options[side])
    validation.read()
    values = validation.values([validation.monitor.rank_results()])
    assert ('val/images' in values) == (side == 'errors')
    assert bool(scalars(values)) == (side == 'pictures')


@pytest.mark.parametrize('sizes, interval, count, expected', [
    ((4, 4, 4, 4), 1, 2, ((0, 0), (2, 0))),
    ((4, 4, 4, 4), 2, 3, ((0, 0), (1, 0), (3, 0))),
    ((4, 4), 1, 4, ((0, 0), (0, 2), (1, 0), (1, 2))),
    ((4, 1), 1, 5, ((0, 0), (0, 1), (0, 2), (1, 0))),
    ((4, 4), 1, 0, ()),
    ((4, 4), 0, 4, ()),
])
def test_samples_are_spread_over_the_validation(sizes, interval, count,
                                                expected, monkeypatch):
    """Over the batches that are due, and within a batch."""
    batches = [[
        lifted(np.full((1, 5, 3), 10. * i + j), np.zeros((1, 5, 3)))
        for j in range(size)
    ] for i, size in enumerate(sizes)]
    validation = Validation(
        batches, val_interval=Every(interval), max_val_images=count)
    drawn = []
    monkeypatch.setattr(
        lifting, 'draw_skeletons',
        lambda truth, *_: drawn.append(divmod(int(truth[0, 0]), 10)))
    monkeypatch.setattr(lifting, 'skeleton_mesh', lambda tag, *_: drawn[-1:])
    validation.read()
    validation.monitor.notify('after_val_epoch', validation.runner, {})
    for record in validation.records:
        next(iter(record.values()))
    assert drawn == list(expected)


def test_the_middle_of_a_sequence_is_shown():
    truth = np.arange(5.)[:, None, None] * np.ones((5, 2, 3))
    validation = Validation([[lifted(truth, truth[None] + 10)]])
    validation.read()
    pose, = validation.monitor._poses
    assert (pose.truth == 2).all() and (pose.predicted == 12).all()
    assert not np.shares_memory(pose.truth, truth)


def test_a_data_set_without_meta_information():
    """Joints without names and bones."""
    validation = Validation([random_samples(1)])
    validation.read()
    values = validation.values([validation.monitor.rank_results()])
    assert set(scalars(values)) <= {f'keypoint_{i}' for i in range(5)}
    assert blue_pixels(values) > 100


def test_bones_without_colors_are_all_alike():
    drawn = []
    for links in ([], [(0, 1), (1, 2)]):
        dataset = SimpleNamespace(metainfo=dict(skeleton_links=links))
        validation = Validation([random_samples(1)], dataset)
        validation.read()
        drawn.append(blue_pixels(validation.values([])))
    assert drawn[1] > 1.5 * drawn[0]


def blue_pixels(values):
    picture, = values['val/images'].pictures
    return np.count_nonzero((picture == lifting._COLOR).all(-1))


def test_other_models_are_left_alone():
    validation = Validation([[PoseDataSample()]],
                            train_interval=Every(1),
                            max_train_images=2)
    validation.runner.model = nn.Linear(1, 1)
    validation.train({})
    validation.read()
    assert not validation.values([validation.monitor.rank_results()])


@pytest.mark.parametrize('off', [
    dict(train_interval=None),
    dict(train_interval=Every(0)),
    dict(max_train_images=0)
])
def test_no_training_pictures_are_wanted(off):
    validation = Validation([], **{
        **dict(train_interval=Every(1), max_train_images=2),
        **off
    })
    validation.train(big_batch(1))
    assert not validation.records


def big_batch(size):
    """Samples as MotionBERT has them, of 243 frames."""
    samples = []
    for _ in range(size):
        sample = PoseDataSample(metainfo=dict(target_img_path='x' * 1000000))
        sample.gt_instances = InstanceData(
            lifting_target=np.zeros((243, 17, 3), np.float32),
            lifting_target_visible=np.ones((243, 17), np.float32))
        sample.gt_instance_labels = InstanceData(
            lifting_target_label=torch.zeros(243, 17, 3))
        samples.append(
            dict(inputs=torch.zeros(243, 17, 3), data_samples=sample))
    return pseudo_collate(samples)


def test_the_probe_is_small():
    """P6: eight of MotionBERT's samples fit into 1 MB."""
    for wanted, taken in ((8, 8), (32, 8)):
        probe = LiftingProbe(big_batch(32), wanted)
        assert len(probe._samples) == taken
        assert len(pickle.dumps(probe)) < 1.1e6


def test_a_sharded_model_is_not_asked(monkeypatch):
    """It would wait for the other processes for ever."""
    lines = []
    monkeypatch.setattr(
        lifting, 'print_log', lambda line, logger, level: lines.append(
            (line, level)))
    sharded = FullyShardedDataParallel.__new__(FullyShardedDataParallel)
    nn.Module.__init__(sharded)
    validation = Validation([], train_interval=Every(1), max_train_images=2)
    validation.runner.model.add_module('backbone', sharded)
    validation.train(big_batch(1))
    (line, level), = lines
    assert 'sharded' in line and level == logging.INFO
    assert not validation.records
