# Copyright (c) OpenMMLab. All rights reserved.
import random
from contextlib import ExitStack, contextmanager, suppress
from typing import Dict, Iterator, List, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn

# In evaluation mode these only read the running statistics. In training mode
# they write them if ``track_running_stats`` is set.
_BATCH_NORMS = {
    nn.modules.batchnorm._BatchNorm.forward, nn.SyncBatchNorm.forward
}


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Run a model in evaluation mode without any effect on its training.

    Inside the block every module is in evaluation mode and no gradient is
    recorded. After it, also after an error, every module's ``training`` flag,
    every buffer and all random number generators are as before.

    Most buffers of a model are the running statistics of PyTorch's batch
    norms. They are not copied but not tracked inside the block, so that a
    batch norm does not write them even if it is put into training mode.

    :func:`torch.inference_mode` is not used: tensors that a module keeps from
    the block, such as a grid of anchors, could not be used in training.

    Args:
        model (nn.Module): The model. ``model.eval()`` is not called, since a
            module may override ``train()``, for instance to freeze a stage.
    """
    generators = random.getstate(), np.random.get_state()
    kept = _Kept()
    try:
        modules = kept.keep(model)
        with torch.random.fork_rng(_cuda_devices(modules)), torch.no_grad():
            yield
    finally:
        random.setstate(generators[0])
        np.random.set_state(generators[1])
        kept.put_back()


class _Kept:
    """Save and restore what a prediction may change in a model."""

    def __init__(self) -> None:
        self._attributes: List[Tuple[dict, str, bool]] = []
        self._scripted: List[Tuple[nn.Module, bool]] = []
        self._buffers: List[Tuple[Dict[str, Tensor], dict]] = []
        self._values: List[Tuple[Tensor, Tensor]] = []

    def keep(self, model: nn.Module) -> List[nn.Module]:
        """Save the state of all modules and put them into evaluation mode.

        ``model.modules()`` is not used: its nested generators take longer than
        all of the rest.

        Returns:
            list[nn.Module]: All modules of the model.
        """
        found, left = {}, [model]
        while left:
            module = left.pop()
            if module is None or id(module) in found:
                continue
            found[id(module)] = module
            left += module._modules.values()
            attributes, buffers = vars(module), module._buffers
            if 'training' in attributes:
                self._set(attributes, 'training')
            else:  # TorchScript stores the flag elsewhere.
                self._scripted.append((module, module.training))
                module.training = False
            if not buffers:
                continue
            if (getattr(type(module), 'forward', None) in _BATCH_NORMS
                    and 'forward' not in attributes):
                self._set(attributes, 'track_running_stats')
                continue
            # A buffer may be replaced or changed in place.
            self._buffers.append((buffers, dict(buffers.items())))
            self._values += [(buffer, buffer.detach().clone())
                             for buffer in buffers.values()
                             if buffer is not None]
        return list(found.values())

    def put_back(self) -> None:
        """Restore the saved state."""
        for attributes, name, value in self._attributes:
            attributes[name] = value
        for module, flag in self._scripted:
            module.training = flag
        for buffers, before in self._buffers:
            for name, buffer in before.items():
                buffers[name] = buffer
        if self._values:
            _copy(*zip(*self._values))

    def _set(self, attributes: dict, name: str) -> None:
        # ``nn.Module.__setattr__`` looks for parameters and buffers first,
        # which takes longer than all of the rest.
        self._attributes.append((attributes, name, attributes[name]))
        attributes[name] = False


@torch.no_grad()
def _copy(to: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    if hasattr(torch, '_foreach_copy_'):  # PyTorch 2.1
        # It does not support sparse tensors or views made by ``expand()``.
        with suppress(RuntimeError):
            torch._foreach_copy_(to, values)
            return
    # An exception is raised after all buffers are copied.
    with ExitStack() as stack:
        for buffer, value in zip(to, values):
            stack.callback(_copy_one, buffer, value)


def _copy_one(buffer: Tensor, value: Tensor) -> None:
    if buffer.layout is torch.strided:
        # An element that a view shows several times is written once.
        distinct = tuple(
            slice(1) if stride == 0 else slice(None)
            for stride in buffer.stride())
        buffer, value = buffer[distinct], value[distinct]
    buffer.copy_(value)


def _cuda_devices(modules: List[nn.Module]) -> set:
    if not torch.cuda.is_initialized():
        return set()
    return {
        tensor.device.index
        for module in modules
        for tensor in (*module._parameters.values(), *module._buffers.values())
        if tensor is not None and tensor.is_cuda
    }
