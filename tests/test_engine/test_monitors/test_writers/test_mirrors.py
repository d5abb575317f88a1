# Copyright (c) OpenMMLab. All rights reserved.
"""What is written reaches the run's experiment trackers, too.

``tests/trackers`` has the tests with the trackers themselves.
"""
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.visualization import LocalVisBackend
from torch.utils.tensorboard import SummaryWriter

from mmpose.engine.monitors import (EventWriter, FailureGuard, Histogram,
                                    Image, Record, Scalar, Text)
from mmpose.engine.monitors.writers.mirrors import mirror_writer
from mmpose.engine.monitors.writers.mirrors.clients import (Client,
                                                            MLflowClient,
                                                            WandbClient)
from mmpose.engine.monitors.writers.mirrors.find_clients import find_clients
from mmpose.engine.monitors.writers.mirrors.mirror_writer import Mirror
from mmpose.engine.monitors.writers.record import Alert

PICTURE = np.zeros((4, 6, 3), np.uint8)
ALERT = Alert('loss_spike', True, 'warning', 'A spike.', '9 to 1.', 'Look.')


class Tracker(Client):
    """Remembers what it gets, and in which thread."""
    kinds = WandbClient.kinds

    def __init__(self, backend=None, action=lambda: None):
        self.name, self.backend = 'Tracker', backend
        self.action = action
        self.seen, self.threads = [], set()

    def scalars(self, values, step):
        self.threads.add(threading.current_thread())
        self.action()
        self.seen.append((step, values))

    def image(self, image, step):
        self.seen.append((step, image.tag, len(image.pictures)))

    def histogram(self, histogram, step):
        self.seen.append((step, histogram.tag))

    def alert(self, alert):
        self.seen.append(alert)


def write(tmp_path, tracker, records, **kwargs):
    guard = FailureGuard('Tracker')
    writer = EventWriter(
        SummaryWriter(str(tmp_path)),
        mirrors=[Mirror(tracker, guard)],
        **kwargs)
    for record in records:
        writer.write(record)
    writer.close()
    return guard


def scalar(step):
    return Record(step, lambda: [Scalar('a', step), Scalar('b/c', 2 * step)])


@pytest.mark.parametrize('async_write', [True, False])
def test_everything_arrives_once_in_order(tmp_path, async_write, read_events):
    edges = np.linspace(0, 1, 4)
    histogram = Histogram('h', edges, np.array([1, 2, 3]), 0, 1, 2, 3)
    tracker = Tracker()
    write(
        tmp_path,
        tracker, [
            scalar(1),
            Record(2, lambda: [Image('i', [PICTURE, PICTURE]), histogram]),
            Record(3, lambda: [Text('t', 'text'), ALERT]),
            scalar(4)
        ],
        async_write=async_write)
    assert tracker.seen == [(1, dict(a=1, **{'b/c': 2})), (2, 'i', 2),
                            (2, 'h'), ALERT, (4, dict(a=4, **{'b/c': 8}))]
    assert [
        v.tag for e in read_events(str(tmp_path)) for v in e.summary.value
    ] == ['a', 'b/c', 'i', 'h', 't/text_summary', 'a', 'b/c']
    thread, = tracker.threads
    assert thread is not threading.main_thread()


def test_events_of_mmengine_are_left_to_mmengine(tmp_path):
    """It sends them to its backends itself."""
    tracker = Tracker()
    summary_writer = SummaryWriter(str(tmp_path))
    writer = EventWriter(
        summary_writer, mirrors=[Mirror(tracker, FailureGuard('Tracker'))])
    summary_writer.add_scalar('loss', 1, 1)
    writer.write(scalar(1))
    writer.close()
    assert tracker.seen == [(1, dict(a=1, **{'b/c': 2}))]


def test_a_tracker_that_raises_costs_one_warning(tmp_path, read_events,
                                                 warnings_logged):

    def fail():
        raise ConnectionError('no route to host')

    tracker = Tracker(action=fail)
    guard = write(tmp_path, tracker, map(scalar, range(1, 21)))
    assert len(warnings_logged) == 1
    assert 'Tracker failed with ConnectionError' in warnings_logged[0]
    assert guard.tripped and guard.failures == 3
    events = read_events(str(tmp_path))
    assert [e.step for e in events] == list(range(1, 21))


def test_what_a_tracker_has_no_place_for_is_no_success(tmp_path):
    """Else a server that is away would be asked to the end of the run."""

    def fail():
        raise ConnectionError('no route to host')

    tracker = Tracker(action=fail)
    tracker.kinds = Client.kinds
    records = [
        record for step in range(1, 10)
        for record in (scalar(step), Record(step, lambda: [Text('t', 'text')]),
                       Record(step, lambda: [ALERT]))
    ]
    guard = write(tmp_path, tracker, records)
    assert guard.tripped and guard.failures == 3


def test_a_tracker_that_hangs_costs_one_warning(tmp_path, read_events,
                                                warnings_logged, monkeypatch):
    monkeypatch.setattr(mirror_writer, '_DRAIN_SECS', 0.3)
    monkeypatch.setattr(mirror_writer, '_MAX_ITEMS', 10)
    released = threading.Event()
    tracker = Tracker(action=released.wait)
    write(tmp_path, tracker, map(scalar, range(1, 21)))
    events = read_events(str(tmp_path))
    assert [e.step for e in events] == list(range(1, 21))
    assert len(warnings_logged) == 1
    assert 'Tracker events could not all be written' in warnings_logged[0]
    released.set()


