# Copyright (c) OpenMMLab. All rights reserved.
"""Trainings on two real processes, over gloo on the CPU.

All are made in one pair of processes, one after the other, since a process
takes long to start. One that hangs fails all that come after it.
"""
import functools
import hashlib
import json
import random
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from noisy_poses import (comparable, keypoint_scalars, runner_cfg, topdown_cfg,
                         warnings_of, write_coco)
from run_logs import read_run
from torch import distributed, nn
from two_processes import make_runs, results_of, start_two

from mmpose.engine.hooks import EnhancedTensorBoardHook
from mmpose.engine.monitors.core.statistics import recent_losses
from mmpose.engine.monitors.optimization import gradients
from mmpose.registry import HOOKS, MODELS, OPTIM_WRAPPER_CONSTRUCTORS

# What the report says comes from these, which no test imports.
NEEDS = ('HealthMonitor', 'NonfiniteDetector', 'NonfiniteLossDetector',
         'LossSpikeDetector', 'OtherRanksMonitor')
# MMPose supports versions of PyTorch that do not have it.
TorchDispatchMode = pytest.importorskip(
    'torch.utils._python_dispatch').TorchDispatchMode

# Everything at every iteration.
ALWAYS = dict(
    grad_norm_interval=1,
    weight_hist_interval=1,
    train_image_interval=1,
    val_image_interval=1,
    log_train_images=True,
    log_graph=True)
NUMBERS_ONLY = dict(
    grad_norm_interval=1,
    log_val_images=False,
    hard_samples=0,
    log_model_stats=False,
    log_run_info=False)

# Before, a mode like that knows no ``torch.Tensor(...)``, as MMEngine has it.
CAN_COUNT = torch.__version__ >= '2'


