# Copyright (c) OpenMMLab. All rights reserved.
from typing import List

from .data_loader_detector import DataLoaderDetector
from .health import Detector
from .learning_rate_detectors import LearningRateZeroDetector
from .loss_detectors import LossSpikeDetector, NotLearningDetector
from .validation_detector import ValidationDetector


def training_detectors() -> List[Detector]:
    """One detector for each illness of the training as a whole.

    ====================== ================================================
    ``loss_spike``         The loss of an iteration is far above those around
                           it
    ``not_learning``       The loss is where it was in the beginning
    ``learning_rate_zero`` There are steps that change nothing
    ``overfitting``        Validations get worse, the training loss better
    ``plateau``            Validations do not get better any more
    ``data_loader``        The training waits for its data
    ====================== ================================================

    Returns:
        list[Detector]: What to give a :class:`HealthMonitor`.
    """
    return [
        LossSpikeDetector(),
        NotLearningDetector(),
        LearningRateZeroDetector(),
        ValidationDetector(),
        DataLoaderDetector()
    ]
