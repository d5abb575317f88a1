# Copyright (c) OpenMMLab. All rights reserved.
"""The TensorBoard backend of one run, and of no other."""
import os
import os.path as osp
import re
import socket
import uuid
from typing import Dict, NamedTuple, Optional
from weakref import WeakKeyDictionary, ref

from mmengine.visualization import TensorboardVisBackend

from .tfrecord import event_files

# The directory of a run, as MMEngine names it by the second it begins in.
_TIMESTAMP = re.compile(r'\d{8}_\d{6}')
# The backends that were made here, each for its Runner.
_made: WeakKeyDictionary = WeakKeyDictionary()
# The name and the backend that a run has replaced in a visualizer.
_replaced: WeakKeyDictionary = WeakKeyDictionary()
# The Runner of this process that writes into a directory.
_writes_to: Dict[str, ref] = {}


class RunBackend(NamedTuple):
    """The TensorBoard backend of a run.

    Attributes:
        backend (TensorboardVisBackend): The backend.
        reason (str): Why it is not the one of the config; '' if it is.
    """
    backend: TensorboardVisBackend
    reason: str = ''


def backend_of_run(runner) -> RunBackend:
    """Return the TensorBoard backend of a run; add one where there is none.

    MMEngine keeps one visualizer for each name, and the configs of MMPose all
    have the same: the second Runner of a process gets that of the first one,
    which writes into the first one's directory. And two jobs that begin in the
    same second in one work directory share their directory. Here such a run
    gets a backend of its own, until :func:`release_backend`.

    Args:
        runner (Runner): The runner.

    Raises:
        ImportError: tensorboard is missing or broken.
    """
    backends = runner.visualizer._vis_backends
    name, found = next(((name, backend) for name, backend in backends.items()
                        if isinstance(backend, TensorboardVisBackend)),
                       (TensorboardVisBackend.__name__, None))
    result = _made.get(runner)
    if result is None:
        save_dir, reason = _directory(runner, found)
        result = RunBackend(found)
        if save_dir is not None:
            result = RunBackend(TensorboardVisBackend(save_dir), reason)
            _prepare(runner, result.backend)
            _made[runner] = result
    if result.backend is not found:
        _replaced[runner.visualizer] = name, found
        backends[name] = result.backend
    _writes_to[osp.abspath(result.backend._save_dir)] = ref(runner)
    return result


def release_backend(runner) -> None:
    """Restore the backend of the visualizer that a run has replaced."""
    name, backend = _replaced.pop(runner.visualizer, (None, None))
    if backend is not None:
        runner.visualizer._vis_backends[name] = backend


def _prepare(runner, backend: TensorboardVisBackend) -> None:
    """Open its file, as the Runner does for those that it makes."""
    try:
        backend.experiment
    except ImportError as error:
        raise ImportError(
            'tensorboard cannot be imported, so nothing is logged. '
            'Install it with: pip install tensorboard') from error
    if runner.cfg:
        backend.add_config(runner.cfg)


def _directory(runner, found: Optional[TensorboardVisBackend]) -> tuple:
    """Where the run needs a backend of its own, and why; else None."""
    own = osp.abspath(osp.join(runner.log_dir, 'vis_data'))
    if found is None:
        return own, ('it added a TensorboardVisBackend to the visualizer: '
                     'without one in the config the losses of the run would '
                     'be missing there')
    shared = osp.abspath(found._save_dir)
    reason = ''
    if shared != own:
        if not _TIMESTAMP.fullmatch(osp.basename(osp.dirname(shared))):
            return None, ''  # The config says where.
        reason = (f'the visualizer {runner.visualizer.instance_name!r} is '
                  f'that of an earlier Runner and writes to {shared}')
    if _is_taken(own, runner):
        reason = ('another run that began in the same second writes to '
                  f'{own}')
        own += f'_{uuid.uuid4().hex[:8]}'
    return (own, reason) if reason else (None, '')


def _is_taken(log_dir: str, runner) -> bool:
    """Whether another run writes event files there."""
    other = _writes_to.get(log_dir, lambda: None)()
    mine = f'.{socket.gethostname()}.{os.getpid()}.'
    return other not in (None, runner) or any(
        mine not in osp.basename(path) for path in event_files(log_dir))
