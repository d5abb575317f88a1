# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, Optional, Tuple

import numpy as np
import torch
from torch import nn


def find_codec(model: nn.Module):
    """Return the codec with which a model decodes its predictions.

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
    """Decode the target of a training sample to keypoints.

    The labels, which the loss is computed from, are decoded like a prediction.
    Labels that are keypoints are returned as they are.

    Args:
        codec (BaseKeypointCodec, optional): The codec of the model.
        sample (PoseDataSample): A training sample with its labels.

    Returns:
        tuple[np.ndarray, np.ndarray] | None: Keypoints in the input's pixels,
        shape (N, K, 2), and which of them the loss counts, bool of shape
        (N, K). None if the labels do not tell the keypoints.
    """
    return decode_labels(codec, read_labels(sample))


def decode_labels(codec, labels: Dict[str, np.ndarray]
                  ) -> Optional[Tuple[np.ndarray, np.ndarray]]:
    """Decode labels to keypoints, see :func:`decode_target`.

    Args:
        codec (BaseKeypointCodec, optional): The codec of the model.
        labels (dict[str, np.ndarray]): The result of :func:`read_labels`, or
            of the codec's ``encode``.
    """
    with np.errstate(all='ignore'):  # Of a keypoint without a label.
        decoded = None if codec is None else _decode(codec, labels)
    if decoded is None and 'keypoints' in labels:
        decoded = labels['keypoints'], labels.get('keypoints_visible')
    if decoded is None:
        return None
    keypoints, weights = decoded
    keypoints = np.array(keypoints[..., :2], np.float32)
    if weights is None or weights.size != keypoints[..., 0].size:
        weights = np.ones(keypoints.shape[:2])
    finite = np.isfinite(keypoints).all(-1)
    counted = (weights.reshape(finite.shape) > 0) & finite
    return np.where(finite[..., None], keypoints, 0), counted


def _decode(
    codec, labels: Dict[str, np.ndarray]
) -> Optional[Tuple[np.ndarray, Optional[np.ndarray]]]:
    """Return the decoded keypoints and their weights.

    None if the labels do not tell the keypoints of the instances.
    """
    if 'keypoint_indices' in labels:
        return _at_indices(codec, labels)
    for cls in type(codec).__mro__:
        if cls.__name__ in _DECODERS:
            return _DECODERS[cls.__name__](codec, labels)
    name = 'heatmaps'
    if name not in labels or 'keypoint_labels' in getattr(
            codec, 'label_mapping_table', {}):
        name = 'keypoint_labels'
    try:
        keypoints = codec.decode(labels[name])[0]
    except NotImplementedError:
        return None
    weights = labels.get('keypoint_weights')
    if (name == 'heatmaps' and weights is not None
            and len(labels[name]) % weights.size == 0):
        # A keypoint outside of the input has a weight and no peak.
        heatmaps = labels[name]
        if getattr(codec, 'heatmap_type', None) == 'combined':
            heatmaps = heatmaps[::3]  # Each is followed by its offsets.
        peaks = heatmaps.reshape(weights.size, -1).max(-1)
        weights = weights * (peaks > 0).reshape(weights.shape)
    return keypoints, weights


def _from_axes(codec, labels: Dict[str, np.ndarray]):
    """Decode keypoints with a vector for each axis."""
    return codec.decode(
        labels['keypoint_x_labels'],
        labels['keypoint_y_labels'])[0], labels.get('keypoint_weights')


def _decoupled(codec, labels: Dict[str, np.ndarray]):
    """Decode keypoints with heatmaps for each instance."""
    count = len(labels['instance_coords'])
    heatmaps = labels['instance_heatmaps']
    if not count:
        return np.zeros((0, len(labels['heatmaps']) - 1, 2)), None
    heatmaps = heatmaps.reshape(count, -1, *heatmaps.shape[1:])
    keypoints, _ = codec.decode(heatmaps, np.ones((count, 1)))
    weights = labels.get('keypoint_weights')
    peaks = heatmaps.max((2, 3)) > 0
    weights = peaks if weights is None else weights * peaks
    # The head adds the same to its decoded keypoints.
    return keypoints + codec.scale_factor / 2, weights


def _hand_3d(codec, labels: Dict[str, np.ndarray]):
    """Decode the keypoints of two hands with a heatmap for each depth."""
    heatmaps = labels['heatmaps']
    keypoints, *_ = codec.decode(
        heatmaps.reshape(-1, codec.heatmap_size[2], *heatmaps.shape[1:]),
        labels['root_depth'], labels['type'])
    return keypoints, labels.get('keypoint_weights')


def _at_indices(codec, labels: Dict[str, np.ndarray]):
    """Decode keypoints whose places in the heatmap are labels."""
    indices, visible = np.moveaxis(labels['keypoint_indices'], -1, 0)
    # Not the codec's own size: it may decode enlarged heatmaps.
    height, width = labels['heatmaps'].shape[-2:]
    size, heatmap_size = np.array(codec.input_size), np.array([width, height])
    if getattr(codec, 'use_udp', False):
        size, heatmap_size = size - 1, heatmap_size - 1
    places = np.stack([indices % width, indices // width], axis=-1)
    return places * (size / heatmap_size), visible


def _displaced(codec, labels: Dict[str, np.ndarray]):
    """Decode displacements of keypoints from the centres of instances."""
    heatmaps = torch.from_numpy(labels['heatmaps'])

    def decode(displacements: np.ndarray) -> np.ndarray:
        keypoints, _ = codec.decode(heatmaps, torch.from_numpy(displacements))
        return keypoints.numpy()

    # Keypoints without a weight have no displacement.
    centres = decode(np.zeros_like(labels['displacements']))
    weights = decode(labels['displacement_weights']) - centres
    return decode(labels['displacements']), weights.max(-1)


def read_labels(sample) -> Dict[str, np.ndarray]:
    """Copy all that the loss may be computed from.

    Args:
        sample (PoseDataSample): A training sample.
    """
    labels = {}
    for source in ('gt_instance_labels', 'gt_fields'):
        data = sample.get(source, {})
        if hasattr(data, 'levels'):  # Of several the finest.
            data = data.levels()[-1]
        labels.update({name: np.array(value) for name, value in data.items()})
    weights = labels.get('keypoint_weights')
    if weights is not None and weights.ndim == 3:
        labels['keypoint_weights'] = weights[-1]
    return labels


def _not_alone(codec, labels: Dict[str, np.ndarray]) -> None:
    """Return None: the codec decodes the output of a whole transformer."""


# The decoders of codecs with more than one array of labels, by class name.
_DECODERS = dict(
    SimCCLabel=_from_axes,
    SPR=_displaced,
    DecoupledHeatmap=_decoupled,
    Hand3DHeatmap=_hand_3d,
    EDPoseLabel=_not_alone)
