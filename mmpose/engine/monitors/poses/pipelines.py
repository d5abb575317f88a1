# Copyright (c) OpenMMLab. All rights reserved.
from typing import Optional

from ..core.runner_parts import data_set_parts, pipeline_transforms


class PipelineWatch:
    """Notice that the pipeline of a training was switched."""

    def __init__(self) -> None:
        self._parts: Optional[list] = None

    def has_changed(self, dataset) -> bool:
        """Return whether samples are made in another way than the last time.

        Args:
            dataset (Dataset): The data set of the training.

        Returns:
            bool: True also the first time.
        """
        before, self._parts = self._parts, _pipelines(dataset)
        return before is None or not _same(before, self._parts)


def _pipelines(dataset) -> list:
    """Return what makes the samples; a switch of the pipeline changes it."""
    parts = []
    for part in data_set_parts(dataset):
        parts += [part, getattr(part, 'pipeline', None)]
        if hasattr(part, '_skip_type_keys'):
            parts.append(tuple(part._skip_type_keys or ()))
    return parts


def _same(one: list, other: list) -> bool:
    return len(one) == len(other) and all(
        a is b or isinstance(a, tuple) and a == b for a, b in zip(one, other))


def mixes_images(dataset) -> bool:
    """Return whether a pipeline makes one image of several.

    Args:
        dataset (Dataset): The data set of the training.
    """
    # Not every version of MMPose has that class.
    return any('MixImageTransform' in [cls.__name__ for cls in kind.__mro__]
               for kind in map(type, pipeline_transforms(dataset)))
