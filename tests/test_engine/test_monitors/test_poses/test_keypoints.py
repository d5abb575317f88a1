# Copyright (c) OpenMMLab. All rights reserved.
import gc
import json
import pickle
import re
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.hub import get_config
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from noisy_poses import (NoisyModel, NoisyPoses, keypoint_scalars, metainfo,
                         person, pictures, runner_cfg, topdown_cfg,
                         warnings_of, write_coco)
from run_logs import read_run
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.engine.hooks import EnhancedTensorBoardHook
from mmpose.engine.monitors import KeypointMonitor
from mmpose.engine.monitors.core.monitor import scalar_layout
from mmpose.engine.monitors.core.runner_parts import own_samples
from mmpose.engine.monitors.poses import val_images
from mmpose.engine.monitors.poses.accuracy.hard_samples import (HardSample,
                                                                HardSamples)
from mmpose.engine.monitors.poses.accuracy.keypoint_parts import keypoint_parts
from mmpose.engine.monitors.poses.pictures import hard_scenes
from mmpose.engine.monitors.poses.pictures.keypoint_figure import new_figure
from mmpose.engine.monitors.poses.pose_samples import (PoseSample,
                                                       PoseSampleReader)
from mmpose.engine.monitors.writers.summaries import to_summary
from mmpose.evaluation.functional import keypoint_pck_accuracy
from mmpose.models import BottomupPoseEstimator
from mmpose.structures import PoseDataSample
from mmpose.structures.bbox import bbox_xyxy2xywh
from mmpose.utils import register_all_modules

register_all_modules()
# As the model is given it.
BATCH = dict(inputs=torch.zeros(500, 3, 2, 2))
MEASURES = ('PCK@0.05', 'PCK@0.2', 'normalized_error', 'OKS')


@pytest.fixture(scope='module')
def ann_file(tmp_path_factory):
    path = tmp_path_factory.mktemp('data') / 'annotations.json'
    write_coco(path)
    return path


@pytest.fixture
def drawn(monkeypatch):
    """The sample, the caption and the person of what was drawn."""
    calls = []

    def remember(make):

        def call(sample, *args, **kwargs):
            scene = make(sample, *args, **kwargs)
            person = kwargs.get('instance')
            if make.__name__ == 'file_scene':
                person = args[-1]
            calls.append((sample, scene and scene.caption, person))
            return scene

        return call

    for module, name in ((hard_scenes, 'sample_scene'),
                         (hard_scenes, 'file_scene'), (val_images,
                                                       'sample_scene')):
        monkeypatch.setattr(module, name, remember(getattr(module, name)))
    return calls


# An independent computation, one keypoint after the other


def by_hand(people, sigmas):
    """The measures of people: (truth, visible, box, area, predicted)."""
    found = {measure: [] for measure in MEASURES}
    for k in range(len(sigmas)):
        errors, similarities, count = [], [], 0
        for truth, visible, box, area, predicted in people:
            if not visible[k]:
                continue
            count += 1
            if predicted is None:
                similarities.append(0)
                continue
            offset = np.subtract(predicted[k], truth[k], dtype=float)
            distance = np.sqrt((offset**2).sum())
            errors.append(distance /
                          max(float(box[2]) - box[0],
                              float(box[3]) - box[1]))
            similarities.append(
                np.exp(-distance**2 / (2 * area * (2 * sigmas[k])**2)))
        errors = np.array(errors)
        found['PCK@0.05'].append((errors < 0.05).sum() / count)
        found['PCK@0.2'].append((errors < 0.2).sum() / count)
        found['normalized_error'].append(
            errors.mean() if len(errors) else np.nan)
        found['OKS'].append(np.mean(similarities))
    return found


def oks(truth, visible, box, area, predicted, sigmas):
    if predicted is None:
        return 0
    squares = np.square(np.subtract(predicted, truth, dtype=float)).sum(1)
    return np.exp(-squares / (2 * area *
                              (2 * np.array(sigmas))**2))[visible].mean()


def assert_written(events, step, expected, names):
    written = {
        tag: value
        for (tag, at), value in keypoint_scalars(events).items() if at == step
    }
    assert written == {
        f'keypoints/{measure}/{name}': pytest.approx(value, abs=1e-6)
        for measure, values in expected.items()
        for name, value in zip(names, values) if np.isfinite(value)
    }


def coco_meta():
    return parse_pose_metainfo(
        dict(from_file='configs/_base_/datasets/coco.py'))


