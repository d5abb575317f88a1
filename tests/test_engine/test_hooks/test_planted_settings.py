# Copyright (c) OpenMMLab. All rights reserved.
"""Settings that cannot be right, each planted in a real training."""
import copy
import glob
import time
import uuid
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from test_planted_training_illness import WATCH

from mmpose.datasets import CocoDataset
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.utils import register_all_modules

ROOT = Path(__file__).resolve().parents[3]
DEMO = 'configs/enhanced_tensorboard/td-hm_res18_1xb8-12e_synthetic-128x96.py'
CODEC = dict(
    type='MSRAHeatmap', input_size=(96, 128), heatmap_size=(24, 32), sigma=2.)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    path = ROOT / 'tools/dataset_generators/synthetic_coco.py'
    spec = spec_from_file_location('synthetic_coco', str(path))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp('data')
    module.generate_dataset(str(folder), 4, 1, (96, 96))
    return f'{folder}/'


def coco_info(**changes):
    """COCO's metainfo as a user writes it, with changed keypoints.

    Args:
        changes: By the name of a keypoint, what to change; and 'sigmas'.
    """
    meta = parse_pose_metainfo(dict(CocoDataset.METAINFO))
    names = meta['keypoint_id2name']
    keypoints = {
        i: dict(
            name=name,
            id=i,
            color=[255, 0, 0],
            type='',
            swap=names[meta['flip_indices'][i]]
            if meta['flip_indices'][i] != i else '')
        for i, name in names.items()
    }
    for info in keypoints.values():
        info.update(changes.get(info['name'], {}))
    new = [info['name'] for info in keypoints.values()]
    links = [[new[i] for i in link] for link in meta['skeleton_links']]
    return dict(
        dataset_name='my_people',
        keypoint_info=keypoints,
        skeleton_info={
            i: dict(link=tuple(link), id=i, color=[0, 255, 0])
            for i, link in enumerate([*links, *changes.get('links', ())])
        },
        joint_weights=[1.] * 17,
        sigmas=changes.get('sigmas', list(map(float, meta['sigmas']))))


def train(data, folder, **changes):
    """Train for one iteration on drawn people.

    Args:
        data (str): The folder of the data.
        folder (Path): For the work directory.
        changes: By dotted keys of the config with '__'.

    Returns:
        tuple[Runner, str]: The runner, and its log.
    """
    register_all_modules()
    cfg = Config.fromfile(str(ROOT / DEMO))
    for name in ('train', 'val', 'test'):
        cfg[f'{name}_dataloader'].dataset.data_root = data
    cfg.val_evaluator.ann_file = (f'{data}annotations/'
                                  'person_keypoints_val.json')
    cfg.train_dataloader.update(batch_size=4)
    cfg.model.backbone.update(stem_channels=8, base_channels=8)
    cfg.model.head.update(in_channels=16 + 32 + 64)
    cfg.merge_from_dict(
        dict(
            experiment_name=uuid.uuid4().hex,
            work_dir=str(folder / uuid.uuid4().hex),
            param_scheduler=[],
            custom_hooks=[]))
    # Without a validation.
    cfg.train_cfg = dict(
        type='IterBasedTrainLoop', max_iters=1, val_begin=1000)
    cfg.default_hooks.checkpoint = None
    cfg.default_hooks.logger = dict(type='LoggerHook', interval=1)
    cfg.default_hooks.enhanced_tensorboard = dict(
        type='EnhancedTensorBoardHook', strict=True, log_data=False, **WATCH)
    for key, value in changes.items():
        *parents, last = key.split('__')
        place = cfg
        for parent in parents:
            place = place[int(parent) if parent.isdigit() else parent]
        place[last] = copy.deepcopy(value)
    runner = Runner.from_cfg(cfg)
    try:
        runner.train()
    except RuntimeError as error:  # Other numbers of keypoints.
        return runner, str(error)
    return runner, ''


def findings(runner, expected):
    """The findings of the log by name, once there are so many."""
    deadline = time.monotonic() + 30
    while True:
        path, = glob.glob(f'{runner.log_dir}/*.log')
        with open(path) as file:
            lines = [line for line in file if 'Training health' in line]
        if len(lines) >= expected or time.monotonic() > deadline:
            return lines
        time.sleep(0.05)


