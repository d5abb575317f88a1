# Copyright (c) OpenMMLab. All rights reserved.
import glob
import logging

import pytest
from mmengine.logging import MMLogger


@pytest.fixture
def warnings_logged():
    """The texts of the WARNINGs of MMEngine's current logger, as they come."""
    texts = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: texts.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield texts
    logger.removeHandler(handler)


@pytest.fixture
def read_events():
    """A function that reads all events of a directory, file after file."""
    from tensorboard.backend.event_processing.event_file_loader import \
        RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    def read(log_dir):
        events = []
        for path in sorted(glob.glob(f'{log_dir}/*tfevents*')):
            of_file = list(
                map(Event.FromString,
                    RawEventFileLoader(path).Load()))
            assert of_file[0].file_version == 'brain.Event:2'
            events += of_file[1:]
        return events

    return read


@pytest.fixture
def evaluations(monkeypatch):
    """COCO's evaluations that metrics have made."""
    from mmpose.evaluation.metrics import coco_metric, coco_wholebody_metric
    made = []

    class Remembered(coco_metric.COCOeval):

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    for module in (coco_metric, coco_wholebody_metric):
        monkeypatch.setattr(module, 'COCOeval', Remembered)
    return made
