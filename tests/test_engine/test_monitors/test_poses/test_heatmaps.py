# Copyright (c) OpenMMLab. All rights reserved.
"""Heatmaps of single keypoints beside their targets."""
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from loss_families import MODELS_OF, PREPROCESSOR, data_of, pipelines_of
from mmengine.dataset import pseudo_collate
from painted_people import paint_data_set

from mmpose.codecs import MSRAHeatmap, UDPHeatmap
from mmpose.engine.monitors.core.measurements import LearningRates
from mmpose.engine.monitors.core.pose_measurements import HeatmapPeaks
from mmpose.engine.monitors.poses.heatmaps.heatmap_pictures import (
    HeatmapPictures, MapSample)
from mmpose.engine.monitors.poses.heatmaps.keypoint_maps import (LossSettings,
                                                                 TargetMaps,
                                                                 loss_settings,
                                                                 scaled,
                                                                 target_maps)
from mmpose.engine.monitors.poses.heatmaps.map_grid import map_grid
from mmpose.engine.monitors.poses.heatmaps.map_statistics import map_statistics
from mmpose.engine.monitors.poses.pictures.fixed_samples import FixedSamples
from mmpose.registry import DATASETS, MODELS
from mmpose.utils import register_all_modules

register_all_modules()
SHAPE = (32, 24)


def gaussian(x, y, sigma=2., height=1.):
    rows, columns = np.indices(SHAPE)
    return height * np.exp(-((columns - x)**2 + (rows - y)**2) /
                           (2 * sigma**2))


def target_of(*maps, counted=None):
    maps = np.stack(maps)
    if counted is None:
        counted = np.ones(len(maps), bool)
    return TargetMaps((maps, ), (np.array(1.), ), counted, np.array([4., 4.]))


@pytest.mark.parametrize('predicted, expected', [
    (gaussian(10, 12), (1, 0, 1, 0)),
    (gaussian(10, 12, height=0.3), (0.3, 0, 1, 0)),
    (gaussian(10, 12, sigma=4), (1, 0, 2, 0)),
    (gaussian(13, 16), (1, 20, 1, 0)),
    (gaussian(10, 12) + gaussian(4, 28, height=0.4), (1, 0, 1, 0.4)),
])
def test_what_differs_is_measured(predicted, expected):
    target = target_of(gaussian(10, 12))
    found = map_statistics((predicted[None], ), target)
    assert [row[0] for row in found] == pytest.approx(expected, abs=0.06)


def test_an_empty_map_has_no_spread():
    found = map_statistics((np.zeros((1, *SHAPE)), ),
                           target_of(gaussian(10, 12)))
    assert found.peaks[0] == 0 and np.isnan(found.spreads[0])


def test_a_keypoint_without_a_target_is_not_measured():
    target = target_of(
        gaussian(10, 12), np.zeros(SHAPE), counted=np.array([True, False]))
    found = map_statistics((target.maps[0], ), target)
    assert np.isnan(found.peaks[1]) and found.peaks[0] == 1


def test_the_nearest_of_several_instances():
    target = target_of(np.maximum(gaussian(5, 5), gaussian(18, 25)))
    found = map_statistics((gaussian(18, 25)[None], ), target)
    assert found.distances[0] == 0


@pytest.mark.parametrize('codec, channels', [
    (MSRAHeatmap((96, 128), (24, 32), 2.), 1),
    (UDPHeatmap((96, 128), (24, 32), heatmap_type='combined'), 3),
])
def test_targets_of_codecs(codec, channels):
    points = np.array([[[40., 60.], [200., 60.]]], np.float32)
    labels = codec.encode(points, np.ones((1, 2), np.float32))
    assert len(labels['heatmaps']) == 2 * channels
    target = target_maps(labels, codec, LossSettings())
    assert target.maps[0].shape == (2, 32, 24)
    # The second is outside of the input.
    assert target.counted.tolist() == [True, False]
    assert target.stride.tolist() == [4, 4]
    # That of UDP is a disc.
    assert target.maps[0][0, 15, 10] > 0.9
    assert target.maps[0][0, 5, 20] == 0


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('painted')
    paint_data_set(folder, num_images=1, size=(128, 128))
    return folder


def samples_of(family, folder, **head):
    cfg = dict(MODELS_OF[family], data_preprocessor=PREPROCESSOR)
    cfg['head'] = dict(cfg['head'], **head)
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    dataset = DATASETS.build(data_of(folder, pipelines_of(family)[2], family))
    batch = pseudo_collate([dataset[0]])
    samples = FixedSamples(model, batch, 1, dataset.metainfo)
    samples.decode_targets(batch['data_samples'])
    return model, batch, samples


def test_heatmaps_are_those_of_the_head(folder):
    model, batch, samples = samples_of('heatmap', folder)
    predicted, = samples.predict(model)
    model.eval()
    with torch.no_grad():
        data = model.data_preprocessor(batch, False)
        own = model.head(model.extract_feat(torch.stack([*data['inputs']])))
    assert torch.equal(predicted.maps[0], own[0])
    target, = samples.target_maps
    labels = batch['data_samples'][0].gt_fields.heatmaps.numpy()
    assert (target.maps[0] == labels).all()
    maps = scaled([predicted.maps[0].numpy()], target, 1.)
    assert maps[0] == pytest.approx(own[0].numpy())


def test_a_loss_of_mmpose_1_2_has_one_factor():
    loss = SimpleNamespace(beta=3., label_softmax=True)
    model = SimpleNamespace(head=SimpleNamespace(loss_module=loss))
    assert loss_settings(model) == (3., 3.)


