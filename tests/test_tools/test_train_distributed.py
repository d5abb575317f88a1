# Copyright (c) OpenMMLab. All rights reserved.
"""``torchrun`` and ``tools/train.py``, on one machine and on two "nodes".

Each training is compared with the same one in a single process, whose batches
are twice as large.
"""
import datetime
import glob
import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner, runner
from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator

from mmpose.utils import register_all_modules

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ROOT / 'tools/train.py'
GENERATOR = ROOT / 'tools/dataset_generators/synthetic_coco.py'
# Seconds; a launch takes about fifteen.
TIMEOUT = 200
# Five people to validate on, so that the two processes have unequal shares.
NUM_TRAIN, NUM_VAL = 8, 5
DEMO = 'configs/enhanced_tensorboard/td-hm_res18_1xb8-12e_synthetic-128x96.py'
# No batch norm, which sees the batch of one process only, and nothing random.
CONFIG = """
_base_ = ['{demo}']

model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=18,
        stem_channels=8,
        base_channels=8,
        strides=(1, 1, 1, 1),
        norm_cfg=dict(type='GN', num_groups=4)),
    neck=None,
    head=dict(
        in_channels=64,
        deconv_out_channels=None,
        deconv_kernel_sizes=None,
        conv_out_channels=None,
        conv_kernel_sizes=None))
train_pipeline = [t for t in _base_.train_pipeline if t.type != 'RandomFlip']
train_dataloader = dict(
    batch_size=2,
    sampler=dict(shuffle=False),
    dataset=dict(data_root='{data}/', indices=16, pipeline=train_pipeline))
val_dataloader = dict(batch_size=2, dataset=dict(data_root='{data}/'))
test_dataloader = val_dataloader
val_evaluator = dict(
    ann_file='{data}/annotations/person_keypoints_val.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=2, val_interval=1)
default_hooks = dict(
    checkpoint=None,
    enhanced_tensorboard=dict(
        grad_norm_interval=1, train_image_interval=4, val_image_interval=2,
        log_graph=True))
"""


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """A config of a short training."""
    folder = tmp_path_factory.mktemp('config')
    load(GENERATOR).generate_dataset(
        folder / 'data', num_train=NUM_TRAIN, num_val=NUM_VAL)
    path = folder / 'config.py'
    path.write_text(CONFIG.format(demo=ROOT / DEMO, data=folder / 'data'))
    return path


@pytest.fixture(scope='module')
def expected(config, tmp_path_factory):
    """What is logged by one process with twice the batch."""
    register_all_modules()
    cfg = Config.fromfile(str(config))
    cfg.work_dir = str(tmp_path_factory.mktemp('alone'))
    cfg.train_dataloader.batch_size *= 2
    Runner.from_cfg(cfg).train()
    return read(cfg.work_dir)


def read(work_dir):
    """The events of the one event file of a run."""
    path, = event_files(work_dir)
    return EventAccumulator(
        path, size_guidance=dict(scalars=0, tensors=0)).Reload()


def event_files(work_dir):
    return glob.glob(f'{work_dir}/**/*tfevents*', recursive=True)


