# Copyright (c) OpenMMLab. All rights reserved.
import random

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import InstanceData, PixelData
from noisy_poses import (HEIGHT, WIDTH, NoisyPoses, OutputWitness,
                         PaintedImages, comparable, keypoint_scalars, person,
                         pictures, runner_cfg, topdown_cfg, warnings_of,
                         write_coco)
from run_logs import read_run

from mmpose.codecs import (SPR, IntegralRegressionLabel, MegviiHeatmap,
                           MSRAHeatmap, SimCCLabel, UDPHeatmap)
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.engine.monitors.poses.pictures import sample_pictures
from mmpose.engine.monitors.poses.pictures.heatmaps import (largest,
                                                            read_heatmap)
from mmpose.engine.monitors.poses.pictures.model_inputs import (ModelInput,
                                                                VisibleInput)
from mmpose.engine.monitors.poses.pictures.panels import PANEL_HEIGHT
from mmpose.engine.monitors.poses.pictures.sample_pictures import \
    SamplePictures
from mmpose.engine.monitors.poses.pictures.scenes import sample_scene
from mmpose.engine.monitors.poses.pose_samples import (PoseSample,
                                                       PoseSampleReader)
from mmpose.registry import HOOKS
from mmpose.structures import PoseDataSample
from mmpose.utils import register_all_modules

register_all_modules()
ALONE = dict(log_keypoints=False, hard_samples=0, val_loss_samples=0)


