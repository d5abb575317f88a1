# Copyright (c) OpenMMLab. All rights reserved.
"""A run that an exception has ended, of which nobody closes the writer."""
import gc

from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from mmpose.engine.monitors import EventWriter, FailureGuard


class Monitor:
    """Holds the writer that delivers measurements to it."""

    def __init__(self, writer):
        self.writer = writer
        writer.listen(None, self.see, FailureGuard('Monitor'))

    def see(self, step, measurement):
        pass


def test_its_thread_ends_and_nothing_is_lost(tmp_path):
    """Defect: a thread was left of each run, with its monitors."""
    summary_writer = SummaryWriter(str(tmp_path))
    monitor = Monitor(EventWriter(summary_writer, flush_secs=1000))
    thread = monitor.writer._outer._thread
    summary_writer.add_scalar('tag', 1, 1)
    assert thread.is_alive()
    del monitor
    gc.collect()
    thread.join(20)
    assert not thread.is_alive()
    summary_writer.add_scalar('tag', 2, 2)
    summary_writer.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [scalar.step for scalar in events.Scalars('tag')] == [1, 2]
