# Copyright (c) OpenMMLab. All rights reserved.
import functools
import itertools
import math

import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from stepping import (FusedSGD, Net, ScalingWrapper, Training, every,
                      no_waiting, of)

from mmpose.engine.monitors import ClippingMonitor, LossScaleMonitor
from mmpose.engine.monitors.core.optimizer_probe import EVENTS, OptimizerProbe
from mmpose.engine.monitors.optimization import clipping as clipping_module

CLIP = 'health/clipping/'
AMP = 'health/amp/'


def clipping(interval=1, **kwargs):
    return Training(ClippingMonitor(every(interval), strict=True), **kwargs)


def total_norm(model, norm_type=2):
    return torch.stack([
        p.grad.double().norm(norm_type) for p in model.parameters()
    ]).norm(norm_type).item()


def scaled_to(norms):
    """Gives the gradients of each step the next one of these norms."""
    norms = iter(norms)

    def make(training):
        factor = next(norms) / total_norm(training.model)
        for parameter in training.model.parameters():
            parameter.grad.mul_(factor)

    return make


class Norms:
    """What the gradients are when they come and when they are used."""

    def __init__(self, training, norm_type=2):
        self.before, self.after = [], []
        optimizer = training.wrapper.optimizer
        step = optimizer.step

        def remember(*args):
            self.after.append(total_norm(training.model, norm_type))
            return step(*args)

        optimizer.step = remember
        self.look = lambda: self.before.append(
            total_norm(training.model, norm_type))


@pytest.mark.parametrize('norm_type', [2, 1, float('inf')])
@pytest.mark.parametrize('max_norm', [1e-3, 1e3])
def test_norms_before_and_after_clipping_by_norm(max_norm, norm_type):
    training = clipping(clip_grad=dict(max_norm=max_norm, norm_type=norm_type))
    norms = Norms(training, norm_type)
    for step in range(1, 5):
        found = of(CLIP, training.read(before_step=norms.look), step)
        before, after = norms.before[-1], norms.after[-1]
        assert found == dict(
            norm_before=pytest.approx(before, rel=1e-5),
            norm_after=pytest.approx(after, rel=1e-5),
            share=float(before > max_norm),
            threshold=max_norm,
            learning_rate_factor=pytest.approx(after / before, rel=1e-5))


@pytest.mark.parametrize('clip_value', [1e-3, 1e3])
def test_norms_before_and_after_clipping_by_value(clip_value):
    training = clipping(clip_grad=dict(type='value', clip_value=clip_value))
    norms = Norms(training)
    for step in range(1, 5):
        found = of(CLIP, training.read(before_step=norms.look), step)
        assert found == dict(
            norm_before=pytest.approx(norms.before[-1], rel=1e-5),
            norm_after=pytest.approx(norms.after[-1], rel=1e-5),
            share=float(clip_value < 1),
            threshold=clip_value,
            learning_rate_factor=pytest.approx(
                norms.after[-1] / norms.before[-1], rel=1e-5))


def test_a_model_in_bfloat16():
    """``clip_grad_norm_`` returns a norm of the gradients' own type."""
    model = torch.nn.Linear(6, 3).bfloat16()
    training = clipping(model=model, clip_grad=dict(max_norm=1e-3))
    training.loss = lambda: model(torch.randn(16, 6).bfloat16()).sum()
    norms = Norms(training)
    found = of(CLIP, training.read(before_step=norms.look), 1)
    assert found['norm_before'] == pytest.approx(norms.before[0], rel=1e-2)
    assert found['norm_after'] == pytest.approx(norms.after[0], rel=1e-2)
    assert found['share'] == 1


def test_every_update_since_the_last_reading_counts():
    training = clipping(4, clip_grad=dict(max_norm=1.))
    make = scaled_to([3, 3, 0.5, 0.5, 0.5, 0.5, 3, 0.5, 3, 3, 3, 3])
    readings = training.read(12, lambda: make(training))
    assert {s: r[f'{CLIP}share']
            for s, r in readings.items()} == {
                1: 1,
                4: pytest.approx(1 / 3),
                8: 1 / 4,
                12: 1
            }


def test_every_update_that_is_clipped_by_value_counts(monkeypatch):
    """And only where it is logged it is looked at more closely."""
    read, total_norm = [], clipping_module._total_norm
    monkeypatch.setattr(clipping_module, '_total_norm',
                        lambda grads: read.append(1) or total_norm(grads))
    training = clipping(4, clip_grad=dict(type='value', clip_value=1.))
    largest = iter([3, 3, 0.5, -0.5, 0.5, -3, 0.5, 0.5, 3])

    def make():
        for parameter in training.model.parameters():
            parameter.grad.mul_(1e-3)
        training.model.head.bias.grad[1] = next(largest)

    readings = training.read(9, make)
    assert {s: r[f'{CLIP}share']
            for s, r in readings.items()} == {
                1: 1,
                4: pytest.approx(1 / 3),
                8: 1 / 4
            }
    assert readings[8][f'{CLIP}norm_before'] == pytest.approx(0.5, rel=1e-2)
    # Before and after.
    assert len(read) == 6


