# Copyright (c) OpenMMLab. All rights reserved.
import logging
from typing import Dict

import torch
from mmengine.logging import print_log

# By tag, the function of ``torch.cuda`` that asks NVML, and its unit.
_SENSORS = {
    'system/gpu_utilization': ('utilization', 1),
    'system/gpu_power_watts': ('power_draw', 1 / 1000),
    'system/gpu_temperature_celsius': ('temperature', 1),
}


class GPUSensors:
    """Ask NVML for the state of a GPU, which does not wait for it.

    What cannot be asked once is not asked again: nvidia-ml-py may be missing,
    or a virtual GPU has no sensor.

    Args:
        device (int): The index of the GPU for PyTorch.
    """

    def __init__(self, device: int) -> None:
        self._device = device
        # Older ones of torch have fewer functions.
        self._left = {
            tag: (getattr(torch.cuda, name), factor)
            for tag, (name, factor) in _SENSORS.items()
            if hasattr(torch.cuda, name)
        }

    def read(self) -> Dict[str, float]:
        """Return what the sensors say, by tag."""
        values = {}
        for tag, (sensor, factor) in list(self._left.items()):
            try:
                values[tag] = factor * sensor(self._device)
            # Besides those of imports, NVML's own, which are not imported.
            except Exception as error:
                del self._left[tag]
                print_log(
                    f'EnhancedTensorBoardHook writes no {tag}: '
                    f'{type(error).__name__}: {error}',
                    logger='current',
                    level=logging.DEBUG)
        return values
