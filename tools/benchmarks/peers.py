# Copyright (c) OpenMMLab. All rights reserved.
"""What people would use instead, called through its public functions.

Each function makes a :obj:`Subject` that reads the gradients of a model and
writes what it has read. It raises ImportError where the package is missing.
"""
import itertools
import os
from importlib import metadata
from typing import Dict, Optional

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from .timing import Subject, close

PACKAGES = ('lightning', 'mosaicml', 'wandb')


def lightning(model: nn.Module, folder: str) -> Subject:
    """Lightning's norms of all parameters, written by its logger."""
    from lightning.pytorch.loggers import TensorBoardLogger
    from lightning.pytorch.utilities import grad_norm
    logger = TensorBoardLogger(folder)
    steps = itertools.count()
    return Subject(
        lambda: logger.log_metrics(grad_norm(model, 2), next(steps)),
        logger.experiment.flush, logger.experiment.close)


def composer(model: nn.Module, folder: str) -> Subject:
    """Composer's ``OptimizerMonitor``, written by its logger."""
    from composer.callbacks import OptimizerMonitor
    from composer.core import Event, State
    from composer.devices import DeviceCPU, DeviceGPU
    from composer.loggers import Logger, TensorboardLogger
    on_gpu = next(model.parameters()).is_cuda
    state = State(
        model=model,
        rank_zero_seed=0,
        run_name='benchmark',
        device=DeviceGPU() if on_gpu else DeviceCPU(),
        optimizers=torch.optim.SGD(model.parameters(), lr=0.))
    destination = TensorboardLogger(log_dir=folder)
    logger = Logger(state, destinations=[destination])
    destination.run_event(Event.INIT, state, logger)
    monitor = OptimizerMonitor(batch_log_interval=1)
    return Subject(lambda: monitor.run_event(Event.BATCH_END, state, logger),
                   destination.writer.flush, destination.writer.close)


def wandb(model: nn.Module, folder: str) -> Subject:
    """``wandb.watch``, offline: histograms of the gradients.

    It reads as the gradients come, in a backward pass. So that pass is run,
    from given gradients to the leaves; what it takes itself is
    :func:`backward`.
    """
    import wandb
    os.environ['WANDB_SILENT'] = 'true'
    run = wandb.init(
        mode='offline',
        dir=folder,
        settings=wandb.Settings(console='off', _disable_stats=True))
    twin = _twin(model)
    run.watch(twin, log='gradients', log_freq=1)
    to_leaves = _to_leaves(model, twin)

    def read() -> None:
        to_leaves()
        run.log({'loss': 0.})

    return Subject(read, close=run.finish)


def backward(model: nn.Module, folder: str) -> Subject:
    """The backward pass that ``wandb`` reads in, without it."""
    return Subject(_to_leaves(model, _twin(model)))


def mmengine(model: nn.Module, folder: str) -> Subject:
    """MMEngine's total norm, which it has where it clips gradients."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.)
    optimizer.step = lambda: None
    # So large a limit multiplies all gradients by 1.
    wrapper = OptimWrapper(optimizer, clip_grad=dict(max_norm=1e9))
    return Subject(wrapper.step)


READERS = {
    'Lightning': lightning,
    'Composer': composer,
    'wandb.watch': wandb,
    'backward alone': backward,
    'MMEngine clipping': mmengine,
}


def gradient_readers(model: nn.Module,
                     folder: str) -> Dict[str, Optional[Subject]]:
    """All peers that are installed.

    Args:
        model (nn.Module): With gradients.
        folder (str): Where they may write.

    Returns:
        dict[str, Subject or None]: By name; None for one that is missing.
    """
    made = {}
    try:
        for name, make in READERS.items():
            path = os.path.join(folder, make.__name__)
            os.makedirs(path)
            try:
                made[name] = make(model, path)
            except ImportError:
                made[name] = None
    except BaseException:
        close({name: made for name, made in made.items() if made})
        raise
    return made


def versions() -> Dict[str, str]:
    """The versions of the packages; 'missing' without one."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = 'missing'
    return found


def _twin(model: nn.Module) -> nn.Module:
    """Parameters of the same memory, with gradients of their own."""
    twin = nn.Module()
    for name, parameter in model.named_parameters():
        twin.register_parameter(
            name.replace('.', '_'), nn.Parameter(parameter.detach()))
    return twin


def _to_leaves(model: nn.Module, twin: nn.Module):
    """Function that hands the model's gradients to the twin's leaves."""
    parameters = list(twin.parameters())
    gradients = [parameter.grad for parameter in model.parameters()]

    def run() -> None:
        for parameter in parameters:
            parameter.grad = None
        torch.autograd.backward(parameters, gradients)

    return run
