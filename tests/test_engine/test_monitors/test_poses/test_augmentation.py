# Copyright (c) OpenMMLab. All rights reserved.
"""What the pipeline of a training makes of the same samples."""
import copy
import logging
import pickle

import cv2
import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from noisy_poses import pictures, topdown_cfg, warnings_of, write_coco
from run_logs import read_run
from written_datasets import write_dataset

from mmpose.datasets.transforms import Mosaic
from mmpose.engine.monitors.poses.data import drawing_process
from mmpose.engine.monitors.poses.data.augmentation import AugmentationMonitor
from mmpose.engine.monitors.poses.data.drawing_process import (DrawingProcess,
                                                               Job, draw)
from mmpose.engine.monitors.poses.data.few_samples import choose_samples
from mmpose.engine.monitors.poses.pipelines import PipelineWatch, mixes_images
from mmpose.registry import DATASETS, HOOKS, KEYPOINT_CODECS, TRANSFORMS
from mmpose.utils import register_all_modules

register_all_modules()
CODEC = dict(
    type='MSRAHeatmap', input_size=(96, 128), heatmap_size=(24, 32), sigma=1.)
META = dict(from_file='configs/_base_/datasets/coco.py')
OTHERS_OFF = dict(
    log_data=True, log_keypoints=False, hard_samples=0, log_val_images=False)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Twelve instances with their images."""
    folder = tmp_path_factory.mktemp('data')
    write_dataset('CocoDataset', folder, 12)
    rng = np.random.default_rng(0)
    (folder / 'folder').mkdir()
    for i in range(1, 7):
        image = rng.integers(0, 255, (20, 20, 3), np.uint8)
        cv2.imwrite(
            str(folder / f'folder/{i:06}.jpg'),
            image.repeat(20, 0).repeat(20, 1))
    return folder


def topdown(folder, *augmentations):
    return dict(
        type='CocoDataset',
        ann_file=str(folder / 'CocoDataset.json'),
        data_prefix=dict(img=str(folder)),
        pipeline=[
            dict(type='LoadImage'),
            dict(type='GetBBoxCenterScale'), *augmentations,
            dict(type='TopdownAffine', input_size=(96, 128)),
            dict(type='GenerateTarget', encoder=CODEC),
            dict(type='PackPoseInputs')
        ])


def bottomup(folder, **replaced):
    return dict(
        type='CocoDataset',
        ann_file=str(folder / 'CocoDataset.json'),
        data_prefix=dict(img=str(folder)),
        data_mode='bottomup',
        pipeline=[
            dict(type='LoadImage'),
            dict(type='BottomupRandomAffine', input_size=(128, 128)),
            dict(
                type='GenerateTarget',
                encoder=dict(type='YOLOXPoseAnnotationProcessor')),
            dict(type='PackPoseInputs')
        ],
        **replaced)


def job_of(dataset, count=2, draws=3, others=4):
    is_bottom_up = dataset.get('data_mode') == 'bottomup'
    dataset = DATASETS.build(dataset)
    if hasattr(dataset, 'full_init'):
        dataset.full_init()
    # YOLOX-Pose has none.
    codec = None if is_bottom_up else KEYPOINT_CODECS.build(CODEC)
    return Job(
        choose_samples(dataset, others), count, draws, codec, [], 'a pipeline')


@pytest.fixture
def panels(monkeypatch):
    """The titles of all that is drawn, with the pictures."""
    drawn = []
    compose = drawing_process.sheet

    def remember(panels, *args):
        drawn.append(panels)
        return compose(panels, *args)

    monkeypatch.setattr(drawing_process, 'sheet', remember)
    return drawn


def test_draws_differ_by_what_the_pipeline_draws(folder, panels):
    """And do not where it draws nothing."""
    flip = dict(type='RandomFlip', direction='horizontal', prob=.5)
    for augmentations, are_equal in (((), True), ((flip, ), False)):
        panels.clear()
        shown = draw(job_of(topdown(folder, *augmentations), 1, 6))
        assert len(shown) == 1 and len(panels[0]) == 7
        title, _ = panels[0][0]
        assert title.startswith('annotated, ')
        draws = [picture for _, picture in panels[0][1:]]
        assert all((one == draws[0]).all() for one in draws) == are_equal
        assert {len(np.unique(one)) > 50 for one in draws} == {True}


@pytest.mark.parametrize(
    'kind', ['bottom-up', 'mosaic', 'repeated', 'concatenated', 'combined'])
def test_of_every_kind_of_data_set(folder, kind, panels):
    """P1 where they are chosen: no number is drawn, no pipeline runs."""
    cfg = bottomup(folder) if kind in ('bottom-up',
                                       'mosaic') else topdown(folder)
    if kind == 'mosaic':
        cfg['pipeline'].insert(
            1,
            dict(
                type='Mosaic',
                img_scale=(128, 128),
                pre_transform=[dict(type='LoadImage')]))
    elif kind == 'repeated':
        cfg = dict(type='RepeatDataset', times=3, dataset=cfg)
    elif kind == 'concatenated':
        cfg = dict(type='ConcatDataset', datasets=[cfg, copy.deepcopy(cfg)])
    elif kind == 'combined':
        inner, outer = cfg['pipeline'][:1], cfg['pipeline'][1:]
        inner.append(
            dict(
                type='KeypointConverter',
                num_keypoints=17,
                mapping=[(i, i) for i in range(17)]))
        cfg['pipeline'] = inner
        cfg = dict(
            type='CombinedDataset',
            metainfo=META,
            datasets=[cfg, copy.deepcopy(cfg)],
            sample_ratio_factor=[1., .5],
            pipeline=outer)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    job = job_of(cfg)
    assert (np.random.get_state()[1] == before[0]).all()
    assert (torch.get_rng_state() == before[1]).all()
    job = pickle.loads(pickle.dumps(job))
    shown = draw(job)
    assert len(shown) == 2
    for of_sample in panels:
        assert [title.split(',')[0] for title, _ in of_sample
                ] == ['annotated', 'draw 1', 'draw 2', 'draw 3']
        assert not [t for t, _ in of_sample if t.endswith(' 0 keypoints')]
        assert not [t for t, _ in of_sample if 'no target' in t]


def test_a_switch_of_the_pipeline_is_noticed(folder):
    dataset = DATASETS.build(topdown(folder))
    watch = PipelineWatch()
    assert [watch.has_changed(dataset)
            for _ in range(3)] == [True, False, False]
    dataset.pipeline = copy.copy(dataset.pipeline)
    assert watch.has_changed(dataset) and not watch.has_changed(dataset)
    assert not mixes_images(dataset)
    dataset.pipeline.transforms.append(Mosaic.__new__(Mosaic))
    assert mixes_images(dataset)


@HOOKS.register_module(force=True)
class WaitForDrawing(Hook):
    """Lets a training of a second wait for the other process."""

    priority = 'LOWEST'

    def after_train_iter(self, runner, batch_idx, data_batch, outputs=None):
        for hook in runner.hooks:
            for monitor in getattr(hook, 'monitors', ()):
                if isinstance(monitor, AugmentationMonitor):
                    monitor.wait()


@HOOKS.register_module(force=True)
class SwitchOnce(Hook):
    """As MMDetection's PipelineSwitchHook does, which RTMPose has."""

    def before_train_epoch(self, runner):
        if runner.epoch == 2:
            dataset = runner.train_dataloader.dataset
            dataset.pipeline = copy.copy(dataset.pipeline)
            dataset.pipeline.transforms = [
                step for step in dataset.pipeline.transforms
                if type(step).__name__ != 'RandomFlip'
            ]


