# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, Iterator, List, NamedTuple, Optional

from mmengine.dist import broadcast_object_list, get_world_size

from ..core.arguments import GRAD_NORM_INTERVAL, Argument, Arguments
from ..core.failure_guard import StopTraining
from ..core.measurements import GradientNorms, Losses, Nonfinite, Updates
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import is_iter_based
from ..writers.record import Measurement
from .arguments import ON_NONFINITE
from .rank_losses import RankLosses

# At the same step, the first one explains the others.
_KINDS = ('the weight', 'the loss', 'the gradient of', 'the update of')


class NonfiniteTrainingError(StopTraining):
    """End the training because something was NaN or infinite."""


@MONITORS.register_module()
class NonfiniteStop(Monitor):
    """End the training when a loss, gradient or weight is not finite.

    It uses the measurements of other monitors, at the logged iterations. In
    distributed training all ranks end together: at each logged iteration the
    main process tells the others, which wait for it, so the training ends one
    logging interval later.

    Args:
        interval (int | dict | Schedule): The interval of the monitors, the
            same on all ranks.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    settings = dict(interval=GRAD_NORM_INTERVAL)
    # Before any other monitor measures in the iteration that is stopped.
    priority = 'VERY_HIGH'

    @classmethod
    def declared_arguments(cls) -> List[Argument]:
        return [ON_NONFINITE, *super().declared_arguments()]

    @classmethod
    def is_wanted(cls, given: Arguments) -> bool:
        if given.on_nonfinite != 'stop':
            return False
        if not given.log_health or given.grad_norm_interval == 0:
            raise ValueError(
                "EnhancedTensorBoardHook: on_nonfinite='stop' needs "
                'log_health=True and a grad_norm_interval other than 0: '
                'without them nothing would be found.')
        return True

    def is_on_every_rank(self, runner) -> bool:
        return True

    def gather_results(self) -> None:
        """Do nothing: it measures nothing in validations."""

    def before_train(self, runner) -> None:
        self._found: Optional[_Nonfinite] = None
        self._saved_after = 0
        if self.writer is not None:
            self.writer.listen(None, self._look, self.guard)

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        """End the training if something was found.

        Raises:
            NonfiniteTrainingError: Something was NaN or infinite.
        """
        found = [self._found]
        if get_world_size() > 1:
            if not self.schedule.is_due(runner.iter + 1):
                return
            broadcast_object_list(found)
        if found[0] is None:
            return
        if self.writer is not None:
            with self.guard:
                self.writer.flush()
            # An earlier cause may still be in the queue.
            found = [self._found]
        step, what = found[0].step, found[0].what
        raise NonfiniteTrainingError(
            f'{what} was NaN or infinite at step {step:,}. The training is '
            f'stopped after step {runner.iter:,}, because of on_nonfinite='
            "'stop' in EnhancedTensorBoardHook. "
            f'{self._last_checkpoint(runner, step)}')

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        # In iteration-based training the iteration that saves it is not
        # counted yet.
        self._saved_after = runner.iter + is_iter_based(runner)

    def _look(self, step: int, measurement: Measurement) -> None:
        """Remember the first cause; called in the writer's thread."""
        for found in _nonfinite_in(step, measurement):
            self._found = min(self._found or found, found)

    def _last_checkpoint(self, runner, step: int) -> str:
        path = runner.message_hub.runtime_info.get('last_ckpt')
        if path is None:
            return 'No checkpoint was saved.'
        if self._saved_after >= step:
            return (f'The last checkpoint, {path}, was saved after that: '
                    'take an older one.')
        return f'The last checkpoint is {path}.'


class _Nonfinite(NamedTuple):
    """Something that was not finite; the smallest is the likely cause."""
    step: int
    order: int
    is_sum: bool
    what: str


def _nonfinite_in(step: int, measurement: Measurement) -> Iterator[_Nonfinite]:
    if isinstance(measurement, (Losses, RankLosses)):
        for name, first in measurement.nonfinite.items():
            # The exact step is known. Each loss tells more than their sum.
            yield _Nonfinite(first, 1, name == 'loss', f'{_KINDS[1]} {name}')
        return
    found: Dict[int, Optional[Nonfinite]] = {}
    if isinstance(measurement, Updates):
        found = {
            0: measurement.nonfinite_before,
            3: measurement.nonfinite_after
        }
    elif isinstance(measurement, GradientNorms):
        found = {2: measurement.nonfinite}
    for order, tensors in found.items():
        if tensors is not None:
            yield _Nonfinite(step, order, False,
                             f'{_KINDS[order]} {tensors.name}')
