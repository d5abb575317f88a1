# Copyright (c) OpenMMLab. All rights reserved.
import math

import numpy as np
import pytest
from looking import Looking, training

from mmpose.engine.monitors import Finding, build_detectors
from mmpose.engine.monitors.core.measurements import (Clipping, DeadChannels,
                                                      GradientNorms,
                                                      LayerGradientNorms,
                                                      LayerUpdates,
                                                      LearningRates, Losses,
                                                      LossScale, Nonfinite,
                                                      UnusedParameters,
                                                      Updates)
from mmpose.engine.monitors.health.chains import (Chain, FirstDivergence,
                                                  FirstNonfinite,
                                                  StoppedLearning)
from mmpose.engine.monitors.health.detector import Detector, Streaks
from mmpose.engine.monitors.health.detectors.amp_overflow import \
    LossScaleDetector
from mmpose.engine.monitors.health.detectors.clipping import ClippingDetector
from mmpose.engine.monitors.health.detectors.dead_channels import \
    DeadChannelDetector
from mmpose.engine.monitors.health.detectors.gradients import (
    ExplodingGradientDetector, VanishingGradientDetector)
from mmpose.engine.monitors.health.detectors.nonfinite import NonfiniteDetector
from mmpose.engine.monitors.health.detectors.stopped_learning import (
    FrozenHeadDetector, NoGradientDetector, UnchangedWeightsDetector)
from mmpose.engine.monitors.health.detectors.updates import (
    LargeUpdateDetector, SmallUpdateDetector)
from mmpose.engine.monitors.writers.record import Measurement

NAN, INF = float('nan'), float('inf')

RUNNER = training()


def chained(chain):
    """Our detectors of a chain."""
    return [d for d in build_detectors() if d.chain is chain]


NONFINITE = chained(FirstNonfinite)
DIVERGING = chained(FirstDivergence)
STOPPED = chained(StoppedLearning)


def watch(detectors, events, runner=RUNNER):
    """The names that are found, by the step from which on they are."""
    looking = Looking(detectors, runner)
    courses, present = [], []
    for event in events:
        findings = looking.see(*event)
        if findings is None:
            continue
        found = [f.name for f in findings]
        if found != present:
            courses.append((event[0], *found))
        present = found
    return courses


def last(detectors, events, runner=RUNNER):
    """The findings of the last event that says anything."""
    looking = Looking(detectors, runner)
    findings = [looking.see(*event) for event in events]
    return [f for f in findings if f is not None][-1]


def gradients(groups, nonfinite=None):
    """The two measurements of gradients."""
    norm = math.sqrt(sum(n**2 for n in groups.values()))
    return [GradientNorms(norm, nonfinite), LayerGradientNorms(groups)]


def update(groups, updates=1000, model=1e-3, **kwargs):
    """The two measurements of an update."""
    return [
        Updates(number=updates, ratio=model, **kwargs),
        LayerUpdates(groups)
    ]


def rate(lr):
    return LearningRates({'': lr})


def series(readings, interval=100, first=100):
    """Events of readings, each of one or several."""
    step = first
    for reading in readings:
        for event in reading if isinstance(reading, list) else [reading]:
            yield step, event
        step += interval


def scattered(count, groups, seed=0):
    """Norms of a healthy training: falling, and noisy."""
    rng = np.random.default_rng(seed)
    size = rng.lognormal(sigma=2, size=len(groups))
    for i in range(count):
        trend = 10**(-2 * i / count)
        yield dict(
            zip(groups,
                trend * size * rng.lognormal(sigma=1, size=len(groups))))


GROUPS = [
    'backbone/stem', 'backbone/layer1', 'backbone/layer2', 'backbone/layer3',
    'head'
]
EVERY = dict.fromkeys(GROUPS, 1.)


