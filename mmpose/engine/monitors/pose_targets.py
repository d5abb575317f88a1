# Copyright (c) OpenMMLab. All rights reserved.
import inspect
from contextlib import suppress
from typing import Dict, Optional, Tuple

import numpy as np
import torch
from torch import nn


def find_codec(model: nn.Module):
    """The codec with which a model decodes its predictions.

    Args:
        model (nn.Module): The model.

    Returns:
        BaseKeypointCodec | None: None if it has none.
    """
    for module in model.modules():
        codec = vars(module).get('decoder')
        if hasattr(codec, 'decode'):
            return codec
    return None


def decode_target(codec, sample) -> Optional[Tuple[np.ndarray, np.ndarray]]:
    """The keypoints that a training sample's target stands for.

    What the loss is computed from is decoded as a prediction would be. Where
    the codec cannot do that, the encoded positions are taken as they are.

    Args:
        codec (BaseKeypointCodec, optional): The model's.
        sample (PoseDataSample): A training sample with its labels.

    Returns:
        tuple[np.ndarray, np.ndarray] | None: Keypoints in the input's pixels,
        shape (N, K, 2), and which of them the loss counts, bool of shape
        (N, K). None if no keypoint can be made out.
    """
    labels = _labels(sample)
    weights = labels.get('keypoint_weights', labels.get('keypoints_visible'))
    keypoints = None if codec is None else _decode(codec, labels)
    if keypoints is None and 'keypoint_indices' in labels:
        indices, weights = np.moveaxis(labels['keypoint_indices'], -1, 0)
        width = codec.heatmap_size[0]
        keypoints = np.stack([indices % width, indices // width], axis=-1)
        keypoints = keypoints * codec.scale_factor
    if keypoints is None:
        keypoints = labels.get('keypoints',
                               labels.get('transformed_keypoints'))
    if keypoints is None:
        return None
    keypoints = np.array(keypoints[..., :2], np.float32)
    if weights is None or weights.size != keypoints[..., 0].size:
        weights = np.ones(keypoints.shape[:2])
    return keypoints, weights.reshape(keypoints.shape[:2]) > 0


def _decode(codec, labels: Dict[str, np.ndarray]) -> Optional[np.ndarray]:
    """What the codec makes of the labels; None if it takes others."""
    takes = inspect.signature(codec.decode).parameters
    if {'simcc_x', 'simcc_y'} <= set(takes):
        return codec.decode(labels['keypoint_x_labels'],
                            labels['keypoint_y_labels'])[0]
    if 'displacements' in takes:
        keypoints, _ = codec.decode(
            torch.from_numpy(labels['heatmaps']),
            torch.from_numpy(labels['displacements']))
        return keypoints.numpy()
    if 'instance_heatmaps' in takes:
        people = len(labels['instance_coords'])
        heatmaps = labels['instance_heatmaps']
        if not people:
            return np.zeros((0, len(labels['heatmaps']) - 1, 2))
        return codec.decode(
            heatmaps.reshape(people, -1, *heatmaps.shape[1:]),
            np.ones((people, 1)))[0]
    if 'root_depth' in takes:
        heatmaps = labels['heatmaps']
        return codec.decode(
            heatmaps.reshape(-1, codec.depth_size, *heatmaps.shape[1:]),
            labels['root_depth'], labels['type'])[0]
    if 'encoded' in takes:
        encoded = labels.get('keypoint_labels', labels.get('heatmaps'))
        # Of people whose keypoints are not told apart nothing is decoded.
        with suppress(NotImplementedError):
            return codec.decode(encoded)[0]
    return None


def _labels(sample) -> Dict[str, np.ndarray]:
    """All that the loss may be computed from."""
    labels = {}
    if 'transformed_keypoints' in sample.gt_instances:
        labels['transformed_keypoints'] = np.array(
            sample.gt_instances.transformed_keypoints)
    for source in ('gt_instance_labels', 'gt_fields'):
        data = sample.get(source, {})
        if hasattr(data, 'levels'):  # Of several the finest.
            data = data.levels()[-1]
        labels.update({name: np.array(value) for name, value in data.items()})
    weights = labels.get('keypoint_weights')
    if weights is not None and weights.ndim == 3:
        labels['keypoint_weights'] = weights[-1]
    return labels
