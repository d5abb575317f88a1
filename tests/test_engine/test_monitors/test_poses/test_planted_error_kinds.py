# Copyright (c) OpenMMLab. All rights reserved.
"""Known fractions of each kind of error, read back by keypoint (P8).

On one process and on two, on MMPose's samples of COCO, CrowdPose and MPII
where they are there (``tests/data`` of MMPose, or the folder that
``MMPOSE_TEST_DATA`` names), else on generated annotations of the same form.
"""
import json
import os
from pathlib import Path

import numpy as np
import pytest
from mmengine.runner import Runner
from noisy_poses import runner_cfg
from planted_errors import apart, data_set_meta, names_of
from run_logs import read_run
from test_distributed_validation import KnownOrTrained  # noqa: F401
from test_error_kinds import coco_form  # noqa: F401
from test_error_kinds import KINDS, PackPlanted, mpii_form
from torch import distributed
from two_processes import make_runs, start_two

from mmpose.registry import DATASETS
from mmpose.utils import register_all_modules

register_all_modules()
SAMPLES = Path(os.environ.get('MMPOSE_TEST_DATA', 'tests/data')).resolve()
# The data set, its metainfo, the form of its annotations, and a sample.
FORMS = dict(
    coco=('CocoDataset', coco_form, 'coco/test_coco.json'),
    crowdpose=('CrowdPoseDataset', coco_form, 'crowdpose/test_crowdpose.json'),
    mpii=('MpiiDataset', mpii_form, 'mpii/test_mpii.json'))


def annotations_of(name, folder):
    """Return the file of a sample, or of what is written in its place."""
    _, form, sample = FORMS[name]
    if (SAMPLES / sample).exists():
        return SAMPLES / sample
    meta = data_set_meta(name)
    people = apart(30, meta['num_keypoints'], area=0.53 * 100**2)
    for person in people:
        person[1] *= 10
    folder.mkdir(parents=True, exist_ok=True)
    form(people, folder / 'a.json')
    return folder / 'a.json'


def instances_in(name, ann_file):
    """Return what the data set reads, by the ids of the instances."""
    dataset = DATASETS.build(
        dict(
            type=FORMS[name][0],
            ann_file=str(ann_file),
            test_mode=True,
            pipeline=[]))
    instances = {}
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        left, top, right, bottom = info['bbox'][0].tolist()
        area = (info.get('raw_ann_info')
                or {}).get('area', 0.53 * (right - left) * (bottom - top))
        instances[info['id']] = (info['img_id'],
                                 info['keypoints'][0].astype(float),
                                 info['keypoints_visible'][0] > 0, area)
    return instances


def kind_of(point, k, me, instances, sigmas, mirrored):
    """Compute the kind of error of a point, by the definition alone."""

    def similarity(instance, place):
        _, truth, visible, area = instance
        square = ((point - truth[place])**2).sum()
        return visible[place] * np.exp(-square / 2 / (2 * sigmas[k])**2 / area)

    own = similarity(me, k)
    inversion = similarity(me, mirrored[k]) * (mirrored[k] != k)
    swap = max([
        similarity(other, place)
        for other in instances if other is not me and other[0] == me[0]
        for place in (k, mirrored[k])
    ],
               default=0)
    best = max(own, inversion, swap)
    if best < 0.5:
        return 'miss'
    if best == own:
        return 'good' if own > 0.85 else 'jitter'
    return 'inversion' if best == inversion else 'swap'


def plant(name, ann_file):
    """Return predictions, and the kinds that were planted in them.

    The kinds take turns. Where one cannot be there or cannot be told from
    another, since the keypoints are near each other, it is the next one's
    turn.

    Returns:
        tuple[dict, list]: By id the points, shape (K, 2); of each instance
        and keypoint the kind, None where it is not annotated.
    """
    meta = data_set_meta(name)
    sigmas, mirrored = meta['sigmas'], meta['flip_indices']
    by_id = instances_in(name, ann_file)
    instances = list(by_id.values())
    predictions, kinds = {}, []
    turn = 0
    for id_, me in by_id.items():
        image, truth, visible, area = me
        others = [
            other for other in instances
            if other is not me and other[0] == image
        ]
        predicted, of_me = np.full_like(truth, -5000), [None] * len(truth)
        for k in np.flatnonzero(visible):
            reach = 2 * sigmas[k] * np.sqrt(2 * area)
            places = dict(
                good=[truth[k]],
                jitter=[
                    truth[k] + reach * np.sqrt(-np.log(.7)) * np.array(side)
                    for side in ((1, 0), (-1, 0), (0, 1), (0, -1))
                ],
                inversion=[truth[mirrored[k]]],
                swap=[other[1][k] for other in others if other[2][k]] +
                [other[1][mirrored[k]] for other in others],
                miss=[np.full(2, -5000.)])
            while of_me[k] is None:
                kind = KINDS[turn % 5]
                turn += 1
                for point in places[kind]:
                    if kind_of(point, k, me, instances, sigmas,
                               mirrored) == kind:
                        predicted[k], of_me[k] = point, kind
                        break
        predictions[id_] = predicted.tolist()
        kinds.append(of_me)
    return predictions, kinds


