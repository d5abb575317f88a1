# Copyright (c) OpenMMLab. All rights reserved.
"""Draw how each finding looks in the curves.

    python tools/verify_findings.py planted
    python tools/finding_pictures.py

The curves are those of the trainings in which it was planted, which the first
command keeps. There is one picture for each group of findings.
"""
import argparse
import json
import math
from pathlib import Path
from typing import Dict, List, Optional, Tuple

ROOT = Path(__file__).resolve().parents[1]
PLANTED_COLOR, FOUND_COLOR = '#888888', '#d62728'
LOSS, LR = ('loss', ), ('lr', )
# By picture and finding, the tags of the curve; the first is in front. A
# finding that no curve shows has none.
GROUPS: Dict[str, Dict[str, Tuple[str, ...]]] = dict(
    gradients=dict(
        nonfinite_loss=LOSS,
        nonfinite_gradient=('train/gradient_norm/global', ),
        nonfinite_weight=LOSS,
        nonfinite_update=('train/gradient_norm/global', ),
        nonfinite_buffer=('acc_pose', ),
        nonfinite_ema=LOSS,
        update_ratio=('health/update_ratio', ),
        exploding_gradient=('train/gradient_norm/global', ),
        vanishing_gradient=('train/gradient_norm/layers/head/deconv_layers/6',
                            'train/gradient_norm/global'),
        unchanged_weights=('health/unchanged_weights/head', ),
        no_gradient=('health/unused_parameters', ),
        frozen_head=('health/unused_parameters', ),
        dead_channels=('health/dead_channels', ),
        dead_activation=LOSS,
        saturated=LOSS,
        clipping=('health/clipping/share', ),
        amp_overflow=('health/amp/loss_scale', ),
        amp_near_limit=('health/amp/loss_scale', )),
    losses=dict(
        loss_spike=LOSS,
        loss_oscillates=LOSS,
        zero_loss=LOSS,
        not_learning=LOSS,
        zero_accuracy=('acc_pose', 'loss'),
        learning_rate_too_high=LOSS,
        learning_rate_zero=(*LR, 'base_lr'),
        data_loader=('system/data_time_percent', ),
        stalled=('time', ),
        memory_grows=('system/resident_memory_mib', )),
    validations=dict(
        plateau=('val/AP', 'val/quality'),
        overfitting=('val/AP', 'val/quality'),
        ema_lags=('PCK', ),
        validation_nan=('val/AP', ),
        validation_invalid=('val/AP', 'val/PCK'),
        validation_collapse=('val/PCK', ),
        validation_unmoved=('PCK', ),
        validation_preparation=('train_as_val/loss', 'loss'),
        validation_easier=('val/loss', 'train_as_val/loss'),
        heatmap_empty=('heatmap/peak', ),
        left_right_exchanged=('errors/inversion', ),
        instances_swapped=('errors/swap', ),
        one_pose=('keypoints/spread', ),
        keypoint_bias=('keypoints/bias/x', 'keypoints/bias/y'),
        codec_ceiling=('codec/ceiling/OKS', 'instances/OKS')))
# What no curve shows: it is found in the config, the annotations or targets
# before there is one.
WITHOUT_CURVE = ('batch_size', 'codec_differs', 'ema_momentum', 'flip_indices',
                 'input_size', 'keypoint_count', 'keypoint_names',
                 'milestone_too_late', 'normalization',
                 'pretrained_not_loaded', 'same_annotations', 'sanity_val',
                 'shared_images', 'schedule_by_epoch', 'schedule_cut_off',
                 'sigmas', 'skeleton_links', 'target_misplaced', 'use_udp',
                 'warm_up_too_long')
# Those whose curve goes over several powers of ten.
LOGARITHMIC = ('gradient_norm', 'loss_scale', 'update_ratio')
LOG_LOSS = ('learning_rate_too_high', 'loss_spike', 'nonfinite_update')
COLUMNS = 4
# Tests whose curve shows it best.
PREFERRED = dict(
    nonfinite_loss='test_a_loss_that_becomes_nan_at_a_known_step[1]',
    memory_grows='test_memory_that_grows_without_end',
    overfitting='test_validations_that_do_not_get_better[overfitting',
    plateau='test_validations_that_do_not_get_better[plateau',
    learning_rate_zero='test_a_schedule_that_comes_to_zero_too_soon',
    update_ratio='test_a_learning_rate_that_is_a_thousand_times_too_high',
    validation_invalid='test_ap_is_0_in_every_validation',
    codec_ceiling='test_a_codec_that_is_too_coarse')


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--work-dir', default='work_dirs/verify_findings')
    parser.add_argument('--out', default=str(ROOT / 'docs/en/images'))
    args = parser.parse_args()
    work_dir = Path(args.work_dir)
    found = json.loads((work_dir / 'found.json').read_text())
    rows = [row for rows in found['planted'].values() for row in rows]
    for group, findings in GROUPS.items():
        panels = []
        for name, tags in findings.items():
            panel = panel_of(name, tags, rows, work_dir / 'curves')
            if panel is None:
                print(f'{name}: no curve of {tags}')
            else:
                panels.append(panel)
        path = Path(args.out) / f'findings_{group}.png'
        draw(panels, path)
        print(f'{path}: {len(panels)} findings, '
              f'{path.stat().st_size / 1000:.0f} kB')


