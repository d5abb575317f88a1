# Copyright (c) OpenMMLab. All rights reserved.
"""A small real model of every family of heads that MMPose trains.

With the pipelines of a training and of a validation.
"""
import copy

from mmengine.evaluator import BaseMetric

from mmpose.registry import METRICS

SIZE = (64, 64)
BATCH_SIZE = 4
COCO = 'configs/_base_/datasets/coco.py'
PREPROCESSOR = dict(
    type='PoseDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True)
RESNET = dict(type='ResNet', depth=18, stem_channels=8, base_channels=8)
# All of the levels, in the size of the finest.
FINE = dict(
    backbone=dict(RESNET, out_indices=(0, 1, 2, 3)),
    neck=dict(type='FeatureMapProcessor', concat=True))
CODECS = dict(
    heatmap=dict(
        type='MSRAHeatmap', input_size=SIZE, heatmap_size=(16, 16), sigma=2),
    simcc=dict(
        type='SimCCLabel', input_size=SIZE, sigma=6.0, simcc_split_ratio=2.0),
    regression=dict(type='RegressionLabel', input_size=SIZE),
    rle=dict(type='RegressionLabel', input_size=SIZE),
    dekr=dict(
        type='SPR',
        input_size=SIZE,
        heatmap_size=(16, 16),
        sigma=(4, 2),
        minimal_diagonal_length=32**0.5,
        generate_keypoint_heatmaps=True,
        decode_max_instances=30),
    cid=dict(type='DecoupledHeatmap', input_size=SIZE, heatmap_size=(16, 16)),
    rtmo=dict(
        type='YOLOXPoseAnnotationProcessor', expand_bbox=True,
        input_size=SIZE))
MODELS_OF = dict(
    heatmap=dict(
        type='TopdownPoseEstimator',
        backbone=RESNET,
        head=dict(
            type='HeatmapHead',
            in_channels=64,
            out_channels=17,
            deconv_out_channels=(8, 8, 8),
            deconv_kernel_sizes=(4, 4, 4),
            loss=dict(type='KeypointMSELoss', use_target_weight=True),
            decoder=CODECS['heatmap'])),
    simcc=dict(
        type='TopdownPoseEstimator',
        backbone=RESNET,
        head=dict(
            type='SimCCHead',
            in_channels=64,
            out_channels=17,
            input_size=SIZE,
            in_featuremap_size=(2, 2),
            simcc_split_ratio=2.0,
            deconv_out_channels=None,
            loss=dict(type='KLDiscretLoss', use_target_weight=True),
            decoder=CODECS['simcc'])),
    regression=dict(
        type='TopdownPoseEstimator',
        backbone=RESNET,
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='RegressionHead',
            in_channels=64,
            num_joints=17,
            loss=dict(type='SmoothL1Loss', use_target_weight=True),
            decoder=CODECS['regression'])),
    rle=dict(
        type='TopdownPoseEstimator',
        backbone=RESNET,
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='RLEHead',
            in_channels=64,
            num_joints=17,
            loss=dict(type='RLELoss', use_target_weight=True),
            decoder=CODECS['rle'])),
    dekr=dict(
        type='BottomupPoseEstimator',
        **FINE,
        head=dict(
            type='DEKRHead',
            in_channels=120,
            num_keypoints=17,
            num_heatmap_filters=8,
            num_displacement_filters_per_keypoint=3,
            heatmap_loss=dict(type='KeypointMSELoss', use_target_weight=True),
            displacement_loss=dict(
                type='SoftWeightSmoothL1Loss',
                use_target_weight=True,
                supervise_empty=False,
                beta=1 / 9,
                loss_weight=0.002),
            decoder=CODECS['dekr'])),
    cid=dict(
        type='BottomupPoseEstimator',
        **FINE,
        head=dict(
            type='CIDHead',
            in_channels=120,
            num_keypoints=17,
            gfd_channels=8,
            coupled_heatmap_loss=dict(type='FocalHeatmapLoss'),
            decoupled_heatmap_loss=dict(type='FocalHeatmapLoss'),
            contrastive_loss=dict(type='InfoNCELoss', temperature=0.05),
            decoder=CODECS['cid']),
        # Fewer than a batch has: some are drawn.
        train_cfg=dict(max_train_instances=3)),
    rtmo=dict(
        type='BottomupPoseEstimator',
        backbone=dict(
            type='CSPDarknet',
            deepen_factor=0.33,
            widen_factor=0.0625,
            out_indices=(3, 4)),
        neck=dict(
            type='ChannelMapper',
            in_channels=[32, 64],
            kernel_size=1,
            out_channels=32,
            act_cfg=None),
        head=dict(
            type='RTMOHead',
            num_keypoints=17,
            featmap_strides=(16, 32),
            head_module_cfg=dict(
                num_classes=1,
                in_channels=16,
                cls_feat_channels=16,
                num_groups=2,
                channels_per_group=8,
                pose_vec_channels=16),
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
                in_channels=16,
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
            loss_mle=dict(type='MLECCLoss', use_target_weight=True)),
        test_cfg=dict(input_size=SIZE, score_thr=0.1, nms_thr=0.65)))
