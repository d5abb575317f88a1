# Copyright (c) OpenMMLab. All rights reserved.
import logging
import time
import traceback
from contextlib import suppress

from mmengine.logging import print_log


class StopTraining(RuntimeError):
    """End the training on purpose; no guard catches it."""


class FailureGuard:
    """Keep failures of the hook away from the training.

    Use it as a ``with`` block in the training thread, or call :meth:`report`
    in any thread. The first failure of a kind is logged as a WARNING. All are
    logged with their tracebacks at level DEBUG. After ``limit`` consecutive
    failures the guard is :attr:`tripped`, and its owner is expected to stop.
    Only an :class:`Exception` is caught; Ctrl-C is not.

    Args:
        name (str): The name of the owner, for the log.
        strict (bool): Whether to raise every exception. Defaults to False.
        limit (int): The number of consecutive failures that trip the guard.
            0: never. Defaults to 3.

    Attributes:
        failures (int): Number of failures that were caught.
        seconds (float): The time spent inside the block, in seconds. Of
            nested blocks only the outermost counts.
        tripped (bool): Whether the owner is switched off.
    """

    def __init__(self,
                 name: str,
                 strict: bool = False,
                 limit: int = 3) -> None:
        self.name = name
        self.strict = strict
        self.limit = limit
        self.reset()

    def reset(self) -> None:
        """Return to the initial state, for a new run."""
        self.failures = 0
        self.seconds = 0.
        self.tripped = False
        self._in_a_row = 0
        self._kinds_seen = set()
        self._entered = []

    def __enter__(self) -> 'FailureGuard':
        self._entered.append(time.perf_counter())
        return self

    def __exit__(self, kind, error, trace) -> bool:
        entered = self._entered.pop()
        if not self._entered:
            self.seconds += time.perf_counter() - entered
        if (error is None or self.strict or isinstance(error, StopTraining)
                or not isinstance(error, Exception)):
            return False
        with suppress(Exception):  # There may be no memory left to say so.
            self.report(error)
        return True

    def succeeded(self) -> None:
        """Note a success, which ends a row of consecutive failures."""
        self._in_a_row = 0

    def report(self, error: Exception) -> None:
        """Count and log a failure.

        Args:
            error (Exception): The exception that was raised.

        Raises:
            Exception: The error itself, if ``strict``.
        """
        if self.strict:
            raise error
        kind = type(error)
        self.failures += 1
        self._in_a_row += 1
        if kind not in self._kinds_seen:
            self._kinds_seen.add(kind)
            place = traceback.extract_tb(error.__traceback__)[-1]
            print_log(
                f'{self.name} failed with {kind.__name__}: {error} (at '
                f'{place.filename}:{place.lineno}). The training goes on '
                'without this measurement. To see every repeat, set '
                "log_level='DEBUG'; to stop at the error, set strict=True in "
                'EnhancedTensorBoardHook.',
                logger='current',
                level=logging.WARNING)
        print_log(
            ''.join(
                traceback.format_exception(kind, error, error.__traceback__)),
            logger='current',
            level=logging.DEBUG)
        # Another thread may have set it back to 0, the limit that never trips.
        if self.limit and self._in_a_row == self.limit:
            self.trip(f'it failed {self.limit} times in a row')

    def trip(self, reason: str) -> None:
        """Switch the owner off and log it.

        Args:
            reason (str): The reason, for the log.
        """
        self.tripped = True
        print_log(
            f'{self.name} is switched off for the rest of the run: {reason}.',
            logger='current',
            level=logging.INFO)
