# Copyright (c) OpenMMLab. All rights reserved.
from typing import NamedTuple, Optional, Sequence

import numpy as np

from ..annotations import annotated_flags
from ..predictions import to_numpy


class Counts(NamedTuple):
    """How many keypoints of a sample reach the loss.

    Attributes:
        annotated (int): The keypoints that were annotated.
        kept (int): Those of them that count in the loss.
        is_empty (bool): Whether no keypoint counts in the loss.
    """
    annotated: int
    kept: int
    is_empty: bool


def count_keypoints(sample,
                    weights: Optional[np.ndarray] = None) -> Optional[Counts]:
    """Count the keypoints of a training sample before and after its pipeline.

    Args:
        sample (PoseDataSample): As the data loader gives it.
        weights (np.ndarray, optional): The data set's weight of each keypoint,
            shape (K, ). One of weight 0 is not counted. Defaults to None.

    Returns:
        Counts | None: None if the sample does not tell.
    """
    instances = sample.get('gt_instances', {})
    labels = sample.get('gt_instance_labels', {})
    visible = to_numpy(instances.get('keypoints_visible'))
    if visible is None:
        return None
    annotated = visible[..., 0] > 0 if visible.ndim == 3 else visible > 0
    num_keypoints = annotated.shape[-1]
    used = np.ones(num_keypoints, bool)
    if weights is not None and len(weights) == num_keypoints:
        used = np.asarray(weights) > 0
    if 'input_center' in sample:  # A crop of one instance.
        after = to_numpy(labels.get('keypoint_weights'))
        if after is None or after.shape[-1] != num_keypoints:
            return None
        # Those of several encoders are stacked.
        counts = after.reshape(-1, num_keypoints).max(0) > 0
        before = annotated.any(0) & used
        return Counts(
            int(before.sum()), int((before & counts).sum()), not counts.any())
    before = _annotated_in_file(sample.get('raw_ann_info'), num_keypoints)
    after = _counting(labels, num_keypoints)
    if before is None or after is None:
        return None
    kept = int((after & used).sum())
    before = int((before & used).sum())
    return Counts(before, min(kept, before), not kept)


def _annotated_in_file(infos, num_keypoints: int) -> Optional[np.ndarray]:
    """Return which keypoints of an image are annotated, shape (N, K)."""
    if not isinstance(infos, Sequence):
        return None
    flags = [
        annotated_flags(info or {}, num_keypoints) for info in infos
        if not (info or {}).get('iscrowd')
    ]
    if any(one is None for one in flags):
        return None
    return np.reshape(flags, (-1, num_keypoints)) > 0


def _counting(labels, num_keypoints: int) -> Optional[np.ndarray]:
    """Return which keypoints count in the loss of a bottom-up model."""
    for name in ('keypoints_visible', 'keypoint_weights', 'keypoint_indices'):
        values = to_numpy(labels.get(name))
        if values is not None:
            if name == 'keypoint_indices':  # The index and its weight.
                values = values[..., 1]
            if values.ndim == 2 and values.shape[1] == num_keypoints:
                return values > 0
    return None
