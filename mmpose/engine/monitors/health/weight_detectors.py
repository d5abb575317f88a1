# Copyright (c) OpenMMLab. All rights reserved.
import math
import statistics
from typing import Dict, List, Optional

from mmengine.logging import print_log

from .first_cause import BACK, Streaks, dotted, started_at, under
from .health import Detector
from .health_report import Finding
from .learning_rate_detectors import highest_learning_rate

_RATIO = 'health/update_ratio'

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
# have none by far.
_WELL_BELOW = 0.1
# Smaller ones are lost in the rounding of float32, which is 6e-8, in good
# part. For a layer group only where it is so beside the others too, since all
# become small when the learning rate is annealed; for the model only where it
# is not annealed.
_SMALL_RATIO = 1e-6
_SMALL_BESIDE_OTHERS = 1e-3
_ANNEALED = 0.1

# Weight decay takes a few percent of the channels in a training that is well.
_DEAD_CHANNELS = 0.3


class LargeUpdateDetector(Detector):
    """Updates that are too large for the weights.

    ======================== =============================================
    ``update_ratio``         Those of all weights, or of most layer groups
    ``update_ratio/<group>`` Those of a layer group, where those of all
                             together are well below
    ======================== =============================================
    """

    def before_train(self, runner) -> None:
        self._streaks = Streaks(), Streaks()
        self._limit = self._group_limit = math.inf
        self._all_well = True
        self._model: List[Finding] = []
        self._groups: List[Finding] = []

    def see(self, step: int, scalars: Dict[str,
                                           float]) -> Optional[List[Finding]]:
        model, groups = _ratios(scalars)
        if model:
            self._limit, self._group_limit = (
                max(_LARGE_RATIO, times / scalars['health/updates'])
                for times in (_LARGE_RATIO_TIMES_UPDATES,
                              _LARGE_RATIO_OF_GROUP_TIMES_UPDATES))
            well_below = _WELL_BELOW / (BACK if self._groups else 1)
            self._all_well = model['model'] < well_below * self._limit
            self._model = [
                self._finding(step, '', model[name])
                for name in self._streaks[0].update(
                    _large(model, self._limit, self._streaks[0]))
            ]
        elif groups:
            self._groups = self._see_groups(step, groups)
        else:
            return None
        return self._model or self._groups

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


class SmallUpdateDetector(Detector):
    """Updates that are too small to change the weights.

    ======================== =============================================
    ``update_ratio``         Those of all weights
    ``update_ratio/<group>`` Those of a layer group, beside all others
    ======================== =============================================
    """

    def before_train(self, runner) -> None:
        self._streaks = Streaks(), Streaks()
        self._started_at = started_at(runner)
        self._lr: Optional[float] = None
        self._highest_lr = 0.
        self._model: List[Finding] = []
        self._groups: List[Finding] = []

    def see(self, step: int, scalars: Dict[str,
                                           float]) -> Optional[List[Finding]]:
        lr = highest_learning_rate(scalars)
        if lr is not None:
            self._lr = lr
            self._highest_lr = max(self._highest_lr, lr)
        model, groups = _ratios(scalars)
        if not model and not groups:
            return None
        if model:
            annealed = (
                self._lr is None or self._lr < _ANNEALED * self._highest_lr)
            self._model = self._see(step, model, self._streaks[0],
                                    0. if annealed else _SMALL_RATIO)
        else:
            median = statistics.median(groups.values())
            self._groups = self._see(
                step, groups, self._streaks[1],
                min(_SMALL_RATIO, _SMALL_BESIDE_OTHERS * median))
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


def _ratios(scalars: Dict[str, float]) -> tuple:
    """That of the model, or those of the layer groups, if there are any."""
    model = {'model': scalars[_RATIO]} if _RATIO in scalars else {}
    # A bias alone may start at 0 and stay around it.
    groups = {
        group: ratio
        for group, ratio in under(f'{_RATIO}/', scalars).items()
        if not group.endswith('/bias')
    }
    return tuple({k: v
                  for k, v in ratios.items() if not math.isnan(v)}
                 for ratios in (model, groups))


