# Copyright (c) OpenMMLab. All rights reserved.
import functools
import logging
import math
import pickle
from typing import (Callable, Dict, Iterator, List, NamedTuple, Optional,
                    Sequence)

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.runner.amp import autocast
from torch import Tensor, nn

from ...core.arguments import Arguments, count
from ...core.monitor import Chart, Monitor
from ...core.registry import MONITORS
from ...core.runner_parts import (bare_model, evaluation_step, is_iter_based,
                                  needs_all_ranks)
from ...core.side_effects import evaluation_losses
from ...writers.record import Record, Scalar, Value
from .loss_samples import (LoadOnce, LossBatch, training_samples,
                           validation_samples)
from .targets import NoTargetsError

VAL_LOSS_SAMPLES = count(
    'val_loss_samples',
    'Of how many samples of the validation, and of as many of the training, '
    'the loss is computed at each validation, see '
    ':class:`ValidationLossMonitor`. The value of a preset is reduced in '
    'short trainings, down to 16, so that it takes 1 % of the time. 0: none.',
    presets=dict(fast=16, balanced=64, detailed=64))

# A loss without gradients takes a third of the time of a training iteration:
# one in this many of the samples trained between two validations, twice, takes
# 1 % of the time.
_ONE_IN = 64
_LEAST = 16
_BATCH_SIZE = 8


