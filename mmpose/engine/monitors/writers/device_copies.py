# Copyright (c) OpenMMLab. All rights reserved.
from typing import Iterable, List, Tuple

import torch
from torch import Tensor


def start_copies(tensors: Iterable[Tensor]
                 ) -> Tuple[List[Tensor], List['torch.cuda.Event']]:
    """Start to copy tensors to the host without waiting for the device.

    Args:
        tensors (Iterable[Tensor]): Tensors on any device.

    Returns:
        tuple[list[Tensor], list[torch.cuda.Event]]: Tensors on the host, or
        on a device that cannot do it, those of bfloat16 as float32; and the
        events after which they hold their values.
    """
    copies, devices = [], set()
    for tensor in tensors:
        tensor = tensor.detach()
        if tensor.dtype == torch.bfloat16:  # NumPy does not know it.
            tensor = tensor.float()
        if tensor.is_cuda:
            # Only a copy into pinned memory runs asynchronously.
            pinned = torch.empty(
                tensor.shape, dtype=tensor.dtype, pin_memory=True)
            devices.add(tensor.device)
            tensor = pinned.copy_(tensor, non_blocking=True)
        copies.append(tensor)
    return copies, [
        # Blocking: the thread that waits for it leaves the core to others.
        torch.cuda.current_stream(device).record_event(
            torch.cuda.Event(blocking=True)) for device in devices
    ]
