# Copyright (c) OpenMMLab. All rights reserved.
import functools
from typing import (Callable, Dict, Iterable, Iterator, List, Optional, Set,
                    Tuple)

import numpy as np
import torch
from torch import Tensor

from ..core.arguments import GRAD_NORM_INTERVAL, MAX_LAYERS_TO_LOG, flag
from ..core.layer_groups import layer_groups, named_parameters
from ..core.measurements import GradientNorms, LayerGradientNorms, Nonfinite
from ..core.monitor import Chart, Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import bare_model
from ..core.schedule import Interval
from ..writers.record import LAYER_SCALAR, SCALAR, Record, Scalar, Value
from .norms import NamedNorms, named_norms
from .sharded_norms import ShardedNorms

# Called with the names of parameters and the squares of their norms.
Values = Callable[[List[str], np.ndarray], Iterable[Value]]


@MONITORS.register_module()
class GradientMonitor(Monitor):
    """Log the size of the gradients that the optimizer is about to use.

    ========================================== ============================
    ``train/gradient_norm/global``             L2 norm of all gradients
    ``train/gradient_norm/layers/<group>``     L2 norm of the gradients of a
                                               layer group
    ``health/nonfinite_gradient/<parameter>``  Fraction of the parameters whose
                                               gradient is NaN or infinite;
                                               only if there is one. The
                                               parameter is the one of them
                                               that backpropagation reaches
                                               first: the last of the model
    ========================================== ============================

    What it tells: Spikes before the loss jumps mean that the learning rate is
    too high or a batch is bad. A group whose norm stays far below the others'
    learns little. A group without a curve gets no gradient at all: it is
    frozen, or the loss does not depend on it.

    Measured where the optimizer steps: unscaled under AMP, summed up under
    gradient accumulation, averaged under DDP, and before clipping. So the
    global norm is the number that :func:`torch.nn.utils.clip_grad_norm_`
    returns for ``norm_type=2``. If a step has a closure, as with LBFGS, the
    gradients of its last evaluation are measured, after the step. With several
    optimizers the norms are over all that stepped in the iteration. An update
    that AMP skips for an overflow is not measured. The norms of a sharded
    model are summed over all ranks.

    Args:
        interval (int | dict | Schedule): At which iterations to measure. Where
            gradients are accumulated, the next update after such an iteration
            counts.
        max_groups (int): See :func:`layer_groups`.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (flag(
        'log_grad_norm', 'Write the gradient norms, see '
        ':class:`GradientMonitor`.'), )
    settings = dict(interval=GRAD_NORM_INTERVAL, max_groups=MAX_LAYERS_TO_LOG)
    charts = (Chart(
        'Overview',
        'gradient norm',
        'train/gradient_norm/global$',
        position=30), )

    sums_over_ranks = True

    def __init__(self,
                 interval: Interval,
                 max_groups: int,
                 strict: bool = False) -> None:
        super().__init__(interval, strict)
        self._max_groups = max_groups

    def before_sharded_train(self, runner) -> None:
        self._sharded = ShardedNorms(runner.model, self.schedule)

    def before_train(self, runner) -> None:
        self._wanted = False
        self._forget()
        named = dict(named_parameters(bare_model(runner.model)))
        self._names = {
            id(parameter): name
            for name, parameter in named.items()
        }
        self._order = {name: i for i, name in enumerate(named)}
        self._groups = layer_groups(named, self._max_groups)

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        if not self._wanted:
            self._wanted = self.is_due(runner.iter + 1)

    def before_clipping(self, name: str, optim_wrapper) -> None:
        # The first of several steps in an iteration counts.
        if self._wanted and name not in self._norms:
            self._before_clipping[name] = self._measure(
                optim_wrapper.optimizer)

    def before_step(self, name: str, optimizer, closure: bool) -> None:
        clipped = self._before_clipping.pop(name, None)
        if not self._wanted or name in self._norms:
            return
        if closure:
            self._closures.add(name)
        else:
            # A fused optimizer unscales inside its step, by what GradScaler
            # has put here.
            scale = getattr(optimizer, 'grad_scale', None)
            self._norms[name] = clipped or self._measure(optimizer, scale)

    def after_step(self, name: str, optimizer, taken) -> None:
        self._before_clipping.pop(name, None)
        if name in self._closures:
            self._closures.remove(name)
            self._norms[name] = self._measure(optimizer)
        if name in self._norms and isinstance(taken, Tensor):
            self._taken.setdefault(name, taken)

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        if self.waited_for:
            return
        taken = list(self._taken.values())
        measured = [norms for of in self._norms.values() for norms in of]
        self._forget()
        if not measured:
            return
        self._wanted = False
        names = [name for of, _ in measured for name in of]
        tensors = [*taken, *(norms for _, norms in measured)]
        for values, kind in (self._total, SCALAR), (self._layers,
                                                    LAYER_SCALAR):
            self.emit(
                Record(runner.iter + 1,
                       functools.partial(_if_taken, values, names, len(taken)),
                       tensors, kind))

    def sum_over_ranks(self, runner, num_steps: int) -> None:
        packed = self._sharded.sum(runner.iter + 1, num_steps, self.guard,
                                   self._norms_of_rank)
        self._forget()
        if packed is None:
            return
        self._wanted = False
        if self.writer is None:
            self.guard.succeeded()  # There is no writer to report it.
            return
        with self.guard:
            packed = packed.clone()
            for values, kind in (self._total, SCALAR), (self._layers,
                                                        LAYER_SCALAR):
                self.emit(
                    Record(runner.iter + 1,
                           functools.partial(self._if_whole, values), [packed],
                           kind))

    def _forget(self) -> None:
        """Begin an iteration: everything here is by optimizer."""
        self._before_clipping: Dict[str, List[NamedNorms]] = {}
        self._closures: Set[str] = set()
        self._norms: Dict[str, List[NamedNorms]] = {}
        # Whether a fused optimizer has stepped, see ``Monitor.after_step``.
        self._taken: Dict[str, Tensor] = {}

    def _measure(self,
                 optimizer,
                 scale: Optional[Tensor] = None) -> List[NamedNorms]:
        norms = named_norms(
            (self._names.get(id(parameter), ''), parameter.grad)
            for group in optimizer.param_groups
            for parameter in group['params'] if parameter.grad is not None)
        if scale is None:
            return norms
        return [(names, of / scale.to(of.device)) for names, of in norms]

    def _total(self, names: List[str], squares: np.ndarray) -> Iterator[Value]:
        total = float(squares.sum()**0.5)
        yield Scalar('train/gradient_norm/global', total)
        found = None
        nonfinite = [
            name for name, square in zip(names, squares)
            if not np.isfinite(square)
        ]
        if nonfinite:
            last = max(nonfinite, key=lambda name: self._order.get(name, -1))
            found = Nonfinite(last or 'unnamed', len(nonfinite) / len(names))
            yield Scalar(f'health/nonfinite_gradient/{found.name}',
                         found.fraction)
        yield GradientNorms(total, found)

    def _layers(self, names: List[str],
                squares: np.ndarray) -> Iterator[Value]:
        norms: Dict[str, float] = {}
        square_of = dict(zip(names, squares))
        for group, members in self._groups.items():
            of_group = [square_of[n] for n in members if n in square_of]
            if of_group:
                norms[group] = float(sum(of_group)**0.5)
                yield Scalar(f'train/gradient_norm/layers/{group}',
                             norms[group])
        if norms:
            yield LayerGradientNorms(norms)

    def _norms_of_rank(self) -> Optional[Tuple[List[NamedNorms], list]]:
        if not self._norms:  # The reason was logged already.
            return None
        return ([norms for of in self._norms.values()
                 for norms in of], list(self._taken.values()))

    def _if_whole(self, values: Values, packed: np.ndarray) -> Iterable[Value]:
        """Return the values, unless AMP has skipped the update on any rank."""
        whole = self._sharded.unpack(packed)
        if whole is None:
            return []
        self._groups = layer_groups(
            {
                name: torch.empty(size, device='meta')
                for name, size in whole.sizes.items()
            }, self._max_groups)
        return values(whole.names, whole.squares)


def _if_taken(values: Values, names: List[str], num_optimizers: int,
              *arrays: np.ndarray) -> Iterable[Value]:
    """Return the values, unless AMP has skipped the update of any optimizer.

    Args:
        values (Callable): Called with names and the squares of the norms.
        names (list[str]): The names of the parameters.
        num_optimizers (int): How many of the arrays say whether the update of
            an optimizer was taken.
        *arrays (np.ndarray): These, and then the norms.
    """
    taken, norms = arrays[:num_optimizers], arrays[num_optimizers:]
    if not all(of_optimizer.all() for of_optimizer in taken):
        return []
    return values(names, np.square(np.concatenate(norms), dtype=np.float64))
