# Copyright (c) OpenMMLab. All rights reserved.
"""P8: what the curves count is what MMPose's evaluators count.

Real runs on annotations with everything that makes a difference: crowds,
instances without keypoints, areas of 0, boxes over the border, several boxes
for an instance and none for another.
"""
import json
import re

import numpy as np
import pytest
from evaluated_poses import IMAGES, PEOPLE, annotations, known_dataset, write
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from noisy_poses import (HEIGHT, WIDTH, keypoint_scalars, metainfo, pictures,
                         runner_cfg, warnings_of)
from run_logs import read_run

from mmpose.datasets import CocoDataset
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.evaluation.metrics import CocoMetric, posetrack18_metric
from mmpose.registry import TRANSFORMS
from mmpose.utils import register_all_modules

register_all_modules()


def validate(work_dir, dataset, evaluator, bottom_up=False, **hook):
    cfg = runner_cfg(
        work_dir,
        dict(log_val_images=False, hard_samples=2, **hook),
        model=dict(type='KnownBottomup' if bottom_up else 'KnownTopdown'),
        val_evaluator=evaluator)
    for unused in ('train_cfg', 'train_dataloader', 'optim_wrapper'):
        cfg.pop(unused)
    cfg['val_dataloader']['dataset'] = dataset
    runner = Runner(**cfg)
    runner.val()
    return read_run(work_dir)


def counted(evaluation, num_keypoints=17, numbers=2):
    """Each instance that COCO's evaluation counts, at the least similarity.

    Returns:
        list[tuple]: The annotation, its similarity, and its prediction or
        None.
    """
    evaluation.params.iouThrs = np.array([0.1])
    evaluation.params.areaRng = [[0, 1e10]]
    # That of CrowdPose ends with the hardest images.
    evaluation.params.imgIds = sorted(evaluation.cocoGt.getImgIds())
    evaluation.evaluate()
    found = []
    for image in filter(None, evaluation.evalImgs):
        key = image['image_id'], image['category_id']
        rows = {id_: row for row, id_ in enumerate(image['dtIds'])}
        columns = [gt['id'] for gt in evaluation._gts[key]]
        for id_, ignored, match in zip(image['gtIds'], image['gtIgnore'],
                                       image['gtMatches'][0]):
            if ignored:
                continue
            annotation = evaluation.cocoGt.anns[id_]
            if match < 0:
                found.append((annotation, 0, None))
                continue
            keypoints = evaluation.cocoDt.anns[match]['keypoints']
            similarity = evaluation.ious[key][rows[match], columns.index(id_)]
            found.append((annotation, similarity,
                          np.reshape(keypoints,
                                     (num_keypoints, 3))[:, :numbers]))
    return found


def longer_side(annotation):
    """That of its box, which the data set clips to the image."""
    left, top, width, height = annotation['bbox']
    right, bottom = np.clip([left + width, top + height], 0,
                            [WIDTH - 1, HEIGHT - 1])
    left, top = np.clip([left, top], 0, [WIDTH - 1, HEIGHT - 1])
    return max(right - left, bottom - top)


def expected_scalars(found, names, sigmas, use_area=True):
    """By hand, from what COCO's evaluation has matched."""
    values = {}
    for k, name in enumerate(names):
        hits, similarities = {0.05: [], 0.2: []}, []
        for annotation, _, predicted in found:
            x, y, visible = np.reshape(annotation['keypoints'], (-1, 3))[k]
            if not visible:
                continue
            size = longer_side(annotation)
            width, height = annotation['bbox'][2:]
            area = annotation['area'] if use_area else 0.53 * width * height
            distance = np.inf if predicted is None else np.hypot(
                *(predicted[k] - [x, y]))
            similarities.append(
                np.exp(-distance**2 / (2 * (area + np.spacing(1)) *
                                       (2 * sigmas[k])**2)))
            for threshold, of_threshold in hits.items():
                if size > 0:
                    of_threshold.append(distance / size < threshold)
        for threshold, of_threshold in hits.items():
            values[f'keypoints/PCK@{threshold}/{name}'] = np.mean(of_threshold)
        values[f'keypoints/OKS/{name}'] = np.mean(similarities)
    return values


def coco_names(name='coco'):
    meta = parse_pose_metainfo(
        dict(from_file=f'configs/_base_/datasets/{name}.py'))
    names = [meta['keypoint_id2name'][i] for i in range(meta['num_keypoints'])]
    return names, meta['sigmas']


