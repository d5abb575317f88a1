# Copyright (c) OpenMMLab. All rights reserved.
"""Arguments of the hook that several pose monitors share."""
from ..core.arguments import (Argument, count, flag, interval, number,
                              one_of_types)

LOG_DATA = flag(
    'log_data',
    'Show what is annotated and what the pipeline makes of it, see '
    ':class:`DataOverviewMonitor` and :class:`AugmentationMonitor`.')
LOG_TRAIN_IMAGES = flag(
    'log_train_images',
    'Write pictures of training samples, see :class:`TrainImageMonitor`.')
LOG_VAL_IMAGES = flag(
    'log_val_images',
    'Write pictures of validation samples, see :class:`ValImageMonitor`.')
LOG_KEYPOINTS = flag(
    'log_keypoints',
    'Write how accurate each keypoint is, see :class:`KeypointMonitor`.')
LOG_ERROR_KINDS = flag(
    'log_error_kinds',
    'Write why keypoints are wrong, how sure the model is of them and which '
    'annotations contradict it, where ``log_keypoints`` is True, and name the '
    'kind of error in the captions of the hard samples, see '
    ':class:`KeypointMonitor`.')
TRAIN_IMAGE_INTERVAL = interval(
    'train_image_interval',
    'Iterations between two pictures of training samples.',
    dict(fast=2000, balanced=500, detailed=200),
    at_least=10)
VAL_IMAGE_INTERVAL = interval(
    'val_image_interval',
    'Of every so many validation batches there may be pictures.',
    dict(fast=20, balanced=10, detailed=5))
MAX_TRAIN_IMAGES = count(
    'max_train_images',
    'Training samples in the pictures.',
    presets=dict(fast=4, balanced=4, detailed=8))
MAX_VAL_IMAGES = count(
    'max_val_images', 'Pictures of one validation at most.', default=8)
HARD_SAMPLES = count(
    'hard_samples',
    'How many of the instances with the worst predictions are shown of each '
    'validation.',
    default=4)
KPT_THR = number('kpt_thr',
                 'The score below which a keypoint is drawn hollow.', 0.3,
                 'a number of at least 0', lambda v: v >= 0)
BACKEND_ARGS = Argument(
    'backend_args', None, 'dict | None',
    'How an image is loaded where the model was given nothing to draw on, see '
    ':func:`mmengine.fileio.get`. None: as the data set loads it.',
    one_of_types((dict, ), 'a dict or None'))
