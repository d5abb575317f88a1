# Copyright (c) OpenMMLab. All rights reserved.
import math

import numpy as np
import pytest
import torch
from looking import Looking, training
from mmengine.hooks import CheckpointHook
from mmengine.optim.scheduler import CosineAnnealingLR, MultiStepLR, StepLR
from scipy.signal import lfilter
from torch import nn
from torch.optim import SGD

# yapf: disable
from mmpose.engine.monitors.core.measurements import (Buffers, DataTime,
                                                      EmaLosses, EmaModel,
                                                      HookTime,
                                                      KeypointAccuracy,
                                                      KeypointWeights,
                                                      LearningRates, Losses,
                                                      Nonfinite, Spike,
                                                      TransformTimes,
                                                      ValidationMetrics)
# yapf: enable
from mmpose.engine.monitors.health.detectors.divergence import \
    DivergenceDetector
from mmpose.engine.monitors.health.detectors.learning_rate_zero import \
    LearningRateZeroDetector
from mmpose.engine.monitors.health.detectors.loss_spike import \
    LossSpikeDetector
from mmpose.engine.monitors.health.detectors.machine.data_loader import \
    DataLoaderDetector
from mmpose.engine.monitors.health.detectors.nonfinite import (
    NonfiniteBufferDetector, NonfiniteLossDetector)
from mmpose.engine.monitors.health.detectors.not_learning import \
    NotLearningDetector
from mmpose.engine.monitors.health.detectors.validations import \
    broken_validation
from mmpose.engine.monitors.health.detectors.validations.ema import (
    EmaLagDetector, NonfiniteEmaDetector)
from mmpose.engine.monitors.health.detectors.validations.plateau import (
    OverfittingDetector, PlateauDetector)
from mmpose.engine.monitors.health.detectors.zero_accuracy import \
    ZeroAccuracyDetector
from mmpose.engine.monitors.health.detectors.zero_loss import ZeroLossDetector

AP = 'coco/AP'


def rate(lr):
    return LearningRates({'': lr})


def validation(step, value, name=AP, **others):
    return ValidationMetrics(step, {name: value, 'other': 0., **others})


def of_validation():
    """What the main metric is judged by, the most serious first."""
    return [
        broken_validation.BrokenValidationDetector(),
        broken_validation.ValidationCollapseDetector(),
        OverfittingDetector(),
        PlateauDetector()
    ]


def watch(detectors, events, runner=None):
    """When which finding begins and ends.

    Returns:
        list[tuple]: A step, and the findings from there on.
    """
    looking = Looking(detectors, runner or training())
    courses, present = [], []
    for step, measurement in events:
        findings = looking.see(step, measurement)
        if findings is None:
            continue
        if [f.what for f in findings] != [f.what for f in present]:
            courses.append((step, findings))
        present = findings
    return courses


def names(courses):
    return [(step, [f.name for f in findings]) for step, findings in courses]


@pytest.mark.parametrize('detector, events', [
    (NonfiniteLossDetector(), [(10, Losses(nonfinite=dict(loss=7)))]),
    (LossSpikeDetector(), [(10, Losses(1., spike=Spike(7, 9., 9.)))]),
    (ZeroLossDetector(), [(30, Losses(num_zero=30))]),
    (NotLearningDetector(), [(s, Losses(1.)) for s in (1, 100, 200, 300)]),
    (DivergenceDetector(), [(s, Losses(1. if s == 1 else 100., 0.1))
                            for s in (1, 100, 200, 300)]),
    (LearningRateZeroDetector(), [(s, rate(0.)) for s in (500, 510)]),
    (PlateauDetector(), [(s, validation(s, 0.5)) for s in range(10, 700, 10)]),
    (broken_validation.BrokenValidationDetector(), [
        (s, validation(s, math.nan)) for s in (10, 20)
    ]),
    (broken_validation.ValidationCollapseDetector(), [
        (s, validation(s, 0.5 * (s == 1))) for s in (1, 2, 3)
    ]),
    (DataLoaderDetector(), [(s, DataTime(.7)) for s in range(1, 300, 50)]),
])
def test_a_second_training_begins_anew(detector, events):
    """What was found in one training says nothing about the next."""
    first = watch(detector, events)
    assert len(first) == 1
    assert names(watch(detector, events)) == names(first)


# nonfinite_loss


def test_a_nonfinite_loss_is_named_with_its_step_once():
    courses = watch(NonfiniteLossDetector(), [
        (10, Losses(1.)),
        (20, Losses(1., nonfinite=dict(loss=17, loss_kpt=17, loss_depth=18))),
        (30, Losses(nonfinite=dict(loss=21, loss_depth=21))),
        (35, Losses()),
        (40, Losses(1.)),
    ])
    assert names(courses) == [(20, ['nonfinite_loss']), (40, [])]
    finding = courses[0][1][0]
    assert 'step 17: loss_kpt.' in finding.what
    assert finding.severity == 'error'


def test_a_nonfinite_sum_of_losses_is_named_if_it_is_all_there_is():
    courses = watch(NonfiniteLossDetector(),
                    [(20, Losses(nonfinite=dict(loss=17)))])
    assert 'step 17: loss.' in courses[0][1][0].what


# loss_spike


def spikes(*found):
    return [(step, Losses(1., spike=Spike(at, score, ratio)))
            for step, at, score, ratio in found]


