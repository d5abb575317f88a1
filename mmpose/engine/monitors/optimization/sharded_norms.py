# Copyright (c) OpenMMLab. All rights reserved.
from typing import (Callable, Dict, Iterable, List, NamedTuple, Optional, Set,
                    Tuple)

import numpy as np
import torch
from torch import Tensor, distributed, nn

from ..core.failure_guard import FailureGuard
from ..core.layer_groups import named_parameters
from ..core.runner_parts import bare_model
from ..core.schedule import Schedule
from .norms import NamedNorms


class ShardedNorms:
    """Sum the norms that each rank has measured on its part of a model.

    All ranks communicate in the same iterations: when a measurement is due, at
    the next update. That does not depend on anything that may fail on one
    rank, so no rank waits for another in vain.

    Args:
        model (nn.Module): ``runner.model``, with FSDP in it.
        schedule (Schedule): At which iterations, the same on all ranks.
    """

    def __init__(self, model: nn.Module, schedule: Schedule) -> None:
        from torch.distributed.fsdp import FullyShardedDataParallel
        modules = FullyShardedDataParallel.fsdp_modules(model)
        self._group = modules[0].process_group
        self._device = modules[0].compute_device
        self._schedule = schedule
        self._wanted = False
        self._num_steps = 0
        self._places: Dict[tuple, Tensor] = {}

        named = dict(named_parameters(bare_model(model)))
        self._names = list(named)
        sharded = _sharded_parameters(modules)
        num_ranks = distributed.get_world_size(self._group)
        # A parameter that every rank holds as a whole counts once in all. The
        # last place is for parameters without a name.
        self._weights = torch.tensor(
            [
                1. if id(p) in sharded else 1 / num_ranks
                for p in named.values()
            ] + [1.],
            dtype=torch.float64,
            device=self._device)
        self._sizes = self._weights * torch.tensor(
            [p.numel() for p in named.values()] + [0], device=self._device)
        # Squares, counts and sizes, and the numbers of overflows and failures.
        # Allocated now: the others would wait for a rank that runs out of
        # memory later.
        self._packed = torch.zeros(
            3 * len(self._weights) + 2,
            dtype=torch.float64,
            device=self._device)
        self._sums = self._packed[:-2].view(3, -1)

    def sum(
        self, step: int, num_steps: int, guard: FailureGuard,
        norms_of_rank: Callable[[], Optional[Tuple[List[NamedNorms],
                                                   List[Tensor]]]]
    ) -> Optional[Tensor]:
        """Sum the norms of an iteration; to be called after each.

        Args:
            step (int): The number of the iteration, from 1.
            num_steps (int): How often any optimizer has stepped so far.
            guard (FailureGuard): Where a failure on this rank ends.
            norms_of_rank (Callable): Returns what this rank has measured, see
                :func:`named_norms`, and for each optimizer that finds that
                out inside its step whether the update was taken, see
                :meth:`Monitor.after_step`; None if it has failed.

        Returns:
            Tensor | None: What :meth:`unpack` takes, on the device and to be
            copied before the next iteration; None if nothing was due or this
            rank has failed.
        """
        self._wanted = self._wanted or self._schedule.is_due(step)
        updated, self._num_steps = num_steps > self._num_steps, num_steps
        if not self._wanted or not updated:
            return None
        self._wanted = False
        self._packed.zero_()
        self._sums[2].copy_(self._sizes)
        failed = True
        if not guard.tripped:
            with guard:
                norms = norms_of_rank()
                if norms is not None:
                    self._add(*norms)
                    failed = False
        self._packed[-1:].fill_(failed)
        distributed.all_reduce(self._packed, group=self._group)
        return None if failed else self._packed

    def unpack(self, packed: np.ndarray) -> Optional['WholeNorms']:
        """Return the norms of the whole model, on the host.

        Args:
            packed (np.ndarray): What :meth:`sum` has returned.

        Returns:
            WholeNorms | None: For the parameters that have a gradient on any
            rank; None if AMP has skipped the update on any.

        Raises:
            RuntimeError: A rank has failed.
        """
        if packed[-1]:
            raise RuntimeError(
                f'{int(packed[-1])} of the ranks could not measure their part '
                'of the gradients')
        if packed[-2]:
            return None
        squares, counts, sizes = packed[:-2].reshape(3, -1)
        names = [*self._names, '']
        found = np.flatnonzero(counts)
        return WholeNorms([names[i] for i in found], squares[found],
                          dict(zip(self._names,
                                   sizes.round().astype(int))))

    def _add(self, norms_of_rank: List[NamedNorms],
             taken_of_rank: List[Tensor]) -> None:
        for taken in taken_of_rank:
            self._packed[-2:-1] += ~taken.to(self._device)
        for names, norms in norms_of_rank:
            places = self._places_of(names)
            squares = norms.to(self._device).double().square()
            self._sums[0].index_add_(0, places,
                                     squares * self._weights[places])
            self._sums[1].index_add_(0, places, torch.ones_like(squares))

    def _places_of(self, names: List[str]) -> Tensor:
        key = tuple(names)
        if key not in self._places:
            order = {name: i for i, name in enumerate(self._names)}
            self._places[key] = torch.tensor(
                [order.get(name, len(order)) for name in names],
                device=self._device)
        return self._places[key]


class WholeNorms(NamedTuple):
    """Hold the norms of a sharded model as if it were whole.

    Attributes:
        names (list[str]): The parameters that have a gradient.
        squares (np.ndarray): The squares of their norms, float64 of shape
            (N, ).
        sizes (dict[str, int]): The number of elements of each parameter.
    """
    names: List[str]
    squares: np.ndarray
    sizes: Dict[str, int]


def _sharded_parameters(modules: Iterable[nn.Module]) -> Set[int]:
    """Return the ids of the parameters of which a rank holds only a part."""
    found = set()
    for module in modules:
        # A list in PyTorch 2.0.
        handles = getattr(module, '_handles', None) or [module._handle]
        for handle in handles:
            if handle is not None and handle.uses_sharded_strategy:
                flat = handle.flat_param
                found.update(map(id, flat._params or [flat]))
    return found
