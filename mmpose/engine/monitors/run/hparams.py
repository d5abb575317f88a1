# Copyright (c) OpenMMLab. All rights reserved.
import functools
import logging
from typing import Dict, Iterator, Optional, Sequence, Set, Tuple, Union

from mmengine.dist import get_world_size
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log

from ..core.arguments import LOG_RUN_INFO, Argument, one_of_types
from ..core.measurements import ValidationMetrics
from ..core.metric_names import better, direction
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import (bare_model, evaluation_step, is_iter_based,
                                 is_sharded, iterations_per_pass,
                                 optim_wrappers)
from ..writers.record import HParams, Record, Scalar, Value
from ..writers.tfrecord import events_in

HParam = Union[int, float, str]

# With what the user has asked for: the columns from the beginning.
_SHOWN = ('backbone', 'learning_rate', 'optimizer', 'total_batch_size')


@MONITORS.register_module()
class HParamsMonitor(Monitor):
    """What the run trains with and how well: a row of the HParams page.

    ======================= ==============================================
    ``learning_rate``       Of the optimizer, before any schedule
    ``optimizer``           Its type
    ``batch_size``          Of one process
    ``total_batch_size``    Of an update, over all processes and accumulated
                            gradients
    ``epochs``              How long the training is to be
    ``iterations``          The same in iterations
    ``input_size``          Of the model, width x height
    ``backbone``            Its type and depth, where it has one
    ``parameters``          Elements of all parameters of the model, unless
                            each process holds a part of them only
    ``pretrained``          'yes' if it does not start from random weights
    ``seed``                Of the random generators
    ``<config key>``        What the user has asked for
    ======================= ==============================================

    Beside them the metrics by which runs are compared: MMEngine's ``loss``
    and, of each metric of the validations,

    ==================== ==================================================
    ``best/<metric>``    The best value so far: the highest of AP, AR, PCK,
                         AUC and accuracies, the lowest of NME, EPE, MPJPE,
                         losses and errors, what the ``rule`` of
                         ``CheckpointHook`` says, else the last one
    ==================== ==================================================

    What it tells: Which of several runs is best, and what was different in it.

    A run has one row. One that goes on after an interruption goes on with its
    row and its best values. TensorBoard takes the columns from one of the
    runs that it compares.

    Args:
        config_keys (Sequence[str]): Dotted keys of the config that are
            hyperparameters as well. One that the config lacks is warned of.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_RUN_INFO, )
    settings = dict(
        config_keys=Argument(
            'hparams', None, 'list[str] | None',
            'Keys of the config that are hyperparameters besides the usual '
            "ones, such as 'model.head.loss.type'.",
            one_of_types((list, tuple), 'a list of config keys or None',
                         lambda v: all(isinstance(key, str) for key in v))))

    def __init__(self,
                 config_keys: Sequence[str] = (),
                 strict: bool = False) -> None:
        super().__init__(strict=strict)
        self._config_keys = config_keys or ()

    def before_train(self, runner) -> None:
        self._hparams = {
            **standard_hparams(runner),
            **self._from_config(runner.cfg)
        }
        self._rules = _checkpoint_rules(runner)
        # From here on in the thread that writes.
        self._best: Dict[str, float] = {}
        self._parts: Set[str] = set()
        step = evaluation_step(runner)
        self.emit(Record(runner.iter, functools.partial(self._begin, step)))
        self.writer.listen(ValidationMetrics, self._look, self.guard)

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

    # In the thread that writes

    def _begin(self, step: int) -> Iterator[Value]:
        if self.writer.continues:
            self._best, self._parts = _read_back(self.writer.log_dir, step)
        yield from self._part('session_start_info')

    def _look(self, step: int, metrics: ValidationMetrics) -> Record:
        for name, value in metrics.values.items():
            self._best[name] = better(
                self._rules.get(name) or direction(name), self._best.get(name),
                value)
        return Record(
            step, lambda: [
                *(Scalar(f'best/{name}', self._best[name])
                  for name in metrics.values), *self._part('experiment')
            ])

    def _end(self) -> Iterator[Value]:
        yield from self._part('experiment')
        yield from self._part('session_end_info')

    def _part(self, part: str) -> Iterator[HParams]:
        """A part of the row, unless the run has it already."""
        if part not in self._parts:
            self._parts.add(part)
            tags = ['loss', *(f'best/{name}' for name in self._best)]
            shown = [*_SHOWN, *self._config_keys]
            yield HParams(part, self._hparams, tags, shown)


def standard_hparams(runner) -> Dict[str, HParam]:
    """The hyperparameters that every run has.

    Args:
        runner (Runner): The runner, when its training begins.

    Returns:
        dict[str, int | float | str]: See :class:`HParamsMonitor`;
        without what the run does not have.
    """
    model = bare_model(runner.model)
    hparams: Dict[str, Optional[HParam]] = dict(_optimizers(runner))
    hparams.update(_lengths(runner))
    hparams['input_size'] = _input_size(runner, model)
    hparams['backbone'] = _backbone(runner, model)
    if not is_sharded(runner.model):
        hparams['parameters'] = sum(p.numel() for p in model.parameters())
    hparams['pretrained'] = 'yes' if _is_pretrained(runner) else 'no'
    # As a text: a number would be rounded.
    hparams['seed'] = str(runner.seed)
    return {k: v for k, v in hparams.items() if v is not None}


def _optimizers(runner) -> Iterator[Tuple[str, HParam]]:
    loader = runner.train_dataloader
    size = loader.batch_size or getattr(loader.batch_sampler, 'batch_size', 1)
    total = size * get_world_size()
    # By so much has MMEngine scaled what the config says.
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


def _is_pretrained(runner) -> bool:
    return bool(runner._load_from) or _has_checkpoint(_model_config(runner))


def _model_config(runner) -> dict:
    """Empty where the runner was given a model instead."""
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
    """A value as it can stand in a table."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    return getattr(value, '__name__', str(value))


def _checkpoint_rules(runner) -> Dict[str, str]:
    """What ``CheckpointHook`` has been told of the metrics it looks at."""
    rules = {}
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best:
            rules.update(zip(hook.key_indicators, hook.rules))
    return rules


def _read_back(log_dir: str, step: int) -> Tuple[Dict[str, float], Set[str]]:
    """What an earlier run has written: its best values and parts of its row.

    Args:
        log_dir (str): The directory of its event files.
        step (int): The last validation that this run goes on from.

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
