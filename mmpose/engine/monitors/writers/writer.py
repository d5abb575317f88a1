# Copyright (c) OpenMMLab. All rights reserved.
from .record import Record


class Writer:
    """Take records on their way out of the training.

    A writer either brings records somewhere or wraps another writer, which it
    moves to another thread, limits or watches.
    """

    def write(self, record: Record) -> None:
        """Write all values of a record.

        Args:
            record (Record): The record.

        Raises:
            Exception: Its values cannot be computed or written.
        """
        raise NotImplementedError

    def flush(self) -> None:
        """Bring to disk what was written so far."""

    def drain(self) -> None:
        """Bring to disk what there is time for before the process ends."""
        self.flush()

    def close(self) -> None:
        """Bring everything to disk; nothing is written any more."""


class Guard:
    """Receive the outcome of a record.

    This one raises. :class:`FailureGuard` counts and logs instead.

    Attributes:
        tripped (bool): Whether the owner is switched off.
    """
    tripped = False

    def succeeded(self) -> None:
        """Note that the record was written."""

    def report(self, error: Exception) -> None:
        """Note why it was not.

        Args:
            error (Exception): The exception.

        Raises:
            Exception: The error itself, if it is to reach the training.
        """
        raise error
