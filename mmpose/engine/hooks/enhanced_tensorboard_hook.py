# Copyright (c) OpenMMLab. All rights reserved.
import shlex
import time
from difflib import get_close_matches
from numbers import Real
from types import SimpleNamespace
from typing import Dict, List, Optional, Sequence, Union

from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH

from mmpose.models.pose_estimators import PoseLifter
from mmpose.registry import HOOKS
from ..monitors import (DiskQuota, EventWriter, FailureGuard, Monitor,
                        NonfiniteStop, Record, bare_model, build_monitors,
                        build_schedule, interrupted_log_dir, is_averaged,
                        is_sharded, scalar_layout)

Interval = Union[int, dict]

PRESETS = dict(
    fast=dict(
        grad_norm_interval=500,
        weight_hist_interval=5,
        train_image_interval=2000,
        val_image_interval=20,
        max_layers_to_log=10,
        max_train_images=4,
        log_graph=False),
    balanced=dict(
        grad_norm_interval=100,
        weight_hist_interval=1,
        train_image_interval=500,
        val_image_interval=10,
        max_layers_to_log=20,
        max_train_images=4,
        log_graph=False),
    detailed=dict(
        grad_norm_interval=50,
        weight_hist_interval=1,
        train_image_interval=200,
        val_image_interval=5,
        max_layers_to_log=30,
        max_train_images=8,
        log_graph=True),
)

ON_NONFINITE = ('warn', 'stop', 'ignore')


