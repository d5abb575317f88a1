# Copyright (c) OpenMMLab. All rights reserved.
from typing import Iterator, Optional, Sequence, Tuple

import numpy as np

from ..measurements import Spike

# The number of losses before and after a loss that it is compared with. With
# 25 the scatter is estimated so badly that one in 100,000 healthy losses
# stands out. With 50 none of 300,000 did, drawn from normal, gamma and
# exponential distributions.
_REACH = 50
# The scatter is taken to be 5 % at least: any loss may move by that.
_LEAST_SCATTER = 0.05


class RecentLosses:
    """Find what stands out among the last losses of a training.

    Attributes:
        NUMBER (int): The least number of losses of a median.
    """

    NUMBER = 2 * _REACH + 1

    def __init__(self) -> None:
        self._steps = np.empty(0, dtype=int)
        self._losses = np.empty(0)

    def add(self, steps: Sequence[int], losses: Sequence[float]) -> None:
        """Add the losses since the last measurement.

        Args:
            steps (Sequence[int]): One or more steps, ascending.
            losses (Sequence[float]): Their losses, finite and not 0.
        """
        # The earlier ones were judged already; they are compared with.
        self._steps = np.append(self._steps[-2 * _REACH:], steps)
        self._losses = np.append(self._losses[-2 * _REACH:], losses)
        self._added = len(losses)

    @property
    def last(self) -> np.ndarray:
        """The losses since the last measurement, 101 if there are as many."""
        return self._losses[-max(self._added, self.NUMBER):]

    def statistics(self) -> Iterator[Tuple[str, float]]:
        """Compute median and deviation of the last losses.

        Yields:
            tuple[str, float]: Name and value.
        """
        yield 'median', np.median(self.last)
        yield 'deviation', _mad_std(self.last)

    def spike(self) -> Optional[Spike]:
        """Find the loss that stands out most from those around it.

        Returns:
            Spike | None: Among those that have 50 losses on both sides and
            were not judged before; None while there is none.
        """
        if len(self._losses) <= 2 * _REACH:
            return None
        places = np.arange(_REACH, len(self._losses) - _REACH)
        around = self._losses[places[:, None] + np.arange(-_REACH, _REACH + 1)]
        positive = (around > 0).all(axis=1)
        around[positive] = np.log(around[positive])
        median = np.median(around, axis=1)
        floor = _LEAST_SCATTER * np.where(positive, 1, abs(median))
        scatter = np.maximum(_mad_std(around), floor)
        height = around[:, _REACH] - median
        score = np.divide(
            height, scatter, out=np.zeros_like(height), where=scatter > 0)
        i = score.argmax()
        return Spike(
            int(self._steps[places[i]]), score[i],
            np.exp(height[i]) if positive[i] else None)


def _mad_std(values: np.ndarray) -> np.ndarray:
    """Compute MAD standard deviations over the last dimension."""
    # MMPose's data sets have imported it already.
    from scipy.stats import median_abs_deviation
    return median_abs_deviation(values, axis=-1, scale='normal')
