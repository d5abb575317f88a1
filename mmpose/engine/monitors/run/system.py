# Copyright (c) OpenMMLab. All rights reserved.
import functools
from contextlib import suppress
from typing import Dict, Iterator, List, Optional, Tuple

import torch
from mmengine.dist import get_world_size

from ..core.arguments import GRAD_NORM_INTERVAL, LOG_DETAILS, Arguments
from ..core.measurements import DataTime, HostMemory
from ..core.monitor import Chart, Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import is_iter_based
from ..core.schedule import Interval
from ..writers.record import Record, Scalar, Value
from .arguments import LOG_SYSTEM
from .container_memory import free_in_container
from .gpu_sensors import GPUSensors

try:
    import psutil
except ImportError:
    psutil = None

_MIB = 1 << 20


@MONITORS.register_module()
class SystemMonitor(Monitor):
    """Log how fast the training is and what it uses of the machine.

    ===================================== ==================================
    ``system/samples_per_second``         Since the last measurement, on all
                                          ranks
    ``system/iterations_per_second``      The same in iterations; with
                                          ``log_details``
    ``time/left_hours``                   How long the rest of the training
                                          takes at the mean speed so far
    ``system/data_time_percent``          Percentage of an iteration that waits
                                          for the data loader
    ``system/gpu_memory_allocated_mib``   GPU memory of tensors now
    ``system/gpu_memory_reserved_mib``    GPU memory that PyTorch has reserved
    ``system/gpu_memory_peak_mib``        Peak GPU memory of tensors in an
                                          iteration since the last measurement
    ``system/gpu_utilization``            Percentage of the time in which the
                                          GPU computed, in the last second or
                                          less
    ``system/gpu_power_watts``            Electric power that it takes
    ``system/gpu_temperature_celsius``    Its temperature
    ``system/cpu_percent``                CPU time of this process since the
                                          last measurement; 100 is one core
    ``system/resident_memory_mib``        Resident memory of this process
    ``system/workers_memory_mib``         That of its child processes, such as
                                          the workers of the data loader;
                                          what they share counts in each;
                                          with ``log_details``
    ===================================== ==================================

    What it tells: Whether the machine slows the training down. With more than
    30 % of the time spent waiting for data, more workers help. Memory that
    keeps growing means that something is kept from iteration to iteration,
    such as a loss with its graph.

    The times are those of :class:`mmengine.hooks.IterTimerHook`; nothing waits
    for the device. The time of later hooks counts as waiting for the next
    batch. In iteration-based training that includes a whole validation, so the
    iteration after it does not count. The last three tags need psutil.
    Utilization, power and temperature need nvidia-ml-py. They are of the GPU
    of the process that writes, and read in the writer's thread.

    Args:
        interval (int | dict | Schedule): At which iterations.
        curves (bool): Whether to write them; :class:`HealthMonitor` needs
            the time spent waiting for data and the memory in any case.
            Defaults to True.
        details (bool): Whether to write what is rarely looked at, too.
            Defaults to False.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_SYSTEM, )
    settings = dict(
        interval=GRAD_NORM_INTERVAL, curves=LOG_SYSTEM, details=LOG_DETAILS)
    charts = (Chart(
        'Overview',
        'samples per second',
        'system/samples_per_second$',
        position=50), )

    @classmethod
    def is_wanted(cls, given: Arguments) -> bool:
        return given.log_system or given.is_on('log_health')

    def __init__(self,
                 interval: Interval,
                 curves: bool = True,
                 details: bool = False,
                 strict: bool = False) -> None:
        super().__init__(interval, strict)
        self.writes_curves = curves
        self._details = details
        self._process = psutil.Process() if psutil else None

    def before_train(self, runner) -> None:
        # For each iteration since the last measurement, whether it counts.
        self._counts: List[bool] = []
        self._validated = False
        self._gpu_peak = 0.
        self._sensors = GPUSensors(
            torch.cuda.current_device()) if _uses_gpu() else None
        if self._process:
            self._process.cpu_percent()  # From here on.

    def after_step(self, name: str, optimizer, taken) -> None:
        # After the iteration ``LoggerHook``, which comes before this hook,
        # may have reset it.
        self._gpu_peak = max(self._gpu_peak, _gpu_memory_peak())

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        step = runner.iter + 1
        if self.schedule.interval_at(step) == 0:
            return
        self._counts.append(not self._validated)
        self._validated = False
        if not self.is_due(step):
            return
        speed, data_time = self._speed(runner, data_batch)
        curves = {**speed, **self._gpu_memory()} if self.writes_curves else {}
        self._counts, self._gpu_peak = [], 0.
        self.emit(
            Record(step, functools.partial(self._values, curves, data_time)))

    def after_val_epoch(self, runner, metrics: Optional[Dict]) -> None:
        # The timer is reset at the start of an epoch.
        self._validated = is_iter_based(runner)

    def _speed(self, runner,
               data_batch) -> Tuple[Dict[str, float], Optional[DataTime]]:
        hub = runner.message_hub
        # A config may do without IterTimerHook.
        if 'train/time' not in hub.log_scalars or not any(self._counts):
            return {}, None
        seconds = self._mean(hub.get_scalar('train/time'))
        if seconds <= 0:
            return {}, None
        values, data_time, samples = {}, None, 0
        if self._details:
            values['system/iterations_per_second'] = 1 / seconds
        left = hub.get_info('eta')
        if left is not None:
            values['time/left_hours'] = left / 3600
        if isinstance(data_batch, dict) and 'inputs' in data_batch:
            samples = len(data_batch['inputs'])
            values['system/samples_per_second'] = (
                samples * get_world_size() / seconds)
        if 'train/data_time' in hub.log_scalars:
            waited = self._mean(hub.get_scalar('train/data_time'))
            values['system/data_time_percent'] = 100 * waited / seconds
            data_time = DataTime(waited / seconds, seconds - waited, samples)
        return values, data_time

    def _mean(self, history) -> float:
        values, _ = history.data
        return values[-len(self._counts):][self._counts].mean()

    def _gpu_memory(self) -> Dict[str, float]:
        if not _uses_gpu():
            return {}
        memory = dict(
            allocated=torch.cuda.memory_allocated() / _MIB,
            reserved=torch.cuda.memory_reserved() / _MIB,
            peak=max(self._gpu_peak, _gpu_memory_peak()))
        return {
            f'system/gpu_memory_{name}_mib': value
            for name, value in memory.items()
        }

    def _values(self, curves: Dict[str, float],
                data_time: Optional[DataTime]) -> Iterator[Value]:
        """Yield what is written, in the writer's thread: the training does not
        wait for the system."""
        children, usage = 0., {}
        if self._process is not None:
            with self._process.oneshot():
                resident = self._process.memory_info().rss / _MIB
                usage = {
                    'system/cpu_percent': self._process.cpu_percent(),
                    'system/resident_memory_mib': resident
                }
            available = psutil.virtual_memory().available
            children = _memory_of_children(self._process)
            yield HostMemory(resident,
                             min(available, free_in_container()) / _MIB,
                             children)
        if data_time is not None:
            yield data_time
        if not self.writes_curves:
            return
        curves = {**curves, **usage}
        if self._sensors is not None:
            curves.update(self._sensors.read())
        if children and self._details:
            curves['system/workers_memory_mib'] = children
        for tag, value in curves.items():
            yield Scalar(tag, value)


def _uses_gpu() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()


def _gpu_memory_peak() -> float:
    if not _uses_gpu():
        return 0.
    # ``max_memory_allocated`` makes a sorted list of all statistics first.
    statistics = torch.cuda.memory_stats_as_nested_dict()
    return statistics['allocated_bytes']['all']['peak'] / _MIB


def _memory_of_children(process) -> float:
    """Return the resident memory of the child processes, in MiB."""
    total = 0
    children = []
    with suppress(psutil.Error):  # The system may refuse.
        children = process.children()
    for child in children:
        with suppress(psutil.Error):  # It may have ended.
            total += child.memory_info().rss
    return total / _MIB
