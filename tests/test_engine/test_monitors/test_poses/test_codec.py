# Copyright (c) OpenMMLab. All rights reserved.
"""What a codec loses, and targets that are not where the annotations are."""

import numpy as np
import pytest
from mmcv.transforms import Compose
from mmengine.runner import Runner
from noisy_poses import topdown_cfg, write_coco
from planted_errors import COCO, names_of
from run_logs import read_run

from mmpose.codecs import MSRAHeatmap
from mmpose.engine.monitors.poses.codec.codec_tally import CodecTally
from mmpose.engine.monitors.poses.codec.round_trip import (input_size,
                                                           round_trip, why_not)
from mmpose.engine.monitors.poses.codec.training_samples import (
    Geometry, TrainingSample, read_training_sample)
from mmpose.evaluation.functional import keypoint_pck_accuracy
from mmpose.evaluation.functional.nms import oks_iou
from mmpose.registry import DATASETS, KEYPOINT_CODECS, TRANSFORMS
from mmpose.utils import register_all_modules

register_all_modules()
SIGMAS = np.array(COCO['sigmas'])
SIZE = (192, 256)
HEATMAP = dict(input_size=SIZE, heatmap_size=(48, 64), sigma=2.)
TOP_DOWN = dict(
    msra=dict(type='MSRAHeatmap', **HEATMAP),
    dark=dict(type='MSRAHeatmap', unbiased=True, **HEATMAP),
    udp=dict(type='UDPHeatmap', **HEATMAP),
    offsets=dict(type='UDPHeatmap', heatmap_type='combined', **HEATMAP),
    megvii=dict(
        type='MegviiHeatmap',
        input_size=SIZE,
        heatmap_size=(48, 64),
        kernel_size=11),
    simcc=dict(
        type='SimCCLabel',
        input_size=SIZE,
        sigma=(4.9, 5.66),
        simcc_split_ratio=2.,
        normalize=False,
        use_dark=False),
    regression=dict(type='RegressionLabel', input_size=SIZE),
    integral=dict(type='IntegralRegressionLabel', **HEATMAP),
    coarse=dict(
        type='MSRAHeatmap', input_size=SIZE, heatmap_size=(12, 16), sigma=1.))
# Of the proof of concept, for points anywhere in the input.
EXPECTED = dict(msra=.990, dark=1., udp=.998, simcc=.999, regression=1.)


def infos(number, seed=0):
    """Annotations of people in images of 640 x 480 pixels."""
    rng = np.random.default_rng(seed)
    for i in range(number):
        size = rng.uniform(60, 200) * np.array([.75, 1.])
        corner = rng.uniform(20, 200, 2)
        keypoints = corner + size * rng.uniform(.05, .95, (1, 17, 2))
        yield dict(
            id=i,
            img_id=i,
            img_path=f'image_{i}.png',
            img=np.zeros((480, 640, 3), np.uint8),
            img_shape=(480, 640),
            ori_shape=(480, 640),
            bbox=np.float32([[*corner, *(corner + size)]]),
            keypoints=keypoints.astype(np.float32),
            keypoints_visible=(rng.random((1, 17)) < .9).astype(np.float32),
            flip_indices=COCO['flip_indices'],
            upper_body_ids=COCO['upper_body_ids'],
            lower_body_ids=COCO['lower_body_ids'],
            dataset_keypoint_weights=np.ones(17, np.float32),
            raw_ann_info=dict(
                id=i,
                area=float(.53 * size.prod()),
                bbox=[*corner, *size],
                keypoints=[]))


def packed(codec, *augmentations, number=40, use_udp=False, **packing):
    """Samples as MMPose's own pipeline makes them."""
    pipeline = Compose([
        dict(type='GetBBoxCenterScale'), *augmentations,
        dict(type='TopdownAffine', input_size=SIZE, use_udp=use_udp),
        dict(type='GenerateTarget', encoder=codec),
        dict(type='PackPoseInputs', **packing)
    ])
    np.random.seed(0)
    return [pipeline(info)['data_samples'] for info in infos(number)]


def tally_of(codec, samples, use_udp=False):
    codec = KEYPOINT_CODECS.build(codec)
    tally = CodecTally(codec, codec, COCO, SIGMAS,
                       Geometry(SIZE, use_udp=use_udp), 17)
    for sample in samples:
        tally.add(read_training_sample(sample))
    return tally


