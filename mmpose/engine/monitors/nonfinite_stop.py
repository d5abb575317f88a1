# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, NamedTuple, Optional

from mmengine.dist import broadcast_object_list, get_world_size

from .event_writer import EventWriter
from .failure_guard import FailureGuard
from .runner_parts import is_iter_based
from .schedule import Schedule

# What the monitors write where something is NaN or infinite, and how it is
# called. Of the same step, the first explains the others.
_KINDS = {
    'weight': 'the weight',
    'loss': 'the loss',
    'gradient': 'the gradient of',
    'update': 'the update of'
}
_PREFIX = 'health/nonfinite_'


class NonfiniteTrainingError(RuntimeError):
    """Something in the training was NaN or infinite, and was to end it."""


class NonfiniteStop:
    """Ends the training when a loss, gradient or weight is not finite.

    It waits for what the monitors find, which they do at the iterations that
    are logged. In distributed training all ranks end together: at each logged
    iteration the main process tells the others, and they wait for it; so the
    training ends one logging interval later.

    Args:
        schedule (Schedule): The one of the monitors, the same on all ranks.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._guard = FailureGuard(type(self).__name__, limit=0)

    def before_train(self, runner, writer: Optional[EventWriter]) -> None:
        """Listen to what is written.

        Args:
            runner (Runner): The runner of the training process.
            writer (EventWriter, optional): None where nothing is written.
        """
        self._writer = writer
        self._found: Optional[_Nonfinite] = None
        self._saved_after = 0
        if writer is not None:
            writer.observe(self._observe, self._guard)

    def before_train_iter(self, runner) -> None:
        """End the training if something was found.

        To be called on every rank.

        Args:
            runner (Runner): The runner of the training process.

        Raises:
            NonfiniteTrainingError: Something was NaN or infinite.
        """
        found = [self._found]
        if get_world_size() > 1:
            if not self._schedule.is_due(runner.iter + 1):
                return
            broadcast_object_list(found)
        if found[0] is None:
            return
        if self._writer is not None:
            with self._guard:
                self._writer.flush()
            # What was still waiting to be written may be nearer the cause.
            found = [self._found]
        step, what = found[0].step, found[0].what
        raise NonfiniteTrainingError(
            f'{what} was NaN or infinite at step {step:,}. The training is '
            f'stopped after step {runner.iter:,}, because of on_nonfinite='
            "'stop' in EnhancedTensorBoardHook. "
            f'{self._last_checkpoint(runner, step)}')

    def before_save_checkpoint(self, runner) -> None:
        """Note when the last checkpoint was saved.

        Args:
            runner (Runner): The runner of the training process.
        """
        # By iterations, the one at the end of which it is saved is not yet
        # counted.
        self._saved_after = runner.iter + is_iter_based(runner)

    def _observe(self, step: int, scalars: Dict[str, float]) -> None:
        """Called in the thread that writes."""
        for tag, value in scalars.items():
            if not tag.startswith(_PREFIX):
                continue
            kind, _, name = tag[len(_PREFIX):].partition('/')
            if kind not in _KINDS:
                continue
            found = _Nonfinite(
                # Of a loss the exact step is known.
                step=int(value) if kind == 'loss' else step,
                order=list(_KINDS).index(kind),
                # Their sum says less than the losses.
                is_sum=name == 'loss',
                what=f'{_KINDS[kind]} {name}')
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
    """Something that was not finite; the smallest is nearest the cause."""
    step: int
    order: int
    is_sum: bool
    what: str
