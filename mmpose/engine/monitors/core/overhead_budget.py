# Copyright (c) OpenMMLab. All rights reserved.
import time
from typing import Callable, Dict, Iterable, Optional, Sequence

from .failure_guard import FailureGuard


class OverheadBudget:
    """Limit the fraction of the training thread's time that monitors take.

    A monitor that is due measures if all together have taken less than the
    budget so far, or if it has taken less than an equal part of the budget
    itself. Otherwise it waits for a later due step, so that its interval is
    stretched. So cheap monitors are never stretched, and the expensive ones
    share what is left.

    Args:
        fraction (float): The time of the monitors divided by the time of the
            training, which includes it; between 0 and 1.
        guards (Iterable[FailureGuard]): The guards of the monitors, which
            count their time.
        clock (Callable): Returns a time in seconds. Defaults to
            :func:`time.perf_counter`.
    """

    def __init__(self,
                 fraction: float,
                 guards: Iterable[FailureGuard],
                 clock: Callable[[], float] = time.perf_counter) -> None:
        self.fraction = fraction
        self._clock = clock
        self._guards = list(guards)
        # How often each monitor was due since it has last measured, and what
        # that number was when it did.
        self._waiting: Dict[FailureGuard, int] = {}
        self._stretch: Dict[FailureGuard, int] = {}

    @classmethod
    def of(cls, monitors: Sequence,
           fraction: Optional[float]) -> Optional['OverheadBudget']:
        """Return a budget and let the monitors ask it before they measure.

        Args:
            monitors (Sequence[Monitor]): The monitors.
            fraction (float, optional): See :class:`OverheadBudget`. None: no
                budget.
        """
        if fraction is None:
            return None
        budget = cls(fraction, [monitor.guard for monitor in monitors])
        for monitor in monitors:
            monitor.budget = budget
        return budget

    def start(self) -> None:
        """Begin to count, when the training begins."""
        self._began = self._clock()
        self._before = {guard: guard.seconds for guard in self._guards}

    def allows(self, guard: FailureGuard) -> bool:
        """Return whether a monitor that is due may measure.

        To be called once a step.

        Args:
            guard (FailureGuard): The guard of the monitor.

        Returns:
            bool: False if it is to wait for its next due step.
        """
        self._waiting[guard] = self._waiting.get(guard, 0) + 1
        budget = self.fraction * (self._clock() - self._began)
        taken = {g: g.seconds - before for g, before in self._before.items()}
        if (sum(taken.values()) > budget
                and taken[guard] > budget / len(self._guards)):
            return False
        self._stretch[guard] = self._waiting.pop(guard)
        return True

    def stretch(self, guard: FailureGuard) -> int:
        """Return the factor by which the interval of a monitor is stretched.

        Args:
            guard (FailureGuard): The guard of the monitor.

        Returns:
            int: 1 if it measures whenever it is due, 2 if every second time.
        """
        return self._stretch.get(guard, 1)
