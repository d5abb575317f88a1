# Copyright (c) OpenMMLab. All rights reserved.
import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.runner import log_processor
from test_enhanced_tensorboard_hook import NUMBERS, scalars

from mmpose.engine.monitors import Every, Scalar, SystemMonitor
from mmpose.engine.monitors.run import gpu_sensors, system
from mmpose.registry import HOOKS

HOOK = dict(NUMBERS, grad_norm_interval=3, log_details=True)
STEPS = [1, 3, 6, 9, 12]
SPEED = ['iterations_per_second', 'samples_per_second', 'data_time_percent']
USAGE = ['cpu_percent', 'resident_memory_mib']


def readings(events):
    """The values of each step, by quantity."""
    return {
        tag[len('system/'):]: {e.step: e.value
                               for e in events.Scalars(tag)}
        for tag in events.Tags()['scalars'] if tag.startswith('system/')
    }


@pytest.mark.skipif(system.psutil is None, reason='needs psutil')
def test_the_values_are_those_of_the_iterations_since_the_last_reading(
        train, read_events):
    runner = train(HOOK)
    read = readings(read_events(runner))
    expected = SPEED + USAGE
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        expected += [q for q in read if q.startswith('gpu_memory')]
    # Another test may have left a process.
    read.pop('workers_memory_mib', None)
    assert sorted(read) == sorted(expected)

    hub = runner.message_hub
    times = hub.get_scalar('train/time').data[0]
    waits = hub.get_scalar('train/data_time').data[0]
    assert len(times) == 12
    for last, step in zip([0, *STEPS], STEPS):
        seconds = np.mean(times[last:step])
        waited = np.mean(waits[last:step])
        assert [read[quantity][step] for quantity in SPEED] == pytest.approx(
            [1 / seconds, 4 / seconds, 100 * waited / seconds], rel=1e-5)
    for quantity in SPEED + USAGE:
        assert list(read[quantity]) == STEPS
    cores = os.cpu_count()
    for step in STEPS:
        assert 0 <= read['cpu_percent'][step] <= 120 * cores
        # Python with PyTorch, in MiB.
        assert 100 < read['resident_memory_mib'][step] < 50000
    assert max(read['cpu_percent'].values()) > 0


def test_without_psutil_the_rest_is_written(train, read_events, monkeypatch):
    monkeypatch.setattr(system, 'psutil', None)
    read = readings(read_events(train(HOOK)))
    assert set(SPEED) <= set(read) and not set(USAGE) & set(read)


def test_without_a_timer_the_rest_is_written(train, read_events):
    """A config may do without IterTimerHook."""
    runner = train(
        HOOK,
        default_hooks=dict(
            timer=None,
            checkpoint=None,
            logger=dict(type='LoggerHook', interval=1)))
    read = readings(read_events(runner))
    assert not set(SPEED) & set(read)
    if system.psutil is not None:
        assert set(USAGE) <= set(read)


def test_it_is_left_out_where_it_is_not_wanted(train, read_events):
    runner = train(dict(HOOK, log_system=False))
    assert not readings(read_events(runner))


class Written:

    def write(self, record, guard):
        self.values = {
            v.tag: v.value
            for v in record.values() if isinstance(v, Scalar)
        }


def speed(data_batch):
    """What is written of 0.5 seconds an iteration, 0.1 of it waiting."""
    monitor = SystemMonitor(Every(1), details=True, strict=True)
    monitor.writer = Written()
    hub = MessageHub(f'test_system_{time.time()}')
    runner = SimpleNamespace(iter=0, message_hub=hub)
    monitor.notify('before_train', runner)
    hub.update_scalar('train/time', 0.5)
    hub.update_scalar('train/data_time', 0.1)
    monitor.notify('after_train_iter', runner, 0, data_batch, None)
    return monitor.writer.values


@pytest.mark.parametrize(
    'inputs', [
        torch.zeros(5, 3, 8, 8),
        [torch.zeros(3, 8, 8)] * 5,
    ],
    ids=['tensor', 'list'])
def test_samples_per_second(inputs, monkeypatch):
    values = speed(dict(inputs=inputs))
    assert values['system/samples_per_second'] == pytest.approx(10)
    assert values['system/data_time_percent'] == pytest.approx(20)
    monkeypatch.setattr(system, 'get_world_size', lambda: 4)
    values = speed(dict(inputs=inputs))
    assert values['system/samples_per_second'] == pytest.approx(40)
    assert values['system/iterations_per_second'] == pytest.approx(2)


