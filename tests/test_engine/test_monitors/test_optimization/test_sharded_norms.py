# Copyright (c) OpenMMLab. All rights reserved.
"""FSDP on two real processes, over gloo on the CPU.

PyTorch's FSDP itself, which shards and gathers as ever; what it lacks on the
CPU stands in :func:`let_fsdp_use_the_cpu`.
"""
import functools
import hashlib
import os
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from mmengine.runner._flexible_runner import FlexibleRunner
from noisy_poses import comparable, topdown_cfg, warnings_of, write_coco
from run_logs import read_run
from stepping import FusedSGD, ScalingWrapper, Training, every
from tensorboard.plugins.hparams import metadata
from torch import distributed
from two_processes import make_runs, results_of, start_two

from mmpose.engine.hooks import EnhancedTensorBoardHook
from mmpose.engine.monitors import GradientMonitor, OverheadBudget
from mmpose.engine.monitors.optimization import gradients
from mmpose.engine.monitors.optimization import sharded_norms as shards
from mmpose.models.backbones.resnet import BasicBlock

# MMPose supports versions of PyTorch that do not have it.
fsdp = pytest.importorskip('torch.distributed.fsdp')
FullyShardedDataParallel = fsdp.FullyShardedDataParallel
wrap = pytest.importorskip('torch.distributed.fsdp.wrap')
transformer_auto_wrap_policy = wrap.transformer_auto_wrap_policy

NORMS = 'train/gradient_norm/'
EVERYTHING = dict(grad_norm_interval=1, log_train_images=True, log_graph=True)
HOOK = dict(
    grad_norm_interval=1,
    log_val_images=False,
    log_keypoints=False,
    hard_samples=0,
    log_run_info=False)
FSDP = dict(type='MMFullyShardedDataParallel', device_id=torch.device('cpu'))


class Nothing:
    """A stream or an event of a device that has none."""

    def __init__(self, *args, **kwargs) -> None:
        pass

    def __getattr__(self, name):
        return lambda *args, **kwargs: None


def let_fsdp_use_the_cpu() -> None:
    """What PyTorch 2.1 has for GPUs only, made of what gloo has."""

    def reduce_scatter(output, input, op=None, group=None, async_op=False):
        whole = input.clone()
        distributed.all_reduce(whole, group=group)
        rank = distributed.get_rank(group)
        output.copy_(whole.chunk(distributed.get_world_size(group))[rank])

    def all_gather(output, input, group=None, async_op=False):
        parts = list(output.chunk(distributed.get_world_size(group)))
        distributed.all_gather(parts, input, group=group)

    torch.cpu.Stream = torch.cpu.Event = Nothing
    torch.cpu.current_stream = Nothing
    torch.cpu.current_device = lambda: torch.device('cpu')
    distributed.reduce_scatter_tensor = reduce_scatter
    distributed.all_gather_into_tensor = all_gather


def digest(runner) -> str:
    """Of this rank's part of the weights, and of all buffers."""
    model = runner.model
    tensors = [*model.parameters(), *model.buffers()]
    state = comparable([[t.detach() for t in tensors], torch.get_rng_state()])
    return hashlib.sha256(repr(state).encode()).hexdigest()


def train(work_dir,
          wrapper=FSDP,
          hook=HOOK,
          strategy='FSDPStrategy',
          **kwargs):
    """Train and say what came of it, in each process for itself."""
    cfg = topdown_cfg(
        work_dir,
        hook or {},
        ann_file=Path(work_dir).parent / 'annotations.json',
        launcher='pytorch',
        **kwargs)
    if hook is None:
        cfg['custom_hooks'] = []
    runner = FlexibleRunner(
        strategy=dict(type=strategy, model_wrapper=dict(wrapper)), **cfg)

    count = [0]
    all_reduce = distributed.all_reduce

    def counting(*args, **kwargs):
        count[0] += 1
        return all_reduce(*args, **kwargs)

    by_iteration = []
    run_iter = type(runner.train_loop).run_iter

    def run_and_count(self, *args):
        before = count[0]
        run_iter(self, *args)
        by_iteration.append(count[0] - before)

    with mock.patch.object(distributed, 'all_reduce', counting), \
            mock.patch.object(type(runner.train_loop), 'run_iter',
                              run_and_count):
        runner.train()
    failures, off = 0, []
    for hook in runner.hooks:
        if isinstance(hook, EnhancedTensorBoardHook):
            failures = sum(m.guard.failures for m in hook.monitors)
            off = [m.guard.name for m in hook.monitors if m.guard.tripped]
    return dict(
        iters=runner.iter,
        state=digest(runner),
        is_sharded=isinstance(runner.model, FullyShardedDataParallel),
        all_reduces=by_iteration,
        failures=failures,
        off=off)


def failing_second(work_dir):
    """The second process cannot read its part, from the second time on."""
    read = gradients.named_norms
    count = [0]

    def fail(*args):
        count[0] += 1
        if distributed.get_rank() == 1 and count[0] > 1:
            raise OSError('broken on purpose')
        return read(*args)

    with mock.patch.object(gradients, 'named_norms', fail):
        return train(work_dir, hook=dict(HOOK, strict=False))