@pytest.mark.parametrize('value, share', [(float('nan'), 0), (float('inf'), 0),
                                          (3., 1)])
def test_by_value_what_is_not_finite_was_not_clipped(value, share):
    training = clipping(2, clip_grad=dict(type='value', clip_value=1.))

    def make():
        training.model.head.bias.grad.fill_(value)

    assert training.read(1, make)[1][f'{CLIP}share'] == share


@pytest.mark.parametrize('optimizer', [torch.optim.SGD, FusedSGD])
@pytest.mark.parametrize('clip_grad', [
    dict(max_norm=1e-3),
    dict(type='value', clip_value=1e-9),
])
def test_an_update_that_amp_skips_does_not_count(clip_grad, optimizer):
    """Its gradients overflow: the norm is infinite, and then NaN."""
    training = clipping(
        clip_grad=dict(clip_grad),
        optimizer=lambda p: optimizer(p, lr=0.1),
        wrapper=ScalingWrapper,
        overflows=[True, True, False, False, True, False])
    found = {
        step: of(CLIP, training.written.readings, step)
        for step in training.read(6)
    }
    found = {step: reading for step, reading in found.items() if reading}
    assert list(found) == [3, 4, 6]
    for reading in found.values():
        assert reading['share'] == 1
        assert math.isfinite(sum(reading.values()))


@pytest.mark.parametrize('optimizer', [torch.optim.SGD, FusedSGD])
def test_the_share_is_one_of_the_updates_that_were_taken(optimizer):
    training = clipping(
        4,
        clip_grad=dict(max_norm=1.),
        optimizer=lambda p: optimizer(p, lr=0.1),
        wrapper=ScalingWrapper,
        overflows=[False, True, False, False])
    sizes = iter([3., 0., 3., 0.5])

    def make():
        scale = training.wrapper.loss_scaler._scale.item()
        factor = next(sizes) * scale / total_norm(training.model)
        for parameter in training.model.parameters():
            parameter.grad.mul_(factor)

    # Of the third and the fourth.
    assert training.read(4, make)[4][f'{CLIP}share'] == 0.5


def test_an_update_that_is_not_finite_was_not_clipped():
    training = clipping(2, clip_grad=dict(max_norm=1.))
    make = scaled_to([3, 3, float('inf')])
    assert training.read(2, lambda: make(training))[2][f'{CLIP}share'] == 1
    training.run(1, lambda: make(training))
    readings = training.read(1, lambda: None)
    assert readings[4][f'{CLIP}share'] == 0


def test_the_threshold_in_force_counts():
    training = clipping(clip_grad=dict(max_norm=1e3))
    assert training.read()[1][f'{CLIP}share'] == 0
    training.wrapper.clip_grad_kwargs['max_norm'] = 1e-3
    reading = training.read()[2]
    assert reading[f'{CLIP}share'] == 1
    assert reading[f'{CLIP}threshold'] == 1e-3


@pytest.mark.parametrize('interval, steps', [(1, [3, 6, 9]), (4, [3, 6, 9]),
                                             (7, [3, 9])])
def test_accumulation_counts_updates(interval, steps):
    training = clipping(
        interval, clip_grad=dict(max_norm=1e-3), accumulative_counts=3)
    readings = training.read(9)
    assert list(readings) == steps
    assert all(r[f'{CLIP}share'] == 1 for r in readings.values())


def test_only_of_sgd_the_step_is_as_long_as_the_gradient():
    training = clipping(
        clip_grad=dict(max_norm=1e-3),
        optimizer=lambda p: torch.optim.Adam(p, lr=1e-3))
    found = of(CLIP, training.read(), 1)
    assert found['share'] == 1 and 'learning_rate_factor' not in found


@pytest.mark.parametrize('clip_grad', [
    dict(max_norm=1e-3),
    dict(type='value', clip_value=1e-3),
])
def test_clipping_is_left_as_it_was(clip_grad):
    """P1: nothing stays attached, and nothing is where there is none."""
    untouched = OptimWrapper(
        torch.optim.SGD(Net().parameters(), lr=1.), clip_grad=dict(clip_grad))
    training = clipping(clip_grad=dict(clip_grad))
    assert training.wrapper.clip_func is not untouched.clip_func
    training.run(2)
    training.end()
    assert training.wrapper.clip_func is untouched.clip_func
    training = clipping()
    assert training.read(2) == {} and not hasattr(training.wrapper,
                                                  'clip_func')


