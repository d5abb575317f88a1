# Copyright (c) OpenMMLab. All rights reserved.
import json
import os.path as osp
import sys

import numpy as np
import pytest

from mmpose.registry import DATASETS
from mmpose.utils import register_all_modules

sys.path.insert(
    0, osp.join(osp.dirname(__file__), '../../tools/dataset_generators'))
import synthetic_keypoints  # noqa: E402

KINDS = [
    'WFLWDataset', 'AFLWDataset', 'CocoWholeBodyDataset',
    'CocoWholeBodyFaceDataset', 'CocoWholeBodyHandDataset',
    'OneHand10KDataset', 'FreiHandDataset', 'AP10KDataset',
    'DeepFashion2Dataset', 'CrowdPoseDataset', 'InterHand3DDataset',
    'InterHand2DDoubleDataset', 'MpiiDataset', 'HumanArt21Dataset'
]
# Of DeepFashion: the keypoints of each part of its clothes.
SUBSETS = dict(full=8, upper=6, lower=4)


@pytest.fixture(autouse=True)
def modules():
    register_all_modules()


def load(out, kind, split, pipeline=(), **arguments):
    cameras = dict(
        camera_param_file=f'annotations/{split}_camera.json',
        joint_file=f'annotations/{split}_joint_3d.json')
    return DATASETS.build(
        dict(
            type=kind,
            data_root=str(out),
            ann_file=f'annotations/{split}.json',
            data_prefix=dict(img=f'{split}/'),
            pipeline=[dict(type='LoadImage'), *pipeline],
            **(cameras if kind.startswith('InterHand') else arguments)))


@pytest.mark.parametrize('kind', KINDS)
def test_mmpose_loads_it(tmp_path, kind):
    """Every class of data sets reads all that it asks for."""
    synthetic_keypoints.generate_dataset(tmp_path, DATASETS.get(kind), 3)
    for split in 'train', 'val':
        data = load(tmp_path, kind, split, [dict(type='GetBBoxCenterScale')])
        assert len(data) >= 3
        number = data.metainfo['num_keypoints']
        for sample in data:
            assert sample['img'].shape == (320, 320, 3)
            assert sample['keypoints'].shape[1] == number
            assert np.isfinite(sample['bbox_scale']).all()
            seen = sample['keypoints_visible'].reshape(-1, number)[0] > 0
            assert seen.sum() > number / 2


@pytest.mark.parametrize('subset', SUBSETS)
def test_the_keypoints_of_a_subset(tmp_path, subset):
    """Also after another of the class, which remembers the last one."""
    kind = DATASETS.get('DeepFashionDataset')
    kind(lazy_init=True, subset='lower' if subset == 'upper' else 'upper')
    synthetic_keypoints.generate_dataset(tmp_path, kind, 2, subset=subset)
    data = load(tmp_path, 'DeepFashionDataset', 'train', subset=subset)
    assert len(data) == 2
    for sample in data:
        assert sample['keypoints'].shape == (1, SUBSETS[subset], 2)
        assert sample['dataset_name'] == f'deepfashion_{subset}'


def test_the_frames_of_a_video(tmp_path):
    """Those before and after are there, also of the first and the last."""
    frames = dict(
        frame_sampler_mode='fixed',
        frame_indices=[-1, 1],
        frame_weights=[.5, .5])
    synthetic_keypoints.generate_dataset(
        tmp_path, DATASETS.get('PoseTrack18VideoDataset'), 3, **frames)
    data = DATASETS.build(
        dict(
            type='PoseTrack18VideoDataset',
            data_root=str(tmp_path),
            ann_file='annotations/val.json',
            data_prefix=dict(img='val/'),
            **frames))
    names = [[osp.basename(path) for path in data[i]['img_path']]
             for i in range(len(data))]
    assert names == [[f'{i:06d}.jpg' for i in row]
                     for row in ((0, 0, 1), (1, 0, 2), (2, 1, 2))]
    assert all(
        osp.exists(path) for i in range(3) for path in data[i]['img_path'])


@pytest.mark.parametrize('kind', [
    'AP10KDataset', 'InterHand3DDataset', 'InterHand2DDoubleDataset',
    'MpiiDataset'
])
def test_a_keypoint_is_drawn_where_it_is_annotated(tmp_path, kind):
    """Its spot has its color, but for noise and for JPEG."""
    synthetic_keypoints.generate_dataset(tmp_path, DATASETS.get(kind), 4)
    data = load(tmp_path, kind, 'train')
    colors = data.metainfo['keypoint_colors'][:, ::-1].astype(float)
    right = []
    for sample in data:
        seen = sample['keypoints_visible'][0] > 0
        points = sample['keypoints'][0, :, :2].round().astype(int)
        # What is drawn later may hide it.
        for index in np.flatnonzero(seen):
            x, y = points[index]
            if (np.hypot(*(points[index + 1:] - points[index]).T) > 8).all():
                found = sample['img'][y - 1:y + 2, x - 1:x + 2].mean((0, 1))
                right.append(np.abs(found - colors[index]).max() < 70)
    assert len(right) > 20
    assert np.mean(right) > .95


def test_linked_keypoints_are_near():
    """A chain of five is laid out as a line, in its order."""
    points = synthetic_keypoints.lay_out(5, [(0, 1), (1, 2), (2, 3), (3, 4)])
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    steps = np.abs(np.arange(5)[:, None] - np.arange(5))
    np.testing.assert_allclose(distances, steps * distances[0, 1], atol=1e-3)


def test_keypoints_without_links_are_apart():
    points = synthetic_keypoints.lay_out(98, [])
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    assert distances[~np.eye(98, dtype=bool)].min() > .05


def test_the_seed_decides(tmp_path):
    kind = DATASETS.get('WFLWDataset')
    texts = []
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        synthetic_keypoints.generate_dataset(
            tmp_path / name, kind, 1, seed=seed)
        texts.append((tmp_path / name / 'annotations/train.json').read_text())
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize('bad', [
    dict(num_images=0),
    dict(seed=-1),
    dict(image_size=(320, 63)),
])
def test_bad_arguments(tmp_path, bad):
    with pytest.raises(ValueError, match='num_images must be 1 or more'):
        synthetic_keypoints.generate_dataset(tmp_path,
                                             DATASETS.get('WFLWDataset'),
                                             **bad)
    assert not list(tmp_path.iterdir())


def test_other_annotations_are_left_alone(tmp_path):
    path = tmp_path / 'annotations/train.json'
    path.parent.mkdir()
    path.write_text(json.dumps(dict(images=[])))
    with pytest.raises(FileExistsError, match='is not by this tool'):
        synthetic_keypoints.generate_dataset(tmp_path,
                                             DATASETS.get('WFLWDataset'))
    assert json.loads(path.read_text()) == dict(images=[])