def computed(codec, samples):
    """What MMPose's functions say of the targets of a validation's crops."""
    codec = KEYPOINT_CODECS.build(codec)
    oks, predicted, truth, masks, sizes = [], [], [], [], []
    for sample in samples:
        labels = {
            **dict(sample.gt_instance_labels.items()),
            **dict(sample.get('gt_fields', {}).items())
        }
        labels = {name: value.numpy() for name, value in labels.items()}
        if 'keypoint_x_labels' in labels:
            decoded, _ = codec.decode(labels['keypoint_x_labels'],
                                      labels['keypoint_y_labels'])
        elif 'keypoint_labels' in labels:
            decoded, _ = codec.decode(labels['keypoint_labels'])
        else:
            decoded, _ = codec.decode(labels['heatmaps'])
        meta = sample.metainfo
        point = (
            decoded[0] / meta['input_size'] * meta['input_scale'] +
            meta['input_center'] - .5 * meta['input_scale'])
        gt = sample.gt_instances
        visible = gt.keypoints_visible[0] > 0
        area = sample.raw_ann_info['area']
        with_score = [
            np.hstack([p, np.ones((17, 1))])[visible]
            for p in (gt.keypoints[0], point)
        ]
        oks += oks_iou(with_score[0].ravel(), with_score[1].ravel()[None],
                       area, [area], SIGMAS[visible]).tolist()
        predicted.append(point)
        truth.append(gt.keypoints[0])
        masks.append(visible)
        box = gt.bboxes[0]
        sizes.append(np.full(2, max(box[2:] - box[:2])))
    pck = keypoint_pck_accuracy(
        np.array(predicted), np.array(truth), np.array(masks), .05,
        np.array(sizes))
    return np.mean(oks), pck


@pytest.mark.parametrize('name', TOP_DOWN)
def test_the_ceiling_is_what_mmpose_computes(name):
    codec, use_udp = TOP_DOWN[name], name in ('udp', 'offsets')
    samples = packed(codec, use_udp=use_udp)
    values = {
        s.tag: s.value
        for s in tally_of(codec, samples, use_udp).scalars(True)
    }
    oks, (by_keypoint, pck, _) = computed(codec, samples)
    assert values['codec/ceiling/OKS'] == pytest.approx(oks, abs=1e-6)
    assert values['codec/ceiling/PCK@0.05'] == pytest.approx(pck, abs=1e-6)
    for keypoint, value in zip(names_of(COCO), by_keypoint):
        assert values[f'codec/ceiling/PCK@0.05/{keypoint}'] == pytest.approx(
            value, abs=1e-6)
    if name in EXPECTED:
        assert oks == pytest.approx(EXPECTED[name], abs=3e-3)


AUGMENTED = (dict(type='RandomFlip', direction='horizontal'),
             dict(type='RandomHalfBody'), dict(type='RandomBBoxTransform'))


@pytest.mark.parametrize('name', ['msra', 'udp', 'simcc'])
def test_an_augmentation_of_the_crop_does_not_change_it(name):
    """The crop is that of a validation."""
    codec = TOP_DOWN[name]
    plain, turned = (
        tally_of(codec, packed(codec, *augmentations, number=9)).tally
        for augmentations in ((), (dict(type='RandomBBoxTransform'), )))
    assert turned.mean_oks() == plain.mean_oks()


def errors_of(codec, samples, **kwargs):
    *_, errors = tally_of(codec, samples, **kwargs).measurements()
    return errors


@pytest.mark.parametrize('packs', [False, True])
@pytest.mark.parametrize('name', TOP_DOWN)
def test_targets_are_in_place(name, packs):
    codec, use_udp = TOP_DOWN[name], name in ('udp', 'offsets')
    samples = packed(
        codec, *AUGMENTED, use_udp=use_udp, pack_transformed=packs)
    errors = errors_of(codec, samples, use_udp=use_udp)
    assert errors.count > 30
    assert not errors.misplaced


class Displaced(TRANSFORMS.get('GenerateTarget')):
    """Makes targets of keypoints that are not those of the annotation."""

    def transform(self, results):
        points = results['transformed_keypoints']
        return super().transform(
            dict(results, transformed_keypoints=self.displaced(points)))


