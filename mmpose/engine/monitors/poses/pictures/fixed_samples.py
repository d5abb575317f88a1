# Copyright (c) OpenMMLab. All rights reserved.
import copy
import pickle
from contextlib import contextmanager
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from mmpose.structures import PoseDataSample
from ...core.side_effects import eval_without_side_effects
from ..model_kinds import is_bottom_up, is_top_down
from ..predictions import predictions
from .heatmaps import Heatmap, read_heatmap
from .model_inputs import VisibleInput, copy_input, make_visible, sample_name
from .pose_targets import decode_target, find_codec


class Predicted(NamedTuple):
    """What a model makes of a sample, in the input's pixels.

    Attributes:
        keypoints (np.ndarray): Shape (M, K, 2).
        scores (np.ndarray): Shape (M, K).
        seen (VisibleInput): What came out of the data preprocessor.
        heatmap (Heatmap, optional): None where the model has none.
    """
    keypoints: np.ndarray
    scores: np.ndarray
    seen: VisibleInput
    heatmap: Optional[Heatmap]


class FixedSamples:
    """The first samples of a batch, to be predicted again and again.

    Args:
        model (nn.Module): The model without a wrapper.
        data_batch (dict): A batch as the data loader gives it; shares no
            memory with the samples.
        count (int): The number of samples.
        meta (dict): The data set's ``metainfo``.
        prefixes (Sequence[str]): See :func:`image_prefixes`. Defaults to ().

    Attributes:
        inputs (list[Tensor]): The inputs as they came.
        names (list[str]): What finds each again.
        targets (list): For each what :func:`decode_target` returns.
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
        self._samples = [
            _in_input(sample, image.shape[1:], meta)
            for sample, image in zip(samples, self.inputs)
        ]
        # A prediction may change its samples, and each is given new ones. To
        # copy them takes longer.
        self._pickled = list(map(pickle.dumps, self._samples))
        self._codec = find_codec(model)
        self._is_stacked = isinstance(inputs, Tensor)
        # Most bottom-up heads predict one image at a time. Those with a vector
        # for each axis make a heatmap of each keypoint at several times the
        # input's size: of a whole body's, a quarter of a gigabyte.
        self._batch_size = max(len(self._samples), 1)
        if is_bottom_up(model) or hasattr(self._codec, 'simcc_split_ratio'):
            self._batch_size = 1

    def decode_targets(self, samples: Sequence[PoseDataSample]) -> None:
        """Decode keypoints from the labels, which are not kept."""
        self.targets = [
            decode_target(self._codec, sample)
            for sample, _ in zip(samples, self._samples)
        ]

    def predict(self, model: nn.Module) -> List[Predicted]:
        """Let the model predict; nothing of it is changed."""
        predicted = []
        with eval_without_side_effects(model), _everything_returned(model):
            for i in range(0, len(self._samples), self._batch_size):
                batch = slice(i, i + self._batch_size)
                inputs = [image.clone() for image in self.inputs[batch]]
                data = model.data_preprocessor(
                    dict(
                        inputs=torch.stack(inputs)
                        if self._is_stacked else inputs,
                        data_samples=list(
                            map(pickle.loads, self._pickled[batch]))), False)
                # Before the model, which may work in place.
                seen = list(map(make_visible, data['inputs']))
                # Read at once, so that nothing large is kept.
                for one, result in zip(seen, _forward(model, data)):
                    predicted.append(
                        Predicted(*predictions(result.pred_instances), one,
                                  read_heatmap(result, self._codec)))
        return predicted


def _forward(model: nn.Module, data: dict) -> Sequence[PoseDataSample]:
    """Predict as MMEngine has a model do it.

    Not what ``torch.compile`` made of it for the training: that would be
    compiled anew, and neither the hooks of the model as a whole, which count
    its steps, say.
    """
    forward = getattr(model.forward, '_torchdynamo_orig_callable',
                      model.forward)
    return forward(**data, mode='predict')


@contextmanager
def _everything_returned(model: nn.Module) -> Iterator[None]:
    """Have the model return its heatmaps, and all keypoints it is trained on.

    Trained on several data sets, it may be tested on the keypoints of one. It
    predicts what it sees, at one scale; a top-down model also without the mean
    with what it makes of the flipped input, which takes as long again. Some
    bottom-up heads cannot do without.
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
    """A copy without labels, whose prediction is in the input's pixels.

    Models turn their predictions back into the image by where the input was
    cut out. Here the input is the image.
    """
    # A pipeline for training need not hand on what only a prediction needs.
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
    # Nor the box, which a prediction is given: here it is all of the input.
    count = len(bare.gt_instances) or 1
    for name, value in (('bboxes', (0, 0, *size)), ('bbox_scores', 1)):
        if name not in bare.gt_instances:
            values = np.array([value] * count, np.float32)
            bare.gt_instances.set_field(values, name)
    return bare


def _box_sizes(sample: PoseDataSample) -> Optional[np.ndarray]:
    """The longer side of the boxes in the input's pixels; None where it is not
    known."""
    boxes = sample.get('gt_instances', {}).get('bboxes')
    if boxes is None or any(
            name not in sample for name in ('input_size', 'input_scale')):
        return None
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    scale = np.asarray(sample.input_size, float) / np.reshape(
        sample.input_scale, 2)
    return ((boxes[:, 2:] - boxes[:, :2]) * scale).max(-1)
