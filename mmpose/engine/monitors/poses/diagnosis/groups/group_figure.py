# Copyright (c) OpenMMLab. All rights reserved.
from typing import Sequence

import numpy as np
from matplotlib.cm import viridis
from matplotlib.patches import Rectangle

from ...pictures.keypoint_figure import (FAINT_INK, new_figure, picture_of,
                                         pixel_axes, write)

# In pixels.
_LEFT, _TOP, _WIDTH, _HEIGHT = 170, 70, 720, 520
_HEAD = 70
_NO_DATA = '#ececec'


def draw_group_figure(values: np.ndarray, counts: np.ndarray,
                      rows: Sequence[str], columns: Sequence[str], best: float,
                      title: str) -> np.ndarray:
    """Draw the accuracy by two properties as a matrix.

    Without pyplot, so that any thread may call it.

    Args:
        values (np.ndarray): The accuracy of each group, NaN without data,
            shape (R, C).
        counts (np.ndarray): The numbers of instances, shape (R, C).
        rows (Sequence[str]): The names of the groups in the rows.
        columns (Sequence[str]): Those in the columns; a second line is small.
        best (float): The value in the brightest color, 1 if high is good, 0
            if low is good; the darkest is that of the other.
        title (str): The title.

    Returns:
        np.ndarray: RGB, uint8 of shape (600, 900, 3).
    """
    figure = new_figure(title, 1)
    axes = pixel_axes(figure, 0, _TOP, _LEFT + _WIDTH, _HEAD + _HEIGHT)
    width, height = _WIDTH / len(columns), (_HEIGHT - _HEAD) / len(rows)
    for x, text in enumerate(columns):
        for line, part in enumerate(text.split('\n')):
            write(
                axes,
                _LEFT + (x + .5) * width,
                20 + 30 * line,
                part,
                24 - 4 * line,
                ha='center',
                color=FAINT_INK if line else '#202020')
    for y, text in enumerate(rows):
        top = _HEAD + y * height
        write(axes, _LEFT - 12, top + height / 2, text, 24, ha='right')
        for x in range(len(columns)):
            left = _LEFT + x * width
            value, count = values[y, x], counts[y, x]
            fill, ink = _NO_DATA, FAINT_INK
            if np.isfinite(value):
                brightness = value if best else 1 - value
                fill = viridis(float(np.clip(brightness, 0, 1)))
                ink = '#ffffff' if brightness < .6 else '#202020'
                write(
                    axes,
                    left + width / 2,
                    top + .38 * height,
                    f'{value:.3f}',
                    34,
                    color=ink,
                    ha='center')
            axes.add_patch(
                Rectangle((left + 2, top + 2),
                          width - 4,
                          height - 4,
                          color=fill))
            write(
                axes,
                left + width / 2,
                top + .75 * height,
                f'{count:,}',
                22,
                color=ink,
                ha='center')
    return picture_of(figure)
