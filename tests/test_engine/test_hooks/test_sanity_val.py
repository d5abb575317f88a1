# Copyright (c) OpenMMLab. All rights reserved.
"""A few validation batches before the training."""
import copy
import json

import pytest
from test_enhanced_tensorboard_hook import final_state
from test_planted_settings import data, findings  # noqa: F401, a fixture
from test_planted_settings import train as train_people
from test_planted_training_illness import WATCH

from mmpose.evaluation.metrics import PCKAccuracy
from mmpose.registry import METRICS

NOTHING = dict(WATCH, log_health=True, log_val_images=True, max_val_images=3)
ONE_EPOCH = dict(train_cfg=dict(by_epoch=True, max_epochs=1, val_interval=1))


@METRICS.register_module(force=True)
class CountedPCK(PCKAccuracy):
    """Remembers how often it was asked, and for how many samples."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.evaluated = 0
        self.sizes = []

    def compute_metrics(self, results):
        self.evaluated += 1
        self.sizes.append(len(results))
        return super().compute_metrics(results)


def noisy(runner_cfg):
    """A validation whose data set draws random numbers, in any order."""
    loader = copy.deepcopy(runner_cfg()['val_dataloader'])
    loader['dataset']['noise'] = True
    loader['sampler']['shuffle'] = True
    return loader


def test_it_is_neutral(train, runner_cfg, read_events):
    """P1, with augmentation in the validation and a metric with a state."""
    cfg = dict(
        ONE_EPOCH,
        custom_hooks=[dict(type='Witness')],
        val_dataloader=noisy(runner_cfg),
        val_evaluator=dict(type='CountedPCK', thr=0.5))
    plain, watched = (
        train(hook, **copy.deepcopy(cfg))
        for hook in (None, dict(NOTHING, sanity_val=2)))
    assert final_state(plain) == final_state(watched)
    for runner in (plain, watched):
        metric, = runner.val_evaluator.metrics
        assert (metric.evaluated, metric.sizes) == (1, [16])
        assert not metric.results
    events = read_events(watched)
    steps = [e.step for e in events.Tensors('val/images')]
    # Before the training, and after its epoch.
    assert steps == [0, 1]
    assert not [t for t in events.Tags()['scalars'] if 'finding/' in t]


def test_it_is_off_by_default(train, read_events):
    events = read_events(train(NOTHING, **copy.deepcopy(ONE_EPOCH)))
    assert [e.step for e in events.Tensors('val/images')] == [1]


def test_a_resumed_training_has_none(train, read_events):
    first = train(
        None,
        default_hooks=dict(checkpoint=dict(type='CheckpointHook')),
        **copy.deepcopy(ONE_EPOCH))
    runner = train(
        dict(NOTHING, sanity_val=2),
        resume=True,
        load_from=f'{first.work_dir}/epoch_1.pth',
        train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1))
    events = read_events(runner)
    assert [e.step for e in events.Tensors('val/images')] == [2]


@METRICS.register_module(force=True)
class FailingMetric(PCKAccuracy):

    def compute_metrics(self, results):
        raise KeyError('areas')


def test_an_evaluation_that_fails_is_known_before_the_training(train):
    runner = train(
        dict(NOTHING, sanity_val=1),
        train_cfg=dict(
            by_epoch=True, max_epochs=1, val_interval=1, val_begin=5),
        val_evaluator=dict(type='FailingMetric', thr=0.5))
    line, = findings(runner, 1)
    assert "Evaluating fails with KeyError: 'areas'" in line
    assert '4 samples were predicted' in line


def changed(data, folder, change):  # noqa: F811
    """The evaluator's annotations, changed."""
    with open(f'{data}annotations/person_keypoints_val.json') as file:
        content = json.load(file)
    change(content)
    path = folder / 'evaluated.json'
    path.write_text(json.dumps(content))
    return str(path)


def no_areas(content):
    for annotation in content['annotations']:
        annotation['area'] = 0


def no_keypoints(content):
    for annotation in content['annotations']:
        annotation.update(num_keypoints=0, keypoints=[0] * 51)


def other_images(content):
    for image in content['images']:
        image['id'] += 1000
    for annotation in content['annotations']:
        annotation['image_id'] += 1000


@pytest.mark.parametrize('change, words', [
    (no_areas, ('no area above 0', 'use_area=False')),
    (no_keypoints, ('AP is -1', )),
    (other_images, ('does not know', 'not in its ann_file')),
])
def test_what_is_wrong_with_the_evaluation(
        data,  # noqa: F811
        tmp_path,
        change,
        words):
    """P9, with COCO's evaluation."""
    runner, error = train_people(
        data,
        tmp_path,
        val_evaluator__ann_file=changed(data, tmp_path, change),
        default_hooks__enhanced_tensorboard__sanity_val=2)
    assert not error
    line, = findings(runner, 1)
    assert 'The validation goes wrong' in line
    for word in words:
        assert word in line


def test_nothing_is_wrong_with_the_people(data, tmp_path):  # noqa: F811
    runner, error = train_people(
        data, tmp_path, default_hooks__enhanced_tensorboard__sanity_val=2)
    assert not error and not findings(runner, 0)
