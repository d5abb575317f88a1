# Copyright (c) OpenMMLab. All rights reserved.
"""What is wrong with an evaluation, and that the evaluator stays as it is."""
from types import SimpleNamespace

import numpy as np
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.structures import InstanceData

from mmpose.engine.monitors.poses.sanity_val.evaluation import evaluate
from mmpose.structures import PoseDataSample


class Counting(BaseMetric):
    """Keeps a state of its own, as metrics of users do."""

    def __init__(self, ap=0.5):
        super().__init__(prefix='mine')
        self.seen = []
        self.ap = ap
        self.outfile_prefix = 'results'

    def process(self, data_batch, data_samples):
        self.seen.append(len(data_samples))
        self.results += data_samples

    def compute_metrics(self, results):
        assert self.outfile_prefix is None
        return {'AP': self.ap, 'AP (M)': -1.}


def sample(img_id, value=1.):
    return PoseDataSample(
        metainfo=dict(img_id=img_id),
        pred_instances=InstanceData(
            keypoints=np.full((1, 3, 2), value),
            keypoint_scores=np.ones((1, 3))))


def predicted(*samples):
    return [(dict(inputs=torch.zeros(1)), list(samples))]


def annotations(**areas):
    return SimpleNamespace(
        imgs={
            1: {},
            2: {}
        },
        anns={
            name: dict(id=name, num_keypoints=3, area=area)
            for name, area in areas.items()
        })


def test_the_evaluator_stays_as_it_is():
    """P1: its results and whatever else a metric counts."""
    metric = Counting()
    metric.coco = annotations(a=1.)
    metric.results = before = ['of a validation']
    evaluator = Evaluator([metric])
    # Of sizes that no instance has, AP is -1.
    assert evaluate(evaluator, predicted(sample(1), sample(2))) == []
    assert metric.results is before == ['of a validation']
    assert metric.seen == [] and metric.outfile_prefix == 'results'
    assert evaluator.metrics == [metric]


def test_each_problem_is_a_sentence():
    metric = Counting(ap=-1)
    metric.coco = annotations(a=1., b=0, c=2.)
    problems = evaluate(
        Evaluator([metric]), predicted(sample(1), sample(7, np.nan)))
    assert len(problems) == 4
    finite, images, areas, ap = problems
    assert 'NaN or infinite in 1 of 2 samples' in finite
    assert '1 of 2 images: img_id 7 is not' in images
    assert 'Of 3 annotations with keypoints 1 have no area' in areas
    assert 'id b' in areas
    assert ap.startswith('AP is -1')
    metric.use_area = False
    assert len(evaluate(Evaluator([metric]), predicted(sample(1)))) == 1


def test_what_needs_the_whole_data_set_is_not_computed():
    metric = Counting(ap=-1)
    metric.format_only = True
    assert evaluate(Evaluator([metric]), predicted(sample(1))) == []


def test_without_a_prediction_the_annotations_are_looked_at():
    metric = Counting()
    metric.coco = annotations(b=0)
    problem, = evaluate(Evaluator([metric]), [])
    assert 'no area' in problem
