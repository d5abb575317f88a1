# Copyright (c) OpenMMLab. All rights reserved.
"""Which predictions are right, as in COCO's evaluation.

See https://cocodataset.org/#keypoints-eval.
"""
from typing import List, Optional, Sequence, Tuple

import numpy as np

from ..annotations import has_keypoints
from ..pose_samples import PoseSample
from .evaluation_rules import EvaluationRules
from .instances import Instances, ScoredPredictions
from .keypoint_tally import keypoint_similarity
from .matching import MIN_SIMILARITY, object_similarity

# The least object keypoint similarities (OKS) of a match.
OKS_THRESHOLDS = (0.5, 0.75)
# The first decides which prediction belongs to an instance.
_THRESHOLDS = (MIN_SIMILARITY, *OKS_THRESHOLDS)
# Of a prediction at a threshold.
MATCHED, UNMATCHED, IGNORED = 1, 0, -1


def score_predictions(samples: Sequence[PoseSample],
                      rules: EvaluationRules,
                      sigmas: np.ndarray,
                      kpt_thr: float = 0.) -> ScoredPredictions:
    """Match the predictions of some images at all thresholds.

    Args:
        samples (Sequence[PoseSample]): The images; the predictions in the
            order of :meth:`EvaluationRules.choose`.
        rules (EvaluationRules): The rules of their evaluation.
        sigmas (np.ndarray): The sigmas, shape (K, ).
        kpt_thr (float): The least mean keypoint score of an unmatched
            prediction that is a false positive. Defaults to 0.
    """
    scores, matches = [np.zeros(0, np.float32)], [_no_matches()]
    false_positives = images = 0
    for sample in samples:
        closest, *of_sample = _matches(sample.truth, sample.visible,
                                       sample.areas, sample.predicted,
                                       sample.img_id, rules, sigmas)
        scores.append(sample.instance_scores)
        matches.append(np.array(of_sample))
        # On images without annotations nobody knows what is wrong.
        if sample.visible.any():
            images += 1
            false_positives += int(
                np.count_nonzero((closest == UNMATCHED)
                                 & (sample.scores.mean(1) >= kpt_thr)))
    return ScoredPredictions(
        np.concatenate(scores, dtype=np.float32), np.concatenate(matches, 1),
        false_positives, images)


def score_paired(instances: Instances, rules: EvaluationRules,
                 sigmas: np.ndarray) -> ScoredPredictions:
    """Match predictions that were made in the boxes of the ground truth.

    Args:
        instances (Instances): All instances.
        rules (EvaluationRules): The rules of their evaluation.
        sigmas (np.ndarray): The sigmas, shape (K, ).
    """
    scores, matches = [np.zeros(0, np.float32)], [_no_matches()]
    number = 0
    for _, block in instances.blocks():
        # The instances of an image compete.
        block = block.take(np.lexsort((-block.scores, block.images)))
        edges = np.flatnonzero(np.diff(block.images)) + 1
        number += len(edges) + 1
        for start, end in zip([0, *edges], [*edges, len(block.found)]):
            _, img_id = instances.images().get(
                int(block.images[start]), (None, None))
            predicted = block.predicted[start:end][block.found[start:end]]
            matches.append(
                _matches(block.truth[start:end], block.visible[start:end],
                         block.areas[start:end], predicted, img_id, rules,
                         sigmas)[1:])
        scores.append(block.scores[block.found])
    return ScoredPredictions(
        np.concatenate(scores), np.concatenate(matches, 1), 0, number)


def _no_matches() -> np.ndarray:
    return np.zeros((len(OKS_THRESHOLDS), 0), np.int8)


