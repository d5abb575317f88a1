# Copyright (c) OpenMMLab. All rights reserved.
"""What monitors and detectors promise, for each one that is registered.

A new one inherits these tests.
"""
import copy
import re

import pytest
from make_doc_tables import paragraphs, simple_table
from mmengine.dist import is_main_process
from test_documented_tags import all_tags, give_images_and_sigmas, is_like
from test_enhanced_tensorboard_hook import final_state, hook_of, messages

from mmpose.engine.hooks import enhanced_tensorboard_hook
from mmpose.engine.monitors import (DETECTORS, EventWriter, Finding, Monitor,
                                    hook_arguments, monitor_classes)
from mmpose.engine.monitors.writers.record import Measurement

CLASSES = {
    cls.__name__: cls
    for cls in monitor_classes() if cls.__module__.startswith('mmpose.')
}
INTERVALS = [
    argument.name for argument in hook_arguments()
    if argument.name.endswith('_interval')
]
# Each at every step.
OFTEN = dict(dict.fromkeys(INTERVALS, 1), log_error_kinds=True)
NEVER_AGAIN = dict.fromkeys(INTERVALS, 10**9)
EVENTS = [
    name for name in vars(Monitor)
    if re.match('(before|after)_', name) and name != 'before_train'
]
ONE_EPOCH = dict(train_cfg=dict(by_epoch=True, max_epochs=1, val_interval=1))
CLIPPED = dict(
    optim_wrapper=dict(
        optimizer=dict(type='SGD', lr=0.01, momentum=0.9),
        clip_grad=dict(max_norm=1.)))


def detector_classes() -> list:
    monitor_classes()  # They are imported with the rooms.
    return [
        cls for cls in dict.fromkeys(DETECTORS.module_dict.values())
        if cls.__module__.startswith('mmpose.')
    ]


def alone(name: str) -> list:
    """Switch all monitors off but one."""
    others = [
        dict(type=other, enabled=False) for other in CLASSES if other != name
    ]
    return [dict(type=name), *others]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('images')


@pytest.fixture(scope='module')
def stock():
    """State and tags of the training without the hook, filled by a test."""
    return {}


@pytest.mark.parametrize('name', CLASSES)
def test_alone_it_is_neutral_and_writes_what_it_documents(
        name, train, read_events, stock, monkeypatch, folder):
    """P1, and the tags in its docstring alone."""
    give_images_and_sigmas(monkeypatch, folder)
    cfg = copy.deepcopy({**ONE_EPOCH, **CLIPPED})
    if not stock:
        runner = train(custom_hooks=[dict(type='Witness')], **cfg)
        stock.update(
            state=final_state(runner), tags=all_tags(read_events(runner)))
    runner = train(
        dict(OFTEN, monitors=alone(name)),
        custom_hooks=[dict(type='Witness')],
        **cfg)
    monitors = [type(monitor) for monitor in hook_of(runner).monitors]
    if CLASSES[name].watches_others:
        assert monitors == []
        return
    assert monitors == [CLASSES[name]]
    assert final_state(runner) == stock['state']
    written = all_tags(read_events(runner)) - stock['tags']
    assert name != 'KeypointMonitor' or 'errors/inversion' in written
    documented = [
        tag.strip('`') for paragraph in paragraphs(CLASSES[name])
        if paragraph.startswith('===') for tag, _ in simple_table(paragraph)
    ]
    assert not [
        tag for tag in written
        if tag not in ('custom_scalars__config__',
                       '') and not tag.startswith('_hparams_/') and not any(
                           is_like(tag, pattern) for pattern in documented)
    ]