def names_of(meta):
    return [meta['keypoint_id2name'][i] for i in range(meta['num_keypoints'])]


@pytest.fixture(scope='module')
def real_run(ann_file, tmp_path_factory):
    """A real model on real annotations, and what it returned."""
    work_dir = tmp_path_factory.mktemp('run')
    cfg = topdown_cfg(
        work_dir,
        dict(hard_samples=2, log_val_images=False, val_loss_samples=0),
        ann_file,
        val_evaluator=[
            dict(type='PCKAccuracy', thr=0.05, prefix='strict'),
            dict(type='PCKAccuracy', thr=0.2, prefix='loose')
        ])
    cfg['custom_hooks'].append(dict(type='OutputWitness', priority='LOWEST'))
    runner = Runner(**cfg)
    runner.train()
    outputs = runner.hooks[-1].outputs
    assert len(outputs) == 18
    return read_run(work_dir), dict(enumerate([outputs[:9], outputs[9:]], 1))


@pytest.mark.parametrize('step', [1, 2])
def test_the_numbers_are_those_computed_by_hand(real_run, ann_file, step):
    events, outputs = real_run
    annotations = json.loads(ann_file.read_text())['annotations']
    people = []
    for output, annotation in zip(outputs[step], annotations):
        keypoints = np.reshape(annotation['keypoints'], (17, 3))
        people.append((np.float32(keypoints[:, :2]), keypoints[:, 2] > 0,
                       output.gt_instances.bboxes[0], annotation['area'],
                       np.float32(output.pred_instances.keypoints[0])))
    meta = coco_meta()
    expected = by_hand(people, meta['sigmas'])
    assert 0 < np.mean(expected['PCK@0.2']) < 1
    assert_written(events, step, expected, names_of(meta))


@pytest.mark.parametrize('step', [1, 2])
@pytest.mark.parametrize('threshold, name', [(0.05, 'strict'), (0.2, 'loose')])
def test_the_accuracy_is_mmposes(real_run, step, threshold, name):
    """Of each keypoint, and of its evaluator in the same run."""
    events, outputs = real_run
    gts = [output.gt_instances for output in outputs[step]]
    sizes = np.stack([(gt.bboxes[0, 2:] - gt.bboxes[0, :2]).max()
                      for gt in gts])
    accuracies, mean, _ = keypoint_pck_accuracy(
        np.concatenate([o.pred_instances.keypoints for o in outputs[step]]),
        np.concatenate([gt.keypoints for gt in gts]),
        np.concatenate([gt.keypoints_visible for gt in gts]).astype(bool),
        threshold, sizes[:, None].repeat(2, 1))
    written = [
        value for (tag, at), value in keypoint_scalars(events).items()
        if at == step and tag.startswith(f'keypoints/PCK@{threshold}/')
    ]
    assert written == pytest.approx(list(accuracies), abs=1e-6)
    evaluated = {e.step: e.value for e in events.Scalars(f'val/{name}/PCK')}
    assert np.mean(written) == pytest.approx(mean, abs=1e-6)
    assert np.mean(written) == pytest.approx(evaluated[step], abs=1e-6)


def test_a_chart_for_each_measure_has_all_keypoints(real_run):
    events, _ = real_run
    monitor = KeypointMonitor(True, 4, 0.3, every_measure=True, strict=True)
    runner = SimpleNamespace(model=NoisyModel())
    summary = to_summary([scalar_layout([monitor], runner)])
    layout = Layout.FromString(summary.value[0].tensor.string_val[0])
    category, = [c for c in layout.category if c.title == 'Keypoints']
    titles = [chart.title for chart in category.chart]
    assert titles == ['PCK@0.05', 'OKS', 'PCK@0.2', 'normalized_error']
    tags = events.Tags()['scalars']
    for chart in category.chart:
        found = {
            tag
            for pattern in chart.multiline.tag for tag in tags
            if re.match(pattern, tag) and not tag.startswith('codec/')
        }
        assert found == {
            f'keypoints/{chart.title}/{name}'
            for name in names_of(coco_meta())
        }


def test_one_figure_for_each_validation(real_run):
    figures = pictures(real_run[0], 'keypoints/accuracy')
    assert {step: len(of_step)
            for step, of_step in figures.items()} == {
                1: 1,
                2: 1
            }
    assert (figures[1][0] != figures[2][0]).any()


