# Copyright (c) OpenMMLab. All rights reserved.
import threading

import pytest

from mmpose.engine.monitors.writers.dropping_queue import DroppingQueue, Item
from mmpose.engine.monitors.writers.record import (HISTOGRAM, IMAGE, KINDS,
                                                   LAYER_SCALAR, SCALAR)


def filled(kinds, max_items=1000, max_bytes=1000):
    queue = DroppingQueue(max_items, max_bytes)
    for number, kind in enumerate(kinds):
        queue.put(Item(kind, 1, number))
    return queue


def contents(queue):
    return [queue.get(0).content for _ in range(len(queue))]


def test_it_is_first_in_first_out_across_kinds():
    """The order of a tag's events is kept."""
    kinds = [SCALAR, IMAGE, None, IMAGE, HISTOGRAM, SCALAR, LAYER_SCALAR]
    queue = filled(kinds)
    assert contents(queue) == list(range(7))
    assert queue.get(0) is None
    assert queue.bytes == 0


def test_images_may_come_last_before_a_flush():
    """P7: who asks for it may have little time."""
    kinds = [IMAGE, SCALAR, IMAGE, HISTOGRAM, None, IMAGE, SCALAR, None]
    queue = filled(kinds)
    queue.images_last = True
    assert contents(queue) == [1, 3, 0, 2, 4, 6, 5, 7]
    # Nobody has asked for what comes after the flush.
    queue = filled(kinds[:-1])
    queue.images_last = True
    assert contents(queue) == [1, 3, 0, 2, 4, 5, 6]


@pytest.mark.parametrize('limits', [dict(max_items=4), dict(max_bytes=4)])
def test_the_least_important_and_of_these_the_oldest_goes_first(limits):
    """P6: images, histograms, layer scalars, scalars."""
    queue = filled(KINDS * 2, **limits)
    assert contents(queue) == [2, 3, 6, 7]
    assert queue.dropped == {
        IMAGE: 2,
        HISTOGRAM: 2,
        LAYER_SCALAR: 0,
        SCALAR: 0
    }
    assert contents(filled([SCALAR] * 3 + [IMAGE], max_items=3)) == [0, 1, 2]


def test_what_has_no_kind_is_never_dropped():
    """P6: a flush that is waited for must come, and it costs nothing."""
    assert contents(filled([SCALAR, SCALAR, None], max_items=2)) == [0, 1, 2]
    assert contents(filled([None, SCALAR, None, IMAGE],
                           max_items=1)) == [0, 1, 2]


def test_what_is_too_large_drops_nothing_else():
    """P6."""
    queue = filled([IMAGE, SCALAR])
    queue.put(Item(SCALAR, 1001, 'large'))
    assert contents(queue) == [0, 1]
    assert queue.dropped[SCALAR] == 1


def test_a_waiting_thread_gets_what_is_put():
    """The worker sleeps until there is something."""
    queue = DroppingQueue(10, 10)
    got = []
    thread = threading.Thread(target=lambda: got.append(queue.get(20)))
    thread.start()
    queue.put(Item(SCALAR, 1, 'it'))
    thread.join(10)
    assert [item.content for item in got] == ['it']


def test_a_signal_handler_may_put_while_its_thread_is_in_there():
    """P2: no deadlock."""
    queue = DroppingQueue(10, 10)
    done = threading.Event()

    def interrupted():
        with queue._lock:
            queue.put(Item(SCALAR, 1, 'from the handler'))
        done.set()

    threading.Thread(target=interrupted, daemon=True).start()
    assert done.wait(10)
    assert len(queue) == 1


def test_marks_take_no_place():
    """P2: thousands of flushes on a stuck disk leave room for a record."""
    queue = DroppingQueue(3, 1000)
    for _ in range(10):
        queue.put(Item(None, 0, 'mark'))
    for i in range(4):
        queue.put(Item(SCALAR, 1, i))
    left = [queue.get(0).content for _ in range(len(queue))]
    assert left == ['mark'] * 10 + [1, 2, 3]
    assert queue.dropped[SCALAR] == 1
