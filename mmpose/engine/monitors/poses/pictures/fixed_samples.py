# Copyright (c) OpenMMLab. All rights reserved.
import copy
import math
import pickle
from contextlib import contextmanager
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from mmpose.structures import PoseDataSample
from ...core.side_effects import eval_without_side_effects, original_forward
from ..heatmaps.keypoint_maps import (PredictedMaps, TargetMaps, loss_settings,
                                      target_maps)
from ..model_kinds import is_bottom_up, is_top_down
from ..predictions import predictions
from .heatmaps import Heatmap, read_heatmap
from .model_inputs import VisibleInput, copy_input, make_visible, sample_name
from .pose_targets import decode_target, find_codec, read_labels


class Predicted(NamedTuple):
    """What a model predicted for a sample, in the input's pixels.

    Attributes:
        keypoints (np.ndarray): Shape (M, K, 2).
        scores (np.ndarray): Shape (M, K).
        seen (VisibleInput): The output of the data preprocessor.
        heatmap (Heatmap, optional): None where the model has none.
        maps (tuple[Tensor]): See :meth:`PredictedMaps.read`.
    """
    keypoints: np.ndarray
    scores: np.ndarray
    seen: VisibleInput
    heatmap: Optional[Heatmap]
    maps: Tuple[Tensor, ...] = ()


class FixedSamples:
    """Keep the first samples of a batch, to predict them again and again.

    Args:
        model (nn.Module): The model without a wrapper.
        data_batch (dict): A batch as the data loader gives it; what is kept is
            copied.
        count (int): The number of samples.
        meta (dict): The data set's ``metainfo``.
        prefixes (Sequence[str]): See :func:`image_prefixes`. Defaults to ().

    Attributes:
        inputs (list[Tensor]): The inputs before preprocessing.
        names (list[str]): See :func:`sample_name`.
        targets (list): For each sample the result of :func:`decode_target`.
        target_maps (list[TargetMaps | None]): See :func:`target_maps`.
        loss (LossSettings): Those of the model's loss.
        sizes (list[np.ndarray | None]): The longer side of each box in the
            input's pixels, shape (N, ).
    """

    def __init__(self,
                 model: nn.Module,
                 data_batch: dict,
                 count: int,
                 meta: dict,
                 prefixes: Sequence[str] = ()) -> None:
        inputs = data_batch['inputs'][:count]
        samples = data_batch['data_samples'][:count]
        self.inputs = list(map(copy_input, inputs))
        self.names = [sample_name(sample, prefixes) for sample in samples]
        self.sizes = list(map(_box_sizes, samples))
        self.targets: List[Optional[Tuple[np.ndarray, np.ndarray]]] = [
            None for _ in samples
        ]
        self.target_maps: List[Optional[TargetMaps]] = [None for _ in samples]
        self.loss = loss_settings(model)
        self._samples = [
            _in_input(sample, image.shape[-2:], meta)
            for sample, image in zip(samples, self.inputs)
        ]
        # A prediction may change its samples, so each gets new ones. Copying
        # would take longer.
        self._pickled = list(map(pickle.dumps, self._samples))
        self._codec = find_codec(model)
        self._is_stacked = isinstance(inputs, Tensor)
        # Most bottom-up heads predict one image at a time. Heads that predict
        # a vector for each axis make a heatmap of each keypoint in several
        # times the input's size: 256 MB for a whole body.
        self._batch_size = max(len(self._samples), 1)
        if is_bottom_up(model) or hasattr(self._codec, 'simcc_split_ratio'):
            self._batch_size = 1

    @property
    def num_batches(self) -> int:
        """int: How often :meth:`predict` calls the model."""
        return math.ceil(len(self._samples) / self._batch_size)

    def decode_targets(self, samples: Sequence[PoseDataSample]) -> None:
        """Decode keypoints from the labels, of which heatmaps are kept."""
        kept = samples[:len(self._samples)]
        self.targets = [decode_target(self._codec, sample) for sample in kept]
        self.target_maps = [
            target_maps(read_labels(sample), self._codec, self.loss)
            for sample in kept
        ]

    def predict(self, model: nn.Module) -> List[Predicted]:
        """Let the model predict the samples without changing it.

        Args:
            model (nn.Module): The model without a wrapper.
        """
        predicted = []
        maps = PredictedMaps(model, self._codec)
        with eval_without_side_effects(model), _everything_returned(
                model), maps.watched():
            for i in range(0, len(self._samples), self._batch_size):
                batch = slice(i, i + self._batch_size)
                inputs = [image.clone() for image in self.inputs[batch]]
                data = model.data_preprocessor(
                    dict(
                        inputs=torch.stack(inputs)
                        if self._is_stacked else inputs,
                        data_samples=list(
                            map(pickle.loads, self._pickled[batch]))), False)
                # The model may change its input in place.
                seen = list(map(make_visible, data['inputs']))
                # Read at once, so that nothing large is kept.
                for j, (one,
                        result) in enumerate(zip(seen, _forward(model, data))):
                    predicted.append(
                        Predicted(*predictions(result.pred_instances), one,
                                  read_heatmap(result, self._codec),
                                  maps.read(j, result)))
        return predicted


