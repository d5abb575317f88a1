# Copyright (c) OpenMMLab. All rights reserved.
import functools
import math
from typing import Dict, Iterator, List, Optional, Sequence, Set, Tuple

import numpy as np
from torch import nn

from ..core.arguments import GRAD_NORM_INTERVAL, LOG_DETAILS, LOG_HEALTH
from ..core.measurements import Losses, Spike
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import (bare_model, losses_of_iteration,
                                 value_of_iteration)
from ..core.schedule import Interval
from ..writers.record import Record, Scalar, Value

# The largest number of iterations between two measurements.
_MAX_HELD = 1000
# This many consecutive losses of exactly 0 are reported at once.
_ZEROS = 20
# The number of losses before and after a loss that it is compared with. With
# 25 the scatter is estimated so badly that one in 100,000 healthy losses
# stands out. With 50 none of 300,000 did, drawn from normal, gamma and
# exponential distributions.
_REACH = 50
# The scatter is taken to be 5 % at least: any loss may move by that.
_LEAST_SCATTER = 0.05


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
    the others at the next measurement, after at most 1000 iterations.

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
        self._nonfinite: Dict[str, int] = {}
        self._names: Set[str] = set()
        self._num_zero = 0
        self._accuracies: List[float] = []
        self._settings = LossSettings(bare_model(runner.model))
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
            elif name == 'loss' and loss and whole:
                self._losses.append((step, loss))
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
        self._names = set()
        accuracy = (
            float(np.mean(self._accuracies)) if self._accuracies else None)
        self._accuracies = []
        if losses:
            self.emit(
                Record(
                    step,
                    functools.partial(self._values, losses, nonfinite,
                                      self._num_zero, accuracy, terms)))

    def _values(self, losses: List[Tuple[int, float]],
                nonfinite: Dict[str, int], num_zero: int,
                accuracy: Optional[float], terms: tuple) -> Iterator[Value]:
        self._recent.add(*zip(*losses))
        found = dict(self._recent.statistics())
        for quantity, value in found.items() if self.writes_curves else ():
            yield Scalar(f'health/loss/{quantity}', value)
        spike = None
        if 'spike_score' in found:
            spike = Spike(
                int(found['spike_step']), found['spike_score'],
                found.get('spike_ratio'))
        yield Losses(found['median'], found['deviation'], spike, nonfinite,
                     num_zero, accuracy, terms)


class LossSettings:
    """Follow the settings of a model that its loss may depend on.

    These are all numbers that are called a weight and all flags, such as
    ``head.loss_module.loss_weight`` and ``head.use_aux_loss``.

    Args:
        model (nn.Module): The model.
    """

    def __init__(self, model: nn.Module) -> None:
        # Layers of PyTorch have none.
        self._places = [(name, module, key)
                        for name, module in model.named_modules()
                        if not type(module).__module__.startswith('torch.')
                        for key, value in vars(module).items()
                        if key != 'training' and _is_setting(key, value)]

    def values(self) -> List[Tuple[str, float]]:
        """Return name and value of each, as they are now."""
        return [(f'{name}.{key}', float(value))
                for name, module, key in self._places
                for value in (getattr(module, key, None), )
                if _is_setting(key, value)]


def _is_setting(key: str, value) -> bool:
    return isinstance(
        value, bool) or 'weight' in key and isinstance(value, (int, float))


def _size(data_batch) -> float:
    """Return how many samples a batch of MMPose has; inf for others."""
    if isinstance(data_batch, dict) and 'inputs' in data_batch:
        return len(data_batch['inputs'])
    return math.inf


class RecentLosses:
    """Find what stands out among the last losses of a training."""

    def __init__(self) -> None:
        self._steps = np.empty(0, dtype=int)
        self._losses = np.empty(0)

    def add(self, steps: Sequence[int], losses: Sequence[float]) -> None:
        """Add the losses since the last measurement.

        Args:
            steps (Sequence[int]): One or more steps, ascending.
            losses (Sequence[float]): Their losses, finite and not 0.
        """
        # The earlier ones were judged already; they are compared with.
        self._steps = np.append(self._steps[-2 * _REACH:], steps)
        self._losses = np.append(self._losses[-2 * _REACH:], losses)
        self._added = len(losses)

    def statistics(self) -> Iterator[Tuple[str, float]]:
        """Compute the values in the table of :class:`LossMonitor`.

        Yields:
            tuple[str, float]: Name and value.
        """
        last = self._losses[-max(self._added, 2 * _REACH + 1):]
        yield 'median', np.median(last)
        yield 'deviation', _mad_std(last)
        if len(self._losses) > 2 * _REACH:
            yield from self._spike()

    def _spike(self) -> Iterator[Tuple[str, float]]:
        places = np.arange(_REACH, len(self._losses) - _REACH)
        around = self._losses[places[:, None] + np.arange(-_REACH, _REACH + 1)]
        positive = (around > 0).all(axis=1)
        around[positive] = np.log(around[positive])
        median = np.median(around, axis=1)
        floor = _LEAST_SCATTER * np.where(positive, 1, abs(median))
        scatter = np.maximum(_mad_std(around), floor)
        height = around[:, _REACH] - median
        score = np.divide(
            height, scatter, out=np.zeros_like(height), where=scatter > 0)
        i = score.argmax()
        yield 'spike_score', score[i]
        if positive[i]:
            yield 'spike_ratio', np.exp(height[i])
        yield 'spike_step', float(self._steps[places[i]])


def _mad_std(values: np.ndarray) -> np.ndarray:
    """Compute MAD standard deviations over the last dimension."""
    # MMPose's data sets have imported it already.
    from scipy.stats import median_abs_deviation
    return median_abs_deviation(values, axis=-1, scale='normal')
