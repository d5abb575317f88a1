# Copyright (c) OpenMMLab. All rights reserved.
from typing import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..pictures.keypoint_figure import (FAINT_INK, LETTER, num_letters,
                                        pixel_axes, write)

# Lengths are in pixels, to be read on TensorBoard's cards, which are less than
# half as wide.
_WIDTH = 900
_DPI = 100
_MARGIN = 20
_TITLE = 56
_LEGEND = 46
_FONT = 28
# Told from each other with any color vision, and by their order.
COLORS = dict(
    good='#bfe3c0',
    jitter='#f6c344',
    inversion='#7b3fa0',
    swap='#2f7fd0',
    miss='#d1352b',
    not_found='#5a5a5a')


def draw_error_figure(names: Sequence[str], kinds: Sequence[str],
                      counts: np.ndarray, title: str) -> np.ndarray:
    """Draw the kinds of error of each keypoint as stacked bars.

    The keypoint with the fewest good ones first; above, what each color means
    and its fraction of all keypoints. Without pyplot, so any thread may call
    it.

    Args:
        names (Sequence[str]): Of N keypoints or parts of the body.
        kinds (Sequence[str]): The kinds, the good ones first.
        counts (np.ndarray): How many keypoints are of each kind, shape
            (N, len(kinds)).
        title (str): What stands above it.

    Returns:
        np.ndarray: RGB, uint8 of shape (H, 900, 3).
    """
    totals = counts.sum(1)
    fractions = counts / np.maximum(totals, 1)[:, None]
    # What has no data is last.
    order = np.lexsort((fractions[:, 0], totals == 0))
    row = min(max(520 / len(names), 30), 46)
    legend = _LEGEND * -(-len(kinds) // 3)
    top = _TITLE + legend + _MARGIN / 2
    height = top + len(names) * row + _MARGIN
    figure = Figure((_WIDTH / _DPI, height / _DPI), _DPI, facecolor='white')
    FigureCanvasAgg(figure)
    axes = pixel_axes(figure, 0, 0, _WIDTH, height)
    write(axes, _MARGIN, _TITLE / 2, title, _FONT, weight='bold')
    overall = counts.sum(0) / max(totals.sum(), 1)
    for i, kind in enumerate(kinds):
        x = _MARGIN + i % 3 * (_WIDTH - 2 * _MARGIN) / 3
        y = _TITLE + (i // 3 + .5) * _LEGEND
        axes.add_patch(Rectangle((x, y - 13), 26, 26, color=COLORS[kind]))
        write(axes, x + 36, y, f'{kind.replace("_", " ")} {overall[i]:.1%}',
              _FONT)
    font = min(.78 * row, _FONT)
    letters = max(map(num_letters, names)) * LETTER
    name_font = min(font, .42 * _WIDTH / letters)
    left = letters * name_font + 24
    full = _WIDTH - _MARGIN - left
    middle = top + (np.arange(len(names)) + .5) * row
    starts = left + full * np.pad(fractions.cumsum(1), ((0, 0), (1, 0)))
    for i, kind in enumerate(kinds):
        axes.barh(
            middle,
            full * fractions[order, i],
            .78 * row,
            starts[order, i],
            color=COLORS[kind])
    for y, i in zip(middle, order):
        style = dict(ha='right')
        if not totals[i]:
            style['color'] = FAINT_INK
            write(axes, left, y, 'no data', font, color=FAINT_INK)
        write(axes, left - 10, y, names[i], name_font, **style)
    figure.canvas.draw()
    return np.array(figure.canvas.buffer_rgba())[..., :3]
