# Copyright (c) OpenMMLab. All rights reserved.
from typing import Sequence

from ..background_writer import BackgroundWriter
from ..dropping_queue import DroppingQueue
from ..record import Alert, Histogram, Image, Record, Scalar
from ..writer import Guard, Writer
from .clients import Client

# Less than the writer of the event file: a server that hangs must not hold
# up the end of the training for long.
_DRAIN_SECS = 15
_MAX_ITEMS = 1000
_MAX_BYTES = 1 << 28


class MirrorWriter(Writer):
    """Send what is written to experiment trackers, too.

    Events of MMEngine, which sends them to its backends itself, are not sent.

    Args:
        writer (Writer): Writes the records.
        mirrors (Sequence[Mirror]): The trackers.
    """

    def __init__(self, writer: Writer, mirrors: Sequence['Mirror']) -> None:
        self._writer = writer
        self._mirrors = mirrors

    def write(self, record: Record) -> None:
        """Write a record, and hand it to the threads of the trackers."""
        values = record.read()
        record = record._replace(
            values=lambda: values,
            tensors=(),
            ready=(),
            size=sum(
                picture.nbytes for value in values if isinstance(value, Image)
                for picture in value.pictures))
        # The event file first: a tracker may take no more than its thread.
        try:
            self._writer.write(record)
        finally:
            for mirror in self._mirrors:
                mirror.write(record)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
        for mirror in self._mirrors:
            mirror.close()


class Mirror:
    """Send records to one tracker from a thread of its own.

    Args:
        client (Client): The tracker.
        guard (Guard): Told of failures; nothing is sent after it has tripped.

    Attributes:
        guard (Guard): The same.
    """

    def __init__(self, client: Client, guard: Guard) -> None:
        self.guard = guard
        self._kinds = client.kinds
        self._thread = BackgroundWriter(
            _ClientWriter(client, guard),
            DroppingQueue(_MAX_ITEMS, _MAX_BYTES),
            guard,
            drain_secs=_DRAIN_SECS,
            to=client.name)
        if client.backend is not None:
            self._close_before(client.backend)

    def write(self, record: Record) -> None:
        """Hand what the tracker takes of a record to the thread."""
        values = [v for v in record.read() if isinstance(v, self._kinds)]
        # Nothing to send is no success, which would end a row of failures.
        if values:
            self._thread.write(record._replace(values=lambda: values))

    def end_when_idle(self) -> None:
        """End the thread when everything is sent, without waiting."""
        self._thread.end_when_idle()

    def close(self) -> None:
        """Send everything; wait 15 seconds at most."""
        self._thread.close()

    def _close_before(self, backend) -> None:
        """Send everything before ``LoggerHook`` closes the backend."""

        def close() -> None:
            vars(backend).pop('close', None)
            self.close()
            backend.close()

        backend.close = close


class _ClientWriter(Writer):
    """Send the values of records, those that a tracker has a place for."""

    def __init__(self, client: Client, guard: Guard) -> None:
        self._client = client
        self._guard = guard

    def write(self, record: Record) -> None:
        if self._guard.tripped:
            return
        values = record.read()
        scalars = {
            v.tag: float(v.value)
            for v in values if isinstance(v, Scalar)
        }
        if scalars:
            self._client.scalars(scalars, record.step)
        for value in values:
            if isinstance(value, Image):
                self._client.image(value, record.step)
            elif isinstance(value, Histogram):
                self._client.histogram(value, record.step)
            elif isinstance(value, Alert):
                self._client.alert(value)