def test_every_detector_has_nothing_to_say_of_nothing():
    detectors = build_detectors()
    assert len({type(d) for d in detectors}) == len(detectors)
    for detector in STOPPED + DIVERGING + NONFINITE:
        detector.before_train(RUNNER)
        assert issubclass(detector.chain, Chain) and detector.wants
    without = build_detectors(nonfinite=False)
    assert {type(d).__name__
            for d in detectors} - {type(d).__name__
                                   for d in without} == {
                                       'NonfiniteDetector',
                                       'NonfiniteLossDetector',
                                       'NonfiniteBufferDetector',
                                       'NonfiniteEmaDetector'
                                   }


def test_a_healthy_training_has_no_findings():
    looking = Looking(build_detectors(), RUNNER)
    ratios = scattered(200, GROUPS, seed=1)
    for i, norms in enumerate(scattered(200, GROUPS)):
        step = 100 * i or 1
        events = gradients(norms) + update(
            {g: 1e-3 * r
             for g, r in next(ratios).items()}, step) + [
                 UnusedParameters(),
                 DeadChannels(0.05),
                 Clipping('', 2., 1., 1., 0.5),
                 LossScale('', 65536., 100, 10 * (i == 0)),
                 Losses(max(2 * 0.8**i, 0.5), 0.1),
             ]
        for event in events:
            assert not looking.see(step, event), (step, event)


def test_the_same_in_several_consecutive_measurements():
    streaks = Streaks(3)
    assert [streaks.update(names)
            for names in ('ab', 'ba', 'bc', 'acb', 'c')] == [[], [], ['b'],
                                                             ['b'], ['c']]


# What is NaN or infinite


def nonfinite(gradient=None, weight=None, change=None, loss=False):
    """Measurements of gradients, update and losses."""
    return [
        gradients(EVERY, gradient)[0],
        update({}, nonfinite_before=weight, nonfinite_after=change)[0],
        Losses(1., nonfinite=dict(loss_kpt=37) if loss else {})
    ]


ALL = Nonfinite('stem.weight', 1.)
FINITE = nonfinite()


@pytest.mark.parametrize(
    'reading, name, words', [
        (nonfinite(ALL, Nonfinite('layer3.conv.weight', 0.02), ALL, loss=True),
         'nonfinite_weight', ['layer3.conv.weight', '2%']),
        (nonfinite(
            Nonfinite('layer3.conv.weight', 0.4),
            change=Nonfinite('stem.weight', 0.4)), 'nonfinite_gradient',
         ['layer3.conv.weight', '40%', 'All weights were finite']),
        (nonfinite(ALL, change=ALL), 'nonfinite_gradient', ['100%']),
        (nonfinite(change=Nonfinite('layer3.conv.weight', 0.02)),
         'nonfinite_update', ['layer3.conv.weight', '2%']),
        (nonfinite(ALL, change=ALL, loss=True), 'nonfinite_loss', ['loss_kpt'
                                                                   ]),
        (nonfinite(ALL, ALL, loss=True), 'nonfinite_loss', ['step 37']),
        (nonfinite(ALL, ALL), 'nonfinite_weight', ['All weights']),
    ],
    ids=[
        'weight', 'gradient', 'all gradients', 'update', 'loss', 'loss since',
        'all weights'
    ])
def test_what_was_not_finite_first_is_the_one_finding(reading, name, words):
    """And stays, when everything else has followed."""
    later = nonfinite(ALL, ALL, loss=True)
    events = list(series([FINITE, reading, later, later]))
    assert watch(NONFINITE, events) == [(200, name)]
    finding, = last(NONFINITE, events)
    for word in words:
        assert word in finding.what + finding.evidence
    assert watch(NONFINITE,
                 [*events, *series([FINITE], first=500)]) == [(200, name),
                                                              (500, )]


def test_a_gradient_is_of_all_batches_that_are_accumulated():
    runner = training(accumulative_counts=4)
    looking = Looking(NonfiniteDetector(), runner)
    for step, event in series([FINITE, nonfinite(Nonfinite('a', .4))] * 2):
        findings = looking.see(step, event) or ()
    finding, = findings
    assert (finding.batch, finding.batches) == (400, 4)
    assert 'samples of the 4 steps up to that' in finding.advice