@pytest.fixture(scope='module')
def ann_file(tmp_path_factory):
    path = tmp_path_factory.mktemp('data') / 'annotations.json'
    write_coco(path)
    return path


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn, and what came of its tensors."""
    calls = []
    draw = SamplePictures.draw

    def remember(self, scene, arrays):
        calls.append((scene, arrays))
        return draw(self, scene, arrays)

    monkeypatch.setattr(SamplePictures, 'draw', remember)
    return calls


@pytest.fixture
def composed(monkeypatch):
    """Of each picture its panels, its caption and its name."""
    calls = []
    compose = sample_pictures.compose

    def remember(panels, caption, name):
        calls.append((dict(panels), caption, name))
        return compose(panels, caption, name)

    monkeypatch.setattr(sample_pictures, 'compose', remember)
    return calls


# Which samples


def index_of(scene):
    """Which of :func:`noisy_poses.person` a scene is of."""
    return int(scene.name.split('id ')[1])


def test_the_same_samples_in_every_validation(ann_file, tmp_path, drawn):
    """Of batches 1, 2 and 4 of five, one or two samples in each."""
    cfg = topdown_cfg(tmp_path,
                      dict(val_image_interval=2, max_val_images=3, **ALONE),
                      ann_file)
    cfg['custom_hooks'].append(dict(type='OutputWitness', priority='LOWEST'))
    runner = Runner(**cfg)
    runner.train()
    images = pictures(read_run(tmp_path), 'val/images')
    assert list(images) == [1, 2]
    assert [len(of_step) for of_step in images.values()] == [3, 3]
    outputs = runner.hooks[-1].outputs
    for (scene, _), index, epoch in zip(drawn, [0, 2, 6] * 2,
                                        [0] * 3 + [9] * 3):
        known = person(index)
        assert index_of(scene) == index
        assert scene.name.startswith(f'image_{1 + index * 3 // 4}.png  id ')
        output = outputs[epoch + index]
        # As MMPose converts back what is predicted in an input.
        for points, expected in ((scene.truth, known.truth),
                                 (scene.predicted,
                                  output.pred_instances.keypoints[0])):
            in_image = points[0] / (64, 96) * output.input_scale
            in_image += output.input_center - 0.5 * output.input_scale
            np.testing.assert_allclose(
                in_image[known.visible], expected[known.visible], rtol=1e-4)
        errors = np.linalg.norm(
            known.truth - output.pred_instances.keypoints[0],
            axis=-1)[known.visible]
        size = (known.box[2:] - known.box[:2]).max()
        assert scene.caption == (f'error {errors.mean() / size:.3f} of the '
                                 f'box, {errors.mean():.1f} px of the image')
    # The model has learnt in between.
    assert (images[1][0] != images[2][0]).any()


@pytest.mark.parametrize('interval, count, expected', [
    (3, 2, [0, 4]),
    (3, 3, [0, 2, 4]),
    (1, 2, [0, 4]),
    (2, 7, [0, 1, 2, 3, 4, 5, 6]),
])
def test_spread_over_the_whole_validation(tmp_path, drawn, interval, count,
                                          expected):
    """Not the first batch alone where few are due."""
    cfg = runner_cfg(
        tmp_path,
        dict(val_image_interval=interval, max_val_images=count, **ALONE))
    Runner(**cfg).val()
    found = [int(scene.name[6]) for scene, _ in drawn]
    assert len(found) == count and found == sorted(set(found))
    assert np.abs(np.subtract(found, expected)).max() <= 1


def test_more_than_one_of_a_batch(tmp_path, drawn):
    cfg = runner_cfg(tmp_path, dict(max_val_images=3, **ALONE))
    cfg['val_dataloader']['batch_size'] = 6
    Runner(**cfg).val()
    # Two of the first batch of six, spread over it, one of the second.
    assert [scene.name.split()[0] for scene, _ in drawn
            ] == ['image_0.png', 'image_3.png', 'image_6.png']


@pytest.mark.parametrize('never', [
    dict(val_image_interval=0),
    dict(max_val_images=0),
    dict(log_val_images=False),
])
def test_none_at_all(tmp_path, never):
    Runner(**runner_cfg(tmp_path, dict(ALONE, **never))).val()
    assert not pictures(read_run(tmp_path), 'val/images')


def test_the_steps_of_iteration_based_training(tmp_path):
    """P5."""
    cfg = runner_cfg(
        tmp_path,
        dict(max_val_images=1, hard_samples=1),
        train_cfg=dict(by_epoch=False, max_iters=4, val_interval=2),
        log_processor=dict(by_epoch=False))
    Runner(**cfg).train()
    events = read_run(tmp_path)
    for tag in ('val/images', 'val/hard_samples', 'keypoints/accuracy'):
        assert list(pictures(events, tag)) == [2, 4]
    assert {step for _, step in keypoint_scalars(events)} == {2, 4}


# What is seen in them


def sample_with(keypoints, box):
    keypoints = np.array([keypoints], np.float32)
    return PoseSample('image.png', keypoints, np.ones(keypoints.shape[:2],
                                                      bool),
                      np.array([box], np.float32), np.ones(1), keypoints + 1,
                      np.ones(keypoints.shape[:2]))


def nobody_in(box=None):
    return PoseSample('image.png', np.zeros((0, 2, 2)), np.zeros((0, 2), bool),
                      np.zeros((0, 4)), np.zeros(0),
                      np.array([[[20, 30], [1e30, 50]]]), np.ones((1, 2)))


def seen(image):
    pixels = np.moveaxis(image, -1, 0)
    return VisibleInput(pixels, pixels, np.zeros(()))


def scene_of(sample,
             image=None,
             origin=(0, 0),
             scale=(1, 1),
             shape=None,
             **kwargs):
    if image is None:
        image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    given = ModelInput(None,
                       dict(ori_shape=shape) if shape else {}, 'image.png',
                       np.array(origin), np.array(scale))
    sample = sample._replace(meta=kwargs.pop('meta', {}))
    return sample_scene(sample, given, seen(image), **kwargs)


def draw(scene, heatmap=()):
    return SamplePictures(0.3).draw(scene, [*scene.seen, *heatmap])


def test_an_instance_is_cut_out_with_a_margin():
    """The box, and a keypoint outside of it."""
    sample = sample_with([[20, 20], [44, 30]], [10, 15, 40, 45])
    expected = np.array(
        [10 - 0.15 * 34, 15 - 0.15 * 34, 44 + 0.15 * 34, 45 + 0.15 * 34])
    assert scene_of(sample).box == pytest.approx(expected)
    # In the pixels of the input.
    scene = scene_of(sample, origin=(5, 3), scale=(2, 2))
    assert scene.box == pytest.approx((expected - (5, 3, 5, 3)) * 2)
    np.testing.assert_allclose(scene.truth, (sample.truth - (5, 3)) * 2)
    picture = draw(scene)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3


def test_nothing_around_the_image_is_shown():
    """A box at its border: the input is black there, and half of a panel."""
    sample = sample_with([[20, 20], [44, 30]], [1, 2, 47, 40])
    around = np.array([-5.9, -4.9, 53.9, 46.9])
    assert scene_of(sample).box == pytest.approx(around)
    scene = scene_of(sample, origin=(5, 3), scale=(2, 2), shape=(42, 50))
    assert scene.box == pytest.approx(
        (np.array([0, 0, 50, 42]) - (5, 3, 5, 3)) * 2)
    # A box outside of the image is shown where it is.
    assert scene_of(
        sample_with([[20, 20]], [-90, -90, -80, -80])._replace(
            visible=np.zeros((1, 1), bool)),
        shape=(42, 50)).box[0] < -90


def test_the_whole_input_for_bottom_up_models():
    sample = sample_with([[20, 20], [44, 30]], [10, 15, 40, 45])
    assert scene_of(sample, whole=True).box is None


def test_one_of_several_instances_is_cut_out():
    """So it is seen which a hard sample is about."""
    one = sample_with([[20, 20]], [10, 15, 40, 45])
    other = sample_with([[70, 20]], [60, 15, 80, 25])
    both = PoseSample(
        'image.png',
        *(np.concatenate(pair) for pair in zip(one[1:7], other[1:7])))
    scene = scene_of(both, whole=True, instance=1)
    assert scene.box == pytest.approx([57, 12, 83, 28])
    assert scene_of(both).box == pytest.approx([-0.5, 4.5, 90.5, 55.5])
    # Others may be in that part: its box is marked, in yellow.
    yellow = [
        ((picture[..., :2] > 200).all(-1) & (picture[..., 2] < 60)).sum()
        for picture in map(draw, (scene, scene._replace(marked=None)))
    ]
    assert yellow[0] > 300 + yellow[1]
    assert scene_of(one, instance=0).marked is None


@pytest.mark.parametrize('box, visible', [
    ([np.nan] * 4, True),
    ([np.nan] * 4, False),
    ([0, 0, 0, 0], False),
    ([-1e9, -1e9, 1e9, 1e9], True),
])
def test_odd_boxes_are_drawn_all_the_same(box, visible):
    sample = sample_with([[20, 20]], box)
    sample.visible[:] = visible
    assert draw(scene_of(sample)).shape[2] == 3


def test_a_false_positive_is_called_one(composed):
    """And cut out by the detector's box, not by what is predicted in it."""
    scene = scene_of(nobody_in(), detected=np.array([[30., 20, 60, 50]]))
    assert scene.box == pytest.approx([25.5, 15.5, 64.5, 54.5])
    draw(scene)
    panels, caption, _ = composed[0]
    assert 'false positive' in caption
    assert list(panels) == ['prediction, 2 of 2']


