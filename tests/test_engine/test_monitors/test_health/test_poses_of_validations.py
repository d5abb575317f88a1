# Copyright (c) OpenMMLab. All rights reserved.
"""What is found in the offsets and the spread of a validation's poses."""
import numpy as np
import pytest
from looking import Looking, training

from mmpose.engine.monitors.core.measurements import LearningRates, Losses
from mmpose.engine.monitors.core.pose_measurements import (KeypointBias,
                                                           PoseSpread)
from mmpose.engine.monitors.health.detectors.validations.keypoint_bias import \
    KeypointBiasDetector
from mmpose.engine.monitors.health.detectors.validations.one_pose import \
    OnePoseDetector


def names_of(detector, measurements, first=1, **kwargs):
    looking = Looking(detector, training(**kwargs))
    return [[f.name for f in looking.see(step, measurement)]
            for step, measurement in enumerate(measurements, first)]


def bias(x, y, scatter=.1, in_place=.8, number=17):
    rng = np.random.default_rng(0)
    offsets = (x, y) + rng.normal(0, scatter, (number, 2))
    return KeypointBias('UDPHeatmap', in_place, {
        f'joint_{i}': tuple(offset)
        for i, offset in enumerate(offsets.tolist())
    })


@pytest.mark.parametrize('x, y, where', [
    (.4, .4, 'right and down'),
    (-.5, 0., 'left'),
    (0., -.5, 'up'),
])
def test_a_bias_is_found_in_three_validations(x, y, where):
    assert names_of(KeypointBiasDetector(),
                    [bias(x, y)] * 4) == [[], [], ['keypoint_bias'],
                                          ['keypoint_bias']]
    looking = Looking(KeypointBiasDetector(), training())
    for step in range(3):
        finding, *_ = [*looking.see(step, bias(x, y)), None]
    assert f'too far {where}:' in finding.what
    assert 'UDPHeatmap' in finding.advice


@pytest.mark.parametrize(
    'measurement',
    [
        bias(.1, -.1),
        # Some keypoints one way, some the other.
        bias(.3, 0., scatter=1.),
        # A model that guesses.
        bias(.5, .5, in_place=.1),
        bias(.5, .5, number=3),
    ])
def test_no_bias_in_a_healthy_model_or_one_that_guesses(measurement):
    assert names_of(KeypointBiasDetector(), [measurement] * 6) == [[]] * 6


# One pose


def one_pose_of(course, instances=100, of_mean_pose=.5):
    """What is found in validations, one every hundred iterations.

    Args:
        course (list[tuple]): The spread and the area under the PCK.
    """
    looking = Looking(OnePoseDetector(), training(max_iters=1000))
    looking.see(1, LearningRates({'': 1e-3}))
    found = []
    for i, (spread, area) in enumerate(course, 1):
        looking.see(100 * i, Losses(1 / i))
        found.append(
            looking.see(100 * i,
                        PoseSpread(instances, spread, area, of_mean_pose)))
    return [[f.name for f in findings] for findings in found]


def test_one_pose_is_found_after_a_part_of_the_training():
    """Not before the 300th iteration, and in three validations."""
    found = one_pose_of([(.3, .5)] * 6 + [(.8, .9)])
    assert found == [[]] * 4 + [['one_pose']] * 2 + [[]]


@pytest.mark.parametrize(
    'course, others',
    [
        # Healthy, at first like one pose.
        ([(.5, .51), (.6, .59), (.8, .66)] + [(.9, .8)] * 5, {}),
        # Slow, but it becomes better.
        ([(.3, .2 * 1.06**i) for i in range(9)], {}),
        # It guesses: other findings tell it.
        ([(1.2, .1)] * 8, {}),
        # Few instances; faces that are all alike.
        ([(.3, .5)] * 8, dict(instances=5)),
        ([(.3, .9)] * 8, dict(of_mean_pose=.9)),
    ])
def test_no_one_pose(course, others):
    assert one_pose_of(course, **others) == [[]] * len(course)


def test_what_is_told_of_one_pose():
    looking = Looking(OnePoseDetector(), training(max_iters=1000))
    looking.see(1, Losses(3.))
    looking.see(900, Losses(1.))
    for _ in range(3):
        found = looking.see(900, PoseSpread(100, .25, .44, .45))
    assert 'scatter, relative to the boxes, 25% as much' in found[0].evidence
    assert 'was 3 at first and is 1.' in found[0].evidence
    assert found[0].severity == 'error'
