# Copyright (c) OpenMMLab. All rights reserved.
import functools
import logging
import math
from contextlib import contextmanager
from itertools import chain
from typing import Dict, Iterator, List, Optional

import numpy as np
from mmengine.hooks import EMAHook
from mmengine.logging import print_log
from torch import Tensor, nn

from ..core.arguments import GRAD_NORM_INTERVAL, LOG_HEALTH
from ..core.measurements import EmaLosses, EmaModel, Nonfinite
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import bare_model, needs_all_ranks
from ..core.side_effects import evaluation_losses
from ..writers.record import Record, Value
from .norms import named_norms


@MONITORS.register_module()
class EmaMonitor(Monitor):
    """Compare the EMA model of an ``EMAHook`` with the model in training.

    What it tells: There is no curve. The report says so if a weight of the
    EMA model is NaN or infinite, and if its loss is far higher.

    Validations and checkpoints use the EMA model, and the training loss does
    not show what is wrong with it. So the loss of a training batch is
    computed with either's weights, without dropout and with the running
    statistics of normalization layers, once after each validation. A model
    that cannot compute it so is not compared, and the log says so.

    Args:
        interval (int | dict | Schedule): At which iterations to look for NaN.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_HEALTH, )
    settings = dict(interval=GRAD_NORM_INTERVAL)

    of_whole_model = True

    def before_train(self, runner) -> None:
        self._hook = next((h for h in runner.hooks if isinstance(h, EMAHook)),
                          None)
        self._validated = False
        self._alone = not needs_all_ranks(runner.model)

    def after_val_epoch(self, runner, metrics: Optional[Dict]) -> None:
        self._validated = True

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        step = runner.iter + 1
        if self._hook is None:
            return
        ema = self._hook.ema_model
        if self.is_due(step):
            names, largest = zip(*named_norms((
                (name, tensor)
                for name, tensor in ema.module.state_dict().items()
                if tensor.is_floating_point()), math.inf))
            self.emit(
                Record(step, functools.partial(_finite, list(chain(*names))),
                       largest))
        if self._validated and self._alone:
            self._validated = False
            self._compare(step, bare_model(runner.model), ema, data_batch)

    def _compare(self, step: int, model: nn.Module, ema: nn.Module,
                 data_batch) -> None:
        momentum = getattr(ema, 'momentum', None)
        try:
            losses = _losses(model, ema.module, data_batch)
        except Exception as error:  # Of the model, in a mode of ours.
            self._alone = False
            print_log(
                f'{type(self).__name__}: the EMA model is not compared, since '
                f'{type(model).__name__} computes no loss of a training batch '
                f'in evaluation mode: {type(error).__name__}: {error}',
                logger='current',
                level=logging.INFO)
            return
        self.emit(
            Record(
                step, lambda own, averaged:
                [EmaLosses(float(own), float(averaged), momentum)], losses))


def _finite(names: List[str], *largest: np.ndarray) -> Iterator[Value]:
    finite = np.isfinite(np.concatenate(largest))
    first = int(finite.argmin())
    yield EmaModel(
        None if finite.all() else Nonfinite(names[first], 1 -
                                            float(finite.mean())))


def _losses(model: nn.Module, ema: nn.Module, data_batch) -> List[Tensor]:
    """Compute the losses of the model and of the EMA model."""
    with evaluation_losses(model) as losses:
        own = losses(data_batch)['loss']
        with _weights_of(ema, model):
            return [own, losses(data_batch)['loss']]


@contextmanager
def _weights_of(ema: nn.Module, model: nn.Module) -> Iterator[None]:
    """Exchange weights and buffers of the model with those of the EMA model.

    The model's settings stay, which a hook may have changed since they were
    copied.
    """
    theirs = ema.state_dict()
    exchanged = []
    try:
        for name, tensor in model.state_dict().items():
            if name in theirs:
                _exchange(tensor, theirs[name])
                exchanged.append((tensor, theirs[name]))
        yield
    finally:
        for pair in exchanged:
            _exchange(*pair)


def _exchange(tensor: Tensor, other: Tensor) -> None:
    value = tensor.clone()
    tensor.copy_(other)
    other.copy_(value)
