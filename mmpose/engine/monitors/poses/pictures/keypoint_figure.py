# Copyright (c) OpenMMLab. All rights reserved.
import math
import unicodedata
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable, viridis
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from .captions import legible

# Lengths are in pixels.
_DPI = 100
_MARGIN = 20
_TITLE = 64
_BODY = 516
_COLOR_BAR = 64
_MAX_POINT = 24
# The mean width of a letter, as a fraction of the font's size.
LETTER = .64

_INK = '#202020'
FAINT_INK = '#808080'
_NO_DATA = '#b0b0b0'
_TRACK = '#ececec'
_LINK = '#9a9a9a'


def draw_keypoint_figure(names: Sequence[str], accuracy: np.ndarray,
                         counts: np.ndarray, pose: Optional[np.ndarray],
                         drawn: Optional[np.ndarray],
                         links: Sequence[Tuple[int, int]],
                         title: str) -> np.ndarray:
    """The picture of :func:`keypoint_figure`, which has the same arguments.

    Returns:
        np.ndarray: RGB, uint8 of shape (H, W, 3).
    """
    figure = keypoint_figure(names, accuracy, counts, pose, drawn, links,
                             title)
    figure.canvas.draw()
    return np.array(figure.canvas.buffer_rgba())[..., :3]


def keypoint_figure(names: Sequence[str], accuracy: np.ndarray,
                    counts: np.ndarray, pose: Optional[np.ndarray],
                    drawn: Optional[np.ndarray],
                    links: Sequence[Tuple[int, int]], title: str) -> Figure:
    """Draw how well each keypoint is predicted.

    Left a pose with every keypoint in the color of its accuracy, right all
    keypoints as bars, the worst first. What has no data is grey and last.
    Without pyplot, so any thread may call it.

    Args:
        names (Sequence[str]): The names of the K keypoints.
        accuracy (np.ndarray): From 0 to 1, NaN where there is no data, shape
            (K, ).
        counts (np.ndarray): How many samples each accuracy comes from, shape
            (K, ).
        pose (np.ndarray, optional): Where to draw the keypoints, y downwards,
            in any unit, shape (K, 2). None leaves the bars alone.
        drawn (np.ndarray, optional): Which keypoints the pose has, bool of
            shape (K, ).
        links (Sequence[tuple[int, int]]): The keypoints that the skeleton
            connects.
        title (str): What stands above it.

    Returns:
        Figure: With a canvas, ready to be drawn. 900 pixels wide for up to
        30 keypoints, wider for more.
    """
    accuracy = np.where(np.asarray(counts) > 0, accuracy, np.nan)
    names = [legible(name)[0] for name in names]
    has_pose = pose is not None and drawn.any()
    layout = _layout(names, has_pose)
    width = layout.pose_width + layout.columns * layout.column_width
    body = max(layout.rows * layout.row_height, _BODY)
    height = _TITLE + body + _MARGIN
    figure = Figure((width / _DPI, height / _DPI), _DPI, facecolor='white')
    FigureCanvasAgg(figure)

    write(
        pixel_axes(figure, _MARGIN, 0, width, _TITLE),
        0,
        _TITLE / 2,
        title,
        26,
        weight='bold')
    if has_pose:
        wide, high = layout.pose_width - 2 * _MARGIN, body - _COLOR_BAR
        _draw_pose(
            pixel_axes(figure, _MARGIN, _TITLE, wide, high), accuracy, pose,
            drawn, links, layout.min_point)
        _draw_color_bar(
            pixel_axes(figure, 2 * _MARGIN, _TITLE + high + _MARGIN,
                       wide - 2 * _MARGIN, 18))
    order = np.argsort(accuracy, kind='stable')  # NaN is sorted to the end.
    for column in range(layout.columns):
        left = layout.pose_width + column * layout.column_width
        shown = order[column * layout.rows:(column + 1) * layout.rows]
        _draw_bars(
            pixel_axes(figure, left, _TITLE, layout.column_width, body),
            layout, [names[i] for i in shown], accuracy[shown])
    return figure


class _Layout(NamedTuple):
    columns: int
    rows: int
    row_height: float
    font: float
    name_font: float
    name_width: float
    column_width: float
    pose_width: int
    min_point: int


