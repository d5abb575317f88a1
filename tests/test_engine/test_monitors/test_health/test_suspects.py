# Copyright (c) OpenMMLab. All rights reserved.
"""Which samples a finding speaks of."""
import gc
import json
import pickle
import weakref

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData, PixelData

from mmpose.engine.monitors.health.recent_batches import RecentBatches
from mmpose.engine.monitors.health.report import Finding
from mmpose.engine.monitors.health.suspects import Suspects
from mmpose.structures import PoseDataSample


def batch(*ids, folder='coco/train2017', **metainfo):
    """A batch as MMPose collates it."""
    samples = []
    for i in ids:
        sample = PoseDataSample(
            metainfo=dict(
                metainfo, img_path=f'data/{folder}/{i:012d}.jpg', id=i))
        sample.gt_instance_labels = InstanceData(
            keypoint_weights=torch.ones(1, 17))
        sample.gt_fields = PixelData(heatmaps=torch.zeros(17, 4, 3))
        samples.append(sample)
    return dict(
        inputs=[torch.zeros(3, 16, 12, dtype=torch.uint8) for _ in ids],
        data_samples=samples)


def finding(step):
    return Finding(
        'loss_spike', 'The loss jumped.', 'So it did.', 'Look.', batch=step)


def test_the_last_batches_are_known_and_no_others():
    batches = RecentBatches(length=3)
    for step in range(1, 6):
        batches.add(step, batch(10 * step, 10 * step + 1))
    assert [bool(batches.samples(step)) for step in range(7)
            ] == [False, False, False, True, True, True, False]
    assert batches.samples(4) == [
        dict(img_path='data/coco/train2017/000000000040.jpg', id=40),
        dict(img_path='data/coco/train2017/000000000041.jpg', id=41)
    ]


def test_what_names_a_sample_is_kept_as_it_is():
    """Bottom-up samples have several ids, videos several paths."""
    batches = RecentBatches()
    data = batch(1, dataset_name='coco')
    data['data_samples'][0].set_metainfo(
        dict(id=np.array([4, 5]), img_paths=['a/한글.jpg', 'b.jpg']))
    batches.add(1, data)
    sample, = batches.samples(1)
    assert sample['id'] == [4, 5] and sample['dataset_name'] == 'coco'
    assert sample['img_paths'] == ['a/한글.jpg', 'b.jpg']


@pytest.mark.parametrize('data', [
    None, [1, 2], {},
    dict(data_samples=None),
    dict(inputs=torch.zeros(2)),
    dict(inputs=[1], data_samples=['text'])
])
def test_other_batches_name_nothing(data):
    batches = RecentBatches()
    batches.add(1, data)
    assert not any(batches.samples(1))
    assert batches.nonfinite(1) == []


def test_a_thousand_batches_take_six_megabytes():
    """Of 64 samples each, in the order of a shuffled COCO."""
    batches = RecentBatches()
    order = np.random.RandomState(0).permutation(149813)
    for step in range(1100):
        batches.add(
            step,
            batch(*order.take(range(64 * step, 64 * step + 64), mode='wrap')))
        # Whole batches are not kept.
        assert len(batches._batches) <= 1000
    assert len(pickle.dumps(batches._batches)) < 6e6


def test_the_broken_samples_of_a_batch_at_hand():
    batches = RecentBatches()
    data = batch(7, 8, 9)
    data['data_samples'][1].gt_fields.heatmaps[3, 2, 1] = float('inf')
    data['inputs'][2] = torch.full((3, 16, 12), float('nan'))
    batches.add(1, data)
    assert batches.nonfinite(1) == [(1, 'heatmaps'), (2, 'inputs')]
    batches.keep()
    batches.add(2, batch(10))
    assert batches.nonfinite(1) == [(1, 'heatmaps'), (2, 'inputs')]
    assert batches.nonfinite(2) == []
    batches.release()
    assert batches.nonfinite(1) == [(1, 'heatmaps'), (2, 'inputs')]
    batches.add(3, batch(10))
    batches.keep()
    assert batches.nonfinite(1) == []


def test_a_gradient_that_is_accumulated_is_of_several_batches(tmp_path):
    """Defect: the samples of the last one alone were named."""
    batches = RecentBatches()
    for step in range(1, 9):
        batches.add(step, batch(step))
    suspects = Suspects(batches, str(tmp_path))
    found = suspects.name(finding(8)._replace(batches=4))
    assert 'Samples of steps 5 to 8: ' in found.evidence
    entry, = json.loads((tmp_path / 'suspects.json').read_text())
    assert entry['ids'] == [5, 6, 7, 8]


