# Copyright (c) OpenMMLab. All rights reserved.
from typing import (Callable, Dict, Hashable, List, NamedTuple, Optional,
                    Sequence, Tuple)

import numpy as np
from mmengine.dataset import DefaultSampler

from ..pose_samples import PoseSample


class HardSample(NamedTuple):
    """An annotated instance that was predicted badly.

    Attributes:
        cost (float): See :class:`InstanceScores`.
        score (float): See :class:`InstanceScores`.
        measure (str): The name of the score, such as 'OKS'.
        sample (PoseSample): All instances of the image.
        instance (int): The index of the annotated instance.
        predicted (np.ndarray, optional): Its prediction, shape (K, 2); None
            if it was not found.
        kinds (list[str | None], optional): The error of each keypoint, see
            :class:`ErrorKinds`. Defaults to None: they are not known.
    """
    cost: float
    score: float
    measure: str
    sample: PoseSample
    instance: int
    predicted: Optional[np.ndarray]
    kinds: Optional[List[Optional[str]]] = None

    @property
    def image(self) -> Hashable:
        """Hashable: The key of its image."""
        return image_key(self.sample)

    @property
    def order(self) -> Tuple:
        """tuple: A sorting key, the worst first, that depends on nothing but
        the instance."""
        return (-self.cost, str(self.sample.img_path),
                self.sample.boxes[self.instance].tolist())


class HardSamples:
    """Keep the worst instances, spread over the validation.

    The validation is divided into as many parts as instances are shown. The
    worst of each part are kept, one of each image, since the frames of a video
    and the instances of a crowd look alike.

    Args:
        count (int): The number of instances to show.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._parts: Dict[int, List[HardSample]] = {}

    def add(self, costs: np.ndarray, positions: np.ndarray,
            images: Sequence[Hashable], make: Callable[[int],
                                                       HardSample]) -> None:
        """Add N instances.

        Args:
            costs (np.ndarray): See :class:`InstanceScores`, shape (N, ).
            positions (np.ndarray): The place of each in the validation, from 0
                to 1, shape (N, ).
            images (Sequence[Hashable]): The key of each one's image.
            make (Callable): Makes the sample of an index; called for the
                instances that may be shown.
        """
        # An instance without an error is not hard.
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
                # One with the same cost as the last may be sorted before it.
                if len(seen) == self._count:
                    least = max(least, costs[i])
            if chosen:
                self._keep(part, kept + chosen)

    def merge(self, other: 'HardSamples') -> None:
        """Add the instances of another rank."""
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
    """Return a key that identifies the image of a sample.

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
    """Return the places of samples in the validation, from 0 to 1.

    Args:
        loader (DataLoader): The loader of the validation.
        first (int): The number of samples that this rank has seen before.
        count (int): The number of samples.
    """
    sampler, length = loader.sampler, len(loader.dataset)
    rank, ranks = 0, 1
    if isinstance(sampler, DefaultSampler):
        rank, ranks = sampler.rank, sampler.world_size
    indices = rank + ranks * np.arange(first, first + count)
    return np.minimum(indices / length, 1)
