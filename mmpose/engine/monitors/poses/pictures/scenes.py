# Copyright (c) OpenMMLab. All rights reserved.
"""What is drawn of a sample, and the error that its caption names."""
import math
from typing import Callable, List, NamedTuple, Optional, Sequence, Union

import numpy as np
from torch import Tensor

from ..pose_samples import PoseSample
from .heatmaps import Heatmap
from .image_files import ImageFiles
from .model_inputs import ModelInput, VisibleInput, image_name
from .pose_painter import highest_scoring

# Around an instance, as a fraction of the longer side of its box.
_MARGIN = 0.15


class Scene(NamedTuple):
    """What is drawn of a sample. All points are in the input's pixels.

    Attributes:
        caption (str): The measure.
        name (str): Which sample it is.
        predicted (np.ndarray): Predicted keypoints, shape (M, K, 2).
        scores (np.ndarray): Their scores, shape (M, K).
        truth (np.ndarray): The ground truth, shape (N, K, 2).
        visible (np.ndarray): Which of its keypoints are annotated, bool of
            shape (N, K).
        seen (VisibleInput): The input.
        meta (dict): The ``metainfo`` of the keypoints.
        heatmap (Heatmap, optional): What the model returned. Defaults to None.
        box (np.ndarray, optional): The part of the input to show, (left, top,
            right, bottom). Defaults to None: all of it.
        marked (np.ndarray, optional): The box of the instance that the scene
            is about, where there are several. Defaults to None.
    """
    caption: str
    name: str
    predicted: np.ndarray
    scores: np.ndarray
    truth: np.ndarray
    visible: np.ndarray
    seen: VisibleInput
    meta: dict
    heatmap: Optional[Heatmap] = None
    box: Optional[np.ndarray] = None
    marked: Optional[np.ndarray] = None

    @property
    def tensors(self) -> List[Tensor]:
        """list[Tensor]: What must be on the host before it can be drawn."""
        return [*self.seen, *(self.heatmap.tensors if self.heatmap else ())]


def scene_tensors(scenes: Sequence[Union[Scene, Callable]]) -> List[Tensor]:
    """Return the tensors that must be on the host to draw scenes."""
    return [
        tensor for scene in scenes if not callable(scene)
        for tensor in scene.tensors
    ]


def sample_scene(sample: PoseSample,
                 given: ModelInput,
                 seen: VisibleInput,
                 heatmap: Optional[Heatmap] = None,
                 caption: Optional[str] = None,
                 instance: Optional[int] = None,
                 whole: bool = False,
                 detected: Optional[np.ndarray] = None,
                 ignored: bool = False) -> Scene:
    """Return the scene of a validation sample.

    Args:
        sample (PoseSample): Ground truth and prediction, in the image.
        given (ModelInput): What the model was given.
        seen (VisibleInput): The same, made visible.
        heatmap (Heatmap, optional): What the model returned. Defaults to None.
        caption (str, optional): Defaults to None: the error, or that nothing
            is annotated.
        instance (int, optional): The index of the instance to cut out.
            Defaults to None: all instances.
        whole (bool): Show the whole input unless an instance is cut out.
            Defaults to False: show the part that is annotated.
        detected (np.ndarray, optional): The boxes that the model predicted in,
            shape (B, 4), shown where no instance is annotated. Defaults to
            None.
        ignored (bool): Whether what is predicted without ground truth may be
            right. Defaults to False: it is a false positive.

    Returns:
        Scene: In the input's pixels.
    """
    if caption is None:
        sizes = (sample.boxes[:, 2:] - sample.boxes[:, :2]).max(-1, initial=0)
        caption = error_caption(sample.truth, sample.visible, sample.predicted,
                                sizes, 'image')
        if not sample.visible.any():
            caption = _without_truth(len(sample.predicted), ignored)
    box = None
    if instance is not None or not whole:
        box = _box(sample, instance, detected, given.meta.get('ori_shape'))
        if box is not None:
            box = given.project(box.reshape(2, 2)).ravel()
    marked = None
    if instance is not None and len(sample.boxes) > 1:
        marked = given.project(sample.boxes[instance].reshape(2, 2)).ravel()
        if not np.isfinite(marked).all():
            marked = None
    return Scene(caption, given.name,
                 given.project(sample.predicted), sample.scores,
                 given.project(sample.truth), sample.visible, seen,
                 sample.meta, heatmap, box, marked)


def file_scene(sample: PoseSample,
               files: ImageFiles,
               prefixes: Sequence[str],
               caption: str,
               instance: Optional[int] = None) -> Optional[Scene]:
    """Return the scene of a sample, drawn on its image file.

    Args:
        sample (PoseSample): Ground truth and prediction.
        files (ImageFiles): Loads the image.
        prefixes (Sequence[str]): See :func:`image_prefixes`.
        caption (str): The measure.
        instance (int, optional): The index of the instance to cut out.
            Defaults to None: all instances.

    Returns:
        Scene | None: With arrays for tensors; None if the image cannot be
        read.
    """
    image = files.load(sample.img_path)
    if image is None:
        return None
    pixels = np.moveaxis(image, -1, 0)
    given = ModelInput(None, {}, image_name(sample.img_path, prefixes),
                       np.zeros(2), np.ones(2))
    return sample_scene(
        sample,
        given,
        VisibleInput(pixels, pixels, np.zeros(())),
        caption=caption,
        instance=instance)


