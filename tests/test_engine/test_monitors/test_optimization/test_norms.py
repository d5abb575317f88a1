# Copyright (c) OpenMMLab. All rights reserved.
import pytest
import torch
from torch import nn

from mmpose.engine.monitors.optimization.norms import named_norms


def norms_of(grads):
    found = {}
    for names, norms in named_norms(grads.items()):
        found.update(zip(names, norms.tolist()))
    return found


@pytest.mark.parametrize('at_once', [True, False])
def test_each_norm_by_its_name(at_once, monkeypatch):
    if not at_once:  # PyTorch before 1.13, which MMPose's CI has.
        monkeypatch.delattr(torch, '_foreach_norm', raising=False)
    generator = torch.Generator().manual_seed(0)
    grads = {
        str(i): torch.randn(i + 1, 3, generator=generator)
        for i in range(5)
    }
    grads['double'] = torch.randn(7, generator=generator, dtype=torch.float64)
    found = norms_of(grads)
    assert found.keys() == grads.keys()
    for name, grad in grads.items():
        assert found[name] == pytest.approx(
            grad.double().square().sum().sqrt().item(), rel=1e-6)


def test_a_half_precision_norm_does_not_overflow():
    grad = torch.full((1000, ), 3e4, dtype=torch.float16)
    assert norms_of(dict(a=grad))['a'] == pytest.approx(
        grad.double().norm().item(), rel=1e-5)


def test_a_sparse_gradient_is_summed_before_it_is_squared():
    embedding = nn.Embedding(10, 4, sparse=True)
    embedding(torch.tensor([1, 1, 2])).square().sum().backward()
    grad = embedding.weight.grad
    assert grad.is_sparse and not grad.is_coalesced()
    dense = grad.to_dense()
    assert norms_of(dict(a=grad))['a'] == pytest.approx(dense.norm().item())
    assert not grad.is_coalesced()


def test_one_sparse_gradient_among_dense_ones():
    weight = torch.eye(3)
    grads = dict(a=weight, b=weight.to_sparse(), c=2 * weight)
    found = norms_of(grads)
    assert found == pytest.approx(dict(a=3**0.5, b=3**0.5, c=2 * 3**0.5))


@pytest.mark.skipif(
    not hasattr(torch, '_foreach_norm'), reason='PyTorch is older than 1.13')
def test_one_launch_for_all_gradients_of_a_type(monkeypatch):
    calls = []
    foreach_norm = torch._foreach_norm
    monkeypatch.setattr(
        torch, '_foreach_norm', lambda tensors, order: calls.append(
            len(tensors)) or foreach_norm(tensors, order))
    norms_of({str(i): torch.ones(i + 1) for i in range(100)})
    assert calls == [100]
