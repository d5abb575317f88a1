# Copyright (c) OpenMMLab. All rights reserved.
import weakref
from typing import Callable, Dict, List, Optional, Tuple, Type

from .record import Encoded, Measurement, Record, Scalar
from .writer import Guard, Writer

# Called with the step and the scalars of a record, by their tags.
Observer = Callable[[int, Dict[str, float]], Optional[Record]]
# Called with the step and one measurement.
Listener = Callable[[int, Measurement], Optional[Record]]


class Observers:
    """Who is shown what is written."""

    def __init__(self) -> None:
        self.observers: List[Tuple[Observer, Guard]] = []
        self.listeners: List[Tuple[Type[Measurement], Listener, Guard]] = []


class ObservedWriter(Writer):
    """Show all scalars and measurements to observers, after writing them.

    They are shown even where the next writer drops the record. A record that
    an observer returns is written, and shown in turn.

    Args:
        writer (Writer): Where records go.
        observers (Observers): Who is shown them. Only a weak reference is
            kept: a thread that writes must not keep a model alive.
    """

    def __init__(self, writer: Writer, observers: Observers) -> None:
        self._writer = writer
        self._observers = weakref.ref(observers)

    def write(self, record: Record) -> None:
        """Write a record and show it."""
        values = record.read()
        self._writer.write(
            record._replace(values=lambda: values, tensors=(), ready=()))
        observers = self._observers()
        if observers is None:
            return
        scalars = {}
        for value in values:
            if isinstance(value, Scalar):
                scalars[value.tag] = float(value.value)
            elif isinstance(value, Encoded):
                scalars.update(value.scalars)
        if scalars:
            for observer, guard in observers.observers:
                self._call(guard, record, observer, scalars)
        for value in values:
            for measured, listener, guard in observers.listeners:
                if isinstance(value, measured):
                    self._call(guard, record, listener, value)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _call(self, guard: Guard, record: Record, function: Callable,
              shown) -> None:
        if guard.tripped:
            return
        try:
            answer = function(record.step, shown)
            if answer is not None:
                self.write(answer._replace(wall_time=record.wall_time))
        except Exception as error:
            guard.report(error)
        else:
            guard.succeeded()
