# Copyright (c) OpenMMLab. All rights reserved.
import functools
import math
from collections import defaultdict
from contextlib import ExitStack
from typing import Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from ..core.measurements import Activations
from ..writers.record import Record, Value

# Between these inputs an activation passes a gradient that is worth it; its
# derivative is 0, or below 0.003, elsewhere. By the names of classes, since
# MMCV has its own of some.
_OPEN = dict(
    ReLU=(0., math.inf),
    ReLU6=(0., 6.),
    SiLU=(-8., math.inf),
    Swish=(-8., math.inf),
    GELU=(-4., math.inf),
    Hardswish=(-3., math.inf),
    HSwish=(-3., math.inf),
    Sigmoid=(-15., 15.),
    Hardsigmoid=(-3., 3.),
    Tanh=(-8., 8.))


class ActivationProbe:
    """Find the channels of activations that no gradient passes.

    Inside a ``with`` block, layers of these classes are looked at where they
    are called: ReLU, ReLU6, SiLU, GELU, Hardswish, Sigmoid, Hardsigmoid and
    Tanh. Functions such as :func:`torch.sigmoid` are not, nor what an
    attention makes of the mean over an image.

    Args:
        model (nn.Module): The model. After the block it has no hook of ours.
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers = {
            name: layer
            for name, layer in model.named_modules()
            if type(layer).__name__ in _OPEN
        }
        self._sequential = {
            name
            for name in self._layers if any(
                isinstance(module, nn.Conv1d) for module in
                model.get_submodule(name.rpartition('.')[0]).children())
        }
        # By layer: for each call, whether each channel is open anywhere.
        self._open: Dict[str, List[Tensor]] = defaultdict(list)
        self._hooks = ExitStack()

    def __enter__(self) -> 'ActivationProbe':
        for name, layer in self._layers.items():
            # Before the call, which may change its input in place.
            handle = layer.register_forward_pre_hook(
                functools.partial(self._see, name))
            self._hooks.callback(handle.remove)
        return self

    def __exit__(self, *_) -> None:
        self._hooks.close()

    def record(self, step: int, forwards: int) -> Optional[Record]:
        """Return what was seen.

        Args:
            step (int): The training step.
            forwards (int): How often the model was called in the block.

        Returns:
            Record | None: None where no layer was called.
        """
        fractions = {
            name: _closed(masks, forwards)
            for name, masks in self._open.items()
        }
        self._open.clear()
        if not fractions:
            return None
        kinds = {n: type(self._layers[n]).__name__ for n in fractions}
        by_device: Dict[torch.device, List[Tuple[str, Tensor]]] = {}
        for name, fraction in fractions.items():
            by_device.setdefault(fraction.device, []).append((name, fraction))
        names = [name for of in by_device.values() for name, _ in of]

        def values(*arrays: np.ndarray) -> Iterator[Value]:
            closed = dict(zip(names, np.concatenate(arrays).tolist()))
            yield Activations(closed, kinds)

        return Record(
            step, values,
            [torch.stack([f for _, f in of]) for of in by_device.values()])

    def _see(self, name: str, layer: nn.Module, inputs: Tuple) -> None:
        entering = inputs[0]
        if entering.dim() == 4 and entering.shape[2:].numel() == 1:
            # The squeezed channels of an attention are few, and closed for a
            # few samples by chance.
            return
        low, high = _OPEN[type(layer).__name__]
        # The channels of an image, and of a sequence that is convolved, are in
        # the second dimension, those of tokens in the last one.
        is_second = entering.dim() in (2, 4) or name in self._sequential
        channel = 1 if is_second else entering.dim() - 1
        others = [i for i in range(entering.dim()) if i != channel]
        # What is NaN is not closed, it has a finding of its own.
        if high < math.inf:
            # ``any`` over several dimensions is newer than PyTorch 1.13.
            is_open = ~((entering <= low) | (entering >= high))
            is_open = is_open.amax(others)
        else:
            is_open = ~(entering.amax(others) <= low)
        if entering.dim() == 2:
            # Of a vector the fixed samples have few values of each channel:
            # they only tell whether any is open.
            is_open = is_open.amax(0, keepdim=True)
        self._open[name].append(is_open)


def _closed(masks: List[Tensor], forwards: int) -> Tensor:
    """Return the fraction of closed channels, in the worst call of a layer.

    A block may call its only ReLU after each of its convolutions.
    """
    calls, rest = divmod(len(masks), max(forwards, 1))
    sizes = {mask.shape for mask in masks}
    if rest or not calls:
        calls = 1
    fractions = []
    for i in range(calls):
        of_call = masks[i::calls]
        if len(sizes) > 1:
            of_call = [m for m in of_call if m.shape == of_call[0].shape]
        is_open = torch.stack(of_call).amax(0)
        fractions.append(1 - is_open.sum() / is_open.numel())
    return torch.stack(fractions).max()
