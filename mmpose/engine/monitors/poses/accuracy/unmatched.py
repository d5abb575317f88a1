# Copyright (c) OpenMMLab. All rights reserved.
from typing import Sequence

import numpy as np

from ..annotations import has_keypoints
from ..pose_samples import PoseSample
from .evaluation_rules import EvaluationRules
from .instances import Unmatched
from .keypoint_tally import keypoint_similarity
from .matching import MIN_SIMILARITY


def unmatched(samples: Sequence[PoseSample], owners: Sequence[np.ndarray],
              rules: EvaluationRules, sigmas: np.ndarray) -> Unmatched:
    """Find the predictions of some images that belong to no instance.

    Args:
        samples (Sequence[PoseSample]): The images; the predictions in the
            order of :meth:`EvaluationRules.choose`. Those in which nothing is
            annotated are skipped.
        owners (Sequence[np.ndarray]): Of each what :func:`owners` has found.
        rules (EvaluationRules): How they are evaluated. What is predicted on
            an instance that they do not count is not among them.
        sigmas (np.ndarray): Each keypoint's, shape (K, ).
    """
    searched = [(sample, owner) for sample, owner in zip(samples, owners)
                if sample.visible.any()]
    scores, keypoint_scores = [np.zeros(0)], [np.zeros(0)]
    for sample, owner in searched:
        extra = _extra(sample, owner, rules, sigmas)
        scores.append(sample.instance_scores[extra])
        keypoint_scores.append(sample.scores[extra].mean(1))
    return Unmatched(
        np.concatenate(scores).astype(np.float32),
        np.concatenate(keypoint_scores).astype(np.float32), len(searched))


def _extra(sample: PoseSample, owners: np.ndarray, rules: EvaluationRules,
           sigmas: np.ndarray) -> np.ndarray:
    """The indices of those of an image."""
    is_extra = np.ones(len(sample.predicted), bool)
    is_extra[owners[owners >= 0]] = False
    extra = np.flatnonzero(is_extra)
    if len(extra) and rules.coco is not None:
        ignored = [
            annotation
            for annotation in rules.coco.imgToAnns.get(sample.img_id, ())
            if 'bbox' in annotation
            and not (rules.counts(annotation) and has_keypoints(annotation))
        ]
        if ignored:
            extra = extra[~_on_ignored(
                sample.
                predicted[extra], np.array([a['bbox']
                                            for a in ignored], float),
                np.array([rules.area(a) or 0 for a in ignored], float
                         ), np.array([bool(a.get('iscrowd'))
                                      for a in ignored]), sigmas)]
    return extra


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
        similarity = keypoint_similarity(
            np.square(outside).sum(-1), areas[:, None], sigmas).mean(1)
        similarity[~(left | crowds)] = 0
        nearest = similarity.argmax()
        found[i] = similarity[nearest] >= MIN_SIMILARITY
        left[nearest] &= ~found[i]
    return found
