# Copyright (c) OpenMMLab. All rights reserved.
import functools
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ...writers.record import Image
from ..accuracy.data_set_accuracy import DataSetAccuracy
from ..pictures.scenes import Scene
from .diagnosis import Validation
from .error_kinds import KINDS, ErrorCounts, ErrorKinds, mirrored_keypoints
from .instance_scene import instance_scene

# How many instances of each kind are drawn, and how many keypoints are named.
_COUNT = 2
_MAX_NAMES = 2


class Example(NamedTuple):
    """An instance that shows a kind of error.

    Attributes:
        loss (float): See :meth:`ErrorKinds.losses`.
        row (int): Its index in ``part.instances.batch()``.
        keypoints (tuple[int]): Which of its keypoints have that error.
    """
    loss: float
    row: int
    keypoints: Tuple[int, ...]


class JudgedPart(NamedTuple):
    """The kinds of error of a data set.

    Attributes:
        part (DataSetAccuracy): The data set.
        counts (ErrorCounts): How many there are.
        examples (dict[str, list[Example]]): The worst of each kind.
    """
    part: DataSetAccuracy
    counts: ErrorCounts
    examples: Dict[str, List[Example]]


def judge(part: DataSetAccuracy) -> JudgedPart:
    """Find the kinds of error of a data set with sigmas.

    Args:
        part (DataSetAccuracy): The data set, with an instance.
    """
    mirrored = mirrored_keypoints(part.names, part.meta)
    counts, examples = [], {kind: [] for kind in KINDS[1:]}
    for first, block in part.instances.blocks():
        errors = ErrorKinds(block, part.sigmas, mirrored)
        counts.append(errors.results())
        for kind, worst in examples.items():
            worst.extend(_worst(errors, kind, first))
            # Those of the earlier blocks come first.
            worst.sort(key=lambda example: -example.loss)
            del worst[_COUNT:]
    return JudgedPart(part, sum(counts[1:], counts[0]), examples)


def error_examples(judged: Sequence[JudgedPart],
                   validation: Validation) -> Iterator[Image]:
    """Draw the instances with the largest loss by each kind of error.

    No image is kept: they are loaded again when they are drawn.

    Args:
        judged (Sequence[JudgedPart]): The data sets.
        validation (Validation): The validation.

    Yields:
        Image: ``errors/examples/<kind>``.
    """
    for kind in KINDS[1:]:
        examples = [(of_part.part, example) for of_part in judged
                    for example in of_part.examples[kind]]
        examples.sort(key=lambda pair: -pair[1].loss)
        scenes = [
            functools.partial(_scene, part, example, kind, validation)
            for part, example in examples[:_COUNT]
        ]
        for image in validation.pictures.images(f'errors/examples/{kind}',
                                                scenes):
            if image.pictures:
                yield image


def _worst(errors: ErrorKinds, kind: str, first: int) -> Iterator[Example]:
    """Yield the instances with the largest loss, one of each image."""
    losses = errors.losses(kind)
    order = np.argsort(-losses, kind='stable')
    order = order[:np.count_nonzero(losses > 0)]
    images = errors.batch.images[order]
    firsts = np.sort(np.unique(images, return_index=True)[1])[:_COUNT]
    for row in order[firsts].tolist():
        wrong = errors.kinds()[row] == KINDS.index(kind)
        yield Example(
            float(losses[row]), first + row,
            tuple(np.flatnonzero(wrong).tolist()))


def _scene(part: DataSetAccuracy, example: Example, kind: str,
           validation: Validation) -> Optional[Scene]:
    caption = kind.replace('_', ' ')
    if kind != 'not_found':
        names = [part.names[k] for k in example.keypoints]
        caption += f': {", ".join(names[:_MAX_NAMES])}'
        if len(names) > _MAX_NAMES:
            caption += f' and {len(names) - _MAX_NAMES} more'
    return instance_scene(part, example.row, caption, validation)
