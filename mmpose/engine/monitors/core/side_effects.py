# Copyright (c) OpenMMLab. All rights reserved.
import random
from contextlib import ExitStack, contextmanager
from typing import Iterable, Iterator, List, Set, Tuple

import numpy as np
import torch
from torch import Tensor, nn


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