def test_a_spike_lasts_for_one_logging_step():
    courses = watch(
        LossSpikeDetector(),
        spikes((100, 20, 2.5, 1.2), (200, 130, 11., 8.), (300, 240, 3., 1.3)))
    assert names(courses) == [(200, ['loss_spike']), (300, [])]
    assert 'step 130' in courses[0][1][0].what
    assert '11' in courses[0][1][0].evidence
    assert '8 times' in courses[0][1][0].evidence


@pytest.mark.parametrize('score, ratio', [(5.9, 20.), (50., 2.9)])
def test_scatter_is_no_spike(score, ratio):
    assert not watch(LossSpikeDetector(), spikes((100, 20, score, ratio)))


def test_a_spike_of_a_loss_without_ratios():
    assert watch(LossSpikeDetector(), spikes((100, 20, 6.1, None)))


def test_a_spike_over_several_iterations_is_one():
    events = spikes(*((step + 50, step, 12., 9.) for step in range(20, 26)))
    courses = watch(LossSpikeDetector(), events)
    assert len(courses) == 1 and 'step 20' in courses[0][1][0].what


def test_another_spike_is_told():
    courses = watch(LossSpikeDetector(),
                    spikes((100, 20, 12., 9.), (200, 130, 12., 9.)))
    assert [
        'step 20' in courses[0][1][0].what, 'step 130' in courses[1][1][0].what
    ] == [True, True]


# zero_loss


def test_a_loss_of_exactly_0():
    """Defect: nothing was said, for ever."""
    events = [(10, Losses(num_zero=10)), (20, Losses(num_zero=20)),
              (30, Losses(num_zero=30)), (40, Losses(.1, num_zero=2))]
    courses = watch(ZeroLossDetector(), events)
    assert names(courses) == [(20, ['zero_loss']), (40, [])]
    finding = courses[0][1][0]
    assert 'exactly 0 since step 1:' in finding.what
    assert 'visibility flags' in finding.advice
    assert finding.severity == 'error'


@pytest.mark.parametrize('weight, evidence, advice', [
    (0., '0% of the keypoints', 'visibility flags'),
    (.8, '80% of the keypoints', 'loss_weight of 0'),
])
def test_a_loss_of_0_and_the_keypoints_that_count(weight, evidence, advice):
    events = [(20, KeypointWeights(weight)), (20, Losses(num_zero=20))]
    (_, (finding, )), = watch(ZeroLossDetector(), events)
    assert evidence in finding.evidence and advice in finding.advice


# not_learning

# The medians of the demo, with a learning rate that is right and with one
# that is a thousand times too high.
RIGHT = [4.41, 3.48, 2.83, 2.44, 2.11, 1.9, 1.7, 1.5]
WRONG = [4.41, 43.5, 4.4, 4.3, 4.25, 4.2, 4.25, 4.22]


def test_a_loss_that_comes_back_to_where_it_began():
    courses = watch(NotLearningDetector(), medians(WRONG), training(1000))
    assert names(courses) == [(300, ['not_learning'])]
    finding = courses[0][1][0]
    assert 'rose at first and is back' in finding.what
    assert 'was 4.41' in finding.evidence and '4.3 at' in finding.evidence
    assert 'after 43.5' in finding.evidence
    assert 'Lower the learning rate' in finding.advice


@pytest.mark.parametrize(
    'values',
    [
        [2.] * 9,
        [-2.] * 9,
        # Of a single batch, and of a few.
        [2., 1., 2., 2., 2.],
    ])
def test_a_loss_that_never_moves(values):
    courses = watch(NotLearningDetector(), medians(values), training(1000))
    assert names(courses) == [(300, ['not_learning'])]
    finding = courses[0][1][0]
    assert 'the loss is where it was' in finding.what
    assert 'after' not in finding.evidence


def test_a_long_training_has_longer_to_begin():
    courses = watch(NotLearningDetector(), medians([2.] * 9), training(3000))
    assert names(courses) == [(600, ['not_learning'])]


def test_it_ends_when_the_loss_falls_and_does_not_come_again():
    values = [2.] * 6 + [1.7] + [2.] * 6
    courses = watch(NotLearningDetector(), medians(values), training(1000))
    assert names(courses) == [(300, ['not_learning']), (600, [])]


@pytest.mark.parametrize('name, values', [
    ('a healthy training', RIGHT),
    ('a first batch with a low loss', [1.5, *RIGHT[1:]]),
    ('a likelihood', [-1., -3., -5., -6., -6., -6.]),
])
def test_a_loss_that_falls(name, values):
    assert not watch(NotLearningDetector(), medians(values), training(1000))


def test_before_the_warm_up_is_over_nothing_is_expected():
    """Defect: a training as short as its warm-up was to try other rates."""
    values = [.00205 * (1 - .09 * i / 42) for i in range(43)]
    lr = [5e-4 * (i + 1) / 43 for i in range(43)]
    events = list(medians(values, interval=10, lr=lr))
    assert not watch(NotLearningDetector(), events, training(420))
    # Some time after it, it is.
    lr = [min(i + 1, 4) * 1e-4 for i in range(9)]
    courses = watch(NotLearningDetector(), medians([2.] * 9, lr=lr))
    assert names(courses) == [(600, ['not_learning'])]


@pytest.mark.parametrize(
    'runner', [training(1000, start=1),
               training(1000, load_from='it.pth')])
def test_a_training_that_goes_on_need_not_fall(runner):
    assert not watch(NotLearningDetector(), medians([2.] * 9), runner)


