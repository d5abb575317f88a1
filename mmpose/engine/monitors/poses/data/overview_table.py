# Copyright (c) OpenMMLab. All rights reserved.
from typing import Callable, Dict, Iterator, List, Sequence

import numpy as np

from .overview_tally import OverviewTally

# With more keypoints a row is a body part.
MAX_ROWS = 30


def overview_table(tallies: Dict[str, OverviewTally],
                   groups: Dict[str, List[int]],
                   notes: Sequence[str] = ()) -> str:
    """Describe the annotations of data sets in Markdown.

    Args:
        tallies (dict[str, OverviewTally]): By the name of the column, at
            least one.
        groups (dict[str, list[int]]): The indices of the keypoints of each
            row of the second table.
        notes (Sequence[str]): Sentences that follow. Defaults to ().
    """
    columns = list(tallies.values())
    lines = [*_head('', tallies), *_rows(columns)]
    lines += ['', *_head('Of the instances', _columns(tallies))]
    for name, indices in groups.items():
        cells = []
        for tally in columns:
            visible, occluded = (
                rate[indices].mean() for rate in tally.rates())
            if tally.tells_occluded:
                cells += [_percent(visible), _percent(occluded)]
            else:
                cells.append(_percent(visible))
            cells.append(_percent(abs(1 - visible - occluded)))
        lines.append(_row(name, cells))
    return '\n'.join([*lines, *(f'\n{note}' for note in notes)])


def _columns(tallies: Dict[str, OverviewTally]) -> Iterator[str]:
    for name, tally in tallies.items():
        kinds = ('visible',
                 'occluded') if tally.tells_occluded else ('annotated', )
        for kind in (*kinds, 'absent'):
            yield f'{name}: {kind}'


def _rows(tallies: Sequence[OverviewTally]) -> Iterator[str]:
    rows: Dict[str, Callable[[OverviewTally], str]] = {
        'Images':
        lambda t: f'{len(t.images):,}',
        'Instances':
        lambda t: f'{t.instances:,}',
        'Instances per image, mean and largest':
        _per_image,
        'Instances without keypoints':
        _empty,
        'Annotated keypoints per instance':
        _annotated,
        f'Annotated keypoints outside of the {tallies[0].crop.name}':
        _outside,
        'Longer side of the box: 5th percentile, median, 95th':
        lambda t: _quantiles(t.sides.max(1, initial=0), '.0f', ' px'),
        'Width over height of the box: 5th percentile, median, 95th':
        lambda t: _quantiles(t.aspect_ratios(), '.2f'),
        'Boxes without a size':
        lambda t: f'{int((t.sides <= 0).any(1).sum()):,}',
        'Crowds, which are not counted':
        lambda t: f'{t.crowds:,}'
    }
    for name, value in rows.items():
        cells = [value(tally) for tally in tallies]
        # Of what is rare, only what there is.
        if name[:6] not in ('Crowds', 'Boxes ') or set(cells) != {'0'}:
            yield _row(name, cells)


def _per_image(tally: OverviewTally) -> str:
    counts = tally.per_image()
    if not len(counts):
        return '-'
    return f'{counts.mean():.2f}, {counts.max():,}'


def _empty(tally: OverviewTally) -> str:
    return f'{tally.empty:,} ({_percent(_ratio(tally.empty, tally.compared))})'


def _annotated(tally: OverviewTally) -> str:
    mean = _ratio(tally.annotated.sum(), tally.compared)
    return f'{mean:.1f} of {tally.num_keypoints}'


def _outside(tally: OverviewTally) -> str:
    return _percent(_ratio(tally.outside, tally.annotated.sum()))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else np.nan


def _percent(fraction: float) -> str:
    return '-' if np.isnan(fraction) else f'{fraction:.1%}'


def _quantiles(values: np.ndarray, form: str, unit: str = '') -> str:
    if not len(values):
        return '-'
    return ', '.join(f'{q:{form}}'
                     for q in np.quantile(values, (.05, .5, .95))) + unit


def _head(first: str, columns) -> List[str]:
    names = list(columns)
    return [_row(first, names), _row('---', ['---:'] * len(names))]


def _row(first: str, cells: Sequence[str]) -> str:
    return f'| {" | ".join([first, *cells])} |'.replace('|  |', '| |')
