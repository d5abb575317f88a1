# Copyright (c) OpenMMLab. All rights reserved.
import time
from collections import Counter

from .record import Encoded, Image, Measurement, Record
from .summaries import to_summary
from .writer import Writer


class TensorBoardWriter(Writer):
    """Write records as events of TensorBoard, in the calling thread.

    .. code-block:: python

        writer = TensorBoardWriter.of(SummaryWriter('runs/1'))
        writer.write(Record(1, lambda: [Scalar('loss', 0.5)]))

    Args:
        file (EventFile): Where events go: anything with ``append(event,
            kind)``, ``flush()`` and ``close()``.

    Attributes:
        written (Counter): How many values were written, by the name of their
            type: 'Scalar', 'Histogram', 'Text'; of an 'Image' its pictures.
    """

    def __init__(self, file) -> None:
        self._file = file
        self.written: Counter = Counter()

    @classmethod
    def of(cls, summary_writer) -> 'TensorBoardWriter':
        """Return a writer into the event file of a ``SummaryWriter``.

        Args:
            summary_writer (torch.utils.tensorboard.SummaryWriter): It goes on
                writing its own events.
        """
        return cls(_FileOf(summary_writer))

    def write(self, record: Record) -> None:
        """Write all values of a record as one event."""
        from tensorboard.compat.proto.event_pb2 import Event
        values = [v for v in record.read() if not isinstance(v, Measurement)]
        for value in values:
            if isinstance(value, Encoded):
                self._file.append(value.event, record.kind)
        values = [v for v in values if not isinstance(v, Encoded)]
        if not values:
            return
        event = Event(
            wall_time=record.wall_time or time.time(),
            step=record.step,
            summary=to_summary(values))
        self._file.append(event, record.kind)
        for value in values:
            self.written[type(value).__name__] += (
                len(value.pictures) if isinstance(value, Image) else 1)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class _FileOf:
    """The event file of a ``SummaryWriter``."""

    def __init__(self, summary_writer) -> None:
        self.flush = summary_writer.flush
        self.close = summary_writer.close
        self._file = summary_writer._get_file_writer()

    def append(self, event, kind: str) -> None:
        self._file.add_event(event, walltime=event.wall_time)
