# Copyright (c) OpenMMLab. All rights reserved.
from typing import List, Optional, Tuple

import numpy as np

from ....core.measurements import HostMemory
from ....core.registry import DETECTORS
from ....core.runner_parts import is_iter_based
from ...detector import HYSTERESIS, Detector
from ...report import NOTE, WARNING, Finding

# At least this many measurements, and this fraction of what was left.
_MEASUREMENTS = 20
_FRACTION = 0.05
# What grows without end grows as fast in each quarter of the time; a cache
# that fills grows ever more slowly.
_QUARTER = 0.75
# It is resolved when it has slowed down to this.
_RESOLVED = 0.25
# When there are twice as many, every second measurement is kept.
_KEPT = 200


@DETECTORS.register_module()
class GrowingMemoryDetector(Detector):
    """``memory_grows``: main memory will be used up before the end.

    The last half of the training so far is judged: how fast the memory that
    is left becomes less. In the first epoch it is a note, since a cache may be
    what fills it.

    Args:
        fraction (float): The fraction of the memory that was left, by which
            it has to become less. Defaults to 0.05.
    """

    findings = ('memory_grows', )
    wants = (HostMemory, )

    def __init__(self, fraction: float = _FRACTION) -> None:
        self._fraction = fraction

    def before_train(self, runner) -> None:
        self._present: List[Finding] = []
        # Steps, and what is resident and available there, and in children.
        self._measured: List[Tuple[int, float, float, float]] = []
        self._first_step = runner.iter + 1
        self._last_step = runner.max_iters
        epochs = 1 if is_iter_based(runner) else runner.max_epochs
        self._epoch = runner.max_iters / max(epochs, 1)

    def see(self, step: int, memory: HostMemory) -> Optional[List[Finding]]:
        self._measured.append(
            (step, memory.resident, memory.available, memory.children))
        if len(self._measured) > 2 * _KEPT:
            del self._measured[1::2]
        half = np.array(self._measured[len(self._measured) // 2:])
        if len(half) < _MEASUREMENTS:
            return None
        steps, resident, available, children = half.T
        lost = available[0] - available[-1]
        quarters = -np.diff(
            np.interp(np.linspace(steps[0], steps[-1], 5), steps, available))
        slowest, until = _QUARTER, self._last_step
        if self._present:
            slowest, until = _RESOLVED, until / HYSTERESIS
        self._present = []
        if lost > self._fraction * available[0] and (
                quarters.min() >= slowest * lost / len(quarters)):
            per_step = lost / (steps[-1] - steps[0])
            ends_at = step + available[-1] / per_step
            if ends_at < until:
                self._present = [
                    self._finding(steps, per_step, lost, ends_at,
                                  resident[-1] - resident[0],
                                  children[-1] - children[0])
                ]
        return self._present

    def _finding(self, steps: np.ndarray, per_step: float, lost: float,
                 ends_at: float, own: float, of_workers: float) -> Finding:
        if own >= lost / 2:
            whose = 'this process'
            advice = (
                'Look for what is kept from iteration to iteration: a list '
                'that losses or outputs are appended to without .detach() or '
                '.item(), predictions that a hook or a metric collects.')
        else:
            whose = ('workers of the data loader' if of_workers >= lost / 2
                     else 'other processes, such as workers of the data '
                     'loader')
            advice = (
                'A worker touches each sample of the annotations in its turn, '
                'and so copies them: keep serialize_data=True of the data '
                'set, or lower num_workers. Look also at what else runs on '
                'this machine.')
        severity = WARNING
        if steps[-1] - self._first_step < self._epoch:
            severity = NOTE
            advice = ('If it fills a cache, it will stop after an epoch. ' +
                      advice)
        return Finding(
            'memory_grows', 'Main memory is used up more and more, by '
            f'{whose}: it does not last until the end of the training.',
            f'From step {steps[0]:,.0f} to step {steps[-1]:,.0f} what is left '
            f'became less by {lost:,.0f} MiB, that is {per_step:.3g} MiB per '
            f'iteration, steadily; this process grew by {own:,.0f} MiB, its '
            f'child processes by {of_workers:,.0f} MiB. At this rate '
            f'nothing is left at step {ends_at:,.0f} of '
            f'{self._last_step:,}.', advice, severity)
