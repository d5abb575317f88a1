# Copyright (c) OpenMMLab. All rights reserved.
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.hooks import Hook

from mmpose.engine.monitors import (Adaptive, Every, SystemMonitor,
                                    build_schedule)
from mmpose.engine.monitors.core.schedule import spread


def due_steps(schedule, last=30):
    return [step for step in range(1, last + 1) if schedule.is_due(step)]


def test_counts_as_mmengine_does_and_takes_the_first():
    """P5: multiples as ``every_n_train_iters``, and step 1 always."""
    for interval in (2, 7, 10):
        mmengine = [
            step for step in range(1, 31) if Hook().every_n_train_iters(
                SimpleNamespace(iter=step - 1), interval)
        ]
        assert due_steps(Every(interval)) == [1, *mmengine]


def test_one_is_every_step():
    assert due_steps(Every(1), 5) == [1, 2, 3, 4, 5]


def test_zero_is_never():
    assert due_steps(Every(0)) == []


def test_a_short_training_is_measured_as_often_as_a_long_one():
    """P8: one of 360 iterations had a single picture, of the untrained."""
    schedule = Every(100, at_least=50)
    for length, interval in (360, 7), (20, 1), (5000, 100), (90000, 100):
        schedule.fit(length)
        assert schedule.interval_at(1) == interval
        assert len(due_steps(schedule, length)) >= min(50, length)
    for chosen in Every(100), Every(0, at_least=50), Adaptive(2, 40, 300):
        before = due_steps(chosen, 400)
        chosen.fit(20)
        assert due_steps(chosen, 400) == before


def test_what_is_never_due_keeps_nothing():
    """Whatever would wait for the next reading grew without end."""
    monitor = SystemMonitor(Every(0), strict=True)
    runner = SimpleNamespace(iter=0)
    monitor.notify('before_train', runner)
    for runner.iter in range(9):
        monitor.notify('after_train_iter', runner, 0, None, None)
    assert not monitor._counts


@pytest.mark.parametrize('start, end, ramp_iters', [(10, 500, 5000),
                                                    (1, 100, 1000), (5, 5, 1)])
def test_adaptive_grows_geometrically_from_start_to_end(
        start, end, ramp_iters):
    last = ramp_iters + 10 * end
    steps = due_steps(Adaptive(start, end, ramp_iters), last)
    gaps = [b - a for a, b in zip(steps, steps[1:])]
    assert steps[0] == 1 and gaps[0] == start and gaps[-1] == end
    assert gaps == sorted(gaps), 'never denser again, never beyond end'
    half = [g for s, g in zip(steps, gaps) if s >= ramp_iters / 2][0]
    assert half == pytest.approx((start * end)**0.5, rel=0.25, abs=1)


def test_adaptive_depends_on_the_step_alone():
    """A resumed run is due at the steps of an unbroken one."""
    unbroken = due_steps(Adaptive(2, 40, 300), 900)
    resumed = Adaptive(2, 40, 300)
    assert [s for s in range(450, 901)
            if resumed.is_due(s)] == [s for s in unbroken if s >= 450]


def test_a_config_makes_a_schedule():
    assert build_schedule(7).interval == 7
    adaptive = build_schedule(
        dict(type='adaptive', start=10, end=500, ramp_iters=5000))
    assert (adaptive.start, adaptive.end) == (10, 500)


@pytest.mark.parametrize('interval, error', [
    (-1, ValueError),
    (True, TypeError),
    ('10', TypeError),
    (dict(type='adaptive', start=1, end=5), ValueError),
    (dict(type='linear', start=1, end=5, ramp_iters=5), ValueError),
    (dict(type='adaptive', start=1, end=5, ramp_iters=5, x=1), ValueError),
    (dict(type='adaptive', start=9, end=5, ramp_iters=5), ValueError),
    (dict(type='adaptive', start=0, end=5, ramp_iters=5), ValueError),
    (dict(type='adaptive', start=1, end=5, ramp_iters=0), ValueError),
    (dict(type='adaptive', start=1., end=5, ramp_iters=5), TypeError),
])
def test_a_bad_interval_is_refused(interval, error):
    with pytest.raises(error):
        build_schedule(interval)


@pytest.mark.parametrize('batches', [[], [0], [0, 9, 19],
                                     list(range(7)),
                                     list(range(40))])
@pytest.mark.parametrize('count', [0, 1, 3, 8])
def test_samples_are_spread_over_the_batches(batches, count):
    takes = spread(batches, count)
    assert set(takes) <= set(batches)
    assert sum(takes.values()) == (count if batches else 0)
    if batches:
        taken = [takes[batch] for batch in batches]
        assert max(taken) - min(taken) <= 1
        # The first batch first, and no gap is longer than need be.
        taken = [i for i, batch in enumerate(batches) if takes[batch]]
        assert not count or taken[0] == 0
        if 0 < count < len(batches):
            gaps = np.diff([*taken, len(batches)])
            assert gaps.max() <= -(-len(batches) // count)
