# Copyright (c) OpenMMLab. All rights reserved.
"""P8: the mean over the keypoints is the number of MMPose's evaluator."""
from types import SimpleNamespace

import numpy as np
import pytest
from evaluated_poses import KnownTopdown
from mmengine.dataset import DefaultSampler, pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from noisy_poses import keypoint_scalars, runner_cfg
from run_logs import read_run
from stepping import Written
from written_datasets import predict, write_dataset

import mmpose.datasets.datasets
from mmpose.engine.monitors import KeypointMonitor
from mmpose.engine.monitors.poses.accuracy.evaluator_measures import (
    EvaluatorMeasures, mean_over)
from mmpose.engine.monitors.poses.accuracy.keypoint_parts import keypoint_parts
from mmpose.engine.monitors.writers.record import LAYER_SCALAR, Scalar
from mmpose.evaluation import MultiDatasetEvaluator
from mmpose.registry import METRICS, MODELS
from mmpose.utils import register_all_modules

register_all_modules()

# Models that lift poses are compared in test_lifting.py.
KINDS = [
    name for name in dir(mmpose.datasets.datasets)
    if name.endswith('Dataset') and not name.startswith(('Base', 'Combined'))
    and name not in ('H36MWholeBodyDataset', 'Human36mDataset',
                     'UBody3dDataset')
]

BOX = dict(type='NME', norm_mode='use_norm_item', norm_item='bbox_size')
EYES = dict(type='NME', norm_mode='keypoint_distance')


def loader_of(cfg, batch_size=2):
    return Runner.build_dataloader(
        dict(
            batch_size=batch_size,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=cfg))


def validate(loader, evaluator):
    """What the monitor and the evaluator say of a validation."""
    monitor, runner = read(loader, evaluator)
    metrics = evaluator.evaluate(len(loader.dataset))
    return written_by(monitor, runner, [monitor.rank_results()]), metrics


def read(loader, evaluator):
    """A monitor and a runner whose validation is at its end."""
    monitor = KeypointMonitor(
        log_accuracy=True,
        hard_samples=0,
        kpt_thr=0.3,
        every_measure=True,
        strict=True)
    monitor.writer = Written()
    runner = SimpleNamespace(
        model=KnownTopdown(),
        val_dataloader=loader,
        val_evaluator=evaluator,
        hooks=[],
        message_hub=MessageHub('validation'),
        _train_loop=None)
    for i, batch in enumerate(loader):
        outputs = predict(batch['data_samples'])
        evaluator.process(data_samples=outputs, data_batch=batch)
        monitor.after_val_iter(runner, i, batch, outputs)
    return monitor, runner


def written_by(monitor, runner, results):
    """The scalars that come of what ranks have read."""
    monitor.all_results = results
    monitor.after_val_epoch(runner, {})
    return {
        value.tag: value.value
        for record in monitor.writer.records if record.kind == LAYER_SCALAR
        for value in record.read() if isinstance(value, Scalar)
    }


def evaluator_of(dataset, metrics):
    """An evaluator of metrics by their prefix."""
    evaluator = Evaluator(
        [dict(metric, prefix=prefix) for prefix, metric in metrics.items()])
    evaluator.dataset_meta = dataset.metainfo
    return evaluator


def mean_of(scalars, measure, dataset, keypoints=None):
    """The mean over keypoints, as curves of body parts have it, too."""
    meta = dataset.metainfo
    names = [meta['keypoint_id2name'][i] for i in range(meta['num_keypoints'])]
    groups = {name: [i] for i, name in enumerate(names)}
    if len(names) > 30:
        groups = keypoint_parts(names, meta['dataset_name'])
    visible = sum(dataset[i]['data_samples'].gt_instances.keypoints_visible.
                  reshape(-1, len(names)) for i in range(len(dataset))).sum(0)
    values, weights = [], []
    for name, indices in groups.items():
        tag = f'keypoints/{measure}/{name}'
        if tag in scalars and (keypoints is None or name in keypoints):
            values.append(scalars[tag])
            is_rate = measure.startswith(('PCK', 'tPCK', 'AUC'))
            weights.append(
                len(indices)
                if is_rate and keypoints is None else visible[indices].sum())
    assert len(values) == len(keypoints or groups)
    return np.average(values, weights=weights)


