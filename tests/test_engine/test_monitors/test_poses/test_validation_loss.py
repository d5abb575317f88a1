# Copyright (c) OpenMMLab. All rights reserved.
"""Trainings of real models whose loss of the validation is logged.

What is logged is compared with what the model returns for the same samples
after the training, in pipelines that are written out.
"""
import copy
import json
import logging

import numpy as np
import pytest
import torch
from loss_families import (BATCH_SIZE, MODELS_OF, data_of, hook, pipelines_of,
                           settings_of)
from mmengine.dataset import pseudo_collate
from mmengine.hooks import EMAHook
from mmengine.logging import MessageHub, MMLogger
from mmengine.runner import Runner
from painted_people import paint_data_set
from test_lifting import CONFIGS, synthetic_h36m, upstream

from mmpose.engine.monitors import ValidationLossMonitor
from mmpose.evaluation.functional.nms import oks_iou
from mmpose.models import TopdownPoseEstimator
from mmpose.registry import DATASETS, METRICS, MODELS
from mmpose.utils import register_all_modules


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Painted images of a training and of a validation."""
    folders = {}
    for seed, name in enumerate(('train', 'val')):
        folders[name] = tmp_path_factory.mktemp(name)
        # Square, so that an expanded image is one that fits.
        paint_data_set(folders[name], num_images=6, size=(128, 128), seed=seed)
    return folders


def direct_losses(model, dataset, batch_size=BATCH_SIZE):
    """The means of the losses that a model returns for all samples."""
    model.eval()
    for name, module in model.named_modules():
        if type(module).__name__ == 'RTMOHeadModule':
            module.training = True  # It decides which outputs there are.
    dataset = DATASETS.build(dataset)
    samples = [dataset[i] for i in range(len(dataset))]
    sums = {}
    for i in range(0, len(samples), batch_size):
        batch = samples[i:i + batch_size]
        torch.manual_seed(0)
        with torch.no_grad():
            data = model.data_preprocessor(pseudo_collate(batch), False)
            losses = model(**data, mode='loss')
        losses = {k: float(v.mean()) for k, v in losses.items() if 'loss' in k}
        losses['loss'] = sum(losses.values())
        for name, value in losses.items():
            sums[name] = sums.get(name, 0) + value * len(batch)
    return {name: value / len(samples) for name, value in sums.items()}


@pytest.fixture
def logged(read_events):
    """A function that reads the losses of a run, by prefix and name."""

    def read(runner, prefix):
        found = {}
        for event in read_events(
                f'{runner.work_dir}/{runner.timestamp}/vis_data'):
            for value in event.summary.value:
                if value.tag.startswith(f'{prefix}/') and 'loss' in value.tag:
                    name = value.tag[len(prefix) + 1:]
                    found.setdefault(
                        name,
                        []).append(value.tensor.float_val[0] if value.tensor.
                                   float_val else value.simple_value)
        return found

    return read


@pytest.mark.parametrize('family', MODELS_OF)
def test_it_is_the_loss_of_the_same_samples(family, train, folders, logged,
                                            monkeypatch):
    """P8, of every family of heads."""
    if family == 'cid':  # Its codec draws where a centre is.
        monkeypatch.setattr(np.random, 'randint',
                            lambda low, high, size: np.zeros(size, int))
    runner = train(hook(), **settings_of(family, folders))
    pipeline = pipelines_of(family)[2]
    for prefix, name in ('val', 'val'), ('train_as_val', 'train'):
        expected = direct_losses(runner.model,
                                 data_of(folders[name], pipeline, family))
        if len(expected) == 2:  # One term is the loss itself.
            expected = dict(loss=expected['loss'])
        found = {k: v[-1] for k, v in logged(runner, prefix).items()}
        assert found == pytest.approx(expected, rel=1e-6), prefix


@pytest.fixture(scope='module')
def sequences(tmp_path_factory):
    """Poses of which a lifter is given several frames."""
    root = tmp_path_factory.mktemp('lifted')
    synthetic_h36m.generate_dataset(root, num_sequences=2, num_frames=40)
    return root


@pytest.mark.parametrize('name', CONFIGS)
def test_it_is_the_loss_of_a_lifter(name, sequences, tmp_path, logged):
    """P8: its validation has targets, and its training is flipped."""
    register_all_modules()
    cfg = upstream(name, sequences, tmp_path)
    cfg.custom_hooks = [
        dict(type='EnhancedTensorBoardHook', strict=True, **hook())
    ]
    runner = Runner.from_cfg(cfg)
    runner.train()
    for prefix, kind in ('val', 'val'), ('train_as_val', 'train'):
        dataset = copy.deepcopy(cfg[f'{kind}_dataloader'].dataset)
        dataset.pipeline = cfg.val_dataloader.dataset.pipeline
        batch_size = cfg.train_dataloader.batch_size
        expected = direct_losses(runner.model, dataset, batch_size)['loss']
        found = logged(runner, prefix)['loss']
        assert len(found) == 2
        assert found[-1] == pytest.approx(expected, rel=1e-6), prefix


def direct_loss(runner, folders, name='val', **kwargs):
    """The loss of the samples that a top-down model validates."""
    dataset = data_of(folders[name],
                      pipelines_of('heatmap')[2], 'heatmap', **kwargs)
    return direct_losses(runner.model, dataset)['loss']


@MODELS.register_module(force=True)
class KeepsState(TopdownPoseEstimator):
    """Its loss counts, draws, logs and spoils its samples."""
    calls, flag = 0, False

    def loss(self, inputs, data_samples):
        losses = super().loss(inputs, data_samples)
        self.calls += 1
        self.flag = not self.flag
        self.own = np.random.rand()
        hub = MessageHub.get_current_instance()
        hub.update_scalar('train/own', float(np.random.rand()))
        hub.update_info('calls', self.calls)
        for sample in data_samples:
            sample.gt_fields.heatmaps.zero_()
        return losses


@pytest.mark.parametrize('num_workers', [0, 1])
def test_the_training_is_the_same_bit_for_bit(num_workers, train, folders,
                                              logged):
    """P1, with a loss that keeps state, over two epochs."""
    ends = []
    for samples in (0, 64):
        cfg = settings_of(
            'heatmap',
            folders,
            train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1))
        cfg['model']['type'] = 'KeepsState'
        cfg['val_dataloader']['num_workers'] = num_workers
        runner = train(hook(val_loss_samples=samples), **cfg)
        ends.append([
            *(w.tolist() for w in runner.model.state_dict().values()),
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),
            [m.training for m in runner.model.modules()],
            runner.model.calls,
            runner.model.flag,
            runner.message_hub.get_info('calls'),
            runner.message_hub.get_scalar('train/own').data[0].tolist(),
        ])
    assert len(logged(runner, 'val')['loss']) == 2
    assert ends[0] == ends[1]


def test_it_is_the_loss_of_the_ema_model(train, folders, logged):
    runner = train(
        hook(),
        **settings_of(
            'heatmap',
            folders,
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=1.)),
            custom_hooks=[dict(type='EMAHook', momentum=0.1)]))
    found = logged(runner, 'val')['loss'][-1]
    own = direct_loss(runner, folders)
    ema, = (h.ema_model for h in runner.hooks if isinstance(h, EMAHook))
    runner.model.load_state_dict(ema.module.state_dict())
    assert found == pytest.approx(direct_loss(runner, folders), rel=1e-6)
    assert found != pytest.approx(own, rel=1e-3)


def test_the_annotated_boxes_take_the_place_of_a_detectors(
        train, folders, logged, tmp_path):
    boxes = [
        dict(image_id=i, category_id=1, bbox=[1, 2, 60, 70], score=0.9)
        for i in range(1, 7)
    ]
    (tmp_path / 'boxes.json').write_text(json.dumps(boxes))
    cfg = settings_of('heatmap', folders)
    cfg['val_dataloader']['dataset'].update(
        bbox_file=str(tmp_path / 'boxes.json'))
    runner = train(hook(), **cfg)
    assert logged(runner, 'val')['loss'][-1] == pytest.approx(
        direct_loss(runner, folders), rel=1e-6)


def test_a_metric_keeps_its_name(train, folders, logged):
    runner = train(
        hook(),
        **settings_of(
            'heatmap',
            folders,
            val_evaluator=dict(type='NoMetric', names=['loss'])))
    assert logged(runner, 'val')['loss'] == [77]
    assert len(logged(runner, 'train_as_val')['loss']) == 1


@pytest.fixture
def lines():
    """The lines of the log that say why there is no loss."""
    found = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: found.append(record.getMessage())

    def take(run):
        logger = MMLogger.get_current_instance()
        logger.addHandler(handler)
        run()
        logger.removeHandler(handler)
        return [line for line in found if 'writes no' in line]

    return take


NO_TARGETS = 'the training pipeline has no GenerateTarget'


@pytest.mark.parametrize('left_out, reason', [
    ('GenerateTarget', NO_TARGETS),
    ('TopdownAffine', 'has neither TopdownAffine nor BottomupResize'),
    ('PackPoseInputs', 'has no PackPoseInputs'),
])
def test_where_there_are_no_targets_a_line_says_why(left_out, reason, folders):
    from mmpose.engine.monitors.poses.validation_loss.targets import (
        NoTargetsError, with_targets)
    register_all_modules()
    train, val, _ = pipelines_of('heatmap')
    built = []
    for pipeline in train, val:
        pipeline = [step for step in pipeline if step['type'] != left_out]
        cfg = data_of(folders['train'], pipeline, 'heatmap')
        built.append(DATASETS.build(cfg).pipeline.transforms)
    with pytest.raises(NoTargetsError, match=reason):
        with_targets(built[1], built[0])


def test_a_model_without_a_loss_in_evaluation_mode_says_so(
        train, folders, lines, logged, runner_cfg, monkeypatch):
    cfg = settings_of('heatmap', folders)
    loss = TopdownPoseEstimator.loss

    def in_training(self, *args):
        if not self.training:
            raise RuntimeError('no loss in evaluation mode\nand so on')
        return loss(self, *args)

    monkeypatch.setattr(TopdownPoseEstimator, 'loss', in_training)
    runner = Runner(**runner_cfg(hook(), **cfg))
    said = lines(runner.train)
    assert len(said) == 2
    assert said[0].endswith(
        'writes no val/loss: RuntimeError: no loss in evaluation mode.')
    assert logged(runner, 'val') == {}


def test_a_sharded_model_says_so(folders, lines, logged, runner_cfg,
                                 monkeypatch):
    from mmpose.engine.monitors.poses.validation_loss import validation_loss
    monkeypatch.setattr(validation_loss, 'needs_all_ranks', lambda model: True)
    runner = Runner(**runner_cfg(hook(), **settings_of('heatmap', folders)))
    line, = lines(runner.train)
    assert 'takes all ranks' in line and logged(runner, 'val') == {}


def similarity(sample, keypoints=slice(None)):
    """MMPose's own OKS of a predicted sample, or KS of one keypoint."""
    truth, predicted = (
        np.c_[part.keypoints[0], np.zeros(17)]
        for part in (sample.gt_instances, sample.pred_instances))
    predicted[:, 2] = 1
    truth[keypoints, 2] = sample.gt_instances.keypoints_visible[0, keypoints]
    oks, = oks_iou(
        truth.ravel(),
        predicted.reshape(1, -1),
        sample.area, [sample.area],
        sample.sigmas,
        vis_thr=0.5)
    return oks if truth[:, 2].any() else np.nan


