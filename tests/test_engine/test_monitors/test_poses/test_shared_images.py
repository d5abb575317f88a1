# Copyright (c) OpenMMLab. All rights reserved.
"""Images that are both in the training and in the validation."""
import csv
import json
import shutil
import threading

import cv2
import numpy as np
import pytest
from mmengine.hooks import Hook
from mmengine.runner import Runner
from noisy_poses import topdown_cfg, warnings_of
from run_logs import read_run
from written_datasets import write_dataset

from mmpose.engine.monitors.core.pose_measurements import SharedImages
from mmpose.engine.monitors.health.detectors.data.shared_images import \
    SharedImagesDetector
from mmpose.engine.monitors.poses.data import same_images
from mmpose.engine.monitors.poses.data.overview import (DataOverviewMonitor,
                                                        Split)
from mmpose.engine.monitors.poses.data.same_images import (Same, same_contents,
                                                           same_paths)
from mmpose.registry import DATASETS, HOOKS
from mmpose.utils import register_all_modules

register_all_modules()


@pytest.fixture
def files(tmp_path):
    """Files of 20,000 bytes: the content by name."""

    def write(**contents):
        paths = []
        for name, (seed, changed) in contents.items():
            content = np.random.default_rng(seed).bytes(20000)
            if changed:  # In the middle, neither at the beginning nor the end.
                content = content[:10000] + b'x' + content[10001:]
            (tmp_path / name).write_bytes(content)
            paths.append(str(tmp_path / name))
        return paths

    return write


def test_same_paths_are_found_without_the_disk():
    found = same_paths(['no/a.jpg', 'no/./b.jpg', None],
                       ['no/b.jpg', 'no/c.jpg', None])
    assert found == [Same('no/b.jpg', 'no/./b.jpg')]


def test_same_contents_are_found_under_other_names(files):
    training = files(a=(1, False), b=(2, False), c=(3, False), d=(4, False))
    validation = files(copy=(2, False), other=(9, False), almost=(3, True))
    # The same file is none with the same content.
    validation += [training[3], 'no/such/file', None, 's3://bucket/a.jpg']
    found, is_complete = same_contents(training, validation)
    assert found == [Same(validation[0], training[1])] and is_complete


def test_only_files_of_the_same_size_are_read(files, monkeypatch):
    training, (copy, ) = files(a=(1, False), b=(2, False)), files(c=(2, False))
    longer = training[0] + '_longer'
    shutil.copy(training[0], longer)
    with open(longer, 'ab') as file:
        file.write(b'.')
    read = []
    monkeypatch.setattr(
        'builtins.open',
        lambda path, *args, _open=open, **kw: read.append(path) or _open(
            path, *args, **kw))
    assert same_contents([longer, training[1]],
                         [copy])[0] == [Same(copy, training[1])]
    assert longer not in read


def test_a_link_is_known_without_reading(files, tmp_path, monkeypatch):
    """Defect: a folder of links took all that may be read."""
    training = files(a=(1, False), b=(2, False))
    (tmp_path / 'linked').symlink_to(tmp_path)
    validation = [str(tmp_path / 'linked' / 'a'), training[1]]
    monkeypatch.setattr('builtins.open', None)
    assert same_contents(training,
                         validation) == ([Same(validation[0],
                                               training[0])], True)


def test_a_path_may_be_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert same_paths(['data/a.jpg', 's3://a/b'],
                      [str(tmp_path / 'data/a.jpg'), 's3:/a/b']) == [
                          Same(str(tmp_path / 'data/a.jpg'), 'data/a.jpg')
                      ]


@pytest.mark.parametrize('other', ['train.lmdb', 'val.lmdb'])
def test_a_key_in_two_databases_is_no_image_of_both(tmp_path, other):
    """Defect: 00001.jpg of either was said to be the same file."""
    cfg = write_dataset('CocoDataset', tmp_path)
    splits = []
    for name, file in (('training', 'train.lmdb'), ('validation', other)):
        load = dict(
            type='LoadImage', backend_args=dict(backend='lmdb', db_path=file))
        dataset = DATASETS.build(dict(cfg, pipeline=[load]))
        splits.append(
            Split(name,
                  type('Loader', (), dict(dataset=dataset))(), None))
    monitor, records = DataOverviewMonitor(), []
    monitor.writer = type('Writer', (), dict(log_dir=str(tmp_path)))()
    monitor.emit = records.append
    monitor._count(0, splits)
    (found, ), = [record.values() for record in records[2:]]
    assert found.same_path == (3 if other == 'train.lmdb' else 0)


