# Copyright (c) OpenMMLab. All rights reserved.
from typing import NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np
from PIL import Image, ImageDraw

from .captions import shorten, write_line

# The largest panel, in pixels. A TensorBoard card is about 350 pixels wide, so
# a letter is still 11 pixels high there with three panels.
PANEL_WIDTH, PANEL_HEIGHT = 512, 384
# Panels are drawn larger and then shrunk, so that lines have no steps.
OVERSAMPLING = 2
_TEXT, _NAME, _STRIP, _GAP = 28, 24, 40, 8
# A narrower picture has no room for its caption.
_MIN_WIDTH = 440
_PAPER = (32, 33, 36)
# The smallest aspect ratio of a panel.
_NARROWEST = 1 / 3


class View(NamedTuple):
    """A part of an image as a panel shows it.

    Attributes:
        picture (np.ndarray): The part, oversampled: RGB, uint8 of shape
            (H, W, 3).
        origin (np.ndarray): The image's pixel at the top left, (x, y).
        scale (np.ndarray): Pixels of ``picture`` for one of the image, along x
            and y.
    """
    picture: np.ndarray
    origin: np.ndarray
    scale: np.ndarray

    def project(self, points: np.ndarray) -> np.ndarray:
        """Convert the image's pixels to those of ``picture``.

        Args:
            points (np.ndarray): Shape (..., 2). Centres of pixels are whole
                numbers.

        Returns:
            np.ndarray: Shape (..., 2).
        """
        return (points - self.origin + 0.5) * self.scale - 0.5


def view(image: np.ndarray, box: Optional[Sequence[float]] = None) -> View:
    """Cut a part out of an image and keep its aspect ratio.

    Args:
        image (np.ndarray): RGB, uint8 of shape (H, W, 3).
        box (Sequence[float], optional): The part to show, (left, top, right,
            bottom) in pixels. Defaults to None, the whole image. A box outside
            of the image shows the whole image, too.

    Returns:
        View: The part, inside the image.
    """
    size = np.array(image.shape[1::-1])
    low, high = np.zeros(2, int), size
    if box is not None and np.isfinite(box).all():
        start, end = np.asarray(box, float).reshape(2, 2)
        # A very narrow box is widened on both sides.
        missing = _NARROWEST * (end - start)[::-1] - (end - start)
        start, end = (start - missing.clip(0) / 2, end + missing.clip(0) / 2)
        start = np.floor(start.clip(-1, size)).astype(int).clip(0)
        end = np.ceil(end.clip(0, size + 1)).astype(int).clip(None, size)
        if (end > start).all():
            low, high = start, end
    part = image[low[1]:high[1], low[0]:high[0]]
    extent = high - low
    scale = min(np.array([PANEL_WIDTH, PANEL_HEIGHT]) / extent) * OVERSAMPLING
    pixels = np.maximum(np.round(extent * scale / OVERSAMPLING), 1)
    pixels = pixels.astype(int) * OVERSAMPLING
    picture = cv2.resize(
        part,
        tuple(int(n) for n in pixels),
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return View(picture, low, pixels / extent)


def shrink(picture: np.ndarray) -> np.ndarray:
    """Return an oversampled picture in the size of its panel."""
    height, width = picture.shape[:2]
    return cv2.resize(
        picture, (width // OVERSAMPLING, height // OVERSAMPLING),
        interpolation=cv2.INTER_AREA)


def mark(panel: np.ndarray, part: View, box: np.ndarray) -> None:
    """Draw a box, in place.

    Args:
        panel (np.ndarray): The panel of the part: RGB, uint8 of shape
            (H, W, 3).
        part (View): The part.
        box (np.ndarray): (left, top, right, bottom) in the image's pixels.
    """
    corners = part.project(np.reshape(box, (2, 2))) / OVERSAMPLING
    start, end = (
        tuple(int(c) for c in corner.clip(-9999, 9999)) for corner in corners)
    for color, width in (((0, 0, 0), 4), ((255, 255, 0), 2)):
        cv2.rectangle(panel, start, end, color, width)


def heat(part: View,
         heatmap: np.ndarray,
         stride: np.ndarray,
         peak: float = 1) -> np.ndarray:
    """Draw a heatmap over a part of a model's input.

    Args:
        part (View): The part.
        heatmap (np.ndarray): Of the whole input, shape (h, w).
        stride (np.ndarray): The distance of two of its pixels in pixels of
            the input, (x, y).
        peak (float): The value that is drawn brightest. Defaults to 1, the
            value of targets at their keypoints.

    Returns:
        np.ndarray: The drawn panel: RGB, uint8 of shape (H, W, 3).
    """
    panel = shrink(part.picture)
    height, width = panel.shape[:2]
    start = (part.project(np.zeros(2)) + 0.5) / OVERSAMPLING - 0.5
    step = np.asarray(stride, float) * part.scale / OVERSAMPLING
    matrix = np.array([[step[0], 0, start[0]], [0, step[1], start[1]]], float)
    heatmap = np.nan_to_num(heatmap.astype(np.float32))
    heatmap = (heatmap / max(peak, 1e-30)).clip(0, 1)
    weight = cv2.warpAffine(heatmap, matrix, (width, height))[..., None]
    colors = cv2.applyColorMap((weight * 255).astype(np.uint8),
                               cv2.COLORMAP_INFERNO)[..., ::-1]
    gray = cv2.cvtColor(panel, cv2.COLOR_RGB2GRAY)[..., None] * np.float32(0.6)
    return (gray * (1 - weight) + colors * weight).astype(np.uint8)


def compose(panels: Sequence[Tuple[str, np.ndarray]],
            caption: str,
            name: str = '') -> np.ndarray:
    """Put panels side by side, with titles and two lines of text above.

    Args:
        panels (Sequence[tuple[str, np.ndarray]]): Titles, and RGB pictures,
            uint8 of shape (H, W, 3).
        caption (str): The first line, the measure.
        name (str): The second line, the name of the sample, shortened in its
            middle if it does not fit. Defaults to ''.

    Returns:
        np.ndarray: RGB, uint8 of shape (H', W', 3).
    """
    height = max(picture.shape[0] for _, picture in panels)
    width = sum(picture.shape[1] + _GAP for _, picture in panels) - _GAP
    canvas = Image.new('RGB', (max(width, _MIN_WIDTH), 3 * _STRIP + height),
                       _PAPER)
    draw = ImageDraw.Draw(canvas)
    room = canvas.width - 2 * _GAP
    write_line(draw, (_GAP, _STRIP // 2), caption, room, _TEXT)
    write_line(draw, (_GAP, _STRIP * 3 // 2), shorten(name, room, _NAME), room,
               _NAME)
    left = 0
    for title, picture in panels:
        canvas.paste(Image.fromarray(picture), (left, 3 * _STRIP))
        write_line(draw, (left + _GAP, _STRIP * 5 // 2), title,
                   picture.shape[1] - _GAP, _TEXT)
        left += picture.shape[1] + _GAP
    return np.asarray(canvas)
