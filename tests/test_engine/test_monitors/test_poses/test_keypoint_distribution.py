# Copyright (c) OpenMMLab. All rights reserved.
"""How the errors of keypoints are distributed: exactly, and in real runs."""
import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from noisy_poses import pictures, topdown_cfg, write_coco
from planted_errors import COCO, data_set_meta
from run_logs import read_run
from test_groups import batch_of, part_of

from mmpose.engine.monitors.core.pose_measurements import (KeypointBias,
                                                           PoseSpread)
from mmpose.engine.monitors.poses.diagnosis.distribution.bias import (
    HeatmapGrid, bias_values)
from mmpose.engine.monitors.poses.diagnosis.distribution.errors import \
    ErrorDistribution
from mmpose.engine.monitors.poses.diagnosis.distribution.spread import \
    spread_values
from mmpose.engine.monitors.writers.record import Scalar
from mmpose.evaluation.functional import keypoint_auc, keypoint_pck_accuracy
from mmpose.models.heads import HeatmapHead
from mmpose.registry import KEYPOINT_CODECS
from mmpose.utils import register_all_modules

register_all_modules()
NAMES = [COCO['keypoint_id2name'][i] for i in range(17)]


def scalars_of(values):
    return {v.tag: v.value for v in values if isinstance(v, Scalar)}


def errors_of(batch):
    """The distances over the boxes' longer sides, NaN without one."""
    sizes = (batch.boxes[:, 2:] - batch.boxes[:, :2]).max(1)
    errors = np.linalg.norm(
        batch.predicted.astype(float) - batch.truth, axis=-1)
    errors /= sizes[:, None]
    errors[~batch.visible] = np.nan
    return errors


def test_the_percentiles_and_histograms_are_those_of_the_distances():
    batch = batch_of()
    errors = errors_of(batch)
    errors[~batch.found] = np.nan
    distribution = ErrorDistribution([part_of(batch)])
    scalars = scalars_of(distribution.scalars(True))
    for percentile in (10, 50, 90):
        tag = f'keypoints/error_p{percentile}'
        assert scalars[tag] == pytest.approx(
            np.nanpercentile(errors, percentile), abs=1e-6)
        for k, name in enumerate(NAMES):
            assert scalars[f'{tag}/{name}'] == pytest.approx(
                np.nanpercentile(errors[:, k], percentile), abs=1e-6)
    histograms = {h.tag: h for h in distribution.histograms()}
    assert len(histograms) == 17
    for k, name in enumerate(NAMES):
        known = errors[np.isfinite(errors[:, k]), k]
        histogram = histograms[f'keypoints/error/{name}']
        assert histogram.counts.sum() == len(known)
        assert histogram.counts[-1] == (known >= .49).sum()
        assert histogram.sum == pytest.approx(known.clip(max=.5).sum())
    assert set(scalars_of(distribution.scalars(False))) == {
        f'keypoints/error_p{percentile}'
        for percentile in (10, 50, 90)
    }


def test_the_area_is_that_of_mmposes_pck():
    """P8: boxes of one size, since MMPose's AUC has one for all."""
    batch = batch_of(found=np.ones(200, bool))
    boxes = batch.boxes.copy()
    boxes[:, 2:] = boxes[:, :2] + 100
    batch = batch._replace(boxes=boxes)
    scalars = scalars_of(
        ErrorDistribution([part_of(batch)]).scalars(details=True))
    auc = keypoint_auc(
        batch.predicted, batch.truth, batch.visible, 20, num_thrs=2000)
    mean = np.mean([scalars[f'keypoints/PCK_AUC/{name}'] for name in NAMES])
    assert mean == pytest.approx(auc, abs=1e-3)


def test_the_curve_has_mmposes_pck(monkeypatch):
    """With what was not found as a miss."""
    drawn = []
    monkeypatch.setattr(
        'mmpose.engine.monitors.poses.diagnosis.distribution.errors'
        '.draw_pck_curves', lambda *args: drawn.append(args))
    batch = batch_of()
    list(ErrorDistribution([part_of(batch)]).figure('epoch 1'))
    (thresholds, curves, areas, _), = drawn
    assert len(curves) == 7
    predicted = batch.predicted.copy()
    predicted[~batch.found] = 1e6
    sizes = (batch.boxes[:, 2:] - batch.boxes[:, :2]).max(1)
    for threshold in (0.05, 0.2):
        of_keypoints, _, _ = keypoint_pck_accuracy(
            predicted, batch.truth, batch.visible, threshold,
            np.repeat(sizes[:, None], 2, 1))
        at = np.isclose(thresholds, threshold).argmax()
        for name in set(curves) - {'all'}:
            assert curves[name][at] == pytest.approx(
                of_keypoints[NAMES.index(name)], abs=1e-6)
        assert curves['all'][at] == pytest.approx(
            np.average(of_keypoints, weights=batch.visible.sum(0)), abs=1e-6)
    # The best and the worst ones.
    order = list(curves)[1:]
    assert sorted(order, key=areas.get, reverse=True) == order