def test_gradients_alone_are_enough_and_so_are_weights():
    """A budget may stretch one of the two intervals."""
    bad = nonfinite(Nonfinite('layer3.conv.weight', 0.4))
    good = FINITE[:1]
    events = series([good, bad[:1], bad[:1], good])
    assert watch(NonfiniteDetector(), events) == [(300, 'nonfinite_gradient'),
                                                  (400, )]
    bad = nonfinite(change=Nonfinite('layer3.conv.weight', 0.4))
    events = series([bad[1:2], bad[1:2]])
    assert watch(NonfiniteDetector(), events) == [(200, 'nonfinite_update')]
    events = series([bad[1:]])
    assert watch(NonfiniteDetector(), events) == [(100, 'nonfinite_update')]
    # The gradients of an earlier update say nothing about those of this one.
    events = list(series([good, bad[1:2]], interval=1))
    assert watch(NonfiniteDetector(), events) == []
    bad_gradient = nonfinite(Nonfinite('layer3.conv.weight', 0.4))[:1]
    events = list(series([bad_gradient, bad[1:2]], interval=1))
    assert watch(NonfiniteDetector(), events) == [(101, 'nonfinite_gradient')]
    bad = nonfinite(change=Nonfinite('layer3.conv.weight', 0.4), loss=True)
    assert watch(NonfiniteDetector(), series([bad[1:], bad[1:]])) == []


@pytest.mark.parametrize('reading', [
    nonfinite(ALL),
    nonfinite(weight=ALL)[1:],
    nonfinite(weight=Nonfinite('layer3.conv.weight', 0.02)),
    nonfinite(change=ALL)[1:],
    nonfinite(loss=True),
])
@pytest.mark.parametrize('processes', [1, 2])
def test_it_may_have_begun_in_another_process(monkeypatch, reading, processes):
    """Only of the first the losses are known, and all follow from one."""
    monkeypatch.setattr(
        'mmpose.engine.monitors.health.detectors.nonfinite.get_world_size',
        lambda: processes)
    finding, = last(NONFINITE, series([reading]))
    assert ('another process' in finding.advice) == (processes > 1)


def test_an_update_that_is_left_out_has_no_gradients():
    """Mixed precision leaves out every one, once a weight is NaN."""
    found = Nonfinite('layer3.conv.weight', 0.02)
    left_out = [Updates(nonfinite_before=found, is_skipped=True)]
    loss = nonfinite(loss=True)[-1:]
    events = series([FINITE, left_out + loss, loss])
    assert watch(NONFINITE, events) == [(200, 'nonfinite_weight')]


def test_updates_are_skipped_because_of_what_is_not_finite():
    loss = nonfinite(loss=True)[-1]
    events = series([FINITE, *[[loss, scaled(100, 100)]] * 3, FINITE])
    assert watch(NONFINITE, events) == [(200, 'nonfinite_loss'), (500, )]
    # But not the other way round.
    events = series([[scaled(100, 100)], [loss, scaled(100, 100)]])
    assert watch(NONFINITE,
                 events) == [(100, 'amp_overflow'),
                             (200, 'amp_overflow', 'nonfinite_loss')]


def test_where_it_began_is_not_where_it_has_come_to():
    events = series([
        nonfinite(ALL, Nonfinite('layer3.conv.weight', 0.02)),
        nonfinite(ALL, Nonfinite('layer1.conv.weight', 0.2))
    ])
    finding, = last(NonfiniteDetector(), events)
    assert 'layer3.conv.weight' in finding.what


# Gradients


def vanishing(norms, **kwargs):
    return watch(VanishingGradientDetector(),
                 series([gradients(n) for n in norms], **kwargs))