@pytest.fixture(scope='module')
def planted_run(data, tmp_path_factory):
    """A training in which as much as possible is wrong."""
    info = coco_info(
        left_eye=dict(swap='left_ear'),
        left_hip=dict(name='left_hp', swap=''),
        right_hip=dict(swap=''),
        links=[('nose', 'nose')])
    wrong = dict(coco_info(sigmas=[0.05] * 17), dataset_name='my_val')
    train_file = 'annotations/person_keypoints_train.json'
    runner, error = train(
        data,
        tmp_path_factory.mktemp('planted'),
        train_dataloader__dataset__metainfo=info,
        val_dataloader__dataset__metainfo=wrong,
        val_dataloader__dataset__ann_file=train_file,
        val_dataloader__dataset__data_prefix=dict(img='train/'),
        val_dataloader__dataset__pipeline__2__use_udp=True,
        val_dataloader__dataset__pipeline__2__input_size=(128, 96),
        model__head__decoder=dict(CODEC, heatmap_size=(48, 64)),
        model__data_preprocessor__bgr_to_rgb=False,
        param_scheduler=[
            dict(
                type='LinearLR',
                begin=0,
                end=500,
                start_factor=0.05,
                by_epoch=False),
            dict(type='MultiStepLR', milestones=[700], by_epoch=False),
            dict(
                type='CosineAnnealingLR',
                begin=1,
                end=800,
                eta_min=0,
                by_epoch=False),
            dict(type='ExponentialLR', gamma=0.9)
        ],
        auto_scale_lr=dict(base_batch_size=512),
        custom_hooks=[dict(type='EMAHook', momentum=0.9998)])
    assert not error
    return runner


@pytest.fixture(scope='module')
def planted(planted_run):
    """Its log."""
    return findings(planted_run, len(PLANTED))


PLANTED = dict(
    flip_indices=('exchanges left_eye with left_ear, not with right_eye',
                  'my_people (train)'),
    keypoint_names=('left_hp, right_hip', 'there is no right_hp, left_hip'),
    skeleton_links=('my_people (train)', '(0, 0)'),
    sigmas=('my_val (val)', 'All 17 are 0.05'),
    use_udp=('with UDP: TopdownAffine of val',
             'without UDP: TopdownAffine of train'),
    input_size=('128x96: TopdownAffine of val',
                '96x128: TopdownAffine of train'),
    codec_differs=('MSRAHeatmap 24x32', 'MSRAHeatmap 48x64'),
    warm_up_too_long=('iteration 500', 'after 1 iteration', 'reaches 5%'),
    milestone_too_late=('1 of 1 milestones', 'iteration 700'),
    schedule_cut_off=('It never begins', '800'),
    schedule_by_epoch=('ExponentialLR with', '1 iteration and no epochs'),
    batch_size=('has 4 samples', 'meant for 512', 'by 0.00781'),
    ema_momentum=('0.9998', 'Set momentum to 0.0002'),
    same_annotations=('person_keypoints_train.json', ),
    normalization=('order RGB', 'order BGR'))


@pytest.mark.parametrize('name', PLANTED)
def test_it_is_named_with_its_numbers(name, planted):
    """P9"""
    words = PLANTED[name]
    lines = [line for line in planted if all(word in line for word in words)]
    assert len(lines) == 1, ''.join(planted)
    is_note = name in ('schedule_cut_off', 'batch_size')
    assert ('note: ' if is_note else 'warning: ') in lines[0]


def test_nothing_else_is_found(planted):
    assert len(planted) == len(PLANTED)


def test_the_report_has_them_when_it_is_first_written(planted_run, planted,
                                                      read_events):
    """Defect: it began with no finding, at the same step."""
    events = read_events(planted_run)
    notes = sum('note: ' in line for line in planted)
    assert [(e.step, e.value) for e in events.Scalars('health/findings')
            ] == [(1, len(PLANTED) - notes)]


def test_other_numbers_of_keypoints_are_named_before_the_error(data, tmp_path):
    """The error of the loss speaks of shapes only."""
    runner, error = train(data, tmp_path, model__head__out_channels=21)
    assert '21' in error
    line, = findings(runner, 1)
    assert 'HeatmapHead: 21; coco (train): 17' in line


def test_nothing_is_found_where_nothing_is_wrong(data, tmp_path):
    runner, error = train(data, tmp_path)
    assert not error and not findings(runner, 0)
