# Copyright (c) OpenMMLab. All rights reserved.
from typing import List, Optional

from ....core.measurements import EmaLosses, EmaModel, Losses
from ....core.registry import DETECTORS
from ....core.runner_parts import is_iter_based
from ...chains import FirstNonfinite, MostSerious
from ...detector import Detector
from ...report import ERROR, Finding

# The ratio of the losses of the EMA model and the model in training, the
# number of validations, and the fraction of the training after which they
# count.
_RATIO = 2
_VALIDATIONS = 2
_FROM = 0.2
# The least difference of the losses, as a fraction of how far the loss has
# fallen.
_OF_FALL = 0.01


@DETECTORS.register_module()
class EmaLagDetector(Detector):
    """``ema_lags``: the EMA model is far worse than the model in training.

    Args:
        ratio (float): The ratio of their losses. Defaults to 2.
    """

    findings = ('ema_lags', )
    wants = (EmaLosses, Losses)
    # A metric that does not improve follows from it.
    chain = MostSerious
    priority = 'VERY_HIGH'

    def __init__(self, ratio: float = _RATIO) -> None:
        self._ratio = ratio

    def before_train(self, runner) -> None:
        self._from = runner.iter + _FROM * (runner.max_iters - runner.iter)
        self._iters = runner.max_iters
        # MMEngine allows no other one.
        self._begin = ('begin_iter'
                       if is_iter_based(runner) else 'begin_epoch')
        self._highest = 0.
        self._count = 0

    def see(self, step: int, measurement) -> Optional[List[Finding]]:
        if isinstance(measurement, Losses):
            self._highest = max(self._highest, measurement.median or 0.)
            return None
        own, averaged = measurement.own, measurement.averaged
        lags = step >= self._from and averaged - own > max(
            (self._ratio - 1) * abs(own), _OF_FALL * (self._highest - own))
        self._count = self._count + 1 if lags else 0
        if self._count < _VALIDATIONS:
            return []
        return [self._finding(step, measurement)]

    def _finding(self, step: int, losses: EmaLosses) -> Finding:
        momentum, remembers = losses.momentum, ''
        if momentum:
            remembers = (
                f' With a momentum of {momentum:g} it averages over about '
                f'{1 / momentum:,.0f} updates; the training has '
                f'{self._iters:,} iterations.')
        return Finding(
            'ema_lags', 'The EMA model, which is validated and saved, is far '
            'worse than the model in training.',
            f'After the update of step {step:,} the loss of a training batch '
            f'is {losses.own:.4g} with the weights in training and '
            f'{losses.averaged:.4g} with those of the EMA model, in '
            f'evaluation mode.{remembers}',
            f'Raise momentum of the EMAHook, or begin later ({self._begin}), '
            'so that the first weights are forgotten. Set update_buffers=True '
            'if the model has batch norms.')


@DETECTORS.register_module()
class NonfiniteEmaDetector(Detector):
    """``nonfinite_ema``: a weight of the EMA model is NaN or infinite.

    If a weight of the model in training is, or its loss, it follows from
    that.
    """

    findings = ('nonfinite_ema', )
    wants = (EmaModel, )
    chain = FirstNonfinite
    priority = 'LOWEST'
    finds_nonfinite = True

    def see(self, step: int, ema: EmaModel) -> List[Finding]:
        found = ema.nonfinite
        return [
            Finding(
                'nonfinite_ema',
                f'{found.name} of the EMA model is NaN or infinite, and stays '
                'so.',
                f'At step {step:,} {found.fraction:.0%} of its weights and '
                'buffers are. The training goes on without them; validations '
                'and checkpoints use them.',
                'Resume from an older checkpoint: an average never recovers '
                'from a NaN. Look for a step at which a weight was NaN, also '
                'if it was repaired, and for running statistics that are '
                '(update_buffers).', ERROR)
        ] if found else []
