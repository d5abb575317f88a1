# Copyright (c) OpenMMLab. All rights reserved.
"""What was to be reached, and whether it was."""
from statistics import mean, pstdev
from typing import Callable, Dict, List, NamedTuple, Optional

from .timing import median, ratios, standard_error
from .training import BASE
from .validation import COCOS, DETECTED

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
    """
    added_up: float
    error: float
    direct: float
    inside: float

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
    return Cost(*(100 * value / of
                  for value in (added_up, 2 * error**0.5, mean(more),
                                mean(run['inside']))))


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
        _all_models(
            'the same against the floor', 'at most 1.5 from 50 MB on', large,
            lambda m: median(
                ratios(m['gradients']['hook']['run'], m['gradients']['floor'][
                    'run'])), lambda x: x <= 1.5),
        _gpu(micro),
        _all_models(
            'exact histograms of all weights, CPU, against add_histogram of '
            '20 parameters spread over the model', 'faster', cpu,
            lambda m: _times_faster(m['histograms'], 'add_histogram'),
            lambda x: x > 1),
        _iterations(results, 'balanced', 0.5),
        _iterations(results, 'detailed', 2),
        _iterations(results, 'every iteration, no pictures', 6),
        *_validation(results.get('validation', {})),
        _imports(results.get('imports')),
        *_on_disk(results.get('demo'), results.get('coco_pictures')),
    ]


def _validation(validation: Dict[str, dict]) -> List[Goal]:
    rows = (('accuracy by keypoint in a validation with detector boxes, a box',
             'at most 20 microseconds'),
            ('all tallies and diagnoses of a validation, a box',
             'at most 100 microseconds'))
    if not validation:
        return [_unmeasured(*row) for row in rows]
    box = median(validation[DETECTED]['times']['tallies'])
    totals = {
        name: sum(
            median(times) for what, times in found['times'].items()
            if what != COCOS)
        for name, found in validation.items()
    }
    return [
        _limited(*rows[0], f'{box:.2g} microseconds', box <= 20),
        _limited(
            *rows[1],
            ', '.join(f'{name} {total:.2g}' for name, total in totals.items()),
            max(totals.values()) <= 100)
    ]


def _imports(found: Optional[dict]) -> Goal:
    what, goal = ('import mmpose.engine.hooks, with the hook',
                  'at most 0.1 s and 20 modules more')
    if found is None:
        return _unmeasured(what, goal)
    more = median([a - b for a, b in zip(found['with'], found['without'])])
    modules = max(found['modules'])
    return _limited(
        what, goal, f'{more:.2f} s and {modules} modules more than '
        f'{median(found["without"]):.2f} s', more <= 0.1 and modules <= 20)


def _on_disk(demo: Optional[dict], pictures: Optional[dict]) -> List[Goal]:
    rows = (('the event file of the demo',
             'at most 10 MB'), ('scalar tags of the demo', 'at most 130'),
            ('pictures of a training on COCO: 210 epochs, batches of 64',
             'at most 150 MB'))
    if demo is None:
        return [_unmeasured(*row) for row in rows]
    return [
        _limited(*rows[0], f'{demo["bytes"] / 1e6:.1f} MB',
                 demo['bytes'] <= 10e6),
        _limited(*rows[1], f'{demo["scalars"]}', demo['scalars'] <= 130),
        _limited(
            *rows[2], f'{pictures["bytes"] / 1e6:.0f} MB: '
            f'{pictures["steps"]} steps of {pictures["step_bytes"] / 1e3:.0f} '
            'KB, and the validations', pictures['bytes'] <= 150e6)
    ]


def _limited(what: str, goal: str, measured: str, reached: bool) -> Goal:
    return Goal(what, goal, measured, 'yes' if reached else 'no')


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
        counts = found['counts']
        missed |= counts['cuda_syncs'] > 0
        missed |= hook > 2 * floor + _LAUNCH * counts['launches']
        parts.append(f'{name}: {counts["cuda_syncs"]} synchronisations, '
                     f'{hook:.2g} ms of the GPU, floor {floor:.2g} ms')
    return Goal(what, goal, '; '.join(parts), 'no' if missed else 'yes')


def _iterations(results: dict, arm: str, limit: float) -> Goal:
    what, goal = f"time of an iteration, '{arm}'", f'at most +{limit:g} %'
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
