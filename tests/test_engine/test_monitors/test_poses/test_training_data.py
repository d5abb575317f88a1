# Copyright (c) OpenMMLab. All rights reserved.
"""What the pipeline makes of the keypoints, and what the model sees."""
import copy
import json

import numpy as np
import pytest
from mmengine.hooks import Hook
from mmengine.runner import Runner
from noisy_poses import topdown_cfg, warnings_of, write_coco
from run_logs import read_run
from written_datasets import write_dataset

from mmpose.datasets.transforms import Mosaic
from mmpose.engine.monitors.poses.data.lost_keypoints import count_keypoints
from mmpose.registry import DATASETS, HOOKS, KEYPOINT_CODECS, TRANSFORMS
from mmpose.utils import register_all_modules

register_all_modules()
SIZE = (192, 256)
CODEC = dict(
    type='MSRAHeatmap', input_size=SIZE, heatmap_size=(48, 64), sigma=2.)
SIMCC = dict(
    type='SimCCLabel',
    input_size=SIZE,
    sigma=(4.9, 5.66),
    simcc_split_ratio=2.)
TIGHT = dict(type='GetBBoxCenterScale', padding=.6)
AFFINE = dict(type='TopdownAffine', input_size=SIZE)
TAGS = ('data/keypoints_lost', 'data/empty_samples')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    write_dataset('CocoDataset', folder, 40)
    return folder


def packed(folder, *transforms, **replaced):
    """All samples of a training, as MMPose packs them."""
    dataset = DATASETS.build(
        dict(
            type='CocoDataset',
            ann_file=str(folder / 'CocoDataset.json'),
            pipeline=[
                *transforms,
                dict(type='PackPoseInputs', pack_transformed=True)
            ],
            **replaced))
    np.random.seed(0)
    samples = []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        info['img'] = np.zeros((400, 400, 3), np.uint8)
        info['img_shape'] = info['ori_shape'] = 400, 400
        samples.append(dataset.pipeline(info)['data_samples'])
    return samples


@pytest.mark.parametrize('codec', [CODEC, SIMCC], ids=lambda c: c['type'])
def test_lost_is_what_the_codec_gives_no_weight(folder, codec):
    samples = packed(folder, TIGHT, AFFINE,
                     dict(type='GenerateTarget', encoder=codec))
    encoder = KEYPOINT_CODECS.build(codec)
    lost = 0
    for sample in samples:
        points = sample.gt_instances.transformed_keypoints
        visible = sample.gt_instances.keypoints_visible
        weights = encoder.encode(points, visible)['keypoint_weights']
        counts = count_keypoints(sample)
        assert counts.annotated == (visible > 0).sum()
        assert counts.kept == (weights > 0).sum()
        assert counts.is_empty == (not weights.any())
        lost += counts.annotated - counts.kept
    assert lost > 20
    assert sum(count_keypoints(s).is_empty for s in samples) == 0


def test_a_keypoint_that_is_not_trained_is_not_lost(folder):
    sample = packed(folder, TIGHT, AFFINE,
                    dict(type='GenerateTarget', encoder=CODEC))[0]
    weights = np.ones(17)
    annotated = sample.gt_instances.keypoints_visible[0] > 0
    weights[np.flatnonzero(annotated)[0]] = 0
    assert count_keypoints(
        sample, weights).annotated == count_keypoints(sample).annotated - 1


def test_of_several_encoders(folder):
    codecs = [dict(CODEC, sigma=sigma) for sigma in (1., 2.)]
    for one, several in zip(
            packed(folder, TIGHT, AFFINE,
                   dict(type='GenerateTarget', encoder=CODEC)),
            packed(
                folder, TIGHT, AFFINE,
                dict(type='GenerateTarget', encoder=codecs, multilevel=True))):
        assert count_keypoints(several).annotated == count_keypoints(
            one).annotated


def test_of_a_bottom_up_model(folder):
    """Those of the file, without crowds, against the codec's weights."""
    codec = dict(
        type='AssociativeEmbedding',
        input_size=(128, 128),
        heatmap_size=(32, 32),
        sigma=2)
    samples = packed(
        folder,
        dict(
            type='BottomupRandomAffine',
            input_size=(128, 128),
            scale_factor=(.3, .5)),
        dict(type='GenerateTarget', encoder=codec),
        data_mode='bottomup')
    content = json.loads((folder / 'CocoDataset.json').read_text())
    lost = 0
    for sample in samples:
        flags = np.array([
            a['keypoints'][2::3] for a in content['annotations']
            if a['image_id'] == sample.img_id
        ])
        counts = count_keypoints(sample)
        assert counts.annotated == (flags > 0).sum()
        weights = sample.gt_instance_labels.keypoint_weights.numpy()
        assert counts.kept == (weights > 0).sum()
        lost += counts.annotated - counts.kept
    assert lost > 20