def test_the_figure_has_any_number_of_keypoints():
    for name in ('coco', 'coco_wholebody'):
        meta = data_set_meta(name)
        batch = batch_of(20, meta['num_keypoints'])
        image, = ErrorDistribution([part_of(batch, meta)]).figure('epoch 1')
        assert image.pictures[0].shape == (600, 900, 3)
    batch = batch_of(20, visible=np.zeros((20, 17), bool))
    distribution = ErrorDistribution([part_of(batch)])
    assert not list(distribution.figure('epoch 1'))
    assert not list(distribution.scalars(True))


# The offset

GRID = HeatmapGrid('MSRAHeatmap', (48, 64), (192, 256), 1.25)


def bias_of(batch, grid=GRID):
    *scalars, bias = bias_values([part_of(batch)], grid, True)
    return scalars_of(scalars), bias


def test_a_planted_offset_is_read_back():
    """Though a tenth of the keypoints is anywhere."""
    batch = batch_of(found=np.ones(200, bool))
    rng = np.random.default_rng(0)
    sizes = (batch.boxes[:, 2:] - batch.boxes[:, :2]).max(1)[:, None, None]
    offset = np.tile([.01, -.005], (17, 1))
    offset[0] = 0
    predicted = batch.truth + offset * sizes
    missed = rng.random(predicted.shape[:2]) < .1
    predicted[missed] += rng.choice([-500, 700], (missed.sum(), 2))
    batch = batch._replace(predicted=predicted.astype(np.float32))
    scalars, bias = bias_of(batch)
    for name in NAMES:
        expected = (0, 0) if name == 'nose' else (.01, -.005)
        for axis, value in zip('xy', expected):
            assert scalars[f'keypoints/bias/{name}/{axis}'] == pytest.approx(
                value, abs=1e-6)
    near = (batch.visible & ~missed).sum(0)
    assert scalars['keypoints/bias/x'] == pytest.approx(
        .01 * near[1:].sum() / near.sum(), abs=1e-6)
    assert bias.in_place == pytest.approx(near.sum() / batch.visible.sum())
    assert list(bias.offsets) == NAMES and bias.codec == 'MSRAHeatmap'


def test_the_pixels_are_those_of_the_heatmap():
    """As MMPose's transforms cut the box out."""
    from mmpose.datasets.transforms import GetBBoxCenterScale, TopdownAffine
    batch = batch_of(found=np.ones(200, bool))
    scales = GRID.scales(batch)
    for i in range(20):
        results = GetBBoxCenterScale(padding=1.25)(
            dict(bbox=batch.boxes[i:i + 1]))
        scale = TopdownAffine._fix_aspect_ratio(results['bbox_scale'],
                                                192 / 256)[0]
        pixel = scale / (48, 64)
        size = (batch.boxes[i, 2:] - batch.boxes[i, :2]).max()
        assert scales[i] == pytest.approx(size / pixel, rel=1e-5)
    # Half a pixel of each instance's heatmap.
    sizes = (batch.boxes[:, 2:] - batch.boxes[:, :2]).max(1)[:, None]
    predicted = batch.truth + (.5 / scales * sizes)[:, None]
    _, bias = bias_of(batch._replace(predicted=predicted.astype(np.float32)))
    assert np.array(list(bias.offsets.values())) == pytest.approx(.5, abs=1e-3)


def test_without_a_heatmap_there_is_no_measurement():
    values = list(bias_values([part_of(batch_of())], None, True))
    assert len(values) == 2 * 18
    assert not [v for v in values if isinstance(v, KeypointBias)]


# The spread


def spread_of(batch):
    *scalars, spread = spread_values([part_of(batch)], True)
    return scalars_of(scalars), spread


