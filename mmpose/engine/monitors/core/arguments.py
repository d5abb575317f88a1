# Copyright (c) OpenMMLab. All rights reserved.
"""What a config may say: the arguments of ``EnhancedTensorBoardHook``.

A monitor declares those that switch and time it where its class stands. The
hook's checks, its presets and the pages of the documentation are made from the
declarations.
"""
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Real
from types import SimpleNamespace
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence

from ..writers.mirrors import MIRRORS
from .schedule import Every, build_schedule

HOOK = 'EnhancedTensorBoardHook'
DEFAULT_PRESET = 'balanced'


@dataclass(frozen=True)
class Argument:
    """An argument of the hook.

    Attributes:
        name (str): Its name.
        default (Any): Its default; None where the preset decides.
        type_name (str): Its type, as the documentation shows it.
        meaning (str): One or more sentences of reStructuredText.
        check (Callable): Called with a value that is not the default; raises
            TypeError or ValueError with a text that follows the name of the
            argument.
        presets (dict, optional): The value by the name of each preset.
            Defaults to None: no preset has one.
        at_least (int): Of an interval that the preset decides, how often it
            is due in a short training, see :meth:`Every.fit`. Defaults to 0.
    """
    name: str
    default: Any
    type_name: str
    meaning: str
    check: Callable[[Any], None]
    presets: Optional[Dict[str, Any]] = None
    at_least: int = 0


def flag(name: str,
         meaning: str,
         default: bool = True,
         presets: Optional[Dict[str, bool]] = None) -> Argument:
    """Declare an argument that is True or False."""
    if presets:
        return Argument(name, None, 'bool | None', meaning,
                        one_of_types((bool, ), 'True, False or None'), presets)
    return Argument(name, default, 'bool', meaning,
                    one_of_types((bool, ), 'True or False'))


def interval(name: str,
             meaning: str,
             presets: Dict[str, int],
             at_least: int = 0) -> Argument:
    """Declare an argument that :func:`build_schedule` accepts."""
    if at_least:
        meaning += (' Without a value, it is shorter where a training would '
                    f'have fewer than {at_least}.')
    return Argument(name, None, 'int | dict | None', meaning, build_schedule,
                    presets, at_least)


def count(name: str,
          meaning: str,
          default: Optional[int] = None,
          low: int = 0,
          presets: Optional[Dict[str, int]] = None) -> Argument:
    """Declare an argument that is an integer of at least ``low``."""
    allowed = f'an integer of at least {low}{" or None" if presets else ""}'
    return Argument(name, default, 'int | None' if presets else 'int', meaning,
                    one_of_types((int, ), allowed, lambda v: v >= low),
                    presets)


def number(name: str, meaning: str, default: Optional[float], allowed: str,
           in_range: Callable[[float], bool]) -> Argument:
    """Declare an argument that is a number in a range."""
    type_name = 'float | None' if default is None else 'float'
    return Argument(name, default, type_name, meaning,
                    one_of_types((Real, ), allowed, in_range))


def choice(name: str, meaning: str, default: Optional[str],
           choices: Sequence[str]) -> Argument:
    """Declare an argument that is one of a few names."""
    allowed = f'one of {", ".join(map(repr, choices))}'
    if default is None:
        allowed += ' or None'
    return Argument(name, default, 'str | None' if default is None else 'str',
                    meaning,
                    one_of_types((str, ), allowed, lambda v: v in choices))


def one_of_types(types: tuple,
                 allowed: str,
                 in_range: Callable[[Any], bool] = lambda v: True) -> Callable:
    """Make the check of an :class:`Argument`.

    Args:
        types (tuple[type]): The types that a value may have.
        allowed (str): The allowed values, for the error message.
        in_range (Callable): Whether a value of the right type is allowed.
            Defaults to all of them.

    Returns:
        Callable: Raises TypeError for another type, ValueError for another
        value.
    """

    def check(value) -> None:
        # A bool is an int for Python, but not as a number of layers.
        right = isinstance(value, types) and (bool in types
                                              or not isinstance(value, bool))
        if not right or not in_range(value):
            raise (ValueError if right else TypeError)(
                f'must be {allowed}, but got {value!r} of type '
                f'{type(value).__name__}')

    return check


