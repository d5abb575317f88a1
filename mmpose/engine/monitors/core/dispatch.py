# Copyright (c) OpenMMLab. All rights reserved.
from typing import TYPE_CHECKING, Dict, List, Optional

from mmengine.dist import all_gather_object

from .failure_guard import FailureGuard
from .monitor import Monitor
from .optimizer_probe import OptimizerProbe, handles
from .runner_parts import is_sharded

if TYPE_CHECKING:
    from ..writers.event_writer import EventWriter


class Dispatcher:
    """Pass the events of a run on to the monitors.

    The main process writes, so all monitors get the events there. On the
    other ranks only those get them whose results the main process waits for.
    No rank holds the whole of a sharded model.

    Args:
        monitors (list[Monitor]): In the order in which they see events.
        guard (FailureGuard): Where a failure of the dispatch ends.
    """

    def __init__(self, monitors: List[Monitor], guard: FailureGuard) -> None:
        self.monitors = monitors
        self._guard = guard
        self._probe = OptimizerProbe()
        self.stop()

    def stop(self) -> None:
        """Pass on no event any more."""
        # A training that was interrupted has left it attached.
        self._probe.detach()
        self._listening: List[Monitor] = []
        # Those of them that handle an event, once it has come.
        self._handling: Dict[str, List[Monitor]] = {}
        self._gathering: List[Monitor] = []
        self._summing: List[Monitor] = []
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
            # The other ranks wait for its results even where nothing is
            # written. Only types are looked at: what fails here fails on all
            # ranks.
            with monitor.guard:
                on_every_rank = monitor.is_on_every_rank(runner)
                if writer is not None or on_every_rank:
                    self._listening.append(monitor)
                if on_every_rank:
                    self._gathering.append(monitor)

    def fit_intervals(self, length: int) -> None:
        """Let a short training be measured often, see :meth:`Every.fit`.

        Args:
            length (int): The number of its iterations.
        """
        for monitor in self.monitors:
            if monitor.schedule is not None:
                monitor.schedule.fit(length)

    def before_train(self, runner) -> None:
        """Find out who sees a sharded model, and observe the optimizers.

        Args:
            runner (Runner): The runner of the training process.
        """
        self._probe.detach()
        self._summing = []
        sharded = False
        # Only types are looked at: what fails here fails on all ranks.
        with self._guard:
            sharded = is_sharded(runner.model)
        if sharded:
            self._begin_sharded(runner)
        self._handling = {}
        self._probe = OptimizerProbe(self._listening)
        self.before_train_iter(runner)

    def before_train_iter(self, runner) -> None:
        """Observe the optimizers that the run has now.

        Args:
            runner (Runner): The runner of the training process.
        """
        with self._guard:
            self._probe.follow(runner.optim_wrapper)

    def after_train_iter(self, runner) -> None:
        """Sum what the ranks have measured on their parts of the model.

        Args:
            runner (Runner): The runner of the training process.
        """
        for monitor in self._summing:
            monitor.sum_over_ranks(runner, self._probe.num_steps)

    def after_train(self) -> None:
        """Leave the optimizers as they were."""
        self._probe.detach()

    def after_val_epoch(self) -> None:
        """Gather the results of a validation from all ranks."""
        for monitor in self._gathering:
            monitor.gather_results()

    def notify(self, event: str, *args) -> None:
        """Pass an event on to every monitor that listens.

        Args:
            event (str): The name of a handler of :class:`Monitor`.
            *args: Its arguments.
        """
        if event not in self._handling:
            # Most monitors handle few events.
            self._handling[event] = [
                monitor for monitor in self._listening
                if handles(monitor, event)
            ]
        for monitor in self._handling[event]:
            monitor.notify(event, *args)

    def _begin_sharded(self, runner) -> None:
        """Let monitors that can measure a sharded model do so on all ranks."""
        if self._writer is not None:
            skipped = [
                monitor.guard.name for monitor in self._listening
                if monitor.of_whole_model
            ]
            runner.logger.info(
                'EnhancedTensorBoardHook: the model is sharded. Monitors that '
                f'need the whole of it are skipped: {", ".join(skipped)}.')
        summing = [
            monitor for monitor in self.monitors if monitor.sums_over_ranks
        ]
        ready = False
        with self._guard:
            for monitor in summing:
                monitor.before_sharded_train(runner)
            ready = True
        # The others would wait for this rank at every measurement.
        missing = [
            i for i, is_ready in enumerate(all_gather_object(ready))
            if not is_ready
        ]
        if missing:
            summing = []
        for monitor in summing:
            monitor.waited_for = True
        # No part is shown as the whole.
        self._listening = [
            monitor for monitor in self.monitors
            if monitor in summing or monitor in self._listening
            and not (monitor.of_whole_model or monitor.sums_over_ranks)
        ]
        self._summing = summing
        if ready and missing:
            with self._guard:
                raise RuntimeError(
                    f'gradients cannot be measured on rank {missing}, and the '
                    'other ranks have only a part of them')
