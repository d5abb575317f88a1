# Copyright (c) OpenMMLab. All rights reserved.
import glob
import gzip
import json
import re

import numpy as np
import pytest
from test_enhanced_tensorboard_hook import (NUMBERS, final_state, hook_of,
                                            messages, monitor_of)

from mmpose.engine.hooks import EnhancedTensorBoardHook
from mmpose.engine.monitors import ProfileMonitor
from mmpose.engine.monitors.run.timing.profile import busy_and_total

QUIET = dict(NUMBERS, log_health=False)


def test_a_trace_of_the_iterations_and_a_table(train, read_events):
    """P1: and the training is the same, bit for bit."""
    witness = dict(custom_hooks=[dict(type='Witness')])
    runner = train(dict(QUIET, profile_steps=(3, 5)), **witness)
    path, = glob.glob(
        f'{runner.work_dir}/**/trace_3-5.json.gz', recursive=True)
    with gzip.open(path) as file:
        events = json.load(file)['traceEvents']
    convolutions = sum(e.get('name') == 'aten::convolution' for e in events)
    # Those of three steps.
    assert convolutions and convolutions % 3 == 0

    event, = read_events(runner).Tensors('run/profile/text_summary')
    assert event.step == 5
    table = event.tensor_proto.string_val[0].decode()
    rows = dict(re.findall(r'\| (\S+) \| ([\d,]+) \|', table))
    assert int(rows['aten::mkldnn_convolution'].replace(',',
                                                        '')) <= convolutions
    idle, = re.findall(r'that is (\d+)%', table)
    assert 0 <= int(idle) < 100
    assert any('ui.perfetto.dev' in line for line in messages(runner, 'INFO'))
    assert final_state(runner) == final_state(train(**witness))


def test_a_training_that_ends_before(train, read_events):
    runner = train(dict(QUIET, profile_steps=(11, 99)))
    assert monitor_of(hook_of(runner), ProfileMonitor)._profiler is None
    assert 'run/profile/text_summary' not in read_events(
        runner).Tags()['tensors']


def test_another_profiler_is_at_work(train):
    """P2: PyTorch has just one at a time."""
    from torch.profiler import profile
    with profile() as other:
        runner = train(dict(QUIET, profile_steps=(3, 5), strict=False))
    assert runner.iter == 12
    warning, = [m for m in messages(runner, 'WARNING') if 'ProfileM' in m]
    assert 'another profiler' in warning
    assert len(other.events())


@pytest.mark.parametrize('steps', [(5, 3), (0, 3), (1, 2, 3), (1, 2.), 7])
def test_steps_that_are_none(steps):
    with pytest.raises((TypeError, ValueError), match='profile_steps must'):
        EnhancedTensorBoardHook(profile_steps=steps)


def test_idle_time_is_that_of_no_span():
    """Against counting the milliseconds one by one."""
    generator = np.random.RandomState(0)
    spans = [(b, b + generator.randint(0, 30))
             for b in generator.randint(0, 1000, 40)]
    at_work = np.zeros(1100, bool)
    for begin, end in spans:
        at_work[begin:end] = True
    busy, total = busy_and_total(spans, spans)
    assert busy == at_work.sum()
    assert total == max(e for _, e in spans) - min(b for b, _ in spans)
    assert busy_and_total([], []) == (0, 0)
