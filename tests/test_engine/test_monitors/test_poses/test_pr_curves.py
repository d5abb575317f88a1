# Copyright (c) OpenMMLab. All rights reserved.
"""P8: TensorBoard's PR Curves are those of COCO's evaluation."""
import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from evaluated_poses import annotations, known_dataset
from planted_errors import COCO, apart
from tensorboard.util.tensor_util import make_ndarray
from test_evaluators import validate

from mmpose.engine.monitors.poses.accuracy.data_set_accuracy import \
    DataSetAccuracy
from mmpose.engine.monitors.poses.accuracy.evaluation_rules import \
    EvaluationRules
from mmpose.engine.monitors.poses.accuracy.hard_samples import image_key
from mmpose.engine.monitors.poses.accuracy.instances import instance_batch
from mmpose.engine.monitors.poses.accuracy.scored_predictions import (
    IGNORED, score_predictions)
from mmpose.engine.monitors.poses.diagnosis import precision_recall
from mmpose.engine.monitors.poses.pose_samples import PoseSample
from mmpose.utils import register_all_modules

register_all_modules()
# Where MMPose's repository has its samples of data sets.
SAMPLES = Path(os.environ.get('MMPOSE_TEST_DATA', 'tests/data'))


@pytest.fixture
def curves(monkeypatch):
    """The scores, the hits and the positives that curves were made of."""
    made = {}
    make = precision_recall.precision_recall

    def remember(tag, predictions, positives, *args):
        scores, matches = (np.concatenate(of) for of in zip(*predictions))
        counted = matches != IGNORED
        made[tag] = scores[counted], matches[counted] == 1, positives
        return make(tag, predictions, positives, *args)

    monkeypatch.setattr(precision_recall, 'precision_recall', remember)
    return made


def evaluated_at(evaluation, threshold):
    """What COCO's evaluation counts at a similarity.

    Returns:
        tuple: The scores of the predictions, which of them are right, the
        number of instances, and the average precision.
    """
    evaluation.params.iouThrs = np.array([threshold])
    evaluation.params.areaRng = [[0, 1e10]]
    evaluation.params.areaRngLbl = ['all']
    # That of CrowdPose ends with the hardest images.
    evaluation.params.imgIds = sorted(evaluation.cocoGt.getImgIds())
    evaluation.evaluate()
    evaluation.accumulate()
    images = list(filter(None, evaluation.evalImgs))
    counted = ~np.concatenate([e['dtIgnore'][0] for e in images]).astype(bool)
    scores = np.concatenate([e['dtScores'] for e in images])[counted]
    hits = np.concatenate([e['dtMatches'][0] for e in images])[counted] >= 0
    positives = sum((e['gtIgnore'] == 0).sum() for e in images)
    return (scores, hits, positives, evaluation.eval['precision'][0, :, 0, 0,
                                                                  0].mean())


def average_precision(scores, hits, positives):
    """COCO's: precision at 101 recalls, from the definition."""
    right = np.cumsum(hits[np.argsort(-scores, kind='stable')])
    recall = right / positives
    precision = right / np.arange(1, 1 + len(right))
    return np.mean([
        precision[recall >= r - 1e-12].max(initial=0)
        for r in np.linspace(0, 1, 101)
    ])


def assert_is_evaluated(events, curves, evaluation):
    for threshold in (0.5, 0.75):
        tag = f'pr/instances/OKS@{threshold}'
        scores, hits, positives, ap = evaluated_at(evaluation, threshold)
        assert curves[tag][2] == positives
        assert average_precision(*curves[tag]) == pytest.approx(ap, abs=1e-9)
        tensor, = events.Tensors(tag)
        rows = make_ndarray(tensor.tensor_proto)
        for i, at in enumerate(np.linspace(0, 1, 201)):
            kept = scores >= at * max(1, scores.max())
            assert rows[0, i] == (kept & hits).sum()
            assert rows[1, i] == (kept & ~hits).sum()
        assert rows[5] == pytest.approx(rows[0] / positives)
    return hits, positives