def _matches(truth: np.ndarray, visible: np.ndarray, areas: np.ndarray,
             predicted: np.ndarray, image: Optional[int],
             rules: EvaluationRules, sigmas: np.ndarray) -> np.ndarray:
    """Return how the predictions of an image match at each threshold, int8 of
    shape (1 + T, M)."""
    counted = visible.any(1)
    ignored, crowds = _ignored(predicted, image, rules, sigmas)
    if not len(predicted) or (ignored is None and not counted.any()):
        return np.full((len(_THRESHOLDS), len(predicted)), UNMATCHED, np.int8)
    similarity = object_similarity(truth[counted], visible[counted],
                                   areas[counted], predicted, sigmas)
    return _match_all(similarity, ignored, crowds)


def _match_all(
    similarity: np.ndarray,
    ignored: Optional[np.ndarray] = None,
    crowds: Sequence[bool] = ()
) -> np.ndarray:
    """Match greedily, the highest-scoring prediction first.

    Args:
        similarity (np.ndarray): The OKS of the instances that count and the
            predictions, shape (N, M).
        ignored (np.ndarray, optional): That of the instances that do not
            count, shape (I, M). They take what matches no other.
        crowds (Sequence[bool]): Which of these take any number of predictions.

    Returns:
        np.ndarray: int8 of shape (1 + T, M).
    """
    matches = np.full((len(_THRESHOLDS), similarity.shape[1]), UNMATCHED,
                      np.int8)
    best = similarity.max(0, initial=0)
    if ignored is not None:
        best = np.maximum(best, ignored.max(0, initial=0))
    # Most boxes of a detector are near nobody.
    near = np.flatnonzero(best >= _THRESHOLDS[0])
    columns = similarity[:, near].T.tolist()
    others = [[]] * len(near)
    if ignored is not None:
        others = ignored[:, near].T.tolist()
    for row, threshold in zip(matches, _THRESHOLDS):
        free = [True] * len(similarity)
        others_free = [True] * len(crowds)
        for i, values, further in zip(near.tolist(), columns, others):
            chosen = _best(values, free, threshold)
            if chosen >= 0:
                free[chosen] = False
                row[i] = MATCHED
                continue
            chosen = _best(further, others_free, threshold)
            if chosen >= 0:
                others_free[chosen] = bool(crowds[chosen])
                row[i] = IGNORED
    return matches


def _best(values: List[float], free: List[bool], threshold: float) -> int:
    best, chosen = threshold, -1
    for i, value in enumerate(values):
        if value >= best and free[i]:
            best, chosen = value, i
    return chosen


def _ignored(predicted: np.ndarray, image: Optional[int],
             rules: EvaluationRules, sigmas: np.ndarray
             ) -> Tuple[Optional[np.ndarray], Sequence[bool]]:
    """Return the OKS of the instances of an image that do not count, and which
    are crowds.

    Of one without annotated keypoints, COCO's evaluation compares the box,
    three times as wide and as high: a prediction inside is as similar as can
    be.
    """
    annotations = [] if rules.coco is None else [
        a for a in rules.coco.imgToAnns.get(image, ())
        if 'bbox' in a and not (rules.counts(a) and has_keypoints(a))
    ]
    if not annotations:
        return None, ()
    boxes = np.array([a['bbox'] for a in annotations], float)
    areas = np.array([rules.area(a) or 0 for a in annotations], float)
    low = boxes[:, None, None, :2] - boxes[:, None, None, 2:]
    high = boxes[:, None, None, :2] + 2 * boxes[:, None, None, 2:]
    points = predicted.astype(float)
    outside = np.maximum(low - points, 0) + np.maximum(points - high, 0)
    similarity = keypoint_similarity(
        np.square(outside).sum(-1), areas[:, None, None], sigmas).mean(-1)
    for i, annotation in enumerate(annotations):
        if annotation.get('keypoints') and any(annotation['keypoints'][2::3]):
            known = np.reshape(annotation['keypoints'], (1, -1, 3))
            if known.shape[1] == len(sigmas):
                known = rules.convert_truth(known.astype(float))
                similarity[i] = object_similarity(known[..., :2],
                                                  known[..., 2] > 0,
                                                  areas[[i]], points, sigmas)
    return similarity, [bool(a.get('iscrowd')) for a in annotations]
