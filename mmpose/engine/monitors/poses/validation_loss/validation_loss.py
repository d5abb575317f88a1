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
from torch import Tensor, nn

from ...core.arguments import LOG_DETAILS, Arguments, count
from ...core.monitor import Chart, Monitor
from ...core.pose_measurements import FixedLosses
from ...core.registry import MONITORS
from ...core.runner_parts import (bare_model, data_set, evaluation_step,
                                  has_ema_model, is_iter_based,
                                  needs_all_ranks, validation_precision)
from ...core.side_effects import ACCURACY, evaluation_losses
from ...writers.record import Record, Scalar, Value
from ..accuracy.keypoint_tally import usable_sigmas
from ..model_kinds import is_top_down
from ..pose_samples import PoseSample, PoseSampleReader
from .loss_samples import (LoadOnce, LossBatch, pickle_first, training_samples,
                           validation_samples)
from .targets import NoTargetsError
from .training_accuracy import TrainingAccuracy, predicted_samples

VAL_LOSS_SAMPLES = count(
    'val_loss_samples',
    'Of how many samples of the validation, and of as many of the training, '
    'the loss is computed at each validation, see '
    ':class:`ValidationLossMonitor`. The value of a preset is reduced in '
    'short trainings, down to 8, so that it takes less than 1 % of the time. '
    '0: none.',
    presets=dict(fast=16, balanced=64, detailed=64))

# A forward pass takes a third of the time of a training iteration: one in this
# many of the samples trained between two validations takes 0.5 % of the time
# for two losses and a prediction.
_ONE_IN = 200
_LEAST = 8
_PREFIXES = ('val', 'train_as_val')
_BATCH_SIZE = 8


