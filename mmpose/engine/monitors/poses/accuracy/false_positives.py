# Copyright (c) OpenMMLab. All rights reserved.
import numpy as np

from ..pose_samples import PoseSample
from .evaluation_rules import EvaluationRules
from .matching import MIN_SIMILARITY


def false_positives(sample: PoseSample, owners: np.ndarray,
                    rules: EvaluationRules, sigmas: np.ndarray,
                    threshold: float) -> int:
    """Count the high-scoring predictions of an image that belong to nobody.

    Args:
        sample (PoseSample): The image; the predictions in the order of
            :meth:`EvaluationRules.choose`.
        owners (np.ndarray): What :func:`owners` has found, shape (N, ).
        rules (EvaluationRules): How it is evaluated. What is predicted on an
            instance that they do not count is no false positive.
        sigmas (np.ndarray): Each keypoint's, shape (K, ).
        threshold (float): The mean score of its keypoints from which on a
            prediction is high-scoring.

    Returns:
        int: How many there are.
    """
    is_extra = np.ones(len(sample.predicted), bool)
    is_extra[owners[owners >= 0]] = False
    is_high = sample.scores[is_extra].mean(1) >= threshold
    if is_high.any() and rules.coco is not None:
        ignored = [
            annotation
            for annotation in rules.coco.imgToAnns.get(sample.img_id, ())
            if 'bbox' in annotation
            and not (rules.counts(annotation) and _has_keypoints(annotation))
        ]
        if ignored:
            is_high &= ~_on_ignored(
                sample.predicted[is_extra],
                np.array([a['bbox'] for a in ignored], float),
                np.array([rules.area(a) or 0 for a in ignored], float),
                np.array([bool(a.get('iscrowd')) for a in ignored]), sigmas)
    return int(is_high.sum())


def _has_keypoints(annotation: dict) -> bool:
    # Those of a whole body are in several lists.
    return any(flag > 0 for name, values in annotation.items()
               if name == 'keypoints' or name.endswith('_kpts')
               for flag in values[2::3])


def _on_ignored(predicted: np.ndarray, boxes: np.ndarray, areas: np.ndarray,
                crowds: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Find predictions that belong to instances which do not count.

    Those without annotated keypoints and crowds, of which COCO's evaluation
    compares the box, three times as wide and as high: a prediction inside is
    as similar as can be. Each takes one prediction, a crowd any number.

    Args:
        predicted (np.ndarray): Predictions that belong to none that counts,
            the highest-scoring first, shape (M, K, 2).
        boxes (np.ndarray): Those of the instances, (x, y, w, h), shape
            (N, 4).
        areas (np.ndarray): Their areas, shape (N, ).
        crowds (np.ndarray): Which are crowds, bool of shape (N, ).
        sigmas (np.ndarray): Each keypoint's, shape (K, ).

    Returns:
        np.ndarray: bool of shape (M, ).
    """
    found = np.zeros(len(predicted), bool)
    left = np.ones(len(boxes), bool)
    low = boxes[:, None, :2] - boxes[:, None, 2:]
    high = boxes[:, None, :2] + 2 * boxes[:, None, 2:]
    for i, points in enumerate(predicted):
        outside = np.maximum(low - points, 0) + np.maximum(points - high, 0)
        exponents = np.square(outside).sum(-1) / (2 * np.square(2 * sigmas))
        exponents /= areas[:, None] + np.spacing(1)
        similarity = np.exp(-exponents).mean(1)
        similarity[~(left | crowds)] = 0
        nearest = similarity.argmax()
        found[i] = similarity[nearest] >= MIN_SIMILARITY
        left[nearest] &= ~found[i]
    return found
