# Copyright (c) OpenMMLab. All rights reserved.
"""The algorithms that this hook was asked to replace.

Written from their description: 'before' is how a first hook did it, 'after'
how it was improved. Both are given what they need, a writer and gradients that
are still there, which neither found by itself.
"""
from typing import Dict, Sequence

import torch
from mmengine.hooks import Hook
from torch import Tensor, nn

MAX_LAYERS = 20
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def norms_before(model: nn.Module, writer, step: int) -> None:
    """Two transfers for each parameter; twenty of them are written."""
    total, norms = 0., {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            norm = parameter.grad.data.norm(2)
            total += norm.item()**2
            norms[name] = norm.item()
    _write_norms(writer, step, total**0.5,
                 dict(list(norms.items())[:MAX_LAYERS]))


def norms_after(model: nn.Module, writer, step: int) -> None:
    """A transfer for the total, and one for each of twenty parameters."""
    norms, named = [], {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            norms.append(parameter.grad.data.norm(2))
            if len(named) < MAX_LAYERS:
                named[name] = norms[-1]
    total = torch.stack(norms).norm(2).item()
    _write_norms(writer, step, total,
                 {name: norm.item()
                  for name, norm in named.items()})


def _write_norms(writer, step: int, total: float, norms: Dict[str,
                                                              float]) -> None:
    writer.add_scalar('train/gradient_norm/global', total, step)
    for name, norm in norms.items():
        writer.add_scalar(f'train/gradient_norm/layers/{name}', norm, step)


def learning_rates(optimizer, writer, step: int) -> None:
    """A scalar for each param group."""
    for i, group in enumerate(optimizer.param_groups):
        writer.add_scalar(f'train/learning_rate/group_{i}', group['lr'], step)


def histograms(parameters: Sequence, writer, step: int) -> None:
    """A histogram of each parameter.

    Args:
        parameters (Sequence[tuple[str, Tensor]]): Names and parameters.
        writer (SummaryWriter): Where to write.
        step (int): The global step.
    """
    for name, parameter in parameters:
        writer.add_histogram(f'weights/{name}', parameter.detach().cpu(), step)


def first_batch_before(inputs: Tensor, samples: list) -> dict:
    """The whole first batch, as floats."""
    return dict(inputs=inputs.detach().cpu().clone(), data_samples=samples)


def first_batch_after(inputs: Tensor, samples: list, count: int = 4) -> dict:
    """The first four of it."""
    return dict(
        inputs=inputs[:count].detach().cpu().clone(),
        data_samples=samples[:count])


def denormalize_before(image: Tensor) -> Tensor:
    """Channel by channel."""
    image = image.clone()
    for channel, mean, std in zip(image, MEAN, STD):
        channel.mul_(std).add_(mean)
    return image


def denormalize_after(image: Tensor) -> Tensor:
    """All channels at once."""
    mean = image.new_tensor(MEAN).view(3, 1, 1)
    std = image.new_tensor(STD).view(3, 1, 1)
    return torch.clamp(image * std + mean, 0, 1)


class DescribedHook(Hook):
    """Writes what the description asks for, at its default intervals.

    Its pictures are the inputs without poses: how those are drawn, the
    description does not say.

    Args:
        version (str): 'before' or 'after'.
    """

    def __init__(self, version: str) -> None:
        self._is_before = version == 'before'
        self._norms = dict(before=norms_before, after=norms_after)[version]
        self._denormalize = dict(
            before=denormalize_before, after=denormalize_after)[version]

    def before_train(self, runner) -> None:
        """Read gradients where they still are."""
        self._writer = next(iter(
            runner.visualizer._vis_backends.values())).experiment
        self._batch = None

        def before_step(*_) -> None:
            if runner.iter % 100 == 0:
                self._norms(runner.model, self._writer, runner.iter)

        runner.optim_wrapper.optimizer.register_step_pre_hook(before_step)

    def after_train_iter(self,
                         runner,
                         batch_idx: int,
                         data_batch=None,
                         outputs=None) -> None:
        """Learning rates, and pictures of the first batch."""
        if self._batch is None:
            inputs = torch.stack(data_batch['inputs']).float() / 255
            keep = (
                first_batch_before if self._is_before else first_batch_after)
            self._batch = keep(inputs, data_batch['data_samples'])
        if self._is_before or runner.iter % 100 == 0:
            learning_rates(runner.optim_wrapper.optimizer, self._writer,
                           runner.iter)
        if runner.iter % 500 == 0:
            for i, image in enumerate(self._batch['inputs'][:4]):
                self._writer.add_image(f'train/images/{i}',
                                       self._denormalize(image), runner.iter)

    def after_train_epoch(self, runner) -> None:
        """Histograms of the first layers."""
        named = list(runner.model.named_parameters())
        histograms(named[:MAX_LAYERS], self._writer, runner.iter)
