# Copyright (c) OpenMMLab. All rights reserved.
from typing import Sequence

import numpy as np

from ..pictures.keypoint_figure import (FAINT_INK, new_figure, picture_of,
                                        short_name, write)

# They differ with any kind of color vision.
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

    The keypoint with the fewest good ones comes first. The legend has the
    fraction of each kind of all keypoints. Without pyplot, so that any thread
    may call it.

    Args:
        names (Sequence[str]): The names of N keypoints or body parts.
        kinds (Sequence[str]): The kinds, the good ones first.
        counts (np.ndarray): The number of keypoints of each kind, shape
            (N, len(kinds)).
        title (str): The title.

    Returns:
        np.ndarray: RGB, uint8 of shape (H, 900, 3).
    """
    totals = counts.sum(1)
    fractions = counts / np.maximum(totals, 1)[:, None]
    overall = counts.sum(0) / max(totals.sum(), 1)
    # Those without data come last.
    order = np.lexsort((fractions[:, 0], totals == 0))
    starts = np.pad(fractions.cumsum(1), ((0, 0), (1, 0)))
    figure = new_figure(title, len(names) + 3)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(max(len(names), 12) - .5, -.5)
    for i, kind in enumerate(kinds):
        axes.barh(
            range(len(names)),
            fractions[order, i],
            .78,
            starts[order, i],
            color=COLORS[kind],
            label=f'{kind.replace("_", " ")} {overall[i]:.1%}')
    axes.legend(
        loc='lower center',
        bbox_to_anchor=(.4, 1),
        ncol=3,
        fontsize=18,
        frameon=False,
        labelcolor='#202020')
    for y, i in enumerate(order):
        style = dict(ha='right')
        if not totals[i]:
            style['color'] = FAINT_INK
            write(axes, 0, y, 'no data', color=FAINT_INK)
        write(axes, -.01, y, short_name(names[i]), **style)
    figure.tight_layout()
    return picture_of(figure)
