# Copyright (c) OpenMMLab. All rights reserved.
import copy
import random
from contextlib import ExitStack, contextmanager
from typing import Callable, Dict, Iterable, Iterator, List, Set, Tuple
from unittest import mock

import numpy as np
import torch
from mmengine.logging import MessageHub
from torch import Tensor, nn

# What a head of a top-down model returns beside its losses: a PCK in its
# input, or in its heatmaps.
ACCURACY = 'acc_pose'


@contextmanager
def eval_without_side_effects(model: nn.Module) -> Iterator[None]:
    """Run a model in evaluation mode without any effect on its training.

    Inside the block every module is in evaluation mode and no gradient is
    recorded. After it, also after an error, every module's ``training`` flag,
    every buffer and all random number generators are as before.

    :func:`torch.inference_mode` is not used: tensors that a module keeps from
    the block, such as a grid of anchors, could not be used in training.

    Args:
        model (nn.Module): The model. ``model.eval()`` is not called, since a
            module may override ``train()``, for instance to freeze a stage.
    """
    modules = list(model.modules())
    flags = [(module, module.training) for module in modules]
    buffers = [(module._buffers, name, buffer) for module in modules
               for name, buffer in module._buffers.items()]
    values = [(buffer, buffer.detach().clone()) for _, _, buffer in buffers
              if buffer is not None]
    # If one of these fails, the others are restored all the same.
    with ExitStack() as restore:
        restore.enter_context(generators_restored(devices_of(model)))
        restore.enter_context(torch.no_grad())
        restore.callback(_restore_values, values)
        restore.callback(_restore_buffers, buffers)
        restore.callback(_set_training, flags)
        _set_training([(module, False) for module in modules])
        yield


@contextmanager
def evaluation_losses(model: nn.Module
                      ) -> Iterator[Callable[[dict], Dict[str, Tensor]]]:
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
        losses by name on the model's device, ``'loss'`` their sum, and the
        accuracy :data:`ACCURACY` if the head returns it with them. The model
        may change the batch.
    """
    devices = devices_of(model)
    heads = _head_modules(model)
    forward = original_forward(model)

    def losses(data_batch: dict) -> Dict[str, Tensor]:
        fix_generators(devices)
        data = model.data_preprocessor(data_batch, False)
        _, values = model.parse_losses(forward(**data, mode='loss'))
        return {
            name: value.detach()
            for name, value in values.items()
            if 'loss' in name or name == ACCURACY
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


def original_forward(model: nn.Module) -> Callable:
    """Return the method of a model that ``torch.compile`` has replaced.

    That would be compiled anew for another mode. It is called without the
    hooks of the whole model, which may count its steps.

    Args:
        model (nn.Module): The model without a wrapper.
    """
    return getattr(model.forward, '_torchdynamo_orig_callable', model.forward)


@contextmanager
def generators_restored(devices: Iterable[int] = ()) -> Iterator[None]:
    """Restore all random number generators after a block.

    Args:
        devices (Iterable[int]): The CUDA devices whose generators may be used.
            Defaults to ().
    """
    with ExitStack() as restore:
        restore.callback(random.setstate, random.getstate())
        restore.callback(np.random.set_state, np.random.get_state())
        restore.enter_context(torch.random.fork_rng(devices))
        yield


def fix_generators(devices: Iterable[int] = ()) -> None:
    """Let all generators draw the same from now on.

    To be called inside :func:`generators_restored`.

    Args:
        devices (Iterable[int]): The CUDA devices. No other is initialised or
            seeded, as :func:`torch.manual_seed` does. Defaults to ().
    """
    random.seed(0)
    np.random.seed(0)
    torch.default_generator.manual_seed(0)
    for device in devices:
        torch.cuda.default_generators[device].manual_seed(0)


def devices_of(model: nn.Module) -> Set[int]:
    """Return the indices of the CUDA devices that a model is on.

    Args:
        model (nn.Module): The model.
    """
    return {
        tensor.device.index
        for module in model.modules()
        for tensor in (*module._parameters.values(), *module._buffers.values())
        if tensor is not None and tensor.is_cuda
    }


def _set_training(flags: List[Tuple[nn.Module, bool]]) -> None:
    for module, flag in flags:
        if 'training' in vars(module):
            # ``nn.Module.__setattr__`` takes as long as all of the rest.
            vars(module)['training'] = flag
        else:  # TorchScript stores it elsewhere.
            module.training = flag


def _restore_buffers(buffers: List[tuple]) -> None:
    """Restore buffers that were replaced or deleted."""
    for of_module, name, buffer in buffers:
        of_module[name] = buffer


def _restore_values(values: List[Tuple[Tensor, Tensor]]) -> None:
    """Restore buffers that were changed in place.

    Raises:
        RuntimeError: One cannot be restored. All others are.
    """
    failed = None
    for buffer, value in values:
        if buffer.layout is torch.strided and 0 in buffer.stride():
            # An expanded view shows an element several times: write it once.
            distinct = tuple(
                slice(1) if stride == 0 else slice(None)
                for stride in buffer.stride())
            buffer, value = buffer[distinct], value[distinct]
        try:
            buffer.copy_(value)
        except RuntimeError as error:
            failed = error
    if failed is not None:
        raise failed


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
