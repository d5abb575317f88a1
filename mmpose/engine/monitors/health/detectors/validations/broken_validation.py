# Copyright (c) OpenMMLab. All rights reserved.
import math
from typing import List, Optional

from ....core.measurements import KeypointAccuracy, Losses, ValidationMetrics
from ....core.registry import DETECTORS
from ...chains import MostSerious
from ...detector import Detector
from ...report import ERROR, Finding
from ...validation_course import ValidationCourse

# With this fraction of the keypoints within 0.05 of the box, a metric of 0 is
# impossible. Within 0.2, as an evaluator's own PCK may have it, 72 % were seen
# with an AP of 0 early in a healthy training.
_ACCURATE = 0.5
_ACCURATE_BY_EVALUATOR = 0.9
# A metric below this fraction of its best value, or an error that is this many
# times its best value, in this many consecutive validations, has collapsed;
# unless the best value (of 1, or in percent) was low itself.
_COLLAPSED = 0.2
_EXPLODED = 5
_COLLAPSED_VALIDATIONS = 2
_WORTH_LOSING = 0.1
# The fraction by which a training loss has to be higher to have risen.
_ROSE = 0.1


@DETECTORS.register_module()
class BrokenValidationDetector(Detector):
    """Find a main metric that says nothing about the model.

    ====================== ================================================
    ``validation_nan``     It is NaN or infinite, not in the first one alone
    ``validation_invalid`` It is negative, or exactly 0 while keypoints are
                           accurate: the evaluation is wrong, not the model
    ====================== ================================================
    """

    findings = ('validation_nan', 'validation_invalid')
    wants = (KeypointAccuracy, ValidationMetrics)
    chain = MostSerious
    priority = 'VERY_HIGH'

    def before_train(self, runner) -> None:
        self._course = ValidationCourse(runner)
        self._accuracy: Optional[float] = None
        # Validations with a finite value; consecutive ones with an invalid
        # one.
        self._numbers = 0
        self._nonfinite = 0
        self._invalid = 0
        self._present: List[Finding] = []

    def see(self, step: int, measurement) -> Optional[List[Finding]]:
        if isinstance(measurement, KeypointAccuracy):
            self._accuracy = measurement.pck
            return None
        value = self._course.value_in(measurement)
        if value is None:
            return None
        if not math.isfinite(value):
            self._nonfinite += 1
            # Of an untrained model that finds nothing, a mean is NaN.
            if not self._present and (self._numbers or self._nonfinite >= 2):
                self._present = [self._nan(measurement.iteration, value)]
            return self._present
        self._numbers += 1
        if self._is_invalid(value, measurement):
            self._invalid += 1
            # At the first validation the model may not detect anything.
            if self._invalid >= 2 and not self._present:
                self._present = [self._wrong(value, measurement)]
        else:
            self._invalid = 0
            self._present = []
        return self._present

    def _is_invalid(self, value: float, metrics: ValidationMetrics) -> bool:
        if self._course.metric.rule != 'greater':
            return False
        accuracy = self._accuracy_in(metrics)
        limit = (
            _ACCURATE_BY_EVALUATOR if self._accuracy is None else _ACCURATE)
        return value < 0 or (value == 0 and accuracy is not None
                             and accuracy >= limit)

    def _accuracy_in(self, metrics: ValidationMetrics) -> Optional[float]:
        if self._accuracy is not None:
            return self._accuracy
        return next((value for name, value in metrics.values.items()
                     if name.rpartition('/')[2] == 'PCK'), None)

    def _nan(self, step: int, value: float) -> Finding:
        return Finding(
            'validation_nan', f'{self._course.tag} is NaN or infinite.',
            f'It is {value} at step {step:,}' +
            (f', after {self._numbers} validations in which it was a number.'
             if self._numbers else '.'),
            'Look for a finding on NaN in weights or buffers: the running '
            'statistics of a batch norm are used in validations alone. If '
            'there is none, look at the predictions, and at the evaluator for '
            'samples that it cannot normalise (a box or head size of 0, no '
            'visible keypoint).', ERROR)

    def _wrong(self, value: float, metrics: ValidationMetrics) -> Finding:
        accuracy = self._accuracy_in(metrics)
        seen = ('' if accuracy is None else
                f' Meanwhile {accuracy:.0%} of the keypoints are predicted '
                'correctly (PCK).')
        return Finding(
            'validation_invalid', f'{self._course.tag} is {value:g}: the '
            'evaluation is wrong, not the model.',
            f'It is {value:g} in {self._invalid} consecutive validations, up '
            f'to step {metrics.iteration:,}.{seen}',
            'Look at the annotation file of val_evaluator: areas of 0, ids of '
            'images that match none in the predictions, no visible keypoint '
            '(num_keypoints of 0), the wrong file; and at the sigmas of the '
            'data set.', ERROR)


@DETECTORS.register_module()
class ValidationCollapseDetector(Detector):
    """``validation_collapse``: the main metric falls to next to nothing.

    Args:
        fraction (float): The fraction of its best value below which a metric
            has collapsed. Defaults to 0.2.
    """

    findings = ('validation_collapse', )
    wants = (Losses, ValidationMetrics)
    chain = MostSerious
    priority = 'HIGH'

    def __init__(self, fraction: float = _COLLAPSED) -> None:
        self._fraction = fraction

    def before_train(self, runner) -> None:
        self._course = ValidationCourse(runner)
        self._collapsed = 0
        self._present: List[Finding] = []

    def see(self, step: int, measurement) -> Optional[List[Finding]]:
        if not self._course.add(measurement):
            return None
        if not self._has_collapsed():
            self._collapsed = 0
            self._present = []
        else:
            self._collapsed += 1
            if self._collapsed == _COLLAPSED_VALIDATIONS:
                self._present = [self._finding()]
        return self._present

    def _has_collapsed(self) -> bool:
        best = self._course.values[self._course.best]
        value = self._course.values[-1]
        if self._course.metric.rule != 'greater':
            return value > _EXPLODED * best > 0
        worth = _WORTH_LOSING * (100 if best > 1 else 1)
        return best >= worth and value < self._fraction * best

    def _finding(self) -> Finding:
        course = self._course
        rose, loss = False, ''
        if course.knows_losses:
            rose = (
                course.loss - course.loss_at_best >
                _ROSE * abs(course.loss_at_best))
            loss = (' The median of the training loss was '
                    f'{course.loss_at_best:.4g} then and is '
                    f'{course.loss:.4g} now.')
        return Finding(
            'validation_collapse', f'{course.tag} has collapsed since step '
            f'{course.steps[course.best]:,}.',
            course.numbers() + loss,
            'The training has diverged: resume from the best checkpoint with '
            'a lower learning rate or with clipped gradients.' if rose else
            'The training loss did not rise, so look at what validations '
            'alone use: the running statistics of batch norms, the weights of '
            'an EMA model, the validation pipeline and its flip test. Resume '
            'from the best checkpoint.', ERROR)