PACKING = dict(
    type='PackPoseInputs',
    meta_keys=('id', 'img_id', 'img_path', 'ori_shape', 'img_shape',
               'input_size', 'input_center', 'input_scale'))
TOP_DOWN = [
    dict(type='LoadImage'),
    dict(type='GetBBoxCenterScale', padding=1.1),
    dict(type='TopdownAffine', input_size=SIZE),
]
# How a bottom-up training resizes an image without augmentation.
RESIZED = dict(
    type='BottomupRandomAffine',
    input_size=SIZE,
    shift_prob=0,
    rotate_prob=0,
    scale_prob=0,
    scale_type='long')
FILTERED = dict(
    type='FilterAnnotations', by_kpt=True, by_box=True, keep_empty=False)


@METRICS.register_module(force=True)
class NoMetric(BaseMetric):

    def __init__(self, names=()):
        super().__init__()
        self.names = names

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return {name: 77. for name in self.names}


def pipelines_of(family):
    """The training's, the validation's and one that makes targets."""
    targets = [dict(type='GenerateTarget', encoder=CODECS[family])]
    pack = [dict(type='PackPoseInputs')]
    if family not in ('dekr', 'cid', 'rtmo'):
        jitter = dict(type='RandomBBoxTransform')
        return ([
            *TOP_DOWN[:2], jitter,
            dict(type='RandomFlip', direction='horizontal'), TOP_DOWN[2],
            *targets, *pack
        ], [*TOP_DOWN, PACKING], [*TOP_DOWN, *targets, *pack])
    resize = dict(type='BottomupResize', input_size=SIZE)
    resized = dict(RESIZED)
    affine = dict(type='BottomupRandomAffine', input_size=SIZE)
    if family == 'rtmo':
        before = [FILTERED]
        for step in affine, resized:
            step.update(bbox_keep_corner=False, clip_border=True)
    else:
        before = []
        resize.update(resize_mode='expand')
        targets = [*targets, dict(type='BottomupGetHeatmapMask')]
    load = [dict(type='LoadImage')]
    flip = [dict(type='RandomFlip', direction='horizontal')]
    return ([*load, affine, *flip, *before, *targets,
             *pack], [*load, resize,
                      PACKING], [*load, resized, *before, *targets, *pack])


def data_of(folder, pipeline, family, **kwargs):
    """The config of a painted data set."""
    bottom_up = family in ('dekr', 'cid', 'rtmo')
    return dict(
        type='CocoDataset',
        data_root=str(folder),
        ann_file='people.json',
        data_prefix=dict(img=''),
        data_mode='bottomup' if bottom_up else 'topdown',
        pipeline=pipeline,
        **kwargs)


def settings_of(family, folders, **changes):
    """The arguments of a Runner for an epoch and its validation."""
    train, val, _ = pipelines_of(family)
    loader = dict(
        batch_size=BATCH_SIZE,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True))
    cfg = dict(
        model=dict(data_preprocessor=PREPROCESSOR, **MODELS_OF[family]),
        train_dataloader=dict(
            loader, dataset=data_of(folders['train'], train, family)),
        val_dataloader=dict(
            loader,
            batch_size=1,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=data_of(folders['val'], val, family, test_mode=True)),
        train_cfg=dict(by_epoch=True, max_epochs=1, val_interval=1),
        val_evaluator=dict(type='NoMetric'),
        test_dataloader=None,
        test_cfg=None,
        test_evaluator=None)
    cfg.update(changes)
    return copy.deepcopy(cfg)


def hook(**kwargs):
    """Arguments of the hook without what takes long and is not looked at.

    All samples have a part in the losses.
    """
    return dict(
        dict(
            val_loss_samples=16,
            log_keypoints=False,
            hard_samples=0,
            log_val_images=False,
            log_train_images=False,
            log_model_stats=False,
            log_run_info=False,
            log_graph=False), **kwargs)
