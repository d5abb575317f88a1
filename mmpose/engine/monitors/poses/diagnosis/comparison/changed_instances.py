# Copyright (c) OpenMMLab. All rights reserved.
from typing import Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np

from ...pictures.panels import compose, view
from ...pictures.pose_painter import PosePainter
from ...pictures.scenes import file_scene
from ...pose_samples import PoseSample
from ..diagnosis import Validation
from .pairing import Pairs, score_name

_COUNT = 4
# A change that counts, and one that is drawn.
_CHANGED = 0.1
_DRAWN = 0.02


class Changed(NamedTuple):
    """An instance whose score differs between two runs.

    Attributes:
        change (float): This run's score minus the other's.
        pairs (Pairs): Its data set.
        row (int): Its index there.
    """
    change: float
    pairs: Pairs
    row: int


def changed_counts(pairs: Sequence[Pairs]) -> Tuple[int, int, int]:
    """Count the instances that became better, worse, and neither."""
    changes = np.concatenate([np.diff(p.scores(), axis=0)[0] for p in pairs])
    changes = changes[np.isfinite(changes)]
    better, worse = (changes > _CHANGED).sum(), (changes < -_CHANGED).sum()
    return int(better), int(worse), int(len(changes) - better - worse)


def changed_instances(pairs: Sequence[Pairs], sign: int) -> List[Changed]:
    """Return the instances that changed most, one of each image.

    Args:
        pairs (Sequence[Pairs]): The data sets.
        sign (int): 1: those that became better; -1: worse.
    """
    found: List[Changed] = []
    for one in pairs:
        change = np.nan_to_num(np.diff(one.scores(), axis=0)[0])
        order = np.argsort(-sign * change, kind='stable')
        order = order[:np.count_nonzero(sign * change > _DRAWN)]
        firsts = np.unique(one.images[order], return_index=True)[1]
        found += [
            Changed(float(change[row]), one, int(row))
            for row in order[np.sort(firsts)[:_COUNT]]
        ]
    return sorted(found, key=lambda it: -sign * it.change)[:_COUNT]


def draw_changed(instance: Changed,
                 validation: Validation) -> Iterator[np.ndarray]:
    """Draw the ground truth, the other run's prediction and this one's.

    Args:
        instance (Changed): The instance.
        validation (Validation): The validation.

    Yields:
        np.ndarray: RGB, uint8 of shape (H, W, 3); none if the image cannot be
        read.
    """
    pairs, row = instance.pairs, [instance.row]
    part = pairs.part
    batch = part.instances.batch().take(pairs.rows[row])
    scores = pairs.scores()[:, instance.row]
    number = int(batch.ids[0])
    scene = file_scene(
        PoseSample(
            part.instances.images().get(int(batch.images[0]), (None, ))[0],
            truth=batch.truth,
            visible=batch.visible,
            boxes=batch.boxes,
            areas=batch.areas,
            predicted=batch.predicted,
            scores=batch.keypoint_scores), validation.files,
        validation.prefixes, f'{score_name(part)} {scores[0]:.2f} to '
        f'{scores[1]:.2f} ({instance.change:+.2f})' +
        (f', id {number}' if number >= 0 else ''), 0)
    if scene is None:
        return
    shown = view(np.moveaxis(scene.seen[0], 0, -1), scene.box)
    painter = PosePainter(part.meta, validation.kpt_thr)
    panels = [('GT', painter.draw(shown, batch.truth, batch.visible))]
    for title, one, score in (('other', pairs.earlier.take(row), scores[0]),
                              ('this', batch, scores[1])):
        found = one.found
        panels.append(
            (f'{title}: {score:.2f}' if found[0] else f'{title}: not found',
             painter.draw_errors(shown, one.predicted[found],
                                 one.keypoint_scores[found], one.truth,
                                 one.visible, np.where(found, 0, -1))))
    yield compose(panels, scene.caption, scene.name)
