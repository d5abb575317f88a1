# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, List, Optional, Tuple

import numpy as np
from mmengine.hooks import CheckpointHook

from ..core.runner_parts import is_iter_based
from .health import Detector
from .health_report import Finding
from .learning_rate_detectors import highest_learning_rate

# The metrics that matter most, by the last part of their names, where the
# config does not say which one it is.
_HIGHER_IS_BETTER = ('AP', 'PCK', 'AUC')
_LOWER_IS_BETTER = ('NME', 'EPE', 'MPJPE', 'val_loss')

# Validations without a better one, and of all that are planned: a healthy
# curve stands still for long before the learning rate is lowered.
_PATIENCE = 5
_PATIENCE_SHARE = 1 / 3
# When the learning rate has come down to so much, or is still being raised,
# the waiting starts anew.
_LOWERED = 0.5
# In the last part of a training there is not much more to come.
_LAST_PART = 0.2
# A metric that is at so much of the best possible cannot improve.
_PERFECT = 0.99

# So many validations after the best one, of which the last ones count.
_OVERFITTING_VALIDATIONS = 5
_OVERFITTING_LAST = 3
# By what they are worse than the best: a share of it, and how many times what
# the metric usually changes by from one validation to the next.
_WORSE = 0.05
_WORSE_THAN_NOISE = 3
# While the training loss has fallen by so much.
_BETTER = 0.1


class ValidationDetector(Detector):
    """What the main metric of the validations says about the training.

    =============== =======================================================
    ``overfitting`` The metric gets worse while the training loss falls
    ``plateau``     The metric has not become better for long
    =============== =======================================================

    The main metric is the one that the checkpoint hook saves the best
    checkpoint by, else AP, PCK, AUC, NME, EPE, MPJPE or the loss, the first
    that there is.
    """

    def before_train(self, runner) -> None:
        self._metric = _saved_by(runner)
        planned = runner.max_iters if is_iter_based(
            runner) else runner.max_epochs
        # A loop of the user's own may do without.
        planned //= max(1, getattr(runner.train_loop, 'val_interval', 1))
        self._patience = max(_PATIENCE, _PATIENCE_SHARE * planned)
        self._last_part = (1 - _LAST_PART) * runner.max_iters

        self._lr: Optional[float] = None
        self._loss: Optional[float] = None
        self._values: List[float] = []
        self._steps: List[int] = []
        # Where in them the best is, and from where on to be patient.
        self._best = 0
        self._waiting_since = 0
        # When they were best.
        self._lr_then: Optional[float] = None
        self._loss_then: Optional[float] = None
        self._present: List[Finding] = []

    def see(self, step: int, scalars: Dict[str,
                                           float]) -> Optional[List[Finding]]:
        lr = highest_learning_rate(scalars)
        self._lr = self._lr if lr is None else lr
        self._loss = scalars.get('health/loss/median', self._loss)
        if self._metric is None:
            self._metric = _main_metric(scalars)
        if self._metric is None or self._metric[0] not in scalars:
            return None
        self._add(step, scalars[self._metric[0]])
        return self._present

    def _add(self, step: int, value: float) -> None:
        if not np.isfinite(value):
            return
        self._steps.append(step)
        self._values.append(value)
        last = len(self._values) - 1
        if last == 0 or self._sign() * (value - self._values[self._best]) > 0:
            self._best = self._waiting_since = last
            self._lr_then, self._loss_then = self._lr, self._loss
            self._present = []
            return
        if self._lr is not None and self._lr_then is not None and not (
                _LOWERED * self._lr_then <= self._lr <= self._lr_then):
            self._lr_then = self._lr
            self._waiting_since = last
        if self._overfits():
            self._begin(self._overfitting())
        elif (last - self._waiting_since >= self._patience
              and step <= self._last_part and not self._is_perfect()):
            self._begin(self._plateau())

    def _begin(self, finding: Finding) -> None:
        # It lasts until the metric is better than ever. A plateau may turn
        # into overfitting, and not back.
        if not self._present or finding.name == 'overfitting':
            self._present = [finding]

    def _sign(self) -> int:
        return 1 if self._metric[1] else -1

    def _is_perfect(self) -> bool:
        best = self._values[self._best]
        if not self._metric[1]:
            return best == 0
        return _PERFECT <= best <= 1 or 100 * _PERFECT <= best <= 100

    def _overfits(self) -> bool:
        after = self._values[self._best + 1:]
        if len(after) < _OVERFITTING_VALIDATIONS or None in (self._loss,
                                                             self._loss_then):
            return False
        best = self._values[self._best]
        fall = self._sign() * (best - np.array(after[-_OVERFITTING_LAST:]))
        noise = np.median(abs(np.diff(self._values)))
        return bool(
            (fall > _WORSE * abs(best)).all()
            and fall.mean() > _WORSE_THAN_NOISE * noise
            and self._loss_then - self._loss > _BETTER * abs(self._loss_then))

    def _overfitting(self) -> Finding:
        name, _ = self._metric
        return Finding(
            'overfitting', f'The model overfits: {name} gets worse since step '
            f'{self._steps[self._best]:,}, while the training loss falls.',
            f'{self._numbers()} The median of the training loss fell from '
            f'{self._loss_then:.4g} to {self._loss:.4g}.',
            'Take the best checkpoint (save_best of CheckpointHook). More '
            'data, stronger augmentation, more weight decay, a smaller model '
            'or fewer epochs keep it from happening.')

    def _plateau(self) -> Finding:
        name, _ = self._metric
        return Finding(
            'plateau', f'{name} has not become better since step '
            f'{self._steps[self._best]:,}.', self._numbers(),
            'If the schedule is about to lower the learning rate, wait for '
            'that. If not, lower it; if the metric is poor, look at the '
            'pictures and at the accuracy of each keypoint for what is not '
            'learned.')

    def _numbers(self) -> str:
        last = len(self._values) - 1
        return (f'It was {self._values[self._best]:.4g} and is '
                f'{self._values[last]:.4g} {last - self._best} validations '
                'later.')


# The tag of a metric, and whether it is better where it is higher.
_Metric = Tuple[str, bool]


def _saved_by(runner) -> Optional[_Metric]:
    """What the best checkpoint is chosen by, if the config says so."""
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best:
            if hook.rules[0] is not None:
                return (f'val/{hook.key_indicators[0]}',
                        hook.rules[0] == 'greater')
    return None


def _main_metric(scalars: Dict[str, float]) -> Optional[_Metric]:
    for name in (*_HIGHER_IS_BETTER, *_LOWER_IS_BETTER):
        for tag in scalars:
            if tag.startswith('val/') and tag.rsplit('/', 1)[-1] == name:
                return tag, name in _HIGHER_IS_BETTER
    return None
