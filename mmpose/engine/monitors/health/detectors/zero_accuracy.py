# Copyright (c) OpenMMLab. All rights reserved.
from typing import List, Optional, Tuple

from ...core.measurements import LearningRates, Losses
from ...core.registry import DETECTORS
from ..chains import NothingLearned
from ..detector import Detector, WarmUp
from ..report import ERROR, Finding

# The accuracy of a guess: the area of a disc with a radius of 0.05.
_BY_CHANCE = 0.01
# The accuracy stays there for this fraction of the training and this many
# iterations.
_FRACTION = 0.2
_ITERS = 300


@DETECTORS.register_module()
class ZeroAccuracyDetector(Detector):
    """``zero_accuracy``: ``acc_pose`` stays at 0, or at that of a guess.

    It begins when the learning rate has reached its highest value.

    Args:
        fraction (float): The fraction of the training after which some
            keypoints should be in place. Defaults to 0.2.
        iters (int): The least number of iterations. Defaults to 300.
    """

    findings = ('zero_accuracy', )
    wants = (LearningRates, Losses)
    chain = NothingLearned

    def __init__(self, fraction: float = _FRACTION, iters: int = _ITERS):
        self._fraction = fraction
        self._iters = iters

    def before_train(self, runner) -> None:
        self._warm_up = WarmUp()
        self._least = max(self._fraction * runner.max_iters, self._iters)
        # Numbers of steps and their mean accuracies.
        self._recent: List[Tuple[int, float]] = []
        self._last_step = runner.iter
        self._present: List[Finding] = []
        self._first_loss: Optional[float] = None

    def see(self, step: int, measurement) -> Optional[List[Finding]]:
        if isinstance(measurement, LearningRates):
            self._warm_up.add(step, measurement)
            return None
        if self._first_loss is None:
            self._first_loss = measurement.median
        if measurement.accuracy is None:
            return None
        steps, self._last_step = step - self._last_step, step
        if self._warm_up.last_step == step:
            self._recent = []
        else:
            self._recent.append((steps, measurement.accuracy))
        count = sum(n for n, _ in self._recent)
        while self._recent and count - self._recent[0][0] >= self._least:
            count -= self._recent.pop(0)[0]
        mean = sum(n * a for n, a in self._recent) / max(count, 1)
        if mean > _BY_CHANCE:
            self._present = []
        elif count >= self._least:
            self._present = [
                self._finding(step, count, mean, measurement.median)
            ]
        return self._present

    def _finding(self, step: int, count: int, mean: float,
                 loss: float) -> Finding:
        return Finding(
            'zero_accuracy',
            'Hardly any keypoint is predicted correctly: the model does not '
            'learn the poses, whatever the loss does.',
            f'The mean of acc_pose over the last {count:,} iterations is '
            f'{mean:.2%}, no better than a guess, up to step {step:,}. The '
            f'loss was {self._first_loss:.4g} at first, and its median is '
            f'{loss:.4g} now.',
            'Look at train/images. Where the target is not on the subject, '
            'images and annotations do not match. Where it is, and the '
            'heatmap has no peak, the model has learned the background: with '
            'dead activations (see that finding) lower the learning rate, '
            'else try a higher one or a larger sigma. Where the peak is '
            'right, the codec does not fit the head (input_size, '
            'heatmap_size).', ERROR)
