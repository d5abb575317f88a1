# Copyright (c) OpenMMLab. All rights reserved.
from typing import Iterator

from ....core.registry import DETECTORS
from ...chains import FromSettings
from ...report import NOTE, Finding
from ...settings.check import SettingsDetector
from ...settings.description import Settings

# Eight processes instead of two, or one instead of four.
_FACTOR = 4
# EMAHook moves by ``momentum`` towards the weights; others call 1 - momentum
# so.
_HIGHEST_MOMENTUM = 0.5


@DETECTORS.register_module()
class BatchSizeDetector(SettingsDetector):
    """``batch_size``: it is not that which the learning rate was chosen for.

    A note, since the learning rate may have been changed as well.

    Args:
        factor (float): The factor between the two above which they differ.
            Defaults to 4.
    """

    findings = ('batch_size', )

    def __init__(self, factor: float = _FACTOR) -> None:
        self._factor = factor

    def check(self, settings: Settings) -> Iterator[Finding]:
        total, base = settings.total_batch_size, settings.base_batch_size
        if not total or not base:
            return
        if max(total / base, base / total) < self._factor:
            return
        yield Finding(
            'batch_size', f'An update has {total:,} samples; the learning '
            f'rate of the config is meant for {base:,}.',
            f'auto_scale_lr.base_batch_size is {base:,} and auto_scale_lr is '
            f'off: by the linear rule the learning rate is {base / total:.3g} '
            'times what it should be.',
            f'Multiply the learning rate by {total / base:.3g}, or train with '
            '--auto-scale-lr. If it is changed already, set base_batch_size '
            f'to {total}.', NOTE)


@DETECTORS.register_module()
class EmaMomentumDetector(SettingsDetector):
    """``ema_momentum``: the momentum is in the other convention."""

    findings = ('ema_momentum', )

    def check(self, settings: Settings) -> Iterator[Finding]:
        momentum = settings.ema_momentum
        if momentum is None or not _HIGHEST_MOMENTUM < momentum < 1:
            return
        yield Finding(
            'ema_momentum', 'The EMA model is nearly the model in training: '
            'it averages over hardly more than one update.',
            f'momentum of EMAHook is {momentum:g}: the fraction by which an '
            'update moves the EMA model towards the weights.',
            f'Set momentum to {1 - momentum:.4g}; what others call a momentum '
            'or decay is 1 - momentum here.')


@DETECTORS.register_module()
class SameAnnotationsDetector(SettingsDetector):
    """``same_annotations``: training and validation read the same file."""

    findings = ('same_annotations', )
    chain = FromSettings

    def check(self, settings: Settings) -> Iterator[Finding]:
        trained, validated = ({(d.ann_file, d.subset)
                               for d in settings.data_sets
                               if d.where == where and d.ann_file}
                              for where in ('train', 'val'))
        both = sorted(file for file, _ in trained & validated)
        if both:
            yield Finding(
                'same_annotations', 'The model is validated on the samples '
                'that it is trained on: the metric cannot show overfitting.',
                f'ann_file of both is {", ".join(both)}.',
                'Give val_dataloader and val_evaluator an ann_file of their '
                'own, with images that are not in the training.')