@pytest.fixture
def figures(monkeypatch):
    """The values and the title of each figure."""
    from mmpose.engine.monitors.poses.pictures import accuracy_figure
    calls = []

    def remember(names, accuracy, groups, pose, links, title):
        calls.append((accuracy, title))
        return new_figure(title, 1)

    monkeypatch.setattr(accuracy_figure, 'keypoint_figure', remember)
    return calls


@pytest.mark.parametrize('train_cfg, unit', [
    (dict(by_epoch=True, max_epochs=1), 'epoch 1'),
    (dict(by_epoch=False, max_iters=2), 'iteration 2'),
])
def test_the_figure_says_when(tmp_path, figures, train_cfg, unit):
    cfg = runner_cfg(
        tmp_path,
        dict(log_val_images=False, hard_samples=0),
        train_cfg=dict(
            val_interval=train_cfg.get('max_iters', 1), **train_cfg))
    Runner(**cfg).train()
    (_, title), = figures
    assert title == f'Keypoint similarity, {unit}, 7 instances'


@pytest.mark.parametrize('sigmas', [True, False], ids=['sigmas', 'none'])
def test_the_figure_tells_bad_from_good(tmp_path, figures, monkeypatch,
                                        sigmas):
    """P8: 60 % of the box off, PCK@0.2 would still be far from 0."""

    def aside(self, inputs, data_samples, mode):
        for sample in data_samples:
            gt = sample.gt_instances
            sides = gt.bboxes[:, 2:] - gt.bboxes[:, :2]
            keypoints = gt.keypoints.copy()
            keypoints[..., 0] += 0.15 * sides.max()
            keypoints[:, 0] = gt.keypoints[:, 0]
            sample.pred_instances = InstanceData(keypoints=keypoints)
        return data_samples

    monkeypatch.setattr(NoisyModel, 'forward', aside)
    meta = metainfo(sigmas=np.full(17, 0.03) if sigmas else None)
    cfg = runner_cfg(tmp_path, dict(log_val_images=False, hard_samples=0),
                     dict(meta=meta))
    Runner(**cfg).val()
    (values, title), = figures
    assert title.startswith('Keypoint similarity' if sigmas else 'PCK@0.05')
    assert values[0] == 1 and (values[1:] < 0.1).all()
    loose = [
        value
        for (tag, _), value in keypoint_scalars(read_run(tmp_path)).items()
        if 'PCK@0.2/' in tag
    ]
    assert loose == [1] * 17


def test_the_figure_tells_exchanged_sides(tmp_path, figures, monkeypatch):
    """P8: of an instance that faces the camera, PCK@0.2 would be 1."""
    pose = np.array([[7.5, 4], [8, 3.5], [7, 3.5], [8.8, 3.8], [6.2, 3.8],
                     [10, 8], [5, 8], [11, 13], [4, 13], [11.2, 18], [3.8, 18],
                     [9.2, 20], [5.8, 20], [9.4, 29], [5.6, 29], [9.5, 38],
                     [5.5, 38]], np.float32)
    partners = [0, *np.arange(1, 17).reshape(8, 2)[:, ::-1].ravel()]

    def exchange(self, inputs, data_samples, mode):
        for sample in data_samples:
            sample.set_metainfo(dict(raw_ann_info=dict(area=360.)))
            sample.pred_instances = InstanceData(
                keypoints=sample.gt_instances.keypoints[:, partners])
        return data_samples

    monkeypatch.setattr(NoisyModel, 'forward', exchange)
    meta = parse_pose_metainfo(
        dict(from_file='configs/_base_/datasets/coco.py'))
    fields = dict(
        keypoints=pose[None],
        keypoints_visible=np.ones((1, 17), np.float32),
        bboxes=np.float32([[0, 0, 15, 40]]))
    cfg = runner_cfg(tmp_path, dict(log_val_images=False, hard_samples=0),
                     dict(meta=meta, fields=fields))
    Runner(**cfg).val()
    (values, _), = figures
    assert values[0] == 1 and (values[1:] < 0.75).all()
    loose = [
        value
        for (tag, _), value in keypoint_scalars(read_run(tmp_path)).items()
        if 'PCK@0.2/' in tag
    ]
    assert loose == [1] * 17


# Hard samples


