# Copyright (c) OpenMMLab. All rights reserved.
import copy
from typing import List, NamedTuple, Sequence, Union

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import nn

from mmpose.structures import PoseDataSample
from ..core.side_effects import eval_without_side_effects

# The largest part of a batch that a probe keeps.
_MAX_BYTES = 1000000


class LiftedPose(NamedTuple):
    """A pose in 3D and its prediction.

    Attributes:
        truth (np.ndarray): The ground truth, right, down and forward as seen
            from the camera, shape (K, 3).
        visible (np.ndarray): Which joints it has, bool of shape (K, ).
        predicted (np.ndarray): The prediction, shape (K, 3).
    """
    truth: np.ndarray
    visible: np.ndarray
    predicted: np.ndarray

    @property
    def error(self) -> float:
        """float: The mean distance of the visible joints, NaN for none."""
        sums, counts = _sum_errors(*(part[None] for part in self)).sum(1)
        return sums / counts if counts else np.nan


def joint_errors(sample: PoseDataSample) -> np.ndarray:
    """Sum the errors of each joint of a validation sample.

    Args:
        sample (PoseDataSample): What the model returned: N poses of shape
            (N, K, 3), the predicted ones possibly of shape (1, N, K, 3).

    Returns:
        np.ndarray: The sum of each joint's distances where the ground truth is
        visible, and their number, float64 of shape (2, K).
    """
    truth = sample.gt_instances.lifting_target
    return _sum_errors(truth, _visible(sample, truth),
                       sample.pred_instances.keypoints.reshape(truth.shape))


def middle_pose(sample: PoseDataSample) -> LiftedPose:
    """Copy one pose of a validation sample.

    Args:
        sample (PoseDataSample): As in :func:`joint_errors`.

    Returns:
        LiftedPose: The pose in the middle of the sequence.
    """
    truth = sample.gt_instances.lifting_target
    return _middle(truth, _visible(sample, truth),
                   sample.pred_instances.keypoints)


class LiftingProbe:
    """Keep the first samples of a batch, to predict them again and again.

    It keeps up to 1 MB of them, at least one.

    Args:
        data_batch (dict): A batch as the data loader gives it; what is kept is
            copied.
        count (int): The largest number of samples.
    """

    def __init__(self, data_batch: dict, count: int) -> None:
        self._inputs: List[torch.Tensor] = []
        self._samples: List[PoseDataSample] = []
        size = 0
        for inputs, sample in zip(data_batch['inputs'][:count],
                                  data_batch['data_samples']):
            sample = _light_copy(sample)
            size += _bytes(inputs) + sum(
                _bytes(value)
                for part in (sample.gt_instances, sample.gt_instance_labels)
                for value in part.values())
            if self._samples and size > _MAX_BYTES:
                break
            self._inputs.append(inputs.clone())
            self._samples.append(sample)

    def predict(self, model: nn.Module) -> List[LiftedPose]:
        """Let a model predict the samples without changing it.

        Args:
            model (PoseLifter): The model without a wrapper.

        Returns:
            list[LiftedPose]: The middle pose of each sample. Its ground truth
            is the target, decoded like a prediction.
        """
        data = dict(
            inputs=torch.stack(self._inputs),
            data_samples=copy.deepcopy(self._samples))
        with eval_without_side_effects(model):
            results = model.predict(**model.data_preprocessor(data, False))
            poses = []
            for sample, result in zip(self._samples, results):
                predicted = result.pred_instances.keypoints
                truth = _decode_target(model.head, sample, predicted.shape)
                poses.append(
                    _middle(truth, _visible(sample, truth), predicted))
        return poses


def _bytes(values: Union[np.ndarray, torch.Tensor]) -> int:
    return np.asarray(values).nbytes


def _light_copy(sample: PoseDataSample) -> PoseDataSample:
    """Copy only what is needed to predict and to draw."""
    light = PoseDataSample(
        metainfo={
            name: value
            for name, value in sample.metainfo.items()
            if not name.endswith(('img_path', 'img_paths'))
        })
    names = ['lifting_target_visible', 'lifting_target_label']
    if 'lifting_target_label' not in sample.gt_instance_labels:
        names.append('lifting_target')
    for part in ('gt_instances', 'gt_instance_labels'):
        kept = {
            name: copy.deepcopy(value)
            for name, value in sample.get(part).items() if name in names
        }
        light.set_field(InstanceData(**kept), part)
    return light


def _decode_target(head: nn.Module, sample: PoseDataSample,
                   shape: Sequence[int]) -> np.ndarray:
    """Decode the pose of a sample's label.

    The annotated pose may differ: augmentation may flip the label alone.

    Args:
        head (nn.Module): The model's head.
        sample (PoseDataSample): A training sample.
        shape (Sequence[int]): The shape of the sample's prediction.
    """
    label = sample.gt_instance_labels.get('lifting_target_label')
    if label is None:
        return sample.gt_instances.lifting_target
    label = label.reshape(*shape[:-2], *label.shape[-2:])
    # A head that returns the label instead of what it computes.
    decoder = copy.copy(head)
    decoder.forward = lambda feats: label
    return decoder.predict(None, [sample], test_cfg={})[0].keypoints


def _visible(sample: PoseDataSample, truth: np.ndarray) -> np.ndarray:
    """Return which joints of N poses are visible, bool of shape (N, K)."""
    visible = sample.gt_instances.get('lifting_target_visible')
    if visible is None:
        return np.ones(truth.shape[:-1], bool)
    return visible.astype(bool).reshape(-1, truth.shape[-2])


def _middle(truth: np.ndarray, visible: np.ndarray,
            predicted: np.ndarray) -> LiftedPose:
    """Copy the middle one of several poses, of shapes (..., K, 3)."""
    truth, predicted = (
        poses.reshape(-1, *poses.shape[-2:]) for poses in (truth, predicted))
    middle = len(truth) // 2
    return LiftedPose(truth[middle].copy(), visible[middle].copy(),
                      predicted[middle].copy())


def _sum_errors(truth: np.ndarray, visible: np.ndarray,
                predicted: np.ndarray) -> np.ndarray:
    """Sum the errors of each joint, see :func:`joint_errors`."""
    distances = np.linalg.norm(predicted - truth, axis=-1)
    return np.stack([
        np.where(visible, distances, 0).sum(0, dtype=np.float64),
        visible.sum(0)
    ])
