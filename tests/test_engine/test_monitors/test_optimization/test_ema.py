# Copyright (c) OpenMMLab. All rights reserved.
"""Real trainings whose EMA model is compared with the model."""
import copy
import glob
import math

import pytest
import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.structures import InstanceData

from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.engine.monitors import EmaMonitor
from mmpose.engine.monitors.core.measurements import EmaLosses
from mmpose.models import BottomupPoseEstimator, TopdownPoseEstimator
from mmpose.registry import DATASETS, HOOKS, MODELS

COCO = 'configs/_base_/datasets/coco.py'
FEATURES = 16
RTMO = dict(
    type='PredictsTruth',
    data_preprocessor=dict(
        type='PoseDataPreprocessor', mean=[0.] * 3, std=[1.] * 3),
    backbone=dict(
        type='CSPDarknet',
        deepen_factor=0.33,
        widen_factor=0.0625,
        out_indices=(3, 4)),
    neck=dict(
        type='ChannelMapper',
        in_channels=[32, 64],
        kernel_size=1,
        out_channels=2 * FEATURES,
        act_cfg=None),
    head=dict(
        type='RTMOHead',
        num_keypoints=17,
        featmap_strides=(16, 32),
        head_module_cfg=dict(
            num_classes=1,
            in_channels=FEATURES,
            cls_feat_channels=FEATURES,
            num_groups=2,
            channels_per_group=8,
            pose_vec_channels=FEATURES),
        assigner=dict(
            type='SimOTAAssigner',
            dynamic_k_indicator='oks',
            oks_calculator=dict(type='PoseOKS', metainfo=COCO),
            use_keypoints_for_center=True),
        prior_generator=dict(
            type='MlvlPointGenerator',
            centralize_points=True,
            strides=[16, 32]),
        dcc_cfg=dict(
            in_channels=FEATURES,
            feat_channels=16,
            num_bins=(24, 32),
            spe_channels=16,
            gau_cfg=dict(s=16, dropout_rate=0.5, pos_enc='add')),
        loss_cls=dict(
            type='VariFocalLoss', reduction='sum', use_target_weight=True),
        loss_bbox=dict(type='IoULoss', mode='square', reduction='sum'),
        loss_oks=dict(type='OKSLoss', reduction='none', metainfo=COCO),
        loss_vis=dict(
            type='BCELoss', use_target_weight=True, reduction='mean'),
        loss_mle=dict(type='MLECCLoss', use_target_weight=True)))


@DATASETS.register_module(force=True)
class TinyInstances(DATASETS.get('TinyPoseDataset')):
    """The same samples with the labels of RTMO."""

    metainfo = parse_pose_metainfo(dict(from_file=COCO))

    def __getitem__(self, index):
        item = super().__getitem__(index)
        labels = item['data_samples'].gt_instance_labels
        labels.keypoints = 20 + 24 * torch.rand(1, 17, 2)
        labels.keypoints_visible = torch.ones(1, 17)
        labels.bboxes = torch.tensor([[16., 16., 48., 48.]])
        labels.areas = torch.tensor([600.])
        labels.labels = torch.zeros(1, dtype=torch.long)
        return item


@MODELS.register_module(force=True)
class PredictsTruth(BottomupPoseEstimator):

    def predict(self, inputs, data_samples):
        for sample in data_samples:
            keypoints = sample.gt_instances.keypoints
            sample.pred_instances = InstanceData(
                keypoints=keypoints, keypoint_scores=keypoints[..., 0])
        return data_samples


@MODELS.register_module(force=True)
class LossInTrainingOnly(TopdownPoseEstimator):

    def loss(self, *args, **kwargs):
        assert self.training, 'no loss in evaluation mode'
        return super().loss(*args, **kwargs)


@HOOKS.register_module(force=True)
class Copies(Hook):
    """Copies both models and the batch of each iteration."""
    priority = 'LOWEST'

    def __init__(self):
        self.models, self.batches = {}, {}

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        ema, = (h.ema_model for h in runner.hooks if isinstance(h, EMAHook))
        step = runner.iter + 1
        self.batches[step] = copy.deepcopy(data_batch)
        self.models[step] = copy.deepcopy([runner.model, ema.module])

    def after_train(self, runner):
        self.end = [
            *runner.model.state_dict().values(),
            torch.get_rng_state(),
            *(torch.tensor(m.training) for m in runner.model.modules())
        ]


@pytest.fixture
def compare(train, monkeypatch):
    """A function that trains with an EMA model.

    Returns the measured losses, the :class:`Copies`, and the Runner.
    """
    emitted = []
    monkeypatch.setattr(EmaMonitor, 'emit',
                        lambda self, record: emitted.append(record))

    def run(with_hook=True, **kwargs):
        emitted.clear()
        copies = Copies()
        hook = dict(
            grad_norm_interval=1000,
            log_weight_hist=False,
            log_train_images=False,
            log_val_images=False,
            log_keypoints=False,
            hard_samples=0,
            strict=True)
        runner = train(
            hook if with_hook else None,
            train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1),
            custom_hooks=[dict(type='EMAHook', momentum=0.1), copies],
            **copy.deepcopy(kwargs))
        losses = [
            value for record in emitted for value in record.read()
            if isinstance(value, EmaLosses)
        ]
        return losses, copies, runner

    return run


def test_either_loss_is_the_models(compare):
    """Computed again, with the whole model in evaluation mode."""
    (losses, *_), copies, _ = compare()
    models, batch = copies.models[5], copies.batches[5]
    for model, loss in zip(models, (losses.own, losses.averaged)):
        data = model.data_preprocessor(copy.deepcopy(batch), False)
        expected = model.eval().loss(**data)['loss_kpt'].item()
        assert loss == pytest.approx(expected, rel=1e-6)
    assert losses.own != losses.averaged and losses.momentum == 0.1


def test_rtmo(compare):
    """Defect: its head has no loss in evaluation mode, and the hook failed.

    P1: its dropout, its batch norms and the generators stay as they were.
    """
    if MODELS.get('RTMOHead') is None:
        pytest.skip('this MMPose has no RTMO')
    ends = []
    for with_hook in (False, True):
        losses, copies, _ = compare(
            with_hook,
            model=RTMO,
            train_dataloader=dict(
                batch_size=4,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=True),
                dataset=dict(type='TinyInstances')))
        ends.append(copies.end)
    measured = losses[0]
    assert 0 < measured.own < math.inf and 0 < measured.averaged < math.inf
    assert all(map(torch.equal, *ends))


def test_a_model_without_a_loss_in_evaluation_mode(compare, runner_cfg):
    """P2: it is not compared, and the log says so once."""
    model = dict(runner_cfg()['model'], type='LossInTrainingOnly')
    losses, _, runner = compare(model=model)
    assert not losses
    with open(glob.glob(f'{runner.log_dir}/*.log')[0]) as file:
        line, = [line for line in file if 'is not compared' in line]
    assert 'LossInTrainingOnly' in line and 'no loss in evaluation' in line