@pytest.mark.parametrize('count, ignored, words', [
    (0, False, 'nothing is predicted'),
    (1, False, 'a false positive'),
    (2, False, 'false positives'),
    (1, True, 'a crowd, or no annotated keypoints'),
])
def test_what_is_predicted_without_ground_truth(count, ignored, words):
    sample = nobody_in()
    sample = sample._replace(
        predicted=sample.predicted.repeat(count, 0),
        scores=sample.scores.repeat(count, 0))
    caption = scene_of(sample, whole=True, ignored=ignored).caption
    assert caption.endswith(words)
    assert ('false' in caption) == (count > 0 and not ignored)


def test_that_nothing_is_predicted_is_said():
    """Defect: the caption was empty."""
    sample = sample_with([[20, 20], [44, 30]], [10, 15, 40, 45])
    sample = sample._replace(
        predicted=sample.predicted[:0], scores=sample.scores[:0])
    assert scene_of(sample, whole=True).caption == 'nothing is predicted'


def test_an_instance_without_keypoints_is_said(composed):
    sample = sample_with([[20, 20], [44, 30]], [10, 15, 40, 45])
    sample.visible[:] = False
    draw(scene_of(sample, ignored=True))
    panels, caption, _ = composed[0]
    assert 'no annotated keypoints' in caption and 'GT' in panels


