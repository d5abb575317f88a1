# Copyright (c) OpenMMLab. All rights reserved.
import random

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData, PixelData
from painted_people import (NUM_KEYPOINTS, dot_near, paint_data_set,
                            painted_data_set, upstream)
from torch import nn

from mmpose.codecs import AssociativeEmbedding, EDPoseLabel, Hand3DHeatmap
from mmpose.engine.monitors.poses.pictures.pose_targets import (decode_target,
                                                                find_codec)
from mmpose.registry import KEYPOINT_CODECS, MODELS
from mmpose.structures import PoseDataSample
from mmpose.utils import register_all_modules

HEATMAP = 'topdown_heatmap/coco/'
# By how many pixels of the input a label may be off along x and y. Where
# labels are whole pixels of a heatmap, by half of one of those.
FAMILIES = {
    HEATMAP + 'td-hm_res50_8xb64-210e_coco-256x192': 2,
    HEATMAP + 'td-hm_res50_dark-8xb64-210e_coco-256x192': 0.5,
    HEATMAP + 'td-hm_hrnet-w32_udp-8xb64-210e_coco-256x192': 1.5,
    HEATMAP + 'td-hm_hrnet-w32_udp-regress-8xb64-210e_coco-256x192': 1.5,
    HEATMAP + 'td-hm_ViTPose-small_8xb64-210e_coco-256x192': 1.5,
    HEATMAP + 'cspnext-tiny_udp_8xb256-210e_coco-256x192': 1.5,
    HEATMAP + 'td-hm_cpm_8xb64-210e_coco-256x192': 4,
    HEATMAP + 'td-hm_hourglass52_8xb32-210e_coco-256x256': 2,
    HEATMAP + 'td-hm-vis_res50_8xb64-210e_coco-aic-256x192-merge': 2,
    HEATMAP + 'td-hm_mspn50_8xb32-210e_coco-256x192': 2,
    HEATMAP + 'td-hm_2xmspn50_8xb32-210e_coco-256x192': 2,
    HEATMAP + 'td-hm_rsn18_8xb32-210e_coco-256x192': 2,
    'simcc/coco/simcc_res50_8xb64-210e_coco-256x192': 0.5,
    'simcc/coco/simcc_vipnas-mbv3_8xb64-210e_coco-256x192': 0.5,
    'rtmpose/coco/rtmpose-t_8xb256-420e_coco-256x192': 0.5,
    'topdown_regression/coco/td-reg_res50_8xb64-210e_coco-256x192': 0.1,
    'topdown_regression/coco/td-reg_res50_rle-8xb64-210e_coco-256x192': 0.1,
    'integral_regression/coco/ipr_res50_8xb64-210e_coco-256x256': 0.1,
    'integral_regression/coco/ipr_res50_dsnt-8xb64-210e_coco-256x256': 0.1,
    'integral_regression/coco/ipr_res50_debias-8xb64-210e_coco-256x256': 0.1,
    'dekr/coco/dekr_hrnet-w32_8xb10-140e_coco-512x512': 0.1,
    # Its labels are up to one and a half of the heatmap's pixels off, and its
    # head adds half a pixel to what it has decoded.
    'cid/coco/cid_hrnet-w32_8xb20-140e_coco-512x512': 8,
    'rtmo/coco/rtmo-s_8xb32-600e_coco-640x640': 0.1,
    'yoloxpose/coco/yoloxpose_tiny_4xb64-300e_coco-416': 0.1,
}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    register_all_modules()
    root = tmp_path_factory.mktemp('painted')
    paint_data_set(root)
    return root


def load(dataset, index):
    random.seed(index)
    np.random.seed(index)
    data = dataset[index]
    picture = data['inputs'].flip(0).permute(1, 2, 0).numpy()
    return picture, data['data_samples']


def people_in_input(picture, sample):
    """The annotated people, and which of their keypoints must be found."""
    people = sample.gt_instances
    shown = people.keypoints_visible
    points = people.get('transformed_keypoints', people.keypoints)
    # Near the border a heatmap's peak is cut off.
    far = ((points > 12) & (points < np.array(picture.shape[1::-1]) - 13))
    return points, shown, (shown > 0) & far.all(-1)


