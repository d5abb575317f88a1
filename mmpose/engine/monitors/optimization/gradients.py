# Copyright (c) OpenMMLab. All rights reserved.
import functools
import operator
from contextlib import ExitStack
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from ..core.arguments import GRAD_NORM_INTERVAL, MAX_LAYERS_TO_LOG, flag
from ..core.layer_groups import layer_groups, named_parameters
from ..core.measurements import GradientNorms, LayerGradientNorms, Nonfinite
from ..core.monitor import Chart, Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import bare_model, optim_wrappers
from ..core.schedule import Interval
from ..core.step_wrapping import call_around, has_closure
from ..writers.dropping_queue import LAYER_SCALAR, SCALAR
from ..writers.record import Record, Scalar, Value
from .norms import NamedNorms, Piece, cut, named_norms
from .sharded_norms import Shard, ShardedNorms


@MONITORS.register_module()
class GradientMonitor(Monitor):
    """The size of the gradients that the optimizer is about to use.

    ========================================== ============================
    ``train/gradient_norm/global``             L2 norm of all gradients
    ``train/gradient_norm/layers/<group>``     L2 norm of a layer group's
    ``health/nonfinite_gradient/<parameter>``  Share of the parameters whose
                                               gradient is NaN or infinite;
                                               there only if one's is. The
                                               parameter is the one of them
                                               that backpropagation comes to
                                               first: the last of the model
    ========================================== ============================

    What it tells: Spikes before the loss jumps: the learning rate is too high
    or a batch is bad. A group whose norm stays far below the others' learns
    little; one that has no curve gets no gradient at all: it is frozen or does
    not lead to the loss.

    Read where the optimizer steps: unscaled under AMP, summed up under
    gradient accumulation, averaged under DDP, and before clipping. So the
    global norm is the number that :func:`torch.nn.utils.clip_grad_norm_`
    returns for ``norm_type=2``. A group without a single gradient has no
    value. Of a step with a closure, as LBFGS has it, the gradients of the last
    evaluation are read, after the step. With several optimizers the norms are
    over all that stepped in the iteration. An update that AMP leaves out for
    an overflow is not read. Of a sharded model the norms are added up over
    all ranks, in the iterations that are logged.

    Args:
        interval (int | dict | Schedule): At which iterations to read. Where
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

    adds_up_shards = True

    def __init__(self,
                 interval: Interval,
                 max_groups: int,
                 strict: bool = False) -> None:
        super().__init__(interval, strict)
        self._max_groups = max_groups
        self._detach = ExitStack()
        self._detach_shards = ExitStack()
        self._shards: Optional[ShardedNorms] = None

    def join_shards(self, runner) -> None:
        self._detach_shards.close()
        self._shards = ShardedNorms(runner.model, [
            wrapper.optimizer
            for _, wrapper in optim_wrappers(runner.optim_wrapper)
        ], self.schedule, self._detach_shards)

    def before_train(self, runner) -> None:
        # A training that was interrupted has left these behind.
        self._detach.close()
        if not self.waited_for:
            self._detach_shards.close()
        self._wanted = False
        # What was read in this iteration from each optimizer: before clipping,
        # and of those that then stepped.
        self._before_clipping: Dict[str, List[NamedNorms]] = {}
        self._readings: Dict[str, List[NamedNorms]] = {}
        # Where a fused optimizer will find out inside its step whether AMP
        # leaves it out.
        self._overflows: List[Tensor] = []

        named = dict(named_parameters(bare_model(runner.model)))
        self._names = {
            id(parameter): name
            for name, parameter in named.items()
        }
        self._pieces: Dict[str, Tuple[List[Tensor], List[Piece]]] = {}
        self._order = {name: i for i, name in enumerate(named)}
        self._groups = layer_groups(named, self._max_groups)
        for name, optim_wrapper in optim_wrappers(runner.optim_wrapper):
            self._attach(name, optim_wrapper)

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        if not self._wanted:
            self._wanted = self.is_due(runner.iter + 1)

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        if self.waited_for:
            return
        readings = [
            norms for read in self._readings.values() for norms in read
        ]
        overflows = self._overflows
        self._forget()
        if not readings:
            return
        self._wanted = False
        names = [name for read, _ in readings for name in read]
        tensors = [*overflows, *(norms for _, norms in readings)]
        for values, kind in (self._total, SCALAR), (self._layers,
                                                    LAYER_SCALAR):
            self.emit(
                Record(
                    runner.iter + 1,
                    functools.partial(_unless_left_out, values, names,
                                      len(overflows)), tensors, kind))

    def exchange_shards(self, runner) -> None:
        packed = self._shards.exchange(runner.iter + 1, self.guard,
                                       self._read_of_shards)
        self._forget()
        if packed is None:
            return
        self._wanted = False
        if self.writer is None:
            self.guard.succeeded()  # Nobody else will say so.
            return
        with self.guard:
            packed = packed.clone()
            for values, kind in (self._whole_total,
                                 SCALAR), (self._whole_layers, LAYER_SCALAR):
                self.emit(
                    Record(runner.iter + 1,
                           functools.partial(values, self._shards), [packed],
                           kind))

    def after_train(self, runner) -> None:
        self._detach.close()
        self._detach_shards.close()

    def _forget(self) -> None:
        self._before_clipping = {}
        self._readings = {}
        self._overflows = []

    def _attach(self, name: str, optim_wrapper) -> None:
        """Read before every step of the wrapper's optimizer."""
        optimizer = optim_wrapper.optimizer

        def before_clipping(parameters, *_, **__):
            # Where GradScaler then finds an overflow, no step follows.
            self._read(self._before_clipping, name, parameters)

        def read(scale=None):
            self._read(self._readings, name, [
                parameter for group in optimizer.param_groups
                for parameter in group['params']
            ], scale)

        def before_step(*args, **kwargs):
            if has_closure(*args, **kwargs):
                self._before_clipping.pop(name, None)
                return
            overflow = getattr(optimizer, 'found_inf', None)
            if self._wanted and overflow is not None:
                self._overflows.append(overflow)
            if name in self._before_clipping:
                self._readings[name] = self._before_clipping.pop(name)
                return
            # A fused optimizer unscales inside its step, by what GradScaler
            # has put here.
            read(getattr(optimizer, 'grad_scale', None))

        def after_step(_, *args, **kwargs):
            if has_closure(*args, **kwargs):
                read()

        if getattr(optim_wrapper, 'clip_grad_kwargs', None):
            self._detach.callback(
                call_around(optim_wrapper, 'clip_func', self.guard,
                            before_clipping))
        self._detach.callback(
            call_around(optimizer, 'step', self.guard, before_step,
                        after_step))

    def _read(self,
              readings: Dict[str, List[NamedNorms]],
              name: str,
              parameters: Iterable[Tensor],
              scale: Optional[Tensor] = None) -> None:
        # Of several steps in an iteration the first is read.
        if not self._wanted or name in self._readings:
            return
        norms = named_norms(self._cut(name, list(parameters)), 'grad')
        if scale is not None:
            norms = [(names, norm / scale.to(norm.device))
                     for names, norm in norms]
        readings[name] = norms

    def _cut(self, name: str, parameters: List[Tensor]) -> List[Piece]:
        """Cut an optimizer's parameters, once while they are the same."""
        last, pieces = self._pieces.get(name, ((), []))
        if len(parameters) != len(last) or not all(
                map(operator.is_, parameters, last)):
            names = [self._names.get(id(p), '') for p in parameters]
            pieces = cut(names, parameters)
            self._pieces[name] = parameters, pieces
        return pieces

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

    def _layers(self,
                names: List[str],
                squares: np.ndarray,
                groups: Optional[Dict[str,
                                      List[str]]] = None) -> Iterator[Value]:
        norms: Dict[str, float] = {}
        square_of = dict(zip(names, squares))
        for group, members in (groups or self._groups).items():
            of_group = [square_of[n] for n in members if n in square_of]
            if of_group:
                norms[group] = float(sum(of_group)**0.5)
                yield Scalar(f'train/gradient_norm/layers/{group}',
                             norms[group])
        if norms:
            yield LayerGradientNorms(norms)

    def _read_of_shards(self) -> Optional[Shard]:
        if not self._readings:  # Why was said already.
            return None
        norms = [norms for read in self._readings.values() for norms in read]
        return Shard(norms, self._overflows)

    def _whole_total(self, shards: ShardedNorms,
                     packed: np.ndarray) -> Iterable[Value]:
        whole = shards.unpack(packed)
        if whole is None:
            return []
        return self._total(whole.names, whole.squares)

    def _whole_layers(self, shards: ShardedNorms,
                      packed: np.ndarray) -> Iterable[Value]:
        whole = shards.unpack(packed)
        if whole is None:
            return []
        groups = layer_groups(
            {
                name: torch.empty(size, device='meta')
                for name, size in whole.sizes.items()
            }, self._max_groups)
        return self._layers(whole.names, whole.squares, groups)


def _unless_left_out(values: Callable[[List[str], np.ndarray],
                                      Iterable[Value]], names: List[str],
                     num_overflows: int,
                     *arrays: np.ndarray) -> Iterable[Value]:
    """The values, of the squares of the norms; none of an overflow."""
    overflows, norms = arrays[:num_overflows], arrays[num_overflows:]
    if any(overflow.any() for overflow in overflows):
        return []
    return values(names, np.square(np.concatenate(norms), dtype=np.float64))
