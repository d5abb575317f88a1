# Copyright (c) OpenMMLab. All rights reserved.
"""The overhead budget in real trainings, of costs that are known."""
import time

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from test_enhanced_tensorboard_hook import (hook_of, messages, monitor_of,
                                            scalars)
from torch import nn

from mmpose.engine.monitors import (GradientMonitor, OverheadBudget,
                                    TelemetryMonitor)
from mmpose.engine.monitors.optimization import gradients
from mmpose.registry import DATASETS, HOOKS, MODELS

ITERATIONS = 250
SECONDS = 0.01
ONLY_GRADIENTS = dict(
    grad_norm_interval=1,
    log_weight_hist=False,
    log_train_images=False,
    log_lr=False,
    log_model_stats=False,
    log_system=False,
    log_health=False,
    log_run_info=False)


@DATASETS.register_module(force=True)
class ZeroDataset(torch.utils.data.Dataset):

    def __len__(self):
        return ITERATIONS

    def __getitem__(self, index):
        return dict(inputs=torch.zeros(2))


@MODELS.register_module(force=True)
class OneFreeLayer(BaseModel):
    """Costs nothing by a clock that only goes on where it is told to."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, inputs, data_samples=None, mode='loss'):
        return dict(loss=self.layer(torch.stack(inputs)).sum())


class Clock:
    """Another process may take as long as it wants."""
    now = 0.

    def __call__(self):
        return self.now

    def sleep(self):
        self.now += SECONDS


@HOOKS.register_module(force=True)
class Sleep(Hook):

    def before_train_iter(self, *args, **kwargs):
        time.perf_counter.sleep()


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, 'perf_counter', clock)
    monkeypatch.setattr(OverheadBudget.__init__, '__defaults__', (clock, ))
    return clock


@pytest.mark.parametrize('telemetry', ['works', 'is switched off'])
def test_the_budget_is_held_within_a_fifth(train, read_events, clock,
                                           monkeypatch, telemetry):
    """Where reading at every iteration would cost five times as much."""
    slept = []
    named_norms = gradients.named_norms

    def slow(*args, **kwargs):
        clock.sleep()
        slept.append(SECONDS)
        return named_norms(*args, **kwargs)

    def fail(self, *args):
        raise RuntimeError('broken on purpose')

    monkeypatch.setattr(gradients, 'named_norms', slow)
    if telemetry != 'works':
        monkeypatch.setattr(TelemetryMonitor, 'after_train_iter', fail)
    runner = train(
        dict(
            ONLY_GRADIENTS,
            overhead_budget=0.1,
            log_details=True,
            strict=telemetry == 'works'),
        model=dict(type='OneFreeLayer'),
        train_dataloader=dict(
            batch_size=1,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(type='ZeroDataset')),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        val_dataloader=None,
        val_cfg=None,
        val_evaluator=None,
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1000)),
        custom_hooks=[dict(type='Sleep')])
    assert runner.iter == ITERATIONS
    hook = hook_of(runner)
    guard = monitor_of(hook, GradientMonitor).guard
    off = [line for line in messages(runner, 'INFO') if 'switched' in line]
    assert len(off) == 2 * (telemetry != 'works')  # And in the last line.
    assert sum(slept) == pytest.approx(guard.seconds)
    share = sum(m.guard.seconds for m in hook.monitors) / hook._train_seconds
    assert share == pytest.approx(0.1, rel=0.2)
    assert 10 < len(slept) < ITERATIONS / 4
    if telemetry == 'works':
        intervals = scalars(
            read_events(runner), 'telemetry/interval/GradientMonitor')
        assert max(intervals.values()) >= 5
