# Copyright (c) OpenMMLab. All rights reserved.
import time
from typing import Callable, Dict, Iterable, List, Optional, Sequence

from .failure_guard import FailureGuard


class OverheadBudget:
    """Limit the fraction of the training thread's time that monitors take.

    Each iteration adds a little time to the accounts of the monitors. A
    monitor that is due measures unless its account is overdrawn; else it waits
    for a later due step, so that its interval is stretched. The time is
    divided such that cheap monitors get all that they need and only the most
    expensive ones are stretched.

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
        self._accounts: Dict[FailureGuard, _Account] = {
            guard: _Account(guard)
            for guard in guards
        }

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
        self._last = self._clock()
        for account in self._accounts.values():
            account.settled = account.guard.seconds

    def after_iter(self) -> None:
        """Divide the time that an iteration has earned, after each one."""
        now = self._clock()
        elapsed, self._last = now - self._last, now
        accounts = list(self._accounts.values())
        spent = sum(account.settle() for account in accounts)
        earned = (elapsed - spent) * self.fraction / (1 - self.fraction)
        # No more is saved than one measurement costs.
        demands = [account.cost() - account.balance for account in accounts]
        for account, part in zip(accounts, divide_fairly(earned, demands)):
            account.balance += part

    def allows(self, guard: FailureGuard) -> bool:
        """Return whether a monitor that is due may measure.

        To be called once a step.

        Args:
            guard (FailureGuard): The guard of the monitor.

        Returns:
            bool: False if it is to wait for its next due step.
        """
        account = self._accounts[guard]
        account.waiting += 1
        # The cost varies: an account may be overdrawn by half of it.
        if account.balance < -account.cost() / 2:
            return False
        account.measured += 1
        account.stretch, account.waiting = account.waiting, 0
        return True

    def stretch(self, guard: FailureGuard) -> int:
        """Return the factor by which the interval of a monitor is stretched.

        Args:
            guard (FailureGuard): The guard of the monitor.

        Returns:
            int: 1 if it measures whenever it is due, 2 if every second time.
        """
        return self._accounts[guard].stretch


class _Account:
    """Count the seconds that a monitor has spent and may spend."""

    def __init__(self, guard: FailureGuard) -> None:
        self.guard = guard
        self.settled = guard.seconds
        self.seconds = 0.
        self.balance = 0.
        self.measured = 0
        self.waiting = 0
        self.stretch = 1

    def settle(self) -> float:
        """Subtract the time spent since the last call, and return it."""
        spent = self.guard.seconds - self.settled
        self.settled = self.guard.seconds
        self.seconds += spent
        self.balance -= spent
        return spent

    def cost(self) -> float:
        """Return the mean cost of a measurement."""
        return self.seconds / max(self.measured, 1)


def divide_fairly(amount: float, demands: List[float]) -> List[float]:
    """Divide an amount by max-min fairness.

    Small demands are met in full, and the rest is divided equally among the
    larger ones.

    Args:
        amount (float): The amount.
        demands (list[float]): The demands.

    Returns:
        list[float]: The parts, in the order of the demands.
    """
    parts = [0.] * len(demands)
    ascending = sorted(range(len(demands)), key=demands.__getitem__)
    for place, i in enumerate(ascending):
        parts[i] = min(demands[i], amount / (len(demands) - place))
        amount -= parts[i]
    return parts
