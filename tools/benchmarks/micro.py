# Copyright (c) OpenMMLab. All rights reserved.
"""What a logged step costs, beside the peers and the memory's floor."""
import itertools
import tempfile
from typing import List

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from . import hook_parts, models, peers
from .counting import count
from .timing import Subject, close, device_times, interleave, synchronize

# add_histogram is given so many parameters, spread over the model.
_PARAMETERS = 20


def measure(name: str, repeat: int, device: str) -> dict:
    """Measure one model.

    Args:
        name (str): One of ``models.NAMES``.
        repeat (int): How often each.
        device (str): Where the model is: 'cpu' or 'cuda'.

    Returns:
        dict: ``device``, ``tensors``, ``bytes``; ``gradients`` and
        ``histograms``: the times of each subject by its name, of a missing
        one None; ``device_times`` of floor and hook, on a GPU; ``counts`` of
        a reading of the hook's.
    """
    model = models.build(name).to(device)
    grads = models.fill_gradients(model)
    with tempfile.TemporaryDirectory() as folder:
        return dict(
            device=device,
            tensors=len(grads),
            bytes=models.num_bytes(grads),
            **_gradients(model, grads, folder, repeat),
            histograms=_histograms(model, folder, max(repeat // 2, 3)))


def _gradients(model: nn.Module, grads: List[Tensor], folder: str,
               repeat: int) -> dict:
    flat = torch.cat([grad.flatten() for grad in grads])
    subjects = dict(
        floor=_floor(flat),
        hook=hook_parts.gradient_norms(model, f'{folder}/norms'),
        **peers.gradient_readers(model, folder))
    missing = [name for name, subject in subjects.items() if subject is None]
    subjects = {n: s for n, s in subjects.items() if s is not None}
    # On a GPU the launches are timed, and then what they have launched.
    subjects = {
        n: s._replace(settle=lambda s=s: (synchronize(), s.settle()))
        for n, s in subjects.items()
    }
    device = {}
    try:
        counts = count(subjects['hook'].run)
        times = interleave(subjects, repeat)
        if flat.is_cuda:
            device = {
                name: device_times(subjects[name].run, repeat)
                for name in ('floor', 'hook')
            }
    finally:
        close(subjects)
    return dict(
        gradients={
            **times,
            **dict.fromkeys(missing)
        },
        device_times=device,
        counts=counts)


def _floor(flat: Tensor) -> Subject:
    """One pass over as many bytes in one piece.

    On a GPU as long as a copy takes for as many, which moves them twice: half
    of them are copied.
    """
    if not flat.is_cuda:
        return Subject(lambda: torch.dot(flat, flat))
    half = flat[:len(flat) // 2]
    to = torch.empty_like(half)
    return Subject(lambda: to.copy_(half))


def _histograms(model: nn.Module, folder: str, repeat: int) -> dict:
    some = hook_parts.spread_over(list(model.named_parameters()), _PARAMETERS)
    writer, steps = SummaryWriter(f'{folder}/some'), itertools.count()

    def add() -> None:
        step = next(steps)
        for name, parameter in some:
            writer.add_histogram(name, parameter, step)

    subjects = dict(
        hook=hook_parts.weight_histograms(model, f'{folder}/all'),
        add_histogram=Subject(add, writer.flush, writer.close))
    try:
        return interleave(subjects, repeat)
    finally:
        close(subjects)
