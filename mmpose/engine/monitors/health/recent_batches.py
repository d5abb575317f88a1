# Copyright (c) OpenMMLab. All rights reserved.
import json
from collections import deque
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

# What says which sample it is, and where: what MMPose packs.
_KEYS = ('img_path', 'img_paths', 'target_img_path', 'id', 'dataset_name')


class _Batch(NamedTuple):
    step: int
    inputs: Sequence
    samples: Sequence


_NONE = _Batch(-1, (), ())


class RecentBatches:
    """Remember which samples the last training batches held.

    Of a batch their ids and paths are kept: 5 MB for 1000 batches of 64
    samples. Added to in the training thread, asked in the one that writes.

    Args:
        length (int): How many batches. Defaults to 1000.
    """

    def __init__(self, length: int = 1000) -> None:
        self._batches: deque = deque(maxlen=length)
        # Whole batches: the present one, and one whose loss was not finite.
        self._current = self._kept = _NONE

    def add(self, step: int, data_batch) -> None:
        """Add a batch.

        Args:
            step (int): The training step.
            data_batch (dict | Any): As MMPose collates it. Others hold no
                samples that could be named.
        """
        self._current = _NONE
        if not isinstance(data_batch, dict):
            return
        samples = data_batch.get('data_samples') or ()
        self._current = _Batch(step, data_batch.get('inputs', ()), samples)
        named = [[getattr(sample, key, None) for key in _KEYS]
                 for sample in samples]
        # Not compressed: that would release Python's lock, and wait for it
        # while the thread that writes has it.
        text = json.dumps(named, default=_plain)
        self._batches.append((step, text))

    def keep(self) -> None:
        """Keep the present batch as it is, until the next one that is kept."""
        self._kept = self._current

    def release(self) -> None:
        """Let go of the present batch, where it is not kept."""
        self._current = _NONE

    def samples(self, step: int) -> List[dict]:
        """Return what is known of the samples of a batch.

        Args:
            step (int): Its training step.

        Returns:
            list[dict]: Of each sample ``img_path``, ``id`` and what else says
            which it is. Empty if the batch is too long ago.
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
