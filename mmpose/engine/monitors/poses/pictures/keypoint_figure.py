# Copyright (c) OpenMMLab. All rights reserved.
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import viridis
from matplotlib.figure import Figure

from .captions import legible, shorten

# In pixels. TensorBoard's cards show a figure less than half as large.
_WIDTH = 900
_ROW = 30
_FONT = 22
_DPI = 100
# Where the rows are body parts, so many keypoints have a row as well.
_LOWEST = 8

_INK = '#202020'
FAINT_INK = '#808080'
_NO_DATA = '#b0b0b0'
_TRACK = '#ececec'
_LINK = '#9a9a9a'


def keypoint_figure(names: Sequence[str], accuracy: np.ndarray,
                    groups: Dict[str, List[int]], pose: np.ndarray,
                    links: Sequence[Tuple[int, int]], title: str) -> Figure:
    """Draw how well each keypoint is predicted.

    On the left a pose with each keypoint in the color of its accuracy. On the
    right bars, the lowest first: of each group's mean and, where a group has
    several keypoints, of the least accurate keypoints. Without pyplot, so that
    any thread may call it.

    Args:
        names (Sequence[str]): The names of the K keypoints.
        accuracy (np.ndarray): From 0 to 1, NaN where there is no data, shape
            (K, ).
        groups (dict[str, list[int]]): The indices of each group's keypoints,
            see :func:`curve_groups`.
        pose (np.ndarray): Where to draw the keypoints, y downwards, in any
            unit, NaN for those that are not drawn, shape (K, 2).
        links (Sequence[tuple[int, int]]): The keypoints that the skeleton
            connects.
        title (str): The title.

    Returns:
        Figure: 900 pixels wide.
    """
    means = np.array([_mean(accuracy[group]) for group in groups.values()])
    detailed = len(groups) < len(names)
    num_rows = len(groups) + (1 + _LOWEST) * detailed
    figure = new_figure(title, num_rows)
    left, axes = figure.subplots(1, 2)
    _draw_pose(left, accuracy, pose, links)
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(max(num_rows, 12) - .5, -.5)
    _draw_bars(axes, 0, list(groups), means)
    if detailed:
        write(axes, 0, len(groups), 'lowest keypoints', weight='bold')
        lowest = np.argsort(accuracy, kind='stable')[:_LOWEST]
        _draw_bars(axes,
                   len(groups) + 1, [names[i] for i in lowest],
                   accuracy[lowest])
    figure.tight_layout()
    return figure


def new_figure(title: str, num_rows: int) -> Figure:
    """Return an empty figure with a title and room for rows."""
    height = max(600, 90 + _ROW * num_rows)
    figure = Figure((_WIDTH / _DPI, height / _DPI), _DPI, facecolor='white')
    FigureCanvasAgg(figure)
    text, style = _text_style(title, 26, weight='bold')
    figure.suptitle(text, x=.02, ha='left', **style)
    return figure


def picture_of(figure: Figure) -> np.ndarray:
    """Render a figure as RGB, uint8 of shape (H, W, 3)."""
    figure.canvas.draw()
    return np.array(figure.canvas.buffer_rgba())[..., :3]


def write(axes: Axes,
          x: float,
          y: float,
          text: str,
          size: float = _FONT,
          **style) -> None:
    """Write a text in any letters, its size in pixels."""
    text, style = _text_style(text, size, **style)
    axes.text(x, y, text, va='center_baseline', **style)


def short_name(name: str) -> str:
    """Shorten a name to half of the width of a figure."""
    return shorten(name, _WIDTH // 2, _FONT)


def _text_style(text: str,
                size: float,
                color: str = _INK,
                **style) -> Tuple[str, dict]:
    text, font = legible(text)
    style.update(size=size * 72 / _DPI, color=color)
    if not text.isascii():
        style['font'] = Path(font)
    # A dollar sign would begin a formula.
    return text.replace('$', r'\$'), style


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return known.mean() if len(known) else np.nan


def _draw_pose(axes: Axes, accuracy: np.ndarray, pose: np.ndarray,
               links: Sequence[Tuple[int, int]]) -> None:
    axes.set_axis_off()
    axes.set_aspect('equal', 'datalim')
    axes.invert_yaxis()
    for link in links:
        axes.plot(*pose[list(link)].T, color=_LINK, lw=2.5, zorder=1)
    # Those without data at the bottom, the least accurate on top.
    order = np.argsort(accuracy, kind='stable')[::-1]
    axes.scatter(
        *pose[order].T,
        s=240 if len(accuracy) <= 30 else 50,
        c=_colors(accuracy[order]),
        edgecolors=_INK,
        linewidths=.7,
        zorder=2)


def _draw_bars(axes: Axes, top: int, names: Sequence[str],
               values: np.ndarray) -> None:
    """Draw a row for each value from a row on, the lowest first."""
    # NaN is sorted to the end.
    order = np.argsort(values, kind='stable')
    values = values[order]
    rows = top + np.arange(len(values))
    axes.barh(rows, 1, .7, color=_TRACK)
    axes.barh(rows, np.nan_to_num(values), .7, color=_colors(values))
    for y, i, value in zip(rows, order, values):
        text, color, x = f'{value:.3f}', _INK, 1.02
        if np.isnan(value):
            text, color, x = 'no data', FAINT_INK, .02
        write(axes, x, y, text, color=color)
        write(axes, -.02, y, short_name(names[i]), color=color, ha='right')


def _colors(accuracy: np.ndarray) -> List:
    return [
        _NO_DATA if np.isnan(value) else viridis(float(value))
        for value in accuracy
    ]


def pixel_axes(figure: Figure, left: float, top: float, width: float,
               height: float) -> Axes:
    """Add axes without frame and ticks, y downwards, one unit a pixel."""
    across, down = figure.bbox.size
    axes = figure.add_axes((left / across, 1 - (top + height) / down,
                            width / across, height / down))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    return axes