@pytest.mark.parametrize('kind', KINDS)
def test_every_data_set(kind, tmp_path):
    """Of each class of MMPose's, in every measure that fits it."""
    loader = loader_of(write_dataset(kind, tmp_path))
    dataset = loader.dataset
    metrics = dict(epe=dict(type='EPE'))
    expected = {'EPE': 'epe/EPE'}
    if kind == 'InterHand3DDataset':
        metrics['hands'] = dict(type='InterHandMetric')
        expected['MPJPE'] = 'hands/MPJPE_all'
    else:
        metrics.update(
            near=dict(type='PCKAccuracy', thr=0.05),
            mid=dict(type='PCKAccuracy', thr=0.1),
            far=dict(type='PCKAccuracy', thr=0.2),
            auc=dict(type='AUC', norm_factor=30, num_thrs=20),
            box=BOX,
            eyes=dict(EYES, keypoint_indices=[0, 1]))
        expected.update({
            'PCK@0.05': 'near/PCK',
            'PCK@0.1': 'mid/PCK',
            'PCK@0.2': 'far/PCK',
            'AUC': 'auc/AUC',
            'NME': 'box/NME',
            'normalized_error': 'box/NME',
            'eyes/NME': 'eyes/NME'
        })
    if kind in ('MpiiDataset', 'PanopticHand2DDataset'):
        metrics['head'] = dict(type='PCKAccuracy', thr=0.7, norm_item='head')
        expected['PCKh@0.7'] = 'head/PCKh'
    if kind == 'JhmdbDataset':
        metrics['jhmdb'] = dict(
            type='JhmdbPCKAccuracy', thr=0.2, norm_item=['bbox', 'torso'])
        expected['tPCK@0.2'] = 'jhmdb/tPCK'
    scalars, evaluated = validate(loader, evaluator_of(dataset, metrics))
    for measure, name in expected.items():
        if measure == 'normalized_error' and dataset.metainfo[
                'num_keypoints'] > 30:
            continue  # The mean of its means.
        assert evaluated[name] > 0
        assert mean_of(scalars, measure, dataset) == pytest.approx(
            evaluated[name], rel=1e-6, abs=1e-6), measure


def run(work_dir, dataset, evaluator):
    """The events of a real validation."""
    cfg = runner_cfg(
        work_dir,
        dict(log_val_images=False, hard_samples=0),
        model=dict(type='NoisyPredictions'),
        val_evaluator=evaluator)
    for unused in ('train_cfg', 'train_dataloader', 'optim_wrapper'):
        cfg.pop(unused)
    cfg['val_dataloader']['dataset'] = dataset
    runner = Runner(**cfg)
    runner.val()
    return runner.val_dataloader.dataset, read_run(work_dir)


@MODELS.register_module(force=True)
class NoisyPredictions(KnownTopdown):

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return predict(data_samples)


def scalar(events, tag):
    event, = events.Scalars(f'val/{tag}')
    assert event.value > 0
    return event.value


def written(events):
    return {tag: value for (tag, _), value in keypoint_scalars(events).items()}


def test_pckh_of_mpii(tmp_path):
    """In percent, with pixels from 1, without the pelvis and the thorax."""
    dataset, events = run(tmp_path / 'run',
                          write_dataset('MpiiDataset', tmp_path, count=40),
                          dict(type='MpiiPCKAccuracy', prefix='mpii'))
    scalars = written(events)
    for part, keypoints in dict(
            Head=['head_top'], Wrist=['left_wrist', 'right_wrist']).items():
        assert np.mean([
            scalars[f'keypoints/PCKh@0.5/{name}'] for name in keypoints
        ]) == pytest.approx(
            scalar(events, f'mpii/{part} PCK'), abs=1e-4)
    names = set(dataset.metainfo['keypoint_name2id']) - {'pelvis', 'thorax'}
    assert mean_of(scalars, 'PCKh@0.5', dataset, names) == pytest.approx(
        scalar(events, 'mpii/PCK'), abs=1e-4)


