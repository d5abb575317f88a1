# Copyright (c) OpenMMLab. All rights reserved.
import sys
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.model import MMDistributedDataParallel
from mmengine.runner import IterBasedTrainLoop
from torch import nn
from torch.utils.data import DataLoader

from mmpose.engine.monitors import Every, WeightMonitor
from mmpose.engine.monitors.core import runner_parts
from mmpose.engine.monitors.core.runner_parts import (bare_model, is_sharded,
                                                      iterations_per_pass,
                                                      needs_all_ranks)
from mmpose.engine.monitors.run.hparams import _lengths


def training(sampler, processes, num_samples=7, batch_size=2):
    """A rank's view of a training by iterations."""
    data = range(num_samples)
    sampler = sampler(data)
    sampler.world_size = processes
    if isinstance(sampler, DefaultSampler):
        sampler.num_samples = -(-num_samples // processes)
    return SimpleNamespace(
        model=nn.Linear(2, 2),
        max_iters=10,
        train_dataloader=DataLoader(data, batch_size, sampler=sampler),
        _train_loop=IterBasedTrainLoop.__new__(IterBasedTrainLoop))


@pytest.mark.parametrize('sampler', [DefaultSampler, InfiniteSampler])
@pytest.mark.parametrize('processes, expected', [(1, 4), (2, 2), (4, 1)])
def test_all_ranks_together_see_all_data_in_a_pass(sampler, processes,
                                                   expected):
    """Whatever a sampler says is its length."""
    runner = training(sampler, processes)
    assert iterations_per_pass(runner) == expected
    assert dict(_lengths(runner))['epochs'] == 10 / expected
    monitor = WeightMonitor(Every(1), 20, by_passes=True, strict=True)
    monitor.notify('before_train', runner)
    assert [step for step in range(1, 10) if monitor.is_due(step)
            ] == sorted({1, *range(expected, 10, expected)})


@pytest.mark.skipif(
    not hasattr(torch, 'compile') or sys.version_info >=
    (3, 12) and torch.__version__ < '2.4',
    reason='this PyTorch cannot compile')
def test_what_is_compiled_as_a_whole_is_unwrapped():
    model = nn.Linear(2, 2)
    assert bare_model(torch.compile(model, backend='eager')) is model
    # A part of it is not.
    parent = nn.Sequential(torch.compile(model, backend='eager'))
    assert bare_model(parent) is parent


@pytest.fixture
def process_group(tmp_path):
    torch.distributed.init_process_group(
        'gloo', f'file://{tmp_path}/store', rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize('wrap, alone', [
    (lambda model: model, False),
    (MMDistributedDataParallel, True),
    (lambda model: torch.nn.DataParallel(model), False),
])
def test_a_rank_predicts_alone_where_its_model_is_known_to_be_whole(
        process_group, monkeypatch, wrap, alone):
    """Defect: rank 0 waited for ranks that gathered no parameters of ZeRO."""
    model = wrap(nn.Sequential(nn.Linear(2, 2)))
    assert not needs_all_ranks(model)
    monkeypatch.setattr(runner_parts, 'get_world_size', lambda: 2)
    assert needs_all_ranks(model) != alone


def test_a_pytorch_without_fsdp_shards_nothing(monkeypatch):
    """Before 1.11, which MMPose's CI has."""
    monkeypatch.setitem(sys.modules, 'torch.distributed.fsdp', None)
    assert not is_sharded(nn.Linear(2, 2))
