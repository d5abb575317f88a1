# Copyright (c) OpenMMLab. All rights reserved.
import math
from typing import List, Optional

from ..core.measurements import ValidationMetrics
from ..core.metric_names import (MainMetric, main_metric,
                                 metric_of_best_checkpoint)


class ValidationCourse:
    """The main metric over the validations of a training.

    Attributes:
        metric (MainMetric, optional): None until a validation has one.
        values (list[float]): Those that are finite.
        steps (list[int]): Their training steps.
        best (int): Where in them the best one is.
    """

    def __init__(self, runner) -> None:
        self.metric: Optional[MainMetric] = metric_of_best_checkpoint(runner)
        self.values: List[float] = []
        self.steps: List[int] = []
        self.best = 0

    def value_in(self, metrics: ValidationMetrics) -> Optional[float]:
        """Return the main metric of a validation, if it has it."""
        if self.metric is None:
            self.metric = main_metric(metrics.values)
        if self.metric is None:
            return None
        return metrics.values.get(self.metric.name)

    def add(self, metrics: ValidationMetrics) -> bool:
        """Add a validation; return whether it has a finite main metric."""
        value = self.value_in(metrics)
        if value is None or not math.isfinite(value):
            return False
        self.steps.append(metrics.iteration)
        self.values.append(value)
        if self.metric.sign * (value - self.values[self.best]) > 0:
            self.best = self.last
        return True

    @property
    def last(self) -> int:
        return len(self.values) - 1

    @property
    def is_best(self) -> bool:
        """Whether the last value is the best one."""
        return self.best == self.last

    @property
    def tag(self) -> str:
        return f'val/{self.metric.name}'

    def numbers(self) -> str:
        """Return the best and the last value, in words."""
        return (f'It was {self.values[self.best]:.4g} and is '
                f'{self.values[self.last]:.4g} {self.last - self.best} '
                'validations later.')