def test_tpck_of_jhmdb(tmp_path):
    dataset, events = run(
        tmp_path / 'run', write_dataset('JhmdbDataset', tmp_path, count=20),
        dict(
            type='JhmdbPCKAccuracy',
            thr=0.2,
            norm_item=['bbox', 'torso'],
            prefix='jhmdb'))
    scalars = written(events)
    for measure in ('PCK', 'tPCK'):
        assert mean_of(scalars, f'{measure}@0.2', dataset) == pytest.approx(
            scalar(events, f'jhmdb/{measure}'), abs=1e-6)
    assert scalars['keypoints/tPCK@0.2/head'] == pytest.approx(
        scalar(events, 'jhmdb/Head tPCK'))


@pytest.mark.parametrize(
    'kind', ['WFLWDataset', 'Face300WDataset', 'COFWDataset', 'LapaDataset'])
def test_nme_of_faces_by_the_distance_of_the_eyes(kind, tmp_path):
    """With the keypoints that the metric takes for this data set."""
    loader = loader_of(write_dataset(kind, tmp_path, count=9))
    scalars, evaluated = validate(
        loader, evaluator_of(loader.dataset, dict(face=EYES)))
    assert evaluated['face/NME'] > 0
    assert mean_of(scalars, 'NME', loader.dataset) == pytest.approx(
        evaluated['face/NME'], rel=1e-6)


@pytest.mark.parametrize('kind, metrics, expected', [
    ('OneHand10KDataset',
     [dict(type='PCKAccuracy', thr=0.1),
      dict(type='AUC'),
      dict(type='EPE')], {
          'PCK@0.1': 'PCK',
          'AUC': 'AUC',
          'EPE': 'EPE'
      }),
    ('InterHand3DDataset', [dict(type='InterHandMetric')], {
        'MPJPE': 'MPJPE_all'
    }),
    ('CocoDataset', [
        dict(
            type='KeypointPartitionMetric',
            metric=BOX,
            partitions=dict(legs=[13, 14, 15, 16], all=list(range(17))))
    ], {
        'NME': 'all/NME'
    }),
])
def test_a_real_validation(kind, metrics, expected, tmp_path):
    dataset, events = run(tmp_path / 'run', write_dataset(kind, tmp_path),
                          metrics)
    for measure, name in expected.items():
        assert mean_of(written(events), measure, dataset) == pytest.approx(
            scalar(events, name), rel=1e-6), measure


def test_a_real_validation_of_whole_bodies(tmp_path, evaluations):
    cfg = write_dataset('CocoWholeBodyDataset', tmp_path)
    dataset, events = run(
        tmp_path / 'run', cfg,
        dict(
            type='CocoWholeBodyMetric',
            ann_file=cfg['ann_file'],
            nms_mode='none'))
    oks, = events.Scalars('instances/OKS')
    similarities, _ = own_similarities(evaluations[-1], dataset)
    assert oks.value == pytest.approx(np.mean(similarities))


@pytest.mark.parametrize('kind', ['PCKAccuracy', 'EPE', 'AUC', 'NME'])
def test_a_partitioned_metric(kind, tmp_path):
    """Each keypoint counts once; the mean of a part is that of its own."""
    metric = dict(PCKAccuracy=dict(type=kind, thr=0.1), NME=BOX)
    parts = dict(head=[0, 1, 2, 3, 4], ears=[3, 4], arms=[7, 8, 9, 10])
    loader = loader_of(write_dataset('CocoDataset', tmp_path, count=9))
    evaluator = Evaluator(
        dict(
            type='KeypointPartitionMetric',
            metric=metric.get(kind, dict(type=kind)),
            partitions=parts))
    evaluator.dataset_meta = meta = loader.dataset.metainfo
    scalars, evaluated = validate(loader, evaluator)
    measure, key = ('PCK@0.1', 'PCK') if kind == 'PCKAccuracy' else (kind,
                                                                     kind)
    for part, indices in parts.items():
        names = {meta['keypoint_id2name'][i] for i in indices}
        if kind in ('PCKAccuracy', 'AUC'):
            mean = np.mean(
                [scalars[f'keypoints/{measure}/{name}'] for name in names])
        else:
            mean = mean_of(scalars, measure, loader.dataset, names)
        assert mean == pytest.approx(evaluated[f'{part}/{key}'], rel=1e-6)
    assert len([t for t in scalars if f'/{measure}/' in t]) == 9


