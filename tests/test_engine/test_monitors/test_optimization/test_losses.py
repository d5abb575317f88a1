# Copyright (c) OpenMMLab. All rights reserved.
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.hooks import RuntimeInfoHook
from mmengine.logging import MessageHub
from stepping import Written, no_waiting
from torch import nn

from mmpose.engine.monitors import Every, LossMonitor
from mmpose.engine.monitors.core.measurements import Losses
from mmpose.engine.monitors.core.statistics.recent_losses import RecentLosses
from mmpose.engine.monitors.optimization.losses import LossSettings

NAN, INF = float('nan'), float('inf')


def read(outputs, *args, **kwargs):
    """The readings of a training with these outputs, by their steps."""
    return written(outputs, *args, **kwargs).readings


def written(outputs,
            interval=1,
            first=0,
            end=True,
            data=None,
            batch_size=None,
            around=nullcontext):
    """What has taken the place of a writer in that training."""
    monitor = LossMonitor(Every(interval), strict=True)
    monitor.writer = Written()
    runner = SimpleNamespace(
        iter=first,
        model=nn.Module(),
        train_dataloader=SimpleNamespace(batch_size=batch_size),
        message_hub=MessageHub('losses'))
    monitor.notify('before_train', runner)
    for output, batch in zip(outputs, data or [None] * len(outputs)):
        RuntimeInfoHook().after_train_iter(runner, 0, batch, output)
        with around():
            monitor.notify('after_train_iter', runner, 0, batch, output)
        runner.iter += 1
    if end:
        monitor.notify('after_train', runner)
    return monitor.writer


def measured(outputs):
    """The measurements of a training with these outputs."""
    return [
        value for record in written(outputs).records
        for value in record.read() if isinstance(value, Losses)
    ]


def losses(values, name='loss'):
    return [{name: torch.tensor(float(value))} for value in values]


def batches(sizes):
    return [dict(inputs=[None] * size) for size in sizes]


def noisy(count, seed=0):
    """Losses of a healthy training, as scattered as small batches are."""
    rng = np.random.default_rng(seed)
    falling = 4 * np.exp(-np.arange(count) / 300) + 0.5
    return falling * np.exp(0.25 * rng.standard_normal(count))


def test_every_loss_counts_once_also_between_readings():
    values = noisy(250)
    readings = read(losses(values), interval=100)
    assert list(readings) == [1, 100, 200, 250]
    tag = 'health/loss/median'
    assert readings[1][tag] == pytest.approx(values[0])
    # Of the 99 new ones and those before, up to 101.
    assert readings[100][tag] == pytest.approx(np.median(values[:100]))
    assert readings[200][tag] == pytest.approx(np.median(values[99:200]))
    assert readings[250][tag] == pytest.approx(np.median(values[149:250]))
    last = values[149:250]
    assert readings[250]['health/loss/deviation'] == pytest.approx(
        1.4826 * np.median(abs(last - np.median(last))), rel=1e-5)


@pytest.mark.parametrize('interval', [1, 7, 100])
@pytest.mark.parametrize('value', [NAN, INF, -INF])
def test_the_exact_step_of_a_nonfinite_loss(interval, value):
    outputs = losses(noisy(130))
    outputs[36]['loss_kpt'] = torch.tensor(1.)
    outputs[37]['loss_kpt'] = torch.tensor(value)
    outputs[38]['loss'] = torch.tensor(value)
    readings = read(outputs, interval)
    found = {}
    for reading in readings.values():
        for tag, step in reading.items():
            if 'nonfinite' in tag:
                assert tag not in found
                found[tag] = step
    assert found == {
        'health/nonfinite_loss/loss_kpt': 38,
        'health/nonfinite_loss/loss': 39
    }
    # It is left out of the rest.
    for reading in readings.values():
        assert np.isfinite(list(reading.values())).all()


def test_a_reading_of_nothing_but_nan():
    readings = read(losses([NAN] * 4), interval=2)
    assert readings == {
        1: {
            'health/nonfinite_loss/loss': 1
        },
        2: {
            'health/nonfinite_loss/loss': 2
        },
        # Before it is due: the training may die of it.
        3: {
            'health/nonfinite_loss/loss': 3
        }
    }


