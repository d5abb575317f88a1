# Copyright (c) OpenMMLab. All rights reserved.
"""Troubles that users of pose estimation have reported, made anew.

Each was read in a public tracker, and none of them while a detector was
written. The docstring says where, and what the report would have said.
"""
import math
import multiprocessing
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from test_planted_silent_anomalies import IMAGES
from test_planted_training_illness import (WATCH, adamw, history, iterations,
                                           logged)
from torch.nn.modules.batchnorm import _BatchNorm

from mmpose.engine.monitors.run import system
from mmpose.registry import DATASETS, HOOKS, MODELS


@HOOKS.register_module(force=True)
class Trouble(Hook):
    """Makes one of the troubles, from a step on."""

    priority = 'HIGHEST'

    def __init__(self, what, step=1):
        self.what = what
        self.step = step

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 >= self.step:
            getattr(self, self.what)(runner, data_batch)

    def empty_targets(self, runner, data_batch):
        for sample in data_batch['data_samples']:
            sample.gt_fields.heatmaps *= 0
            sample.gt_instance_labels.keypoint_weights *= 0

    def other_labels(self, runner, data_batch):
        samples = data_batch['data_samples']
        heatmaps = [s.gt_fields.heatmaps for s in samples]
        for sample in samples:
            shifts = np.random.randint(16, size=2).tolist()
            sample.gt_fields.heatmaps = heatmaps[0].roll(shifts, (1, 2))

    def one_image(self, runner, data_batch):
        for image in data_batch['inputs']:
            image.fill_(128)

    def statistics(self, runner, data_batch):
        for module in runner.model.modules():
            if isinstance(module, _BatchNorm):
                module.running_mean.fill_(30)

    def hang(self, runner, data_batch):
        if runner.iter + 1 == self.step:
            time.sleep(3)


def trouble(what, step=1):
    return [dict(type='Trouble', what=what, step=step)]


def names(history_of_run):
    return {name.partition('/')[0] for name in history_of_run}


def by_epoch(epochs, val_interval=1):
    return dict(by_epoch=True, max_epochs=epochs, val_interval=val_interval)


def test_ap_is_0_in_every_validation_though_acc_pose_rises(train, read_events):
    """MMPose: the pictures are good, AP stays 0."""
    runner = train(
        WATCH,
        train_cfg=by_epoch(10),
        model=dict(type='OneConvolution'),
        optim_wrapper=adamw(),
        val_evaluator=[
            dict(type='ScriptedMetric', course=[0.] * 10),
            dict(type='PCKAccuracy', thr=0.5)
        ])
    found = history(read_events(runner))
    assert names(found) == {'validation_invalid'}
    assert 'the evaluation is wrong, not the model' in logged(runner)[0]


def test_ap_is_minus_1_on_a_small_data_set(train, read_events):
    """ViTPose: 60 images, all results are 0 or -1, whatever is tried."""
    runner = train(
        WATCH,
        train_cfg=by_epoch(6),
        optim_wrapper=adamw(),
        val_evaluator=dict(type='ScriptedMetric', course=[-1.] * 6))
    assert history(read_events(runner)) == {'validation_invalid': [(8, 1)]}


def test_the_accuracy_falls_to_0_for_good_while_the_loss_falls(
        train, read_events):
    """MMPose: AP rises to .19 and is 0 from then on."""
    runner = train(
        WATCH,
        train_cfg=by_epoch(40, 5),
        optim_wrapper=adamw(3e-3),
        val_evaluator=dict(type='PCKAccuracy', thr=0.2),
        custom_hooks=trouble('statistics', 100))
    found = history(read_events(runner))
    assert names(found) == {'validation_collapse'}
    assert 'running statistics of batch norms' in logged(runner)[0]


def test_labels_that_do_not_fit(train, read_events):
    """MMPose: neither does the loss fall nor acc_pose rise, of .05."""
    runner = train(
        dict(WATCH, detectors=[dict(type='ZeroAccuracyDetector', iters=60)]),
        train_cfg=iterations(120),
        optim_wrapper=adamw(),
        custom_hooks=trouble('other_labels'))
    found = history(read_events(runner))
    assert names(found) == {'zero_accuracy'}
    assert 'images and annotations do not match' in logged(runner)[0]


def test_the_loss_is_0_from_the_start(train, read_events):
    """ViTPose, MMPose: heatmap_loss and acc_pose are 0 in all iterations."""
    runner = train(
        WATCH,
        train_cfg=iterations(40),
        optim_wrapper=adamw(),
        custom_hooks=trouble('empty_targets'))
    assert history(read_events(runner)) == {'zero_loss': [(20, 1)]}


