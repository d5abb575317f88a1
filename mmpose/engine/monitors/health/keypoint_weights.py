# Copyright (c) OpenMMLab. All rights reserved.
from typing import Iterator, Optional

import torch
from torch import Tensor

from ..core.arguments import GRAD_NORM_INTERVAL, LOG_HEALTH
from ..core.measurements import KeypointWeights
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..writers.record import Record


@MONITORS.register_module()
class KeypointWeightMonitor(Monitor):
    """Measure how many keypoints count in the loss.

    What it tells: There is no curve. The report shows it if the loss is
    exactly 0.

    Args:
        interval (int | dict | Schedule): At which iterations to measure.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_HEALTH, )
    settings = dict(interval=GRAD_NORM_INTERVAL)
    # Before the loss that it explains.
    priority = 'ABOVE_NORMAL'

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        step = runner.iter + 1
        if not self.is_due(step):
            return
        weights = [
            weight.reshape(-1) for weight in _keypoint_weights(data_batch)
        ]
        if weights:
            count = (torch.cat(weights) > 0).float().mean()
            self.emit(
                Record(step, lambda count: [KeypointWeights(float(count))],
                       [count]))


def _keypoint_weights(data_batch) -> Iterator[Tensor]:
    """Yield those of each sample, as MMPose's codecs make them."""
    if not isinstance(data_batch, dict):
        return
    for sample in data_batch.get('data_samples') or ():
        labels = getattr(sample, 'gt_instance_labels', None)
        weights = getattr(labels, 'keypoint_weights', None)
        if isinstance(weights, Tensor):
            yield weights
