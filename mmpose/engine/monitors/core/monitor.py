# Copyright (c) OpenMMLab. All rights reserved.
import pickle
from typing import (TYPE_CHECKING, Dict, Iterable, List, NamedTuple, Optional,
                    Sequence, Tuple, Union)

from mmengine.dist import all_gather_object
from torch import Tensor

from ..writers.record import Record, ScalarLayout
from .arguments import Argument, Arguments
from .failure_guard import FailureGuard
from .overhead_budget import OverheadBudget
from .schedule import Schedule, build_schedule

if TYPE_CHECKING:
    from ..writers.event_writer import EventWriter


class Chart(NamedTuple):
    """A chart of the Custom Scalars page.

    Attributes:
        category (str): The heading above it, such as 'Overview'.
        title (str): Its title.
        tags (str): A regular expression that matches the start of the tags
            of its curves.
        position (int): The charts of a category are in ascending order.
            Defaults to 100.
        margins (tuple[str, str], optional): The tags of the lower and the
            upper bound of an area around the curve, whose tag is then
            ``tags``. Defaults to None.
    """
    category: str
    title: str
    tags: str
    position: int = 100
    margins: Optional[Tuple[str, str]] = None


# As LoggerHook writes it.
_LOSS = Chart('Overview', 'loss', '[^/]*loss[^/]*$', position=0)


