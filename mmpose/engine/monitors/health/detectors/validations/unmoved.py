# Copyright (c) OpenMMLab. All rights reserved.
from typing import List, Optional

from ....core.measurements import KeypointAccuracy, ValidationMetrics
from ....core.metric_names import direction
from ....core.registry import DETECTORS
from ...chains import MostSerious
from ...detector import CONSECUTIVE, Detector
from ...report import Finding
from ...validation_course import ValidationCourse

# By less than this, of 1 or in percent of 100, the metric has not moved.
_MOVED = 0.001
# The fraction to which the error has fallen meanwhile.
_FALLEN = 0.5
# Near its limits a metric does not show what becomes better.
_LEAST, _MOST = 0.01, 0.9


@DETECTORS.register_module()
class UnmovedValidationDetector(Detector):
    """``validation_unmoved``: the metric stays while the error halves.

    Only of a main metric of which higher values are better, between 0.01 and
    0.9. The error is the mean distance of the keypoints or, where that is not
    measured, a metric of the evaluators that is an error.

    Args:
        moved (float): By how much the metric has to move. Defaults to 0.001.
    """

    findings = ('validation_unmoved', )
    wants = (KeypointAccuracy, ValidationMetrics)
    chain = MostSerious
    priority = 'HIGH'

    def __init__(self, moved: float = _MOVED) -> None:
        self._moved = moved

    def before_train(self, runner) -> None:
        self._course = ValidationCourse(runner)
        self._keypoint_error: Optional[float] = None
        # Those of the validations since the metric has last moved.
        self._errors: List[float] = []
        self._present: List[Finding] = []

    def see(self, step: int, measurement) -> Optional[List[Finding]]:
        if isinstance(measurement, KeypointAccuracy):
            self._keypoint_error = measurement.error
            return None
        course = self._course
        if not course.add(measurement):
            return None
        scale = 100 if max(course.values) > 1 else 1
        value, error = course.values[-1], self._error_in(measurement)
        before = course.values[-len(self._errors) - 1:-1]
        if error is None or (course.metric.rule != 'greater'
                             or not _LEAST <= value / scale <= _MOST):
            self._errors = []
        else:
            if any(abs(value - v) >= self._moved * scale for v in before):
                self._errors = []
            self._errors.append(error)
        if len(self._errors) <= 1:
            self._present = []
        elif (not self._present and len(self._errors) >= CONSECUTIVE
              and error < _FALLEN * self._errors[0]):
            self._present = [self._finding()]
        return self._present

    def _error_in(self, metrics: ValidationMetrics) -> Optional[float]:
        if self._keypoint_error is not None:
            return self._keypoint_error
        return next((value for name, value in metrics.values.items()
                     if direction(name) == 'less'), None)

    def _finding(self) -> Finding:
        course, errors = self._course, self._errors
        return Finding(
            'validation_unmoved',
            f'{course.tag} does not move, while the error of the keypoints '
            'has halved.',
            f'It is {course.values[-1]:.4g} in {len(errors)} consecutive '
            f'validations, since step {course.steps[-len(errors)]:,}; '
            f'meanwhile the error fell from {errors[0]:.3g} to '
            f'{errors[-1]:.3g}.',
            'The evaluator does not count what has become better. Look at its '
            'annotation file: whether it has all images of the validation, '
            'at its areas and the sigmas, at the thresholds of scores '
            '(keypoint_score_thr, nms_thr) and at what it takes for the box.')
