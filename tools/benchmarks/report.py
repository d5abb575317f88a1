# Copyright (c) OpenMMLab. All rights reserved.
"""The page that is made of what was measured."""
from pathlib import Path
from statistics import mean
from typing import List, Optional, Sequence

from .goals import cost, goals
from .scale import linear
from .timing import is_distinguishable, median, ratios, spread
from .training import BASE

_TRIED = Path(__file__).with_name('tried.md')
_PEERS = ('Lightning', 'Composer', 'wandb.watch', 'before', 'after',
          'MMEngine clipping')


def markdown(results: dict, images: Optional[str] = None) -> str:
    """The whole page.

    Args:
        results (dict): See ``benchmark_hook.measure``.
        images (str, optional): What the plots' names begin with, as the page
            is to name them. Defaults to None: without plots.

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
        sections += _micro(results['micro'], images)
    if 'inputs' in results:
        sections += _inputs(results['inputs'], results.get('validation'))
    if 'training' in results:
        sections += _training(results['training'],
                              results.get('peak_memory', {}), images)
    if 'scale' in results:
        sections += _scale(results['scale'], images)
    if _is_whole(results):
        sections.append(_TRIED.read_text())
    else:
        sections.append('What was tried, and what stands in the way of a goal '
                        'that is not reached: [Benchmarks](benchmarks.md).')
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


def _micro(micro: dict, images: Optional[str]) -> List[str]:
    norms, factors = [], []
    for name, found in micro.items():
        times = found['gradients']
        hook = times['hook']['run']
        floor = floor_of(found)
        one_core = run_of(times, 'one_core')
        head = [name, found['tensors'], f'{found["bytes"] / 1e6:.0f}']
        norms.append([
            *head, f'{found["bytes"] / 1e6 / median(floor):.0f}',
            _ms(floor, 2),
            _ms(one_core) if one_core else '',
            _ms(hook), f'{median(times["hook"]["settle"]):.1f}',
            *(_ms(run_of(times, peer)) for peer in _PEERS)
        ])
        factors.append([
            name,
            _ratio(found['device_times'].get('hook', hook), floor),
            _ratio(hook, one_core) if one_core else '',
            *(_ratio(run_of(times, peer), hook) for peer in _PEERS)
        ])
    rows = [[
        name, *(_ms(times['run']) for times in found['histograms'].values()),
        *(_ratio(found['histograms'][peer]['run'],
                 found['histograms']['hook']['run'])
          for peer in ('first 20', 'spread 20'))
    ] for name, found in micro.items()]
    rates = [[
        name, *(_ms(times['run'], 3)
                for times in found['learning_rate'].values())
    ] for name, found in micro.items()]
    counts = [[
        name, *(found['counts']['gradients'][key]
                for key in ('launches', 'syncs', 'cuda_syncs'))
    ] for name, found in micro.items()]
    return [
        '## Gradient norms',
        'In the training thread, of a step whose gradients are logged, ms. '
        'The hook logs the total and all layers in 20 groups; Lightning and '
        'Composer the total and each parameter; wandb histograms of each; '
        '"before" and "after", the algorithms that this hook was asked to '
        'replace, the total and the first 20 parameters; MMEngine, where it '
        'clips, only the total. The time of wandb is without the backward '
        'pass that it needs. The floor is one pass over the same bytes in one '
        'piece, on all cores of a CPU; beside it the same on one. On a GPU '
        "the floor is the card's time, and in the second table so is the "
        "hook's, in which it waits for one launch after the other; else it is "
        'the time of the training thread, which launches and goes on.',
        _table([
            'model', 'tensors', 'MB', 'GB/s', 'floor', 'one core', 'hook',
            'then in its thread', *_PEERS
        ], norms), 'How many times as long as the hook, and the hook as the '
        'floor:',
        _table(['model', 'hook / floor', 'hook / one core', *_PEERS],
               factors), *_image(images, 'gradients',
                                 'Gradient norms: the hook beside the others'),
        'What the hook asks of torch for one reading, whatever the model; '
        '"brought to the host" counts in the training thread:',
        _table([
            'model', 'operators', 'values brought to the host',
            'CUDA synchronisations'
        ], counts), '## Weight histograms',
        'In the training thread, ms. The hook counts every weight; '
        '`SummaryWriter.add_histogram` is given 20 parameters: the first '
        'ones, as "before" and "after" do, most of them small, or 20 that are '
        'spread over the model.',
        _table([
            'model', 'hook, all', 'first 20', 'spread 20', 'first 20 / hook',
            'spread 20 / hook'
        ], rows), '## Learning rates',
        'In the training thread, ms, one param group.',
        _table(['model', 'hook', '"before" and "after"'], rates)
    ]


def _inputs(inputs: dict, validation: Optional[dict]) -> List[str]:
    memory = inputs['memory']
    times = inputs['denormalize']
    rows = [('kept of the first batch, 32 samples, 256x192, MB',
             *(f'{memory[name] / 1e6:.2f}'
               for name in ('hook', 'before', 'after'))),
            ('a picture of a normalised input, ms',
             *(_ms(times[name]['run'], 2)
               for name in ('hook', 'before', 'after')))]
    parts = [
        '## First batch and pictures',
        _table(['', 'hook', '"before"', '"after"'], rows),
        'The hook does this in its own thread, and turns channels and axes '
        'for the drawing as well, which the others leave to later.'
    ]
    if validation:
        each = median([
            own / count
            for own, count in zip(validation['own'], validation['count'])
        ])
        parts.append(
            f'A picture of a validation sample takes {each:.2g} ms of the '
            f'training thread, in a validation of the demo of '
            f'{median(validation["validation"]):.0f} ms.')
    return parts


def _training(training: dict, peak: dict, images: Optional[str]) -> List[str]:
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
                f'{run["bytes"] / 1e6:.2f}', f'{peak[arm] / 1e6:.0f}'
                if arm in peak and model == 'demo' else ''
            ])
        count = len(base['times'])
        parts += [
            f'### {model}, {count} iterations',
            _table([
                '', 'iteration, ms', 'added up, %', 'direct, %',
                'own clock, %', 'readings', 'behind, ms', 'first, ms',
                'values to the host per iteration', 'MB on disk',
                'peak memory, MB'
            ], rows)
        ]
    return parts + _image(images, 'training',
                          'The cost of an iteration, in percent')


def _scale(scale: dict, images: Optional[str]) -> List[str]:
    rows = []
    for what, unit, kind in (('norms', 'tensors of 1000 elements', 'tensors'),
                             ('norms', 'MB in 100 tensors', 'bytes'),
                             ('histograms', 'MB in 100 tensors', 'weights')):
        times = {float(size): found for size, found in scale[kind].items()}
        rows.append([
            what, unit, ', '.join(f'{size:g}: {median(times[size]):.3g}'
                                  for size in sorted(times)),
            f'{linear(times):.2f}'
        ])
    scalars = [[
        f'{int(count):,}', *(f'{1e3 * found[key] / int(count):.2f}'
                             for key in ('run', 'settle')),
        f'{found["bytes"] / int(count):.1f}', f'{found["memory"] / 1e6:.0f}'
    ] for count, found in scale['scalars'].items()]
    return [
        '## How it grows',
        'In the training thread, ms. The exponent is that of the size, over '
        'the three largest: 1 is linear.',
        _table(['what', 'of', 'ms', 'exponent'],
               rows), 'Scalars, a thousand tags at each step:',
        _table([
            'scalars', 'training thread, µs each', "writer's thread, µs each",
            'bytes each', 'memory grown by, MB'
        ], scalars),
        *_image(images, 'scale', 'Cost against size, both logarithmic')
    ]


def floor_of(found: dict) -> List[float]:
    """The times of a model's floor: on a GPU, the card's."""
    return found['device_times'].get('floor',
                                     found['gradients']['floor']['run'])


def run_of(times: dict, peer: str) -> Optional[List[float]]:
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


def _image(images: Optional[str], name: str, text: str) -> List[str]:
    return [] if images is None else [f'![{text}]({images}_{name}.png)']
