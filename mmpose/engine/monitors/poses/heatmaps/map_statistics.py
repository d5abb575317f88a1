# Copyright (c) OpenMMLab. All rights reserved.
from typing import NamedTuple, Tuple

import numpy as np
from scipy.ndimage import maximum_filter

from .keypoint_maps import TargetMaps

# Values below this fraction of the peak are background.
_BACKGROUND = 0.5
# A second peak is this many times as far away as the target is wide.
_APART = 4


class MapStatistics(NamedTuple):
    """How the heatmaps of K keypoints differ from their targets.

    Attributes:
        peaks (np.ndarray): The highest value over that of the target, shape
            (K, ).
        distances (np.ndarray): From there to the target, in pixels of the
            input, shape (K, ).
        spreads (np.ndarray): The standard deviation of the values above half
            of the peak over that of the target, shape (K, ). NaN without a
            peak.
        seconds (np.ndarray): The second highest peak over the highest, shape
            (K, ). NaN without a peak.
    """
    peaks: np.ndarray
    distances: np.ndarray
    spreads: np.ndarray
    seconds: np.ndarray


def map_statistics(predicted: Tuple[np.ndarray, ...],
                   target: TargetMaps) -> MapStatistics:
    """Compare heatmaps with their targets.

    Args:
        predicted (tuple[np.ndarray]): See :func:`scaled`.
        target (TargetMaps): The targets.

    Returns:
        MapStatistics: Means over the axes where there are vectors.
    """
    num_keypoints = len(target.counted)
    rows = np.full((4, num_keypoints), np.nan)
    strides = [target.stride[::-1]
               ] if len(predicted) == 1 else target.stride[:, None]
    for k in np.flatnonzero(target.counted):
        axes = [
            _statistics(one[k], aim[k], stride)
            for one, aim, stride in zip(predicted, target.maps, strides)
        ]
        rows[:, k] = np.mean(axes, axis=0)
        # The axes of a distance are at right angles.
        rows[1, k] = np.hypot(
            *[axis[1] for axis in axes]) if len(axes) == 2 else axes[0][1]
    return MapStatistics(*rows)


def _statistics(values: np.ndarray, target: np.ndarray,
                stride: np.ndarray) -> Tuple[float, float, float, float]:
    place = np.array(np.unravel_index(values.argmax(), values.shape))
    peak = values[tuple(place)]
    # Of several instances the nearest.
    aims = np.argwhere(target >= 0.99 * target.max())
    distance = np.linalg.norm((aims - place) * stride, axis=-1).min()
    if peak <= 0:
        return max(peak, 0), distance, np.nan, np.nan
    width = _deviation(target)
    local = values == maximum_filter(values, 3)
    local &= values > 0
    places = np.argwhere(local)
    others = places[np.linalg.norm(places - place, axis=-1) > _APART * width]
    second = values[tuple(others.T)].max() if len(others) else 0
    return peak, distance, _deviation(values) / width, second / peak


def _deviation(values: np.ndarray) -> float:
    """Return the standard deviation around the mean, in pixels."""
    weights = (values / values.max() - _BACKGROUND).clip(0)
    places = np.argwhere(weights > 0)
    weights = weights[tuple(places.T)]
    mean = np.average(places, axis=0, weights=weights)
    squares = ((places - mean)**2).sum(-1)
    # That of a single pixel is not 0.
    return float(np.sqrt(np.average(squares, weights=weights) + 1 / 12))
