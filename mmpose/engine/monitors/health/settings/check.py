# Copyright (c) OpenMMLab. All rights reserved.
from typing import Iterator, List

from ..detector import Detector, build_detectors
from ..report import Finding
from .description import Settings


class SettingsDetector(Detector):
    """Look for settings that cannot be right.

    It is shown the settings once, at the first iteration.
    """

    wants = (Settings, )

    def see(self, step: int, settings: Settings) -> List[Finding]:
        return list(self.check(settings))

    def check(self, settings: Settings) -> Iterator[Finding]:
        """Yield what cannot be right.

        Args:
            settings (Settings): The settings of a training.
        """
        raise NotImplementedError


def check_settings(settings: Settings) -> List[Finding]:
    """Return what all detectors of settings find, without a training.

    Args:
        settings (Settings): The settings of a training.
    """
    return [
        finding for detector in build_detectors()
        if isinstance(detector, SettingsDetector)
        for finding in detector.check(settings)
    ]
