# Copyright (c) OpenMMLab. All rights reserved.
import logging
import math
import os.path as osp
import threading
from typing import Optional

import mmcv
import numpy as np
from mmengine.fileio import get
from mmengine.logging import print_log

from .heatmaps import HeatmapPlace
from .pose_pictures import PANEL_HEIGHT, PosePainter, compose, heat, view
from .pose_samples import PoseSample

# Around a person: of its box.
_MARGIN = 0.15


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


def mean_error(truth: np.ndarray, visible: np.ndarray,
               predicted: np.ndarray) -> float:
    """Mean distance to the nearest predicted person's keypoints, in pixels."""
    if truth.shape[1] != predicted.shape[1]:
        return math.nan
    # Untrained, a model may predict what overflows, or is no number.
    distances = np.nan_to_num(
        np.linalg.norm(truth[:, None] - predicted.astype(float), axis=-1),
        nan=np.inf)
    counts = visible.sum(-1)
    if not distances.size or not counts.any():
        return math.nan
    sums = np.where(visible[:, None], distances, 0).sum(-1)
    return sums.min(1).sum() / counts.sum()
