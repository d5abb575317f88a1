# Copyright (c) OpenMMLab. All rights reserved.
import functools
import sys
import warnings

import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict, StepLR
from mmengine.utils import digit_version
from stepping import FusedSGD, Net, ScalingWrapper, Training, every
from torch import nn

from mmpose.engine.monitors import (ClippingMonitor, GradientMonitor,
                                    LossScaleMonitor, Monitor,
                                    UnusedParameterMonitor, UpdateMonitor)
from mmpose.engine.monitors.core.optimizer_probe import OptimizerProbe

SGD = functools.partial(torch.optim.SGD, lr=0.1)
TORCH = digit_version(torch.__version__)[:2]


class Watcher(Monitor):
    """Writes down what it is told of the optimizers."""

    def __init__(self, strict=True):
        super().__init__(1, strict)
        self.told = []

    def before_clipping(self, name, optim_wrapper):
        self.told.append(('before_clipping', name))

    def after_clipping(self, name, optim_wrapper):
        self.told.append(('after_clipping', name))

    def before_step(self, name, optimizer, closure):
        self.told.append(('before_step', name, closure))

    def after_step(self, name, optimizer, taken):
        self.told.append(('after_step', name, bool(taken)))


class StepWatcher(Monitor):
    """One of a user's, that reads the gradients at the step."""

    def __init__(self, strict=True):
        super().__init__(1, strict)
        self.norms = []

    def before_step(self, name, optimizer, closure):
        self.norms.append(
            torch.stack([
                p.grad.norm() for group in optimizer.param_groups
                for p in group['params']
            ]))


def wrapper_of(model, **kwargs):
    return OptimWrapper(SGD(model.parameters()), **kwargs)


def update(model, wrapper):
    model(torch.ones(2, 6)).sum().backward()
    wrapper.step()
    wrapper.zero_grad()


def closure_of(model, wrapper):

    def closure():
        wrapper.zero_grad()
        loss = model(torch.ones(4, 6)).square().sum()
        loss.backward()
        return loss

    return closure


def test_events_come_in_their_order():
    watcher = Watcher()
    Training(watcher, clip_grad=dict(max_norm=1.)).run(2)
    assert watcher.told == 2 * [('before_clipping', ''),
                                ('after_clipping', ''),
                                ('before_step', '', False),
                                ('after_step', '', True)]


@pytest.mark.parametrize('optimizer', [torch.optim.SGD, FusedSGD])
def test_an_update_that_amp_skips_was_not_taken(optimizer):
    watcher = Watcher()
    Training(
        watcher,
        optimizer=lambda p: optimizer(p, lr=0.1),
        wrapper=ScalingWrapper,
        overflows=[False, True, False]).run(3)
    assert [t[2] for t in watcher.told
            if t[0] == 'after_step'] == [True, False, True]
    # A fused optimizer is called all the same, and skips on the device.
    called = len([t for t in watcher.told if t[0] == 'before_step'])
    assert called == (3 if optimizer is FusedSGD else 2)


def test_a_closure_is_told():
    watcher, model = Watcher(), Net()
    probe = OptimizerProbe([watcher])
    wrapper = OptimWrapper(torch.optim.LBFGS(model.parameters(), max_iter=2))
    probe.follow(wrapper)

    closure = closure_of(model, wrapper)
    wrapper.step(closure=closure)
    wrapper.optimizer.step(closure)
    assert watcher.told == 2 * [('before_step', '', True),
                                ('after_step', '', True)]


@pytest.mark.skipif(
    not hasattr(torch, 'compile') or sys.version_info >= (3, 12) and TORCH <
    (2, 4),
    reason='torch.compile is of torch 2.0, on Python 3.12 of torch 2.4')
@pytest.mark.parametrize('name', ['Adam', 'LBFGS', 'RAdam', 'SGD'])
def test_what_the_process_has_compiled_hides_no_step(name):
    """Defect: the first ``torch.compile`` marks the steps of some optimizers;
    what took these marks over with the name was never called."""
    torch.compile(nn.Linear(1, 1), backend='eager')(torch.ones(1, 1))
    watcher, model = Watcher(), Net()
    probe = OptimizerProbe([watcher])
    wrapper = OptimWrapper(
        getattr(torch.optim, name)(model.parameters(), lr=0.1))
    before = model.state_dict()
    before = {key: value.clone() for key, value in before.items()}
    probe.follow(wrapper)

    closure = closure_of(model, wrapper)
    wrapper.optimizer.step(closure)
    assert watcher.told == [('before_step', '', True),
                            ('after_step', '', True)]
    after = model.state_dict()
    assert any((after[key] != before[key]).any() for key in before)


def test_accumulated_gradients_are_one_update():
    watcher = Watcher()
    Training(watcher, accumulative_counts=3).run(6)
    assert len(watcher.told) == 2 * 2


def test_each_of_several_optimizers_has_its_name():
    watcher, models = Watcher(), dict(one=Net(), two=Net())
    wrappers = OptimWrapperDict(
        **{name: wrapper_of(model)
           for name, model in models.items()})
    probe = OptimizerProbe([watcher])
    probe.follow(wrappers)
    for name in ('two', 'one'):
        update(models[name], wrappers[name])
    assert [told[1] for told in watcher.told] == ['two', 'two', 'one', 'one']
    assert probe.num_steps == 2


