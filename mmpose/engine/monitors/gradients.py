# Copyright (c) OpenMMLab. All rights reserved.
import functools
from collections import defaultdict
from contextlib import ExitStack
from typing import Callable, Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from .base import Monitor
from .dropping_queue import LAYER_SCALAR
from .layer_groups import layer_groups, named_parameters
from .record import Record, Scalar
from .runner_parts import bare_model, optim_wrappers
from .schedule import Schedule

# Names of parameters, and the norms of their gradients on one device.
NamedNorms = Tuple[List[str], Tensor]
# Elements of a gradient that are worth a parallel dot product.
_LARGE = 1 << 16


class GradientMonitor(Monitor):
    """The size of the gradients that the optimizer is about to use.

    ======================================== ==============================
    ``train/gradient_norm/global``           L2 norm of all gradients
    ``train/gradient_norm/layers/<group>``   L2 norm of a layer group's
    ======================================== ==============================

    Read where the optimizer steps: unscaled under AMP, summed up under
    gradient accumulation, averaged under DDP, and before clipping. So the
    global norm is the number that :func:`torch.nn.utils.clip_grad_norm_`
    returns for ``norm_type=2``. A group without a single gradient has no
    value. With several optimizers the norms are over all that stepped in the
    iteration.

    Args:
        schedule (Schedule): At which iterations to read. Where gradients are
            accumulated, the next update after such an iteration counts.
        max_groups (int): See :func:`layer_groups`.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    def __init__(self,
                 schedule: Schedule,
                 max_groups: int,
                 strict: bool = False) -> None:
        super().__init__(schedule, strict)
        self._max_groups = max_groups
        self._detach = ExitStack()

    def before_train(self, runner) -> None:
        # A training that was interrupted has left these behind.
        self._detach.close()
        self._wanted = False
        # What was read in this iteration from each optimizer: before clipping,
        # and of those that then stepped.
        self._before_clipping: Dict[str, List[NamedNorms]] = {}
        self._readings: Dict[str, List[NamedNorms]] = {}

        named = dict(named_parameters(bare_model(runner.model)))
        self._names = {
            id(parameter): name
            for name, parameter in named.items()
        }
        self._group_of = {
            name: group
            for group, names in layer_groups(named, self._max_groups).items()
            for name in names
        }
        for name, optim_wrapper in optim_wrappers(runner.optim_wrapper):
            self._attach(name, optim_wrapper)

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        if not self._wanted:
            self._wanted = self.is_due(runner.iter + 1)

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        readings = [
            norms for read in self._readings.values() for norms in read
        ]
        self._before_clipping = {}
        self._readings = {}
        if not readings:
            return
        self._wanted = False
        names = [name for read, _ in readings for name in read]
        tensors = [norms for _, norms in readings]
        step = runner.iter + 1
        self.emit(Record(step, _total, tensors))
        layers = functools.partial(self._layers, names)
        self.emit(Record(step, layers, tensors, LAYER_SCALAR))

    def after_train(self, runner) -> None:
        self._detach.close()

    def _attach(self, name: str, optim_wrapper) -> None:
        """Read before every step of the wrapper's optimizer.

        ``step`` is wrapped and ``register_step_pre_hook`` not used:
        ``torch.compile``, once called, silently takes those hooks away from
        all optimizers.
        """
        optimizer = optim_wrapper.optimizer

        def before_clipping(parameters, *_, **__):
            # Where GradScaler then finds an overflow, no step follows.
            self._read(self._before_clipping, name, parameters)

        def before_step(*_, **__):
            if name in self._before_clipping:
                self._readings[name] = self._before_clipping.pop(name)
                return
            # A fused optimizer unscales inside its step, by what GradScaler
            # has put here.
            self._read(self._readings, name, [
                parameter for group in optimizer.param_groups
                for parameter in group['params']
            ], getattr(optimizer, 'grad_scale', None))

        if getattr(optim_wrapper, 'clip_grad_kwargs', None):
            self._prepend(optim_wrapper, 'clip_func', before_clipping)
        self._prepend(optimizer, 'step', before_step)

    def _prepend(self, owner, name: str, read: Callable) -> None:
        """Let ``read`` see the arguments of ``owner.name`` before it does."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def read_first(*args, **kwargs):
            read(*args, **kwargs)
            return function(*args, **kwargs)

        if name in vars(owner):
            self._detach.callback(setattr, owner, name, function)
        else:
            self._detach.callback(delattr, owner, name)
        setattr(owner, name, read_first)

    def _read(self,
              readings: Dict[str, List[NamedNorms]],
              name: str,
              parameters: Iterable[Tensor],
              scale: Optional[Tensor] = None) -> None:
        # Of several steps in an iteration the first is read.
        if not self._wanted or name in self._readings or self.guard.tripped:
            return
        with self.guard:
            norms = gradient_norms([(self._names.get(id(parameter), ''), grad)
                                    for parameter in parameters
                                    for grad in (parameter.grad, )
                                    if grad is not None])
            if scale is not None:
                norms = [(names, norm / scale.to(norm.device))
                         for names, norm in norms]
            readings[name] = norms

    def _layers(self, names: List[str],
                *norms: np.ndarray) -> Iterable[Scalar]:
        squares: Dict[str, float] = defaultdict(float)
        for name, square in zip(names, _squares(norms)):
            if name in self._group_of:
                squares[self._group_of[name]] += square
        for group, square in squares.items():
            yield Scalar(f'train/gradient_norm/layers/{group}', square**0.5)


def _squares(norms: Iterable[np.ndarray]) -> np.ndarray:
    return np.square(np.concatenate(norms), dtype=np.float64)


def _total(*norms: np.ndarray) -> Iterable[Scalar]:
    yield Scalar('train/gradient_norm/global', _squares(norms).sum()**0.5)


@torch.no_grad()
def gradient_norms(grads: Iterable[Tuple[str, Tensor]]
                   ) -> List[Tuple[List[str], Tensor]]:
    """L2 norm of each gradient, on a GPU in one launch for each type.

    Norms of half-precision gradients are accumulated and returned in float32,
    so that they neither overflow nor lose digits. On the CPU, where a norm
    keeps one core busy, a large gradient's is the root of its dot product with
    itself, which takes all cores.

    Args:
        grads (Iterable[tuple[str, Tensor]]): Names and gradients of any
            shape, dense or sparse.

    Returns:
        list[tuple[list[str], Tensor]]: For each device, type and way to
        compute it the names of the gradients and their norms, shape (N, ), on
        that device.
    """
    alike = defaultdict(list)
    for name, grad in grads:
        if grad.layout is not torch.strided:
            # Duplicate indices of a sparse gradient stand for their sum.
            grad = grad.coalesce().values()
        large = (
            grad.is_cpu and grad.numel() >= _LARGE and grad.is_contiguous())
        alike[large, grad.dtype, grad.device].append((name, grad))
    norms = []
    for (large, dtype, _), named in alike.items():
        names, tensors = zip(*named)
        if dtype not in (torch.float32, torch.float64):
            compute = _norms_in_float32
        elif large:
            compute = _norms_by_dot
        else:
            compute = _norms_at_once
        norms.append((list(names), compute(tensors)))
    return norms


def _norms_in_float32(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack(
        [torch.linalg.vector_norm(t, dtype=torch.float32) for t in tensors])


def _norms_by_dot(tensors: Sequence[Tensor]) -> Tensor:
    flat = [t.view(-1) for t in tensors]
    return torch.stack([torch.dot(t, t) for t in flat]).sqrt_()


def _norms_at_once(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack(torch._foreach_norm(tensors))