def validate(name, work_dir):
    """Validate planted predictions, in each process for itself."""
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    folder = Path(f'{work_dir}.{rank}')
    ann_file = annotations_of(name, folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'p.json').write_text(json.dumps(plant(name, ann_file)[0]))
    cfg = runner_cfg(
        work_dir,
        dict(log_val_images=False, hard_samples=0),
        model=dict(type='KnownOrTrained'))
    if distributed.is_initialized():
        cfg.update(
            launcher='pytorch',
            cfg=dict(
                model_wrapper_cfg=dict(
                    type='MMDistributedDataParallel', device_ids=None)))
    for unused in ('train_cfg', 'train_dataloader', 'optim_wrapper'):
        cfg.pop(unused)
    cfg['val_dataloader']['dataset'] = dict(
        type=FORMS[name][0],
        ann_file=str(ann_file),
        test_mode=True,
        pipeline=[
            dict(
                type=PackPlanted.__name__, predictions=str(folder / 'p.json'))
        ])
    Runner(**cfg).val()


def work(rank, folder):
    """What each of two processes does."""
    make_runs(
        rank, folder, {
            name: lambda work_dir, name=name: validate(name, work_dir)
            for name in FORMS
        })


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Where one process, and where two have validated."""
    two = tmp_path_factory.mktemp('two')
    start_two(work, two)
    one = tmp_path_factory.mktemp('one')
    for name in FORMS:
        validate(name, one / name)
    return dict(one=one, two=two)


@pytest.mark.parametrize('processes', ['one', 'two'])
@pytest.mark.parametrize('name', list(FORMS))
def test_planted_kinds_are_read_back_by_keypoint(folders, name, processes):
    folder = folders[processes]
    ann_file = annotations_of(name, folder / f'{name}.0')
    kinds = np.array(plant(name, ann_file)[1], object)
    names = names_of(data_set_meta(name))
    events = read_run(folder / name)
    tags = events.Tags()['scalars']

    def scalar(tag):
        event, = events.Scalars(tag)
        return event.value

    annotated = kinds != None  # noqa: E711
    planted = {kind: kinds == kind for kind in KINDS}
    assert planted['good'].any() and planted['miss'].any()
    assert planted['jitter'].any() and planted['inversion'].any()
    assert planted['swap'].any() or name == 'mpii', 'one in each image'
    for kind, where in planted.items():
        assert scalar(f'errors/{kind}') == pytest.approx(where.sum() /
                                                         annotated.sum())
        if kind in ('good', 'not_found'):
            continue
        for k, keypoint in enumerate(names):
            tag = f'errors/{kind}/{keypoint}'
            if annotated[:, k].any():
                assert scalar(tag) == pytest.approx(where[:, k].sum() /
                                                    annotated[:, k].sum())
            else:
                assert tag not in tags


@pytest.mark.parametrize('fraction, expected', [(.2, {'instances_swapped'}),
                                                (.03, set())])
def test_keypoints_on_another_instance_are_found_in_a_training(
        tmp_path, fraction, expected):
    """Three validations of a model that is good but for that."""
    people = apart(30, 17, area=0.53 * 100**2)
    for person in people:
        person[1] *= 10
    coco_form(people, tmp_path / 'a.json')
    rng = np.random.default_rng(0)
    predictions = {}
    for i, (image, truth, *_) in enumerate(people):
        other, = [
            p[1] for j, p in enumerate(people)
            if p[0] == image and j // 2 == i // 2 and j != i
        ]
        is_wrong = rng.random((17, 1)) < fraction
        predictions[i] = np.where(is_wrong, other, truth).tolist()
    (tmp_path / 'p.json').write_text(json.dumps(predictions))
    cfg = runner_cfg(
        tmp_path / 'run',
        dict(log_val_images=False, hard_samples=0, grad_norm_interval=0),
        model=dict(type='KnownOrTrained'),
        train_cfg=dict(by_epoch=True, max_epochs=3))
    cfg['val_dataloader'].update(batch_size=16)
    cfg['val_dataloader']['dataset'] = dict(
        type='CocoDataset',
        ann_file=str(tmp_path / 'a.json'),
        test_mode=True,
        pipeline=[
            dict(
                type=PackPlanted.__name__,
                predictions=str(tmp_path / 'p.json'))
        ])
    Runner(**cfg).train()
    events = read_run(tmp_path / 'run')
    assert expected == {
        tag.split('/')[-1]
        for tag in events.Tags()['scalars']
        if tag.startswith('health/finding/')
    }
