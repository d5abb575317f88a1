# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, Iterable

from ..writers.record import ScalarLayout
from .monitor import Chart, Monitor

# As LoggerHook writes it.
_LOSS = Chart('Overview', 'loss', '[^/]*loss[^/]*$', position=0)


def scalar_layout(monitors: Iterable[Monitor], runner) -> ScalarLayout:
    """Return the Custom Scalars page of a run, which has just one layout.

    Args:
        monitors (Iterable[Monitor]): Whose charts are on it.
        runner (Runner): The runner of the training process.

    Returns:
        ScalarLayout: The charts by category, the loss first.
    """
    categories: Dict[str, Dict[str, list]] = {}
    charts = [c for monitor in monitors for c in monitor.charts_of(runner)]
    for chart in sorted((_LOSS, *charts), key=lambda chart: chart.position):
        categories.setdefault(chart.category, {})[chart.title] = [
            'Multiline', [f'^{chart.tags}']
        ]
    return ScalarLayout(categories)