@pytest.mark.parametrize('sigmas', [True, False], ids=['sigmas', 'none'])
def test_the_worst_of_each_part_of_the_validation(tmp_path, drawn, sigmas):
    """Spread over it, and by what they cost the mean over all keypoints."""
    meta = metainfo() if sigmas else metainfo(sigmas=None)
    cfg = runner_cfg(
        tmp_path,
        dict(hard_samples=3, log_val_images=False, log_keypoints=False),
        dict(num_samples=21, meta=meta))
    Runner(**cfg).val()
    people = [person(i) for i in range(21)]
    scores, costs = [], []
    for known in people:
        errors = np.linalg.norm(known.predicted - known.truth, axis=1)
        errors /= (known.box[2:] - known.box[:2]).max()
        visible = known.visible.sum()
        if sigmas:
            scores.append(oks(*known, meta['sigmas']))
            costs.append((1 - scores[-1]) * visible)
        else:
            scores.append(np.minimum(errors, 1)[known.visible].mean())
            costs.append(scores[-1] * visible)
    worst = [7 * part + np.argmax(costs[7 * part:][:7]) for part in range(3)]
    worst.sort(key=lambda i: -costs[i])
    assert len(drawn) == 3
    for (sample, caption, index), i in zip(drawn, worst):
        known = people[i]
        assert sample.img_path == f'image_{i}.png' and index == 0
        errors = np.linalg.norm(known.predicted - known.truth, axis=1)
        joint = np.where(known.visible, errors, 0).argmax()
        if sigmas:  # Without, none is near enough to tell why it is wrong.
            near = np.exp(-np.square(errors[joint]) / 8 / known.area /
                          meta['sigmas'][joint]**2)
            kind = 'miss' if near < 0.5 else 'jitter'
            expected = f'OKS {scores[i]:.2f}, worst joint_{joint} ({kind})'
        else:
            expected = f'NME {scores[i]:.2f}, worst joint_{joint}'
        assert caption == expected


def test_a_single_missed_keypoint_is_not_the_hardest(tmp_path, drawn):
    """Its similarity of 0 is the lowest, and costs the mean least."""
    visible = np.zeros((1, 17), np.float32)
    visible[0, 0] = 1
    few = NoisyPoses(1, fields=dict(keypoints_visible=visible))
    monitor = KeypointMonitor(True, 1, 0.3, strict=True)
    samples = [few[0]['data_samples'], NoisyPoses(2)[1]['data_samples']]
    for sample, shift in zip(samples, (1e6, 4)):
        sample.pred_instances = InstanceData(
            keypoints=sample.gt_instances.keypoints + shift)
    monitor.after_val_iter(fake_runner(NoisyPoses(2)), 0, BATCH, samples)
    hard, = monitor.rank_results().hardest.worst()
    assert hard.sample.img_path == 'image_1.png' and 0 < hard.score < 1


def test_the_file_stands_in_the_caption(monkeypatch, tmp_path):
    from mmpose.engine.monitors.poses.pictures import sample_pictures
    captions = []
    compose = sample_pictures.compose

    def remember(panels, caption, name):
        captions.append(f'{caption}   {name}')
        return compose(panels, caption, name)

    monkeypatch.setattr(sample_pictures, 'compose', remember)
    cfg = runner_cfg(tmp_path, dict(hard_samples=1, log_val_images=False),
                     dict(name='some/folder/image'))
    Runner(**cfg).val()
    caption, = (c for c in captions if c.startswith('OKS'))
    assert re.fullmatch(
        r'OKS 0\.\d\d, worst joint_\d+ \(miss\)   '
        r'some/folder/image_\d.png  sample \d', caption)


def hard_sample(cost, path, corner, index=0):
    boxes = np.zeros((index + 1, 4))
    boxes[index] = corner
    sample = PoseSample(path, None, None, boxes, None, None, None)
    return HardSample(cost, 0., 'OKS', sample, index, None)


@pytest.mark.parametrize('count', [1, 2, 5])
def test_the_worst_are_the_same_in_whatever_order_they_come(count):
    """Many may cost the same, also in one image; in any shards."""
    samples = [
        hard_sample(cost, path, corner) for cost in (17., 3.)
        for path in ('a', 'b', 'c', None) for corner in range(4)
    ]
    positions = np.linspace(0, 1, len(samples), endpoint=False)
    rng = np.random.default_rng(0)
    kept = set()
    for _ in range(30):
        total = HardSamples(count)
        order = rng.permutation(len(samples))
        for part in np.array_split(order, rng.integers(1, 9)):
            shard = HardSamples(count)
            for batch in np.array_split(part, rng.integers(1, 4)):
                shard.add(
                    np.array([samples[i].cost for i in batch]),
                    positions[batch], [samples[i].image for i in batch],
                    lambda i, batch=batch: samples[batch[i]])
            total.merge(shard)
        worst = total.worst()
        assert len(worst) == len({hard.image for hard in worst}) == count
        kept.add(tuple(map(id, worst)))
    assert len(kept) == 1


