# Copyright (c) OpenMMLab. All rights reserved.
import math
import statistics
from typing import Dict, List, Optional

from ...core.measurements import LayerUpdates, LearningRates, Updates
from ...core.registry import DETECTORS
from ..chains import FirstDivergence, StoppedLearning
from ..detector import BACK, Detector, Streaks, dotted, started_at
from ..report import Finding

# About 1e-3 of the weights' norm is what an update usually changes them by.
# Weights that start near 0, of a fresh head say, change by far more at first:
# when all updates go the same way by 1 / update, when they go anywhere by
# 1 / sqrt(update). Both are below this from update 100 on, and below
# 10 / update until then. A layer group that starts at 0, as the last norm of a
# residual block, came to 11 / update while the learning rate was warming up.
_LARGE_RATIO = 0.1
_LARGE_RATIO_TIMES_UPDATES = 10
_LARGE_RATIO_OF_GROUP_TIMES_UPDATES = 20
# A layer group has updates of its own that are too large, where all together
# are far below.
_WELL_BELOW = 0.1
# Smaller ones are lost in the rounding of float32, which is 6e-8, in good
# part. For a layer group only where it is so beside the others too, since all
# become small when the learning rate is annealed; for the model only where it
# is not annealed.
_SMALL_RATIO = 1e-6
_SMALL_BESIDE_OTHERS = 1e-3
_ANNEALED = 0.1


@DETECTORS.register_module()
class LargeUpdateDetector(Detector):
    """Updates that are too large for the weights.

    ======================== =============================================
    ``update_ratio``         Those of all weights, or of most layer groups
    ``update_ratio/<group>`` Those of a layer group, where those of all
                             together are well below
    ======================== =============================================

    Args:
        limit (float): The ratio of update to weights above which an update
            is too large. Defaults to 0.1.
    """

    wants = (Updates, LayerUpdates)
    chain = FirstDivergence
    # Before what follows from it.
    priority = 'ABOVE_NORMAL'

    def __init__(self, limit: float = _LARGE_RATIO) -> None:
        self._given_limit = limit

    def before_train(self, runner) -> None:
        self._streaks = Streaks(), Streaks()
        self._limit = self._group_limit = math.inf
        self._all_well = True
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
        well_below = _WELL_BELOW / (BACK if self._groups else 1)
        self._all_well = update.ratio < well_below * self._limit
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
            if self._all_well
        ]

    def _finding(self, step: int, group: str, ratio: float) -> Finding:
        return Finding(
            f'update_ratio/{group}' if group else 'update_ratio',
            f'The updates of {dotted(group or "model")} are too large for its '
            'weights.', f'That of step {step:,} changed them by {ratio:.2g} '
            'of their norm; 0.001 is usual.', 'Lower the learning rate' +
            (' of this group (lr_mult in paramwise_cfg)' if group else '') +
            ' by 10, or make the warm-up longer.')


@DETECTORS.register_module()
class SmallUpdateDetector(Detector):
    """Updates that are too small to change the weights.

    ======================== =============================================
    ``update_ratio``         Those of all weights
    ``update_ratio/<group>`` Those of a layer group, beside all others
    ======================== =============================================

    Args:
        limit (float): The ratio of update to weights below which an update
            is too small. Defaults to 1e-6.
    """

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
        # At 0 they do not change at all, which has a finding of its own.
        small = [
            name for name, ratio in ratios.items()
            if 0 < ratio < limit / streaks.ease(name)
        ]
        lasting = streaks.update(small if step >= self._started_at else [])
        return [
            self._finding(step, '' if name == 'model' else name, ratios[name])
            for name in lasting
        ]

    def _finding(self, step: int, group: str, ratio: float) -> Finding:
        return Finding(
            f'update_ratio/{group}' if group else 'update_ratio',
            f'The updates of {dotted(group or "model")} are too small to '
            'change its weights.',
            f'That of step {step:,} changed them by {ratio:.2g} of their '
            'norm; 0.001 is usual.', 'Raise the learning rate' +
            (' of this group: look for an lr_mult in paramwise_cfg'
             if group else '') + ', and look for a loss weight that is tiny.')


def _of_groups(layers: LayerUpdates) -> Dict[str, float]:
    # A bias alone may start at 0 and stay around it.
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
        if ratio > limit * streaks.ease(name)
    ]
