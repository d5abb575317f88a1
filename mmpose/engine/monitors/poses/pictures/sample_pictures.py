# Copyright (c) OpenMMLab. All rights reserved.
from typing import Callable, Iterator, List, Sequence, Tuple, Union

import cv2
import numpy as np

from ...core.runner_parts import keypoint_names
from ...writers.record import Image
from ..accuracy.keypoint_parts import keypoint_parts
from .heatmaps import Heatmap, largest
from .model_inputs import VisibleInput
from .panels import View, compose, heat, mark, shrink, view
from .pose_painter import MANY, PosePainter
from .scenes import Scene, nearest_predictions

# The size of a picture in the event file: one of three panels is 1.5 times as
# wide as a TensorBoard card, and has a third of the bytes.
_CARD = 0.5625
# A part that is larger than this fraction of an instance is not enlarged.
_LARGEST_PART = 0.5


class SamplePictures:
    """Draw ground truth and prediction on the input of the model.

    Args:
        kpt_thr (float): The score below which a keypoint is drawn hollow.
        truth (str): The title of the ground truth. Defaults to 'GT'.
        averaged (bool): Whether the title says that an EMA model predicts.
            Defaults to False.
    """

    def __init__(self,
                 kpt_thr: float,
                 truth: str = 'GT',
                 averaged: bool = False) -> None:
        self._kpt_thr = kpt_thr
        self._truth = truth
        self._title = 'EMA prediction' if averaged else 'prediction'

    def images(self, tag: str, scenes: Sequence[Union[Scene, Callable]],
               *arrays: np.ndarray) -> Iterator[Image]:
        """Draw scenes under a tag, see :meth:`draw_all`, in the size of a
        card."""
        pictures = self.draw_all(scenes, arrays)
        yield Image(tag, list(map(_for_a_card, pictures)), photo=True)

    def draw_all(self, scenes: Sequence[Union[Scene, Callable]],
                 arrays: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Draw scenes.

        Args:
            scenes (Sequence[Scene | Callable]): Scenes, or functions that
                return a scene with arrays for tensors, or None.
            arrays (Sequence[np.ndarray]): The values of
                :func:`scene_tensors`.

        Yields:
            np.ndarray: RGB, uint8 of shape (H, W, 3).
        """
        start = 0
        for scene in scenes:
            if callable(scene):
                scene = scene()
                if scene is not None:
                    yield self.draw(scene, scene.tensors)
                continue
            end = start + len(scene.tensors)
            yield self.draw(scene, arrays[start:end])
            start = end

    def draw(self, scene: Scene, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Draw a scene.

        The panels are the ground truth, if there is any; the prediction,
        joined with the ground truth; the worst part of a body with many
        keypoints; and the heatmap. If nothing is visible in the input, it
        comes first, and the other panels are drawn on a copy with stretched
        contrast.

        Args:
            scene (Scene): What to draw.
            arrays (Sequence[np.ndarray]): The values of its ``tensors``.

        Returns:
            np.ndarray: RGB, uint8 of shape (H, W, 3).
        """
        *notes, (how, picture) = VisibleInput(*arrays[:3]).pictures()
        painter = PosePainter(scene.meta, self._kpt_thr)
        part = view(picture, scene.box)
        panels = [(title, shrink(view(note, scene.box).picture))
                  for title, note in notes]
        if len(scene.truth):
            title = f'{self._truth}, {how}' if how else self._truth
            panel = painter.draw(part, scene.truth, scene.visible)
            if scene.marked is not None:
                mark(panel, part, scene.marked)
            panels.append((title, panel))
        nearest = nearest_predictions(scene)
        panels.append((f'{self._title}, {painter.count(scene.scores)}',
                       _errors(painter, part, scene, nearest)))
        panels += _worst_part(painter, picture, scene, nearest)
        if scene.heatmap is not None:
            panels.append(_heatmap_panel(part, scene.heatmap, arrays[3:]))
        return compose(panels, scene.caption, scene.name)


def _for_a_card(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    size = round(_CARD * width), round(_CARD * height)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _errors(painter: PosePainter, part: View, scene: Scene,
            nearest: np.ndarray) -> np.ndarray:
    return painter.draw_errors(part, scene.predicted, scene.scores,
                               scene.truth, scene.visible, nearest)


def _worst_part(painter: PosePainter, picture: np.ndarray, scene: Scene,
                nearest: np.ndarray) -> List[Tuple[str, np.ndarray]]:
    """Draw the small body part whose error is largest for its size."""
    count = scene.truth.shape[1]
    if count <= MANY or not (nearest >= 0).any():
        return []
    sizes = [
        np.ptp(truth[visible], axis=0).max() if visible.any() else 0
        for truth, visible in zip(scene.truth, scene.visible)
    ]
    names = keypoint_names(scene.meta, count)
    worst, found = 0., None
    for name, part in keypoint_parts(names,
                                     scene.meta.get('dataset_name')).items():
        for instance, index in enumerate(nearest):
            kept = np.array(part)[scene.visible[instance, part]]
            if index < 0 or len(kept) < 5:
                continue
            truth = scene.truth[instance, kept]
            size = max(np.ptp(truth, axis=0).max(), 1)
            if size > _LARGEST_PART * sizes[instance]:
                continue
            off = np.linalg.norm(
                truth - scene.predicted[index, kept], axis=-1).mean()
            if off / size >= worst:
                middle = (truth.min(0) + truth.max(0)) / 2
                worst, found = off / size, (name, middle, size)
    if found is None:
        return []
    name, middle, size = found
    box = np.concatenate([middle - 0.9 * size, middle + 0.9 * size])
    return [(f'worst: {name}',
             _errors(painter, view(picture, box), scene, nearest))]


def _heatmap_panel(part: View, heatmap: Heatmap,
                   arrays: Sequence[np.ndarray]) -> Tuple[str, np.ndarray]:
    values = largest(arrays)
    peak = float(np.nan_to_num(values).max())
    if heatmap.peak is None:
        return f'heatmap, scaled to {peak:.1g}', heat(part, values,
                                                      heatmap.stride, peak)
    return f'heatmap, peak {peak / heatmap.peak:.1g}', heat(
        part, values, heatmap.stride, heatmap.peak)
