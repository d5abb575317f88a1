# Copyright (c) OpenMMLab. All rights reserved.
"""What was to be reached, and whether it was."""
from statistics import mean, pstdev
from typing import Callable, Dict, List, NamedTuple, Optional

from .timing import median, ratios, standard_error
from .training import BASE

# Milliseconds that the start of a kernel takes.
_LAUNCH = 0.01


class Goal(NamedTuple):
    """A row of the table.

    Attributes:
        what (str): What is compared.
        goal (str): What was to be reached.
        measured (str): What was measured.
        reached (str): 'yes', 'no', 'not measured', or what lies between.
    """
    what: str
    goal: str
    measured: str
    reached: str


class Cost(NamedTuple):
    """What a way to train takes more than another, in percent of its time.

    Attributes:
        added_up (float): Usual iterations by their median and those in which
            the hook reads by their mean, each as often as they come.
        error (float): Twice the standard error of ``added_up``.
        direct (float): The mean of all.
        inside (float): By the hook's own clock.
        behind (float): What its other threads take.
    """
    added_up: float
    error: float
    direct: float
    inside: float
    behind: float

    @property
    def is_distinguishable(self) -> bool:
        """Whether it differs from 0 by more than its error."""
        return abs(self.added_up) > self.error


def cost(run: dict, base: dict) -> Cost:
    """What a way to train costs, iteration by iteration beside another.

    Args:
        run (dict): A :obj:`training.Run`.
        base (dict): The one that it is compared with.

    Returns:
        Cost: In percent.
    """
    more = [a - b for a, b in zip(run['times'], base['times'])]
    usual = [m for m, logged in zip(more, run['logged']) if not logged]
    logged = [m for m, logged in zip(more, run['logged']) if logged]
    share = len(logged) / len(more)
    added_up = error = 0.
    if usual:
        added_up += (1 - share) * median(usual)
        error += ((1 - share) * standard_error(usual))**2
    if logged:
        added_up += share * mean(logged)
        error += (share * pstdev(logged))**2 / len(logged)
    of = median(base['times'])
    behind = mean(run['behind']) - mean(base['behind'])
    return Cost(*(100 * value / of
                  for value in (added_up, 2 * error**0.5, mean(more),
                                mean(run['inside']), behind)))


def goals(results: dict) -> List[Goal]:
    """All goals, beside what was measured of them.

    Args:
        results (dict): See ``benchmark_hook.measure``.

    Returns:
        list[Goal]: A row for each.
    """
    micro = results.get('micro', {})
    cpu = {n: m for n, m in micro.items() if m['device'] == 'cpu'}
    large = {n: m for n, m in cpu.items() if m['bytes'] >= 50e6}
    return [
        *(_all_models(
            f'norms of all layers, CPU, against {peer}',
            'at least 4 times faster',
            cpu,
            lambda m, peer=peer: _times_faster(m['gradients'], peer),
            lambda x: x >= 4) for peer in ('Lightning', 'Composer')),
        _all_models('the same against "after", which logs 20 layers', 'faster',
                    cpu, lambda m: _times_faster(m['gradients'], 'after'),
                    lambda x: x > 1),
        _all_models(
            'the same against the floor', 'at most 1.3 from 50 MB on', large,
            lambda m: median(
                ratios(m['gradients']['hook']['run'], m['gradients']['floor'][
                    'run'])), lambda x: x <= 1.3),
        _gpu(micro),
        *(_all_models(
            f'exact histograms of all weights, against add_histogram of '
            f'{what}',
            'faster',
            cpu,
            lambda m, peer=peer: _times_faster(m['histograms'], peer),
            lambda x: x > 1)
          for peer, what in (('first 20', 'the first 20 parameters'),
                             ('spread 20', '20 spread over the model'))),
        _memory(results.get('inputs')),
        _training_panels(cpu),
        _validation_panels(results.get('validation')),
        _iterations(results, 'balanced', 0.5),
        _iterations(results, 'detailed', 2),
        _iterations(results, 'every iteration', 15),
    ]


def _times_faster(times: dict, peer: str) -> Optional[float]:
    """How many times as long the peer takes; None if it is missing."""
    if times.get(peer) is None:
        return None
    return median(ratios(times[peer]['run'], times['hook']['run']))


