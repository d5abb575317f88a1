# Copyright (c) OpenMMLab. All rights reserved.
# A small run to look at in TensorBoard: it learns within three minutes on two
# CPU cores. Draw the data first:
#   python tools/dataset_generators/synthetic_coco.py
# It has no base, so that it loads also where MMPose's configs are not found.
default_scope = 'mmpose'
train_cfg = dict(by_epoch=True, max_epochs=12, val_interval=2)
val_cfg = dict()
test_cfg = dict()
randomness = dict(seed=0)

optim_wrapper = dict(optimizer=dict(type='AdamW', lr=3e-3, weight_decay=1e-4))
param_scheduler = [
    dict(type='LinearLR', begin=0, end=100, start_factor=0.05, by_epoch=False),
    dict(
        type='CosineAnnealingLR',
        begin=0,
        end=12,
        eta_min=3e-5,
        by_epoch=True,
        convert_to_iter_based=True)
]

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=10),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook',
        interval=1,
        max_keep_ckpts=1,
        save_best='coco/AP',
        rule='greater'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='PoseVisualizationHook', enable=False),
    enhanced_tensorboard=dict(
        type='mmpose.engine.hooks.enhanced_tensorboard_hook.'
        'EnhancedTensorBoardHook',
        grad_norm_interval=10,
        weight_hist_interval=1,
        train_image_interval=150,
        val_image_interval=5))
custom_hooks = [dict(type='SyncBuffersHook')]

vis_backends = [
    dict(type='LocalVisBackend'),
    dict(type='TensorboardVisBackend')
]
visualizer = dict(
    type='PoseLocalVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(
    type='LogProcessor', window_size=50, by_epoch=True, num_digits=6)
log_level = 'INFO'
load_from = None
resume = False
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))

codec = dict(
    type='MSRAHeatmap',
    input_size=(96, 128),
    heatmap_size=(24, 32),
    sigma=1.5,
    unbiased=True)

# Half the usual channels, and the last three stages side by side instead of a
# stack of deconvolutions: less work per image and far fewer images needed.
model = dict(
    type='TopdownPoseEstimator',
    data_preprocessor=dict(
        type='PoseDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True),
    backbone=dict(
        type='ResNet',
        depth=18,
        stem_channels=16,
        base_channels=32,
        out_indices=(1, 2, 3)),
    neck=dict(type='FeatureMapProcessor', select_index=(0, 1, 2), concat=True),
    head=dict(
        type='HeatmapHead',
        in_channels=64 + 128 + 256,
        out_channels=17,
        deconv_out_channels=(48, ),
        deconv_kernel_sizes=(2, ),
        conv_out_channels=(48, ),
        conv_kernel_sizes=(3, ),
        loss=dict(
            type='KeypointMSELoss', use_target_weight=True, loss_weight=500.),
        decoder=codec),
    test_cfg=dict(flip_test=False, output_heatmaps=True))

dataset_type = 'CocoDataset'
data_root = 'data/synthetic_coco/'

train_pipeline = [
    dict(type='LoadImage'),
    dict(type='GetBBoxCenterScale', padding=1.1),
    dict(type='RandomFlip', direction='horizontal'),
    dict(type='TopdownAffine', input_size=codec['input_size']),
    dict(type='GenerateTarget', encoder=codec),
    dict(type='PackPoseInputs')
]
val_pipeline = [
    dict(type='LoadImage'),
    dict(type='GetBBoxCenterScale', padding=1.1),
    dict(type='TopdownAffine', input_size=codec['input_size']),
    dict(type='PackPoseInputs')
]

train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/person_keypoints_train.json',
        data_prefix=dict(img='train/'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=32,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/person_keypoints_val.json',
        data_prefix=dict(img='val/'),
        test_mode=True,
        pipeline=val_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(
    type='CocoMetric',
    ann_file=data_root + 'annotations/person_keypoints_val.json')
test_evaluator = val_evaluator