def test_a_model_that_is_loaded_need_not_fall():
    runner = training(1000)
    runner.model.init_cfg = dict(type='Pretrained', checkpoint='it.pth')
    assert not watch(NotLearningDetector(), medians([2.] * 9), runner)


@pytest.mark.parametrize('part, is_expected', [('head', False),
                                               ('backbone', True)])
def test_a_head_that_is_loaded_need_not_fall(part, is_expected):
    """A new head on a loaded backbone has everything to learn."""
    runner = training(1000)
    for name in ('backbone', 'head'):
        setattr(runner.model, name, nn.Module())
    loaded = getattr(runner.model, part)
    loaded.init_cfg = dict(type='Pretrained', checkpoint='it.pth')
    found = watch(NotLearningDetector(), medians([2.] * 9), runner)
    assert bool(found) == is_expected


@pytest.mark.parametrize('accuracy, is_expected', [(.8, False), (.02, True),
                                                   (None, True)])
def test_a_model_that_is_accurate_at_first_was_loaded(accuracy, is_expected):
    """By a hook or a script, head and backbone one by one."""
    events = [(step, Losses(2., accuracy=accuracy))
              for step, _ in medians([2.] * 9)]
    assert bool(watch(NotLearningDetector(), events)) == is_expected


@pytest.mark.parametrize('end, is_expected', [(.12, False), (.04, True)])
def test_a_model_whose_accuracy_rises_learns(end, is_expected):
    """Measured with a frozen backbone: the loss fell by 5 % only."""
    events = [(step, Losses(3.8e-3 - 2e-4 * (i > 1), accuracy=end * i / 4))
              for i, step in enumerate((1, 100, 200, 300, 400))]
    assert bool(watch(NotLearningDetector(), events)) == is_expected


# zero_accuracy


def accuracies(values, lr=None):
    for i, value in enumerate(values):
        if lr is not None:
            yield 100 * i, rate(lr[i])
        yield 100 * i, Losses(1., accuracy=value)


def test_an_accuracy_that_is_no_better_than_a_guess():
    values = [0., .009, .011, .001, 0., .5, 0.]
    courses = watch(ZeroAccuracyDetector(), accuracies(values))
    assert names(courses) == [(300, ['zero_accuracy']), (500, [])]
    assert '300 iterations is 0.70%' in courses[0][1][0].evidence
    # Defect: "though the loss falls", of a loss that stood still.
    assert 'loss falls' not in courses[0][1][0].what
    assert 'was 1 at first, and its median is 1 now' in (
        courses[0][1][0].evidence)
    # In a long training, and after a warm-up, it takes longer.
    runner = training(5000)
    assert not watch(ZeroAccuracyDetector(), accuracies(values), runner)
    lr = [.1, .2, .3, .4, .4, .4, .4]
    assert not watch(ZeroAccuracyDetector(), accuracies(values, lr))
    # Other models do not say it.
    assert not watch(ZeroAccuracyDetector(), accuracies([None] * 9))


def test_that_nothing_is_learned_has_one_reason():
    detectors = [
        ZeroLossDetector(),
        NotLearningDetector(),
        ZeroAccuracyDetector()
    ]
    events = [(s, Losses(2., accuracy=0.)) for s in (1, 150, 300, 450)]
    assert names(watch(detectors, events)) == [(300, ['not_learning'])]


# learning_rate_too_high


def medians(values, interval=100, deviation=0.1, lr=None, terms=None):
    """Losses at step 1 and every multiple of the interval."""
    for i, value in enumerate(values):
        step = max(1, i * interval)
        if lr is not None:
            yield step, rate(lr[i])
        yield step, Losses(
            value,
            deviation * value,
            terms=terms[i] if terms else (),
            count=min(step, 101),
            new=min(step, interval))


def test_a_loss_that_diverges_names_the_learning_rate():
    courses = watch(
        DivergenceDetector(),
        medians([5, 1, .8, .9, 3, 4, 5, 5, 4, .9, .7],
                lr=[.1, .2, .3, .4, .5] + [.6] * 6))
    assert names(courses) == [(600, ['learning_rate_too_high']), (900, [])]
    finding = courses[0][1][0]
    assert finding.what.startswith('The loss diverges; likely the learning '
                                   'rate of 0.5 is too high')
    assert '0.8 at step 200' in finding.evidence
    assert 'from step 400' in finding.evidence


def test_a_loss_that_explodes_from_the_first_step():
    values = [1, 1e5, 1e6, 1e4, 1e5, 1e5]
    courses = watch(DivergenceDetector(), medians(values))
    assert names(courses) == [(500, ['learning_rate_too_high'])]


@pytest.mark.parametrize('name, values', [
    ('falls', [5, 3, 2, 1, 1, 1, 1]),
    ('rises by less', [5, 1, 2, 2, 2, 2, 2]),
    ('comes back', [5, 1, 4, 4, 1, 4, 4, 1]),
    ('is falling again', [5, 1, 20, 15, 12, 9, 7, 5, 4, 3, 2]),
    ('was low in one batch', [1, 5, 5, 5, 5, 5, 5]),
    ('is a likelihood', [9, -5, -6, -5.5, -6, -5, -4, -4]),
    ('is overfitted', [2e-3, 1e-4, 1e-6, 4e-6, 4e-6, 4e-6, 5e-6, 5e-6]),
])
def test_a_loss_that_does_not_diverge(name, values):
    assert not watch(DivergenceDetector(), medians(values))


