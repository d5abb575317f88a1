# Copyright (c) OpenMMLab. All rights reserved.
import numpy as np

from ...pictures.keypoint_figure import (FAINT_INK, new_figure, picture_of,
                                         short_name, write)
from .differences import Differences

# They differ with any kind of color vision.
_BETTER, _WORSE, _UNCERTAIN = '#2f7fd0', '#d1352b', '#808080'
# Of more keypoints, those that changed most have a row.
_MAX_ROWS = 24


def draw_differences(found: Differences, title: str) -> np.ndarray:
    """Draw the difference of each keypoint with its interval.

    The keypoint that has lost most comes first, the mean of the instances
    last. Gray is one whose interval contains 0. Without pyplot, so that any
    thread may call it.

    Args:
        found (Differences): The differences.
        title (str): The title.

    Returns:
        np.ndarray: RGB, uint8 of shape (H, 900, 3).
    """
    change = found.change
    known = np.flatnonzero(np.isfinite(change[:-1]))
    known = known[np.argsort(-np.abs(change[known]))[:_MAX_ROWS]]
    order = [*known[np.argsort(change[known], kind='stable')], -1]
    figure = new_figure(title, len(order) + 2)
    axes = figure.subplots()
    for side in ('left', 'right', 'top'):
        axes.spines[side].set_visible(False)
    axes.set_yticks([])
    axes.tick_params(labelsize=16, colors=FAINT_INK)
    axes.axvline(0, color='#202020', lw=1.5)
    axes.set_ylim(max(len(order), 12) - .4, -.6)
    left = min(np.nanmin(found.low[order]), 0)
    right = max(np.nanmax(found.high[order]), 0)
    margin = max(.06 * (right - left), 1e-3)
    axes.set_xlim(left - margin, right + margin)
    across = axes.get_yaxis_transform()
    for y, i in enumerate(order):
        low, value, high = found.low[i], change[i], found.high[i]
        color = _UNCERTAIN
        if low > 0 or high < 0:
            color = _BETTER if value > 0 else _WORSE
        axes.plot([low, high], [y, y], color=color, lw=7, alpha=.35)
        axes.plot(value, y, 'o', color=color, markersize=9)
        style = dict(transform=across, color=color)
        if i == -1:
            style['weight'] = 'bold'
            axes.axhline(y - .5, color='#c0c0c0', lw=1)
        write(axes, 1.02, y, f'{value:+.3f}', **style)
        style['color'] = '#202020'
        write(axes, -.02, y, short_name(found.names[i]), ha='right', **style)
    figure.tight_layout()
    return picture_of(figure)
