# Copyright (c) OpenMMLab. All rights reserved.
"""Trainings in which nothing is wrong have no finding (P9)."""
import copy
import os

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from test_planted_training_illness import adamw, history
from test_training_loops import BackboneAndHead  # noqa: F401, registered

from mmpose.registry import DATASETS, HOOKS

# tools/verify_findings.py makes them longer.
ITERATIONS = int(os.environ.get('HEALTHY_ITERATIONS', 40))
# All that detectors are shown, from time to time.
HOOK = dict(
    grad_norm_interval=5,
    train_image_interval=20,
    log_weight_hist=False,
    log_val_images=False,
    hard_samples=0,
    log_graph=False,
    log_model_stats=False)
LOADER = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='PaintedPoseDataset'))
COLORS = torch.from_numpy(
    np.random.RandomState(0).randint(256, size=(17, 3, 1, 1)).astype(np.uint8))


@DATASETS.register_module(force=True)
class PaintedPoseDataset(DATASETS.get('TinyPoseDataset')):
    """Images that show where the keypoints are, and targets without noise.

    Of noise alone, nothing can be learned in 300 iterations.
    """

    def __init__(self, noise=True):
        super().__init__(noise)
        for image, sample in zip(self.inputs, self.data_samples):
            image.fill_(128)
            heatmaps = sample.gt_fields.heatmaps
            sample.gt_fields.heatmaps = (heatmaps == 1).float()
            for color, (y, x) in zip(COLORS,
                                     (np.unravel_index(h.argmax(), h.shape)
                                      for h in heatmaps.numpy())):
                image[:, 4 * y:4 * y + 4, 4 * x:4 * x + 4] = color


@DATASETS.register_module(force=True)
class FourSamples(PaintedPoseDataset):
    """One batch, which the model overfits."""

    def __len__(self):
        return 4


@HOOKS.register_module(force=True)
class FreezeStages(Hook):
    """Freezes stem and stages, and keeps their statistics, as MMPose does."""

    def before_train(self, runner):
        backbone = runner.model.backbone
        backbone.frozen_stages = 2
        backbone._freeze_stages()
        backbone.train()


@HOOKS.register_module(force=True)
class SwitchMode(Hook):
    """Adds no noise, and halves the weight of the loss, from half-time on."""

    def before_train_epoch(self, runner):
        if runner.epoch == runner.max_epochs // 2:
            runner.model.head.loss_module.loss_weight = 0.5
            runner.train_dataloader.dataset.noise = False


def warm_up(end=30):
    return dict(
        type='LinearLR', start_factor=1e-3, begin=0, end=end, by_epoch=False)


RUNS = dict(
    # Slower, the loss of so small peaks does not fall in so short a time.
    sgd=dict(
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=1., momentum=.9),
            clip_grad=dict(max_norm=1.))),
    adamw=dict(optim_wrapper=adamw()),
    warm_up_and_steps=dict(
        optim_wrapper=adamw(),
        param_scheduler=[
            warm_up(),
            dict(
                type='MultiStepLR',
                milestones=[ITERATIONS * 7 // 10, ITERATIONS * 9 // 10],
                by_epoch=False)
        ]),
    warm_up_alone=dict(
        optim_wrapper=adamw(), param_scheduler=[warm_up(ITERATIONS + 80)]),
    cosine_to_0=dict(
        optim_wrapper=adamw(),
        param_scheduler=dict(
            type='CosineAnnealingLR', T_max=ITERATIONS, by_epoch=False)),
    restarts=dict(
        optim_wrapper=adamw(),
        param_scheduler=dict(
            type='CosineRestartLR',
            periods=[ITERATIONS // 4] * 4,
            restart_weights=[1] * 4,
            eta_min=0,
            by_epoch=False)),
    one_cycle=dict(
        optim_wrapper=adamw(),
        param_scheduler=dict(
            type='OneCycleLR',
            eta_max=1e-3,
            total_steps=ITERATIONS,
            by_epoch=False)),
    frozen_stages=dict(
        optim_wrapper=adamw(), custom_hooks=[dict(type='FreezeStages')]),
    lr_mult_of_0=dict(
        optim_wrapper=dict(
            optimizer=dict(type='AdamW', lr=1e-3),
            paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.))))),
    mode_switch=dict(
        optim_wrapper=adamw(), custom_hooks=[dict(type='SwitchMode')]),
    two_optimizers=dict(
        model=dict(type='SteppingByTurns'),
        optim_wrapper=dict(constructor='BackboneAndHead')),
    bfloat16=dict(
        # MMPose's accuracy goes through NumPy, which knows no bfloat16.
        model=dict(train_cfg=dict(compute_acc=False)),
        optim_wrapper=dict(
            type='Bfloat16OnCpu', optimizer=dict(type='AdamW', lr=1e-3))),
    ema=dict(
        optim_wrapper=adamw(),
        custom_hooks=[dict(type='EMAHook', momentum=0.1,
                           update_buffers=True)]),
    accumulation=dict(
        optim_wrapper=dict(
            optimizer=dict(type='AdamW', lr=1e-3), accumulative_counts=4)),
    clipping=dict(
        optim_wrapper=dict(
            optimizer=dict(type='AdamW', lr=1e-3),
            clip_grad=dict(max_norm=0.1))),
    four_samples=dict(
        optim_wrapper=adamw(),
        train_dataloader=dict(LOADER, dataset=dict(type='FourSamples'))),
)


@pytest.mark.parametrize('name', RUNS)
def test_a_healthy_run_has_no_finding(train, read_events, runner_cfg, name):
    kwargs = copy.deepcopy(RUNS[name])
    kwargs['model'] = dict(runner_cfg()['model'], **kwargs.get('model', {}))
    epochs = ITERATIONS if name == 'four_samples' else ITERATIONS // 4
    kwargs.setdefault('train_dataloader', LOADER)
    runner = train(
        HOOK,
        val_dataloader=dict(
            LOADER, dataset=dict(type='PaintedPoseDataset', noise=False)),
        # Too few validations to say that a model so small does not learn.
        train_cfg=dict(
            by_epoch=True, max_epochs=epochs, val_interval=epochs // 4),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=20), checkpoint=None),
        **kwargs)
    found = history(read_events(runner))
    if name == 'lr_mult_of_0':  # A note, since it may be meant.
        assert set(found) == {'unchanged_weights/backbone'}
        events = read_events(runner)
        assert {e.value for e in events.Scalars('health/findings')} == {0}
        return
    assert not found
