# Copyright (c) OpenMMLab. All rights reserved.
import copy
import pickle
from contextlib import contextmanager
from typing import Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from mmpose.structures import PoseDataSample
from ..core.undisturbed import undisturbed
from .heatmaps import Heatmaps
from .input_pixels import input_pixels
from .model_kinds import is_bottom_up, is_top_down
from .pose_samples import predictions
from .pose_targets import decode_target, find_codec


class FixedSamples:
    """The first samples of a batch, to be predicted again and again.

    Args:
        model (nn.Module): The model without a wrapper.
        data_batch (dict): A batch as the data loader gives it; shares no
            memory with the probe.
        count (int): The number of samples.
        is_rgb (bool): Whether the images are RGB, not BGR.
        meta (dict): The data set's ``metainfo``.

    Attributes:
        pixels (list[InputPixels]): The inputs.
        targets (list): For each sample :func:`decode_target`'s.
    """

    def __init__(self, model: nn.Module, data_batch: dict, count: int,
                 is_rgb: bool, meta: dict) -> None:
        inputs = data_batch['inputs'][:count]
        self.pixels = input_pixels(inputs, model.data_preprocessor, is_rgb)
        self._samples = [
            _in_input(sample, pixels.pixels.shape[1:], meta)
            for sample, pixels in zip(data_batch['data_samples'], self.pixels)
        ]
        # A prediction may change its samples, and each is given new ones. To
        # copy them takes longer.
        self._pickled = list(map(pickle.dumps, self._samples))
        self.targets: List[Optional[Tuple[np.ndarray, np.ndarray]]] = [
            None for _ in self._samples
        ]
        self._codec = find_codec(model)
        self._is_stacked = isinstance(inputs, Tensor)
        # Most bottom-up heads predict one image at a time. Those with a vector
        # for each axis make a heatmap of each keypoint at several times the
        # input's size: of a whole body's, a quarter of a gigabyte.
        self._batch_size = len(self._samples)
        if is_bottom_up(model) or hasattr(self._codec, 'simcc_split_ratio'):
            self._batch_size = 1

    def decode_targets(self, samples: Sequence[PoseDataSample]) -> None:
        """Make keypoints of the labels, which are not kept."""
        self.targets = [
            decode_target(self._codec, sample)
            for sample, _ in zip(samples, self._samples)
        ]

    def predict(self, model: nn.Module) -> Tuple[List[tuple], Heatmaps]:
        """Let the model predict; nothing of it is changed.

        Returns:
            tuple[list[tuple], Heatmaps]: For each sample the keypoints in the
            input's pixels, shape (M, K, 2), with their scores, shape (M, K);
            and the heatmaps.
        """
        people, heatmaps = [], Heatmaps()
        with undisturbed(model), _everything_returned(model):
            for i in range(0, len(self._samples), self._batch_size):
                batch = slice(i, i + self._batch_size)
                inputs = [pixels.as_input() for pixels in self.pixels[batch]]
                data = dict(
                    inputs=torch.stack(inputs) if self._is_stacked else inputs,
                    data_samples=list(map(pickle.loads, self._pickled[batch])))
                data = model.data_preprocessor(data, False)
                # Read at once, so that nothing large is kept.
                for sample, result in zip(self._samples[batch],
                                          model.predict(**data)):
                    people.append(predictions(result.pred_instances))
                    heatmaps.add(result, self._codec, sample)
        return people, heatmaps


@contextmanager
def _everything_returned(model: nn.Module) -> Iterator[None]:
    """Have the model return its heatmaps, and all keypoints it is trained on.

    Trained on several data sets, it may be tested on the keypoints of one. A
    top-down model predicts what it sees, without the mean with what it makes
    of the mirrored input, which takes as long again; some bottom-up heads
    cannot do without.
    """
    test_cfg = model.test_cfg
    model.test_cfg = copy.copy(test_cfg or {})
    model.test_cfg['output_heatmaps'] = True
    if is_top_down(model):
        model.test_cfg['flip_test'] = False
    model.test_cfg.pop('output_keypoint_indices', None)
    try:
        yield
    finally:
        model.test_cfg = test_cfg


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
