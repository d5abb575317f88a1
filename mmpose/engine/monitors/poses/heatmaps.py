# Copyright (c) OpenMMLab. All rights reserved.
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
from torch import Tensor


class HeatmapPlace(NamedTuple):
    """Where a heatmap lies in the image.

    Attributes:
        stride (np.ndarray): The image's pixels between two of its pixels,
            (x, y).
        offset (np.ndarray): Where its first pixel is, (x, y).
    """
    stride: np.ndarray
    offset: np.ndarray


class AxisHeatmaps(NamedTuple):
    """Heatmaps that are products of a vector for each axis, on the host.

    Attributes:
        y (np.ndarray): Of each keypoint the values along y, shape (K, h).
        x (np.ndarray): Those along x, shape (K, w).
    """
    y: np.ndarray
    x: np.ndarray

    @property
    def shape(self) -> Tuple[int, int]:
        return self.y.shape[1], self.x.shape[1]

    def largest(self) -> np.ndarray:
        """The largest value over all keypoints, shape (h, w)."""
        largest = np.full(self.shape, -np.inf, np.float32)
        for y, x in zip(self.y, self.x):
            np.maximum(largest, np.outer(y, x), out=largest)
        return largest


class Heatmaps:
    """The heatmaps of samples, on their way to the thread that draws.

    Attributes:
        tensors (list[Tensor]): What of them has to come to the host.
    """

    def __init__(self) -> None:
        self.tensors: List[Tensor] = []
        self._heatmaps: List[Optional[tuple]] = []

    def add(self, result, codec, sample) -> None:
        """Add what a model returned for a sample, maybe none."""
        heatmap = heatmap_of(result, codec)
        if isinstance(heatmap, Tensor):
            self.tensors.append(heatmap)
        self._heatmaps.append(None if heatmap is None else (
            heatmap, heatmap_place(heatmap, codec, sample)))

    def drawn(
        self, arrays: Sequence[np.ndarray]
    ) -> Iterator[Optional[Tuple[np.ndarray, HeatmapPlace]]]:
        """For each sample the heatmap, shape (h, w), and where it lies.

        Args:
            arrays (Sequence[np.ndarray]): What came of ``tensors``.
        """
        arrays = iter(arrays)
        for item in self._heatmaps:
            if item is None:
                yield None
                continue
            heatmap, place = item
            yield (next(arrays) if isinstance(heatmap, Tensor) else
                   heatmap.largest(), place)


def heatmap_of(result, codec=None) -> Union[Tensor, AxisHeatmaps, None]:
    """The largest value over all keypoints of what a model returned.

    Args:
        result (PoseDataSample): What the model returned for an image.
        codec (BaseKeypointCodec, optional): The model's. Defaults to None.

    Returns:
        Tensor | AxisHeatmaps | None: Shape (h, w), on the model's device; of
        a model that predicts a vector for each axis, those, which are small;
        None if it returned no heatmap.
    """
    heatmaps = result.get('pred_fields', {}).get('heatmaps')
    # Of nobody, where each person has heatmaps of their own.
    if heatmaps is None or heatmaps.ndim < 3 or not heatmaps.numel():
        return None
    heatmaps = heatmaps.flatten(0, -3)
    axes = _axes(result.get('pred_instances', {}))
    if axes and (len(axes.y), *axes.shape) == heatmaps.shape:
        return axes
    if getattr(codec, 'heatmap_type', None) == 'combined':
        heatmaps = heatmaps[::3]  # After each its offsets, along x and y.
    return heatmaps.amax(0)


def heatmap_place(heatmap: Union[Tensor, AxisHeatmaps], codec,
                  sample) -> HeatmapPlace:
    """Where a heatmap lies in the image that its sample is of.

    Args:
        heatmap (Tensor | AxisHeatmaps): Shape (h, w).
        codec (BaseKeypointCodec, optional): The model's.
        sample (PoseDataSample): Its ``input_size``, ``input_scale`` and
            ``input_center`` say what part of the image was the input.

    Returns:
        HeatmapPlace: In the image's pixels.
    """
    size = np.array(heatmap.shape[::-1])
    input_size = np.array(sample.get('input_size'))
    stride = input_size / size
    if np.array_equal(getattr(codec, 'heatmap_size', None), size):
        stride = codec.scale_factor
    scale = sample.get('input_scale') / input_size
    offset = sample.get('input_center') - 0.5 * sample.get('input_scale')
    return HeatmapPlace(stride * scale, offset)


def _axes(instances) -> Optional[AxisHeatmaps]:
    """The vectors of which a model has made its heatmaps."""
    y, x = (instances.get(f'keypoint_{axis}_labels', None) for axis in 'yx')
    if not isinstance(y, np.ndarray) or not isinstance(x, np.ndarray):
        return None
    # Copies: they are views of those of the whole batch.
    return AxisHeatmaps(*(np.array(axis).reshape(-1, axis.shape[-1])
                          for axis in (y, x)))
