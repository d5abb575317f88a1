# Copyright (c) OpenMMLab. All rights reserved.
"""What a logged step costs, beside the peers and the memory's floor."""
import itertools
import pickle
import tempfile
from typing import List

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from mmpose.engine.monitors.poses.pictures.model_inputs import make_visible
from . import described, hook_parts, models, peers
from .counting import count
from .timing import Subject, close, device_times, interleave, synchronize


def measure(name: str, repeat: int, device: str, with_panels: bool) -> dict:
    """Measure one model.

    Args:
        name (str): One of ``models.NAMES``.
        repeat (int): How often each.
        device (str): Where the model is: 'cpu' or 'cuda'.
        with_panels (bool): Whether to draw pictures, too.

    Returns:
        dict: ``tensors``, ``bytes``; ``gradients``, ``histograms`` and
        ``learning_rate``: the times of each subject by its name, of a missing
        one None; ``device_times`` of floor and hook, on a GPU; ``counts`` of
        the hook's own; ``panels``, for a pose model
        on the CPU.
    """
    model = models.build(name).to(device)
    grads = models.fill_gradients(model)
    found = dict(
        device=device, tensors=len(grads), bytes=models.num_bytes(grads))
    with tempfile.TemporaryDirectory() as folder:
        found.update(_gradients(model, grads, folder, repeat))
        found.update(_histograms(model, folder, max(repeat // 2, 3)))
        found.update(_learning_rate(model, folder, repeat))
        if with_panels and name in models.CONFIGS and device == 'cpu':
            model.zero_grad()
            found['panels'] = _panels(model, folder, repeat)
    return found


def _gradients(model: nn.Module, grads: List[Tensor], folder: str,
               repeat: int) -> dict:
    flat = torch.cat([grad.flatten() for grad in grads])
    subjects = dict(
        floor=_floor(flat),
        one_core=None
        if flat.is_cuda else Subject(lambda: torch.linalg.vector_norm(flat)),
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
        counts=dict(gradients=counts))


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
    named = list(model.named_parameters())
    subjects = {'hook': hook_parts.weight_histograms(model, f'{folder}/hist')}
    for name, some in (('first 20', named[:described.MAX_LAYERS]),
                       ('spread 20',
                        hook_parts.spread_over(named, described.MAX_LAYERS))):
        writer, steps = SummaryWriter(f'{folder}/{name}'), itertools.count()
        subjects[name] = Subject(
            lambda some=some, writer=writer, steps=steps: described.histograms(
                some, writer, next(steps)),
            writer.flush,
            writer.close)
    try:
        return dict(histograms=interleave(subjects, repeat))
    finally:
        close(subjects)


def _learning_rate(model: nn.Module, folder: str, repeat: int) -> dict:
    writer, steps = SummaryWriter(f'{folder}/rates'), itertools.count()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.)
    subjects = dict(
        hook=hook_parts.learning_rates(model, f'{folder}/lr'),
        described=Subject(
            lambda: described.learning_rates(optimizer, writer, next(steps)),
            writer.flush, writer.close))
    try:
        return dict(learning_rate=interleave(subjects, repeat))
    finally:
        close(subjects)


def _panels(model: nn.Module, folder: str, repeat: int) -> dict:
    panels = hook_parts.Panels(model, hook_parts.make_batch(4),
                               f'{folder}/panels')
    try:
        times = interleave(dict(panel=panels.subject), repeat)['panel']
    finally:
        panels.subject.close()
    return dict(own=panels.own[1:], settle=times.settle, count=4)


def measure_inputs(repeat: int) -> dict:
    """What is kept of the first batch, and how it is made to look at.

    Returns:
        dict: ``memory``, in bytes of what is kept of a batch of 32 of 256x192
        pixels; ``denormalize``, times for one image.
    """
    batch = hook_parts.make_batch(32)
    inputs = torch.stack(batch['inputs'])
    normalized = (inputs.float() / 255 - _column(described.MEAN)) / _column(
        described.STD)
    samples = batch['data_samples']
    model = models.build('RTMPose-m')
    with tempfile.TemporaryDirectory() as folder:
        panels = hook_parts.Panels(model, batch, folder)
        (probe, _), = panels.monitor._sets
        panels.subject.close()
    memory = dict(
        hook=_size(probe),
        before=_size(described.first_batch_before(normalized, samples)),
        after=_size(described.first_batch_after(normalized, samples)))
    image = normalized[0]
    denormalize = dict(
        hook=Subject(lambda: make_visible(image)),
        before=Subject(lambda: described.denormalize_before(image)),
        after=Subject(lambda: described.denormalize_after(image)))
    return dict(memory=memory, denormalize=interleave(denormalize, 5 * repeat))


def _column(values) -> Tensor:
    return torch.tensor(values).view(3, 1, 1)


def _size(kept) -> int:
    """With all memory that its tensors hold on to, shared or not."""
    return len(pickle.dumps(kept, protocol=4))