def test_a_box_without_a_size_is_no_measure():
    """Defect: 'error 7071067.812 of the box'."""
    scene = scene_of(sample_with([[20, 20], [44, 30]], [10, 15, 10, 15]))
    assert scene.caption == 'error 1.4 px of the image'


def test_low_scoring_keypoints_are_counted_not_left_out(composed):
    """An untrained model had an empty panel."""
    sample = sample_with([[20, 20], [44, 30]], [10, 15, 40, 45])
    sample = sample._replace(scores=np.array([[0.1, 0.2]]))
    draw(scene_of(sample))
    panels, _, _ = composed[0]
    assert list(panels) == ['GT', 'prediction, 0 of 2']
    assert (panels['prediction, 0 of 2'] != 128).any()


@pytest.mark.parametrize('light', [0.02, 1])
def test_a_dark_image_is_stretched_and_says_so(composed, light):
    image = np.random.default_rng(0).uniform(0, 255 * light,
                                             (HEIGHT, WIDTH, 3))
    scene = scene_of(
        sample_with([[20, 20]], [10, 15, 40, 45]), image.astype(np.uint8))
    stretched = (image / light).astype(np.uint8)
    scene = scene._replace(
        seen=scene.seen._replace(stretched=np.moveaxis(stretched, -1, 0)))
    draw(scene)
    titles = list(composed[0][0])
    if light == 1:
        assert titles == ['GT', 'prediction, 1 of 1']
    else:
        assert titles == [
            'input, very dark', 'GT, stretched', 'prediction, 1 of 1'
        ]


