# Copyright (c) OpenMMLab. All rights reserved.
import logging
import os.path as osp
from typing import NamedTuple, Optional

import mmcv
import numpy as np
from mmengine.fileio import get
from mmengine.logging import print_log
from torch import Tensor

from .pose_pictures import PANEL_HEIGHT, PosePainter, compose, heat, view
from .pose_samples import PoseSample

# Around a person: of its box.
_MARGIN = 0.15


class HeatmapPlace(NamedTuple):
    """Where a heatmap lies in the image.

    Attributes:
        stride (np.ndarray): The image's pixels between two of its pixels,
            (x, y).
        offset (np.ndarray): Where its first pixel is, (x, y).
    """
    stride: np.ndarray
    offset: np.ndarray


class SamplePictures:
    """Loads the images of samples and draws the annotated and predicted.

    Args:
        painter (PosePainter): Draws people.
        whole (bool): Show the whole image, not just the annotated people.
        backend_args (dict, optional): How images are loaded, see
            :func:`mmengine.fileio.get`. Defaults to None.
    """

    def __init__(self,
                 painter: PosePainter,
                 whole: bool,
                 backend_args: Optional[dict] = None) -> None:
        self._painter = painter
        self._whole = whole
        self._backend_args = backend_args
        self._named_one = False

    def draw(self,
             sample: PoseSample,
             caption: str,
             heatmap: Optional[np.ndarray] = None,
             place: Optional[HeatmapPlace] = None) -> Optional[np.ndarray]:
        """Draw the annotated people beside the predicted ones.

        Args:
            sample (PoseSample): The sample.
            caption (str): What stands over the panels.
            heatmap (np.ndarray, optional): Its heatmap, shape (h, w).
                Defaults to None: a panel less.
            place (HeatmapPlace, optional): Where that lies. Defaults to None.

        Returns:
            np.ndarray | None: RGB, uint8 of shape (H, W, 3); None if the image
            cannot be read, which is said once.
        """
        image = self._load(sample.img_path)
        if image is None:
            return None
        height, width = image.shape[:2]
        if self._whole:
            part = view(image, (0, 0, width, height), PANEL_HEIGHT * 4 // 3)
        else:
            part = view(image, _box(sample, (0, 0, width, height)),
                        PANEL_HEIGHT * 3 // 4)
        panels = [('annotated',
                   self._painter.people(part, sample.truth, sample.visible)),
                  ('predicted',
                   self._painter.people(part, sample.predicted,
                                        sample.scores))]
        if heatmap is not None:
            panels.append((f'heatmap, max {heatmap.max():.2g}',
                           heat(part, heatmap, *place)))
        name = osp.basename(sample.img_path)
        return compose(panels, f'{caption}   {name}')

    def _load(self, path: Optional[str]) -> Optional[np.ndarray]:
        try:
            data = get(path, backend_args=self._backend_args)
            image = mmcv.imfrombytes(data, channel_order='rgb')
            reason = 'it is no image'
        except Exception as error:
            image, reason = None, error
        if image is None and not self._named_one:
            self._named_one = True
            print_log(
                f'EnhancedTensorBoardHook leaves out the picture of {path!r}: '
                f'{reason}. Of other images that cannot be read nothing more '
                'is said.',
                logger='current',
                level=logging.WARNING)
        return image


def heatmap_of(result) -> Optional[Tensor]:
    """The largest value over all keypoints of what a model returned.

    Args:
        result (PoseDataSample): What the model returned for an image.

    Returns:
        Tensor | None: Shape (h, w), on the model's device; None if it
        returned no heatmap.
    """
    heatmaps = result.get('pred_fields', {}).get('heatmaps')
    if heatmaps is None or heatmaps.ndim < 3:
        return None
    return heatmaps.flatten(0, -3).amax(0)


def heatmap_place(heatmap: Tensor, codec, sample) -> HeatmapPlace:
    """Where a heatmap lies in the image that its sample is of.

    Args:
        heatmap (Tensor): Shape (h, w).
        codec (BaseKeypointCodec, optional): The model's.
        sample (PoseDataSample): Its ``input_size``, ``input_scale`` and
            ``input_center`` say what part of the image was the input.

    Returns:
        HeatmapPlace: In the image's pixels.
    """
    size = np.array(heatmap.shape[::-1])
    input_size = np.array(sample.get('input_size'))
    stride = input_size / size
    if np.array_equal(getattr(codec, 'heatmap_size', None), size):
        stride = codec.scale_factor
    scale = sample.get('input_scale') / input_size
    offset = sample.get('input_center') - 0.5 * sample.get('input_scale')
    return HeatmapPlace(stride * scale, offset)


def _box(sample: PoseSample, default: tuple) -> np.ndarray:
    """The annotated people, or the predicted ones, and a margin."""
    if len(sample.boxes):
        corners = [sample.boxes.reshape(-1, 2), sample.truth[sample.visible]]
    else:
        corners = [sample.predicted.reshape(-1, 2)]
    corners = np.concatenate(corners)
    corners = corners[np.isfinite(corners).all(-1)]
    if not len(corners):
        return np.array(default)
    low, high = corners.min(0), corners.max(0)
    margin = _MARGIN * max(*(high - low), 1)
    return np.concatenate([low - margin, high + margin])