class Collectives(TorchDispatchMode):
    """Counts what processes do together, DDP's own included."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.name().startswith('c10d::')
        return func(*args, **(kwargs or {}))


@HOOKS.register_module(force=True)
class CollectivesByIteration(Hook):
    """Remembers how many there were up to the end of each iteration."""
    priority = 'LOWEST'

    def __init__(self, collectives: Collectives) -> None:
        self.collectives = collectives
        self.counts = []

    def before_train(self, runner) -> None:
        self.counts.append(self.collectives.count)

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        self.counts.append(self.collectives.count)


@HOOKS.register_module(force=True)
class SlowFirst(Hook):
    """Keeps the first process from its work.

    When they exchange what they have read of a validation, the other one is
    kept from it the next time.
    """

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        if distributed.get_rank() == 0:
            time.sleep(0.1)

    after_val_iter = after_train_iter

    def after_val_epoch(self, runner, metrics) -> None:
        if distributed.get_rank() == runner.epoch - 1:
            time.sleep(1)


def state_of(runner) -> str:
    """A digest of all that a training leaves behind in a process."""
    state = comparable([
        runner.model.state_dict(),
        runner.optim_wrapper.state_dict(),
        torch.get_rng_state(),
        np.random.get_state(),
        random.getstate(),
        [module.training for module in runner.model.modules()],
        [
            hook.ema_model.state_dict() for hook in runner.hooks
            if isinstance(hook, EMAHook)
        ],
    ])
    return hashlib.sha256(repr(state).encode()).hexdigest()


def train(work_dir, hook=None, make_cfg=topdown_cfg, other_hooks=(), **kwargs):
    """Train and say what came of it, in each process for itself.

    Args:
        work_dir (str): Where to write.
        hook (dict, optional): What to give the hook. Defaults to None: there
            is none.
        make_cfg (Callable): Makes the arguments of the Runner.
        other_hooks (list[dict]): Those that are there besides.
        **kwargs: Replaces arguments of the Runner.
    """
    collectives = Collectives()
    counter = CollectivesByIteration(collectives)
    wrapper = dict(type='MMDistributedDataParallel')
    wrapper.update(kwargs.pop('model_wrapper_cfg', {}), device_ids=None)
    cfg = make_cfg(work_dir, hook or {}, launcher='pytorch', **kwargs)
    if hook is None:
        cfg['custom_hooks'] = []
    cfg['custom_hooks'] += [*other_hooks, counter]
    cfg['cfg'] = dict(model_wrapper_cfg=wrapper)
    runner = Runner(**cfg)
    with collectives if CAN_COUNT else nullcontext():
        runner.train()
    failures, off = 0, []
    for hook in runner.hooks:
        if isinstance(hook, EnhancedTensorBoardHook):
            failures = sum(m.guard.failures for m in hook.monitors)
            off = [m.guard.name for m in hook.monitors if m.guard.tripped]
    return dict(
        iters=runner.iter,
        state=state_of(runner),
        collectives=np.diff(counter.counts).tolist(),
        failures=failures,
        off=off)


def top_down(hook=None, **kwargs):
    """Trains a small top-down model, two epochs of three iterations."""

    def run(work_dir):
        return train(
            work_dir,
            hook,
            ann_file=Path(work_dir).parent / 'annotations.json',
            **kwargs)

    return run


def failing_first(work_dir):
    """As :func:`top_down`, but the first process cannot read gradients."""

    def fail(*args):
        raise RuntimeError('broken on purpose')

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradients, 'named_norms', fail)
        return top_down(dict(NUMBERS_ONLY, strict=False))(work_dir)


@HOOKS.register_module(force=True)
class SpoilSecond(Hook):
    """Spoils the targets of a batch of the second process, and notes which.

    Args:
        step (int): The step.
        factor (float): What they are multiplied by.
        samples (int): How many of the batch.
        file (str): Where to write their ids.
    """
    priority = 'HIGHEST'

    def __init__(self, step, factor, samples, file) -> None:
        self.step = step
        self.factor = factor
        self.samples = samples
        self.file = file

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if distributed.get_rank() == 1 and runner.iter + 1 == self.step:
            spoiled = data_batch['data_samples'][:self.samples]
            for sample in spoiled:
                sample.gt_fields.heatmaps *= self.factor
            ids = [int(sample.id) for sample in spoiled]
            Path(self.file).write_text(json.dumps(ids))


def spoiled_second(interval, step, factor, samples):
    """As :func:`top_down`, but the second process has spoiled targets."""

    def run(work_dir):
        hook = dict(
            type='SpoilSecond',
            step=step,
            factor=factor,
            samples=samples,
            file=f'{work_dir}.spoiled')
        with pytest.MonkeyPatch.context() as patch:
            # A spike is seen after so many further losses.
            patch.setattr(recent_losses, '_REACH', 6)
            return top_down(
                dict(NUMBERS_ONLY, grad_norm_interval=interval),
                other_hooks=[hook],
                train_cfg=dict(by_epoch=True, max_epochs=8, val_interval=8))(
                    work_dir)

    return run


@MODELS.register_module(force=True)
class TwoParts(BaseModel):
    """Two parts, each with an optimizer, as a GAN has."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.critic = nn.Linear(4, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        raise NotImplementedError

    def train_step(self, data, optim_wrapper):
        means = torch.stack([i.float().mean((1, 2)) for i in data['inputs']])
        loss = self.critic(self.generator(means)).square().mean()
        loss.backward()
        for wrapper in optim_wrapper.values():
            wrapper.step()
            wrapper.zero_grad()
        return dict(loss=loss.detach())


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(force=True)
class OneForEachPart:
    """Makes the optimizers of :class:`TwoParts`."""

    def __init__(self, optim_wrapper_cfg, paramwise_cfg=None) -> None:
        pass

    def __call__(self, model):
        model = getattr(model, 'module', model)
        return OptimWrapperDict(
            **{
                name: OptimWrapper(torch.optim.SGD(part.parameters(), lr=0.1))
                for name, part in model.named_children()
                if name != 'data_preprocessor'
            })


