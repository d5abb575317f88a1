# Copyright (c) OpenMMLab. All rights reserved.
import math
import statistics
from typing import Dict, List, Optional

from ...core.measurements import LayerUpdates, LearningRates, Updates
from ...core.registry import DETECTORS
from ..chains import FirstDivergence, StoppedLearning
from ..detector import HYSTERESIS, Detector, Streaks, dotted, started_at
from ..report import Finding

# An update usually changes the weights by about 1e-3 of their norm. Weights
# that start near 0, such as those of a new head, change by far more at first:
# by 1 / update if all updates have the same direction, by 1 / sqrt(update) if
# their directions are random. Both are below 0.1 from update 100 on, and below
# 10 / update until then. A layer group that starts at 0, such as the last norm
# of a residual block, reached 11 / update during the warm-up.
_LARGE_RATIO = 0.1
_LARGE_RATIO_TIMES_UPDATES = 10
_LARGE_RATIO_OF_GROUP_TIMES_UPDATES = 20
# A layer group is named by itself if the updates of the whole model are below
# this fraction of the limit.
_WELL_BELOW = 0.1
# Much of a smaller update is lost in float32, which rounds to 6e-8. A layer
# group also has to be far below the others, since all updates become small
# when the learning rate is annealed. The whole model is not reported then.
_SMALL_RATIO = 1e-6
_SMALL_BESIDE_OTHERS = 1e-3
_ANNEALED = 0.1


@DETECTORS.register_module()
class LargeUpdateDetector(Detector):
    """Find updates that are too large for the weights.

    ======================== =============================================
    ``update_ratio``         Of all weights, or of most layer groups
    ``update_ratio/<group>`` Of a layer group, if the updates of the whole
                             model are far below the limit
    ======================== =============================================

    Args:
        limit (float): The ratio of update to weights above which an update
            is too large. Defaults to 0.1.
    """

    findings = ('update_ratio', )
    wants = (Updates, LayerUpdates)
    chain = FirstDivergence
    # Before the detectors of its consequences.
    priority = 'ABOVE_NORMAL'

    def __init__(self, limit: float = _LARGE_RATIO) -> None:
        self._given_limit = limit

    def before_train(self, runner) -> None:
        self._streaks = Streaks(), Streaks()
        self._limit = self._group_limit = math.inf
        self._model_is_fine = True
        self._model: List[Finding] = []
        self._groups: List[Finding] = []

    def see(self, step: int, measurement) -> Optional[List[Finding]]:
        if isinstance(measurement, LayerUpdates):
            groups = _of_groups(measurement)
            if groups:
                self._groups = self._see_groups(step, groups)
        elif _is_number(measurement.ratio):
            self._see_model(step, measurement)
        return self._model or self._groups

    def _see_model(self, step: int, update: Updates) -> None:
        self._limit, self._group_limit = (
            max(self._given_limit, times / update.number)
            for times in (_LARGE_RATIO_TIMES_UPDATES,
                          _LARGE_RATIO_OF_GROUP_TIMES_UPDATES))
        well_below = _WELL_BELOW / (HYSTERESIS if self._groups else 1)
        self._model_is_fine = update.ratio < well_below * self._limit
        model = {'model': update.ratio}
        self._model = [
            self._finding(step, '', model[name])
            for name in self._streaks[0].update(
                _large(model, self._limit, self._streaks[0]))
        ]

    def _see_groups(self, step: int, groups: Dict[str,
                                                  float]) -> List[Finding]:
        large = _large(groups, self._group_limit, self._streaks[1])
        lasting = self._streaks[1].update(large)
        if lasting and 2 * len(large) > len(groups):
            median = statistics.median(groups[g] for g in large)
            return [self._finding(step, '', median)]
        return [
            self._finding(step, group, groups[group]) for group in lasting
            if self._model_is_fine
        ]

    def _finding(self, step: int, group: str, ratio: float) -> Finding:
        return _finding(
            step, group, ratio, 'too large for its weights',
            'Lower the learning rate' +
            (' of this group (lr_mult in paramwise_cfg)' if group else '') +
            ' by 10, or make the warm-up longer.')


@DETECTORS.register_module()
class SmallUpdateDetector(Detector):
    """Find updates that are too small to change the weights.

    ======================== =============================================
    ``update_ratio``         Of all weights
    ``update_ratio/<group>`` Of a layer group, compared with all others
    ======================== =============================================

    Args:
        limit (float): The ratio of update to weights below which an update
            is too small. Defaults to 1e-6.
    """

    findings = ('update_ratio', )
    wants = (LearningRates, Updates, LayerUpdates)
    chain = StoppedLearning
    priority = 'BELOW_NORMAL'

    def __init__(self, limit: float = _SMALL_RATIO) -> None:
        self._limit = limit

    def before_train(self, runner) -> None:
        self._streaks = Streaks(), Streaks()
        self._started_at = started_at(runner)
        self._lr: Optional[float] = None
        self._highest_lr = 0.
        self._model: List[Finding] = []
        self._groups: List[Finding] = []

    def see(self, step: int, measurement) -> Optional[List[Finding]]:
        if isinstance(measurement, LearningRates):
            self._lr = measurement.highest
            self._highest_lr = max(self._highest_lr, self._lr)
            return None
        if isinstance(measurement, LayerUpdates):
            groups = _of_groups(measurement)
            if groups:
                median = statistics.median(groups.values())
                self._groups = self._see(
                    step, groups, self._streaks[1],
                    min(self._limit, _SMALL_BESIDE_OTHERS * median))
        elif _is_number(measurement.ratio):
            annealed = (
                self._lr is None or self._lr < _ANNEALED * self._highest_lr)
            self._model = self._see(step, {'model': measurement.ratio},
                                    self._streaks[0],
                                    0. if annealed else self._limit)
        return self._model or self._groups

    def _see(self, step: int, ratios: Dict[str, float], streaks: Streaks,
             limit: float) -> List[Finding]:
        # Weights that do not change at all are a finding of their own.
        small = [
            name for name, ratio in ratios.items()
            if 0 < ratio < limit / streaks.hysteresis(name)
        ]
        lasting = streaks.update(small if step >= self._started_at else [])
        return [
            self._finding(step, '' if name == 'model' else name, ratios[name])
            for name in lasting
        ]

    def _finding(self, step: int, group: str, ratio: float) -> Finding:
        return _finding(
            step, group, ratio, 'too small to change its weights',
            'Raise the learning rate' +
            (' of this group: look for an lr_mult in paramwise_cfg'
             if group else '') + ', and look for a loss weight that is tiny.')


def _finding(step: int, group: str, ratio: float, problem: str,
             advice: str) -> Finding:
    return Finding(
        f'update_ratio/{group}' if group else 'update_ratio',
        f'The updates of {dotted(group or "model")} are {problem}.',
        f'That of step {step:,} changed them by {ratio:.2g} of their norm; '
        '0.001 is usual.', advice)


def _of_groups(layers: LayerUpdates) -> Dict[str, float]:
    # A bias may start at 0 and stay around it.
    return {
        group: ratio
        for group, ratio in layers.ratios.items()
        if _is_number(ratio) and not group.endswith('/bias')
    }


def _is_number(ratio: Optional[float]) -> bool:
    return ratio is not None and not math.isnan(ratio)


def _large(ratios: Dict[str, float], limit: float,
           streaks: Streaks) -> List[str]:
    return [
        name for name, ratio in ratios.items()
        if ratio > limit * streaks.hysteresis(name)
    ]
