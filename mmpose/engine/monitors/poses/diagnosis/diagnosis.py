# Copyright (c) OpenMMLab. All rights reserved.
from typing import Iterator, NamedTuple, Optional, Sequence, Tuple

from ...core.monitor import Chart
from ...writers.record import Record
from ..accuracy.data_set_accuracy import DataSetAccuracy


class Validation(NamedTuple):
    """A validation, of all ranks.

    Attributes:
        parts (Sequence[DataSetAccuracy]): Of each data set that has instances,
            with all of them; at least one.
        step (int): The step of the records.
        when (str): Which one it is, for the titles of figures.
        details (bool): Whether to write what not everybody looks at.
        kpt_thr (float): The score from which on a prediction counts as such.
    """
    parts: Sequence[DataSetAccuracy]
    step: int
    when: str
    details: bool
    kpt_thr: float


class Diagnosis:
    """One answer to why the keypoints of a validation are wrong.

    One of them sees all validations of a training.

    Attributes:
        charts (tuple[Chart]): The charts of its curves.
    """

    charts: Tuple[Chart, ...] = ()

    def unmeasured(self, part: DataSetAccuracy) -> Optional[str]:
        """Return what cannot be told of a data set, and why.

        Args:
            part (DataSetAccuracy): The data set.

        Returns:
            str | None: What follows the hook's name in a sentence of the log.
        """
        return None

    def records(self, runner, validation: Validation) -> Iterator[Record]:
        """Yield what is written of a validation.

        Called in the training thread, on the rank that writes: what takes
        long belongs into the records' ``values``.

        Args:
            runner (Runner): The runner of the training process.
            validation (Validation): What was predicted in the validation.
        """
        raise NotImplementedError
