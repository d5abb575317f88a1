# Copyright (c) OpenMMLab. All rights reserved.
"""Timing in turn, and what the times say."""
import random
import statistics
import time
from typing import Callable, Dict, List, NamedTuple, Sequence

import torch

# For as long as nothing else is known: of a normal distribution, the standard
# deviation is so many median absolute deviations.
_SIGMA = 1.4826


def _nothing() -> None:
    pass


class Subject(NamedTuple):
    """Something to be timed.

    Attributes:
        run (Callable): What the training thread does.
        settle (Callable): Waits until its other threads have done their part.
        close (Callable): Gives back what it holds.
    """
    run: Callable[[], object]
    settle: Callable[[], object] = _nothing
    close: Callable[[], object] = _nothing


class Times(NamedTuple):
    """What a subject took, in milliseconds.

    Attributes:
        run (list[float]): In the training thread, one item for each repeat.
        settle (list[float]): Afterwards, until all was written.
    """
    run: List[float]
    settle: List[float]


def clock(function: Callable) -> float:
    """The time of one call, in milliseconds."""
    began = time.perf_counter()
    function()
    return (time.perf_counter() - began) * 1e3


def interleave(subjects: Dict[str, Subject],
               repeat: int,
               budget: float = 10.) -> Dict[str, Times]:
    """Time subjects in turn, so that what disturbs one disturbs all.

    Nothing runs behind the back of the one that is timed: each has settled
    before the next one's turn. The first round warms up and is left out.

    Args:
        subjects (dict[str, Subject]): By name.
        repeat (int): The number of rounds.
        budget (float): A subject that has taken so many seconds is left out
            once it has three rounds. Defaults to 10.

    Returns:
        dict[str, Times]: By name.
    """
    names = list(subjects)
    times = {name: Times([], []) for name in names}
    for i in range(repeat + 1):
        # In any order, so that nobody always follows the same one.
        for name in random.Random(i).sample(names, len(names)):
            run, settle = times[name]
            if len(run) >= 3 and sum(run + settle) > 1e3 * budget:
                continue
            took = [clock(subjects[name].run), clock(subjects[name].settle)]
            if i:
                run.append(took[0])
                settle.append(took[1])
    return times


def device_times(function: Callable, repeat: int) -> List[float]:
    """What the GPU takes for what a function launches.

    Args:
        function (Callable): Called once more, to warm up.
        repeat (int): How often it is timed.

    Returns:
        list[float]: Milliseconds, between two CUDA events.
    """
    times = []
    for _ in range(repeat + 1):
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        function()
        ended.record()
        ended.synchronize()
        times.append(began.elapsed_time(ended))
    return times[1:]


def close(subjects: Dict[str, Subject]) -> None:
    """Close all subjects."""
    for subject in subjects.values():
        subject.close()


def median(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


def spread(values: Sequence[float]) -> float:
    """Median absolute deviation from the median."""
    middle = median(values)
    return median([abs(value - middle) for value in values])


def standard_error(values: Sequence[float]) -> float:
    """Of the median, taken from the spread, so that outliers do not count."""
    return 1.2533 * _SIGMA * spread(values) / len(values)**0.5


def ratios(values: Sequence[float], to: Sequence[float]) -> List[float]:
    """Round by round, how many times ``to`` the values are."""
    return [value / base for value, base in zip(values, to)]


def is_distinguishable(values: Sequence[float], to: Sequence[float]) -> bool:
    """Whether the ratio of two differs from 1 by more than its spread."""
    pairs = ratios(values, to)
    return abs(median(pairs) - 1) > spread(pairs)


def synchronize() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
