# Copyright (c) OpenMMLab. All rights reserved.
"""What detectors say of anomalies that no loss shows plainly, and when not."""
import numpy as np
import pytest
from looking import Looking, training

from mmpose.engine.monitors.core.measurements import (Activations, HostMemory,
                                                      KeypointAccuracy,
                                                      LearningRates, Losses,
                                                      Progress,
                                                      ValidationMetrics)
from mmpose.engine.monitors.core.metric_names import (MainMetric,
                                                      learned_metric,
                                                      main_metric)
from mmpose.engine.monitors.health.detectors.activations import \
    ActivationDetector
from mmpose.engine.monitors.health.detectors.divergence import \
    DivergenceDetector
from mmpose.engine.monitors.health.detectors.loss_oscillation import \
    LossOscillationDetector
from mmpose.engine.monitors.health.detectors.machine.host_memory import \
    GrowingMemoryDetector
from mmpose.engine.monitors.health.detectors.machine.stalled import \
    StalledDetector
from mmpose.engine.monitors.health.detectors.validations.unmoved import \
    UnmovedValidationDetector


def watch(detector, events, runner=None):
    """The steps at which findings change, with all there are."""
    looking = Looking(detector, runner or training())
    courses, present = [], []
    for step, measurement in events:
        findings = looking.see(step, measurement)
        if findings is not None and [f.name for f in findings
                                     ] != [f.name for f in present]:
            courses.append((step, findings))
            present = findings
    return courses


def names(courses):
    return [(step, [f.name for f in findings]) for step, findings in courses]


# stalled


@pytest.mark.parametrize('idle, usual, longest, is_stalled', [
    (601, 0.5, 30., True),
    (599, 0.5, 30., False),
    (900, 10., 60., False),
    (1001, 10., 60., True),
    (700, 0.5, 400., False),
    (1201, 0.5, 400., True),
])
def test_it_is_many_times_the_usual(idle, usual, longest, is_stalled):
    """An evaluation that took as long before is none."""
    progress = Progress(7, idle, usual, longest, 'loader.py:3 (next)')
    courses = watch(StalledDetector(), [(7, progress)])
    assert bool(courses) == is_stalled
    if courses:
        finding = courses[0][1][0]
        assert 'since iteration 7' in finding.what
        assert 'loader.py:3 (next)' in finding.evidence


def test_workers_are_named_where_there_are_some():
    progress = Progress(7, 700, 1, 1, '')
    (_, (finding, )), = watch(StalledDetector(), [(7, progress)],
                              training(num_workers=4))
    assert 'the 4 workers' in finding.advice


# memory_grows


def memory(available, resident=None, step=10):
    resident = np.zeros(len(available)) if resident is None else resident
    return [(step * (i + 1), HostMemory(r, a))
            for i, (r, a) in enumerate(zip(resident, available))]


FALLING = 1000 - 12. * np.arange(60)


def test_memory_that_will_be_used_up_before_the_end():
    courses = watch(GrowingMemoryDetector(), memory(FALLING, 1000 - FALLING),
                    training(1000))
    # After twenty measurements in the last half of those so far: this is in
    # the fourth epoch of ten.
    (step, (finding, )), = courses
    assert step == 390 and finding.name == 'memory_grows'
    assert finding.severity == 'warning' and 'this process' in finding.what
    assert '1.2 MiB per iteration' in finding.evidence
    # 1000 - 1.2 * (step - 10) is 0 there.
    assert 'nothing is left at step 843 of 1,000' in finding.evidence


def test_others_use_it_up_and_the_first_epoch_may_fill_a_cache():
    (_, (finding, )), = watch(GrowingMemoryDetector(), memory(FALLING),
                              training(1000, max_epochs=2))
    assert 'other processes' in finding.what
    assert finding.severity == 'note'
    assert finding.advice.startswith('If it fills a cache')


