# Copyright (c) OpenMMLab. All rights reserved.
import weakref
from typing import Callable, Optional

from .record import Measurement, Record
from .writer import Guard, Writer

# Called with the step and one measurement.
Listener = Callable[[int, Measurement], Optional[Record]]


class Tick:
    """Tell listeners that time has passed, whether or not there are records.

    A background writer flushes every ``flush_secs``, and each flush is one.
    """


class Listeners(list):
    """Hold ``(type, listener, guard)`` of each who listens.

    A plain list cannot be referred to weakly.
    """


class ObservedWriter(Writer):
    """Deliver the measurements of each record, after writing it.

    They are delivered even where the next writer drops the record. A record
    that a listener returns is written, and its measurements are delivered.
    Before each flush, listeners of :class:`Tick` are called with step 0.

    Args:
        writer (Writer): Writes the records.
        listeners (Listeners): The listeners. Only a weak reference is kept,
            since the writer's thread must not keep a model alive.
    """

    def __init__(self, writer: Writer, listeners: Listeners) -> None:
        self._writer = writer
        self._listeners = weakref.ref(listeners)

    def write(self, record: Record) -> None:
        """Write a record and deliver its measurements."""
        values = record.read()
        self._writer.write(
            record._replace(values=lambda: values, tensors=(), ready=()))
        for value in values:
            self._deliver(record, value)

    def flush(self) -> None:
        """Tell that time has passed, and bring to disk what was written."""
        self._deliver(Record(0, list), Tick())
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _deliver(self, record: Record, value) -> None:
        for measured, listener, guard in self._listeners() or ():
            if isinstance(value, measured) and not guard.tripped:
                self._call(guard, record, listener, value)

    def _call(self, guard: Guard, record: Record, listener: Listener,
              measurement: Measurement) -> None:
        try:
            answer = listener(record.step, measurement)
            if answer is not None:
                self.write(answer._replace(wall_time=record.wall_time))
        except Exception as error:
            guard.report(error)
        else:
            guard.succeeded()
