# Copyright (c) OpenMMLab. All rights reserved.
import math
import statistics
from collections import defaultdict, deque
from typing import Dict, List, Optional

from ...core.measurements import GradientNorms, LayerGradientNorms
from ...core.registry import DETECTORS
from ..chains import FirstDivergence, StoppedLearning
from ..detector import Detector, Streaks, dotted, started_at
from ..report import Finding

# The norms of layer groups differ by much: in the models of MMPose, with newly
# initialised heads, a group's norm is between 7e-4 and 2e4 times the median of
# all groups, and at least 1e-6 times the largest. Far below both limits there
# is no signal left.
_BELOW_MEDIAN = 1e-5
_BELOW_LARGEST = 1e-8
# The factor by which the norm of a group has changed, relative to its past and
# to all groups: in a healthy run a norm scatters and shrinks by 10 or 100.
_CHANGED = 1e3
# And beyond this many MAD standard deviations of its own past, in logarithms.
# Behind a batch norm over two values, as with small batches, a norm scatters
# by factors of 1000.
_SCATTERS = 4
# The least and the largest number of measurements that make up the past.
_MIN_PAST = 10
_MAX_PAST = 50
# A head that only some batches train has no gradient in the others: it has to
# be without one for this many measurements.
_COMES_AND_GOES = 20


@DETECTORS.register_module()
class VanishingGradientDetector(Detector):
    """``vanishing_gradient/<group>``: hardly any gradient arrives there.

    If gradients vanish in several groups, the one closest to the loss is
    named.

    Args:
        below_median (float): The fraction of the median norm of all groups
            below which the gradient of a group has vanished. Defaults to 1e-5.
        shrunk (float): The factor by which the norm has to be below its own
            past. Defaults to 1000.
    """

    findings = ('vanishing_gradient', )
    wants = (LayerGradientNorms, )
    chain = StoppedLearning

    def __init__(self,
                 below_median: float = _BELOW_MEDIAN,
                 shrunk: float = _CHANGED) -> None:
        self._below_median = below_median
        self._shrunk = shrunk

    def before_train(self, runner) -> None:
        self._past = _Past()
        self._streaks = Streaks()
        self._started_at = started_at(runner)
        # By group: whether it had a gradient in each of the last measurements.
        self._arrived: Dict[str, deque] = defaultdict(
            lambda: deque(maxlen=_COMES_AND_GOES))
        self._group = ''

    def see(self, step: int,
            layers: LayerGradientNorms) -> Optional[List[Finding]]:
        norms = _finite(layers.norms)
        if not norms:
            return None
        vanished = self._streaks.update(self._vanished(step, norms))
        if not vanished:
            self._group = ''
            return []
        if self._group not in vanished:
            self._group = vanished[-1]
        others = [dotted(group) for group in vanished if group != self._group]
        largest = max(norms, key=norms.get)
        return [
            Finding(
                f'vanishing_gradient/{self._group}',
                f'Hardly any gradient arrives at {dotted(self._group)}.',
                f'Its norm is {norms[self._group]:.2g} at step {step:,}; that '
                f'of {dotted(largest)} is {norms[largest]:.2g}.' +
                (f' It is the same at {", ".join(others)}.' if others else ''),
                'Look at what lies right before it and between it and the '
                'loss: an activation that is dead or saturated, a scale or '
                'loss weight of 0, many layers without normalisation or skip '
                'connections.')
        ]

    def _vanished(self, step: int, norms: Dict[str, float]) -> List[str]:
        growth = self._past.compare(norms)
        least = 0.
        if step >= self._started_at:
            least = max(self._below_median * _median(norms),
                        _BELOW_LARGEST * max(norms.values()))
        vanished = [
            # A bias before a batch norm gets nothing but rounding errors.
            group for group, norm in norms.items()
            if not group.endswith('/bias') and (
                norm < least or self._past.is_beyond(
                    self._shrunk, _inverse(growth.get(group, [])), group))
        ]
        self._past.add({g: n for g, n in norms.items() if g not in vanished})
        for group, norm in norms.items():
            self._arrived[group].append(norm > 0 and group not in vanished)
        return [g for g in vanished if not self._comes_back(g)]

    def _comes_back(self, group: str) -> bool:
        """Return whether its gradient had vanished and came back before."""
        arrived = list(self._arrived[group])
        return (False, True) in zip(arrived, arrived[1:])