@pytest.mark.parametrize('batch_size', [1, 4, 16])
def test_ties_within_a_batch_do_not_depend_on_it(tmp_path, drawn, batch_size,
                                                 monkeypatch):

    def nowhere(self, inputs, data_samples, mode):
        for sample in data_samples:
            sample.pred_instances = InstanceData(
                keypoints=np.full((1, 17, 2), 1e5))
        return data_samples

    monkeypatch.setattr(NoisyModel, 'forward', nowhere)
    cfg = runner_cfg(
        tmp_path, dict(hard_samples=3, log_val_images=False),
        dict(num_samples=16, fields=dict(keypoints_visible=np.ones((1, 17)))))
    cfg['val_dataloader']['batch_size'] = batch_size
    Runner(**cfg).val()
    assert [sample.img_path for sample, _, _ in drawn
            ] == ['image_0.png', 'image_10.png', 'image_11.png']


def fake_runner(dataset):
    sampler = DefaultSampler(dataset, shuffle=False)
    return SimpleNamespace(
        model=NoisyModel(),
        val_dataloader=SimpleNamespace(dataset=dataset, sampler=sampler),
        val_evaluator=SimpleNamespace(metrics=[]),
        hooks=[])


def test_of_a_large_validation_no_more_is_kept_than_the_worst():
    """P6: the size does not depend on the number of samples."""
    dataset = NoisyPoses(5000)
    monitor = KeypointMonitor(True, 4, 0.3, strict=True)
    runner = fake_runner(dataset)
    samples = [dataset[i]['data_samples'] for i in range(500)]
    outputs = runner.model(None, samples, 'predict')
    sizes = []
    tracemalloc.start()
    for batch_idx in range(20):
        part = batch_idx % 2 * 250
        monitor.after_val_iter(runner, batch_idx, BATCH,
                               outputs[part:part + 250])
        if batch_idx in (3, 19):
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    # Four of each of four parts.
    assert sizes[1] - sizes[0] < 45000, sizes
    shard = monitor.rank_results()
    part, = shard.parts.values()
    assert part.tally.counts.max() > 3500
    assert len(shard.hardest.worst()) == 4
    assert len(pickle.dumps(shard)) < 50000
    # No view of a whole batch.
    assert all(hard.predicted.base is None for hard in shard.hardest.worst())


# Data sets of all kinds


@pytest.fixture(scope='module')
def whole_body():
    return parse_pose_metainfo(
        dict(from_file='configs/_base_/datasets/coco_wholebody.py'))


def test_many_keypoints_are_written_by_part(tmp_path, whole_body):
    cfg = runner_cfg(tmp_path, dict(max_val_images=1, hard_samples=1),
                     dict(meta=whole_body))
    Runner(**cfg).val()
    events = read_run(tmp_path)
    expected = by_hand([person(i, 133) for i in range(7)],
                       whole_body['sigmas'])
    parts = keypoint_parts(names_of(whole_body))
    assert set(parts) == {'body', 'feet', 'face', 'left_hand', 'right_hand'}
    means = {
        measure:
        [np.nanmean(np.array(values)[part]) for part in parts.values()]
        for measure, values in expected.items()
    }
    assert_written(events, 0, means, list(parts))
    assert len(pictures(events, 'keypoints/accuracy')[0]) == 1
    assert len(pictures(events, 'val/hard_samples')[0]) == 1


@pytest.mark.parametrize(
    'meta, fields, names', [
        (metainfo(skeleton_links=None), {}, ['joint_0', 'joint_16']),
        (metainfo(sigmas=None), {}, ['joint_0', 'joint_16']),
        (metainfo(sigmas=[0.1] * 3), {}, ['joint_0', 'joint_16']),
        (metainfo(keypoint_id2name=None), {}, ['keypoint_0', 'keypoint_16']),
        ({}, {}, ['keypoint_0', 'keypoint_16']),
        (metainfo(1), {}, ['joint_0']),
        (metainfo(31), {}, ['all']),
        (metainfo(), dict(bboxes=None), ['joint_0', 'joint_16']),
        (metainfo(), dict(keypoints_visible=None), ['joint_0', 'joint_16']),
    ],
    ids=[
        'skeleton', 'sigmas', 'wrong sigmas', 'names', 'nothing', 'one',
        'many', 'box', 'visibility'
    ])