def test_a_likelihood_that_diverges():
    courses = watch(DivergenceDetector(),
                    medians([9, -5, -6, 40, 50, 60], deviation=-0.1))
    assert names(courses) == [(500, ['learning_rate_too_high'])]


@pytest.mark.parametrize('name, values', [
    ('stands still', [5, 3, 2, 1, 6, 6.2, 6.1, 6, 6.1, 6.2, 6.2, 6]),
    ('falls', [5, 3, 2, 1, 6, 5.8, 5.5, 5.6, 5, 4.5, 4.6, 4, 4.1]),
    ('jumps by far', [5, 3, 2, 1, 60, 60, 60, 60, 60]),
    ('once more', [5, 3, 2, 1, 6, 6, 6, 6, 30, 30, 30, 30, 29]),
])
def test_a_loss_that_is_another_one(name, values):
    """A hook changes what it is made of, as RTMOModeSwitchHook."""
    jumps = [b > 2 * a for a, b in zip([values[0], *values], values)]
    terms = [(('loss_weight', float(n)), ) for n in np.cumsum(jumps)]
    assert not watch(DivergenceDetector(), medians(values, terms=terms))
    # With the terms that it had, it has diverged, unless it falls again.
    found = watch(DivergenceDetector(), medians(values))
    assert bool(found) == (name != 'falls')


@pytest.mark.parametrize('name, values, step', [
    ('rises on', [5, 3, 2, 1, 6, 7, 8, 9, 9, 9], 600),
    ('lands flat', [5, 3, 2, 1, 6, 6, 6, 6, 6, 6, 6], 600),
    ('was never lower', [1, 12, 12, 12, 12, 12], 300),
])
def test_a_jump_of_the_same_loss(name, values, step):
    """Defect: one that landed flat was taken for other weights."""
    courses = watch(DivergenceDetector(), medians(values))
    assert names(courses) == [(step, ['learning_rate_too_high'])]
    assert 'same terms and weights' in courses[0][1][0].evidence


def test_around_zero_ratios_say_nothing():
    events = [(step, Losses(value, 1.)) for step, value in zip(
        range(100, 900, 100), [9, 3, .01, .5, 1, 2, 1, 2])]
    assert not watch(DivergenceDetector(), events)


def test_losses_of_every_iteration_are_not_yet_a_course():
    events = list(medians([5, 5, 1] + [90] * 110, interval=1))
    assert not watch(DivergenceDetector(), events[:100])
    assert names(watch(DivergenceDetector(),
                       events)) == [(103, ['learning_rate_too_high'])]


@pytest.mark.parametrize(
    'kpt, severity',
    [
        ([1., .1, .1, .1, .1, .1, .1], 'note'),
        # All of them may have another weight.
        ([1., .1, 2., 2., 2., 2., 2.], 'warning'),
        # It tells nothing, since it has not learned anything.
        ([.1] * 7, 'warning'),
    ])
def test_a_single_loss_that_rises_may_have_another_weight(kpt, severity):
    """A weight that nobody sees makes one loss 22 times as large, flat."""
    aux = [4., 4., 90., 90.2, 90.1, 90.3, 90.2]
    events = [(max(100 * i,
                   1), Losses(a + k, 1., parts=dict(loss_kpt=k, loss_aux=a)))
              for i, (k, a) in enumerate(zip(kpt, aux))]
    (_, (finding, )), = watch(DivergenceDetector(), events)
    assert finding.severity == severity
    if severity == 'note':
        assert finding.what.startswith('loss_aux alone')
        assert 'loss_aux: 22.5 times' in finding.evidence


@pytest.mark.parametrize(
    'kpt, aux, severities',
    [
        # First another weight, then a divergence.
        ([.1] * 5 + [4., 9., 20., 50., 90.], [90.] * 10, ['note', 'error']),
        ([.1] * 5 + [.1] * 5, [90., 90, 90, 90, 90, 95, 90, 95, 92, 93
                               ], ['note']),
        # All with another weight, then a divergence, or training goes on.
        ([2.] * 5 + [4., 9., 20., 50., 90.],
         [90.] * 5 + [95., 99, 120, 180, 250], ['warning', 'error']),
        ([2.] * 10, [90., 90, 90, 90, 85, 80, 70, 60, 50, 55], ['warning']),
    ])
def test_what_may_be_another_weight_and_then_diverges(kpt, aux, severities):
    """Defect: a divergence after a new weight stayed a note."""
    kpt, aux = [1., .1, *kpt], [4., 4., *aux]
    events = [(max(100 * i,
                   1), Losses(a + k, .05 * (a + k), parts=dict(kpt=k, aux=a)))
              for i, (k, a) in enumerate(zip(kpt, aux))]
    courses = watch(DivergenceDetector(), events)
    assert [f.severity for _, (f, ) in courses] == severities


def test_a_warm_restart_of_the_schedule_is_no_divergence():
    values = [5, 3, 2, .5, .1, .5, .5, .6, .3, .2]
    lr = [.5, .5, .4, .1, .01, .5, .5, .5, .4, .1]
    assert not watch(DivergenceDetector(), medians(values, lr=lr))
    # Higher than ever before: that is another matter.
    lr = [.3, .3, .2, .1, .01] + [.5] * 5
    assert watch(DivergenceDetector(), medians(values, lr=lr))


# learning_rate_zero


def rates(pairs):
    return [(step, rate(lr)) for step, lr in pairs]