def whole_body():
    """133 keypoints: a body, and a left hand that is predicted worst."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(10, 60, (133, 2))
    truth[91:112] = rng.uniform((70, 20), (80, 30), (21, 2))
    sample = sample_with(truth, [5, 5, 85, 65])
    predicted = truth[None] + 0.5
    predicted[0, 91:112] += 4
    return sample._replace(predicted=predicted)


def test_the_worst_part_of_a_whole_body_has_a_panel(composed):
    meta = parse_pose_metainfo(
        dict(from_file='configs/_base_/datasets/coco_wholebody.py'))
    draw(scene_of(whole_body(), meta=meta))
    title = list(composed[0][0])[-1]
    assert title.startswith('worst: ') and 'left' in title and 'hand' in title


def test_what_is_nearly_all_there_is_has_no_panel_of_its_own(composed):
    """A body that is worst itself, or a garment, was shown twice."""
    sample = whole_body()
    sample.predicted[0, :17] += 40
    sample.visible[0, 17:] = False
    meta = parse_pose_metainfo(
        dict(from_file='configs/_base_/datasets/coco_wholebody.py'))
    draw(scene_of(sample, meta=meta))
    assert [title.split(',')[0]
            for title in composed[0][0]] == ['GT', 'prediction']


def test_keypoints_that_cannot_be_compared_have_no_error(composed):
    """Several data sets without a converter: 14 beside 17."""
    sample = sample_with(np.full((14, 2), 20), [10, 15, 40, 45])
    sample = sample._replace(
        predicted=np.full((1, 17, 2), 25.), scores=np.ones((1, 17)))
    scene = scene_of(sample)
    draw(scene)
    assert scene.caption == ''
    assert list(composed[0][0]) == ['GT', 'prediction, 17 of 17']


# Heatmaps


@pytest.mark.parametrize('codec, expected', [
    (MSRAHeatmap(input_size=(48, 64), heatmap_size=(12, 16),
                 sigma=1), 'heatmap, peak 0.5'),
    (MegviiHeatmap(input_size=(48, 64), heatmap_size=(12, 16),
                   kernel_size=5), 'heatmap, peak 0.002'),
    (IntegralRegressionLabel(
        input_size=(48, 64), heatmap_size=(12, 16),
        sigma=1), 'heatmap, scaled to 0.5'),
    (SimCCLabel(input_size=(48, 64)), 'heatmap, scaled to 0.5'),
])
def test_the_scale_of_a_heatmap_is_said(composed, codec, expected):
    """That of the target, or its own after a softmax."""
    result = PoseDataSample(metainfo=dict(input_size=(48, 64)))
    heatmaps = torch.zeros(17, 16, 12)
    heatmaps[3, 5, 2] = 0.5
    result.pred_fields = PixelData(heatmaps=heatmaps)
    heatmap = read_heatmap(result, codec)
    scene = scene_of(
        sample_with([[20, 20]], [10, 15, 40, 45]), heatmap=heatmap)
    draw(scene, [tensor.numpy() for tensor in heatmap.tensors])
    panels, _, _ = composed[0]
    assert list(panels)[-1] == expected
    bright = panels[expected].max() > 200
    assert bright == ('scaled' in expected)


@pytest.mark.parametrize('kind', ['keypoints', 'centres'])
def test_the_centre_map_of_dekr_is_no_keypoint(kind):
    codec = SPR(
        input_size=(48, 64),
        heatmap_size=(12, 16),
        sigma=(4, 2),
        generate_keypoint_heatmaps=True)
    heatmaps = torch.rand(18 if kind == 'keypoints' else 1, 16, 12)
    heatmaps[-1] += 5
    result = PoseDataSample(metainfo=dict(input_size=(48, 64)))
    result.pred_fields = PixelData(heatmaps=heatmaps)
    heatmap = read_heatmap(result, codec)
    if kind == 'centres':
        assert heatmap is None
    else:
        assert torch.equal(heatmap.tensors[0], heatmaps[:-1].amax(0))


@pytest.mark.parametrize(
    'codec', [
        MSRAHeatmap(input_size=(48, 64), heatmap_size=(12, 16), sigma=1),
        UDPHeatmap(input_size=(48, 64), heatmap_size=(12, 16), sigma=1),
        SimCCLabel(input_size=(48, 64), sigma=4., simcc_split_ratio=2.0),
        None,
    ],
    ids=lambda codec: type(codec).__name__)
def test_where_a_heatmap_lies(codec):
    """Its peak is where the keypoint was encoded, in the input."""
    point = np.array([43., 59.])
    keypoints, visible = point.reshape(1, 1, 2), np.ones((1, 1))
    encoded = codec and codec.encode(keypoints.copy(), visible)
    if codec is None:  # Made as large as the input, as in bottom-up models.
        heatmap = np.zeros((64, 48))
        heatmap[59, 43] = 1
    elif isinstance(codec, SimCCLabel):
        heatmap = np.outer(encoded['keypoint_y_labels'][0, 0],
                           encoded['keypoint_x_labels'][0, 0])
    else:
        heatmap = encoded['heatmaps'][0]
    sample = PoseDataSample(metainfo=dict(input_size=(48, 64)))
    sample.pred_fields = PixelData(heatmaps=torch.from_numpy(heatmap)[None])
    read = read_heatmap(sample, codec)
    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
    off = np.abs(np.array([x, y]) * read.stride - point)
    assert (off <= read.stride / 2 + 1e-6).all()
    assert read.size.tolist() == list(heatmap.shape[::-1])


def test_the_heatmap_is_the_largest_over_all_keypoints():
    heatmaps = torch.rand(5, 4, 3)
    sample = PoseDataSample()
    assert read_heatmap(sample) is None
    sample.pred_fields = PixelData(heatmaps=heatmaps)
    assert torch.equal(read_heatmap(sample).tensors[0], heatmaps.amax(0))
    # Vectors that it is not made of are something else.
    sample.pred_instances = InstanceData(
        keypoint_x_labels=np.zeros((1, 5, 6)),
        keypoint_y_labels=np.zeros((1, 5, 8)))
    assert torch.equal(read_heatmap(sample).tensors[0], heatmaps.amax(0))


@pytest.mark.parametrize('value', [0.5, -0.5, np.nan])
def test_the_heatmap_of_vectors_for_each_axis(value):
    """Of one instance's three keypoints."""
    x = np.full((3, 4), value, np.float32)
    y = np.random.rand(3, 5).astype(np.float32)
    heatmaps = torch.from_numpy(y[:, :, None] * x[:, None])
    sample = PoseDataSample()
    sample.pred_fields = PixelData(heatmaps=heatmaps)
    sample.pred_instances = InstanceData(
        keypoint_x_labels=x[None], keypoint_y_labels=y[None])
    heatmap = read_heatmap(sample)
    arrays = [tensor.numpy() for tensor in heatmap.tensors]
    for array, source in zip(arrays, (y, x)):
        assert not np.shares_memory(array, source), 'it keeps a whole batch'
    np.testing.assert_array_equal(largest(arrays), heatmaps.amax(0))


