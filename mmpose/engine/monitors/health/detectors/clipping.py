# Copyright (c) OpenMMLab. All rights reserved.
from collections import defaultdict
from typing import Dict, List

from ...core.measurements import Clipping
from ...core.registry import DETECTORS
from ..detector import Detector, Streaks, of_optimizer
from ..report import Finding

# Clipping is meant for the rare update that is too large. If it shortens
# almost every update to less than a tenth, the length of the steps is decided
# by clipping and not by the learning rate.
_CLIPPED = 0.9
_SHORTENED = 0.1
# The first gradients of a training are large.
_FROM_STEP = 100
# It has to last for so many iterations: any three in a row may be clipped.
_ITERS = 20


@DETECTORS.register_module()
class ClippingDetector(Detector):
    """``clipping``: clipping decides how long the steps are.

    Only for optimizers whose step length is that of the gradient: transformers
    are often trained well by Adam with every update clipped. With several
    optimizers it is ``clipping/<optimizer>``.

    Args:
        fraction (float): The fraction of clipped updates above which it is
            reported. Defaults to 0.9.
        shortened (float): The fraction of the length of a step, below which
            clipping has to shorten it. Defaults to 0.1.
    """

    findings = ('clipping', )
    wants = (Clipping, )

    def __init__(self,
                 fraction: float = _CLIPPED,
                 shortened: float = _SHORTENED) -> None:
        self._fraction = fraction
        self._shortened = shortened

    def before_train(self, runner) -> None:
        # By optimizer.
        self._streaks: Dict[str, Streaks] = defaultdict(Streaks)
        self._since: Dict[str, int] = {}
        self._present: Dict[str, List[Finding]] = {}

    def see(self, step: int, clipping: Clipping) -> List[Finding]:
        optimizer = clipping.optimizer
        name, of = of_optimizer('clipping', optimizer)
        easing = self._streaks[optimizer].hysteresis(name)
        factor = 1 if clipping.step_factor is None else clipping.step_factor
        clips = (
            step >= _FROM_STEP and clipping.fraction > self._fraction * easing
            and factor * easing < self._shortened)
        if not clips or optimizer not in self._since:
            self._since[optimizer] = step
        is_long = step - self._since[optimizer] > _ITERS
        self._present[optimizer] = [
            Finding(
                name, 'Clipping, not the learning rate, decides how long the '
                f'steps{of} are.',
                f'{clipping.fraction:.0%} of the updates since the last '
                f'logging step were clipped, that of step {step:,} from a '
                f'norm of {clipping.norm_before:.2g} to '
                f'{clipping.threshold:.2g}.',
                'Raise the threshold in clip_grad above the usual norm, and '
                'lower the learning rate if the loss then diverges.') for name
            in self._streaks[optimizer].update([name] if clips else [])
            if is_long
        ]
        return [f for found in self._present.values() for f in found]