def run(tmp_path, folder, hook, *hooks, **kwargs):
    ann_file = tmp_path / 'annotations.json'
    write_coco(ann_file)
    cfg = topdown_cfg(
        tmp_path / 'run',
        hook,
        ann_file,
        train_cfg=dict(by_epoch=True, max_epochs=4, val_interval=9),
        **kwargs)
    cfg['train_dataloader']['dataset'] = topdown(
        folder, dict(type='RandomFlip', direction='horizontal'))
    cfg['model']['head']['decoder'] = CODEC
    cfg['custom_hooks'] = [*hooks, *cfg['custom_hooks']]
    runner = Runner(**cfg)
    runner.train()
    return runner


def weights(runner):
    return {
        name: value.numpy().tobytes()
        for name, value in runner.model.state_dict().items()
    }, np.random.get_state()[1].tobytes(), torch.get_rng_state().tolist()


def test_a_training_shows_it_and_does_not_change(tmp_path, folder):
    """P1 bit for bit, at the start, at a switch, and fresh samples."""
    hooks = [dict(type='WaitForDrawing'), dict(type='SwitchOnce')]
    states = []
    for i, is_on in enumerate((True, False)):
        path = tmp_path / str(i)
        path.mkdir()
        hook = dict(OTHERS_OFF, log_data=is_on)
        states.append(weights(run(path, folder, hook, *hooks)))
        shown = pictures(read_run(path / 'run'), 'data/augmentation')
        assert not warnings_of(path / 'run')
        if is_on:
            # Six iterations are an epoch.
            assert {step: len(p)
                    for step, p in shown.items()} == {
                        1: 4,
                        7: 1,
                        13: 4,
                        19: 1
                    }
    assert not shown
    assert states[0] == states[1]


