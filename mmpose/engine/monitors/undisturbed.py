# Copyright (c) OpenMMLab. All rights reserved.
import random
from contextlib import ExitStack, contextmanager, suppress
from typing import Iterator, List

import numpy as np
import torch
from torch import Tensor, nn


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Let a model predict in the middle of its training, unnoticed.

    Inside the block every module is in evaluation mode and no gradient is
    recorded. After it every module's ``training`` flag, every buffer and all
    random number generators are as they were before, also after an error.

    Not :func:`torch.inference_mode`: what a module keeps for later, a grid of
    anchors say, could not be used in training any more.

    Args:
        model (nn.Module): The model. ``model.eval()`` is not called, since a
            module may override ``train()``, to freeze a stage say.
    """
    modules = _modules(model)
    flags = [module.training for module in modules]
    buffers = [(module, name, buffer) for module in modules
               for name, buffer in module._buffers.items()]
    generators = random.getstate(), np.random.get_state()
    with torch.no_grad():
        values = [None if b is None else b.clone() for *_, b in buffers]
    try:
        with torch.random.fork_rng(_cuda_devices(modules)), torch.no_grad():
            for module in modules:
                _set_training(module, False)
            yield
    finally:
        random.setstate(generators[0])
        np.random.set_state(generators[1])
        for module, flag in zip(modules, flags):
            _set_training(module, flag)
        # They may have been replaced, or changed in place.
        for module, name, buffer in buffers:
            module._buffers[name] = buffer
        _copy([b for *_, b in buffers if b is not None],
              [value for value in values if value is not None])


@torch.no_grad()
def _copy(to: List[Tensor], values: List[Tensor]) -> None:
    if to and hasattr(torch, '_foreach_copy_'):  # PyTorch 2.1
        # It knows no sparse tensors, and no views made by ``expand()``.
        with suppress(RuntimeError):
            torch._foreach_copy_(to, values)
            return
    # What one of them raises is raised after all of them.
    with ExitStack() as stack:
        for buffer, value in zip(to, values):
            stack.callback(_copy_one, buffer, value)


def _copy_one(buffer: Tensor, value: Tensor) -> None:
    if buffer.layout is torch.strided:
        # Where a view shows an element several times it is written once.
        distinct = tuple(
            slice(1) if stride == 0 else slice(None)
            for stride in buffer.stride())
        buffer, value = buffer[distinct], value[distinct]
    buffer.copy_(value)


def _modules(model: nn.Module) -> List[nn.Module]:
    # As ``model.modules()``, whose nested generators take several times as
    # long as all else that is done with the modules here.
    found, left = {}, [model]
    while left:
        module = left.pop()
        if module is not None and id(module) not in found:
            found[id(module)] = module
            left += module._modules.values()
    return list(found.values())


def _set_training(module: nn.Module, flag: bool) -> None:
    # ``nn.Module.__setattr__`` looks for parameters and buffers first, which
    # takes longer than all else here.
    if 'training' in vars(module):
        vars(module)['training'] = flag
    else:  # TorchScript keeps it elsewhere.
        module.training = flag


def _cuda_devices(modules) -> set:
    if not torch.cuda.is_initialized():
        return set()
    return {
        tensor.device.index
        for module in modules
        for tensor in (*module._parameters.values(), *module._buffers.values())
        if tensor is not None and tensor.is_cuda
    }
