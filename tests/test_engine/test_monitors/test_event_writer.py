# Copyright (c) OpenMMLab. All rights reserved.
import glob

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import \
    RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from torch.utils.tensorboard import SummaryWriter

from mmpose.engine.monitors import EventWriter, Histogram, Record, Scalar, Text


@pytest.fixture
def summary_writer(tmp_path):
    return SummaryWriter(str(tmp_path))


def event_file(summary_writer):
    summary_writer.close()
    path, = glob.glob(f'{summary_writer.log_dir}/*')
    return path


def test_a_record_is_one_event(summary_writer):
    writer = EventWriter(summary_writer)
    tensor = torch.arange(3.)
    writer.write(
        Record(
            step=7,
            values=lambda array:
            [Scalar(f'tag/{i}', float(x)) for i, x in enumerate(array)],
            tensors=[tensor]))
    path = event_file(summary_writer)
    events = [Event.FromString(e) for e in RawEventFileLoader(path).Load()]
    written = [e for e in events if e.HasField('summary')]
    assert [len(e.summary.value) for e in written] == [3]
    assert written[0].step == 7
    assert writer.written['Scalar'] == 3
    assert writer.bytes_on_disk() > 0


def test_an_empty_record_is_no_event(summary_writer):
    EventWriter(summary_writer).write(Record(1, list))
    events = list(RawEventFileLoader(event_file(summary_writer)).Load())
    assert len(events) == 1, 'only the version of the file format'


def test_a_text_and_a_histogram_are_read_back(summary_writer):
    edges = np.array([-np.inf, -1., 0, 1, 2, 3, 4, np.inf])
    counts = np.array([0, 2, 0, 0, 0, 5, 0])
    EventWriter(summary_writer).write(
        Record(
            3, lambda: [
                Histogram('weights', edges, counts, -1., 3.5, 4., 9.),
                Text('note', '| a |')
            ]))
    events = EventAccumulator(event_file(summary_writer)).Reload()
    histogram = events.Histograms('weights')[0].histogram_value
    assert (histogram.min, histogram.max, histogram.num) == (-1, 3.5, 7)
    # The two filled buckets, and the last empty one before the second,
    # whose limit is the second's lower edge.
    assert histogram.bucket_limit == [0, 3, 4]
    assert histogram.bucket == [2, 0, 5]
    text = events.Tensors('note/text_summary')[0].tensor_proto
    assert text.string_val[0] == b'| a |'
