# Copyright (c) OpenMMLab. All rights reserved.
"""Validations on two real processes, over gloo on the CPU."""
import functools
import glob
from pathlib import Path

import pytest
from evaluated_poses import annotations, predict, write, write_boxes
from mmengine.runner import Runner
from noisy_poses import (NoisyModel, keypoint_scalars, pictures, runner_cfg,
                         warnings_of)
from run_logs import read_run
from torch import distributed
from torch.utils.data import Sampler
from two_processes import make_runs, results_of, start_two

from mmpose.engine.hooks import EnhancedTensorBoardHook
from mmpose.engine.monitors import EventWriter, KeypointMonitor, Scalar
from mmpose.engine.monitors.poses import keypoints
from mmpose.engine.monitors.poses.pose_samples import PoseSampleReader
from mmpose.registry import DATA_SAMPLERS, MODELS
from mmpose.utils import register_all_modules

HOOK = dict(max_val_images=1, hard_samples=3)


@DATA_SAMPLERS.register_module(force=True)
class OnlySecond(Sampler):
    """Gives everything to the second process."""

    def __init__(self, dataset, seed=None) -> None:
        self.samples = range(len(dataset)) if _rank() == 1 else []

    def __iter__(self):
        return iter(self.samples)

    def __len__(self):
        return len(self.samples)


def _rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def run(work_dir, epochs=1, num_samples=7, batch_size=2, **cfg):
    """Train and say what came of it, in each process for itself."""
    sampler = dict(
        type='DefaultSampler',
        shuffle=False,
        round_up=cfg.pop('round_up', True))
    sampler = cfg.pop('sampler', sampler)
    if distributed.is_initialized():
        cfg.update(
            launcher='pytorch',
            cfg=dict(
                model_wrapper_cfg=dict(
                    type='MMDistributedDataParallel', device_ids=None)))
    cfg.setdefault('val_evaluator',
                   [dict(type='PCKAccuracy', thr=0.2),
                    dict(type='EPE')])
    hook = dict(HOOK, **cfg.pop('hook', {}))
    val_dataset = cfg.pop('val_dataset', None)
    cfg = runner_cfg(
        work_dir,
        hook,
        dict(num_samples=num_samples),
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1),
        **cfg)
    cfg['val_dataloader'].update(sampler=sampler, batch_size=batch_size)
    if val_dataset is not None:
        cfg['val_dataloader']['dataset'] = val_dataset

    numbers, hardest = [], []
    curves, show = keypoints.keypoint_curves, KeypointMonitor._show
    with pytest.MonkeyPatch.context() as patch:

        def remember_curves(*args):
            values = list(curves(*args))
            numbers.append(
                {v.tag: v.value
                 for v in values if isinstance(v, Scalar)})
            return values

        def remember_hardest(self, runner, step, hard, parts):
            hardest.append([(h.sample.img_path, h.score) for h in hard])
            return show(self, runner, step, hard, parts)

        patch.setattr(keypoints, 'keypoint_curves', remember_curves)
        patch.setattr(KeypointMonitor, '_show', remember_hardest)
        runner = Runner(**cfg)
        runner.train()
    hook, = [h for h in runner.hooks if isinstance(h, EnhancedTensorBoardHook)]
    guard, = [m.guard for m in hook.monitors if isinstance(m, KeypointMonitor)]
    return dict(
        epochs=runner.epoch,
        numbers=numbers,
        hardest=hardest,
        failures=guard.failures,
        tripped=guard.tripped)


def failing(validations, samples):
    """As :func:`run`, but the second process fails in some validations."""

    def run_failing(work_dir, **kwargs):
        read = PoseSampleReader.read
        count = [0]

        def fail(self, sample):
            # A process has always the same first sample.
            count[0] += sample.id == 1
            if _rank() == 1 and count[0] in validations:
                raise RuntimeError('broken on purpose')
            return read(self, sample)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PoseSampleReader, 'read', fail)
            return run(
                work_dir,
                hook=dict(strict=False, log_val_images=False),
                **kwargs)

    return lambda work_dir: run_failing(
        work_dir, epochs=max(validations) + 1, num_samples=samples)


def detected(work_dir):
    """As :func:`run`, on a detector's boxes: both processes see those of an
    image."""
    folder = Path(work_dir).with_suffix(f'.{_rank()}')
    folder.mkdir()
    ann_file = write(folder / 'annotations.json', annotations())
    return run(
        work_dir,
        model=dict(type='KnownOrTrained'),
        val_dataset=dict(
            type='CocoDataset',
            ann_file=ann_file,
            bbox_file=write_boxes(folder / 'boxes.json'),
            test_mode=True,
            pipeline=[dict(type='PackKnown', ann_file=ann_file)]),
        val_evaluator=dict(type='CocoMetric', ann_file=ann_file, nms_thr=0.5))


