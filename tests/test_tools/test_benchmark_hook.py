# Copyright (c) OpenMMLab. All rights reserved.
"""Counts only: a time says nothing on a machine that others use too."""
import json
import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import benchmark_hook
import pytest
import torch
from benchmarks import (counting, goals, hook_parts, models, peers, report,
                        timing)
from benchmarks.training import ARMS, BASE
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools/benchmark_hook.py'


def run(*args):
    return subprocess.run(
        [sys.executable, '-W', 'ignore',
         str(TOOL), *map(str, args)],
        env=dict(os.environ, OMP_NUM_THREADS='1'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True)


@pytest.fixture(scope='module')
def quick(tmp_path_factory):
    """The folder of a quick run's results."""
    folder = tmp_path_factory.mktemp('quick')
    result = run('--quick', '--json', folder / 'all.json', '--markdown',
                 folder / 'page.md')
    assert result.returncode == 0, result.stdout[-3000:]
    return folder


@pytest.fixture(scope='module')
def results(quick):
    return json.loads((quick / 'all.json').read_text())


GROUPS = 10


def layers(count, elements=1000):
    """Parameters in ten modules, which is ten groups."""
    model = nn.Sequential(*(nn.Module() for _ in range(GROUPS)))
    for i in range(count):
        model[i %
              GROUPS].register_parameter(f'layer_{i}',
                                         nn.Parameter(torch.randn(elements)))
    models.fill_gradients(model)
    return model


def writes(make, model, folder, steps=10):
    """What so many readings write, without what every file begins with."""
    sizes = []
    for count in (1, 1 + steps):
        path = f'{folder}/{count}'
        subject = make(model, path)
        for _ in range(count):
            subject.run()
        subject.close()
        sizes.append(counting.written(path))
    return [after - before for before, after in zip(*sizes)]


# What a reading of the hook is


@pytest.mark.parametrize('tensors', [50, 800])
def test_a_reading_of_norms_is_a_few_launches_and_two_events(
        tensors, tmp_path):
    """Far fewer than there are tensors."""
    model = layers(tensors)
    subject = hook_parts.gradient_norms(model, str(tmp_path / 'counted'))
    counts = counting.count(subject.run)
    subject.close()
    assert 0 < counts.launches <= 8
    assert counts.syncs == counts.cuda_syncs == 0
    events, values, size = writes(hook_parts.gradient_norms, model,
                                  str(tmp_path))
    assert events == 2 * 10
    assert values == (GROUPS + 1) * 10
    assert size < 70 * values


@pytest.mark.parametrize('tensors, elements', [(1000, 64), (20, 3200),
                                               (10, 64000)])
def test_histograms_are_so_many_launches_for_each_32768_weights(
        tensors, elements, tmp_path):
    """However many tensors they are in."""
    model = layers(tensors, elements)
    subject = hook_parts.weight_histograms(model, str(tmp_path / 'counted'))
    with counting.Counting() as counted:
        subject.run()
    subject.close()
    # Those that only look at memory in another way launch nothing.
    views = ('view', 'split', 'detach', '_unsafe_view', 'reshape', 'unbind',
             'expand', 'alias', 'select', 'unsqueeze')
    launches = sum(n for name, n in counted.launches.items()
                   if name not in views)
    chunks = GROUPS + tensors * elements / 32768
    assert launches <= 8 * chunks + 12 * GROUPS + 8
    assert not counted.syncs
    events, values, size = writes(hook_parts.weight_histograms, model,
                                  str(tmp_path))
    assert (events, values) == (10, GROUPS * 10)
    assert size < 8000 * values


def test_a_real_model_is_read_as_the_small_ones(results):
    found = results['micro']['RTMPose-m']
    assert found['tensors'] == 191
    assert found['counts']['launches'] <= 8
    assert found['counts']['syncs'] == 0


def test_a_training_brings_no_more_to_the_host(results):
    """P3; but for what the model's own prediction does for the pictures, and
    labels of the batch, which are on the host."""
    runs = results['training']['demo']
    base = runs[BASE]
    assert base['syncs'] > 0
    assert runs['every iteration, no pictures']['syncs'] == base['syncs']
    assert runs['every iteration']['syncs'] <= base['syncs'] + 3
    for arm in ('every iteration', 'every iteration, no pictures'):
        assert runs[arm]['launches'] > base['launches'] + 100
        assert runs[arm]['logged'] == [True] * 4
    # Of pictures 60 KB each, mostly.
    assert 1e5 < runs['every iteration']['bytes'] < 4 * 1e6


def test_the_demo_is_trained_and_looked_into(results):
    """Of the quick run: its tags are those of a long one."""
    demo = results['demo']
    # Two are findings on so short a training.
    assert 50 < demo['scalars'] <= 130 + 2
    assert len(demo['pictures']['val/images']) == 2
    pictures = demo['pictures']
    assert {'train/images', 'val/images', 'keypoints/accuracy'
            } <= set(pictures)
    assert 1e5 < sum(map(sum, pictures.values())) < demo['bytes'] < 3e6


def test_pictures_of_a_training_on_coco_are_few_and_small(results):
    """150 MB, with the figures of 21 validations."""
    found = results['coco_pictures']
    # Every five hundredth of 491,400 iterations, and the first.
    assert found['steps'] == 983
    assert found['steps'] * found['step_bytes'] < found['bytes'] < 150e6
    # Four photographs, beside what is drawn on them.
    assert found['step_bytes'] > 4 * 20e3


def test_the_hook_is_twenty_modules(results):
    count, = results['imports']['modules']
    assert 5 < count <= 20
    assert min(results['imports']['with']) > 0.1


# The page


def test_the_page_holds_every_goal(quick, results):
    page = (quick / 'page.md').read_text()
    rows = goals.goals(results)
    assert len(rows) == 14
    for row in rows:
        assert (f'| {row.what} ' in page) == bool(row.measured)
        assert row.reached
    for words in ('Commit', 'What stands in the way',
                  results['machine']['torch'], '`val/hard_samples`',
                  'Made by `python tools/benchmark_hook.py --quick`'):
        assert words in page


def test_the_page_can_be_made_again_of_what_was_measured(quick):
    again = quick / 'again.md'
    result = run('--from-json', quick / 'all.json', '--markdown', again)
    assert result.returncode == 0, result.stdout
    assert again.read_text() == (quick / 'page.md').read_text()


def test_a_part_that_was_measured_again_takes_the_place_of_the_old(
        quick, results, tmp_path):
    again = json.loads(json.dumps(dict(results, demo=dict(new=1))))
    del again['training']
    again['machine']['Commit'] = 'abc'
    (tmp_path / 'again.json').write_text(json.dumps(again))
    found = benchmark_hook.read([quick / 'all.json', tmp_path / 'again.json'])
    assert found['demo'] == dict(new=1)
    assert found['training'] == results['training']
    assert found['machine']['Commit'] == results['machine']['Commit'] + ', abc'
    assert found['minutes'] == results['minutes']


@pytest.mark.parametrize('more, modules, reached', [(.09, 20, 'yes'),
                                                    (.11, 20, 'no'),
                                                    (.09, 21, 'no')])
def test_a_goal_of_two_limits(more, modules, reached):
    imports = {
        'with': [1 + more, 5 + more, 2 + more],
        'without': [1, 5, 2],
        'modules': [modules] * 3
    }
    row, = (
        row for row in goals.goals(dict(imports=imports))
        if row.what.startswith('import'))
    assert row.reached == reached
    assert row.measured.startswith(f'{more:.2f} s and {modules} modules more')


def test_the_smallest_number_of_rounds_is_named():
    result = run('--repeat', '2')
    assert result.returncode == 2 and 'at least 3, not 2' in result.stdout


def test_what_is_not_installed_is_missing_and_not_zero(tmp_path, monkeypatch,
                                                       results):
    for package in ('lightning.pytorch.loggers', 'composer.callbacks',
                    'wandb'):
        monkeypatch.setitem(sys.modules, package, None)
    readers = peers.gradient_readers(layers(3), str(tmp_path))
    missing = {name for name, reader in readers.items() if reader is None}
    assert missing == {'Lightning', 'Composer', 'wandb.watch'}
    timing.close({n: r for n, r in readers.items() if r is not None})

    times = results['micro']['RTMPose-m']['gradients']
    monkeypatch.setitem(times, 'Lightning', None)
    row, ratios = [
        line for line in report.markdown(results).splitlines()
        if line.startswith('| RTMPose-m') and 'missing' in line
    ][:2]
    assert 'missing' in row and 'missing' in ratios
    goal = goals.goals(results)[0]
    assert 'Lightning' in goal.what and goal.reached == 'not measured'


@pytest.mark.parametrize('name', [
    name for name in peers.READERS
    if name not in ('Lightning', 'Composer', 'wandb.watch')
])
def test_a_reader_reads_and_changes_no_gradient(name, tmp_path):
    model = layers(30)
    gradients = [p.grad.clone() for p in model.parameters()]
    reader = peers.READERS[name](model, str(tmp_path))
    reader.run()
    reader.settle()
    reader.close()
    for parameter, before in zip(model.parameters(), gradients):
        assert torch.equal(parameter.grad, before)


# Counting


@pytest.mark.parametrize('function, syncs', [
    (lambda x: x.sum().item(), 1),
    (lambda x: float(x.sum()), 1),
    (lambda x: bool(x.sum() > 0), 1),
    (lambda x: x.tolist(), 1),
    (lambda x: x.numpy(), 1),
    (lambda x: x.nonzero(), 1),
    (lambda x: x.sum(), 0),
    (lambda x: x.cpu(), 0),
])
def test_values_brought_to_the_host_are_counted_once(function, syncs):
    x = torch.ones(5)
    assert counting.count(lambda: function(x)).syncs == syncs


@pytest.mark.parametrize('function, syncs', [
    (lambda x, host: x.to('cpu'), 1),
    (lambda x, host: x.to(device='cpu', dtype=torch.half), 1),
    (lambda x, host: x.to(host), 1),
    (lambda x, host: x.cpu(), 1),
    (lambda x, host: host.copy_(x), 1),
    (lambda x, host: host.copy_(x, non_blocking=True), 0),
    (lambda x, host: x.copy_(host), 0),
    (lambda x, host: host.to('meta'), 0),
    (lambda x, host: x.double(), 0),
    (lambda x, host: host.double(), 0),
])
def test_copies_to_the_host_are_counted_once(function, syncs):
    """A device without data stands for one, which a GPU need not."""
    x, host = torch.ones(5, device='meta'), torch.ones(5)
    with counting.Counting() as counted, suppress(NotImplementedError):
        function(x, host)
    assert sum(counted.syncs.values()) == syncs


def test_operators_are_counted():
    x = torch.ones(5)
    assert counting.count(lambda: x.add(1).mul(2)).launches == 2


# Timing


def test_subjects_take_turns_and_nobody_is_always_first():
    calls = []
    subjects = {
        name: timing.Subject(
            lambda name=name: calls.append(name),
            lambda name=name: calls.append(f'{name} settled'))
        for name in 'ab'
    }
    times = timing.interleave(subjects, 3)
    rounds = [calls[i:i + 4] for i in range(0, len(calls), 4)]
    assert len(rounds) == 4
    for first, then, second, last in rounds:
        assert {first, second} == {'a', 'b'}
        assert (then, last) == (f'{first} settled', f'{second} settled')
    assert {first for first, *_ in rounds} == {'a', 'b'}
    assert all(len(t.run) == len(t.settle) == 3 for t in times.values())


def test_who_takes_long_has_three_rounds():
    subjects = dict(
        slow=timing.Subject(lambda: time.sleep(0.02)),
        fast=timing.Subject(lambda: None))
    times = timing.interleave(subjects, 6, budget=0.05)
    assert len(times['slow'].run) == 3 and len(times['fast'].run) == 6


def test_a_difference_within_the_spread_is_not_distinguishable():
    base = [10., 11, 12, 10, 11]
    noisy = [11., 10, 12.5, 10.5, 10]
    assert not timing.is_distinguishable(noisy, base)
    assert timing.is_distinguishable([2 * x for x in base], base)


def training_of(extra, logged=(), inside=0.):
    """A run whose iterations take 100 ms, noise, and ``extra``."""
    noise = random.Random(0)
    times = [
        100 + noise.gauss(0, 5) + (extra[0] if i in logged else extra[1])
        for i in range(500)
    ]
    return dict(
        times=times,
        behind=[0.] * 500,
        inside=[inside] * 500,
        logged=[i in logged for i in range(500)])


def test_the_cost_of_rare_readings_is_added_up():
    """Of every hundredth iteration 40 ms, of the others 1 ms."""
    logged = range(0, 500, 100)
    base = training_of((0, 0))
    found = goals.cost(training_of((40, 1), logged, 1.), base)
    assert found.added_up == pytest.approx(1.39, abs=0.05)
    assert found.direct == pytest.approx(1.39, abs=0.05)
    assert found.inside == pytest.approx(1, abs=0.01)
    assert found.is_distinguishable


def test_a_cost_below_the_noise_is_not_distinguishable():
    base = training_of((0, 0))
    run = training_of((0, 0))
    random.Random(1).shuffle(run['times'])
    found = goals.cost(run, base)
    assert not found.is_distinguishable
    results = dict(training=dict(demo={BASE: base, 'balanced': run}))
    goal = next(g for g in goals.goals(results) if "'balanced'" in g.what)
    assert 'not distinguishable' in goal.measured


def test_every_arm_is_a_config_that_the_hook_takes():
    from mmpose.registry import HOOKS
    for arm in ARMS.values():
        if arm:
            HOOKS.build(dict(arm))