def separate(hook=None):
    """A training whose model has a DDP for each of its parts."""
    return lambda work_dir: train(
        work_dir,
        hook,
        make_cfg=runner_cfg,
        model=dict(type='TwoParts'),
        # Its buffers are sent to all whenever a part is called.
        model_wrapper_cfg=dict(
            type='MMSeparateDistributedDataParallel', broadcast_buffers=True),
        optim_wrapper=dict(constructor='OneForEachPart'),
        train_cfg=dict(by_epoch=True, max_epochs=4),
        val_dataloader=None,
        val_cfg=None,
        val_evaluator=None)


ACCUMULATE = dict(
    optim_wrapper=dict(
        optimizer=dict(type='SGD', lr=0.01),
        accumulative_counts=2,
        clip_grad=dict(max_norm=0.1)))
OTHER_HOOKS = [dict(type='SyncNormHook'), dict(type='EMAHook')]
RUNS = dict(
    without=top_down(),
    always=top_down(ALWAYS),
    sparse=top_down(
        dict(NUMBERS_ONLY, grad_norm_interval=3, on_nonfinite='stop')),
    slow_first=top_down(NUMBERS_ONLY, other_hooks=[dict(type='SlowFirst')]),
    failing_first=failing_first,
    accumulate_without=top_down(**ACCUMULATE),
    accumulate=top_down(NUMBERS_ONLY, **ACCUMULATE),
    separate_without=separate(),
    separate=separate(ALWAYS),
    other_hooks_without=top_down(other_hooks=OTHER_HOOKS),
    other_hooks=top_down(ALWAYS, other_hooks=OTHER_HOOKS),
    # Seen in the same iteration, in the next one, and when it is logged.
    nan_in_second=spoiled_second(1, 5, np.nan, 1),
    nan_between=spoiled_second(4, 5, np.nan, 1),
    jump_in_second=spoiled_second(4, 9, 1e2, 2),
)


