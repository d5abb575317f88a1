# Copyright (c) OpenMMLab. All rights reserved.
"""The page that is made of what was measured."""
from pathlib import Path
from statistics import mean
from typing import List, Optional, Sequence

from .goals import cost, goals
from .timing import is_distinguishable, median, ratios, spread
from .training import BASE

_OBSTACLES = Path(__file__).with_name('obstacles.md')
_PEERS = ('Lightning', 'Composer', 'wandb.watch', 'MMEngine clipping')


def markdown(results: dict) -> str:
    """The whole page.

    Args:
        results (dict): See ``benchmark_hook.measure``.

    Returns:
        str: Markdown.
    """
    gpu = results['machine']['GPU']
    sections = [
        '# Benchmarks' if gpu == 'none' else f'# Benchmarks on {gpu}',
        f'Made by `{results["command"]}`, never by hand. Everything is timed '
        'in turn with what it is compared with, so that what disturbs one '
        'disturbs all. Times are medians ± median absolute deviations; a '
        'ratio is the median of the ratios within a round, and one that '
        'differs from 1 by less than its spread is called not '
        'distinguishable.',
        _machine(results), '## What was to be reached',
        _table(['what', 'goal', 'measured', 'reached'],
               [goal for goal in goals(results) if goal.measured])
    ]
    if 'micro' in results:
        sections += _micro(results['micro'])
    if 'training' in results:
        sections += _training(results['training'])
    if 'validation' in results:
        sections += _validation(results['validation'])
    if 'demo' in results:
        sections += _pictures(results['demo'])
    if _is_whole(results):
        sections.append(_OBSTACLES.read_text())
    else:
        sections.append('What stands in the way of a goal that is not '
                        'reached: [Benchmarks](benchmarks.md).')
    return '\n\n'.join(sections)


def _is_whole(results: dict) -> bool:
    """Whether it is more than what a GPU adds to another page."""
    devices = {found['device'] for found in results.get('micro', {}).values()}
    return 'cpu' in devices or not devices


def _machine(results: dict) -> str:
    before, after = results['load']
    return _table(['', 'measured on'], [
        *results['machine'].items(),
        ('Load before and after', f'{before:.1f}, {after:.1f}'),
        ('Took', f'{results["minutes"]:.0f} minutes'),
    ])


def _micro(micro: dict) -> List[str]:
    norms, factors, counts, histograms = [], [], [], []
    for name, found in micro.items():
        times, device = found['gradients'], found['device_times']
        hook = times['hook']['run']
        floor = device.get('floor', times['floor']['run'])
        norms.append([
            name, found['tensors'], f'{found["bytes"] / 1e6:.0f}',
            _ms(floor, 2),
            _ms(hook), f'{median(times["hook"]["settle"]):.1f}',
            *(_ms(_run_of(times, peer)) for peer in _PEERS)
        ])
        factors.append([
            name,
            _ratio(device.get('hook', hook), floor),
            *(_ratio(_run_of(times, peer), hook) for peer in _PEERS)
        ])
        counts.append([
            name, *(found['counts'][key]
                    for key in ('launches', 'syncs', 'cuda_syncs'))
        ])
        all_weights, some = (
            found['histograms'][key]['run']
            for key in ('hook', 'add_histogram'))
        histograms.append(
            [name,
             _ms(all_weights),
             _ms(some),
             _ratio(some, all_weights)])
    return [
        '## Gradient norms',
        'In the training thread, of a step whose gradients are logged, ms. '
        'The hook logs the total and all layers in 20 groups; Lightning and '
        'Composer the total and each parameter; wandb histograms of each; '
        'MMEngine, where it clips, only the total. The time of wandb is '
        'without the backward pass that it needs. The floor is one pass over '
        'the same bytes in one piece, on all cores of a CPU. On a GPU the '
        "floor is the card's time, and in the second table so is the hook's, "
        'in which it waits for one launch after the other; else it is the '
        'time of the training thread, which launches and goes on.',
        _table([
            'model', 'tensors', 'MB', 'floor', 'hook', 'then in its thread',
            *_PEERS
        ], norms), 'How many times as long as the hook, and the hook as the '
        'floor:',
        _table(['model', 'hook / floor', *_PEERS], factors),
        'What the hook asks of torch for one reading, whatever the model; '
        '"brought to the host" counts in the training thread:',
        _table([
            'model', 'operators', 'values brought to the host',
            'CUDA synchronisations'
        ], counts), '## Weight histograms',
        'In the training thread, ms. The hook counts every weight; '
        '`SummaryWriter.add_histogram` is given 20 parameters that are spread '
        'over the model.',
        _table(['model', 'hook', 'add_histogram', 'add_histogram / hook'],
               histograms)
    ]


