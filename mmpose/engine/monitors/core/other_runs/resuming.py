# Copyright (c) OpenMMLab. All rights reserved.
import os.path as osp
import time
from typing import TYPE_CHECKING, List, Optional, Sequence, Tuple, Union

from ...writers.tfrecord import event_files, events_in

if TYPE_CHECKING:
    from ...writers.event_writer import EventWriter


class ResumedRun:
    """Let a resumed training continue the curves of the earlier run.

    Args:
        policy (bool | str): Whether to do so. 'auto': unless the earlier run
            was finished and has logged steps after the checkpoint.
    """

    def __init__(self, policy: Union[bool, str] = 'auto') -> None:
        self._policy = policy
        self.forget()

    def forget(self) -> None:
        """Forget the run, before another run of the same runner."""
        self._names: List[str] = []
        self._continued: Optional[str] = None

    def after_load_checkpoint(self, checkpoint: dict) -> None:
        """Remember the names of the run that has saved the checkpoint.

        Args:
            checkpoint (dict): The checkpoint; left as it is.
        """
        meta, hub = map(checkpoint.get, ('meta', 'message_hub'))
        info = hub.get('runtime_info') if isinstance(hub, dict) else None
        # Its own name, and that of the run whose curves it has continued.
        names = [
            part.get('experiment_name') for part in (meta, info)
            if isinstance(part, dict)
        ]
        self._names = [
            name for name in names if name and isinstance(name, str)
        ]

    def before_train(self, runner, writer: 'EventWriter') -> None:
        """Move the writer into the directory of the earlier run.

        Args:
            runner (Runner): The runner, after it has loaded the checkpoint.
            writer (EventWriter): The writer of this run.
        """
        found = interrupted_log_dir(runner, writer.log_dir, self._names)
        if found is None and self._policy and runner._resume and runner.iter:
            runner.logger.info(
                'EnhancedTensorBoardHook: the resumed run has no event files '
                f'in {runner.work_dir}, so the curves begin anew at iteration '
                f'{runner.iter + 1}.')
        if found is None or not self._policy:
            return
        if self._policy == 'auto' and _hides_steps(found[1], runner.iter):
            runner.logger.info(
                f'EnhancedTensorBoardHook: the run in {found[1]} was finished '
                f'and has logged steps after {runner.iter}, so this run gets '
                'new curves. continue_run=True would hide these steps and '
                'continue there.')
            return
        self._continued, log_dir = found
        writer.continue_run(log_dir, runner.iter + 1)
        self.name_run(runner)
        runner.logger.info('EnhancedTensorBoardHook continues the curves in '
                           f'{log_dir} from iteration {runner.iter + 1}.')

    def after_train(self, runner, writer: 'EventWriter') -> None:
        """Note in the event file that the training is finished.

        Args:
            runner (Runner): The runner of the training process.
            writer (EventWriter): The writer of this run.
        """
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        writer.add_event(
            Event(
                wall_time=time.time(),
                step=runner.iter,
                session_log=SessionLog(status=SessionLog.STOP)))

    def name_run(self, runner) -> None:
        """Save the name of the continued run in the checkpoints of this run.

        The directory of this run stays empty. To be called whenever a run
        begins, as ``RuntimeInfoHook`` then sets the name again, even for a
        validation inside the training.

        Args:
            runner (Runner): The runner.
        """
        if self._continued is not None:
            runner.message_hub.update_info('experiment_name', self._continued)


def interrupted_log_dir(runner, log_dir: str, resumed_runs: Sequence[str]
                        ) -> Optional[Tuple[str, str]]:
    """Find the directory of the event files of the resumed run.

    Args:
        runner (Runner): The runner, after it has loaded the checkpoint.
        log_dir (str): The directory of this run's event file.
        resumed_runs (Sequence[str]): The ``experiment_name`` of the run that
            has saved the checkpoint, and of the run that it has continued.

    Returns:
        tuple[str, str] | None: The first of these names with event files in
        the same work directory, and their directory; None if nothing was
        resumed or found.
    """
    if not runner._resume or runner.iter == 0:
        return None
    for name in resumed_runs:
        # The name ends with the time at which the run began, which is the name
        # of its directory.
        other = osp.join(runner.work_dir, name[-len(runner.timestamp):],
                         osp.relpath(log_dir, runner.log_dir))
        if event_files(other) and not osp.samefile(other, log_dir):
            return name, other
    return None


def _hides_steps(log_dir: str, step: int) -> bool:
    """Return whether a run is finished and has logged steps after one."""
    from tensorboard.compat.proto.event_pb2 import SessionLog
    last, status = 0, SessionLog.STATUS_UNSPECIFIED
    for event in events_in(log_dir):
        if event.HasField('session_log'):
            status = event.session_log.status
            last = event.step
    return status == SessionLog.STOP and last > step
