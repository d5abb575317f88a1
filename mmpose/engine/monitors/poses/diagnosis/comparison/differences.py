# Copyright (c) OpenMMLab. All rights reserved.
from typing import List, NamedTuple, Sequence

import numpy as np

from .pairing import Pairs, score_name

_RESAMPLES = 2000
# Of so many resamples the images are drawn at once.
_CHUNK = 100
_CONFIDENCE = 95


class Differences(NamedTuple):
    """How M means differ between two runs.

    Attributes:
        names (list[str]): The keypoints; the last one is 'OKS', the mean over
            the instances, or 'PCK@0.05' without sigmas.
        earlier (np.ndarray): The means of the other run, NaN without data,
            shape (M, ).
        now (np.ndarray): The means of this one, shape (M, ).
        low (np.ndarray): The lower bounds of the differences, shape (M, ).
        high (np.ndarray): The upper bounds, shape (M, ).
        counts (np.ndarray): How many values each is the mean of, shape
            (M, ).
    """
    names: List[str]
    earlier: np.ndarray
    now: np.ndarray
    low: np.ndarray
    high: np.ndarray
    counts: np.ndarray

    @property
    def change(self) -> np.ndarray:
        """np.ndarray: This run's means minus the other's, shape (M, )."""
        return self.now - self.earlier


def differences(pairs: Sequence[Pairs]) -> Differences:
    """Compare the means over the instances of all data sets.

    Keypoints with the same name are added. The bounds contain 95 % of the
    differences of resampled validations: of paired bootstrap samples of the
    images, whose instances are not independent (B. Efron and R. Tibshirani,
    "An Introduction to the Bootstrap", 1993, the percentile interval).

    Args:
        pairs (Sequence[Pairs]): The data sets, at least one.
    """
    names = list(dict.fromkeys(n for p in pairs for n in p.part.names))
    places = {name: i for i, name in enumerate(names)}
    images = np.unique(np.concatenate([p.images for p in pairs]))
    # By image: the sums of both runs and the number of values.
    sums = np.zeros((3, len(images), len(names) + 1))
    for p in pairs:
        image = np.searchsorted(images, p.images)
        columns = [places[name] for name in p.part.names]
        scores = p.scores()
        known = np.isfinite(scores[0])
        for total, of_keypoints, of_instances in zip(sums,
                                                     (*p.values, p.counted),
                                                     (*scores, known)):
            np.add.at(total, (image[:, None], columns), of_keypoints)
            np.add.at(total, (image, -1), np.where(known, of_instances, 0))
    earlier, now, counts = sums.sum(1)
    with np.errstate(invalid='ignore'):
        earlier, now = earlier / counts, now / counts
    low, high = _interval(sums[1] - sums[0], sums[2])
    return Differences([*names, score_name(pairs[0].part)], earlier, now, low,
                       high, counts.astype(int))


def _interval(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the bounds of ratios of sums over I images, shape (2, M).

    Args:
        sums (np.ndarray): Shape (I, M).
        counts (np.ndarray): Shape (I, M).
    """
    # One of its own: nothing else of the process draws another number.
    generator = np.random.default_rng(0)
    number = len(sums)
    resampled = []
    for _ in range(0, _RESAMPLES, _CHUNK):
        times = generator.multinomial(number, np.full(number, 1 / number),
                                      _CHUNK)
        with np.errstate(invalid='ignore'):
            resampled.append((times @ sums) / (times @ counts))
    tail = (100 - _CONFIDENCE) / 2
    resampled = np.concatenate(resampled)
    bounds = np.full((2, sums.shape[1]), np.nan)
    for column in np.flatnonzero(counts.any(0)):
        # A sample may lack a rare keypoint.
        values = resampled[:, column]
        bounds[:, column] = np.percentile(values[np.isfinite(values)],
                                          (tail, 100 - tail))
    return bounds
