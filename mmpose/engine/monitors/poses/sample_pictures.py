# Copyright (c) OpenMMLab. All rights reserved.
import logging
import os.path as osp
import threading
from typing import NamedTuple, Optional, Tuple, Union

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


class ImageLoader:
    """Loads images, and says once if it cannot.

    A disk or a server that does not answer is waited for once. Until it does,
    no other image is loaded.

    Args:
        backend_args (dict, optional): How images are loaded, see
            :func:`mmengine.fileio.get`. Defaults to None: as the data set
            loads them.
        wait_secs (float): How long to wait for an image, in seconds. Defaults
            to 5.
    """

    def __init__(self,
                 backend_args: Optional[dict] = None,
                 wait_secs: float = 5) -> None:
        self._backend_args = backend_args
        self._wait_secs = wait_secs
        self._reading: Optional[threading.Thread] = None
        self._named_one = False

    def load(self, path: Optional[str], dataset) -> Optional[np.ndarray]:
        """Load an image.

        Args:
            path (str, optional): Its file.
            dataset (Dataset): The data set that it is of.

        Returns:
            np.ndarray | None: RGB, uint8 of shape (H, W, 3); None if it cannot
            be read.
        """
        backend_args = self._backend_args or _backend_args(dataset)
        try:
            image = mmcv.imfrombytes(self._get(path, backend_args))
            if image is not None:
                return mmcv.bgr2rgb(image)
            reason = 'it is no image'
        except Exception as error:
            reason = f'{type(error).__name__}: {error}'
        if not self._named_one:
            self._named_one = True
            print_log(
                f'EnhancedTensorBoardHook leaves out the picture of {path!r}: '
                f'{reason}. Of other images that cannot be read nothing more '
                'is said.',
                logger='current',
                level=logging.WARNING)
        return None

    def _get(self, path: Optional[str], backend_args: Optional[dict]) -> bytes:
        """Read a file in a thread that is left behind if it hangs."""
        if self._reading is not None and self._reading.is_alive():
            raise TimeoutError('the one before it is not there yet')
        results = []

        def read() -> None:
            try:
                results.append(get(path, backend_args=backend_args))
            except Exception as error:
                results.append(error)

        self._reading = threading.Thread(
            target=read, name='ImageLoader', daemon=True)
        self._reading.start()
        self._reading.join(self._wait_secs)
        if not results:
            raise TimeoutError(
                f'it has not come within {self._wait_secs:g} seconds')
        if isinstance(results[0], Exception):
            raise results[0]
        return results[0]


