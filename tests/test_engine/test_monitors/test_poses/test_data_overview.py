# Copyright (c) OpenMMLab. All rights reserved.
"""What is annotated, against a count of the annotations' file itself."""
import json
import threading

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from noisy_poses import (pictures, runner_cfg, topdown_cfg, warnings_of,
                         write_coco)
from run_logs import read_run
from written_datasets import write_dataset
from xtcocotools.coco import COCO

from mmpose.engine.monitors.poses.data import annotated_data
from mmpose.engine.monitors.poses.data.annotated_data import (loaded_parts,
                                                              read_samples)
from mmpose.engine.monitors.poses.data.overview import (DataOverviewMonitor,
                                                        Overview, Split)
from mmpose.engine.monitors.poses.data.overview_tally import Crop
from mmpose.registry import DATASETS, HOOKS
from mmpose.utils import register_all_modules

register_all_modules()
META = dict(from_file='configs/_base_/datasets/coco.py')


class Loader:

    def __init__(self, dataset):
        self.dataset = dataset


def overview_of(dataset, evaluator=None):
    overview = Overview([Split('training', Loader(dataset), evaluator)])
    return overview, overview._tallies['training']


def annotations_of(path):
    """Those of a COCO file that count, with keypoints of shape (K, 3)."""
    content = json.loads(path.read_text())
    found = [a for a in content['annotations'] if not a['iscrowd']]
    return [
        dict(a, keypoints=np.reshape(a['keypoints'], (-1, 3))) for a in found
    ]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Of 40 annotations, one a crowd and two without keypoints."""
    folder = tmp_path_factory.mktemp('data')
    write_dataset('CocoDataset', folder, 40)
    path = folder / 'CocoDataset.json'
    content = json.loads(path.read_text())
    content['annotations'][3]['iscrowd'] = 1
    for a in content['annotations'][7:9]:
        a.update(keypoints=[0] * 51, num_keypoints=0)
    path.write_text(json.dumps(content))
    return folder


def coco(folder, **replaced):
    return dict(
        type='CocoDataset',
        ann_file=str(folder / 'CocoDataset.json'),
        pipeline=[],
        **replaced)


@pytest.mark.parametrize('kind', [
    'serialized', 'in a list', 'bottom-up', 'repeated', 'concatenated',
    'combined'
])
def test_numbers_are_those_of_the_file(folder, kind):
    """P8; and P1: neither the pipeline nor a generator is touched."""
    cfg = coco(folder, data_mode='bottomup' if 'up' in kind else 'topdown')
    if kind == 'in a list':
        cfg['serialize_data'] = False
    times = 1
    if kind == 'repeated':
        cfg = dict(type='RepeatDataset', times=3, dataset=cfg)
    elif kind == 'concatenated':
        cfg = dict(type='ConcatDataset', datasets=[cfg, dict(cfg)])
        times = 2
    elif kind == 'combined':
        cfg = dict(
            type='CombinedDataset', metainfo=META, datasets=[cfg,
                                                             dict(cfg)])
        times = 2
    dataset = DATASETS.build(cfg)
    if hasattr(dataset, 'full_init'):
        dataset.full_init()
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    overview, tally = overview_of(dataset)
    assert (np.random.get_state()[1] == before[0]).all()
    assert (torch.get_rng_state() == before[1]).all()

    found = annotations_of(folder / 'CocoDataset.json')
    if kind != 'bottom-up':  # It keeps those without keypoints.
        found = [a for a in found if a['num_keypoints']]
    flags = np.stack([a['keypoints'][:, 2] for a in found])
    assert tally.instances == times * len(found)
    assert tally.crowds == (kind == 'bottom-up')
    assert tally.empty == (2 if kind == 'bottom-up' else 0)
    assert (tally.annotated == times * (flags > 0).sum(0)).all()
    assert (tally.occluded == times * (flags == 1).sum(0)).all()
    sides = np.array([a['bbox'][2:] for a in found])
    assert np.sort(tally.sides, 0)[::times] == pytest.approx(
        np.sort(sides, 0), rel=1e-4)
    images = [a['image_id'] for a in found]
    assert sorted(tally.per_image()) == sorted(times * images.count(image)
                                               for image in set(images))
    visible, occluded = tally.rates()
    assert visible == pytest.approx((flags == 2).mean(0))
    assert occluded == pytest.approx((flags == 1).mean(0))

    table = overview.table()
    assert f'| Instances | {times * len(found):,} |' in table
    row, = [line for line in table.splitlines() if line.startswith('| nose')]
    nose = flags[:, 0]
    assert row == '| nose | ' + ' | '.join(f'{(nose == flag).mean():.1%}'
                                           for flag in (2, 1, 0)) + ' |'
    assert ('leave them out' in table) == (kind != 'bottom-up')
    picture = overview.figure()
    assert picture.shape[1:] == (900, 3) and len(np.unique(picture)) > 50


def test_places_are_those_of_the_pipelines_crop(folder):
    """Against MMPose's own transforms."""
    size = (192, 256)
    steps = [
        dict(type='GetBBoxCenterScale', padding=0.8),
        dict(type='TopdownAffine', input_size=size)
    ]
    dataset = DATASETS.build(dict(coco(folder), pipeline=steps))
    _, tally = overview_of(dataset)
    outside = 0
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        info['img'] = np.zeros((400, 400, 3), np.uint8)
        points = dataset.pipeline(info)['transformed_keypoints'][0]
        points = points[info['keypoints_visible'][0] > 0]
        outside += ((points < 0) | (points > size)).any(-1).sum()
    assert tally.outside == outside > 0
    assert tally.crop == Crop(0.8, .75)
    inside = tally.density[10:50, 10:50].sum()
    assert inside == tally.annotated.sum() - outside


