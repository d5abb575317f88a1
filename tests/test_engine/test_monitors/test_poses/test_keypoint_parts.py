# Copyright (c) OpenMMLab. All rights reserved.
import functools
import glob
import os

import pytest
from mmengine.config import Config

import mmpose
from mmpose.engine.monitors.poses.accuracy.keypoint_parts import keypoint_parts

# In a wheel, and in a source tree.
DATASETS = sorted(
    path for folder in ('.mim', '..') for path in glob.glob(
        os.path.join(mmpose.__path__[0], folder,
                     'configs/_base_/datasets/*.py')))


@functools.lru_cache(maxsize=None)
def names_of(name: str):
    """The names of the keypoints and the data set in MMPose's settings."""
    path = os.path.join(os.path.dirname(DATASETS[0]), f'{name}.py')
    info = Config.fromfile(path).dataset_info
    names = [v['name'] for _, v in sorted(info.keypoint_info.items())]
    return names, info.dataset_name


def sizes(parts: dict) -> dict:
    return {part: len(members) for part, members in parts.items()}


def test_every_data_set_of_mmpose_is_cut_without_rest_or_overlap():
    large = 0
    for path in DATASETS:
        names, dataset = names_of(os.path.basename(path)[:-3])
        parts = keypoint_parts(names, dataset)
        held = sorted(i for part in parts.values() for i in part)
        assert held == list(range(len(names))), dataset
        assert len(parts) <= 30 and all(parts), dataset
        if len(names) > 30:
            large += 1
            assert 'all' not in parts and 'others' not in parts, dataset
            assert 5 <= len(parts) <= 16, dataset
    assert large >= 17


@pytest.mark.parametrize('name, expected', [
    ('coco_wholebody', (17, 6, 68, 21, 21)),
    ('ubody2d', (17, 6, 68, 21, 21)),
    ('h3wb', (17, 6, 68, 21, 21)),
    ('coco_wholebody_openpose', (18, 6, 68, 21, 21)),
    ('halpe', (20, 6, 68, 21, 21)),
    ('ubody3d', (19, 6, 72, 20, 20)),
])
def test_a_whole_body(name, expected):
    """The parts that Jin et al., Whole-Body Human Pose Estimation in the Wild,
    evaluate."""
    parts = keypoint_parts(*names_of(name))
    order = ('body', 'feet', 'face', 'left_hand', 'right_hand')
    assert sizes(parts) == dict(zip(order, expected))


def test_the_parts_of_coco_wholebody_are_where_they_are_published():
    parts = keypoint_parts(*names_of('coco_wholebody'))
    assert parts == dict(
        body=list(range(17)),
        feet=list(range(17, 23)),
        face=list(range(23, 91)),
        left_hand=list(range(91, 112)),
        right_hand=list(range(112, 133)))


# The first and the last landmark of each part: corners that lie opposite are
# each other's mirror image in MMPose's settings.
@pytest.mark.parametrize('name, expected', [
    ('300w', 'contour 0-16 eyebrows 17-26 nose 27-35 eyes 36-47 mouth 48-67'),
    ('300vw', 'contour 0-16 eyebrows 17-26 nose 27-35 eyes 36-47 mouth 48-67'),
    ('300wlp',
     'contour 0-16 eyebrows 17-26 nose 27-35 eyes 36-47 mouth 48-67'),
    ('coco_wholebody_face',
     'contour 0-16 eyebrows 17-26 nose 27-35 eyes 36-47 mouth 48-67'),
    ('wflw', 'contour 0-32 eyebrows 33-50 nose 51-59 eyes 60-75 mouth 76-95 '
     'pupils 96-97'),
    ('lapa', 'contour 0-32 eyebrows 33-50 nose 51-65 eyes 66-83 mouth 84-103 '
     'pupils 104-105'),
])
def test_a_face(name, expected):
    parts = keypoint_parts(*names_of(name))
    ranges = [f'{part} {i[0]}-{i[-1]}' for part, i in parts.items()]
    assert ' '.join(ranges) == expected


@pytest.mark.parametrize('name', ['300w', 'wflw', 'lapa'])
def test_the_parts_of_a_face_are_whole_on_both_sides(name):
    """What MMPose swaps when it flips a picture is in the same part."""
    path = os.path.join(os.path.dirname(DATASETS[0]), f'{name}.py')
    info = Config.fromfile(path).dataset_info.keypoint_info
    names, dataset = names_of(name)
    part_of = {
        names[i]: part
        for part, members in keypoint_parts(names, dataset).items()
        for i in members
    }
    swapped = [v for v in info.values() if v['swap']]
    assert len(swapped) > 50
    for keypoint in swapped:
        assert part_of[keypoint['name']] == part_of[keypoint['swap']]


def test_numbers_are_a_face_only_where_the_data_set_says_so():
    names = [f'kpt-{i}' for i in range(68)]
    assert list(keypoint_parts(names, 'mouse')) == ['all']
    assert list(keypoint_parts(names)) == ['all']
    assert 'mouth' in keypoint_parts(names, 'My_300W')
    assert 'mouth' in keypoint_parts([f'face{i}' for i in range(68)])
    assert list(keypoint_parts(names[:67], '300w')) == ['all']
    speaking = [f'{part}{i}' for part in ('ear', 'lip') for i in range(34)]
    assert list(keypoint_parts(speaking, 'my_face')) == ['ear', 'lip']


def test_numbered_names_are_parts_by_their_stem():
    assert sizes(keypoint_parts(*names_of('locust'))) == dict(
        head=1,
        neck=1,
        thorax=1,
        abdomen=2,
        anttipL=1,
        antbaseL=1,
        eyeL=1,
        forelegL=4,
        midlegL=4,
        hindlegL=4,
        anttipR=1,
        antbaseR=1,
        eyeR=1,
        forelegR=4,
        midlegR=4,
        hindlegR=4)
    clothes = sizes(keypoint_parts(*names_of('deepfashion2')))
    assert len(clothes) == 13 and clothes['sss'] == 25
    fingers = sizes(keypoint_parts(*names_of('interhand3d')))
    assert len(fingers) == 12 and fingers['left_thumb'] == 4


def test_the_word_for_a_keypoint_is_no_part():
    assert keypoint_parts(['a_kpt1', 'a_keypoint2', 'a3', 'b landmark 4']) == {
        'a': [0, 1, 2],
        'b': [3]
    }


def test_names_that_are_too_many_are_parts_by_their_last_word():
    assert sizes(keypoint_parts(*names_of('mpii_trb'))) == dict(
        shoulder=6,
        elbow=2,
        wrist=6,
        hip=6,
        knee=6,
        ankle=6,
        head=1,
        neck=3,
        bow=4)


def test_a_foot_is_no_hand_and_a_hand_has_a_side():
    names = [
        'left_shoulder', 'left_foot_index', 'left_index', 'right_pinky',
        'middle_spine'
    ]
    assert keypoint_parts(names) == dict(
        body=[0, 4], feet=[1], left_hand=[2], right_hand=[3])


def test_names_without_any_order_are_one_part():
    names = [chr(0x4e00 + i) for i in range(40)]
    assert keypoint_parts(names) == dict(all=list(range(40)))
    assert keypoint_parts(['nose']) == dict(all=[0])


def test_a_keypoint_that_is_a_mere_number_is_in_a_part_with_a_name():
    assert keypoint_parts(['nose', 'kpt-1', 'kpt-2']) == dict(
        nose=[0], others=[1, 2])
