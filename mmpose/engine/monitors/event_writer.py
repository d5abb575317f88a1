# Copyright (c) OpenMMLab. All rights reserved.
import os.path as osp
from collections import Counter
from typing import Iterable, Tuple

import numpy as np
from mmengine.utils import scandir
from mmengine.visualization import TensorboardVisBackend

from .record import Histogram, Record, Scalar, Text, Value


class EventWriter:
    """Writes records into the run's event file.

    Args:
        summary_writer (torch.utils.tensorboard.SummaryWriter): The writer
            that the run has already. No second one is ever opened beside it.

    Attributes:
        log_dir (str): The directory of the event file.
        written (Counter): How many values were written, by the name of their
            type: 'Scalar', 'Histogram', 'Text'.
    """

    def __init__(self, summary_writer) -> None:
        self._summary_writer = summary_writer
        self.log_dir = summary_writer.log_dir
        self.written: Counter = Counter()

    @classmethod
    def of_run(cls, runner) -> Tuple['EventWriter', bool]:
        """The writer that shares the event file of ``LoggerHook``.

        Args:
            runner (Runner): The runner, whose visualizer gets a TensorBoard
                backend if it has none.

        Returns:
            tuple[EventWriter, bool]: The writer, and whether a backend was
            added for it.

        Raises:
            ImportError: tensorboard is missing or broken.
        """
        backends = runner.visualizer._vis_backends
        for backend in backends.values():
            if isinstance(backend, TensorboardVisBackend):
                return cls(backend.experiment), False

        backend = TensorboardVisBackend(osp.join(runner.log_dir, 'vis_data'))
        try:
            writer = cls(backend.experiment)
        except ImportError as error:
            raise ImportError(
                'tensorboard cannot be imported, so nothing is logged. '
                'Install it with: pip install tensorboard') from error
        backends[type(backend).__name__] = backend
        # As the runner did for the backends that were there in time.
        if runner.cfg:
            backend.add_config(runner.cfg)
        return writer, True

    def write(self, record: Record) -> None:
        """Write all values of a record as one event.

        Args:
            record (Record): What was read.
        """
        arrays = [tensor.detach().cpu().numpy() for tensor in record.tensors]
        values = list(record.values(*arrays))
        if not values:
            return
        # ``add_scalar`` and its kind write one event for each value; the
        # file writer below them takes a whole summary.
        self._summary_writer._get_file_writer().add_summary(
            _summary(values), record.step)
        self.written.update(type(value).__name__ for value in values)

    def flush(self) -> None:
        """Bring to disk what was written so far."""
        self._summary_writer.flush()

    def bytes_on_disk(self) -> int:
        """The size of the run's event files, in bytes."""
        return sum(
            osp.getsize(osp.join(self.log_dir, name))
            for name in scandir(self.log_dir) if 'tfevents' in name)


def _summary(values: Iterable[Value]):
    """TensorBoard's protobuf of many values."""
    # Here, because MMPose must import without tensorboard.
    from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
    from torch.utils.tensorboard.summary import text

    summary = Summary()
    for value in values:
        if isinstance(value, Scalar):
            summary.value.add(tag=value.tag, simple_value=value.value)
        elif isinstance(value, Text):
            summary.value.extend(text(value.tag, value.text).value)
        elif isinstance(value, Histogram):
            limits, counts = _without_empty_runs(value.edges, value.counts)
            summary.value.add(
                tag=value.tag,
                histo=HistogramProto(
                    min=value.min,
                    max=value.max,
                    num=int(value.counts.sum()),
                    sum=value.sum,
                    sum_squares=value.sum_squares,
                    bucket_limit=limits,
                    bucket=counts))
    return summary


def _without_empty_runs(edges: np.ndarray, counts: np.ndarray):
    """A run of empty buckets as one: a few hundred buckets instead of all.

    TensorBoard knows a bucket by its upper limit and takes the limit before as
    its lower edge, so the last bucket of an empty run stays.
    """
    filled = counts > 0
    used = np.flatnonzero(filled)
    if not len(used):
        return edges[1:2], counts[:1]
    keep = filled.copy()
    keep[:-1] |= filled[1:]
    keep[:used[0]] = False
    return edges[1:][keep], counts[keep]