@pytest.mark.parametrize('norm', [0., 1e-7])
@pytest.mark.parametrize('interval', [10, 100])
def test_a_group_that_hardly_any_gradient_arrives_at(norm, interval):
    """As soon as there is a past to compare with, and for as long."""
    start = [dict(EVERY, head=30.)] * 11
    vanished = {**EVERY, 'backbone/stem': norm, 'backbone/layer1': 3 * norm}
    norms = start + [vanished] * 60
    name = 'vanishing_gradient/backbone/layer1'
    begins = 14 * interval
    assert vanishing(
        norms, interval=interval, first=interval) == [(begins, name)]
    assert vanishing(
        norms + start[:1], interval=interval,
        first=interval) == [(begins, name), (72 * interval, )]
    finding, = last(VanishingGradientDetector(),
                    series([gradients(n) for n in norms]))
    assert 'at backbone.layer1.' in finding.what
    assert 'backbone.stem' in finding.evidence


def test_the_name_stays_while_it_is_so():
    both = {**EVERY, 'backbone/stem': 0., 'backbone/layer1': 0.}
    one = {**EVERY, 'backbone/stem': 0.}
    start = [EVERY] * 11
    assert vanishing(start + [one] * 3 + [both] * 5) == [
        (1400, 'vanishing_gradient/backbone/stem')
    ]


@pytest.mark.parametrize(
    'norms',
    [
        [EVERY] * 11 + [dict(EVERY, head=0.)] * 2 + [EVERY] * 5,
        [EVERY] * 11 + [{g: 1e-9
                         for g in GROUPS}] * 5,
        [dict(EVERY, head=1e-4)] * 20,
        [dict(EVERY, head=3e4)] * 20,
        [{
            **EVERY, 'head/bias': 1e-9
        }] * 20,
        [dict(EVERY, head=NAN)] * 20,
        # As measured in a video lifter with two sequences in a batch.
        [
            dict(EVERY, head=norm)
            for norm in (410, 21, 530, 120, 760, 1.3, 100, .42, 100, .44, .23,
                         .075, 2.3e-5, 6.4e-4, 3.4e-3, 190, 75)
        ],
    ],
    ids=[
        'two odd batches', 'all together', 'small always', 'another is large',
        'bias', 'nan', 'behind a batch norm over two values'
    ])
def test_what_is_no_vanishing_gradient(norms):
    assert vanishing(norms) == []


def test_a_residual_branch_that_starts_as_nothing_has_time():
    """The scale of its last batch norm is 0 at first."""
    norms = [dict(EVERY, head=1e-12 * i**2) for i in range(100)]
    assert vanishing(norms, interval=10, first=1) == []
    stuck = [dict(EVERY, head=1e-12)] * 110
    assert vanishing(
        stuck, interval=10, first=1) == [(1021, 'vanishing_gradient/head')]


def test_under_accumulation_it_has_as_many_updates():
    stuck = [dict(EVERY, head=1e-12)] * 450
    events = list(series([gradients(n) for n in stuck], 10, 1))
    assert watch(VanishingGradientDetector(), events,
                 training(accumulative_counts=4)) == [
                     (4021, 'vanishing_gradient/head')
                 ]
    small = list(
        series([update(dict(EVERY_RATIO, head=1e-8))] * 450, 10, first=1))
    assert watch(SmallUpdateDetector(), small,
                 training(accumulative_counts=4)) == [(4021,
                                                       'update_ratio/head')]


@pytest.mark.parametrize('share', [0.3, 0.5, 0.7])
def test_a_head_that_some_batches_train(share):
    """In the others it has none; that is found when no batch does."""
    trained = np.random.default_rng(0).random(300) < share
    norms = [dict(EVERY, head=float(is_trained)) for is_trained in trained]
    dead = [dict(EVERY, head=0.)] * 30
    (step, name), = vanishing(norms + dead, first=1200)
    assert name == 'vanishing_gradient/head'
    assert 1200 + 100 * 300 < step <= 1200 + 100 * 325


def exploding(norms):
    return watch(ExplodingGradientDetector(),
                 series([gradients(n) for n in norms]))