def test_data_sets_that_lack_something(tmp_path, meta, fields, names):
    cfg = runner_cfg(
        tmp_path,
        dict(max_val_images=1, hard_samples=1),
        dict(num_samples=3, meta=meta, fields=fields),
        val_evaluator=dict(type='PCKAccuracy', prefix='unused'))
    if fields:  # MMPose's metrics do not bear that.
        cfg['val_evaluator'] = []
    Runner(**cfg).val()
    events = read_run(tmp_path)
    tags = {tag for tag, _ in keypoint_scalars(events)}
    has_sigmas = len(meta.get('sigmas', ())) == meta.get('num_keypoints')
    assert ('keypoints/OKS/' + names[0] in tags) == has_sigmas
    for name in names:
        assert f'keypoints/PCK@0.2/{name}' in tags
    for tag in ('val/images', 'val/hard_samples', 'keypoints/accuracy'):
        assert len(pictures(events, tag)[0]) == 1
    assert not warnings_of(tmp_path)


def test_people_without_a_visible_keypoint(tmp_path):
    """Nothing is measured, so there is nothing to show of it."""
    cfg = runner_cfg(tmp_path, dict(),
                     dict(fields=dict(keypoints_visible=np.zeros((1, 17)))))
    cfg['val_evaluator'] = []
    Runner(**cfg).val()
    events = read_run(tmp_path)
    assert not keypoint_scalars(events)
    assert not pictures(events, 'val/hard_samples')
    assert not pictures(events, 'keypoints/accuracy')
    assert len(pictures(events, 'val/images')[0]) == 7


@pytest.mark.parametrize('num_keypoints', [17, 31])
def test_a_keypoint_that_is_never_visible(tmp_path, num_keypoints):
    """It has no curve, and no part in that of its part."""
    visible = np.ones((1, num_keypoints), np.float32)
    visible[0, 3] = 0
    meta = metainfo(num_keypoints)
    cfg = runner_cfg(tmp_path, dict(log_val_images=False, hard_samples=0),
                     dict(meta=meta, fields=dict(keypoints_visible=visible)))
    Runner(**cfg).val()
    others = np.flatnonzero(visible[0])
    people = [(p.truth[others], visible[0, others], p.box, p.area,
               p.predicted[others])
              for p in (person(i, num_keypoints) for i in range(7))]
    expected = by_hand(people, meta['sigmas'][others])
    names = [f'joint_{i}' for i in others]
    if num_keypoints == 31:
        expected = {m: [np.mean(values)] for m, values in expected.items()}
        names = ['all']
    assert_written(read_run(tmp_path), 0, expected, names)


@pytest.mark.parametrize('hook, times', [
    (dict(log_keypoints=False, hard_samples=0), 0),
    (dict(log_keypoints=False, hard_samples=1), 1),
    (dict(), 1),
])
def test_ranks_exchange_nothing_for_nothing(tmp_path, monkeypatch, hook,
                                            times):
    """Nor the errors of joints, of a model that lifts none."""
    sent = []
    monkeypatch.setattr(
        'mmpose.engine.monitors.core.monitor.all_gather_object',
        lambda shard: sent.append(shard) or [shard])
    Runner(**runner_cfg(tmp_path, hook)).val()
    assert len(sent) == times and None not in sent


@pytest.mark.parametrize('log_keypoints', [True, False])
@pytest.mark.parametrize('hard_samples', [0, 2])
def test_each_part_can_be_switched_off(tmp_path, log_keypoints, hard_samples):
    cfg = runner_cfg(
        tmp_path,
        dict(
            log_val_images=False,
            log_keypoints=log_keypoints,
            hard_samples=hard_samples))
    runner = Runner(**cfg)
    runner.val()
    events = read_run(tmp_path)
    tags = events.Tags()['tensors']
    assert bool(keypoint_scalars(events)) == log_keypoints
    assert ('keypoints/accuracy' in tags) == log_keypoints
    assert len(pictures(events, 'val/hard_samples').get(0, [])) == hard_samples
    hook, = [h for h in runner.hooks if isinstance(h, EnhancedTensorBoardHook)]
    assert any(isinstance(m, KeypointMonitor) for m in hook.monitors) == \
        (log_keypoints or hard_samples > 0)


# Configs of MMPose


