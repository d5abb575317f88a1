# Copyright (c) OpenMMLab. All rights reserved.
import math
from typing import Dict, List, Optional, Tuple

import numpy as np

from ....core.measurements import LearningRates, Losses, ValidationMetrics
from ....core.pose_measurements import FixedLosses
from ....core.registry import DETECTORS
from ....core.runner_parts import is_iter_based
from ...chains import MostSerious
from ...detector import Detector
from ...report import Finding
from ...validation_course import ValidationCourse

# The number of validations without a better one, and their fraction of all
# that are planned: a healthy curve may be flat for long before the learning
# rate is lowered.
_PATIENCE = 5
_PATIENCE_FRACTION = 1 / 3
# The count starts anew when the learning rate has fallen to this fraction, or
# has been raised.
_LOWERED = 0.5
# In this last fraction of a training little progress is expected.
_LAST_PART = 0.2
# A metric at this fraction of the best possible value cannot improve.
_PERFECT = 0.99

# The number of validations after the best one, and how many of the last ones
# count.
_OVERFITTING_VALIDATIONS = 5
_OVERFITTING_LAST = 3
# The same as fractions of all that are planned: between validations that
# follow close on each other the metric goes up and down slowly.
_OVERFITTING_FRACTION = 1 / 20
_OVERFITTING_LAST_FRACTION = 1 / 40
# They are worse than the best one by this fraction of it, and by this many
# times the usual change from one validation to the next.
_WORSE = 0.05
_WORSE_THAN_NOISE = 3
# From this number of validations on it is seen how long a change lasts. The
# correlation of a validation with the next one is taken for this at most.
_ENOUGH_FOR_CORRELATION = 40
_CORRELATION = .8
# Meanwhile the training loss has fallen by this fraction.
_BETTER = 0.1


@DETECTORS.register_module()
class OverfittingDetector(Detector):
    """``overfitting``: the main metric gets worse while the loss falls.

    Where the losses of fixed samples are known, the loss is that of training
    samples without augmentation, and that of the validation must not fall.

    Args:
        worse (float): The fraction of its best value by which the metric is
            worse. Defaults to 0.05.
    """

    findings = ('overfitting', )
    wants = (FixedLosses, Losses, ValidationMetrics)
    chain = MostSerious
    priority = 'ABOVE_NORMAL'

    def __init__(self, worse: float = _WORSE) -> None:
        self._worse = worse

    def before_train(self, runner) -> None:
        self._course = ValidationCourse(runner)
        planned = _planned_validations(runner)
        self._least = max(_OVERFITTING_VALIDATIONS,
                          int(_OVERFITTING_FRACTION * planned))
        self._num_last = max(_OVERFITTING_LAST,
                             int(_OVERFITTING_LAST_FRACTION * planned))
        self._fixed: Dict[int, FixedLosses] = {}
        self._present: List[Finding] = []

    def see(self, step: int, measurement) -> Optional[List[Finding]]:
        if isinstance(measurement, FixedLosses):
            if None not in (measurement.validation, measurement.training):
                self._fixed[measurement.iteration] = measurement
            return None
        if not self._course.add(measurement):
            return None
        # It is resolved when the metric reaches a new best.
        if self._course.is_best:
            self._present = []
        elif not self._present and self._overfits():
            self._present = [self._finding()]
        return self._present

    def _overfits(self) -> bool:
        course = self._course
        after = course.values[course.best + 1:]
        if len(after) < self._least:
            return False
        best_losses, last_losses = self._losses()
        if best_losses is not None:
            falls = (
                last_losses.validation >= best_losses.validation
                and best_losses.training - last_losses.training >
                _BETTER * abs(best_losses.training))
        else:
            falls = course.knows_losses and (
                course.loss_at_best - course.loss >
                _BETTER * abs(course.loss_at_best))
        best = course.values[course.best]
        # The best one is so by chance as well; what is around it is not.
        around = np.median(course.values[max(course.best - 1, 0):course.best +
                                         2])
        last = np.array(after[-self._num_last:])
        sign = course.metric.sign
        return bool((sign * (best - last) > self._worse * abs(best)).all()
                    and sign * (around - last.mean()) >
                    _WORSE_THAN_NOISE * _noise(np.array(course.values))
                    and falls)

    def _losses(self) -> Tuple[Optional[FixedLosses], Optional[FixedLosses]]:
        """Return those at the best validation and before the last one.

        They are measured before the metrics of their validation are known, or
        right after; None, None if one is not known.
        """
        steps = self._course.steps
        best = self._fixed.get(steps[self._course.best])
        last = self._fixed.get(steps[-1]) or self._fixed.get(steps[-2])
        return (None, None) if best is None or last is None else (best, last)

    def _finding(self) -> Finding:
        course = self._course
        best, last = self._losses()
        if best is not None:
            losses = (
                'The loss of training samples without augmentation fell from '
                f'{best.training:.4g} to {last.training:.4g} '
                '(train_as_val/loss), that of the validation went from '
                f'{best.validation:.4g} to {last.validation:.4g} (val/loss).')
        else:
            losses = (f'The median of the training loss fell from '
                      f'{course.loss_at_best:.4g} to {course.loss:.4g}.')
        return Finding(
            'overfitting',
            f'The model overfits: {course.tag} gets worse since '
            f'step {course.steps[course.best]:,}, while the training loss '
            'falls.', f'{course.numbers()} {losses}',
            'Take the best checkpoint (save_best of CheckpointHook). More '
            'data, stronger augmentation, more weight decay, a smaller model '
            'or fewer epochs prevent it.')


