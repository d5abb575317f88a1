# Copyright (c) OpenMMLab. All rights reserved.
"""Counts that no noise disturbs: launches, transfers, events, bytes."""
import glob
import os
import threading
import warnings
from collections import Counter
from typing import Callable, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Each brings a value from the device to the host.
_METHODS = ('item', 'cpu', 'tolist', 'numpy', '__float__', '__int__',
            '__bool__')
_OPERATORS = ('_local_scalar_dense', 'nonzero', 'masked_select')


class Counts(NamedTuple):
    """What a function did in the thread that called it.

    Attributes:
        launches (int): Operators that torch was asked for.
        syncs (int): Times that a value was brought to the host.
        cuda_syncs (int): Times that CUDA says the host has waited.
    """
    launches: int
    syncs: int
    cuda_syncs: int


class Counting(TorchDispatchMode):
    """Counts while it is entered.

    Attributes:
        launches (Counter): Operators by name.
        syncs (Counter): What has brought a value to the host.
    """

    def __init__(self) -> None:
        super().__init__()
        self.launches: Counter = Counter()
        self.syncs: Counter = Counter()

    def __enter__(self) -> 'Counting':
        thread = threading.get_ident()
        self._depth = 0

        def counted(name: str) -> Callable:
            method = getattr(Tensor, name)

            def call(tensor, *args, **kwargs):
                if (threading.get_ident() != thread or self._depth
                        # It is there already.
                        or name == 'cpu' and not tensor.is_cuda):
                    return method(tensor, *args, **kwargs)
                self.syncs[name] += 1
                # What it asks for is part of the same.
                self._depth += 1
                try:
                    return method(tensor, *args, **kwargs)
                finally:
                    self._depth -= 1

            return call

        self._patch = mock.patch.multiple(
            Tensor, **{name: counted(name)
                       for name in _METHODS})
        self._patch.start()
        return super().__enter__()

    def __exit__(self, *error) -> None:
        super().__exit__(*error)
        self._patch.stop()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.launches[name] += 1
        kwargs = kwargs or {}
        if not self._depth and (name in _OPERATORS
                                or _waits_for_device(name, args, kwargs)):
            self.syncs[name] += 1
        return func(*args, **kwargs)


def _waits_for_device(name: str, args: tuple, kwargs: dict) -> bool:
    """Whether it is a copy from the device to the host that is waited for."""
    if name == '_to_copy':  # to(), by whatever it was given
        source, target = args[0], kwargs.get('device')
    elif name == 'copy_' and not any(
            args[2:]) and not kwargs.get('non_blocking'):
        source, target = args[1], args[0].device
    else:
        return False
    return (target is not None and torch.device(target).type == 'cpu'
            and source.device.type != 'cpu')


def count(function: Callable) -> Counts:
    """Count what a function does.

    Args:
        function (Callable): Called once uncounted, so that what it does only
            the first time is left out, and once counted.

    Returns:
        Counts: What the second call did, on one thread, since each counts for
        itself.
    """
    function()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with Counting() as counting:
            function()
    finally:
        torch.set_num_threads(threads)
    return Counts(
        sum(counting.launches.values()), sum(counting.syncs.values()),
        _cuda_syncs(function))


def _cuda_syncs(function: Callable) -> int:
    if not torch.cuda.is_available():
        return 0
    torch.cuda.set_sync_debug_mode('warn')
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            function()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    return sum('synchronizing CUDA' in str(w.message) for w in caught)


class Written(NamedTuple):
    """What is in event files.

    Attributes:
        events (int): Events.
        values (int): Scalars, histograms and pictures in them.
        bytes (int): The size of the files.
    """
    events: int
    values: int
    bytes: int


def written(folder: str) -> Written:
    """What is in the event files below a folder."""
    from tensorboard.backend.event_processing.event_file_loader import \
        EventFileLoader
    files = glob.glob(f'{folder}/**/events.out.tfevents.*', recursive=True)
    events = [
        event for file in files for event in EventFileLoader(file).Load()
    ]
    return Written(
        len(events), sum(len(event.summary.value) for event in events),
        sum(map(os.path.getsize, files)))