def test_the_workers_use_it_up():
    memories = [(10 * (i + 1), HostMemory(0., left, 1000 - left))
                for i, left in enumerate(FALLING)]
    (_, (finding, )), = watch(GrowingMemoryDetector(), memories,
                              training(1000))
    assert 'by workers of the data loader:' in finding.what
    assert 'serialize_data=True' in finding.advice


@pytest.mark.parametrize(
    'available',
    [
        # A cache that fills.
        1000 - 700 * (1 - np.exp(-np.arange(90) / 20)),
        np.maximum(1000 - 30 * np.arange(90), 700),
        # It lasts until the end.
        10000 - 12 * np.arange(90),
        # Up and down by what others do.
        1000 - 300 * (np.arange(90) % 10 > 4),
    ])
def test_memory_that_does_not_grow_without_end(available):
    assert not watch(GrowingMemoryDetector(), memory(available),
                     training(1000))


def test_what_is_kept_of_memory_is_bounded():
    detector = GrowingMemoryDetector()
    watch(detector, memory(np.full(5000, 1000.)), training(100000))
    assert len(detector._measured) <= 400


# loss_oscillates


def losses(values, lr=None, terms=(), deviation=0., interval=100):
    for i, value in enumerate(values, start=1):
        if lr is not None:
            yield i * interval, LearningRates({'': lr[i - 1]})
        yield i * interval, Losses(value, deviation, terms=terms)


WAVES = [1., 2., 1.] * 8


def test_a_loss_that_goes_up_and_down():
    courses = watch(LossOscillationDetector(), losses(WAVES), training())
    (_, (finding, )), = courses
    assert finding.name == 'loss_oscillates'
    assert 'between 1 and 2' in finding.evidence


def falling(waves):
    return np.array(waves) * 0.9**np.arange(len(waves))


@pytest.mark.parametrize(
    'events', [
        losses(falling(WAVES)),
        losses([1., 1.4] * 12),
        losses(WAVES, deviation=1.1),
        losses(WAVES, lr=np.where(np.array(WAVES) > 1, 1e-3, 1e-4)),
        losses(np.array(WAVES) * -1),
        losses([1., 2., 1., 2., 1.] + [1.] * 20),
    ],
    ids=['falls', 'little', 'scatters', 'scheduled', 'negative', 'ends'])
def test_a_loss_that_is_as_it_should_be(events):
    assert not watch(LossOscillationDetector(), events)


def test_other_terms_begin_anew():
    events = [
        *losses(WAVES[:6], terms=(('a', 1.), )),
        *((step + 600, measured)
          for step, measured in losses(WAVES[:6], terms=(('b', 1.), )))
    ]
    assert not watch(LossOscillationDetector(), events)


# learning_rate_too_high


@pytest.mark.parametrize('at_best, later, diverges', [
    (.6, .0, True),
    (.6, .25, True),
    (.6, .35, False),
    (.02, .02, True),
    (None, None, True),
])
def test_a_loss_with_another_weight_does_not_make_the_model_worse(
        at_best, later, diverges):
    """A ramp inside of a loss was taken for a divergence."""
    values = [(100 * i, .3 if i < 20 else .3 + .02 * (i - 20))
              for i in range(1, 80)]
    events = [(step, Losses(value, accuracy=at_best if value == .3 else later))
              for step, value in values]
    courses = watch(DivergenceDetector(), events, training(8000))
    assert bool(courses) == diverges


@pytest.mark.parametrize(
    'values, deviations, accuracies, severity',
    [
        # Both losses of a model get a weight of 22.
        ([88., 88., 89., 88., 89.], .05, (None, None), 'warning'),
        ([88., 88., 89., 88., 89.], .05, (.01, .01), 'warning'),
        # acc_pose says that the predictions are worse.
        ([88., 88., 89., 88., 89.], .05, (.6, .1), 'error'),
        # The last one fell, which is a scatter as well.
        ([88., 88., 89., 88., 89.], .01, (None, None), 'warning'),
        # It scatters more than before.
        ([88., 88., 89., 88., 89.], .2, (None, None), 'error'),
        # It goes on rising.
        ([60., 70., 80., 90., 99.], .05, (None, None), 'error'),
    ])
