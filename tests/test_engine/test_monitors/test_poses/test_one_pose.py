# Copyright (c) OpenMMLab. All rights reserved.
"""Real trainings in which the labels are those of other images."""
import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from noisy_poses import topdown_cfg
from painted_people import COLORS, NUM_KEYPOINTS
from run_logs import read_run

from mmpose.registry import MODELS
from mmpose.utils import register_all_modules

register_all_modules()
WIDTH, HEIGHT = 64, 96
IMAGES = 64


@MODELS.register_module(force=True)
class FewLayers(torch.nn.Module):
    """Sees colors around a place, at a fourth of the resolution."""

    def __init__(self) -> None:
        super().__init__()
        layers = []
        for before, after, stride in ((3, 32, 2), (32, 32, 2), (32, 32, 1)):
            layers += [
                torch.nn.Conv2d(before, after, 5, stride, 2),
                torch.nn.BatchNorm2d(after),
                torch.nn.ReLU()
            ]
        self.layers = torch.nn.Sequential(*layers)

    def init_weights(self):
        pass

    def forward(self, inputs):
        return (self.layers(inputs), )


def paint(folder, shift):
    """Write poses that differ from a mean one, and annotations.

    Args:
        folder (Path): Where to write.
        shift (int): Each image has the annotation of the one so much further.
    """
    rng = np.random.default_rng(0)
    mean = rng.uniform((18, 22), (WIDTH - 18, HEIGHT - 22), (NUM_KEYPOINTS, 2))
    poses = mean + rng.normal(0, 7, (IMAGES, NUM_KEYPOINTS, 2))
    poses = poses.clip(3, (WIDTH - 4, HEIGHT - 4))
    annotations = []
    for i, pose in enumerate(poses):
        image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
        for point, color in zip(pose, COLORS):
            cv2.circle(image, tuple(map(int, point)), 3, color[::-1].tolist(),
                       -1)
        cv2.imwrite(str(folder / f'{i}.png'), image)
        keypoints = np.c_[poses[(i + shift) % IMAGES],
                          np.full(NUM_KEYPOINTS, 2)]
        annotations.append(
            dict(
                id=i,
                image_id=i,
                category_id=1,
                iscrowd=0,
                bbox=[0, 0, WIDTH, HEIGHT],
                area=WIDTH * HEIGHT / 2,
                num_keypoints=NUM_KEYPOINTS,
                keypoints=keypoints.ravel().tolist()))
    images = [
        dict(id=i, file_name=f'{i}.png', width=WIDTH, height=HEIGHT)
        for i in range(IMAGES)
    ]
    path = folder / f'{shift}.json'
    path.write_text(
        json.dumps(
            dict(
                images=images,
                annotations=annotations,
                categories=[dict(id=1, name='person')])))
    return path


@pytest.mark.parametrize('shift', [0, 7])
def test_labels_of_other_images_make_one_pose(tmp_path, shift):
    """And their own labels do not."""
    ann_file = paint(tmp_path, shift)
    cfg = topdown_cfg(
        tmp_path / 'run',
        dict(
            log_val_images=False,
            hard_samples=0,
            log_weight_hist=False,
            log_details=True,
            grad_norm_interval=10,
            detectors=[dict(type='OnePoseDetector', iters=40)]),
        ann_file,
        train_cfg=dict(by_epoch=True, max_epochs=14, val_interval=2),
        optim_wrapper=dict(optimizer=dict(type='Adam', lr=5e-3)))
    cfg['model']['backbone'] = dict(type='FewLayers')
    cfg['model']['head'].update(
        in_channels=32, deconv_out_channels=None, deconv_kernel_sizes=None)
    cfg['model']['head']['loss']['loss_weight'] = 100.
    for name in ('train_dataloader', 'val_dataloader'):
        loader = cfg[name]
        loader['batch_size'] = 8
        loader['dataset']['data_prefix'] = dict(img=str(tmp_path) + '/')
        loader['dataset']['pipeline'][0] = dict(type='LoadImage')
    pipeline = cfg['train_dataloader']['dataset']['pipeline']
    cfg['train_dataloader']['dataset']['pipeline'] = [
        t for t in pipeline if not t['type'].startswith('Random')
    ]
    Runner(**cfg).train()
    events = read_run(tmp_path / 'run')
    found = {
        tag.split('/')[-1]
        for tag in events.Tags()['scalars']
        if tag.startswith('health/finding/')
    }
    assert ('one_pose' in found) == bool(shift)
    area, of_mean_pose, spread = (
        events.Scalars(f'keypoints/{name}')[-1].value
        for name in ('PCK_AUC', 'PCK_AUC_of_mean_pose', 'spread'))
    assert (area > 1.3 * of_mean_pose) == (not shift)
    assert (spread > .85) == (not shift)
    # In both the loss has fallen.
    first, *_, last = [event.value for event in events.Scalars('loss')]
    assert last < .75 * first
