# Copyright (c) OpenMMLab. All rights reserved.
"""What a model has returned for a sample."""
from typing import Optional, Tuple

import numpy as np


def predictions(instances) -> Tuple[np.ndarray, np.ndarray]:
    """Copy what a model has predicted.

    Args:
        instances (InstanceData): ``pred_instances`` of a sample.

    Returns:
        tuple[np.ndarray, np.ndarray]: Keypoints in the image, shape
        (M, K, 2), and their scores, shape (M, K).
    """
    keypoints, scores = predicted_arrays(instances)
    return (np.array(keypoints[..., :2],
                     np.float32), np.array(scores, np.float32))


def predicted_arrays(instances) -> Tuple[np.ndarray, np.ndarray]:
    """Return what a model has predicted, not copied.

    Args:
        instances (InstanceData): ``pred_instances`` of a sample.

    Returns:
        tuple[np.ndarray, np.ndarray]: Keypoints in the image, maybe with
        their depth, shape (M, K, D), and their scores, shape (M, K).
    """
    # Models of 3D poses have their keypoints in the image beside those.
    keypoints = to_numpy(
        instances.get('transformed_keypoints', instances.keypoints))
    if keypoints.ndim != 3:
        keypoints = keypoints.reshape(-1, *keypoints.shape[-2:])
    scores = to_numpy(instances.get('keypoint_scores'))
    if scores is None:
        return keypoints, np.ones(keypoints.shape[:2], np.float32)
    return keypoints, scores.reshape(keypoints.shape[:2])


def box_scores(sample, count: int) -> np.ndarray:
    """Return the scores of the boxes that predictions were made in.

    Args:
        sample (PoseDataSample): What the model returned for an image.
        count (int): The number of its predictions.

    Returns:
        np.ndarray: Shape (count, ), 1 where there are none.
    """
    for instances in (sample.pred_instances, sample.gt_instances):
        scores = to_numpy(instances.get('bbox_scores'))
        if scores is not None and len(scores) == count:
            return scores
    return np.ones(count, np.float32)


def box_scales(sample, count: int) -> np.ndarray:
    """Return the sizes of the boxes, as the evaluator compares predictions.

    Args:
        sample (PoseDataSample): What the model returned for an image.
        count (int): The number of its predictions.

    Returns:
        np.ndarray: Shape (count, 2), NaN where there are none.
    """
    scales = to_numpy(sample.gt_instances.get('bbox_scales'))
    if scales is None or len(scales) != count:
        return np.full((count, 2), np.nan)
    return scales


def to_numpy(value) -> Optional[np.ndarray]:
    """Return a field of a sample on the host.

    Args:
        value (Tensor | np.ndarray | list, optional): The field.

    Returns:
        np.ndarray | None: None if there is none.
    """
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, 'detach'):
        value = value.detach().cpu()
    return None if value is None else np.asarray(value)