@MODELS.register_module(force=True)
class KnownOrTrained(NoisyModel):
    """Predicts what is known of a detector's box."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode == 'predict':
            return predict(data_samples)
        return super().forward(inputs, data_samples, mode)


def without_writer(work_dir):
    """As :func:`run`, but the first process cannot write."""

    def fail(*args, **kwargs):
        raise OSError('broken on purpose')

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EventWriter, '__init__', fail)
        return run(work_dir, epochs=2, hook=dict(strict=False))


RUNS = dict(
    odd=lambda folder: run(folder, epochs=2),
    repeated_batch=lambda folder: run(folder, batch_size=1),
    unequal=lambda folder: run(folder, round_up=False, batch_size=1),
    single=lambda folder: run(folder, round_up=False, num_samples=1),
    second=lambda folder: run(
        folder, sampler=dict(type='OnlySecond'), val_evaluator=[]),
    failing_now_and_then=failing({1, 3, 5}, 7),
    failing_always=failing({1, 2, 3, 4, 5}, 6),
    detected=detected,
    without_writer=without_writer,
)


def work(rank: int, folder: str) -> None:
    """What each of the processes does."""
    make_runs(rank, folder, RUNS)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Where both processes have made their runs."""
    folder = tmp_path_factory.mktemp('distributed')
    start_two(work, folder)
    return folder


@pytest.fixture
def results(folder):
    """A function that gives the results of a run, of both processes."""
    return functools.partial(results_of, folder)


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
    """A function that makes the same run in one process."""
    register_all_modules()

    def make(num_samples: int):
        return run(tmp_path_factory.mktemp('alone'), num_samples=num_samples)

    return make


def assert_same(result, expected, validations):
    assert len(result['numbers']) == validations
    for numbers in result['numbers']:
        assert numbers == pytest.approx(expected['numbers'][0], abs=1e-9)
    for hardest in result['hardest']:
        assert [name for name, _ in hardest
                ] == [name for name, _ in expected['hardest'][0]]
        assert [score for _, score in hardest] == pytest.approx(
            [score for _, score in expected['hardest'][0]], abs=1e-9)


@pytest.mark.parametrize('name, num_samples, validations', [
    ('odd', 7, 2),
    ('repeated_batch', 7, 1),
    ('unequal', 7, 1),
    ('single', 1, 1),
    ('second', 7, 1),
])
def test_it_is_as_if_it_were_one_process(results, folder, alone, name,
                                         num_samples, validations):
    """Whatever share each has; a sample that both have seen counts once."""
    first, second = results(name)
    expected = alone(num_samples)
    epe = [tag for tag in expected['numbers'][0] if '/EPE/' in tag]
    assert epe
    if name == 'second':  # It has no evaluator.
        for tag in epe:
            expected['numbers'][0].pop(tag)
    assert len(expected['hardest'][0]) == min(num_samples, 3)
    assert_same(first, expected, validations)
    # P4: the first process writes, and nobody else.
    assert second['numbers'] == second['hardest'] == []
    events = read_run(folder / name)
    steps = list(range(1, validations + 1))
    for tag in ('val/hard_samples', 'keypoints/accuracy'):
        assert list(pictures(events, tag)) == steps
    assert {step for _, step in keypoint_scalars(events)} == set(steps)
    assert not warnings_of(folder / name)


def test_boxes_of_an_image_on_both_processes(results, folder,
                                             tmp_path_factory):
    """They are suppressed and matched together."""
    first, second = results('detected')
    register_all_modules()
    expected = detected(tmp_path_factory.mktemp('alone') / 'run')
    assert len(expected['hardest'][0]) == 3
    assert_same(first, expected, 1)
    assert second['numbers'] == second['hardest'] == []


def test_a_failure_of_the_second_process_costs_one_warning(results, folder):
    """P2: nothing is shown of that validation, and all of the next one.

    Three failures with successes between them switch nothing off.
    """
    first, second = results('failing_now_and_then')
    assert first['epochs'] == second['epochs'] == 6
    assert first['failures'] == second['failures'] == 3
    assert not first['tripped'] and not second['tripped']
    events = read_run(folder / 'failing_now_and_then')
    assert {step for _, step in keypoint_scalars(events)} == {2, 4, 6}
    assert list(pictures(events, 'val/hard_samples')) == [2, 4, 6]
    warning, = warnings_of(folder / 'failing_now_and_then')
    assert 'KeypointMonitor' in warning and 'rank [1] of 2' in warning


def test_a_process_that_is_switched_off_is_not_waited_for(results, folder):
    """P2."""
    first, second = results('failing_always')
    assert first['epochs'] == second['epochs'] == 6
    assert first['failures'] == second['failures'] == 3
    assert first['tripped'] and second['tripped']
    events = read_run(folder / 'failing_always')
    assert not keypoint_scalars(events)
    assert len(events.Scalars('val/PCK')) == 6
    warning, = warnings_of(folder / 'failing_always')
    assert 'rank [1] of 2' in warning


def test_without_a_writer_nobody_waits(results, folder):
    """P2: the first process has nowhere to write, the second knows not."""
    first, second = results('without_writer')
    assert first['epochs'] == second['epochs'] == 2
    assert first['numbers'] == second['numbers'] == []
    warning, = warnings_of(folder / 'without_writer')
    assert 'broken on purpose' in warning


def test_no_file_is_written_twice(folder):
    """P4."""
    for name in RUNS:
        found = glob.glob(f'{folder}/{name}/**/*tfevents*', recursive=True)
        assert len(found) == 1, found
