# Copyright (c) OpenMMLab. All rights reserved.
from typing import TYPE_CHECKING, List, Optional

from mmengine.dist import all_gather_object

from .failure_guard import FailureGuard
from .monitor import Monitor
from .runner_parts import is_sharded

if TYPE_CHECKING:
    from ..writers.event_writer import EventWriter


class Dispatcher:
    """Pass the events of a run on to the monitors.

    Which monitors see them differs by rank: the main process writes, so all
    see them there. On the other ranks those do that the main process waits
    for. Of a sharded model no rank sees the whole.

    Args:
        monitors (list[Monitor]): In the order in which they see events.
        guard (FailureGuard): Where a failure of the dispatch ends.
    """

    def __init__(self, monitors: List[Monitor], guard: FailureGuard) -> None:
        self.monitors = monitors
        self._guard = guard
        self.stop()

    def stop(self) -> None:
        """Pass on no event any more."""
        self._listening: List[Monitor] = []
        self._exchanging: List[Monitor] = []
        self._sharing: List[Monitor] = []
        self._writer: Optional['EventWriter'] = None

    def before_run(self, runner, writer: Optional['EventWriter']) -> None:
        """Find out who listens in this run.

        Args:
            runner (Runner): The runner.
            writer (EventWriter, optional): The writer of the run; None on
                ranks that do not write.
        """
        self.stop()
        self._writer = writer
        for monitor in self.monitors:
            monitor.writer = writer
            monitor.waited_for = False
            # Even where nothing is written the others wait for what it reads.
            # It asks for types alone: what fails here fails on all ranks.
            with monitor.guard:
                on_every_rank = monitor.is_on_every_rank(runner)
                if writer is not None or on_every_rank:
                    self._listening.append(monitor)
                if on_every_rank:
                    self._exchanging.append(monitor)

    def before_train(self, runner) -> None:
        """Let the monitors attach themselves to model and optimizers.

        Args:
            runner (Runner): The runner of the training process.
        """
        self._sharing = []
        sharded = False
        # It asks for types alone: what fails here fails on all ranks.
        with self._guard:
            sharded = is_sharded(runner.model)
        if sharded:
            self._share(runner)

    def after_train_iter(self, runner) -> None:
        """Add up what the ranks have read of their parts of the model.

        Args:
            runner (Runner): The runner of the training process.
        """
        for monitor in self._sharing:
            monitor.exchange_shards(runner)

    def after_val_epoch(self) -> None:
        """Bring together what all ranks have read in a validation."""
        for monitor in self._exchanging:
            monitor.exchange()

    def notify(self, event: str, *args) -> None:
        """Pass an event on to every monitor that listens.

        Args:
            event (str): The name of a handler of :class:`Monitor`.
            *args: Its arguments.
        """
        for monitor in self._listening:
            monitor.notify(event, *args)

    def _share(self, runner) -> None:
        """Let monitors that can see a sharded model see it on all ranks."""
        if self._writer is not None:
            skipped = [
                monitor.guard.name for monitor in self._listening
                if monitor.of_whole_model
            ]
            runner.logger.info(
                'EnhancedTensorBoardHook: the model is sharded. What needs '
                f'the whole of it is left out: {", ".join(skipped)}.')
        sharing = [
            monitor for monitor in self.monitors if monitor.adds_up_shards
        ]
        joined = False
        with self._guard:
            for monitor in sharing:
                monitor.join_shards(runner)
            joined = True
        # Who has not joined would be waited for at every reading.
        missing = [
            i for i, has_joined in enumerate(all_gather_object(joined))
            if not has_joined
        ]
        if missing:
            for monitor in sharing:  # Take it off the optimizers.
                monitor.notify('after_train', runner)
            sharing = []
        for monitor in sharing:
            monitor.waited_for = True
        # No part is shown as the whole.
        self._listening = [
            monitor for monitor in self.monitors
            if monitor in sharing or monitor in self._listening
            and not (monitor.of_whole_model or monitor.adds_up_shards)
        ]
        self._sharing = sharing
        if joined and missing:
            with self._guard:
                raise RuntimeError(
                    f'gradients cannot be read on rank {missing}, and those '
                    'of the others are a part only')