def test_gradients_that_are_a_thousand_times_what_they_were():
    start = [EVERY] * 11
    all_of_them = [{g: 2e3 for g in GROUPS}] * 4
    assert exploding(start + all_of_them) == [(1400, 'exploding_gradient')]
    assert exploding(start + all_of_them + start[:1]) == [
        (1400, 'exploding_gradient'), (1600, )
    ]
    one = [dict(EVERY, head=1e4)] * 4
    assert exploding(start + one) == [(1400, 'exploding_gradient')]
    little = [{
        **EVERY, 'backbone/stem': 1e-2
    }] * 11 + [{
        **EVERY, 'backbone/stem': 1e2
    }] * 3
    assert exploding(little) == [(1400, 'exploding_gradient/backbone/stem')]


@pytest.mark.parametrize(
    'norms', [
        [EVERY] * 11 + [dict(EVERY, head=1e4)] * 2 + [EVERY] * 5,
        [{g: 10**(i / 6)
          for g in GROUPS} for i in range(20)],
        [dict(EVERY, head=1e-9)] * 11 + [dict(EVERY, head=1e-3)] * 5,
        [EVERY] * 5 + [dict(EVERY, head=1e5)] * 5,
        [EVERY] * 11 + [dict(EVERY, head=INF)] * 5,
    ],
    ids=['two odd batches', 'growing', 'from nothing', 'no past', 'infinite'])
def test_what_is_no_exploding_gradient(norms):
    assert exploding(norms) == []


# Updates


def test_updates_that_are_too_large():
    large = update(dict.fromkeys(GROUPS, 0.2), model=0.2)
    assert watch(LargeUpdateDetector(),
                 series([large] * 4)) == [(300, 'update_ratio')]
    one = update(dict(EVERY_RATIO, head=0.2))
    events = list(series([one] * 4 + [update(EVERY_RATIO)]))
    assert watch(LargeUpdateDetector(), events) == [(300, 'update_ratio/head'),
                                                    (500, )]
    finding, = last(LargeUpdateDetector(), events[:8])
    assert 'of head are too large' in finding.what
    assert '0.2 of their norm' in finding.evidence
    most = update(dict(EVERY_RATIO, **dict.fromkeys(GROUPS[:3], 0.2)))
    assert watch(LargeUpdateDetector(),
                 series([most] * 4)) == [(300, 'update_ratio')]
    # When it comes to that, they still are.
    nan = update(dict.fromkeys(GROUPS, NAN), model=NAN)
    assert watch(LargeUpdateDetector(),
                 series([large] * 3 + [nan] * 5)) == [(300, 'update_ratio')]
    infinite = update({}, model=INF)
    assert watch(LargeUpdateDetector(),
                 series([infinite] * 4)) == [(300, 'update_ratio')]


EVERY_RATIO = dict.fromkeys(GROUPS, 1e-3)


@pytest.mark.parametrize(
    'readings', [
        [update(dict(EVERY_RATIO, head=0.2))] * 2 + [update(EVERY_RATIO)] * 5,
        [update(dict(EVERY_RATIO, head=2 / i), i) for i in range(1, 30)],
        [update(dict(EVERY_RATIO, head=i**-0.5), i) for i in range(1, 300)],
        [update(dict(EVERY_RATIO, head=11 / i), i) for i in range(1, 300)],
        [update(dict(EVERY_RATIO, **{'head/bias': 0.9}))] * 5,
        [update(dict.fromkeys(GROUPS, NAN), model=NAN)] * 5,
        [update(dict(EVERY_RATIO, head=0.2), model=0.05)] * 5,
    ],
    ids=[
        'two odd batches', 'a fresh head', 'a fresh head that is lost',
        'a branch that starts as nothing, in a warm-up', 'bias', 'nan',
        'all are nearly'
    ])
def test_what_is_no_update_that_is_too_large(readings):
    assert watch(LargeUpdateDetector(), series(readings, 1, 1)) == []