def test_the_accuracy_of_the_same_training_samples(train, folders,
                                                   read_events):
    """P8: as MMPose's own functions count them."""
    cfg = settings_of('heatmap', folders)
    runner = train(hook(log_details=True), **cfg)
    dataset = data_of(folders['train'], pipelines_of('heatmap')[1], 'heatmap')
    found = {}
    for event in read_events(f'{runner.work_dir}/{runner.timestamp}/vis_data'):
        for value in event.summary.value:
            if value.tag.startswith('keypoints/train_as_val/'):
                measure, _, name = value.tag[23:].partition('/')
                found.setdefault(measure, {})[name] = (
                    value.tensor.float_val[0]
                    if value.tensor.float_val else value.simple_value)
    runner.model.eval()
    metric = METRICS.build(
        dict(type='PCKAccuracy', thr=0.05, norm_item='bbox'))
    built = DATASETS.build(dataset)
    content = json.loads((folders['train'] / 'people.json').read_text())
    areas = {one['id']: one['area'] for one in content['annotations']}
    predicted = []
    with torch.no_grad():
        for i in range(len(built)):
            data = pseudo_collate([built[i]])
            outputs = runner.model.val_step(data)
            metric.process(data, [one.to_dict() for one in outputs])
            outputs[0].set_metainfo(
                dict(
                    area=areas[outputs[0].id],
                    sigmas=built.metainfo['sigmas']))
            predicted += outputs
    # The metric's is a mean over keypoints of means; each has its own here.
    expected = metric.evaluate(len(built))['PCK']
    pck, ks = found['PCK@0.05'], found['OKS']
    each = [value for name, value in pck.items() if name]
    assert len(each) == 17
    assert np.mean(each) == pytest.approx(expected, abs=1e-6)
    assert pck[''] == pytest.approx(expected, abs=0.02)
    # The OKS of the instances, and the KS of each keypoint.
    assert ks.pop('') == pytest.approx(
        np.mean(list(map(similarity, predicted))), rel=1e-5)
    names = built.metainfo['keypoint_name2id']
    assert ks.keys() == names.keys()
    for name, index in names.items():
        expected = np.nanmean([similarity(one, index) for one in predicted])
        assert ks[name] == pytest.approx(expected, rel=1e-5, abs=1e-12)