def _noise(values: np.ndarray) -> float:
    """Return the usual change from one validation to the next.

    Where changes last, a metric goes further away than that without a reason.
    Of a first-order autoregressive process with the correlation ``r`` and the
    variance ``v`` the changes have the variances ``2 v (1 - r)``, and over two
    validations ``2 v (1 - r ** 2)``: what is returned is that of ``r = 0`` and
    the same ``v``.
    """
    # MMPose's data sets have imported it already.
    from scipy.stats import median_abs_deviation
    noise = median_abs_deviation(np.diff(values))
    if noise and len(values) >= _ENOUGH_FOR_CORRELATION:
        over_two = median_abs_deviation(values[2:] - values[:-2])
        correlation = (over_two / noise)**2 - 1
        noise /= np.sqrt(1 - np.clip(correlation, 0, _CORRELATION))
    return noise


@DETECTORS.register_module()
class PlateauDetector(Detector):
    """``plateau``: the main metric has not improved for long.

    It is not looked for before the last milestone of a schedule, or before the
    last one begins.

    Args:
        patience (int): The number of validations without a better one.
            Defaults to 5.
        patience_fraction (float): The same as a fraction of all planned
            validations; the larger number counts. Defaults to a third.
    """

    findings = ('plateau', )
    wants = (LearningRates, Losses, ValidationMetrics)
    chain = MostSerious

    def __init__(self,
                 patience: int = _PATIENCE,
                 patience_fraction: float = _PATIENCE_FRACTION) -> None:
        self._least_patience = patience
        self._patience_fraction = patience_fraction

    def before_train(self, runner) -> None:
        self._course = ValidationCourse(runner)
        self._patience = max(
            self._least_patience,
            self._patience_fraction * _planned_validations(runner))
        self._last_part = (1 - _LAST_PART) * runner.max_iters
        self._last_beginning, self._last_milestone = _last_planned(runner)
        self._waiting_since = 0
        self._lr: Optional[float] = None
        self._lr_at_best: Optional[float] = None
        self._present: List[Finding] = []

    def see(self, step: int, measurement) -> Optional[List[Finding]]:
        if isinstance(measurement, LearningRates):
            self._lr = measurement.highest
            return None
        course = self._course
        if not course.add(measurement):
            return None
        if course.is_best:
            self._waiting_since = course.last
            self._lr_at_best = self._lr
            self._present = []
            return self._present
        if measurement.iteration <= self._last_beginning:
            # A cosine lowers the rate little at first.
            self._waiting_since = course.last
        if self._lr is not None and self._lr_at_best is not None and not (
                _LOWERED * self._lr_at_best <= self._lr <= self._lr_at_best):
            self._lr_at_best = self._lr
            self._waiting_since = course.last
        if (not self._present
                and course.last - self._waiting_since >= self._patience and
                self._last_milestone < measurement.iteration <= self._last_part
                and not self._is_perfect() and not self._is_before_the_rise()):
            self._present = [self._finding()]
        return self._present

    def _is_perfect(self) -> bool:
        best = self._course.values[self._course.best]
        if self._course.metric.rule != 'greater':
            return best == 0
        return _PERFECT <= best <= 1 or 100 * _PERFECT <= best <= 100

    def _is_before_the_rise(self) -> bool:
        """Return whether the model learns, and nothing is near enough yet.

        An AP is 0 until a prediction is within the widest threshold.
        """
        course = self._course
        return (course.metric.rule == 'greater'
                and course.values[course.best] == 0 and course.knows_losses
                and course.loss_at_best - course.loss >
                _BETTER * abs(course.loss_at_best))

    def _finding(self) -> Finding:
        course = self._course
        return Finding(
            'plateau', f'{course.tag} has not become better since step '
            f'{course.steps[course.best]:,}.', course.numbers(),
            'Lower the learning rate, or end the training. If the metric is '
            'poor, look at the images and at the accuracy of each keypoint '
            'for what is not learned.')


def _planned_validations(runner) -> int:
    planned = runner.max_iters if is_iter_based(runner) else runner.max_epochs
    # A user's own loop may have no such attribute.
    return planned // max(1, getattr(runner.train_loop, 'val_interval', 1))


def _last_planned(runner) -> Tuple[int, int]:
    """Return when the last schedule begins, and a step is the last one.

    Returns:
        tuple[int, int]: The iterations, 0 if there is none.
    """
    schedulers = getattr(runner, 'param_schedulers', None) or []
    if isinstance(schedulers, dict):
        schedulers = [s for of_one in schedulers.values() for s in of_one]
    beginnings, milestones = [0], [0]
    for scheduler in schedulers:
        unit = 1
        if scheduler.by_epoch:
            unit = runner.max_iters / runner.max_epochs
        beginnings.append(int(getattr(scheduler, 'begin', 0) * unit))
        steps = list(getattr(scheduler, 'milestones', ()))
        size = getattr(scheduler, 'step_size', None)
        if size:
            steps += range(size, math.ceil(runner.max_iters / unit), size)
        milestones += [int(step * unit) for step in steps]
    # Those beyond the end do not count.
    return tuple(
        max(m for m in planned if m < runner.max_iters)
        for planned in (beginnings, milestones))