def test_a_learning_rate_of_zero():
    courses = watch(
        LearningRateZeroDetector(),
        rates([(1, .1), (100, .1), (200, 0.), (300, 1e-12), (400, .1)]))
    assert names(courses) == [(300, ['learning_rate_zero']), (400, [])]
    assert 'since step 200' in courses[0][1][0].evidence


def test_it_lasts_to_the_end():
    events = rates([(step, 0. if step > 500 else .1)
                    for step in range(100, 1001, 100)])
    assert names(watch(LearningRateZeroDetector(),
                       events)) == [(700, ['learning_rate_zero'])]


@pytest.mark.parametrize('interval', [1, 100, 500])
@pytest.mark.parametrize('length', [50, 5000, 100000])
def test_a_cosine_is_zero_where_it_turns(length, interval):
    """Defect: a finding at each warm restart, or at the bottom of a wave."""
    turns = [
        s for s in range(interval, 2 * length + 1, interval)
        if abs(s - length) < 100 + interval
    ]
    for restarts in True, False:
        events = [(s,
                   rate(1e-3 * (1 + math.cos(math.pi * phase / length)) / 2))
                  for s in turns
                  for phase in ((s - 1) % length if restarts else s - 1, )]
        assert not watch(LearningRateZeroDetector(), events,
                         training(4 * length, max_epochs=None))


@pytest.mark.parametrize('name, pairs', [
    ('warm-up from 0', [(1, 0.), (2, 1e-5), (100, .1), (1000, .1)]),
    ('annealed to 0', [(1, .1), (500, .05), (901, 0.), (1000, 0.)]),
    ('very low', [(1, 1e-8), (500, 1e-8)]),
])
def test_a_schedule_may_begin_and_end_at_zero(name, pairs):
    assert not watch(LearningRateZeroDetector(), rates(pairs))


def test_a_learning_rate_that_was_never_above_zero():
    events = rates([(step, 0.) for step in (1, 50, 100, 150)])
    # One epoch of the ten is allowed for.
    assert names(watch(LearningRateZeroDetector(),
                       events)) == [(150, ['learning_rate_zero'])]
    # By iterations, a twentieth.
    assert names(
        watch(LearningRateZeroDetector(), events,
              training(max_epochs=None))) == [(100, ['learning_rate_zero'])]


def test_a_warm_up_is_over_once_the_rate_was_above_zero():
    events = rates([(1, .1), (40, 0.), (50, 0.)])
    assert names(watch(LearningRateZeroDetector(),
                       events)) == [(50, ['learning_rate_zero'])]


def test_one_epoch_is_not_all_of_a_training():
    """The edge of the schedule is a part of the training only."""
    events = rates([(1, .1), (500, 0.), (510, 0.)])
    assert watch(LearningRateZeroDetector(), events, training(max_epochs=1))


def test_one_optimizer_of_two_has_none():
    events = [(step, LearningRates(dict(a=.1, b=0.)))
              for step in (1, 200, 300)]
    courses = watch(LearningRateZeroDetector(), events)
    assert names(courses) == [(200, ['learning_rate_zero/b'])]
    assert 'of the optimizer b is 0' in courses[0][1][0].what


# plateau and overfitting


def validations(values, name=AP, losses=None, lr=None, every=10):
    for i, value in enumerate(values):
        step = (i + 1) * every
        if lr is not None:
            yield step, rate(lr[i])
        if losses is not None:
            yield step, Losses(losses[i])
        yield step, validation(step, value, name)


def rising(count, noise=0.003, seed=0):
    """A metric as those of healthy trainings."""
    i = np.arange(count)
    return 0.7 * (1 - np.exp(-(i + 1) / 15)) + noise * np.random.default_rng(
        seed).standard_normal(count)


def test_a_plateau_lasts_until_the_metric_is_better_than_ever():
    values = [.1, .3, .5, .49, .5, .48, .5, .49, .5, .51, .51]
    courses = watch(of_validation(), validations(values), training(1000))
    assert names(courses) == [(80, ['plateau']), (100, [])]
    finding = courses[0][1][0]
    assert finding.what == 'val/coco/AP has not become better since step 30.'
    assert 'It was 0.5 and is 0.49 5 validations later' in finding.evidence


def test_the_patience_grows_with_the_training():
    values = [.5] * 60
    courses = watch(of_validation(), validations(values),
                    training(max_iters=1000, max_epochs=100, val_interval=5))
    assert names(courses) == [(10 * 8, ['plateau'])]
    courses = watch(of_validation(), validations(values),
                    training(max_iters=1000, max_epochs=None, val_interval=20))
    assert names(courses) == [(10 * 18, ['plateau'])]


@pytest.mark.parametrize('interval', [0, 1])
def test_a_training_without_validations(interval):
    assert not watch(of_validation(), [(10, rate(.1))],
                     training(1000, val_interval=interval))


def test_a_learning_rate_that_was_lowered_is_waited_for():
    values = [.1, .5] + [.5] * 12
    lr = [1e-3] * 5 + [1e-4] * 9
    courses = watch(of_validation(), validations(values, lr=lr),
                    training(1000))
    assert names(courses) == [(110, ['plateau'])]


def test_a_learning_rate_that_is_still_being_raised_is_waited_for():
    """Defect: a finding in a healthy warm-up, whose AP was 0 until its end."""
    values = [0.] * 16
    lr = [1e-4 * min(i, 8) for i in range(1, 17)]
    courses = watch(of_validation(), validations(values, lr=lr),
                    training(1000))
    assert names(courses) == [(130, ['plateau'])]


