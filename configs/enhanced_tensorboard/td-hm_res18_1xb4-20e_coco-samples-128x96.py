# Copyright (c) OpenMMLab. All rights reserved.
_base_ = ['./td-hm_res18_1xb8-12e_synthetic-128x96.py']

# The same model on a handful of real images, just to look at real input: it
# validates on what it trains on. The folder holds the images and, in COCO's
# format, test_coco.json. For another folder, set COCO_SAMPLES in the
# environment or, by --cfg-options, data_root in both datasets.
data_root = '{{$COCO_SAMPLES:data/coco_samples/}}'

train_cfg = dict(max_epochs=20, val_interval=5)
param_scheduler = []
default_hooks = dict(
    logger=dict(interval=1),
    enhanced_tensorboard=dict(
        grad_norm_interval=1, train_image_interval=10, val_image_interval=1))

samples = dict(
    data_root=data_root, ann_file='test_coco.json', data_prefix=dict(img=''))
train_dataloader = dict(batch_size=4, dataset=samples)
val_dataloader = dict(batch_size=4, dataset=samples)
test_dataloader = val_dataloader

# None: the annotation file of the dataset.
val_evaluator = dict(ann_file=None)
test_evaluator = val_evaluator