@TRANSFORMS.register_module(force=True)
class Shifted(Displaced):

    def displaced(self, points):
        return points + np.float32([9, 0])


@TRANSFORMS.register_module(force=True)
class Flipped(Displaced):

    def displaced(self, points):
        return np.float32([SIZE[0], 0]) + points * np.float32([-1, 1])


@TRANSFORMS.register_module(force=True)
class OfAnotherImage(Displaced):

    last = None

    def displaced(self, points):
        self.last, points = points, self.last
        return self.last if points is None else points


@pytest.mark.parametrize('name', ['msra', 'udp', 'simcc', 'regression'])
@pytest.mark.parametrize('mistake',
                         ['Shifted', 'Flipped', 'OfAnotherImage', 'late'])
def test_a_misplaced_target_is_found(name, mistake):
    codec = TOP_DOWN[name]
    target = dict(type='GenerateTarget', encoder=codec)
    if mistake == 'late':
        # The image and the annotation, but not the target.
        target = [dict(type='RandomFlip', prob=1.), target]
    else:
        target = [dict(target, type=mistake)]
    pipeline = Compose([
        dict(type='GetBBoxCenterScale'),
        dict(type='RandomBBoxTransform'),
        dict(type='TopdownAffine', input_size=SIZE), *target,
        dict(type='PackPoseInputs')
    ])
    np.random.seed(0)
    errors = errors_of(codec,
                       [pipeline(info)['data_samples'] for info in infos(20)])
    assert len(errors.misplaced) >= errors.count - 2 > 8
    worst = errors.misplaced[-1]
    assert worst['img_path'] == f'image_{worst["id"]}.png'
    assert worst['error'] > errors.allowed


def people(number, seed=0):
    """Instances in an input of 512 pixels that do not touch."""
    rng = np.random.default_rng(seed)
    corners = np.stack(np.divmod(rng.permutation(9)[:number], 3), -1) * 160.
    truth = corners[:, None] + rng.uniform(15, 145, (number, 17, 2))
    return truth, rng.random((number, 17)) < .9


AE = dict(
    type='AssociativeEmbedding',
    input_size=(512, 512),
    heatmap_size=(128, 128),
    sigma=2,
    decode_center_shift=0.5,
    decode_max_instances=30,
    decode_keypoint_order=[
        0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16
    ])
BOTTOM_UP = dict(
    ae=(AE, dict(AE, heatmap_size=(512, 512))),
    small=(AE, AE),
    spr=2 * (dict(
        type='SPR',
        input_size=(512, 512),
        heatmap_size=(128, 128),
        sigma=(4, 2),
        minimal_diagonal_length=32**0.5,
        generate_keypoint_heatmaps=True,
        decode_max_instances=30), ))


@pytest.mark.parametrize('name', BOTTOM_UP)
def test_the_codecs_of_bottom_up_models(name):
    """Each instance is decoded, about where it is."""
    encoder, codec = map(KEYPOINT_CODECS.build, BOTTOM_UP[name])
    truth, visible = people(5)
    decoded = round_trip(encoder, codec, truth, visible)
    distances = np.linalg.norm(truth[:, None] - decoded, axis=-1)
    means = np.where(visible[:, None], distances,
                     0).sum(-1) / visible.sum(-1)[:, None]
    assert sorted(means.argmin(1)) == list(range(5))
    # Less than a pixel of the heatmap of 128 x 128.
    assert means.min(1).max() < 4


@pytest.mark.parametrize('codec, reason', [
    (None, 'no codec'),
    (dict(type='DecoupledHeatmap', input_size=SIZE,
          heatmap_size=(48, 64)), 'DecoupledHeatmap draws random numbers'),
    (dict(type='EDPoseLabel'), 'EDPoseLabel decodes the output'),
    (dict(
        type='Hand3DHeatmap',
        image_size=SIZE,
        root_heatmap_size=64,
        heatmap_size=(64, 64, 64)), 'Hand3DHeatmap encodes depths'),
    (dict(type='VideoPoseLifting', num_keypoints=17), 'VideoPoseLifting'),
])
def test_what_cannot_be_encoded_is_said(codec, reason):
    assert reason in why_not(codec and KEYPOINT_CODECS.build(codec))


