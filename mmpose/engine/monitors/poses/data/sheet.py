# Copyright (c) OpenMMLab. All rights reserved.
"""Pictures of training samples with the target on them."""
from typing import List, Optional, Sequence, Tuple

import numpy as np

from ..pictures.panels import compose, view
from ..pictures.pose_painter import PosePainter
from ..pictures.pose_targets import decode_labels

# The height of the two lines of text above the titles of the panels.
_TEXT_HEIGHT = 80
_GAP = 8


def draw_panel(inputs: np.ndarray, labels: dict, codec, painter: PosePainter,
               title: str) -> Tuple[str, np.ndarray]:
    """Draw the target of a sample on its input.

    Args:
        inputs (np.ndarray): As the pipeline packs it, see
            :func:`visible_picture`.
        labels (dict): The result of :func:`read_labels`.
        codec (BaseKeypointCodec, optional): The codec of the model.
        painter (PosePainter): What draws.
        title (str): The beginning of the title.

    Returns:
        tuple[str, np.ndarray]: Title and picture, RGB, uint8 of shape
        (H', W', 3).
    """
    part = view(visible_picture(inputs))
    target = decode_labels(codec, labels)
    if target is None:
        return f'{title}, no target to show', painter.draw(
            part, np.zeros((0, 1, 2)), np.zeros((0, 1), bool))
    keypoints, counted = target
    return f'{title}, {counted.sum()} keypoints', painter.draw(
        part, keypoints, counted)


def visible_picture(inputs: np.ndarray) -> np.ndarray:
    """Return an input as RGB, uint8 of shape (H, W, 3).

    Args:
        inputs (np.ndarray): Before the data preprocessor, blue first, shape
            (C, H, W); or frames, shape (T, C, H, W), of which the first is
            shown.
    """
    inputs = np.asarray(inputs)
    image = np.moveaxis(inputs[0] if inputs.ndim == 4 else inputs, 0, -1)
    if image.dtype != np.uint8:
        low, high = np.percentile(image, (1, 99))
        image = ((image - low) / max(high - low, 1e-6) * 255).clip(0, 255)
    if image.shape[2] < 3:
        image = image[..., :1].repeat(3, 2)
    return np.ascontiguousarray(image[..., 2::-1].astype(np.uint8))


def sheet(panels: Sequence[Tuple[str, np.ndarray]],
          caption: str,
          name: str = '',
          columns: Optional[int] = None) -> np.ndarray:
    """Put panels into rows.

    Args:
        panels (Sequence[tuple[str, np.ndarray]]): Titles and pictures.
        caption (str): The first line.
        name (str): The second line. Defaults to ''.
        columns (int, optional): How many are in a row. Defaults to None: as
            many as give two rows.

    Returns:
        np.ndarray: RGB, uint8 of shape (H, W, 3).
    """
    columns = columns or (len(panels) + 1) // 2
    rows: List[np.ndarray] = []
    for start in range(0, len(panels), columns):
        row = compose(panels[start:start + columns], caption, name)
        rows.append(row[_TEXT_HEIGHT if start else 0:])
    width = max(row.shape[1] for row in rows)
    paper = rows[0][0, 0]
    canvas = np.empty((sum(len(row) for row in rows), width, 3), np.uint8)
    canvas[:] = paper
    top = 0
    for row in rows:
        canvas[top:top + len(row), :row.shape[1]] = row
        top += len(row)
    return canvas
