# Copyright (c) OpenMMLab. All rights reserved.
"""Trainings whose validation is another task, each planted (P9).

Small enough to learn where the coloured dots are in 1000 updates, before which
the findings are not judged.
"""
import copy
import glob
import json
import re

import numpy as np
import pytest
from loss_families import SIZE, hook, settings_of
from mmengine.model import BaseModule
from painted_people import paint_data_set
from torch import nn

from mmpose.registry import MODELS

VALIDATION = 'val_dataloader__dataset__'
LAST = 1080
CODEC = dict(
    type='MSRAHeatmap', input_size=SIZE, heatmap_size=(16, 16), sigma=1)


@MODELS.register_module(force=True)
class SeesDots(BaseModule):
    """Four convolutions that do not leave the size of the heatmaps."""

    def __init__(self):
        super().__init__()
        channels = (3, 16, 32, 32, 32)
        self.layers = nn.Sequential(
            *(nn.Sequential(
                nn.Conv2d(before, after, 3, 1 + (i < 2), 1, bias=False),
                nn.BatchNorm2d(after), nn.ReLU())
              for i, (before,
                      after) in enumerate(zip(channels, channels[1:]))))

    def forward(self, images):
        return (self.layers(images), )


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    folders = {}
    for seed, (name, number) in enumerate((('train', 16), ('val', 6))):
        folders[name] = tmp_path_factory.mktemp(name)
        paint_data_set(
            folders[name], num_images=number, size=(128, 128), seed=seed)
    return folders


def settings(folders):
    """A training that is judged after its validations from 1000 on."""
    cfg = settings_of('heatmap', folders)
    cfg['model'].update(
        backbone=dict(type='SeesDots'),
        head=dict(
            type='HeatmapHead',
            in_channels=32,
            out_channels=17,
            deconv_out_channels=None,
            loss=dict(type='KeypointMSELoss', use_target_weight=True),
            decoder=CODEC))
    step = cfg['train_dataloader']['dataset']['pipeline'][-2]
    step['encoder'] = CODEC
    cfg['train_dataloader']['sampler']['type'] = 'InfiniteSampler'
    cfg.update(
        train_cfg=dict(
            by_epoch=False, max_iters=LAST, val_begin=1000, val_interval=20),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=3e-3)),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=200), checkpoint=None))
    return cfg


# What the findings are judged by, and nothing that takes time.
WATCH = dict(
    hook(
        log_keypoints=True,
        log_train_images=True,
        train_image_interval=20,
        max_train_images=1,
        log_data=False,
        log_weight_hist=False,
        log_grad_norm=False,
        overhead_budget=None),
    # Beside so small models the data may take most of the time.
    detectors=[dict(type='DataLoaderDetector', enabled=False)])


def wrong_labels(cfg, folders):
    """Mix up the keypoints of every other person in the training."""
    file = folders['train'] / 'people.json'
    content = json.loads(file.read_text())
    rng = np.random.default_rng(0)
    for annotation in content['annotations'][::2]:
        keypoints = np.reshape(annotation['keypoints'], (17, 3))
        annotation['keypoints'] = rng.permutation(keypoints).ravel().tolist()
    file.with_name('mixed_up.json').write_text(json.dumps(content))
    cfg['train_dataloader']['dataset']['ann_file'] = 'mixed_up.json'


def other_padding(cfg, folders):
    pipeline = cfg['val_dataloader']['dataset']['pipeline']
    # That of the training may be the same dict.
    pipeline[1] = dict(pipeline[1], padding=2.5)


def without_colours(cfg, folders):
    cfg['val_dataloader']['dataset']['pipeline'].insert(
        1, dict(type='mmcv.RandomGrayscale', prob=1., keep_channels=True))


def background_alone(cfg, folders):
    """Let the loss fall by a bias that is too high, and by nothing else."""
    cfg['model']['head']['init_cfg'] = [
        dict(type='Normal', layer='Conv2d', std=0.001, bias=0.3)
    ]
    cfg['optim_wrapper']['optimizer']['lr'] = 1e-7
    cfg['optim_wrapper']['paramwise_cfg'] = dict(
        custom_keys={'final_layer.bias': dict(lr_mult=3e4)})


def findings(runner):
    path, = glob.glob(f'{runner.log_dir}/*.log')
    with open(path) as file:
        return [line for line in file if 'Training health' in line]


def test_a_healthy_training_has_none(train, folders):
    runner = train(copy.deepcopy(WATCH), **settings(folders))
    assert not findings(runner)


@pytest.mark.parametrize('planted, expected, words', [
    (other_padding, 'validation_preparation',
     ('as the validation prepares them', 'padding of GetBBoxCenterScale')),
    (without_colours, 'validation_preparation',
     ('as the validation prepares them', 'how images are loaded')),
    (wrong_labels, 'validation_easier',
     ('far better than training samples', 'wrong labels in the training')),
    (background_alone, 'heatmap_empty',
     ('stay empty', 'a higher learning rate')),
])
def test_fixed_samples_show_what_is_wrong(planted, expected, words, train,
                                          folders, read_events):
    cfg = settings(folders)
    planted(cfg, folders)
    runner = train(copy.deepcopy(WATCH), **cfg)
    line, = findings(runner)
    # In the third consecutive measurement after 1000 updates, or the next one;
    # an easier validation from half of the training on.
    steps = '1060|1080'
    if expected == 'validation_easier':
        steps = f'1040|{steps}'
    assert re.search(f'step ({steps}):', line)
    for word in words:
        assert word in line
    tags = {
        value.tag
        for event in read_events(f'{runner.log_dir}/vis_data')
        for value in event.summary.value
    }
    assert f'health/finding/{expected}' in tags