@pytest.mark.parametrize('name', FAMILIES)
@pytest.mark.filterwarnings('ignore')
def test_the_target_lies_where_it_was_annotated(root, name):
    """Through the real augmentations, for every codec."""
    cfg = upstream(name)
    codec = find_codec(MODELS.build(cfg.model.head))
    dataset = painted_data_set(root, cfg)
    to_compare = painted_data_set(root, cfg, pack_transformed=True)
    flips, compared, dots = set(), 0, 0
    for index in range(len(dataset)):
        picture, sample = load(dataset, index)
        assert 'transformed_keypoints' not in sample.gt_instances
        before = contents(sample)
        target, counted = decode_target(codec, sample)
        assert contents(sample) == before
        assert target.dtype == np.float32 and np.isfinite(target).all()
        assert counted.dtype == bool and counted.shape == target.shape[:2]

        same_picture, sample = load(to_compare, index)
        np.testing.assert_array_equal(picture, same_picture)
        dot_of = np.arange(NUM_KEYPOINTS)
        if sample.get('flip'):
            dot_of = np.array(sample.get('flip_indices'))
        flips.add(bool(sample.get('flip')))
        for points, shown, inside in zip(*people_in_input(picture, sample)):
            person = find(target, counted, points, shown)
            if person is None:
                continue
            assert not (counted[person] & (shown == 0)).any()
            for i in np.flatnonzero(inside & counted[person]):
                off = np.abs(target[person, i] - points[i]).max()
                assert off <= FAMILIES[name] + 1e-3
                compared += 1
                dot = dot_near(picture, dot_of[i], points[i])
                if dot is not None:
                    off = np.abs(target[person, i] - dot).max()
                    assert off <= FAMILIES[name] + 1.5
                    dots += 1
    assert flips == {False, True}
    assert compared > 50 and dots > 0.9 * compared


def contents(sample):
    """All labels, comparable."""
    return [(name, value.numpy().tobytes())
            for data in (sample.gt_instance_labels, sample.get('gt_fields'))
            for part in (data.levels() if hasattr(data, 'levels') else [data])
            for name, value in (part.items() if part is not None else ())]


def find(target, counted, points, shown):
    """Who of the target's people is the annotated one, if there is one."""
    away = [
        np.hypot(*(person - points).T)[which & (shown > 0)]
        for person, which in zip(target, counted)
    ]
    away = [a.mean() if len(a) > 4 else np.inf for a in away]
    if not away or min(away) > 20:
        return None
    return int(np.argmin(away))


# What no config of MMPose trains


def sample_of(codec, keypoints, visible, fields=None, **more):
    """A training sample with a codec's labels."""
    encoded = codec.encode(keypoints=keypoints, keypoints_visible=visible)
    encoded.update(more)
    sample = PoseDataSample()
    sample.gt_instances = InstanceData(keypoints_visible=visible)
    fields = fields or codec.field_mapping_table or dict(heatmaps='')
    sample.gt_fields = PixelData(
        **{k: torch.as_tensor(v)
           for k, v in encoded.items() if k in fields})
    sample.gt_instance_labels = InstanceData()
    for name, value in encoded.items():
        if name not in fields:
            sample.gt_instance_labels.set_field(torch.as_tensor(value), name)
    return sample


@pytest.mark.parametrize('use_udp', [False, True])
def test_associative_embedding(use_udp):
    """The head decodes heatmaps that it has enlarged."""
    cfg = upstream('associative_embedding/coco/'
                   'ae_hrnet-w32_8xb24-300e_coco-512x512')
    codec = find_codec(MODELS.build(cfg.model.head))
    assert codec.heatmap_size == (512, 512)
    codec.use_udp = use_udp
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(10, 500, (3, NUM_KEYPOINTS, 2))
    visible = (rng.random(keypoints.shape[:2]) < 0.8).astype(np.float32)
    encoder = KEYPOINT_CODECS.build(dict(cfg.codec, use_udp=use_udp))
    sample = sample_of(encoder, keypoints, visible)
    target, counted = decode_target(codec, sample)
    np.testing.assert_array_equal(counted, visible > 0)
    assert np.abs(target - keypoints)[counted].max() <= 2.02

    # MMPose's own packing leaves out whose keypoint is whose.
    del sample.gt_instance_labels.keypoint_indices
    assert decode_target(codec, sample) is None


@pytest.mark.parametrize('depth', [64, 16])
def test_a_hand_in_three_dimensions(depth):
    """The heatmap's third size says how deep it is, not ``depth_size``."""
    codec = Hand3DHeatmap(
        joint_indices=list(range(42)), heatmap_size=(64, 64, depth))
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(10, 240, (1, 42, 3)).astype(np.float32)
    visible = (rng.random((1, 42)) < 0.8).astype(np.float32)
    encoded = codec.encode(
        keypoints,
        visible,
        dataset_keypoint_weights=np.ones(42),
        rel_root_depth=np.float32(1),
        rel_root_valid=np.float32(1),
        hand_type=np.array([[1, 0]]),
        hand_type_valid=np.array([1]),
        focal=None,
        principal_pt=None)
    sample = PoseDataSample()
    sample.gt_fields = PixelData(
        heatmaps=torch.as_tensor(encoded.pop('heatmaps')))
    sample.gt_instance_labels = InstanceData()
    for name, value in encoded.items():
        sample.gt_instance_labels.set_field(torch.as_tensor(value), name)
    target, counted = decode_target(codec, sample)
    assert target.shape == (1, 42, 2) and counted.any()
    assert np.abs(target - keypoints[..., :2])[counted].max() <= 2.01


