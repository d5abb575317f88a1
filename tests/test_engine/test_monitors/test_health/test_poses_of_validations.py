# Copyright (c) OpenMMLab. All rights reserved.
"""What is found in the offsets and the spread of a validation's poses."""
import numpy as np
import pytest
from looking import Looking, training

from mmpose.engine.monitors.core.pose_measurements import KeypointBias
from mmpose.engine.monitors.health.detectors.validations.keypoint_bias import \
    KeypointBiasDetector


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