def test_the_spread_of_one_pose_is_zero():
    """And of another instance's pose it is that of the ground truth."""
    batch = batch_of(
        visible=np.ones((200, 17), bool), found=np.ones(200, bool))
    boxes = batch.boxes.astype(float).reshape(-1, 2, 2)
    sizes = (boxes[:, 1] - boxes[:, 0]).max(1)[:, None, None]
    relative = (batch.truth - boxes.mean(1, keepdims=True)) / sizes

    def predicted(poses):
        points = poses * sizes + boxes.mean(1, keepdims=True)
        return batch._replace(predicted=points.astype(np.float32))

    scalars, spread = spread_of(predicted(relative.mean(0)))
    assert spread.spread == pytest.approx(0, abs=1e-4)
    assert spread.instances == 200
    assert spread.pck_auc == pytest.approx(spread.of_mean_pose, abs=1e-5)
    away = np.linalg.norm(relative - relative.mean(0), axis=-1)
    assert spread.of_mean_pose == pytest.approx(
        np.maximum(1 - away / .2, 0).mean(), abs=1e-5)
    assert scalars['keypoints/spread'] == pytest.approx(spread.spread)
    _, spread = spread_of(predicted(np.roll(relative, 1, 0)))
    assert spread.spread == pytest.approx(1, abs=1e-4)
    assert spread.pck_auc < spread.of_mean_pose
    half = relative.mean(0) + (relative - relative.mean(0)) / 2
    _, spread = spread_of(predicted(half))
    assert spread.spread == pytest.approx(.5, abs=1e-4)
    assert spread.pck_auc > spread.of_mean_pose


def test_what_was_not_measured_has_no_spread():
    for replaced in (dict(found=np.zeros(20, bool)),
                     dict(visible=np.zeros((20, 17), bool)),
                     dict(boxes=np.full((20, 4), np.nan, np.float32))):
        batch = batch_of(20, **replaced)
        values = list(spread_values([part_of(batch)], True))
        assert not [v for v in values if isinstance(v, PoseSpread)]
        assert np.isfinite([v.value for v in values]).all()


# Real runs


def heatmaps_of(codec, sample, rng, use_udp):
    """What a good head returns for a sample: a little noise, some misses."""
    corner = sample.input_center - sample.input_scale / 2
    points = (sample.gt_instances.keypoints - corner) / sample.input_scale
    points = points * (np.array(codec.input_size) - use_udp)
    points += rng.normal(0, 1, points.shape)
    missed = rng.random(points.shape[:2]) < .05
    points[missed] = rng.uniform(0, 60, (missed.sum(), 2))
    return codec.encode(points.astype(np.float32),
                        np.ones(points.shape[:2]))['heatmaps']


CODEC = dict(input_size=(64, 96), heatmap_size=(16, 24), sigma=1)


@pytest.mark.parametrize('encoder, decoder, expected', [
    ('MSRAHeatmap', 'MSRAHeatmap', set()),
    ('UDPHeatmap', 'UDPHeatmap', set()),
    ('MSRAHeatmap', 'UDPHeatmap', {'keypoint_bias'}),
    ('UDPHeatmap', 'MSRAHeatmap', {'keypoint_bias'}),
])
def test_a_decoder_that_is_not_the_encoder(tmp_path, monkeypatch, encoder,
                                           decoder, expected):
    """In the real pipeline, three validations."""
    codec = KEYPOINT_CODECS.build(dict(type=encoder, **CODEC))
    use_udp = encoder == 'UDPHeatmap'
    rng = np.random.default_rng(0)

    def predict(self, feats, batch_data_samples, test_cfg):
        return self.decode(
            torch.from_numpy(
                np.stack([
                    heatmaps_of(codec, sample, rng, use_udp)
                    for sample in batch_data_samples
                ])))

    monkeypatch.setattr(HeatmapHead, 'predict', predict)
    write_coco(tmp_path / 'a.json', 24)
    cfg = topdown_cfg(
        tmp_path / 'run',
        dict(
            log_val_images=False,
            hard_samples=0,
            grad_norm_interval=0,
            log_weight_hist=False,
            log_details=True),
        tmp_path / 'a.json',
        train_cfg=dict(by_epoch=True, max_epochs=3, val_interval=1))
    cfg['model']['head']['decoder'] = dict(type=decoder, **CODEC)
    cfg['train_dataloader']['dataset']['indices'] = 2
    cfg['val_dataloader']['batch_size'] = 12
    cfg['val_dataloader']['dataset']['pipeline'][2]['use_udp'] = use_udp
    Runner(**cfg).train()
    events = read_run(tmp_path / 'run')
    tags = events.Tags()['scalars']
    assert expected == {
        tag.split('/')[-1]
        for tag in tags if tag.startswith('health/finding/')
    }
    for axis in 'xy':
        offset = events.Scalars(f'keypoints/bias/{axis}')[-1].value
        assert (abs(offset) > .02) == bool(expected), offset
    assert len(pictures(events, 'keypoints/PCK_curve')) == 3
    assert len(events.Tags()['histograms']) == 17
