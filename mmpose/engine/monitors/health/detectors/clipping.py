# Copyright (c) OpenMMLab. All rights reserved.
from collections import defaultdict
from typing import Dict, List

from ...core.measurements import Clipping
from ...core.registry import DETECTORS
from ..detector import Detector, Streaks
from ..report import Finding

# Clipping is there for the rare update that is too large. Where it shortens
# almost every one to less than a tenth, it is clipping that decides how long
# the steps are, and not the learning rate.
_CLIPPED = 0.9
_SHORTENED = 0.1
# The first gradients of a training are large.
_FROM_STEP = 100


@DETECTORS.register_module()
class ClippingDetector(Detector):
    """``clipping``: it is clipping that decides how long the steps are.

    Only for optimizers whose steps are as long as the gradient. Transformers
    are often trained by Adam with every update clipped, and well. With
    several optimizers it is ``clipping/<optimizer>``.

    Args:
        fraction (float): Of the updates, above which most are clipped.
            Defaults to 0.9.
        shortened (float): The fraction of its length that is left of a step.
            Defaults to 0.1.
    """

    wants = (Clipping, )

    def __init__(self,
                 fraction: float = _CLIPPED,
                 shortened: float = _SHORTENED) -> None:
        self._fraction = fraction
        self._shortened = shortened

    def before_train(self, runner) -> None:
        # By optimizer.
        self._streaks: Dict[str, Streaks] = defaultdict(Streaks)
        self._present: Dict[str, List[Finding]] = {}

    def see(self, step: int, clipping: Clipping) -> List[Finding]:
        optimizer = clipping.optimizer
        name = f'clipping/{optimizer}' if optimizer else 'clipping'
        ease = self._streaks[optimizer].ease(name)
        factor = 1 if clipping.step_factor is None else clipping.step_factor
        clips = (
            step >= _FROM_STEP and clipping.fraction > self._fraction * ease
            and factor * ease < self._shortened)
        of = f' of the optimizer {optimizer}' if optimizer else ''
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
        ]
        return [f for found in self._present.values() for f in found]