def test_a_converter_is_applied(folder):
    mapping = [(0, 1), ((5, 6), 0)]
    converter = dict(
        type='KeypointConverter', num_keypoints=2, mapping=mapping)
    dataset = DATASETS.build(dict(coco(folder), pipeline=[converter]))
    part, = loaded_parts(dataset)
    for index, sample in enumerate(read_samples(part)):
        info = dataset.pipeline(dataset.get_data_info(index))
        assert sample.keypoints == pytest.approx(info['keypoints'])
        assert (sample.annotated == (info['keypoints_visible'][..., 0] >
                                     0)).all()
        assert not (sample.occluded & ~sample.annotated).any()


@pytest.mark.parametrize('kind, rows', [
    ('CocoWholeBodyDataset', ['body', 'feet', 'face', 'left_hand']),
    ('WFLWDataset', ['contour', 'mouth', 'pupils']),
    ('MpiiDataset', ['left_knee', 'head_top']),
    ('PoseTrack18VideoDataset', ['nose', 'left_ankle'])
])
def test_of_other_data_sets(tmp_path, kind, rows):
    cfg = write_dataset(kind, tmp_path)
    dataset = DATASETS.build(dict(cfg, pipeline=[]))
    overview, tally = overview_of(dataset)
    table = overview.table()
    assert tally.instances == 6 and not tally.others
    for row in rows:
        assert f'| {row} |' in table
    # The others do not keep COCO's flags.
    assert ('do not tell occluded' in table) == (
        kind != 'CocoWholeBodyDataset')
    if kind == 'CocoWholeBodyDataset':
        content = json.loads((tmp_path / f'{kind}.json').read_text())
        flags = np.array([
            a['keypoints'][2::3] + a['foot_kpts'][2::3] +
            a['face_kpts'][2::3] + a['lefthand_kpts'][2::3] +
            a['righthand_kpts'][2::3] for a in content['annotations']
        ])
        assert (tally.occluded == (flags == 1).sum(0)).all()
        assert f'| body | {(flags[:, :17] == 2).mean():.1%} |' in table
    assert overview.figure().shape[1] == 900