def test_what_is_around_a_limit_does_not_come_and_go():
    """It ends where it is clearly on the other side."""
    name = 'update_ratio/head'
    large = [
        update(dict(EVERY_RATIO, head=r))
        for r in (.11, .11, .11, .09, .11, .09, .07)
    ]
    assert watch(LargeUpdateDetector(), series(large)) == [(300, name),
                                                           (700, )]
    # Nor where all together are around what is well below it.
    well = [
        update(dict(EVERY_RATIO, head=.2), model=r)
        for r in (.009, .009, .009, .011, .009, .011, .02)
    ]
    assert watch(LargeUpdateDetector(), series(well)) == [(300, name), (700, )]
    small = [
        update(dict(EVERY_RATIO, head=r))
        for r in (9e-7, 9e-7, 9e-7, 1.1e-6, 9e-7, 1.1e-6, 1.4e-6)
    ]
    assert watch(SmallUpdateDetector(), series(small,
                                               first=1100)) == [(1300, name),
                                                                (1700, )]
    dead = map(DeadChannels, (.31, .31, .31, .29, .31, .29, .23))
    assert watch(DeadChannelDetector(),
                 series(dead)) == [(300, 'dead_channels'), (700, )]
    shares = [clipped(s, .05) for s in (.91, .91, .91, .89, .91, .89, .71)]
    factors = [clipped(1, f) for f in (.09, .09, .09, .11, .09, .11, .13)]
    for clips in (shares, factors):
        assert watch(ClippingDetector(), series(clips)) == [(300, 'clipping'),
                                                            (700, )]


def test_updates_that_are_too_small():
    lr = rate(1e-3)
    small = [lr, *update(dict.fromkeys(GROUPS, 1e-8), model=1e-8)]
    events = series([small] * 4, first=1100)
    assert watch(SmallUpdateDetector(), events) == [(1300, 'update_ratio')]
    # The learning rate is annealed, or warming up.
    annealed = [rate(9e-5), *small[1:]]
    events = series([small[:1]] + [annealed] * 4, first=1000)
    assert watch(SmallUpdateDetector(), events) == []
    events = series([small] * 9, first=100)
    assert watch(SmallUpdateDetector(), events) == []
    one = update(dict(EVERY_RATIO, head=1e-8))
    events = list(series([one] * 4, first=1100))
    assert watch(SmallUpdateDetector(),
                 events) == [(1300, 'update_ratio/head')]
    finding, = last(SmallUpdateDetector(), events)
    assert 'of head are too small' in finding.what
    beside = update(dict.fromkeys(GROUPS, 9e-7))
    events = series([beside] * 4, first=1100)
    assert watch(SmallUpdateDetector(), events) == []
    none = update(dict(EVERY_RATIO, head=0.))
    events = series([none] * 4, first=1100)
    assert watch(SmallUpdateDetector(), events) == []


def test_a_module_that_does_not_learn():
    stopped = update({}, unchanged=dict(head=4), stopped=dict(head=4))
    events = list(series([stopped] * 4 + [update({})]))
    assert watch(UnchangedWeightsDetector(),
                 events) == [(300, 'unchanged_weights/head'), (500, )]
    finding, = last(UnchangedWeightsDetector(), events[:-2])
    assert finding.what == 'head does not learn: its learning rate is 0.'
    # It is a setting.
    assert finding.severity == 'note'
    # Of a residual branch that starts as nothing it may be rounding.
    other = update({}, unchanged={'backbone/layer1': 4})
    events = list(series([other] * 20))
    assert watch(UnchangedWeightsDetector(),
                 events) == [(1300, 'unchanged_weights/backbone/layer1')]
    finding, = last(UnchangedWeightsDetector(), events)
    assert 'backbone.layer1 does not learn: the updates' in finding.what
    assert finding.severity == 'warning'
    # What is measured is one update: what comes after it is not seen.
    assert 'float16' in finding.advice and 'hook' not in finding.advice
    left_out = UnusedParameters(not_in_optimizer=dict(head=4))
    events = list(series([left_out, UnusedParameters()]))
    assert watch(UnchangedWeightsDetector(),
                 events) == [(100, 'unchanged_weights/head'), (200, )]
    finding, = last(UnchangedWeightsDetector(), events[:1])
    assert 'no optimizer has its weights' in finding.what


