# Copyright (c) OpenMMLab. All rights reserved.
"""What is found in the kinds of error of a validation."""
import numpy as np
import pytest
from looking import Looking, training
from planted_errors import COCO, apart, tally_of

from mmpose.engine.monitors.core.measurements import LocalizationErrors, Sides
from mmpose.engine.monitors.core.pose_measurements import PoseSpread
from mmpose.engine.monitors.health.detectors.validations.localization import (
    InstanceSwapDetector, LeftRightDetector)
from mmpose.engine.monitors.poses.accuracy.data_set_accuracy import \
    DataSetAccuracy
from mmpose.engine.monitors.poses.diagnosis.error_summary import ErrorSummary


def mirrored_predictions(fraction, noise=3., number=200):
    """What detectors are shown of a model that mixes up left and right."""
    rng = np.random.default_rng(0)
    people = apart(number, 17)
    mirrored = np.array(COCO['flip_indices'])
    for i, person in enumerate(people):
        is_wrong = rng.random() < fraction
        person[4] = person[1][mirrored] if is_wrong else person[1].copy()
        person[4] += rng.normal(0, noise, person[4].shape)
    results = tally_of(people, COCO['sigmas'], mirrored).results()
    part = DataSetAccuracy(None, 17, COCO, np.array(COCO['sigmas']))
    return ErrorSummary([(part, results)]).measurement()


def findings(detector, measurements):
    looking = Looking(detector, training())
    return [[f.name for f in looking.see(step, measurement) or ()]
            for step, measurement in enumerate(measurements, 1)]


@pytest.mark.parametrize('fraction', [0.5, 1.])
def test_left_and_right_exchanged(fraction):
    """Half: nothing told them apart. All: mirrored labels."""
    errors = mirrored_predictions(fraction)
    assert findings(LeftRightDetector(),
                    [errors] * 4) == [[], [], ['left_right_exchanged'],
                                      ['left_right_exchanged']]


@pytest.mark.parametrize('fraction, noise', [(0., 3.), (0.1, 3.), (0.5, 500.),
                                             (1., 500.)])
def test_left_and_right_of_a_healthy_model_or_one_that_guesses(
        fraction, noise):
    errors = mirrored_predictions(fraction, noise)
    assert findings(LeftRightDetector(), [errors] * 6) == [[]] * 6


def test_left_and_right_of_a_model_that_learns_them():
    course = [mirrored_predictions(f) for f in (.5, .4, .3, .25, .2, .1)]
    assert findings(LeftRightDetector(), course) == [[]] * 6


@pytest.mark.parametrize('spread, present', [(0.3, False), (0.9, True)])
def test_left_and_right_of_the_mean_pose_tell_nothing(spread, present):
    """Defect: labels of other images were taken for exchanged sides."""
    errors = mirrored_predictions(0.5)
    poses = PoseSpread(200, spread, pck_auc=0.2, of_mean_pose=0.2)
    found = findings(LeftRightDetector(), [poses, errors] * 4)
    assert any(found) == present


def test_one_pair_alone_is_named():
    sides = (Sides(('left_hip', 'right_hip'), 900, 850,
                   10), Sides(('left_knee', 'right_knee'), 900, 300,
                              400), Sides(('left_ear', 'right_ear'), 9, 3, 4))
    looking = Looking(LeftRightDetector(), training())
    for step in range(3):
        found = looking.see(step, LocalizationErrors({}, sides))
    assert 'left_knee and right_knee.' in found[0].what
    assert '400 of 700' in found[0].evidence


@pytest.mark.parametrize(
    'swap, good, present',
    [
        (0.15, 0.7, True),
        (0.03, 0.9, False),
        (0.2, 0.1, False),  # A model that guesses.
    ])
def test_instances_swapped(swap, good, present):
    errors = LocalizationErrors(dict(swap=swap, good=good, jitter=0.))
    expected = [[], [], ['instances_swapped'] * present]
    assert findings(InstanceSwapDetector(), [errors] * 3) == expected
