# Copyright (c) OpenMMLab. All rights reserved.
import functools
from typing import Dict, Iterable, Optional

import torch
from mmengine.dist import get_world_size

from .base import Monitor
from .record import Record, Scalar
from .schedule import Schedule

try:
    import psutil
except ImportError:
    psutil = None

_MIB = 1 << 20


class SystemMonitor(Monitor):
    """How fast the training is and what it uses of the machine.

    ===================================== ==================================
    ``system/iterations_per_second``      Since the last reading
    ``system/samples_per_second``         The same times the samples of a
                                          batch, on all ranks
    ``system/data_time_percent``          Of an iteration, what it waits for
                                          the data loader
    ``system/gpu_memory_allocated_mib``   What tensors take on the GPU now
    ``system/gpu_memory_reserved_mib``    What PyTorch keeps for them
    ``system/gpu_memory_peak_mib``        The most that tensors took since
                                          ``LoggerHook`` last reset the peak
    ``system/cpu_percent``                Of one core, by this process since
                                          the last reading
    ``system/resident_memory_mib``        Of this process
    ===================================== ==================================

    What it tells: Whether the machine holds the training up. More than 30 %
    of the time waiting for data: more workers help. Memory that grows without
    end is something that is kept from iteration to iteration, such as a loss
    with its graph.

    The times are those that :class:`mmengine.hooks.IterTimerHook` takes
    anyway; nothing waits for the device. What hooks do after that one counts
    as waiting for the next batch, since no hook runs later. The last two need
    psutil.

    Args:
        schedule (Schedule): At which iterations.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    def __init__(self, schedule: Schedule, strict: bool = False) -> None:
        super().__init__(schedule, strict)
        self._process = psutil.Process() if psutil else None

    def before_train(self, runner) -> None:
        self._iters = 0
        if self._process:
            self._process.cpu_percent()  # From here on.

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        self._iters += 1
        step = runner.iter + 1
        if not self.is_due(step):
            return
        values = {
            **self._speed(runner, data_batch),
            **_gpu_memory(),
            **self._usage()
        }
        self._iters = 0
        self.emit(Record(step, functools.partial(_scalars, values)))

    def _speed(self, runner, data_batch) -> Dict[str, float]:
        hub = runner.message_hub
        # A config may do without IterTimerHook.
        if 'train/time' not in hub.log_scalars:
            return {}
        seconds = hub.get_scalar('train/time').mean(self._iters)
        if seconds <= 0:
            return {}
        values = {'iterations_per_second': 1 / seconds}
        if isinstance(data_batch, dict) and 'inputs' in data_batch:
            samples = len(data_batch['inputs']) * get_world_size()
            values['samples_per_second'] = samples / seconds
        if 'train/data_time' in hub.log_scalars:
            waited = hub.get_scalar('train/data_time').mean(self._iters)
            values['data_time_percent'] = 100 * waited / seconds
        return values

    def _usage(self) -> Dict[str, float]:
        if not self._process:
            return {}
        with self._process.oneshot():
            return dict(
                cpu_percent=self._process.cpu_percent(),
                resident_memory_mib=self._process.memory_info().rss / _MIB)


def _gpu_memory() -> Dict[str, float]:
    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return {}
    return dict(
        gpu_memory_allocated_mib=torch.cuda.memory_allocated() / _MIB,
        gpu_memory_reserved_mib=torch.cuda.memory_reserved() / _MIB,
        gpu_memory_peak_mib=torch.cuda.max_memory_allocated() / _MIB)


def _scalars(values: Dict[str, float]) -> Iterable[Scalar]:
    for name, value in values.items():
        yield Scalar(f'system/{name}', value)
