# Copyright (c) OpenMMLab. All rights reserved.
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Callable, Iterable, List

import torch


def share(function: Callable, items: Iterable) -> List:
    """``map`` on the CPU, with as many threads as an operator of torch takes.

    The calling thread takes one item after the other, and so does each helper
    that finds a free core. So nobody waits for a core that is busy elsewhere:
    a helper that has not begun is not needed any more, and one that has works
    on its last item. The threads of an operator would each get their share at
    once, and all would wait for the slowest.

    Args:
        function (Callable): Releases Python's lock most of the time, as
            operators on tensors do. What is set for a thread, such as
            :class:`torch.no_grad`, it has to set itself.
        items (Iterable): What it is called with.

    Returns:
        list: What it returned, in the order of the items.
    """
    items = list(items)
    results = [None] * len(items)
    numbers = iter(range(len(items)))

    def work() -> None:
        for i in numbers:
            results[i] = function(items[i])

    num_helpers = min(torch.get_num_threads(), len(items)) - 1
    helpers = [_helpers().submit(work) for _ in range(num_helpers)]
    try:
        work()
    finally:
        for _ in numbers:  # After an error nothing more is begun.
            pass
        errors = [h.exception() for h in helpers if not h.cancel()]
    try:
        for error in filter(None, errors):
            raise error
    finally:
        # An error has this frame, which has the error: what they hold would
        # stay, and it may be all the memory that there is.
        error = None
        helpers.clear()
        errors.clear()
    return results


@lru_cache(maxsize=None)
def _helpers() -> ThreadPoolExecutor:
    # It makes a thread only where none is idle.
    return ThreadPoolExecutor(
        torch.get_num_threads(), thread_name_prefix='reading')
