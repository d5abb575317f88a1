# Copyright (c) OpenMMLab. All rights reserved.
import glob

from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator


def read_run(work_dir) -> EventAccumulator:
    """The events of a run, which must be in one file."""
    path, = glob.glob(f'{work_dir}/**/*tfevents*', recursive=True)
    return EventAccumulator(
        path, size_guidance=dict(scalars=0, tensors=0)).Reload()
