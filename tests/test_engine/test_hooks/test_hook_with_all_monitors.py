# Copyright (c) OpenMMLab. All rights reserved.
"""What the hook writes and refuses where all of its monitors are there."""
from types import SimpleNamespace

import pytest
from mmengine.runner import Runner
from test_enhanced_tensorboard_hook import (EVERY_ITER, hook_of, messages,
                                            scalars)

from mmpose.engine.hooks import EnhancedTensorBoardHook
from mmpose.engine.monitors.core.layer_groups import (layer_groups,
                                                      named_parameters)
from mmpose.engine.monitors.run import telemetry
from mmpose.registry import HOOKS

# What the report says comes from these, which no test imports.
NEEDS = ('HealthMonitor', 'NonfiniteDetector', 'NonfiniteLossDetector')


def test_the_model_is_counted_once(runner_cfg, read_events):
    runner = Runner(**runner_cfg(dict()))
    runner.model.backbone.conv1.weight.requires_grad = False
    runner.train()
    parameters = list(runner.model.parameters())
    total = sum(p.numel() for p in parameters)
    frozen = runner.model.backbone.conv1.weight.numel()
    events = read_events(runner)
    assert scalars(events, 'model/total_parameters') == {0: total}
    assert scalars(events, 'model/trainable_parameters') == {0: total - frozen}
    size = sum(t.numel() * t.element_size()
               for t in [*parameters, *runner.model.buffers()])
    assert scalars(events, 'model/model_size_mb') == {
        0: pytest.approx(size / 1e6)
    }
    table = events.Tensors('model/parameters/text_summary')[0]
    table = table.tensor_proto.string_val[0].decode()
    assert f'{total:,}' in table and 'backbone/layer4' in table


@pytest.mark.parametrize('async_write', [True, False])
def test_the_telemetry(train, read_events, async_write):
    runner = train(
        dict(async_write=async_write, grad_norm_interval=3, log_details=True))
    events = read_events(runner)
    names = [
        monitor.guard.name for monitor in hook_of(runner).monitors
        if monitor.guard.name != 'TelemetryMonitor'
    ]
    total = scalars(events, 'telemetry/overhead_percent')
    assert list(total) == [1, 3, 6, 9, 12]
    parts = [
        scalars(events, f'telemetry/time_percent/{name}') for name in names
    ]
    for step, percent in total.items():
        assert 0 < percent < 100
        assert sum(p[step] for p in parts) == pytest.approx(percent, rel=1e-4)
    assert set(scalars(events,
                       'telemetry/interval/GradientMonitor').values()) == {3}
    assert scalars(events, 'telemetry/bytes_written')[12] > 0
    tags = events.Tags()['scalars']
    assert 'telemetry/queue_depth' in tags
    assert ('telemetry/writer_percent' in tags) == async_write


def test_the_time_of_the_thread_that_writes(monkeypatch):
    """Since the last measurement: half of a second in two is 25 %."""
    now = [100.]
    monkeypatch.setattr(telemetry.time, 'perf_counter', lambda: now[0])
    writer = SimpleNamespace(cpu_seconds=1., queue_depth=0)
    monitor = telemetry.TelemetryMonitor(1, strict=True)
    monitor.peers, monitor.writer = [], writer
    monitor.before_train(None)
    found = []
    monitor.emit = lambda record: found.extend(record.read())
    for seconds, percent in ((0.5, 25), (0.5, 25), (0, 0)):
        now[0] += 2
        writer.cpu_seconds += seconds
        found.clear()
        monitor.after_train_iter(SimpleNamespace(iter=0), 0, None, None)
        value, = [
            s.value for s in found
            if getattr(s, 'tag', '') == 'telemetry/writer_percent'
        ]
        assert value == pytest.approx(percent)


def test_the_tags(train, read_events):
    runner = train(EVERY_ITER)
    tags = read_events(runner).Tags()
    ours = {
        t
        for t in tags['scalars']
        if t.split('/')[0] in ('train', 'val', 'model')
    }
    groups = layer_groups(dict(named_parameters(runner.model)), 20)
    assert ours == {
        'train/gradient_norm/global',
        *(f'train/gradient_norm/layers/{group}' for group in groups),
        'train/learning_rate/lr',
        'val/PCK',
        'val/loss',
        'model/total_parameters',
        'model/trainable_parameters',
        'model/model_size_mb',
        'model/flops',
    }
    assert set(tags['histograms']) == {f'weights/{g}' for g in groups}
    assert 'model/parameters/text_summary' in tags['tensors']