@MONITORS.register_module()
class ValidationLossMonitor(Monitor):
    """Log the loss of the validation, and what can be compared with it.

    ============================================== ===========================
    ``val/loss``                                   Loss of a fixed sample of
                                                   the validation
    ``val/<term>``                                 Its terms, if there are
                                                   several: ``val/loss_bbox``
    ``train_as_val/loss``                          The same for training
                                                   samples that are prepared
                                                   like those of the
                                                   validation, without
                                                   augmentation
    ``train_as_val/<term>``                        Its terms, if there are
                                                   several
    ``keypoints/train_as_val/PCK@0.05``            PCK@0.05 of all keypoints
                                                   of these training samples;
                                                   top-down models. Where
                                                   there are sigmas, with
                                                   ``log_details``
    ``keypoints/train_as_val/PCK@0.05/<keypoint>`` Of each keypoint, with
                                                   ``log_details``
    ``keypoints/train_as_val/OKS``                 Mean OKS of these instances,
                                                   to be compared with
                                                   ``instances/OKS``, where
                                                   there are sigmas
    ``keypoints/train_as_val/OKS/<keypoint>``      Keypoint similarity (KS) of
                                                   each keypoint, with
                                                   ``log_details``
    ============================================== ===========================

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
        by_keypoint (bool): Whether to log the PCK of each keypoint. Defaults
            to False.
        is_limit (bool): Whether there may be fewer in a short training.
            Defaults to False.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (VAL_LOSS_SAMPLES, )
    settings = dict(samples=VAL_LOSS_SAMPLES, by_keypoint=LOG_DETAILS)
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
                 by_keypoint: bool = False,
                 is_limit: bool = False,
                 strict: bool = False) -> None:
        super().__init__(strict=strict)
        self._samples = samples
        self._by_keypoint = by_keypoint
        self._is_limit = is_limit
        self._trains = False
        self._losses: Dict[str, Losses] = {}
        self._predicted: List[PoseSample] = []
        # The first one of the training since the last validation, pickled.
        # What has just been learned would have a lower loss.
        self._batch: Optional[bytes] = None
        self._batch_fails = False

    def charts_of(self, runner) -> Sequence[Chart]:
        return () if needs_all_ranks(runner.model) else self.charts

    def before_train(self, runner) -> None:
        self._dataset = None
        self._loading: Dict[str, LoadOnce] = {}
        self._batches: Dict[str, List[LossBatch]] = {}
        self._losses = {}
        self._predicted = []
        self._batch = None
        self._batch_fails = False
        self._trains = not needs_all_ranks(runner.model)
        if not self._trains:
            _tell(
                'val', 'the model is sharded, or wrapped part by part, so '
                'that its loss takes all ranks')

    def after_train(self, runner) -> None:
        self._trains = False
        self._loading = {}
        self._batches = {}
        self._batch = None

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        if self._trains and self._batch is None and not self._batch_fails:
            # The model may change it, and it may lie in shared memory.
            self._batch = _or_why('batch', pickle_first, data_batch,
                                  self._samples)
            self._batch_fails = self._batch is None

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
            self._compute_batch(runner)
            self._batch = None

    def after_val_epoch(self, runner, metrics: Optional[Dict]) -> None:
        losses, self._losses = self._losses, {}
        samples, self._predicted = self._predicted, []
        if not losses:
            return
        # An evaluator may have a metric of this name.
        taken = [f'val/{name}' for name in metrics or ()]
        values = functools.partial(self._values, runner.iter, losses, samples,
                                   taken)
        self.emit(
            Record(
                evaluation_step(runner), values,
                [of_one.values for of_one in losses.values()]))

    def _values(self, iteration: int, losses: Dict[str, 'Losses'],
                samples: List[PoseSample], taken: Sequence[str],
                *arrays: np.ndarray) -> Iterator[Value]:
        means = {
            prefix: _means(of_samples, values)
            for (prefix, of_samples), values in zip(losses.items(), arrays)
        }
        for prefix in _PREFIXES:
            yield from _scalars(prefix, means.get(prefix, {}), taken)
        pck = None
        if samples:
            meta, sigmas = self._keypoints
            found = TrainingAccuracy(samples, meta, sigmas)
            yield from found.scalars(self._by_keypoint)
            pck = found.pck
        losses, accuracies = ([
            means.get(prefix, {}).get(name) for prefix in (*_PREFIXES, 'batch')
        ] for name in ('loss', ACCURACY))
        yield FixedLosses(iteration, *losses, pck, *accuracies[1:])

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
                                               validation)

    def _compute(self, runner, name: str) -> None:
        batches = self._batches[name]
        with validation_precision(runner):
            losses = _or_why(name, mean_losses, bare_model(runner.model),
                             batches)
        if losses is None:
            self._batches[name] = []
            return
        self._losses[name] = losses
        if name == 'train_as_val' and is_top_down(bare_model(runner.model)):
            with validation_precision(runner), self.guard:
                self._predict(runner)

    def _predict(self, runner) -> None:
        """Predict the training samples, whose accuracy is measured later."""
        reader = PoseSampleReader(
            data_set(runner.train_dataloader), runner.val_evaluator)
        samples = predicted_samples(
            bare_model(runner.model), self._batches['train_as_val'], reader)
        if samples:
            number = samples[0].truth.shape[1]
            meta = reader.meta(None, number)
            self._keypoints = meta, usable_sigmas(meta.get('sigmas'), number)
        self._predicted = samples

    def _compute_batch(self, runner) -> None:
        """Compute the loss of a batch of the training.

        It differs from ``train_as_val`` in the pipeline alone. Not with an EMA
        model, which may be far behind.
        """
        if 'train_as_val' not in self._losses or has_ema_model(runner):
            return
        if self._batch is None or self._batch_fails:
            return
        with validation_precision(runner):
            losses = _or_why('batch', self._losses_of_batch,
                             bare_model(runner.model))
        if losses is None:
            self._batch_fails = True
        else:
            self._losses['batch'] = losses

    def _losses_of_batch(self, model: nn.Module) -> 'Losses':
        return mean_losses(model, [LossBatch(self._batch, 1)])


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
        Losses: The accuracy of the head is among them, if it returns it. What
        the model does not return for a batch, as where no instance is matched,
        is 0.
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


def _means(losses: Losses, values: np.ndarray) -> Dict[str, float]:
    means = np.average(values.astype(float), axis=0, weights=losses.sizes)
    return dict(zip(losses.names, means.tolist()))


def _scalars(prefix: str, means: Dict[str, float],
             taken: Sequence[str]) -> Iterator[Value]:
    means = {name: mean for name, mean in means.items() if name != ACCURACY}
    for name, mean in means.items():
        tag = f'{prefix}/{name}'
        # The only term is the loss.
        if tag not in taken and (name == 'loss' or len(means) > 2):
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
    _tell(name, reason.strip().splitlines()[0])
    return None


def _tell(name: str, reason: str) -> None:
    missing = f'writes no {name}/loss'
    if name == 'batch':  # There is no curve of it.
        missing = 'does not look at the loss of a batch of the training'
    print_log(
        f'EnhancedTensorBoardHook {missing}: {reason}.',
        logger='current',
        level=logging.INFO)
