# Copyright (c) OpenMMLab. All rights reserved.
import math
import statistics
from collections import defaultdict, deque
from typing import Dict, List, Optional

from mmengine.dist import get_world_size

from .first_cause import Streaks, dotted, started_at, under
from .health import Detector
from .health_report import Finding

_GLOBAL = 'train/gradient_norm/global'
_LAYERS = 'train/gradient_norm/layers/'

# Layer groups of different sizes and depths differ by much: in the models of
# MMPose, with fresh heads, a group's norm is between 7e-4 and 2e4 times the
# median of all groups, and no less than 1e-6 times the largest. Far below
# either there is no signal left.
_BELOW_MEDIAN = 1e-5
_BELOW_LARGEST = 1e-8
# Against its own past a group has changed by so much, beyond what all groups
# have: a gradient norm scatters and shrinks by 10 or 100 in a training that
# is well.
_CHANGED = 1e3
# The past: so many readings at least, and the last ones.
_MIN_PAST = 10
_MAX_PAST = 50
# A head that some batches train has no gradient in the others: that is no news
# until there was none in so many readings.
_COMES_AND_GOES = 20

_OF_ANOTHER_PROCESS = (
    ' Or the loss was NaN or infinite in another process: those that are '
    'logged are of the first, but the gradients are averages over all.')


class NonfiniteDetector(Detector):
    """Which weights or gradients are NaN or infinite, and where it began.

    ======================= ===============================================
    ``nonfinite_weight``    A weight was, before the update
    ``nonfinite_gradient``  A gradient was, where all weights were not
    ``nonfinite_update``    The update made a weight so, where neither was
    ======================= ===============================================

    Nothing is said where a loss was NaN or infinite and may be why: that has
    a finding of its own, with the loss and the step.
    """

    def before_train(self, runner) -> None:
        self._present: List[Finding] = []
        # The gradients of the update that is looked at next, if known, and
        # its step.
        self._gradient: Optional[Finding] = None
        self._gradient_step = 0
        self._gradient_is_finite = False
        self._is_averaged = get_world_size() > 1
        # What is said unless it turns out that there was a loss before.
        self._waiting: Optional[Finding] = None

    def see(self, step: int, scalars: Dict[str,
                                           float]) -> Optional[List[Finding]]:
        if any(tag.startswith('health/nonfinite_loss/') for tag in scalars):
            self._waiting = None
        elif any(tag.startswith('health/loss/') for tag in scalars):
            self._say(self._waiting)
        elif _GLOBAL in scalars:
            self._see_gradients(step, scalars)
        elif 'health/update_ratio' in scalars or any(
                tag.startswith('health/nonfinite_weight/') for tag in scalars):
            self._see_weights(step, scalars)
        else:
            return None
        return self._present

    def _say(self, finding: Optional[Finding]) -> None:
        self._waiting = None
        if finding is not None and not self._present:
            self._present = [finding]

    def _see_gradients(self, step: int, scalars: Dict[str, float]) -> None:
        # Where no weights were read since.
        self._say(self._gradient)
        self._gradient = None
        self._gradient_step = step
        for name, share in under('health/nonfinite_gradient/',
                                 scalars).items():
            self._gradient = self._or_elsewhere(
                _nonfinite_gradient(step, name, share))
        self._gradient_is_finite = self._gradient is None
        if self._gradient_is_finite:
            self._present = []

    def _see_weights(self, step: int, scalars: Dict[str, float]) -> None:
        if step != self._gradient_step:
            # An update that was put off, of other gradients.
            if self._gradient is not None:
                self._say(self._gradient)
            self._gradient, self._gradient_is_finite = None, False
        gradient, self._gradient = self._gradient, None
        is_finite, self._gradient_is_finite = self._gradient_is_finite, False
        weights = under('health/nonfinite_weight/', scalars)
        updates = under('health/nonfinite_update/', scalars)
        if not weights and not updates and gradient is None:
            self._waiting = None
            self._present = []
            return
        self._say(self._waiting)
        for name, share in weights.items():
            finding = self._or_elsewhere(_nonfinite_weight(step, name, share))
            # What is everywhere says nothing on where it began.
            if share < 1:
                self._say(finding)
            else:
                self._waiting = finding
        if weights:
            return
        if gradient is not None:
            self._waiting = gradient._replace(
                evidence=f'{gradient.evidence} All weights were finite before '
                'the update.')
            return
        for name, share in updates.items():
            finding = _nonfinite_update(step, name, share)
            # Where the gradient is not known, the loss may have made it so.
            if is_finite:
                self._say(finding)
            else:
                self._waiting = self._or_elsewhere(finding)

    def _or_elsewhere(self, finding: Finding) -> Finding:
        if not self._is_averaged:
            return finding
        return finding._replace(advice=finding.advice + _OF_ANOTHER_PROCESS)


def _nonfinite_gradient(step: int, name: str, share: float) -> Finding:
    return Finding(
        'nonfinite_gradient',
        f'A gradient became NaN or infinite, first that of {name}.',
        f'At step {step:,} the gradients of {share:.0%} of the parameters '
        'were, before clipping; none that backpropagation comes to earlier '
        'was.', 'Look in that layer and what comes after it for a division by '
        '0, or a root or logarithm of 0, and at the samples of that step. If '
        'the norms had been growing, lower the learning rate or clip the '
        'gradients. Go on from a checkpoint that is older: the weights are '
        'lost.')