class Monitor:
    """Watch one aspect of a training and hand measurements to the writer.

    A subclass overrides the handlers of the events that it needs. Events have
    the names, the order and the arguments of :class:`mmengine.hooks.Hook`'s. A
    handler may read anything, changes nothing and waits for no device. It may
    raise: :meth:`notify` catches it.

    A subclass declares, as class attributes, the arguments of the hook that
    switch it on and time it, and the charts of its curves. Its docstring has a
    table of its tags, and so have those of its ``parts``.

    Args:
        interval (int | dict | Schedule, optional): At which steps to measure,
            see :func:`build_schedule`. Defaults to None: when events say so.
        strict (bool): Whether a failure is raised instead of reported.
            Defaults to False.

    Attributes:
        switches (tuple[Argument]): Arguments of the hook, each of which
            switches it on. Without any it is used only if a config names it in
            ``monitors``.
        settings (dict[str, Argument]): By the names of its own arguments, the
            arguments of the hook that give their values.
        charts (tuple[Chart]): The charts of its curves.
        parts (tuple[type]): Classes to which it leaves some of its tags.
        writes_curves (bool): Whether it writes curves, and not only
            measurements. Defaults to True.
        watches_others (bool): Whether it has nothing to do without another
            monitor.
        priority (str): Which monitors see an event first, see
            :func:`mmengine.runner.priority.get_priority`.
        of_whole_model (bool): Whether its measurements would be wrong for a
            sharded model, of which each rank holds only a part.
        sums_over_ranks (bool): Whether it measures sharded models, by summing
            over all ranks.
        all_results (list): The results of a validation from all ranks, in
            their order; there in :meth:`after_val_epoch` on the rank that
            writes, and empty if any rank failed.
        guard (FailureGuard): Counts the failures and the time of the monitor.
        writer (EventWriter, optional): Where records go; set when a run
            begins, and None where nothing is written.
        budget (OverheadBudget, optional): It may postpone a measurement that
            is due.
        peers (list[Monitor]): All monitors of the hook, this one too.
        waited_for (bool): Whether the other ranks wait for its measurements
            in training, so that no budget may postpone them.
    """

    switches: Tuple[Argument, ...] = ()
    settings: Dict[str, Argument] = {}
    charts: Tuple[Chart, ...] = ()
    parts: Tuple[type, ...] = ()
    writes_curves = True
    watches_others = False
    priority = 'NORMAL'
    of_whole_model = False
    sums_over_ranks = False

    @classmethod
    def declared_arguments(cls) -> List[Argument]:
        """Return the arguments of the hook that this monitor declares."""
        return [*cls.switches, *cls.settings.values()]

    @classmethod
    def is_wanted(cls, given: Arguments) -> bool:
        """Return whether the arguments of the hook switch it on."""
        return any(getattr(given, switch.name) for switch in cls.switches)

    @classmethod
    def settings_from(cls, given: Arguments) -> dict:
        """Return its own arguments, from those of the hook."""
        return {
            name: given.value_of(argument)
            for name, argument in cls.settings.items()
        }

    def __init__(self,
                 interval: Union[int, dict, Schedule, None] = None,
                 strict: bool = False) -> None:
        self.schedule = None if interval is None else build_schedule(interval)
        self.guard = FailureGuard(type(self).__name__, strict)
        self.writer: Optional['EventWriter'] = None
        self.budget: Optional[OverheadBudget] = None
        self.waited_for = False
        self.peers: List['Monitor'] = [self]
        self.all_results: list = []
        self._step = 1

    def charts_of(self, runner) -> Sequence[Chart]:
        """Return the charts that the curves of this run need.

        Args:
            runner (Runner): The runner of the training process.
        """
        return self.charts if self.writes_curves else ()

    def notify(self, event: str, *args, **kwargs) -> None:
        """Call the handler of an event, unless the monitor is switched off.

        Args:
            event (str): The name of one of the handlers below.
        """
        # A monitor that is switched off still has to detach itself.
        if self.guard.tripped and event != 'after_train':
            return
        with self.guard:
            getattr(self, event)(*args, **kwargs)
            return
        # The guard has caught an error.
        if event == 'before_train':
            self.guard.trip('it could not begin')

    def is_due(self, step: int) -> bool:
        """Return whether to measure at this step; to be called once a step.

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
        """Return the current interval, in the unit of the schedule.

        Returns:
            int: The interval of the schedule, stretched by the budget.
        """
        interval = self.schedule.interval_at(self._step)
        if self.waited_for or self.budget is None:
            return interval
        return interval * self.budget.stretch(self.guard)

    def emit(self, record: Record) -> None:
        """Hand a record to the writer.

        Args:
            record (Record): The record.
        """
        if self.writer is not None:
            self.writer.write(record, self.guard)

    def is_on_every_rank(self, runner) -> bool:
        """Return whether it measures validations on all ranks.

        Others measure only what the main process does. See
        :meth:`rank_results`.

        Args:
            runner (Runner): The runner, when a run begins.

        Returns:
            bool: The same on all ranks.
        """
        return False

    def gather_results(self) -> None:
        """Gather the results of a validation from all ranks.

        To be called on every rank, whatever has failed there: the others wait
        for it.
        """
        self.all_results, result = [], None
        if not self.guard.tripped:
            with self.guard:
                own = self.rank_results()
                # An object that cannot be pickled would fail in the midst of
                # the communication.
                result = None if own is None else pickle.dumps(own)
        results = all_gather_object(result)
        if result is None:  # The reason was logged already.
            return
        if self.writer is None:
            self.guard.succeeded()  # There is no writer to report it.
            return
        with self.guard:
            missing = [i for i, of_rank in enumerate(results) if not of_rank]
            if missing:
                raise RuntimeError(
                    f'nothing was measured on rank {missing} of '
                    f'{len(results)}, so there is nothing to show of this '
                    'validation')
            self.all_results = list(map(pickle.loads, results))

    def rank_results(self):
        """Return the results of this rank in a validation, picklable.

        Returns:
            Any: Not None, unless something has failed and was reported.
        """

    def before_sharded_train(self, runner) -> None:
        """Prepare :meth:`sum_over_ranks`, before training begins.

        To be called on every rank of a sharded model.

        Args:
            runner (Runner): The runner of the training process.
        """

    def sum_over_ranks(self, runner, num_steps: int) -> None:
        """Sum the measurements of all ranks in an iteration.

        To be called on every rank after every iteration, whatever has failed
        there.

        Args:
            runner (Runner): The runner of the training process.
            num_steps (int): How often any optimizer has stepped so far; the
                same on all ranks.
        """

    def before_train(self, runner) -> None:
        """Handle the beginning of a training, with the model loaded."""

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        """Handle the beginning of a training iteration."""

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        """Handle the end of an iteration; ``runner.iter`` is still its own."""

    def before_clipping(self, name: str, optim_wrapper) -> None:
        """Handle gradients that are about to be clipped.

        They are unscaled already, and averaged over the ranks.

        Args:
            name (str): The optimizer's name in an :obj:`OptimWrapperDict`,
                '' where there is just one.
            optim_wrapper (OptimWrapper): The wrapper that clips.
        """

    def after_clipping(self, name: str, optim_wrapper) -> None:
        """Handle gradients that were clipped.

        Args:
            name (str): See :meth:`before_clipping`.
            optim_wrapper (OptimWrapper): The wrapper that has clipped.
        """

    def before_step(self, name: str, optimizer, closure: bool) -> None:
        """Handle the gradients of an optimizer that is about to step.

        Args:
            name (str): See :meth:`before_clipping`.
            optimizer (Optimizer): The optimizer.
            closure (bool): Whether the gradients are computed inside the
                step, as by LBFGS. There are none yet then, or those of an
                earlier step.
        """

    def after_step(self, name: str, optimizer, taken: Union[bool,
                                                            Tensor]) -> None:
        """Handle an update, or one that AMP has skipped.

        Args:
            name (str): See :meth:`before_clipping`.
            optimizer (Optimizer): The optimizer.
            taken (bool | Tensor): False where ``GradScaler`` has found an
                overflow, so that there was no :meth:`before_step`. A boolean
                tensor of shape () where a fused optimizer has found that out
                on the device.
        """

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Handle a checkpoint that is about to be saved, but not change it."""

    def after_train_epoch(self, runner) -> None:
        """Handle the end of an epoch, which ``runner.iter`` counts already."""

    def after_val_iter(self, runner, batch_idx: int, data_batch,
                       outputs: Optional[Sequence]) -> None:
        """Handle the predictions of a validation batch."""

    def after_val_epoch(self, runner, metrics: Optional[Dict]) -> None:
        """Handle the end of a validation."""

    def after_test_epoch(self, runner, metrics: Optional[Dict]) -> None:
        """Handle the end of a test."""

    def after_train(self, runner) -> None:
        """Handle the end of a training; the writer is still open."""

    def after_run(self, runner) -> None:
        """Handle the end of a run on the rank that has written."""


def scalar_layout(monitors: Iterable[Monitor],
                  runner,
                  trains: bool = True) -> ScalarLayout:
    """Return the Custom Scalars page of a run, which has just one layout.

    Args:
        monitors (Iterable[Monitor]): The monitors that have charts.
        runner (Runner): The runner of the training process.
        trains (bool): Whether the run trains; without a training there is no
            loss. Defaults to True.

    Returns:
        ScalarLayout: The charts by category, the loss first.
    """
    categories: Dict[str, Dict[str, list]] = {}
    charts = [c for monitor in monitors for c in monitor.charts_of(runner)]
    if trains:
        charts.insert(0, _LOSS)
    for chart in sorted(charts, key=lambda chart: chart.position):
        content = ['Multiline', [f'^{chart.tags}']]
        if chart.margins is not None:
            content = ['Margin', [chart.tags, *chart.margins]]
        categories.setdefault(chart.category, {})[chart.title] = content
    return ScalarLayout(categories)
