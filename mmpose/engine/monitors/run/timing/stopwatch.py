# Copyright (c) OpenMMLab. All rights reserved.
import time
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Tuple

import torch

# Iterations that the device is behind at most; it is rarely two.
_PENDING = 100


class HostClock:
    """Tell the time of the host."""

    def now(self) -> float:
        """Return a mark of this moment."""
        return time.perf_counter()

    def has_come(self, mark: float) -> bool:
        """Return whether :meth:`milliseconds` may read a mark."""
        return True

    def milliseconds(self, begin: float, end: float) -> float:
        """Return the time between two marks."""
        return 1000 * (end - begin)


class DeviceClock:
    """Tell the time of a CUDA device, which works behind the host.

    Nothing here waits for the device. A mark is an event in its queue.
    """

    def now(self) -> 'torch.cuda.Event':
        """Return a mark of the moment when the device comes to it."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def has_come(self, mark: 'torch.cuda.Event') -> bool:
        """Return whether :meth:`milliseconds` may read a mark."""
        return mark.query()

    def milliseconds(self, begin: 'torch.cuda.Event',
                     end: 'torch.cuda.Event') -> float:
        """Return the time between two marks."""
        return begin.elapsed_time(end)


class Stopwatch:
    """Sum up how long the parts of iterations take.

    Args:
        clock (HostClock | DeviceClock): Makes the marks.
    """

    def __init__(self, clock) -> None:
        self._clock = clock
        self._parts: List[Tuple[str, Any]] = []
        self._idle: Optional[Any] = None
        self._pending: Deque[Tuple[list, Any]] = deque(maxlen=_PENDING)

    def idle(self) -> None:
        """Begin to wait for an iteration: it may be the next."""
        self._parts, self._idle = [], self._clock.now()

    def begin(self, waited: str, part: str) -> None:
        """Begin an iteration.

        Args:
            waited (str): The part that began with :meth:`idle`.
            part (str): The part that begins now.
        """
        self._parts = []
        if self._idle is not None:
            self._parts.append((waited, self._idle))
            self.switch(part)

    def switch(self, part: str) -> None:
        """Let another part of the iteration begin."""
        if self._parts:
            self._parts.append((part, self._clock.now()))

    @property
    def part(self) -> str:
        """str: The part that has begun last; '' outside of iterations."""
        return self._parts[-1][0] if self._parts else ''

    def end(self) -> None:
        """End the iteration, if its beginning is known, and be idle."""
        parts = self._parts
        self.idle()
        if parts:
            self._pending.append((parts, self._idle))

    def read(self) -> List[Dict[str, float]]:
        """Return the iterations that the device has done since the last call.

        Returns:
            list[dict[str, float]]: Milliseconds by part.
        """
        iterations = []
        while self._pending and self._clock.has_come(self._pending[0][1]):
            parts, end = self._pending.popleft()
            marks = [mark for _, mark in parts[1:]] + [end]
            durations: Dict[str, float] = {}
            for (part, begin), until in zip(parts, marks):
                durations[part] = durations.get(
                    part, 0.) + self._clock.milliseconds(begin, until)
            iterations.append(durations)
        return iterations
