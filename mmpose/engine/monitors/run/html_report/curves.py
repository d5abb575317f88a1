# Copyright (c) OpenMMLab. All rights reserved.
import io
import re
from typing import Dict, List, NamedTuple, Sequence

from .run_log import Point

# More points of a curve than a page shows.
_MAX_POINTS = 400
_MAX_CURVES = 8


class CurveChart(NamedTuple):
    """A chart of the report.

    Attributes:
        title (str): The title.
        tags (str): A regular expression of the whole tags.
        log (bool): Whether the y axis is logarithmic. Defaults to False.
    """
    title: str
    tags: str
    log: bool = False


CHARTS = (
    CurveChart('Loss', 'loss', log=True),
    CurveChart('Validation metrics', r'val/.*(AP|AR|PCKh?|AUC|NME|EPE|MPJPE)'),
    CurveChart('Accuracy in training', 'acc_pose'),
    CurveChart('Object keypoint similarity', 'instances/OKS'),
    CurveChart('Kinds of error, fraction of the keypoints',
               'errors/(jitter|inversion|swap|miss|not_found)'),
    CurveChart('Learning rate', 'lr'),
    CurveChart('Gradient norm', 'train/gradient_norm/global', log=True),
    CurveChart('Samples per second', 'system/samples_per_second'),
)


def draw_charts(scalars: Dict[str, Sequence[Point]]) -> List[str]:
    """Draw the charts that have a curve.

    Args:
        scalars (dict[str, Sequence[Point]]): The curves by their tags.

    Returns:
        list[str]: An ``<svg>`` element for each.
    """
    drawn = []
    for chart in CHARTS:
        curves = {
            tag: points
            for tag, points in scalars.items()
            if re.fullmatch(chart.tags, tag) and points
        }
        if curves:
            drawn.append(_draw(chart, curves))
    return drawn


def _draw(chart: CurveChart, curves: Dict[str, Sequence[Point]]) -> str:
    # A Figure of its own: pyplot's are global.
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
    figure = Figure(figsize=(5.2, 3), tight_layout=True)
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    for tag in sorted(curves)[:_MAX_CURVES]:
        points = curves[tag]
        points = points[::-(-len(points) // _MAX_POINTS)]
        marker = '.' if len(points) < 30 else ''
        axes.plot([p.step for p in points], [p.value for p in points],
                  marker=marker,
                  linewidth=1.2,
                  label=tag if len(curves) > 1 else None)
    if chart.log and all(p.value > 0 for c in curves.values() for p in c):
        axes.set_yscale('log')
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_title(chart.title, fontsize=11)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=8)
    if len(curves) > 1:
        axes.legend(fontsize=7)
    file = io.StringIO()
    figure.savefig(file, format='svg', metadata=dict(Date=None))
    return file.getvalue()[file.getvalue().index('<svg'):]
