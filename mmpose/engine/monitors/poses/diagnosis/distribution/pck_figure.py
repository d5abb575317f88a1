# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict

import numpy as np

from ...pictures.captions import shorten
from ...pictures.keypoint_figure import (FAINT_INK, new_figure, picture_of,
                                         pixel_axes, write)

# They differ with any kind of color vision; the first is that of all.
_COLORS = ('#202020', '#1b7837', '#5aae61', '#a6dba0', '#f4a582', '#d6604d',
           '#b2182b')
# In pixels.
_LEFT, _TOP, _WIDTH, _HEIGHT = 70, 70, 480, 470


def draw_pck_curves(thresholds: np.ndarray, curves: Dict[str, np.ndarray],
                    areas: Dict[str, float], title: str) -> np.ndarray:
    """Draw the PCK over the thresholds.

    Without pyplot, so that any thread may call it.

    Args:
        thresholds (np.ndarray): Ascending from 0, shape (T, ).
        curves (dict[str, np.ndarray]): By name, all keypoints first, the PCK
            at each threshold, shape (T, ); at most seven.
        areas (dict[str, float]): By name, the area that the legend shows.
        title (str): The title.

    Returns:
        np.ndarray: RGB, uint8 of shape (600, 900, 3).
    """
    figure = new_figure(title, 1)
    across, down = figure.bbox.size
    axes = figure.add_axes((_LEFT / across, 1 - (_TOP + _HEIGHT) / down,
                            _WIDTH / across, _HEIGHT / down))
    axes.set_xlim(0, thresholds[-1])
    axes.set_ylim(0, 1)
    axes.set_xticks([0, .05, .1, .15, .2])
    axes.tick_params(labelsize=15)
    axes.grid(color='#e0e0e0')
    legend = pixel_axes(figure, _LEFT + _WIDTH, _TOP, across - _LEFT - _WIDTH,
                        _HEIGHT)
    write(legend, 330, 14, 'area', ha='right', color=FAINT_INK)
    colors = _COLORS if len(curves) > 1 else _COLORS[:1]
    for i, (name, values) in enumerate(curves.items()):
        axes.plot(thresholds, values, color=colors[i], lw=4 if not i else 2.5)
        y = 60 + 42 * i
        legend.plot([24, 54], [y, y], color=colors[i], lw=4)
        write(legend, 64, y, shorten(name, 180, 22))
        write(legend, 330, y, f'{areas[name]:.3f}', ha='right')
    write(
        legend,
        24 - _WIDTH / 2,
        _HEIGHT + 48,
        'threshold, of the longer side of the box',
        ha='center',
        color=FAINT_INK)
    return picture_of(figure)