def test_that_nothing_learns_has_a_finding_of_its_own():
    reading = update({}, unchanged=dict(model=9), stopped=dict(model=9))
    events = list(series([[rate(0.), *reading]] * 4))
    assert watch(UnchangedWeightsDetector(), events) == []
    # But not if nobody can know.
    events = list(series([reading] * 4))
    assert watch(UnchangedWeightsDetector(),
                 events) == [(300, 'unchanged_weights/model')]


def test_a_module_without_gradients_is_one_finding():
    some = UnusedParameters({'head/aux': 30})
    events = list(series([some, some, UnusedParameters()]))
    assert watch(NoGradientDetector(),
                 events) == [(100, 'no_gradient/head/aux'), (300, )]
    finding, = last(NoGradientDetector(), events[:1])
    assert 'No gradient ever arrives at head.aux.' == finding.what
    assert '30 of its parameters' in finding.evidence


def test_a_head_that_is_frozen():
    frozen = UnusedParameters(frozen_head=12)
    events = list(series([frozen, frozen, UnusedParameters()]))
    assert watch(FrozenHeadDetector(), events) == [(100, 'frozen_head'),
                                                   (300, )]
    finding, = last(FrozenHeadDetector(), events[:2])
    assert 'head is frozen' in finding.what
    assert 'none of its 12 parameters' in finding.evidence
    assert 'requires_grad=False' in finding.advice


def test_channels_that_have_died():
    events = map(DeadChannels, (.2, .4, .4, .4, .4, .2))
    assert watch(DeadChannelDetector(),
                 series(events)) == [(400, 'dead_channels'), (600, )]


def clipped(fraction, factor, optimizer=''):
    return Clipping(optimizer, 1 / factor, 1., fraction, factor)


def test_three_iterations_in_a_row_may_be_clipped():
    """Defect: where each iteration is measured, they were a finding."""
    clips = [clipped(1, 0.05)] * 20 + [clipped(0, 1.)]
    assert not watch(ClippingDetector(), series(clips * 3, interval=1))
    events = series([clipped(1, 0.05)] * 30, interval=1)
    assert watch(ClippingDetector(), events) == [(121, 'clipping')]


def test_clipping_that_decides_how_long_the_steps_are():
    events = list(series([clipped(1, 0.05)] * 4 + [clipped(0.5, 0.05)]))
    assert watch(ClippingDetector(), events) == [(300, 'clipping'), (500, )]
    finding, = last(ClippingDetector(), events[:-1])
    assert 'from a norm of 20 to 1' in finding.evidence
    events = series([clipped(1, 0.05, 'a'), clipped(1, 0.5, 'b')] * 8)
    assert watch(ClippingDetector(), events) == [(500, 'clipping/a')]
    # The first gradients are large.
    assert watch(ClippingDetector(), series([clipped(1, 0.05)] * 99, 1,
                                            1)) == []
    # Nine of ten in every step, by Adam: it does not matter to it.
    adam = Clipping('', 20., 1., 1.)
    assert watch(ClippingDetector(), series([adam] * 9)) == []


def scaled(updates, skipped, scale=1024.):
    return LossScale('', scale, updates, skipped)