def test_batches_without_annotations_do_not_count():
    """Their loss is 0, beside which everything is large."""
    readings = read(losses([0, 3, 0, 5]), interval=2)
    assert 1 not in readings
    assert readings[2]['health/loss/median'] == 3
    assert readings[4]['health/loss/median'] == 4


def test_the_rest_of_an_epoch_is_no_whole_batch():
    """Of few samples the loss scatters by more, which is no spike."""
    sizes = ([8] * 39 + [1]) * 10
    values = noisy(400) * np.where(np.array(sizes) < 8, 20, 1)
    outputs = losses(values)
    outputs[79]['loss'] = torch.tensor(NAN)
    readings = read(outputs, 100, data=batches(sizes), batch_size=8)
    scores = [
        reading['health/loss/spike_score'] for reading in readings.values()
        if 'health/loss/spike_score' in reading
    ]
    assert len(scores) == 3 and max(scores) < 6
    # It may be NaN all the same.
    assert readings[80]['health/nonfinite_loss/loss'] == 80
    # Where the loader has no size, no batch is less than whole.
    readings = read(outputs, 100, data=batches(sizes))
    assert max(
        reading.get('health/loss/spike_score', 0)
        for reading in readings.values()) > 6


def test_steps_go_on_where_a_training_is_resumed():
    readings = read(losses([1, NAN, 1]), interval=10000, first=5020)
    assert list(readings) == [5022, 5023]
    assert readings[5022]['health/nonfinite_loss/loss'] == 5022


@pytest.mark.parametrize('interval', [1, 10, 100])
def test_a_spike_is_seen_at_its_step(interval):
    values = noisy(400)
    values[233] *= 20
    readings = read(losses(values), interval)
    scores = {
        reading['health/loss/spike_step']: reading
        for reading in readings.values()
        if 'health/loss/spike_score' in reading
        and reading['health/loss/spike_score'] > 6
    }
    assert list(scores) == [234]
    around = values[183:284]
    ratio = values[233] / np.median(around)
    assert scores[234]['health/loss/spike_ratio'] == pytest.approx(
        ratio, rel=1e-4)
    logs = np.log(around)
    scatter = 1.4826 * np.median(abs(logs - np.median(logs)))
    assert scores[234]['health/loss/spike_score'] == pytest.approx(
        np.log(ratio) / scatter, rel=1e-4)


@pytest.mark.parametrize('name, curve', [
    ('falls', lambda i: 5 * np.exp(-i / 20) + 0.1),
    ('drops', lambda i: np.where(i < 300, 1., 0.1)),
    ('rises', lambda i: np.where(i < 300, 1., 10.)),
    ('diverges', lambda i: np.exp(i / 40)),
    ('stands', lambda i: 1. + 0 * i),
    ('is zero now and then', lambda i: 1. * (i % 9 > 0)),
    ('turns negative', lambda i: 30 - i / 10),
])
def test_a_curve_that_changes_its_course_has_no_spike(name, curve):
    i = np.arange(600)
    for seed in range(3):
        noise = np.exp(0.3 *
                       np.random.default_rng(seed).standard_normal(len(i)))
        values = curve(i)
        # A likelihood has its scatter for itself.
        values = values + noise if (values < 0).any() else values * noise
        for reading in read(losses(values), 50).values():
            assert reading.get('health/loss/spike_score', 0) < 6


@pytest.mark.parametrize(
    'scatter, height, score',
    [
        (2., 50., 25.),
        # Of such a loss 5 % are nothing.
        (0.1, 5., 5.),
    ])
def test_a_spike_of_a_loss_that_is_negative(scatter, height, score):
    noise = np.random.default_rng(0).standard_normal(150)
    values = -20 + scatter * noise
    values[70] = -20 + height
    recent = RecentLosses()
    recent.add(np.arange(1, 151), values)
    spike = recent.spike()
    assert spike.step == 71 and spike.ratio is None
    assert spike.score == pytest.approx(score, rel=0.2)


