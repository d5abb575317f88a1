# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, List, Optional

from mmengine.dist import get_world_size

from ...core.measurements import (Buffers, GradientNorms, Losses, Nonfinite,
                                  Updates)
from ...core.registry import DETECTORS
from ..chains import FirstNonfinite
from ..detector import Detector, accumulated
from ..rank_losses import RankLosses
from ..report import ERROR, Finding

_IN_ANOTHER_PROCESS = (
    ' Or the loss was NaN or infinite in another process: those that are '
    'logged are of the first, but the gradients are averages over all.')


@DETECTORS.register_module()
class NonfiniteDetector(Detector):
    """Find which weights or gradients are NaN or infinite, and where it began.

    ======================= ===============================================
    ``nonfinite_weight``    A weight was, before the update
    ``nonfinite_gradient``  A gradient was, while all weights were finite
    ``nonfinite_update``    A weight was after the update, while gradients and
                            weights were finite before
    ======================= ===============================================

    If a loss was NaN or infinite and may be the cause, only the loss is
    reported, see :class:`NonfiniteLossDetector`.
    """

    findings = ('nonfinite_weight', 'nonfinite_gradient', 'nonfinite_update')
    wants = (Losses, GradientNorms, RankLosses, Updates)
    chain = FirstNonfinite
    priority = 'ABOVE_NORMAL'
    finds_nonfinite = True

    def before_train(self, runner) -> None:
        self._present: List[Finding] = []
        # About the gradients of the next update, if known, and their step.
        self._gradient: Optional[Finding] = None
        self._gradient_step = 0
        self._gradient_is_finite = False
        self._is_distributed = get_world_size() > 1
        self._accumulated = accumulated(runner)
        # Reported unless a loss turns out to be the cause.
        self._waiting: Optional[Finding] = None

    def see(self, step: int, measurement) -> Optional[List[Finding]]:
        if isinstance(measurement, Losses):
            if measurement.nonfinite:
                self._waiting = None
            else:
                self._say(self._waiting)
        elif isinstance(measurement, RankLosses):
            if measurement.nonfinite:
                self._waiting = None
        elif isinstance(measurement, GradientNorms):
            self._see_gradients(step, measurement.nonfinite)
        else:
            self._see_update(step, measurement)
        return self._present

    def _say(self, finding: Optional[Finding]) -> None:
        self._waiting = None
        if finding is not None and not self._present:
            self._present = [finding]

    def _see_gradients(self, step: int,
                       nonfinite: Optional[Nonfinite]) -> None:
        # Still there if no weights were measured since.
        self._say(self._gradient)
        self._gradient = None
        self._gradient_step = step
        if nonfinite is None:
            self._gradient_is_finite = True
            self._present = []
        else:
            self._gradient_is_finite = False
            self._gradient = self._or_elsewhere(
                _nonfinite_gradient(step, nonfinite, self._accumulated))

    def _see_update(self, step: int, update: Updates) -> None:
        if step != self._gradient_step:
            # An update that was postponed, of other gradients.
            if self._gradient is not None:
                self._say(self._gradient)
            self._gradient, self._gradient_is_finite = None, False
        gradient, self._gradient = self._gradient, None
        is_finite, self._gradient_is_finite = self._gradient_is_finite, False
        before, after = update.nonfinite_before, update.nonfinite_after
        if not before and not after and gradient is None:
            self._waiting = None
            self._present = []
            return
        self._say(self._waiting)
        if before:
            finding = self._or_elsewhere(_nonfinite_weight(step, before))
            # If all weights are affected, nobody knows where it began.
            if before.fraction < 1:
                self._say(finding)
            else:
                self._waiting = finding
        elif gradient is not None:
            lost = (f'The update made {after.fraction:.0%} of the parameters '
                    'NaN or infinite: resume from an older checkpoint.'
                    if after else
                    'The weights are still finite: no checkpoint is lost.')
            self._waiting = gradient._replace(
                evidence=f'{gradient.evidence} All weights were finite before '
                'the update.',
                advice=f'{lost} {gradient.advice}')
        elif is_finite:
            self._say(_nonfinite_update(step, after))
        else:
            # If the gradient is not known, the loss may be the cause.
            self._waiting = self._or_elsewhere(_nonfinite_update(step, after))

    def _or_elsewhere(self, finding: Finding) -> Finding:
        if not self._is_distributed:
            return finding
        return finding._replace(advice=finding.advice + _IN_ANOTHER_PROCESS)


def _nonfinite_gradient(step: int, found: Nonfinite, batches: int) -> Finding:
    steps = 'that step' if batches == 1 else f'the {batches} steps up to that'
    return Finding(
        'nonfinite_gradient',
        f'A gradient became NaN or infinite, first that of {found.name}.',
        f'At step {step:,} the gradients of {found.fraction:.0%} of the '
        'parameters were, before clipping; none that backpropagation reaches '
        'earlier was.', 'Look in that layer and in those after it for a '
        'division by 0, or a root or logarithm of 0, and at the samples of '
        f'{steps}. If the norms had been growing, lower the learning rate or '
        'clip the gradients.',
        ERROR,
        step,
        batches=batches)