def test_of_several_encoders_the_model_s_own_labels_are_decoded():
    size = dict(input_size=(192, 256), heatmap_size=(48, 64))
    keypoints = np.array([[[40., 80.], [100., 120.]]])
    visible = np.ones((1, 2))
    heatmaps = KEYPOINT_CODECS.build(dict(type='MSRAHeatmap', sigma=2, **size))
    regression = KEYPOINT_CODECS.build(
        dict(type='RegressionLabel', input_size=(192, 256)))
    labels = regression.encode(keypoints + 50, visible)['keypoint_labels']
    sample = sample_of(heatmaps, keypoints, visible, keypoint_labels=labels)
    np.testing.assert_allclose(
        decode_target(heatmaps, sample)[0], keypoints, atol=0.1)
    np.testing.assert_allclose(
        decode_target(regression, sample)[0], keypoints + 50, atol=0.1)


# Odd people

SIZES = dict(input_size=(192, 256), heatmap_size=(48, 64))
CODECS = [
    dict(type='MSRAHeatmap', sigma=2, **SIZES),
    dict(type='MSRAHeatmap', sigma=2, unbiased=True, **SIZES),
    dict(type='UDPHeatmap', **SIZES),
    dict(type='UDPHeatmap', heatmap_type='combined', **SIZES),
    dict(type='MegviiHeatmap', kernel_size=11, **SIZES),
    dict(type='SimCCLabel', input_size=(192, 256), use_dark=True),
    dict(type='RegressionLabel', input_size=(192, 256)),
    dict(type='IntegralRegressionLabel', sigma=2, **SIZES),
    dict(type='SPR', sigma=(4, 2), generate_keypoint_heatmaps=True, **SIZES),
    dict(type='DecoupledHeatmap', **SIZES),
]


@pytest.mark.parametrize('codec', CODECS, ids=lambda codec: codec['type'])
@pytest.mark.parametrize('where', ['nowhere', 'outside'])
@pytest.mark.filterwarnings('error::RuntimeWarning')
def test_people_of_whom_nothing_is_seen(codec, where):
    """Nothing to draw, nothing that is no number, and no warning."""
    register_all_modules()
    codec = KEYPOINT_CODECS.build(codec)
    keypoints = np.zeros((1, 5, 2))
    visible = np.zeros((1, 5), np.float32)
    if where == 'outside':
        # So far that there is just nothing of it in a heatmap.
        keypoints[:] = np.linspace((210, 20), (230, 200), 5)
        visible[:] = 1
    target, counted = decode_target(codec, sample_of(codec, keypoints,
                                                     visible))
    assert target.shape[1:] == (5, 2) and np.isfinite(target).all()
    if where == 'nowhere':
        assert not counted.any()


@pytest.mark.parametrize(
    'codec', [c for c in CODECS if 'Heatmap' in c['type']],
    ids=lambda codec: codec['type'])
@pytest.mark.filterwarnings('ignore')
def test_a_keypoint_counts_where_its_label_has_a_peak(codec):
    """Outside of the input it has a weight, and nothing in its heatmap."""
    register_all_modules()
    codec = KEYPOINT_CODECS.build(codec)
    keypoints = np.array([[[96., 128.], [-31.8, 111.], [96., 150.]]])
    sample = sample_of(codec, keypoints, np.ones((1, 3), np.float32))
    target, counted = decode_target(codec, sample)
    assert counted.tolist() == [[True, False, True]]
    assert np.abs(target - keypoints)[counted].max() < 4


@pytest.mark.parametrize('codec', [None, EDPoseLabel()])
def test_without_any_label(codec):
    """ED-Pose has none: MMPose cannot train it."""
    sample = PoseDataSample()
    assert decode_target(codec, sample) is None
    sample.gt_instances = InstanceData(keypoints=np.ones((1, 17, 2)))
    sample.gt_instance_labels = InstanceData()
    assert decode_target(codec, sample) is None


def test_a_codec_that_only_encodes():
    codec = AssociativeEmbedding(**SIZES)
    sample = PoseDataSample()
    sample.gt_fields = PixelData(heatmaps=torch.rand(5, 64, 48))
    assert decode_target(codec, sample) is None


# The codec


def test_a_decoder_that_is_a_network_is_no_codec():
    model = nn.Module()
    model.decoder = nn.Linear(1, 1)
    model.head = nn.Module()
    model.head.decoder = None
    model.neck = nn.Module()
    model.neck.decoder = dict(type='SomeLayer')
    assert find_codec(model) is None
    model.head.decoder = codec = AssociativeEmbedding(**SIZES)
    assert find_codec(model) is codec