def upstream(name, work_dir, ann_file, **hook):
    """One of MMPose's configs, on these annotations, validated alone."""
    cfg = get_config(f'mmpose::{name}')
    dataset = cfg.val_dataloader.dataset
    for transform in dataset.pipeline:
        if transform.type == 'LoadImage':
            transform.backend_args = dict(backend='painted')
        if transform.type == 'BottomupResize':
            transform.input_size = (64, 64)
    loader = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(
            type='CocoDataset',
            ann_file=str(ann_file),
            data_mode=dataset.data_mode,
            test_mode=True,
            pipeline=dataset.pipeline))
    model = cfg.model
    model.backbone.init_cfg = None
    run = runner_cfg(work_dir, dict(backend_args=None, **hook))
    for unused in ('train_cfg', 'train_dataloader', 'optim_wrapper'):
        run.pop(unused)
    run.update(
        model=model,
        val_dataloader=loader,
        val_evaluator=dict(type='CocoMetric', ann_file=str(ann_file)),
    )
    run['custom_hooks'].append(dict(type='OutputWitness', priority='LOWEST'))
    return run


def annotated_people(ann_file):
    return json.loads(ann_file.read_text())['annotations']


def test_the_people_of_a_bottom_up_model(ann_file, tmp_path, monkeypatch,
                                         drawn):
    """Each is assigned its own prediction, in whatever order they come."""
    predict = BottomupPoseEstimator.add_pred_to_datasample
    rng = np.random.default_rng(0)

    def good(self, preds, fields, samples):
        """Real samples with better predictions, but of one person none."""
        for sample in predict(self, preds, fields, samples):
            truth = sample.gt_instances.keypoints
            if sample.img_id == 1:
                truth = truth[1:]
            found = truth[::-1] + rng.normal(0, 0.5, truth[::-1].shape)
            sample.pred_instances = InstanceData(
                keypoints=np.concatenate([found + 60, found]),
                keypoint_scores=np.ones((2 * len(found), 17)),
                bboxes=np.zeros((2 * len(found), 4)),
                bbox_scores=np.ones(2 * len(found)))
        return samples

    monkeypatch.setattr(BottomupPoseEstimator, 'add_pred_to_datasample', good)
    cfg = upstream(
        'body_2d_keypoint/rtmo/coco/rtmo-s_8xb32-600e_coco-640x640'
        '.py', tmp_path, ann_file)
    cfg['val_evaluator'].update(nms_mode='none')
    runner = Runner(**cfg)
    runner.val()
    people, index = [], 0
    annotations = annotated_people(ann_file)
    for output in runner.hooks[-1].outputs:
        gt, predicted = output.gt_instances, output.pred_instances.keypoints
        count = len(gt.keypoints)
        # Found in reverse order, after as many false ones.
        missed = int(output.img_id == 1)
        mine = [None] * missed + list(predicted[count - missed:][::-1])
        for i in range(count):
            # This config does not pack the areas; the evaluator has them.
            box = gt.bboxes[i]
            area = annotations[index]['area']
            people.append((gt.keypoints[i], gt.keypoints_visible[i] > 0, box,
                           area, mine[i]))
            index += 1
    assert index == len(annotations)
    meta = coco_meta()
    expected = by_hand(people, meta['sigmas'])
    assert 0.5 < np.nanmean(expected['PCK@0.2']) < 1
    assert_written(read_run(tmp_path), 0, expected, names_of(meta))
    # Who was not found is the worst.
    hard = [call for call in drawn if call[2] is not None]
    sample, caption, index = hard[0]
    assert caption == 'OKS 0.00, not found' and index == 0
    assert sample.img_path.endswith('image_1.png')
    shown = [call for call in drawn if call[2] is None]
    assert [len(call[0].truth) for call in shown] == [
        len(o.gt_instances.keypoints) for o in runner.hooks[-1].outputs
    ]


@pytest.mark.parametrize('score_thr', [0, 2], ids=['garbage', 'nobody'])
def test_an_untrained_bottom_up_model(ann_file, tmp_path, score_thr):
    """Its whole images are shown, whatever it finds."""
    cfg = upstream(
        'body_2d_keypoint/yoloxpose/coco/yoloxpose_tiny_4xb64-300e_'
        'coco-416.py', tmp_path, ann_file)
    cfg['model'].test_cfg.update(score_thr=score_thr)
    runner = Runner(**cfg)
    runner.val()
    events = read_run(tmp_path)
    shapes = {p.shape for p in pictures(events, 'val/images')[0]}
    assert len(shapes) == 1 and shapes.pop()[1] > 600
    accuracies = [
        value for (tag, _), value in keypoint_scalars(events).items()
        if 'PCK@0.05' in tag
    ]
    assert len(accuracies) == 17 and max(accuracies) < 0.5
    found = [len(o.pred_instances.keypoints) for o in runner.hooks[-1].outputs]
    assert (max(found) == 0) == (score_thr == 2)


