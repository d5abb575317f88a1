# Copyright (c) OpenMMLab. All rights reserved.
import functools
import math
from collections import defaultdict
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from ..core.arguments import GRAD_NORM_INTERVAL, LOG_HEALTH
from ..core.measurements import Losses, Spike
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import bare_model
from ..core.schedule import Interval
from ..writers.record import Record, Scalar, Value

# The most iterations whose losses are held back for one reading.
_MAX_HELD = 1000
# A loss is compared with so many before it and so many after it. With 25, the
# scatter of healthy losses is estimated so badly that one in 100,000 stands
# out; with 50, none of 300,000 drawn from normal, gamma and exponential
# distributions did.
_REACH = 50
# Of so much, 5 %, any loss may move: a floor under a scatter of almost none.
_LEAST_SCATTER = 0.05
# The standard deviation of a normal distribution over its median absolute
# deviation.
_MAD_TO_STD = 1.4826


@MONITORS.register_module()
class LossMonitor(Monitor):
    """The losses of all iterations, also of those between two readings.

    ================================ =======================================
    ``health/loss/median``           Median of the losses since the last
                                     reading, and of 101 at least
    ``health/loss/deviation``        Their robust standard deviation: 1.4826
                                     times the median absolute deviation
    ``health/loss/spike_score``      How far the loss that stands out most is
                                     above the median of the 50 before and
                                     the 50 after it, in their robust standard
                                     deviations
    ``health/loss/spike_ratio``      That loss over that median
    ``health/loss/spike_step``       Its step
    ``health/nonfinite_loss/<name>`` The first step since the last reading at
                                     which this loss was NaN or infinite;
                                     there only if one was
    ================================ =======================================

    What it tells: How much the loss scatters between the points of
    ``LoggerHook``'s curve, and at which step a batch stood out: look at its
    samples.

    The first five are of the loss that is minimised. A spike is looked for
    where 50 losses follow, so it is seen 50 iterations later. Losses of small
    batches scatter by factors: where all of them are positive their logarithms
    are compared, elsewhere they themselves, and there is no ratio. Comparing
    with the losses on both sides is what the Hampel filter does: neither a
    falling loss nor a step of it stands out. A batch that is not whole, at the
    end of an epoch, scatters by more: its loss does not count in the first
    five.

    Each tensor is kept as it is and brought to the host with all others at
    the next reading; there is one after 1000 iterations at the latest.

    Args:
        interval (int | dict | Schedule): At which iterations to read.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_HEALTH, )
    settings = dict(interval=GRAD_NORM_INTERVAL)

    def __init__(self, interval: Interval, strict: bool = False) -> None:
        super().__init__(interval, strict)
        self._held: Dict[str, Held] = {}

    def before_train(self, runner) -> None:
        self._held = defaultdict(list)
        self._since = runner.iter
        self._recent = RecentLosses()
        # None where batches may be of any size.
        self._batch_size = getattr(runner.train_dataloader, 'batch_size', None)
        self._incomplete: List[int] = []
        self._num_zero = 0
        self._settings = LossSettings(bare_model(runner.model))

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        step = runner.iter + 1
        if self.schedule.interval_at(step) == 0:
            return
        for name, value in (outputs or {}).items():
            # As in MMEngine, which also has accuracies in there.
            if 'loss' in name and isinstance(value, Tensor):
                self._held[name].append((step, value.detach()))
        if self._batch_size and _size(data_batch) < self._batch_size:
            self._incomplete.append(step)
        if self.is_due(step) or step - self._since >= _MAX_HELD:
            self._hand_over(step)

    def after_train(self, runner) -> None:
        self._hand_over(runner.iter)

    def _hand_over(self, step: int) -> None:
        self._since = step
        held, self._held = self._held, defaultdict(list)
        incomplete, self._incomplete = self._incomplete, []
        if held:
            terms = (*((name, 1.) for name in held if name != 'loss'),
                     *self._settings.values())
            steps = {
                name: np.array([step for step, _ in pairs])
                for name, pairs in held.items()
            }
            tensors = [
                torch.stack([value.reshape(()) for _, value in pairs])
                for pairs in held.values()
            ]
            self.emit(
                Record(
                    step,
                    functools.partial(self._values, steps, incomplete, terms),
                    tensors))

    def _values(self, steps: Dict[str, np.ndarray], incomplete: List[int],
                terms: Tuple[Tuple[str, float],
                             ...], *losses: np.ndarray) -> Iterator[Value]:
        nonfinite: Dict[str, int] = {}
        statistics: Dict[str, float] = {}
        for (name, at), values in zip(steps.items(), losses):
            finite = np.isfinite(values)
            if not finite.all():
                nonfinite[name] = int(at[finite.argmin()])
                yield Scalar(f'health/nonfinite_loss/{name}', nonfinite[name])
            if name == 'loss':
                self._count_zeros(values)
            # Exactly 0 is the loss of a batch in which nothing is annotated.
            counts = finite & (values != 0) & ~np.isin(at, incomplete)
            if name == 'loss' and counts.any():
                self._recent.add(at[counts], values[counts])
                statistics = dict(self._recent.statistics())
                for quantity, value in statistics.items():
                    yield Scalar(f'health/loss/{quantity}', value)
        yield _measurement(statistics, nonfinite, self._num_zero, terms)

    def _count_zeros(self, losses: np.ndarray) -> None:
        others = np.flatnonzero(losses)
        if len(others):
            self._num_zero = 0
        last = others[-1] + 1 if len(others) else 0
        self._num_zero += len(losses) - last


def _measurement(statistics: Dict[str, float], nonfinite: Dict[str, int],
                 num_zero: int, terms: tuple) -> Losses:
    spike = None
    if 'spike_score' in statistics:
        spike = Spike(
            int(statistics['spike_step']), statistics['spike_score'],
            statistics.get('spike_ratio'))
    return Losses(
        statistics.get('median'), statistics.get('deviation', 0.), spike,
        nonfinite, num_zero, terms)


class LossSettings:
    """The settings of a model that may change what its loss is.

    Every number called a weight, and every switch, such as
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
    """How many samples a batch has, as MMPose has it; inf if it has not."""
    if isinstance(data_batch, dict) and 'inputs' in data_batch:
        return len(data_batch['inputs'])
    return math.inf


