# Copyright (c) OpenMMLab. All rights reserved.
import gc
import math
import weakref

import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from stepping import (FusedSGD, Net, ScalingWrapper, Training, every,
                      no_waiting, of)
from torch import nn

from mmpose.engine.monitors import (BatchNormMonitor, UnusedParameterMonitor,
                                    UpdateMonitor)
from mmpose.engine.monitors.core.layer_groups import (covering_modules,
                                                      layer_groups,
                                                      named_parameters)
from mmpose.engine.monitors.optimization import updates as updates_module

NAN = float('nan')
RATIO = 'health/update_ratio'
OPTIMIZERS = dict(
    sgd=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2),
    adamw=lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.1),
    rmsprop=lambda p: torch.optim.RMSprop(p, lr=1e-3),
    foreach=lambda p: torch.optim.Adam(p, lr=1e-3, foreach=True))


def updates(*args, interval=1, groups=20, **kwargs):
    return Training(
        UpdateMonitor(every(interval), groups, strict=True), *args, **kwargs)


def begun(*args, **kwargs):
    """The same after its first update, which is not read."""
    training = updates(*args, **kwargs)
    assert training.read() == {}
    return training


def norm(tensors):
    return math.sqrt(sum(t.double().square().sum().item() for t in tensors))


@pytest.mark.parametrize('groups', [3, -1, 0])
@pytest.mark.parametrize('optimizer', OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_ratio_is_that_of_the_weights_themselves(optimizer, groups):
    training = begun(optimizer=optimizer, groups=groups)
    named = dict(named_parameters(training.model))
    members = layer_groups(named, groups)
    assert bool(members) == (groups != 0)
    for step in range(2, 7):
        before = {n: p.detach().clone() for n, p in named.items()}
        readings = training.read()
        change = {n: p.detach() - before[n] for n, p in named.items()}

        def ratio(names):
            return norm(change[n] for n in names) / norm(before[n]
                                                         for n in names)

        found = of(RATIO, readings, step)
        assert found.pop('') == pytest.approx(ratio(named), rel=1e-5)
        expected = {
            f'/{group}': pytest.approx(ratio(names), rel=1e-5)
            for group, names in members.items()
            # The bias of the batch norm starts at 0.
            if norm(before[n] for n in names)
        }
        assert found == expected
        assert readings[step]['health/updates'] == step


def test_a_change_of_large_and_of_half_precision_weights_is_exact():
    """Large ones are read another way, float16 is summed in float32."""
    model = nn.Sequential(nn.Linear(6, 20000), nn.Linear(20000, 3)).double()
    model[1].half()
    large = model[1].weight
    training = updates(model=model, groups=-1)
    training.loss = lambda: sum(p.float().square().sum() / 2
                                for p in model.parameters())
    training.run()
    before = large.detach().clone()
    found = of(f'{RATIO}/', training.read(), 2)
    # SGD's step is a tenth of the gradient, which is the weight itself.
    for name in found:
        assert found[name] == pytest.approx(0.1, rel=3e-3)
    change = large.detach().double() - before
    assert found['1/weight'] == pytest.approx(
        norm([change]) / norm([before]), rel=1e-5)


def test_only_at_steps_that_are_logged_and_nothing_stays(monkeypatch):
    """The copy is as large as the model, and gone with the update."""
    read, copies = [], []
    named_norms, subtract = updates_module.named_norms, torch._foreach_sub_
    monkeypatch.setattr(updates_module, 'named_norms',
                        lambda *args: read.append(1) or named_norms(*args))

    def remember(ours, weights):
        copies.extend(weakref.ref(t) for t in ours)
        return subtract(ours, weights)

    monkeypatch.setattr(torch, '_foreach_sub_', remember)
    training = updates(interval=4)

    def zero_grad():
        assert not any(ref() is not None for ref in copies)
        training.wrapper.optimizer.zero_grad()

    training.wrapper.zero_grad = zero_grad
    readings = training.read(9)
    assert list(readings) == [2, 4, 8]
    # Before and after.
    assert len(read) == 6 and len(copies) == 3 * 7
    training.end()
    assert 'step' not in vars(training.wrapper.optimizer)


def test_nothing_stays_of_an_update_that_was_not_finished():
    """The thread that writes may switch it off at any time."""
    copies = []

    class SGD(torch.optim.SGD):

        def step(self, closure=None):
            monitor, = training.monitors
            for update in monitor._begun.values():
                copies.extend(map(weakref.ref, update._copies))
                monitor.guard.trip('it failed elsewhere')
            super().step(closure)

    training = updates(optimizer=lambda p: SGD(p, lr=0.1))
    training.run(2)
    assert len(copies) == 7
    assert not any(ref() is not None for ref in copies)


@pytest.mark.parametrize('optimizer', [
    lambda p: torch.optim.AdamW(p, lr=1e-3),
    lambda p: torch.optim.SGD(p, lr=0.1),
    lambda p: torch.optim.LBFGS(p, max_iter=1)
])
def test_the_update_in_which_a_state_is_made_is_not_read(optimizer):
    """P2: with a copy of the weights beside it, memory might not suffice."""
    training = updates(interval=10, optimizer=optimizer)
    if isinstance(training.wrapper.optimizer, torch.optim.LBFGS):
        training.wrapper.step = lambda: training.wrapper.optimizer.step(
            lambda: training.loss())
    copied = []
    monitor, = training.monitors
    fits = monitor._fits
    monitor._fits = lambda *args: copied.append(training.runner.iter + 1
                                                ) or fits(*args)
    # The next one is, not only the next that is due.
    assert list(training.read(21)) == copied == [2, 10, 20]


def test_a_resumed_optimizer_has_its_state():
    training = updates(optimizer=lambda p: torch.optim.AdamW(p, lr=1e-3))
    training.run()
    state = training.wrapper.optimizer.state_dict()
    training = updates(optimizer=lambda p: torch.optim.AdamW(p, lr=1e-3))
    training.wrapper.optimizer.load_state_dict(state)
    assert list(training.read()) == [1]


def test_parameters_that_are_unfrozen_get_their_state_first():
    training = updates(optimizer=lambda p: torch.optim.AdamW(p, lr=1e-3))
    training.model.head.requires_grad_(False)
    training.run(3)
    training.model.head.requires_grad_(True)
    assert list(training.read(3)) == [2, 3, 5, 6]


def test_all_optimizers_wait_for_one_that_makes_its_state():
    model = Net()
    training = updates(model=model)
    first = OptimWrapper(torch.optim.SGD(model.head.parameters(), lr=0.1))
    second = OptimWrapper(torch.optim.Adam(model.stem.parameters(), lr=0.1))
    training.wrapper = training.runner.optim_wrapper = OptimWrapperDict(
        first=first, second=second)
    training.begin()
    for training.runner.iter in range(4):
        training.notify('before_train_iter', 0, None)
        training.loss().backward()
        first.step()
        if training.runner.iter > 1:
            second.step()
        training.notify('after_train_iter', 0, None, None)
    assert list(training.written.readings) == [2, 4]
    assert set(of(f'{RATIO}/', training.written.readings,
                  4)) == {'stem', 'head'}


@pytest.mark.parametrize('closure', [False, True])
def test_without_memory_for_the_step_nothing_is_copied(monkeypatch,
                                                       warnings_logged,
                                                       closure):
    """P2 and P8: it is said once."""
    training = updates(interval=4)
    if closure:
        step = training.wrapper.optimizer.step
        training.wrapper.step = lambda: step(lambda: training.loss())
    size = sum(p.numel() * 4 for p in training.model.parameters())
    free, asked = 4 * size - 1, []

    def free_memory(device, in_cache):
        asked.append((training.runner.iter + 1, in_cache))
        return free

    monkeypatch.setattr(updates_module, 'free_memory', free_memory)
    assert training.read(8) == {}
    warning, = warnings_logged
    assert 'skips an update' in warning and 'free on cpu' in warning
    free = 4 * size
    assert list(training.read(4)) == [12]
    free = None  # Nobody knows.
    assert list(training.read(4)) == [12, 16]
    assert asked == [(step, not closure) for step in (2, 4, 8, 12, 16)]
    assert training.monitors[0].guard.failures == 0


@pytest.mark.parametrize('error', [
    torch.cuda.OutOfMemoryError('CUDA out of memory.'),
    RuntimeError("can't allocate memory"),
    MemoryError()
])
@pytest.mark.parametrize('name', ['clone', '_foreach_sub_'])
def test_memory_that_runs_out_costs_a_reading(monkeypatch, name, error):
    """P2: what was copied is freed at once; the next one due is read."""
    copies = []
    clone = torch.Tensor.clone

    def fail(*args):
        if training.runner.iter != 1 or name == 'clone' and len(copies) < 3:
            return method(*args)
        raise type(error)(*error.args)

    def copy(tensor):
        copied = clone(tensor)
        copies.append(weakref.ref(copied))
        return copied

    def zero_grad():
        assert not any(ref() is not None for ref in copies)
        training.wrapper.optimizer.zero_grad()

    training = Training(UpdateMonitor(every(4), 20))
    training.wrapper.zero_grad = zero_grad
    monkeypatch.setattr(torch.Tensor, 'clone', copy)
    owner = torch.Tensor if name == 'clone' else torch
    method = getattr(owner, name)
    monkeypatch.setattr(owner, name, fail)
    gc.disable()  # Memory is needed at once.
    try:
        assert list(training.read(8)) == [4, 8]
    finally:
        gc.enable()
    assert len(copies) == 2 * 7 + (3 if name == 'clone' else 7)
    assert training.monitors[0].guard.failures == 1


@pytest.mark.parametrize('interval, steps', [(1, [6, 9, 12]), (4, [6, 9, 12]),
                                             (10, [6, 12])])
def test_accumulation_counts_updates(interval, steps):
    training = updates(interval=interval, accumulative_counts=3)
    readings = training.read(12)
    assert list(readings) == steps
    assert [r['health/updates']
            for r in readings.values()] == [step / 3 for step in steps]


def test_nothing_waits_for_the_device():
    """P3: in the thread that trains."""
    training = Training(
        UpdateMonitor(every(), 20, strict=True),
        UnusedParameterMonitor(every(), strict=True),
        BatchNormMonitor(every(), strict=True))
    with no_waiting():
        training.run(12)
    assert len(training.written.records) == 11 * 2 + 3 + 12 * 2


def test_the_first_weight_that_is_not_finite_is_named():
    training = begun()
    readings = training.read()
    assert not of('health/nonfinite', readings, 2)
    for parameter in (training.model.head.bias, training.model.block[0].weight,
                      training.model.block[1].weight):
        parameter.data.view(-1)[0] = NAN
    found = of('health/nonfinite_weight/', training.read(), 3)
    # Of seven parameters.
    assert found == {'block.0.weight': pytest.approx(3 / 7)}
    # What is in front of it has a gradient of NaN.
    readings = training.written.readings
    found = of('health/nonfinite_update/', readings, 3)
    assert found == {'stem.weight': pytest.approx(4 / 7)}
    assert math.isnan(readings[3][RATIO])
    found = of('health/nonfinite_weight/', training.read(), 4)
    assert found == {'stem.weight': 1}


def test_what_an_update_does_not_change_is_named():
    """Not a bias: in front of a batch norm it has no gradient to speak of."""
    training = begun(optimizer=lambda p: torch.optim.SGD([
        dict(params=p[:2], lr=0.1),
        dict(params=p[2:5], lr=0.),
        dict(params=p[5:], lr=1e-30)
    ]))
    readings = training.read()
    assert of('health/unchanged_weights/', readings, 2) == {
        'block': 3,
        'head': 1
    }
    assert of('health/zero_learning_rate/', readings, 2) == {'block': 3}
    for group in training.wrapper.param_groups:
        group['lr'] = 0.1
    readings = training.read()
    assert not of('health/unchanged', readings, 3)
    assert not of('health/zero', readings, 3)


def test_a_learning_rate_on_the_device_is_not_looked_at():
    training = begun()
    training.wrapper.param_groups[0]['lr'] = torch.zeros(())
    readings = training.read()
    assert of('health/unchanged_weights/', readings, 2) == {'model': 3}
    assert not of('health/zero', readings, 2)


@pytest.mark.parametrize('kind, interval, counts, at', [
    (torch.optim.SGD, 1, 1, 5),
    (torch.optim.SGD, 4, 1, 8),
    (torch.optim.SGD, 4, 3, 6),
    (FusedSGD, 1, 1, 5),
])
def test_weights_are_read_though_amp_leaves_the_update_out(
        kind, interval, counts, at):
    """GradScaler leaves out every one after a NaN: the weights say where."""
    training = updates(
        interval=interval,
        optimizer=lambda p: kind(p, lr=0.1),
        wrapper=ScalingWrapper,
        accumulative_counts=counts,
        overflows=[True] * 9)
    readings = training.read(4)
    # Those that are finite are no news.
    assert not any('nonfinite' in tag for r in readings.values() for tag in r)
    before = set(readings)
    training.model.block[0].weight.data[0, 0] = float('nan')
    readings = training.read(5)
    first = min(set(readings) - before)
    assert first == at
    assert readings[first] == {
        'health/nonfinite_weight/block.0.weight': pytest.approx(1 / 7)
    }


def test_an_overflow_of_a_fused_optimizer_is_no_reading():
    """GradScaler says it on the device, and the optimizer skips."""
    training = begun(optimizer=lambda p: FusedSGD(p, lr=0.1))
    for overflow in (0., 1.):
        training.wrapper.optimizer.found_inf = torch.tensor(overflow)
        readings = training.read()
    assert list(readings) == [2, 3]
    assert readings[2] and not readings[3]


def test_two_optimizers_are_read_together():
    model = Net()
    wrappers = OptimWrapperDict(
        head=OptimWrapper(torch.optim.SGD(model.head.parameters(), lr=0.1)),
        rest=OptimWrapper(torch.optim.SGD([*model.stem.parameters()], lr=0.2)))
    training = Training(model=model)
    training.runner.optim_wrapper = wrappers
    training.monitors = [UpdateMonitor(every(), 3, strict=True)]
    training.begin()
    for training.runner.iter in range(2):
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        training.notify('before_train_iter', 0, None)
        training.loss().backward()
        for wrapper in wrappers.values():
            wrapper.step()
        training.notify('after_train_iter', 0, None, None)
    reading, = training.written.readings.values()
    changed = [n for n in before if not n.startswith('block')]
    assert reading[RATIO] == pytest.approx(
        norm(model.get_parameter(n) - before[n]
             for n in changed) / norm(before[n] for n in changed),
        rel=1e-5)
    assert set(of(f'{RATIO}/', training.written.readings,
                  2)) == {'stem', 'head'}


# Parameters that require a gradient for nothing


def unused(**kwargs):
    return Training(UnusedParameterMonitor(every(), strict=True), **kwargs)


class WithBranches(Net):
    """A branch that is cut off, one that is frozen, one for later."""

    def __init__(self):
        super().__init__()
        self.cut = nn.ModuleDict(
            dict(a=nn.Linear(8, 8), b=nn.Sequential(nn.Linear(8, 2))))
        self.frozen = nn.Linear(8, 2).requires_grad_(False)
        self.late = nn.Linear(8, 2)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        x = torch.tanh(self.stem(x))
        y = self.block(x)
        y = self.head(y).sum() + self.cut.b(self.cut.a(y)).sum().detach()
        return y + self.late(x).sum() if self.calls == 8 else y


def test_a_branch_without_gradients_is_one_module():
    training = unused(model=WithBranches())
    readings = training.read(12)
    # Branches that are trained in turn have ten updates for their turn.
    assert list(readings) == [10, 11, 12]
    for step in readings:
        assert readings[step] == {
            'health/unused_parameters': 4,
            'health/no_gradient/cut': 4
        }


def test_a_module_that_no_optimizer_has_is_named():
    model = Net()
    training = unused(model=model)
    training.wrapper.param_groups[0]['params'] = [
        p for n, p in model.named_parameters() if not n.startswith('head')
    ]
    assert training.read(10)[10] == {
        'health/unused_parameters': 2,
        'health/not_in_optimizer/head': 2
    }
    # As a hook does that unfreezes.
    training.wrapper.optimizer.add_param_group(
        dict(params=[*model.head.parameters()]))
    assert training.read()[11] == {'health/unused_parameters': 0}


def test_what_is_neither_used_nor_in_an_optimizer_is_not_used():
    training = unused(model=WithBranches())
    cut = {id(p) for p in training.model.cut.parameters()}
    group, = training.wrapper.param_groups
    group['params'] = [p for p in group['params'] if id(p) not in cut]
    assert training.read(10)[10] == {
        'health/unused_parameters': 4,
        'health/no_gradient/cut': 4
    }


def test_a_head_that_is_frozen_is_counted_while_others_are_trained():
    training = unused()
    assert 'health/frozen_head' not in training.read(10)[10]
    training.model.head.requires_grad_(False)
    assert training.read()[11]['health/frozen_head'] == 2
    training.model.head.bias.requires_grad_(True)
    assert 'health/frozen_head' not in training.read()[12]
    # Nothing is to learn.
    training.model.requires_grad_(False)
    training.notify('before_train_iter', 0, None)
    training.notify('after_train_iter', 0, None, None)
    assert 'health/frozen_head' not in training.written.readings[12]


def test_all_used_is_zero_and_looked_at_no_more():
    training = unused()
    assert training.read(10) == {10: {'health/unused_parameters': 0}}
    assert training.monitors[0]._without_gradient == []
    training.end()
    assert 'step' not in vars(training.wrapper.optimizer)


def test_modules_cover_what_is_all_of_them():
    among = [
        'a.0.w', 'a.0.b', 'a.1.w', 'b.x.w', 'b.x.b', 'b.y.w', 'b.z.w', 'c'
    ]
    assert covering_modules([], among) == {}
    assert covering_modules(among, among) == {'model': 8}
    assert covering_modules(['a.1.w', 'c', 'a.0.w', 'a.0.b'], among) == {
        'a': 3,
        'c': 1
    }
    assert covering_modules(['b.x.w', 'b.y.w', 'b.z.w'], among) == {
        'b/x/w': 1,
        'b/y': 1,
        'b/z': 1
    }
    # Too many to name.
    assert covering_modules(['b.x.w', 'b.y.w', 'b.z.w'], among, 2) == {'b': 3}
    assert covering_modules(['b.x.w', 'b.y.w', 'c'], among, 2) == {'model': 3}


# Batch norms


def test_channels_that_were_alive_and_are_not():
    """A residual branch may start as nothing: those have not died."""
    model = nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 8), nn.BatchNorm1d(8),
        nn.BatchNorm1d(8).requires_grad_(False))
    nn.init.zeros_(model[3].weight)
    training = Training(
        BatchNormMonitor(every(), strict=True),
        model=model,
        optimizer=lambda p: torch.optim.SGD(p, lr=1e-4))
    tag = 'health/dead_channels'
    assert training.read()[1] == {tag: 0}
    model[1].weight.data[:2] = torch.tensor([0., -9e-4])
    assert training.read()[2] == {tag: 2 / 8}
    # It comes alive, and dies.
    model[3].weight.data[0] = -0.2
    assert training.read()[3] == {tag: 2 / 9}
    model[3].weight.data[0] = 0.
    assert training.read()[4] == {tag: 3 / 9}


def test_without_a_batch_norm_there_is_nothing_to_say():
    training = Training(
        BatchNormMonitor(every(), strict=True),
        model=nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8)))
    assert training.read() == {}