def _training(training: dict) -> List[str]:
    parts = [
        '## Whole trainings',
        'All ways to train run in one process, an iteration each in turn, on '
        'the same data; an iteration is from the loading of its data to the '
        'last hook. What is written by other threads is waited for before the '
        "next one's turn, and timed apart (\"behind\"): on a machine without "
        'a free core it comes on top. The cost is against the training with '
        '`LoggerHook` and TensorBoard. "Added up": the median of the '
        'differences of usual iterations and the mean of those in which the '
        'hook reads, each as often as they come, ± two standard errors. '
        '"Direct": the mean of all differences. "Own clock": what the hook '
        'measures of itself (`telemetry/overhead_percent`). The first '
        'iteration, in which everything is logged and set up, stands apart.'
    ]
    for model, runs in training.items():
        base = runs[BASE]
        rows = []
        for arm, run in runs.items():
            found = cost(run, base)
            added = f'{found.added_up:+.2f} ± {found.error:.2f}'
            if not found.is_distinguishable:
                added = f'not distinguishable (± {found.error:.2f})'
            rows.append([
                arm,
                _ms(run['times']), *(['', '', ''] if arm == BASE else [
                    added, f'{found.direct:+.2f}',
                    f'{found.inside:+.2f}' if found.inside else ''
                ]), f'{sum(run["logged"])} of {len(run["logged"])}',
                f'{mean(run["behind"]):.2f}', f'{run["first"]:.0f}',
                f'{run["syncs"] - base["syncs"]:+.1f}',
                f'{run["bytes"] / 1e6:.2f}'
            ])
        parts += [
            f'### {model}, {len(base["times"])} iterations',
            _table([
                '', 'iteration, ms', 'added up, %', 'direct, %',
                'own clock, %', 'readings', 'behind, ms', 'first, ms',
                'values to the host per iteration', 'MB on disk'
            ], rows)
        ]
    return parts


def _validation(validation: dict) -> List[str]:
    rows = [[
        what, *(_us(found['times'][what]) for found in validation.values())
    ] for what in next(iter(validation.values()))['times']]
    boxes = [
        f'{name}: {found["boxes"]:,}' for name, found in validation.items()
    ]
    return [
        '## Validations',
        'Of a validation as large as that of COCO, microseconds a box. '
        'Pictures are not among it: there is the same number of them in any '
        'validation.',
        _table(['', *boxes], rows)
    ]


def _pictures(demo: dict) -> List[str]:
    rows = [[f'`{tag}`', f'{sum(sizes) / 1e3:.0f}',
             len(sizes)] for tag, sizes in sorted(
                 demo['pictures'].items(), key=lambda item: -sum(item[1]))]
    return [
        '## Pictures of the demo', 'In its whole training.',
        _table(['tag', 'KB', 'steps'], rows)
    ]


def _run_of(times: dict, peer: str) -> Optional[List[float]]:
    """The times of a peer; None if it is missing."""
    if times.get(peer) is None:
        return None
    run = times[peer]['run']
    if peer == 'wandb.watch':
        # Round by round without what is not its own.
        return [a - b for a, b in zip(run, times['backward alone']['run'])]
    return run


def _ms(values: Optional[Sequence[float]], digits: int = 1) -> str:
    if values is None:
        return 'missing'
    return f'{median(values):.{digits}f} ± {spread(values):.{digits}f}'


def _us(values: Sequence[float]) -> str:
    return f'{median(values):.1f} ± {spread(values):.1f}'


def _ratio(values: Optional[Sequence[float]], to: Sequence[float]) -> str:
    if values is None:
        return 'missing'
    ratio = f'{median(ratios(values, to)):.2f}'
    if not is_distinguishable(values, to):
        return f'{ratio}, not distinguishable'
    return ratio


def _table(head: Sequence[str], rows: Sequence[Sequence]) -> str:
    lines = [head, [':--', *['--:'] * (len(head) - 1)], *rows]
    return '\n'.join('| ' + ' | '.join(map(str, line)) + ' |'
                     for line in lines)