def test_everything_is_sent_before_the_backend_is_closed(tmp_path):
    order = []

    class Backend:

        def close(self):
            order.append('closed')

    backend = Backend()

    def slow():
        time.sleep(0.1)
        order.append('sent')

    tracker = Tracker(backend, slow)
    writer = EventWriter(
        SummaryWriter(str(tmp_path)),
        mirrors=[Mirror(tracker, FailureGuard('Tracker'))])
    writer.write(scalar(1))
    writer.flush()
    backend.close()
    backend.close()
    assert order == ['sent', 'closed', 'closed']
    assert 'close' not in vars(backend)
    writer.close()


def test_a_run_that_ends_by_an_exception_leaves_no_thread(tmp_path):
    before = set(threading.enumerate())
    writer = EventWriter(
        SummaryWriter(str(tmp_path)),
        mirrors=[Mirror(Tracker(), FailureGuard('Tracker'))])
    writer.write(scalar(1))
    writer.flush()
    del writer
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert set(threading.enumerate()) <= before


class Wandb:
    """What W&B is told."""

    Image = staticmethod(lambda picture: ('image', picture.shape))
    Histogram = staticmethod(lambda np_histogram: np_histogram)

    def __init__(self):
        self.logged, self.defined, self.alerts = [], [], []
        self.run = SimpleNamespace(
            log=self.logged.append,
            define_metric=lambda *args, **kwargs: self.defined.append(
                (args, kwargs)),
            alert=lambda *args: self.alerts.append(args))


def test_wandb_has_an_x_axis_for_it():
    """W&B's own step would be one for training and validation."""
    wandb = Wandb()
    client = WandbClient(SimpleNamespace(experiment=wandb))
    client.scalars({'train/a': 1., 'train/b': 2.}, 100)
    client.scalars({'val/a': 3.}, 1)
    client.image(Image('val/images', [PICTURE]), 1)
    assert wandb.logged == [{
        'train/a': 1.,
        'train/b': 2.,
        'tensorboard_step': 100
    }, {
        'val/a': 3.,
        'tensorboard_step': 1
    }, {
        'val/images/0': ('image', (4, 6, 3)),
        'tensorboard_step': 1
    }]
    assert wandb.defined == [
        (('train/*', ), dict(step_metric='tensorboard_step')),
        (('val/*', ), dict(step_metric='tensorboard_step'))
    ]
    client.alert(ALERT)
    assert wandb.alerts == [('A spike.', '9 to 1. Look.', 'WARN')]


@pytest.mark.parametrize('bins', [1, 512, 513, 2000])
def test_wandb_takes_512_bins(bins):
    """More are merged; their sum stays."""
    wandb = Wandb()
    edges = np.linspace(0, 1, bins + 1)
    counts = np.arange(bins) + 1
    WandbClient(SimpleNamespace(experiment=wandb)).histogram(
        Histogram('h', edges, counts, 0, 1, 2, 3), 1)
    merged, merged_edges = wandb.logged[0]['h']
    assert len(merged) == len(merged_edges) - 1 <= 512
    assert merged.sum() == counts.sum()
    np.testing.assert_array_equal(
        np.cumsum(merged),
        np.cumsum(counts)[np.searchsorted(edges, merged_edges[1:]) - 1])


@pytest.mark.parametrize('tag, key', [
    ('loss', 'loss'),
    ('health/update_ratio/backbone', 'health/update_ratio.backbone'),
    ('keypoints/PCK@0.05/nose', 'keypoints/PCK_0.05.nose'),
    ('time/left_hours', 'times/left_hours')
])
def test_mlflow_accepts_the_tags(tag, key):
    sent = []
    mlflow = SimpleNamespace(
        tracking=SimpleNamespace(MlflowClient=lambda: SimpleNamespace(
            log_batch=lambda run, metrics: sent.extend(metrics))),
        entities=SimpleNamespace(Metric=lambda *args: args))
    MLflowClient(mlflow, 'run').scalars({tag: 1.}, 7)
    (name, value, _, step), = sent
    assert (name, value, step) == (key, 1., 7)


class DVCLiveVisBackend:
    """By its name."""


class OwnBackend(DVCLiveVisBackend):
    """A user's."""


def test_trackers_of_the_config_are_found(tmp_path):
    """Never LocalVisBackend, which would write a file for each image."""
    own = OwnBackend()
    visualizer = SimpleNamespace(
        _vis_backends=dict(
            LocalVisBackend=LocalVisBackend(str(tmp_path)), own=own))
    client, = find_clients(visualizer, 'auto')
    assert client.backend is own and client.name == 'OwnBackend'
    client, = find_clients(visualizer, ['DVCLiveVisBackend'])
    assert client.backend is own
    assert find_clients(visualizer, None) == []
    assert find_clients(visualizer, []) == []
    with pytest.raises(
            ValueError, match='names MLflow, but the run has '
            'DVCLiveVisBackend'):
        find_clients(visualizer, ['MLflow'])


def test_other_pictures_go_through_the_backend():
    calls = []
    backend = SimpleNamespace(
        add_scalars=lambda values, step: calls.append((values, step)),
        add_image=lambda name, picture, step: calls.append((name, step)))
    client = Client(backend)
    client.scalars(dict(a=1.), 3)
    client.image(Image('i', [PICTURE, PICTURE]), 4)
    assert client.kinds == (Scalar, Image)
    assert calls == [(dict(a=1.), 3), ('i/0', 4), ('i/1', 4)]