def test_without_labels_nothing_is_said(folder):
    sample = packed(folder, TIGHT, AFFINE)[0]
    assert count_keypoints(sample) is None


@HOOKS.register_module(force=True)
class BatchWitness(Hook):
    """Remembers the samples and the inputs of a training."""

    def before_train(self, runner):
        self.counts, self.inputs = [], []

        def remember(module, given, output):
            if given[1]:  # In training.
                self.inputs.append(output['inputs'].numpy().copy())

        runner.model.data_preprocessor.register_forward_hook(remember)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        samples = copy.deepcopy(data_batch['data_samples'])
        self.counts.append([
            ((s.gt_instances.keypoints_visible > 0).sum(),
             (s.gt_instance_labels.keypoint_weights > 0).sum().item())
            for s in samples
        ])


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    ann_file = folder / 'annotations.json'
    write_coco(ann_file)
    cfg = topdown_cfg(
        folder / 'run',
        dict(
            log_data=True,
            grad_norm_interval=2,
            log_keypoints=False,
            hard_samples=0,
            log_val_images=False),
        ann_file,
        train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=9))
    cfg['train_dataloader']['dataset']['pipeline'][1]['padding'] = .5
    cfg['custom_hooks'].append(dict(type='BatchWitness'))
    runner = Runner(**cfg)
    runner.train()
    witness, = [h for h in runner.hooks if isinstance(h, BatchWitness)]
    return folder / 'run', read_run(folder / 'run'), witness


def scalars(events, tag):
    return {e.step: e.value for e in events.Scalars(tag)}


def test_the_curves_are_over_the_measured_batches(trained):
    path, events, witness = trained
    steps = [1, 2, 4, 6, 8, 10]
    assert not warnings_of(path)
    for tag in TAGS:
        assert list(scalars(events, tag)) == steps
    for n, step in enumerate(steps, 1):
        counts = np.array([
            count for measured in steps[:n]
            for count in witness.counts[measured - 1]
        ])
        before, after = counts.sum(0)
        assert scalars(events,
                       TAGS[0])[step] == pytest.approx(1 - after / before)
        assert scalars(events, TAGS[1])[step] == pytest.approx(
            (counts[:, 1] == 0).mean())
    assert before - after > 10


def test_mean_and_deviation_are_those_that_the_model_sees(trained):
    _, events, witness = trained
    steps = [1, 2, 4, 6, 8, 10]
    assert len(witness.inputs) == 10
    for channel in range(3):
        for n, step in enumerate(steps, 1):
            seen = np.concatenate([
                witness.inputs[measured - 1] for measured in steps[:n]
            ])[:, channel, ::4, ::4].astype(float)
            mean, std = (
                scalars(events, f'data/input_{name}/{channel}')[step]
                for name in ('mean', 'std'))
            assert mean == pytest.approx(seen.mean(), abs=1e-5)
            assert std == pytest.approx(seen.std(), rel=1e-4)
    # The data preprocessor exchanges the channels.
    assert 'data/input_mean/3' not in events.Tags()['scalars']


@TRANSFORMS.register_module(force=True)
class MixesNothing(Mosaic):

    def __init__(self):
        pass

    def transform(self, results):
        return results


def test_mixed_images_are_said_in_a_line(tmp_path):
    ann_file = tmp_path / 'annotations.json'
    write_coco(ann_file)
    cfg = topdown_cfg(
        tmp_path / 'run',
        dict(
            log_data=True,
            log_keypoints=False,
            hard_samples=0,
            log_val_images=False),
        ann_file,
        train_cfg=dict(by_epoch=True, max_epochs=1, val_interval=9))

    pipeline = cfg['train_dataloader']['dataset']['pipeline']
    pipeline.insert(1, dict(type='MixesNothing'))
    Runner(**cfg).train()
    log, = (tmp_path / 'run').glob('*/*.log')
    assert log.read_text().count('the pipeline mixes images') == 1
    tags = read_run(tmp_path / 'run').Tags()['scalars']
    assert 'data/keypoints_lost' not in tags
    assert 'data/input_mean/0' in tags