def test_one_wrapper_for_all_monitors():
    """Whoever listens: each call passes through one function of ours."""
    monitors = [
        GradientMonitor(every(), 20, strict=True),
        UpdateMonitor(every(), 20, strict=True),
        ClippingMonitor(every(), strict=True),
        LossScaleMonitor(every(), strict=True),
        UnusedParameterMonitor(every(), strict=True),
        Watcher(),
        StepWatcher()
    ]
    training = Training(
        *monitors,
        wrapper=ScalingWrapper,
        overflows=[],
        clip_grad=dict(max_norm=1.))
    wrapper = training.wrapper
    plain = OptimWrapper(
        SGD(training.model.parameters()), clip_grad=dict(max_norm=1.))
    for owner, name, method in [
        (wrapper.optimizer, 'step', type(wrapper.optimizer).step),
        (wrapper, 'clip_func', plain.clip_func),
        (wrapper.loss_scaler, 'step', type(wrapper.loss_scaler).step)
    ]:
        ours = vars(owner)[name].__func__
        inside = [cell.cell_contents for cell in ours.__closure__]
        assert method in [getattr(m, '__func__', m) for m in inside]
    training.end()
    assert 'step' not in vars(wrapper.optimizer)
    assert 'step' not in vars(wrapper.loss_scaler)
    assert wrapper.clip_func is plain.clip_func


def test_what_nobody_listens_to_is_not_wrapped():
    training = Training(Monitor(1, strict=True))
    assert 'step' not in vars(training.wrapper.optimizer)


def test_a_user_s_monitor_reads_gradients_at_the_step():
    """Without a graph, which would keep activations."""
    watcher, expected = StepWatcher(), []
    training = Training(watcher)
    parameters = list(training.model.parameters())
    training.run(
        2, lambda: expected.append(
            torch.stack([p.grad.norm() for p in parameters])))
    assert len(expected) == 2
    assert all(map(torch.equal, watcher.norms, expected))


def test_a_monitor_that_is_switched_off_is_not_told():
    """P2: after three failures; and the optimizer steps all the same."""

    class Failing(StepWatcher):

        def before_step(self, *args):
            self.norms.append(0)
            raise RuntimeError('broken on purpose')

    failing, watcher = Failing(strict=False), StepWatcher()
    training = Training(failing, watcher)
    before = training.model.head.weight.clone()
    training.run(5)
    assert failing.guard.tripped and len(failing.norms) == 3
    assert len(watcher.norms) == 5
    assert not torch.equal(before, training.model.head.weight)


def test_a_training_that_was_interrupted_leaves_nothing_behind():
    """P1: what is attached is taken off when the next one begins."""
    watcher = Watcher()
    training = Training(watcher)
    training.begin()  # As by the same Runner.
    training.run(1)
    assert len(watcher.told) == 2
    training.end()
    assert 'step' not in vars(training.wrapper.optimizer)


def test_an_optimizer_that_is_replaced_is_followed():
    watcher = Watcher()
    training = Training(watcher)
    first = training.wrapper
    training.run(1)
    second = OptimWrapper(torch.optim.AdamW(training.model.parameters()))
    training.wrapper = training.runner.optim_wrapper = second
    training.run(1)
    second.optimizer = third = SGD(training.model.parameters())
    training.run(1)
    assert len(watcher.told) == 3 * 2
    for optimizer in (first.optimizer, third):
        assert ('step' in vars(optimizer)) == (optimizer is third)
    training.end()
    assert 'step' not in vars(third)


def test_who_wraps_the_step_later_keeps_what_it_wraps():
    watcher, model = Watcher(), Net()
    wrapper = wrapper_of(model)
    optimizer = wrapper.optimizer
    probe = OptimizerProbe([watcher])
    probe.follow(wrapper)
    wrapped = optimizer.step
    later = []

    @functools.wraps(wrapped)
    def step(*args, **kwargs):
        later.append(1)
        return wrapped(*args, **kwargs)

    optimizer.step = step
    probe.detach()
    assert optimizer.step is step
    update(model, wrapper)
    assert later == [1] and not watcher.told
    probe.follow(wrapper)
    update(model, wrapper)
    assert later == [1, 1] and len(watcher.told) == 2
    probe.detach()
    assert optimizer.step is step


@pytest.mark.parametrize(
    'scheduler', [torch.optim.lr_scheduler.StepLR, StepLR],
    ids=['torch', 'mmengine'])
@pytest.mark.parametrize('made', ['before', 'while', 'both'])
def test_schedulers_may_be_made_while_it_is_watched(scheduler, made):
    """They wrap the step themselves, and ask it whose it is."""
    parameter = torch.nn.Parameter(torch.ones(1))
    parameter.grad = torch.ones(1)
    optimizer = torch.optim.SGD([parameter], lr=1.)
    wrapper, watcher = OptimWrapper(optimizer), StepWatcher()
    probe, schedulers = OptimizerProbe([watcher]), []

    def make():
        schedulers.append(scheduler(optimizer, step_size=1, gamma=0.5))

    def step():
        optimizer.step()
        for each in schedulers:
            each.step()

    with warnings.catch_warnings():
        # That the step was replaced, or came after that of a scheduler.
        warnings.simplefilter('error')
        if made != 'while':
            make()
        before = vars(optimizer).get('step')
        probe.follow(wrapper)
        if made != 'before':
            make()
        step()
        assert len(watcher.norms) == 1 and parameter.item() == 0
        assert optimizer.param_groups[0]['lr'] == 0.5**len(schedulers)
        probe.detach()
        step()
    assert len(watcher.norms) == 1
    assert parameter.item() == -0.5**len(schedulers)
    # Whoever looks again finds nothing of it, or what a scheduler has wrapped.
    if made != 'while':
        assert vars(optimizer).get('step') == before
    probe.follow(wrapper)
    step()
    assert len(watcher.norms) == 2
