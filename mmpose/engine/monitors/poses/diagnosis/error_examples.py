# Copyright (c) OpenMMLab. All rights reserved.
import functools
from typing import Iterator, List, NamedTuple, Optional, Sequence

import numpy as np

from ...writers.record import Image
from ..accuracy.data_set_accuracy import DataSetAccuracy
from ..pictures.scenes import Scene
from .diagnosis import Validation
from .error_kinds import KINDS, ErrorKinds
from .instance_scene import instance_scene

# How many instances of each kind are drawn, and how many keypoints are named.
_COUNT = 2
_MAX_NAMES = 2


class Judged(NamedTuple):
    """The kinds of error of a data set.

    Attributes:
        part (DataSetAccuracy): The data set.
        errors (ErrorKinds): Those of its instances.
    """
    part: DataSetAccuracy
    errors: ErrorKinds


class _Example(NamedTuple):
    """An instance that shows a kind of error.

    Attributes:
        loss (float): See :meth:`ErrorKinds.losses`.
        judged (Judged): Its data set.
        row (int): Its index there.
    """
    loss: float
    judged: Judged
    row: int


def error_examples(judged: Sequence[Judged],
                   validation: Validation) -> Iterator[Image]:
    """Draw the instances with the largest loss by each kind of error.

    No image is kept: they are loaded again when they are drawn.

    Args:
        judged (Sequence[Judged]): The data sets.
        validation (Validation): The validation.

    Yields:
        Image: ``errors/examples/<kind>``.
    """
    for kind in KINDS[1:]:
        scenes = [
            functools.partial(_scene, example, kind, validation)
            for example in _worst(judged, kind)
        ]
        for image in validation.pictures.images(f'errors/examples/{kind}',
                                                scenes):
            if image.pictures:
                yield image


def _worst(judged: Sequence[Judged], kind: str) -> List[_Example]:
    """Return the instances with the largest loss, one of each image."""
    found: List[_Example] = []
    for one in judged:
        losses = one.errors.losses(kind)
        order = np.argsort(-losses, kind='stable')
        order = order[:np.count_nonzero(losses > 0)]
        images = one.errors.batch.images[order]
        firsts = np.sort(np.unique(images, return_index=True)[1])[:_COUNT]
        found += [_Example(losses[row], one, row) for row in order[firsts]]
    return sorted(found, key=lambda example: -example.loss)[:_COUNT]


def _scene(example: _Example, kind: str,
           validation: Validation) -> Optional[Scene]:
    part, errors = example.judged
    caption = kind.replace('_', ' ')
    if kind != 'not_found':
        wrong = errors.kinds()[example.row] == KINDS.index(kind)
        names = [part.names[k] for k in np.flatnonzero(wrong)]
        caption += f': {", ".join(names[:_MAX_NAMES])}'
        if len(names) > _MAX_NAMES:
            caption += f' and {len(names) - _MAX_NAMES} more'
    return instance_scene(part, example.row, caption, validation)
