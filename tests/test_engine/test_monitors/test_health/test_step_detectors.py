# Copyright (c) OpenMMLab. All rights reserved.
import math
from types import SimpleNamespace

import numpy as np
import pytest

from mmpose.engine.monitors import Finding
from mmpose.engine.monitors.health import step_detectors
from mmpose.engine.monitors.health.first_cause import (FirstCauseDetector,
                                                       Streaks)
from mmpose.engine.monitors.health.gradient_detectors import (
    ExplodingGradientDetector, NonfiniteDetector, VanishingGradientDetector)
from mmpose.engine.monitors.health.health import Detector
from mmpose.engine.monitors.health.step_detectors import (
    ClippingDetector, DivergingStepDetector, FirstNonfiniteDetector,
    LossScaleDetector, StalledStepDetector)
from mmpose.engine.monitors.health.weight_detectors import (
    DeadChannelDetector, FrozenHeadDetector, LargeUpdateDetector,
    NoGradientDetector, SmallUpdateDetector, UnchangedWeightsDetector)

NAN, INF = float('nan'), float('inf')


def training(iters=0, accumulative_counts=1, **cfg):
    """What a detector may ask of a Runner."""
    wrapper = SimpleNamespace(_accumulative_counts=accumulative_counts)
    return SimpleNamespace(iter=iters, optim_wrapper=wrapper, cfg=cfg)


RUNNER = training()


def watch(detector, events, runner=RUNNER):
    """The names that are found, by the step from which on they are."""
    detector.before_train(runner)
    courses, present = [], []
    for step, scalars in events:
        findings = detector.see(step, scalars)
        if findings is None:
            continue
        found = [f.name for f in findings]
        if found != present:
            courses.append((step, *found))
        present = found
    return courses


def last(detector, events, runner=RUNNER):
    """The findings of the last event that says anything."""
    detector.before_train(runner)
    findings = [detector.see(*event) for event in events]
    return [list(f) for f in findings if f is not None][-1]


def gradients(groups, **kwargs):
    """The two events of a reading of gradients."""
    norm = math.sqrt(sum(n**2 for n in groups.values()))
    return [{
        'train/gradient_norm/global': norm,
        **kwargs
    }, {f'train/gradient_norm/layers/{g}': n
        for g, n in groups.items()}]


def update(groups, updates=1000, model=1e-3, **kwargs):
    """The two events of a reading of an update."""
    return [{
        'health/updates': updates,
        'health/update_ratio': model,
        **kwargs
    }, {f'health/update_ratio/{g}': r
        for g, r in groups.items()}]


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


def test_every_detector_is_asked_and_has_nothing_to_say_of_nothing():
    detectors = step_detectors()
    # The report tells them apart by their types.
    assert len({type(d) for d in detectors}) == len(detectors)
    for detector in detectors:
        detector.before_train(RUNNER)
        for scalars in ({}, {'loss': 1.}, {'val/PCK': 1.}):
            assert detector.see(1, scalars) is None
    assert not any(
        isinstance(d, FirstNonfiniteDetector) for d in step_detectors(False))


def test_a_healthy_training_has_no_findings():
    detectors = step_detectors()
    for detector in detectors:
        detector.before_train(RUNNER)
    ratios = scattered(200, GROUPS, seed=1)
    for i, norms in enumerate(scattered(200, GROUPS)):
        step = 100 * i or 1
        events = gradients(norms) + update(
            {g: 1e-3 * r
             for g, r in next(ratios).items()}, step) + [
                 {
                     'health/unused_parameters': 0
                 },
                 {
                     'health/dead_channels': 0.05
                 },
                 {
                     'health/clipping/share': 1.,
                     'health/clipping/learning_rate_factor': 0.5,
                     'health/clipping/norm_before': 2.,
                     'health/clipping/threshold': 1.
                 },
                 {
                     'health/amp/loss_scale': 65536.,
                     'health/amp/updates': 100.,
                     'health/amp/skipped': 10. * (i == 0)
                 },
                 {
                     'health/loss/median': 1.,
                     'health/loss/deviation': 0.1
                 },
             ]
        for event in events:
            for detector in detectors:
                assert not detector.see(step, event), (step, detector)


