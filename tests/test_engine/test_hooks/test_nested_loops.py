# Copyright (c) OpenMMLab. All rights reserved.
"""Several runs of one Runner, inside and after one another."""
import gc
import time
import weakref
from contextlib import suppress

import pytest
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator
from test_enhanced_tensorboard_hook import final_state, hook_of, messages
from torch.utils.tensorboard import SummaryWriter

from mmpose.engine.monitors import EventWriter
from mmpose.registry import HOOKS

# The images of the validation exist nowhere.
HOOK = dict(
    grad_norm_interval=1,
    log_details=True,
    log_train_images=False,
    log_val_images=False,
    hard_samples=0)
CURVES = ('loss', 'train/gradient_norm/global', 'train/learning_rate/lr',
          'health/loss/median')
ALL_ITERATIONS = list(range(1, 13))
BY_ITERATION = dict(
    train_cfg=dict(by_epoch=False, max_iters=12, val_interval=4),
    train_dataloader=dict(
        batch_size=4,
        num_workers=0,
        sampler=dict(type='InfiniteSampler', shuffle=True),
        dataset=dict(type='TinyPoseDataset')),
    default_hooks=dict(
        logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
        checkpoint=None),
    log_processor=dict(by_epoch=False))


@HOOKS.register_module(force=True)
class CallsRunner(Hook):
    """Calls methods of the Runner at an event of the training.

    ``iteration``: in this one only. ``fails``: an exception ends the first
    validation that is called so, and is caught.
    """

    def __init__(self, event, *methods, iteration=None, fails=False):
        self.methods, self.iteration, self.fails = methods, iteration, fails
        self.calling = False
        setattr(self, event, self.call)

    def call(self, runner, **kwargs):
        if self.iteration not in (None, runner.iter):
            return
        for method in self.methods:
            self.calling = True
            with suppress(ZeroDivisionError):
                getattr(runner, method)()
            self.calling = False

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if self.fails and self.calling:
            self.fails = False
            raise ZeroDivisionError


def in_iteration(*methods, fails=False):
    return CallsRunner('after_train_iter', *methods, iteration=5, fails=fails)


def steps(events, tag):
    if tag not in events.Tags()['scalars']:
        return []
    return [event.step for event in events.Scalars(tag)]


def check_is_closed(runner):
    """The writer has ended, and nothing is left of the nested runs."""
    hook = hook_of(runner)
    assert hook._writer._outer._finished.is_set() and hook._runs == []
    backend, = runner.visualizer._vis_backends.values()
    assert backend._tensorboard.all_writers is None
    assert 'close' not in vars(backend._tensorboard)


@pytest.mark.parametrize('caller, kwargs, val, test', [
    (in_iteration('val'), {}, [1, 1, 2, 3], []),
    (in_iteration('test'), {}, [1, 2, 3], [1]),
    (in_iteration('val', 'test', 'val'), {}, [1, 1, 1, 2, 3], [1]),
    (in_iteration('val'), BY_ITERATION, [4, 5, 8, 12], []),
    (in_iteration('test'), BY_ITERATION, [4, 8, 12], [5]),
    (CallsRunner('after_train_epoch', 'val'), {}, [0, 1, 1, 2, 2, 3], []),
    (CallsRunner('after_val', 'test', iteration=8), {}, [1, 2, 3], [2]),
    (CallsRunner('before_train', 'val', 'test'), {}, [0, 1, 2, 3], [0]),
    (CallsRunner('after_train', 'val', 'test'), {}, [1, 2, 3, 3], [3]),
    (in_iteration('val', fails=True), {}, [1, 2, 3], []),
    (in_iteration('val', 'test', fails=True), {}, [1, 2, 3], [1]),
    (CallsRunner('before_train', 'val', fails=True), {}, [1, 2, 3], []),
])
def test_a_training_goes_on_after_a_run_inside_it(train, read_events, caller,
                                                  kwargs, val, test):
    """P4, P5: in the same file to the last iteration, and is closed once."""
    runner = train(HOOK, custom_hooks=[caller], **kwargs)
    events = read_events(runner)
    for tag in CURVES:
        assert steps(events, tag) == ALL_ITERATIONS, tag
    # Not of the first update, in which the optimizer makes its state.
    assert steps(events, 'health/update_ratio') == ALL_ITERATIONS[1:]
    histograms = events.Histograms('weights/head/final_layer')
    assert [event.step for event in histograms][-2:] == [8, 12]
    assert [event.value for event in events.Scalars('health/updates')
            ] == ALL_ITERATIONS[1:], 'counted anew'
    pictures = events.Tensors('keypoints/accuracy')
    assert [event.step for event in pictures] == val
    assert steps(events, 'val/PCK') == val
    assert steps(events, 'test/PCK') == test
    log = messages(runner, 'INFO')
    assert sum(' wrote ' in m for m in log) == 1
    check_is_closed(runner)