def test_the_search_has_bounds(files):
    """P6, and it is said."""
    training, validation = files(a=(1, False)), files(b=(1, False))
    assert same_contents(training, validation, max_bytes=50000)[1] is False
    assert same_contents(training, validation, max_seconds=-1) == ([], False)
    assert same_contents(training, validation, max_bytes=80000)[1] is True


def findings(*args, **kwargs):
    return SharedImagesDetector().see(1, SharedImages(*args, **kwargs))


def test_the_finding_names_the_images_and_what_to_do():
    """P9."""
    assert not findings(100, 0, 0)
    first = (('a.jpg', 'a.jpg'), ('b.jpg', 'c.jpg'))
    finding, = findings(100, 1, 1, first, 'run/shared_images.csv')
    assert finding.what.startswith('2 of the 100 images')
    assert 'a.jpg; b.jpg is a copy of c.jpg' in finding.evidence
    assert 'run/shared_images.csv' in finding.advice
    assert finding.severity == 'warning'
    assert 'There may be more' not in finding.evidence
    finding, = findings(1000, 1, 0, first[:1], is_complete=False)
    assert finding.severity == 'note'
    assert 'There may be more' in finding.evidence


@HOOKS.register_module(force=True)
class WaitForSearch(Hook):
    """Lets a training of a second wait for the search."""

    priority = 'LOWEST'

    def after_train_iter(self, runner, batch_idx, data_batch, outputs=None):
        for hook in runner.hooks:
            if hasattr(hook, 'monitors'):
                hook._writer.flush()
        for thread in threading.enumerate():
            if thread.name == 'DataOverviewMonitor':
                thread.join()


@pytest.mark.parametrize('shared', [True, False])
def test_a_training_on_its_validation_is_named(tmp_path, shared, monkeypatch):
    """Two images by their path, one by its content."""
    write_dataset('CocoDataset', tmp_path, 12)
    content = json.loads((tmp_path / 'CocoDataset.json').read_text())
    for split, first in (('train', 0), ('val', 1 if shared else 3)):
        images = content['images'][first:first + 3]
        ids = [image['id'] for image in images]
        part = dict(
            content,
            images=images,
            annotations=[
                a for a in content['annotations'] if a['image_id'] in ids
            ])
        (tmp_path / f'{split}.json').write_text(json.dumps(part))
    (tmp_path / 'folder').mkdir()
    rng = np.random.default_rng(0)
    for i in range(1, 7):
        image = rng.integers(0, 255, (400, 400, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f'folder/{i:06}.jpg'), image)
    if shared:  # The fourth is in the validation alone.
        shutil.copy(
            str(tmp_path / 'folder/000001.jpg'),
            str(tmp_path / 'folder/000004.jpg'))
    hook = dict(
        log_data=True,
        log_keypoints=False,
        hard_samples=0,
        log_val_images=False,
        monitors=[dict(type='AugmentationMonitor', enabled=False)])
    cfg = topdown_cfg(
        tmp_path / 'run',
        hook,
        tmp_path / 'train.json',
        train_cfg=dict(by_epoch=True, max_epochs=1, val_interval=1))
    for loader, split in (('train', 'train'), ('val', 'val')):
        dataset = cfg[f'{loader}_dataloader']['dataset']
        dataset.update(
            ann_file=str(tmp_path / f'{split}.json'),
            data_prefix=dict(img=str(tmp_path)))
        dataset['pipeline'][0].pop('backend_args')
    cfg['custom_hooks'][0]['backend_args'] = None
    searched = []
    search = same_images.same_contents
    monkeypatch.setattr(
        same_images, 'same_contents',
        lambda *args: searched.append(search(*args)) or searched[-1])
    cfg['custom_hooks'].append(dict(type='WaitForSearch'))
    Runner(**cfg).train()
    events = read_run(tmp_path / 'run')
    tag = 'health/finding/shared_images'
    assert (tag in events.Tags()['scalars']) == shared
    assert searched[0][1] and not warnings_of(tmp_path / 'run')
    file, = tmp_path.glob('run/*/vis_data/events*')
    file = file.parent / 'shared_images.csv'
    assert file.exists() == shared
    if shared:
        with open(str(file), newline='') as opened:
            rows = list(csv.DictReader(opened))
        assert [row['same'] for row in rows] == ['path', 'path', 'content']
        assert rows[2]['validation'].endswith('000004.jpg')
        assert rows[2]['training'].endswith('000001.jpg')
