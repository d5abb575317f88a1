# Copyright (c) OpenMMLab. All rights reserved.
import pytest
import torch
from torch import nn

from mmpose.engine.monitors.optimization import norms as norms_module
from mmpose.engine.monitors.optimization.norms import cut, named_norms


def norms_of(grads):
    found = {}
    for names, norms in named_norms(cut(list(grads), list(grads.values()))):
        found.update(zip(names, norms.tolist()))
    return found


def test_each_norm_by_its_name():
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


def test_one_launch_for_all_gradients_of_a_type(monkeypatch):
    calls = []
    foreach_norm = torch._foreach_norm
    monkeypatch.setattr(
        torch, '_foreach_norm',
        lambda tensors: calls.append(len(tensors)) or foreach_norm(tensors))
    norms_of({str(i): torch.ones(i + 1) for i in range(100)})
    assert calls == [100]


def small_gradients(dtype=torch.float32):
    """Small ones of two shapes, and all that is not to be among them."""
    generator = torch.Generator().manual_seed(0)

    def randn(*shape):
        return torch.randn(*shape, generator=generator).to(dtype)

    grads = {f'bias{i}': randn(50) for i in range(20)}
    grads.update({f'kernel{i}': randn(4, 3, 3, 3) for i in range(17)})
    grads.update({f'scale{i}': randn(()) for i in range(20)})
    grads.update({f'empty{i}': randn(0, 3) for i in range(20)})
    grads.update(few=randn(7), large=randn(300, 300))
    last = torch.channels_last
    grads['kernel2'] = grads['kernel2'].contiguous(memory_format=last)
    return grads


@pytest.mark.parametrize('dtype',
                         [torch.float32, torch.float64, torch.bfloat16])
def test_small_gradients_of_a_shape_are_put_side_by_side(monkeypatch, dtype):
    grads = small_gradients(dtype)
    put, cat = [], torch.cat
    monkeypatch.setattr(torch, 'cat',
                        lambda tensors: put.append(tensors) or cat(tensors))
    found = norms_of(grads)
    assert [(len(tensors), tensors[0].shape)
            for tensors in put[:-1]] == [(20, (50, )), (17, (4, 3, 3, 3))]
    assert found == pytest.approx(
        {name: grad.double().norm().item()
         for name, grad in grads.items()})


def test_no_more_are_put_side_by_side_than_one_core_takes(monkeypatch):
    grads = {str(i): torch.full((4096, ), float(i)) for i in range(40)}
    put, cat = [], torch.cat
    monkeypatch.setattr(
        torch, 'cat', lambda tensors: put.append(len(tensors)) or cat(tensors))
    assert norms_of(grads) == pytest.approx(
        {name: 64 * float(name)
         for name in grads})
    assert put[:-1] == [8] * 5


def test_small_gradients_that_are_missing_or_sparse():
    parameters = {str(i): nn.Parameter(torch.zeros(3, 3)) for i in range(40)}
    for i, parameter in enumerate(parameters.values()):
        if i % 4:
            grad = torch.full((3, 3), float(i))
            parameter.grad = grad.to_sparse() if i == 5 else grad
    (names, norms), = named_norms(
        cut(parameters, parameters.values()), attribute='grad')
    assert dict(zip(names, norms.tolist())) == pytest.approx(
        {str(i): 3. * i
         for i in range(40) if i % 4})
    for parameter in parameters.values():
        parameter.grad = None
    assert named_norms(cut(parameters, parameters.values()), 'grad') == []


def test_small_parameters_that_were_given_other_shapes():
    parameters = {str(i): nn.Parameter(torch.zeros(4)) for i in range(16)}
    pieces = cut(parameters, parameters.values())
    for i, parameter in enumerate(parameters.values()):
        parameter.data = torch.zeros(2 + 4 * (i % 2))
        parameter.grad = torch.ones_like(parameter)
    (names, norms), = named_norms(pieces, attribute='grad')
    assert dict(zip(names, norms.tolist())) == pytest.approx(
        {str(i): (2 + 4 * (i % 2))**0.5
         for i in range(16)})


def test_many_gradients_on_the_cpu_are_shared_between_its_cores(monkeypatch):
    """Each norm is the same to the bit, and in its place."""
    generator = torch.Generator().manual_seed(0)
    sizes = [5, 1 << 21, 3, 1 << 19, 7, 1 << 20, 1 << 20, 2]
    grads = [torch.randn(size, generator=generator) for size in sizes]
    alone = {
        name: torch._foreach_norm([grad])[0].item()
        for name, grad in zip('01234567', grads)
    }
    calls = []
    foreach_norm = torch._foreach_norm

    def counting(tensors):
        calls.append(len(tensors))
        assert not torch.is_grad_enabled()
        return foreach_norm(tensors)

    monkeypatch.setattr(torch, 'get_num_threads', lambda: 2)
    monkeypatch.setattr(torch, '_foreach_norm', counting)
    pieces = cut('01234567', grads)
    assert pieces[0].names == ('1', )  # The longest, so none ends last.
    (names, norms), = named_norms(pieces)
    assert dict(zip(names, norms.tolist())) == alone
    assert len(calls) > 1 and sum(calls) == len(grads)


def test_what_a_gpu_is_to_do_is_said_by_the_calling_thread(monkeypatch):
    """Another thread may have another stream, and there are large copies."""

    def share(*_):
        pytest.fail('shared between threads')

    monkeypatch.setattr(norms_module, 'share', share)
    put, cat = [], torch.cat
    monkeypatch.setattr(
        torch, 'cat', lambda tensors: put.append(len(tensors)) or cat(tensors))
    grads = [torch.ones(200, 200, device='meta')] * 120
    (names, norms), = named_norms(cut(map(str, range(120)), grads))
    assert len(names) == 120 and norms.shape == (120, )
    assert put[:-1] == [104, 16]
