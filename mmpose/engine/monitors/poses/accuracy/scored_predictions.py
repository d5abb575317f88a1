# Copyright (c) OpenMMLab. All rights reserved.
"""Which predictions are right, as in COCO's evaluation.

See https://cocodataset.org/#keypoints-eval.
"""
from typing import Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from ..annotations import has_keypoints
from ..pose_samples import PoseSample
from .evaluation_rules import EvaluationRules
from .instances import InstanceBatch, ScoredPredictions
from .keypoint_tally import keypoint_similarity
from .matching import MIN_SIMILARITY, object_similarity

# The least object keypoint similarities (OKS) of a match. The first decides
# which prediction belongs to an instance.
OKS_THRESHOLDS = (MIN_SIMILARITY, 0.5, 0.75)
# Of a prediction at a threshold.
MATCHED, UNMATCHED, IGNORED = 1, 0, -1


def score_predictions(samples: Sequence[PoseSample], rules: EvaluationRules,
                      sigmas: np.ndarray) -> ScoredPredictions:
    """Match the predictions of some images at all thresholds.

    Args:
        samples (Sequence[PoseSample]): The images; the predictions in the
            order of :meth:`EvaluationRules.choose`.
        rules (EvaluationRules): The rules of their evaluation.
        sigmas (np.ndarray): The sigmas, shape (K, ).
    """
    counts = [len(sample.predicted) for sample in samples]
    annotated = [bool(sample.visible.any()) for sample in samples]
    none = np.zeros(0, np.float32)
    return ScoredPredictions(
        np.concatenate([none, *(sample.instance_scores for sample in samples)],
                       dtype=np.float32),
        np.concatenate([none, *(s.scores.mean(1) for s in samples)],
                       dtype=np.float32),
        np.concatenate([
            np.zeros((len(OKS_THRESHOLDS), 0), np.int8),
            *(_matches(s, s.predicted, s.img_id, rules, sigmas)
              for s in samples)
        ], 1), np.repeat(np.array(annotated, bool), counts), sum(annotated))


def score_paired(batch: InstanceBatch, images: Dict[int, tuple],
                 rules: EvaluationRules,
                 sigmas: np.ndarray) -> ScoredPredictions:
    """Match predictions that were made in the boxes of the ground truth.

    Args:
        batch (InstanceBatch): All instances, image by image.
        images (dict[int, tuple]): See :meth:`Instances.images`.
        rules (EvaluationRules): The rules of their evaluation.
        sigmas (np.ndarray): The sigmas, shape (K, ).
    """
    matches = np.zeros((len(OKS_THRESHOLDS), len(batch.found)), np.int8)
    # The instances of an image compete.
    order = np.lexsort((-batch.scores, batch.images))
    batch = batch.take(order)
    edges = np.flatnonzero(np.diff(batch.images)) + 1
    for start, end in zip([0, *edges], [*edges, len(order)]):
        mine = InstanceBatch(*(values[start:end] for values in batch))
        _, img_id = images.get(int(mine.images[0]), (None, None))
        of_image = matches[:, start:end]
        of_image[:, mine.found] = _matches(mine, mine.predicted[mine.found],
                                           img_id, rules, sigmas)
    found = batch.found
    return ScoredPredictions(batch.scores[found],
                             batch.keypoint_scores[found].mean(1),
                             matches[:, found], np.ones(found.sum(), bool),
                             len(edges) + 1)


def _matches(instances: Union[PoseSample, InstanceBatch],
             predicted: np.ndarray, image: Optional[int],
             rules: EvaluationRules, sigmas: np.ndarray) -> np.ndarray:
    """Return how the predictions of an image match at each threshold, int8 of
    shape (T, M)."""
    if not len(predicted):
        return np.zeros((len(OKS_THRESHOLDS), 0), np.int8)
    counted = instances.visible.any(1)
    similarity = object_similarity(instances.truth[counted],
                                   instances.visible[counted],
                                   instances.areas[counted], predicted, sigmas)
    return _match_all(similarity, *_ignored(predicted, image, rules, sigmas))


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
        np.ndarray: int8 of shape (T, M).
    """
    matches = np.full((len(OKS_THRESHOLDS), similarity.shape[1]), UNMATCHED,
                      np.int8)
    best = similarity.max(0, initial=0)
    if ignored is not None:
        best = np.maximum(best, ignored.max(0, initial=0))
    # Most boxes of a detector are near nobody.
    near = np.flatnonzero(best >= OKS_THRESHOLDS[0])
    columns = similarity[:, near].T.tolist()
    others = [[]] * len(near)
    if ignored is not None:
        others = ignored[:, near].T.tolist()
    for row, threshold in zip(matches, OKS_THRESHOLDS):
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