@pytest.mark.parametrize('bottom_up, metric', [
    (False, dict()),
    (False, dict(nms_mode='soft_oks_nms', nms_thr=0.5, score_mode='bbox_rle')),
    (False, dict(iou_type='keypoints_crowd')),
    (True, dict(nms_mode='none', score_mode='bbox')),
    (True, dict(iou_type='keypoints_crowd', use_area=False)),
])
def test_what_is_right_is_what_cocos_evaluation_matches(
        tmp_path, evaluations, curves, bottom_up, metric):
    """With boxes of a detector, and of all instances at once."""
    ann_file, dataset = known_dataset(tmp_path, annotations(), bottom_up)
    events = validate(tmp_path / 'run', dataset,
                      dict(type='CocoMetric', ann_file=ann_file, **metric),
                      bottom_up)
    hits, positives = assert_is_evaluated(events, curves, evaluations[0])
    assert 0 < hits.sum() < min(positives, len(hits))


@pytest.mark.skipif(
    not (SAMPLES / 'coco').is_dir(), reason='MMPose has the samples')
@pytest.mark.parametrize('kind, folder, boxes, metric', [
    ('CocoDataset', 'coco/test_coco.json', 'coco/test_coco_det_AP_H_56.json',
     {}),
    ('CrowdPoseDataset', 'crowdpose/test_crowdpose.json',
     'crowdpose/test_crowdpose_det_AP_40.json',
     dict(iou_type='keypoints_crowd', use_area=False)),
])
@pytest.mark.parametrize('how', ['detected', 'bottom_up', 'annotated'])
def test_samples_of_real_data_sets(tmp_path, evaluations, curves, kind, folder,
                                   boxes, metric, how):
    ann_file = str(SAMPLES / folder)
    dataset = dict(
        type=kind,
        ann_file=ann_file,
        test_mode=True,
        pipeline=[dict(type='PackKnown', ann_file=ann_file)])
    if how == 'bottom_up':
        dataset['data_mode'] = 'bottomup'
        dataset['pipeline'][0]['count'] = 8
    elif how == 'detected':
        dataset['bbox_file'] = str(SAMPLES / boxes)
    else:
        metric = dict(metric, nms_mode='none')
    events = validate(tmp_path / 'run', dataset,
                      dict(type='CocoMetric', ann_file=ann_file, **metric),
                      how == 'bottom_up')
    assert_is_evaluated(events, curves, evaluations[0])


@pytest.mark.parametrize('paired', [True, False])
def test_shards_merge_into_the_whole(paired):
    """Also where the instances of an image are not on the same rank."""
    rng = np.random.default_rng(0)
    people = apart(60, 17)
    for person in people:
        person[4] = person[1] + rng.normal(0, rng.choice([.2, .5, 3]), (17, 2))
    # Some are predicted where another one is.
    for i in range(0, 60, 5):
        people[i][4], people[i + 1][4] = people[i + 1][4], people[i][4]
    sigmas = np.array(COCO['sigmas'])

    def part_of(people):
        part = DataSetAccuracy(None, 17, COCO, sigmas)
        for image, truth, visible, area, predicted in people:
            sample = PoseSample(
                None,
                truth=truth[None],
                visible=visible[None],
                boxes=np.array([[0., 0, 100, 100]]),
                areas=np.array([area]),
                predicted=np.float32(predicted)[None],
                scores=np.full((1, 17), predicted[0, 0] % 1, np.float32),
                img_id=image,
                ids=np.array([7]),
                occluded=np.zeros((1, 17), bool),
                instance_scores=np.float32([predicted[0, 1] % 1]))
            batch = instance_batch([sample], [np.zeros(1, int)])
            part.instances.add(batch, [image_key(sample)])
            if not paired:
                part.instances.add_predictions(
                    score_predictions([sample], EvaluationRules(), sigmas))
        return part

    def curves_of(part):
        validation = SimpleNamespace(
            parts=[part], rules=lambda name: EvaluationRules())
        return list(precision_recall.precision_recall_curves(validation))

    whole = curves_of(part_of(people))
    total, other = pickle.loads(
        pickle.dumps([part_of(people[rank::2]) for rank in range(2)]))
    total.merge(other)
    merged = curves_of(total)
    assert len(whole) == len(merged) == 3
    for mine, its in zip(merged, whole):
        assert mine.tag == its.tag and mine.positives == its.positives > 40
        assert (mine.true_positives == its.true_positives).all()
        assert (mine.false_positives == its.false_positives).all()
        assert 0 < mine.true_positives[0] < its.positives
    # Those that were exchanged match the other one of their image.
    assert (whole[0].true_positives[0] > 40) == paired
