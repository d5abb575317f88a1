# Copyright (c) OpenMMLab. All rights reserved.
from types import SimpleNamespace

from mmengine.hooks import Hook

from mmpose.engine.monitors import Every


def due_steps(schedule, last=30):
    return [step for step in range(1, last + 1) if schedule.is_due(step)]


def test_counts_as_mmengine_does_and_takes_the_first():
    """P5: multiples as ``every_n_train_iters``, and step 1 always."""
    for interval in (2, 7, 10):
        mmengine = [
            step for step in range(1, 31) if Hook().every_n_train_iters(
                SimpleNamespace(iter=step - 1), interval)
        ]
        assert due_steps(Every(interval)) == [1, *mmengine]


def test_one_is_every_step():
    assert due_steps(Every(1), 5) == [1, 2, 3, 4, 5]


def test_zero_is_never():
    assert due_steps(Every(0)) == []
