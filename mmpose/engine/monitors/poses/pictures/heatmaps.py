# Copyright (c) OpenMMLab. All rights reserved.
from typing import NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np
import torch
from torch import Tensor

# The value of a codec's target at its keypoint; 1 for all others. None: what
# the model returns has no such scale.
_TARGET_PEAKS = dict(
    MegviiHeatmap=255, SimCCLabel=None, IntegralRegressionLabel=None)


class Heatmap(NamedTuple):
    """The maximum over the heatmaps of all keypoints.

    Attributes:
        tensors (tuple[Tensor]): The maximum, shape (h, w). If a model predicts
            a vector for each axis, the smaller vectors along y, shape (K, h),
            and along x, shape (K, w).
        size (np.ndarray): (w, h).
        stride (np.ndarray): The distance of two of its pixels in pixels of the
            input, (x, y).
        peak (float, optional): The value of a target at its keypoint. None
            where there is no such scale, as after a softmax.
    """
    tensors: Tuple[Tensor, ...]
    size: np.ndarray
    stride: np.ndarray
    peak: Optional[float]


def read_heatmap(result, codec=None) -> Optional[Heatmap]:
    """Read the heatmap of what a model returned.

    Args:
        result (PoseDataSample): What the model returned for an image. Its
            ``input_size`` is the size of the input.
        codec (BaseKeypointCodec, optional): The codec of the model. Defaults
            to None.

    Returns:
        Heatmap | None: None if the model returned none. The centre map of DEKR
        and the offsets of UDP are excluded.
    """
    heatmaps = read_maps(result, codec)
    if heatmaps is None:
        return None
    size = np.array(heatmaps.shape[:0:-1])
    stride = np.array(result.get('input_size', size)) / size
    if np.array_equal(getattr(codec, 'heatmap_size', None), size):
        stride = np.array(codec.scale_factor)
    axes = _axes(result.get('pred_instances', {}))
    if axes and (len(axes[0]), axes[0].shape[1], axes[1].shape[1]) == tuple(
            heatmaps.shape):
        return Heatmap(axes, size, stride, target_peak(codec))
    return Heatmap((heatmaps.amax(0), ), size, stride, target_peak(codec))


def read_maps(result, codec=None) -> Optional[Tensor]:
    """Read the heatmaps of the keypoints of what a model returned.

    Args:
        result (PoseDataSample): See :func:`read_heatmap`.
        codec (BaseKeypointCodec, optional): See :func:`read_heatmap`. Defaults
            to None.

    Returns:
        Tensor | None: Shape (K, h, w), a view; of several instances those of
        each. See :func:`read_heatmap`.
    """
    heatmaps = result.get('pred_fields', {}).get('heatmaps')
    # Empty where each instance has its own heatmaps and none was found.
    if heatmaps is None or heatmaps.ndim < 3 or not heatmaps.numel():
        return None
    return without_others(heatmaps.detach().flatten(0, -3), codec)


def without_others(heatmaps, codec=None):
    """Return the heatmaps without maps that are of no keypoint.

    Args:
        heatmaps (Tensor | np.ndarray): Shape (C, h, w).
        codec (BaseKeypointCodec, optional): See :func:`read_heatmap`. Defaults
            to None.

    Returns:
        Tensor | np.ndarray | None: Shape (K, h, w); None if there are none.
    """
    if getattr(codec, 'heatmap_type', None) == 'combined':
        return heatmaps[::3]  # Each is followed by two maps of offsets.
    if 'SPR' in _kinds(codec):
        return heatmaps[:-1] if len(heatmaps) > 1 else None
    return heatmaps


def target_peak(codec) -> Optional[float]:
    """Return :attr:`Heatmap.peak` of a codec."""
    kinds = _kinds(codec)
    known = [peak for kind, peak in _TARGET_PEAKS.items() if kind in kinds]
    return known[0] if known else 1


def _kinds(codec) -> Set[str]:
    return {cls.__name__ for cls in type(codec).__mro__}


def largest(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Return the heatmap, shape (h, w).

    Args:
        arrays (Sequence[np.ndarray]): The values of :attr:`Heatmap.tensors`.
    """
    if len(arrays) == 1:
        return arrays[0]
    heatmap = np.full((arrays[0].shape[1], arrays[1].shape[1]), -np.inf,
                      np.float32)
    for y, x in zip(*arrays):
        np.maximum(heatmap, np.outer(y, x), out=heatmap)
    return heatmap


def _axes(instances) -> Optional[Tuple[Tensor, Tensor]]:
    """Copy the vectors that a model has made its heatmaps of.

    They are views into those of the whole batch.
    """
    y, x = (instances.get(f'keypoint_{axis}_labels', None) for axis in 'yx')
    if not isinstance(y, np.ndarray) or not isinstance(x, np.ndarray):
        return None
    y, x = (
        torch.from_numpy(np.array(axis).reshape(-1, axis.shape[-1]))
        for axis in (y, x))
    return y, x