def test_a_learning_rate_after_which_nothing_is_learned(train, read_events):
    """DeepLabCut: the loss is the same in every epoch, mAP is 0."""
    runner = train(
        dict(IMAGES, train_image_interval=20),
        train_cfg=iterations(100),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=5., momentum=0.9)))
    # What the head sees is 0, so it predicts the background everywhere.
    found = history(read_events(runner))
    assert list(found) == ['dead_activation/head/deconv_layers/8']
    assert 'learning rate that is too high' in logged(runner)[0]


def test_the_same_prediction_for_every_image(train, read_events):
    """DeepLabCut: nearly identical predictions; the images were no images."""
    runner = train(
        dict(
            WATCH,
            log_keypoints=True,
            detectors=[dict(type='ZeroAccuracyDetector', iters=60)]),
        train_cfg=iterations(120),
        optim_wrapper=adamw(3e-3),
        custom_hooks=trouble('one_image'))
    found = history(read_events(runner))
    assert 'zero_accuracy' in names(found)


@MODELS.register_module(force=True)
class TwoLosses(BaseModel):
    """One of its losses is NaN from a step on, and has no gradient there."""

    def __init__(self, step=10**9, data_preprocessor=None):
        super().__init__(dict(type='PoseDataPreprocessor'))
        self.layer = torch.nn.Conv2d(3, 17, 3, 4, 1)
        self.step = step
        self.calls = 0

    def forward(self, inputs, data_samples=None, mode='tensor'):
        heatmaps = self.layer(inputs / 255)
        if mode == 'loss':
            self.calls += 1
            targets = torch.stack([s.gt_fields.heatmaps for s in data_samples])
            loss = (heatmaps - targets).square().mean()
            other = math.nan if self.calls >= self.step else 0.1
            return dict(loss_kpt=loss, loss_seg=loss.new_tensor(other))
        for sample in data_samples:
            sample.pred_instances = InstanceData(
                keypoints=np.zeros((1, 17, 2)),
                keypoint_scores=np.ones((1, 17)))
        return data_samples


@pytest.mark.parametrize('step', [1, 37])
def test_one_of_the_losses_is_nan(train, read_events, step):
    """Ultralytics: the others fall; and in mixed precision from the start."""
    runner = train(
        WATCH,
        train_cfg=iterations(60),
        model=dict(type='TwoLosses', step=step),
        optim_wrapper=adamw())
    assert history(read_events(runner)) == {'nonfinite_loss': [(step, 1)]}
    assert f'at step {step}: loss_seg.' in logged(runner)[0]


def test_it_does_not_go_past_an_epoch(train, read_events):
    """SLEAP, MMDetection: no output any more, and no error."""
    runner = train(
        dict(
            WATCH,
            flush_secs=0.2,
            detectors=[dict(type='StalledDetector', seconds=1, times=5)]),
        train_cfg=iterations(24),
        optim_wrapper=adamw(),
        custom_hooks=trouble('hang', 13))
    found = history(read_events(runner))
    assert names(found) == {'stalled'}
    assert 'since iteration 12' in logged(runner)[0]


@DATASETS.register_module(force=True)
class LeakingPoseDataset(DATASETS.get('TinyPoseDataset')):
    """Keeps 1 MiB of each sample, in the process of the worker."""

    kept = multiprocessing.Value('i', 0)

    def __getitem__(self, index):
        with self.kept.get_lock():
            self.kept.value += 1
        return super().__getitem__(index)


def test_workers_that_need_more_and_more_memory(train, read_events,
                                                monkeypatch):
    """MMDetection: serialize_data=False, until the process is killed."""
    # What a worker keeps is only counted: a system may page it out.
    monkeypatch.setattr(
        system.psutil, 'virtual_memory', lambda: SimpleNamespace(
            available=(500 - LeakingPoseDataset.kept.value) << 20))
    runner = train(
        # Measured in the iteration, and not some iterations later.
        dict(WATCH, grad_norm_interval=1, async_write=False),
        train_cfg=iterations(160),
        train_dataloader=dict(
            batch_size=4,
            num_workers=1,
            persistent_workers=True,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=dict(type='LeakingPoseDataset')),
        model=dict(type='TwoLosses'),
        optim_wrapper=adamw())
    found = history(read_events(runner))
    assert 'memory_grows' in found
    line = next(line for line in logged(runner) if 'memory' in line)
    assert 'workers of the data loader' in line


def test_the_learning_rate_of_eight_gpus_on_one(train, read_events):
    """MMDetection: the norm of the gradients jumps, then the loss is NaN."""
    runner = train(
        dict(WATCH, grad_norm_interval=1, log_grad_norm=True),
        train_cfg=iterations(80),
        model=dict(type='TwoLosses'),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=100., momentum=0.9)))
    found = history(read_events(runner))
    assert {'update_ratio', 'nonfinite_loss'} & names(found)
    assert 'ower the learning rate' in ''.join(logged(runner))
