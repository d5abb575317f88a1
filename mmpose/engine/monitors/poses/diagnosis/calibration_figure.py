# Copyright (c) OpenMMLab. All rights reserved.
from typing import TYPE_CHECKING, NamedTuple, Sequence, Tuple

import numpy as np

from ..pictures.keypoint_figure import new_figure, picture_of

if TYPE_CHECKING:
    from .calibration import Bins

_HITS, _MISSES = '#7cc79a', '#d1352b'
_INK, _FAINT = '#202020', '#606060'
_LINES = dict(kpt_thr='#7b3fa0', best='#2f7fd0')
_FONT = 16  # In points, 22 pixels.
_ROWS = 21


class Kept(NamedTuple):
    """What a threshold of the scores keeps.

    Attributes:
        threshold (float): Keypoints of lower scores are dropped.
        hits (float): The fraction of the right keypoints that are kept, NaN
            if there are none.
        misses (float): The fraction of the wrong ones.
    """
    threshold: float
    hits: float
    misses: float

    def __str__(self) -> str:
        return ' and '.join(f'{fraction:.0%} of the {what}'
                            for fraction, what in ((self.hits, 'right'),
                                                   (self.misses, 'wrong'))
                            if np.isfinite(fraction))


def draw_calibration(bins: 'Bins', kept: Sequence[Tuple[str, Kept]],
                     ece: float, auroc: float, title: str) -> np.ndarray:
    """Draw a reliability diagram above a histogram of scores.

    Without pyplot, so that any thread may call it.

    Args:
        bins (Bins): The keypoints by score.
        kept (Sequence[tuple[str, Kept]]): The names of thresholds, 'kpt_thr'
            or 'best', and what each keeps.
        ece (float): The expected calibration error.
        auroc (float): The area under the ROC curve, NaN where it is not known.
        title (str): The title.

    Returns:
        np.ndarray: RGB, uint8 of shape (H, 900, 3).
    """
    figure = new_figure(title, _ROWS)
    above, below = figure.subplots(
        2, 1, sharex=True, gridspec_kw=dict(height_ratios=(3, 2)))
    number = len(bins.hits)
    edges = np.arange(number) / number
    totals = bins.hits + bins.misses
    filled = totals > 0
    accuracy = bins.hits[filled] / totals[filled]
    style = dict(width=1 / number, align='edge', edgecolor='white')
    above.bar(edges[filled], accuracy, color=_HITS, **style)
    above.plot([0, 1], [0, 1], '--', color=_FAINT, lw=2.5)
    above.plot(
        bins.scores[filled] / totals[filled],
        accuracy,
        'o',
        color=_INK,
        markersize=7)
    numbers = f'ECE {ece:.3f}'
    if np.isfinite(auroc):
        numbers += f', AUROC {auroc:.3f}'
    above.set_ylim(0, 1.02)
    above.set_ylabel('fraction right', size=_FONT)
    below.bar(edges, bins.hits, color=_HITS, label='right', **style)
    below.bar(
        edges,
        bins.misses,
        bottom=bins.hits,
        color=_MISSES,
        label='wrong',
        **style)
    below.set_ylabel('keypoints', size=_FONT)
    below.set_xlabel('score', size=_FONT)
    # Room for the legend above the bars.
    below.set_ylim(0, 1.4 * totals.max())
    below.legend(
        loc='upper left',
        ncol=2,
        fontsize=_FONT,
        framealpha=1,
        edgecolor='none')
    for name, at in kept:
        for axes in (above, below):
            axes.axvline(
                at.threshold,
                color=_LINES[name],
                lw=3,
                label=f'{name} {at.threshold:.2f} keeps {at}')
    below.locator_params('y', nbins=4)
    for axes in (above, below):
        axes.set_xlim(0, 1)
        axes.tick_params(labelsize=_FONT, colors=_INK)
        for side in ('top', 'right'):
            axes.spines[side].set_visible(False)
    legend = above.legend(
        loc='lower left',
        bbox_to_anchor=(-.02, 1),
        title=numbers,
        title_fontsize=_FONT,
        fontsize=_FONT,
        frameon=False,
        labelcolor=_INK)
    legend._legend_box.align = 'left'
    figure.tight_layout()
    return picture_of(figure)
