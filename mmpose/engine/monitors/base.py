# Copyright (c) OpenMMLab. All rights reserved.
import logging
import time
import traceback
from typing import Dict, Optional, Sequence

from mmengine.logging import print_log

from .event_writer import EventWriter
from .record import Record


class FailureGuard:
    """Keeps what goes wrong inside a ``with`` block away from the training.

    The first failure of a kind is one WARNING, repeats go to DEBUG, with the
    traceback. After ``limit`` failures without a success in between the guard
    is :attr:`tripped`: its owner is expected to stop working. Only
    :class:`Exception` is held back; Ctrl-C passes.

    Args:
        name (str): Who is guarded, for the log.
        strict (bool): Let every exception out. Defaults to False.
        limit (int): The number of failures in a row that trip the guard.
            Defaults to 3.

    Attributes:
        failures (int): How many failures were held back.
        seconds (float): The time spent inside the block, in seconds.
        tripped (bool): Whether the owner is switched off.
    """

    def __init__(self, name: str, strict: bool = False, limit: int = 3):
        self.name = name
        self.strict = strict
        self.limit = limit
        self.failures = 0
        self.seconds = 0.
        self.tripped = False
        self._in_a_row = 0
        self._kinds_seen = set()

    def succeeded(self) -> None:
        """To be called when the owner has done what it is there for."""
        self._in_a_row = 0

    def __enter__(self) -> 'FailureGuard':
        self._entered = time.perf_counter()
        return self

    def __exit__(self, kind, error, trace) -> bool:
        self.seconds += time.perf_counter() - self._entered
        if (error is None or self.strict or not isinstance(error, Exception)):
            return False
        self._report(kind, error, trace)
        return True

    def _report(self, kind, error, trace) -> None:
        self.failures += 1
        self._in_a_row += 1
        if kind in self._kinds_seen:
            level = logging.DEBUG
        else:
            self._kinds_seen.add(kind)
            level = logging.WARNING
            place = traceback.extract_tb(trace)[-1]
            print_log(
                f'{self.name} failed with {kind.__name__}: {error} (at '
                f'{place.filename}:{place.lineno}). The training goes on '
                'without this reading. To see every repeat, set '
                "log_level='DEBUG'; to stop at the error, set strict=True in "
                'EnhancedTensorBoardHook.',
                logger='current',
                level=level)
            level = logging.DEBUG
        print_log(
            ''.join(traceback.format_exception(kind, error, trace)),
            logger='current',
            level=level)
        if self._in_a_row == self.limit:
            self.tripped = True
            print_log(
                f'{self.name} is switched off for the rest of the run: it '
                f'failed {self.limit} times in a row.',
                logger='current',
                level=logging.INFO)


class Monitor:
    """Watches one side of a training and hands what it reads to the writer.

    A subclass overrides the events that it answers. Events have the names,
    the order and the arguments of :class:`mmengine.hooks.Hook`'s. A handler
    may read anything and change nothing, waits for no device, and may raise:
    :meth:`notify` is where a failure ends.

    Args:
        strict (bool): Whether a failure is raised instead of reported.
            Defaults to False.

    Attributes:
        guard (FailureGuard): Counts the failures and the time of the monitor.
        writer (EventWriter, optional): Where records go; set when a run
            begins.
    """

    def __init__(self, strict: bool = False) -> None:
        self.guard = FailureGuard(type(self).__name__, strict)
        self.writer: Optional[EventWriter] = None

    def notify(self, event: str, *args, **kwargs) -> None:
        """Answer an event, unless the monitor is switched off.

        Args:
            event (str): The name of one of the handlers below.
        """
        if not self.guard.tripped:
            with self.guard:
                getattr(self, event)(*args, **kwargs)

    def emit(self, record: Record) -> None:
        """Hand a record to the writer.

        Args:
            record (Record): What was read.
        """
        self.writer.write(record)
        self.guard.succeeded()

    def before_train(self, runner) -> None:
        """The model is built, wrapped and loaded; training begins."""

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        """A training iteration begins."""

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        """A training iteration is over; ``runner.iter`` is still its own."""

    def after_train_epoch(self, runner) -> None:
        """An epoch is over; ``runner.iter`` already counts all of it."""

    def after_val_iter(self, runner, batch_idx: int, data_batch,
                       outputs: Optional[Sequence]) -> None:
        """A validation batch was predicted."""

    def after_val_epoch(self, runner, metrics: Optional[Dict]) -> None:
        """A validation is over."""

    def after_test_epoch(self, runner, metrics: Optional[Dict]) -> None:
        """A test is over."""

    def after_train(self, runner) -> None:
        """The training is over; the writer is still open."""