def test_an_ap_of_zero_is_no_plateau_while_the_loss_falls():
    """Defect: of CID's first 300 iterations, with a loss of 26 to 13."""
    values, flat = [0.] * 16, [26.] * 16
    falling = np.linspace(26, 13, 16)
    runner = training(1000)
    assert not watch(of_validation(), validations(values, losses=falling),
                     runner)
    for losses in flat, None:
        courses = watch(of_validation(), validations(values, losses=losses),
                        runner)
        assert names(courses) == [(60, ['plateau'])]
    # From the first one that is not 0 it counts.
    courses = watch(of_validation(),
                    validations([0.] + [.01] * 15, losses=falling), runner)
    assert names(courses) == [(70, ['plateau'])]
    # An error of 0 is the best.
    assert not watch(of_validation(), validations(values, 'EPE'), runner)


def test_no_plateau_begins_in_the_last_part():
    values = [.1 * i for i in range(1, 8)] + [.7] * 8
    assert names(watch(of_validation(), validations(values),
                       training(1000))) == [(120, ['plateau'])]
    assert not watch(of_validation(), validations(values), training(140))


@pytest.mark.parametrize('tag, best', [(AP, 1.), (AP, .995), ('PCK', 99.5),
                                       ('EPE', 0.)])
def test_what_is_perfect_need_not_improve(tag, best):
    assert not watch(of_validation(), validations([best] * 20, tag))


def test_a_healthy_training_has_neither():
    for seed in range(20):
        for metric, losses in (
            (rising(40, seed=seed), 2 * np.exp(-np.arange(40) / 20)),
            (20 - 15 * rising(40, seed=seed), 2 * np.exp(-np.arange(40) / 20)),
        ):
            tag = AP if metric[0] < metric[-1] else 'EPE'
            assert not watch(of_validation(), validations(metric, tag, losses),
                             training(400, 40))


def overfitted(count=20):
    i = np.arange(count)
    metric = .6 - .02 * abs(i - 6) + .002 * np.sin(7 * i)
    return metric, 2 * np.exp(-i / 8)


@pytest.mark.parametrize('tag, sign', [(AP, 1), ('NME', -1)])
def test_overfitting(tag, sign):
    metric, losses = overfitted()
    courses = watch(of_validation(),
                    validations(.7 * (sign < 0) + sign * metric, tag, losses),
                    training(1000, 100))
    assert names(courses)[0][1] == ['overfitting'] and len(courses) == 1
    finding = courses[0][1][0]
    assert finding.what == (
        f'The model overfits: val/{tag} gets worse since step '
        '70, while the training loss falls.')
    assert 120 <= courses[0][0] <= 140


def test_without_a_falling_training_loss_it_is_no_overfitting():
    metric, losses = overfitted()
    courses = watch(of_validation(), validations(metric, AP,
                                                 [1.] * len(losses)),
                    training(1000))
    assert names(courses) == [(120, ['plateau'])]


@pytest.mark.parametrize('name, values', [
    ('a little worse', .6 - .002 * abs(np.arange(20) - 6)),
    ('a lucky one among scattered ones',
     np.array([.3, .65] + [.5, .6] * 8 + [.5])),
])
def test_what_is_not_yet_overfitting(name, values):
    courses = watch(of_validation(),
                    validations(values, AP, 2 * np.exp(-np.arange(20) / 8)),
                    training(1000))
    assert [n for _, n in names(courses)] == [['plateau']]