@pytest.mark.parametrize('kwargs', [{}, BY_ITERATION])
def test_it_is_the_same_bit_for_bit(train, kwargs):
    """P1."""

    def run(hook):
        return final_state(
            train(
                hook,
                custom_hooks=[
                    in_iteration('val', 'test'),
                    CallsRunner('after_train_epoch', 'val'),
                    dict(type='Witness')
                ],
                **kwargs))

    assert run(HOOK) == run(None)


@HOOKS.register_module(force=True)
class LogsAfterRunInside(Hook):
    """When ``LoggerHook`` has closed the SummaryWriter, before the hook."""
    priority = 'LOW'

    def after_run(self, runner):
        if runner.iter < runner.max_iters:
            runner.visualizer.add_scalar('between', 1, runner.iter)


def test_what_others_log_meanwhile_is_in_the_same_file(train, read_events):
    """P4."""
    runner = train(
        HOOK,
        custom_hooks=[in_iteration('val'),
                      dict(type='LogsAfterRunInside')])
    assert steps(read_events(runner), 'between') == [5]


def test_runs_before_and_after_a_training(runner_cfg, read_events):
    """P4: a validation, two trainings and a test of one Runner."""
    runner = Runner(**runner_cfg(HOOK, custom_hooks=[in_iteration('val')]))
    runner.val()
    check_is_closed(runner)
    runner.train()
    check_is_closed(runner)
    runner.train_loop._max_epochs, runner.train_loop._max_iters = 4, 16
    runner.train()
    runner.test()
    check_is_closed(runner)
    events = read_events(runner)
    for tag in CURVES:
        assert steps(events, tag) == list(range(1, 17)), tag
    assert steps(events, 'val/PCK') == [0, 1, 1, 2, 3, 4]
    assert steps(events, 'test/PCK') == [4]
    assert sum(' wrote ' in m for m in messages(runner, 'INFO')) == 4


def test_runs_after_a_training_that_broke_off(runner_cfg, read_events):
    """P4: they are not taken for runs inside it for good."""

    class Break(Hook):
        """Ends the training once, inside a validation inside it."""
        left = 1

        def before_val_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == 5 and self.left:
                self.left = 0
                raise KeyboardInterrupt

    runner = Runner(**runner_cfg(
        HOOK, custom_hooks=[in_iteration('val'), Break()]))
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    runner.test()
    # Of the second epoch, whose iterations were not all counted.
    runner.train_loop._iter = 6
    runner.train()
    check_is_closed(runner)
    events = read_events(runner)
    # ``LoggerHook`` had not come to iteration 6 when the training ended.
    assert steps(events, 'loss') == [1, 2, 3, 4, 5, *range(7, 15)]
    assert steps(events, 'train/gradient_norm/global') == steps(events, 'loss')
    assert steps(events, 'test/PCK') == [1]
    assert steps(events, 'val/PCK') == [1, 2, 3]
    assert steps(events, 'best/PCK') == [1, 2, 3], 'observed twice'


@pytest.mark.parametrize('caller', [
    CallsRunner('before_train', 'val'),
    CallsRunner('after_train_epoch', 'val'),
])
def test_a_resumed_training_goes_on_with_its_curves(runner_cfg, tmp_path,
                                                    caller):
    """And so does one that resumes that, whose names it takes over."""

    def run(epochs, **kwargs):
        time.sleep(1)  # A Runner's directory is named by the second.
        runner = Runner(**runner_cfg(
            HOOK,
            work_dir=str(tmp_path),
            custom_hooks=[caller],
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1),
                checkpoint=dict(type='CheckpointHook', interval=1)),
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            **kwargs))
        runner.train()
        return runner

    first = run(1)
    run(2, resume=True)
    run(3, resume=True)
    events = EventAccumulator(f'{first.log_dir}/vis_data').Reload()
    for tag in CURVES[:2]:
        assert steps(events, tag) == ALL_ITERATIONS, tag


def test_closing_a_summary_writer_that_is_held_open(tmp_path):
    """Brings to disk what was written, and the next writer lets go of it."""
    summary_writer = SummaryWriter(str(tmp_path))
    writer = EventWriter(summary_writer, flush_secs=1000)
    writer.hold_open(True)
    summary_writer.add_scalar('tag', 1, 1)
    summary_writer.close()
    writer.flush()
    assert steps(EventAccumulator(str(tmp_path)).Reload(), 'tag') == [1]
    summary_writer.add_scalar('tag', 2, 2)
    last = EventWriter(summary_writer)
    summary_writer.close()
    assert last._outer._finished.is_set() and writer._outer._finished.is_set()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert steps(events, 'tag') == [1, 2]
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_is_kept_of_a_summary_writer(tmp_path):
    """P6: nor is its EventWriter, of which each run has one."""
    summary_writer = SummaryWriter(str(tmp_path))
    writer = EventWriter(summary_writer)
    writer.hold_open(True)
    writer.hold_open(False)
    summary_writer.close()
    writer._outer._thread.join()
    kept = [weakref.ref(summary_writer), weakref.ref(writer)]
    del summary_writer, writer
    gc.collect()
    assert [k() for k in kept] == [None, None]
