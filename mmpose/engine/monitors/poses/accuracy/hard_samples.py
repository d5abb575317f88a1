# Copyright (c) OpenMMLab. All rights reserved.
from typing import (Callable, Dict, Hashable, List, NamedTuple, Optional,
                    Sequence, Tuple)

import numpy as np
from mmengine.dataset import DefaultSampler

from ..pose_samples import PoseSample


class HardSample(NamedTuple):
    """An annotated instance that was predicted badly.

    Attributes:
        cost (float): What it costs the mean, see :class:`InstanceScores`.
        score (float): How well it was predicted.
        measure (str): Of which that is a value, such as 'OKS'.
        sample (PoseSample): All instances of the image.
        person (int): Which of the annotated ones.
        predicted (np.ndarray, optional): Its prediction, shape (K, 2); None
            if it was not found.
        kinds (list[str | None], optional): Of each keypoint its
            :class:`ErrorKinds`. Defaults to None: they are not known.
    """
    cost: float
    score: float
    measure: str
    sample: PoseSample
    person: int
    predicted: Optional[np.ndarray]
    kinds: Optional[List[Optional[str]]] = None

    @property
    def image(self) -> Hashable:
        """Hashable: Which image it is in."""
        return image_key(self.sample)

    @property
    def order(self) -> Tuple:
        """The worst first; the same in whatever order they come."""
        return (-self.cost, str(self.sample.img_path),
                self.sample.boxes[self.person].tolist())


class HardSamples:
    """The instances that cost most, spread over the validation.

    A validation is cut into as many parts as instances are shown. Of each
    part the worst are kept, one of each image: frames of the same video, or
    all of one crowd, look alike.

    Args:
        count (int): How many are shown.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._parts: Dict[int, List[HardSample]] = {}

    def add(self, costs: np.ndarray, positions: np.ndarray,
            images: Sequence[Hashable], make: Callable[[int],
                                                       HardSample]) -> None:
        """Look at N instances.

        Args:
            costs (np.ndarray): What each costs, NaN if it has no visible
                keypoint, shape (N, ).
            positions (np.ndarray): Where in the validation each is, from 0
                to 1, shape (N, ).
            images (Sequence[Hashable]): Which image each is in, N of them.
            make (Callable): Makes the sample of an index; called for those
                that may be shown.
        """
        # What costs nothing is not hard.
        order = np.argsort(-costs, kind='stable')
        order = order[costs[order] > 0]
        parts = np.minimum(positions * self._count, self._count - 1)
        parts = parts.astype(int)[order]
        for part in np.unique(parts).tolist() if self._count else ():
            kept = self._parts.get(part, [])
            least = kept[-1].cost if len(kept) == self._count else 0
            seen, chosen = set(), []
            for i in order[parts == part].tolist():
                if costs[i] < least:
                    break
                seen.add(images[i])
                chosen.append(make(i))
                # Who ties with the last one may come before it.
                if len(seen) == self._count:
                    least = max(least, costs[i])
            if chosen:
                self._keep(part, kept + chosen)

    def merge(self, other: 'HardSamples') -> None:
        """Add what another rank has kept."""
        for part, kept in other._parts.items():
            self._keep(part, self._parts.get(part, []) + kept)

    def worst(self) -> List[HardSample]:
        """Return the worst of each part, then the second ones, and so on."""
        ranked = sorted(((rank, hard) for kept in self._parts.values()
                         for rank, hard in enumerate(kept)),
                        key=lambda item: (item[0], item[1].order))
        chosen = _one_per_image([hard for _, hard in ranked])
        return sorted(chosen[:self._count], key=lambda hard: hard.order)

    def _keep(self, part: int, samples: List[HardSample]) -> None:
        samples = sorted(samples, key=lambda hard: hard.order)
        self._parts[part] = _one_per_image(samples)[:self._count]


def image_key(sample: PoseSample) -> Hashable:
    """Return what tells the image of a sample from others.

    Args:
        sample (PoseSample): The sample.
    """
    if sample.img_path is None and sample.img_id is None:
        return sample.boxes.tobytes()
    return sample.img_path, sample.img_id


def _one_per_image(samples: List[HardSample]) -> List[HardSample]:
    seen: Dict[Hashable, HardSample] = {}
    for hard in samples:
        seen.setdefault(hard.image, hard)
    return list(seen.values())


def positions_of(loader, first: int, count: int) -> np.ndarray:
    """Return where in the validation samples of a rank are, from 0 to 1.

    Args:
        loader (DataLoader): The loader of the validation.
        first (int): How many this rank has seen before.
        count (int): The number of samples.
    """
    sampler, length = loader.sampler, len(loader.dataset)
    rank, ranks = 0, 1
    if isinstance(sampler, DefaultSampler):
        rank, ranks = sampler.rank, sampler.world_size
    indices = rank + ranks * np.arange(first, first + count)
    return np.minimum(indices / length, 1)
