# Copyright (c) OpenMMLab. All rights reserved.
from typing import List

from ...core.measurements import Activations
from ...core.registry import DETECTORS
from ..chains import StoppedLearning
from ..detector import Detector, Streaks
from ..report import Finding

# Of a few samples a healthy layer leaves some channels without effect: 28 % at
# most in 15 backbones of MMPose with random weights, for four random images.
_CLOSED = 0.9
_CONSECUTIVE = 2
# These end a branch, and a gradient vanishes at either end of them.
_SATURATE = ('Sigmoid', 'Hardsigmoid', 'Tanh')


@DETECTORS.register_module()
class ActivationDetector(Detector):
    """Find activations that no gradient passes.

    ============================ ============================================
    ``dead_activation/<layer>``  Hardly any channel of a ReLU, SiLU or GELU is
                                 active for any of the fixed samples
    ``saturated/<layer>``        Hardly any channel of a sigmoid or tanh is
                                 below its limits
    ============================ ============================================

    Of several such layers the first of the model is named: those after it get
    nothing through it.

    Args:
        fraction (float): The fraction of a layer's channels above which it is
            reported. Defaults to 0.9.
    """

    findings = ('dead_activation', 'saturated')
    wants = (Activations, )
    chain = StoppedLearning

    def __init__(self, fraction: float = _CLOSED) -> None:
        self._fraction = fraction

    def before_train(self, runner) -> None:
        self._streaks = Streaks(_CONSECUTIVE)

    def see(self, step: int, activations: Activations) -> List[Finding]:
        closed = activations.closed
        lasting = self._streaks.update(
            name for name in closed
            if closed[name] > self._fraction * self._streaks.hysteresis(name))
        return [
            _finding(step, name, activations.kinds[name], closed[name],
                     len(lasting) - 1) for name in lasting[:1]
        ]


def _finding(step: int, layer: str, kind: str, closed: float,
             others: int) -> Finding:
    place = layer.replace('.', '/')
    also = f' {others} more layers are so as well.' if others else ''
    evidence = (f'In the prediction of the fixed samples at step {step:,} '
                f'{closed:.0%} of its channels pass no gradient, for any '
                f'sample at any place.{also}')
    if kind in _SATURATE:
        return Finding(
            f'saturated/{place}',
            f'{layer} ({kind}) is saturated: no gradient passes it.', evidence,
            'What enters it is far too large. Lower the learning rate, '
            'initialise the layer before it with smaller weights, or compute '
            'the loss from what enters it (with logits).')
    return Finding(
        f'dead_activation/{place}',
        f'{layer} ({kind}) is dead: it lets hardly anything through.',
        evidence,
        'What enters it is negative everywhere: look at the bias, or at the '
        'batch norm, before it. A learning rate that is too high, also for a '
        'moment, does that for good: start again with a lower one, or with a '
        'longer warm-up. Look also at the input: an image that is black or '
        'not normalised.')
