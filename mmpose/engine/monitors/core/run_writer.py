# Copyright (c) OpenMMLab. All rights reserved.
"""Find the writer of a run, and describe it in the log."""
import shlex
from contextlib import suppress
from typing import TYPE_CHECKING, List, Optional, Sequence, Union

from mmengine.utils import manager

from .failure_guard import FailureGuard
from .runner_parts import has_ema_model

if TYPE_CHECKING:
    from ..writers.event_writer import EventWriter
    from ..writers.mirrors.mirror_writer import Mirror


def writer_of_run(runner,
                  guard: FailureGuard,
                  async_write: bool,
                  flush_secs: float,
                  disk_quota: Optional[dict],
                  mirror: Union[str, Sequence[str],
                                None] = 'auto') -> 'EventWriter':
    """Return the writer that shares the event file of ``LoggerHook``.

    Says in the log where it writes.

    Args:
        runner (Runner): The runner.
        guard (FailureGuard): See :class:`EventWriter`.
        async_write (bool): See :class:`EventWriter`.
        flush_secs (float): See :class:`EventWriter`.
        disk_quota (dict, optional): Arguments of :class:`DiskQuota`.
        mirror (str | Sequence[str], optional): See :func:`find_clients`.
            Defaults to 'auto'.

    Raises:
        ImportError: tensorboard is missing or broken.
    """
    release_leaked_lock()
    # Only a run that logs waits for these.
    from ..writers.disk_quota import DiskQuota
    from ..writers.drain_on_signal import drain_on_signal
    from ..writers.event_writer import EventWriter
    from ..writers.run_backend import backend_of_run
    backend, reason = backend_of_run(runner)
    writer = EventWriter(
        backend.experiment,
        guard=guard,
        async_write=async_write,
        flush_secs=flush_secs,
        disk_quota=DiskQuota(**(disk_quota or {})),
        mirrors=_mirrors_of(runner, guard, mirror))
    runner.logger.info(f'EnhancedTensorBoardHook writes to {writer.log_dir}' +
                       (f': {reason}.' if reason else '.'))
    drain_on_signal(writer)
    if has_ema_model(runner):
        runner.logger.info(
            'EnhancedTensorBoardHook: there is an EMAHook, so metrics and '
            'pictures of validations are those of the EMA model; '
            'train/images, gradients and weights are those of the model in '
            'training.')
    return writer


def release_leaked_lock() -> None:
    """Release MMEngine's lock if an exception has left it to this thread.

    ``ManagerMixin.get_instance`` keeps it where a constructor raises, for
    instance that of a visualizer. After that no other thread can log: the one
    that writes would wait for ever.
    """
    lock = getattr(manager, '_lock', None)
    with suppress(RuntimeError):  # It is not held any more.
        while lock is not None:
            lock.release()


def _mirrors_of(runner, guard: FailureGuard,
                mirror: Union[str, Sequence[str], None]) -> List['Mirror']:
    from ..writers.mirrors.find_clients import find_clients
    from ..writers.mirrors.mirror_writer import Mirror
    mirrors: List[Mirror] = []
    with guard:
        clients = find_clients(runner.visualizer, mirror)
        mirrors = [
            Mirror(client, FailureGuard(client.name, guard.strict))
            for client in clients
        ]
        if clients:
            names = ', '.join(client.name for client in clients)
            runner.logger.info('EnhancedTensorBoardHook sends its scalars and '
                               f'images to {names}, too.')
    return mirrors


def release_writer(runner) -> None:
    """Leave the visualizer as it was before the run.

    Args:
        runner (Runner): The runner.
    """
    from ..writers.run_backend import release_backend
    release_backend(runner)


def closing_line(writer: 'EventWriter', guards: Sequence[FailureGuard],
                 train_seconds: float, work_dir: str) -> str:
    """Return what was written and what it cost, in one line.

    Args:
        writer (EventWriter): The writer of the run.
        guards (Sequence[FailureGuard]): Those of the hook and its monitors.
        train_seconds (float): How long the training took; 0: there was none.
        work_dir (str): What TensorBoard is to be pointed at.
    """
    guards = [*guards, *(mirror.guard for mirror in writer.mirrors)]
    written = writer.written
    parts = [
        f'EnhancedTensorBoardHook wrote {written["Scalar"]:,} scalars, '
        f'{written["Histogram"]:,} histograms and '
        f'{written["Image"]:,} images '
        f'({writer.bytes_on_disk() / 1e6:.1f} MB on disk)'
    ]
    if train_seconds:
        fraction = sum(g.seconds for g in guards) / train_seconds
        parts.append(f'took {fraction:.2%} of the training time')
        if writer.cpu_seconds:
            parts[-1] += (' in the training thread and '
                          f'{writer.cpu_seconds / train_seconds:.2%} (CPU '
                          'time) in the thread that writes')
    parts.append(f'{sum(g.failures for g in guards)} failures')
    off = [g.name for g in guards if g.tripped]
    if off:
        parts.append(f'switched off: {", ".join(off)}')
    return (', '.join(parts) +
            f'. To view: tensorboard --logdir {shlex.quote(work_dir)}')
