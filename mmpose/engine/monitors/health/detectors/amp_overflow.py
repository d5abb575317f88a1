# Copyright (c) OpenMMLab. All rights reserved.
from collections import defaultdict, deque
from typing import Dict, List

from ...core.measurements import LossScale
from ...core.registry import DETECTORS
from ..chains import FirstNonfinite
from ..detector import Detector, of_optimizer
from ..report import Finding

# GradScaler finds the loss scale by trying: at first about ten consecutive
# updates are skipped, later one in 2000. It takes 17 to halve 65536 to below
# 1.
_SKIPPED = 0.5
_MIN_UPDATES = 20
_LEAST_LOSS_SCALE = 1


@DETECTORS.register_module()
class LossScaleDetector(Detector):
    """``amp_overflow``: mixed precision skips too many updates.

    With several optimizers it is ``amp_overflow/<optimizer>``.

    Args:
        fraction (float): The fraction of the last 20 updates above which too
            many are skipped. Defaults to 0.5.
    """

    findings = ('amp_overflow', )
    wants = (LossScale, )
    chain = FirstNonfinite
    priority = 'BELOW_NORMAL'

    def __init__(self, fraction: float = _SKIPPED) -> None:
        self._fraction = fraction

    def before_train(self, runner) -> None:
        # By optimizer: updates and skipped ones of the last measurements.
        self._recent: Dict[str, deque] = defaultdict(deque)
        self._present: Dict[str, List[Finding]] = {}

    def see(self, step: int, amp: LossScale) -> List[Finding]:
        recent = self._recent[amp.optimizer]
        recent.append((amp.updates, amp.skipped))
        while sum(u for u, _ in recent) - recent[0][0] >= _MIN_UPDATES:
            recent.popleft()
        updates, skipped = map(sum, zip(*recent))
        overflows = (
            updates >= _MIN_UPDATES and skipped > self._fraction * updates
            or amp.scale < _LEAST_LOSS_SCALE)
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
        ] if overflows else []
        return [f for found in self._present.values() for f in found]
