# Copyright (c) OpenMMLab. All rights reserved.
import re
from pathlib import Path

from mmpose.engine.monitors.poses.diagnosis import diagnoses


def test_a_diagnosis_is_a_module_of_the_folder_and_no_line_elsewhere():
    folder = Path(diagnoses.__file__).parent
    defined = {
        name
        for file in folder.rglob('*.py') for name in re.findall(
            r'^class (\w+)\(Diagnosis\)', file.read_text('utf-8'), re.M)
    }
    assert 'ErrorDiagnosis' in defined
    assert {cls.__name__ for cls in diagnoses.DIAGNOSES} == defined
