# Copyright (c) OpenMMLab. All rights reserved.
from collections import Counter
from typing import Iterable, List, NamedTuple, Optional, Tuple

import numpy as np

from .annotated_data import AnnotatedSample

# The cells of the density of keypoints, and the part of the crop's plane that
# they cover, from a quarter outside to a quarter outside.
CELLS = 60
REACH = (-0.25, 1.25)
_AT_ONCE = 512


class Crop(NamedTuple):
    """How an instance is cropped without augmentation.

    Attributes:
        padding (float): What the sides of a box are multiplied by. 1 where
            nothing is cropped, as for a bottom-up model.
        ratio (float, optional): Width over height of the input. None: that of
            the box.
    """
    padding: float = 1.
    ratio: Optional[float] = None

    @property
    def name(self) -> str:
        """str: What it is: 'crop', or 'box' where nothing is cropped."""
        return 'box' if self == Crop() else 'crop'

    def places(self, points: np.ndarray, centers: np.ndarray,
               scales: np.ndarray) -> np.ndarray:
        """Return the places of points in the crops, from 0 to 1.

        Args:
            points (np.ndarray): Shape (N, K, 2).
            centers (np.ndarray): The centers of the boxes, shape (N, 2).
            scales (np.ndarray): Width and height of the boxes, shape (N, 2).

        Returns:
            np.ndarray: Shape (N, K, 2). Not finite where a box has no size.
        """
        extent = scales * self.padding
        if self.ratio is not None:
            width = np.maximum(extent[:, 0], extent[:, 1] * self.ratio)
            extent = np.stack([width, width / self.ratio], -1)
        with np.errstate(all='ignore'):
            return (points - centers[:, None]) / extent[:, None] + 0.5


class OverviewTally:
    """Count what is annotated in a data set.

    Args:
        num_keypoints (int): The number of keypoints K. Of instances with
            another number only the boxes are counted.
        crop (Crop): How instances are cropped.

    Attributes:
        num_keypoints (int): See above.
        crop (Crop): See above.
        instances (int): The number of instances.
        crowds (int): The number of crowds, which are no instances.
        others (int): The number of instances with another number of
            keypoints.
        images (Counter): The number of instances by the image's file.
        annotated (np.ndarray): How often each keypoint is annotated, shape
            (K, ).
        occluded (np.ndarray): How often it is annotated as occluded, shape
            (K, ).
        empty (int): The number of instances without an annotated keypoint.
        outside (int): The number of annotated keypoints outside of the crop.
        nonfinite (int): The number of annotated keypoints with a coordinate
            that is NaN or infinite.
        density (np.ndarray): How many annotated keypoints are in each cell of
            the crop, shape (CELLS, CELLS), rows from top to bottom.
        tells_occluded (bool): Whether occluded keypoints are told from
            visible ones.
    """

    def __init__(self, num_keypoints: int, crop: Crop) -> None:
        self.num_keypoints = num_keypoints
        self.instances = self.crowds = self.others = 0
        self.empty = self.outside = self.nonfinite = 0
        self.images: Counter = Counter()
        self.annotated = np.zeros(num_keypoints, int)
        self.occluded = np.zeros(num_keypoints, int)
        self.density = np.zeros((CELLS, CELLS), int)
        self.tells_occluded = False
        self.crop = crop
        self._sides: List[np.ndarray] = []
        self._waiting: List[AnnotatedSample] = []

    def add(self, samples: Iterable[AnnotatedSample]) -> None:
        """Add samples."""
        for sample in samples:
            self._waiting.append(sample)
            if len(self._waiting) == _AT_ONCE:
                self._count()
        self._count()

    @property
    def compared(self) -> int:
        """int: The instances whose keypoints are counted."""
        return self.instances - self.others

    @property
    def sides(self) -> np.ndarray:
        """np.ndarray: Width and height of all boxes, shape (N, 2)."""
        return np.concatenate([np.zeros((0, 2)), *self._sides])

    def aspect_ratios(self) -> np.ndarray:
        """Return width over height of the boxes that have a size."""
        sides = self.sides
        sides = sides[(sides > 0).all(1)]
        return sides[:, 0] / sides[:, 1]

    def per_image(self) -> np.ndarray:
        """Return the number of instances of each image, shape (I, )."""
        return np.array(list(self.images.values()), int)

    def rates(self) -> Tuple[np.ndarray, np.ndarray]:
        """Return how often each keypoint is visible and occluded.

        Returns:
            tuple[np.ndarray, np.ndarray]: Fractions of the instances, shape
            (K, ). Without any instance, NaN.
        """
        count = self.compared or np.nan
        return (self.annotated - self.occluded) / count, self.occluded / count

    def _count(self) -> None:
        samples, self._waiting = self._waiting, []
        for sample in samples:
            self.images[sample.path] += len(sample.keypoints)
            self.instances += len(sample.keypoints)
            self.crowds += sample.crowds
            self.tells_occluded |= sample.tells_occluded
        samples = [sample for sample in samples if len(sample.keypoints)]
        if not samples:
            return
        boxes = np.concatenate([sample.boxes for sample in samples])
        self._sides.append(
            (boxes[:, 2:] - boxes[:, :2]).clip(0).astype(np.float32))
        alike = [
            s for s in samples if s.keypoints.shape[1] == self.num_keypoints
        ]
        counted = sum(len(sample.keypoints) for sample in alike)
        self.others += len(boxes) - counted
        if counted:
            self._count_keypoints(alike)

    def _count_keypoints(self, samples: List[AnnotatedSample]) -> None:
        annotated, occluded, points = (
            np.concatenate([getattr(sample, name) for sample in samples])
            for name in ('annotated', 'occluded', 'keypoints'))
        centers, scales = map(np.concatenate, zip(*map(_crop_of, samples)))
        self.annotated += annotated.sum(0)
        self.occluded += occluded.sum(0)
        self.empty += int((~annotated.any(1)).sum())
        self.nonfinite += int((~np.isfinite(points).all(-1) & annotated).sum())
        places = self.crop.places(points, centers, scales)[annotated]
        places = places[np.isfinite(places).all(1)]
        self.outside += int(((places < 0) | (places > 1)).any(1).sum())
        self.density += np.histogram2d(places[:, 1], places[:, 0], CELLS,
                                       (REACH, REACH))[0].astype(int)


def _crop_of(sample: AnnotatedSample) -> Tuple[np.ndarray, np.ndarray]:
    if sample.crop is not None:
        return sample.crop
    low, high = sample.boxes[:, :2], sample.boxes[:, 2:]
    return (low + high) / 2, high - low
