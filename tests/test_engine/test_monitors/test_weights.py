# Copyright (c) OpenMMLab. All rights reserved.
import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from torch import nn

from mmpose.engine.monitors.weights import (_chunks, _histograms, bucket_edges,
                                            count_values)


def spread(n=20000):
    """Numbers of every size, and those on which edges lie."""
    generator = torch.Generator().manual_seed(0)
    exponents = torch.empty(n).uniform_(-30, 30, generator=generator)
    signs = torch.randint(2, (n, ), generator=generator) * 2 - 1
    on_edges = torch.tensor([0., -0., 1, -1, 1.125, -1.125, 2**-20, -(2**-20)])
    return torch.cat([signs * 2**exponents, on_edges])


def test_edges_ascend_from_minus_to_plus_infinity():
    edges = bucket_edges()
    assert len(edges) == 4097
    finite = edges[np.isfinite(edges)]
    assert (np.diff(finite) > 0).all()
    assert finite[-1] > 3e38 and finite[0] == -finite[-1]


@pytest.mark.parametrize('shapes', [[(20008, )], [(8, 1, 1), (200, 25, 4)]])
def test_counts_are_those_of_numpy(shapes):
    """Every element, and at an edge in the bucket further from zero."""
    values = spread()
    tensors = []
    for shape in shapes:
        n = int(np.prod(shape))
        tensors.append(values[:n].reshape(shape))
        values = values[n:]
    counts, moments = count_values(tensors)
    edges = bucket_edges()
    everything = torch.cat([t.reshape(-1) for t in tensors]).numpy()
    finite = edges[np.isfinite(edges) & ~np.signbit(edges)]
    is_negative = np.signbit(everything)
    first = len(edges) // 2
    for values, got in ((everything[~is_negative], counts[first:]),
                        (-everything[is_negative], counts[:first].flip(0))):
        expected, _ = np.histogram(values, finite)
        np.testing.assert_array_equal(got[:len(expected)], expected)
    assert counts.sum() == len(everything)
    np.testing.assert_allclose(
        moments.numpy(), [
            everything.min(),
            everything.max(),
            everything.sum(dtype=np.float64),
            np.square(everything, dtype=np.float64).sum()
        ],
        rtol=1e-5)


def test_chunks_make_no_difference(monkeypatch):
    from mmpose.engine.monitors import weights
    whole, _ = count_values([spread()])
    monkeypatch.setattr(weights, '_CHUNK_ON_CPU', 1000)
    chunked, _ = count_values([spread()])
    assert torch.equal(whole, chunked)


@pytest.mark.parametrize('lengths', [[7], [10], [25], [3, 3, 3, 3],
                                     [9, 1, 1, 30, 2, 10, 10, 1]])
def test_every_element_is_in_one_chunk(lengths):
    """Long tensors are cut, and short ones put together."""
    tensors = torch.arange(sum(lengths)).split(lengths)
    chunks = list(_chunks(tensors, 10))
    assert torch.cat(chunks).tolist() == list(range(sum(lengths)))
    assert max(map(len, chunks)) <= 10
    # No two neighbours would have fitted into one.
    assert all(len(a) + len(b) > 10 for a, b in zip(chunks, chunks[1:]))
    assert len(chunks) <= 2 * -(-sum(lengths) // 10)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_a_gpu_counts_the_same():
    on_cpu, _ = count_values([spread()])
    on_gpu, _ = count_values([spread().cuda()])
    assert torch.equal(on_gpu.cpu(), on_cpu)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_a_model_on_two_devices(train, read_events):

    class PutOnCPU(Hook):

        def before_train(self, runner):
            runner.model.unused = nn.Linear(3, 3)

    events = read_events(
        train(dict(weight_hist_interval=1), custom_hooks=[PutOnCPU()]))
    for group in ('unused', 'head/final_layer'):
        assert len(events.Histograms(f'weights/{group}')) == 3


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_counted_exactly(dtype):
    values = torch.linspace(-2, 2, 999).to(dtype)
    half, _ = count_values([values])
    single, _ = count_values([values.float()])
    assert torch.equal(half, single)


def test_the_tensors_are_not_touched():
    """P1."""
    parameter = torch.nn.Parameter(spread())
    before = parameter.detach().clone()
    state = torch.get_rng_state()
    counts, _ = count_values([parameter])
    assert torch.equal(parameter.detach(), before)
    assert not counts.requires_grad
    assert torch.equal(torch.get_rng_state(), state)


def test_an_infinite_or_undefined_weight_has_no_bucket():
    values = torch.tensor([1., 2., float('nan'), float('inf'), -float('inf')])
    counts, moments = count_values([values])
    histogram, = _histograms(['a'], counts.numpy(), moments.numpy())
    assert histogram.counts.sum() == 2
    assert histogram.min <= 1 and 2 <= histogram.max < 3
    assert np.isfinite([histogram.sum, histogram.sum_squares]).all()


def test_a_group_without_a_finite_weight_has_no_histogram():
    counts, moments = count_values([torch.full((3, ), float('nan'))])
    assert not list(_histograms(['a'], counts.numpy(), moments.numpy()))
