# Copyright (c) OpenMMLab. All rights reserved.
import multiprocessing
import time
import warnings
from typing import Callable, Dict, List, Optional

import torch

from ...core.arguments import GRAD_NORM_INTERVAL
from ...core.measurements import TransformTimes
from ...core.monitor import Monitor
from ...core.registry import MONITORS
from ...core.runner_parts import data_set_parts
from ...core.schedule import Interval, spread
from ...writers.record import Record, Text
from ..arguments import LOG_SYSTEM

_SAMPLES = 20
# The name of what no transform does: reading the annotations, copying them.
_REST = 'the data set itself'


@MONITORS.register_module()
class TransformTimeMonitor(Monitor):
    """Log how long the transforms of the training data take, once.

    =================== ====================================================
    ``data/transforms`` A table: the milliseconds of each transform for a
                        sample, and how many samples a worker loads in a
                        second
    =================== ====================================================

    What it tells: Which transform to make faster where the training waits
    for its data. The finding ``data_loader`` names it, and how many workers
    would be enough.

    A child process loads 20 samples when the training begins, as a worker of
    the data loader does, on one core. The training does not wait for it. It
    takes a data set with a ``pipeline``, as MMPose's have, and a system that
    can fork.

    Args:
        interval (int | dict | Schedule): At which iterations to look whether
            it is done.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_SYSTEM, )
    settings = dict(interval=GRAD_NORM_INTERVAL)

    def __init__(self, interval: Interval, strict: bool = False) -> None:
        super().__init__(interval, strict)
        self._process = None

    def before_train(self, runner) -> None:
        self._end()  # Of a training that was interrupted.
        dataset = getattr(runner.train_dataloader, 'dataset', None)
        if not (self.schedule.interval_at(1) and _can_fork()
                and hasattr(dataset, '__len__') and _pipelines(dataset)):
            return
        context = multiprocessing.get_context('fork')
        self._results, results = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_measure_in_child, args=(dataset, results), daemon=True)
        with warnings.catch_warnings():
            # Of threads that the child does not have. The workers of a data
            # loader are made in the same way.
            warnings.simplefilter('ignore', DeprecationWarning)
            self._process.start()
        results.close()

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        if self._process is not None and self.schedule.is_due(runner.iter + 1):
            self._look(runner.iter + 1)

    def after_train(self, runner) -> None:
        if self._process is not None:
            self._look(runner.iter)
        self._end()

    def _look(self, step: int) -> None:
        """Write the result if it is there."""
        if not self._results.poll():
            return
        try:
            result = self._results.recv()
        except EOFError:
            result = 'the process that loads samples has died'
        self._end()
        if isinstance(result, str):
            raise RuntimeError(
                f'the transforms could not be measured: {result}')
        self.emit(
            Record(
                step, lambda: [
                    Text('data/transforms', _table(result)),
                    TransformTimes(result)
                ]))

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            self._results.close()
            if process.is_alive():
                process.kill()
            # It has ended, or is about to.
            process.join(1)


def _can_fork() -> bool:
    return ('fork' in multiprocessing.get_all_start_methods()
            # It may have no children.
            and not multiprocessing.current_process().daemon)


def _pipelines(dataset) -> List[list]:
    """Return the lists of transforms of a data set and its parts."""
    found = []
    for part in data_set_parts(dataset):
        transforms = getattr(
            getattr(part, 'pipeline', None), 'transforms', None)
        if isinstance(transforms, list) and transforms:
            found.append(transforms)
    return found


def _measure_in_child(dataset, results) -> None:
    """Send the times, or what went wrong."""
    try:
        torch.set_num_threads(1)
        results.send(measure_transforms(dataset))
    except Exception as error:
        results.send(f'{type(error).__name__}: {error}')


def measure_transforms(dataset) -> Dict[str, float]:
    """Load samples and measure how long the transforms take.

    The transforms of the data set are replaced: only for a process that does
    nothing else with it.

    Args:
        dataset (Dataset): A data set with a ``pipeline`` and a length.

    Returns:
        dict[str, float]: Milliseconds for a sample, by the names of the
        transforms in their order, and for the rest.
    """
    seconds: Dict[str, float] = {}
    for transforms in _pipelines(dataset):
        for i, transform in enumerate(transforms):
            transforms[i] = _timed(transform, seconds)
    indices = sorted(spread(range(len(dataset)), _SAMPLES).elements())
    dataset[indices[0]]  # The first one opens files.
    seconds.update(dict.fromkeys(seconds, 0.))
    began = time.perf_counter()
    for index in indices:
        dataset[index]
    total = time.perf_counter() - began
    seconds[_REST] = max(total - sum(seconds.values()), 0.)
    return {
        name: 1000 * value / len(indices)
        for name, value in seconds.items()
    }


def _timed(transform: Callable, seconds: Dict[str, float]) -> Callable:
    name = type(transform).__name__
    seconds.setdefault(name, 0.)

    def call(results):
        began = time.perf_counter()
        try:
            return transform(results)
        finally:
            seconds[name] += time.perf_counter() - began

    return call


def _table(milliseconds: Dict[str, float]) -> str:
    total = sum(milliseconds.values())
    lines = [
        f'A worker loads {1000 / total:,.0f} samples in a second.', '',
        '| transform | ms for a sample | percent |', '| :-- | --: | --: |'
    ]
    lines += [
        f'| {name} | {ms:,.2f} | {100 * ms / total:.0f} |'
        for name, ms in milliseconds.items()
    ]
    return '\n'.join(lines)