def test_nothing_due_means_nothing_done(train, monkeypatch):
    """Between the first epoch and the end, where no interval ends."""
    steps = []
    write = EventWriter.write

    def count(self, record, guard):
        steps.append((record.step, guard.name))
        write(self, record, guard)

    monkeypatch.setattr(EventWriter, 'write', count)
    # What follows a validation is due.
    runner = train(
        dict(NEVER_AGAIN),
        train_cfg=dict(by_epoch=True, max_epochs=3, val_begin=10))
    assert len({name for _, name in steps}) > 10
    assert not [
        name for step, name in steps if runner.iter // 3 < step < runner.iter
    ]


def test_all_that_fails_costs_a_warning_each_and_changes_nothing(
        train, stock, monkeypatch):
    """P2, with every handler of every monitor broken."""

    def fail(self, *args, **kwargs):
        raise OSError('broken on purpose')

    for cls in CLASSES.values():
        for event in EVENTS:
            monkeypatch.setattr(cls, event, fail)
    cfg = copy.deepcopy({**ONE_EPOCH, **CLIPPED})
    reference = train(
        custom_hooks=[dict(type='Witness')], **copy.deepcopy(cfg))
    runner = train(
        dict(
            OFTEN,
            strict=False,
            on_nonfinite='stop',
            on_finding='true',
            preset='detailed',
            # Also what a setting of its own would switch on.
            monitors=[dict(type=name) for name in CLASSES]),
        custom_hooks=[dict(type='Witness')],
        **cfg)
    assert final_state(runner) == final_state(reference)
    warnings = messages(runner, 'WARNING')
    monitors = hook_of(runner).monitors
    assert {type(monitor) for monitor in monitors} == set(CLASSES.values())
    for monitor in monitors:
        assert monitor.guard.tripped
        assert sum(f'- {monitor.guard.name} failed' in w
                   for w in warnings) == 1


def test_another_rank_writes_nothing(train, monkeypatch):
    written = []
    monkeypatch.setattr(enhanced_tensorboard_hook, 'is_main_process',
                        lambda: False)
    monkeypatch.setattr(EventWriter, 'write',
                        lambda self, *args: written.append(args))
    runner = train(dict(OFTEN, preset='detailed'), **copy.deepcopy(ONE_EPOCH))
    assert is_main_process() and not written
    assert all(m.writer is None for m in hook_of(runner).monitors)


def test_a_detector_that_fails_costs_itself_alone(train, read_events, stock,
                                                  monkeypatch):
    """P2, with all detectors broken but one that finds something."""

    def fail(self, step, measurement):
        raise OSError('broken on purpose')

    detectors = detector_classes()
    for cls in detectors:
        monkeypatch.setattr(cls, 'see', fail)
    monkeypatch.setattr(detectors[0], 'wants', (Measurement, ))
    monkeypatch.setattr(
        detectors[0], 'see',
        lambda self, step, measurement: [Finding('mine', '', '', '')])
    cfg = copy.deepcopy({**ONE_EPOCH, **CLIPPED})
    reference = train(
        custom_hooks=[dict(type='Witness')], **copy.deepcopy(cfg))
    runner = train(
        dict(OFTEN, strict=False), custom_hooks=[dict(type='Witness')], **cfg)
    assert final_state(runner) == final_state(reference)
    tags = read_events(runner).Tags()['scalars']
    assert [tag for tag in tags
            if tag.startswith('health/finding/')] == ['health/finding/mine']
    warnings = ''.join(messages(runner, 'WARNING'))
    failed = [
        cls for cls in detectors
        if warnings.count(f'{cls.__name__} failed with OSError') == 1
    ]
    # What is measured in any training is seen by most of them.
    assert len(failed) > len(detectors) / 2


@pytest.mark.parametrize(
    'cls', detector_classes(), ids=lambda cls: cls.__name__)
def test_a_detector_says_what_it_wants_and_which_findings_it_has(cls):
    assert cls.wants and all(issubclass(m, Measurement) for m in cls.wants)
    documented = re.findall('``([a-z_]+)', cls.__doc__)
    assert documented, 'the findings stand in the docstring'
    cls()  # All of its thresholds have defaults.
