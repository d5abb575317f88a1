# Copyright (c) OpenMMLab. All rights reserved.
import time
from typing import TYPE_CHECKING, Dict, List, Optional, Sequence

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH

from mmpose.registry import HOOKS
from ..monitors.core.arguments import Arguments
from ..monitors.core.dispatch import Dispatcher
from ..monitors.core.failure_guard import FailureGuard
from ..monitors.core.monitor import scalar_layout
from ..monitors.core.other_runs.resuming import ResumedRun
from ..monitors.core.overhead_budget import OverheadBudget
from ..monitors.core.registry import (HookSignature, build_monitors,
                                      hook_arguments)
from ..monitors.core.run_writer import (closing_line, release_writer,
                                        writer_of_run)
from ..monitors.writers.record import Record

if TYPE_CHECKING:
    from ..monitors.writers.event_writer import EventWriter


@HOOKS.register_module()
class EnhancedTensorBoardHook(Hook):
    """Show in TensorBoard how a pose model trains.

    It logs gradients, weights, learning rates, metrics, accuracy by keypoint,
    poses and anomalies into the event file of the run. It changes nothing in
    the training, and its failures never stop it: the first of a kind is logged
    as a WARNING, and a monitor that fails three times in a row is switched
    off.

    Add it to any config without changing the other hooks:

    .. code-block:: python

        default_hooks = dict(
            enhanced_tensorboard=dict(type='EnhancedTensorBoardHook'))

    Its monitors do the logging; each declares the arguments that switch and
    time it. ``docs/en/parameters.md`` lists all arguments, and
    ``monitors=[dict(type='MyMonitor', interval=50)]`` adds your own monitor.

    Args:
        **arguments: See :func:`hook_arguments`.

    Raises:
        KeyError: A monitor or detector is not registered.
        TypeError: An argument is unknown or of a wrong type.
        ValueError: An argument is out of range or the preset is unknown.
    """

    # After every hook that may change what is measured here.
    priority = 'VERY_LOW'
    __signature__ = HookSignature()

    def __init__(self, **arguments) -> None:
        given = Arguments(hook_arguments(), arguments)
        for name, value in vars(given).items():
            setattr(self, name, value)
        self.monitors = build_monitors(given, given.monitors)
        # Never trips: there is nothing that it could switch off.
        self._guard = FailureGuard(type(self).__name__, given.strict, limit=0)
        self._dispatcher = Dispatcher(self.monitors, self._guard)
        self._budget = OverheadBudget.of(self.monitors, given.overhead_budget)
        self._writer: Optional['EventWriter'] = None
        self._resumed_run = ResumedRun(given.continue_run)
        # The runner, once for each of its runs that is under way: a hook of
        # a training may call ``runner.val()``.
        self._runs: list = []

    def before_run(self, runner) -> None:
        """Find the writer of the run and log which it is.

        A run inside another one, for instance by a hook that calls
        ``runner.val()`` in a training, logs to the writer of the outer run.
        """
        if runner not in self._runs:
            self._runs = []
        self._runs.append(runner)
        if len(self._runs) == 1:
            self._begin(runner)
            return
        self._resumed_run.name_run(runner)
        if self._writer is not None:
            # ``LoggerHook`` closes it after each run.
            with self._guard:
                self._writer.hold_open(True)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Keep the names of the run that has saved the checkpoint.

        A FlexibleRunner, or a call by hand, loads it before ``before_run``.
        """
        with self._guard:
            self._resumed_run.after_load_checkpoint(checkpoint)

    def before_train(self, runner) -> None:
        """Let the monitors attach themselves to model and optimizers.

        A resumed training continues the event files of the earlier run.
        """
        if len(self._runs) > 1:
            # An exception has ended an earlier run, so that this one was
            # taken for a run inside it.
            self._runs = [runner]
            self._begin(runner)
        self._train_began = time.perf_counter()
        with self._guard:
            self._dispatcher.fit_intervals(runner.max_iters)
        self._dispatcher.before_train(runner)
        if self._writer is not None:
            with self._guard:
                self._resumed_run.before_train(runner, self._writer)
        if self._writer is not None and self.monitors:
            with self._guard:
                layout = scalar_layout(self.monitors, runner)
                self._writer.write(
                    Record(runner.iter, lambda: [layout]), self._guard)
        self._dispatcher.notify('before_train', runner)
        if self._budget is not None:
            with self._guard:
                self._budget.start()

    def before_train_iter(self,
                          runner,
                          batch_idx: int,
                          data_batch: DATA_BATCH = None) -> None:
        """Let the monitors read what the iteration starts with.

        Raises:
            StopTraining: The training is to end here.
        """
        self._dispatcher.before_train_iter(runner)
        self._dispatcher.notify('before_train_iter', runner, batch_idx,
                                data_batch)

    def after_train_iter(self,
                         runner,
                         batch_idx: int,
                         data_batch: DATA_BATCH = None,
                         outputs: Optional[dict] = None) -> None:
        """Let the monitors hand over what they measured in the iteration."""
        self._dispatcher.after_train_iter(runner)
        self._dispatcher.notify('after_train_iter', runner, batch_idx,
                                data_batch, outputs)

    def after_train_epoch(self, runner) -> None:
        """Let the monitors read the state after an epoch."""
        self._dispatcher.notify('after_train_epoch', runner)
        self._flush()

    def after_val_iter(self,
                       runner,
                       batch_idx: int,
                       data_batch: DATA_BATCH = None,
                       outputs: Optional[Sequence] = None) -> None:
        """Let the monitors see a validation batch and its predictions."""
        self._dispatcher.notify('after_val_iter', runner, batch_idx,
                                data_batch, outputs)

    def after_val_epoch(self,
                        runner,
                        metrics: Optional[Dict[str, float]] = None) -> None:
        """Let the monitors write the metrics of a validation."""
        self._dispatcher.after_val_epoch()
        self._dispatcher.notify('after_val_epoch', runner, metrics)
        self._flush()

    def after_test_epoch(self,
                         runner,
                         metrics: Optional[Dict[str, float]] = None) -> None:
        """Let the monitors write the metrics of a test."""
        self._dispatcher.notify('after_test_epoch', runner, metrics)
        self._flush()

    def after_train(self, runner) -> None:
        """Let the monitors detach themselves."""
        # Also those that an exception has ended, which a hook caught.
        self._leave_inner_runs(runner)
        self._train_seconds = time.perf_counter() - self._train_began
        self._dispatcher.after_train()
        self._dispatcher.notify('after_train', runner)
        if self._writer is not None:
            with self._guard:
                self._resumed_run.after_train(runner, self._writer)
        self._flush()

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Bring to disk what was logged up to the checkpoint."""
        self._dispatcher.notify('before_save_checkpoint', runner, checkpoint)
        self._flush()

    def after_run(self, runner) -> None:
        """Say in one line what was written and what it cost.

        ``LoggerHook`` has closed the writer already: nothing is written here.
        """
        if len(self._runs) > 1:
            self._runs.pop()
            if len(self._runs) == 1:
                self._leave_inner_runs(runner)
            return
        self._runs = []
        # Not for a later run of the same Runner.
        self._resumed_run.forget()
        if self._writer is not None:
            with self._guard:
                runner.logger.info(
                    closing_line(self._writer, self._guards(),
                                 self._train_seconds, runner.work_dir))
                release_writer(runner)
            self._dispatcher.notify('after_run', runner)

    def _begin(self, runner) -> None:
        self._writer = None
        self._train_seconds = 0.
        first = next(h for h in runner.hooks if isinstance(h, type(self)))
        if first is not self:
            self._dispatcher.stop()
            runner.logger.warning(
                f'{type(self).__name__} is there twice: this one writes '
                'nothing. Take it out of custom_hooks or of default_hooks.')
            return
        for guard in self._guards():
            guard.reset()
        if is_main_process():
            with self._guard:
                self._writer = writer_of_run(runner, self._guard,
                                             self.async_write, self.flush_secs,
                                             self.disk_quota, self.mirror)
        self._dispatcher.before_run(runner, self._writer)

    def _leave_inner_runs(self, runner) -> None:
        self._runs = [runner]
        if self._writer is not None:
            with self._guard:
                self._writer.hold_open(False)

    def _guards(self) -> List[FailureGuard]:
        return [self._guard, *(monitor.guard for monitor in self.monitors)]

    def _flush(self) -> None:
        if self._writer is not None:
            with self._guard:
                self._writer.flush(wait=False)
