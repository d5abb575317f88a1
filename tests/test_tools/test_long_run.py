# Copyright (c) OpenMMLab. All rights reserved.
"""What a step does and keeps does not grow with the length of a training."""
import gc
import os
import sys
from collections import Counter, deque

import psutil
import pytest
from benchmarks.long_run import train
from mmengine.hooks import Hook

from mmpose.engine import monitors
from mmpose.registry import HOOKS

PACKAGE = os.path.dirname(monitors.__file__)
# Both windows hold two steps at which everything is measured.
WINDOW, EARLY, LATE = 100, 1000, 1500


def elements() -> int:
    """How many elements all containers of the process hold together."""
    gc.collect()
    return sum(
        len(o) for o in gc.get_objects()
        if type(o) in (list, dict, set, deque, Counter))


@HOOKS.register_module(force=True)
class Counts(Hook):
    """Counts the calls of the hook's functions in two windows of steps."""

    def __init__(self, found: dict) -> None:
        self.found = found

    def before_train_iter(self, runner, *args, **kwargs) -> None:
        step = runner.iter + 1
        if step in (EARLY, LATE):
            self.calls = self.found.setdefault(step, Counter())
            sys.setprofile(self.count)
        if step in (EARLY + WINDOW, LATE + WINDOW):
            sys.setprofile(None)
            self.found[f'files {step}'] = psutil.Process().num_fds()
            self.found[f'elements {step}'] = elements() - sum(
                len(self.found[s]) for s in (EARLY, LATE) if s in self.found)

    def count(self, frame, event, argument) -> None:
        if event == 'call' and frame.f_code.co_filename.startswith(PACKAGE):
            self.calls[frame.f_code] += 1


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    """What was counted, everything in one thread."""
    found = {}
    try:
        train(
            LATE + WINDOW + 1,
            str(tmp_path_factory.mktemp('long')),
            [dict(type='Counts', found=found)],
            async_write=False,
            grad_norm_interval=50,
            log_train_images=False,
            log_model_stats=False,
            log_run_info=False)
    finally:
        sys.setprofile(None)
    return found


def test_a_late_step_does_no_more_than_an_early_one(found):
    early, late = (sum(found[step].values()) for step in (EARLY, LATE))
    assert early > 1000
    assert late <= 1.1 * early, (found[LATE] - found[EARLY]).most_common(5)


def test_memory_and_files_do_not_grow(found):
    early, late = EARLY + WINDOW, LATE + WINDOW
    assert found[f'files {late}'] <= found[f'files {early}'] + 1
    grown = found[f'elements {late}'] - found[f'elements {early}']
    # The last 1,000 batches are kept, and shorter histories still fill. A list
    # of all iterations alone would have 500 elements more.
    assert grown < 250, grown
