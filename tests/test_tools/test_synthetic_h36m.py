# Copyright (c) OpenMMLab. All rights reserved.
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.fileio import load
from mmengine.registry import init_default_scope

from mmpose.datasets import Human36mDataset

TOOL = (
    Path(__file__).resolve().parents[2] /
    'tools/dataset_generators/synthetic_h36m.py')


def load_tool():
    spec = importlib.util.spec_from_file_location('synthetic_h36m', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load_tool()


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """A small data set; tests only read it."""
    root = tmp_path_factory.mktemp('synthetic')
    tool.generate_dataset(root, num_sequences=4, num_frames=30)
    return root


def annotations(root, split='train'):
    return dict(np.load(root / f'annotation_body3d/fps50/h36m_{split}.npz'))


@pytest.mark.parametrize('split, length', [('train', 120), ('test', 30)])
def test_mmpose_reads_it(root, split, length):
    init_default_scope('mmpose')
    dataset = Human36mDataset(
        ann_file=f'annotation_body3d/fps50/h36m_{split}.npz',
        camera_param_file='annotation_body3d/cameras.pkl',
        data_root=str(root),
        seq_len=27,
        causal=False,
        pad_video_seq=True)
    assert len(dataset) == length
    sample = dataset[0]
    assert sample['keypoints'].shape == (27, 17, 2)
    assert sample['lifting_target'].shape == (1, 17, 3)
    assert {'f', 'c', 'w', 'h'} <= sample['camera_param'].keys()


def test_the_image_is_what_the_camera_sees(root):
    cameras = load(root / 'annotation_body3d/cameras.pkl')
    assert {subject for subject, _ in cameras} == {'S1', 'S9'}
    camera = cameras['S1', tool.CAMERA]
    data = annotations(root)
    right, down, forward = np.moveaxis(data['S'][..., :3], -1, 0)
    (fx, ), (fy, ) = camera['f']
    (cx, ), (cy, ) = camera['c']
    seen = np.stack((fx * right / forward + cx, fy * down / forward + cy), -1)
    np.testing.assert_allclose(data['part'][..., :2], seen)
    assert (seen > 0).all() and (seen < (camera['w'], camera['h'])).all()
    assert (forward > 1).all()
    assert (data['part'][..., 2] == 1).all() and (data['S'][..., 3] == 1).all()
    low, high = seen.min(1), seen.max(1)
    assert (np.abs(data['center'] - (low + high) / 2) < 1e-6).all()


def test_people_are_built_like_people(root):
    """Of bones that keep their length, with the head up, and moving."""
    init_default_scope('mmpose')
    meta = Human36mDataset._load_metainfo()
    joints = annotations(root)['S'][..., :3].reshape(4, 30, 17, 3)
    ends = joints[:, :, meta['skeleton_links']]
    lengths = np.linalg.norm(ends[..., 0, :] - ends[..., 1, :], axis=-1)
    assert np.ptp(lengths, axis=1).max() < 1e-6
    assert 0.05 < lengths.min() and lengths.max() < 0.6
    pairs = [i for i in range(17) if meta['flip_indices'][i] != i]
    assert len(pairs) == 12
    down = joints[..., 1]
    assert (down[..., 10] < down[..., [3, 6]].min(-1) - 1.2).all()
    speed = np.linalg.norm(np.diff(joints, axis=1), axis=-1) * 50
    assert 0.5 < speed.max() < 8


def test_left_is_left(root):
    """Who turns the face to the camera has the right hip on its left."""
    joints = annotations(root)['S'][..., :3]
    right, up = joints[:, 1] - joints[:, 4], joints[:, 8] - joints[:, 0]
    face = joints[:, 9] - joints[:, 8]
    # Seen from the camera down is positive, so the axes are right-handed.
    assert (np.einsum('ni,ni->n', np.cross(up, right), face) > 0).all()


def test_one_waves_the_right_hand(root):
    joints = annotations(root)['S'][..., :3].reshape(4, 30, 17, 3)
    for i, sequence in enumerate(joints):
        left, right = sequence[:, [13, 16], 1].mean(0)
        assert (right < left - 0.3) == (i % 2 == 1)


def test_the_seed_decides(root, tmp_path):
    for name, arguments in dict(
            same=(4, 30, 0), longer=(5, 30, 0), other=(4, 30, 1)).items():
        tool.generate_dataset(tmp_path / name, *arguments)
    data = annotations(root)
    for key, value in annotations(tmp_path / 'same').items():
        np.testing.assert_array_equal(value, data[key])
    longer = annotations(tmp_path / 'longer')
    np.testing.assert_array_equal(longer['S'][:120], data['S'])
    assert (annotations(tmp_path / 'other')['S'] != data['S']).any()
    assert (annotations(root, 'test')['S'] != data['S'][:30]).any()


def test_real_annotations_are_not_overwritten(tmp_path):
    tool.generate_dataset(tmp_path, 1, 2)
    path = tmp_path / 'annotation_body3d/fps50/h36m_test.npz'
    tool.generate_dataset(tmp_path, 1, 3)
    assert len(np.load(path)['S']) == 3
    np.savez(path, S=np.zeros(1))
    with pytest.raises(FileExistsError, match='another folder'):
        tool.generate_dataset(tmp_path, 1, 2)
    assert len(np.load(path)['S']) == 1


def test_the_command_line(tmp_path):

    def run(*args):
        return subprocess.run(
            [sys.executable,
             str(TOOL), '--out',
             str(tmp_path), *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True)

    result = run('--num-sequences', '1', '--num-frames', '5')
    assert result.returncode == 0 and 'wrote train, test' in result.stdout
    assert len(annotations(tmp_path)['S']) == 5
    result = run('--num-frames', '0')
    assert result.returncode == 2 and 'at least 1' in result.stdout
