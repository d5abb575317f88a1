# Copyright (c) OpenMMLab. All rights reserved.
import functools
from typing import Iterator

import numpy as np

from ...writers.record import HISTOGRAM, PrecisionRecall, Record
from ..accuracy.data_set_accuracy import DataSetAccuracy
from ..accuracy.evaluation_rules import EvaluationRules
from ..accuracy.instances import ScoredPredictions
from ..accuracy.scored_predictions import (IGNORED, MATCHED, OKS_THRESHOLDS,
                                           score_paired)
from .confidence import PCK_THRESHOLD, keypoint_confidence
from .diagnosis import Diagnosis, Validation

# The first one tells only which prediction belongs to an instance.
_SHOWN = OKS_THRESHOLDS[1:]
# So many thresholds are multiples of 0.005.
_LEVELS = 201
_ABOUT_SCORES = (
    ' The thresholds are scores from 0 to 1; if a score is above 1, all are '
    'divided by the highest one.')


class PrecisionRecallDiagnosis(Diagnosis):
    """Log how precision and recall depend on the least score that is kept.

    ========================= ==============================================
    ``pr/instances/OKS@0.5``  The predicted instances, on the PR Curves page:
                              right is one that COCO's evaluation matches at
                              this object keypoint similarity (OKS); where the
                              data set has sigmas
    ``pr/instances/OKS@0.75`` The same for 0.75
    ``pr/keypoints/PCK@0.1``  The predicted keypoints of all instances: right
                              is one less than 0.1 of the box's longer side
                              away
    ========================= ==============================================

    Recall counts what was not found. The area under the curve of the
    instances is COCO's average precision (AP) at that similarity. With a
    detector's boxes and bottom-up models, the predictions are those that the
    evaluator keeps, in all images; what matches a crowd or an instance
    without keypoints does not count. With ground truth boxes, none is
    suppressed. A keypoint counts where it is annotated.
    """

    def records(self, runner, validation: Validation) -> Iterator[Record]:
        yield Record(
            validation.step,
            functools.partial(precision_recall_curves, validation),
            kind=HISTOGRAM)


def precision_recall_curves(validation: Validation
                            ) -> Iterator[PrecisionRecall]:
    """Yield the curves of a validation, of all data sets together.

    Args:
        validation (Validation): The validation.
    """
    with_sigmas = [p for p in validation.parts if p.sigmas is not None]
    positives = sum(
        int(part.instances.batch().visible.any(1).sum())
        for part in with_sigmas)
    if positives:
        predictions = [
            _predictions(part, validation.rules(part.name))
            for part in with_sigmas
        ]
        scores = np.concatenate([p.scores for p in predictions])
        matches = np.concatenate([p.matches for p in predictions], 1)
        for row, threshold in zip(matches[1:], _SHOWN):
            counted = row != IGNORED
            yield precision_recall(
                f'pr/instances/OKS@{threshold}', scores[counted],
                row[counted] == MATCHED, positives,
                'Instances: right is a prediction that matches an instance '
                f'with an OKS of at least {threshold}, as in the evaluation '
                'of COCO.')
    confidence = keypoint_confidence(validation.parts)
    if confidence.positives:
        yield precision_recall(
            f'pr/keypoints/PCK@{PCK_THRESHOLD}', confidence.scores,
            confidence.hits, confidence.positives,
            'Keypoints of the instances: right is one less than '
            f'{PCK_THRESHOLD} of the longer side of the box away.')


def precision_recall(tag: str, scores: np.ndarray, hits: np.ndarray,
                     positives: int, description: str) -> PrecisionRecall:
    """Count what is right and what is wrong above each threshold.

    Args:
        tag (str): The name of the curve.
        scores (np.ndarray): The scores of n predictions, shape (n, ). One that
            is negative or NaN counts as 0.
        hits (np.ndarray): Which are right, bool of shape (n, ).
        positives (int): The number there is to be found.
        description (str): What it shows.
    """
    scores = np.nan_to_num(scores.astype(float)).clip(0)
    levels = np.arange(_LEVELS) / (_LEVELS - 1)
    highest = max(1., scores.max(initial=0))
    level = np.searchsorted(levels, scores / highest, side='right') - 1
    right, wrong = (
        np.bincount(level[which], minlength=_LEVELS)[::-1].cumsum()[::-1]
        for which in (hits, ~hits))
    return PrecisionRecall(tag, right, wrong, positives,
                           description + _ABOUT_SCORES)


def _predictions(part: DataSetAccuracy,
                 rules: EvaluationRules) -> ScoredPredictions:
    """Return the predictions of a data set that the evaluator compares."""
    predictions = part.instances.predictions()
    if predictions is None:
        instances = part.instances
        return score_paired(instances.batch(), instances.images(), rules,
                            part.sigmas)
    return predictions