def work(rank: int, folder: str) -> None:
    """What each of the processes does."""
    make_runs(rank, folder, RUNS)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Where both processes have made their runs."""
    folder = tmp_path_factory.mktemp('distributed')
    write_coco(folder / 'annotations.json')
    start_two(work, folder)
    return folder


@pytest.fixture
def results(folder):
    """A function that gives the results of a run, of both processes."""
    return functools.partial(results_of, folder)


@pytest.mark.parametrize('name, same_as', [
    ('always', 'without'),
    ('sparse', 'without'),
    ('slow_first', 'without'),
    ('accumulate', 'accumulate_without'),
    ('separate', 'separate_without'),
    ('other_hooks', 'other_hooks_without'),
])
def test_both_end_as_without_the_hook(results, name, same_as):
    """P1: weights, optimizer, buffers, generators, flags, of both."""
    for result, expected in zip(results(name), results(same_as)):
        assert result['iters'] == expected['iters'] > 3
        assert result['state'] == expected['state']
        assert not result['failures'] and not result['off']


def test_what_fails_in_the_first_process_is_not_waited_for(results, folder):
    """P2, P1: the second has no idea of it."""
    first, second = results('failing_first')
    for result, expected in zip([first, second], results('without')):
        assert result['state'] == expected['state']
    assert first['failures'] == 3 and first['off'] == ['GradientMonitor']
    assert second['failures'] == 0
    warning, = warnings_of(folder / 'failing_first')
    assert 'GradientMonitor failed' in warning and 'on purpose' in warning


def test_nobody_is_too_late_for_an_exchange(results, folder):
    """Neither the process that writes nor the other one."""
    results('slow_first')
    expected = keypoint_scalars(read_run(folder / 'always'))
    assert {step for _, step in expected} == {1, 2}
    assert keypoint_scalars(read_run(folder / 'slow_first')) == expected


@pytest.mark.parametrize('name, finding, text', [
    ('nan_in_second', 'nonfinite_loss',
     'The loss became NaN or infinite at step 5 on rank 1: loss_kpt.'),
    ('nan_between', 'nonfinite_loss',
     'The loss became NaN or infinite at step 5 on rank 1: loss_kpt.'),
    ('jump_in_second', 'loss_spike/rank_1',
     'The loss jumped at step 9 on rank 1.'),
])
def test_the_samples_of_another_process_are_named(results, folder, name,
                                                  finding, text):
    """P9: of the rank that had them, not of the one that writes."""
    results(name)
    path, = (folder / name).glob('*/*.log')
    line, = [
        t for t in path.read_text().splitlines()
        if 'Training health' in t and 'resolved' not in t
    ]
    assert text in line and 'on rank 1' in line.partition('Evidence')[2]
    spoiled = json.loads((folder / f'{name}.spoiled').read_text())
    path, = (folder / name).glob('*/vis_data/suspects.json')
    entry, = json.loads(path.read_text())
    assert entry['finding'] == finding and entry['rank'] == 1
    assert entry['ids'] == spoiled
    assert all(f'(id {i}' in line for i in spoiled)


def test_healthy_processes_write_nothing_about_their_losses(results, folder):
    results('always')
    assert not list((folder / 'always').glob('**/suspects*'))


def test_the_slowest_rank_is_named(results, folder):
    """It sleeps for 0.1 s in a hook after each iteration, the other waits."""
    events = read_run(folder / 'slow_first')
    ranks = [e.value for e in events.Scalars('time/slowest_rank')]
    assert ranks and set(ranks) == {0}
    for e in events.Scalars('time/slowest_rank_ms'):
        assert e.value > 50
    assert 'time/slowest_rank' in read_run(folder / 'always').Tags()['scalars']


@pytest.mark.skipif(not CAN_COUNT, reason='needs PyTorch 2')
@pytest.mark.parametrize('name, talking', [
    ('always', []),
    ('slow_first', []),
    ('sparse', [1, 3, 6]),
])
def test_nothing_is_exchanged_at_iterations_that_are_not_logged(
        results, name, talking):
    """Nor at others, unless all have to end together at a NaN.

    What is exchanged in the validation shows at the iteration after it.
    """
    after_validation = 4
    for result, expected in zip(results(name), results('without')):
        pairs = list(zip(result['collectives'], expected['collectives']))
        assert len(pairs) == 6 and all(plain > 0 for _, plain in pairs)
        more = {i for i, (ours, plain) in enumerate(pairs, 1) if ours != plain}
        assert more == {*talking, after_validation}


def test_the_first_process_alone_writes(folder):
    """P4."""
    for name in RUNS:
        read_run(folder / name)  # There is one event file.


def test_norms_are_those_of_the_averaged_gradients(results, folder):
    """Those of both processes: of each alone they would differ."""
    events = read_run(folder / 'accumulate')
    norms = events.Scalars('train/gradient_norm/global')
    assert [norm.step for norm in norms] == [2, 4, 6]
    clipped = events.Scalars('health/clipping/norm_before')
    assert [norm.value for norm in norms
            ] == pytest.approx([norm.value for norm in clipped])


def test_parts_with_wrappers_of_their_own_have_their_names(results, folder):
    """And nothing is drawn that would wait for the other process."""
    results('separate')
    tags = read_run(folder / 'separate').Tags()
    for tag in ('train/gradient_norm/layers/generator/0',
                'train/gradient_norm/layers/critic'):
        assert tag in tags['scalars']
    assert not [tag for tag in tags['scalars'] if 'module' in tag]
    assert 'train/images' not in tags['tensors']
    path, = (folder / 'separate').glob('*/*.log')
    log = path.read_text()
    for left_out in ('there are no training images', 'skips the graph',
                     'skips the FLOPs'):
        assert log.count(left_out) == 1