def test_by_value_optimizers_may_step_in_turn():
    """One that does not where it is logged is told of when it does."""
    model = Net()
    training = Training(model=model)
    training.runner.optim_wrapper = wrappers = OptimWrapperDict(
        **{
            name: OptimWrapper(
                torch.optim.SGD(getattr(model, name).parameters(), lr=0.1),
                clip_grad=dict(type='value', clip_value=1e-9))
            for name in ('head', 'stem')
        })
    training.monitors = [ClippingMonitor(every(2), strict=True)]
    training.begin()
    for step in range(1, 7):
        training.runner.iter = step - 1
        training.notify('before_train_iter', 0, None)
        training.loss().backward()
        wrappers[('head', 'stem')[step // 2 % 2]].step()
        training.notify('after_train_iter', 0, None, None)
    found = {(step, tag.split('/')[2]): value
             for step, reading in training.written.readings.items()
             for tag, value in reading.items() if tag.endswith('share')}
    assert found == {
        (1, 'head'): 1,
        (2, 'stem'): 1,
        (4, 'head'): 1,
        (6, 'stem'): 1
    }


@pytest.mark.parametrize('clip_grad', [
    dict(max_norm=1e-3),
    dict(type='value', clip_value=1e-3),
])
def test_nothing_waits_for_the_device(clip_grad, monkeypatch):
    """P3, also where every update counts."""
    told, tell = [], OptimizerProbe._tell

    def without_waiting(probe, event, *args):
        told.append(event)
        with no_waiting():
            tell(probe, event, *args)

    # Around the monitor: MMEngine waits for the norm, to log it.
    monkeypatch.setattr(OptimizerProbe, '_tell', without_waiting)
    training = clipping(5, clip_grad=clip_grad)
    training.run(10)
    assert len(training.written.records) == 3
    assert told == 10 * list(EVENTS)


def test_two_optimizers_have_names():
    model = Net()
    training = Training(model=model)
    training.runner.optim_wrapper = wrappers = OptimWrapperDict(
        head=OptimWrapper(
            torch.optim.SGD(model.head.parameters(), lr=0.1),
            clip_grad=dict(max_norm=1e-3)),
        stem=OptimWrapper(
            torch.optim.SGD(model.stem.parameters(), lr=0.1),
            clip_grad=dict(max_norm=1e3)))
    training.monitors = [ClippingMonitor(every(), strict=True)]
    training.begin()
    training.notify('before_train_iter', 0, None)
    training.loss().backward()
    for wrapper in wrappers.values():
        wrapper.step()
    training.notify('after_train_iter', 0, None, None)
    reading = training.written.readings[1]
    assert reading[f'{CLIP}head/share'] == 1
    assert reading[f'{CLIP}stem/share'] == 0


# Mixed precision


def sgd(fused):
    kind = FusedSGD if fused else torch.optim.SGD
    return functools.partial(kind, lr=0.1)


@pytest.mark.parametrize('fused', [False, True])
def test_the_loss_scale_and_the_updates_that_are_skipped(fused):
    overflows = [True, False, True, True, False, False, False, False, True]
    training = Training(
        LossScaleMonitor(every(4), strict=True),
        wrapper=ScalingWrapper,
        overflows=overflows,
        optimizer=sgd(fused))
    readings = training.read(9)
    assert {s: of(AMP, readings, s)
            for s in readings} == {
                1: dict(loss_scale=512, updates=1, skipped=1),
                4: dict(loss_scale=128, updates=3, skipped=2),
                8: dict(loss_scale=128, updates=4, skipped=0)
            }
    training.end()
    assert 'step' not in vars(training.wrapper.loss_scaler)
    assert 'step' not in vars(training.wrapper.optimizer)


def test_two_optimizers_may_share_a_scaler():
    training = Training(
        LossScaleMonitor(every(), strict=True),
        wrapper=ScalingWrapper,
        overflows=[False] * 4)
    wrapper = training.wrapper
    other = OptimWrapper(torch.optim.SGD([torch.zeros(1)], lr=0.1))
    other.loss_scaler = wrapper.loss_scaler
    training.end()
    training.runner.optim_wrapper = OptimWrapperDict(one=wrapper, other=other)
    training.begin()
    assert of(AMP, training.read(), 1) == {
        'one/loss_scale': 1024,
        'one/updates': 1,
        'one/skipped': 0
    }


@pytest.mark.parametrize('fused', [False, True])
def test_the_loss_scale_is_not_waited_for(fused):
    """P3: ``get_scale()`` would."""
    training = Training(
        LossScaleMonitor(every(), strict=True),
        wrapper=ScalingWrapper,
        overflows=itertools.cycle([True, False]),
        optimizer=sgd(fused))
    with no_waiting():
        training.run(6)
    assert len(training.written.records) == 6


def test_without_a_scaler_there_is_nothing_to_say():
    training = Training(LossScaleMonitor(every(), strict=True))
    assert training.read(3) == {}
    # One that is not enabled has no scale.
    training = Training(
        LossScaleMonitor(every(), strict=True),
        wrapper=ScalingWrapper,
        overflows=[False] * 3)
    scaler = training.wrapper.loss_scaler
    scaler.scale, scaler._scale = (lambda loss: loss), None
    scaler.step = lambda optimizer: optimizer.step()
    assert training.read(3) == {}