class Arguments(SimpleNamespace):
    """The values of all arguments, those of the preset in the place of None.

    Args:
        declared (Iterable[Argument]): The arguments that there are.
        given (dict): The values by name that the config gives.

    Raises:
        TypeError: An argument is unknown or of a wrong type.
        ValueError: An argument is out of range.
    """

    def __init__(self, declared: Iterable[Argument], given: dict) -> None:
        by_name = {argument.name: argument for argument in declared}
        for name in set(given) - set(by_name):
            close = get_close_matches(name, by_name, n=1)
            hint = f' (did you mean {close[0]!r}?)' if close else ''
            raise TypeError(f'{HOOK} has no argument {name!r}{hint}; it has '
                            f'{", ".join(sorted(by_name))}.')
        self._given = set()
        for name, argument in by_name.items():
            value = given.get(name, argument.default)
            if value is not argument.default and not (
                    value is None and argument.default is None):
                try:
                    argument.check(value)
                except (TypeError, ValueError) as error:
                    raise type(error)(f'{HOOK}: {name} {error}.') from None
                self._given.add(name)
            setattr(self, name, value)
        preset = getattr(self, 'preset', None) or DEFAULT_PRESET
        for name, argument in by_name.items():
            if argument.presets and getattr(self, name) is None:
                setattr(self, name, argument.presets[preset])

    def is_given(self, name: str) -> bool:
        """Return whether the config gives a value that is not the default."""
        return name in self._given

    def value_of(self, argument: Argument) -> Any:
        """Return a value as a monitor takes it.

        An interval that the preset has decided fits itself to the training.
        """
        value = getattr(self, argument.name)
        if argument.at_least and not self.is_given(argument.name):
            return Every(value, argument.at_least)
        return value

    def is_on(self, name: str) -> bool:
        """Return whether a switch is on: False if no monitor declares it."""
        return bool(getattr(self, name, False))


def presets(declared: Iterable[Argument]) -> Dict[str, Dict[str, Any]]:
    """Return the values of each preset by the names of the arguments."""
    values: Dict[str, Dict[str, Any]] = {}
    for argument in declared:
        for preset, value in (argument.presets or {}).items():
            values.setdefault(preset, {})[argument.name] = value
    return values


def unique(arguments: Iterable[Argument]) -> List[Argument]:
    """Return each argument once, in the order in which they are declared.

    Raises:
        ValueError: Two declarations of a name differ.
    """
    by_name: Dict[str, Argument] = {}
    for argument in arguments:
        if by_name.setdefault(argument.name, argument) is not argument:
            raise ValueError(
                f'{HOOK}: the argument {argument.name!r} is declared twice')
    return list(by_name.values())


def _is_disk_quota(quota: dict) -> bool:
    lowest = dict(max_bytes=1, min_free_bytes=0)
    return all(
        name in lowest and (
            value is None and name == 'max_bytes' or isinstance(value, int)
            and not isinstance(value, bool) and value >= lowest[name])
        for name, value in quota.items())


def _are_mirrors(value) -> bool:
    if isinstance(value, str):
        return value == 'auto'
    return value is None or set(value) <= set(MIRRORS)


# Arguments of monitors in several rooms.

GRAD_NORM_INTERVAL = interval(
    'grad_norm_interval',
    'Iterations between two measurements of gradients, updates, losses, '
    'learning rates, speed and memory, which the report is made of, and of '
    "the hook's own cost, see :class:`TelemetryMonitor`. 0 switches all of "
    'them off, also the search for NaN; ``log_grad_norm=False`` skips the '
    'gradients alone.',
    dict(fast=500, balanced=100, detailed=50),
    at_least=50)
WEIGHT_HIST_INTERVAL = interval(
    'weight_hist_interval',
    'Epochs between two histograms of the weights, and between two pictures '
    'of fresh training samples; in iteration-based training iterations, as '
    '``val_interval`` is. Without a value, in iteration-based training the '
    'same number of passes over the training data.',
    dict(fast=5, balanced=1, detailed=1))