def test_a_detectors_boxes_are_not_annotations(folder, tmp_path):
    """P8: they have no keypoints, and their number says nothing."""
    boxes = [
        dict(
            image_id=1 + i % 20, category_id=1, bbox=[5, 5, 50, 60], score=.9)
        for i in range(90)
    ]
    box_file = tmp_path / 'boxes.json'
    box_file.write_text(json.dumps(boxes))
    cfg = coco(folder, bbox_file=str(box_file), test_mode=True)
    loader = Runner.build_dataloader(
        dict(
            batch_size=1,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=cfg))
    evaluator = Runner.build_evaluator(
        None, dict(type='CocoMetric', ann_file=cfg['ann_file']))
    evaluator.dataset_meta = loader.dataset.metainfo
    overview = Overview([Split('validation', loader, evaluator)])
    tally = overview._tallies['validation']
    found = annotations_of(folder / 'CocoDataset.json')
    flags = np.stack([a['keypoints'][:, 2] for a in found])
    assert tally.instances == len(found) and tally.crowds == 1
    assert tally.empty == 2 and len(tally.images) == 20
    assert (tally.annotated == (flags > 0).sum(0)).all()
    assert (tally.occluded == (flags == 1).sum(0)).all()
    assert 'predicts in 90 boxes of a detector' in overview.table()
    # Nor do those of an evaluator leave anything out, or of a bottom-up model.
    content = json.loads((folder / 'CocoDataset.json').read_text())
    content['annotations'] = [
        a for a in content['annotations'] if a['num_keypoints']
    ]
    complete = tmp_path / 'complete.json'
    complete.write_text(json.dumps(content))
    evaluator.metrics[0].coco = COCO(str(complete))
    overview = Overview([Split('validation', loader, evaluator)])
    assert overview._tallies['validation'].empty == 0
    assert 'leave them out' not in overview.table()
    bottom_up = dict(coco(tmp_path, data_mode='bottomup'))
    bottom_up['ann_file'] = str(complete)
    overview, tally = overview_of(DATASETS.build(bottom_up))
    table = overview.table()
    assert '| 0 (0.0%) |' in table and 'leave them out' not in table
    # Where nothing is cropped, keypoints are outside of their box or inside.
    outside = 0
    for found in annotations_of(complete):
        left, top, width, height = found['bbox']
        x, y, seen = found['keypoints'].T
        inside = ((x >= left) & (x <= left + width) & (y >= top)
                  & (y <= top + height))
        outside += (~inside & (seen > 0)).sum()
    assert tally.outside == outside
    assert 'outside of the box' in table and 'crop' not in table


def test_coordinates_that_are_nan_are_told(folder, tmp_path):
    """Points that a tracker has lost, written as annotated ones."""
    path = folder / 'CocoDataset.json'
    assert 'NaN' not in overview_of(DATASETS.build(coco(folder)))[0].table()
    content = json.loads(path.read_text())
    for a, flag in zip(content['annotations'][:3], (2, 1, 0)):
        a['keypoints'][3:6] = [float('nan'), 5, flag]
    (tmp_path / path.name).write_text(json.dumps(content))
    overview, tally = overview_of(DATASETS.build(coco(tmp_path)))
    assert tally.nonfinite == 2  # The last one is absent.
    assert '2 annotated keypoints of the training have' in overview.table()


def test_of_a_large_data_set_a_part_is_read(folder, monkeypatch):
    """P6, and it is said."""
    monkeypatch.setattr(
        'mmpose.engine.monitors.poses.data.overview'
        '.MAX_SAMPLES', 10)
    monkeypatch.setattr(annotated_data.read_samples, '__defaults__', (10, ))
    overview, tally = overview_of(DATASETS.build(coco(folder)))
    assert tally.instances == 10
    assert '10 of the 37 samples' in overview.table()