@pytest.mark.parametrize('every, seed', [(1, 0), (1, 1), (10, 2), (10, 3)])
def test_many_validations_that_scatter_are_no_overfitting(every, seed):
    """Defect: the best of hundreds is so by chance, and three are soon below
    it: of 20 healthy trainings 20 with a validation in each iteration."""
    steps = np.arange(every, 2000 * every**.5, every)
    values = .7 * (1 - np.exp(-6 * steps / steps[-1]))
    values += .014 * np.random.default_rng(seed).standard_normal(len(steps))
    losses = .3 + 2 * np.exp(-4 * steps / steps[-1])
    runner = training(steps[-1], max_epochs=None, val_interval=every)
    events = list(validations(values, AP, losses, every=every))
    assert not watch(OverfittingDetector(), events, runner)
    # It is, if it falls for good.
    values[len(steps) //
           2:] -= .002 * np.arange(len(steps) - len(steps) // 2)[:150].max()
    events = list(validations(values, AP, losses, every=every))
    assert watch(OverfittingDetector(), events, runner)


@pytest.mark.parametrize('number', [100, 300])
@pytest.mark.parametrize('scatter, most', [(.01, 0), (.02, 2)])
def test_a_metric_that_wanders_is_no_overfitting(number, scatter, most):
    """Defect: where each validation resembles the one before, changes from
    one to the next say too little about how far the metric goes astray."""
    i = np.arange(number)
    falls = .25 * np.maximum(i / number - .4, 0) / .6
    told = {True: 0, False: 0}
    for seed in range(10):
        noise = np.random.default_rng(seed).standard_normal(number)
        wanders = lfilter([.75**.5], [1, -.5], noise)  # Correlated by .5.
        healthy = .7 * (1 - np.exp(-6 * (i + 1) / number)) + scatter * wanders
        for overfits in told:
            events = validations(healthy - falls * overfits, AP,
                                 .3 + 2 * np.exp(-4 * i / number))
            told[overfits] += bool(
                watch(OverfittingDetector(), events, training(1000, number)))
    assert told[True] == 10 and told[False] <= most


def test_a_schedule_that_begins_later_is_waited_for():
    """As RTMPose's, whose cosine begins after half of the epochs."""
    optimizer = SGD([nn.Parameter(torch.ones(1))], 1.)
    cosine = CosineAnnealingLR(optimizer, T_max=210, begin=210, end=420)
    events = []
    for epoch in range(10, 421, 10):
        quality = min(epoch / 100, .6) + max(epoch - 250, 0) / 1e4
        lr = .5 + .5 * np.cos(np.pi * max(epoch - 210, 0) / 210)
        events += [(10 * epoch - 1, rate(lr)),
                   (10 * epoch, validation(10 * epoch, quality))]
    runner = training(4200, 420, val_interval=10, param_schedulers=[cosine])
    assert not watch(PlateauDetector(), events, runner)
    # Without that schedule there is nothing to wait for.
    runner = training(4200, 420, val_interval=10)
    assert watch(PlateauDetector(),
                 [(s, m)
                  for s, m in events if isinstance(m, ValidationMetrics)],
                 runner)


def test_a_milestone_that_is_to_come_is_waited_for():
    """Defect: AP of a small data set is flat until the rate is lowered."""
    schedulers = [MultiStepLR(SGD([nn.Parameter(torch.ones(1))], 1.), [7, 90])]
    values = [.1, .5] + [.5] * 12
    for by_epoch, found in (True, [(80, ['plateau'])]), (False, []):
        schedulers[0].by_epoch = by_epoch
        courses = watch(of_validation(), validations(values, every=10),
                        training(100, 10, param_schedulers=schedulers))
        # Of those by epoch, the second never comes.
        assert names(courses) == found


@pytest.mark.parametrize('size, found', [(3, []), (6, [(70, ['plateau'])])])
def test_a_step_that_is_to_come_is_waited_for(size, found):
    scheduler = StepLR(SGD([nn.Parameter(torch.ones(1))], 1.), size)
    courses = watch(of_validation(),
                    validations([.1, .5] + [.5] * 12, every=10),
                    training(100, 10, param_schedulers=[scheduler]))
    assert names(courses) == found


@pytest.mark.parametrize('name', [AP, 'NME'])
def test_a_main_metric_that_is_nan(name):
    """Defect: nothing was said, since it was not looked at."""
    course = [.1, .3, .5] + [math.nan] * 9 + [.4]
    courses = watch(of_validation(), validations(course, name))
    assert names(courses) == [(40, ['validation_nan']), (130, [])]
    finding = courses[0][1][0]
    assert finding.what == f'val/{name} is NaN or infinite.'
    assert 'after 3 validations' in finding.evidence
    assert 'running statistics' in finding.advice
    courses = watch(of_validation(), validations([math.nan] * 9, name))
    assert names(courses) == [(20, ['validation_nan'])]
    # Defect: of a model that finds nothing yet, a mean over what it found.
    assert not watch(of_validation(), validations([math.nan, .1, .2], name))


def test_an_evaluation_that_is_wrong():
    """Defect: a plateau at epoch 80, and advice on the learning rate."""
    courses = watch(of_validation(), validations([-1.] * 60))
    assert names(courses) == [(20, ['validation_invalid'])]
    finding = courses[0][1][0]
    assert 'val/coco/AP is -1: the evaluation is wrong' in finding.what
    assert 'annotation file' in finding.advice
    zeros = list(validations([0.] * 4))
    accurate = [(1, KeypointAccuracy(.9)), *zeros]
    courses = watch(of_validation(), accurate)
    assert names(courses) == [(20, ['validation_invalid'])]
    assert '90% of the keypoints' in courses[0][1][0].evidence
    of_metrics = [(s, validation(s, 0., PCK=.9)) for s in (10, 20)]
    assert watch(of_validation(), of_metrics)
    # A model that has not yet learned anything.
    assert not watch(of_validation(), zeros)
    assert not watch(of_validation(), [(1, KeypointAccuracy(.1)), *zeros])
    # Defect: of one that has begun to, within 0.2 of the box.
    of_metrics = [(s, validation(s, 0., PCK=.72)) for s in (10, 20)]
    assert not watch(of_validation(), of_metrics)
    # An error of 0 is a good one.
    assert not watch(of_validation(), [(1, KeypointAccuracy(1.)),
                                       *validations([0.] * 4, 'NME')])


@pytest.mark.parametrize('name, course', [
    (AP, [.2, .6, .1, .6, 0., 0., 0., 0., .2]),
    ('PCK', [20., 60., 10., 60., 0., 0., 0., 0., 20.]),
    ('EPE', [20., 5., 60., 5., 99., 99., 99., 99., 9.]),
])
def test_a_validation_that_collapses(name, course):
    courses = watch(of_validation(), validations(course, name))
    assert names(courses)[0] == (60, ['validation_collapse'])
    assert names(courses)[-1] in [(90, []), (90, ['plateau'])]
    finding = courses[0][1][0]
    assert finding.what == f'val/{name} has collapsed since step 20.'
    assert 'running statistics' in finding.advice
    assert 'augmentation' not in finding.advice
    # With a loss that has risen the training has diverged.
    losses = [3., 1., 1., 1.] + [2.] * 5
    courses = watch(of_validation(), validations(course, name, losses))
    finding = courses[0][1][0]
    assert 'diverged' in finding.advice
    assert 'was 1 then and is 2 now' in finding.evidence


@pytest.mark.parametrize('course', [
    [.01, .02, .0, .0, .0],
    [.6, .3, .3, .3, .3],
    [.2, .6, .1, .6, .1, .6],
    [.5, .6, .2, .13, .14],
])
def test_what_is_no_collapse(course):
    found = watch(of_validation(), validations(course))
    assert 'validation_collapse' not in str(names(found))


# The EMA model


def ema_losses(values, own=1.):
    for i, value in enumerate(values):
        yield 100 * i, EmaLosses(own, value, 0.0002)


def test_an_ema_model_that_lags():
    courses = watch(EmaLagDetector(), ema_losses([1, 9, 9, 9, 9, 1]))
    # Not in the first fifth of the training, nor once.
    assert names(courses) == [(300, ['ema_lags']), (500, [])]
    assert 'about 5,000 updates; the training has 1,000' in (
        courses[0][1][0].evidence)


@pytest.mark.parametrize('max_epochs, argument', [(10, 'begin_epoch'),
                                                  (None, 'begin_iter')])
def test_an_ema_model_may_begin_later(max_epochs, argument):
    """Defect: an EMAHook with begin_epoch stops an iteration-based run."""
    courses = watch(EmaLagDetector(), ema_losses([9] * 9),
                    training(max_epochs=max_epochs))
    assert f'({argument})' in courses[0][1][0].advice


@pytest.mark.parametrize('name, values, own', [
    ('a little worse', [1.9] * 9, 1.),
    ('a likelihood', [-19.] * 9, -20.),
    ('next to 0', [3e-6] * 9, 1e-6),
])
def test_an_ema_model_that_is_well(name, values, own):
    events = [(0, Losses(1.)), *ema_losses(values, own)]
    assert not watch(EmaLagDetector(), events)


def test_a_nan_of_the_ema_model_follows_from_that_of_the_model():
    found = EmaModel(Nonfinite('head.bias', .1))
    buffer = [(10, Buffers(Nonfinite('bn.running_var', .1))), (10, Losses(1.))]
    detectors = [NonfiniteBufferDetector(), NonfiniteEmaDetector()]
    assert names(watch(detectors,
                       [(10, found),
                        (20, EmaModel())])) == [(10, ['nonfinite_ema']),
                                                (20, [])]
    assert names(watch(detectors,
                       [(10, found), *buffer])) == [(10, ['nonfinite_ema']),
                                                    (10, ['nonfinite_buffer'])]


def test_a_plateau_may_turn_into_overfitting_and_not_back():
    metric, losses = overfitted(30)
    metric = np.concatenate([metric[:7], [.599] * 6, metric[7:]])
    losses = np.concatenate([losses[:7], losses[7] * np.ones(6), losses[7:]])
    metric[-5:] = .59
    courses = watch(of_validation(), validations(metric, AP, losses),
                    training(1000))
    assert [n for _, n in names(courses)] == [['plateau'], ['overfitting']]


def test_the_metric_of_the_best_checkpoint_counts():
    hook = CheckpointHook(
        save_best=['coco/AR', 'EPE'], rule=['greater', 'less'])
    courses = watch(PlateauDetector(), validations([.5] * 20, 'coco/AR'),
                    training(1000, hooks=[hook]))
    assert 'val/coco/AR has not' in courses[0][1][0].what
    assert not watch(PlateauDetector(), validations([.5] * 20),
                     training(1000, hooks=[hook]))


# data_loader


def waits(percents, every=50, overhead=None):
    for i, percent in enumerate(percents):
        step = max(1, i * every)
        yield step, DataTime(percent / 100)
        if overhead is not None:
            yield step, HookTime(overhead / 100)


def test_a_slow_data_loader():
    courses = watch(DataLoaderDetector(),
                    waits([90, 10, 40, 43, 46, 41, 28, 20]),
                    training(num_workers=2))
    assert names(courses) == [(200, ['data_loader']), (350, [])]
    finding = courses[0][1][0]
    assert '43% of each iteration' in finding.evidence
    assert 'above 2' in finding.advice


def test_workers_that_are_enough_wait_for_something():
    """Defect: num_workers was to be raised above 8, of which 2 were enough."""
    events = [(1, TransformTimes({'LoadImage': 50.}))]
    events += [(step, DataTime(.5, rest=1., samples=32))
               for step in range(50, 400, 50)]
    for workers, words in (1, 'num_workers=2 would'), (8, '2 of the 8'):
        courses = watch(DataLoaderDetector(), events,
                        training(num_workers=workers))
        advice = courses[0][1][0].advice
        assert words in advice and ('Raise' in advice) == (workers == 1)


def test_without_workers_that_is_the_advice():
    courses = watch(DataLoaderDetector(), waits([90, 90, 90, 90]))
    assert 'num_workers' in courses[0][1][0].advice
    assert 'which is 0' in courses[0][1][0].advice


@pytest.mark.parametrize('name, events', [
    ('the start of the workers', waits([95, 5, 5, 5])),
    ('loading in the same process', waits([30, 21, 12, 14, 20])),
    ('now and then', waits([90, 40, 28, 40, 28, 40, 28, 28, 28])),
    ('single epochs', waits([50, 50, 50, 5, 50, 50, 5])),
    ('few iterations', waits([80] * 40, every=1)),
    ("the hook's own time", waits([60] * 10, overhead=40.)),
])
def test_a_data_loader_that_is_fast_enough(name, events):
    assert not watch(DataLoaderDetector(), events)
