# Copyright (c) OpenMMLab. All rights reserved.
import re
from types import SimpleNamespace

import pytest
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from mmpose.engine.hooks import EnhancedTensorBoardHook
from mmpose.engine.monitors import scalar_layout
from mmpose.registry import MODELS

NEEDS = ('LiftingMonitor', )
TAG = 'custom_scalars__config__'
FLAGS = ('log_val_metrics', 'log_lr', 'log_grad_norm', 'log_health',
         'log_system', 'log_keypoints')


def layout_of(events):
    """The tags of each chart of each category, as TensorBoard reads them."""
    return {
        category.title:
        {chart.title: list(chart.multiline.tag)
         for chart in category.chart}
        for category in read_layout(events).category
    }


def read_layout(events):
    event, = events.Tensors(TAG)
    return Layout.FromString(event.tensor_proto.string_val[0])


def test_every_chart_of_a_training_has_a_curve(train, read_events):
    """Once in the beginning, with all that the run will write."""
    events = read_events(
        train(
            dict(
                grad_norm_interval=1,
                log_error_kinds=True,
                log_train_images=False,
                log_val_images=False,
                log_details=True,
                hard_samples=0),
            train_cfg=dict(by_epoch=True, max_epochs=1)))
    layout = layout_of(events)
    assert list(layout) == ['Overview', 'Data', 'Keypoints']
    assert list(layout['Overview']) == [
        'loss', 'validation metrics', 'learning rate', 'validation loss',
        'gradient norm', 'update-to-weight ratio', 'samples per second',
        'time of an iteration (ms)'
    ]
    assert list(layout['Keypoints']) == [
        'PCK@0.05', 'OKS', 'PCK@0.2', 'normalized_error', 'PCK@0.5',
        'calibration', 'kinds of error', 'OKS lost by kind of error',
        'OKS by size', 'distance over box size: median, p10 to p90',
        'OKS and its codec ceiling'
    ]
    margin, = [
        series for category in read_layout(events).category
        for chart in category.chart for series in chart.margin.series
    ]
    # A chart of this kind has no patterns.
    assert layout['Keypoints'].pop(
        'distance over box size: median, p10 to p90') == []
    assert [margin.lower, margin.value,
            margin.upper] == [f'keypoints/error_p{p}' for p in (10, 50, 90)]
    assert 'keypoints/error_p90' in events.Tags()['scalars']
    shown = {
        title: {
            tag
            # As TensorBoard matches them.
            for tag in events.Tags()['scalars'] if re.match(pattern, tag)
        }
        for charts in layout.values() for title, (pattern, ) in charts.items()
    }
    assert shown['loss'] == {'loss', 'loss_kpt'}
    assert shown['validation metrics'] == {'val/PCK'}
    # The data set has no pipeline for samples of the training.
    assert shown['validation loss'] == {'val/loss'}
    assert shown['learning rate'] == {'train/learning_rate/lr'}
    assert shown['gradient norm'] == {'train/gradient_norm/global'}
    assert shown['samples per second'] == {'system/samples_per_second'}
    assert shown['time of an iteration (ms)'] == {
        f'time/{part}_ms'
        for part in ('data', 'forward', 'backward', 'optimizer', 'hooks')
    }
    assert 'keypoints/PCK@0.05/keypoint_0' in shown['PCK@0.05']
    assert len(shown['PCK@0.2']) == 17
    assert shown['PCK@0.05'] - {'codec/ceiling/PCK@0.05'} == {
        f'keypoints/PCK@0.05/keypoint_{i}'
        for i in range(17)
    }
    assert len(shown['normalized_error']) == len(shown['PCK@0.5']) == 17
    ratios = shown['update-to-weight ratio']
    assert ratios == {
        tag
        for tag in events.Tags()['scalars']
        if tag.startswith('health/update_ratio')
    }


@pytest.fixture
def charts_of(model_runner):

    def charts(**arguments):
        hook = EnhancedTensorBoardHook(**arguments)
        return scalar_layout(hook.monitors, model_runner).categories

    return charts


@pytest.fixture
def model_runner(runner_cfg):
    return SimpleNamespace(model=MODELS.build(runner_cfg()['model']))


@pytest.mark.parametrize('off', FLAGS)
def test_what_is_not_written_has_no_chart(off, charts_of):
    everything = charts_of()
    less = charts_of(**{off: False})
    if off == 'log_keypoints':
        assert set(everything) - set(less) == {'Keypoints'}
    else:
        assert set(less) == set(everything)
        gone = 2 if off == 'log_system' else 1
        assert len(less['Overview']) == len(everything['Overview']) - gone


def test_a_model_that_lifts_has_other_measures(charts_of, model_runner,
                                               monkeypatch):
    from mmpose.models import pose_estimators
    monkeypatch.setattr(pose_estimators, 'PoseLifter',
                        type(model_runner.model))
    assert charts_of()['Keypoints'] == {
        'MPJPE': ['Multiline', ['^keypoints/MPJPE/']]
    }


def test_nothing_is_written_by_a_hook_that_watches_nothing(train, read_events):
    off = [name for name in FLAGS if name != 'log_keypoints']
    off += [
        'log_keypoints', 'log_weight_hist', 'log_train_images',
        'log_val_images', 'log_model_stats', 'log_run_info', 'log_data'
    ]
    events = read_events(
        train(
            dict(
                dict.fromkeys(off, False), hard_samples=0,
                val_loss_samples=0)))
    assert TAG not in events.Tags()['tensors']
