# Copyright (c) OpenMMLab. All rights reserved.
import functools
from typing import Iterator, Sequence, Tuple

import numpy as np

from ...writers.record import HISTOGRAM, PrecisionRecall, Record
from ..accuracy.data_set_accuracy import DataSetAccuracy
from ..accuracy.evaluation_rules import EvaluationRules
from ..accuracy.instances import ScoredPredictions
from ..accuracy.scored_predictions import (MATCHED, OKS_THRESHOLDS, UNMATCHED,
                                           score_paired)
from .confidence import PCK_THRESHOLD, chunks, keypoint_confidence
from .diagnosis import Diagnosis, Validation

# So many thresholds are multiples of 0.005.
_LEVELS = 201
_ABOUT_SCORES = (
    ' The thresholds are scores from 0 to 1; if a score is above 1, all are '
    'divided by the highest one.')


class PrecisionRecallDiagnosis(Diagnosis):
    """Log how precision and recall depend on the score threshold.

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
        for row, threshold in enumerate(OKS_THRESHOLDS):
            yield precision_recall(
                f'pr/instances/OKS@{threshold}',
                [(p.scores, p.matches[row]) for p in predictions], positives,
                'Instances: right is a prediction that matches an instance '
                f'with an OKS of at least {threshold}, as in the evaluation '
                'of COCO.')
    confidence = keypoint_confidence(validation.parts)
    if confidence.positives:
        yield precision_recall(
            f'pr/keypoints/PCK@{PCK_THRESHOLD}',
            [(confidence.scores, confidence.hits)], confidence.positives,
            'Keypoints of the instances: right is one less than '
            f'{PCK_THRESHOLD} of the longer side of the box away.')


def precision_recall(tag: str, predictions: Sequence[Tuple[np.ndarray,
                                                           np.ndarray]],
                     positives: int, description: str) -> PrecisionRecall:
    """Count what is right and what is wrong above each threshold.

    Args:
        tag (str): The name of the curve.
        predictions (Sequence[tuple[np.ndarray, np.ndarray]]): Of each data
            set, the scores of n predictions, shape (n, ), and whether each is
            right: 1, 0 if not, -1 if it does not count; shape (n, ). A score
            that is negative or NaN counts as 0.
        positives (int): The number there is to be found.
        description (str): What it shows.
    """
    levels = np.arange(_LEVELS) / (_LEVELS - 1)
    highest = max(
        1.,
        *(float(np.nanmax(scores, initial=0)) for scores, _ in predictions))
    counts = np.zeros((2, _LEVELS), int)
    for of_part in predictions:
        for scores, matches in zip(*map(chunks, of_part)):
            scores = np.nan_to_num(scores.astype(float)).clip(0) / highest
            level = np.searchsorted(levels, scores, side='right') - 1
            for row, match in zip(counts, (MATCHED, UNMATCHED)):
                row += np.bincount(level[matches == match], minlength=_LEVELS)
    right, wrong = counts[:, ::-1].cumsum(1)[:, ::-1]
    return PrecisionRecall(tag, right, wrong, positives,
                           description + _ABOUT_SCORES)


def _predictions(part: DataSetAccuracy,
                 rules: EvaluationRules) -> ScoredPredictions:
    """Return the predictions of a data set that the evaluator compares."""
    predictions = part.instances.predictions()
    if predictions is None:
        return score_paired(part.instances, rules, part.sigmas)
    return predictions
