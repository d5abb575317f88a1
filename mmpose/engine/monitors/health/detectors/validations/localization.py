# Copyright (c) OpenMMLab. All rights reserved.
from typing import List, Optional

from ....core.measurements import LocalizationErrors, Sides
from ....core.pose_measurements import PoseSpread
from ....core.registry import DETECTORS
from ...chains import FromSettings
from ...detector import CONSECUTIVE, Detector, Streaks
from ...report import Finding
from .one_pose import is_mean_pose

# The fraction of the predictions near one of two mirrored keypoints that are
# near the wrong one: half if the model does not distinguish left and right,
# all if the labels are mirrored. A working model has a few percent.
_EXCHANGED = 0.3
# An untrained model does not distinguish them either, but it finds neither of
# them, or it improves, by a fifth over three validations.
_LOCATED = 0.5
_IMPROVES = 0.8
_MIN_COUNT = 50
# The fraction of keypoints on another instance, if half of all are in place.
_SWAPPED = 0.1


@DETECTORS.register_module()
class LeftRightDetector(Detector):
    """``left_right_exchanged``: keypoints are predicted on the other side.

    It judges the pairs of keypoints of which at least half are predicted near
    either of the two, over three consecutive validations without improvement.
    Where the mean pose would be as good, the sides tell nothing. It follows
    from wrong ``flip_indices``.

    Args:
        fraction (float): The fraction of these above which too many
            predictions are near the wrong keypoint. Defaults to 0.3.
    """

    findings = ('left_right_exchanged', )
    wants = (LocalizationErrors, PoseSpread)
    chain = FromSettings

    def __init__(self, fraction: float = _EXCHANGED) -> None:
        self._fraction = fraction

    def before_train(self, runner) -> None:
        self._streaks = Streaks()
        self._fractions: List[dict] = []
        self._is_mean_pose = False

    def see(self, step: int, measurement) -> Optional[List[Finding]]:
        if isinstance(measurement, PoseSpread):
            self._is_mean_pose = is_mean_pose(measurement)
            return None
        return self._judge(measurement)

    def _judge(self, errors: LocalizationErrors) -> List[Finding]:
        pairs = {' and '.join(s.names): s for s in errors.sides}
        fractions = {
            name: _wrong_fraction(sides)
            for name, sides in pairs.items()
            if _is_located(sides) and not self._is_mean_pose
        }
        self._fractions = [*self._fractions, fractions][-CONSECUTIVE:]
        exchanged = self._streaks.update(
            name for name, fraction in fractions.items()
            if fraction > self._fraction * self._streaks.hysteresis(name))
        first = self._fractions[0]
        exchanged = [
            name for name in exchanged
            if fractions[name] > _IMPROVES * first.get(name, 0)
        ]
        if not exchanged:
            return []
        evidence = '; '.join(
            f'{name}: {pairs[name].wrong_side} of '
            f'{pairs[name].wrong_side + pairs[name].right_side} that are near '
            'one of the two are near the wrong one' for name in exchanged[:3])
        more = len(exchanged) - 3
        return [
            Finding(
                'left_right_exchanged', 'Left and right are exchanged: '
                f'{", ".join(exchanged[:3])}' +
                (f', and {more} more pairs.' if more > 0 else '.'),
                f'{evidence}. By chance it would be half of them.',
                'About half: the model cannot tell left from right. Look for a'
                ' flip that does not exchange them: flip_indices of the data '
                'set, a flip of your own, annotations of mirrored images. '
                'Almost all: the annotations of the training set or of the '
                'validation set are mirrored; look at GT in val/images and at '
                'the target in train/images.')
        ]


@DETECTORS.register_module()
class InstanceSwapDetector(Detector):
    """``instances_swapped``: keypoints are predicted on another instance.

    At least half of all keypoints must be in place, in three consecutive
    validations.

    Args:
        fraction (float): The fraction of all keypoints above which too many
            are on another instance. Defaults to 0.1.
    """

    findings = ('instances_swapped', )
    wants = (LocalizationErrors, )

    def __init__(self, fraction: float = _SWAPPED) -> None:
        self._fraction = fraction

    def before_train(self, runner) -> None:
        self._streaks = Streaks()

    def see(self, step: int, errors: LocalizationErrors) -> List[Finding]:
        of = errors.fractions
        swapped = of['swap'] > self._fraction * self._streaks.hysteresis(
            'swap')
        in_place = of['good'] + of['jitter'] >= _LOCATED
        if not self._streaks.update(['swap'] if swapped and in_place else []):
            return []
        return [
            Finding(
                'instances_swapped',
                'Many keypoints are predicted on another instance.',
                f'{of["swap"]:.0%} of the keypoints are on another instance, '
                f'{of["good"] + of["jitter"]:.0%} in place.',
                'Look at errors/by_keypoint and val/hard_samples. With boxes '
                'that hold several instances, lower the padding of '
                'GetBBoxCenterScale in both pipelines, or train on more '
                'crowded images; of a bottom-up model look at the grouping.')
        ]


def _is_located(sides: Sides) -> bool:
    located = sides.right_side + sides.wrong_side
    return (sides.count >= _MIN_COUNT and located >= _LOCATED * sides.count)


def _wrong_fraction(sides: Sides) -> float:
    return sides.wrong_side / (sides.right_side + sides.wrong_side)
