# Copyright (c) OpenMMLab. All rights reserved.
"""Findings on the losses of fixed samples."""
import pytest
from looking import training

from mmpose.engine.monitors.core.measurements import (KeypointAccuracy, Losses,
                                                      ValidationMetrics)
from mmpose.engine.monitors.core.pose_measurements import FixedLosses
from mmpose.engine.monitors.health.detectors.samples.generalization import (
    EasierValidationDetector, PreparationDetector)
from mmpose.engine.monitors.health.detectors.validations.plateau import \
    OverfittingDetector


def found(detector, courses, pck=None):
    """At which validations there is a finding."""
    detector.before_train(training(max_iters=20000))
    seen = []
    for i, losses in enumerate(courses, start=1):
        if pck is not None:
            detector.see(i, KeypointAccuracy(pck))
        seen.append(detector.see(i, FixedLosses(i * 500, *losses)))
    return seen


def test_training_samples_that_the_validation_prepares_otherwise():
    seen = found(PreparationDetector(), [(9., 8., 1.)] * 6)
    # After 1000 updates, in three consecutive validations.
    assert [len(one) for one in seen] == [0, 0, 0, 0, 1, 1]
    finding, = seen[-1]
    assert finding.name == 'validation_preparation'
    assert 'a loss of 1,' in finding.evidence
    assert 'validation 8 (train_as_val' in finding.evidence


@pytest.mark.parametrize(
    'losses',
    [
        (3., 1., 1.),  # It overfits.
        (1.2, 1.1, 1.3),
        (1.9, 1.9, 1.),
    ])
def test_samples_that_are_prepared_alike(losses):
    assert found(PreparationDetector(), [losses] * 6) == [[]] * 6


# What is known of accuracies: PCK of the training samples, and what the head
# returns for them and for a batch.
@pytest.mark.parametrize(
    'losses, accuracies',
    [
        # Of heatmaps, whose loss is not three times as high without a peak.
        ((8., 7., 4.), (0.05, 0.1, 0.7)),
        # A likelihood.
        ((9., 8., -3.), (0.05, 0.3, 0.7)),
    ])
def test_an_accuracy_tells_more_than_a_loss(losses, accuracies):
    finding, = found(PreparationDetector(), [(*losses, *accuracies)] * 6)[-1]
    assert f'acc_pose of {accuracies[1]}' in finding.evidence
    assert 'acc_pose of 0.7' in finding.evidence


@pytest.mark.parametrize(
    'losses, accuracies',
    [
        ((9., 8., 1.), (0.3, 0.4, 0.7)),
        # Measured in a training with wrong labels.
        ((6.6, 7.7, 6.9), (0.14, 0.115, 0.24)),
        # Nothing is learned as yet.
        ((9., 8., 1.), (0.0, 0.05, 0.15)),
        ((9., 8., -3.), (None, None, None)),
        ((9., 8., 0.), (None, None, None)),
    ])
def test_samples_that_are_as_accurate(losses, accuracies):
    courses = [(*losses, *accuracies)] * 6
    assert not any(found(PreparationDetector(), courses))


def test_one_of_them_is_unknown():
    for losses in (None, None, None), (1., 9., None), (9., None, 1.):
        assert found(PreparationDetector(), [losses] * 6) == [None] * 6


@pytest.mark.parametrize(
    'losses, pck',
    [
        ((1., 3., 1., 0.3), 0.8),
        # Of heatmaps, and a likelihood.
        ((0.9, 1., 1., 0.3), 0.8),
        ((-3., -2., 1., 0.3), 0.8),
        # A bottom-up model.
        ((1., 3., 1., None), 0.8),
    ])
def test_a_validation_that_is_easier(losses, pck):
    seen = found(EasierValidationDetector(), [losses] * 6, pck=pck)
    assert [len(one) for one in seen] == [0, 0, 0, 0, 1, 1]
    finding, = seen[-1]
    assert finding.name == 'validation_easier' and '0.8' in finding.evidence


def test_a_short_training_has_no_thousand_updates():
    detector = EasierValidationDetector()
    detector.before_train(training(max_iters=600))
    seen = []
    for i in range(1, 7):
        detector.see(i, KeypointAccuracy(0.8))
        seen.append(detector.see(i, FixedLosses(i * 100, 1., 3., 1., 0.3)))
    assert [len(one) for one in seen] == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    'losses, pck',
    [
        ((1., 3., 1., 0.75), 0.8),  # The keypoints are as accurate.
        ((1.1, 1., 1., 0.3), 0.8),
        ((3., 1., 1., 0.9), 0.8),
        ((1., 1.5, 1., None), 0.8),
        # Likelihoods have no ratio.
        ((-3., 1., 1., None), 0.8),
        ((-3., -2., 1., None), 0.8),
    ])
def test_a_validation_that_is_none(losses, pck):
    seen = found(EasierValidationDetector(), [losses] * 6, pck=pck)
    assert not any(seen)


@pytest.mark.parametrize(
    'validation, training_loss, expected',
    [
        (lambda i: 1 + 0.1 * i, lambda i: 1 / (1 + i), True),
        # Only the loss of the augmented samples falls.
        (lambda i: 1 + 0.1 * i, lambda i: 1., False),
        # The loss of the validation falls as well.
        (lambda i: 1 - 0.05 * i, lambda i: 1 / (1 + i), False),
    ])
def test_overfitting_is_judged_by_the_losses_of_fixed_samples(
        validation, training_loss, expected):
    detector = OverfittingDetector()
    detector.before_train(training(max_iters=20000))
    findings = []
    for i in range(8):
        metric = 0.5 if i == 0 else 0.4 - 0.01 * i
        detector.see(i, Losses(median=1 / (1 + i)))
        detector.see(
            i, FixedLosses(i * 100, validation(i), training_loss(i), None))
        findings = detector.see(
            i, ValidationMetrics(i * 100, {'coco/AP': metric}))
    assert bool(findings) == expected
    if expected:
        assert 'train_as_val/loss' in findings[0].evidence
