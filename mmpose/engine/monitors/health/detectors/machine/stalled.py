# Copyright (c) OpenMMLab. All rights reserved.
from typing import List

from ....core.measurements import Progress
from ....core.registry import DETECTORS
from ...detector import Detector
from ...report import ERROR, Finding

# An evaluation of COCO takes a minute or two, that of a whole body several.
_SECONDS = 600
_TIMES = 100
# A pause that was there before and ended, such as an evaluation.
_TIMES_LONGEST = 3


@DETECTORS.register_module()
class StalledDetector(Detector):
    """``stalled``: nothing has happened for many times as long as usual.

    Args:
        seconds (float): The least number of seconds. Defaults to 600.
        times (float): How many times the usual time. Defaults to 100.
    """

    findings = ('stalled', )
    wants = (Progress, )

    def __init__(self, seconds: float = _SECONDS, times: float = _TIMES):
        self._seconds = seconds
        self._times = times

    def before_train(self, runner) -> None:
        self._workers = getattr(runner.train_dataloader, 'num_workers', 0)

    def see(self, step: int, progress: Progress) -> List[Finding]:
        if progress.idle < max(self._seconds, self._times * progress.usual,
                               _TIMES_LONGEST * progress.longest):
            return []
        workers = (
            f' With the {self._workers} workers of train_dataloader, try '
            'num_workers=0: an error is then raised where a worker hangs.'
            if self._workers else '')
        return [
            Finding(
                'stalled', f'The training stands still since iteration '
                f'{progress.last_step:,}.',
                f'For {progress.idle:,.0f} seconds no iteration, of training '
                'or validation, has begun or ended; usually that takes '
                f'{progress.usual:.2g} seconds. The training is in '
                f'{progress.where}.',
                'Look at the innermost of these lines: in a data loader a '
                'worker hangs or the disk does not answer, in a collective '
                'operation (all_reduce, backward) another process has '
                f'stopped or took another branch.{workers} End the training '
                'and resume it from the last checkpoint.', ERROR)
        ]