def _nonfinite_update(step: int, name: str, share: float) -> Finding:
    return Finding(
        'nonfinite_update',
        f'An update made weights NaN or infinite, first those of {name}.',
        f'{share:.0%} of the parameters are after the update of step '
        f'{step:,}, and were not before it.',
        'Lower the learning rate. If the gradients were finite '
        '(train/gradient_norm), look for a division by 0 in the optimizer: '
        "Adam's eps is the guard against it. Go on from a checkpoint that is "
        'older.')


def _nonfinite_weight(step: int, name: str, share: float) -> Finding:
    evidence = (f'Before the update of step {step:,} {share:.0%} of the '
                'parameters were.')
    if share < 1:
        return Finding(
            'nonfinite_weight',
            f'Weights became NaN or infinite, first those of {name}.',
            evidence, 'Look at what has written to that layer since the last '
            'reading: its update, a hook, a checkpoint that was loaded. Go on '
            'from a checkpoint that is older.')
    return Finding(
        'nonfinite_weight', 'All weights became NaN or infinite.', evidence,
        'It began after the last reading and has spread since. Go on from a '
        'checkpoint that is older, with grad_norm_interval=1, to see where.')


class VanishingGradientDetector(Detector):
    """``vanishing_gradient/<group>``: hardly any gradient arrives there.

    Where it arrives at several groups no more, the one that is closest to
    the loss has the name.
    """

    def before_train(self, runner) -> None:
        self._past = _Past()
        self._streaks = Streaks()
        self._started_at = started_at(runner)
        # By group, whether it had a gradient in the last readings.
        self._arrived: Dict[str, deque] = defaultdict(
            lambda: deque(maxlen=_COMES_AND_GOES))
        self._group = ''

    def see(self, step: int, scalars: Dict[str,
                                           float]) -> Optional[List[Finding]]:
        norms = _finite(under(_LAYERS, scalars))
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
            least = max(_BELOW_MEDIAN * _median(norms),
                        _BELOW_LARGEST * max(norms.values()))
        vanished = [
            # To a bias in front of a batch norm only rounding errors arrive.
            group for group, norm in norms.items()
            if not group.endswith('/bias') and (
                norm < least or max(growth.get(group, [1])) < 1 / _CHANGED)
        ]
        self._past.add({g: n for g, n in norms.items() if g not in vanished})
        for group, norm in norms.items():
            self._arrived[group].append(norm > 0 and group not in vanished)
        return [g for g in vanished if not self._comes_back(g)]

    def _comes_back(self, group: str) -> bool:
        """Whether there was none before, and one after that."""
        arrived = list(self._arrived[group])
        return (False, True) in zip(arrived, arrived[1:])


class ExplodingGradientDetector(Detector):
    """Gradients that are 1000 times what they used to be.

    ============================== ========================================
    ``exploding_gradient``         All together
    ``exploding_gradient/<group>`` Those of a layer group, beside all others
    ============================== ========================================
    """

    def before_train(self, runner) -> None:
        self._past = {_GLOBAL: _Past(), _LAYERS: _Past()}
        self._streaks = {_GLOBAL: Streaks(), _LAYERS: Streaks()}
        self._found: Dict[str, List[Finding]] = {_GLOBAL: [], _LAYERS: []}

    def see(self, step: int, scalars: Dict[str,
                                           float]) -> Optional[List[Finding]]:
        for kind in _GLOBAL, _LAYERS:
            norms = _finite(under(kind, scalars))
            if norms:
                self._found[kind] = self._look(kind, step, norms)
                return self._found[_GLOBAL] + self._found[_LAYERS]
        return None

    def _look(self, kind: str, step: int, norms: Dict[str,
                                                      float]) -> List[Finding]:
        growth = self._past[kind].compare(norms)
        # What has grown from next to nothing is not what is meant.
        usual = self._past[_GLOBAL].median('')
        exploded = [
            group for group in growth
            if min(growth[group]) > _CHANGED and norms[group] > usual
        ]
        self._past[kind].add(
            {g: n
             for g, n in norms.items() if g not in exploded})
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
    """What norms used to be."""

    def __init__(self) -> None:
        self._norms: Dict[str,
                          deque] = defaultdict(lambda: deque(maxlen=_MAX_PAST))

    def add(self, norms: Dict[str, float]) -> None:
        """Make a reading part of the past.

        Args:
            norms (dict[str, float]): By names, all finite.
        """
        for name, norm in norms.items():
            self._norms[name].append(norm)

    def median(self, name: str) -> float:
        """The median of a norm; 0 where the past is too short to tell."""
        past = self._norms[name]
        return statistics.median(past) if len(past) >= _MIN_PAST else 0.

    def compare(self, norms: Dict[str, float]) -> Dict[str, List[float]]:
        """By what norms have grown.

        Args:
            norms (dict[str, float]): A reading, all finite.

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
