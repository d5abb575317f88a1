# Copyright (c) OpenMMLab. All rights reserved.
import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from mmengine.utils import digit_version
from torch import nn

from mmpose.engine.monitors.core.side_effects import eval_without_side_effects


class Restless(nn.Module):
    """Predicts with side effects of all kinds."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(
            nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.frozen = nn.BatchNorm2d(4)
        for name in ('changed', 'written', 'replaced', 'deleted'):
            self.register_buffer(name, torch.zeros(3))
        self.register_buffer('filled', None)
        self.grid = None
        self.train()

    def train(self, mode=True):
        """A frozen stage, as in many backbones."""
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, x):
        return self.frozen(self.layer(x))

    def predict(self, x):
        self.changed += 1
        self.written.data.fill_(2)
        self.replaced = torch.ones(3)
        del self.deleted
        self.filled = torch.ones(3)
        self.layer[1].train()
        random.random(), np.random.rand(), torch.rand(1)
        if self.grid is None:
            self.grid = torch.arange(4.).view(4, 1, 1) + 0
        return self(x) * self.grid

    def flags(self):
        return [module.training for module in self.modules()]


@pytest.fixture
def model():
    return Restless()


def generators():
    return (random.getstate(), np.random.get_state()[1].tolist(),
            torch.get_rng_state().tolist())


@pytest.mark.parametrize('fails', [False, True])
def test_everything_is_as_before(model, fails):
    """P1: flags, buffers by value and identity, generators."""
    flags, before = model.flags(), generators()
    assert len(set(flags)) == 2
    buffers = dict(model.named_buffers())
    values = {name: buffer.clone() for name, buffer in buffers.items()}
    with pytest.raises(RuntimeError) if fails else nullcontext():
        with eval_without_side_effects(model):
            assert not any(model.flags())
            model.predict(torch.rand(2, 3, 4, 4))
            if fails:
                raise RuntimeError
    assert model.flags() == flags
    assert generators() == before
    after = dict(model.named_buffers())
    assert after.keys() == buffers.keys()
    for name, value in values.items():
        assert after[name] is buffers[name]
        assert torch.equal(after[name], value), name
    assert model.filled is None


def test_the_model_is_not_asked_to_change_its_mode(model, monkeypatch):
    """``train()`` may be overridden, and would unfreeze what is frozen."""

    def fail(*args):
        raise AssertionError

    monkeypatch.setattr(Restless, 'train', fail)
    with eval_without_side_effects(model):
        assert not any(model.flags())


def test_what_is_kept_for_later_can_be_trained_with(model):
    """Defect: tensors of ``inference_mode`` cannot."""
    with eval_without_side_effects(model):
        prediction = model.predict(torch.rand(2, 3, 4, 4))
    assert not prediction.requires_grad
    kept = model.grid
    (model(torch.rand(2, 3, 4, 4)) * kept).sum().backward()
    assert model.layer[0].weight.grad is not None
    # Before 1.9 PyTorch has no such mode.
    assert not getattr(kept, 'is_inference', bool)()


def test_a_buffer_of_two_modules_stays_shared(model):
    other = nn.Module()
    other.register_buffer('changed', model.changed)
    both = nn.ModuleList([model, other])
    with eval_without_side_effects(both):
        model.changed += 5
    assert other.changed is model.changed
    assert not model.changed.any()


@pytest.mark.parametrize('changed', [False, True])
def test_a_buffer_that_copy_cannot_write_to(model, changed):
    """P1: an expanded view, a sparse one; and nothing else is left out."""
    seen = torch.arange(3.).view(3, 1)
    model.register_buffer('view', seen.expand(2, 3, 4))
    model.register_buffer('empty', torch.zeros(1).expand(0))
    model.register_buffer('sparse', torch.eye(3).to_sparse())
    model.register_buffer('last', torch.zeros(3))
    values = {name: b.clone() for name, b in model.named_buffers()}
    before = generators()
    with eval_without_side_effects(model):
        model.predict(torch.rand(2, 3, 4, 4))
        if changed:
            seen += 1
            model.sparse.mul_(2)
            model.last += 1
    assert generators() == before
    for name, buffer in model.named_buffers():
        difference = buffer - values[name]
        if difference.is_sparse:
            difference = difference.to_dense()
        assert not difference.any(), name


def test_what_cannot_be_put_back_costs_nothing_else(model):
    """P1."""
    model.register_buffer('grown', torch.zeros(3))
    model.register_buffer('last', torch.zeros(3))
    flags, before = model.flags(), generators()
    with pytest.raises(RuntimeError):
        with eval_without_side_effects(model):
            model.predict(torch.rand(2, 3, 4, 4))
            model.grown.resize_(5)
            model.last += 1
    assert model.flags() == flags and generators() == before
    for name in ('changed', 'written', 'replaced', 'deleted', 'last'):
        assert not getattr(model, name).any(), name


def test_a_scripted_model():
    model = torch.jit.script(nn.Sequential(nn.BatchNorm2d(3)))
    before = {name: b.clone() for name, b in model.named_buffers()}
    with eval_without_side_effects(model):
        assert not any(module.training for module in model.modules())
        model.train()
        model(torch.rand(2, 3, 4, 4))
    assert all(module.training for module in model.modules())
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name])


class Counting(nn.BatchNorm2d):
    """Writes its statistics itself, whatever they say of tracking."""

    def forward(self, x):
        self.num_batches_tracked += 1
        return super().forward(x)


def written_by_its_own_call():
    norm = nn.BatchNorm2d(3)

    def forward(x):
        norm.running_mean += 1
        return x

    norm.forward = forward
    return norm


@pytest.mark.parametrize(
    'make', [
        lambda: nn.BatchNorm2d(3), lambda: nn.BatchNorm2d(3, momentum=None),
        lambda: nn.BatchNorm2d(3, track_running_stats=False),
        pytest.param(
            lambda: nn.SyncBatchNorm(3),
            marks=pytest.mark.skipif(
                digit_version(torch.__version__) < digit_version('2.0'),
                reason='this PyTorch has it on GPUs alone')),
        lambda: nn.InstanceNorm2d(3, track_running_stats=True),
        lambda: Counting(3), written_by_its_own_call
    ],
    ids=[
        'BatchNorm2d', 'mean of all', 'not tracked', 'SyncBatchNorm',
        'InstanceNorm2d', 'subclass', 'own call'
    ])
@pytest.mark.parametrize('training', [False, True])
def test_statistics(make, training):
    """P1: also of a norm that a prediction puts into training mode."""
    x = torch.rand(2, 3, 4, 4)
    norm, twin = make(), make()
    for each in norm, twin:
        each.eval()
        each(x)
        each.train(training)
    values = {name: b.clone() for name, b in norm.named_buffers()}
    tracks = norm.track_running_stats
    with eval_without_side_effects(nn.Sequential(norm)):
        predicted = norm(x)
        norm.train()
        norm(x)
    assert norm.training == training
    assert norm.track_running_stats == tracks
    for name, buffer in norm.named_buffers():
        assert torch.equal(buffer, values[name]), name
    # The statistics are what a prediction goes by all the same.
    assert torch.equal(predicted, twin.eval()(x))
    # And afterwards they are tracked as before.
    norm.train()
    norm(x)
    if values:
        assert not torch.equal(norm.running_mean, values['running_mean'])


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_the_generator_of_the_device(model):
    model.cuda()
    before = torch.cuda.get_rng_state()
    with eval_without_side_effects(model):
        torch.rand(3, device='cuda')
    assert torch.equal(torch.cuda.get_rng_state(), before)
