# Copyright (c) OpenMMLab. All rights reserved.
import functools
from typing import Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np
from torch import Tensor

from ...core.pose_measurements import HeatmapPeaks
from ...core.runner_parts import keypoint_names
from ...writers.record import IMAGE, Image, Record, Scalar, Value
from .keypoint_maps import LossSettings, TargetMaps, scaled
from .map_grid import map_grid
from .map_statistics import MapStatistics, map_statistics

# A maximum nearer than this fraction of the input's longer side is in place.
_NEAR = 0.05


class MapSample(NamedTuple):
    """The targets of a sample and the predictions of a step.

    Attributes:
        name (str): The name of the sample.
        target (TargetMaps): Its targets.
        predicted (tuple[Tensor]): See :meth:`PredictedMaps.read`.
    """
    name: str
    target: TargetMaps
    predicted: Tuple[Tensor, ...]


class HeatmapPictures:
    """Show the heatmaps of single keypoints beside their targets.

    ======================= =================================================
    ``train/heatmaps``      A picture of the first fixed training sample: the
                            target of each keypoint beside the prediction, in
                            the scale of the target, with the value of the
                            peak and its distance from the target. SimCC: the
                            two distributions along x and along y, as curves
    ``heatmap/peak``        The highest value of a predicted heatmap over that
                            of its target: the mean over all keypoints of the
                            fixed samples
    ``heatmap/spread``      How wide it is there, over how wide the target is:
                            the median. Of top-down models only
    ``heatmap/second_peak`` The second highest peak over the highest: the
                            mean. Of top-down models only
    ======================= =================================================

    What it tells: How a prediction is wrong. A dark map: the model predicts
    nothing. A map that is wide and low: it is not sure. A second peak: it
    confuses two keypoints, such as left and right. A sharp peak in the wrong
    place: the annotation may be wrong. A peak of 1, a spread of 1 and a second
    peak of 0 are the target's.

    A spread is the standard deviation of the values above half of the peak. A
    second peak is four times as far away as the target is wide. After a
    softmax, values are compared with the target that the loss is computed
    from. Heatmaps without a scale of a target, as those of integral
    regression, are not shown.

    Args:
        loss (LossSettings): Those of the model's loss.
        meta (dict): The metainfo of the data set.
        size (Sequence[int]): Height and width of the input.
        single (bool): Whether there is one instance in an input.
    """

    def __init__(self, loss: LossSettings, meta: dict, size: Sequence[int],
                 single: bool) -> None:
        self._loss = loss
        self._meta = meta
        self._longer = float(max(size))
        self._single = single

    def records(self, step: int, samples: List[MapSample]) -> Iterator[Record]:
        """Yield what to write.

        Args:
            step (int): The training step.
            samples (list[MapSample]): The samples, the one to draw first.
        """
        if not samples:
            return
        tensors = [tensor for one in samples for tensor in one.predicted]
        yield Record(step, functools.partial(self._scalars, samples), tensors)
        first = samples[0]
        yield Record(
            step,
            functools.partial(self._picture, first,
                              f'step {step:,}   {first.name}'),
            first.predicted, IMAGE)

    def _scalars(self, samples: List[MapSample],
                 *arrays: np.ndarray) -> Iterator[Value]:
        found: List[MapStatistics] = []
        start = 0
        for sample in samples:
            end = start + len(sample.predicted)
            maps = scaled(arrays[start:end], sample.target, self._loss.beta)
            start = end
            if maps is not None and sample.target.counted.any():
                found.append(map_statistics(maps, sample.target))
        if not found:
            return
        peaks, distances, spreads, seconds = (
            np.concatenate(rows) for rows in zip(*found))
        peak = float(np.nanmean(peaks))
        yield Scalar('heatmap/peak', peak)
        if self._single and np.isfinite(spreads).any():
            yield Scalar('heatmap/spread', float(np.nanmedian(spreads)))
            yield Scalar('heatmap/second_peak', float(np.nanmean(seconds)))
        near = distances[np.isfinite(distances)] < _NEAR * self._longer
        # A softmax is never empty.
        if len(samples[0].predicted) == 1:
            yield HeatmapPeaks(peak, float(near.mean()))

    def _picture(self, sample: MapSample, title: str,
                 *arrays: np.ndarray) -> Iterator[Value]:
        target = sample.target
        maps = scaled(arrays, target, self._loss.beta)
        if maps is None:
            return
        names = keypoint_names(self._meta, len(target.counted))
        yield Image('train/heatmaps', [
            map_grid(names, target, maps, map_statistics(maps, target), title)
        ])