class UnchangedWeightsDetector(Detector):
    """``unchanged_weights/<module>``: a module that does not learn."""

    def before_train(self, runner) -> None:
        self._streaks = Streaks()
        self._started_at = started_at(runner)
        self._lr_is_known = False
        self._unchanged: List[Finding] = []
        self._not_in_optimizer: List[Finding] = []

    def see(self, step: int, scalars: Dict[str,
                                           float]) -> Optional[List[Finding]]:
        if highest_learning_rate(scalars) is not None:
            self._lr_is_known = True
        if _RATIO in scalars:
            self._unchanged = self._see_update(step, scalars)
        elif 'health/unused_parameters' in scalars:
            self._not_in_optimizer = [
                self._finding(
                    step, place, number, 'no optimizer has its weights',
                    'see that the optimizer is given all parameters, and '
                    'those that the model trains with') for place, number in
                under('health/not_in_optimizer/', scalars).items()
            ]
        else:
            return None
        return self._unchanged + self._not_in_optimizer

    def _see_update(self, step: int, scalars: Dict[str,
                                                   float]) -> List[Finding]:
        unchanged = under('health/unchanged_weights/', scalars)
        stopped = under('health/zero_learning_rate/', scalars)
        if 'model' in stopped and self._lr_is_known:
            # That the whole training has none is a finding of its own.
            unchanged.pop('model', None)
        findings = []
        for place in self._streaks.update(
                place for place in unchanged
                if step >= self._started_at or place in stopped):
            why, advice = (('its learning rate is 0',
                            'look for an lr_mult of 0 in paramwise_cfg')
                           if place in stopped else
                           ('the updates do not change its weights',
                            'look for weights in float16, which small '
                            'updates are lost in'))
            findings.append(
                self._finding(step, place, unchanged[place], why, advice))
        return findings

    def _finding(self, step: int, place: str, number: float, why: str,
                 advice: str) -> Finding:
        return Finding(
            f'unchanged_weights/{place}',
            f'{dotted(place)} does not learn: {why}.',
            f'{number:.0f} of its parameters are exactly as before, after '
            f'the update of step {step:,}, and have a gradient.',
            f'If it is to learn, {advice}. If not, requires_grad=False saves '
            'its gradients.')


class NoGradientDetector(Detector):
    """``no_gradient/<module>``: a module that the loss never reaches.

    A config with ``find_unused_parameters=True`` has such modules on purpose:
    there they are named in the log, once.
    """

    def before_train(self, runner) -> None:
        self._on_purpose = bool(runner.cfg.get('find_unused_parameters'))
        self._told = False

    def see(self, step: int, scalars: Dict[str,
                                           float]) -> Optional[List[Finding]]:
        if 'health/unused_parameters' not in scalars:
            return None
        unused = under('health/no_gradient/', scalars)
        if self._on_purpose:
            if unused and not self._told:
                self._tell(unused)
            return []
        return [
            Finding(
                f'no_gradient/{place}',
                f'No gradient ever arrives at {dotted(place)}.',
                f'{number:.0f} of its parameters require one and had none in '
                f'any update up to step {step:,}.',
                'If it is to learn, see that the loss depends on its output, '
                'with no detach() or no_grad() in between. If not, set '
                'requires_grad=False or take it out: distributed training '
                'stops at parameters that are not used.')
            for place, number in unused.items()
        ]

    def _tell(self, unused: Dict[str, float]) -> None:
        self._told = True
        print_log(
            'EnhancedTensorBoardHook: no gradient arrives at '
            f'{", ".join(map(dotted, unused))}. That is no finding where the '
            'config has find_unused_parameters=True.',
            logger='current')


class FrozenHeadDetector(Detector):
    """``frozen_head``: all is trained but what makes the predictions."""

    def see(self, step: int, scalars: Dict[str,
                                           float]) -> Optional[List[Finding]]:
        if 'health/unused_parameters' not in scalars:
            return None
        number = scalars.get('health/frozen_head')
        return [] if number is None else [
            Finding(
                'frozen_head',
                'The head is frozen, while other parts of the model are '
                'trained.', f'At step {step:,} none of its {number:.0f} '
                'parameters requires a gradient.',
                'If it is to learn, look for what sets requires_grad=False '
                'on the head or on the whole model: a hook, or the code that '
                'builds it.')
        ]


class DeadChannelDetector(Detector):
    """``dead_channels``: batch norms let few channels through any more."""

    def before_train(self, runner) -> None:
        self._streaks = Streaks()

    def see(self, step: int, scalars: Dict[str,
                                           float]) -> Optional[List[Finding]]:
        share = scalars.get('health/dead_channels')
        if share is None:
            return None
        limit = _DEAD_CHANNELS * self._streaks.ease('dead_channels')
        dead = ['dead_channels'] if share > limit else []
        return [
            Finding(
                name, 'Batch norms have switched many channels off.',
                f'At step {step:,} {share:.0%} of those that were once let '
                'through are scaled by less than 0.001.',
                'Lower the learning rate or the weight decay, or take it off '
                'the batch norms (norm_decay_mult=0 in paramwise_cfg).')
            for name in self._streaks.update(dead)
        ]


def _large(ratios: Dict[str, float], limit: float,
           streaks: Streaks) -> List[str]:
    return [
        name for name, ratio in ratios.items()
        if ratio > limit * streaks.ease(name)
    ]
