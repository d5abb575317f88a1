# Copyright (c) OpenMMLab. All rights reserved.
"""Plots of what was measured, for the documentation."""
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from .goals import cost
from .report import floor_of, run_of
from .timing import median, spread
from .training import BASE

_READERS = ('floor', 'hook', 'after', 'before', 'Composer', 'Lightning',
            'wandb.watch')


def draw(results: dict, images: str) -> None:
    """Draw all plots.

    Args:
        results (dict): See ``benchmark_hook.measure``.
        images (str): What the paths of the PNG files begin with. Their folder
            is made if needed.
    """
    Path(images).parent.mkdir(parents=True, exist_ok=True)
    for part, plot in (('micro', _gradients), ('training', _training),
                       ('scale', _scale)):
        if part in results:
            name = dict(micro='gradients').get(part, part)
            figure = plot(results[part])
            figure.tight_layout()
            figure.savefig(f'{images}_{name}.png', dpi=100)


def _gradients(micro: dict) -> Figure:
    figure = Figure(figsize=(9, 4))
    axes = figure.subplots()
    width = 0.8 / len(_READERS)
    for i, reader in enumerate(_READERS):
        for x, found in enumerate(micro.values()):
            times = (
                floor_of(found) if reader == 'floor' else run_of(
                    found['gradients'], reader))
            if times is not None:
                axes.bar(
                    x + (i - len(_READERS) / 2) * width,
                    max(median(times), 1e-3),
                    width,
                    yerr=spread(times),
                    color=f'C{i}')
        axes.bar(0, 0, label=reader, color=f'C{i}')
    axes.set_yscale('log')
    axes.set_ylabel('ms in the training thread')
    axes.set_xticks(range(len(micro)))
    axes.set_xticklabels(list(micro))
    axes.set_title('Reading and logging gradient norms')
    axes.legend(
        fontsize=8,
        ncol=len(_READERS),
        loc='upper center',
        bbox_to_anchor=(0.5, -0.08))
    return figure


def _training(training: dict) -> Figure:
    figure = Figure(figsize=(9, 4))
    all_axes = figure.subplots(1, len(training), squeeze=False)
    for axes, (model, runs) in zip(all_axes[0], training.items()):
        names = [name for name in runs if name != BASE]
        costs = [cost(runs[name], runs[BASE]) for name in names]
        axes.barh(
            names[::-1], [c.added_up for c in costs][::-1],
            xerr=[c.error for c in costs][::-1])
        axes.axvline(0, color='black', linewidth=0.5)
        axes.set_title(model)
        axes.set_xlabel('% of an iteration, ± 2 standard errors')
    return figure


def _scale(scale: dict) -> Figure:
    figure = Figure(figsize=(10, 3.5))
    all_axes = figure.subplots(1, 3)
    for axes, (kind, what) in zip(all_axes,
                                  (('tensors', 'Norms: number of tensors'),
                                   ('bytes', 'Norms: MB of gradients'),
                                   ('weights', 'Histograms: MB of weights'))):
        sizes = sorted(map(float, scale[kind]))
        times = {float(size): found for size, found in scale[kind].items()}
        middles = np.array([median(times[size]) for size in sizes])
        axes.errorbar(
            sizes,
            middles,
            yerr=[spread(times[size]) for size in sizes],
            marker='o')
        axes.plot(
            sizes,
            middles[-1] * np.array(sizes) / sizes[-1],
            linestyle=':',
            label='linear')
        axes.set_xscale('log')
        axes.set_yscale('log')
        axes.set_title(what)
        axes.legend()
    all_axes[0].set_ylabel('ms in the training thread')
    return figure
