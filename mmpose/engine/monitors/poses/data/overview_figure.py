# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, List, Sequence, Tuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullFormatter

from ..pictures.keypoint_figure import (FAINT_INK, new_figure, picture_of,
                                        pixel_axes, write)
from .overview_tally import REACH, OverviewTally

# In pixels.
_TOP, _ROW, _BOTTOM = 70, 34, 300
_BARS, _NAMES = 520, 200
_MAP = 300
_VISIBLE, _OCCLUDED, _ABSENT = '#2a788e', '#f0a202', '#e6e6e6'
_COLORS = ('#2a788e', '#d1495b')


def overview_figure(tallies: Dict[str, OverviewTally],
                    groups: Dict[str, List[int]]) -> np.ndarray:
    """Draw what is annotated in one or two data sets.

    At the top left, how often each keypoint is visible, occluded and absent,
    a bar for each data set; at the top right, where the keypoints lie in the
    crop; below, the distributions of boxes and instances. Without pyplot, so
    that any thread may call it.

    Args:
        tallies (dict[str, OverviewTally]): By name, one or two.
        groups (dict[str, list[int]]): The indices of the keypoints of each
            row.

    Returns:
        np.ndarray: RGB, uint8 of shape (H, 900, 3).
    """
    middle = max(_ROW * (len(groups) + 2), (_MAP + 40) * len(tallies))
    title = 'Instances: ' + ', '.join(f'{tally.instances:,} in {name}'
                                      for name, tally in tallies.items())
    figure = new_figure(title, 1)
    figure.set_size_inches(9, (_TOP + middle + _BOTTOM) / 100)
    figure.suptitle(
        figure._suptitle.get_text(),
        x=.02,
        y=1 - 24 / (_TOP + middle + _BOTTOM),
        ha='left',
        size=18.7,
        weight='bold')
    _draw_rates(pixel_axes(figure, 0, _TOP, _BARS, middle), tallies, groups)
    for i, (name, tally) in enumerate(tallies.items()):
        _draw_places(figure, _TOP + i * (_MAP + 40), name, tally)
    _draw_distributions(figure, _TOP + middle + 30, list(tallies.items()))
    return picture_of(figure)


def _draw_rates(axes: Axes, tallies: Dict[str, OverviewTally],
                groups: Dict[str, List[int]]) -> None:
    left = _NAMES
    told = any(tally.tells_occluded for tally in tallies.values())
    for text, color in (('visible' if told else 'annotated', _VISIBLE),
                        *([('occluded', _OCCLUDED)] if told else []),
                        ('absent', _ABSENT)):
        axes.add_patch(Rectangle((left, 6), 18, 18, color=color))
        write(axes, left + 24, 15, text, 20)
        left += 130 if len(text) > 7 else 105
    width = _BARS - _NAMES - 10
    for row, (name, indices) in enumerate(groups.items(), 1):
        top = row * _ROW + 4
        write(axes, _NAMES - 8, top + 13, _short(name), 20, ha='right')
        height = 26 / len(tallies)
        for i, tally in enumerate(tallies.values()):
            y, x = top + i * height, _NAMES
            visible, occluded = (
                np.nan_to_num(rate[indices]).mean() for rate in tally.rates())
            for rate, color in ((visible, _VISIBLE), (occluded, _OCCLUDED),
                                (1 - visible - occluded, _ABSENT)):
                axes.add_patch(
                    Rectangle((x, y), width * rate, height - 1, color=color))
                x += width * rate
    if len(tallies) > 1:
        upper, lower = tallies
        write(
            axes,
            _NAMES, (len(groups) + 1.5) * _ROW,
            f'above: {upper}, below: {lower}',
            18,
            color=FAINT_INK)


def _short(name: str) -> str:
    return name if len(name) <= 17 else f'{name[:15]}..'


def _draw_places(figure: Figure, top: float, name: str,
                 tally: OverviewTally) -> None:
    """Draw the density of the keypoints, and the edge of the crop."""
    axes = pixel_axes(figure, _BARS + 40, top, _MAP, _MAP + 30)
    write(axes, 0, 14, f'{name}: places in the {tally.crop.name}', 20)
    ratio = min(tally.crop.ratio or 1, 1)
    axes = pixel_axes(figure, _BARS + 40, top + 30, _MAP * ratio, _MAP)
    low, high = REACH
    axes.set_xlim(low, high)
    axes.set_ylim(high, low)
    density = np.sqrt(tally.density)  # So that rare ones are seen as well.
    axes.imshow(
        density,
        cmap='viridis',
        extent=(low, high, high, low),
        aspect='auto',
        vmin=0,
        vmax=max(density.max(), 1))
    axes.add_patch(Rectangle((0, 0), 1, 1, fill=False, color='white', lw=1.5))


def _draw_distributions(figure: Figure, top: float,
                        tallies: Sequence[Tuple[str, OverviewTally]]) -> None:
    sides = [tally.sides.max(1, initial=0) for _, tally in tallies]
    ratios = [tally.aspect_ratios() for _, tally in tallies]
    counts = [tally.per_image() for _, tally in tallies]
    most = max((c.max(initial=1) for c in counts), default=1)
    panels = (("box's longer side, px", sides, _log_bins(sides)),
              ("box's width / height", ratios,
               _log_bins(ratios)), ('instances per image', counts,
                                    np.arange(-.5,
                                              min(most, 20) + 1)))
    for i, (title, values, bins) in enumerate(panels):
        frame = pixel_axes(figure, 20 + 300 * i, top, 270, 34)
        write(frame, 0, 15, title, 20)
        axes = pixel_axes(figure, 20 + 300 * i, top + 36, 260, 170)
        axes.invert_yaxis()
        axes.set_axis_on()
        for side in ('left', 'right', 'top'):
            axes.spines[side].set_visible(False)
        axes.set_yticks([])
        axes.set_xlim(bins[0], bins[-1])
        highest = 1e-9
        for (name, _), value, color in zip(tallies, values, _COLORS):
            heights = np.histogram(value.clip(bins[0], bins[-1]), bins)[0]
            heights = heights / max(heights.sum(), 1)
            highest = max(highest, heights.max())
            axes.stairs(heights, bins, color=color, lw=2.5, label=name)
        has_legend = not i and len(tallies) > 1
        axes.set_ylim(0, (1.5 if has_legend else 1.1) * highest)
        if i < 2:
            axes.set_xscale('log', base=2)
            axes.set_xticks(_log_ticks(bins[0], bins[-1]))
            axes.xaxis.set_major_formatter('{x:g}')
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(labelsize=13, labelcolor=FAINT_INK)
        if has_legend:
            axes.legend(fontsize=12, frameon=False, loc='upper left')


def _log_ticks(low: float, high: float) -> np.ndarray:
    """Return powers of two in a range, and what lies between if few do."""
    powers = 2.**np.arange(np.ceil(np.log2(low)), np.log2(high))
    if len(powers) < 3:
        powers = np.unique(
            np.concatenate([.75 * powers, powers, 1.5 * powers]))
    return powers[(powers >= low) & (powers <= high)]


def _log_bins(values: Sequence[np.ndarray]) -> np.ndarray:
    """Return the edges of 30 bins over all values above 0."""
    known = np.concatenate([v[v > 0] for v in values])
    if not len(known):
        return np.geomspace(.5, 2, 31)
    low, high = np.quantile(known, (.001, .999))
    return np.geomspace(low / 1.1, high * 1.1, 31)
