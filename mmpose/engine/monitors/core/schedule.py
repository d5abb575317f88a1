# Copyright (c) OpenMMLab. All rights reserved.
from collections import Counter
from typing import Sequence, Union


class Every:
    """Be due at step 1 and at every multiple of the interval.

    Steps count from 1, as in
    :meth:`mmengine.hooks.Hook.every_n_train_iters`. Whether a step is due
    depends on the step alone, so it is the same in a resumed run.

    Args:
        interval (int): The number of steps between two due ones. 0: never.
        at_least (int): How often to be due in a training that is too short
            for that with this interval, see :meth:`fit`. Defaults to 0: no
            matter.
    """

    def __init__(self, interval: int, at_least: int = 0) -> None:
        self.interval = interval
        self._longest = interval
        self._at_least = at_least

    def fit(self, length: int) -> None:
        """Take a shorter interval in a short training.

        Args:
            length (int): The number of steps of the training.
        """
        if self._at_least and self._longest:
            self.interval = max(1, min(self._longest,
                                       length // self._at_least))

    def is_due(self, step: int) -> bool:
        """Return whether a step is due.

        Args:
            step (int): The number of the step, from 1.

        Returns:
            bool: True at step 1 and where ``interval`` divides ``step``.
        """
        if self.interval == 0:
            return False
        return step == 1 or step % self.interval == 0

    def interval_at(self, step: int) -> int:
        """Return the interval at a step.

        Args:
            step (int): The number of the step, from 1.

        Returns:
            int: The interval.
        """
        return self.interval


class Adaptive:
    """Be due often in the beginning, where training goes wrong, rarely later.

    The interval grows geometrically from ``start`` at step 1 to ``end`` at
    step ``ramp_iters`` and stays there. As with :class:`Every`, whether a step
    is due depends on the step alone.

    Args:
        start (int): The first interval, at least 1.
        end (int): The last and largest, at least ``start``.
        ramp_iters (int): The step from which on the interval is ``end``.
    """

    def __init__(self, start: int, end: int, ramp_iters: int) -> None:
        self.start = start
        self.end = end
        self.ramp_iters = ramp_iters
        step = 1
        self._ramp = {step}
        while step < ramp_iters:
            step += self.interval_at(step)
            self._ramp.add(step)
        self._last = step

    def fit(self, length: int) -> None:
        """Stay as it is: a config has chosen it."""

    def is_due(self, step: int) -> bool:
        """Return whether a step is due.

        Args:
            step (int): The number of the step, from 1.

        Returns:
            bool: True at the steps that the growing interval leads to.
        """
        if step <= self._last:
            return step in self._ramp
        return (step - self._last) % self.end == 0

    def interval_at(self, step: int) -> int:
        """Return the number of steps from a due one to the next.

        Args:
            step (int): The number of the step, from 1.

        Returns:
            int: ``start * (end / start) ** (step / ramp_iters)``, rounded
            down.
        """
        if step >= self.ramp_iters:
            return self.end
        return int(self.start *
                   (self.end / self.start)**(step / self.ramp_iters))


Schedule = Union[Every, Adaptive]
# The types that a config may use.
Interval = Union[int, dict, Schedule]


def build_schedule(interval: Union[int, dict]) -> Schedule:
    """Build a schedule from the interval in a config.

    Args:
        interval (int | dict): A number of steps, at least 0, for
            :class:`Every`; or ``dict(type='adaptive', start=10, end=500,
            ramp_iters=5000)`` for :class:`Adaptive`.

    Returns:
        Every | Adaptive: The schedule.

    Raises:
        TypeError: It is neither of these, or a number in it is not an integer.
        ValueError: A number is out of range, or a key unknown or missing.
    """
    if isinstance(interval, (Every, Adaptive)):
        return interval
    if _is_integer(interval):
        if interval < 0:
            raise ValueError(f'must be at least 0, but got {interval}')
        return Every(interval)
    if not isinstance(interval, dict):
        raise TypeError(
            "must be an integer or a dict(type='adaptive', start=..., "
            f'end=..., ramp_iters=...), but got {interval!r} of type '
            f'{type(interval).__name__}')
    return _build_adaptive(dict(interval))


def spread(items: Sequence, count: int) -> Counter:
    """Choose from a sequence, evenly.

    Args:
        items (Sequence): Such as the indices of batches that are due.
        count (int): How many to choose; of few items some several times.

    Returns:
        Counter: How often each was chosen; empty where there is no item.
    """
    return Counter(items[i * len(items) // count] for i in range(count)
                   if len(items))


def _build_adaptive(cfg: dict) -> Adaptive:
    keys = {'type', 'start', 'end', 'ramp_iters'}
    if set(cfg) != keys or cfg.pop('type') != 'adaptive':
        raise ValueError(
            "of the form of a dict must have type='adaptive' and start, end "
            f'and ramp_iters, and nothing else, but got {cfg}')
    for key, value in cfg.items():
        if not _is_integer(value):
            raise TypeError(f'must have an integer as {key}, but got '
                            f'{value!r} of type {type(value).__name__}')
    if not 1 <= cfg['start'] <= cfg['end'] or cfg['ramp_iters'] < 1:
        raise ValueError('must have 1 <= start <= end and 1 <= ramp_iters, '
                         f'but got {cfg}')
    return Adaptive(**cfg)


def _is_integer(value) -> bool:
    # A bool is an int for Python, but not as a number of steps.
    return isinstance(value, int) and not isinstance(value, bool)
