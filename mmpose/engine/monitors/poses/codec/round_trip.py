# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, Optional, Tuple

import numpy as np
import torch
from torch.nn.functional import interpolate

from ...core.runner_parts import pipeline_transforms
from ..pictures.pose_targets import decode_labels

# The distance of the tags of two instances, so that they are never grouped.
_APART = 10.


def find_encoder(dataset, codec):
    """Return the codec with which a pipeline encodes the targets.

    Args:
        dataset (Dataset): The data set of the training.
        codec (BaseKeypointCodec): The codec of the model.

    Returns:
        BaseKeypointCodec: Of several, the last one of the model's kind; the
        codec of the model if there is none.
    """
    found = codec
    for step in pipeline_transforms(dataset):
        encoders = getattr(step, 'encoder', ())
        if not isinstance(encoders, (list, tuple)):
            encoders = [encoders]
        for encoder in encoders:
            if isinstance(encoder, type(codec)):
                found = encoder
    return found


def why_not(codec) -> Optional[str]:
    """Return why keypoints cannot be encoded and decoded again.

    Args:
        codec (BaseKeypointCodec, optional): The codec of the model.

    Returns:
        str | None: None if they can.
    """
    if codec is None:
        return 'the model has no codec that decodes its predictions'
    name = _kind(codec)
    if name in _ROUND_TRIPS:
        return None
    reason = _REASONS.get(name, 'is none of the codecs that are known')
    return f'{type(codec).__name__} {reason}'


def round_trip(encoder, codec, keypoints: np.ndarray,
               visible: np.ndarray) -> np.ndarray:
    """Encode the keypoints of an image, and decode them again.

    Args:
        encoder (BaseKeypointCodec): What encodes.
        codec (BaseKeypointCodec): What decodes; :func:`why_not` must be None.
        keypoints (np.ndarray): In the input's pixels, shape (N, K, 2).
        visible (np.ndarray): Which are encoded, bool of shape (N, K).

    Returns:
        np.ndarray: The decoded keypoints of M instances in the input's pixels,
        shape (M, K, 2). The codecs of top-down models decode one instance.
    """
    # Some codecs change what they are given.
    encoded = encoder.encode(
        np.array(keypoints, np.float32), np.array(visible, np.float32))
    with np.errstate(all='ignore'):  # Of a keypoint that is not encoded.
        decode = _ROUND_TRIPS[_kind(codec)]
        return decode(codec, encoded, keypoints, visible)


def input_size(codec) -> Tuple[int, int]:
    """Return the width and the height of the input of a codec."""
    # One that has a heatmap and a regression consists of two.
    return getattr(codec, 'keypoint_codec', codec).input_size


def heatmap_pixel(codec) -> float:
    """Return the longer side of a pixel of a codec's heatmaps, in pixels of
    the input; 1 if there are no heatmaps."""
    size = getattr(codec, 'heatmap_size', None)
    if size is None:
        return 1.
    return float((np.array(codec.input_size) / np.array(size)).max())


def _alone(codec, encoded: dict, *_) -> np.ndarray:
    """Decode labels as the output of a model that predicts them exactly."""
    return np.array(decode_labels(codec, encoded)[0][..., :2], float)


def _grouped(codec, encoded: Dict[str, np.ndarray], keypoints: np.ndarray,
             visible: np.ndarray) -> np.ndarray:
    """Decode heatmaps that are enlarged as in the head, with perfect tags."""
    size = codec.heatmap_size[::-1]
    heatmaps = torch.from_numpy(encoded['heatmaps'])[None]
    if heatmaps.shape[2:] != size:
        heatmaps = interpolate(heatmaps, size, mode='bilinear')
    cells = keypoints / codec.scale_factor
    # Farther away a heatmap is 0.
    reach = int(4 * codec.sigma * size[1] / encoded['heatmaps'].shape[2]) + 1
    rows, columns = np.indices(size)
    # The tag of a place is that of the instance with the nearest keypoint.
    tags = np.zeros(heatmaps.shape, np.float32)
    nearest = np.full(heatmaps.shape, np.inf)
    for i, k in zip(*np.nonzero(visible)):
        x, y = cells[i, k]
        left, top = max(int(x) - reach, 0), max(int(y) - reach, 0)
        near = np.s_[top:int(y) + reach + 1, left:int(x) + reach + 1]
        distance = np.hypot(columns[near] - x, rows[near] - y)
        is_nearer = distance < nearest[0, k][near]
        nearest[0, k][near][is_nearer] = distance[is_nearer]
        tags[0, k][near][is_nearer] = _APART * i
    decoded = codec.batch_decode(heatmaps, torch.from_numpy(tags))[0][0]
    return np.array(decoded, float).reshape(-1, *keypoints.shape[1:])


def _kind(codec) -> str:
    """Return the name of the class of MMPose that a codec is, or ''."""
    for cls in type(codec).__mro__:
        if cls.__name__ in _ROUND_TRIPS or cls.__name__ in _REASONS:
            return cls.__name__
    return ''


# How each codec of MMPose decodes what it has encoded, by class name, since
# not every version has all of them. Encoding runs in the writer's thread, so
# those that draw random numbers must not be here.
_ROUND_TRIPS = dict(
    MSRAHeatmap=_alone,
    UDPHeatmap=_alone,
    MegviiHeatmap=_alone,
    SimCCLabel=_alone,
    RegressionLabel=_alone,
    IntegralRegressionLabel=_alone,
    SPR=_alone,
    AssociativeEmbedding=_grouped)
_REASONS = dict(
    DecoupledHeatmap='draws random numbers when it encodes',
    EDPoseLabel='decodes the output of a whole transformer',
    Hand3DHeatmap='encodes depths that are not in a training sample',
    YOLOXPoseAnnotationProcessor='does not encode')
