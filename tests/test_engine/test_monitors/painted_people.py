# Copyright (c) OpenMMLab. All rights reserved.
"""A data set of people of whom only the keypoints are seen, as dots.

So it can be measured where in a model's input a keypoint has come to lie.
"""
import colorsys
import json

import cv2
import numpy as np
from mmengine.hub import get_config

from mmpose.registry import DATASETS

NUM_KEYPOINTS = 17
# Each keypoint's own, saturated: the paper is grey.
COLORS = np.array([
    colorsys.hsv_to_rgb(i / NUM_KEYPOINTS, 1, 1) for i in range(NUM_KEYPOINTS)
]) * 255
_PAPER, _RADIUS = 128, 4
# What changes colours or mixes images, or needs a package that is not there.
_NOT_TO_MEASURE = ('Albumentation', 'YOLOXHSVRandomAug', 'YOLOXMixUp',
                   'PhotometricDistortion')


def paint_data_set(root, num_images=4, size=(320, 288), shown=14, seed=0):
    """Write COCO's annotations and lossless images of two people each.

    Args:
        root (Path): The folder to write to.
        num_images (int): The number of images. Defaults to 4.
        size (tuple): Their width and height. Defaults to (320, 288).
        shown (int): How many keypoints of each person are annotated, and
            painted. Defaults to 14.
        seed (int): Defaults to 0.
    """
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    width, height = size
    for i in range(1, num_images + 1):
        image = np.full((height, width, 3), _PAPER, np.uint8)
        for person in range(2):
            left = person * width // 2
            points = _spread(rng, width // 2 - 40, height - 40)
            points += (left + 20, 20)
            annotated = rng.permutation(NUM_KEYPOINTS) < shown
            for point, color in zip(points[annotated], COLORS[annotated]):
                cv2.circle(image, tuple(map(int, point)), _RADIUS,
                           color[::-1].tolist(), -1)
            keypoints = np.c_[points, 2 * np.ones(NUM_KEYPOINTS)]
            keypoints[~annotated] = 0
            low, high = points.min(0) - 10, points.max(0) + 10
            x, y, w, h = map(int, (*low, *(high - low)))
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=i,
                    category_id=1,
                    iscrowd=0,
                    bbox=[x, y, w, h],
                    area=w * h,
                    segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
                    keypoints=keypoints.astype(int).ravel().tolist(),
                    num_keypoints=shown))
        cv2.imwrite(str(root / f'{i}.png'), image)
        images.append(
            dict(id=i, file_name=f'{i}.png', width=width, height=height))
    content = dict(
        images=images,
        annotations=annotations,
        categories=[dict(id=1, name='person')])
    (root / 'people.json').write_text(json.dumps(content))


def _spread(rng, width, height):
    """Whole-numbered points that are not near each other."""
    places = np.stack(np.meshgrid(np.arange(4), np.arange(6)),
                      -1).reshape(-1, 2)
    places = rng.permutation(places)[:NUM_KEYPOINTS]
    jitter = rng.uniform(0.3, 0.7, places.shape)
    return np.floor((places + jitter) * (width / 4, height / 6))


def upstream(name):
    """A config of MMPose's own, by its path under ``body_2d_keypoint``."""
    return get_config(f'mmpose::body_2d_keypoint/{name}.py')


def painted_data_set(root, cfg, **packing):
    """The painted data set behind the training pipeline of a config.

    Args:
        root (Path): Where :func:`paint_data_set` has written.
        cfg (Config): An upstream config.
        **packing: Arguments of ``PackPoseInputs``, instead of the config's.

    Returns:
        CocoDataset: Without what would change the colours.
    """
    dataset = cfg.train_dataloader.dataset
    pipeline = dataset.get('pipeline')
    if 'datasets' in dataset:
        dataset = dataset.datasets[0]
        pipeline = pipeline or dataset.pipeline
    pipeline = [t for t in pipeline if t['type'] not in _NOT_TO_MEASURE]
    assert pipeline.pop()['type'] == 'PackPoseInputs'
    return DATASETS.build(
        dict(
            type='CocoDataset',
            data_root=str(root),
            ann_file='people.json',
            data_prefix=dict(img=''),
            data_mode=dataset.get('data_mode', 'topdown'),
            pipeline=[*pipeline,
                      dict(type='PackPoseInputs', **packing)]))


def dot_near(picture, keypoint, point, radius=8):
    """Where a keypoint's dot is.

    Args:
        picture (np.ndarray): RGB, uint8 of shape (H, W, 3).
        keypoint (int): Whose dot.
        point (np.ndarray): Where to look, (x, y).
        radius (float): How far from there. Defaults to 8.

    Returns:
        np.ndarray | None: The middle of what has the dot's colour, (x, y);
        None if nothing has.
    """
    y, x = np.nonzero(np.abs(picture - COLORS[keypoint]).max(-1) < 40)
    near = np.hypot(x - point[0], y - point[1]) < radius
    if not near.any():
        return None
    return np.array([x[near].mean(), y[near].mean()])