def test_a_keypoint_of_several_parts_counts_once(tmp_path):
    """So that a curve of a body part is the metric's number of it."""
    loader = loader_of(write_dataset('HalpeDataset', tmp_path))
    names = loader.dataset.metainfo['keypoint_id2name']
    body = keypoint_parts([names[i] for i in range(136)])['body']
    parts = dict(wrists=[9, 10], all=list(range(136)), body=body)
    evaluator = Evaluator(
        dict(
            type='KeypointPartitionMetric',
            metric=dict(type='EPE'),
            partitions=parts))
    evaluator.dataset_meta = loader.dataset.metainfo
    scalars, evaluated = validate(loader, evaluator)
    assert scalars['keypoints/EPE/body'] == pytest.approx(
        evaluated['body/EPE'], rel=1e-6)


def test_a_partitioned_metric_of_a_data_set_without_metainfo(tmp_path):
    loader = loader_of(write_dataset('CocoDataset', tmp_path))
    evaluator = Evaluator(
        dict(
            type='KeypointPartitionMetric',
            metric=dict(type='EPE'),
            partitions=dict(ends=[0, 16])))
    measures = EvaluatorMeasures(evaluator)
    assert measures.names == ['EPE']
    for batch in loader:
        outputs = predict(batch['data_samples'])
        evaluator.process(data_samples=outputs, data_batch=batch)
        measures.read(outputs, len(outputs))
    evaluated = evaluator.evaluate(len(loader.dataset))
    sums = measures.sums[None, 'EPE']
    assert sums.shape == (2, 17)
    assert mean_over('EPE', sums) == pytest.approx(evaluated['ends/EPE'])


def test_a_metric_of_each_of_several_data_sets(tmp_path):
    """In the measure of each, and never added up."""
    kinds = dict(OneHand10KDataset='onehand10k', FreiHandDataset='freihand')
    datasets = [write_dataset(kind, tmp_path, count=7) for kind in kinds]
    parts = [loader_of(cfg).dataset for cfg in datasets]
    combined = loader_of(
        dict(
            type='CombinedDataset',
            metainfo=dict(from_file='configs/_base_/datasets/onehand10k.py'),
            datasets=datasets,
            pipeline=[dict(type='KeepPacked')],
            test_mode=True))
    evaluator = MultiDatasetEvaluator(
        [dict(type='AUC', prefix='a'),
         dict(type='EPE', prefix='b')], datasets)
    evaluator.dataset_meta = combined.dataset.metainfo
    scalars, evaluated = validate(combined, evaluator)
    for name, measure, key, part in zip(kinds.values(), ('AUC', 'EPE'), 'ab',
                                        parts):
        own = {
            tag.replace(f'{name}/', ''): value
            for tag, value in scalars.items() if f'/{name}/' in tag
        }
        assert mean_of(own, measure, part) == pytest.approx(
            evaluated[f'{key}/{measure}'], rel=1e-6)
    assert not any(
        tag.startswith(('keypoints/AUC', 'keypoints/EPE')) for tag in scalars)


def test_a_repeated_sample_counts_once(tmp_path):
    """A sampler makes the shares equal: 2 processes, 5 samples."""
    loader = loader_of(write_dataset('OneHand10KDataset', tmp_path, count=5))
    metrics = dict(epe=dict(type='EPE'), auc=dict(type='AUC'))
    dataset = loader.dataset
    scalars, _ = validate(loader, evaluator_of(dataset, metrics))
    ranks = []
    for rank in range(2):
        share = [dataset[i] for i in (0, 1, 2, 3, 4, 0)[rank::2]]
        batches = Batches(
            [pseudo_collate(share[:1]),
             pseudo_collate(share[1:])])
        batches.dataset = dataset
        batches.sampler = DefaultSampler(dataset, shuffle=False)
        batches.sampler.rank, batches.sampler.world_size = rank, 2
        ranks.append(read(batches, evaluator_of(dataset, metrics)))
    results = [monitor.rank_results() for monitor, _ in ranks]
    assert written_by(*ranks[0], results) == pytest.approx(scalars)