ORIGINAL_ARGUMENTS = dict(
    log_grad_norm=True,
    log_weight_hist=True,
    log_val_metrics=True,
    log_train_images=True,
    log_val_images=True,
    log_lr=True,
    log_model_stats=True,
    grad_norm_interval=100,
    weight_hist_interval=1,
    train_image_interval=500,
    val_image_interval=10,
    max_layers_to_log=20,
    max_train_images=4,
    kpt_thr=0.3,
    backend_args=None)


def test_a_config_of_the_original_hook_is_accepted(train):
    assert len(ORIGINAL_ARGUMENTS) == 15
    runner = train(dict(ORIGINAL_ARGUMENTS))
    hook = hook_of(runner)
    for name, value in ORIGINAL_ARGUMENTS.items():
        assert getattr(hook, name) == value
    assert hook.priority == 'VERY_LOW'


def test_the_defaults_are_the_original_ones():
    hook = EnhancedTensorBoardHook()
    for name, value in ORIGINAL_ARGUMENTS.items():
        assert getattr(hook, name) == value


@pytest.mark.parametrize('arguments, error, words', [
    (dict(log_lr=1), TypeError, ['log_lr', '1', 'True or False']),
    (dict(grad_norm_interval=True), TypeError,
     ['grad_norm_interval', 'True', 'integer']),
    (dict(grad_norm_interval=1.5), TypeError, ['1.5', 'float']),
    (dict(val_image_interval='10'), TypeError, ['val_image_interval', "'10'"]),
    (dict(weight_hist_interval=-1), ValueError,
     ['weight_hist_interval', '-1', 'at least 0']),
    (dict(max_layers_to_log=-2), ValueError,
     ['max_layers_to_log', '-2', 'at least -1']),
    (dict(max_val_images=None), TypeError, ['max_val_images', 'None']),
    (dict(kpt_thr='0.3'), TypeError, ['kpt_thr', "'0.3'"]),
    (dict(kpt_thr=-0.1), ValueError, ['kpt_thr', '-0.1']),
    (dict(backend_args='local'), TypeError, ['backend_args', 'dict']),
    (dict(grad_norm_interval=dict(type='adaptive', start=10)), ValueError,
     ['grad_norm_interval', 'ramp_iters', "'start': 10"]),
    (dict(weight_hist_interval=[1]), TypeError,
     ['weight_hist_interval', '[1]', 'adaptive']),
    (dict(flush_secs=0), ValueError, ['flush_secs', '0', 'above 0']),
    (dict(overhead_budget=1.5), ValueError,
     ['overhead_budget', '1.5', 'between 0 and 1']),
    (dict(on_nonfinite='halt'), ValueError,
     ['on_nonfinite', "'halt'", "'warn', 'stop', 'ignore'"]),
    (dict(on_nonfinite=True), TypeError, ['on_nonfinite', 'True']),
    (dict(on_nonfinite='stop',
          log_health=False), ValueError, ['on_nonfinite', 'log_health=True']),
    (dict(on_nonfinite='stop', grad_norm_interval=0), ValueError,
     ['on_nonfinite', 'grad_norm_interval']),
    (dict(disk_quota=dict(max=3)), ValueError,
     ['disk_quota', "'max': 3", 'max_bytes', 'min_free_bytes']),
    (dict(disk_quota=dict(max_bytes=0)), ValueError,
     ["'max_bytes': 0", 'at least 1 or None']),
    (dict(disk_quota=dict(min_free_bytes=None)), ValueError,
     ['disk_quota', 'min_free_bytes']),
    (dict(preset='quick'), ValueError,
     ['preset', "'quick'", "'fast', 'balanced', 'detailed'"]),
    (dict(preset=1), TypeError, ['preset', '1']),
    (dict(grad_norm_intervall=5), TypeError,
     ['grad_norm_intervall', "mean 'grad_norm_interval'", 'kpt_thr']),
])
def test_a_bad_argument_is_named_with_what_is_allowed(arguments, error, words):
    with pytest.raises(error) as info:
        HOOKS.build(dict(type='EnhancedTensorBoardHook', **arguments))
    for word in words:
        assert word in str(info.value)


def test_that_next_to_nothing_is_looked_at_is_said(train):
    """Else the report that nothing is wrong could be believed."""
    for interval, times in ((0, 1), (5, 0)):
        runner = train(dict(grad_norm_interval=interval))
        said = [
            message for message in messages(runner, 'INFO')
            if 'from validations alone' in message
        ]
        assert len(said) == times
