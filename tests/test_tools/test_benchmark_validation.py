# Copyright (c) OpenMMLab. All rights reserved.
"""What the tallies and diagnoses of a validation take.

Counts only: a time says nothing on a machine that others use too.
"""
import sys

import pytest
from benchmarks.validation import (COCOS, INSTANCES, KINDS, collect, diagnose,
                                   make_people, measure, memory)


def calls_of(function) -> int:
    """How many functions it calls, in Python and in C."""
    function()  # What happens the first time only.
    count = 0

    def see(frame, event, argument):
        nonlocal count
        count += event in ('call', 'c_call')

    sys.setprofile(see)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def calls_of_an_instance(function, detected) -> float:
    """How many more it calls for each more instance."""
    few, many = (make_people(count, detected) for count in (150, 600))
    more = calls_of(function(many)) - calls_of(function(few))
    return more / (many.count - few.count)


@pytest.mark.parametrize('detected', [False, True])
def test_an_instance_takes_few_calls(detected):
    """A call takes 0.1 to 1 microseconds: together less than 100."""

    def tallies(people):
        return lambda: collect(people)

    def diagnoses(people):
        part = collect(people)
        return lambda: diagnose(part, KINDS)

    assert calls_of_an_instance(tallies, detected) < (100 if detected else 45)
    assert calls_of_an_instance(diagnoses, detected) < (10 if detected else 40)


@pytest.mark.parametrize('detected', [False, True])
def test_a_validation_of_coco_takes_less_than_5_megabytes(detected):
    """P6: at any moment, arrays that live for a moment only among it."""
    taken = memory(INSTANCES, detected)
    assert max(taken.values()) < 5e6, taken


@pytest.mark.parametrize('detected', [False, True])
def test_everything_is_timed(detected):
    found = measure(40, detected, 1)
    assert set(found['times']) == {
        'tallies', COCOS, *(kind.__name__ for kind in KINDS)
    }
    assert all(value > 0 for values in found['times'].values()
               for value in values)
    people = make_people(40, detected)
    # Twenty in each image, where a detector looks for them.
    assert found['boxes'] == (20 * len(people.samples)
                              if detected else people.count)
