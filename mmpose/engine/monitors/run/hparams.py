# Copyright (c) OpenMMLab. All rights reserved.
import functools
import logging
from typing import Dict, Iterator, List, Optional, Sequence, Set, Tuple, Union

from mmengine.dist import get_world_size
from mmengine.logging import print_log
from torch import Tensor

from ..core.arguments import LOG_DETAILS, LOG_RUN_INFO, Argument, one_of_types
from ..core.measurements import ValidationMetrics
from ..core.metric_names import (better, checkpoint_rules, direction,
                                 main_metric)
from ..core.monitor import Monitor
from ..core.pose_measurements import PretrainedWeights
from ..core.registry import MONITORS
from ..core.runner_parts import (bare_model, evaluation_step, is_iter_based,
                                 is_sharded, iterations_per_pass,
                                 optim_wrappers)
from ..writers.record import HParams, Record, Scalar, Value
from ..writers.tfrecord import events_in
from .pretrained import LoadedWeights

HParam = Union[int, float, str]

# The columns that are shown at first, with those of ``config_keys``.
_SHOWN = ('backbone', 'learning_rate', 'optimizer', 'total_batch_size')


@MONITORS.register_module()
class HParamsMonitor(Monitor):
    """Log hyperparameters and best metrics: a row of the HParams page.

    ======================= ==============================================
    ``learning_rate``       Of the optimizer, before any schedule
    ``optimizer``           Its type
    ``batch_size``          Of one process
    ``total_batch_size``    Of an update, over all processes and accumulated
                            gradients
    ``epochs``              Planned length of the training
    ``iterations``          The same in iterations
    ``input_size``          Of the model, width x height
    ``backbone``            Its type and, if it has one, its depth
    ``parameters``          Elements of all parameters of the model, unless
                            the model is sharded
    ``pretrained``          Fraction of the model's weights that are those of a
                            checkpoint, 'no' if it starts from random ones,
                            'yes' if the checkpoint is no longer there
    ``seed``                Of the random number generators
    ``<config key>``        Named in ``hparams``
    ======================= ==============================================

    Runs are compared by MMEngine's ``loss`` and by the main metric of the
    validations:

    ==================== ==================================================
    ``best/<metric>``    The best value so far. The ``rule`` of
                         ``CheckpointHook`` says what is better; without it
                         higher AP, AR, PCK, AUC and accuracies, lower NME,
                         EPE, MPJPE, losses and errors. The last value of any
                         other metric
    ==================== ==================================================

    What it tells: Which of several runs is best, and what was different in it.

    The main metric is the one that ``CheckpointHook`` saves the best
    checkpoint by, else the first of AP, PCK, AUC, NME, EPE and MPJPE. With
    ``log_details``, or if no metric is known, every metric has its best value.

    A run has one row. A run that continues an interrupted one keeps its row
    and its best values. TensorBoard takes the columns from one of the runs
    that it compares.

    Args:
        config_keys (Sequence[str]): Dotted keys of the config that are
            hyperparameters as well. A WARNING names those that the config
            lacks. Defaults to ().
        every_metric (bool): Whether to write the best value of each metric.
            Defaults to False.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_RUN_INFO, )
    settings = dict(
        config_keys=Argument(
            'hparams', None, 'list[str] | None',
            'Keys of the config that are hyperparameters besides the usual '
            "ones, such as 'model.head.loss.type'.",
            one_of_types((list, tuple), 'a list of config keys or None',
                         lambda v: all(isinstance(key, str) for key in v))),
        every_metric=LOG_DETAILS)

    def __init__(self,
                 config_keys: Sequence[str] = (),
                 every_metric: bool = False,
                 strict: bool = False) -> None:
        super().__init__(strict=strict)
        self._config_keys = config_keys or ()
        self._every_metric = every_metric

    def before_train(self, runner) -> None:
        self._hparams = {
            **standard_hparams(runner),
            **self._from_config(runner.cfg)
        }
        self._rules = checkpoint_rules(runner)
        # These are used in the writer's thread.
        self._best: Dict[str, float] = {}
        self._parts: Set[str] = set()
        step = evaluation_step(runner)
        loaded, sums = None, []
        with self.guard:
            loaded = LoadedWeights(runner)
            if loaded.sums is not None:
                sums = [loaded.sums]
        self._measured: Optional[PretrainedWeights] = None
        self._is_told = False
        self.emit(
            Record(runner.iter, functools.partial(self._begin, step, loaded),
                   sums))
        self.writer.listen(ValidationMetrics, self._look, self.guard)

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        # The detectors listen from now on.
        if not self._is_told:
            self._is_told = True
            self.emit(
                Record(runner.iter + 1,
                       lambda: filter(None, [self._measured])))

    def after_train(self, runner) -> None:
        self.emit(Record(runner.iter, self._end))

    def _from_config(self, config) -> Dict[str, HParam]:
        found, missing = {}, []
        for key in self._config_keys:
            try:
                found[key] = _plain(_look_up(config, key))
            except (KeyError, IndexError, TypeError, ValueError):
                missing.append(repr(key))
        if missing:
            print_log(
                'EnhancedTensorBoardHook: hparams names what the config does '
                f'not have: {", ".join(missing)}. The hyperparameters are '
                'written without it.',
                logger='current',
                level=logging.WARNING)
        return found

    # In the writer's thread

    def _begin(self, step: int, loaded: Optional[LoadedWeights],
               *sums: Tensor) -> Iterator[Value]:
        if sums:
            try:
                self._measured = loaded.compare(*sums)
            except Exception as error:
                # The guard would count the time as the training's.
                self.guard.report(error)
        if self._measured is not None:
            # A number in some runs and a word in others would be two columns.
            fraction = self._measured.of_model
            self._hparams['pretrained'] = f'{fraction:.2f}'
        if self.writer.continues:
            self._best, self._parts = _read_back(self.writer.log_dir, step)
        yield from self._part('session_start_info')

    def _look(self, step: int, metrics: ValidationMetrics) -> Record:
        compared = self._compared(metrics.values)
        for name in compared:
            value = metrics.values[name]
            self._best[name] = better(
                self._rules.get(name) or direction(name), self._best.get(name),
                value)
        return Record(
            step, lambda: [
                *(Scalar(f'best/{name}', self._best[name])
                  for name in compared), *self._part('experiment')
            ])

    def _compared(self, metrics: Dict[str, float]) -> List[str]:
        """Return the metrics of a validation that runs are compared by."""
        names = list(metrics)
        saved_by = [name for name in names if name in self._rules]
        main = main_metric(names)
        if self._every_metric or not (saved_by or main):
            return names
        return saved_by or [main.name]

    def _end(self) -> Iterator[Value]:
        yield from self._part('experiment')
        yield from self._part('session_end_info')

    def _part(self, part: str) -> Iterator[HParams]:
        """Yield a part of the row, unless the run has it already."""
        if part not in self._parts:
            self._parts.add(part)
            tags = ['loss', *(f'best/{name}' for name in self._best)]
            shown = [*_SHOWN, *self._config_keys]
            yield HParams(part, self._hparams, tags, shown)


def standard_hparams(runner) -> Dict[str, HParam]:
    """Return the hyperparameters that every run has.

    Args:
        runner (Runner): The runner, when its training begins.

    Returns:
        dict[str, int | float | str]: See :class:`HParamsMonitor`; without
        those that the run does not have.
    """
    model = bare_model(runner.model)
    is_pretrained = runner._load_from or _has_checkpoint(_model_config(runner))
    hparams = dict(
        _optimizers(runner),
        **dict(_lengths(runner)),
        input_size=_input_size(runner, model),
        backbone=_backbone(runner, model),
        parameters=None if is_sharded(runner.model) else sum(
            p.numel() for p in model.parameters()),
        pretrained='yes' if is_pretrained else 'no',
        # A number would be rounded.
        seed=str(runner.seed))
    return {k: v for k, v in hparams.items() if v is not None}


def _optimizers(runner) -> Iterator[Tuple[str, HParam]]:
    loader = runner.train_dataloader
    size = loader.batch_size or getattr(loader.batch_sampler, 'batch_size', 1)
    total = size * get_world_size()
    # MMEngine has scaled the learning rate of the config by this factor.
    auto_scale = runner.cfg.get('auto_scale_lr') or {}
    scale = 1.
    if auto_scale.get('enable'):
        scale = total / auto_scale['base_batch_size']
    accumulated = 1
    for name, wrapper in optim_wrappers(runner.optim_wrapper):
        prefix = f'{name}.' if name else ''
        optimizer = wrapper.optimizer
        if 'lr' in optimizer.defaults:
            yield f'{prefix}learning_rate', optimizer.defaults['lr'] * scale
        yield f'{prefix}optimizer', type(optimizer).__name__
        accumulated = max(accumulated, wrapper._accumulative_counts)
    yield 'batch_size', size
    yield 'total_batch_size', total * accumulated


def _lengths(runner) -> Iterator[Tuple[str, float]]:
    yield 'iterations', runner.max_iters
    if not is_iter_based(runner):
        yield 'epochs', runner.max_epochs
        return
    try:
        yield 'epochs', round(runner.max_iters / iterations_per_pass(runner),
                              2)
    except TypeError:  # It has no end.
        return


def _input_size(runner, model) -> Optional[str]:
    decoder = getattr(getattr(model, 'head', None), 'decoder', None)
    size = getattr(decoder, 'input_size', None)
    if size is None:
        codec = runner.cfg.get('codec') or {}
        codec = codec[-1] if isinstance(codec, (list, tuple)) else codec
        size = codec.get('input_size')
    return None if size is None else 'x'.join(str(int(n)) for n in size)


def _backbone(runner, model) -> str:
    backbone = getattr(model, 'backbone', model)
    config = _model_config(runner).get('backbone') or {}
    depth = getattr(backbone, 'depth', config.get('arch'))
    name = type(backbone).__name__
    return f'{name}-{depth}' if isinstance(depth, (int, str)) else name


def _model_config(runner) -> dict:
    """Return the config of the model; {} if the runner was given a model."""
    config = runner.cfg.get('model')
    return config if isinstance(config, dict) else {}


def _has_checkpoint(config) -> bool:
    if isinstance(config, (list, tuple)):
        return any(map(_has_checkpoint, config))
    return isinstance(config, dict) and (bool(config.get('checkpoint')) or any(
        map(_has_checkpoint, config.values())))


def _look_up(config, key: str):
    for part in key.split('.'):
        is_list = isinstance(config, (list, tuple))
        config = config[int(part) if is_list else part]
    return config


def _plain(value) -> HParam:
    """Return a value as a cell of a table."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    return getattr(value, '__name__', str(value))


def _read_back(log_dir: str, step: int) -> Tuple[Dict[str, float], Set[str]]:
    """Read what an earlier run has written: its best values and its row.

    Args:
        log_dir (str): The directory of its event files.
        step (int): The last validation before this run.

    Returns:
        tuple[dict[str, float], set[str]]: The best values by the metrics'
        names, and the parts.
    """
    best, parts = {}, set()
    for event in events_in(log_dir):
        for value in event.summary.value:
            kind, _, name = value.tag.partition('/')
            if kind == '_hparams_':
                parts.add(name)
            elif kind == 'best' and event.step <= step:
                best[name] = value.simple_value
    return best, parts