def _nonfinite_update(step: int, found: Nonfinite) -> Finding:
    return Finding(
        'nonfinite_update', 'An update made weights NaN or infinite, first '
        f'those of {found.name}.',
        f'The update of step {step:,} did so to {found.fraction:.0%} of the '
        'parameters, which were finite before it.',
        'Lower the learning rate, and resume from an older checkpoint. If the '
        'gradients were finite (train/gradient_norm), look for a division by '
        "0 in the optimizer: Adam's eps is the guard against it.", ERROR)


def _nonfinite_weight(step: int, found: Nonfinite) -> Finding:
    evidence = (f'Before the update of step {step:,} {found.fraction:.0%} of '
                'the parameters were.')
    if found.fraction < 1:
        return Finding(
            'nonfinite_weight',
            f'Weights became NaN or infinite, first those of {found.name}.',
            evidence, 'Look at what has written to that layer since the last '
            'logging step: its update, a hook, a checkpoint that was loaded. '
            'Resume from an older checkpoint.', ERROR)
    return Finding(
        'nonfinite_weight', 'All weights became NaN or infinite.', evidence,
        'It began after the last logging step and has spread since. Resume '
        'from an older checkpoint, with grad_norm_interval=1, to see where.',
        ERROR)


@DETECTORS.register_module()
class NonfiniteLossDetector(Detector):
    """``nonfinite_loss``: a loss is NaN or infinite, on whichever rank."""

    findings = ('nonfinite_loss', )
    wants = (Losses, RankLosses)
    chain = FirstNonfinite
    finds_nonfinite = True

    def before_train(self, runner) -> None:
        self._present: List[Finding] = []
        self._seen_at = 0

    def see(self, step: int, measurement) -> Optional[List[Finding]]:
        if measurement.nonfinite:
            if not self._present:
                self._present = [
                    _nonfinite_loss(measurement.nonfinite,
                                    getattr(measurement, 'rank', 0))
                ]
            self._seen_at = step
        elif (isinstance(measurement, Losses)
              and measurement.median is not None and step > self._seen_at):
            self._present = []
        return self._present


def _nonfinite_loss(first: Dict[str, int], rank: int) -> Finding:
    step = min(first.values())
    # The sum of the losses adds nothing to them.
    names = [n for n in first if first[n] == step and n != 'loss']
    name = ', '.join(names) or 'loss'
    where = f' on rank {rank}' if rank else ''
    # They are known where the ranks share a disk.
    elsewhere = (
        ' Or the loss of another process was NaN or infinite at the step '
        'before: the update is the same for all.'
    ) if get_world_size() > 1 and not rank else ''
    return Finding(
        'nonfinite_loss',
        f'The loss became NaN or infinite at step {step:,}{where}: {name}.',
        f'{name} was so at step {step:,}{where}, before the weights were '
        'updated.',
        'Look at the samples of that step for empty or broken annotations, '
        'and at the gradients before it. If they had been growing, lower the '
        'learning rate or clip them. Where health/nonfinite_weight has a '
        'curve, the weights are lost: resume from an older checkpoint.' +
        elsewhere,
        ERROR,
        step,
        rank=rank)


@DETECTORS.register_module()
class NonfiniteBufferDetector(Detector):
    """``nonfinite_buffer``: a running statistic is NaN or infinite.

    If the loss is as well, the statistics only follow from it.
    """

    findings = ('nonfinite_buffer', )
    wants = (Buffers, Losses)
    chain = FirstNonfinite
    priority = 'LOW'
    finds_nonfinite = True

    def before_train(self, runner) -> None:
        self._present: List[Finding] = []
        # Reported if the losses are finite.
        self._waiting: Optional[Finding] = None

    def see(self, step: int, measurement) -> List[Finding]:
        if isinstance(measurement, Buffers):
            if measurement.nonfinite is None:
                self._waiting = None
                self._present = []
            elif not self._present:
                self._waiting = _nonfinite_buffer(step, measurement.nonfinite)
        else:
            if self._waiting and not measurement.nonfinite:
                self._present = [self._waiting]
            self._waiting = None
        return self._present


def _nonfinite_buffer(step: int, found: Nonfinite) -> Finding:
    return Finding(
        'nonfinite_buffer', f'{found.name} is NaN or infinite, and stays so.',
        f'At step {step:,} {found.fraction:.0%} of the running means and '
        'variances are. The loss does not show it, since a batch norm in '
        'training uses the statistics of the batch; validations and saved '
        'checkpoints use this buffer.', 'Reset the running statistics of that '
        'layer (reset_running_stats) or resume from an older checkpoint. Look '
        'at what came in there at the last steps: an overflow in float16, or '
        'a broken image.', ERROR)