class Batches(list):
    """In place of a loader."""


@METRICS.register_module(force=True)
class OwnPCK(METRICS.get('PCKAccuracy')):
    """A metric of the user's own, which collects something else."""

    def process(self, data_batch, data_samples):
        self.results += [dict(number=1.) for _ in data_samples]

    def compute_metrics(self, results):
        return dict(own=len(results))


def test_a_metric_that_collects_something_else(tmp_path):
    loader = loader_of(write_dataset('OneHand10KDataset', tmp_path))
    evaluator = evaluator_of(
        loader.dataset,
        dict(own=dict(type='OwnPCK', thr=0.3), epe=dict(type='EPE')))
    scalars, evaluated = validate(loader, evaluator)
    assert evaluated['own/own'] == 6
    assert not any('PCK@0.3' in tag for tag in scalars)
    assert mean_of(scalars, 'EPE',
                   loader.dataset) == pytest.approx(evaluated['epe/EPE'])


def test_a_validation_that_was_broken_off_does_not_count(tmp_path):
    loader = loader_of(write_dataset('OneHand10KDataset', tmp_path))
    evaluator = evaluator_of(loader.dataset, dict(epe=dict(type='EPE')))
    batch = next(iter(loader))
    samples = predict(batch['data_samples'])
    for sample in samples:
        sample.pred_instances.keypoints += 1000
    evaluator.process(data_samples=samples, data_batch=batch)
    scalars, _ = validate(loader, evaluator)
    again, evaluated = validate(loader, evaluator)
    assert scalars == again
    assert mean_of(scalars, 'EPE',
                   loader.dataset) == pytest.approx(evaluated['epe/EPE'])


def test_a_prediction_that_is_not_finite(tmp_path):
    """A miss; it has no error."""
    loader = loader_of(write_dataset('OneHand10KDataset', tmp_path))
    evaluator = evaluator_of(
        loader.dataset,
        dict(epe=dict(type='EPE'), pck=dict(type='PCKAccuracy', thr=1e9)))

    batches = Batches(loader)
    batches[0]['data_samples'][0].prediction[0, 3] = np.nan
    batches.dataset, batches.sampler = loader.dataset, loader.sampler
    visible = sum(s.gt_instances.keypoints_visible[0, 3] for batch in loader
                  for s in batch['data_samples'])
    scalars, evaluated = validate(batches, evaluator)
    assert np.isnan(evaluated['epe/EPE'])
    name = loader.dataset.metainfo['keypoint_id2name'][3]
    assert np.isfinite(scalars[f'keypoints/EPE/{name}'])
    assert scalars[f'keypoints/PCK@1e+09/{name}'] == pytest.approx(1 -
                                                                   1 / visible)


def own_similarities(evaluation, dataset, first=0):
    """By COCO's evaluation, that of each instance to its own prediction.

    Returns:
        tuple[list, list]: These, and how many keypoints they are the mean of.
    """
    # That of CrowdPose ends with the hardest images.
    evaluation.params.imgIds = sorted(evaluation.cocoGt.getImgIds())
    evaluation.evaluate()
    similarities, counts = [], []
    for i in range(len(dataset)):
        sample = dataset[i]['data_samples']
        point = sample.prediction[0, first].tolist()
        for key, gts in evaluation._gts.items():
            columns = [gt['id'] for gt in gts]
            if sample.id not in columns:
                continue
            # In the order of their scores, as in the matrix.
            dts = sorted(
                evaluation._dts[key], key=lambda dt: -dt[evaluation.score_key])
            row, = [
                j for j, dt in enumerate(dts)
                if np.allclose(dt['keypoints'][:2], point)
            ]
            similarities.append(evaluation.ious[key][row,
                                                     columns.index(sample.id)])
            counts.append(
                sum(v > 0
                    for v in gts[columns.index(sample.id)]['keypoints'][2::3]))
    assert len(similarities) == len(dataset)
    return similarities, counts