def test_the_same_in_several_readings_running():
    streaks = Streaks(3)
    assert [streaks.update(names)
            for names in ('ab', 'ba', 'bc', 'acb', 'c')] == [[], [], ['b'],
                                                             ['b'], ['c']]


# What is NaN or infinite


def nonfinite(gradient=None, weight=None, change=None, loss=False):
    """The events of a reading: gradients, update, losses."""
    event, = gradients(
        EVERY, **{
            f'health/nonfinite_gradient/{name}': share
            for name, share in (gradient or {}).items()
        })[:1]
    of_update, = update({}, **{
        **{
            f'health/nonfinite_weight/{n}': s
            for n, s in (weight or {}).items()
        },
        **{
            f'health/nonfinite_update/{n}': s
            for n, s in (change or {}).items()
        }
    })[:1]
    of_loss = {'health/nonfinite_loss/loss_kpt': 37} if loss else {}
    of_loss['health/loss/median'] = 1.
    return [event, of_update, of_loss]


ALL = {'stem.weight': 1.}
FINITE = nonfinite()


@pytest.mark.parametrize(
    'reading, name, words', [
        (nonfinite(ALL, {'layer3.conv.weight': 0.02}, ALL, loss=True),
         'nonfinite_weight', ['layer3.conv.weight', '2%']),
        (nonfinite({'layer3.conv.weight': 0.4},
                   change={'stem.weight': 0.4}), 'nonfinite_gradient',
         ['layer3.conv.weight', '40%', 'All weights were finite']),
        (nonfinite(ALL, change=ALL), 'nonfinite_gradient', ['100%']),
        (nonfinite(change={'layer3.conv.weight': 0.02}), 'nonfinite_update',
         ['layer3.conv.weight', '2%']),
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
    assert watch(FirstNonfiniteDetector(), events) == [(200, name)]
    finding, = last(FirstNonfiniteDetector(), events)
    for word in words:
        assert word in finding.what + finding.evidence
    assert watch(FirstNonfiniteDetector(),
                 [*events, *series([FINITE], first=500)]) == [(200, name),
                                                              (500, )]


def test_gradients_alone_are_enough_and_so_are_weights():
    """A budget may stretch one of the two intervals."""
    bad = nonfinite({'layer3.conv.weight': 0.4})
    good = FINITE[:1]
    events = series([good, bad[:1], bad[:1], good])
    assert watch(NonfiniteDetector(), events) == [(300, 'nonfinite_gradient'),
                                                  (400, )]
    bad = nonfinite(change={'layer3.conv.weight': 0.4})
    events = series([bad[1:2], bad[1:2]])
    assert watch(NonfiniteDetector(), events) == [(200, 'nonfinite_update')]
    events = series([bad[1:]])
    assert watch(NonfiniteDetector(), events) == [(100, 'nonfinite_update')]
    # The gradients of an earlier update say nothing about those of this one.
    events = list(series([good, bad[1:2]], interval=1))
    assert watch(NonfiniteDetector(), events) == []
    bad_gradient = nonfinite({'layer3.conv.weight': 0.4})[:1]
    events = list(series([bad_gradient, bad[1:2]], interval=1))
    assert watch(NonfiniteDetector(), events) == [(101, 'nonfinite_gradient')]
    bad = nonfinite(change={'layer3.conv.weight': 0.4}, loss=True)
    assert watch(NonfiniteDetector(), series([bad[1:], bad[1:]])) == []


@pytest.mark.parametrize('reading', [
    nonfinite(ALL),
    nonfinite(weight=ALL)[1:],
    nonfinite(weight={'layer3.conv.weight': 0.02}),
    nonfinite(change=ALL)[1:],
    nonfinite(loss=True),
])
@pytest.mark.parametrize('processes', [1, 2])
def test_it_may_have_begun_in_another_process(monkeypatch, reading, processes):
    """Only of the first the losses are known, and all follow from one."""
    for module in 'gradient_detectors', 'loss_detectors':
        monkeypatch.setattr(f'mmpose.engine.monitors.{module}.get_world_size',
                            lambda: processes)
    finding, = last(FirstNonfiniteDetector(), series([reading]))
    assert ('another process' in finding.advice) == (processes > 1)


def test_an_update_that_is_left_out_has_no_gradients():
    """Mixed precision leaves out every one, once a weight is NaN."""
    left_out = [{'health/nonfinite_weight/layer3.conv.weight': 0.02}]
    loss = nonfinite(loss=True)[-1:]
    events = series([FINITE, left_out + loss, loss])
    assert watch(FirstNonfiniteDetector(),
                 events) == [(200, 'nonfinite_weight')]


def test_updates_are_skipped_because_of_what_is_not_finite():
    loss = nonfinite(loss=True)[-1]
    events = series([FINITE, *[[loss, scaled(100, 100)]] * 3, FINITE])
    assert watch(FirstNonfiniteDetector(), events) == [(200, 'nonfinite_loss'),
                                                       (500, )]
    # But not the other way round.
    events = series([[scaled(100, 100)], [loss, scaled(100, 100)]])
    assert watch(FirstNonfiniteDetector(),
                 events) == [(100, 'amp_overflow'),
                             (200, 'amp_overflow', 'nonfinite_loss')]


def test_where_it_began_is_not_where_it_has_come_to():
    events = series([
        nonfinite(ALL, {'layer3.conv.weight': 0.02}),
        nonfinite(ALL, {'layer1.conv.weight': 0.2})
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
    'norms', [
        [EVERY] * 11 + [dict(EVERY, head=0.)] * 2 + [EVERY] * 5,
        [EVERY] * 11 + [{g: 1e-9
                         for g in GROUPS}] * 5,
        [dict(EVERY, head=1e-4)] * 20,
        [dict(EVERY, head=3e4)] * 20,
        [{
            **EVERY, 'head/bias': 1e-9
        }] * 20,
        [dict(EVERY, head=NAN)] * 20,
    ],
    ids=[
        'two odd batches', 'all together', 'small always', 'another is large',
        'bias', 'nan'
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
    # The first of the two is that of all; the other is the cause of it.
    assert exploding(start + one) == [(1400, 'exploding_gradient'),
                                      (1400, 'exploding_gradient',
                                       'exploding_gradient/head')]
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
    dead = [{
        'health/dead_channels': share
    } for share in (.31, .31, .31, .29, .31, .29, .23)]
    assert watch(DeadChannelDetector(),
                 series(dead)) == [(300, 'dead_channels'), (700, )]
    shares = [clipped(s, .05) for s in (.91, .91, .91, .89, .91, .89, .71)]
    factors = [clipped(1, f) for f in (.09, .09, .09, .11, .09, .11, .13)]
    for clips in (shares, factors):
        assert watch(ClippingDetector(), series(clips)) == [(300, 'clipping'),
                                                            (700, )]


def test_updates_that_are_too_small():
    lr = {'train/learning_rate/lr': 1e-3}
    small = [lr, *update(dict.fromkeys(GROUPS, 1e-8), model=1e-8)]
    events = series([small] * 4, first=1100)
    assert watch(SmallUpdateDetector(), events) == [(1300, 'update_ratio')]
    # The learning rate is annealed, or warming up.
    annealed = [{'train/learning_rate/lr': 9e-5}, *small[1:]]
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
    stopped = {
        'health/unchanged_weights/head': 4,
        'health/zero_learning_rate/head': 4
    }
    events = list(series([update({}, **stopped)] * 4 + [update({})]))
    assert watch(UnchangedWeightsDetector(),
                 events) == [(300, 'unchanged_weights/head'), (500, )]
    finding, = last(UnchangedWeightsDetector(), events[:-2])
    assert finding.what == 'head does not learn: its learning rate is 0.'
    # Of a residual branch that starts as nothing it may be rounding.
    other = update({}, **{'health/unchanged_weights/backbone/layer1': 4})
    events = list(series([other] * 20))
    assert watch(UnchangedWeightsDetector(),
                 events) == [(1300, 'unchanged_weights/backbone/layer1')]
    finding, = last(UnchangedWeightsDetector(), events)
    assert 'backbone.layer1 does not learn: the updates' in finding.what
    # What is measured is one update: what comes after it is not seen.
    assert 'float16' in finding.advice and 'hook' not in finding.advice
    left_out = {
        'health/unused_parameters': 4,
        'health/not_in_optimizer/head': 4
    }
    events = list(series([left_out, {'health/unused_parameters': 0}]))
    assert watch(UnchangedWeightsDetector(),
                 events) == [(100, 'unchanged_weights/head'), (200, )]
    finding, = last(UnchangedWeightsDetector(), events[:1])
    assert 'no optimizer has its weights' in finding.what


def test_that_nothing_learns_has_a_finding_of_its_own():
    lr = {'train/learning_rate/lr': 0.}
    reading = update({}, **{
        'health/unchanged_weights/model': 9,
        'health/zero_learning_rate/model': 9
    })
    events = list(series([[lr, *reading]] * 4))
    assert watch(UnchangedWeightsDetector(), events) == []
    # But not if nobody can know.
    events = list(series([reading] * 4))
    assert watch(UnchangedWeightsDetector(),
                 events) == [(300, 'unchanged_weights/model')]


def test_a_module_without_gradients_is_one_finding():
    some = {'health/unused_parameters': 30, 'health/no_gradient/head/aux': 30}
    events = list(series([some, some, {'health/unused_parameters': 0}]))
    assert watch(NoGradientDetector(),
                 events) == [(100, 'no_gradient/head/aux'), (300, )]
    finding, = last(NoGradientDetector(), events[:1])
    assert 'No gradient ever arrives at head.aux.' == finding.what
    assert '30 of its parameters' in finding.evidence


def test_a_head_that_is_frozen():
    frozen = {'health/unused_parameters': 0, 'health/frozen_head': 12}
    events = list(series([frozen, frozen, {'health/unused_parameters': 0}]))
    assert watch(FrozenHeadDetector(), events) == [(100, 'frozen_head'),
                                                   (300, )]
    finding, = last(FrozenHeadDetector(), events[:2])
    assert 'head is frozen' in finding.what
    assert 'none of its 12 parameters' in finding.evidence
    assert 'requires_grad=False' in finding.advice


def test_channels_that_have_died():
    events = [{'health/dead_channels': s} for s in (.2, .4, .4, .4, .4, .2)]
    assert watch(DeadChannelDetector(),
                 series(events)) == [(400, 'dead_channels'), (600, )]


def clipped(share, factor, optimizer=''):
    return {
        f'health/clipping/{optimizer}share': share,
        f'health/clipping/{optimizer}learning_rate_factor': factor,
        f'health/clipping/{optimizer}norm_before': 1 / factor,
        f'health/clipping/{optimizer}threshold': 1.,
    }


def test_clipping_that_decides_how_long_the_steps_are():
    events = list(series([clipped(1, 0.05)] * 4 + [clipped(0.5, 0.05)]))
    assert watch(ClippingDetector(), events) == [(300, 'clipping'), (500, )]
    finding, = last(ClippingDetector(), events[:-1])
    assert 'from a norm of 20 to 1' in finding.evidence
    events = series([clipped(1, 0.05, 'a/'), clipped(1, 0.5, 'b/')] * 8)
    assert watch(ClippingDetector(), events) == [(500, 'clipping/a')]
    # The first gradients are large.
    assert watch(ClippingDetector(), series([clipped(1, 0.05)] * 99, 1,
                                            1)) == []
    # Nine of ten in every step, by Adam: it does not matter to it.
    adam = clipped(1, 0.05)
    del adam['health/clipping/learning_rate_factor']
    assert watch(ClippingDetector(), series([adam] * 9)) == []


def scaled(updates, skipped, scale=1024.):
    return {
        'health/amp/loss_scale': scale,
        'health/amp/updates': updates,
        'health/amp/skipped': skipped
    }


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


class Scripted(Detector):
    """Finds what an event says."""

    def __init__(self, key):
        self.key = key

    def see(self, step, scalars):
        if self.key in scalars:
            return [
                Finding(name, '', '', '')
                for name in scalars[self.key].split()
            ]


def test_only_what_began_first_is_found():
    detector = FirstCauseDetector([Scripted('a'), Scripted('b')])
    assert watch(detector, [
        (1, {}),
        (2, dict(a='', b='')),
        (3, dict(b='x')),
        (4, dict(a='y')),
        (5, dict(b='x')),
        (6, dict(b='')),
        (7, dict(b='x', a='y z')),
        (8, dict(a='', b='')),
        (9, dict(b='x', a='z')),
    ]) == [(3, 'x'), (6, ), (7, 'y'), (8, ), (9, 'z')]


def test_a_group_that_explodes_is_one_finding():
    events = series([gradients(EVERY)] * 11 +
                    [gradients(dict(EVERY, head=1e4))] * 4)
    assert watch(DivergingStepDetector(),
                 events) == [(1400, 'exploding_gradient')]


def test_a_place_is_named_once():
    """A group without gradient is neither changed nor read."""
    reading = gradients(dict(EVERY, head=0.)) + update(
        EVERY_RATIO, **{'health/unchanged_weights/head/final_layer': 1})
    other = update(EVERY_RATIO,
                   **{'health/unchanged_weights/head/final_layer': 1})
    events = list(series([gradients(EVERY) + update(EVERY_RATIO)] * 11))
    events += series([reading] * 5, first=1200)
    assert watch(StalledStepDetector(),
                 events) == [(1400, 'vanishing_gradient/head')]
    # At two places there are two.
    events += series([
        reading + [{
            'health/unused_parameters': 3,
            'health/no_gradient/backbone/aux': 3
        }]
    ],
                     first=1700)
    assert watch(StalledStepDetector(), events)[1:] == [
        (1700, 'vanishing_gradient/head', 'no_gradient/backbone/aux')
    ]
    # When the gradient is there again, that nothing changes is left.
    events += series([gradients(EVERY) + other], first=1800)
    assert watch(StalledStepDetector(),
                 events)[-1] == (1800, 'unchanged_weights/head/final_layer',
                                 'no_gradient/backbone/aux')


def test_what_is_wrong_everywhere_is_not_hidden_by_one_place():
    lr = {'train/learning_rate/lr': 1e-3}
    cut_off = {
        'health/unused_parameters': 3,
        'health/no_gradient/backbone/aux': 3
    }
    small = [lr, *update({}, model=1e-8)]
    events = series([[cut_off, *small]] * 4, first=1100)
    assert watch(StalledStepDetector(), events) == [
        (1100, 'no_gradient/backbone/aux'),
        (1300, 'no_gradient/backbone/aux', 'update_ratio'),
    ]
    # What is in one place follows from it.
    reading = small + [{}, cut_off]
    events = list(series([small] * 4 + [reading] * 2, first=1100))
    assert watch(StalledStepDetector(), events) == [(1300, 'update_ratio')]


def test_a_loss_that_diverges_is_one_finding_with_its_cause():
    loss = [{
        'health/loss/median': m,
        'health/loss/deviation': 0.1
    } for m in [3., 1., 50., 50., 50., 50., 50.]]
    events = series([[event] for event in loss])
    assert watch(DivergingStepDetector(),
                 events) == [(500, 'learning_rate_too_high')]
    large = update({}, model=0.2)
    events = series([[event, *large] for event in loss])
    assert watch(DivergingStepDetector(), events) == [(300, 'update_ratio')]
