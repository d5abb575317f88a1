# Copyright (c) OpenMMLab. All rights reserved.
import math
import os
from typing import Dict, List, Optional, Tuple

from ....core.measurements import DataTime, HookTime, TransformTimes
from ....core.registry import DETECTORS
from ...detector import Detector
from ...report import Finding

# A training that loads small images in its own process waits for 10 % to 20 %
# of its time; workers make that 0.
_WAITING = 0.3
# It is resolved below this fraction of the limit.
_RESOLVED = 5 / 6
# An epoch begins slowly, so it takes this many consecutive measurements, over
# at least this many iterations.
_MEASUREMENTS = 3
_ITERS = 50


@DETECTORS.register_module()
class DataLoaderDetector(Detector):
    """``data_loader``: the training waits for its data.

    Args:
        fraction (float): The fraction of an iteration above which waiting is
            reported. Defaults to 0.3.
    """

    findings = ('data_loader', )
    wants = (DataTime, HookTime, TransformTimes)

    def __init__(self, fraction: float = _WAITING) -> None:
        self._fraction = fraction

    def before_train(self, runner) -> None:
        self._workers = getattr(runner.train_dataloader, 'num_workers', 0)
        self._started = False
        self._of_hook = 0.
        self._transforms: Dict[str, float] = {}
        # Steps and fractions of the consecutive measurements that are high.
        self._waiting: List[Tuple[int, float]] = []
        self._present: List[Finding] = []

    def see(self, step: int, measurement) -> Optional[List[Finding]]:
        if isinstance(measurement, HookTime):
            # MMEngine's timer counts what later hooks do as loading.
            self._of_hook = measurement.fraction
            return None
        if isinstance(measurement, TransformTimes):
            self._transforms = measurement.milliseconds
            return None
        fraction = measurement.fraction - self._of_hook
        if not self._started:  # The workers are still starting.
            self._started = True
        elif fraction < self._fraction:
            self._waiting = []
            if fraction < _RESOLVED * self._fraction:
                self._present = []
        else:
            self._waiting.append((step, fraction))
            if self._is_long() and not self._present:
                self._present = [self._finding(measurement)]
        return self._present

    def _is_long(self) -> bool:
        return (len(self._waiting) >= _MEASUREMENTS
                and self._waiting[-1][0] - self._waiting[0][0] >= _ITERS)

    def _finding(self, time: DataTime) -> Finding:
        mean = sum(f for _, f in self._waiting) / len(self._waiting)
        if self._workers:
            advice = (f'Raise num_workers of train_dataloader above '
                      f'{self._workers} if there are CPU cores left, and set '
                      'persistent_workers=True.')
        else:
            advice = ('Set num_workers of train_dataloader, which is 0: '
                      'samples are then loaded while the model computes.')
        evidence = (f'It takes {mean:.0%} of each iteration, from step '
                    f'{self._waiting[0][0]:,} to step '
                    f'{self._waiting[-1][0]:,}.')
        slowest = 'look for the slowest transform of the pipeline'
        if self._transforms:
            name = max(self._transforms, key=self._transforms.get)
            total = sum(self._transforms.values())
            evidence += (f' A sample takes {total:.3g} ms of a worker, '
                         f'{self._transforms[name]:.3g} ms of it {name}, see '
                         'data/transforms.')
            slowest = f'make {name} faster'
            if time.samples and time.rest > 0:
                enough = math.ceil(total * time.samples / 1000 / time.rest)
                if enough > self._workers:
                    advice += (f' num_workers={enough} would be enough, with '
                               f'a core for each; there are {os.cpu_count()}.')
                else:
                    advice = (
                        f'By these times {enough} of the {self._workers} '
                        'workers of train_dataloader would be enough, so look '
                        'at what they wait for: the disk, CPU cores (there '
                        f'are {os.cpu_count()}), or their start in each epoch '
                        '(persistent_workers=True).')
        return Finding(
            'data_loader', 'The data loader is the bottleneck: the training '
            'waits for it.', evidence, f'{advice} Then {slowest}, and keep '
            'the images on a local disk.')