@HOOKS.register_module()
class EnhancedTensorBoardHook(Hook):
    """Show in TensorBoard how a pose model trains.

    Writes gradient norms, weight histograms, learning rates, validation
    metrics and the size of the model into the event file that the run has
    anyway. It changes nothing in the training, and no failure of its own
    stops it: the first of a kind is a WARNING, a part that fails three times
    in a row is switched off.

    Add it to any config without touching the hooks that are there already:

    .. code-block:: python

        default_hooks = dict(
            enhanced_tensorboard=dict(type='EnhancedTensorBoardHook'))

    An interval counts as in :class:`mmengine.hooks.Hook`; the first iteration
    and the first epoch are always logged; 0 means never. Instead of a number
    it may be ``dict(type='adaptive', start=10, end=500, ramp_iters=5000)``:
    often in the beginning and rarely later, see :class:`Adaptive`.

    Args:
        log_grad_norm (bool): Write the gradient norms, see
            :class:`GradientMonitor`. Defaults to True.
        log_weight_hist (bool): Write histograms of the weights, see
            :class:`WeightMonitor`. Defaults to True.
        log_val_metrics (bool): Write the metrics of validations and tests,
            see :class:`MetricMonitor`. Defaults to True.
        log_train_images (bool): Write pictures of training samples, see
            :class:`TrainImageMonitor`. Defaults to True.
        log_val_images (bool): Write pictures of validation samples, see
            :class:`ValImageMonitor`. Defaults to True.
        log_lr (bool): Write learning rate, momentum and weight decay, see
            :class:`LearningRateMonitor`. Defaults to True.
        log_model_stats (bool): Write the size of the model and its FLOPs, see
            :class:`ModelInfoMonitor` and :class:`ComplexityMonitor`. Defaults
            to True.
        grad_norm_interval (int | dict, optional): Iterations between two
            readings of gradients, updates, losses, learning rates, speed and
            memory, of which the report is made, and of the hook's own cost,
            see :class:`TelemetryMonitor`. 0 switches all of them off, also
            the search for NaN; ``log_grad_norm=False`` leaves out the
            gradients alone. Defaults to None: by the preset, 100 without one.
        weight_hist_interval (int | dict, optional): Epochs between two
            histograms of the weights; in iteration-based training iterations,
            as ``val_interval`` is. Defaults to None: by the preset, 1 epoch
            without one; in iteration-based training the same number of passes
            over the training data.
        train_image_interval (int | dict, optional): Iterations between two
            pictures of training samples. Defaults to None: by the preset, 500
            without one.
        val_image_interval (int | dict, optional): Of every so many validation
            batches there may be pictures. Defaults to None: by the preset, 10
            without one.
        max_layers_to_log (int, optional): The largest number of layer groups
            that the model is cut into for gradients and weights; together
            they hold every parameter. -1: each parameter for itself. 0: no
            groups: only the global gradient norm and update ratio, no
            histograms, and no findings about a group. Defaults to None: by
            the preset, 20 without one.
        max_train_images (int, optional): Training samples in the pictures.
            Defaults to None: by the preset, 4 without one.
        kpt_thr (float): The score from which on a keypoint is drawn. Defaults
            to 0.3.
        backend_args (dict, optional): How images of validation samples are
            loaded, see :func:`mmengine.fileio.get`. Defaults to None: as the
            data set says.
        preset (str, optional): 'fast', 'balanced' or 'detailed', values for
            the arguments that are left None. Defaults to None, which is
            'balanced'.
        max_val_images (int): Pictures of one validation at most. Defaults to
            8.
        log_keypoints (bool): Write how accurate each keypoint is, see
            :class:`KeypointMonitor`. Defaults to True.
        hard_samples (int): How many of the people who are predicted worst are
            shown of each validation. Defaults to 4.
        log_system (bool): Write speed and memory, see :class:`SystemMonitor`.
            Defaults to True.
        log_health (bool): Say what is going wrong in the training, see
            :class:`HealthMonitor`. Defaults to True.
        on_nonfinite (str): What to do where a loss, gradient or weight is NaN
            or infinite. 'warn': say so, as of everything that is wrong;
            'ignore': do not even say so; 'stop': end the training as well,
            see :class:`NonfiniteStop`. Defaults to 'warn'.
        log_graph (bool, optional): Write the graph of the model, see
            :class:`GraphMonitor`. Defaults to None: by the preset, True with
            'detailed' and False with the others.
        log_run_info (bool): Write the hyperparameters and the environment of
            the run, see :class:`HParamsMonitor` and
            :class:`EnvironmentMonitor`. Defaults to True.
        hparams (list[str], optional): Keys of the config that are
            hyperparameters besides the usual ones, such as
            'model.head.loss.type'. Defaults to None.
        async_write (bool): Write in a thread of its own, so that the training
            never waits for the disk. Defaults to True.
        flush_secs (float): The longest time that something logged is not yet
            on disk, in seconds. Defaults to 30.
        disk_quota (dict, optional): Arguments of :class:`DiskQuota`, from
            when on images, histograms, layer scalars and at last all scalars
            are given up: ``max_bytes`` for the run's event files (None: no
            limit) and ``min_free_bytes`` for the disk. Defaults to None,
            which is ``dict(max_bytes=None, min_free_bytes=1073741824)``.
        overhead_budget (float, optional): The share of the training's time
            that the hook may take of its thread, 0.01 say. The intervals of
            the costliest monitors are stretched to hold it, see
            :class:`OverheadBudget`. Defaults to None: they are as given.
        strict (bool): Raise what goes wrong in the hook. Meant for tests.
            Defaults to False.

    Raises:
        TypeError: An argument is unknown or of a wrong type.
        ValueError: An argument is out of range or the preset is unknown.
    """

    # After every hook that may change what is read here.
    priority = 'VERY_LOW'

    def __init__(self,
                 log_grad_norm: bool = True,
                 log_weight_hist: bool = True,
                 log_val_metrics: bool = True,
                 log_train_images: bool = True,
                 log_val_images: bool = True,
                 log_lr: bool = True,
                 log_model_stats: bool = True,
                 grad_norm_interval: Optional[Interval] = None,
                 weight_hist_interval: Optional[Interval] = None,
                 train_image_interval: Optional[Interval] = None,
                 val_image_interval: Optional[Interval] = None,
                 max_layers_to_log: Optional[int] = None,
                 max_train_images: Optional[int] = None,
                 kpt_thr: float = 0.3,
                 backend_args: Optional[dict] = None,
                 preset: Optional[str] = None,
                 max_val_images: int = 8,
                 log_keypoints: bool = True,
                 hard_samples: int = 4,
                 log_system: bool = True,
                 log_health: bool = True,
                 on_nonfinite: str = 'warn',
                 log_graph: Optional[bool] = None,
                 log_run_info: bool = True,
                 hparams: Optional[List[str]] = None,
                 async_write: bool = True,
                 flush_secs: float = 30,
                 disk_quota: Optional[dict] = None,
                 overhead_budget: Optional[float] = None,
                 strict: bool = False,
                 **unknown) -> None:
        given = {k: v for k, v in locals().items() if k in _ALLOWED}
        _check_names(unknown)
        _check_values(given)
        for name, value in PRESETS[preset or 'balanced'].items():
            if given[name] is None:
                given[name] = value
        for name, value in given.items():
            setattr(self, name, value)

        self.monitors = build_monitors(
            SimpleNamespace(**given),
            hist_by_passes=weight_hist_interval is None)
        # Never trips: there is nothing that it could switch off.
        self._guard = FailureGuard(type(self).__name__, strict, limit=0)
        # The same for all; kept here, where it is not switched off.
        self._budget = next((m.budget for m in self.monitors), None)
        self._writer: Optional[EventWriter] = None
        self._listening: List[Monitor] = []
        self._exchanging: List[Monitor] = []
        self._nonfinite_stop: Optional[NonfiniteStop] = None
        self._resumed_runs: List[str] = []
        self._continued_run: Optional[str] = None
        # The runner, once for each of its runs that is under way: a hook of
        # a training may call ``runner.val()``.
        self._runs: list = []

    def before_run(self, runner) -> None:
        """Find the writer of the run and say which it is.

        A run inside another one, as of a hook that calls ``runner.val()`` in
        a training, logs to the writer of the outer run.

        Args:
            runner (Runner): The runner of the training, validation or testing
                process.
        """
        if runner not in self._runs:
            self._runs = []
        self._runs.append(runner)
        if len(self._runs) == 1:
            self._begin(runner)
            return
        if self._continued_run is not None:
            # RuntimeInfoHook has just set this run's own.
            runner.message_hub.update_info('experiment_name',
                                           self._continued_run)
        if self._writer is not None:
            # ``LoggerHook`` closes it after each run.
            with self._guard:
                self._writer.hold_open(True)

    def _begin(self, runner) -> None:
        self._writer, self._listening, self._exchanging = None, [], []
        self._nonfinite_stop = None
        self._continued_run = None
        self._train_seconds = 0.
        first = next(h for h in runner.hooks if isinstance(h, type(self)))
        if first is not self:
            runner.logger.warning(
                f'{type(self).__name__} is there twice: this one writes '
                'nothing. Take it out of custom_hooks or of default_hooks.')
            return
        for guard in self._guards():
            guard.reset()
        if is_main_process():
            self._find_writer(runner)
        for monitor in self.monitors:
            monitor.writer = self._writer
            monitor.waited_for = False
            # Even where nothing is written the others wait for what it reads.
            # It asks for types alone: what fails here fails on all ranks.
            with monitor.guard:
                on_every_rank = monitor.is_on_every_rank(runner)
                if self._writer is not None or on_every_rank:
                    self._listening.append(monitor)
                if on_every_rank:
                    self._exchanging.append(monitor)
        if self.on_nonfinite == 'stop':
            self._nonfinite_stop = NonfiniteStop(
                build_schedule(self.grad_norm_interval))

    def _find_writer(self, runner) -> None:
        with self._guard:
            self._writer, added = EventWriter.of_run(
                runner,
                async_write=self.async_write,
                flush_secs=self.flush_secs,
                disk_quota=DiskQuota(**(self.disk_quota or {})))
            runner.logger.info(
                f'{type(self).__name__} writes to {self._writer.log_dir}' +
                (', through a TensorboardVisBackend that it added to the '
                 "visualizer: the config has none, so the run's losses would "
                 'not have been there.' if added else '.'))
            if is_averaged(runner):
                runner.logger.info(
                    f'{type(self).__name__}: there is an EMAHook, so metrics '
                    'and pictures of validations are those of the averaged '
                    'model; train/images, gradients and weights are those of '
                    'the model in training.')

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Keep the names of the run that has saved the checkpoint.

        A FlexibleRunner, or a call by hand, loads it before ``before_run``.

        Args:
            runner (Runner): The runner of the training process.
            checkpoint (dict): The checkpoint; left as it is.
        """
        self._resumed_runs = []
        with self._guard:
            meta, hub = map(checkpoint.get, ('meta', 'message_hub'))
            info = hub.get('runtime_info') if isinstance(hub, dict) else None
            # Its own, and that of the run whose curves it went on with.
            names = [
                part.get('experiment_name') for part in (meta, info)
                if isinstance(part, dict)
            ]
            self._resumed_runs = [
                name for name in names if name and isinstance(name, str)
            ]

    def before_train(self, runner) -> None:
        """Let the monitors attach themselves to model and optimizers.

        A resumed training goes on in the event files of the run that ended.

        Args:
            runner (Runner): The runner of the training process.
        """
        if len(self._runs) > 1:
            # An exception has ended an earlier run, so that this one was
            # taken for a run inside it.
            self._begin(runner)
        self._train_began = time.perf_counter()
        self._sharing: List[Monitor] = []
        sharded = False
        # It asks for types alone: what fails here fails on all ranks.
        with self._guard:
            sharded = is_sharded(runner.model)
        if sharded:
            self._share(runner)
        self._continue_run(runner)
        self._write_layout(runner)
        self._notify('before_train', runner)
        if self._budget is not None:
            with self._guard:
                self._budget.start()
        if self._nonfinite_stop is not None:
            self._nonfinite_stop.before_train(runner, self._writer)

    def before_train_iter(self,
                          runner,
                          batch_idx: int,
                          data_batch: DATA_BATCH = None) -> None:
        """Let the monitors read what the iteration starts with.

        Args:
            runner (Runner): The runner of the training process.
            batch_idx (int): The index of the current batch in the train loop.
            data_batch (dict or tuple or list, optional): Data from dataloader.

        Raises:
            NonfiniteTrainingError: The training is to stop there.
        """
        if self._nonfinite_stop is not None:
            self._nonfinite_stop.before_train_iter(runner)
        self._notify('before_train_iter', runner, batch_idx, data_batch)

    def after_train_iter(self,
                         runner,
                         batch_idx: int,
                         data_batch: DATA_BATCH = None,
                         outputs: Optional[dict] = None) -> None:
        """Let the monitors hand over what they read in the iteration.

        Args:
            runner (Runner): The runner of the training process.
            batch_idx (int): The index of the current batch in the train loop.
            data_batch (dict or tuple or list, optional): Data from dataloader.
            outputs (dict, optional): Outputs from model.
        """
        for monitor in self._sharing:
            monitor.exchange_shards(runner)
        self._notify('after_train_iter', runner, batch_idx, data_batch,
                     outputs)
        if self._budget is not None:
            with self._guard:
                self._budget.after_iter()

    def after_train_epoch(self, runner) -> None:
        """Let the monitors read the state after an epoch.

        Args:
            runner (Runner): The runner of the training process.
        """
        self._notify('after_train_epoch', runner)
        self._flush()

    def after_val_iter(self,
                       runner,
                       batch_idx: int,
                       data_batch: DATA_BATCH = None,
                       outputs: Optional[Sequence] = None) -> None:
        """Let the monitors see a validation batch and its predictions.

        Args:
            runner (Runner): The runner of the validation process.
            batch_idx (int): The index of the current batch in the val loop.
            data_batch (dict or tuple or list, optional): Data from dataloader.
            outputs (Sequence, optional): Outputs from model.
        """
        self._notify('after_val_iter', runner, batch_idx, data_batch, outputs)

    def after_val_epoch(self,
                        runner,
                        metrics: Optional[Dict[str, float]] = None) -> None:
        """Let the monitors write the metrics of a validation.

        Args:
            runner (Runner): The runner of the validation process.
            metrics (dict[str, float], optional): What the evaluators
                returned.
        """
        for monitor in self._exchanging:
            monitor.exchange()
        self._notify('after_val_epoch', runner, metrics)
        self._flush()

    def after_test_epoch(self,
                         runner,
                         metrics: Optional[Dict[str, float]] = None) -> None:
        """Let the monitors write the metrics of a test.

        Args:
            runner (Runner): The runner of the testing process.
            metrics (dict[str, float], optional): What the evaluators
                returned.
        """
        self._notify('after_test_epoch', runner, metrics)
        self._flush()

    def after_train(self, runner) -> None:
        """Let the monitors detach themselves.

        Args:
            runner (Runner): The runner of the training process.
        """
        # Also those that an exception has ended, which a hook caught.
        self._leave_inner_runs(runner)
        self._train_seconds = time.perf_counter() - self._train_began
        self._notify('after_train', runner)
        self._flush()

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Bring to disk what was logged up to the checkpoint.

        Args:
            runner (Runner): The runner of the training process.
            checkpoint (dict): The checkpoint; left as it is.
        """
        if self._nonfinite_stop is not None:
            self._nonfinite_stop.before_save_checkpoint(runner)
        self._flush()

    def after_run(self, runner) -> None:
        """Say in one line what was written and what it cost.

        ``LoggerHook`` has closed the writer already: nothing is written here.

        Args:
            runner (Runner): The runner of the training, validation or testing
                process.
        """
        if len(self._runs) > 1:
            self._runs.pop()
            if len(self._runs) == 1:
                self._leave_inner_runs(runner)
            return
        self._runs = []
        # Not for a later run of the same Runner.
        self._resumed_runs = []
        if self._writer is None:
            return
        with self._guard:
            runner.logger.info(self._report(runner.work_dir))

    def _leave_inner_runs(self, runner) -> None:
        self._runs = [runner]
        if self._writer is not None:
            with self._guard:
                self._writer.hold_open(False)

    def _notify(self, event: str, *args) -> None:
        for monitor in self._listening:
            monitor.notify(event, *args)

    def _continue_run(self, runner) -> None:
        """Let a resumed training go on with its old curves."""
        if self._writer is None:
            return
        with self._guard:
            found = interrupted_log_dir(runner, self._writer.log_dir,
                                        self._resumed_runs)
            if found is not None:
                name, log_dir = found
                self._writer.continue_run(log_dir, runner.iter + 1)
                # For who resumes this run, whose directory stays empty.
                runner.message_hub.update_info('experiment_name', name)
                self._continued_run = name
                runner.logger.info(
                    f'{type(self).__name__} goes on with the curves in '
                    f'{log_dir} from iteration {runner.iter + 1}.')

    def _share(self, runner) -> None:
        """Let monitors that can see a sharded model see it on all ranks."""
        if self._writer is not None:
            left_out = [
                monitor.guard.name for monitor in self._listening
                if monitor.of_whole_model
            ]
            runner.logger.info(
                f'{type(self).__name__}: the model is sharded. What needs the '
                f'whole of it is left out: {", ".join(left_out)}.')
        sharing = [
            monitor for monitor in self.monitors if monitor.adds_up_shards
        ]
        joined = False
        with self._guard:
            for monitor in sharing:
                monitor.join_shards(runner)
            joined = True
        # Who has not joined would be waited for at every reading.
        missing = [
            i for i, has_joined in enumerate(all_gather_object(joined))
            if not has_joined
        ]
        if missing:
            for monitor in sharing:  # Take it off the optimizers.
                monitor.notify('after_train', runner)
            sharing = []
        for monitor in sharing:
            monitor.waited_for = True
        # No part is shown as the whole.
        self._listening = [
            monitor for monitor in self.monitors
            if monitor in sharing or monitor in self._listening
            and not (monitor.of_whole_model or monitor.adds_up_shards)
        ]
        self._sharing = sharing
        if joined and missing:
            with self._guard:
                raise RuntimeError(
                    f'gradients cannot be read on rank {missing}, and those '
                    'of the others are a part only')

    def _write_layout(self, runner) -> None:
        """Say which scalars belong together."""
        if self._writer is None or not self.monitors:
            return
        with self._guard:
            layout = scalar_layout(
                {name: getattr(self, name)
                 for name in _FLAGS},
                lifting=isinstance(bare_model(runner.model), PoseLifter))
            self._writer.write(
                Record(runner.iter, lambda: [layout]), self._guard)

    def _guards(self) -> List[FailureGuard]:
        return [self._guard, *(monitor.guard for monitor in self.monitors)]

    def _flush(self) -> None:
        if self._writer is not None:
            with self._guard:
                self._writer.flush(wait=False)

    def _report(self, work_dir: str) -> str:
        written = self._writer.written
        guards = self._guards()
        parts = [
            f'{type(self).__name__} wrote {written["Scalar"]:,} scalars, '
            f'{written["Histogram"]:,} histograms and '
            f'{written["Image"]:,} images '
            f'({self._writer.bytes_on_disk() / 1e6:.1f} MB on disk)'
        ]
        if self._train_seconds:
            share = sum(g.seconds for g in guards) / self._train_seconds
            parts.append(f'took {share:.2%} of the training time')
        parts.append(f'{sum(g.failures for g in guards)} failures')
        off = [g.name for g in guards if g.tripped]
        if off:
            parts.append(f'switched off: {", ".join(off)}')
        return (', '.join(parts) +
                f'. To view: tensorboard --logdir {shlex.quote(work_dir)}')


