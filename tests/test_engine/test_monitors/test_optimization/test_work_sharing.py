# Copyright (c) OpenMMLab. All rights reserved.
import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mmpose.engine.monitors.optimization import work_sharing
from mmpose.engine.monitors.optimization.work_sharing import share


@pytest.fixture
def three_threads(monkeypatch):
    """As on a machine with three cores, whatever this one has."""
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 3)
    with ThreadPoolExecutor(2) as helpers:
        monkeypatch.setattr(work_sharing, '_helpers', lambda: helpers)
        yield


def test_results_are_in_the_order_of_the_items(three_threads):

    def work(i):
        time.sleep(0.001 * (i % 3))
        return i * i

    assert share(work, range(20)) == [i * i for i in range(20)]
    assert share(work, []) == []


def test_as_many_threads_as_torch_takes(three_threads):
    """No item is finished before three are worked on."""
    barrier = threading.Barrier(3, timeout=30)
    threads = share(lambda _: barrier.wait() + 1 and threading.get_ident(),
                    range(3))
    assert len(set(threads)) == 3
    assert threading.get_ident() in threads


def test_no_other_thread_for_one_item_or_on_one_core(monkeypatch):
    threads = share(lambda _: threading.get_ident(), range(1))
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 1)
    threads += share(lambda _: threading.get_ident(), range(9))
    assert set(threads) == {threading.get_ident()}


def test_a_helper_that_has_not_begun_is_not_waited_for(three_threads,
                                                       monkeypatch):
    """P3: the work of other cores is done without them."""
    begun, released = threading.Semaphore(0), threading.Event()
    with ThreadPoolExecutor(1) as helpers:
        monkeypatch.setattr(work_sharing, '_helpers', lambda: helpers)
        helpers.submit(lambda: begun.release() or released.wait(30))
        assert begun.acquire(timeout=30)
        threads = share(lambda _: threading.get_ident(), range(9))
        assert not released.is_set()
        released.set()
    assert set(threads) == {threading.get_ident()}


@pytest.mark.parametrize('of_helper', [False, True])
def test_an_error_in_any_thread_is_raised(three_threads, of_helper):
    here = threading.get_ident()
    barrier = threading.Barrier(3, timeout=30)

    def work(_):
        barrier.wait()
        if (threading.get_ident() != here) is of_helper:
            raise ValueError('of this item')

    with pytest.raises(ValueError, match='of this item'):
        share(work, range(3))


def test_nobody_works_on_after_an_error(three_threads):
    """Defect: the training would go on and change what is read."""
    here = threading.get_ident()
    begun, ended = [], []

    def work(i):
        begun.append(i)
        if threading.get_ident() == here:
            raise ValueError
        time.sleep(0.05)
        ended.append(i)

    with pytest.raises(ValueError):
        share(work, range(100))
    assert len(ended) == len(begun) - 1 < 10


@pytest.mark.parametrize('of_helper', [False, True])
def test_nothing_stays_of_an_error(three_threads, of_helper):
    """P2: where memory has run out, what others wait for is free at once."""
    here = threading.get_ident()
    barrier = threading.Barrier(3, timeout=30)
    made = []

    def work(_):
        large = torch.empty(1)
        made.append(weakref.ref(large))
        barrier.wait()
        if (threading.get_ident() != here) is of_helper:
            raise MemoryError
        return large

    gc.disable()
    try:
        try:
            share(work, range(3))
        except MemoryError:
            pass
        # The helpers let go of it when they are given something else to do.
        share(lambda _: barrier.wait(), range(3))
        assert not [ref for ref in made if ref() is not None]
    finally:
        gc.enable()
