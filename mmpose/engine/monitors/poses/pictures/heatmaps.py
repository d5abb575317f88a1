# Copyright (c) OpenMMLab. All rights reserved.
from typing import NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

# What a target of a codec has at its keypoint. 1 if it is not here; None where
# what the model returns has no such scale.
_TARGET_PEAKS = dict(
    MegviiHeatmap=255, SimCCLabel=None, IntegralRegressionLabel=None)


class Heatmap(NamedTuple):
    """The largest value over all keypoints of what a model returned.

    Attributes:
        tensors (tuple[Tensor]): It, of shape (h, w); or where a model predicts
            a vector for each axis those along y, shape (K, h), and along x,
            shape (K, w), which are small.
        size (np.ndarray): (w, h).
        stride (np.ndarray): The input's pixels between two of its own, (x, y).
        peak (float, optional): What a target has at its keypoint. None where
            there is no such scale, as after a softmax.
    """
    tensors: Tuple[Tensor, ...]
    size: np.ndarray
    stride: np.ndarray
    peak: Optional[float]


def read_heatmap(result, codec=None) -> Optional[Heatmap]:
    """Read the heatmap of what a model returned.

    Args:
        result (PoseDataSample): What it returned for an image. Its
            ``input_size`` is the size of the input.
        codec (BaseKeypointCodec, optional): The model's. Defaults to None.

    Returns:
        Heatmap | None: None if there is none. Without what is no keypoint's:
        the centre map of DEKR, the offsets of UDP.
    """
    heatmaps = result.get('pred_fields', {}).get('heatmaps')
    # Of nobody, where each instance has heatmaps of its own.
    if heatmaps is None or heatmaps.ndim < 3 or not heatmaps.numel():
        return None
    kinds = {cls.__name__ for cls in type(codec).__mro__}
    heatmaps = heatmaps.detach().flatten(0, -3)
    size = np.array(heatmaps.shape[:0:-1])
    stride = np.array(result.get('input_size', size)) / size
    if np.array_equal(getattr(codec, 'heatmap_size', None), size):
        stride = np.array(codec.scale_factor)
    known = [peak for kind, peak in _TARGET_PEAKS.items() if kind in kinds]
    peak = known[0] if known else 1
    axes = _axes(result.get('pred_instances', {}))
    if axes and (len(axes[0]), axes[0].shape[1], axes[1].shape[1]) == tuple(
            heatmaps.shape):
        return Heatmap(axes, size, stride, peak)
    if getattr(codec, 'heatmap_type', None) == 'combined':
        heatmaps = heatmaps[::3]  # After each its offsets, along x and y.
    if 'SPR' in kinds:
        if len(heatmaps) == 1:
            return None
        heatmaps = heatmaps[:-1]
    return Heatmap((heatmaps.amax(0), ), size, stride, peak)


def largest(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Return the heatmap, shape (h, w).

    Args:
        arrays (Sequence[np.ndarray]): What came of :attr:`Heatmap.tensors`.
    """
    if len(arrays) == 1:
        return arrays[0]
    heatmap = np.full((arrays[0].shape[1], arrays[1].shape[1]), -np.inf,
                      np.float32)
    for y, x in zip(*arrays):
        np.maximum(heatmap, np.outer(y, x), out=heatmap)
    return heatmap


def _axes(instances) -> Optional[Tuple[Tensor, Tensor]]:
    """The vectors of which a model has made its heatmaps, copied.

    They are views of those of the whole batch.
    """
    y, x = (instances.get(f'keypoint_{axis}_labels', None) for axis in 'yx')
    if not isinstance(y, np.ndarray) or not isinstance(x, np.ndarray):
        return None
    y, x = (
        torch.from_numpy(np.array(axis).reshape(-1, axis.shape[-1]))
        for axis in (y, x))
    return y, x
