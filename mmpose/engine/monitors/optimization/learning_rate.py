# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, Iterator, List, Tuple

from torch import Tensor

from ..core.arguments import (GRAD_NORM_INTERVAL, LOG_DETAILS,
                              MAX_LAYERS_TO_LOG, Arguments, flag)
from ..core.measurements import LearningRates
from ..core.monitor import Chart, Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import optim_wrappers
from ..core.schedule import Interval
from ..writers.record import Record, Scalar, Value

_LOG_LR = flag(
    'log_lr', 'Write learning rate, momentum and weight decay, '
    'see :class:`LearningRateMonitor`.')


@MONITORS.register_module()
class LearningRateMonitor(Monitor):
    """Log the settings of the optimizer in an iteration.

    =================================== ===================================
    ``train/learning_rate/lr``          Learning rate
    ``train/momentum/momentum``         Momentum, or the first of Adam's betas,
                                        with ``log_details``
    ``train/weight_decay/weight_decay`` Weight decay, with ``log_details``
    ``train/<setting>/group_<i>``       The same of a param group, where there
                                        are several
    =================================== ===================================

    What it tells: Whether warm-up, decay and ``lr_mult`` are as intended.
    Momentum and weight decay are constant unless something schedules them.

    With several optimizers, the optimizer's name precedes the last part.
    A config with ``paramwise_cfg`` makes a param group of every parameter. If
    there are more groups than ``max_layers_to_log``, those whose values have
    always been equal are written once, under the lowest of their numbers.

    Args:
        interval (int | dict | Schedule): At which iterations to measure.
        max_groups (int): The number of param groups up to which each has
            curves of its own. -1: always.
        curves (bool): Whether to write curves; :class:`HealthMonitor` needs
            the learning rates in any case. Defaults to True.
        every_setting (bool): Whether to write more than the learning rates.
            Defaults to True.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (_LOG_LR, )
    settings = dict(
        interval=GRAD_NORM_INTERVAL,
        max_groups=MAX_LAYERS_TO_LOG,
        curves=_LOG_LR,
        every_setting=LOG_DETAILS)
    charts = (Chart(
        'Overview', 'learning rate', 'train/learning_rate/', position=20), )

    def __init__(self,
                 interval: Interval,
                 max_groups: int,
                 curves: bool = True,
                 every_setting: bool = True,
                 strict: bool = False) -> None:
        super().__init__(interval, strict)
        self._max_groups = max_groups
        self.writes_curves = curves
        self._every_setting = every_setting

    @classmethod
    def is_wanted(cls, given: Arguments) -> bool:
        return given.log_lr or given.is_on('log_health')

    def before_train(self, runner) -> None:
        # By optimizer and its number of groups: for each group the first one
        # that has had the same values so far.
        self._leaders: Dict[Tuple[str, int], List[int]] = {}

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        # In ``after_train_iter`` schedulers have already set the values of the
        # next iteration.
        step = runner.iter + 1
        if not self.is_due(step):
            return
        settings, rates = [], []
        for name, optim_wrapper in optim_wrappers(runner.optim_wrapper):
            optimizer = optim_wrapper.optimizer
            if self.writes_curves:
                settings += self._settings_of(name, optimizer)
            rates += [(name, rate)
                      for rate in _distinct_rates(optimizer.param_groups)]
        # A capturable optimizer's learning rate is a tensor that it changes.
        tensors = [
            value.detach().clone() for _, value in settings + rates
            if isinstance(value, Tensor)
        ]

        def values(*arrays) -> Iterator[Value]:
            arrays = iter(arrays)
            numbers = [
                float(next(arrays) if isinstance(value, Tensor) else value)
                for _, value in settings + rates
            ]
            for (tag, _), number in zip(settings, numbers):
                yield Scalar(tag, number)
            highest: Dict[str, float] = {}
            for (name, _), rate in zip(rates, numbers[len(settings):]):
                highest[name] = max(rate, highest.get(name, rate))
            yield LearningRates(highest)

        self.emit(Record(step, values, tensors))

    def _settings_of(self, name: str,
                     optimizer) -> Iterator[Tuple[str, object]]:
        groups = [
            _settings(group) if self._every_setting else dict(
                learning_rate=group['lr']) for group in optimizer.param_groups
        ]
        if 0 <= self._max_groups < len(groups):
            numbers = self._follow(name, groups)
        else:
            numbers = range(len(groups))
        for i in numbers:
            for quantity, value in groups[i].items():
                short = 'lr' if quantity == 'learning_rate' else quantity
                last = short if len(groups) == 1 else f'group_{i}'
                parts = ['train', quantity, name, last]
                yield '/'.join(part for part in parts if part), value

    def _follow(self, name: str, groups: List[dict]) -> List[int]:
        """Return the groups that differ from all groups before them."""
        leaders = self._leaders.setdefault((name, len(groups)),
                                           [0] * len(groups))
        first: Dict[tuple, int] = {}
        for i, group in enumerate(groups):
            # A group that differs from its leader now never comes back.
            key = (leaders[i], *map(_comparable, group.values()))
            leaders[i] = first.setdefault(key, i)
        return sorted(first.values())


def _distinct_rates(groups: List[dict]) -> list:
    """Return the learning rates of param groups, each number once."""
    return list({_comparable(group['lr']): group['lr']
                 for group in groups}.values())


def _settings(group: dict) -> dict:
    """Return the settings that a param group has."""
    settings = dict(
        learning_rate=group['lr'],
        momentum=group.get('momentum',
                           group.get('betas', (None, ))[0]),
        weight_decay=group.get('weight_decay'))
    return {k: v for k, v in settings.items() if v is not None}


def _comparable(value):
    """Return what to compare: a tensor's value would wait for the device."""
    return id(value) if isinstance(value, Tensor) else value
