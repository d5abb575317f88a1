# Copyright (c) OpenMMLab. All rights reserved.
from collections import defaultdict, deque
from typing import Dict, List, Optional

from .first_cause import FirstCauseDetector, Streaks, under
from .gradient_detectors import (ExplodingGradientDetector, NonfiniteDetector,
                                 VanishingGradientDetector)
from .health import Detector
from .health_report import Finding
from .learning_rate_detectors import DivergenceDetector
from .loss_detectors import NonfiniteLossDetector
from .weight_detectors import (DeadChannelDetector, FrozenHeadDetector,
                               LargeUpdateDetector, NoGradientDetector,
                               SmallUpdateDetector, UnchangedWeightsDetector)

# Clipping is there for the rare update that is too large. Where it shortens
# almost every one to less than a tenth, it is clipping that decides how long
# the steps are, and not the learning rate.
_CLIPPED_SHARE = 0.9
_SHORTENED = 0.1
# The first gradients of a training are large.
_CLIPPING_FROM = 100

# A loss scale is found by trying: at first about ten updates running are
# skipped, later one in 2000. From 65536 it takes 17 to get below 1.
_SKIPPED_SHARE = 0.5
_MIN_UPDATES = 20
_LEAST_LOSS_SCALE = 1


def step_detectors(nonfinite: bool = True) -> List[Detector]:
    """One detector for each illness that shows where the optimizer steps.

    ========================== ===========================================
    ``nonfinite_weight``       Weights are NaN or infinite before an update
    ``nonfinite_gradient``     Gradients are
    ``nonfinite_update``       Weights are after it
    ``nonfinite_loss``         A loss is NaN or infinite
    ``update_ratio``           Updates are too large for the weights, or too
                               small
    ``exploding_gradient``     Gradients are 1000 times what they were
    ``learning_rate_too_high`` The loss has risen and stays there
    ``no_gradient``            Parameters never have a gradient
    ``vanishing_gradient``     Hardly any gradient arrives
    ``unchanged_weights``      Updates do not change the weights
    ``frozen_head``            The head is frozen, and others learn
    ``dead_channels``          Batch norms have switched channels off
    ``clipping``               Clipping decides how long the steps are
    ``amp_overflow``           Mixed precision skips updates
    ========================== ===========================================

    Of the first four there is one at a time, the one that began first, and no
    ``amp_overflow`` beside it; of the three after them as well; and of the
    three after those one at a place. A place is named behind a '/'.

    Args:
        nonfinite (bool): Whether to look for what is NaN or infinite.
            Defaults to True.

    Returns:
        list[Detector]: What to give a :class:`HealthMonitor`.
    """
    return [
        DivergingStepDetector(),
        StalledStepDetector(),
        DeadChannelDetector(),
        ClippingDetector(),
        FrozenHeadDetector(),
        FirstNonfiniteDetector() if nonfinite else LossScaleDetector()
    ]


class FirstNonfiniteDetector(FirstCauseDetector):
    """Where something was NaN or infinite first: all else follows.

    Updates that mixed precision skips may follow; they explain nothing.
    """

    def __init__(self) -> None:
        super().__init__([
            NonfiniteDetector(),
            NonfiniteLossDetector(),
            LossScaleDetector()
        ])

    def follows(self, finding: Finding, cause: Finding) -> bool:
        return not cause.name.startswith('amp_overflow')


class DivergingStepDetector(FirstCauseDetector):
    """What goes out of bounds first."""

    def __init__(self) -> None:
        super().__init__([
            LargeUpdateDetector(),
            ExplodingGradientDetector(),
            DivergenceDetector()
        ])


class StalledStepDetector(FirstCauseDetector):
    """Why a module does not learn, once for each."""

    def __init__(self) -> None:
        super().__init__([
            NoGradientDetector(),
            VanishingGradientDetector(),
            UnchangedWeightsDetector(),
            SmallUpdateDetector()
        ])

    def follows(self, finding: Finding, cause: Finding) -> bool:
        """Where one is in the other, or they are in the same place."""
        place, other = map(_place, (finding, cause))
        if not place:  # What is wrong everywhere did not begin somewhere.
            return not other
        return place.startswith(other) or other.startswith(place)