def torchrun(*args):
    """Start ``torchrun``, where no process sees a GPU."""
    return subprocess.Popen(
        [sys.executable, '-m', 'torch.distributed.run', *map(str, args)],
        env={
            **os.environ, 'OMP_NUM_THREADS': '1',
            'CUDA_VISIBLE_DEVICES': '-1'
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True)


def outputs_of(launches):
    """What they have printed; kills them if they take too long."""
    try:
        printed = [
            launch.communicate(timeout=TIMEOUT)[0] for launch in launches
        ]
    finally:
        for launch in launches:
            launch.kill()
    for launch, text in zip(launches, printed):
        assert launch.returncode == 0, text[-5000:]
    return printed


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def scalars(events, prefix):
    """All scalars that begin so: the value of each by tag and step."""
    return {(tag, event.step): event.value
            for tag in events.Tags()['scalars'] if tag.startswith(prefix)
            for event in events.Scalars(tag)}


def pictures(events, tag):
    return [
        cv2.imdecode(np.frombuffer(png, np.uint8), 1)
        for event in events.Tensors(tag)
        for png in event.tensor_proto.string_val[2:]
    ]


def assert_same(events, expected):
    """That a run has logged what one process alone has."""
    ours, theirs = events.Tags(), expected.Tags()
    for kind in ('scalars', 'histograms', 'tensors'):
        # Which rank is the slowest is known of several alone.
        assert {
            tag
            for tag in ours[kind] if not tag.startswith('time/slowest_rank')
        } == set(theirs[kind])
    norms = scalars(events, 'train/gradient_norm/')
    assert len(norms) > 4 * 10
    assert norms == pytest.approx(
        scalars(expected, 'train/gradient_norm/'), rel=1e-5)
    for prefix in ('health/update_ratio', 'train/learning_rate/', 'model/'):
        assert scalars(events, prefix) == pytest.approx(
            scalars(expected, prefix), rel=1e-4)
    for prefix in ('keypoints/', 'val/'):
        # A place in a heatmap may be another for the last digit of a weight;
        # that sums over ranks are exact is tested beside the monitor.
        numbers = scalars(events, prefix)
        assert numbers and numbers == pytest.approx(
            scalars(expected, prefix), abs=1e-3)
    hard = pictures(events, 'val/hard_samples')
    assert len(hard) == 2 * 4
    for ours, theirs in zip(hard, pictures(expected, 'val/hard_samples')):
        assert np.abs(ours.astype(int) - theirs).mean() < 1


def test_two_processes_log_what_one_would(config, expected, tmp_path):
    """P4, and that no rank waits for one with fewer samples to validate."""
    printed, = outputs_of([
        torchrun('--nproc_per_node=2', f'--master_port={free_port()}', TRAIN,
                 config, '--launcher', 'pytorch', '--work-dir',
                 tmp_path / 'run')
    ])
    assert 'There is no GPU' in printed
    assert printed.count('EnhancedTensorBoardHook writes to') == 1
    assert '0 failures' in printed and 'switched off' not in printed
    assert_same(read(tmp_path / 'run'), expected)


def test_of_two_nodes_the_first_alone_writes(config, expected, tmp_path):
    """P4: on each of them there is a process of local rank 0."""
    port = free_port()
    printed = outputs_of([
        torchrun('--nnodes=2', f'--node_rank={node}', '--nproc_per_node=1',
                 '--master_addr=127.0.0.1', f'--master_port={port}', TRAIN,
                 config, '--launcher', 'pytorch', '--work-dir',
                 tmp_path / f'node_{node}') for node in (0, 1)
    ])
    assert '0 failures' in printed[0] and 'failures' not in printed[1]
    assert_same(read(tmp_path / 'node_0'), expected)
    assert not event_files(tmp_path / 'node_1')


@pytest.fixture
def on_cpu(monkeypatch):
    """A machine without a GPU, whatever this one is."""
    monkeypatch.setattr('mmengine.device.get_device', lambda: 'cpu')
    monkeypatch.setattr(runner, 'init_dist', runner.init_dist)


@pytest.mark.parametrize('given, wrapper', [
    (dict(find_unused_parameters=True),
     dict(
         broadcast_buffers=False, find_unused_parameters=True,
         device_ids=None)),
    (dict(model_wrapper_cfg=dict(type='MMSeparateDistributedDataParallel')),
     dict(type='MMSeparateDistributedDataParallel', device_ids=None)),
    (dict(model_wrapper_cfg=dict(type='MMFullyShardedDataParallel')),
     dict(type='MMFullyShardedDataParallel')),
])
@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_the_settings_of_the_config_hold_on_the_cpu(on_cpu, launcher, given,
                                                    wrapper):
    env_cfg = dict(dist_cfg=dict(backend='nccl', timeout=60))
    cfg = Config(dict(launcher=launcher, env_cfg=env_cfg, **given))
    assert 'gloo' in load(TRAIN).train_on_cpu(cfg)
    assert cfg.model_wrapper_cfg == wrapper
    # A copy of it may train on a GPU.
    assert cfg.env_cfg == env_cfg


# What each launcher tells the second of three processes, on the first node.
LAUNCHED = dict(
    pytorch=dict(RANK='1', LOCAL_RANK='1', WORLD_SIZE='3'),
    slurm=dict(
        SLURM_PROCID='1',
        SLURM_LOCALID='1',
        SLURM_NTASKS='3',
        SLURM_NODELIST='node1',
        SLURM_JOB_ID='123456',
        SLURM_STEP_ID='0'),
    mpi=dict(
        OMPI_COMM_WORLD_RANK='1',
        OMPI_COMM_WORLD_LOCAL_RANK='1',
        OMPI_COMM_WORLD_SIZE='3'))


@pytest.mark.parametrize('launcher', LAUNCHED)
def test_the_processes_talk_by_gloo(on_cpu, launcher, monkeypatch):
    """And nobody asks for a GPU, which is an error where there is none."""
    groups = []

    def connect(**kwargs):
        groups.append({**kwargs, 'rank': os.environ['RANK']})

    def refuse(device):
        raise RuntimeError('Found no NVIDIA driver on your system.')

    monkeypatch.setattr('torch.distributed.init_process_group', connect)
    monkeypatch.setattr('torch.cuda.set_device', refuse)
    environment = dict(
        LAUNCHED[launcher], MASTER_ADDR='127.0.0.1', MASTER_PORT='29500')
    with mock.patch.dict(os.environ, environment):
        train = load(TRAIN)
        cfg = Config(dict(launcher=launcher))
        train.complete_environment(cfg)
        train.train_on_cpu(cfg)
        runner.init_dist(launcher, backend='nccl', timeout=60)
        assert os.environ['LOCAL_RANK'] == '1'
    assert groups == [
        dict(backend='gloo', timeout=datetime.timedelta(seconds=60), rank='1')
    ]


def test_job_steps_on_one_node_have_ports_of_their_own(monkeypatch):
    """Those of three jobs that were submitted one after the other."""

    def port(launcher, job, step, **given):
        steps = dict(SLURM_JOB_ID=str(job), SLURM_STEP_ID=str(step))
        with mock.patch.dict(os.environ, {**steps, **given}):
            load(TRAIN).complete_environment(Config(dict(launcher=launcher)))
            return os.environ.get('MASTER_PORT')

    monkeypatch.delenv('MASTER_PORT', raising=False)
    ports = {
        port('slurm', job, step)
        for job in (19999, 20000, 20001) for step in range(3)
    }
    assert len(ports) == 9
    assert all(1024 <= int(number) < 32768 for number in ports)
    assert port('slurm', 1, 0, MASTER_PORT='29500') == '29500'
    assert port('none', 1, 0) is None


@pytest.mark.parametrize('launcher, device', [('none', 'cpu'),
                                              ('slurm', 'cuda'),
                                              ('pytorch', 'cuda')])
def test_where_there_is_no_need_nothing_is_changed(on_cpu, monkeypatch,
                                                   launcher, device):
    monkeypatch.setattr('mmengine.device.get_device', lambda: device)
    init_dist = runner.init_dist
    cfg = Config(dict(launcher=launcher))
    assert load(TRAIN).train_on_cpu(cfg) is None
    assert dict(cfg) == dict(launcher=launcher)
    assert runner.init_dist is init_dist