@TRANSFORMS.register_module(force=True)
class Fails:
    """A transform that fails in the other process alone."""

    def __init__(self, pid=None):
        import os
        self.pid = os.getpid()

    def __call__(self, results):
        import os
        if os.getpid() != self.pid:
            raise OSError('no such disk here')
        return results


def test_what_fails_costs_a_line(folder, monkeypatch):
    """P2: a transform that fails there, or cannot be found or pickled."""
    said = []
    monkeypatch.setattr(
        'mmpose.engine.monitors.poses.data.augmentation.print_log',
        lambda text, logger, level: said.append((text, level)))
    monitor = AugmentationMonitor(1)
    monitor._codec = None
    emitted = []
    monkeypatch.setattr(monitor, 'emit', emitted.append)
    cfg = topdown(folder)
    cfg['pipeline'].insert(1, dict(type='Fails'))
    dataset = DATASETS.build(cfg)

    class R:
        iter = epoch = 0
        cfg = dict(custom_imports=dict(imports='no_such_module'))
        train_dataloader = type('L', (), dict(dataset=dataset))

    monitor._draw(R, dataset)
    monitor.wait()
    # Another process has a generator that cannot be pickled.
    dataset.pipeline.transforms.append((i for i in range(3)))
    monitor._draw(R, dataset)
    R.train_dataloader.dataset = [1, 2]
    monitor._draw(R, [1, 2])
    assert not emitted and len(said) == 3
    texts, levels = zip(*said)
    assert 'no such disk here' in texts[0]
    assert 'cannot be given to another process' in texts[1]
    assert 'list does not hold annotations' in texts[2]
    assert set(levels) == {logging.INFO}


@TRANSFORMS.register_module(force=True)
class FailsSometimes:

    def __init__(self):
        self.calls = 0

    def __call__(self, results):
        self.calls += 1
        if self.calls in (2, 4, 5, 6):
            raise OSError('a disk that is gone for a moment')
        return results


def test_a_bad_draw_costs_that_draw(folder, panels):
    """P2: also where all draws of a sample are bad."""
    cfg = topdown(folder)
    cfg['pipeline'].insert(1, dict(type='FailsSometimes'))
    assert len(draw(job_of(cfg))) == 2
    titles = [[title for title, _ in of_one] for of_one in panels]
    assert [t.split(',')[0]
            for t in titles[0]] == ['annotated', 'draw 1', 'draw 3']
    assert len(titles[1]) == 1


BACKEND = """
from mmengine.fileio import LocalBackend, register_backend

@register_backend('elsewhere')
class Elsewhere(LocalBackend):
    pass
"""


def test_what_a_config_imports_is_there(folder, tmp_path, monkeypatch):
    """Defect: a storage backend of the user's was unknown there."""
    (tmp_path / 'own_backend.py').write_text(BACKEND)
    monkeypatch.syspath_prepend(str(tmp_path))
    job = job_of(topdown(folder))
    job.samples.sources[0].pipeline.transforms[0].backend_args = dict(
        backend='elsewhere')
    with pytest.raises(RuntimeError, match='elsewhere'):
        DrawingProcess(pickle.dumps(job)).run()
    job = job._replace(imports=['own_backend'])
    assert len(DrawingProcess(pickle.dumps(job)).run()) == 2


def test_it_ends_with_the_training(folder):
    process = DrawingProcess(pickle.dumps(job_of(topdown(folder))))
    process.end()
    with pytest.raises(RuntimeError, match='has ended before'):
        process.run()