def _layout(names: Sequence[str], has_pose: bool) -> _Layout:
    letters = max(map(num_letters, names)) * LETTER
    if len(names) <= 30:
        # To be read on TensorBoard's cards, which are less than half as wide.
        pose_width = 340 if has_pose else 0
        column_width = 900 - pose_width
        row_height = min(max(_BODY / len(names), 26), 44)
        font = min(.72 * row_height, 24)
        name_font = min(font, column_width / 2 / letters)
        return _Layout(1, len(names), row_height, font, name_font,
                       letters * name_font, column_width, pose_width, 18)
    # To be read where the picture is shown in its own size.
    columns = math.ceil(len(names) / 34)
    rows = math.ceil(len(names) / columns)
    name_width = letters * 19
    return _Layout(columns, rows, 26, 19, 19, name_width, name_width + 290,
                   800 if has_pose else 0, 6)


def num_letters(name: str) -> float:
    """Return how many letters a name is long; those of Korean, Chinese and
    Japanese are wider."""
    wide = sum(unicodedata.east_asian_width(c) in 'WF' for c in name)
    return len(name) + wide * (1 / LETTER - 1)


def _draw_pose(axes: Axes, accuracy: np.ndarray, pose: np.ndarray,
               drawn: np.ndarray, links: Sequence[Tuple[int, int]],
               min_point: int) -> None:
    room = axes.bbox.size
    low, high = pose[drawn].min(axis=0), pose[drawn].max(axis=0)
    scale = ((room - _MARGIN - _MAX_POINT) /
             np.maximum(high - low, 1e-6)).min()
    points = (pose - (low + high) / 2) * scale + room / 2
    for link in links:
        if drawn[list(link)].all():
            axes.plot(*points[list(link)].T, color=_LINK, lw=2.5, zorder=1)
    # What has no data at the bottom, the worst on top.
    order = np.argsort(accuracy, kind='stable')[::-1]
    order = order[drawn[order]]
    points = points[order]
    # Small where keypoints are dense, as those of a face in a whole body.
    apart = np.linalg.norm(points[:, None] - points, axis=2)
    np.fill_diagonal(apart, np.inf)
    size = np.clip(.9 * apart.min(axis=1), min_point, _MAX_POINT)
    axes.scatter(
        *points.T,
        s=_points(size)**2,
        c=_colors(accuracy[order]),
        edgecolors=_INK,
        linewidths=size / 25,
        zorder=2)


def _draw_color_bar(axes: Axes) -> None:
    axes.set_axis_on()
    # From 0 to 1 whatever there is, so that a color is the same at every step.
    bar = axes.figure.colorbar(
        ScalarMappable(Normalize(0, 1), viridis),
        cax=axes,
        orientation='horizontal',
        ticks=(0, .5, 1))
    bar.outline.set_visible(False)
    axes.tick_params(labelsize=_points(20), labelcolor=_INK, length=0)


def _draw_bars(axes: Axes, layout: _Layout, names: Sequence[str],
               accuracy: np.ndarray) -> None:
    left = layout.name_width + 10
    right = layout.column_width - _MARGIN
    full = right - 3.1 * layout.font - left
    middle = (np.arange(len(names)) + .5) * layout.row_height
    thick = .7 * layout.row_height
    axes.barh(middle, full, thick, left, color=_TRACK)
    axes.barh(
        middle,
        full * np.nan_to_num(accuracy),
        thick,
        left,
        color=_colors(accuracy))
    for y, name, value in zip(middle, names, accuracy):
        color = FAINT_INK if np.isnan(value) else _INK
        write(
            axes, left - 8, y, name, layout.name_font, color=color, ha='right')
        if np.isnan(value):
            write(axes, left + 8, y, 'no data', layout.font, color=color)
        else:
            write(axes, right, y, f'{value:.3f}', layout.font, ha='right')


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


def write(axes: Axes, x: float, y: float, text: str, size: float,
          **style) -> None:
    """Write a text of a size in pixels."""
    style = dict(dict(color=_INK, va='center_baseline'), **style)
    text, font = legible(text)
    if not text.isascii():
        style['font'] = Path(font)
    # A dollar sign would begin a formula.
    axes.text(x, y, text.replace('$', r'\$'), size=_points(size), **style)


def _colors(accuracy: np.ndarray) -> List:
    return [
        _NO_DATA if np.isnan(value) else viridis(float(value))
        for value in accuracy
    ]


def _points(pixels):
    return pixels * 72 / _DPI