def unjoined_second(work_dir):
    """The second process cannot prepare for adding up."""
    find = shards._sharded_parameters

    def fail(modules):
        if distributed.get_rank() == 1:
            raise OSError('broken on purpose')
        return find(modules)

    with mock.patch.object(shards, '_sharded_parameters', fail):
        return train(work_dir, hook=dict(HOOK, strict=False))


def over_budget(work_dir):
    """The second process has no time left for a reading."""

    def allows(self, guard):
        return distributed.get_rank() == 0

    with mock.patch.object(OverheadBudget, 'allows', allows):
        return train(
            work_dir,
            hook=dict(HOOK, grad_norm_interval=4, overhead_budget=0.01))


EACH_BLOCK = functools.partial(
    transformer_auto_wrap_policy, transformer_layer_cls={BasicBlock})
DDP = dict(type='MMDistributedDataParallel', device_ids=None)
ACCUMULATE = dict(
    optim_wrapper=dict(
        optimizer=dict(type='SGD', lr=0.01), accumulative_counts=2))
RUNS = dict(
    ddp=lambda folder: train(folder, DDP, strategy='DDPStrategy'),
    whole=lambda folder: train(folder, hook=EVERYTHING),
    without=lambda folder: train(folder, hook=None),
    # Some modules each for itself.
    parts=lambda folder: train(folder, dict(FSDP, auto_wrap_policy=EACH_BLOCK)
                               ),
    # One parameter for all.
    flat=lambda folder: train(folder, dict(FSDP, use_orig_params=False)),
    not_sharded=lambda folder: train(folder,
                                     dict(FSDP, sharding_strategy='NO_SHARD')),
    sparse=over_budget,
    accumulate=lambda folder: train(folder, **ACCUMULATE),
    failing_second=failing_second,
    unjoined_second=unjoined_second,
)


