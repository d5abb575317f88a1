# Copyright (c) OpenMMLab. All rights reserved.
from typing import Iterator, List, Optional, Sequence, Tuple

import numpy as np

from ...core.measurements import KeypointAccuracy
from ...core.runner_parts import keypoint_names
from ..pose_samples import PoseSample
from .hard_samples import HardSample, HardSamples, image_key
from .instances import InstanceBatch, Instances
from .keypoint_tally import KeypointTally


class DataSetAccuracy:
    """The accuracy of the keypoints of a data set in a validation.

    Args:
        name (str, optional): The data set, None if it is the only one.
        num_keypoints (int): The number of keypoints that are compared.
        meta (dict): The metainfo of the keypoints.
        sigmas (np.ndarray, optional): The sigmas, shape (K, ).

    Attributes:
        names (list[str]): What the keypoints are called.
        tally (KeypointTally): The sums over all instances.
        instances (Instances): All of them, where they are diagnosed.
    """

    def __init__(self, name: Optional[str], num_keypoints: int, meta: dict,
                 sigmas: Optional[np.ndarray]) -> None:
        self.name = name
        self.meta = meta
        self.sigmas = sigmas
        self.names = keypoint_names(meta, num_keypoints)
        self.tally = KeypointTally(num_keypoints, sigmas)
        self.instances = Instances()

    def add(self, batch: InstanceBatch, samples: Sequence[PoseSample],
            positions: Sequence[float], hardest: HardSamples) -> None:
        """Add the instances of some images.

        Args:
            batch (InstanceBatch): The instances.
            samples (Sequence[PoseSample]): The images that it was made of.
            positions (Sequence[float]): Where in the validation each is.
            hardest (HardSamples): Keeps the worst of the instances.
        """
        scores, costs = self.tally.add(batch.truth, batch.visible,
                                       batch.predicted, batch.boxes,
                                       batch.areas, batch.found)
        places = [(index, instance) for index, sample in enumerate(samples)
                  for instance in range(len(sample.truth))]
        keys = [image_key(sample) for sample in samples]

        def make(i: int) -> HardSample:
            index, instance = places[i]
            sample = samples[index]
            if sample.given is not None:  # Else it keeps the batch.
                sample = sample._replace(given=sample.given.copy())
            return HardSample(
                float(costs[i]), float(scores[i]),
                'NME' if self.sigmas is None else 'OKS', sample, instance,
                batch.predicted[i].copy() if batch.found[i] else None)

        hardest.add(costs, np.array([positions[index] for index, _ in places]),
                    [keys[index] for index, _ in places], make)

    def merge(self, other: 'DataSetAccuracy') -> None:
        """Add what another rank has seen of the data set."""
        self.tally.merge(other.tally)
        self.instances.merge(other.instances)


def together(parts: List[DataSetAccuracy]) -> Tuple[List[str], KeypointTally]:
    """Add the keypoints with the same name of all data sets.

    Args:
        parts (list[DataSetAccuracy]): The data sets, at least one.

    Returns:
        tuple[list[str], KeypointTally]: The names of all keypoints, and the
        sums of each.
    """
    if len(parts) == 1:
        return parts[0].names, parts[0].tally
    names = list(dict.fromkeys(name for part in parts for name in part.names))
    places = {name: place for place, name in enumerate(names)}
    total = KeypointTally(len(names))
    for part in parts:
        total.merge(
            part.tally.spread([places[name] for name in part.names],
                              len(names)))
    return names, total


def accuracy(tally: KeypointTally) -> Iterator[KeypointAccuracy]:
    """Yield how accurate all keypoints are, if any was visible."""
    measures = tally.measures()
    pck, error = measures['PCK@0.05'], measures['normalized_error']
    known = np.isfinite(pck)
    if known.any():
        found = np.isfinite(error)
        oks = tally.mean_oks()
        yield KeypointAccuracy(
            float(np.average(pck[known], weights=tally.counts[known])),
            float(np.mean(error[found])) if found.any() else None,
            float(oks) if np.isfinite(oks) else None)
