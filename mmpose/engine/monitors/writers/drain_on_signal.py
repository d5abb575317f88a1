# Copyright (c) OpenMMLab. All rights reserved.
"""Bring what was logged to disk before a signal ends the process."""
import os
import signal
import threading
from typing import Dict
from weakref import WeakSet

from .writer import Writer

# They end a job: a time limit, ``docker stop``, a terminal that closes.
_SIGNALS = ('SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2')
# ``docker stop`` kills after 10 seconds, SLURM after 30.
_DRAIN_SECS = 8
_writers: WeakSet = WeakSet()
_previous: Dict[int, object] = {}
_draining = set()


def drain_on_signal(writer: Writer) -> None:
    """Drain a writer when a signal comes that would end the process.

    The process then ends as it would have, 8 seconds later at most; a second
    signal ends it at once. A handler that is there already is called without
    waiting, and a signal that is ignored stays so. Does nothing in another
    thread than the main one, which Python has handle signals.

    Args:
        writer (Writer): The writer, as long as it is in use.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    _writers.add(writer)
    for name in _SIGNALS:
        number = getattr(signal, name, None)
        previous = signal.getsignal(number) if number else None
        # None: a handler that is not Python's and that Python cannot call.
        if previous not in (None, signal.SIG_IGN, _handle):
            _previous[number] = previous
            signal.signal(number, _handle)


def _handle(number, frame) -> None:
    previous = _previous[number]
    is_first = number not in _draining
    if is_first:
        _draining.add(number)
        # This thread may hold a lock that a writer waits for.
        threading.Thread(
            target=_drain, args=(number, previous), daemon=True).start()
    if callable(previous):
        previous(number, frame)
    elif not is_first:
        signal.signal(number, previous)
        os.kill(os.getpid(), number)


def _drain(number: int, previous) -> None:
    threads = [
        threading.Thread(target=writer.drain, daemon=True)
        for writer in list(_writers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_DRAIN_SECS)
    if callable(previous):
        _draining.discard(number)
    else:
        os.kill(os.getpid(), number)