class SamplePictures:
    """Draws the annotated and the predicted people of samples.

    Args:
        dataset (Dataset): The data set that the samples are of.
        images (ImageLoader): Loads their images.
        kpt_thr (float): The score from which on a keypoint is drawn.
        whole (bool): Show the whole image where no person is asked for.
        averaged (bool): Say that the predictions are those of an averaged
            model. Defaults to False.
    """

    def __init__(self,
                 dataset,
                 images: ImageLoader,
                 kpt_thr: float,
                 whole: bool,
                 averaged: bool = False) -> None:
        self._dataset = dataset
        self._images = images
        self._painter = PosePainter(getattr(dataset, 'metainfo', {}), kpt_thr)
        self._whole = whole
        self._title = ('predicted by the averaged model'
                       if averaged else 'predicted')

    def draw(self,
             sample: PoseSample,
             caption: str,
             heatmap: Optional[np.ndarray] = None,
             place: Optional[HeatmapPlace] = None,
             person: Optional[int] = None) -> Optional[np.ndarray]:
        """Draw the annotated people beside the predicted ones.

        Args:
            sample (PoseSample): The sample.
            caption (str): What stands over the panels.
            heatmap (np.ndarray, optional): Its heatmap, shape (h, w).
                Defaults to None: a panel less.
            place (HeatmapPlace, optional): Where that lies. Defaults to None.
            person (int, optional): Cut out this annotated person. Defaults to
                None: all of them.

        Returns:
            np.ndarray | None: RGB, uint8 of shape (H, W, 3); None if the image
            cannot be read.
        """
        image = self._images.load(sample.img_path, self._dataset)
        if image is None:
            return None
        size = np.array(image.shape[1::-1])
        if self._whole and person is None:
            part = view(image, (0, 0, *size), PANEL_HEIGHT * 4 // 3)
        else:
            part = view(image, _box(sample, size, person),
                        PANEL_HEIGHT * 3 // 4)
        panels = [('annotated',
                   self._painter.people(part, sample.truth, sample.visible)),
                  (self._title,
                   self._painter.people(part, sample.predicted,
                                        sample.scores))]
        if heatmap is not None:
            panels.append((f'heatmap, max {heatmap.max():.2g}',
                           heat(part, heatmap, *place)))
        name = osp.basename(sample.img_path)
        return compose(panels, f'{caption}   {name}')


class AxisHeatmaps(NamedTuple):
    """Heatmaps that are products of a vector for each axis, on the host.

    Attributes:
        y (np.ndarray): Of each keypoint the values along y, shape (K, h).
        x (np.ndarray): Those along x, shape (K, w).
    """
    y: np.ndarray
    x: np.ndarray

    @property
    def shape(self) -> Tuple[int, int]:
        return self.y.shape[1], self.x.shape[1]

    def largest(self) -> np.ndarray:
        """The largest value over all keypoints, shape (h, w)."""
        largest = np.full(self.shape, -np.inf, np.float32)
        for y, x in zip(self.y, self.x):
            np.maximum(largest, np.outer(y, x), out=largest)
        return largest


def heatmap_of(result, codec=None) -> Union[Tensor, AxisHeatmaps, None]:
    """The largest value over all keypoints of what a model returned.

    Args:
        result (PoseDataSample): What the model returned for an image.
        codec (BaseKeypointCodec, optional): The model's. Defaults to None.

    Returns:
        Tensor | AxisHeatmaps | None: Shape (h, w), on the model's device; of
        a model that predicts a vector for each axis, those, which are small;
        None if it returned no heatmap.
    """
    heatmaps = result.get('pred_fields', {}).get('heatmaps')
    # Of nobody, where each person has heatmaps of their own.
    if heatmaps is None or heatmaps.ndim < 3 or not heatmaps.numel():
        return None
    heatmaps = heatmaps.flatten(0, -3)
    axes = _axes(result.get('pred_instances', {}))
    if axes and (len(axes.y), *axes.shape) == heatmaps.shape:
        return axes
    if getattr(codec, 'heatmap_type', None) == 'combined':
        heatmaps = heatmaps[::3]  # After each its offsets, along x and y.
    return heatmaps.amax(0)


def heatmap_place(heatmap: Union[Tensor, AxisHeatmaps], codec,
                  sample) -> HeatmapPlace:
    """Where a heatmap lies in the image that its sample is of.

    Args:
        heatmap (Tensor | AxisHeatmaps): Shape (h, w).
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


def _axes(instances) -> Optional[AxisHeatmaps]:
    """The vectors of which a model has made its heatmaps."""
    y, x = (instances.get(f'keypoint_{axis}_labels', None) for axis in 'yx')
    if not isinstance(y, np.ndarray) or not isinstance(x, np.ndarray):
        return None
    # Copies: they are views of those of the whole batch.
    return AxisHeatmaps(*(np.array(axis).reshape(-1, axis.shape[-1])
                          for axis in (y, x)))


def _backend_args(dataset) -> Optional[dict]:
    """How a data set, or one that it is combined of, loads its images."""
    for part in (dataset, *getattr(dataset, 'datasets', ())):
        pipeline = getattr(part, 'pipeline', None)
        for transform in getattr(pipeline, 'transforms', ()):
            if getattr(transform, 'backend_args', None):
                return transform.backend_args
    return None


def _box(sample: PoseSample, size: np.ndarray,
         person: Optional[int]) -> np.ndarray:
    """The annotated people, or the predicted ones, and a margin."""
    people = slice(None) if person is None else [person]
    if len(sample.boxes):
        corners = [
            sample.boxes[people].reshape(-1, 2),
            sample.truth[people][sample.visible[people]]
        ]
    else:
        corners = [sample.predicted.reshape(-1, 2)]
    corners = np.concatenate(corners)
    corners = corners[np.isfinite(corners).all(-1)]
    if not len(corners):
        return np.array([0, 0, *size])
    # An untrained model may predict anything.
    low, high = np.clip([corners.min(0), corners.max(0)], -size, 2 * size)
    margin = _MARGIN * max(*(high - low), 1)
    return np.concatenate([low - margin, high + margin])
