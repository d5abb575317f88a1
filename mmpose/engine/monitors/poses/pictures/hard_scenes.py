# Copyright (c) OpenMMLab. All rights reserved.
import functools
from typing import Callable, Sequence, Union

import numpy as np
from torch import nn

from ...core.runner_parts import keypoint_names
from ..accuracy.hard_samples import HardSample
from .image_files import ImageFiles
from .model_inputs import make_visible, preprocess
from .scenes import Scene, file_scene, sample_scene


def hard_scene(hard: HardSample, model: nn.Module, files: ImageFiles,
               prefixes: Sequence[str]) -> Union[Scene, Callable]:
    """Return the scene of a hard sample.

    Args:
        hard (HardSample): The hard sample.
        model (nn.Module): The model without a wrapper.
        files (ImageFiles): Loads the image if the sample has no input.
        prefixes (Sequence[str]): See :func:`image_prefixes`.

    Returns:
        Scene | Callable: See :meth:`SamplePictures.images`.
    """
    sample = hard.sample
    caption = f'{hard.measure} {hard.score:.2f}, {_worst(hard)}'
    if sample.given is None:
        return functools.partial(file_scene, sample, files, prefixes, caption,
                                 hard.instance)
    return sample_scene(
        sample,
        sample.given,
        make_visible(preprocess(model, sample.given)),
        caption=caption,
        instance=hard.instance)


def _worst(hard: HardSample) -> str:
    """Return the name of the worst keypoint, and its kind of error."""
    if hard.predicted is None:
        return 'not found'
    sample, instance = hard.sample, hard.instance
    errors = np.linalg.norm(sample.truth[instance] - hard.predicted, axis=-1)
    errors = np.where(sample.visible[instance], errors, -1)
    worst = errors.argmax()
    text = f'worst {keypoint_names(sample.meta, len(errors))[worst]}'
    kind = hard.kinds[worst] if hard.kinds else None
    return text if kind in (None, 'good') else f'{text} ({kind})'
