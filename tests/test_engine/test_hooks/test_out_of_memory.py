# Copyright (c) OpenMMLab. All rights reserved.
"""P2: memory that runs out inside the hook costs a reading, nothing else."""
import gc
import itertools
import weakref
from contextlib import contextmanager
from unittest import mock

import pytest
import torch
from test_enhanced_tensorboard_hook import (final_state, hook_of, messages,
                                            monitor_of)

from mmpose.engine.monitors import (FailureGuard, GradientMonitor, Monitor,
                                    TrainImageMonitor, UpdateMonitor,
                                    WeightMonitor)

# MMPose supports versions of PyTorch that do not have it.
TorchDispatchMode = pytest.importorskip(
    'torch.utils._python_dispatch').TorchDispatchMode

HOOK = dict(
    preset='detailed',
    grad_norm_interval=1,
    train_image_interval=1,
    weight_hist_interval=1,
    overhead_budget=None,
    strict=False)
ADAMW = dict(optimizer=dict(type='AdamW', lr=1e-3))
ERRORS = [
    (torch.cuda.OutOfMemoryError, 'CUDA out of memory. Tried to allocate'),
    (RuntimeError, "DefaultCPUAllocator: can't allocate memory"),
    (MemoryError, ''),
]


class OutOfMemory(TorchDispatchMode):
    """Fails one after another of the operators that make new tensors.

    Args:
        every (int): One of so many fails.

    Attributes:
        failed (int): How many have failed.
        left (list): What was made in a call that failed, and was still there
            when the next began.
    """

    def __init__(self, every):
        super().__init__()
        self.every = every
        self.calls = self.failed = 0
        self.left = []
        self._made, self._lost = [], []
        self._errors = itertools.cycle(ERRORS)

    def __enter__(self):
        self.left += [ref() for ref in self._lost if ref() is not None]
        self._made, self._lost = [], []
        return super().__enter__()

    def __exit__(self, kind, *args):
        if kind is not None:
            self._lost = self._made
        return super().__exit__(kind, *args)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if all(r.alias_info for r in func._schema.returns):
            return func(*args, **(kwargs or {}))
        self.calls += 1
        if self.calls % self.every == 0:
            self.failed += 1
            kind, text = next(self._errors)
            raise kind(text)
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self._made.append(weakref.ref(made))
        return made


@contextmanager
def inside_the_hook(mode):
    """Enter a mode wherever a monitor is at work in the training thread."""

    def within(function):

        def call(*args, **kwargs):
            with mode:
                return function(*args, **kwargs)

        return call

    handlers = [
        event for event in vars(Monitor)
        if event.startswith(('before_', 'after_')) and event != 'before_train'
    ]
    notify = Monitor.notify

    def notify_within(self, event, *args):
        if event in handlers and event not in vars(self):
            setattr(self, event, within(getattr(self, event)))
        notify(self, event, *args)

    with mock.patch.object(Monitor, 'notify', notify_within):
        yield


@pytest.mark.parametrize('every', [1, 7, 60, 400])
def test_training_is_the_same_wherever_memory_runs_out(train, monkeypatch,
                                                       every):
    """P1 and P2, with all that the hook can do, at every iteration."""
    settings = dict(optim_wrapper=ADAMW, custom_hooks=[dict(type='Witness')])
    without = final_state(train(**settings))
    # Not one of them is left alone after the third time.
    monkeypatch.setattr(FailureGuard, 'trip', lambda *_: None)
    mode = OutOfMemory(every)
    gc.disable()  # Memory is needed at once.
    try:
        with inside_the_hook(mode):
            runner = train(HOOK, **settings)
    finally:
        gc.enable()
    assert runner.iter == 12 and mode.failed > 3
    assert not mode.left
    hook = hook_of(runner)
    assert sum(guard.failures for guard in hook._guards()) > 3
    with_hook = final_state(runner)
    assert without.keys() == with_hook.keys()
    assert not [k for k in without if without[k] != with_hook[k]]
    # Nor is anything left on the model.
    assert torch._C._get_tracing_state() is None
    assert runner.model.test_cfg == dict(output_heatmaps=False)
    for module in runner.model.modules():
        assert 'forward' not in vars(module)
        assert not module._forward_hooks and not module._forward_pre_hooks
    if every == 1:
        for kind in (GradientMonitor, WeightMonitor, TrainImageMonitor,
                     UpdateMonitor):
            assert monitor_of(hook, kind).guard.failures
        warned = '\n'.join(messages(runner, 'WARNING'))
        assert 'failed with OutOfMemoryError: CUDA out of memory' in warned
