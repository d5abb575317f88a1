# Copyright (c) OpenMMLab. All rights reserved.
"""The heatmaps of single keypoints: predicted ones and their targets."""
from contextlib import contextmanager
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
from torch import Tensor, nn

from ..pictures.heatmaps import read_maps, target_peak, without_others

# The targets of a whole body are large.
_MAX_BYTES = 16 * 2**20


class TargetMaps(NamedTuple):
    """The targets of the keypoints of a sample, their peaks scaled to 1.

    Attributes:
        maps (tuple[np.ndarray]): Heatmaps, shape (K, h, w); or vectors along
            x, shape (K, w), and along y, shape (K, h).
        peaks (tuple[np.ndarray]): What their values were divided by, each
            broadcasts to the maps.
        counted (np.ndarray): Which keypoints the loss counts, bool of shape
            (K, ).
        stride (np.ndarray): The distance of two pixels of the heatmap, or of
            two elements along x and y, in pixels of the input, (x, y).
    """
    maps: Tuple[np.ndarray, ...]
    peaks: Tuple[np.ndarray, ...]
    counted: np.ndarray
    stride: np.ndarray


class LossSettings(NamedTuple):
    """How a loss turns vectors into distributions, see
    :obj:`mmpose.models.KLDiscretLoss`.

    Attributes:
        beta (float): The factor of predictions before their softmax.
        label_beta (float, optional): That of labels; None: they have none.
    """
    beta: float = 1.
    label_beta: Optional[float] = None


def loss_settings(model: nn.Module) -> LossSettings:
    """Return the settings of the loss of a model's head."""
    loss = getattr(getattr(model, 'head', None), 'loss_module', None)
    beta, label_beta = getattr(loss, 'beta', 1.), None
    if getattr(loss, 'label_softmax', False):
        # MMPose 1.2 has one factor for both.
        label_beta = getattr(loss, 'label_beta', beta)
    return LossSettings(beta, label_beta)


def target_maps(labels: Dict[str, np.ndarray], codec,
                loss: LossSettings) -> Optional[TargetMaps]:
    """Return the targets of a sample.

    Args:
        labels (dict[str, np.ndarray]): The result of :func:`read_labels`.
        codec (BaseKeypointCodec, optional): The codec of the model.
        loss (LossSettings): Those of its loss.

    Returns:
        TargetMaps | None: None if there are none with a scale.
    """
    axes = [labels.get(f'keypoint_{axis}_labels') for axis in 'xy']
    size = np.array(getattr(codec, 'input_size', (1, 1)), float)
    if all(axis is not None for axis in axes):
        maps = [axis.reshape(-1, axis.shape[-1]) for axis in axes]
        if loss.label_beta is not None:
            maps = [softmax(loss.label_beta * axis) for axis in maps]
        peaks = [axis.max(-1, keepdims=True) for axis in maps]
        stride = size / [axis.shape[1] for axis in maps]
    else:
        heatmaps, peak = labels.get('heatmaps'), target_peak(codec)
        if heatmaps is None or heatmaps.ndim != 3 or peak is None:
            return None
        heatmaps = without_others(heatmaps, codec)
        if heatmaps is None:
            return None
        maps, peaks = [heatmaps], [np.array(float(peak))]
        stride = size / heatmaps.shape[:0:-1]
    if sum(one.nbytes for one in maps) > _MAX_BYTES:
        return None
    weights = labels.get('keypoint_weights')
    counted = np.ones(len(maps[0]), bool)
    if weights is not None and weights.size == len(counted):
        counted = weights.reshape(-1) > 0
    maps = [
        np.divide(
            one, peak, out=np.zeros_like(one, np.float32), where=peak > 0)
        for one, peak in zip(maps, peaks)
    ]
    # A keypoint outside of the input has a weight and no peak.
    counted &= np.all([one.reshape(len(one), -1).max(1) > 0.5 for one in maps],
                      axis=0)
    return TargetMaps(tuple(maps), tuple(peaks), counted, stride)


class PredictedMaps:
    """Read the predicted heatmaps of samples.

    What MMPose returns of vectors along the axes is clipped for pictures, so
    the output of the head is read.

    Args:
        model (nn.Module): The model without a wrapper.
        codec (BaseKeypointCodec, optional): The codec of the model.
    """

    def __init__(self, model: nn.Module, codec) -> None:
        self._codec = codec
        self._head = None
        if hasattr(codec, 'simcc_split_ratio'):
            self._head = getattr(model, 'head', None)
        self._vectors: List[Tensor] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Keep what the head returns in the block."""
        if self._head is None or 'forward' in vars(self._head):
            yield
            return
        forward: Callable = self._head.forward

        def watch(*args, **kwargs):
            output = forward(*args, **kwargs)
            self._vectors = [vector.detach() for vector in output[:2]]
            return output

        self._head.forward = watch
        try:
            yield
        finally:
            del self._head.forward
            self._vectors = []

    def read(self, index: int, result) -> Tuple[Tensor, ...]:
        """Return the heatmaps of a sample.

        Args:
            index (int): Its index in the batch.
            result (PoseDataSample): What the model returned for it.

        Returns:
            tuple[Tensor]: As :attr:`TargetMaps.maps`; vectors before the
            softmax. Empty if there are none.
        """
        if self._head is not None:
            return tuple(vector[index].clone() for vector in self._vectors)
        heatmaps = read_maps(result, self._codec)
        return () if heatmaps is None else (heatmaps.clone(), )


def scaled(predicted: Tuple[np.ndarray, ...], target: TargetMaps,
           beta: float) -> Optional[Tuple[np.ndarray, ...]]:
    """Scale predictions as their targets are.

    Args:
        predicted (tuple[np.ndarray]): See :meth:`PredictedMaps.read`.
        target (TargetMaps): The targets.
        beta (float): The factor of vectors before the softmax.

    Returns:
        tuple[np.ndarray] | None: None if they are of another shape.
    """
    if [one.shape for one in predicted] != [one.shape for one in target.maps]:
        return None
    predicted = [np.nan_to_num(one.astype(float)) for one in predicted]
    if len(predicted) == 2:
        predicted = [softmax(beta * one) for one in predicted]
    return tuple(one / np.where(peak > 0, peak, np.inf)
                 for one, peak in zip(predicted, target.peaks))


def softmax(values: np.ndarray) -> np.ndarray:
    """Return the softmax over the last dimension."""
    values = np.exp(values - values.max(-1, keepdims=True))
    return values / values.sum(-1, keepdims=True)
