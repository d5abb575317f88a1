# Copyright (c) OpenMMLab. All rights reserved.
import pickle
from typing import Dict, Optional, Sequence

from mmengine.dist import all_gather_object

from .event_writer import EventWriter
from .failure_guard import FailureGuard
from .overhead_budget import OverheadBudget
from .record import Record
from .schedule import Schedule


class Monitor:
    """Watches one side of a training and hands what it reads to the writer.

    A subclass overrides the events that it answers. Events have the names,
    the order and the arguments of :class:`mmengine.hooks.Hook`'s. A handler
    may read anything and change nothing, waits for no device, and may raise:
    :meth:`notify` is where a failure ends.

    Args:
        schedule (Schedule, optional): At which steps to read. Defaults to
            None: when events say so.
        strict (bool): Whether a failure is raised instead of reported.
            Defaults to False.

    Attributes:
        of_whole_model (bool): Whether what it reads would be wrong where each
            rank holds a part of the model only.
        adds_up_shards (bool): Whether it reads there, on all ranks, and adds
            up what they have read.
        shards (list): What all ranks have read in a validation, in their
            order; filled before :meth:`after_val_epoch` where there is a
            writer, and empty if it failed on any rank.
        guard (FailureGuard): Counts the failures and the time of the monitor.
        writer (EventWriter, optional): Where records go; set when a run
            begins, and None where nothing is written.
        budget (OverheadBudget, optional): What may put off a reading that is
            due.
        waited_for (bool): Whether the other ranks wait for its readings in
            training, so that no budget may put them off.
    """

    of_whole_model = False
    adds_up_shards = False

    def __init__(self,
                 schedule: Optional[Schedule] = None,
                 strict: bool = False) -> None:
        self.schedule = schedule
        self.guard = FailureGuard(type(self).__name__, strict)
        self.writer: Optional[EventWriter] = None
        self.budget: Optional[OverheadBudget] = None
        self.waited_for = False
        self.shards: list = []
        self._step = 1

    def notify(self, event: str, *args, **kwargs) -> None:
        """Answer an event, unless the monitor is switched off.

        Args:
            event (str): The name of one of the handlers below.
        """
        # What is attached is taken off even then.
        if self.guard.tripped and event != 'after_train':
            return
        with self.guard:
            getattr(self, event)(*args, **kwargs)
            return
        # It has failed: the guard held the error back.
        if event == 'before_train':
            self.guard.trip('it could not begin')

    def is_due(self, step: int) -> bool:
        """Whether to read at this step; to be asked once a step.

        Args:
            step (int): The number of the step, from 1.

        Returns:
            bool: Whether the schedule says so and the budget allows it.
        """
        self._step = step
        return self.schedule.is_due(step) and (self.waited_for
                                               or self.budget is None or
                                               self.budget.allows(self.guard))

    def interval(self) -> int:
        """The interval in force, in the unit of the monitor's schedule.

        Returns:
            int: What the schedule says, stretched by the budget.
        """
        interval = self.schedule.interval_at(self._step)
        if self.waited_for or self.budget is None:
            return interval
        return interval * self.budget.stretch(self.guard)

    def emit(self, record: Record) -> None:
        """Hand a record to the writer.

        Args:
            record (Record): What was read.
        """
        if self.writer is not None:
            self.writer.write(record, self.guard)

    def is_on_every_rank(self, runner) -> bool:
        """Whether it sees validations on all ranks, and exchanges its shards.

        Others see only what the main process does.

        Args:
            runner (Runner): The runner, when a run begins.

        Returns:
            bool: The same on all ranks.
        """
        return False

    def exchange(self) -> None:
        """Bring together what all ranks have read in a validation.

        To be called on every rank, whatever has failed there: the others wait
        for it.
        """
        self.shards, shard = [], None
        if not self.guard.tripped:
            with self.guard:
                read = self.shard()
                # As bytes: what cannot be pickled would fail in the midst of
                # the exchange.
                shard = None if read is None else pickle.dumps(read)
        shards = all_gather_object(shard)
        if shard is None:  # Why was said already.
            return
        if self.writer is None:
            self.guard.succeeded()  # Nobody else will say so.
            return
        with self.guard:
            missing = [i for i, shard in enumerate(shards) if shard is None]
            if missing:
                raise RuntimeError(
                    f'nothing was read on rank {missing} of {len(shards)}, so '
                    'there is nothing to show of this validation')
            self.shards = list(map(pickle.loads, shards))

    def shard(self):
        """What this rank has read in a validation, picklable.

        Returns:
            Any: Not None, unless something has failed and was reported.
        """

    def join_shards(self, runner) -> None:
        """Prepare :meth:`exchange_shards`, before training begins.

        To be called on every rank.

        Args:
            runner (Runner): The runner of the training process.
        """

    def exchange_shards(self, runner) -> None:
        """Bring together what all ranks have read in an iteration.

        To be called on every rank after every iteration, whatever has failed
        there.

        Args:
            runner (Runner): The runner of the training process.
        """

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
