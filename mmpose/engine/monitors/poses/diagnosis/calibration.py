# Copyright (c) OpenMMLab. All rights reserved.
import functools
from typing import Iterator, NamedTuple, Sequence, Tuple

import numpy as np

from ...core.measurements import Remark
from ...core.monitor import Chart
from ...writers.record import IMAGE, LAYER_SCALAR, Image, Record, Scalar, Value
from ..accuracy.data_set_accuracy import DataSetAccuracy
from .calibration_figure import Kept, draw_calibration
from .confidence import SortedScores, chunks, keypoint_confidence
from .diagnosis import Diagnosis, Validation

# As in the paper of the expected calibration error.
BINS = 15


class CalibrationDiagnosis(Diagnosis):
    """Log whether the scores of the keypoints tell right from wrong.

    ================================ =======================================
    ``calibration/ece``              Expected calibration error: the mean
                                     difference between the scores and the
                                     fraction that is right, from 0 to 1
    ``calibration/auroc``            How well the scores tell right from
                                     wrong: the probability that a right
                                     keypoint has a higher score than a wrong
                                     one; 0.5 is chance
    ``calibration/best_threshold``   The least score to keep that tells them
                                     apart best, with ``log_details``
    ``calibration/keypoints``        A figure: above, the fraction that is
                                     right by score; below, the number of right
                                     and wrong ones; and what ``kpt_thr`` keeps
    ================================ =======================================

    It counts as ``pr/keypoints/PCK@0.1`` does. See :class:`Calibration` for
    the definitions.
    """

    charts = (Chart('Keypoints', 'calibration', 'calibration/(ece|auroc)$'), )

    def records(self, runner, validation: Validation) -> Iterator[Record]:

        @functools.lru_cache(None)
        def calibration() -> Calibration:  # In the writer's thread, once.
            return calibrate(validation.parts)

        yield Record(
            validation.step,
            lambda: calibration().values(validation.kpt_thr, validation.details
                                         ),
            kind=LAYER_SCALAR)
        yield Record(
            validation.step,
            lambda: calibration().figure(validation.kpt_thr, validation.when),
            kind=IMAGE)


class Bins(NamedTuple):
    """Keypoints by score, in B ranges of the same width from 0 to 1.

    Attributes:
        hits (np.ndarray): The number of right ones, int of shape (B, ).
        misses (np.ndarray): The number of wrong ones, int of shape (B, ).
        scores (np.ndarray): The sum of the scores, shape (B, ).
    """
    hits: np.ndarray
    misses: np.ndarray
    scores: np.ndarray