# Promises


@pytest.mark.parametrize('failures', [1, 2, 20])
def test_a_batch_that_cannot_be_read_costs_one_warning(tmp_path, monkeypatch,
                                                       failures):
    """P2: of that validation nothing is shown, of the next one all."""
    read, left = PoseSampleReader.read, [failures]

    def fail(self, sample):
        if sample.id >= 2 and left[0]:
            left[0] -= 1
            raise RuntimeError('broken on purpose')
        return read(self, sample)

    monkeypatch.setattr(PoseSampleReader, 'read', fail)
    cfg = runner_cfg(
        tmp_path,
        dict(strict=False, log_val_images=False),
        train_cfg=dict(by_epoch=True, max_epochs=4, val_interval=1))
    runner = Runner(**cfg)
    runner.train()
    assert runner.epoch == 4
    warning, = warnings_of(tmp_path)
    assert 'KeypointMonitor failed' in warning
    assert 'broken on purpose' in warning
    events = read_run(tmp_path)
    seen = {1: {2, 3, 4}, 2: {3, 4}, 20: set()}[failures]
    assert {step for _, step in keypoint_scalars(events)} == seen
    assert set(pictures(events, 'val/hard_samples')) == seen
    # Three validations in vain switch it off.
    assert left[0] == (17 if failures == 20 else 0)


def test_each_validation_is_counted_for_itself():
    """Also after one that was broken off, and one that had no batch."""
    dataset = NoisyPoses(4)
    monitor = KeypointMonitor(True, 4, 0.3, strict=True)
    runner = fake_runner(dataset)
    samples = [dataset[i]['data_samples'] for i in range(4)]
    outputs = runner.model(None, samples, 'predict')
    for _ in range(2):
        monitor.after_val_iter(runner, 0, BATCH, outputs[:2])
    monitor.after_val_iter(runner, 1, BATCH, outputs[2:])
    shard = monitor.rank_results()
    visible = np.sum([person(i).visible for i in range(4)], axis=0)
    part, = shard.parts.values()
    assert (part.tally.counts == visible).all()
    assert len(shard.hardest.worst()) == 4
    shard = monitor.rank_results()
    assert not shard.parts and not shard.hardest.worst()


@pytest.mark.parametrize('sigma, found', [(0.5, True), (0.05, False)])
def test_the_sigmas_decide_who_was_found(sigma, found):
    known = person(0)
    shift = 0.8 * known.area**0.5
    sample = PoseDataSample(metainfo=dict(raw_ann_info=[{}, {}]))
    truth = np.stack([known.truth, known.truth + 500])
    sample.gt_instances = InstanceData(keypoints=truth)
    sample.pred_instances = InstanceData(keypoints=truth + [shift, 0])
    monitor = KeypointMonitor(True, 4, 0.3, strict=True)
    runner = fake_runner(NoisyPoses(1, metainfo(sigmas=[sigma] * 17)))
    monitor.after_val_iter(runner, 0, BATCH, [sample])
    part, = monitor.rank_results().parts.values()
    errors = part.tally.measures()['normalized_error']
    assert np.isfinite(errors).all() == found


def test_a_sampler_that_repeats_samples():
    dataset = NoisyPoses(7)
    for world_size in (1, 2, 3, 5):
        counts = []
        for rank in range(world_size):
            sampler = DefaultSampler(dataset, shuffle=False)
            sampler.rank, sampler.world_size = rank, world_size
            counts.append(
                own_samples(SimpleNamespace(sampler=sampler, dataset=dataset)))
        assert sum(counts) == 7 and max(counts) - min(counts) <= 1
    other = SimpleNamespace(sampler=iter(()), dataset=dataset)
    assert own_samples(other) >= 1e9


def test_bboxes_are_what_the_tests_take_them_for(ann_file):
    """The annotations on disk are those of :func:`person`."""
    for i, a in enumerate(annotated_people(ann_file)):
        known = person(i)
        assert a['bbox'] == pytest.approx(
            bbox_xyxy2xywh(known.box[None])[0], rel=1e-5)
