# Copyright (c) OpenMMLab. All rights reserved.
import math
from typing import List, Optional

from torch import nn

from ...core.measurements import LearningRates, Losses
from ...core.registry import DETECTORS
from ...core.runner_parts import bare_model
from ..chains import NothingLearned
from ..detector import Detector, WarmUp
from ..report import Finding

# A model that learns has a loss below this fraction of its first one, after
# this fraction of the training and this many iterations.
_NOT_FALLEN = 0.9
_SHOULD_HAVE_FALLEN = 0.2
_SHOULD_HAVE_FALLEN_ITERS = 300
# The first loss is that of a single batch and may be low by chance. So the
# loss also has to change by less than this fraction in the second half of that
# time: ten times the standard error of a median of a hundred losses that
# scatter by 5 %.
_STANDS_STILL = 0.06
# If the loss was this many times the first one in between, the training had
# diverged.
_ROSE = 2
# A model with this acc_pose in its first batches has been loaded, however.
_LOADED = 0.3
# One whose acc_pose has risen to this value, and by this factor, has learned
# something: of a loss that most pixels of a heatmap make, a pose is little.
_ACCURATE = 0.05
_RISEN = 3


@DETECTORS.register_module()
class NotLearningDetector(Detector):
    """``not_learning``: the loss is where it was in the beginning.

    It is not looked for in a training that is resumed or starts from loaded
    weights, which a first ``acc_pose`` above 0.3 tells as well, nor before the
    learning rate has reached its highest value. Nor where ``acc_pose`` has
    risen.

    Args:
        fraction (float): The fraction of the training after which the loss
            should have fallen. Defaults to 0.2.
        iters (int): The least number of iterations after which it should have
            fallen. Defaults to 300.
    """

    findings = ('not_learning', )
    wants = (LearningRates, Losses)
    chain = NothingLearned
    priority = 'HIGH'

    def __init__(self,
                 fraction: float = _SHOULD_HAVE_FALLEN,
                 iters: int = _SHOULD_HAVE_FALLEN_ITERS) -> None:
        self._fraction = fraction
        self._iters = iters

    def before_train(self, runner) -> None:
        self._present: List[Finding] = []
        self._is_over = bool(
            runner.iter or runner._load_from
            or _is_loaded(bare_model(runner.model)))
        self._judge_from = max(self._fraction * runner.max_iters, self._iters)
        self._warm_up = WarmUp()
        self._first: Optional[float] = None
        self._first_accuracy = 0.
        self._halfway: Optional[float] = None
        self._highest = -math.inf

    def see(self, step: int, measurement) -> Optional[List[Finding]]:
        if isinstance(measurement, LearningRates):
            self._warm_up.add(step, measurement)
            return None
        median, accuracy = measurement.median, measurement.accuracy or 0.
        if self._is_over or median is None:
            return None
        if self._first is None:
            self._first = median
            self._first_accuracy = accuracy
            self._is_over = accuracy > _LOADED
        self._highest = max(self._highest, median)
        if accuracy > max(_ACCURATE, _RISEN * self._first_accuracy):
            self._is_over = True
            self._present = []
        # Before, it is the median of too few losses.
        elif 2 * (step - self._warm_up.last_step) >= self._judge_from:
            self._judge(step, median)
        return self._present

    def _judge(self, step: int, median: float) -> None:
        if self._first - median > (1 - _NOT_FALLEN) * abs(self._first):
            # It has learned something, so this is over for good.
            self._is_over = True
            self._present = []
        elif self._halfway is None:
            self._halfway = median
        elif (step - self._warm_up.last_step >= self._judge_from
              and not self._present and abs(median - self._halfway) <
              _STANDS_STILL * abs(self._halfway)):
            self._present = [self._finding(step, median)]

    def _finding(self, step: int, median: float) -> Finding:
        rose = self._highest - self._first > (_ROSE - 1) * abs(self._first)
        return Finding(
            'not_learning', 'The model does not learn: the loss ' +
            ('rose at first and is back' if rose else 'is') +
            ' where it was in the beginning.',
            f'The first loss was {self._first:.4g}, and the median of the '
            f'losses is {median:.4g} at step {step:,}' +
            (f', after {self._highest:.4g}.' if rose else '.'),
            'Lower the learning rate to a tenth or a hundredth.' if rose else
            'Look at the training images, whether images and annotations '
            'match, and try learning rates ten times as high and as low. A '
            'model that works can overfit a handful of samples.')


def _is_loaded(model: nn.Module) -> bool:
    """Return whether the model starts from the weights of another training.

    A backbone may be loaded where the head still has everything to learn.
    """
    head = getattr(getattr(model, 'head', None), 'init_cfg', None)
    return bool(getattr(model, 'init_cfg', None)) or any(
        cfg.get('type') == 'Pretrained'
        for cfg in (head if isinstance(head, list) else [head])
        if isinstance(cfg, dict))
