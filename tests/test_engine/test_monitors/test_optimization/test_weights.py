# Copyright (c) OpenMMLab. All rights reserved.
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from torch import nn

from mmpose.engine.monitors import Every, WeightMonitor
from mmpose.engine.monitors.optimization.weights import (_chunks, _histograms,
                                                         bucket_edges,
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
    counts, extremes = count_values(tensors)
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
    assert extremes.tolist() == [everything.min(), everything.max()]


def test_chunks_make_no_difference(monkeypatch):
    from mmpose.engine.monitors.optimization import weights
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


def read(model):
    """The record of a model's weights after an epoch, as one group."""
    records = []
    runner = SimpleNamespace(model=model, iter=1, epoch=0, _train_loop=None)
    monitor = WeightMonitor(Every(1), 1, strict=True)
    monitor.writer = SimpleNamespace(
        write=lambda record, guard: records.append(record))
    monitor.notify('before_train', runner)
    monitor.notify('after_train_epoch', runner)
    return records[0]


@pytest.mark.skipif(
    torch.__version__ < '2', reason='this PyTorch counts nothing on meta')
@pytest.mark.parametrize('value', [0.5, 3e30, float('nan')])
def test_a_group_on_two_devices_is_one_histogram(value):
    """The device 'meta' only says what it was asked to count."""
    model = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 5))
    model[1].bias.data.fill_(value)
    whole = read(model)
    expected, = whole.values(*(t.numpy() for t in whole.tensors))
    there = [model[0].bias, model[1].weight]
    counted = count_values(there)
    model[0].bias, model[1].weight = (
        nn.Parameter(t.to('meta', copy=True)) for t in there)
    apart = read(model)
    on_meta = iter(counted)
    tensors = [
        next(on_meta) if t.is_meta else t.clone() for t in apart.tensors
    ]
    assert not list(on_meta) and len(tensors) == 4
    got, = apart.values(*(t.numpy() for t in tensors))
    np.testing.assert_array_equal(got.counts, expected.counts)
    assert got.counts.sum() == 140 - 5 * np.isnan(value)
    np.testing.assert_allclose(
        [got.min, got.max, got.sum, got.sum_squares],
        [expected.min, expected.max, expected.sum, expected.sum_squares],
        rtol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_a_model_on_two_devices(train, read_events):

    class PutOnCPU(Hook):

        def before_train(self, runner):
            runner.model.unused = nn.Linear(3, 3)
            runner.model.on_both = nn.Linear(3, 3)
            runner.model.on_both.bias = nn.Parameter(torch.ones(3).cuda())

    events = read_events(
        train(dict(weight_hist_interval=1), custom_hooks=[PutOnCPU()]))
    for group in ('unused', 'on_both', 'head/final_layer'):
        assert len(events.Histograms(f'weights/{group}')) == 3
    # Nine weights here, three biases there.
    assert events.Histograms('weights/on_both')[0].histogram_value.num == 12


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


def test_the_standard_deviation_is_that_of_the_weights():
    weights = 0.01 + 0.05 * torch.randn(
        10000, generator=torch.Generator().manual_seed(0))
    counts, extremes = count_values([weights])
    histogram, = _histograms(['a'], counts.numpy(), extremes.numpy())
    mean = histogram.sum / 10000
    deviation = np.sqrt(histogram.sum_squares / 10000 - mean**2)
    assert mean == pytest.approx(float(weights.mean()), rel=0.01)
    assert deviation == pytest.approx(float(weights.std()), rel=0.01)


def test_an_infinite_or_undefined_weight_has_no_bucket():
    values = torch.tensor([1., 2., float('nan'), float('inf'), -float('inf')])
    counts, extremes = count_values([values])
    histogram, = _histograms(['a'], counts.numpy(), extremes.numpy())
    assert histogram.counts.sum() == 2
    assert histogram.min <= 1 and 2 <= histogram.max < 3
    assert np.isfinite([histogram.sum, histogram.sum_squares]).all()


@pytest.mark.parametrize('values', [[1e20, 1., -2.], [3.4e38, -3.4e38, 0.]])
def test_squares_of_large_weights_are_finite(values):
    values = torch.tensor(values)
    counts, extremes = count_values([values])
    values = values.double().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        histogram, = _histograms(['a'], counts.numpy(), extremes.numpy())
    assert histogram.counts.sum() == 3
    assert histogram.min <= min(values) and max(values) <= histogram.max
    assert np.isfinite(histogram.edges).all()
    # As exact as the buckets are narrow.
    assert histogram.sum_squares == pytest.approx(
        np.square(values).sum(), rel=0.15)
    assert histogram.sum == pytest.approx(
        sum(values), rel=0.1, abs=max(values) * 1e-6)


def test_a_group_without_a_finite_weight_has_no_histogram():
    counts, extremes = count_values([torch.full((3, ), float('nan'))])
    assert not list(_histograms(['a'], counts.numpy(), extremes.numpy()))
