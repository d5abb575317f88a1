# Copyright (c) OpenMMLab. All rights reserved.
"""What the report makes of findings that follow from each other."""
import pytest
from looking import training

from mmpose.engine.monitors import Finding
from mmpose.engine.monitors.core.measurements import Losses, Updates
from mmpose.engine.monitors.health.chains import Chain, FirstDivergence
from mmpose.engine.monitors.health.detector import build_detectors


def finding(name, severity):
    return Finding(name, f'What {name} is.', f'The numbers of {name}.', '',
                   severity)


def shown(chain, **severities):
    findings = {
        i: [finding(name, severity)] if severity else []
        for i, (name, severity) in enumerate(severities.items())
    }
    return [(f.name, f.severity) for f in chain.update(findings)]


def test_a_note_hides_nothing_that_is_worse():
    """Defect: a weight that a hook had changed, a note, hid all that diverged
    after it, and the report began with "Healthy run"."""
    chain = Chain()
    assert shown(chain, a='note') == [('a', 'note')]
    assert shown(chain, a='note', b='note') == [('a', 'note')]
    assert shown(
        chain, a='note', b='warning') == [('a', 'note'), ('b', 'warning')]
    assert shown(chain, a=None, b='warning') == [('b', 'warning')]


def test_a_cause_is_as_serious_as_what_follows_from_it():
    """Defect: the loss had diverged, and the report had a warning alone."""
    chain = Chain()
    assert shown(chain, a='warning') == [('a', 'warning')]
    cause, = chain.update({1: [finding('b', 'error')]})
    assert (cause.name, cause.severity) == ('a', 'error')
    assert cause.evidence == 'The numbers of a. What b is.'
    # Not any more when that is over.
    cause, = chain.update({1: []})
    assert cause == finding('a', 'warning')


@pytest.mark.parametrize('loss, severity', [(.001, 'warning'), (.1, 'error')])
def test_updates_that_are_too_large_and_the_loss(loss, severity):
    chain, seen = FirstDivergence(), {}
    detectors = [d for d in build_detectors() if d.chain is FirstDivergence]
    for detector in detectors:
        detector.before_train(training())
    for step in range(100, 1000, 100):
        for measured in (Losses(loss * step if step > 400 else 1.,
                                0.1), Updates(step, 0.2)):
            seen = {
                i: detector.see(step, measured)
                for i, detector in enumerate(detectors)
                if isinstance(measured, detector.wants)
            }
            last = chain.update(
                {i: found
                 for i, found in seen.items() if found is not None})
    assert [(f.name, f.severity) for f in last] == [('update_ratio', severity)]
