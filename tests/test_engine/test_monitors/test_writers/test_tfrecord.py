# Copyright (c) OpenMMLab. All rights reserved.
import os

import pytest
from tensorboard.backend.event_processing.event_file_loader import \
    RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from mmpose.engine.monitors.writers.event_file import EventFile
from mmpose.engine.monitors.writers.record import SCALAR
from mmpose.engine.monitors.writers.tfrecord import events_in


@pytest.fixture
def written(tmp_path):
    """A file with two scalars around something large, and its events."""
    texts = ['first', 'x' * (1 << 21), 'last']
    events = [
        Event(
            step=step,
            summary=Summary(value=[Summary.Value(tag=text, simple_value=1)]))
        for step, text in enumerate(texts)
    ]
    file = EventFile(str(tmp_path / 'events.out.tfevents.1'))
    for event in events:
        file.append(event, SCALAR)
    file.close()
    return file.path, events


def test_what_was_written_is_read_as_tensorboard_does(written):
    path, events = written
    loaded = list(RawEventFileLoader(path).Load())
    assert loaded[1:] == [event.SerializeToString() for event in events]
    version, *read = events_in(os.path.dirname(path))
    assert version.file_version == 'brain.Event:2'
    assert read == [events[0], events[2]]


@pytest.mark.parametrize('cut', [1, 4, 5, 10, 17, 1 << 20])
def test_of_a_file_without_its_end_the_rest_is_read(written, cut):
    path, events = written
    os.truncate(path, os.path.getsize(path) - cut)
    last = [event.step for event in events_in(os.path.dirname(path))][-1]
    assert last == (2 if cut <= 4 else 0)


def test_what_is_no_event_ends_a_file(written):
    path, events = written
    length = events[2].ByteSize()
    for garbage in (b'\xff' * 12, length.to_bytes(12, 'little')):
        with open(path, 'r+b') as file:
            file.seek(-length - 16, os.SEEK_END)
            file.write(garbage + b'\xff' * (length + 4))
        version, *read = events_in(os.path.dirname(path))
        assert read == events[:1]