def work(rank: int, folder: str) -> None:
    """What each of the processes does."""
    let_fsdp_use_the_cpu()
    make_runs(rank, folder, RUNS)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Where both processes have made their runs."""
    if torch.__version__ < '2':
        pytest.skip("MMEngine's FSDP is for PyTorch 2")
    folder = tmp_path_factory.mktemp('sharded')
    write_coco(folder / 'annotations.json')
    start_two(work, folder)
    return folder


@pytest.fixture
def results(folder):
    """A function that gives the results of a run, of both processes."""
    return functools.partial(results_of, folder)


def log_of(work_dir):
    path, = Path(work_dir).glob('*/*.log')
    return path.read_text()


def norms_of(work_dir):
    """All norms of a run: the value of each by tag and step."""
    events = read_run(work_dir)
    return {(tag, event.step): event.value
            for tag in events.Tags()['scalars'] if tag.startswith(NORMS)
            for event in events.Scalars(tag)}


@pytest.mark.parametrize('name', ['whole', 'parts', 'not_sharded'])
def test_the_norms_are_those_of_the_model_that_is_not_sharded(
        results, folder, name):
    for result in results(name):
        assert result['is_sharded'] and result['iters'] == 6
        assert not result['failures'] and not result['off']
    norms = norms_of(folder / name)
    assert len(norms) > 6 * 10
    assert norms == pytest.approx(norms_of(folder / 'ddp'), rel=1e-5)


def test_the_global_norm_of_one_flat_parameter(results, folder):
    """Its groups are those that FSDP has made."""
    assert not results('flat')[0]['failures']
    norms, expected = norms_of(folder / 'flat'), norms_of(folder / 'ddp')
    total = f'{NORMS}global'
    for step in range(1, 7):
        assert norms[total, step] == pytest.approx(
            expected[total, step], rel=1e-5)
        assert norms[f'{NORMS}layers/model', step] == pytest.approx(
            expected[total, step], rel=1e-5)


def test_both_end_as_without_the_hook(results):
    """P1: the weights of each rank, buffers, generators."""
    for name in ('whole', 'sparse', 'failing_second', 'unjoined_second'):
        for result, expected in zip(results(name), results('without')):
            assert result['state'] == expected['state']


@pytest.mark.parametrize('name, steps', [
    ('whole', [1, 2, 3, 4, 5, 6]),
    ('sparse', [1, 4]),
    ('accumulate', [2, 4, 6]),
])
def test_norms_are_added_up_at_logged_updates_only(results, folder, name,
                                                   steps):
    """On all ranks, also where a budget would keep one of them from it."""
    norms = norms_of(folder / name)
    assert {step for _, step in norms} == set(steps)
    for result, plain in zip(results(name), results('without')):
        if name == 'accumulate':  # FSDP itself talks less then.
            continue
        pairs = zip(result['all_reduces'], plain['all_reduces'])
        assert [ours - theirs for ours, theirs in pairs
                ] == [int(step in steps) for step in range(1, 7)]


def test_a_rank_that_fails_is_not_waited_for(results, folder):
    """P2: nor is a norm of a part of the model shown as that of all."""
    first, second = results('failing_second')
    assert first['iters'] == second['iters'] == 6
    for result in (first, second):
        assert result['off'] == ['GradientMonitor']
        assert result['failures'] >= 3
    assert {step for _, step in norms_of(folder / 'failing_second')} == {1}
    warning, = warnings_of(folder / 'failing_second')
    assert '1 of the ranks' in warning


def test_a_rank_that_cannot_take_part_is_not_waited_for(results, folder):
    """P2: nor are the others read, whose parts are not the whole."""
    pairs = zip(results('unjoined_second'), results('without'))
    for result, plain in pairs:
        assert result['iters'] == 6
        assert result['all_reduces'] == plain['all_reduces']
    events = read_run(folder / 'unjoined_second')
    assert not norms_of(folder / 'unjoined_second')
    assert 'val/PCK' in events.Tags()['scalars']
    warning, = warnings_of(folder / 'unjoined_second')
    assert 'cannot be measured on rank [1]' in warning


def test_an_overflow_on_any_rank_is_no_reading(monkeypatch):
    """A fused optimizer finds it inside its step, which all ranks make."""
    elsewhere = iter([False, False, True, False])

    def all_reduce(packed, group):
        """With a rank that has read the same."""
        packed *= 2
        packed[-2] += next(elsewhere)

    class SharedTraining(Training):

        def notify(self, event, *args):
            if event == 'after_train_iter':
                self.monitors[0].sum_over_ranks(
                    self.runner, self.dispatcher._probe.num_steps)
            super().notify(event, *args)

    module = SimpleNamespace(
        process_group=None, compute_device='cpu', _handle=None)
    monkeypatch.setattr(FullyShardedDataParallel, 'fsdp_modules',
                        lambda model: [module])
    monkeypatch.setattr(distributed, 'get_world_size', lambda group: 2)
    monkeypatch.setattr(distributed, 'all_reduce', all_reduce)
    monitor = GradientMonitor(every(), 20, strict=True)
    training = SharedTraining(
        monitor,
        optimizer=lambda p: FusedSGD(p, lr=0.1),
        wrapper=ScalingWrapper,
        overflows=[False, True, False, False])
    monitor.before_sharded_train(training.runner)
    monitor.waited_for = True
    norms = []

    def before_step():
        scaled = [p.grad.flatten() for p in training.model.parameters()]
        norms.append((torch.cat(scaled) /
                      training.wrapper.loss_scaler._scale).norm().item())

    readings = training.read(4, before_step)
    assert [step for step, reading in readings.items() if reading] == [1, 4]
    for step in (1, 4):
        assert readings[step][f'{NORMS}global'] == pytest.approx(
            norms[step - 1], rel=1e-5)


def test_what_needs_the_whole_model_is_left_out_and_named(results, folder):
    results('whole')
    tags = read_run(folder / 'whole').Tags()
    for absent in ('weights/', 'health/update_ratio', 'health/clipping',
                   'health/unused', 'health/dead', 'model/', 'train/images'):
        for kind in ('scalars', 'histograms', 'tensors'):
            assert not [t for t in tags[kind] if t.startswith(absent)]
    assert 'val/PCK' in tags['scalars']
    assert 'keypoints/accuracy' in tags['tensors']
    log = log_of(folder / 'whole')
    for line in ('the model is sharded', 'there are no training images',
                 'skips the graph', 'skips the FLOPs'):
        assert log.count(line) == 1
    line, = [t for t in log.splitlines() if 'the model is sharded' in t]
    for monitor in ('WeightMonitor', 'UpdateMonitor', 'ModelInfoMonitor'):
        assert monitor in line


def test_the_size_of_a_part_is_not_given_as_that_of_the_model(results, folder):
    results('whole')
    start = read_run(folder / 'whole').SummaryMetadata(
        metadata.SESSION_START_INFO_TAG).plugin_data.content
    hparams = metadata.parse_session_start_info_plugin_data(start).hparams
    assert 'batch_size' in hparams and 'parameters' not in hparams


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_fsdp_on_a_gpu(tmp_path):
    """What :func:`let_fsdp_use_the_cpu` stands in for elsewhere."""
    write_coco(tmp_path / 'annotations.json')
    with mock.patch.dict(os.environ, RANK='0', LOCAL_RANK='0', WORLD_SIZE='1'):
        distributed.init_process_group(
            'nccl',
            init_method=f'file://{tmp_path}/rendezvous',
            rank=0,
            world_size=1)
        try:
            result = train(tmp_path / 'run',
                           dict(type='MMFullyShardedDataParallel'))
        finally:
            distributed.destroy_process_group()
    assert result['is_sharded'] and not result['failures']
    norms = norms_of(tmp_path / 'run')
    steps = {step for tag, step in norms if tag == f'{NORMS}global'}
    assert steps == set(range(1, result['iters'] + 1))
