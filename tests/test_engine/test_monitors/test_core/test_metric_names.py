# Copyright (c) OpenMMLab. All rights reserved.
import math
from types import SimpleNamespace

import pytest
from mmengine.hooks import CheckpointHook

from mmpose.engine.monitors.core import metric_names
from mmpose.engine.monitors.core.metric_names import (MainMetric, better,
                                                      direction, main_metric)


@pytest.mark.parametrize('rule, names', [
    ('greater', [
        'coco/AP', 'coco/AP .5', 'coco/AR (M)', 'crowdpose/AP(E)', 'PCK',
        'PCKh', 'tPCK', 'Head PCK', 'PCK@0.1', 'AUC', 'HandednessAcc',
        'acc_pose', 'top1/accuracy', 'posetrack18/Shou AP', '3DPCK'
    ]),
    ('less', [
        'NME', 'EPE', 'MPJPE', 'P-MPJPE', 'MPJPE_all', 'MRRPE', 'body/NME',
        'loss', 'val_loss', 'error'
    ]),
    ('', ['time', 'AP/other', 'score', 'Marble']),
])
def test_which_values_are_the_better_ones(rule, names):
    assert {name: direction(name)
            for name in names} == dict.fromkeys(names, rule)


def test_better_values():
    nan = math.nan
    assert better('greater', None, 1) == 1
    assert better('greater', 1, 2) == better('greater', 2, 1) == 2
    assert better('less', 1, 2) == better('less', 2, 1) == 1
    assert better('', 2, 1) == 1
    assert better('less', nan, 2) == better('less', 2, nan) == 2
    assert better('', 2, nan) == 2
    assert math.isnan(better('less', None, nan))


@pytest.mark.parametrize('names, main', [
    (['PCK', 'coco/AP'], 'coco/AP'),
    (['coco/AP .5', 'coco/AR', 'coco/AP'], 'coco/AP'),
    (['body/AP', 'coco/AP'], 'coco/AP'),
    (['body/coco/AP', 'all/coco/AP'], 'all/coco/AP'),
    (['coco-wholebody/AP'], 'coco-wholebody/AP'),
    (['posetrack18/Head AP', 'posetrack18/Total AP'], 'posetrack18/Total AP'),
    (['Head PCK', 'PCK', 'PCK@0.1'], 'PCK'),
    (['PCKh'], 'PCKh'),
    (['Head tPCK', 'tPCK'], 'tPCK'),
    (['AUC', 'EPE'], 'AUC'),
    (['face/NME', 'other'], 'face/NME'),
    (['MPJPE_all', 'MPJPE_single', 'MRRPE'], 'MPJPE_all'),
    (['P-MPJPE', 'P-MPJPE_Walking'], 'P-MPJPE'),
    (['val_loss'], 'val_loss'),
    (['score', 'time'], None),
])
def test_the_main_metric(names, main):
    """By MMPose's own names, and that of the whole before that of a part."""
    found = main_metric(names)
    assert (found and found.name) == main
    if main is not None:
        is_error = any(word in main for word in ('E', 'loss'))
        assert found.sign == (-1 if is_error else 1)


@pytest.mark.parametrize('save_best, rule, expected', [
    (None, None, None),
    ('auto', None, None),
    ('EPE', 'less', ('EPE', 'less')),
    (['coco/AR', 'EPE'], ['greater', 'less'], ('coco/AR', 'greater')),
])
def test_the_metric_of_the_best_checkpoint(save_best, rule, expected):
    hook = CheckpointHook(save_best=save_best, rule=rule)
    found = metric_names.metric_of_best_checkpoint(
        SimpleNamespace(hooks=[hook]))
    assert found == (expected and MainMetric(*expected))