def test_heatmaps_of_a_real_model_peak_at_its_predictions(
        ann_file, tmp_path, drawn):
    cfg = topdown_cfg(tmp_path, dict(max_val_images=9, **ALONE), ann_file)
    Runner(**cfg).val()
    assert len(drawn) == 9
    for scene, arrays in drawn:
        best = scene.predicted[0, scene.scores[0].argmax()]
        heatmap = largest(arrays[3:])
        y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
        found = np.array([x, y]) * scene.heatmap.stride
        assert (np.abs(found - best) <= scene.heatmap.stride / 2 + 1e-3).all()


# On what the model was given


def test_the_input_is_that_of_the_model(ann_file, tmp_path, drawn):
    """What came out of the data preprocessor in this very validation."""
    given = []

    @HOOKS.register_module(force=True)
    class Inputs(Hook):

        def before_val(self, runner):
            runner.model.backbone.register_forward_pre_hook(
                lambda module, args: given.extend(args[0].clone()))

    cfg = topdown_cfg(tmp_path, dict(max_val_images=9, **ALONE), ann_file)
    cfg['custom_hooks'].append(dict(type='Inputs'))
    cfg['model']['test_cfg']['flip_test'] = False
    Runner(**cfg).val()
    mean, std = (
        torch.tensor(c).view(3, 1, 1)
        for c in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))
    assert len(drawn) == len(given) == 9
    for (_, arrays), values in zip(drawn, given):
        expected = (values * std + mean).round().clamp(0, 255).numpy()
        assert np.abs(arrays[0] - expected).max() <= 1


