# Copyright (c) OpenMMLab. All rights reserved.
"""Pictures of the samples that a finding speaks of."""
import copy
import json

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from noisy_poses import pictures, topdown_cfg, warnings_of, write_coco
from run_logs import read_run

from mmpose.engine.monitors.core.measurements import SuspectSamples
from mmpose.engine.monitors.poses.pictures.pose_painter import PosePainter
from mmpose.engine.monitors.poses.suspect_images import SuspectImageMonitor
from mmpose.registry import HOOKS
from mmpose.utils import register_all_modules

HOOK = dict(
    log_health=True,
    log_train_images=True,
    log_val_images=False,
    log_keypoints=False,
    hard_samples=0,
    strict=True)


@HOOKS.register_module(force=True)
class NanTarget(Hook):
    """Makes the target of one sample NaN."""

    priority = 'HIGHEST'

    def __init__(self, step):
        self.step = step

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.step:
            sample = data_batch['data_samples'][1]
            sample.gt_fields.heatmaps *= float('nan')
            self.id = sample.id


@pytest.fixture
def drawn(monkeypatch):
    """The keypoints of all that is drawn, with what is visible of them."""
    drawn = []
    draw = PosePainter.draw

    def remember(self, part, keypoints, visible):
        drawn.append((keypoints, visible))
        return draw(self, part, keypoints, visible)

    monkeypatch.setattr(PosePainter, 'draw', remember)
    return drawn


def annotated(ann_file, number):
    """Keypoints and visibility, from the file itself."""
    annotation, = [
        a for a in json.loads(ann_file.read_text())['annotations']
        if a['id'] == number
    ]
    keypoints = np.reshape(annotation['keypoints'], (17, 3))
    return keypoints[:, :2], keypoints[:, 2] > 0


def test_the_broken_sample_is_shown_as_it_is_annotated(tmp_path, drawn):
    """Not as the pipeline has flipped it."""
    register_all_modules()
    ann_file = tmp_path / 'annotations.json'
    write_coco(ann_file)
    cfg = topdown_cfg(
        str(tmp_path / 'run'),
        dict(HOOK, train_image_interval=100),
        ann_file,
        train_cfg=dict(by_epoch=True, max_epochs=1, val_interval=9))
    cfg['custom_hooks'].append(dict(type='NanTarget', step=3))
    runner = Runner(**cfg)
    runner.train()
    hook, = [h for h in runner.hooks if isinstance(h, NanTarget)]
    shown = pictures(read_run(tmp_path / 'run'), 'health/suspects')
    assert list(shown) == [3] and len(shown[3]) == 1
    keypoints, visible = drawn[-1]
    expected, is_annotated = annotated(ann_file, hook.id)
    assert (visible == is_annotated).all()
    assert keypoints[visible] == pytest.approx(expected[is_annotated])
    # More than paper and text.
    assert len(np.unique(shown[3][0].reshape(-1, 3), axis=0)) > 500
    assert not warnings_of(tmp_path / 'run')


class Loader:

    def __init__(self, dataset):
        self.dataset = dataset


@pytest.mark.parametrize('kind', ['one', 'combined', 'repeated', 'bottom-up'])
def test_it_is_found_in_every_data_set_without_drawing_a_number(
        tmp_path, drawn, kind):
    """P1: neither the pipeline nor a generator is touched."""
    register_all_modules()
    from mmpose.registry import DATASETS
    parts = []
    for i in range(2):
        ann_file = tmp_path / f'{i}.json'
        write_coco(ann_file, num_people=4 + i)
        cfg = topdown_cfg('', {}, ann_file)['train_dataloader']['dataset']
        parts.append(dict(cfg, data_prefix=dict(img=f'folder_{i}')))
    if kind == 'bottom-up':
        parts[1]['data_mode'] = 'bottomup'
    dataset = copy.deepcopy(parts[1])
    if kind == 'combined':
        meta = dict(from_file='configs/_base_/datasets/coco.py')
        dataset = dict(type='CombinedDataset', metainfo=meta, datasets=parts)
    if kind == 'repeated':
        dataset = dict(type='RepeatDataset', times=2, dataset=dataset)
    dataset = DATASETS.build(dataset)
    number = [1, 2] if kind == 'bottom-up' else 2
    samples = [
        dict(img_path=f'folder_1/image_{2 if number == 2 else 1}.png', id=2),
        dict(img_path='folder_1/no_such_image.png', id=77)
    ]
    if kind == 'bottom-up':
        info = super(type(dataset), dataset).get_data_info(0)
        samples[0].update(img_path=info['img_path'], id=info['id'])

    class Writer:
        listen = staticmethod(lambda *args: listening.append(args))

    listening = []
    monitor = SuspectImageMonitor()
    monitor.writer = Writer()
    runner = type('R', (), dict(train_dataloader=Loader(dataset)))
    monitor.before_train(runner)
    (measured, look, _), = listening
    assert measured is SuspectSamples
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    record = look(9, SuspectSamples(9, tuple(samples)))
    image, = record.read()
    assert (np.random.get_state()[1] == before[0]).all()
    assert (torch.get_rng_state() == before[1]).all()
    assert image.tag == 'health/suspects' and len(image.pictures) == 1
    keypoints, visible = drawn[-1]
    ids = np.atleast_1d(samples[0]['id'])
    assert len(keypoints) == len(ids)
    for one, seen, number in zip(keypoints, visible, ids):
        expected, is_annotated = annotated(tmp_path / '1.json', number)
        assert (seen == is_annotated).all()
        assert one[seen] == pytest.approx(expected[is_annotated])