def _forward(model: nn.Module, data: dict) -> Sequence[PoseDataSample]:
    """Predict as in a validation of MMEngine."""
    return original_forward(model)(**data, mode='predict')


@contextmanager
def _everything_returned(model: nn.Module) -> Iterator[None]:
    """Have the model return its heatmaps and all keypoints it is trained on.

    A model that is trained on several data sets may be tested on the keypoints
    of one of them. It predicts at one scale, and a top-down model without
    ``flip_test``, which would double the time; some bottom-up heads need it.
    """
    test_cfg = getattr(model, 'test_cfg', None)
    if not isinstance(test_cfg, dict) and test_cfg is not None:
        yield  # Not one of MMPose's models.
        return
    changed = copy.copy(test_cfg or {})
    changed['output_heatmaps'] = True
    changed['multiscale_test'] = False
    if is_top_down(model):
        changed['flip_test'] = False
    changed.pop('output_keypoint_indices', None)
    there = hasattr(model, 'test_cfg')
    model.test_cfg = changed
    try:
        yield
    finally:
        if there:
            model.test_cfg = test_cfg
        else:
            del model.test_cfg


def _in_input(sample: PoseDataSample, shape: Tuple[int, int],
              meta: dict) -> PoseDataSample:
    """Copy a sample without labels, as if its input were the whole image.

    Models map their predictions back to the image; with this sample, they stay
    in the input's pixels.
    """
    # A training pipeline may not pack what only predictions need.
    metainfo = {
        name: meta[name]
        for name in ('flip_indices', 'skeleton_links') if name in meta
    }
    metainfo.update(sample.metainfo)
    metainfo.pop('raw_ann_info', None)
    metainfo = copy.deepcopy(metainfo)
    size = np.array(shape[::-1])
    metainfo.update(
        img_shape=tuple(shape),
        ori_shape=tuple(shape),
        input_size=tuple(size),
        input_center=size / 2,
        input_scale=size)
    bare = PoseDataSample(metainfo=metainfo)
    bare.gt_instances = copy.deepcopy(sample.gt_instances)
    # Nor the box, which is the whole input here.
    count = len(bare.gt_instances) or 1
    for name, value in (('bboxes', (0, 0, *size)), ('bbox_scores', 1)):
        if name not in bare.gt_instances:
            values = np.array([value] * count, np.float32)
            bare.gt_instances.set_field(values, name)
    return bare


def _box_sizes(sample: PoseDataSample) -> Optional[np.ndarray]:
    """Return the longer side of each box in the input's pixels, None where it
    is unknown."""
    boxes = sample.get('gt_instances', {}).get('bboxes')
    if boxes is None or any(
            name not in sample for name in ('input_size', 'input_scale')):
        return None
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    scale = np.asarray(sample.input_size, float) / np.reshape(
        sample.input_scale, 2)
    return ((boxes[:, 2:] - boxes[:, :2]) * scale).max(-1)
