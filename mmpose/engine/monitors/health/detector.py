# Copyright (c) OpenMMLab. All rights reserved.
"""What a detector is, and which there are."""
from typing import Dict, Iterable, List, Optional, Set, Tuple

from mmengine.runner.priority import get_priority

from ..core.arguments import Argument, one_of_types
from ..core.measurements import LearningRates
from ..core.registry import (DETECTORS, PACKAGE, build, class_and_arguments,
                             import_rooms)
from ..core.runner_parts import optim_wrappers
from ..writers.record import Measurement
from .chains import Unrelated
from .report import Finding

DETECTOR_CHANGES = Argument(
    'detectors', None, 'list[dict] | None',
    "Further detectors, as ``dict(type='MyDetector')``; of one that is there "
    'already, other values for its arguments, or ``enabled=False``.',
    one_of_types((list, tuple), 'a list of dicts with a type, or None'))

# The number of consecutive measurements that must agree: a single one may be
# that of an unusual batch.
CONSECUTIVE = 3
# The number of updates after which gradients and updates are no longer small
# because of the initialisation. A residual branch whose last batch norm has a
# scale of 0, or a head with weights near 0, passes hardly any gradient on at
# first.
STARTED = 1000
# A finding about a value around a limit would come and go. It is resolved only
# when the value is below this fraction of the limit.
HYSTERESIS = 0.8
# The warm-up lasts while the highest learning rate grows by this factor.
_RISES = 1.001


class Detector:
    """Look for one kind of anomaly in what monitors measure.

    Called in the writer's thread, in the order of the measurements. What
    is registered in :data:`DETECTORS` can be named in the hook's argument
    ``detectors``.

    Attributes:
        findings (tuple[str]): The names of what it finds, without the place;
            the report refers to the documentation of ours.
        wants (tuple[type]): The measurements that it is shown.
        chain (type): Which findings may follow from which, see
            :class:`Chain`. Defaults to :class:`Unrelated`: none.
        priority (str): Which detectors of a chain come first, see
            :func:`mmengine.runner.priority.get_priority`.
        finds_nonfinite (bool): Whether ``on_nonfinite='ignore'`` switches it
            off.
    """

    findings: Tuple[str, ...] = ()
    wants: Tuple[type, ...] = ()
    chain: type = Unrelated
    priority = 'NORMAL'
    finds_nonfinite = False

    def before_train(self, runner) -> None:
        """Begin a training: forget the last one, learn what is planned.

        Args:
            runner (Runner): The runner of the training process.
        """

    def see(self, step: int,
            measurement: Measurement) -> Optional[List[Finding]]:
        """Judge a measurement.

        Args:
            step (int): The training step.
            measurement (Measurement): One of those that it wants.

        Returns:
            list[Finding] | None: All present findings; None if the
            measurement does not change them.
        """
        raise NotImplementedError


def build_detectors(changes: Optional[Iterable] = None,
                    nonfinite: bool = True) -> List[Detector]:
    """Build the detectors that a config asks for.

    Args:
        changes (Iterable[dict | Detector], optional): Further detectors, as
            ``dict(type=..., <its arguments>)`` or built; for one of ours,
            the arguments to change, or ``enabled=False``. Defaults to None.
        nonfinite (bool): Whether to look for what is NaN or infinite.
            Defaults to True.

    Returns:
        list[Detector]: Those of a chain in the order of their priority.

    Raises:
        KeyError: A type is not registered.
        TypeError: A detector is no dict with a type, or cannot be built with
            its arguments.
    """
    import_rooms()
    classes = dict.fromkeys(DETECTORS.module_dict.values())
    arguments: Dict[type, dict] = {
        cls: {}
        for cls in classes if cls.__module__.startswith(f'{PACKAGE}.') and (
            nonfinite or not cls.finds_nonfinite)
    }
    detectors: List[Detector] = []
    for change in changes or ():
        if isinstance(change, Detector):
            detectors.append(change)
            continue
        cls, change = class_and_arguments(DETECTORS, change)
        if not change.pop('enabled', True):
            arguments.pop(cls, None)
        elif cls in arguments:
            arguments[cls].update(change)
        else:
            detectors.append(build(cls, change))
    detectors += [build(cls, kwargs) for cls, kwargs in arguments.items()]
    return sorted(detectors, key=lambda d: get_priority(d.priority))


def documented(detectors: Iterable[Detector]) -> Set[str]:
    """Return the names of the findings that ``docs/en/health.md`` explains.

    Args:
        detectors (Iterable[Detector]): Ours are documented, others are not.
    """
    return {
        name
        for detector in detectors for name in detector.findings
        if type(detector).__module__.startswith(f'{PACKAGE}.')
    }


class Streaks:
    """Find what holds in several consecutive measurements.

    Args:
        length (int): Their number. Defaults to :data:`CONSECUTIVE`.
    """

    def __init__(self, length: int = CONSECUTIVE) -> None:
        self._length = length
        self._lengths: Dict[str, int] = {}

    def hysteresis(self, name: str) -> float:
        """Return the factor for a limit that a value must exceed.

        Args:
            name (str): What holds if the value exceeds the limit.

        Returns:
            float: :data:`HYSTERESIS` if it held in the last measurements,
            else 1.
        """
        return HYSTERESIS if self._lengths.get(name, 0) >= self._length else 1.

    def update(self, names: Iterable[str]) -> List[str]:
        """Add a measurement.

        Args:
            names (Iterable[str]): What holds in it.

        Returns:
            list[str]: What has held in all of the last measurements, in the
            same order.
        """
        self._lengths = {n: self._lengths.get(n, 0) + 1 for n in names}
        return [
            n for n, lasts in self._lengths.items() if lasts >= self._length
        ]


class WarmUp:
    """Follow the learning rate until it has reached its highest value.

    Attributes:
        last_step (int): The last step at which it has risen.
    """

    def __init__(self) -> None:
        self.last_step = 0
        self._highest = 0.

    def add(self, step: int, rates: LearningRates) -> None:
        """Add the learning rates of a step."""
        if rates.highest > _RISES * self._highest:
            self._highest = rates.highest
            self.last_step = step if step > 1 else 0


def accumulated(runner) -> int:
    """Return over how many iterations gradients are accumulated.

    Args:
        runner (Runner): The runner of the training process.

    Returns:
        int: The number of iterations to an update, 1 if there is one in each.
    """
    return max(wrapper._accumulative_counts
               for _, wrapper in optim_wrappers(runner.optim_wrapper))


def started_at(runner) -> int:
    """Return the step at which there have been :data:`STARTED` updates.

    Args:
        runner (Runner): The runner, when its training begins.
    """
    return runner.iter + 1 + STARTED * accumulated(runner)


def of_optimizer(name: str, optimizer: str) -> Tuple[str, str]:
    """Return the name of a finding about an optimizer, and a text.

    Args:
        name (str): The name where there is just one optimizer.
        optimizer (str): The optimizer's name; ``''`` where there is just one.

    Returns:
        tuple[str, str]: The name, and what says of which optimizer it is.
    """
    if not optimizer:
        return name, ''
    return f'{name}/{optimizer}', f' of the optimizer {optimizer}'


def dotted(place: str) -> str:
    """Return how a text names a place in the model.

    Args:
        place (str): The path of a module or parameter with '/', or 'model'.

    Returns:
        str: The dotted name, as in Python, or 'the model'.
    """
    return 'the model' if place == 'model' else place.replace('/', '.')
