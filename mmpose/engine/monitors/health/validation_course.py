# Copyright (c) OpenMMLab. All rights reserved.
import math
from typing import List, Optional, Tuple, Union

from ..core.measurements import Losses, ValidationMetrics
from ..core.metric_names import (MainMetric, learned_metric, main_metric,
                                 metric_of_best_checkpoint)

# The fraction by which the training loss has fallen, where the model has
# learned something.
_LEARNED = 0.1
# The number of validations in which it has to do so.
_LEARNED_WITHIN = 50


class ValidationCourse:
    """Follow the main metric over the validations of a training.

    Attributes:
        metric (MainMetric, optional): None until a validation has one, or
            until the course of one shows which values are better.
        values (list[float]): Its finite values.
        steps (list[int]): Their training steps.
        best (int): The index of the best value.
        loss (float, optional): The last median of the training loss.
        loss_at_best (float, optional): The same at the best validation.
    """

    def __init__(self, runner) -> None:
        self.metric: Optional[MainMetric] = metric_of_best_checkpoint(runner)
        self.values: List[float] = []
        self.steps: List[int] = []
        self.best = 0
        self.loss: Optional[float] = None
        self.loss_at_best: Optional[float] = None
        self._is_learned = False
        # The validations of which no metric is known, with the loss at each.
        self._unknown: List[Tuple[ValidationMetrics, Optional[float]]] = []

    def value_in(self, metrics: ValidationMetrics) -> Optional[float]:
        """Return the main metric of a validation, if it has it."""
        if self.metric is None:
            self.metric = main_metric(metrics.values)
        if self.metric is None:
            return None
        return metrics.values.get(self.metric.name)

    def add(self, measurement: Union[Losses, ValidationMetrics]) -> bool:
        """Add a validation, or losses of the training.

        Returns:
            bool: Whether it is a validation with a finite main metric.
        """
        if isinstance(measurement, Losses):
            if measurement.median is not None:
                self.loss = measurement.median
            return False
        value = self.value_in(measurement)
        if self.metric is None:
            value = self._learn(measurement)
        return self._append(measurement.iteration, value)

    def _learn(self, measurement: ValidationMetrics) -> Optional[float]:
        """Choose a metric by its course, and add its earlier values."""
        if len(self._unknown) >= _LEARNED_WITHIN:
            return None
        self._unknown.append((measurement, self.loss))
        losses = [loss for _, loss in self._unknown]
        if None in losses or (losses[0] - losses[-1] <=
                              _LEARNED * abs(losses[0])):
            return None
        self.metric = learned_metric(
            [metrics.values for metrics, _ in self._unknown])
        if self.metric is None:
            return None
        self._is_learned = True
        *earlier, _ = self._unknown
        self._unknown = []
        loss = self.loss
        for metrics, self.loss in earlier:
            self._append(metrics.iteration, self.value_in(metrics))
        self.loss = loss
        return self.value_in(measurement)

    def _append(self, iteration: int, value: Optional[float]) -> bool:
        if value is None or not math.isfinite(value):
            return False
        self.steps.append(iteration)
        self.values.append(value)
        if self.metric.sign * (value - self.values[self.best]) > 0:
            self.best = self.last
        if self.is_best:
            self.loss_at_best = self.loss
        return True

    @property
    def last(self) -> int:
        return len(self.values) - 1

    @property
    def is_best(self) -> bool:
        """Whether the last value is the best one."""
        return self.best == self.last

    @property
    def knows_losses(self) -> bool:
        """Whether the loss is known now and at the best validation."""
        return None not in (self.loss, self.loss_at_best)

    @property
    def tag(self) -> str:
        return f'val/{self.metric.name}'

    def numbers(self) -> str:
        """Return the best and the last value, in words."""
        why = ''
        if self._is_learned:
            which = 'higher' if self.metric.sign > 0 else 'lower'
            why = (f' It is taken to be better when it is {which}, since it '
                   'became so while the loss fell in the beginning.')
        return (f'It was {self.values[self.best]:.4g} and is '
                f'{self.values[self.last]:.4g} {self.last - self.best} '
                f'validations later.{why}')
