# Copyright (c) OpenMMLab. All rights reserved.
"""Trainings on disks that take little, and what is there at which moment."""
import errno
import functools
import io
import os
import time
from contextlib import suppress

import pytest
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator

from mmpose.engine.monitors import NonfiniteTrainingError
from mmpose.engine.monitors.writers import shared_file
from mmpose.engine.monitors.writers.event_file import EventFile
from mmpose.engine.monitors.writers.tfrecord import events_in
from mmpose.registry import HOOKS

# What the report says comes from these, which no test imports.
NEEDS = ('HealthMonitor', 'NonfiniteDetector', 'NonfiniteLossDetector')
# How long something may take that is only missing if it takes longer.
LONG = 10
# Nothing that is written at once, and nothing that takes time.
FEW = dict(
    log_weight_hist=False,
    log_train_images=False,
    log_val_images=False,
    log_keypoints=False,
    log_graph=False,
    log_run_info=False,
    log_model_stats=False,
    hard_samples=0)
NO_VALIDATION = dict(val_cfg=None, val_dataloader=None, val_evaluator=None)
LOGGER = dict(type='LoggerHook', interval=1)


def steps_of(log_dir, tag='loss'):
    """The steps of a scalar that can be read from a directory."""
    return [
        event.step for event in events_in(log_dir)
        for value in event.summary.value if value.tag == tag
    ]


@HOOKS.register_module(force=True)
class DiskReader(Hook):
    """Reads the losses back after all other hooks, each time as asked.

    Args:
        moment (str): 'before_save_checkpoint' or 'after_train_epoch'.
    """
    priority = 'LOWEST'

    def __init__(self, moment):
        self.seen = {}
        setattr(self, moment, self.read)

    def read(self, runner, checkpoint=None):
        # In an iteration it is not counted yet.
        now = runner.iter + (checkpoint is not None)
        until = time.monotonic() + LONG
        while True:
            there = steps_of(f'{runner.log_dir}/vis_data')
            if there[-1:] == [now] or time.monotonic() > until:
                break
            time.sleep(0.01)
        self.seen[now] = there


@pytest.mark.parametrize('moment, checkpoint, at', [
    ('before_save_checkpoint',
     dict(type='CheckpointHook', by_epoch=False, interval=3), [3, 6, 9, 12]),
    ('after_train_epoch', None, [4, 8, 12]),
])
def test_all_up_to_a_moment_is_on_disk(train, moment, checkpoint, at):
    """P7: whoever goes on from a checkpoint has the curves up to it."""
    runner = train(
        dict(FEW, flush_secs=1000),
        default_hooks=dict(logger=LOGGER, checkpoint=checkpoint),
        custom_hooks=[dict(type='DiskReader', moment=moment)],
        train_cfg=dict(by_epoch=True, max_epochs=3),
        **NO_VALIDATION)
    reader, = [h for h in runner.hooks if isinstance(h, DiskReader)]
    assert reader.seen == {step: list(range(1, step + 1)) for step in at}


@HOOKS.register_module(force=True)
class Poisoner(Hook):
    """Has the loss be NaN from a step on."""

    def __init__(self, step):
        self.step = step

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.step:
            for sample in data_batch['data_samples']:
                sample.gt_fields.heatmaps *= float('nan')


# Nothing may be written any more, not even a scalar.
FULL = dict(min_free_bytes=1 << 60)


def texts_of(runner):
    """What was logged as WARNING, from the run's log file."""
    with open(f'{runner.log_dir}/{runner.timestamp}.log') as file:
        return [line for line in file if '- WARNING -' in line]


@pytest.mark.parametrize('on_nonfinite', ['warn', 'stop'])
@pytest.mark.parametrize('async_write', [True, False], ids=['async', 'sync'])
def test_at_the_limit_of_the_disk_health_still_sees(runner_cfg, on_nonfinite,
                                                    async_write):
    """P6: what is not written any more is looked at all the same."""
    runner = Runner(**runner_cfg(
        dict(
            FEW,
            grad_norm_interval=5,
            disk_quota=FULL,
            async_write=async_write,
            on_nonfinite=on_nonfinite),
        custom_hooks=[dict(type='Poisoner', step=7)],
        train_cfg=dict(by_epoch=True, max_epochs=10),
        **NO_VALIDATION))
    if on_nonfinite == 'stop':
        with pytest.raises(
                NonfiniteTrainingError, match='the loss loss_kpt .* step 7'):
            runner.train()
        assert 7 <= runner.iter < 40
    else:
        runner.train()
        assert runner.iter == 40
    assert not steps_of(f'{runner.log_dir}/vis_data')
    found = [text for text in texts_of(runner) if 'Training health' in text]
    assert len(found) == 1 and 'loss became NaN or infinite' in found[0]
    assert 'at step 7' in found[0]


class FilledDisk:
    """Has no more room for event files, from some time on."""

    def __init__(self):
        self.room = 1 << 30

    def open(self, path):
        return DiskFile(self, path)

    def fill(self):
        # For the beginning of what comes next.
        self.room = 100


class DiskFile(io.FileIO):

    def __init__(self, disk, path):
        super().__init__(path, 'ab')
        self.disk = disk

    def write(self, data):
        size = min(len(data), self.disk.room)
        if not size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.disk.room -= size
        return super().write(data[:size])


class DiskFiller(Hook):
    """Fills the disk when the losses of four steps are there."""

    def __init__(self, fill):
        self.fill = fill

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 4:
            runner.visualizer.get_backend(
                'TensorboardVisBackend').experiment.flush()
            self.fill()


def check_filled(runner):
    """What a training has written whose disk is filled after four steps."""
    assert runner.iter == 12
    log_dir = f'{runner.log_dir}/vis_data'
    there = steps_of(log_dir)
    assert there == list(range(1, len(there) + 1)) and 4 <= len(there) < 12
    events = EventAccumulator(log_dir).Reload()
    assert [scalar.step for scalar in events.Scalars('loss')] == there


@pytest.mark.parametrize('async_write', [True, False], ids=['async', 'sync'])
def test_a_training_outlives_its_disk(train, monkeypatch, async_write):
    """P2, P7: MMEngine's scalars up to then are there."""
    disk = FilledDisk()
    monkeypatch.setattr(
        shared_file, 'EventFile',
        functools.partial(EventFile, opener=disk.open, retry_secs=0))
    runner = train(
        dict(
            FEW,
            grad_norm_interval=1,
            flush_secs=0.01,
            async_write=async_write),
        custom_hooks=[DiskFiller(disk.fill)])
    check_filled(runner)
    assert disk.room == 0, 'an event was cut off in the middle'
    found = [text for text in texts_of(runner) if 'No space left' in text]
    assert len(found) == 1 and 'The training goes on' in found[0]


def test_a_training_outlives_a_real_disk(train, small_disk):
    """The same where it is the system that has no room."""

    def fill():
        with suppress(OSError), open(
                str(small_disk / 'ballast'), 'wb', buffering=0) as file:
            while True:
                file.write(bytes(1024))

    runner = train(
        dict(
            FEW,
            grad_norm_interval=1,
            flush_secs=0.01,
            disk_quota=dict(min_free_bytes=0)),
        custom_hooks=[DiskFiller(fill)],
        work_dir=str(small_disk / 'run'))
    check_filled(runner)
