# Copyright (c) OpenMMLab. All rights reserved.
import functools
import math
from collections import deque
from typing import Dict, Iterator, List, Optional, Set, Tuple

import numpy as np
from torch import nn

from ..core.arguments import GRAD_NORM_INTERVAL, LOG_DETAILS, LOG_HEALTH
from ..core.measurements import Losses
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import (bare_model, losses_of_iteration,
                                 value_of_iteration)
from ..core.schedule import Interval
from ..core.statistics.recent_losses import RecentLosses
from ..writers.record import Record, Scalar, Value

# The largest number of iterations between two measurements. A spike is known
# 50 iterations later, and the samples of the last 1000 batches are.
_MAX_HELD = 900
# This many consecutive losses of exactly 0 are reported at once.
_ZEROS = 20


@MONITORS.register_module()
class LossMonitor(Monitor):
    """Log the losses of all iterations, also of those not logged elsewhere.

    ================================ =======================================
    ``health/loss/median``           Median of the losses since the last
                                     measurement, and of 101 at least, with
                                     ``log_details``
    ``health/loss/deviation``        Their MAD standard deviation: 1.4826
                                     times the median absolute deviation, with
                                     ``log_details``
    ``health/loss/spike_score``      How far the loss that stands out most is
                                     above the median of the 50 before and
                                     the 50 after it: their MAD z-score, with
                                     ``log_details``
    ``health/loss/spike_ratio``      That loss over that median, with
                                     ``log_details``
    ``health/loss/spike_step``       Its step, with ``log_details``
    ``health/nonfinite_loss/<name>`` The first step since the last
                                     measurement at which this loss was NaN or
                                     infinite; only if there is one
    ================================ =======================================

    What it tells: How much the loss scatters between the points of
    ``LoggerHook``'s curve, and at which step a batch stood out: look at its
    samples.

    The first five are about the loss that is minimised. A spike is found when
    50 losses have followed it. Losses of small batches scatter by factors, so
    their logarithms are compared if all of them are positive; otherwise the
    losses are compared, and there is no ratio. As in a Hampel filter, a loss
    is compared with those on both sides: neither a falling loss nor a step in
    it stands out. The smaller batch at the end of an epoch scatters more: its
    loss does not count in the first five.

    The losses are those that MMEngine has brought to the host already. One
    that is NaN or infinite is written at once, since it may end the training;
    the others at the next measurement, after at most 900 iterations.

    Args:
        interval (int | dict | Schedule): At which iterations to measure.
        curves (bool): Whether to write the statistics of finite losses, which
            the report is made of in any case. Defaults to True.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_HEALTH, )
    settings = dict(interval=GRAD_NORM_INTERVAL, curves=LOG_DETAILS)
    # After gradients and weights: if one of them was NaN, it is the cause.
    priority = 'BELOW_NORMAL'

    def __init__(self,
                 interval: Interval,
                 curves: bool = True,
                 strict: bool = False) -> None:
        super().__init__(interval, strict)
        self.writes_curves = curves

    def before_train(self, runner) -> None:
        self._since = runner.iter
        # The losses since the last measurement, with their steps; and by name
        # the first step at which a loss was not finite.
        self._losses: List[Tuple[int, float]] = []
        # The last ones of each single loss.
        self._parts: Dict[str, deque] = {}
        self._nonfinite: Dict[str, int] = {}
        # All so far: some batches may have other losses than others.
        self._names: Set[str] = set()
        self._num_zero = 0
        self._accuracies: List[float] = []
        self._settings = LossSettings(
            bare_model(runner.model),
            getattr(runner.train_dataloader, 'dataset', None))
        self._recent = RecentLosses()
        # None where batches may be of any size.
        self._batch_size = getattr(runner.train_dataloader, 'batch_size', None)

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        step = runner.iter + 1
        if self.schedule.interval_at(step) == 0:
            return
        whole = not self._batch_size or _size(data_batch) >= self._batch_size
        nonfinite = {}
        for name, loss in losses_of_iteration(runner.message_hub, outputs
                                              or {}):
            self._names.add(name)
            if not math.isfinite(loss):
                nonfinite[name] = step
            # Exactly 0 is the loss of a batch in which nothing is annotated.
            elif name == 'loss':
                if loss and whole:
                    self._losses.append((step, loss))
            elif whole:
                self._parts.setdefault(name, deque(
                    maxlen=RecentLosses.NUMBER)).append(loss)
            if name == 'loss':
                self._num_zero = 0 if loss else self._num_zero + 1
        if 'acc_pose' in (outputs or {}):
            self._accuracies.append(
                value_of_iteration(runner.message_hub, 'acc_pose'))
        new = {n: nonfinite[n] for n in nonfinite if n not in self._nonfinite}
        if new:
            self._nonfinite.update(new)
            self._hand_over_at_once(step, new)
        elif self._num_zero and self._num_zero % _ZEROS == 0:
            self._hand_over_at_once(step, {})
        if self.is_due(step) or step - self._since >= _MAX_HELD:
            self._hand_over(step)

    def after_train(self, runner) -> None:
        self._hand_over(runner.iter)

    def _hand_over_at_once(self, step: int, nonfinite: Dict[str, int]) -> None:
        measured = Losses(nonfinite=nonfinite, num_zero=self._num_zero)
        self.emit(
            Record(
                step, lambda: [
                    *(Scalar(f'health/nonfinite_loss/{name}', float(step))
                      for name in nonfinite), measured
                ]))

    def _hand_over(self, step: int) -> None:
        self._since = step
        nonfinite, self._nonfinite = self._nonfinite, {}
        losses, self._losses = self._losses, []
        terms = (*((name, 1.)
                   for name in sorted(self._names)), *self._settings.values())
        accuracy = (
            float(np.mean(self._accuracies)) if self._accuracies else None)
        self._accuracies = []
        parts = {}
        if len(self._parts) > 1:
            parts = {name: list(last) for name, last in self._parts.items()}
        if losses:
            self.emit(
                Record(
                    step,
                    functools.partial(self._values, losses, nonfinite,
                                      self._num_zero, accuracy, terms, parts)))

    def _values(self, losses: List[Tuple[int, float]], nonfinite: Dict[str,
                                                                       int],
                num_zero: int, accuracy: Optional[float], terms: tuple,
                parts: Dict[str, list]) -> Iterator[Value]:
        self._recent.add(*zip(*losses))
        found = dict(self._recent.statistics())
        spike = self._recent.spike()
        if spike is not None:
            found.update({
                f'spike_{quantity}': float(value)
                for quantity, value in spike._asdict().items()
                if value is not None
            })
        for quantity, value in found.items() if self.writes_curves else ():
            yield Scalar(f'health/loss/{quantity}', value)
        yield Losses(found['median'], found['deviation'], spike, nonfinite,
                     num_zero, accuracy, terms,
                     {k: float(np.median(v))
                      for k, v in parts.items()}, len(self._recent.last),
                     len(losses), min(loss for _, loss in losses))


class LossSettings:
    """Follow the settings that a loss may depend on.

    These are all numbers of the model that are called a weight, or stand in a
    list or dict that is, and all flags: ``head.loss_module.loss_weight``,
    ``loss_weights['kpt']``, ``head.use_aux_loss``. And how often the pipeline
    of the training data has been replaced, as by ``PipelineSwitchHook``.

    Args:
        model (nn.Module): The model.
        dataset (Dataset, optional): The training data. Defaults to None.
    """

    def __init__(self, model: nn.Module, dataset=None) -> None:
        # Layers of PyTorch have none.
        self._places = [(name, module, key)
                        for name, module in model.named_modules()
                        if not type(module).__module__.startswith('torch.')
                        for key, value in vars(module).items()
                        if key != 'training' and _numbers(key, value)]
        self._dataset = dataset
        self._pipeline = getattr(dataset, 'pipeline', None)
        self._pipelines = 0

    def values(self) -> List[Tuple[str, float]]:
        """Return name and value of each, as they are now."""
        pipeline = getattr(self._dataset, 'pipeline', None)
        if pipeline is not self._pipeline:
            self._pipeline = pipeline
            self._pipelines += 1
        return [
            ('pipelines', float(self._pipelines)),
            *((f'{name}.{key}{place}', value)
              for name, module, key in self._places
              for place, value in _numbers(key, getattr(module, key, None)))
        ]


def _numbers(key: str, value) -> List[Tuple[str, float]]:
    """Return the numbers in an attribute, if it is a setting, with a place."""
    if isinstance(value, bool):
        return [('', float(value))]
    if 'weight' not in key:
        return []
    items = [('', value)]
    if isinstance(value, dict):
        items = [(f'.{k}', v) for k, v in value.items()]
    elif isinstance(value, (list, tuple)):
        items = [(f'.{i}', v) for i, v in enumerate(value)]
    return [(place, float(v)) for place, v in items
            if isinstance(v, (int, float))]


def _size(data_batch) -> float:
    """Return how many samples a batch of MMPose has; inf for others."""
    if isinstance(data_batch, dict) and 'inputs' in data_batch:
        return len(data_batch['inputs'])
    return math.inf
