# Copyright (c) OpenMMLab. All rights reserved.
"""Which diagnoses there are: a new one is a module, and a line here."""
from typing import Tuple, Type

from .diagnosis import Diagnosis
from .error_summary import ErrorDiagnosis
from .precision_recall import PrecisionRecallDiagnosis

DIAGNOSES: Tuple[Type[Diagnosis],
                 ...] = (ErrorDiagnosis, PrecisionRecallDiagnosis)