@pytest.mark.parametrize('kind, metric', [
    ('CocoDataset', dict(type='CocoMetric')),
    ('CocoDataset', dict(type='CocoMetric', use_area=False)),
    ('AP10KDataset', dict(type='CocoMetric')),
    ('CrowdPoseDataset', dict(type='CocoMetric', iou_type='keypoints_crowd')),
    ('ExlposeDataset', dict(type='CocoMetric')),
    ('HumanArt21Dataset', dict(type='CocoMetric')),
    ('AicDataset', dict(type='CocoMetric')),
    ('OCHumanDataset', dict(type='CocoMetric')),
    ('AnimalPoseDataset', dict(type='CocoMetric')),
    ('CocoWholeBodyDataset', dict(type='CocoWholeBodyMetric')),
])
def test_oks_of_ground_truth_boxes(kind, metric, tmp_path, evaluations):
    """Of each instance that of COCO's evaluation, of a whole body of all."""
    cfg = write_dataset(kind, tmp_path)
    loader = loader_of(cfg)
    metric = dict(metric, ann_file=cfg['ann_file'], nms_mode='none')
    scalars, _ = validate(loader, evaluator_of(loader.dataset, dict(a=metric)))
    similarities, _ = own_similarities(evaluations[-1], loader.dataset)
    assert 0.05 < np.mean(similarities) < 0.99
    assert scalars['instances/OKS'] == pytest.approx(np.mean(similarities))


@pytest.mark.parametrize('use_area', [True, False])
def test_oks_of_a_partition(use_area, tmp_path, evaluations):
    loader = loader_of(write_dataset('CocoDataset', tmp_path, count=9))
    # Else each metric takes the annotations of all keypoints from there.
    MessageHub.get_current_instance().update_info('coco_ann_file', None)
    parts = dict(head=[0, 1, 2, 3, 4], arms=[7, 8, 9, 10])
    evaluator = Evaluator(
        dict(
            type='KeypointPartitionMetric',
            metric=dict(
                type='CocoMetric',
                nms_mode='none',
                score_mode='bbox',
                use_area=use_area),
            partitions=parts))
    evaluator.dataset_meta = meta = loader.dataset.metainfo
    scalars, _ = validate(loader, evaluator)
    for evaluation, indices in zip(evaluations, parts.values()):
        names = {meta['keypoint_id2name'][i] for i in indices}
        similarities, counts = own_similarities(evaluation, loader.dataset,
                                                indices[0])
        assert 0.05 < np.mean(similarities) < 0.99
        assert mean_of(scalars, 'OKS', loader.dataset, names) == pytest.approx(
            np.average(similarities, weights=counts))


def test_poses_in_3d_beside_keypoints_in_the_image(tmp_path):
    """Of models that do not lift, but predict both."""
    loader = loader_of(write_dataset('OneHand10KDataset', tmp_path))
    rng = np.random.default_rng(0)
    batches = Batches(loader)
    batches.dataset, batches.sampler = loader.dataset, loader.sampler
    for batch in batches:
        for sample in batch['data_samples']:
            points = sample.gt_instances.keypoints
            sample.gt_instances.lifting_target = rng.normal(size=(1, 21, 3))
            sample.gt_instances.lifting_target_visible = np.ones((1, 21))
            sample.set_metainfo(
                dict(
                    prediction=rng.normal(size=(1, 21, 3)),
                    in_image=(points + 1).astype(np.float32)))
    metrics = {
        mode: dict(type='SimpleMPJPE', mode=mode)
        for mode in ('mpjpe', 'p-mpjpe', 'n-mpjpe')
    }
    scalars, evaluated = validate(batches,
                                  evaluator_of(loader.dataset, metrics))
    for mode in metrics:
        name = mode.upper()
        values = [v for t, v in scalars.items() if f'/{name}/' in t]
        assert len(values) == 21
        assert np.mean(values) == pytest.approx(evaluated[f'{mode}/{name}'])
    # What is drawn and compared in pixels is in the image: a pixel off each.
    errors = [v for t, v in scalars.items() if '/normalized_error/' in t]
    assert len(errors) == 21 and max(errors) < 0.02
