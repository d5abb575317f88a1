# Copyright (c) OpenMMLab. All rights reserved.
import math
from typing import Dict, List, Optional

from mmengine.dist import get_world_size

from ..core.runner_parts import bare_model
from .health import Detector
from .health_report import Finding

# What LossMonitor writes.
_LOSS = 'health/loss/'
_NONFINITE = 'health/nonfinite_loss/'

# A spike is so many robust standard deviations above its neighbours; beyond 6
# there was none in 300,000 losses drawn as scattered as those of real
# trainings.
_SPIKE_SCORE = 6
# And so many times their median: where the scatter is small, 6 of it may be
# nothing to worry about.
_SPIKE_RATIO = 3
# A training recovers from a spike within so many iterations: what stands out
# later is another one.
_SPIKE_LENGTH = 50

# A model that has learned anything has a loss below so much of its first one,
# after so much of the training and so many iterations.
_NOT_FALLEN = 0.9
_SHOULD_HAVE_FALLEN = 0.2
_SHOULD_HAVE_FALLEN_ITERS = 300
# The first one is that of a single batch and may have been low by chance: in
# the second half of that time the loss has not moved by so much either, ten
# times the standard error of a median of a hundred losses that scatter by 5 %.
_STANDS_STILL = 0.06
# A loss that was so many times the first one has been driven there.
_ROSE = 2

_OF_ANOTHER_PROCESS = (
    ' Or the loss of another process was NaN or infinite at the step before: '
    'those that are logged are of the first, but the update is the same for '
    'all.')


class NonfiniteLossDetector(Detector):
    """``nonfinite_loss``: a loss is NaN or infinite."""

    def before_train(self, runner) -> None:
        self._present: List[Finding] = []

    def see(self, step: int, scalars: Dict[str,
                                           float]) -> Optional[List[Finding]]:
        first = {
            tag[len(_NONFINITE):]: int(value)
            for tag, value in scalars.items() if tag.startswith(_NONFINITE)
        }
        if first and not self._present:
            self._present = [self._finding(first)]
        elif not first and _LOSS + 'median' in scalars:
            self._present = []
        elif not first:
            return None
        return self._present

    def _finding(self, first: Dict[str, int]) -> Finding:
        step = min(first.values())
        # Their sum says nothing that they do not say.
        names = [n for n in first if first[n] == step and n != 'loss']
        where = ', '.join(names) or 'loss'
        return Finding(
            'nonfinite_loss',
            f'The loss became NaN or infinite at step {step:,}: {where}.',
            f'{where} at step {step:,}, before the update of that step.',
            'Look at the samples of that step for empty or broken '
            'annotations, and at the gradients before it. If they had been '
            'growing, lower the learning rate or clip them. Go on from a '
            'checkpoint that is older: the weights are lost.' +
            (_OF_ANOTHER_PROCESS if get_world_size() > 1 else ''))


class LossSpikeDetector(Detector):
    """``loss_spike``: the loss of an iteration is far above those around."""

    def before_train(self, runner) -> None:
        self._present: List[Finding] = []
        self._last = -_SPIKE_LENGTH

    def see(self, step: int, scalars: Dict[str,
                                           float]) -> Optional[List[Finding]]:
        score = scalars.get(_LOSS + 'spike_score')
        if score is None:
            return None
        ratio = scalars.get(_LOSS + 'spike_ratio')
        at = int(scalars[_LOSS + 'spike_step'])
        if score < _SPIKE_SCORE or ratio is not None and ratio < _SPIKE_RATIO:
            self._present = []
        else:
            if not self._present or at - self._last > _SPIKE_LENGTH:
                self._present = [self._finding(at, score, ratio)]
            self._last = at
        return self._present

    def _finding(self, step: int, score: float,
                 ratio: Optional[float]) -> Finding:
        times = '' if ratio is None else f', {ratio:.3g} times as large'
        return Finding(
            'loss_spike', f'The loss jumped at step {step:,}.',
            f'It is {score:.3g} robust standard deviations above the median '
            f'of the losses around it{times}.',
            'Look at the samples of that step for wrong annotations. If there '
            'are none, clip the gradients, so that one batch cannot undo what '
            'was learned.')


class NotLearningDetector(Detector):
    """``not_learning``: the loss is where it was in the beginning.

    Where the training goes on from another one, by resuming or with all
    weights loaded, it may be: nothing is said there.
    """

    def before_train(self, runner) -> None:
        self._present: List[Finding] = []
        init_cfg = getattr(bare_model(runner.model), 'init_cfg', None)
        self._is_over = bool(runner.iter or runner._load_from or init_cfg)
        self._judge_from = max(_SHOULD_HAVE_FALLEN * runner.max_iters,
                               _SHOULD_HAVE_FALLEN_ITERS)
        self._first: Optional[float] = None
        self._halfway: Optional[float] = None
        self._highest = -math.inf

    def see(self, step: int, scalars: Dict[str,
                                           float]) -> Optional[List[Finding]]:
        median = scalars.get(_LOSS + 'median')
        if self._is_over or median is None:
            return None
        if self._first is None:
            self._first = median
        self._highest = max(self._highest, median)
        # Until then it is the median of few losses, or of a warm-up.
        if 2 * step >= self._judge_from:
            self._judge(step, median)
        return self._present

    def _judge(self, step: int, median: float) -> None:
        if self._first - median > (1 - _NOT_FALLEN) * abs(self._first):
            # Once and for all: it has learned something.
            self._is_over = True
            self._present = []
        elif self._halfway is None:
            self._halfway = median
        elif step >= self._judge_from and not self._present and abs(
                median - self._halfway) < _STANDS_STILL * abs(self._halfway):
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
            'Look at the pictures of the training samples, whether images and '
            'annotations fit together, and try learning rates ten times as '
            'high and as low. A model that is well can learn a handful of '
            'samples by heart.')
