# Copyright (c) OpenMMLab. All rights reserved.
import functools
import logging
import math
from collections import defaultdict
from typing import (Callable, Dict, Iterable, Iterator, List, Optional, Set,
                    Tuple, Union)
from weakref import WeakKeyDictionary

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor

from ..core.arguments import GRAD_NORM_INTERVAL, LOG_HEALTH, MAX_LAYERS_TO_LOG
from ..core.layer_groups import (covering_modules, layer_groups,
                                 named_parameters)
from ..core.measurements import LayerUpdates, Nonfinite, Updates
from ..core.monitor import Chart, Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import bare_model
from ..core.schedule import Interval
from ..writers.record import LAYER_SCALAR, SCALAR, Record, Scalar, Value
from .free_memory import free_memory
from .norms import joined, named_norms

# For each parameter, in the order of the model, the norms of its weights
# before an update and of their change.
Norms = Dict[str, Tuple[float, float]]

# How many times the size of the copied weights must be free. The optimizer's
# step makes copies of its own, up to three of all weights in the foreach form,
# and must not run out of memory.
_RESERVE = 4


@MONITORS.register_module()
class UpdateMonitor(Monitor):
    """Log how much an update of the optimizer changes the weights.

    ======================================== ==============================
    ``health/updates``                       Number of updates so far, since
                                             the training was begun or resumed
    ``health/update_ratio``                  Norm of the change of all
                                             weights over their norm before;
                                             about 1e-3 is usual
    ``health/update_ratio/<group>``          The same of a layer group
    ``health/nonfinite_weight/<parameter>``  Fraction of the parameters
                                             that are NaN or infinite
                                             before the update
    ``health/nonfinite_update/<parameter>``  Fraction of the parameters
                                             that become so only by the
                                             update
    ``health/unchanged_weights/<module>``    Number of its parameters that
                                             have a gradient and are not
                                             changed by the update
    ``health/zero_learning_rate/<module>``   Those of them with a learning
                                             rate of 0
    ======================================== ==============================

    What it tells: The effective learning rate, comparable between layers and
    models. A ratio that is far too large destroys what was learned; with one
    that is far too small, nothing is learned. A group that is far from the
    others needs an ``lr_mult`` of its own.

    The last four are written only if there is such a parameter. The name of
    the first two is that of the first such parameter of the model; for the
    modules of the others see :func:`covering_modules`.

    The change of the weights themselves is measured, so it is exact for every
    optimizer and includes weight decay. The weights are copied right before an
    update that is measured, and the copy is freed right after it. So that the
    optimizer does not run out of memory, an update is skipped if less than
    four times the copy is free, which a WARNING says once. If the optimizer
    may allocate its state in an update, usually the first, the next update is
    measured instead.

    A group has no ratio if all of its weights are 0 or none has a gradient.
    With several optimizers all that stepped in the iteration count. If AMP
    skips an update for an overflow, only weights that are not finite are
    written: they may be the cause.

    Args:
        interval (int | dict | Schedule): At which iterations to measure. Where
            gradients are accumulated, the next update after such an iteration
            counts.
        max_groups (int): See :func:`layer_groups`.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_HEALTH, )
    settings = dict(interval=GRAD_NORM_INTERVAL, max_groups=MAX_LAYERS_TO_LOG)
    charts = (Chart(
        'Overview',
        'update-to-weight ratio',
        'health/update_ratio(/|$)',
        position=40), )

    of_whole_model = True

    def __init__(self,
                 interval: Interval,
                 max_groups: int,
                 strict: bool = False) -> None:
        super().__init__(interval, strict)
        self._max_groups = max_groups

    def notify(self, event: str, *args, **kwargs) -> None:
        """See :meth:`Monitor.notify`."""
        failures = self.guard.failures
        super().notify(event, *args, **kwargs)
        if self.guard.failures > failures:
            # No retry before the next measurement that is due.
            self._wanted = False
        if self.guard.tripped:
            # The writer's thread may switch it off at any time, also
            # between the events of an update.
            self._begun = {}

    def before_train(self, runner) -> None:
        self._wanted = False
        # Whether AMP has skipped an update in this iteration, and whether the
        # weights were looked at for that since the last measurement was due.
        self._skipped = False
        self._looked = False
        self._num_updates: Dict[str, int] = defaultdict(int)
        self._warned = False
        # By optimizer, which may be replaced: the parameters that it has
        # updated already. If they have no state, they will never get one.
        self._updated = WeakKeyDictionary()
        # Whether an update of this iteration is not measured, but the next is.
        self._postponed = False
        # The updates of this iteration, by optimizer.
        self._begun: Dict[str, _Update] = {}
        self._done: Dict[str, _Update] = {}

        named = dict(named_parameters(bare_model(runner.model)))
        self._names = {
            id(parameter): name
            for name, parameter in named.items()
        }
        self._parameters = named
        self._groups = layer_groups(named, self._max_groups)

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        step = runner.iter + 1
        if not self._wanted:
            self._wanted = self.is_due(step)
        if self.schedule.is_due(step):
            self._looked = False

    def before_step(self, name: str, optimizer, closure: bool) -> None:
        self._num_updates[name] += 1
        # The first of several steps in an iteration is measured.
        if self._wanted and name not in self._done:
            self._begin(name, optimizer, closure)

    def after_step(self, name: str, optimizer, taken) -> None:
        if taken is False:
            self._skipped = True
        elif name in self._begun:
            update = self._begun.pop(name)
            update.finish(taken)
            self._done[name] = update

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        done = list(self._done.values())
        self._begun = {}
        self._done = {}
        postponed, self._postponed = self._postponed, False
        skipped, self._skipped = self._skipped, False
        if postponed or not self._wanted:
            return
        if done:
            self._wanted = False
            self._hand_over(runner.iter + 1, done)
        elif skipped and not self._looked:
            self._looked = True
            self._hand_over_weights(runner.iter + 1)

    def _begin(self, name: str, optimizer, closure: bool) -> None:
        update = _Update(optimizer, self._names, closure)
        if not update.names:
            return
        updated = self._updated.setdefault(optimizer, set())
        makes_state = update.has_no_state - updated
        updated |= update.names
        if makes_state:
            self._postponed = True
        elif self._fits(update, closure):
            update.copy()
            self._begun[name] = update
        else:
            self._wanted = False

    def _fits(self, update: '_Update', closure: bool) -> bool:
        """Return whether there is memory for the copy and the step."""
        for device, size in update.sizes().items():
            # A step with a closure needs the cache for its activations.
            free = free_memory(device, in_cache=not closure)
            if free is None or free >= _RESERVE * size:
                continue
            if not self._warned:
                self._warned = True
                print_log(
                    f'{type(self).__name__} skips an update: its copy of '
                    f'the weights takes {size / 1e6:,.0f} MB, and with '
                    f'{free / 1e6:,.0f} MB free on {device} the optimizer '
                    'might run out of memory. Later updates are measured if '
                    f'{_RESERVE} times the copy is free, and skipped without '
                    'another warning if not.',
                    logger='current',
                    level=logging.WARNING)
            return False
        return True

    def _hand_over(self, step: int, updates: List['_Update']) -> None:
        names, norms = joined(n for u in updates for n in u.norms)
        changed, changes = joined(n for u in updates for n in u.changes)
        taken = [u.taken for u in updates if isinstance(u.taken, Tensor)]
        overall = functools.partial(
            _overall,
            max(self._num_updates.values()),
            telling=set().union(*(u.telling for u in updates)),
            stopped=set().union(*(u.stopped for u in updates)))

        def values(of_norms: Callable[[Norms],
                                      Iterable[Value]], norms: np.ndarray,
                   changes: np.ndarray, *taken: np.ndarray) -> Iterable[Value]:
            norm_of = dict(zip(names, norms.tolist()))
            if not all(taken):
                return self._nonfinite(norm_of) if of_norms is overall else []
            change_of = dict(zip(changed, changes.tolist()))
            return of_norms({
                name: (norm_of[name], change_of[name])
                for name in self._names.values() if name in norm_of
            })

        for of_norms, kind in (overall, SCALAR), (self._layers, LAYER_SCALAR):
            self.emit(
                Record(step, functools.partial(values, of_norms),
                       [norms, changes, *taken], kind))

    def _hand_over_weights(self, step: int) -> None:
        """Look at the weights, where AMP has skipped the update."""
        names, norms = joined(named_norms(self._parameters.items()))
        self.emit(
            Record(step,
                   lambda norms: self._nonfinite(dict(zip(names, norms))),
                   [norms]))

    def _nonfinite(self, norm_of: Dict[str, float]) -> Iterator[Value]:
        """Yield the weights that are not finite, without an update."""
        found = [
            name for name in self._names.values()
            if not math.isfinite(norm_of.get(name, 0))
        ]
        if found:
            before = Nonfinite(found[0], len(found) / len(norm_of))
            yield Scalar(f'health/nonfinite_weight/{before.name}',
                         before.fraction)
            yield Updates(nonfinite_before=before, is_skipped=True)

    def _layers(self, norms: Norms) -> Iterator[Value]:
        ratios: Dict[str, float] = {}
        for group, members in self._groups.items():
            ratio = _ratio(norms[name] for name in members if name in norms)
            if ratio is not None:
                ratios[group] = ratio
                yield Scalar(f'health/update_ratio/{group}', ratio)
        if ratios:
            yield LayerUpdates(ratios)


def _overall(num_updates: int, norms: Norms, telling: Set[str],
             stopped: Set[str]) -> Iterator[Value]:
    yield Scalar('health/updates', num_updates)
    ratio = _ratio(norms.values())
    yield Scalar('health/update_ratio', math.nan if ratio is None else ratio)

    nonfinite: Dict[str, Nonfinite] = {}
    weights = [n for n, (norm, _) in norms.items() if not math.isfinite(norm)]
    updates = [
        name for name, (norm, change) in norms.items()
        if math.isfinite(norm) and not math.isfinite(change)
    ]
    for kind, found in ('weight', weights), ('update', updates):
        if found:
            nonfinite[kind] = Nonfinite(found[0], len(found) / len(norms))
            yield Scalar(f'health/nonfinite_{kind}/{found[0]}',
                         nonfinite[kind].fraction)

    unchanged = telling & {n for n, (_, change) in norms.items() if not change}
    modules = {
        kind: covering_modules(found, telling)
        for kind, found in (('unchanged_weights', unchanged),
                            ('zero_learning_rate', unchanged & stopped))
    }
    for kind, of_kind in modules.items():
        for module, number in of_kind.items():
            yield Scalar(f'health/{kind}/{module}', number)
    yield Updates(num_updates, ratio, nonfinite.get('weight'),
                  nonfinite.get('update'), *modules.values())


def _ratio(norms: Iterable[Tuple[float, float]]) -> Optional[float]:
    columns = list(zip(*norms))
    if not columns:
        return None
    norm, change = np.linalg.norm(columns, axis=1).tolist()
    return change / norm if norm else None


class _Update:
    """Hold the weights before an update of an optimizer, and their change.

    Args:
        optimizer (Optimizer): The optimizer, about to step.
        names (dict[int, str]): The names of the parameters, by their id.
        closure (bool): Whether the gradients are computed inside the step.
            Then all parameters that require a gradient count.

    Attributes:
        names (set[str]): The parameters that have a gradient.
        has_no_state (set[str]): Those for which the optimizer has no state
            yet.
        norms (list): The norms of their weights, see :func:`named_norms`;
            after :meth:`copy`.
        changes (list): The norms of the changes, after :meth:`finish`.
        telling (set[str]): The parameters that change in every healthy
            training.
        stopped (set[str]): Those of them with a learning rate of 0.
        taken (bool | Tensor): Whether the update was taken, see
            :meth:`Monitor.after_step`; after :meth:`finish`.
    """

    def __init__(self, optimizer, names: Dict[int, str],
                 closure: bool) -> None:
        self._weights: Dict[str, Tensor] = {}
        self._copies: List[Tensor] = []
        self.telling, self.stopped = set(), set()
        self.has_no_state: Set[str] = set()
        for group in optimizer.param_groups:
            for parameter in group['params']:
                name = names.get(id(parameter))
                has_gradient = (
                    parameter.requires_grad
                    if closure else parameter.grad is not None)
                if name is None or not has_gradient:
                    continue
                self._weights[name] = parameter.detach()
                if not optimizer.state.get(parameter):
                    self.has_no_state.add(name)
                # A learning rate on the device is not looked at.
                stopped = not isinstance(group['lr'],
                                         Tensor) and not group['lr']
                # The gradient of a bias may be only the rounding errors of 0,
                # for instance before a batch norm: it may stay unchanged.
                if not closure and parameter.numel() and (stopped or
                                                          parameter.dim() > 1):
                    self.telling.add(name)
                if stopped:
                    self.stopped.add(name)
        self.names = set(self._weights)

    def sizes(self) -> Dict[torch.device, int]:
        """Return how many bytes the copy takes on each device."""
        sizes = defaultdict(int)
        for weight in self._weights.values():
            sizes[weight.device] += weight.numel() * weight.element_size()
        return sizes

    @torch.no_grad()
    def copy(self) -> None:
        """Copy the weights, right before the optimizer steps."""
        self.norms = named_norms(self._weights.items())
        self._copies = [weight.clone() for weight in self._weights.values()]

    @torch.no_grad()
    def finish(self, taken: Union[bool, Tensor]) -> None:
        """Measure the change, right after the optimizer has stepped."""
        self.taken = taken
        torch._foreach_sub_(self._copies, list(self._weights.values()))
        self.changes = named_norms(zip(self._weights, self._copies))
        # They are as large as the model.
        del self._weights, self._copies
