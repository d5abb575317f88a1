# Copyright (c) OpenMMLab. All rights reserved.
import time
from typing import Callable, Dict, Iterable, List, Optional, Sequence

from .failure_guard import FailureGuard


class OverheadBudget:
    """Holds what the monitors cost the training thread within a share of it.

    Every iteration earns a little time for the monitors. A monitor that is
    due reads if it has not overdrawn its part, else it waits for one of the
    next due steps: its interval is stretched. The time is shared out so that
    the cheap ones get all they ask for and the costliest are stretched.

    Args:
        share (float): Time of the monitors over time of the training with
            them, between 0 and 1.
        guards (Iterable[FailureGuard]): The guards of the monitors, which
            count their time.
        clock (Callable): Returns a time in seconds. Defaults to
            :func:`time.perf_counter`.
    """

    def __init__(self,
                 share: float,
                 guards: Iterable[FailureGuard],
                 clock: Callable[[], float] = time.perf_counter) -> None:
        self.share = share
        self._clock = clock
        self._accounts: Dict[FailureGuard, _Account] = {
            guard: _Account(guard)
            for guard in guards
        }
        self._iters = 0

    @classmethod
    def of(cls, monitors: Sequence,
           share: Optional[float]) -> Optional['OverheadBudget']:
        """Return a budget that these monitors ask before they measure.

        Args:
            monitors (Sequence[Monitor]): The monitors.
            share (float, optional): See :class:`OverheadBudget`. None: there
                is no budget.
        """
        if share is None:
            return None
        budget = cls(share, [monitor.guard for monitor in monitors])
        for monitor in monitors:
            monitor.budget = budget
        return budget

    def start(self) -> None:
        """To be called when the training begins."""
        self._last = self._clock()
        for account in self._accounts.values():
            account.settled = account.guard.seconds

    def after_iter(self) -> None:
        """To be called after every iteration: share out what it earned."""
        now = self._clock()
        elapsed, self._last = now - self._last, now
        self._iters += 1
        accounts = list(self._accounts.values())
        spent = sum(account.settle() for account in accounts)
        earned = (elapsed - spent) * self.share / (1 - self.share)
        demands = [account.demand() / self._iters for account in accounts]
        for account, part in zip(accounts, share_out(earned, demands)):
            # Not more than one reading is saved up.
            account.balance = min(account.balance + part, account.cost())

    def allows(self, guard: FailureGuard) -> bool:
        """Whether a monitor that is due may read; to be asked once a step.

        Args:
            guard (FailureGuard): The guard of the monitor.

        Returns:
            bool: False if it should wait for its next due step.
        """
        account = self._accounts[guard]
        account.asked += 1
        account.waiting += 1
        # A reading costs now more, now less: half of one may be owed.
        if account.balance < -account.cost() / 2:
            return False
        account.read += 1
        account.gap, account.waiting = account.waiting, 0
        return True

    def stretch(self, guard: FailureGuard) -> int:
        """By what the interval of a monitor is stretched at present.

        Args:
            guard (FailureGuard): The guard of the monitor.

        Returns:
            int: 1 if it reads whenever it is due, 2 if every second time.
        """
        return self._accounts[guard].gap


class _Account:
    """What a monitor has spent and may spend, in seconds."""

    def __init__(self, guard: FailureGuard) -> None:
        self.guard = guard
        self.settled = guard.seconds
        self.seconds = 0.
        self.balance = 0.
        self.asked = 0
        self.read = 0
        self.waiting = 0
        self.gap = 1

    def settle(self) -> float:
        """Book what was spent since the last time."""
        spent = self.guard.seconds - self.settled
        self.settled = self.guard.seconds
        self.seconds += spent
        self.balance -= spent
        return spent

    def cost(self) -> float:
        """The mean cost of a reading."""
        return self.seconds / max(self.read, 1)

    def demand(self) -> float:
        """What reading whenever it is due would have cost so far."""
        return self.cost() * self.asked if self.read else self.seconds


def share_out(amount: float, demands: List[float]) -> List[float]:
    """Meet the small demands in full and share the rest among the large.

    This is max-min fairness: no part can grow but at the cost of a smaller
    one. What is left when all are met is shared equally.

    Args:
        amount (float): What there is.
        demands (list[float]): What is asked for.

    Returns:
        list[float]: The parts, in the order of the demands; their sum is
        ``amount``.
    """
    parts = [0.] * len(demands)
    ascending = sorted(range(len(demands)), key=demands.__getitem__)
    for place, i in enumerate(ascending):
        fair = amount / (len(demands) - place)
        parts[i] = min(demands[i], fair)
        amount -= parts[i]
    return [part + amount / len(parts) for part in parts]
