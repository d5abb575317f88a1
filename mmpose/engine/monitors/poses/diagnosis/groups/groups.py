# Copyright (c) OpenMMLab. All rights reserved.
"""Groups of the instances and keypoints of a validation."""
from typing import NamedTuple, Tuple

import numpy as np
import torch

from mmpose.structures.bbox import bbox_overlaps
from ...accuracy.instances import InstanceBatch
from .neighbours import image_pairs

# The areas at which COCO's evaluation divides instances, in square pixels.
_AREAS = (32**2, 96**2)
# The overlap from which on two boxes crowd each other, and the numbers of
# such boxes that begin a group, as in the evaluation by Ronchi and Perona.
_OVERLAP = 0.1
_NEIGHBOURS = (1, 3)


class Grouping(NamedTuple):
    """A property that divides instances or keypoints into groups.

    Attributes:
        name (str): The property.
        groups (tuple[str]): The names of its groups.
        words (tuple[str]): What a sentence calls them.
    """
    name: str
    groups: Tuple[str, ...]
    words: Tuple[str, ...]


SIZE = Grouping('size', ('small', 'medium', 'large'),
                ('small', 'medium-sized', 'large'))
CROWDING = Grouping('crowding', ('alone', 'some', 'many'),
                    ('that overlap no other one',
                     'that overlap one or two others',
                     'that overlap three or more others'))
KEYPOINTS = Grouping('keypoints', ('few', 'half', 'most'),
                     ('with few keypoints', 'with half of the keypoints',
                      'with most keypoints'))
VISIBILITY = Grouping('visibility', ('visible', 'occluded'),
                      ('visible', 'occluded'))


def sizes_of(batch: InstanceBatch) -> np.ndarray:
    """Return the group of :data:`SIZE` of each instance.

    small is below 32 x 32 square pixels, medium below 96 x 96.

    Returns:
        np.ndarray: -1 without an area, int of shape (N, ).
    """
    known = np.isfinite(batch.areas) & (batch.areas >= 0)
    return np.where(known, np.digitize(batch.areas, _AREAS), -1)


def keypoints_of(batch: InstanceBatch) -> np.ndarray:
    """Return the group of :data:`KEYPOINTS` of each instance.

    few is up to a third of the keypoints, half up to two thirds.

    Returns:
        np.ndarray: -1 without an annotated keypoint, int of shape (N, ).
    """
    counts = batch.visible.sum(1)
    thirds = np.ceil(3 * counts / batch.visible.shape[1]).astype(int) - 1
    return np.where(counts > 0, thirds, -1)


def crowding_of(batch: InstanceBatch) -> np.ndarray:
    """Return the group of :data:`CROWDING` of each instance.

    It is alone without another box of the image that overlaps its own by a
    tenth of their union or more; there are some with one or two, and many with
    three or more.

    Args:
        batch (InstanceBatch): The instances, image by image.

    Returns:
        np.ndarray: int of shape (N, ).
    """
    first, second = image_pairs(batch.images)
    boxes = torch.from_numpy(np.nan_to_num(batch.boxes))
    overlaps = bbox_overlaps(boxes[first], boxes[second], is_aligned=True)
    crowded = first[overlaps.numpy() >= _OVERLAP]
    neighbours = np.bincount(crowded, minlength=len(batch.images))
    return np.digitize(neighbours, _NEIGHBOURS)