@DETECTORS.register_module()
class ExplodingGradientDetector(Detector):
    """Find gradients that are 1000 times as large as before.

    ============================== ========================================
    ``exploding_gradient``         All together
    ``exploding_gradient/<group>`` Those of a layer group, beside all others
    ============================== ========================================

    Args:
        grown (float): The factor. Defaults to 1000.
    """

    findings = ('exploding_gradient', )
    wants = (GradientNorms, LayerGradientNorms)
    chain = FirstDivergence

    def __init__(self, grown: float = _CHANGED) -> None:
        self._grown = grown

    def before_train(self, runner) -> None:
        self._past = {kind: _Past() for kind in self.wants}
        self._streaks = {kind: Streaks() for kind in self.wants}
        self._found: Dict[type, List[Finding]] = {k: [] for k in self.wants}

    def see(self, step: int, measurement) -> List[Finding]:
        kind = type(measurement)
        norms = _finite({'': measurement.total}
                        if kind is GradientNorms else measurement.norms)
        if norms:
            self._found[kind] = self._look(kind, step, norms)
        return [f for found in self._found.values() for f in found]

    def _look(self, kind: type, step: int,
              norms: Dict[str, float]) -> List[Finding]:
        past = self._past[kind]
        growth = past.compare(norms)
        # A norm that has grown from almost nothing is no explosion.
        usual = self._past[GradientNorms].median('')
        exploded = [
            group for group in growth
            if past.is_beyond(self._grown, growth[group], group)
            and norms[group] > usual
        ]
        past.add({g: n for g, n in norms.items() if g not in exploded})
        return [
            self._finding(step, group, norms[group], growth[group][0])
            for group in self._streaks[kind].update(exploded)
        ]

    def _finding(self, step: int, group: str, norm: float,
                 growth: float) -> Finding:
        return Finding(
            f'exploding_gradient/{group}' if group else 'exploding_gradient',
            f'The gradients of {dotted(group or "model")} explode.',
            f'Their norm is {norm:.2g} at step {step:,}, {growth:.2g} times '
            'what it used to be.',
            'Clip the gradients (clip_grad in optim_wrapper), lower the '
            'learning rate, and look at the samples of these steps for '
            'annotations that are far off.')


class _Past:
    """Keep the past of norms."""

    def __init__(self) -> None:
        self._norms: Dict[str,
                          deque] = defaultdict(lambda: deque(maxlen=_MAX_PAST))

    def add(self, norms: Dict[str, float]) -> None:
        """Add a measurement to the past.

        Args:
            norms (dict[str, float]): By names, all finite.
        """
        for name, norm in norms.items():
            self._norms[name].append(norm)

    def median(self, name: str) -> float:
        """Return the median of a norm; 0 where the past is too short."""
        past = self._norms[name]
        return statistics.median(past) if len(past) >= _MIN_PAST else 0.

    def is_beyond(self, limit: float, changes: List[float], name: str) -> bool:
        """Return whether a norm has changed by more than it usually does.

        Args:
            limit (float): The least factor.
            changes (list[float]): The factors by which it has; empty without
                a past.
            name (str): Its name.
        """
        if not changes or min(changes) <= limit:
            return False
        logs = [math.log(norm) for norm in self._norms[name] if norm > 0]
        median = statistics.median(logs)
        deviation = 1.4826 * statistics.median(
            [abs(log - median) for log in logs])
        return math.log(min(changes)) > _SCATTERS * deviation

    def compare(self, norms: Dict[str, float]) -> Dict[str, List[float]]:
        """Return the factors by which norms have grown.

        Args:
            norms (dict[str, float]): A measurement, all finite.

        Returns:
            dict[str, list[float]]: The norm over its median; where there are
            several also the same beside the median of them all. Without those
            that have no past, or one of 0.
        """
        growth = {
            name: norm / self.median(name)
            for name, norm in norms.items() if self.median(name)
        }
        trend = _median(growth) if len(growth) > 1 else 0
        return {
            name: [own, own / trend] if trend else [own]
            for name, own in growth.items()
        }


def _finite(values: Dict[str, float]) -> Dict[str, float]:
    return {k: v for k, v in values.items() if math.isfinite(v)}


def _median(values: Dict[str, float]) -> float:
    return statistics.median(values.values())


def _inverse(factors: List[float]) -> List[float]:
    return [1 / factor if factor else math.inf for factor in factors]