def _place(finding: Finding) -> str:
    """Where it is: '' is everywhere."""
    place = finding.name.partition('/')[2]
    return '' if place in ('', 'model') else f'{place}/'


class ClippingDetector(Detector):
    """``clipping``: it is clipping that decides how long the steps are.

    Only for optimizers whose steps are as long as the gradient. Transformers
    are often trained by Adam with every update clipped, and well. With
    several optimizers it is ``clipping/<optimizer>``.
    """

    def before_train(self, runner) -> None:
        # By optimizer.
        self._streaks: Dict[str, Streaks] = defaultdict(Streaks)
        self._present: Dict[str, List[Finding]] = {}

    def see(self, step: int, scalars: Dict[str,
                                           float]) -> Optional[List[Finding]]:
        readings = _by_optimizer('health/clipping/', scalars)
        if not readings:
            return None
        for optimizer, reading in readings.items():
            factor = reading.get('learning_rate_factor', 1)
            name = _name('clipping', optimizer)
            ease = self._streaks[optimizer].ease(name)
            clips = (
                step >= _CLIPPING_FROM
                and reading['share'] > _CLIPPED_SHARE * ease
                and factor * ease < _SHORTENED)
            self._present[optimizer] = [
                Finding(
                    name, 'Clipping, not the learning rate, decides how long '
                    f'the steps{_of(optimizer)} are.',
                    f'{reading["share"]:.0%} of the updates since the last '
                    f'reading were clipped, that of step {step:,} from a norm '
                    f'of {reading["norm_before"]:.2g} to '
                    f'{reading["threshold"]:.2g}.',
                    'Raise the threshold in clip_grad above the usual norm, '
                    'and lower the learning rate if the loss then diverges.')
                for name in self._streaks[optimizer].update(
                    [name] if clips else [])
            ]
        return [f for found in self._present.values() for f in found]


class LossScaleDetector(Detector):
    """``amp_overflow``: mixed precision skips too many updates.

    With several optimizers it is ``amp_overflow/<optimizer>``.
    """

    def before_train(self, runner) -> None:
        # By optimizer: updates and skipped ones of the last readings.
        self._recent: Dict[str, deque] = defaultdict(deque)
        self._present: Dict[str, List[Finding]] = {}

    def see(self, step: int, scalars: Dict[str,
                                           float]) -> Optional[List[Finding]]:
        readings = _by_optimizer('health/amp/', scalars)
        if not readings:
            return None
        for optimizer, reading in readings.items():
            recent = self._recent[optimizer]
            recent.append((reading['updates'], reading['skipped']))
            while sum(u for u, _ in recent) - recent[0][0] >= _MIN_UPDATES:
                recent.popleft()
            updates, skipped = map(sum, zip(*recent))
            overflows = (
                updates >= _MIN_UPDATES and skipped > _SKIPPED_SHARE * updates
                or reading['loss_scale'] < _LEAST_LOSS_SCALE)
            self._present[optimizer] = [
                Finding(
                    _name('amp_overflow',
                          optimizer), 'Mixed precision skips too many updates'
                    f'{_of(optimizer)}: gradients overflow in float16.',
                    f'{skipped:.0f} of the last {updates:.0f} were skipped, '
                    f'and the loss scale is {reading["loss_scale"]:.3g} at '
                    f'step {step:,}.',
                    "Train in bfloat16 (dtype='bfloat16' in optim_wrapper) or "
                    'float32, or lower the learning rate. If the loss scale '
                    'goes on falling, the loss itself is NaN or infinite.')
            ] if overflows else []
        return [f for found in self._present.values() for f in found]


def _by_optimizer(prefix: str,
                  scalars: Dict[str, float]) -> Dict[str, Dict[str, float]]:
    """Readings, by the optimizer's name that may stand before the last part.

    Where there is just one optimizer it has none: ''.
    """
    readings: Dict[str, Dict[str, float]] = defaultdict(dict)
    for tag, value in under(prefix, scalars).items():
        optimizer, _, quantity = tag.rpartition('/')
        readings[optimizer][quantity] = value
    return readings


def _name(kind: str, optimizer: str) -> str:
    return f'{kind}/{optimizer}' if optimizer else kind


def _of(optimizer: str) -> str:
    return f' of the optimizer {optimizer}' if optimizer else ''