_FLAGS = ('log_grad_norm', 'log_weight_hist', 'log_val_metrics',
          'log_train_images', 'log_val_images', 'log_lr', 'log_model_stats',
          'log_keypoints', 'log_system', 'log_health', 'log_graph',
          'log_run_info', 'async_write', 'strict')
_INTERVALS = ('grad_norm_interval', 'weight_hist_interval',
              'train_image_interval', 'val_image_interval')
_COUNTS = ('max_layers_to_log', 'max_train_images', 'max_val_images',
           'hard_samples')
_ALLOWED = (*_FLAGS, *_INTERVALS, *_COUNTS, 'kpt_thr', 'backend_args',
            'preset', 'on_nonfinite', 'flush_secs', 'disk_quota',
            'overhead_budget', 'hparams')


def _check_names(unknown: dict) -> None:
    for name in unknown:
        close = get_close_matches(name, _ALLOWED, n=1)
        hint = f' (did you mean {close[0]!r}?)' if close else ''
        raise TypeError(
            f'EnhancedTensorBoardHook has no argument {name!r}{hint}; it has '
            f'{", ".join(sorted(_ALLOWED))}.')


def _check_values(given: dict) -> None:

    def check(name: str, types, allowed: str, in_range=lambda v: True) -> None:
        value = given[name]
        if value is None and None in types:
            return
        types = tuple(t for t in types if t is not None)
        # A bool is an int for Python, but not as a number of layers.
        right = isinstance(value, types) and (bool in types
                                              or not isinstance(value, bool))
        if not right or not in_range(value):
            raise (ValueError if right else TypeError)(
                f'EnhancedTensorBoardHook: {name} must be {allowed}, but got '
                f'{value!r} of type {type(value).__name__}.')

    for name in _FLAGS:
        if name in PRESETS['balanced']:
            check(name, (bool, None), 'True, False or None')
        else:
            check(name, (bool, ), 'True or False')
    for name in _INTERVALS:
        if given[name] is not None:
            try:
                build_schedule(given[name])
            except (TypeError, ValueError) as error:
                raise type(error)(
                    f'EnhancedTensorBoardHook: {name} {error}.') from None
    for name in _COUNTS:
        low = -1 if name == 'max_layers_to_log' else 0
        optional = (None, ) if name in PRESETS['balanced'] else ()
        check(
            name, (int, *optional), f'an integer of at least {low}'
            f'{" or None" if optional else ""}', lambda v: v >= low)
    check('kpt_thr', (Real, ), 'a number of at least 0', lambda v: v >= 0)
    check('backend_args', (dict, None), 'a dict or None')
    check('preset', (str, None),
          f'one of {", ".join(map(repr, PRESETS))} or None',
          lambda v: v in PRESETS)
    check('on_nonfinite', (str, ),
          f'one of {", ".join(map(repr, ON_NONFINITE))}',
          lambda v: v in ON_NONFINITE)
    if given['on_nonfinite'] == 'stop' and (not given['log_health'] or
                                            given['grad_norm_interval'] == 0):
        raise ValueError(
            "EnhancedTensorBoardHook: on_nonfinite='stop' needs "
            'log_health=True and a grad_norm_interval other than 0: without '
            'them nothing would be found.')
    check('hparams', (list, tuple, None), 'a list of config keys or None',
          lambda v: all(isinstance(key, str) for key in v))
    check('flush_secs', (Real, ), 'a number above 0 and at most 86400',
          lambda v: 0 < v <= 86400)
    check('overhead_budget', (Real, None), 'a number between 0 and 1 or None',
          lambda v: 0 < v < 1)
    check(
        'disk_quota', (dict, None), 'None or a dict of max_bytes (an integer '
        'of at least 1 or None) and min_free_bytes (an integer of at least '
        '0)', _is_disk_quota)


def _is_disk_quota(quota: dict) -> bool:
    lowest = dict(max_bytes=1, min_free_bytes=0)
    return all(
        name in lowest and (
            value is None and name == 'max_bytes' or isinstance(value, int)
            and not isinstance(value, bool) and value >= lowest[name])
        for name, value in quota.items())