def _all_models(what: str, goal: str, measured: Dict[str, dict],
                value: Callable, reaches: Callable) -> Goal:
    values = {name: value(model) for name, model in measured.items()}
    values = {name: v for name, v in values.items() if v is not None}
    if not values:
        return _unmeasured(what, goal)
    missed = [name for name, v in values.items() if not reaches(v)]
    reached = 'yes' if not missed else f'not by {", ".join(missed)}'
    if len(missed) == len(values):
        reached = 'no'
    return Goal(what, goal,
                ', '.join(f'{n} {v:.2g}' for n, v in values.items()), reached)


def _gpu(micro: Dict[str, dict]) -> Goal:
    what, goal = ('norms of all layers, on a GPU',
                  'no synchronisation; at most 2 times '
                  'the floor and a handful of launches')
    gpu = {n: m for n, m in micro.items() if m['device'] != 'cpu'}
    if not gpu:
        return _unmeasured(what, goal, 'no CUDA GPU')
    parts, missed = [], False
    for name, found in gpu.items():
        hook, floor = (
            median(found['device_times'][key]) for key in ('hook', 'floor'))
        counts = found['counts']['gradients']
        missed |= counts['cuda_syncs'] > 0
        missed |= hook > 2 * floor + _LAUNCH * counts['launches']
        parts.append(f'{name}: {counts["cuda_syncs"]} synchronisations, '
                     f'{hook:.2g} ms of the GPU, floor {floor:.2g} ms')
    return Goal(what, goal, '; '.join(parts), 'no' if missed else 'yes')


def _memory(inputs: Optional[dict]) -> Goal:
    what, goal = 'memory of the fixed samples, 256x192', 'under 1 MB'
    if inputs is None:
        return _unmeasured(what, goal)
    memory = {k: v / 1e6 for k, v in inputs['memory'].items()}
    return Goal(
        what, goal,
        f'{memory["hook"]:.2f} MB (before: {memory["before"]:.0f}, after: '
        f'{memory["after"]:.1f})', 'yes' if memory['hook'] < 1 else 'no')


def _training_panels(cpu: Dict[str, dict]) -> Goal:
    return _all_models(
        'a picture of a training sample, in the training thread, ms without '
        'the prediction', 'under 2 ms',
        {n: m
         for n, m in cpu.items() if 'panels' in m},
        lambda m: median(m['panels']['own']) / m['panels']['count'],
        lambda x: x < 2)


def _validation_panels(found: Optional[dict]) -> Goal:
    what = 'a picture of a validation sample, in the training thread'
    if found is None or not sum(found['count']):
        return _unmeasured(what, 'under 2 ms')
    each = median([o / c for o, c in zip(found['own'], found['count'])])
    return Goal(what, 'under 2 ms', f'{each:.2g} ms',
                'yes' if each < 2 else 'no')


def _iterations(results: dict, arm: str, limit: float) -> Goal:
    what, goal = f"time of an iteration, '{arm}'", f'at most +{limit:g} %'
    if arm == 'every iteration':
        what = 'time of an iteration, everything at interval 1'
    parts, missed, close = [], False, False
    for name, runs in results.get('training', {}).items():
        if arm not in runs or BASE not in runs:
            continue
        found = cost(runs[arm], runs[BASE])
        if found.is_distinguishable:
            parts.append(f'{name} {found.added_up:+.2g} ± {found.error:.1g} %')
            missed |= found.added_up > limit
            close |= abs(found.added_up - limit) < found.error
        else:
            parts.append(f'{name} not distinguishable from 0 ± '
                         f'{found.error:.2g} %; by its own clock '
                         f'{found.inside:+.2g} %')
            missed |= found.inside > limit
            close |= found.error > limit
    if not parts:
        return _unmeasured(what, goal)
    reached = 'no' if missed else 'yes'
    if close:
        reached += ', within the error'
    return Goal(what, goal, '; '.join(parts), reached)


def _unmeasured(what: str, goal: str, why: str = '') -> Goal:
    return Goal(what, goal, why, 'not measured')
