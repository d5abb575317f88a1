# Copyright (c) OpenMMLab. All rights reserved.
"""What a config may say in ``monitors`` and ``detectors``."""
import subprocess
import sys

import pytest

from mmpose.engine.hooks import EnhancedTensorBoardHook
from mmpose.engine.monitors import MONITORS, Monitor
from mmpose.engine.monitors.core.registry import (PACKAGE, hook_arguments,
                                                  monitor_classes)


@MONITORS.register_module()
class OwnMonitor(Monitor):
    """Somebody's own."""


def names_of(**arguments):
    hook = EnhancedTensorBoardHook(**arguments)
    return [type(monitor).__name__ for monitor in hook.monitors]


def test_ones_own_is_there_where_it_is_named():
    assert 'OwnMonitor' not in names_of()
    names = names_of(monitors=[dict(type='OwnMonitor', interval=7)] * 2)
    assert names.count('OwnMonitor') == 2


def test_one_of_ours_is_changed_and_switched_off_by_its_name():
    hook = EnhancedTensorBoardHook(monitors=[
        dict(type='GradientMonitor', interval=7),
        dict(type='WeightMonitor', enabled=False)
    ])
    interval, = [
        monitor.schedule.interval for monitor in hook.monitors
        if type(monitor).__name__ == 'GradientMonitor'
    ]
    assert interval == 7
    names = {type(monitor).__name__ for monitor in hook.monitors}
    assert names == set(names_of()) - {'WeightMonitor'}


@pytest.mark.parametrize('kind, noun', [('monitors', 'monitor'),
                                        ('detectors', 'detector')])
@pytest.mark.parametrize('given, error, words', [
    ('X', TypeError, "must be a dict(type='...', ...), but got 'X'"),
    (dict(interval=3), TypeError, 'but got {'),
    (dict(type='Nobody'), KeyError, "'Nobody' is registered; there are "),
])
def test_what_is_wrong_is_named(kind, noun, given, error, words):
    with pytest.raises(error) as info:
        EnhancedTensorBoardHook(**{kind: [given]})
    assert noun in str(info.value) and words in str(info.value)


@pytest.mark.parametrize('kind, name', [('monitors', 'GradientMonitor'),
                                        ('detectors', 'PlateauDetector')])
def test_an_argument_that_there_is_not(kind, name):
    with pytest.raises(TypeError, match=f'{name}: .*nonsense'):
        EnhancedTensorBoardHook(**{kind: [dict(type=name, nonsense=1)]})


@pytest.mark.parametrize(
    'first',
    [
        # The first and the last room.
        'optimization.weights',
        'health.health'
    ])
def test_the_order_is_the_same_whatever_is_imported_first(first):
    """In the documentation, and in which monitors see an event."""
    code = (f'import mmpose.engine.monitors.{first}\n'
            'from mmpose.engine.monitors.core.registry import *\n'
            'print([cls.__name__ for cls in monitor_classes()], '
            '[argument.name for argument in hook_arguments()])')
    shown = subprocess.run([sys.executable, '-W', 'ignore', '-c', code],
                           stdout=subprocess.PIPE,
                           universal_newlines=True,
                           check=True).stdout
    ours = [
        cls.__name__ for cls in monitor_classes()
        if cls.__module__.startswith(PACKAGE)
    ]
    assert shown.startswith(f'{ours} ')
    assert shown.endswith(f'{[a.name for a in hook_arguments()]}\n')