@pytest.fixture
def fixed(monkeypatch):
    """The measurements of fixed samples that a training yields."""
    from mmpose.engine.monitors.poses.validation_loss import validation_loss
    made = []
    kind = validation_loss.FixedLosses

    def remember(*args):
        made.append(kind(*args))
        return made[-1]

    monkeypatch.setattr(validation_loss, 'FixedLosses', remember)
    return made


def test_a_batch_is_compared_as_the_training_prepares_it(
        train, folders, fixed, logged, monkeypatch):
    """By the model that is validated.

    The last one has just been learned.
    """
    batches = []
    before = ValidationLossMonitor.before_train_iter

    def remember(self, runner, batch_idx, data_batch):
        batches.append(copy.deepcopy(data_batch))
        before(self, runner, batch_idx, data_batch)

    monkeypatch.setattr(ValidationLossMonitor, 'before_train_iter', remember)
    cfg = settings_of(
        'heatmap',
        folders,
        train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1))
    cfg['model']['type'] = 'KeepsState'  # It spoils its samples.
    runner = train(hook(), **cfg)
    runner.model.eval()
    with torch.no_grad():
        data = runner.model.data_preprocessor(batches[3], False)
        expected = runner.model(**data, mode='loss')
    loss, accuracy = expected['loss_kpt'], expected['acc_pose']
    assert fixed[-1].batch == pytest.approx(float(loss), rel=1e-6)
    assert fixed[-1].batch_accuracy == pytest.approx(float(accuracy))
    assert fixed[-1].iteration == 6
    for name in 'val', 'train_as_val':
        value = logged(runner, name)['loss'][-1]
        own = dict(val=fixed[-1].validation, train_as_val=fixed[-1].training)
        assert own[name] == pytest.approx(value)
