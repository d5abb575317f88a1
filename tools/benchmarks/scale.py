# Copyright (c) OpenMMLab. All rights reserved.
"""How the cost grows: with tensors, with bytes, with what is logged."""
import tempfile
from typing import Dict, List, Sequence

import numpy as np
import psutil
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from mmpose.engine.monitors import EventWriter, FailureGuard, Record, Scalar
from . import hook_parts
from .counting import written
from .timing import Subject, clock, close, interleave, median

TENSORS = (100, 300, 1000, 3000, 10000)
MEGABYTES = (10, 40, 160, 640, 2560, 4000)
SCALARS = (10**4, 10**5, 10**6)
_TAGS = 1000


def by_tensors(counts: Sequence[int], repeat: int) -> Dict[int, List[float]]:
    """Norms of so many gradients of 1000 elements.

    Returns:
        dict[int, list[float]]: Milliseconds, by the number of tensors.
    """
    return _time_norms({count: _model(count, 1000)
                        for count in counts}, repeat)


def by_bytes(megabytes: Sequence[float],
             repeat: int) -> Dict[float, List[float]]:
    """Norms of 100 gradients of so many megabytes in all.

    Sizes that do not fit into half of the free memory are left out.

    Returns:
        dict[float, list[float]]: Milliseconds, by the megabytes.
    """
    times = {}
    for size in megabytes:
        if size * 1e6 < psutil.virtual_memory().available / 2:
            # One after the other: all at once would need their sum.
            times.update(
                _time_norms({size: _model(100, int(size * 1e6 / 400))},
                            repeat))
    return times


def by_weights(megabytes: Sequence[float],
               repeat: int) -> Dict[float, List[float]]:
    """Histograms of 100 weights of so many megabytes in all.

    Returns:
        dict[float, list[float]]: Milliseconds, by the megabytes.
    """
    times = {}
    for size in megabytes:
        model = _model(100, int(size * 1e6 / 400))
        for parameter in model.parameters():
            parameter.data.normal_()
        with tempfile.TemporaryDirectory() as folder:
            subjects = {size: hook_parts.weight_histograms(model, folder)}
            times[size] = interleave(subjects, repeat)[size].run
            close(subjects)
    return times


def by_scalars(counts: Sequence[int]) -> Dict[int, dict]:
    """So many scalars, a thousand tags at each step.

    Returns:
        dict[int, dict]: By the number of scalars ``run``, what the training
        thread takes in all; ``settle``, what the writing thread takes then,
        both in milliseconds; ``bytes`` on disk; ``memory``, by how much the
        process has grown.
    """
    found = {}
    for count in counts:
        steps = count // _TAGS
        with tempfile.TemporaryDirectory() as folder:
            writer = EventWriter(SummaryWriter(folder))
            guard, process = FailureGuard('benchmark'), psutil.Process()
            run = settle = 0.
            before = process.memory_info().rss
            for step in range(steps):
                run += clock(lambda: writer.write(_record(step), guard))
                # Faster than any training: what is written has to keep up.
                if step % 100 == 99 or step == steps - 1:
                    settle += clock(writer.flush)
            grown = process.memory_info().rss - before
            writer.close()
            assert not sum(writer.dropped.values()), writer.dropped
            on_disk = written(folder).bytes
        found[count] = dict(
            run=run, settle=settle, bytes=on_disk, memory=grown)
    return found


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The power of the size that the cost grows with, at the large end.

    Args:
        sizes (Sequence[float]): Ascending.
        costs (Sequence[float]): What each costs.

    Returns:
        float: 1 is linear; from the three largest.
    """
    slope, _ = np.polyfit(np.log(sizes[-3:]), np.log(costs[-3:]), 1)
    return float(slope)


def _time_norms(sizes: dict, repeat: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        subjects: Dict[object, Subject] = {
            size: hook_parts.gradient_norms(model, f'{folder}/{size}')
            for size, model in sizes.items()
        }
        try:
            times = interleave(subjects, repeat)
        finally:
            close(subjects)
    return {size: found.run for size, found in times.items()}


def _model(count: int, elements: int) -> nn.Module:
    """Parameters, whose own memory is not touched, with gradients."""
    model = nn.Module()
    for i in range(count):
        parameter = nn.Parameter(torch.empty(elements))
        parameter.grad = torch.full((elements, ), 1e-3)
        model.register_parameter(f'layer_{i}', parameter)
    return model


def _record(step: int) -> Record:
    return Record(
        step,
        lambda: [Scalar(f'scale/{i}', step + i / _TAGS) for i in range(_TAGS)])


def linear(times: Dict[float, List[float]]) -> float:
    """:func:`exponent` of times by size."""
    sizes = sorted(times)
    return exponent(sizes, [median(times[size]) for size in sizes])
