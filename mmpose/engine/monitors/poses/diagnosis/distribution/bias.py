# Copyright (c) OpenMMLab. All rights reserved.
from typing import Iterator, NamedTuple, Optional, Sequence

import numpy as np

from ....core.pose_measurements import KeypointBias
from ....core.runner_parts import bare_model, data_set, data_set_parts
from ....writers.record import Scalar, Value
from ...accuracy.data_set_accuracy import DataSetAccuracy
from ...accuracy.instances import InstanceBatch
from ...accuracy.keypoint_curves import curve_groups
from ...model_kinds import is_top_down
from ...pictures.pose_targets import find_codec
from ..keypoint_errors import box_sizes, keypoint_errors

# Only keypoints within a tenth of the longer side: a miss, in any direction,
# says nothing of a systematic error.
_NEAR = 0.1
# The number of these from which on a keypoint's mean offset says something.
_MIN_COUNT = 10


class HeatmapGrid(NamedTuple):
    """The heatmaps of a top-down model.

    Attributes:
        codec (str): The type of the codec.
        size (Sequence[int]): Width and height of a heatmap.
        input_size (Sequence[int]): Those of the model's input.
        padding (float): The size of the part of the image that becomes the
            input, over that of the instance's box.
    """
    codec: str
    size: Sequence[int]
    input_size: Sequence[int]
    padding: float

    def scales(self, batch: InstanceBatch) -> np.ndarray:
        """Return the longer side of each instance's box in pixels of the
        heatmap, in x and y, 0 for a box without a size, shape (N, 2)."""
        sides = self.padding * (batch.boxes[:, 2:] - batch.boxes[:, :2])
        ratio = self.input_size[0] / self.input_size[1]
        width = np.maximum(sides[:, 0], sides[:, 1] * ratio)
        # In pixels of the image.
        pixel = np.stack([width, width / ratio], 1) / self.size
        usable = pixel > 0
        return np.where(usable,
                        box_sizes(batch)[:, None] / np.where(usable, pixel, 1),
                        0)


def heatmap_grid(runner) -> Optional[HeatmapGrid]:
    """Return the heatmaps of a top-down model.

    Args:
        runner (Runner): The runner.

    Returns:
        HeatmapGrid | None: None for other models and codecs.
    """
    model = bare_model(runner.model)
    codec = find_codec(model)
    size = getattr(codec, 'heatmap_size', None)
    input_size = getattr(codec, 'input_size', None)
    if size is None or input_size is None or not is_top_down(model):
        return None
    paddings = [
        transform.padding
        for part in data_set_parts(data_set(runner.val_dataloader))
        for transform in getattr(
            getattr(part, 'pipeline', None), 'transforms', ())
        if type(transform).__name__ == 'GetBBoxCenterScale'
    ]
    # MMPose's own default.
    return HeatmapGrid(
        type(codec).__name__, size, input_size, (paddings or [1.25])[0])


def bias_values(parts: Sequence[DataSetAccuracy], grid: Optional[HeatmapGrid],
                details: bool) -> Iterator[Value]:
    """Yield the scalars and the measurement, if a keypoint is near its place.

    Args:
        parts (Sequence[DataSetAccuracy]): The data sets of a validation, at
            least one. Keypoints with the same name are added.
        grid (HeatmapGrid, optional): Without it there is no measurement.
        details (bool): Whether to yield the scalars.
    """
    names = list(dict.fromkeys(n for part in parts for n in part.names))
    places = {name: i for i, name in enumerate(names)}
    # Of each keypoint: the number of annotated and of near ones, and of the
    # latter the sums of the offsets, over the box and in pixels.
    sums = np.zeros((6, len(names)))
    for part in parts:
        columns = [places[name] for name in part.names]
        for _, block in part.instances.blocks():
            errors = keypoint_errors(block)
            near = errors.located & (errors.distances < _NEAR)
            offsets = np.where(near[..., None], errors.offsets, 0)
            pixels = offsets * (0 if grid is None else
                                grid.scales(block)[:, None])
            sums[:, columns] += [
                errors.counted.sum(0),
                near.sum(0), *offsets.sum(0).T, *pixels.sum(0).T
            ]
    annotated, near = sums[:2]
    if not near.any():
        return
    groups = curve_groups(names, parts[0].meta)
    groups = {f'/{group}': indices for group, indices in groups.items()}
    groups[''] = range(len(names))
    for group, indices in groups.items() if details else ():
        count = near[indices].sum()
        for axis, total in zip('xy', sums[2:4, indices].sum(1)):
            if count:
                yield Scalar(f'keypoints/bias{group}/{axis}', total / count)
    if grid is not None:
        yield KeypointBias(
            grid.codec, float(near.sum() / annotated.sum()), {
                name: tuple(sums[4:, i] / near[i])
                for i, name in enumerate(names) if near[i] >= _MIN_COUNT
            })
