# Copyright (c) OpenMMLab. All rights reserved.
from typing import List, Optional

from ....core.measurements import KeypointAccuracy
from ....core.pose_measurements import FixedLosses
from ....core.registry import DETECTORS
from ...detector import Detector, Streaks, started_at
from ...report import NOTE, Finding

# The accuracy of training samples that the validation prepares, over that of
# those that the training prepares. Augmentation makes the latter lower.
_LESS = 0.5
# The latter, from which on there is something to be lost.
_LEARNED = 0.2
# The same of the losses, which differ less where labels are wrong, and where
# there is no accuracy. That of heatmaps without a peak is hardly three times
# that of a model that has learned: an accuracy tells more.
_HIGHER = 1.3
_OTHERWISE = 2.
# By how much the PCK of the validation is higher than that of training
# samples, of which there may be 16 only.
_PCK = 0.2
# Where it is not known: the loss of the validation over theirs.
_EASIER = 0.5


@DETECTORS.register_module()
class PreparationDetector(Detector):
    """``validation_preparation``: the validation prepares its input otherwise.

    In three consecutive validations, after 1000 updates, training samples in
    the pipeline of the validation have half the accuracy of a training batch,
    the first one since the last validation, both in evaluation mode, and 1.3
    times its loss. Where the head returns no accuracy with its losses: twice
    the loss.

    Args:
        accuracy (float): The fraction of the accuracy. Defaults to 0.5.
        ratio (float): Of the two losses. Defaults to 2.
    """

    findings = ('validation_preparation', )
    wants = (FixedLosses, )

    def __init__(self,
                 accuracy: float = _LESS,
                 ratio: float = _OTHERWISE) -> None:
        self._accuracy = accuracy
        self._ratio = ratio

    def before_train(self, runner) -> None:
        self._begins = started_at(runner)
        self._streaks = Streaks()

    def see(self, step: int, losses: FixedLosses) -> Optional[List[Finding]]:
        if None in (losses.training, losses.batch):
            return None
        is_otherwise = (
            losses.iteration >= self._begins and self._differs(losses))
        if not self._streaks.update(['otherwise'] if is_otherwise else []):
            return []
        return [
            Finding(
                'validation_preparation',
                'Training samples are predicted far worse as the validation '
                'prepares them than as the training does.',
                'In evaluation mode, a training batch has a loss of '
                f'{losses.batch:.4g}{_of_head(losses.batch_accuracy)}, '
                'training samples in the pipeline of the validation '
                f'{losses.training:.4g} (train_as_val/loss)'
                f'{_of_head(losses.training_accuracy)}, the validation itself '
                f'{_number(losses.validation)}.',
                'Compare the two pipelines: padding of GetBBoxCenterScale, '
                'input_size and use_udp of TopdownAffine, how images are '
                'loaded (color_type, to_float32), resized and padded. In '
                'val/images the input looks other than in train/images.')
        ]

    def _differs(self, losses: FixedLosses) -> bool:
        hysteresis = self._streaks.hysteresis('otherwise')
        own, batch = losses.training_accuracy, losses.batch_accuracy
        if own is not None and batch is not None:
            limit = self._accuracy / hysteresis
            return batch >= _LEARNED and own < limit * batch and (
                losses.training > _HIGHER * losses.batch or losses.batch <= 0)
        # A likelihood may be negative, and has no ratio.
        return losses.training > self._ratio * hysteresis * losses.batch > 0


@DETECTORS.register_module()
class EasierValidationDetector(Detector):
    """``validation_easier``: the validation is far better than the training.

    In three consecutive validations, after 1000 updates or half of a shorter
    training: its loss is lower than that of training samples that are prepared
    in the same way, and its PCK@0.05 is higher by 0.2. Where the PCK is not
    known: its loss is below half of theirs.

    Args:
        pck (float): By how much the PCK is higher. Defaults to 0.2.
        ratio (float): Of the two losses. Defaults to 0.5.
    """

    findings = ('validation_easier', )
    wants = (FixedLosses, KeypointAccuracy)

    def __init__(self, pck: float = _PCK, ratio: float = _EASIER) -> None:
        self._higher = pck
        self._ratio = ratio

    def before_train(self, runner) -> None:
        self._begins = min(
            started_at(runner), (runner.iter + runner.max_iters) // 2)
        self._streaks = Streaks()
        self._pck: Optional[float] = None

    def see(self, step: int, measured) -> Optional[List[Finding]]:
        if isinstance(measured, KeypointAccuracy):
            self._pck = measured.pck
            return None
        if None in (measured.training, measured.validation):
            return None
        is_easier = (
            measured.iteration >= self._begins and self._is_easier(measured))
        if not self._streaks.update(['easier'] if is_easier else []):
            return []
        return [
            Finding(
                'validation_easier',
                'The validation is far better than training samples that are '
                'prepared in the same way.',
                f'The loss of the validation is {measured.validation:.4g}, '
                f'that of training samples {measured.training:.4g}; their '
                f'PCK@0.05 are {_number(self._pck)} and '
                f'{_number(measured.training_pck)}.',
                'The validation does not show how well the model generalizes: '
                'look for easier or repeated images in it, for frames of the '
                'same videos in both, and for wrong labels in the training '
                'set: test a checkpoint on that, and suspect_labels.csv names '
                'them.', NOTE)
        ]

    def _is_easier(self, losses: FixedLosses) -> bool:
        hysteresis = self._streaks.hysteresis('easier')
        if self._pck is not None and losses.training_pck is not None:
            limit = losses.training_pck + self._higher * hysteresis
            return losses.validation < losses.training and self._pck > limit
        # A likelihood may be negative, and has no ratio.
        limit = self._ratio / hysteresis * losses.training
        return 0 <= losses.validation < limit


def _number(value: Optional[float]) -> str:
    return 'unknown' if value is None else f'{value:.4g}'


def _of_head(accuracy: Optional[float]) -> str:
    return '' if accuracy is None else f' and an acc_pose of {accuracy:.3g}'