@MONITORS.register_module()
class ValidationLossMonitor(Monitor):
    """Log the loss of the validation, and what can be compared with it.

    ======================= =================================================
    ``val/loss``            Loss of a fixed sample of the validation
    ``val/<term>``          Its terms, such as ``val/loss_bbox``, if there are
                            several
    ``train_as_val/loss``   The same for training samples that are prepared
                            like those of the validation: without augmentation
    ``train_as_val/<term>`` Its terms, if there are several
    ======================= =================================================

    What it tells: Whether the model generalizes. The loss of LoggerHook is no
    measure for that: it is of augmented samples, in training mode, and of
    other weights if there is an ``EMAHook``. The two losses here differ in
    nothing but the samples. Both fall: the model learns. The validation's
    rises while that of the training falls: it overfits.

    The samples go through the pipeline of the validation, with the target
    generator of the training before the packing. With a detector's boxes, the
    annotated boxes are used. The model that is validated computes the loss, in
    evaluation mode, on one rank: ``forward(mode='loss')`` of batches of the
    training's size, whose mean is weighted by their numbers of samples. The
    samples are spread over the data set, have a visible keypoint, and are the
    same in every validation. They are loaded in the first one, in a process of
    their own if the validation has workers, and take at most 64 MB each.

    A line of the log says where it is not possible: for a sharded model, and
    where the training has no ``GenerateTarget`` or an unknown transform
    resizes the input of a bottom-up model.

    Args:
        samples (int): How many samples of each.
        is_limit (bool): Whether there may be fewer in a short training.
            Defaults to False.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (VAL_LOSS_SAMPLES, )
    settings = dict(samples=VAL_LOSS_SAMPLES)
    charts = (Chart('Overview', 'validation loss', '(val|train_as_val)/loss$',
                    20), )
    of_whole_model = True

    @classmethod
    def settings_from(cls, given: Arguments) -> dict:
        return dict(
            super().settings_from(given),
            is_limit=not given.is_given(VAL_LOSS_SAMPLES.name))

    def __init__(self,
                 samples: int,
                 is_limit: bool = False,
                 strict: bool = False) -> None:
        super().__init__(strict=strict)
        self._samples = samples
        self._is_limit = is_limit
        self._trains = False
        self._losses: Dict[str, Losses] = {}

    def charts_of(self, runner) -> Sequence[Chart]:
        return () if needs_all_ranks(runner.model) else self.charts

    def before_train(self, runner) -> None:
        self._dataset = None
        self._loading: Dict[str, LoadOnce] = {}
        self._batches: Dict[str, List[LossBatch]] = {}
        self._losses = {}
        self._trains = not needs_all_ranks(runner.model)
        if not self._trains:
            _tell(
                'val', 'the model is sharded, or wrapped part by part, so '
                'that its loss takes all ranks')

    def after_train(self, runner) -> None:
        self._trains = False
        self._loading = {}
        self._batches = {}

    def after_val_iter(self, runner, batch_idx: int, data_batch,
                       outputs: Optional[Sequence]) -> None:
        if not self._trains:
            return
        loader = runner.val_dataloader
        if batch_idx == 0:
            self._losses = {}
            if loader.dataset is not self._dataset:
                self._dataset = loader.dataset
                self._load(runner)
        # Not after the epoch: an EMA model has been exchanged by then.
        if batch_idx == len(loader) - 1:
            for name, loading in self._loading.items():
                self._batches[name] = _or_why(name, loading.result) or []
            self._loading = {}
            for name, batches in self._batches.items():
                if batches:
                    self._compute(runner, name)

    def after_val_epoch(self, runner, metrics: Optional[Dict]) -> None:
        losses, self._losses = self._losses, {}
        # An evaluator may have a metric of this name.
        taken = [f'val/{name}' for name in metrics or ()]
        for name, of_samples in losses.items():
            values = functools.partial(_scalars, name, of_samples, taken)
            self.emit(
                Record(evaluation_step(runner), values, (of_samples.values, )))

    def _load(self, runner) -> None:
        self._batches = {}
        training, validation = runner.train_dataloader, runner.val_dataloader
        batch_size = getattr(training, 'batch_size', None) or _BATCH_SIZE
        samples = self._samples
        if self._is_limit:
            trained = batch_size * _iterations_between(runner)
            samples = min(samples, max(_LEAST, trained // _ONE_IN))
        for name, copied in (('val', validation_samples), ('train_as_val',
                                                           training_samples)):
            dataset = _or_why(name, copied, validation.dataset,
                              training.dataset)
            if dataset is not None:
                self._loading[name] = LoadOnce(dataset, samples, batch_size,
                                               validation.num_workers)

    def _compute(self, runner, name: str) -> None:
        batches = self._batches[name]
        precision = autocast(enabled=getattr(runner.val_loop, 'fp16', False))
        with precision:
            losses = _or_why(name, mean_losses, bare_model(runner.model),
                             batches)
        if losses is None:
            self._batches[name] = []
        else:
            self._losses[name] = losses


class Losses(NamedTuple):
    """The losses of several batches.

    Attributes:
        names (list[str]): The names of the losses.
        sizes (list[int]): The number of samples of each batch.
        values (Tensor): Shape (batches, names).
    """
    names: List[str]
    sizes: List[int]
    values: Tensor


def mean_losses(model: nn.Module, batches: Sequence[LossBatch]) -> Losses:
    """Compute the losses of batches, without any effect on a training.

    Args:
        model (nn.Module): The model without a wrapper.
        batches (Sequence[LossBatch]): The batches.

    Returns:
        Losses: A loss that the model does not return for a batch, as where no
        instance is matched, is 0.
    """
    found = []
    with evaluation_losses(model) as losses:
        for batch in batches:
            # The model may change its samples.
            found.append(losses(pickle.loads(batch.pickled)))
    names = list(dict.fromkeys(name for values in found for name in values))
    zero = torch.zeros_like(found[0]['loss'])
    values = torch.stack([
        torch.stack([of_batch.get(name, zero).to(zero) for name in names])
        for of_batch in found
    ])
    return Losses(names, [batch.size for batch in batches], values)


def _scalars(prefix: str, losses: Losses, taken: Sequence[str],
             values: np.ndarray) -> Iterator[Value]:
    means = np.average(values.astype(float), axis=0, weights=losses.sizes)
    for name, mean in zip(losses.names, means):
        tag = f'{prefix}/{name}'
        # The only term is the loss.
        if tag not in taken and (name == 'loss' or len(losses.names) > 2):
            yield Scalar(tag, mean)


def _iterations_between(runner) -> float:
    """Return the number of training iterations between two validations."""
    loop = runner.train_loop
    interval = getattr(loop, 'val_interval', 0) or math.inf
    if is_iter_based(runner):
        return interval
    return interval * len(runner.train_dataloader)


def _or_why(name: str, function: Callable, *args):
    """Return what a function returns; None if it fails, and log why."""
    try:
        return function(*args)
    except NoTargetsError as error:
        reason = str(error)
    except Exception as error:  # Of a data set or a model, in a use of ours.
        reason = f'{type(error).__name__}: {error}'
    # That of a worker ends with its traceback.
    lines = reason.strip().splitlines()
    _tell(name, lines[-1 if 'in DataLoader worker' in lines[0] else 0])
    return None


def _tell(name: str, reason: str) -> None:
    print_log(
        f'EnhancedTensorBoardHook writes no {name}/loss: {reason}.',
        logger='current',
        level=logging.INFO)
