# Copyright (c) OpenMMLab. All rights reserved.
from collections import defaultdict, deque
from typing import Dict, List

from ...core.measurements import LossScale
from ...core.registry import DETECTORS
from ..chains import FirstNonfinite
from ..detector import Detector, Streaks, of_optimizer
from ..report import Finding

# GradScaler finds the loss scale by trying: at first about ten consecutive
# updates are skipped, later one in 2000. It takes 17 to halve 65536 to below
# 1.
_SKIPPED = 0.5
_MIN_UPDATES = 20
_LEAST_LOSS_SCALE = 1
# The largest number of float16. With so small a loss scale, lowered by
# overflows, the gradients themselves are within a factor of 32 of it.
_LARGEST = 65504
_SMALL_LOSS_SCALE = 16
# The number of updates in which it is found.
_SETTLED = 50


@DETECTORS.register_module()
class LossScaleDetector(Detector):
    """Find gradients that float16 does not hold.

    ================== ====================================================
    ``amp_overflow``   Mixed precision skips too many updates
    ``amp_near_limit`` It skips few, but overflows have lowered the loss scale
                       to next to 1: what is left is used up soon, and small
                       gradients are lost in float16
    ================== ====================================================

    With several optimizers it is ``amp_overflow/<optimizer>``.

    Args:
        fraction (float): The fraction of the last 20 updates above which too
            many are skipped. Defaults to 0.5.
    """

    findings = ('amp_overflow', 'amp_near_limit')
    wants = (LossScale, )
    chain = FirstNonfinite
    priority = 'BELOW_NORMAL'

    def __init__(self, fraction: float = _SKIPPED) -> None:
        self._fraction = fraction

    def before_train(self, runner) -> None:
        # By optimizer: updates and skipped ones of the last measurements.
        self._recent: Dict[str, deque] = defaultdict(deque)
        self._present: Dict[str, List[Finding]] = {}
        # By optimizer: the number of updates, the highest loss scale, and the
        # consecutive measurements in which a lowered one is small.
        self._updates: Dict[str, int] = defaultdict(int)
        self._highest: Dict[str, float] = {}
        self._streaks: Dict[str, Streaks] = defaultdict(Streaks)

    def see(self, step: int, amp: LossScale) -> List[Finding]:
        recent = self._recent[amp.optimizer]
        recent.append((amp.updates, amp.skipped))
        while sum(u for u, _ in recent) - recent[0][0] >= _MIN_UPDATES:
            recent.popleft()
        updates, skipped = map(sum, zip(*recent))
        overflows = (
            updates >= _MIN_UPDATES and skipped > self._fraction * updates
            or amp.scale < _LEAST_LOSS_SCALE)
        highest = self._highest[amp.optimizer] = max(
            amp.scale, self._highest.get(amp.optimizer, 0.))
        self._updates[amp.optimizer] += amp.updates
        is_near = self._streaks[amp.optimizer].update(
            ['near'] if self._updates[amp.optimizer] >= _SETTLED
            and amp.scale <= min(_SMALL_LOSS_SCALE, highest / 2) else [])
        name, of = of_optimizer('amp_overflow', amp.optimizer)
        self._present[amp.optimizer] = [
            Finding(
                name, f'Mixed precision skips too many updates{of}: gradients '
                'overflow in float16.',
                f'{skipped} of the last {updates} were skipped, and the loss '
                f'scale is {amp.scale:.3g} at step {step:,}.',
                "Train in bfloat16 (dtype='bfloat16' in optim_wrapper) or "
                'float32, or lower the learning rate. If the loss scale goes '
                'on falling, the loss itself is NaN or infinite.')
        ] if overflows else self._near(step, amp) if is_near else []
        return [f for found in self._present.values() for f in found]

    def _near(self, step: int, amp: LossScale) -> List[Finding]:
        name, of = of_optimizer('amp_near_limit', amp.optimizer)
        return [
            Finding(
                name, f'Gradients{of} are close to the largest number of '
                'float16: mixed precision is about to skip updates.',
                f'Overflows have lowered the loss scale from '
                f'{self._highest[amp.optimizer]:.3g} to {amp.scale:.3g}, at '
                f'step {step:,}: a gradient of '
                f'{_LARGEST / (2 * amp.scale):,.0f} or more has been there, '
                f'and {_LARGEST:,} is the limit.',
                'Look for a loss weight that is too large, or a loss that is '
                'summed instead of averaged. If gradients have grown '
                '(train/gradient_norm), lower the learning rate. Or train in '
                "bfloat16 (dtype='bfloat16' in optim_wrapper).")
        ]