@pytest.mark.parametrize('label_beta', [None, 10.])
def test_vectors_are_the_distributions_of_the_loss(folder, label_beta):
    """SimCC: its head returns something else for pictures."""
    loss = dict(type='KLDiscretLoss', use_target_weight=True, beta=3.)
    if label_beta:
        loss.update(label_softmax=True, label_beta=label_beta)
    model, batch, samples = samples_of('simcc', folder, loss=loss)
    predicted, = samples.predict(model)
    assert 'forward' not in vars(model.head)  # As before.
    model.eval()
    with torch.no_grad():
        data = model.data_preprocessor(batch, False)
        own = model.head(model.extract_feat(torch.stack([*data['inputs']])))
    target, = samples.target_maps
    maps = scaled([one.numpy() for one in predicted.maps], target,
                  samples.loss.beta)
    labels = batch['data_samples'][0].gt_instance_labels
    for found, vectors, axis in zip(maps, own, 'xy'):
        label = getattr(labels, f'keypoint_{axis}_labels')[0]
        if label_beta:
            label = torch.softmax(label * label_beta, -1)
        expected = torch.softmax(vectors[0] * 3, -1) / label.amax(
            -1, keepdim=True)
        seen = target.counted
        assert found[seen] == pytest.approx(expected.numpy()[seen], rel=1e-4)


@pytest.mark.parametrize('family', ['regression', 'rtmo', 'cid'])
def test_models_without_such_maps_have_no_picture(family, folder):
    model, _, samples = samples_of(family, folder)
    predicted, = samples.predict(model)
    target, = samples.target_maps
    if family == 'cid':  # They are of another shape.
        arrays = [one.numpy() for one in predicted.maps]
        assert arrays and scaled(arrays, target, 1.) is None
    else:
        assert target is None


def test_dekr_has_a_peak_alone(folder):
    """Without the map of centres; several instances have no second peak."""
    model, _, samples = samples_of('dekr', folder)
    predicted, = samples.predict(model)
    target, = samples.target_maps
    assert target.maps[0].shape == predicted.maps[0].shape == (17, 16, 16)
    pictures = HeatmapPictures(samples.loss, {}, (64, 64), single=False)
    scalars, _ = pictures.records(1,
                                  [MapSample('image', target, predicted.maps)])
    assert [getattr(v, 'tag', '')
            for v in scalars.read()] == ['heatmap/peak', '']


def test_the_picture_has_one_scale():
    """P8: half the target's peak is darker, wherever it is."""
    target = target_of(gaussian(10, 12), gaussian(15, 20))
    predicted = np.stack([gaussian(10, 12), gaussian(15, 20, height=0.4)])
    statistics = map_statistics((predicted, ), target)
    picture = map_grid(['one', 'other'], target, (predicted, ), statistics,
                       'title')
    assert picture.dtype == np.uint8
    drawn = map_grid(['one', 'other'], target, target.maps, statistics,
                     'title')
    darker = (
        cv2.cvtColor(drawn, cv2.COLOR_RGB2GRAY).astype(int) -
        cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
    # The second prediction alone, and nowhere brighter.
    assert darker.min() == 0 and darker.max() > 50
    assert not darker[:, :232].any()


def test_of_many_keypoints_the_farthest_off_are_shown(monkeypatch):
    maps = [gaussian(10, 12)] * 133
    target = target_of(*maps)
    predicted = np.stack([*maps[:50], gaussian(20, 28), *maps[51:]])
    statistics = map_statistics((predicted, ), target)
    names = [f'name {i}' for i in range(133)]
    shown = []
    monkeypatch.setattr(sys.modules[map_grid.__module__], 'write_line',
                        lambda draw, place, text, *args: shown.append(text))
    map_grid(names, target, (predicted, ), statistics, 'title')
    assert 'the 20 of 133 that are farthest off' in shown[0]
    assert 'name 50' in shown and sum('name' in text for text in shown) == 20


def test_a_training_shows_them(train, read_events):
    runner = train(
        dict(
            train_image_interval=2,
            log_keypoints=False,
            hard_samples=0,
            log_val_images=False),
        train_cfg=dict(by_epoch=False, max_iters=4),
        val_cfg=None,
        val_dataloader=None,
        val_evaluator=None)
    written = {}
    for event in read_events(f'{runner.work_dir}/{runner.timestamp}/vis_data'):
        for value in event.summary.value:
            written.setdefault(value.tag, []).append(event.step)
    for tag in ('train/heatmaps', 'heatmap/peak', 'heatmap/spread',
                'heatmap/second_peak'):
        assert written[tag] == [1, 2, 4]


# heatmap_empty


def test_heatmaps_that_stay_empty():
    from mmpose.engine.monitors.health.detectors.samples import empty_heatmaps
    detector = empty_heatmaps.EmptyHeatmapDetector()
    runner = SimpleNamespace(
        iter=0, optim_wrapper=SimpleNamespace(_accumulative_counts=1))
    detector.before_train(runner)
    empty, low, good = (
        HeatmapPeaks(*values)
        for values in ((0.02, 0.05), (0.05, 0.9), (0.6, 0.8)))
    # In the beginning all are.
    assert not any(detector.see(step, empty) for step in range(1, 1000, 100))
    # Nor is anything expected before the warm-up is over.
    for step in range(1000, 4000, 100):
        detector.see(step, LearningRates({'': step / 2000}))
        assert not detector.see(step, empty)
    detector.before_train(runner)
    found = [detector.see(step, empty) for step in range(1100, 1600, 100)]
    assert [len(one) for one in found] == [0, 0, 1, 1, 1]
    finding, = found[-1]
    assert finding.name == 'heatmap_empty' and '0.020' in finding.evidence
    assert detector.see(1700, good) == []
    # Peaks that are low, but in place.
    assert not any(detector.see(step, low) for step in range(1800, 2600, 100))
