# Copyright (c) OpenMMLab. All rights reserved.
import pickle
from typing import Iterator, List, Optional, Sequence

import numpy as np
from torch import nn

from ...core.runner_parts import keypoint_names
from ...core.side_effects import eval_without_side_effects, original_forward
from ...writers.record import Scalar, Value
from ..accuracy.data_set_accuracy import accuracy
from ..accuracy.instances import instance_batch
from ..accuracy.keypoint_curves import curve_groups
from ..accuracy.keypoint_tally import KeypointTally
from ..pose_samples import PoseSample, PoseSampleReader, owners
from .loss_samples import LossBatch


def predicted_samples(model: nn.Module, batches: Sequence[LossBatch],
                      reader: PoseSampleReader) -> List[PoseSample]:
    """Let a top-down model predict samples as in a validation.

    Args:
        model (nn.Module): The model without a wrapper.
        batches (Sequence[LossBatch]): The samples.
        reader (PoseSampleReader): Reads their annotations.

    Returns:
        list[PoseSample]: Those with as many annotated keypoints as predicted.
    """
    forward = original_forward(model)
    samples = []
    with eval_without_side_effects(model):
        for batch in batches:
            data = model.data_preprocessor(pickle.loads(batch.pickled), False)
            samples += map(reader.read, forward(**data, mode='predict'))
    return [
        sample for sample in samples
        if sample.truth.shape[1:] == sample.predicted.shape[1:]
    ]


class TrainingAccuracy:
    """Compare the predictions of training samples with their annotations.

    Args:
        samples (list[PoseSample]): At least one.
        meta (dict): The metainfo of the keypoints.
        sigmas (np.ndarray, optional): Their sigmas, shape (K, ).
    """

    def __init__(self, samples: List[PoseSample], meta: dict,
                 sigmas: Optional[np.ndarray]) -> None:
        number = samples[0].truth.shape[1]
        self._names = keypoint_names(meta, number)
        self._meta = meta
        batch = instance_batch(samples, list(map(owners, samples)))
        self._tally = KeypointTally(number, sigmas)
        self._tally.add(batch.truth, batch.visible, batch.predicted,
                        batch.boxes, batch.areas, batch.found)

    @property
    def pck(self) -> Optional[float]:
        """float: The mean PCK@0.05; None if no keypoint is visible."""
        return next((found.pck for found in accuracy(self._tally)), None)

    def scalars(self, by_keypoint: bool) -> Iterator[Value]:
        """Yield the curves.

        Args:
            by_keypoint (bool): Whether to yield those of each keypoint.
        """
        totals = {'PCK@0.05': self.pck, 'OKS': self._tally.mean_oks()}
        groups = curve_groups(self._names, self._meta) if by_keypoint else {}
        has_oks = np.isfinite(totals['OKS'])
        for measure, values in self._tally.measures().items():
            total = totals.get(measure)
            if total is None or not np.isfinite(total):
                continue
            if measure != 'OKS' and has_oks and not by_keypoint:
                continue
            tag = f'keypoints/train_as_val/{measure}'
            yield Scalar(tag, total)
            for group, places in groups.items():
                known = values[places][np.isfinite(values[places])]
                if len(known):
                    yield Scalar(f'{tag}/{group}', known.mean())
