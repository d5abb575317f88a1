# Copyright (c) OpenMMLab. All rights reserved.
from typing import Iterator, List, Optional

import numpy as np

from ...core.pose_measurements import CodecCeiling, TargetErrors
from ...core.runner_parts import keypoint_names
from ...writers.record import Measurement, Scalar
from ..accuracy.keypoint_curves import curve_groups
from ..accuracy.keypoint_tally import KeypointTally
from ..accuracy.matching import match
from ..pictures.pose_targets import decode_labels
from .round_trip import heatmap_pixel, round_trip
from .training_samples import Geometry, TrainingSample

# With fewer keypoints, a rotation could hide that they are misplaced.
_MIN_KEYPOINTS = 4


class CodecTally:
    """Measure what the codec of a model loses of the keypoints.

    Args:
        codec (BaseKeypointCodec): The codec that decodes predictions.
        encoder (BaseKeypointCodec): The codec that encodes targets.
        meta (dict): The metainfo of the training's data set.
        sigmas (np.ndarray, optional): The sigmas, shape (K, ).
        geometry (Geometry): How images are cropped.
        num_keypoints (int): The number of keypoints K.

    Attributes:
        tally (KeypointTally): The accuracy of perfect predictions.
        codec: See above.
    """

    def __init__(self, codec, encoder, meta: dict,
                 sigmas: Optional[np.ndarray], geometry: Geometry,
                 num_keypoints: int) -> None:
        self.codec = codec
        self.tally = KeypointTally(num_keypoints, sigmas)
        self._encoder = encoder
        self._meta = meta
        self._sigmas = sigmas
        self._geometry = geometry
        self._num_keypoints = num_keypoints
        self._compared = 0
        self._misplaced: List[dict] = []
        # Half of a keypoint's error is a pixel of the heatmap at most; the
        # angle of the rotation is estimated.
        self._allowed = 1 + heatmap_pixel(codec)

    def add(self, sample: TrainingSample) -> None:
        """Add a sample."""
        if sample.truth.shape[1] == self._num_keypoints:
            self._add_round_trip(sample)
            self._compare_target(sample)

    def _add_round_trip(self, sample: TrainingSample) -> None:
        points = sample.truth
        if sample.crop is not None:
            crop = self._geometry.validated(sample.boxes[0])
            points = self._geometry.to_input(points, *crop)
        visible = sample.visible & self._inside(points)
        if not visible.any():
            return
        decoded = round_trip(self._encoder, self.codec, points, visible)
        if sample.crop is not None:
            decoded = self._geometry.to_image(decoded, *crop)
        owner = np.zeros(1, int)
        if len(points) > 1 or len(decoded) != 1:
            owner = match(sample.truth, visible, sample.areas, decoded,
                          self._sigmas)
        found = owner >= 0
        predicted = np.zeros_like(points)
        predicted[found] = decoded[owner[found]]
        self.tally.add(sample.truth, visible, predicted, sample.boxes,
                       sample.areas, found)

    def _compare_target(self, sample: TrainingSample) -> None:
        found = decode_labels(self.codec, sample.labels)
        if found is None or not len(found[0]):
            return
        target, counted = found
        if target.shape[1] != self._num_keypoints:
            return
        if sample.crop is not None:
            counted = counted & sample.visible
        truth = self._geometry.trained(sample, target, counted)
        visible = sample.visible & self._inside(truth)
        both = visible[:, None] & counted
        distances = np.linalg.norm(truth[:, None] - target, axis=-1)
        distances[~both] = np.nan
        # Its instances may be in another order, and without the smallest.
        means = np.nansum(distances, -1) / np.maximum(both.sum(-1), 1)
        means[~both.any(-1)] = np.inf
        distances = distances[means.argmin(0), np.arange(len(target))]
        distances = distances[np.isfinite(distances)]
        if len(distances) < _MIN_KEYPOINTS:
            return
        self._compared += 1
        # Not the mean: a keypoint at the edge may be decoded anywhere.
        error = float(np.median(distances))
        if error > self._allowed:
            self._misplaced.append(dict(sample.source, error=error))

    def _inside(self, points: np.ndarray) -> np.ndarray:
        """Return which points, (..., 2), are in the input: the others cannot
        be decoded."""
        return ((points >= 0) & (points < self._geometry.size)).all(-1)

    def scalars(self, by_keypoint: bool) -> Iterator[Scalar]:
        """Yield what a perfect prediction would be measured as.

        Args:
            by_keypoint (bool): Whether to yield those of each keypoint, and
                the PCK where there is an OKS.
        """
        oks = self.tally.mean_oks()
        if np.isfinite(oks):
            yield Scalar('codec/ceiling/OKS', oks)
        groups = curve_groups(
            keypoint_names(self._meta, self._num_keypoints), self._meta)
        for measure, values in self.tally.measures().items():
            if measure not in ('PCK@0.05', 'OKS'):
                continue
            if measure != 'OKS' and np.isfinite(values).any() and (
                    by_keypoint or not np.isfinite(oks)):
                yield Scalar(f'codec/ceiling/{measure}', np.nanmean(values))
            for group, indices in groups.items() if by_keypoint else ():
                known = values[indices][np.isfinite(values[indices])]
                if len(known):
                    yield Scalar(f'codec/ceiling/{measure}/{group}',
                                 known.mean())

    def measurements(self) -> Iterator[Measurement]:
        """Yield what the detectors judge."""
        oks, pck = self.tally.mean_oks(), self.tally.measures()['PCK@0.05']
        if np.isfinite(pck).any():
            yield CodecCeiling(
                type(self.codec).__name__, heatmap_pixel(self.codec),
                float(np.nanmean(pck)),
                float(oks) if np.isfinite(oks) else None)
        yield TargetErrors(self._compared, self._allowed,
                           tuple(self._misplaced))
