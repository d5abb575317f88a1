# Copyright (c) OpenMMLab. All rights reserved.
import os
from functools import partial
from typing import List, Optional, Sequence, Tuple

import numpy as np
import torch

from ...core.arguments import Argument, one_of_types
from ...core.monitor import Monitor
from ...core.registry import MONITORS
from ...writers.record import Record, Text

# Rows of the table of operators.
_ROWS = 20


def _are_steps(steps) -> bool:
    return (len(steps) == 2 and all(
        isinstance(s, int) and not isinstance(s, bool) for s in steps)
            and 1 <= steps[0] <= steps[1])


_PROFILE_STEPS = Argument(
    'profile_steps', None, 'tuple[int] | None',
    'The first and the last iteration to profile, ``(100, 105)`` say, see '
    ':class:`ProfileMonitor`. None: none.',
    one_of_types((tuple, list),
                 'two integers, the first and the last iteration, with '
                 '1 <= first <= last, or None', _are_steps))


@MONITORS.register_module()
class ProfileMonitor(Monitor):
    """Record a few iterations with :mod:`torch.profiler`.

    =============== ========================================================
    ``run/profile`` A table: the operators that take most time, and for how
                    long none was at work
    =============== ========================================================

    Beside the event file there is the trace, for example
    ``trace_100-105.json.gz``: open it at https://ui.perfetto.dev, where it
    stays on your machine.

    What it tells: Which operator, copy or gap makes an iteration slow. Where
    a device is idle, it waits for the host: for data, for a value that is
    copied to the host, or because the operators are too small.

    The profiled iterations are slower, and the last one waits for the
    device. Nothing else changes: the weights are the same. Files are written
    by the writer's thread.

    Args:
        profile_steps (Sequence[int], optional): The first and the last
            iteration. Defaults to None: none.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (_PROFILE_STEPS, )
    settings = dict(profile_steps=_PROFILE_STEPS)

    def __init__(self,
                 profile_steps: Optional[Sequence[int]] = None,
                 strict: bool = False) -> None:
        super().__init__(strict=strict)
        self._steps = tuple(profile_steps or ())
        self._profiler = None

    def before_train(self, runner) -> None:
        self._stop()  # Of a training that was interrupted.
        if self._steps and runner.iter >= self._steps[1]:
            runner.logger.info(
                'EnhancedTensorBoardHook: nothing is profiled, since the '
                f'training begins after iteration {self._steps[1]}.')

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        if not self._steps or self._profiler is not None:
            return
        # A training may be resumed in the midst of it.
        if self._steps[0] <= runner.iter + 1 <= self._steps[1]:
            if torch.autograd._profiler_enabled():
                # Ours would end it.
                self._steps = ()
                raise RuntimeError('another profiler of PyTorch is at work')
            self._first = runner.iter + 1
            activities = [torch.profiler.ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(torch.profiler.ProfilerActivity.CUDA)
            profiler = torch.profiler.profile(activities=activities)
            profiler.start()
            self._profiler = profiler

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        step = runner.iter + 1
        if self._profiler is not None and step >= self._steps[1]:
            profiler = self._stop()
            path = os.path.join(self.writer.log_dir,
                                f'trace_{self._first}-{step}.json.gz')
            self.emit(Record(step, partial(_write, profiler, path)))
            runner.logger.info(
                f'EnhancedTensorBoardHook: the trace of iterations '
                f'{self._first} to {step} is {path}. To view: '
                'https://ui.perfetto.dev')

    def after_train(self, runner) -> None:
        self._stop()

    def _stop(self):
        """Stop the profiler, if it is at work, and return it."""
        profiler, self._profiler = self._profiler, None
        if profiler is not None:
            profiler.stop()
        return profiler


def _write(profiler, path: str) -> List[Text]:
    """Write the trace and return the table, in the writer's thread."""
    profiler.export_chrome_trace(path)
    return [Text('run/profile', _table(profiler, os.path.basename(path)))]


def _table(profiler, name: str) -> str:
    """Return the operators that take most time, in Markdown."""
    events = profiler.events()
    of_device = [
        e for e in events if e.device_type != torch.autograd.DeviceType.CPU
    ]
    on_device = bool(of_device)
    device = 'device' if on_device else 'CPU'
    busy, total = busy_and_total(_spans(of_device or events), _spans(events))
    rows = [(average.key, average.count, _self_time(average, on_device) / 1000)
            for average in profiler.key_averages()]
    rows = sorted(rows, key=lambda row: -row[2])
    sum_ms = sum(row[2] for row in rows) or 1.
    lines = [
        f'In {total / 1000:,.1f} ms no operator was at work on the {device} '
        f'for {(total - busy) / 1000:,.1f} ms, that is '
        f'{1 - busy / total if total else 0:.0%}. The trace is `{name}`, for '
        'https://ui.perfetto.dev', '',
        f'| operator | calls | {device} time (ms) | percent |',
        '| :-- | --: | --: | --: |'
    ]
    lines += [
        f'| {key} | {count:,} | {ms:,.2f} | {100 * ms / sum_ms:.1f} |'
        for key, count, ms in rows[:_ROWS] if ms
    ]
    return '\n'.join(lines)


Span = Tuple[float, float]


def busy_and_total(spans: Sequence[Span],
                   all_spans: Sequence[Span]) -> Tuple[float, float]:
    """Return how long at least one of the spans lasts, and the whole time.

    Args:
        spans (Sequence[tuple[float, float]]): Begin and end of each; they
            may overlap.
        all_spans (Sequence[tuple[float, float]]): What the whole time is
            from the first begin to the last end of.
    """
    if not spans:
        return 0., 0.
    every = np.array(all_spans, float)
    total = every[:, 1].max() - every[:, 0].min()
    spans = np.array(sorted(spans), float)
    # Up to where it was busy before each span.
    until = np.maximum.accumulate(spans[:, 1])
    until = np.concatenate([spans[:1, 0], until[:-1]])
    busy = np.maximum(spans[:, 1] - np.maximum(spans[:, 0], until), 0).sum()
    return float(busy), float(total)


def _spans(events) -> List[Span]:
    return [(e.time_range.start, e.time_range.end) for e in events]


def _self_time(average, on_device: bool) -> float:
    """Return the time of an operator without those it calls, in µs."""
    if not on_device:
        return average.self_cpu_time_total
    # Its name has changed with PyTorch 2.4.
    new = getattr(average, 'self_device_time_total', None)
    return average.self_cuda_time_total if new is None else new
