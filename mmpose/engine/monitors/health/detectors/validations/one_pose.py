# Copyright (c) OpenMMLab. All rights reserved.
from typing import List, Optional

from ....core.measurements import LearningRates, Losses
from ....core.pose_measurements import PoseSpread
from ....core.registry import DETECTORS
from ...chains import NothingLearned
from ...detector import CONSECUTIVE, Detector, Streaks, WarmUp
from ...report import ERROR, Finding

# The spread of the predictions over that of the ground truth. Models that are
# given the labels of other images had 0.1 to 0.7, healthy ones 0.5 to 1.
_SPREAD = 0.75
# The area under the PCK over that of the mean pose: the former had up to 1.07,
# healthy models 1.26 after two epochs. Where the mean pose is nearly right, it
# tells nothing.
_BETTER = 1.15
_TELLS_NOTHING = 0.8
# A model that is slow has become better by this factor over three validations.
_IMPROVES = 1.1
# The fraction of the training, and the number of iterations, after which the
# poses should differ.
_FRACTION = 0.2
_ITERS = 300
_MIN_INSTANCES = 20


@DETECTORS.register_module()
class OnePoseDetector(Detector):
    """``one_pose``: the model predicts the same pose for all instances.

    The poses differ less than those of the ground truth, and the mean pose in
    each box would be as good, in three consecutive validations without
    improvement, after a part of the training. A loss that has not fallen is a
    finding of its own.

    Args:
        spread (float): The spread of the predictions over that of the ground
            truth, below which they may be one pose. Defaults to 0.75.
        fraction (float): The fraction of the training after which the poses
            should differ. Defaults to 0.2.
        iters (int): The least number of iterations. Defaults to 300.
    """

    findings = ('one_pose', )
    wants = (LearningRates, Losses, PoseSpread)
    chain = NothingLearned
    priority = 'BELOW_NORMAL'

    def __init__(self,
                 spread: float = _SPREAD,
                 fraction: float = _FRACTION,
                 iters: int = _ITERS) -> None:
        self._spread = spread
        self._fraction = fraction
        self._iters = iters

    def before_train(self, runner) -> None:
        self._streaks = Streaks()
        self._warm_up = WarmUp()
        self._least = max(self._fraction * runner.max_iters, self._iters)
        self._first: Optional[float] = None
        self._loss: Optional[float] = None
        self._areas: List[float] = []

    def see(self, step: int, measurement) -> Optional[List[Finding]]:
        if isinstance(measurement, LearningRates):
            self._warm_up.add(step, measurement)
            return None
        if isinstance(measurement, Losses):
            self._loss = measurement.median
            if self._first is None:
                self._first = self._loss
            return None
        self._areas = [*self._areas, measurement.pck_auc][-CONSECUTIVE:]
        is_one = (
            step - self._warm_up.last_step >= self._least
            and measurement.instances >= _MIN_INSTANCES
            and is_mean_pose(measurement, self._spread)
            and measurement.pck_auc < _IMPROVES * self._areas[0])
        if not self._streaks.update(['one_pose'] if is_one else []):
            return []
        return [self._finding(step, measurement)]

    def _finding(self, step: int, spread: PoseSpread) -> Finding:
        loss = ''
        if None not in (self._first, self._loss):
            loss = (f' The loss was {self._first:.4g} at first and is '
                    f'{self._loss:.4g}.')
        return Finding(
            'one_pose',
            'The model predicts one pose for all instances: it has not '
            'learned to look at the image.',
            f'Over {spread.instances:,} instances the predicted keypoints '
            f'scatter, relative to the boxes, {spread.spread:.0%} as much as '
            f'the annotated ones. The area under the PCK is '
            f'{spread.pck_auc:.3f}; with the mean pose in each box it were '
            f'{spread.of_mean_pose:.3f}.{loss}',
            'Look at the targets in train/images: where they are on another '
            'image than their own, the annotations and the images do not '
            'match (order, ids, file names). Where they are right, the '
            'features do not reach the head, or the model has learned the '
            'background: look for frozen or missing weights, try another '
            'learning rate.', ERROR)


def is_mean_pose(poses: PoseSpread, spread: float = _SPREAD) -> bool:
    """Return whether the mean pose in each box would be as good.

    Args:
        poses (PoseSpread): The poses of a validation.
        spread (float): See :class:`OnePoseDetector`. Defaults to 0.75.
    """
    return (poses.spread < spread
            and poses.pck_auc < _BETTER * poses.of_mean_pose
            and poses.of_mean_pose < _TELLS_NOTHING)
