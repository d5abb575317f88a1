# Copyright (c) OpenMMLab. All rights reserved.
from typing import List

from ...core.measurements import DeadChannels
from ...core.registry import DETECTORS
from ..detector import Detector, Streaks
from ..report import Finding


@DETECTORS.register_module()
class DeadChannelDetector(Detector):
    """``dead_channels``: batch norms have switched many channels off.

    Args:
        fraction (float): The fraction of dead channels above which it is
            reported. In a healthy run weight decay switches off a few percent.
            Defaults to 0.3.
    """

    findings = ('dead_channels', )
    wants = (DeadChannels, )

    def __init__(self, fraction: float = 0.3) -> None:
        self._fraction = fraction

    def before_train(self, runner) -> None:
        self._streaks = Streaks()

    def see(self, step: int, dead: DeadChannels) -> List[Finding]:
        limit = self._fraction * self._streaks.hysteresis('dead_channels')
        names = ['dead_channels'] if dead.fraction > limit else []
        return [
            Finding(
                name, 'Batch norms have switched many channels off.',
                f'At step {step:,} {dead.fraction:.0%} of those that were '
                'once let through are scaled by less than 0.001.',
                'Lower the learning rate or the weight decay, or exempt the '
                'batch norms from it (norm_decay_mult=0 in paramwise_cfg).')
            for name in self._streaks.update(names)
        ]
