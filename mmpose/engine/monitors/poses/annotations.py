# Copyright (c) OpenMMLab. All rights reserved.
from typing import Optional, Sequence

import numpy as np

from .accuracy.evaluation_rules import AREA_OF_BOX, EvaluationRules

# The lists of a whole body's keypoints, in the order of MMPose's data sets.
_WHOLE_BODY = ('keypoints', 'foot_kpts', 'face_kpts', 'lefthand_kpts',
               'righthand_kpts')


def read_annotations(keypoints: np.ndarray, visible: Optional[np.ndarray],
                     boxes: Optional[np.ndarray], infos: Sequence[dict],
                     rules: EvaluationRules) -> dict:
    """Copy the annotated instances of a sample.

    Args:
        keypoints (np.ndarray): Shape (N, K, 2), or with a depth.
        visible (np.ndarray, optional): Shape (N, K), or (N, K, 2) with
            weights. None: all are visible.
        boxes (np.ndarray, optional): (left, top, right, bottom), shape (N, 4),
            or the corners of rotated boxes, shape (N, 4, 2). None: the bounds
            of the keypoints.
        infos (Sequence[dict]): Their annotations, empty where unknown.
        rules (EvaluationRules): The rules of their evaluation.

    Returns:
        dict[str, np.ndarray]: The fields of :func:`nobody` for N instances.
    """
    keypoints = np.array(keypoints[..., :2], np.float32)
    if visible is None:
        visible = np.ones(keypoints.shape[:2])
    elif visible.ndim == 3:  # With weights.
        visible = visible[..., 0]
    visible = visible > 0
    if boxes is None:
        boxes = [_bounds(*instance) for instance in zip(keypoints, visible)]
    boxes = np.array(boxes, np.float32)
    if boxes.ndim == 3:  # As ``BottomupRandomAffine`` leaves them.
        boxes = np.concatenate([boxes.min(1), boxes.max(1)], axis=1)
    boxes = boxes.reshape(-1, 4)
    areas = np.array([
        np.nan if area is None else area
        for area in (rules.area(info) if info else None for info in infos)
    ], float)
    unknown = np.isnan(areas)
    if unknown.any():
        sides = (boxes[:, 2:] - boxes[:, :2]).clip(0)
        areas[unknown] = AREA_OF_BOX * sides.prod(1)[unknown]
    occluded = np.array([_occluded(info, visible.shape[1]) for info in infos],
                        bool)
    ids = [info.get('id') for info in infos]
    return dict(
        truth=rules.convert_truth(keypoints),
        visible=rules.convert_truth(visible),
        boxes=boxes,
        areas=areas,
        ids=np.array([i if isinstance(i, int) else -1 for i in ids], np.int64),
        occluded=rules.convert_truth(occluded))


def nobody(num_keypoints: int) -> dict:
    """Return the annotations of a :obj:`PoseSample` without an instance.

    Args:
        num_keypoints (int): The number of keypoints.

    Returns:
        dict[str, np.ndarray]: ``truth``, ``visible``, ``boxes``, ``areas``,
        ``ids`` and ``occluded``.
    """
    return dict(
        truth=np.zeros((0, num_keypoints, 2), np.float32),
        visible=np.zeros((0, num_keypoints), bool),
        boxes=np.zeros((0, 4), np.float32),
        areas=np.zeros(0),
        ids=np.zeros(0, np.int64),
        occluded=np.zeros((0, num_keypoints), bool))


def has_keypoints(annotation: dict) -> bool:
    """Return whether a keypoint of an instance is annotated.

    Args:
        annotation (dict): As in a COCO file.
    """
    # Those of a whole body are in several lists.
    return any(flag > 0 for name, values in annotation.items()
               if name == 'keypoints' or name.endswith('_kpts')
               for flag in values[2::3])


def annotated_flags(annotation: dict,
                    num_keypoints: int) -> Optional[np.ndarray]:
    """Return COCO's flag of each keypoint of an instance.

    Args:
        annotation (dict): As in a COCO file.
        num_keypoints (int): The number of keypoints K.

    Returns:
        np.ndarray | None: 0: not annotated, 1: occluded, 2: visible, shape
        (K, ). None if the annotation has another number of keypoints.
    """
    for names in (_WHOLE_BODY[:1], _WHOLE_BODY):
        if all(np.ndim(annotation.get(name)) == 1 for name in names):
            flags = np.concatenate([annotation[name][2::3] for name in names])
            if len(flags) == num_keypoints:
                return flags
    return None


def _occluded(info: dict, num_keypoints: int) -> Sequence[bool]:
    """Return which keypoints have COCO's flag for occluded, 1."""
    flags = annotated_flags(info, num_keypoints)
    return [False] * num_keypoints if flags is None else flags == 1


def _bounds(keypoints: np.ndarray, visible: np.ndarray) -> np.ndarray:
    points = keypoints[visible] if visible.any() else keypoints
    return np.concatenate([points.min(0), points.max(0)])