Held = List[Tuple[int, Tensor]]


class RecentLosses:
    """The last losses of a training, and what stands out among them."""

    def __init__(self) -> None:
        self._steps = np.empty(0, dtype=int)
        self._losses = np.empty(0)

    def add(self, steps: Sequence[int], losses: Sequence[float]) -> None:
        """Take in what has come since the last time.

        Args:
            steps (Sequence[int]): One or more steps, ascending.
            losses (Sequence[float]): Their losses, finite and not 0.
        """
        # Those before were judged already: they are here to compare with.
        self._steps = np.append(self._steps[-2 * _REACH:], steps)
        self._losses = np.append(self._losses[-2 * _REACH:], losses)
        self._added = len(losses)

    def statistics(self) -> Iterator[Tuple[str, float]]:
        """What :class:`LossMonitor` has in its table.

        Yields:
            tuple[str, float]: Name and value.
        """
        last = self._losses[-max(self._added, 2 * _REACH + 1):]
        yield 'median', np.median(last)
        yield 'deviation', _robust_std(last)
        if len(self._losses) > 2 * _REACH:
            yield from self._spike()

    def _spike(self) -> Iterator[Tuple[str, float]]:
        places = np.arange(_REACH, len(self._losses) - _REACH)
        around = self._losses[places[:, None] + np.arange(-_REACH, _REACH + 1)]
        positive = (around > 0).all(axis=1)
        around[positive] = np.log(around[positive])
        median = np.median(around, axis=1)
        floor = _LEAST_SCATTER * np.where(positive, 1, abs(median))
        scatter = np.maximum(_robust_std(around), floor)
        height = around[:, _REACH] - median
        score = np.divide(
            height, scatter, out=np.zeros_like(height), where=scatter > 0)
        i = score.argmax()
        yield 'spike_score', score[i]
        if positive[i]:
            yield 'spike_ratio', np.exp(height[i])
        yield 'spike_step', float(self._steps[places[i]])


def _robust_std(values: np.ndarray) -> np.ndarray:
    """Over the last dimension."""
    median = np.median(values, axis=-1, keepdims=True)
    return _MAD_TO_STD * np.median(abs(values - median), axis=-1)