def assert_is_evaluated(events, evaluation, **kwargs):
    found = counted(evaluation)
    oks, = events.Scalars('instances/OKS')
    assert oks.value == pytest.approx(np.mean([oks for _, oks, _ in found]))
    written = {
        tag: value
        for (tag, _), value in keypoint_scalars(events).items()
        if 'normalized_error' not in tag
    }
    assert written == pytest.approx(
        expected_scalars(found, *coco_names(), **kwargs), abs=1e-6)
    return found


METRICS = [
    dict(),
    dict(nms_mode='none', score_mode='bbox'),
    dict(nms_thr=0.3, score_mode='keypoint'),
    dict(nms_mode='soft_oks_nms', nms_thr=0.5, score_mode='bbox_rle'),
    dict(use_area=False, keypoint_score_thr=0.6),
    dict(iou_type='keypoints_crowd'),
]


@pytest.mark.parametrize('metric', METRICS)
def test_a_detectors_boxes(tmp_path, evaluations, metric):
    """Each annotated instance counts once, found or not; a box never does."""
    ann_file, dataset = known_dataset(tmp_path, annotations(), False)
    evaluator = dict(type='CocoMetric', ann_file=ann_file, **metric)
    events = validate(tmp_path / 'run', dataset, evaluator)
    evaluation, = evaluations
    found = assert_is_evaluated(
        events, evaluation, use_area=metric.get('use_area', True))
    # Neither the crowd, nor who has no keypoints.
    fewer = 3 if 'iou_type' in metric else 2
    assert len(found) == IMAGES * PEOPLE - fewer
    missed = sum(predicted is None for _, _, predicted in found)
    assert 3 <= missed < len(found) - 6
    # One person with four boxes is not four.
    assert len(pictures(events, 'val/hard_samples')[0]) == 2
    assert not warnings_of(tmp_path / 'run')


@pytest.mark.parametrize('metric', METRICS)
def test_a_bottom_up_model(tmp_path, evaluations, metric):
    ann_file, dataset = known_dataset(tmp_path, annotations(), True)
    evaluator = dict(type='CocoMetric', ann_file=ann_file, **metric)
    events = validate(tmp_path / 'run', dataset, evaluator, bottom_up=True)
    evaluation, = evaluations
    assert_is_evaluated(
        events, evaluation, use_area=metric.get('use_area', True))


def test_posetrack(tmp_path, evaluations, monkeypatch):
    """It scores and suppresses by settings of its own.

    What its package ``poseval`` makes of them is compared as COCO does it.
    """
    monkeypatch.setattr(posetrack18_metric, 'has_poseval', True)
    for name in ('results2json', '_do_python_keypoint_eval'):
        monkeypatch.setattr(posetrack18_metric.PoseTrack18Metric, name,
                            vars(CocoMetric)[name])
    ann_file, dataset = known_dataset(tmp_path, annotations(), False)
    evaluator = dict(type='PoseTrack18Metric', ann_file=ann_file, nms_thr=0.3)
    events = validate(tmp_path / 'run', dataset, evaluator)
    evaluation, = evaluations
    assert_is_evaluated(events, evaluation)


def test_one_instance_and_one_prediction_far_from_it(tmp_path, evaluations):
    """Of a bottom-up model they do not belong together."""
    people = annotations()[::PEOPLE]
    ann_file = write(tmp_path / 'a.json', people)
    shifted = [
        dict(
            a,
            keypoints=(np.reshape(a['keypoints'],
                                  (17, 3)) + [500, 0, 0]).ravel().tolist())
        for a in people[:4]
    ] + people[4:]
    dataset = dict(
        type='CocoDataset',
        ann_file=ann_file,
        data_mode='bottomup',
        test_mode=True,
        pipeline=[
            dict(
                type='PackKnown',
                ann_file=write(tmp_path / 'shifted.json', shifted))
        ])
    evaluator = dict(type='CocoMetric', ann_file=ann_file, nms_mode='none')
    events = validate(tmp_path / 'run', dataset, evaluator, bottom_up=True)
    found = assert_is_evaluated(events, evaluations[0])
    assert sum(predicted is None for _, _, predicted in found) >= 4


