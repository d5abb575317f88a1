# Copyright (c) OpenMMLab. All rights reserved.
"""Which samples the loss of the validation is computed from."""
import os
import pickle
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from loss_families import data_of, pipelines_of
from mmengine.dataset import Compose
from painted_people import paint_data_set
from torch.utils.data import Dataset
from written_datasets import write_dataset

from mmpose.engine.monitors import ValidationLossMonitor
from mmpose.engine.monitors.poses.validation_loss import loss_samples
from mmpose.engine.monitors.poses.validation_loss.loss_samples import (
    LoadOnce, pickle_first, training_samples, validation_samples)
from mmpose.engine.monitors.poses.validation_loss.targets import (
    NoTargetsError, with_targets)
from mmpose.registry import DATASETS
from mmpose.structures import PoseDataSample
from mmpose.utils import register_all_modules

register_all_modules()


class Numbered(Dataset):
    """Samples that show their index; some are bad, some not annotated."""

    def __init__(self, count=100, bad=(), empty=(), size=8):
        self.count, self.bad, self.empty, self.size = count, bad, empty, size

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index in self.bad:
            raise OSError(f'no file {index}')
        np.random.rand(), torch.rand(1)
        sample = PoseDataSample(metainfo=dict(id=index))
        from mmengine.structures import InstanceData
        sample.gt_instances = InstanceData(
            keypoints_visible=np.full((1, 3), float(index not in self.empty)))
        return dict(
            inputs=torch.full((3, self.size, 8 + index // 50), index),
            data_samples=sample)


@pytest.mark.parametrize('stacked', [False, True])
def test_of_a_large_batch_the_first_samples_are_kept(stacked):
    """P6: neither the others nor their memory."""
    inputs = torch.arange(64.).repeat(1000, 1).T.reshape(64, 10, 100)
    batch = dict(
        inputs=inputs if stacked else [one.clone() for one in inputs],
        data_samples=[PoseDataSample(metainfo=dict(id=i)) for i in range(64)])
    kept = pickle_first(batch, 4)
    assert len(kept) < 8 * inputs[:4].numel() * inputs.element_size()
    kept = pickle.loads(kept)
    assert [one.id for one in kept['data_samples']] == [0, 1, 2, 3]
    assert [float(one.mean()) for one in kept['inputs']] == [0, 1, 2, 3]
    assert len(batch['data_samples']) == len(batch['inputs']) == 64


def loader(num_workers):
    return SimpleNamespace(
        num_workers=num_workers, multiprocessing_context=None)


def load(dataset, count, batch_size=4, num_workers=0):
    batches = LoadOnce(dataset, count, batch_size,
                       loader(num_workers)).result()
    found = []
    for batch in batches:
        data = pickle.loads(batch.pickled)
        assert len(data['inputs']) == batch.size <= batch_size
        assert len({image.shape for image in data['inputs']}) == 1
        found.append([int(image[0, 0, 0]) for image in data['inputs']])
        assert [s.id for s in data['data_samples']] == found[-1]
    return found


class Dying(Numbered):

    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


class Hanging(Numbered):

    def __getitem__(self, index):
        time.sleep(60)


@pytest.mark.parametrize('dataset, why', [(Dying, 'has died'),
                                          (Hanging, 'more than 1 seconds')])
def test_a_process_that_ends_or_hangs_does_not_raise_elsewhere(
        dataset, why, monkeypatch):
    """Defect: the death of a data loader's worker raised in the training."""
    monkeypatch.setattr(loss_samples, '_TIMEOUT', 1)
    loading = LoadOnce(dataset(), 10, 4, loader(2))
    until = time.monotonic() + 0.5
    while time.monotonic() < until:  # The training goes on.
        time.sleep(0.01)
    with pytest.raises(RuntimeError, match=why):
        loading.result()
    assert not loading._process.is_alive()


@pytest.mark.parametrize('num_workers', [0, 1])
def test_they_are_spread_and_of_one_size_in_a_batch(num_workers):
    state = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert load(
        Numbered(), 10, num_workers=num_workers) == [[0, 10, 20, 30], [40],
                                                     [50, 60, 70, 80], [90]]
    assert state == (np.random.get_state()[1].tolist(),
                     torch.get_rng_state().tolist())


def test_there_may_be_fewer_than_wanted():
    assert load(Numbered(3), 64) == [[0, 1, 2]]


def test_a_bad_sample_costs_that_one_alone():
    """P2; the next one takes its place."""
    dataset = Numbered(bad=[0, 40], empty=[20, 21, *range(60, 70)])
    assert sum(load(dataset, 10), []) == [1, 10, 22, 30, 41, 50, 70, 80, 90]


def test_bad_samples_alone_are_an_error():
    with pytest.raises(OSError, match='no file'):
        load(Numbered(bad=range(100)), 4)
    with pytest.raises(NoTargetsError, match='visible keypoint'):
        load(Numbered(empty=range(100)), 4)


def test_large_samples_are_fewer(monkeypatch):
    """P6."""
    monkeypatch.setattr(loss_samples, '_MAX_BYTES', 2**20)
    found = sum(load(Numbered(size=1500), 10), [])
    assert 2 <= len(found) <= 4 and found[0] == 0 and found[-1] >= 50


@pytest.fixture(scope='module')
def wide(tmp_path_factory):
    folder = tmp_path_factory.mktemp('wide')
    paint_data_set(folder, num_images=2, size=(160, 128))
    return folder


def built(folder, family, index):
    pipeline = pipelines_of(family)[index]
    return DATASETS.build(data_of(folder, pipeline, family))


@pytest.mark.parametrize('use_udp', [False, True])
def test_an_image_of_another_shape_has_targets_of_its_own_size(wide, use_udp):
    """A validation of DEKR enlarges the shorter side to the input's."""
    training, validation = (built(wide, 'dekr', i) for i in (0, 1))
    resize = validation.pipeline.transforms[1]
    resize.use_udp, resize.size_factor = use_udp, 16
    sample = validation_samples(validation, training)[0]
    assert sample['inputs'].shape == (3, 64, 80)
    heatmaps = sample['data_samples'].gt_fields.heatmaps.numpy()
    assert heatmaps.shape == (18, 16, 20)
    info = validation.get_data_info(0)
    ratios = (79 / 159, 63 / 127) if use_udp else (0.5, 0.5)
    seen = 0
    for k in range(17):
        for point, visible in zip(info['keypoints'][:, k],
                                  info['keypoints_visible'][:, k]):
            x, y = np.round(point * ratios / 4).astype(int)
            if visible and x < 20 and y < 16:
                assert heatmaps[k, y, x] > 0.8
                seen += 1
    assert seen > 20


def test_training_samples_are_prepared_like_the_others(wide):
    """No jitter of the box, no flip, and the labels of the training."""
    training, validation = (built(wide, 'simcc', i) for i in (0, 1))
    samples = training_samples(validation, training)
    plain = built(wide, 'simcc', 2)
    for i in range(len(plain)):
        one, other = samples[i], plain[i]
        assert torch.equal(one['inputs'], other['inputs'])
        labels = [s['data_samples'].gt_instance_labels for s in (one, other)]
        assert torch.equal(*(x.keypoint_x_labels for x in labels))
        # What the validation packs as well.
        assert 'input_center' in one['data_samples']
    # The data sets of the training are as before.
    names = [type(t).__name__ for t in training.pipeline.transforms]
    assert 'RandomFlip' in names and training.max_refetch == 1000
    assert len(validation.pipeline.transforms) == 4


def test_the_parts_of_a_combined_data_set_keep_their_own_steps(wide):
    """A cocktail: each part converts its keypoints, the whole packs them."""
    train, val, _ = pipelines_of('heatmap')
    swapped = [1, 0, *range(2, 17)]
    convert = dict(
        type='KeypointConverter',
        num_keypoints=17,
        mapping=list(enumerate(swapped)))
    part = data_of(wide, [convert], 'heatmap')
    meta = dict(from_file='configs/_base_/datasets/coco.py')
    combined = DATASETS.build(
        dict(
            type='CombinedDataset',
            metainfo=meta,
            datasets=[part, part],
            pipeline=train))
    validation = built(wide, 'heatmap', 1)
    copied = training_samples(validation, combined)
    assert len(copied) == 8
    own = built(wide, 'heatmap', 2)
    converted, plain = (
        samples[0]['data_samples'].gt_fields.heatmaps.flatten(1)
        for samples in (copied, own))
    # A converter computes in double precision, a codec rounds.
    off = (converted[swapped].argmax(1) - plain.argmax(1)).abs()
    assert set(off.tolist()) <= {0, 1, 16}
    assert len(set(plain.argmax(1).tolist())) > 10


def test_a_data_set_without_a_pipeline_has_no_unaugmented_samples(wide):
    validation = built(wide, 'heatmap', 1)
    with pytest.raises(NoTargetsError, match='no pipeline'):
        training_samples(validation, Numbered())


@pytest.mark.parametrize('iterations, expected', [(10, 8), (500, 20),
                                                  (10**5, 64)])
def test_a_short_training_takes_fewer(iterations, expected, monkeypatch):
    """Three forward passes of one in 200 samples take 0.5 % of the time."""
    counts = []
    monkeypatch.setattr(
        'mmpose.engine.monitors.poses.validation_loss.validation_loss.'
        'LoadOnce', lambda dataset, count, *args: counts.append(count))
    dataset = Numbered()
    loader = SimpleNamespace(
        dataset=dataset, batch_size=8, num_workers=0, __len__=None)
    runner = SimpleNamespace(
        train_dataloader=loader,
        val_dataloader=loader,
        _train_loop=None,
        train_loop=SimpleNamespace(val_interval=iterations))
    monkeypatch.setattr(
        'mmpose.engine.monitors.poses.validation_loss.validation_loss.'
        'is_iter_based', lambda runner: True)
    for is_limit in True, False:
        monitor = ValidationLossMonitor(64, is_limit=is_limit)
        monitor._loading = {}
        monitor._load(runner)
    assert counts == [expected, 64]


def test_boxes_are_packed_whatever_a_codec_packs(tmp_path):
    """Hand3DHeatmap's list has none; without them nothing is predicted."""
    codec = dict(type='Hand3DHeatmap')
    before = [
        dict(type='GetBBoxCenterScale'),
        dict(type='TopdownAffine', input_size=(256, 256))
    ]
    targets = dict(type='GenerateTarget', encoder=codec)
    pack = dict(type='PackPoseInputs')
    dataset = DATASETS.build(
        dict(write_dataset('InterHand3DDataset', tmp_path), pipeline=[]))
    steps = [
        Compose(pipeline).transforms
        for pipeline in ([*before, pack], [*before, targets, pack])
    ]
    ours, alone = (
        Compose(pipeline)(dict(
            dataset.get_data_info(0), img=np.zeros((400, 400, 3))))
        for pipeline in (with_targets(*steps), steps[1]))
    ours, alone = ours['data_samples'], alone['data_samples']
    assert 'bboxes' not in alone.gt_instances
    # As it is written: (50, 50), 200 by 240.
    assert ours.gt_instances.bboxes.tolist() == [[50, 50, 250, 290]]
    assert ours.gt_instances.bbox_scores.tolist() == [1]
    for name in ('keypoints', 'keypoints_visible', 'keypoints_cam'):
        assert (ours.gt_instances[name] == alone.gt_instances[name]).all()
    for name, value in alone.gt_instance_labels.items():
        assert torch.equal(ours.gt_instance_labels[name], value)
    assert torch.equal(ours.gt_fields.heatmaps, alone.gt_fields.heatmaps)
