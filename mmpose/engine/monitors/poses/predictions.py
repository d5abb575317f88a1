# Copyright (c) OpenMMLab. All rights reserved.
"""Access to the predictions for a sample."""
from typing import Optional, Tuple

import numpy as np


def predictions(instances) -> Tuple[np.ndarray, np.ndarray]:
    """Copy the predicted keypoints of a sample.

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
    """Return the predicted keypoints of a sample, not copied.

    Args:
        instances (InstanceData): ``pred_instances`` of a sample.

    Returns:
        tuple[np.ndarray, np.ndarray]: Keypoints in the image, possibly with
        their depth, shape (M, K, D), and their scores, shape (M, K).
    """
    # Models of 3D poses return both.
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
        np.ndarray: Shape (count, ); all 1 if there are no scores.
    """
    for instances in (sample.pred_instances, sample.gt_instances):
        scores = to_numpy(instances.get('bbox_scores'))
        if scores is not None and len(scores) == count:
            return scores
    return np.ones(count, np.float32)


def box_scales(sample, count: int) -> np.ndarray:
    """Return the sizes of the boxes that predictions were made in.

    Args:
        sample (PoseDataSample): What the model returned for an image.
        count (int): The number of its predictions.

    Returns:
        np.ndarray: Shape (count, 2); all NaN if there are no boxes.
    """
    scales = to_numpy(sample.gt_instances.get('bbox_scales'))
    if scales is None or len(scales) != count:
        return np.full((count, 2), np.nan)
    return scales


def to_numpy(value) -> Optional[np.ndarray]:
    """Return a field of a sample as an array.

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