@pytest.mark.parametrize('evaluator, measure', [
    (dict(type='PCKAccuracy', thr=0.05), 'PCK@0.05'),
    (dict(type='PCKAccuracy', thr=0.2), 'PCK@0.2'),
    (dict(type='JhmdbPCKAccuracy', thr=0.2), 'PCK@0.2'),
])
def test_pck_of_ground_truth_boxes(tmp_path, evaluator, measure):
    """The mean over the keypoints is the evaluator's number."""
    _, dataset = known_dataset(tmp_path, annotations())
    evaluator['prefix'] = 'its'
    events = validate(tmp_path / 'run', dataset, evaluator)
    values = [
        value for (tag, _), value in keypoint_scalars(events).items()
        if f'/{measure}/' in tag
    ]
    evaluated, = events.Scalars('val/its/PCK')
    assert 0 < evaluated.value < 1 and len(values) == 17
    assert np.mean(values) == pytest.approx(evaluated.value, abs=1e-6)


def test_nme_of_ground_truth_boxes(tmp_path):
    """That of the evaluator is over all points, ours of each keypoint."""
    ann_file = write(tmp_path / 'a.json', annotations())
    pipeline = [dict(type='PackKnown', ann_file=ann_file)]
    dataset = dict(
        type='CocoDataset',
        ann_file=ann_file,
        test_mode=True,
        pipeline=pipeline)
    metric = dict(
        type='NME',
        norm_mode='use_norm_item',
        norm_item='bbox_size',
        prefix='its')
    events = validate(tmp_path / 'run', dataset, metric)
    evaluated, = events.Scalars('val/its/NME')
    visible = np.sum([
        sample['data_samples'].gt_instances.keypoints_visible[0]
        for sample in CocoDataset(
            ann_file=ann_file,
            test_mode=True,
            pipeline=[TRANSFORMS.build(pipeline[0])])
    ], 0)
    names, _ = coco_names()
    scalars = keypoint_scalars(events)
    values = [scalars[f'keypoints/normalized_error/{n}', 0] for n in names]
    assert np.average(
        values, weights=visible) == pytest.approx(
            evaluated.value, rel=1e-5)


# Several data sets

AIC_OF_COCO = [(6, 0), (8, 1), (10, 2), (5, 3), (7, 4), (9, 5), (12, 6),
               (14, 7), (16, 8), (11, 9), (13, 10), (15, 11)]


def two_data_sets(tmp_path, detected=False, **aic):
    """MMPose's documented example: a model of COCO's keypoints."""
    files = [
        write(tmp_path / 'coco.json', annotations()),
        write(tmp_path / 'aic.json', annotations(14, 1))
    ]
    datasets = [
        dict(
            type=kind,
            ann_file=ann_file,
            test_mode=True,
            pipeline=[
                dict(type='PackKnown', ann_file=ann_file, mapping=mapping)
            ]) for kind, ann_file, mapping in zip((
                'CocoDataset', 'AicDataset'), files, (None, AIC_OF_COCO))
    ]
    if detected:
        boxes = [
            dict(
                image_id=i, category_id=1, bbox=[9, 9, 30, 30], score=0.1 * j)
            for i in range(1, IMAGES + 1) for j in range(1, 7)
        ]
        (tmp_path / 'b.json').write_text(json.dumps(boxes))
        for dataset in datasets:
            dataset['bbox_file'] = str(tmp_path / 'b.json')
    dataset = dict(
        type='CombinedDataset',
        metainfo=dict(from_file='configs/_base_/datasets/coco.py'),
        datasets=datasets,
        pipeline=[dict(type='KeepPacked')],
        test_mode=True)
    evaluator = dict(
        type='MultiDatasetEvaluator',
        metrics=[
            dict(type='CocoMetric', ann_file=files[0], prefix='coco'),
            dict(type='CocoMetric', ann_file=files[1], prefix='aic', **aic)
        ],
        datasets=datasets)
    return dataset, evaluator