def test_accuracies_and_other_things_are_no_losses():
    readings = read([
        dict(loss=torch.tensor(1.), acc_pose=torch.tensor(NAN))
        for _ in range(3)
    ])
    assert not [t for r in readings.values() for t in r if 'nonfinite' in t]


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
def test_other_types_of_losses(dtype):
    outputs = [dict(loss=torch.tensor([2.], dtype=dtype)) for _ in range(3)]
    assert read(outputs)[3]['health/loss/median'] == 2


def test_what_is_held_back_is_bounded():
    """P6: also if it is never due."""
    outputs = losses([1.] * 2500)
    outputs[1700]['loss'] = torch.tensor(NAN)
    # A spike is known 50 iterations later, of the last 1000 batches.
    assert list(read(outputs, interval=100000)) == [1, 901, 1701, 1801, 2500]
    assert read(outputs, interval=0) == {}


def test_nothing_waits_for_the_device():
    """P3: MMEngine has the losses on the host already."""
    readings = read(losses(noisy(300)), 100, around=no_waiting)
    assert len(readings) == 4


def test_a_loss_that_is_not_finite_is_known_before_the_next_iteration():
    """Of which the training may die, long before the next reading."""
    outputs = losses([*noisy(129), NAN])
    readings = read(outputs, interval=100, end=False)
    assert readings[130] == {'health/nonfinite_loss/loss': 130}
    # Once between two readings is enough.
    readings = read(losses([*noisy(129), *[NAN] * 100]), interval=100)
    assert list(readings) == [1, 100, 130, 200, 201]


def test_the_settings_that_a_loss_depends_on():
    """Weights, also in lists and dicts, flags, and the pipeline."""
    model = nn.Sequential()
    model.add_module('head', type('Head', (nn.Module, ), {})())
    head = model.head
    head.loss_weight, head.use_aux_loss, head.other = 1, False, 3.
    head.loss_weights = dict(kpt=1., name='a')
    head.weights = [2., 3.]
    dataset = SimpleNamespace(pipeline=object())
    settings = LossSettings(model, dataset)
    before = dict(settings.values())
    assert before == {
        'pipelines': 0,
        'head.loss_weight': 1,
        'head.use_aux_loss': 0,
        'head.loss_weights.kpt': 1,
        'head.weights.0': 2,
        'head.weights.1': 3
    }
    head.loss_weights['kpt'] = 22.
    # As PipelineSwitchHook and YOLOXPoseModeSwitchHook do.
    dataset.pipeline = object()
    assert dict(settings.values()) == {
        **before, 'head.loss_weights.kpt': 22,
        'pipelines': 1
    }
    assert settings.values() == settings.values()


def test_losses_that_only_some_batches_have_change_no_terms():
    """Defect: in each measurement, the comparison began anew."""
    outputs = [
        dict(loss=torch.tensor(3.), **{f'loss_{i % 2}': torch.tensor(3.)})
        for i in range(6)
    ]
    terms = [losses.terms for losses in measured(outputs)]
    assert terms[0] != terms[1] and len(set(terms[1:])) == 1


def test_how_many_losses_a_median_is_of():
    outputs = losses(np.arange(300, 0, -1))
    found = [
        value for record in written(outputs, interval=150).records
        for value in record.read() if isinstance(value, Losses)
    ]
    assert [(m.count, m.new, m.lowest) for m in found] == [(1, 1, 300),
                                                           (149, 149, 151),
                                                           (150, 150, 1)]


def test_single_losses_have_medians():
    outputs = [
        dict(
            loss=torch.tensor(3.),
            loss_a=torch.tensor(float(i)),
            loss_b=torch.tensor(2.)) for i in range(1, 6)
    ]
    assert measured(outputs)[-1].parts == dict(loss_a=3, loss_b=2)
    # One says nothing that the sum does not say.
    assert measured(losses([1., 2., 3.]))[-1].parts == {}
