# Copyright (c) OpenMMLab. All rights reserved.
import functools
import os.path as osp
from typing import Dict, NamedTuple, Sequence, Tuple

import cv2
import matplotlib
import numpy as np
from mmengine.structures import InstanceData
from PIL import Image, ImageDraw, ImageFont

from mmpose.structures import PoseDataSample
from mmpose.visualization import PoseLocalVisualizer

# In pixels. A TensorBoard card is some 350 wide, so a letter of three panels
# is still 11 high there.
PANEL_HEIGHT = 384
_TEXT, _STRIP, _GAP = 28, 42, 8
# Drawn larger and then made smaller, lines have no steps.
_OVERSAMPLING = 2
_PAPER, _INK = (32, 33, 36), (232, 234, 237)
_OUTSIDE = (64, 64, 64)
# Untrained, a model may find thousands; more than these nobody can see.
_MAX_PEOPLE = 30


class View(NamedTuple):
    """A part of an image as a panel shows it.

    Attributes:
        picture (np.ndarray): The part, oversampled: RGB, uint8 of shape
            (H, W, 3).
        origin (np.ndarray): The image's pixel at the left top, (x, y).
        scale (np.ndarray): Pixels of ``picture`` for one of the image, along x
            and y.
    """
    picture: np.ndarray
    origin: np.ndarray
    scale: np.ndarray

    def project(self, points: np.ndarray) -> np.ndarray:
        """From the image's pixels to those of ``picture``.

        Args:
            points (np.ndarray): Centres of pixels are whole numbers, shape
                (..., 2).

        Returns:
            np.ndarray: The same for ``picture``, shape (..., 2).
        """
        return (points - self.origin + 0.5) * self.scale - 0.5


