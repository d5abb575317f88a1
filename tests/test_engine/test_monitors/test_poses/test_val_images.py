# Copyright (c) OpenMMLab. All rights reserved.
import random

import cv2
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

from mmpose.codecs import MSRAHeatmap, SimCCLabel, UDPHeatmap
from mmpose.engine.monitors import ImageLoader
from mmpose.engine.monitors.poses import sample_pictures
from mmpose.engine.monitors.poses.heatmaps import (HeatmapPlace, heatmap_of,
                                                   heatmap_place)
from mmpose.engine.monitors.poses.pose_pictures import PANEL_HEIGHT
from mmpose.engine.monitors.poses.pose_samples import (PoseSample,
                                                       PoseSampleReader)
from mmpose.engine.monitors.poses.sample_pictures import SamplePictures
from mmpose.engine.monitors.poses.val_images import _spread
from mmpose.registry import HOOKS
from mmpose.structures import PoseDataSample
from mmpose.utils import register_all_modules

register_all_modules()
ALONE = dict(log_keypoints=False, hard_samples=0)


@pytest.fixture(scope='module')
def ann_file(tmp_path_factory):
    path = tmp_path_factory.mktemp('data') / 'annotations.json'
    write_coco(path)
    return path


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn: the sample, the caption, the heatmap and its place."""
    calls = []
    draw = SamplePictures.draw

    def remember(self, *args, **kwargs):
        calls.append(args)
        return draw(self, *args, **kwargs)

    monkeypatch.setattr(SamplePictures, 'draw', remember)
    return calls


# Which samples


@pytest.mark.parametrize('batches', [[], [0], [0, 9, 19],
                                     list(range(7)),
                                     list(range(40))])
@pytest.mark.parametrize('count', [0, 1, 3, 8])
def test_samples_are_spread_over_the_batches(batches, count):
    takes = _spread(batches, count)
    assert list(takes) == batches
    assert sum(takes.values()) == (count if batches else 0)
    if batches:
        assert max(takes.values()) - min(takes.values()) <= 1
        # The first batch first, and no gap is longer than need be.
        taken = [i for i, batch in enumerate(batches) if takes[batch]]
        assert not count or taken[0] == 0
        if 0 < count < len(batches):
            gaps = np.diff([*taken, len(batches)])
            assert gaps.max() <= -(-len(batches) // count)


def test_the_same_samples_in_every_validation(ann_file, tmp_path, drawn):
    """Of batches 1, 2 and 4 of five, two samples in each."""
    cfg = topdown_cfg(tmp_path,
                      dict(val_image_interval=2, max_val_images=3, **ALONE),
                      ann_file)
    runner = Runner(**cfg)
    runner.train()
    images = pictures(read_run(tmp_path), 'val/images')
    assert list(images) == [1, 2]
    assert [len(of_step) for of_step in images.values()] == [3, 3]
    # Annotated, predicted, heatmap.
    assert all(image.shape[1] > 3 * image.shape[0] / 2
               for image in images[1]), images[1][0].shape
    for (sample, caption, heatmap, _), index in zip(drawn, [0, 2, 6] * 2):
        known = person(index)
        np.testing.assert_allclose(sample.truth[0][known.visible],
                                   known.truth[known.visible])
        errors = np.linalg.norm(sample.truth - sample.predicted, axis=-1)
        assert caption == f'error {errors[sample.visible].mean():.1f} px'
        assert sample.img_path.endswith(f'image_{1 + index * 3 // 4}.png')
        assert heatmap.shape == (24, 16)
    # The model has learnt in between.
    assert (images[1][0] != images[2][0]).any()


def test_more_than_one_of_a_batch(tmp_path, drawn):
    cfg = runner_cfg(tmp_path,
                     dict(val_image_interval=3, max_val_images=3, **ALONE))
    Runner(**cfg).val()
    # Two of the first batch of four, one of the third.
    assert [call[0].img_path for call in drawn
            ] == ['image_0.png', 'image_1.png', 'image_4.png']


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


def sample_with(keypoints, box, img_path='image.png'):
    keypoints = np.array([keypoints], np.float32)
    return PoseSample(img_path, keypoints, np.ones(keypoints.shape[:2], bool),
                      np.array([box], np.float32), np.ones(1), keypoints + 1,
                      np.ones(keypoints.shape[:2]))


@pytest.fixture
def viewed(monkeypatch):
    """The boxes that were cut out."""
    boxes = []

    def remember(image, box, width):
        boxes.append(np.array(box))
        return view(image, box, width)

    view = sample_pictures.view
    monkeypatch.setattr(sample_pictures, 'view', remember)
    return boxes


def painter(whole=False, meta=None, backend_args=dict(backend='painted')):
    dataset = NoisyPoses(1, {} if meta is None else meta)
    return SamplePictures(dataset, ImageLoader(backend_args), 0.3, whole)


def test_a_person_is_cut_out_with_a_margin(viewed):
    """The box, and a keypoint outside of it."""
    picture = painter().draw(
        sample_with([[20, 20], [44, 30]], [10, 15, 40, 45]), 'caption')
    assert viewed[0] == pytest.approx(
        [10 - 0.15 * 34, 15 - 0.15 * 34, 44 + 0.15 * 34, 45 + 0.15 * 34])
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    assert picture.shape[1] < 2 * PANEL_HEIGHT


def test_the_whole_image_for_bottom_up_models(viewed):
    sample = sample_with([[20, 20], [44, 30]], [10, 15, 40, 45])
    picture = painter(whole=True).draw(sample, 'caption')
    assert viewed[0].tolist() == [0, 0, WIDTH, HEIGHT]
    assert picture.shape[1] > 2 * PANEL_HEIGHT


def test_one_of_several_people_is_cut_out(viewed):
    """So it is seen whom a hard sample is about."""
    one = sample_with([[20, 20]], [10, 15, 40, 45])
    other = sample_with([[70, 20]], [60, 15, 80, 25])
    both = PoseSample(
        'image.png',
        *(np.concatenate(pair) for pair in zip(one[1:7], other[1:7])))
    painter(whole=True).draw(both, 'caption', person=1)
    assert viewed[0] == pytest.approx([57, 12, 83, 28])
    painter().draw(both, 'caption')
    assert viewed[1] == pytest.approx([-0.5, 4.5, 90.5, 55.5])


@pytest.mark.parametrize('box, visible', [
    ([np.nan] * 4, True),
    ([np.nan] * 4, False),
    ([0, 0, 0, 0], False),
    ([-1e9, -1e9, 1e9, 1e9], True),
])
def test_odd_boxes_are_drawn_all_the_same(viewed, box, visible):
    sample = sample_with([[20, 20]], box)
    sample.visible[:] = visible
    assert painter().draw(sample, 'caption') is not None
    assert np.abs(viewed[0]).max() < 10 * WIDTH


def test_a_prediction_that_nobody_is_annotated_for(viewed):
    """An untrained model may say anything."""
    sample = PoseSample('image.png', np.zeros((0, 2, 2)), np.zeros((0, 2),
                                                                   bool),
                        np.zeros((0, 4)), np.zeros(0),
                        np.array([[[20, 30], [1e30, 50]]]), np.ones((1, 2)))
    assert painter().draw(sample, 'caption') is not None
    assert np.abs(viewed[0]).max() < 10 * WIDTH


def panels(picture, count):
    width = (picture.shape[1] + 8) // count
    return [
        picture[-PANEL_HEIGHT:, i * width:(i + 1) * width - 8].astype(int)
        for i in range(count)
    ]


def centre(weights):
    rows, columns = np.indices(weights.shape)
    total = weights.sum()
    return np.array([(columns * weights).sum(),
                     (rows * weights).sum()]) / total


@pytest.mark.parametrize('point', [(24, 33), (41, 12), (18, 19)])
def test_the_heatmap_lies_over_the_keypoint(point):
    """A heatmap with one peak, and a model that says where it is."""
    x, y = 2, 5
    heatmap = np.zeros((16, 12), np.float32)
    heatmap[y, x] = 1
    stride = np.array([3.5, 3.5])
    place = HeatmapPlace(stride, np.array(point) - stride * (x, y))
    sample = sample_with([[60, 60]], [10, 5, 50, 45])
    sample = sample._replace(predicted=np.array([[point]], np.float32))
    picture = painter(meta=dict(
        keypoint_colors=[[255, 0, 255]])).draw(sample, 'caption', heatmap,
                                               place)
    _, predicted, heat = panels(picture, 3)
    magenta = (predicted[..., 0] > 230) & (predicted[..., 1] < 40)
    assert magenta.sum() > 50
    red = np.maximum(heat[..., 0] - heat[..., 2] - 60, 0)
    assert np.abs(centre(magenta) - centre(red)).max() < 3


@pytest.mark.parametrize(
    'codec', [
        MSRAHeatmap(input_size=(48, 64), heatmap_size=(12, 16), sigma=1),
        UDPHeatmap(input_size=(48, 64), heatmap_size=(12, 16), sigma=1),
        SimCCLabel(input_size=(48, 64), sigma=4., simcc_split_ratio=2.0),
        None,
    ],
    ids=lambda codec: type(codec).__name__)
def test_where_a_heatmap_lies(codec):
    """Its peak is where the keypoint was encoded, in the image."""
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
    center, scale = np.array([200., 90.]), np.array([144., 192.])
    sample = PoseDataSample(
        metainfo=dict(
            input_size=(48, 64), input_center=center, input_scale=scale))
    place = heatmap_place(torch.from_numpy(heatmap), codec, sample)
    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
    expected = point / (48, 64) * scale + center - scale / 2
    found = np.array([x, y]) * place.stride + place.offset
    assert (np.abs(found - expected) <= place.stride / 2 + 1e-6).all()


def test_the_heatmap_is_the_largest_over_all_keypoints():
    heatmaps = torch.rand(5, 4, 3)
    sample = PoseDataSample()
    assert heatmap_of(sample) is None
    sample.pred_fields = PixelData(heatmaps=heatmaps)
    assert (heatmap_of(sample) == heatmaps.max(0)[0]).all()
    # Vectors that it is not made of are something else.
    sample.pred_instances = InstanceData(
        keypoint_x_labels=np.zeros((1, 5, 6)),
        keypoint_y_labels=np.zeros((1, 5, 8)))
    assert (heatmap_of(sample) == heatmaps.max(0)[0]).all()


@pytest.mark.parametrize('value', [0.5, -0.5, np.nan])
def test_the_heatmap_of_vectors_for_each_axis(value):
    """Of one person's three keypoints."""
    x = np.full((3, 4), value, np.float32)
    y = np.random.rand(3, 5).astype(np.float32)
    heatmaps = torch.from_numpy(y[:, :, None] * x[:, None])
    sample = PoseDataSample()
    sample.pred_fields = PixelData(heatmaps=heatmaps)
    sample.pred_instances = InstanceData(
        keypoint_x_labels=x[None], keypoint_y_labels=y[None])
    heatmap = heatmap_of(sample)
    assert heatmap.shape == (5, 4)
    assert not np.shares_memory(heatmap.x, x), 'it would keep a whole batch'
    assert not np.shares_memory(heatmap.y, y)
    np.testing.assert_array_equal(heatmap.largest(), heatmaps.amax(0))


