# Copyright (c) OpenMMLab. All rights reserved.
import functools
import logging
from collections import defaultdict
from typing import Dict, Iterable, Iterator, List, Tuple

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor

from ..core.arguments import (MAX_LAYERS_TO_LOG, WEIGHT_HIST_INTERVAL,
                              Arguments, flag)
from ..core.layer_groups import layer_groups, named_parameters
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import bare_model, is_iter_based, iterations_per_pass
from ..core.schedule import Every, Interval
from ..writers.record import HISTOGRAM, Histogram, Record

# A float32 has a sign, 8 bits of exponent and 23 of mantissa. Its upper 12
# bits are the number of its bucket: 8 buckets between two powers of two, 2048
# for each sign.
_SHIFT = 20
_BUCKETS = 1 << 12
_ZERO = _BUCKETS // 2
_INFINITY = 0x7f800000
# How many elements are counted at once. On the CPU torch does not split so few
# between threads, which would have to wait for busy cores, and they stay in
# the cache. On a GPU the number of launches matters, and this limits the
# temporary memory to 4 MB in float32.
_CHUNK_ON_CPU = 1 << 15
_CHUNK = 1 << 20

# The tensors of a group on a device.
Parts = Dict[Tuple[str, torch.device], List[Tensor]]


@MONITORS.register_module()
class WeightMonitor(Monitor):
    """Log the distribution of the weights.

    ====================== ==========================================
    ``weights/<group>``    Histogram of every weight of a layer group
    ====================== ==========================================

    What it tells: Weights whose distribution does not change are not trained.
    One that keeps widening needs weight decay. A peak at zero shows dead
    channels.

    Args:
        interval (int | dict | Schedule): At which epochs to measure; in
            iteration-based training at which iterations.
        max_groups (int): See :func:`layer_groups`.
        by_passes (bool): In iteration-based training take the schedule to be
            in passes over the training data, which is what an epoch is.
            Defaults to False.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (flag(
        'log_weight_hist', 'Write histograms of the weights, see '
        ':class:`WeightMonitor`.'), )
    settings = dict(
        interval=WEIGHT_HIST_INTERVAL, max_groups=MAX_LAYERS_TO_LOG)

    @classmethod
    def settings_from(cls, given: Arguments) -> dict:
        return dict(
            super().settings_from(given),
            by_passes=not given.is_given('weight_hist_interval'))

    of_whole_model = True

    def __init__(self,
                 interval: Interval,
                 max_groups: int,
                 by_passes: bool = False,
                 strict: bool = False) -> None:
        super().__init__(interval, strict)
        self._max_groups = max_groups
        self._by_passes = by_passes
        self._given = self.schedule

    def before_train(self, runner) -> None:
        named = dict(named_parameters(bare_model(runner.model)))
        self._members = {
            group: [named[name] for name in names]
            for group, names in layer_groups(named, self._max_groups).items()
            if any(named[name].numel() for name in names)
        }
        self.schedule = self._given
        if self._by_passes and is_iter_based(runner):
            self.schedule = Every(self._given.interval *
                                  iterations_per_pass(runner))
        elif is_iter_based(runner) and self.schedule.interval_at(1) == 1:
            print_log(
                'weight_hist_interval counts iterations in iteration-based '
                'training: the weights are counted at every single one. Leave '
                'it out to count them once in a pass over the data.',
                logger='current',
                level=logging.WARNING)

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs) -> None:
        step = runner.iter + 1
        if is_iter_based(runner) and self.is_due(step):
            self._measure(step)

    def after_train_epoch(self, runner) -> None:
        if not is_iter_based(runner) and self.is_due(runner.epoch + 1):
            self._measure(runner.iter)

    def _measure(self, step: int) -> None:
        if not self._members:
            return
        parts = _by_device(self._members)
        counts, extremes = zip(*map(count_values, parts.values()))
        groups = [group for group, _ in parts]
        self.emit(
            Record(
                step=step,
                values=functools.partial(_histograms, groups),
                # Tensors on several devices cannot be stacked.
                tensors=[*counts, *extremes],
                kind=HISTOGRAM))


def _by_device(members: Dict[str, List[Tensor]]) -> Parts:
    """Split every group by device."""
    parts = defaultdict(list)
    for group, tensors in members.items():
        for tensor in tensors:
            if tensor.numel():
                parts[group, tensor.device].append(tensor)
    return parts


@torch.no_grad()
def count_values(tensors: Iterable[Tensor]) -> Tuple[Tensor, Tensor]:
    """Count every element of some tensors into buckets, on their device.

    The buckets are the same for all data, so that nothing waits for a minimum
    or maximum. Numbers are converted to float32.

    Args:
        tensors (Iterable[Tensor]): Tensors of any shape on one device, with
            at least one element in all.

    Returns:
        tuple[Tensor, Tensor]: The counts, int64 of shape (4096, ): bucket
        ``i`` is between elements ``i`` and ``i + 1`` of :func:`bucket_edges`,
        with the edge that is nearer to zero. And minimum and maximum, float32
        of shape (2, ).
    """
    tensors = [tensor for tensor in tensors if tensor.numel()]
    device = tensors[0].device
    on_cpu = device.type == 'cpu'
    counts = torch.zeros(_BUCKETS, dtype=torch.int64, device=device)
    one = counts.new_ones(1)
    lows, highs = [], []
    for chunk in _chunks(tensors, _CHUNK_ON_CPU if on_cpu else _CHUNK):
        chunk = chunk.float()
        bucket = (chunk.view(torch.int32) >> _SHIFT).add_(_ZERO)
        if on_cpu:  # Twice as fast, but it waits for a GPU.
            counts += torch.bincount(bucket, minlength=_BUCKETS)
        else:
            counts.index_add_(0, bucket, one.expand(len(bucket)))
        low, high = _extremes(chunk)
        lows.append(low)
        highs.append(high)
    # The buckets of negative numbers begin at -0.
    counts = torch.cat([counts[:_ZERO].flip(0), counts[_ZERO:]])
    return counts, torch.stack(
        [torch.stack(lows).min(),
         torch.stack(highs).max()])


def _extremes(chunk: Tensor) -> Tuple[Tensor, Tensor]:
    if hasattr(torch, 'aminmax'):  # One pass instead of two, since 1.10.
        return torch.aminmax(chunk)
    return chunk.min(), chunk.max()


def _chunks(tensors: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Split and join tensors to flat chunks of ``size`` elements at most."""
    held: List[Tensor] = []
    total = 0
    for tensor in tensors:
        for piece in tensor.reshape(-1).split(size):
            if total + len(piece) > size:
                yield torch.cat(held) if len(held) > 1 else held[0]
                held, total = [], 0
            held.append(piece)
            total += len(piece)
    yield torch.cat(held) if len(held) > 1 else held[0]