@pytest.mark.parametrize('detected', [False, True])
def test_several_data_sets(tmp_path, evaluations, detected):
    """Each by itself as its metric has it, and all by keypoint."""
    dataset, evaluator = two_data_sets(
        tmp_path,
        detected,
        pred_converter=dict(num_keypoints=14, mapping=AIC_OF_COCO))
    events = validate(tmp_path / 'run', dataset, evaluator)
    coco, aic = map(set, (coco_names()[0], coco_names('aic')[0]))
    tags = {tag for tag, _ in keypoint_scalars(events)}
    for name, names in (('', coco | aic), ('coco/', coco), ('aic/', aic)):
        assert {
            tag.split('/')[-1]
            for tag in tags if tag.startswith(f'keypoints/{name}OKS/')
        } == names
    if detected:
        assert_each_is_evaluated(events, evaluations, (17, 14))
    # Together each instance counts as much as any other.
    scalars = keypoint_scalars(events)
    means = [
        scalars[f'keypoints/{name}OKS/left_wrist', 0]
        for name in ('', 'coco/', 'aic/')
    ]
    assert min(means[1:]) < means[0] < max(means[1:])
    assert len(pictures(events, 'val/hard_samples')[0]) == 2
    assert not warnings_of(tmp_path / 'run')


def assert_each_is_evaluated(events, evaluations, num_keypoints):
    for name, evaluation, k in zip(('coco', 'aic'), evaluations,
                                   num_keypoints):
        oks, = events.Scalars(f'instances/OKS/{name}')
        found = [oks for _, oks, _ in counted(evaluation, k)]
        assert 0.2 < oks.value < 0.9
        assert oks.value == pytest.approx(np.mean(found))


def test_ground_truth_that_is_converted(tmp_path, evaluations):
    """To the keypoints that the model predicts, and once."""
    dataset, evaluator = two_data_sets(
        tmp_path,
        detected=True,
        gt_converter=dict(
            num_keypoints=17, mapping=[(b, a) for a, b in AIC_OF_COCO]))
    events = validate(tmp_path / 'run', dataset, evaluator)
    assert_each_is_evaluated(events, evaluations, (17, 17))
    assert {tag.split('/')[-1]
            for tag, _ in keypoint_scalars(events)} == set(coco_names()[0])


def test_a_data_set_that_cannot_be_compared_is_named(tmp_path, evaluations):
    """GT of 14 keypoints beside predictions of 17, and no converter."""
    dataset, evaluator = two_data_sets(tmp_path)
    evaluator['metrics'][1] = dict(type='EPE', prefix='unused')
    dataset['datasets'][1]['ann_file'] = dataset['datasets'][1]['ann_file']
    evaluator = dict(
        type='CocoMetric',
        ann_file=evaluator['metrics'][0]['ann_file'],
        format_only=True,
        outfile_prefix=str(tmp_path / 'out'))
    events = validate(tmp_path / 'run', dataset, evaluator)
    warning, = warnings_of(tmp_path / 'run')
    count, = re.findall(r'skips (\d+) samples', warning)
    assert "'aic'" in warning and '14' in warning and '17' in warning
    assert int(count) == 20
    names, _ = coco_names()
    assert {tag.split('/')[-1]
            for tag, _ in keypoint_scalars(events)} == set(names)


def test_boxes_that_nobody_has_annotated(tmp_path):
    ann_file = write(tmp_path / 'a.json', annotations())
    (tmp_path / 'b.json').write_text(
        json.dumps(
            [dict(image_id=1, category_id=1, bbox=[9, 9, 30, 30], score=0.5)]))
    dataset = dict(
        type='CocoDataset',
        ann_file=ann_file,
        bbox_file=str(tmp_path / 'b.json'),
        test_mode=True,
        pipeline=[dict(type='PackKnown', ann_file=ann_file)])
    events = validate(tmp_path / 'run', dataset,
                      dict(type='PCKAccuracy', prefix='unused'))
    warning, = warnings_of(tmp_path / 'run')
    assert 'skips 1 samples' in warning and 'CocoMetric' in warning
    assert not keypoint_scalars(events)


def test_keypoints_that_are_not_those_of_the_image(tmp_path):
    """Models of 3D poses have those in the image beside them."""
    from mmpose.engine.monitors.poses.pose_samples import predictions
    keypoints = np.arange(12.).reshape(1, 4, 3)
    instances = InstanceData(
        keypoints=keypoints, transformed_keypoints=keypoints[..., :2] + 7)
    assert (predictions(instances)[0] == keypoints[..., :2] + 7).all()


def test_what_counts_is_read_from_the_metric():
    metric = CocoMetric(nms_mode='none')
    metric.dataset_meta = metainfo()
    assert metric.nms_mode == 'none' and hasattr(metric, 'score_mode')
    for name in ('keypoint_score_thr', 'nms_thr', 'use_area', 'iou_type',
                 'pred_converter', 'gt_converter', 'coco', 'dataset_meta'):
        assert hasattr(metric, name), name