def view(image: np.ndarray, box: Sequence[float], width: int) -> View:
    """Cut a part out of an image; it is centred and grey where there is none.

    Args:
        image (np.ndarray): RGB, uint8 of shape (H, W, 3).
        box (Sequence[float]): What must be seen, (left, top, right, bottom)
            in pixels; rounded to the outside.
        width (int): The width of the panel; its height is ``PANEL_HEIGHT``.

    Returns:
        View: The part.
    """
    left, top = np.floor(np.asarray(box[:2], float)).astype(int)
    right, bottom = np.ceil(np.asarray(box[2:], float)).astype(int)
    size = np.array([width, PANEL_HEIGHT]) * _OVERSAMPLING
    scale = min(size / np.maximum([right - left, bottom - top], 1))
    # The part becomes as wide or as high as the panel.
    wide, high = np.maximum(np.round(size / scale), 1).astype(int)
    left, top = left - (wide - right + left) // 2, top - (high - bottom +
                                                          top) // 2
    right, bottom = left + wide, top + high

    height, full_width = image.shape[:2]
    part = image[max(top, 0):max(bottom, 0), max(left, 0):max(right, 0)]
    part = cv2.copyMakeBorder(
        part,
        min(max(-top, 0), high),
        min(max(bottom - height, 0), high),
        min(max(-left, 0), wide),
        min(max(right - full_width, 0), wide),
        cv2.BORDER_CONSTANT,
        value=_OUTSIDE)
    part = cv2.resize(
        part,
        tuple(int(n) for n in size),
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return View(part, np.array([left, top]), size / (wide, high))


class PosePainter:
    """Draws people as MMPose's visualizer does, in the data set's colours.

    Args:
        dataset_meta (dict): The data set's ``metainfo``. Its skeleton and
            colours may be missing.
        kpt_thr (float): The score from which on a keypoint is drawn.
    """

    def __init__(self, dataset_meta: dict, kpt_thr: float) -> None:
        self._meta = dataset_meta
        self._kpt_thr = kpt_thr
        self._visualizers: Dict[int, PoseLocalVisualizer] = {}

    def people(self, part: View, keypoints: np.ndarray,
               scores: np.ndarray) -> np.ndarray:
        """Draw people over a part of an image.

        Args:
            part (View): The part.
            keypoints (np.ndarray): Their keypoints in the image's pixels,
                shape (N, K, 2).
            scores (np.ndarray): The score of each keypoint, or which to draw,
                shape (N, K). Of many people only the surest are drawn.

        Returns:
            np.ndarray: The drawn panel: RGB, uint8 of shape (H, W, 3).
        """
        scores = np.asarray(scores)
        surest = np.argsort(-scores.mean(-1), kind='stable')[:_MAX_PEOPLE]
        points = part.project(np.asarray(keypoints, float)[surest])
        scores = scores[surest]
        height, width = part.picture.shape[:2]
        # What is far outside may be too large to draw.
        inside = ((points > -1) & (points < (width, height))).all(-1)
        if scores.dtype == bool:  # Whatever the threshold is.
            scores = np.where(scores, np.inf, -1)
        scores = np.where(inside, scores, -1)
        sample = PoseDataSample(
            pred_instances=InstanceData(
                keypoints=np.where(inside[..., None], points, 0),
                keypoints_visible=scores))
        visualizer = self._visualizer(points.shape[-2])
        visualizer.add_datasample(
            'pose',
            part.picture,
            sample,
            draw_gt=False,
            kpt_thr=max(self._kpt_thr, 0))
        return _shrink(visualizer.get_image())

    def _visualizer(self, num_keypoints: int) -> PoseLocalVisualizer:
        """MMPose's, without a backend, so that nothing else is written."""
        if num_keypoints in self._visualizers:
            return self._visualizers[num_keypoints]
        links = [
            link for link in self._meta.get('skeleton_links', ())
            if max(link) < num_keypoints
        ]
        few = num_keypoints <= 30
        visualizer = PoseLocalVisualizer(
            name='EnhancedTensorBoardHook',
            radius=12 if few else 6,
            line_width=8 if few else 2)
        visualizer.set_dataset_meta(
            dict(
                skeleton_links=links,
                skeleton_link_colors=_colors(
                    self._meta.get('skeleton_link_colors'), len(links)),
                keypoint_colors=_colors(
                    self._meta.get('keypoint_colors'), num_keypoints)))
        self._visualizers[num_keypoints] = visualizer
        return visualizer


def heat(part: View, heatmap: np.ndarray, stride: np.ndarray,
         offset: np.ndarray) -> np.ndarray:
    """Draw a heatmap over a part of an image.

    Args:
        part (View): The part.
        heatmap (np.ndarray): Any range, shape (h, w).
        stride (np.ndarray): How far its pixels are apart in the image's
            pixels, (x, y).
        offset (np.ndarray): Where its first pixel is in the image, (x, y).

    Returns:
        np.ndarray: The drawn panel: RGB, uint8 of shape (H, W, 3). The
        brightest is the largest value.
    """
    panel = _shrink(part.picture)
    height, width = panel.shape[:2]
    start = (part.project(offset) + 0.5) / _OVERSAMPLING - 0.5
    step = np.asarray(stride, float) * part.scale / _OVERSAMPLING
    matrix = np.array([[step[0], 0, start[0]], [0, step[1], start[1]]], float)
    heatmap = np.nan_to_num(heatmap.astype(np.float32))
    heatmap = (heatmap / max(heatmap.max(), 1e-9)).clip(0, 1)
    weight = cv2.warpAffine(heatmap, matrix, (width, height))[..., None]
    colors = cv2.applyColorMap((weight * 255).astype(np.uint8),
                               cv2.COLORMAP_INFERNO)[..., ::-1]
    gray = cv2.cvtColor(panel, cv2.COLOR_RGB2GRAY)[..., None] * np.float32(0.6)
    return (gray * (1 - weight) + colors * weight).astype(np.uint8)


def compose(panels: Sequence[Tuple[str, np.ndarray]],
            caption: str) -> np.ndarray:
    """Put panels side by side, a title over each and a caption over all.

    Args:
        panels (Sequence[tuple[str, np.ndarray]]): Titles, and RGB pictures of
            one height, uint8 of shape (H, W, 3).
        caption (str): One line; letters that the font lacks show as '?'.

    Returns:
        np.ndarray: RGB, uint8 of shape (H', W', 3).
    """
    height = panels[0][1].shape[0]
    width = sum(picture.shape[1] + _GAP for _, picture in panels) - _GAP
    canvas = Image.new('RGB', (width, 2 * _STRIP + height), _PAPER)
    draw = ImageDraw.Draw(canvas)
    _write(draw, (_GAP, _STRIP // 2), caption, width - 2 * _GAP)
    left = 0
    for title, picture in panels:
        canvas.paste(Image.fromarray(picture), (left, 2 * _STRIP))
        _write(draw, (left + _GAP, _STRIP * 3 // 2), title,
               picture.shape[1] - _GAP)
        left += picture.shape[1] + _GAP
    return np.asarray(canvas)


def _write(draw: ImageDraw.ImageDraw, place: Tuple[int, int], text: str,
           width: int) -> None:
    """Write a line into a width, smaller if need be."""
    text = text.encode('latin-1', 'replace').decode('latin-1')
    length = _font(_TEXT).getlength(text)
    size = max(10, int(_TEXT * min(1, width / max(length, 1))))
    draw.text(place, text, _INK, _font(size), anchor='lm')


@functools.lru_cache(maxsize=None)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(
        osp.join(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf'),
        size)


def _colors(colors, count: int) -> Sequence[Tuple[int, int, int]]:
    """The data set's colours, or a circle of them where they do not fit."""
    if colors is not None and len(colors) >= count:
        return [tuple(int(c) for c in color) for color in colors[:count]]
    palette = matplotlib.colormaps['hsv'](np.linspace(0, 0.9, count))
    return [tuple(int(255 * c) for c in color[:3]) for color in palette]


def _shrink(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    return cv2.resize(
        picture, (width // _OVERSAMPLING, height // _OVERSAMPLING),
        interpolation=cv2.INTER_AREA)