def bucket_edges() -> np.ndarray:
    """Return the edges of :func:`count_values`' buckets.

    Returns:
        np.ndarray: 4097 ascending float32 numbers from -inf to inf.
    """
    number = np.arange(-_ZERO, _ZERO + 1)
    magnitude = np.minimum(np.abs(number) << _SHIFT, _INFINITY)
    return np.copysign(
        magnitude.astype(np.int32).view(np.float32), number, dtype=np.float32)


def _histograms(groups: List[str],
                *counts_and_extremes: np.ndarray) -> Iterable[Histogram]:
    """Return one of each group, summed over its devices.

    The sums are those of the middles of the buckets: TensorBoard does not show
    them, and each would be a pass over all weights.
    """
    parts = defaultdict(list)
    for group, counts, extremes in zip(groups, counts_and_extremes,
                                       counts_and_extremes[len(groups):]):
        parts[group].append((counts, extremes))
    edges = bucket_edges()
    # The last bucket of either sign ends at infinity.
    finite = np.isfinite(edges[:-1]) | np.isfinite(edges[1:])
    # In float64, in which the square of every float32 has its place.
    edges = np.nan_to_num(edges).astype(np.float64)
    for group, of_group in parts.items():
        all_counts, all_extremes = zip(*of_group)
        # Infinite weights and NaN have no place on the axis.
        counts = np.where(finite, sum(all_counts), 0)
        filled = np.flatnonzero(counts)
        if not len(filled):
            continue
        extremes = np.array(all_extremes, dtype=np.float64)
        low, high = extremes[:, 0].min(), extremes[:, 1].max()
        if not np.isfinite([low, high]).all():
            low, high = edges[filled[0]], edges[filled[-1] + 1]
        middles = (edges[filled] + edges[filled + 1]) / 2
        yield Histogram(f'weights/{group}', edges, counts, low, high,
                        np.dot(counts[filled], middles),
                        np.dot(counts[filled], middles**2))
