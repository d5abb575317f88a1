# Copyright (c) OpenMMLab. All rights reserved.
"""The monitors of ``EnhancedTensorBoardHook``, and what to write one with.

A monitor answers events of the training and emits records:

.. code-block:: python

    @MONITORS.register_module()
    class BatchSize(Monitor):
        \"\"\"Log how many samples a batch has.\"\"\"

        def before_train_iter(self, runner, batch_idx, data_batch):
            step = runner.iter + 1
            if self.is_due(step):
                value = Scalar('my/batch_size', len(data_batch['inputs']))
                self.emit(Record(step, lambda: [value]))

and ``monitors=[dict(type='BatchSize', interval=50)]`` among the arguments of
the hook switches it on. The folders: ``core`` is what a monitor is,
``writers`` the way of a record into the event file; ``optimization``,
``poses``, ``run`` and ``health`` are the monitors, one file each.

Names are imported when they are asked for: a config that does not use the
hook does not wait for them.
"""
from importlib import import_module
from typing import Any

_MODULES = {
    'core.arguments': ('Argument', 'Arguments', 'presets'),
    'core.dispatch': ('Dispatcher', ),
    'core.failure_guard': ('FailureGuard', 'StopTraining'),
    'core.monitor': ('Chart', 'Monitor', 'scalar_layout'),
    'core.overhead_budget': ('OverheadBudget', ),
    'core.registry': ('DETECTORS', 'MONITORS', 'build_monitors',
                      'hook_arguments', 'monitor_classes'),
    'core.other_runs.resuming': ('interrupted_log_dir', ),
    'core.runner_parts': ('bare_model', 'has_ema_model', 'is_sharded'),
    'core.schedule': ('Adaptive', 'Every', 'Schedule', 'build_schedule'),
    'health.detector': ('Detector', 'build_detectors'),
    'health.nonfinite_stop': ('NonfiniteTrainingError', ),
    'health.report': ('Finding', 'HealthReport'),
    'writers.disk_quota': ('DiskQuota', ),
    'writers.event_writer': ('EventWriter', ),
    'writers.record':
    ('Histogram', 'Image', 'Measurement', 'Record', 'Scalar', 'Text'),
}
_MODULE_OF = {
    name: module
    for module, names in _MODULES.items() for name in names
}


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        module = import_module(f'{__name__}.{_MODULE_OF[name]}')
        return getattr(module, name)
    if not name.startswith('_'):
        registry = import_module(f'{__name__}.core.registry')
        for cls in registry.monitor_classes():
            if cls.__name__ == name:
                return cls
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
