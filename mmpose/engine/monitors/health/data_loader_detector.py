# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, List, Optional, Tuple

from .health import Detector
from .health_report import Finding

# From here on it is worth mending. A training that loads small images in its
# own process waits for 10 % to 20 % of its time; workers make that 0.
_WAITING_PERCENT = 30
# It has ended when it is clearly below.
_NO_MORE_PERCENT = 25
# An epoch begins slowly: so many readings, over so many iterations at least.
_READINGS = 3
_ITERS = 50


class DataLoaderDetector(Detector):
    """``data_loader``: the training waits for its data."""

    def before_train(self, runner) -> None:
        self._workers = getattr(runner.train_dataloader, 'num_workers', 0)
        self._started = False
        self._overhead = 0.
        # Steps and percentages of the readings running that are too high.
        self._waiting: List[Tuple[int, float]] = []
        self._present: List[Finding] = []

    def see(self, step: int, scalars: Dict[str,
                                           float]) -> Optional[List[Finding]]:
        # MMEngine's timer takes what the hooks do after it for loading.
        self._overhead = scalars.get('telemetry/overhead_percent',
                                     self._overhead)
        percent = scalars.get('system/data_time_percent')
        if percent is None:
            return None
        percent -= self._overhead
        if not self._started:  # The workers as well.
            self._started = True
        elif percent < _NO_MORE_PERCENT:
            self._waiting = []
            self._present = []
        elif percent < _WAITING_PERCENT:
            self._waiting = []
        else:
            self._waiting.append((step, percent))
            if self._is_long() and not self._present:
                self._present = [self._finding()]
        return self._present

    def _is_long(self) -> bool:
        return (len(self._waiting) >= _READINGS
                and self._waiting[-1][0] - self._waiting[0][0] >= _ITERS)

    def _finding(self) -> Finding:
        mean = sum(percent
                   for _, percent in self._waiting) / len(self._waiting)
        if self._workers:
            advice = (f'Raise num_workers of train_dataloader above '
                      f'{self._workers} if there are CPU cores left, and set '
                      'persistent_workers=True.')
        else:
            advice = ('Set num_workers of train_dataloader, which is 0: '
                      'samples are then loaded while the model computes.')
        return Finding(
            'data_loader', 'The data loader is the bottleneck: the training '
            'waits for it.', f'It takes {mean:.0f} % of each iteration, from '
            f'step {self._waiting[0][0]:,} to step {self._waiting[-1][0]:,}.',
            advice + ' Then look for the slowest transform of the pipeline, '
            'and keep the images on a local disk.')