def panel_of(name: str, tags: Tuple[str, ...], rows: List[dict],
             folder: Path) -> Optional[dict]:
    """Return the curves of a finding, and when it was planted and found."""

    def preference(row):
        return not row['test'].startswith(PREFERRED.get(name, ''))

    for row in sorted(rows, key=preference):
        steps = [
            step for finding, _, step, *_ in row['findings']
            if finding.partition('/')[0] == name
        ]
        if not steps or 'curves' not in row:
            continue
        curves = json.loads((folder / row['curves']).read_text())
        shown = {tag: curves[tag] for tag in tags if len(curves.get(tag, ()))}
        if shown:
            # The axis of a validation is the epoch.
            epochs = {step: value for step, value in curves.get('epoch', ())}
            unit = 1
            last = max(step for curve in shown.values() for step, _ in curve)
            if epochs and last < max(epochs) // 2:
                unit = max(epochs) / max(epochs.values())
            return dict(
                name=name,
                curves=shown,
                unit=unit,
                planted=[step / unit for step in row['steps'] if step > 1],
                found=steps[0] / unit)
    return None


def draw(panels: List[dict], path: Path) -> None:
    """Draw a picture with a card for each finding."""
    import matplotlib
    matplotlib.use('agg')
    from matplotlib import pyplot as plt
    num_rows = -(-len(panels) // COLUMNS)
    plt.rcParams.update({'font.size': 7, 'axes.linewidth': .5})
    figure, axes = plt.subplots(
        num_rows,
        COLUMNS,
        figsize=(2.2 * COLUMNS, 1.5 * num_rows),
        squeeze=False)
    for ax in axes.flat[len(panels):]:
        ax.axis('off')
    for ax, panel in zip(axes.flat, panels):
        draw_card(ax, panel)
    figure.tight_layout(pad=.4)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_card(ax, panel: dict) -> None:
    """Draw the curves of a finding."""
    first, *_ = panel['curves']
    for tag, curve in reversed(panel['curves'].items()):
        curve = in_order(curve)
        steps, values = zip(*curve)
        ax.plot(
            steps,
            values,
            color='#1f77b4' if tag == first else '#bbbbbb',
            linewidth=1,
            marker='.' if len(steps) < 20 else None,
            markersize=3)
        finite = [value for value in values if math.isfinite(value)]
        if len(panel['curves']) == 1 and len(set(finite)) == 1:
            level = finite[0]
            ax.set_ylim(min(0, 2 * level) - .1, max(2 * level, 0) + .1)
        missing = [s for s, value in curve if not math.isfinite(value)]
        ax.plot(
            missing, [min(finite)] * len(missing),
            'x',
            color=FOUND_COLOR,
            markersize=3)
    if (any(part in first for part in LOGARITHMIC)
            or panel['name'] in LOG_LOSS):
        ax.set_yscale('log')
    for step in panel['planted'][:1]:
        ax.axvline(step, color=PLANTED_COLOR, linewidth=1, linestyle=':')
    _, last = ax.get_xlim()
    ax.axvline(min(panel['found'], last), color=FOUND_COLOR, linewidth=1)
    ax.set_title(panel['name'], fontsize=8, pad=2, fontweight='bold')
    names = [
        tag if len(tag) < 36 else '.../' + '/'.join(tag.split('/')[-2:])
        for tag in panel['curves']
    ]
    ax.set_xlabel(
        ', '.join(names) + ' (by epoch)' * (panel['unit'] > 1),
        fontsize=6,
        labelpad=1)
    ax.tick_params(which='both', labelsize=5, length=2, pad=1)
    ax.yaxis.get_offset_text().set_fontsize(5)


def in_order(curve: list) -> list:
    """Leave out points before those that are there, as of validations."""
    kept = curve[:1]
    for step, value in curve[1:]:
        if step > kept[-1][0]:
            kept.append([step, value])
    return kept


if __name__ == '__main__':
    main()