def test_a_finding_names_its_samples_and_lists_them(tmp_path):
    batches = RecentBatches()
    batches.add(5, batch(*range(20, 30)))
    suspects = Suspects(batches, str(tmp_path))
    for _ in range(2):  # As often as it is found.
        evidence = suspects.name(finding(5)).evidence
        assert evidence.startswith('So it did. Samples of step 5: '
                                   'coco/train2017/000000000020.jpg (id 20), ')
        assert evidence.endswith(
            'coco/train2017/000000000027.jpg (id 27) and 2 more; see '
            'suspects.json.')
    entry, = json.loads((tmp_path / 'suspects.json').read_text())
    assert entry['finding'] == 'loss_spike' and entry['step'] == 5
    assert [sample['id'] for sample in entry['samples']] == [*range(20, 30)]
    assert entry['ids'] == [*range(20, 30)]


@pytest.mark.parametrize('key, frame', [('img_path', 'first'),
                                        ('target_img_path', 'last'),
                                        ('img_paths', 'last')])
def test_of_a_video_the_annotated_frame_is_named(tmp_path, key, frame):
    """PoseTrack18's is the first one, that of a lifter's the last one."""
    batches = RecentBatches()
    data = batch(1)
    data['data_samples'][0].set_metainfo({
        'img_path':
        None,
        key: ['a/first.jpg', 'a/middle.jpg', 'a/last.jpg']
    })
    batches.add(5, data)
    named = Suspects(batches, str(tmp_path)).name(finding(5))
    assert f'a/{frame}.jpg (id 1)' in str(named)


def test_broken_samples_are_named_alone(tmp_path):
    batches = RecentBatches()
    data = batch(*range(20, 30))
    labels = data['data_samples'][4].gt_instance_labels
    labels.keypoint_weights[0, 3] = float('nan')
    batches.add(5, data)
    evidence = Suspects(batches, str(tmp_path)).name(finding(5)).evidence
    assert evidence == (
        'So it did. Of the 10 samples of step 5 these hold a NaN or an '
        'infinity before they reach the model: '
        'coco/train2017/000000000024.jpg '
        '(id 24, keypoint_weights); see suspects.json.')
    entry, = json.loads((tmp_path / 'suspects.json').read_text())
    sample, = entry['samples']
    assert sample['id'] == 24 and sample['nonfinite'] == 'keypoint_weights'


@pytest.mark.parametrize('step', [None, 4])
def test_a_finding_without_known_samples_stays_as_it_is(tmp_path, step):
    batches = RecentBatches()
    batches.add(5, batch(1))
    suspects = Suspects(batches, str(tmp_path))
    assert suspects.name(finding(step)) == finding(step)
    assert not list(tmp_path.iterdir())


def test_what_the_file_holds_is_kept(tmp_path):
    """A resumed run goes on with it."""
    for step in (5, 6):
        batches = RecentBatches()
        batches.add(step, batch(step))
        Suspects(batches, str(tmp_path)).name(finding(step))
    entries = json.loads((tmp_path / 'suspects.json').read_text())
    assert [entry['step'] for entry in entries] == [5, 6]
    assert [path.name for path in tmp_path.iterdir()] == ['suspects.json']


def test_a_file_that_cannot_be_written_costs_no_name(tmp_path):
    batches = RecentBatches()
    batches.add(5, batch(20))
    suspects = Suspects(batches, str(tmp_path / 'missing'))
    with pytest.raises(OSError):
        suspects.name(finding(5))
    assert '(id 20)' in suspects.name(finding(5)).evidence
    found, = suspects.found()
    assert found.step == 5 and found.samples[0]['id'] == 20
    assert suspects.found() == []


def test_a_batch_is_freed_when_its_iteration_is_over():
    batches = RecentBatches()
    data = batch(1, 2)
    sample = weakref.ref(data['data_samples'][0])
    batches.add(1, data)
    batches.release()
    del data
    gc.collect()
    assert sample() is None and len(batches.samples(1)) == 2


def test_texts_of_findings_long_ago_are_forgotten(tmp_path):
    """P6."""
    batches = RecentBatches()
    suspects = Suspects(batches, str(tmp_path))
    for step in range(130):
        batches.add(step, batch(step))
        assert f'(id {step})' in suspects.name(finding(step)).evidence
    assert len(suspects._texts) == 100
    entries = json.loads((tmp_path / 'suspects.json').read_text())
    assert [entry['step'] for entry in entries] == [*range(30, 130)]
