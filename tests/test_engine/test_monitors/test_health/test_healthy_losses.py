# Copyright (c) OpenMMLab. All rights reserved.
"""Losses of healthy trainings, measured as LossMonitor does (P9)."""
import numpy as np
import pytest
from looking import Looking, training

from mmpose.engine.monitors.core.measurements import Losses
from mmpose.engine.monitors.core.statistics.recent_losses import RecentLosses
from mmpose.engine.monitors.health.detectors.divergence import \
    DivergenceDetector
from mmpose.engine.monitors.health.detectors.loss_spike import \
    LossSpikeDetector


def measured(losses, interval, start=0, terms=lambda step: ()):
    """Yield what detectors are shown of the losses of all iterations."""
    recent, since = RecentLosses(), 0
    for i in range(len(losses)):
        step = start + i + 1
        if step == 1 or step % interval == 0:
            new = losses[since:i + 1]
            recent.add(range(step - len(new) + 1, step + 1), new)
            yield step, Losses(
                spike=recent.spike(),
                terms=terms(step),
                count=len(recent.last),
                new=len(new),
                lowest=min(new),
                **dict(recent.statistics()))
            since = i + 1


def found(detector, events, runner):
    """What a detector finds, once for each time that it begins or changes."""
    looking, texts = Looking(detector, runner), []
    for step, measurement in events:
        for finding in looking.see(step, measurement) or ():
            if not texts or texts[-1] != finding.what:
                texts.append(finding.what)
    return texts


@pytest.mark.parametrize('interval', [10, 50, 100])
@pytest.mark.parametrize('at', [1005, 1060, 1095])
def test_a_loss_that_gets_another_weight_where_its_terms_say_so(interval, at):
    """Defect: the first median with the new terms was one of old losses."""
    losses = np.exp(.1 * np.random.default_rng(0).standard_normal(3000))
    losses[at:] *= 10
    events = list(
        measured(losses, interval, terms=lambda s: (('weight', s > at), )))
    assert not found(DivergenceDetector(), events, training(3000))
    # What diverges later is found, with the new terms as well.
    losses[2000:] *= 10
    events = measured(losses, interval, terms=lambda s: (('weight', s > at), ))
    assert found(DivergenceDetector(), events, training(3000))


@pytest.mark.parametrize('interval, start', [(1, 0), (50, 0), (50, 12349)])
def test_a_first_loss_that_is_low_by_chance(interval, start):
    """Defect: of trainings with one sample in a batch up to 14 of 100 were
    said to diverge, since the first median is that of a single batch."""
    rng = np.random.default_rng(0)
    diverging = 0
    for _ in range(30):
        losses = rng.exponential(size=400)
        events = measured(losses, interval, start)
        diverging += bool(
            found(DivergenceDetector(), events, training(start=start)))
    assert diverging <= 1
    losses[1:] *= 1000
    events = measured(losses, interval, start)
    assert found(DivergenceDetector(), events, training(start=start))


@pytest.mark.parametrize('interval', [1, 20, 100])
def test_a_loss_that_jumps_often_is_told_once(interval):
    """Defect: of two data sets, one of which is rare and has other losses,
    each batch of the rare one was a WARNING."""
    rng = np.random.default_rng(0)
    losses = np.exp(.2 * rng.standard_normal(10000))
    losses[:8000] *= np.where(rng.random(8000) < .01, 10, 1)
    looking, texts = Looking(LossSpikeDetector(), training()), []
    for step, measurement in measured(losses, interval):
        findings = looking.see(step, measurement)
        text = [f.what for f in findings or ()]
        if findings is not None and texts[-1:] != [text]:
            texts.append(text)
        if step == 7500:
            assert 'suspects.json' in findings[0].advice
            assert step - 450 <= findings[0].batch < step
    assert texts[-2:] == [['The loss jumps again and again.'], []]
    assert sum('at step' in text[0] for text in texts if text) == 3
