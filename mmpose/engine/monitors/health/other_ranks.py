# Copyright (c) OpenMMLab. All rights reserved.
import json
import math
import os
import os.path as osp
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Dict, Iterator, List, Optional, Set, Tuple

from mmengine.dist import get_rank, get_world_size

from ..core.arguments import GRAD_NORM_INTERVAL, LOG_HEALTH
from ..core.failure_guard import FailureGuard
from ..core.measurements import GradientNorms, Spike
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import losses_of_iteration
from ..core.statistics.recent_losses import RecentLosses
from ..core.whole_file import whole_file
from ..writers.record import Record
from .detectors.loss_spike import is_spike
from .rank_losses import RankLosses
from .recent_batches import RecentBatches
from .suspects import suspects_of

FILE = 'suspects_rank{}.json'
# The seconds within which the other ranks have written what they have seen,
# and those between two looks.
_WAIT = 3
_POLL = 0.05
# The largest number of entries of a rank; the first ones are kept.
_MAX_ENTRIES = 100
# The largest number of losses that are held until they are looked at: see
# LossMonitor.
_MAX_HELD = 900


@MONITORS.register_module()
class OtherRanksMonitor(Monitor):
    """Find the rank whose batch had a loss that stands out.

    The losses that are logged are those of the first rank alone. In
    distributed training each other rank looks at its own: where one becomes
    NaN or infinite, or is far above those around it, the rank writes the step
    and the samples of its batch to ``suspects_rank<rank>.json`` in the run's
    directory, where the first rank reads it. No rank waits for another in the
    training thread. On a disk that they do not share, the report knows the
    losses of the first rank alone.

    What it tells: There is no curve. The report names the rank and its
    samples.

    Args:
        interval (int | dict | Schedule): At which iterations to look.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_HEALTH, )
    settings = dict(interval=GRAD_NORM_INTERVAL)
    writes_curves = False
    # Before LossMonitor, whose losses may follow from those of another rank.
    priority = 'NORMAL'

    def is_on_every_rank(self, runner) -> bool:
        return get_world_size() > 1

    def gather_results(self) -> None:
        """Do nothing: it measures nothing in validations."""

    def before_train(self, runner) -> None:
        rank, self._size = get_rank(), get_world_size()
        self._path = osp.join(runner.log_dir, FILE)
        self._own = (
            _OwnLosses(self._path.format(rank), self.guard) if rank else None)
        self._was_finite = True
        # In the writer's thread of the first rank.
        self._num_read: Dict[int, int] = {}
        self._nonfinite: Set[int] = set()
        self._unseen: List[RankLosses] = []
        self._expects = self._has_waited = False
        if self._size > 1 and self.writer is not None:
            self.writer.listen(GradientNorms, self._look, self.guard)

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        if self._own is not None:
            self._own.batches.add(runner.iter + 1, data_batch)

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        step = runner.iter + 1
        if self._size == 1 or self.schedule.interval_at(step) == 0:
            return
        losses = losses_of_iteration(runner.message_hub, outputs or {})
        is_finite = all(math.isfinite(loss) for _, loss in losses)
        becomes_nonfinite = self._was_finite and not is_finite
        self._was_finite = is_finite
        is_due = self.schedule.is_due(step)
        if self._own is not None:
            self._own.add(step, losses, becomes_nonfinite, is_due)
        elif becomes_nonfinite or is_due:
            self.emit(
                Record(step, lambda: self._read(step, becomes_nonfinite)))

    def after_train(self, runner) -> None:
        if self._size > 1 and self._own is None:
            step = runner.iter
            self.emit(Record(step, lambda: self._read(step, False)))

    def _look(self, step: int, norms: GradientNorms) -> None:
        # Gradients are averages over all ranks.
        self._expects |= norms.nonfinite is not None

    def _read(self, step: int, is_nonfinite: bool) -> Iterator[RankLosses]:
        """Yield what others have written, up to a step of the first rank."""
        self._unseen += self._written()
        if (is_nonfinite or self._expects) and not self._has_waited:
            # Once, since soon all losses are NaN.
            self._has_waited = True
            deadline = time.monotonic() + _WAIT
            while (len(self._nonfinite) < self._size - 1
                   and time.monotonic() < deadline):
                time.sleep(_POLL)
                self._unseen += self._written()
        # What became NaN here before is the cause of what did so there.
        last = step - is_nonfinite
        self._unseen.sort(key=lambda losses: losses.step)
        yield from (s for s in self._unseen if s.step <= last)
        self._unseen = [s for s in self._unseen if s.step > last]

    def _written(self) -> Iterator[RankLosses]:
        for rank in range(1, self._size):
            path = self._path.format(rank)
            if not osp.exists(path):
                continue
            with open(path, encoding='utf-8') as file:
                entries = json.load(file)
            known = self._num_read.get(rank, 0)
            self._num_read[rank] = len(entries)
            for entry in entries[known:]:
                spike = entry.get('spike')
                if 'nonfinite' in entry:
                    self._nonfinite.add(rank)
                yield RankLosses(
                    rank, entry['step'],
                    dict.fromkeys(entry.get('nonfinite', ()), entry['step']),
                    Spike(*spike) if spike else None, tuple(entry['samples']),
                    entry['batch_size'])


class _OwnLosses:
    """Look at the losses of a rank that writes no event file.

    Args:
        path (str): The file for the batches that stand out.
        guard (FailureGuard): Told if it cannot be written.
    """

    def __init__(self, path: str, guard: FailureGuard) -> None:
        self.batches = RecentBatches()
        self._path = path
        self._guard = guard
        self._recent = RecentLosses()
        self._losses: List[Tuple[int, float]] = []
        self._entries: List[dict] = []
        # The training does not wait for it, the process does at its end.
        self._pool = ThreadPoolExecutor(max_workers=1)

    def add(self, step: int, losses: List[Tuple[str, float]],
            becomes_nonfinite: bool, is_due: bool) -> None:
        """Add the losses of an iteration.

        Args:
            step (int): The training step.
            losses (list[tuple[str, float]]): By name.
            becomes_nonfinite (bool): Whether one is NaN or infinite, and none
                was in the iteration before.
            is_due (bool): Whether to look for a spike.
        """
        if becomes_nonfinite:
            self.batches.keep()
            self._write(
                step, nonfinite=[n for n, v in losses if not math.isfinite(v)])
        self.batches.release()
        self._losses += [(step, loss) for name, loss in losses
                         if name == 'loss' and loss and math.isfinite(loss)]
        if self._losses and (is_due or len(self._losses) >= _MAX_HELD):
            losses, self._losses = self._losses, []
            self._pool.submit(self._guarded, self._look, losses)

    def _write(self, step: int, **what) -> None:
        self._pool.submit(self._guarded, self._write_entry, step, what)

    # In a thread of its own

    def _guarded(self, function: Callable, *args) -> None:
        try:
            function(*args)
        except Exception as error:
            # The guard would count the time as the training's.
            self._guard.report(error)

    def _look(self, losses: List[Tuple[int, float]]) -> None:
        self._recent.add(*zip(*losses))
        spike = self._recent.spike()
        if spike is not None and is_spike(spike):
            self._write_entry(spike.step, dict(spike=spike))

    def _write_entry(self, step: int, what: dict) -> None:
        samples, batch_size = suspects_of(self.batches, step)
        entry = dict(step=step, samples=samples, batch_size=batch_size, **what)
        self._entries = [*self._entries, entry][:_MAX_ENTRIES]
        os.makedirs(osp.dirname(self._path), exist_ok=True)
        with whole_file(self._path) as file:
            json.dump(self._entries, file, ensure_ascii=False, indent=1)
