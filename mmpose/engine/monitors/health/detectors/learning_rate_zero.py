# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, List

from ...core.measurements import LearningRates
from ...core.registry import DETECTORS
from ...core.runner_parts import is_iter_based
from ..detector import Detector, of_optimizer
from ..report import Finding

# Below this, float32 weights of usual size do not change.
_LEAST = 1e-10
# A schedule may begin and end near 0: for this fraction of the training or for
# one epoch, whichever is longer, but at most for the second fraction.
_EDGE = 0.05
_LONGEST_EDGE = 0.2
# Where a cosine turns, it is 0 for a moment: it has to be so in another
# measurement, after this fraction of the training.
_MOMENT = 0.01


@DETECTORS.register_module()
class LearningRateZeroDetector(Detector):
    """``learning_rate_zero``: the steps do not change the weights.

    With several optimizers it is ``learning_rate_zero/<optimizer>``.

    Args:
        edge (float): The fraction of the training at its beginning and end
            where a learning rate of 0 is usual. Defaults to 0.05.
    """

    findings = ('learning_rate_zero', )
    wants = (LearningRates, )

    def __init__(self, edge: float = _EDGE) -> None:
        self._edge = edge

    def before_train(self, runner) -> None:
        # By optimizer.
        self._was_above: Dict[str, bool] = {}
        # By optimizer, since which step it is 0.
        self._since: Dict[str, int] = {}
        self._present: Dict[str, Finding] = {}
        max_iters = runner.max_iters
        self._moment = _MOMENT * max_iters
        edge = self._edge * max_iters
        if not is_iter_based(runner):
            edge = max(edge, max_iters / runner.max_epochs)
        edge = max(1, min(edge, _LONGEST_EDGE * max_iters))
        self._start_until = edge
        self._end_after = max_iters - edge

    def see(self, step: int, rates: LearningRates) -> List[Finding]:
        for optimizer, lr in rates.by_optimizer.items():
            starts = (not self._was_above.get(optimizer)
                      and step <= self._start_until)
            if lr >= _LEAST:
                self._was_above[optimizer] = True
                self._since.pop(optimizer, None)
                self._present.pop(optimizer, None)
                continue
            since = self._since.setdefault(optimizer, step)
            lasts = step > since and step - since >= self._moment
            if lasts and not (optimizer in self._present or starts
                              or step > self._end_after):
                self._present[optimizer] = _finding(optimizer, since, step, lr)
        return list(self._present.values())


def _finding(optimizer: str, since: int, step: int, lr: float) -> Finding:
    name, of = of_optimizer('learning_rate_zero', optimizer)
    return Finding(
        name,
        f'The learning rate{of} is 0: the training goes on without learning.',
        f'The largest of all param groups is {lr:.3g} at step {step:,}, and '
        f'has been next to 0 since step {since:,}.',
        'Compare begin, end, T_max and by_epoch of each param_scheduler with '
        'the length of the training.')
