# Copyright (c) OpenMMLab. All rights reserved.
from typing import List, Sequence, Tuple

import cv2
import numpy as np
from PIL import Image, ImageDraw

from ..pictures.captions import shorten, write_line
from .keypoint_maps import TargetMaps
from .map_statistics import MapStatistics

# In pixels. A card of TensorBoard shows a picture half as large.
_COLUMNS, _CELL, _GAP = 4, 216, 8
_TILE_HEIGHT = 104
_TEXT, _LINE = 24, 30
_PAPER, _PANEL = (32, 33, 36), (60, 61, 64)
_TARGET, _PREDICTION = (120, 210, 120), (255, 170, 60)
# The largest number of keypoints; there is a row more for the title.
_MAX = 20


def map_grid(names: Sequence[str], target: TargetMaps,
             predicted: Tuple[np.ndarray, ...], statistics: MapStatistics,
             title: str) -> np.ndarray:
    """Draw the target of each keypoint beside what is predicted.

    All in one scale: the peak of the target is brightest, or the top of a
    curve. A ring marks where the target has its peak. Of many keypoints, those
    that are farthest off.

    Args:
        names (Sequence[str]): The names of the keypoints.
        target (TargetMaps): Their targets.
        predicted (tuple[np.ndarray]): See :func:`scaled`.
        statistics (MapStatistics): What is written below.
        title (str): The title.

    Returns:
        np.ndarray: RGB, uint8 of shape (H, W, 3).
    """
    shown = np.arange(len(names))
    if len(shown) > _MAX:
        distances = np.nan_to_num(statistics.distances, nan=-1)
        shown = np.sort(np.argsort(-distances, kind='stable')[:_MAX])
        title += f'   the {_MAX} of {len(names)} that are farthest off'
    rows = -(-len(shown) // _COLUMNS)
    height = _TILE_HEIGHT + 2 * _LINE + 2 * _GAP
    width = _COLUMNS * (_CELL + _GAP) + _GAP
    canvas = Image.new('RGB', (width, 2 * _LINE + rows * height), _PAPER)
    draw = ImageDraw.Draw(canvas)
    write_line(draw, (_GAP, _LINE // 2), title, width - 2 * _GAP, _TEXT)
    write_line(
        draw, (_GAP, _LINE * 3 // 2),
        'left the target, right the prediction; peak, distance in px'
        if len(predicted) == 1 else
        'along x and y: green the target, orange the prediction; '
        'peak, distance in px', width - 2 * _GAP, _TEXT)
    for i, k in enumerate(shown):
        left = _GAP + i % _COLUMNS * (_CELL + _GAP)
        top = 2 * _LINE + i // _COLUMNS * height
        name = shorten(names[k], _CELL, _TEXT)
        write_line(draw, (left, top + _LINE // 2), name, _CELL, _TEXT)
        write_line(draw, (left, top + _LINE * 3 // 2),
                   _numbers(statistics, k, target.counted[k]), _CELL, _TEXT)
        for j, tile in enumerate(_tiles(target, predicted, k)):
            place = left + j * (_CELL + _GAP // 2) // 2, top + 2 * _LINE
            canvas.paste(Image.fromarray(tile), place)
    return np.asarray(canvas)


def _numbers(statistics: MapStatistics, k: int, counted: bool) -> str:
    if not counted:
        return 'no target'
    return f'{statistics.peaks[k]:.2f},  {statistics.distances[k]:.0f} px'


def _tiles(target: TargetMaps, predicted: Tuple[np.ndarray, ...],
           k: int) -> List[np.ndarray]:
    size = (_CELL - _GAP // 2) // 2, _TILE_HEIGHT
    if len(predicted) == 2:
        return [
            _curves(aim[k], one[k], size)
            for aim, one in zip(target.maps, predicted)
        ]
    aim, one = target.maps[0][k], predicted[0][k]
    tiles = [_heat(aim, size), _heat(one, size)]
    if target.counted[k]:
        scale = _fit(aim, size)
        y, x = np.unravel_index(aim.argmax(), aim.shape)
        offset = (np.array(size) - scale * np.array(aim.shape[::-1])) / 2
        place = offset + scale * (np.array([x, y]) + 0.5)
        cv2.circle(tiles[1], tuple(int(p) for p in place), 7, (255, ) * 3, 1,
                   cv2.LINE_AA)
    return tiles


def _fit(values: np.ndarray, size: Tuple[int, int]) -> float:
    return min(np.array(size) / values.shape[::-1])


def _heat(values: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    scale = _fit(values, size)
    width, height = (max(1, int(round(n * scale))) for n in values.shape[::-1])
    pixels = (values.clip(0, 1) * 255).astype(np.uint8)
    pixels = cv2.resize(
        pixels, (width, height),
        interpolation=cv2.INTER_NEAREST if scale >= 2 else cv2.INTER_AREA)
    tile = np.full((size[1], size[0], 3), _PANEL, np.uint8)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    tile[top:top + height, left:left +
         width] = cv2.applyColorMap(pixels, cv2.COLORMAP_INFERNO)[..., ::-1]
    return tile


def _curves(target: np.ndarray, predicted: np.ndarray,
            size: Tuple[int, int]) -> np.ndarray:
    width, height = size
    tile = np.full((height, width, 3), _PANEL, np.uint8)
    x = np.linspace(2, width - 3, len(target))
    for values, color in ((target, _TARGET), (predicted, _PREDICTION)):
        y = height - 3 - values.clip(0, 1.05) * (height - 10)
        points = np.round(np.stack([x, y], -1)).astype(np.int32)
        cv2.polylines(tile, [points], False, color, 2, cv2.LINE_AA)
    return tile