def test_a_codec_of_the_user_is_known_by_its_base():
    assert why_not(type('Mine', (MSRAHeatmap, ), {})(**HEATMAP)) is None


def test_the_smallest_instances_may_have_no_target():
    """As with SPR, which discards them; nor what is outside of the input."""
    codec = KEYPOINT_CODECS.build(BOTTOM_UP['spr'][0])
    truth, visible = people(4)
    # Too small for a target.
    truth[0] = 400 + truth[0] / 100
    sample = TrainingSample({}, truth, visible,
                            np.tile([0., 0, 160, 160], (4, 1)),
                            np.full(4, 9000.),
                            codec.encode(truth, visible.astype(np.float32)),
                            None, None)
    tally = CodecTally(codec, codec, COCO, SIGMAS, Geometry((512, 512)), 17)
    tally.add(sample)
    *_, errors = tally.measurements()
    assert errors.count == 1 and not errors.misplaced
    tally.add(sample._replace(truth=truth + 30))
    *_, errors = tally.measurements()
    assert len(errors.misplaced) == 1


def test_what_is_outside_of_the_input_is_not_compared():
    """A heatmap is largest at the edge then."""
    codec = TOP_DOWN['msra']
    info = next(infos(1))
    info['keypoints'][0, :12] -= [0, 1.3 * np.ptp(info['bbox'][0][1::2])]
    info['keypoints'][
        0, :8, 1] = info['bbox'][0][1] - .16 * np.ptp(info['bbox'][0][1::2])
    pipeline = Compose([
        dict(type='GetBBoxCenterScale'),
        dict(type='TopdownAffine', input_size=SIZE),
        dict(type='GenerateTarget', encoder=codec),
        dict(type='PackPoseInputs')
    ])
    errors = errors_of(codec, [pipeline(info)['data_samples']])
    assert errors.count == 1 and not errors.misplaced


@pytest.mark.parametrize('name', TOP_DOWN)
def test_the_size_of_the_input_is_known(name):
    assert tuple(input_size(KEYPOINT_CODECS.build(TOP_DOWN[name]))) == SIZE


# Real runs


@pytest.fixture(scope='module')
def annotations(tmp_path_factory):
    path = tmp_path_factory.mktemp('coco') / 'people.json'
    write_coco(path)
    return path


def configured(annotations, folder, *augmentations, keypoints=False):
    """A real model and pipeline; their last steps make and pack the target."""
    cfg = topdown_cfg(
        folder,
        dict(
            log_val_images=False,
            hard_samples=0,
            log_grad_norm=False,
            log_weight_hist=False,
            log_graph=False,
            log_system=False,
            log_train_images=False,
            log_run_info=False,
            monitors=[dict(type='KeypointMonitor', enabled=keypoints)]),
        annotations)
    pipeline = cfg['train_dataloader']['dataset']['pipeline']
    pipeline[2:4] = augmentations
    return cfg, pipeline


def trained(cfg):
    runner = Runner(**cfg)
    runner.train()
    return read_run(runner.work_dir)


def test_it_is_written_at_each_validation(annotations, tmp_path):
    cfg, pipeline = configured(annotations, tmp_path)
    events = trained(cfg)
    dataset = DATASETS.build(dict(cfg['train_dataloader']['dataset']))
    oks, (by_keypoint, pck,
          _) = computed(pipeline[-2]['encoder'],
                        [data['data_samples'] for data in dataset])
    assert oks < .97
    for tag, expected in {
            'OKS': oks,
            'PCK@0.05': pck,
            'PCK@0.05/left_wrist': by_keypoint[9]
    }.items():
        written = events.Scalars(f'codec/ceiling/{tag}')
        assert [event.step for event in written] == [0, 1, 2]
        assert [event.value for event in written] == pytest.approx(
            3 * [expected], abs=1e-6)
    assert 'codec/ceiling/OKS/nose' in events.Tags()['scalars']


def test_a_training_without_validation(annotations, tmp_path):
    cfg, _ = configured(annotations, tmp_path)
    for name in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        del cfg[name]
    cfg['train_cfg'] = dict(by_epoch=True, max_epochs=4)
    written, = trained(cfg).Scalars('codec/ceiling/OKS')
    assert written.value > .8