def _without_truth(count: int, ignored: bool) -> str:
    """Return the caption of some predictions without ground truth."""
    text = 'no ground truth here'
    if ignored:
        return f'{text}: a crowd, or no annotated keypoints'
    if not count:
        return f'{text}, and nothing is predicted'
    return f'{text}: {"a false positive" if count == 1 else "false positives"}'


def _box(sample: PoseSample, instance: Optional[int],
         detected: Optional[np.ndarray],
         shape: Optional[Sequence[int]]) -> Optional[np.ndarray]:
    """Return the part of the image to show, None for all of it.

    It is clipped to the image where the image's ``shape`` is known.
    """
    instances = slice(None) if instance is None else [instance]
    if len(sample.boxes):
        corners = [
            sample.boxes[instances].reshape(-1, 2),
            sample.truth[instances][sample.visible[instances]]
        ]
    elif detected is not None and len(detected):
        corners = [np.asarray(detected, float).reshape(-1, 2)]
    else:
        return None
    corners = np.concatenate(corners)
    corners = corners[np.isfinite(corners).all(-1)]
    if not len(corners):
        return None
    low, high = corners.min(0), corners.max(0)
    margin = _MARGIN * max(*(high - low), 1)
    low, high = low - margin, high + margin
    if shape is not None:
        size = np.array(shape[1::-1])
        if (low < size).all() and (high > 0).all():
            low, high = low.clip(0), high.clip(None, size)
    return np.concatenate([low, high])


def nearest_predictions(scene: Scene) -> np.ndarray:
    """Return the index of the drawn prediction nearest to each instance.

    Returns:
        np.ndarray: -1 where there is none, int of shape (N, ).
    """
    drawn = highest_scoring(scene.scores)
    sums = _distances(scene.truth, scene.visible, scene.predicted[drawn])
    if not sums.size:
        return np.full(len(scene.truth), -1)
    return np.where(scene.visible.any(-1), drawn[sums.argmin(1)], -1)


def mean_error(truth: np.ndarray,
               visible: np.ndarray,
               predicted: np.ndarray,
               sizes: Optional[np.ndarray] = None) -> float:
    """Compute the mean distance to the nearest prediction.

    Args:
        truth (np.ndarray): Shape (N, K, 2).
        visible (np.ndarray): Which keypoints count, bool of shape (N, K).
        predicted (np.ndarray): Shape (M, K, 2).
        sizes (np.ndarray, optional): Divisors of the distances, one for each
            instance, shape (N, ). Defaults to None.

    Returns:
        float: NaN where there is nothing to compare.
    """
    sums = _distances(truth, visible, predicted)
    if not sums.size or not visible.any():
        return math.nan
    nearest = sums.min(1)
    if sizes is not None:
        nearest = nearest / sizes
    return float(nearest.sum() / visible.sum())


def _distances(truth: np.ndarray, visible: np.ndarray,
               predicted: np.ndarray) -> np.ndarray:
    """Sum the distances of the visible keypoints for all pairs, shape (N, M);
    empty where truth and prediction have different keypoints."""
    if truth.shape[1] != predicted.shape[1]:
        return np.zeros((len(truth), 0))
    # An untrained model may predict values that overflow or are NaN.
    distances = np.nan_to_num(
        np.linalg.norm(truth[:, None] - predicted.astype(float), axis=-1),
        nan=np.inf)
    return np.where(visible[:, None], distances, 0).sum(-1)


def error_caption(truth: np.ndarray, visible: np.ndarray,
                  predicted: np.ndarray, sizes: Optional[np.ndarray],
                  pixels: str) -> str:
    """Return the text of a caption about the error, '' without an error.

    Args:
        truth (np.ndarray): Shape (N, K, 2).
        visible (np.ndarray): Shape (N, K).
        predicted (np.ndarray): Shape (M, K, 2).
        sizes (np.ndarray, optional): The longer side of each instance's box in
            the same pixels, shape (N, ).
        pixels (str): Whose pixels they are, such as 'image'.
    """
    if visible.any() and not len(predicted):
        return 'nothing is predicted'
    error = mean_error(truth, visible, predicted)
    if not np.isfinite(error):
        return ''
    parts = [f'{error:.1f} px of the {pixels}']
    # The box of an instance may have no size.
    if sizes is not None and len(sizes) == len(truth) and (sizes > 0).all():
        relative = mean_error(truth, visible, predicted, sizes)
        box = 'box' if len(sizes) == 1 else 'boxes'
        parts.insert(0, f'{relative:.3f} of the {box}')
    return 'error ' + ', '.join(parts)