def test_a_training_shows_it_once(tmp_path):
    ann_file = tmp_path / 'annotations.json'
    write_coco(ann_file)
    cfg = topdown_cfg(
        tmp_path / 'run',
        dict(
            log_data=True,
            log_keypoints=False,
            hard_samples=0,
            log_val_images=False), ann_file)
    runner = Runner(**cfg)
    runner.train()
    events = read_run(tmp_path / 'run')
    shown = pictures(events, 'data/overview')
    assert list(shown) == [0] and len(shown[0]) == 1
    text, = events.Tensors('data/overview/text_summary')
    text = text.tensor_proto.string_val[0].decode()
    assert '| Instances | 9 | 9 |' in text
    assert not warnings_of(tmp_path / 'run')


@HOOKS.register_module(force=True)
class WriteMeanwhile(Hook):
    """Waits for what is written so far, then lets the counting go on."""

    priority = 'LOWEST'

    def after_train_iter(self, runner, batch_idx, data_batch, outputs=None):
        if COUNTING.is_set():
            return
        for hook in runner.hooks:
            if hasattr(hook, 'monitors'):
                hook._writer.flush()
        self.written_before = not COUNTING.is_set()
        COUNTING.set()


COUNTING = threading.Event()


def test_nothing_waits_for_the_counting_of_a_large_data_set(
        tmp_path, monkeypatch):
    """P7: for 150,000 instances it takes longer than flush_secs."""

    class Slow(Overview):

        def __init__(self, splits):
            COUNTING.wait(20)
            COUNTING.set()
            super().__init__(splits)

    monkeypatch.setattr('mmpose.engine.monitors.poses.data.overview.Overview',
                        Slow)
    COUNTING.clear()
    ann_file = tmp_path / 'annotations.json'
    write_coco(ann_file)
    cfg = topdown_cfg(tmp_path / 'run', dict(log_data=True), ann_file)
    cfg['custom_hooks'].append(dict(type='WriteMeanwhile'))
    runner = Runner(**cfg)
    runner.train()
    assert next(
        hook for hook in runner.hooks
        if isinstance(hook, WriteMeanwhile)).written_before
    assert pictures(read_run(tmp_path / 'run'), 'data/overview')


def test_an_error_is_reported_as_any_other(tmp_path, monkeypatch):
    """P2: strict raises it in the training."""
    monkeypatch.setattr('mmpose.engine.monitors.poses.data.overview.Overview',
                        None)
    ann_file = tmp_path / 'annotations.json'
    write_coco(ann_file)
    for strict in (True, False):
        folder = tmp_path / str(strict)
        cfg = topdown_cfg(folder, dict(log_data=True, strict=strict), ann_file)
        if strict:
            with pytest.raises(TypeError, match='not callable'):
                Runner(**cfg).train()
        else:
            Runner(**cfg).train()
            warning, = warnings_of(folder)
            assert 'DataOverviewMonitor failed with TypeError' in warning


def test_what_is_not_in_memory_is_said_in_a_line(tmp_path):
    """P8: never left out in silence."""
    runner = Runner(
        **runner_cfg(tmp_path, dict(log_data=True, log_keypoints=False)))
    runner.train()
    events = read_run(tmp_path)
    assert 'data/overview' not in events.Tags()['tensors']
    log, = tmp_path.glob('*/*.log')
    lines = [
        line for line in log.read_text().splitlines()
        if 'no data/overview' in line
    ]
    assert len(lines) == 2
    assert 'of the training: NoisyPoses does not' in lines[0]


def test_a_lifting_model_has_no_boxes(monkeypatch):
    module = 'mmpose.engine.monitors.poses.data.overview'
    monkeypatch.setattr(f'{module}.lifts_poses', lambda model: True)
    said = []
    monkeypatch.setattr(f'{module}.print_log',
                        lambda text, **kwargs: said.append(text))
    DataOverviewMonitor().before_train(
        type('R', (), dict(model=torch.nn.Linear(1, 1))))
    assert len(said) == 1 and 'lifting model' in said[0]