def test_heatmaps_of_a_real_model_peak_at_its_predictions(
        ann_file, tmp_path, drawn):
    cfg = topdown_cfg(tmp_path, dict(max_val_images=9, **ALONE), ann_file)
    Runner(**cfg).val()
    assert len(drawn) == 9
    for sample, _, heatmap, place in drawn:
        surest = sample.predicted[0, sample.scores[0].argmax()]
        y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
        found = np.array([x, y]) * place.stride + place.offset
        assert (np.abs(found - surest) <= place.stride / 2).all()


# Where the images come from


def test_images_are_loaded_as_the_data_set_loads_them(ann_file, tmp_path):
    """Its pipeline says how; the files exist nowhere."""
    Runner(**topdown_cfg(tmp_path, dict(hard_samples=2), ann_file)).val()
    events = read_run(tmp_path)
    assert len(pictures(events, 'val/images')[0]) == 8
    assert len(pictures(events, 'val/hard_samples')[0]) == 2


def test_images_from_the_backend_that_the_hook_is_given(tmp_path):
    Runner(**runner_cfg(tmp_path, dict(hard_samples=2))).val()
    events = read_run(tmp_path)
    assert len(pictures(events, 'val/images')[0]) == 7
    # They are really there, under the lines.
    image = PaintedImages().get('image_0.png')
    expected = cv2.imdecode(np.frombuffer(image, np.uint8), 1)
    panel = panels(pictures(events, 'val/images')[0][0], 2)[0]
    assert expected.std() / 2 < panel.std() < expected.std() * 2


