# Copyright (c) OpenMMLab. All rights reserved.
"""The open list of detectors."""
import pytest

from mmpose.engine.hooks import EnhancedTensorBoardHook
from mmpose.engine.monitors import (DETECTORS, Detector, HealthMonitor,
                                    build_detectors)
from mmpose.engine.monitors.health.chains import Chain
from mmpose.engine.monitors.writers.record import Measurement

# What a user writes into a file of their own.
OWN = '''
from mmpose.engine.monitors import DETECTORS, Detector, Finding
from mmpose.engine.monitors.core.measurements import Losses


@DETECTORS.register_module(force=True)
class HighLossDetector(Detector):
    """The loss is above a limit."""

    wants = (Losses, )

    def __init__(self, limit):
        self._limit = limit

    def see(self, step, losses):
        if losses.median is None or losses.median < self._limit:
            return []
        return [Finding('high_loss', 'The loss is high.',
                        f'It is {losses.median:.3g}.', 'Train.')]


@DETECTORS.register_module(force=True)
class BrokenDetector(HighLossDetector):

    def see(self, step, losses):
        raise RuntimeError('broken on purpose')
'''


def types(detectors):
    return [type(d).__name__ for d in detectors]


def test_what_a_config_may_change():
    ours = build_detectors()
    fewer = build_detectors([dict(type='PlateauDetector', enabled=False)])
    assert set(types(ours)) - set(types(fewer)) == {'PlateauDetector'}
    hook = EnhancedTensorBoardHook(
        detectors=[dict(type='PlateauDetector', patience=17)])
    health, = [m for m in hook.monitors if isinstance(m, HealthMonitor)]
    plateau, = [
        d for d in health.detectors if type(d).__name__ == 'PlateauDetector'
    ]
    assert types(health.detectors) == types(ours)
    assert plateau._least_patience == 17


@pytest.mark.parametrize('change, error, words', [
    (dict(type='NoSuchDetector'), KeyError, 'PlateauDetector'),
    (dict(type='PlateauDetector', nothing=1), TypeError, 'PlateauDetector'),
    (dict(patience=1), TypeError, 'type'),
    ('PlateauDetector', TypeError, 'type'),
])
def test_mistakes_are_named_at_once(change, error, words):
    with pytest.raises(error, match=words):
        EnhancedTensorBoardHook(detectors=[change])


def test_what_every_detector_declares():
    for detector in build_detectors():
        assert detector.findings
        assert detector.wants
        assert all(issubclass(kind, Measurement) for kind in detector.wants)
        assert issubclass(detector.chain, Chain)
        assert type(detector).__doc__ and isinstance(detector, Detector)
        assert DETECTORS.get(type(detector).__name__) is type(detector)


def test_a_detector_of_ones_own(train, read_events, tmp_path, monkeypatch):
    """In a config, from a file outside; one that raises costs itself."""
    (tmp_path / 'my_detectors.py').write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__('my_detectors')
    runner = train(
        dict(
            grad_norm_interval=2,
            strict=False,
            detectors=[
                dict(type='HighLossDetector', limit=1e-9),
                dict(type='BrokenDetector', limit=0)
            ]))
    events = {
        value.tag: (event.step, value.simple_value)
        for event in read_events(f'{runner.log_dir}/vis_data')
        for value in event.summary.value
    }
    assert events['health/finding/high_loss'] == (1, 1)
    with open(f'{runner.log_dir}/{runner.timestamp}.log') as file:
        log = file.read()
    assert log.count('BrokenDetector failed with RuntimeError') == 1
    assert 'BrokenDetector is switched off' in log
    assert 'HealthMonitor is switched off' not in log
    # Nobody gets it who does not ask for it.
    assert not {'HighLossDetector', 'BrokenDetector'} & set(
        types(build_detectors()))
