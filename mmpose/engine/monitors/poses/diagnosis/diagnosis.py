# Copyright (c) OpenMMLab. All rights reserved.
from typing import Callable, Iterator, NamedTuple, Optional, Sequence, Tuple

from ...core.monitor import Chart
from ...writers.record import Record
from ..accuracy.data_set_accuracy import DataSetAccuracy
from ..accuracy.evaluation_rules import EvaluationRules
from ..pictures.image_files import ImageFiles
from ..pictures.sample_pictures import SamplePictures


class Validation(NamedTuple):
    """The results of a validation from all ranks.

    Attributes:
        parts (Sequence[DataSetAccuracy]): The data sets that have instances;
            at least one.
        step (int): The step of the records.
        when (str): The epoch or iteration, for the titles of figures.
        details (bool): Whether to log the details of ``log_details``.
        kpt_thr (float): The least score of a prediction that counts.
        rules (Callable): Returns the rules of the evaluation of a data set,
            see :meth:`PoseSampleReader.rules`.
        folder (str): That of the event file.
        files (ImageFiles): Loads the images.
        prefixes (Sequence[str]): See :func:`image_prefixes`.
        pictures (SamplePictures): Draws samples.
    """
    parts: Sequence[DataSetAccuracy]
    step: int
    when: str
    details: bool
    kpt_thr: float
    rules: Callable[[Optional[str]], EvaluationRules]
    folder: str
    files: ImageFiles
    prefixes: Sequence[str]
    pictures: SamplePictures


class Diagnosis:
    """Diagnose why the keypoints of a validation are wrong.

    The same object diagnoses all validations of a training.

    Attributes:
        charts (tuple[Chart]): The charts of its curves.
        compares (bool): Whether its constructor takes the run to compare
            with. Defaults to False.
    """

    charts: Tuple[Chart, ...] = ()
    compares = False

    def unmeasured(self, part: DataSetAccuracy) -> Optional[str]:
        """Return why a data set cannot be diagnosed, or not completely.

        Args:
            part (DataSetAccuracy): The data set.

        Returns:
            str | None: The rest of a sentence in the log that begins with the
            name of the hook. None if it is diagnosed completely.
        """
        return None

    def records(self, runner, validation: Validation) -> Iterator[Record]:
        """Yield the records of a validation.

        It is called in the training thread of the rank that writes. Long
        computations belong into the records' ``values``, which are called in
        the writer's thread.

        Args:
            runner (Runner): The runner of the training process.
            validation (Validation): The validation.
        """
        raise NotImplementedError