def test_a_loss_that_only_jumps_has_two_possible_causes(
        values, deviations, accuracies, severity):
    """A model of which all losses got another weight was said to diverge."""
    events = [(100 * i, Losses(4., .05 * 4., accuracy=accuracies[0]))
              for i in range(1, 10)]
    events += [(100 * i,
                Losses(value, deviations * value, accuracy=accuracies[1]))
               for i, value in enumerate(values, start=10)]
    (_, (finding, )), = watch(DivergenceDetector(), events, training(8000))
    assert finding.severity == severity
    assert 'learning rate is too high' in finding.what
    names_both = 'got another weight' in finding.what
    assert names_both == (severity == 'warning')


# validation_unmoved


def validations(values, errors, name='coco/AP'):
    for i, (value, error) in enumerate(zip(values, errors), start=1):
        yield 10 * i, KeypointAccuracy(.5, error)
        yield 10 * i, ValidationMetrics(10 * i, {name: value})


HALVES = [.4, .3, .2, .15, .1]


def test_a_metric_that_does_not_move_while_the_error_halves():
    courses = watch(UnmovedValidationDetector(),
                    validations([.6, .6004, .6001, .6, .7], HALVES))
    # At .15 it is below the half.
    assert names(courses) == [(40, ['validation_unmoved']), (50, [])]
    assert 'from 0.4 to 0.15' in courses[0][1][0].evidence


@pytest.mark.parametrize('values, errors', [
    ([.6, .602, .604, .606, .608], HALVES),
    ([0.] * 5, HALVES),
    ([.95] * 5, HALVES),
    ([.6] * 5, [.4, .39, .38, .3, .25]),
    ([.6, .6], [.4, .1]),
])
def test_a_metric_that_shows_what_there_is(values, errors):
    assert not watch(UnmovedValidationDetector(), validations(values, errors))


def test_the_error_of_an_evaluator_where_keypoints_are_not_measured():
    events = [(s, ValidationMetrics(s, {
        'PCK': .6,
        'NME': error
    })) for s, error in enumerate(HALVES, start=1)]
    assert names(watch(UnmovedValidationDetector(),
                       events)) == [(4, ['validation_unmoved'])]


# Activations


def test_the_first_dead_layer_is_named_if_it_stays_so():
    kinds = dict(a='ReLU', b='GELU', c='Sigmoid')

    def seen(**closed):
        return Activations(closed, kinds)

    courses = watch(ActivationDetector(), [
        (1, seen(a=0., b=.95, c=.5)),
        (2, seen(a=.5, b=.5, c=.5)),
        (3, seen(a=.5, b=.95, c=1.)),
        (4, seen(a=.5, b=.95, c=1.)),
        (5, seen(a=.5, b=.5, c=1.)),
        (6, seen(a=.5, b=.5, c=.5)),
    ])
    assert names(courses) == [(4, ['dead_activation/b']), (5, ['saturated/c']),
                              (6, [])]
    assert '1 more layers' in courses[0][1][0].evidence


# The main metric


@pytest.mark.parametrize('known, expected', [
    (['quality', 'my/PCK@0.1'], MainMetric('my/PCK@0.1', 'greater')),
    (['my_error', 'coco/AP'], MainMetric('coco/AP', 'greater')),
    (['my_error'], MainMetric('my_error', 'less')),
    (['quality'], None),
])
def test_a_metric_whose_name_says_which_values_are_better(known, expected):
    assert main_metric(known) == expected


@pytest.mark.parametrize('values, rule', [
    ([1, 2, 3, 4], 'greater'),
    ([4, 3, 2, 1], 'less'),
    ([1, 2, 3], None),
    ([1, 3, 2, 4], None),
    ([1, 3, 2, 4, 5, 6, 7, 8], 'greater'),
    ([1, 1, 1, 1], None),
])
def test_the_course_of_a_metric_shows_which_values_are_better(values, rule):
    metric = learned_metric([dict(count=5., own=v) for v in values])
    assert metric == (None if rule is None else MainMetric('own', rule))