class Calibration:
    r"""Measure how well scores tell right from wrong.

    - The expected calibration error (ECE) is that of Guo et al., "On
      Calibration of Modern Neural Networks", ICML 2017, in 15 ranges
      :math:`B_i` of scores: :math:`\sum_i |B_i| / n \cdot |\text{accuracy}_i -
      \text{mean score}_i|`.
    - The area under the ROC curve (AUROC) is computed from the ranks, by the
      U statistic of Mann and Whitney (1947).
    - The best threshold is where the fraction of the right ones that are kept
      is most above that of the wrong ones: the J statistic of Youden, "Index
      for rating diagnostic tests", Cancer 1950. A keypoint is kept if its
      score is not below the threshold.

    Args:
        scores (np.ndarray): The scores of n keypoints, shape (n, ). For the
            ECE, one above 1 counts as 1, and a negative one as 0.
        hits (np.ndarray): Which are right, bool of shape (n, ).
    """

    def __init__(self, scores: np.ndarray, hits: np.ndarray) -> None:
        self._scores = SortedScores(scores, hits)
        # The number of right and wrong ones.
        self.num_hits = len(self._scores.right)
        self.num_misses = len(self._scores.wrong)

    def bins(self, number: int = BINS) -> Bins:
        """Count them by score.

        Args:
            number (int): The number of ranges. A score on the limit of two is
                in the upper one. Defaults to 15.
        """
        hits, scores = _by_score(self._scores.right, number)
        misses, others = _by_score(self._scores.wrong, number)
        return Bins(hits, misses, scores + others)

    def ece(self) -> float:
        """Return the ECE, from 0 to 1; NaN without keypoints."""
        bins = self.bins()
        total = self.num_hits + self.num_misses
        return abs(bins.hits - bins.scores).sum() / total if total else np.nan

    def auroc(self) -> float:
        """Return the AUROC, from 0 to 1; NaN if all are right or wrong."""
        if not self.num_hits or not self.num_misses:
            return np.nan
        won = 0.
        for scores in chunks(self._scores.right):
            for side in ('left', 'right'):  # A tie counts half.
                won += np.searchsorted(self._scores.wrong, scores,
                                       side).sum() / 2
        return won / (self.num_hits * self.num_misses)

    def best_threshold(self) -> float:
        """Return the best threshold.

        Returns:
            float: The lowest of several that are as good; NaN if all are right
            or wrong, or if none is better than to keep all.
        """
        if not self.num_hits or not self.num_misses:
            return np.nan
        best, threshold = 1e-12, np.nan
        # The score of a wrong one is worse than the next score above it.
        for scores in chunks(self._scores.right):
            right, wrong = self._scores.kept(scores)
            gain = right / self.num_hits - wrong / self.num_misses
            i = gain.argmax()
            if gain[i] > best:
                best, threshold = gain[i], float(scores[i])
        return threshold

    def kept(self, threshold: float) -> Kept:
        """Return the fractions of the right and of the wrong ones that a
        threshold keeps, NaN where there is none."""
        totals = self.num_hits, self.num_misses
        return Kept(
            threshold,
            *(float(count / total) if total else np.nan
              for count, total in zip(self._scores.kept(threshold), totals)))

    def values(self, kpt_thr: float, details: bool) -> Iterator[Value]:
        """Yield the scalars that are known, and a sentence for the report.

        Args:
            kpt_thr (float): The least score of a prediction that counts.
            details (bool): Whether to yield the best threshold, too.
        """
        best = self.best_threshold()
        for name, value in (('ece', self.ece()), ('auroc', self.auroc()),
                            ('best_threshold', best)):
            if np.isfinite(value) and (details or name != 'best_threshold'):
                yield Scalar(f'calibration/{name}', value)
        if self.num_hits + self.num_misses:
            text = (f'Of the predicted keypoints, kpt_thr={kpt_thr:g} keeps '
                    f'{self.kept(kpt_thr)} ones.')
            if np.isfinite(best):
                text += (f' A threshold of {best:.2g} would tell them apart '
                         f'best: it keeps {self.kept(best)} ones.')
            yield Remark('kpt_thr', text)

    def figure(self, kpt_thr: float, when: str) -> Iterator[Image]:
        """Draw the figure, if there is a keypoint.

        Args:
            kpt_thr (float): See :meth:`values`.
            when (str): The epoch or iteration, for the title.
        """
        if not self.num_hits and not self.num_misses:
            return
        best = self.best_threshold()
        kept = [('kpt_thr', self.kept(kpt_thr))]
        if np.isfinite(best):
            kept.append(('best', self.kept(best)))
        yield Image('calibration/keypoints', [
            draw_calibration(self.bins(), kept, self.ece(), self.auroc(),
                             f'Scores of keypoints, {when}')
        ])


def _by_score(scores: np.ndarray,
              number: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return how many scores there are in each range, and their sums."""
    counts, sums = np.zeros(number, int), np.zeros(number)
    for some in chunks(scores):
        some = some.astype(float).clip(0, 1)
        index = np.minimum((some * number).astype(int), number - 1)
        counts += np.bincount(index, minlength=number)
        sums += np.bincount(index, some, number)
    return counts, sums


def calibrate(parts: Sequence[DataSetAccuracy]) -> Calibration:
    """Return the calibration of a validation, all data sets together."""
    confidence = keypoint_confidence(parts)
    return Calibration(confidence.scores, confidence.hits)
