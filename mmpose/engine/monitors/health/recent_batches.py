# Copyright (c) OpenMMLab. All rights reserved.
import json
from collections import deque
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

# The fields that identify a sample, as packed by MMPose.
_KEYS = ('img_path', 'img_paths', 'target_img_path', 'id', 'dataset_name')


class _Batch(NamedTuple):
    step: int
    inputs: Sequence
    samples: Sequence


_NONE = _Batch(-1, (), ())


class RecentBatches:
    """Remember the samples of the last training batches.

    The ids and paths of the samples are kept: 5 MB for 1000 batches of 64.
    Batches are added in the training thread and read in the writer's thread.

    Args:
        length (int): The number of batches. Defaults to 1000.
    """

    def __init__(self, length: int = 1000) -> None:
        self._batches: deque = deque(maxlen=length)
        # The current batch and the last one whose loss was not finite, with
        # their tensors.
        self._current = self._kept = _NONE

    def add(self, step: int, data_batch) -> None:
        """Add a batch.

        Args:
            step (int): The training step.
            data_batch (dict | Any): A batch of MMPose. Others are ignored.
        """
        self._current = _NONE
        if not isinstance(data_batch, dict):
            return
        samples = data_batch.get('data_samples') or ()
        self._current = _Batch(step, data_batch.get('inputs', ()), samples)
        named = [[getattr(sample, key, None) for key in _KEYS]
                 for sample in samples]
        # Compressing would release Python's lock, and then wait for it while
        # the writer's thread has it.
        text = json.dumps(named, default=_plain)
        self._batches.append((step, text))

    def keep(self) -> None:
        """Keep the current batch with its tensors, instead of an older one."""
        self._kept = self._current

    def release(self) -> None:
        """Release the current batch, unless it is kept."""
        self._current = _NONE

    def samples(self, step: int) -> List[dict]:
        """Return what is known of the samples of a batch.

        Args:
            step (int): Its training step.

        Returns:
            list[dict]: The fields that identify each sample, such as
            ``img_path`` and ``id``. Empty if the batch is too old.
        """
        for known, text in reversed(tuple(self._batches)):
            if known == step:
                return [{
                    key: value
                    for key, value in zip(_KEYS, values) if value is not None
                } for values in json.loads(text)]
        return []

    def nonfinite(self, step: int) -> List[Tuple[int, str]]:
        """Return which samples of a batch hold a NaN or an infinity.

        Args:
            step (int): Its training step.

        Returns:
            list[tuple[int, str]]: The number of the sample in the batch, and
            the first of its tensors that does: 'inputs' or the name of a
            label. Empty if the batch is not at hand any more.
        """
        for batch in (self._kept, self._current):
            if batch.step == step:
                return [(i, name) for i in range(len(batch.samples))
                        for name in (_nonfinite(batch, i), )
                        if name is not None]
        return []


def _nonfinite(batch: _Batch, i: int) -> Optional[str]:
    for name, value in _parts(batch, i):
        if isinstance(value, Tensor) and not torch.isfinite(value).all():
            return name
    return None


def _parts(batch: _Batch, i: int) -> Iterator[tuple]:
    for part in ('gt_instance_labels', 'gt_fields'):
        yield from getattr(batch.samples[i], part, {}).items()
    if len(batch.inputs) == len(batch.samples):
        yield 'inputs', batch.inputs[i]


def _plain(value):
    """Return NumPy's numbers and arrays as Python's."""
    return value.tolist() if hasattr(value, 'tolist') else str(value)
