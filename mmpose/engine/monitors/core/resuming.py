# Copyright (c) OpenMMLab. All rights reserved.
import glob
import os.path as osp
import time
from typing import TYPE_CHECKING, List, Optional, Sequence, Tuple, Union

if TYPE_CHECKING:
    from ..writers.event_writer import EventWriter


class ResumedRun:
    """Let a resumed training go on with the curves of the run that ended.

    Args:
        policy (bool | str): Whether it does. 'auto': not where the other run
            had come to its end and has logged steps after the checkpoint.
    """

    def __init__(self, policy: Union[bool, str] = 'auto') -> None:
        self._policy = policy
        self.forget()

    def forget(self) -> None:
        """Be ready for another run of the same runner."""
        self._names: List[str] = []
        self._continued: Optional[str] = None

    def after_load_checkpoint(self, checkpoint: dict) -> None:
        """Keep the names of the run that has saved the checkpoint.

        Args:
            checkpoint (dict): The checkpoint; left as it is.
        """
        meta, hub = map(checkpoint.get, ('meta', 'message_hub'))
        info = hub.get('runtime_info') if isinstance(hub, dict) else None
        # Its own, and that of the run whose curves it went on with.
        names = [
            part.get('experiment_name') for part in (meta, info)
            if isinstance(part, dict)
        ]
        self._names = [
            name for name in names if name and isinstance(name, str)
        ]

    def before_train(self, runner, writer: 'EventWriter') -> None:
        """Move the writer into the directory of the run that ended.

        Args:
            runner (Runner): The runner, after it has loaded the checkpoint.
            writer (EventWriter): The writer of this run.
        """
        found = interrupted_log_dir(runner, writer.log_dir, self._names)
        if found is None or not self._policy:
            return
        if self._policy == 'auto' and _hides_steps(found[1], runner.iter):
            runner.logger.info(
                f'EnhancedTensorBoardHook: the run in {found[1]} had come to '
                f'its end and has logged steps after {runner.iter}, so this '
                'one has curves of its own. continue_run=True would take '
                'these steps back and go on there.')
            return
        self._continued, log_dir = found
        writer.continue_run(log_dir, runner.iter + 1)
        self.name_run(runner)
        runner.logger.info('EnhancedTensorBoardHook goes on with the curves '
                           f'in {log_dir} from iteration {runner.iter + 1}.')

    def after_train(self, runner, writer: 'EventWriter') -> None:
        """Note in the event file that the training has come to its end.

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
        """Note whose curves go on, for the checkpoints of this run.

        Its own directory stays empty. ``RuntimeInfoHook`` sets the name of
        the run that begins, also of one inside the training.

        Args:
            runner (Runner): The runner.
        """
        if self._continued is not None:
            runner.message_hub.update_info('experiment_name', self._continued)


def interrupted_log_dir(runner, log_dir: str, resumed_runs: Sequence[str]
                        ) -> Optional[Tuple[str, str]]:
    """Where the run has logged that this one resumes.

    Args:
        runner (Runner): The runner, after it has loaded the checkpoint.
        log_dir (str): Where this run's event file is.
        resumed_runs (Sequence[str]): The ``experiment_name`` of the run that
            has saved the checkpoint, and of the one that it went on with.

    Returns:
        tuple[str, str] | None: The first of these names with event files in
        the same work directory, and their directory; None if nothing was
        resumed or found.
    """
    if not runner._resume or runner.iter == 0:
        return None
    for name in resumed_runs:
        # It ends with the time at which the run began, as its directory does.
        other = osp.join(runner.work_dir, name[-len(runner.timestamp):],
                         osp.relpath(log_dir, runner.log_dir))
        files = glob.glob(osp.join(glob.escape(other), '*tfevents*'))
        if files and not osp.samefile(other, log_dir):
            return name, other
    return None


def _hides_steps(log_dir: str, step: int) -> bool:
    """Whether a run came to its end and logged training steps after one."""
    from tensorboard.compat.proto.event_pb2 import SessionLog

    from ..writers.tfrecord import events_in
    last, status = 0, SessionLog.STATUS_UNSPECIFIED
    for event in events_in(log_dir):
        if event.HasField('session_log'):
            status = event.session_log.status
            last = event.step
    return status == SessionLog.STOP and last > step
