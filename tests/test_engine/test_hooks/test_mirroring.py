# Copyright (c) OpenMMLab. All rights reserved.
"""A training whose visualizer has an experiment tracker, too."""
import threading
from collections import Counter

import pytest
from mmengine.visualization import BaseVisBackend
from test_enhanced_tensorboard_hook import final_state, messages

from mmpose.registry import VISBACKENDS

OFTEN = dict(grad_norm_interval=1, log_val_images=False)


@VISBACKENDS.register_module(force=True)
class AimVisBackend(BaseVisBackend):
    """Takes the place of Aim's, and remembers what it gets."""

    made = []

    def __init__(self, save_dir=None, broken=False):
        self.broken = broken
        self.calls = []
        self.closed = False
        self.made.append(self)

    def _init_env(self):
        """There is nothing to begin."""

    @property
    def experiment(self):
        return self

    def add_scalar(self, name, value, step=0, **kwargs):
        self.add_scalars({name: value}, step)

    def add_scalars(self, scalar_dict, step=0, file_path=None, **kwargs):
        thread = threading.current_thread()
        is_main = thread is threading.main_thread()
        if self.broken and not is_main:
            raise ConnectionError('no route to host')
        assert not self.closed
        self.calls += [(is_main, tag, step) for tag in scalar_dict]

    def add_image(self, name, image, step=0, **kwargs):
        self.add_scalars({name: image}, step)

    def add_graph(self, model, data_batch, **kwargs):
        """Not asked for."""

    def add_config(self, config, **kwargs):
        """Not asked for."""

    def close(self):
        self.closed = True


@pytest.fixture
def mirrored(train):
    """A function that trains with the tracker, and returns both."""

    def run(hook=OFTEN, broken=False):
        runner = train(
            hook,
            custom_hooks=[dict(type='Witness')],
            visualizer=dict(
                type='Visualizer',
                vis_backends=[
                    dict(type='TensorboardVisBackend'),
                    dict(type='AimVisBackend', broken=broken)
                ]))
        return runner, AimVisBackend.made[-1]

    return run


def test_it_changes_nothing_and_all_scalars_arrive_once(mirrored, read_events):
    """P1; and P3: from another thread than the training's."""
    plain, _ = mirrored(hook=None)
    runner, tracker = mirrored()
    assert final_state(runner) == final_state(plain)
    events = read_events(runner)
    written = Counter((tag, event.step) for tag in events.Tags()['scalars']
                      for event in events.Scalars(tag))
    of_mmengine = {(tag, step) for main, tag, step in tracker.calls if main}
    arrived = Counter((tag, step) for main, tag, step in tracker.calls
                      if not main and (tag, step) in written)
    assert len(arrived) > 100
    assert set(arrived) >= set(written) - of_mmengine
    assert set(arrived.values()) == {1}
    # What is the hook's own never comes from the thread of the training.
    assert not [
        tag for tag, _ in of_mmengine
        if tag.startswith(('train/gradient_norm', 'health/', 'keypoints/'))
    ]
    assert tracker.closed


def test_a_tracker_that_fails_costs_a_warning(mirrored):
    """P2; and the last line of the log says so."""
    plain, _ = mirrored(hook=None)
    runner, _ = mirrored(dict(OFTEN, strict=False), broken=True)
    assert final_state(runner) == final_state(plain)
    warning, = [m for m in messages(runner, 'WARNING') if 'route' in m]
    assert 'AimVisBackend failed with ConnectionError' in warning
    last = messages(runner, 'INFO')[-1]
    assert '3 failures, switched off: AimVisBackend' in last


def test_nothing_is_sent_where_it_is_switched_off(mirrored):
    _, tracker = mirrored(dict(OFTEN, mirror=None))
    assert all(main for main, _, _ in tracker.calls)