MAX_LAYERS_TO_LOG = count(
    'max_layers_to_log',
    'The largest number of layer groups that the model is divided into for '
    'gradients and weights; together they hold every parameter. -1: each '
    'parameter is a group. 0: no groups: only the global gradient norm and '
    'update ratio, no histograms, and no findings about a group.',
    low=-1,
    presets=dict(fast=10, balanced=20, detailed=30))
LOG_DETAILS = flag(
    'log_details',
    'Write also the scalars that are rarely looked at: time and interval of '
    'each monitor, see :class:`TelemetryMonitor`; the best value of every '
    'metric, see :class:`HParamsMonitor`; PCK, NME and kinds of error by '
    'keypoint, see :class:`KeypointMonitor`; statistics of the losses, see '
    ':class:`LossMonitor`; mean and deviation of the input, see '
    ':class:`InputStatisticsMonitor`; keypoints that the pipeline loses, see '
    ':class:`TargetMonitor`.',
    presets=dict(fast=False, balanced=False, detailed=True))
LOG_HEALTH = flag(
    'log_health',
    'Report what is going wrong in the training, see :class:`HealthMonitor`.')
LOG_MODEL_STATS = flag(
    'log_model_stats', 'Write the size of the model and its FLOPs, see '
    ':class:`ModelInfoMonitor` and :class:`ComplexityMonitor`.')
LOG_RUN_INFO = flag(
    'log_run_info',
    'Write the hyperparameters and the environment of the run, see '
    ':class:`HParamsMonitor` and :class:`EnvironmentMonitor`.')

# The arguments that belong to no monitor.
RUN_ARGUMENTS = (
    choice('preset', 'Values for the arguments that are None. None: '
           "'balanced'.", None, ('fast', 'balanced', 'detailed')),
    Argument(
        'monitors', None, 'list[dict] | None',
        "Further monitors, as ``dict(type='MyMonitor', interval=50)``; of one "
        'that is there already, other values for its arguments, or '
        '``enabled=False``.',
        one_of_types((list, tuple), 'a list of dicts with a type, or None')),
    Argument(
        'continue_run', 'auto', 'bool | str',
        'Whether a resumed training goes on with the curves of the run that '
        "it resumes. 'auto': unless that run had come to its end and has "
        'logged steps after the checkpoint, which would be hidden; True: '
        'always; False: never.',
        one_of_types((bool, str), "True, False or 'auto'", lambda v: v in
                     (True, False, 'auto'))),
    flag(
        'async_write', 'Write in a thread of its own, so that the training '
        'never waits for the disk.'),
    number(
        'flush_secs', 'The longest time that something logged is not yet on '
        'disk, in seconds.', 30, 'a number above 0 and at most 86400',
        lambda v: 0 < v <= 86400),
    Argument(
        'disk_quota', None, 'dict | None',
        'Arguments of :class:`DiskQuota`, from when on images, histograms, '
        'layer scalars and at last all scalars are dropped: ``max_bytes`` for '
        "the run's event files (None: no limit) and ``min_free_bytes`` for "
        'the disk. None: ``dict(max_bytes=None, '
        'min_free_bytes=1073741824)``.',
        one_of_types((dict, ), 'None or a dict of max_bytes (an integer of '
                     'at least 1 or None) and min_free_bytes (an integer of '
                     'at least 0)', _is_disk_quota)),
    Argument(
        'mirror', 'auto', 'str | list[str] | None',
        'The experiment trackers that receive all scalars and images as well, '
        "see :func:`find_clients`. 'auto': the visualization backends of the "
        'config for W&B, MLflow, ClearML, Neptune, Aim and DVCLive, and '
        'ClearML or MLflow where they capture TensorBoard; a list of their '
        'names; None: none.',
        one_of_types((str, list, tuple, type(None)),
                     "'auto', None or a list of "
                     f'{", ".join(map(repr, MIRRORS))}', _are_mirrors)),
    number(
        'overhead_budget', "The fraction of the training's time that the hook "
        'may take of its thread, 0.01 say. The intervals of the costliest '
        'monitors are stretched to hold it, see :class:`OverheadBudget`. '
        'None: they are as given.', None, 'a number between 0 and 1 or None',
        lambda v: 0 < v < 1),
    flag(
        'strict',
        'Raise what goes wrong in the hook. Meant for tests.',
        default=False),
)
