# Copyright (c) OpenMMLab. All rights reserved.
import copy
from contextlib import ExitStack, contextmanager
from typing import Callable, Dict, Iterator, List
from unittest import mock

import torch
from mmengine.logging import MessageHub
from torch import Tensor, nn

from .side_effects import devices_of, eval_without_side_effects, fix_generators


@contextmanager
def evaluation_losses(
        model: nn.Module) -> Iterator[Callable[[dict], Dict[str, Tensor]]]:
    """Compute losses in evaluation mode without any effect on a training.

    There is no dropout, and normalization layers use their running statistics.
    What a head draws is the same in each call. Beside what
    :func:`eval_without_side_effects` restores, the numbers and flags that the
    modules have as attributes and MMEngine's message hub are as before: a loss
    may count its calls. Nothing is exchanged with other ranks, which do not
    take part: RTMO's head divides by a mean over all ranks otherwise.

    Args:
        model (nn.Module): The model without a wrapper.

    Yields:
        Callable: Called with a batch as the data loader gives it; returns the
        losses by name on the model's device, ``'loss'`` their sum. The model
        may change the batch.
    """
    devices = devices_of(model)
    heads = _head_modules(model)
    # Not what ``torch.compile`` made of it, nor with the hooks of the model.
    forward = getattr(model.forward, '_torchdynamo_orig_callable',
                      model.forward)

    def losses(data_batch: dict) -> Dict[str, Tensor]:
        fix_generators(devices)
        data = model.data_preprocessor(data_batch, False)
        _, values = model.parse_losses(forward(**data, mode='loss'))
        return {
            name: value.detach()
            for name, value in values.items() if 'loss' in name
        }

    with ExitStack() as restore:
        restore.enter_context(eval_without_side_effects(model))
        restore.enter_context(_attributes_restored(model))
        restore.enter_context(_message_hub_restored())
        if torch.distributed.is_available():
            restore.enter_context(
                mock.patch.object(torch.distributed, 'is_initialized',
                                  lambda: False))
        for module in heads:
            module.training = True
        yield losses


def _head_modules(model: nn.Module) -> List[nn.Module]:
    """Return what decides by ``training`` which outputs the loss gets.

    RTMO's head computes some of them in training only. Dropout and
    normalization layers have no children, or are PyTorch's own.
    """
    return [
        module for name, module in model.named_modules()
        if 'head' in name.split('.') and any(module.children())
        and not type(module).__module__.startswith('torch.')
    ]


@contextmanager
def _attributes_restored(model: nn.Module) -> Iterator[None]:
    # ``training`` is restored elsewhere, also of a scripted module.
    kept = [(vars(module), {
        name: value
        for name, value in vars(module).items()
        if name != 'training' and isinstance(value, (bool, int, float, str))
    }) for module in model.modules()]
    try:
        yield
    finally:
        for attributes, values in kept:
            attributes.update(values)


@contextmanager
def _message_hub_restored() -> Iterator[None]:
    hub = MessageHub.get_current_instance()
    # A buffer replaces its arrays when it is updated.
    scalars = {
        name: copy.copy(buffer)
        for name, buffer in hub.log_scalars.items()
    }
    infos = dict(hub.runtime_info)
    try:
        yield
    finally:
        for mapping, values in ((hub.log_scalars, scalars), (hub.runtime_info,
                                                             infos)):
            mapping.clear()
            mapping.update(values)
