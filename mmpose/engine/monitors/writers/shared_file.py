# Copyright (c) OpenMMLab. All rights reserved.
from functools import partial
from weakref import WeakKeyDictionary, ref

from .event_file import EventFile
from .record import HISTOGRAM, IMAGE, SCALAR, Encoded, Record

# For each SummaryWriter the last :class:`SharedFile` in it.
_last_ones: WeakKeyDictionary = WeakKeyDictionary()


class SharedFile:
    """Take the place of the ``EventFileWriter`` inside a ``SummaryWriter``.

    All that is written through the ``SummaryWriter``, MMEngine's own scalars
    included, becomes records, so that one writer orders all of it. The
    existing event file is continued: no second one is opened.

    Args:
        summary_writer (torch.utils.tensorboard.SummaryWriter): It has the
            file.
        **kwargs: See :class:`EventFile`.

    Attributes:
        file (EventFile): The file.
        writer (Writer): Where records go; to be set.
    """

    def __init__(self, summary_writer, **kwargs) -> None:
        # Weak: it is a key of ``_last_ones``, and this one the value.
        self._summary_writer = ref(summary_writer)
        # An exception may have ended what the last one was held open for.
        self.hold_open(False)
        last = _last_ones.get(summary_writer)
        if summary_writer.file_writer is None and last is not None:
            # ``LoggerHook`` has closed it after an earlier run of the same
            # Runner. To ask for a new one would begin a second file.
            from torch.utils.tensorboard.writer import FileWriter
            file_writer = FileWriter.__new__(FileWriter)
            file_writer.event_writer = last
            summary_writer.file_writer = file_writer
            summary_writer.all_writers = {summary_writer.log_dir: file_writer}
        file_writer = summary_writer._get_file_writer()
        replaced = file_writer.event_writer
        self.file = EventFile(replaced._file_name, **kwargs)
        try:
            replaced.flush()
            replaced.close()
        except OSError as error:  # Maybe in the middle of an event.
            self.file.give_up(error)
        file_writer.event_writer = self
        _last_ones[summary_writer] = self

    def hold_open(self, held: bool) -> None:
        """Set whether closing the ``SummaryWriter`` only flushes.

        Otherwise the next one to write through it would open a second file.

        Args:
            held (bool): False: closing it closes this one, too.
        """
        summary_writer = self._summary_writer()
        if summary_writer is None:
            return
        if held:
            summary_writer.close = partial(self.writer.flush, wait=False)
        else:
            vars(summary_writer).pop('close', None)

    # The methods of an ``EventFileWriter``, for the ``FileWriter`` around it
    # and for the next :class:`SharedFile`.

    @property
    def _file_name(self) -> str:
        return self.file.path

    def get_logdir(self) -> str:
        """Return the directory of the event file."""
        return str(self.file.log_dir)

    def add_event(self, event) -> None:
        """Write an event that somebody else has made.

        Args:
            event (tensorboard.compat.proto.event_pb2.Event): The event.
        """
        self.writer.write(
            Record(
                event.step,
                lambda: [Encoded(event)],
                kind=_kind(event),
                size=event.ByteSize()))

    def flush(self) -> None:
        """Bring to disk what was written so far."""
        self.writer.flush()

    def close(self) -> None:
        """Bring everything to disk; nothing is written any more."""
        self.writer.close()


def _kind(event) -> str:
    fields = {value.WhichOneof('value') for value in event.summary.value}
    if 'image' in fields:
        return IMAGE
    return HISTOGRAM if 'histo' in fields else SCALAR
