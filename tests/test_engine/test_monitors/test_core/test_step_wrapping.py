# Copyright (c) OpenMMLab. All rights reserved.
import functools
import itertools
import warnings

import pytest
import torch
from mmengine.optim import StepLR

from mmpose.engine.monitors import FailureGuard
from mmpose.engine.monitors.core.step_wrapping import call_around


class Owner:

    def __init__(self):
        self.calls = []

    def step(self, *args, **kwargs):
        self.calls.append(('step', args, kwargs))
        return 'result'


def watch(owner, name, guard=None):
    return call_around(
        owner, 'step', guard or FailureGuard(name, strict=True),
        lambda *args, **kwargs: owner.calls.append(
            (f'before {name}', args, kwargs)),
        lambda result, *args, **kwargs: owner.calls.append(
            (f'after {name}', (result, *args), kwargs)))


def test_all_see_the_arguments_and_the_result():
    owner = Owner()
    watch(owner, 'a')
    watch(owner, 'b')
    assert owner.step(1, x=2) == 'result'
    assert [call[0] for call in owner.calls
            ] == ['before a', 'before b', 'step', 'after a', 'after b']
    assert all(call[1:] == ((1, ), dict(x=2)) for call in owner.calls[:3])
    assert all(call[1:] == (('result', 1), dict(x=2))
               for call in owner.calls[3:])


@pytest.mark.parametrize('order', itertools.permutations(range(3)))
@pytest.mark.parametrize('own', [False, True], ids=['method', 'attribute'])
def test_the_method_is_given_back_in_whatever_order_they_stop(order, own):
    """P1: nothing stays attached."""
    owner = Owner()
    if own:
        owner.step = method = functools.partial(Owner.step, owner)
    stops = [watch(owner, name) for name in 'abc']
    for i, watching in zip(order, [2, 1, 0]):
        stops[i]()
        owner.calls.clear()
        owner.step()
        assert len(owner.calls) == 1 + 2 * watching
    assert owner.step is method if own else 'step' not in vars(owner)


def test_who_wraps_it_later_keeps_what_it_wraps():
    owner = Owner()
    stop = watch(owner, 'a')
    wrapped = owner.step

    @functools.wraps(wrapped)
    def later(*args, **kwargs):
        owner.calls.append(('later', args, kwargs))
        return wrapped(*args, **kwargs)

    owner.step = later
    stop()
    watch(owner, 'b')()
    assert owner.step is later
    assert owner.step() == 'result'
    assert [call[0] for call in owner.calls] == ['later', 'step']


def test_a_method_that_looks_like_a_wrapped_one_is_another():
    """``functools.wraps`` copies attributes."""
    owner, other = Owner(), Owner()
    watch(owner, 'a')
    other.step = functools.wraps(owner.step)(lambda: 'other')
    stop = watch(other, 'b')
    assert other.step() == 'other'
    assert [call[0] for call in other.calls] == ['before b', 'after b']
    stop()
    assert owner.step() == 'result' and len(owner.calls) == 3


@pytest.mark.parametrize(
    'scheduler', [torch.optim.lr_scheduler.StepLR, StepLR],
    ids=['torch', 'mmengine'])
@pytest.mark.parametrize('made', ['before', 'while', 'both'])
def test_schedulers_may_be_made_while_it_is_watched(scheduler, made):
    """They wrap the step themselves, and ask it whose it is."""
    parameter = torch.nn.Parameter(torch.ones(1))
    parameter.grad = torch.ones(1)
    optimizer = torch.optim.SGD([parameter], lr=1.)
    guard, seen = FailureGuard('Watcher', strict=True), []
    schedulers = []

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
        stop = call_around(optimizer, 'step', guard, lambda: seen.append(1))
        if made != 'before':
            make()
        step()
        assert len(seen) == 1 and parameter.item() == 0
        assert optimizer.param_groups[0]['lr'] == 0.5**len(schedulers)
        stop()
        step()
    assert len(seen) == 1 and parameter.item() == -0.5**len(schedulers)
    # Whoever looks again finds nothing of it, or what a scheduler has wrapped.
    if made != 'while':
        assert vars(optimizer).get('step') == before
    call_around(optimizer, 'step', guard, lambda: seen.append(1))
    step()
    assert len(seen) == 2


def test_a_failure_ends_in_the_guard():
    """P2: three are enough, and the method runs all the same."""
    owner, guard = Owner(), FailureGuard('Watcher')

    def fail(*args):
        owner.calls.append(('fail', args, {}))
        raise RuntimeError('broken on purpose')

    call_around(owner, 'step', guard, fail)
    assert [owner.step() for _ in range(5)] == ['result'] * 5
    assert guard.tripped
    assert [call[0] for call in owner.calls].count('fail') == 3
