# Copyright (c) OpenMMLab. All rights reserved.
import itertools
import threading
from collections import Counter, deque
from typing import Any, NamedTuple, Optional, Tuple

from .record import IMAGE, KINDS


class Item(NamedTuple):
    """Hold something in the queue.

    Attributes:
        kind (str, optional): One of :data:`KINDS`; None is never dropped.
        size (int): Roughly the memory it takes, in bytes.
        content (Any): Its content.
    """
    kind: Optional[str]
    size: int
    content: Any


class DroppingQueue:
    """Keep items in order, within limits of their number and size.

    :meth:`put` does not wait. Without space it drops the oldest item of the
    least important kind: images, then histograms, then the scalars of layers,
    then the other scalars. That may be the new item itself.

    Args:
        max_items (int): The largest number of items.
        max_bytes (int): The largest sum of their sizes.

    Attributes:
        bytes (int): The sum of the sizes of its items.
        images_last (bool): Whether images come last before an item that is
            never dropped, such as a flush. Defaults to False: all is in order.
        dropped (Counter): The number of dropped items, by kind.
    """

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self.max_items = max_items
        self.max_bytes = max_bytes
        self.bytes = 0
        self.images_last = False
        # All kinds from the start: one thread counts while another one reads.
        self.dropped: Counter = Counter(dict.fromkeys(KINDS, 0))
        self._length = 0
        self._numbers = itertools.count()
        # One for each kind, so that dropping takes no search.
        self._queues = {kind: deque() for kind in KINDS + (None, )}
        # Reentrant, since a signal handler may call ``put()`` while its thread
        # holds it. ``with`` is used on the lock and not on the condition,
        # which Ctrl-C could leave locked.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    def __len__(self) -> int:
        return self._length

    def put(self, item: Item) -> None:
        """Add an item, at the cost of less important ones.

        Args:
            item (Item): The item.
        """
        with self._lock:
            if item.kind and item.size > self.max_bytes:
                # All others together would not make enough space.
                self.dropped[item.kind] += 1
                return
            self._queues[item.kind].append((next(self._numbers), item))
            self._length += 1
            self.bytes += item.size
            while self._is_too_long():
                self._drop_one()
            self._changed.notify()

    def get(self, timeout: Optional[float] = None) -> Optional[Item]:
        """Take the next item out; wait for one where there is none.

        Args:
            timeout (float, optional): How long to wait, in seconds. Defaults
                to None: as long as it takes.

        Returns:
            Item | None: None if nothing came.
        """
        with self._lock:
            self._changed.wait_for(lambda: self._length, timeout)
            if not self._length:
                return None
            return self._take(self._queues[min(
                filter(self._queues.get, self._queues), key=self._place)])

    def _place(self, kind: Optional[str]) -> Tuple[int, int]:
        number = self._queues[kind][0][0]
        flushes = self._queues[None]
        if (not self.images_last or not flushes or number > flushes[0][0]):
            return 2, number
        return (1 if kind in (IMAGE, None) else 0), number

    def _is_too_long(self) -> bool:
        # Requests to flush take no space.
        return (self._length - len(self._queues[None]) > self.max_items
                or self.bytes > self.max_bytes)

    def _take(self, queue: deque) -> Item:
        _, item = queue.popleft()
        self._length -= 1
        self.bytes -= item.size
        return item

    def _drop_one(self) -> None:
        kind = next(kind for kind in KINDS if self._queues[kind])
        self._take(self._queues[kind])
        self.dropped[kind] += 1