@pytest.mark.parametrize('data_batch', [None, [1, 2], dict(images=3)])
def test_a_batch_whose_size_is_unknown(data_batch):
    values = speed(data_batch)
    assert 'system/samples_per_second' not in values
    assert values['system/iterations_per_second'] == pytest.approx(2)


class PlayedGPU:
    """A GPU of which an iteration takes as many MiB as its number.

    Beside what is kept all the time, 100 MiB.
    """

    def __init__(self):
        self.allocated = self.peak = 100
        self.is_available = self.is_initialized = lambda: True
        self.current_device = lambda: 0
        self.memory_allocated = lambda: self.allocated << 20
        self.memory_reserved = lambda: 2000 << 20

    def memory_stats_as_nested_dict(self):
        return dict(allocated_bytes=dict(all=dict(peak=self.peak << 20)))

    def get_max_cuda_memory(self, device):
        peak, self.peak = self.peak, self.allocated
        return peak


@HOOKS.register_module()
class TakesMemory(Hook):
    """Let the GPU take memory at the beginning of an iteration."""

    priority = 'VERY_HIGH'

    def __init__(self, gpu):
        self._gpu = gpu

    def before_train_iter(self, runner, **_):
        gpu = self._gpu
        gpu.peak = max(gpu.peak, gpu.allocated + runner.iter + 1)


def test_the_peak_is_that_since_the_last_measurement(train, read_events,
                                                     monkeypatch):
    """P8: ``LoggerHook`` resets it before this hook's turn."""
    gpu = PlayedGPU()
    monkeypatch.setattr(system, 'torch', SimpleNamespace(cuda=gpu))
    monkeypatch.setattr(log_processor, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(log_processor, 'get_max_cuda_memory',
                        gpu.get_max_cuda_memory)
    runner = train(
        HOOK,
        default_hooks=dict(
            checkpoint=None, logger=dict(type='LoggerHook', interval=1)),
        custom_hooks=[dict(type='TakesMemory', gpu=gpu)])
    events = read_events(runner)
    assert scalars(events, 'memory')[12] == 100 + 12
    read = readings(events)
    assert read['gpu_memory_peak_mib'] == {n: 100 + n for n in STEPS}
    assert read['gpu_memory_allocated_mib'] == dict.fromkeys(STEPS, 100)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_memory_of_the_gpu():
    tensor = torch.zeros(1 << 26, device='cuda')
    values = speed(None)
    assert 256 <= values['system/gpu_memory_allocated_mib']
    assert values['system/gpu_memory_allocated_mib'] <= values[
        'system/gpu_memory_reserved_mib']
    assert values['system/gpu_memory_allocated_mib'] <= values[
        'system/gpu_memory_peak_mib']
    del tensor


class NVML:
    """The functions of torch.cuda that ask it."""

    def __init__(self):
        self.asked_by = set()

    def ask(self, value):

        def sensor(device):
            assert device == 0
            self.asked_by.add(threading.current_thread().name)
            return value

        return sensor


def test_the_sensors_of_the_gpu(train, read_events, monkeypatch):
    """Asked by the writer's thread; what there is not is asked once."""
    nvml, gpu, asked = NVML(), PlayedGPU(), []

    def temperature(device):
        asked.append(device)
        raise RuntimeError('Not Supported')

    monkeypatch.setattr(system, 'torch', SimpleNamespace(cuda=gpu))
    monkeypatch.setattr(
        gpu_sensors, 'torch',
        SimpleNamespace(
            cuda=SimpleNamespace(
                utilization=nvml.ask(87),
                power_draw=nvml.ask(250500),
                temperature=temperature)))
    read = readings(read_events(train(HOOK)))
    assert read['gpu_utilization'] == dict.fromkeys(STEPS, 87)
    assert read['gpu_power_watts'] == dict.fromkeys(STEPS, 250.5)
    assert 'gpu_temperature_celsius' not in read and len(asked) == 1
    assert threading.current_thread().name not in nvml.asked_by


@pytest.mark.skipif(system.psutil is None, reason='needs psutil')
def test_the_memory_of_the_workers(train, read_events):
    process = subprocess.Popen([
        sys.executable, '-c',
        'data = bytearray(200 << 20); print(len(data), flush=True); input()'
    ],
                               stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
    process.stdout.readline()
    try:
        read = readings(read_events(train(HOOK)))
    finally:
        process.communicate(b'\n')
    assert min(read['workers_memory_mib'].values()) > 200