def test_mixed_precision_that_skips_too_many_updates():
    events = [scaled(100, 40), scaled(100, 60), scaled(100, 0)]
    assert watch(LossScaleDetector(),
                 series(events)) == [(200, 'amp_overflow'), (300, )]
    # In the beginning the scale is looked for.
    events = [scaled(1, 1)] * 10 + [scaled(1, 0)] * 30
    assert watch(LossScaleDetector(), series(events, 1, 1)) == []
    events = [scaled(1, 1)] * 30 + [scaled(1, 0)] * 30
    assert watch(LossScaleDetector(), series(events, 1,
                                             1)) == [(20, 'amp_overflow'),
                                                     (40, )]
    events = [scaled(1, 0, 1.), scaled(1, 1, 0.5)]
    assert watch(LossScaleDetector(),
                 series(events)) == [(200, 'amp_overflow')]


# What follows from what


class Said(Measurement):
    """What a detector is to find."""

    def __init__(self, **findings):
        self.findings = findings


class Scripted(Detector):
    """Finds what it is told."""

    wants = (Said, )
    chain = Chain

    def __init__(self, key):
        self.key = key

    def see(self, step, said):
        if self.key in said.findings:
            return [
                Finding(name, '', '', '')
                for name in said.findings[self.key].split()
            ]


def test_only_what_began_first_is_found():
    detectors = [Scripted('a'), Scripted('b')]
    assert watch(detectors, [
        (1, Said()),
        (2, Said(a='', b='')),
        (3, Said(b='x')),
        (4, Said(a='y')),
        (5, Said(b='x')),
        (6, Said(b='')),
        (7, Said(b='x', a='y z')),
        (8, Said(a='', b='')),
        (9, Said(b='x', a='z')),
    ]) == [(3, 'x'), (6, ), (7, 'y'), (8, ), (9, 'z')]


def test_a_group_that_explodes_is_one_finding():
    events = series([gradients(EVERY)] * 11 +
                    [gradients(dict(EVERY, head=1e4))] * 4)
    assert watch(DIVERGING, events) == [(1400, 'exploding_gradient')]


def test_a_place_is_named_once():
    """A group without gradient is neither changed nor read."""
    reading = gradients(dict(EVERY, head=0.)) + update(
        EVERY_RATIO, unchanged={'head/final_layer': 1})
    other = update(EVERY_RATIO, unchanged={'head/final_layer': 1})
    events = list(series([gradients(EVERY) + update(EVERY_RATIO)] * 11))
    events += series([reading] * 5, first=1200)
    assert watch(STOPPED, events) == [(1400, 'vanishing_gradient/head')]
    # At two places there are two.
    cut_off = UnusedParameters({'backbone/aux': 3})
    events += series([reading + [cut_off]], first=1700)
    assert watch(STOPPED, events)[1:] == [(1700, 'vanishing_gradient/head',
                                           'no_gradient/backbone/aux')]
    # When the gradient is there again, that nothing changes is left.
    events += series([gradients(EVERY) + other], first=1800)
    assert watch(STOPPED,
                 events)[-1] == (1800, 'unchanged_weights/head/final_layer',
                                 'no_gradient/backbone/aux')


def test_what_is_wrong_everywhere_is_not_hidden_by_one_place():
    lr = rate(1e-3)
    cut_off = UnusedParameters({'backbone/aux': 3})
    small = [lr, *update({}, model=1e-8)]
    events = series([[cut_off, *small]] * 4, first=1100)
    assert watch(STOPPED, events) == [
        (1100, 'no_gradient/backbone/aux'),
        (1300, 'no_gradient/backbone/aux', 'update_ratio'),
    ]
    # What is in one place follows from it.
    reading = small + [cut_off]
    events = list(series([small] * 4 + [reading] * 2, first=1100))
    assert watch(STOPPED, events) == [(1300, 'update_ratio')]


def test_a_loss_that_diverges_is_one_finding_with_its_cause():
    loss = [Losses(m, 0.1) for m in [3., 1., 50., 50., 50., 50., 50.]]
    events = series([[event] for event in loss])
    assert watch(DIVERGING, events) == [(500, 'learning_rate_too_high')]
    large = update({}, model=0.2)
    events = series([[event, *large] for event in loss])
    assert watch(DIVERGING, events) == [(300, 'update_ratio')]