def test_a_local_file(tmp_path):
    """Without any backend_args, and the colours in the right order."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 0] = 200  # BGR.
    cv2.imwrite(str(tmp_path / 'blue.png'), image)
    sample = sample_with([[-50, -50]], [0, 0, 90, 70],
                         str(tmp_path / 'blue.png'))
    picture = painter(whole=True, backend_args=None).draw(sample, 'caption')
    middle = picture[300, 250]
    assert middle[2] > 150 and middle[0] < 50


@pytest.mark.parametrize('kind', ['missing', 'broken'])
def test_images_that_cannot_be_read_are_left_out(tmp_path, monkeypatch, kind):
    """The first is named, once in the run."""
    get = PaintedImages.get

    def sometimes(self, filepath):
        bad = filepath in ('image_1.png', 'image_4.png')
        return get(self, kind if bad else filepath)

    monkeypatch.setattr(PaintedImages, 'get', sometimes)
    cfg = runner_cfg(tmp_path, dict(max_val_images=7, hard_samples=7))
    Runner(**cfg).train()
    events = read_run(tmp_path)
    for tag in ('val/images', 'val/hard_samples'):
        assert [len(p) for p in pictures(events, tag).values()] == [5, 5]
    named, = warnings_of(tmp_path)
    assert 'image_1.png' in named or 'image_4.png' in named
    reason = dict(
        missing='FileNotFoundError: missing', broken='it is no image')
    assert reason[kind] in named


def test_of_images_that_all_cannot_be_read_one_is_named(tmp_path):
    """By whoever comes across it: the samples and the worst ones differ."""
    cfg = runner_cfg(tmp_path, dict(max_val_images=1, hard_samples=1),
                     dict(name='missing'))
    Runner(**cfg).train()
    events = read_run(tmp_path)
    assert not pictures(events, 'val/images')
    assert not pictures(events, 'val/hard_samples')
    assert len(warnings_of(tmp_path)) == 1


def test_samples_without_a_file_name(tmp_path):
    """No pictures then, but numbers."""
    cfg = runner_cfg(tmp_path, dict(), dataset=dict(name=''))
    Runner(**cfg).train()
    events = read_run(tmp_path)
    assert not pictures(events, 'val/images')
    assert not pictures(events, 'val/hard_samples')
    assert keypoint_scalars(events)
    assert len(warnings_of(tmp_path)) == 1


# Promises


def test_a_sample_that_cannot_be_read_costs_one_warning(
        ann_file, tmp_path, monkeypatch, drawn):
    """P2: and the others keep their own heatmaps."""
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
    assert [len(of_step) for of_step in images.values()] == [4, 4]
    outputs = runner.hooks[-1].outputs[:9]
    for (sample, _, heatmap, _), index in zip(drawn, [0, 4, 6, 8]):
        assert (heatmap == outputs[index].pred_fields.heatmaps.amax(0).numpy()
                ).all()


def test_a_monitor_that_cannot_begin_costs_one_warning(tmp_path, monkeypatch):
    """P2: and no second one about what it then lacks."""

    def fail(self, *args, **kwargs):
        raise RuntimeError('broken on purpose')

    monkeypatch.setattr(SamplePictures, '__init__', fail)
    runner = Runner(**runner_cfg(tmp_path, dict(strict=False)))
    runner.train()
    assert runner.epoch == 2
    found = warnings_of(tmp_path)
    assert len(found) == 2 and 'broken on purpose' in found[0]
    assert sum('ValImageMonitor' in line for line in found) == 1
    assert sum('KeypointMonitor' in line for line in found) == 1


def test_what_serves_every_validation_is_made_once(tmp_path, monkeypatch):
    """Once for the samples, once for the hard ones."""
    made = []
    init = SamplePictures.__init__

    def count(self, *args, **kwargs):
        made.append(self)
        init(self, *args, **kwargs)

    monkeypatch.setattr(SamplePictures, '__init__', count)
    Runner(**runner_cfg(tmp_path, dict(max_val_images=1))).train()
    assert len(made) == 2


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
