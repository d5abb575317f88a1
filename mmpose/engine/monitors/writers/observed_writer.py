# Copyright (c) OpenMMLab. All rights reserved.
import weakref
from typing import Callable, Optional

from .record import Measurement, Record
from .writer import Guard, Writer

# Called with the step and one measurement.
Listener = Callable[[int, Measurement], Optional[Record]]


class Listeners(list):
    """Hold ``(type, listener, guard)`` of each who listens.

    A plain list cannot be referred to weakly.
    """


class ObservedWriter(Writer):
    """Deliver the measurements of each record, after writing it.

    They are delivered even where the next writer drops the record. A record
    that a listener returns is written, and its measurements are delivered.

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
        listeners = self._listeners() or ()
        for value in values:
            for measured, listener, guard in listeners:
                if isinstance(value, measured) and not guard.tripped:
                    self._call(guard, record, listener, value)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

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