@pytest.mark.parametrize('mistake', [
    dict(bgr_to_rgb=False),
    dict(mean=[0.] * 3),
    dict(std=[1.] * 3),
])
def test_a_wrong_preprocessor_is_seen(ann_file, tmp_path, drawn, mistake):
    """P8: a validation that prepares its input differently."""
    shown = []
    for name, change in (('right', {}), ('wrong', mistake)):
        cfg = topdown_cfg(tmp_path / name, dict(max_val_images=1, **ALONE),
                          ann_file)
        cfg['model']['data_preprocessor'].update(
            mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
        cfg['model']['data_preprocessor'].update(change)
        Runner(**cfg).val()
        shown.append(drawn[-1][1][0].astype(int))
    assert np.abs(shown[0] - shown[1]).mean() > 4


@pytest.mark.parametrize('mistake', [dict(padding=2.5), dict(padding=1.)])
def test_a_validation_that_cuts_out_otherwise_is_seen(ann_file, tmp_path,
                                                      drawn, mistake):
    """P8: 'validation prepares its input differently: compare the inputs'."""
    scenes = []
    for name, change in (('right', {}), ('wrong', mistake)):
        cfg = topdown_cfg(tmp_path / name, dict(max_val_images=1, **ALONE),
                          ann_file)
        centre, = (
            t for t in cfg['val_dataloader']['dataset']['pipeline']
            if t['type'] == 'GetBBoxCenterScale')
        centre.update(change)
        Runner(**cfg).val()
        scenes.append((drawn[-1][0], drawn[-1][1][0].astype(int)))
    (right, image), (wrong, other) = scenes
    assert np.abs(image - other).mean() > 4
    # The instance is another part of the input.
    expected = 1.25 / mistake['padding']
    size = [np.ptp(s.truth[s.visible], axis=0) for s in (right, wrong)]
    np.testing.assert_allclose(size[1] / size[0], expected, rtol=0.05)


@pytest.mark.parametrize('transform', [
    dict(type='LoadImage', color_type='grayscale'),
    dict(type='LoadImage', to_float32=True),
])
def test_images_are_seen_as_the_pipeline_loads_them(ann_file, tmp_path, drawn,
                                                    transform):
    """It needs no file either: LMDB, HDF5, frames of a video."""
    cfg = topdown_cfg(tmp_path, dict(max_val_images=2, **ALONE), ann_file)
    pipeline = cfg['val_dataloader']['dataset']['pipeline']
    pipeline[0] = dict(transform, backend_args=dict(backend='painted'))
    if 'color_type' in transform:
        cfg['model']['data_preprocessor'] = dict(type='PoseDataPreprocessor')
        cfg['model']['backbone']['in_channels'] = 1
    Runner(**cfg).val()
    assert len(drawn) == 2
    for _, arrays in drawn:
        assert arrays[0].std() > 5 or arrays[1].std() > 5


@pytest.mark.parametrize('backend_args', [None, dict(backend='painted')])
def test_backend_args_are_accepted_and_nothing_is_loaded(
        tmp_path, monkeypatch, backend_args):
    cfg = runner_cfg(tmp_path, dict(ALONE, backend_args=backend_args))
    runner = Runner(**cfg)
    dataset = NoisyPoses()
    batch = [dataset[i] for i in range(7)]
    monkeypatch.setattr(NoisyPoses, '__getitem__',
                        lambda self, index: batch[index])

    def fail(self, filepath):
        raise AssertionError('loads an image')

    monkeypatch.setattr(PaintedImages, 'get', fail)
    runner.val()
    shown = pictures(read_run(tmp_path), 'val/images')[0]
    assert len(shown) == 7
    # They are really there, under the lines. The panel of the input is white.
    expected = batch[0]['inputs'].numpy().std()
    width = shown[0].shape[1]
    panel = shown[0][-PANEL_HEIGHT // 2:, width // 3:]
    assert expected / 2 < panel.std() < expected * 2


def test_samples_without_a_file_name(tmp_path):
    cfg = runner_cfg(tmp_path, ALONE, dataset=dict(name=''))
    Runner(**cfg).train()
    shown = pictures(read_run(tmp_path), 'val/images')
    assert [len(of_step) for of_step in shown.values()] == [7, 7]
    assert not warnings_of(tmp_path)


# Promises


def test_a_sample_that_cannot_be_read_costs_one_warning(
        ann_file, tmp_path, monkeypatch, drawn):
    """P2: another is shown, and the others keep their own heatmaps."""
    read = PoseSampleReader.read

    def fail(self, sample):
        if sample.id == 2:
            raise RuntimeError('broken on purpose')
        return read(self, sample)

    monkeypatch.setattr(PoseSampleReader, 'read', fail)
    cfg = topdown_cfg(tmp_path, dict(max_val_images=5, strict=False, **ALONE),
                      ann_file)
    cfg['custom_hooks'].append(dict(type='OutputWitness', priority='LOWEST'))
    runner = Runner(**cfg)
    runner.train()
    warning, = warnings_of(tmp_path)
    assert 'ValImageMonitor failed' in warning
    assert 'broken on purpose' in warning
    assert runner.epoch == 2
    images = pictures(read_run(tmp_path), 'val/images')
    assert [len(of_step) for of_step in images.values()] == [5, 5]
    outputs = runner.hooks[-1].outputs[:9]
    for (scene, arrays), index in zip(drawn, [0, 3, 4, 6, 8]):
        assert index_of(scene) == index
        expected = outputs[index].pred_fields.heatmaps.amax(0)
        np.testing.assert_array_equal(arrays[3], expected)


def test_a_monitor_that_cannot_begin_costs_one_warning(tmp_path, monkeypatch):
    """P2: and no second one about what it then lacks."""

    def fail(self, *args, **kwargs):
        raise RuntimeError('broken on purpose')

    monkeypatch.setattr(SamplePictures, '__init__', fail)
    runner = Runner(**runner_cfg(tmp_path, dict(strict=False, **ALONE)))
    runner.train()
    assert runner.epoch == 2
    warning, = warnings_of(tmp_path)
    assert 'broken on purpose' in warning and 'ValImageMonitor' in warning


def test_what_serves_every_validation_is_made_once(tmp_path, monkeypatch):
    made = []
    init = SamplePictures.__init__

    def count(self, *args, **kwargs):
        made.append(self)
        init(self, *args, **kwargs)

    monkeypatch.setattr(SamplePictures, '__init__', count)
    Runner(**runner_cfg(tmp_path, dict(max_val_images=1, **ALONE))).train()
    assert len(made) == 1


@HOOKS.register_module(force=True)
class Drawing(Hook):
    """Draws a number before each validation batch, as a user's code may."""

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        torch.rand(1), np.random.rand(), random.random()


def state_after(cfg, train):
    runner = Runner(**cfg)
    metrics = None
    if train:
        runner.train()
    else:
        metrics = runner.val()
    witnesses = [h for h in runner.hooks if isinstance(h, OutputWitness)]
    optimizer = runner.optim_wrapper.state_dict() if train else None
    return witnesses, comparable([
        runner.model.state_dict(), optimizer,
        [module.training for module in runner.model.modules()],
        torch.get_rng_state(),
        np.random.get_state(),
        random.getstate(), metrics, witnesses[-1].seen
    ])


@pytest.mark.parametrize('train', [True, False], ids=['train', 'val'])
def test_everything_at_every_batch_changes_nothing(ann_file, tmp_path, train):
    """P1, also in a validation alone."""
    everything = dict(
        log_train_images=True,
        grad_norm_interval=1,
        train_image_interval=1,
        max_val_images=100,
        hard_samples=5)
    states = []
    for name in ('without', 'with'):
        cfg = topdown_cfg(tmp_path / name, everything, ann_file)
        if name == 'without':
            cfg['custom_hooks'] = []
        cfg['custom_hooks'] += [
            dict(type='Drawing'),
            # Before the hook and after it.
            dict(type='OutputWitness', priority='LOW'),
            dict(type='OutputWitness', priority='LOWEST')
        ]
        (before, after), state = state_after(cfg, train)
        assert before.seen == after.seen and len(after.seen) >= 5
        states.append(state)
    assert states[0] == states[1]
    events = read_run(tmp_path / 'with')
    assert len(pictures(events, 'val/images')[2 * train]) == 9
    assert len(pictures(events, 'val/hard_samples')[2 * train]) == 5
    assert not train or pictures(events, 'train/images')
