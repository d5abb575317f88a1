# Copyright (c) OpenMMLab. All rights reserved.
from typing import List, Optional

from ....core.measurements import KeypointAccuracy
from ....core.pose_measurements import CodecCeiling, TargetErrors
from ....core.registry import DETECTORS
from ...detector import Detector, Streaks
from ...report import NOTE, Finding

# The fraction of the error above which it is mostly the codec's.
_MOSTLY = 0.5
# A codec that loses less than this of 1 costs nothing that a metric shows.
_WORTH_CHANGING = 0.005
# The number of samples that a finding names.
_MAX_NAMED = 3
_EXACT = ('a codec that does not round: MSRAHeatmap with unbiased=True, '
          'UDPHeatmap (and use_udp=True of TopdownAffine), or SimCCLabel; or ')
_BY_CODEC = dict(
    MSRAHeatmap=_EXACT,
    MegviiHeatmap=_EXACT,
    SimCCLabel='a higher simcc_split_ratio, or ',
    AssociativeEmbedding='use_udp=True, or ')


@DETECTORS.register_module()
class CodecCeilingDetector(Detector):
    """``codec_ceiling``: what is left of the error is mostly the codec's.

    In three consecutive validations: what a perfect prediction loses to the
    codec is most of what the model loses, in OKS; in PCK@0.05 where there is
    no OKS.

    Args:
        fraction (float): The fraction of the loss above which it is mostly the
            codec's. Defaults to 0.5.
    """

    findings = ('codec_ceiling', )
    wants = (CodecCeiling, KeypointAccuracy)

    def __init__(self, fraction: float = _MOSTLY) -> None:
        self._fraction = fraction

    def before_train(self, runner) -> None:
        self._ceiling: Optional[CodecCeiling] = None
        self._streaks = Streaks()

    def see(self, step: int, measurement) -> Optional[List[Finding]]:
        if isinstance(measurement, CodecCeiling):
            self._ceiling = measurement
        if self._ceiling is None or self._ceiling is measurement:
            return None
        name, ceiling, value = 'OKS', self._ceiling.oks, measurement.oks
        if ceiling is None or value is None:
            name, ceiling = 'PCK@0.05', self._ceiling.pck
            value = measurement.pck
        limit = self._fraction * self._streaks.hysteresis('ceiling')
        reached = (1 - ceiling > _WORTH_CHANGING
                   and 1 - ceiling > limit * (1 - value))
        if not self._streaks.update(['ceiling'] if reached else []):
            return []
        codec = self._ceiling
        return [
            Finding(
                'codec_ceiling',
                f'The codec, {codec.codec}, now limits the accuracy more than '
                'the model does.',
                f'The mean {name} is {value:.3f}. A perfect prediction has '
                f'{ceiling:.3f}: a pixel of the heatmap is {codec.pixel:g} px '
                'of the input.', 'Longer training will not help. Use '
                f'{_BY_CODEC.get(codec.codec, "")}a larger heatmap_size or '
                'input_size. Look at codec/ceiling/* for the keypoints that '
                'lose most.', NOTE)
        ]


@DETECTORS.register_module()
class TargetDetector(Detector):
    """``target_misplaced``: targets are not where the annotations are.

    The median keypoint of a sample is farther away than a pixel of the
    heatmap, which the codec may round off, and one of the input.
    """

    findings = ('target_misplaced', )
    wants = (TargetErrors, )

    def see(self, step: int, errors: TargetErrors) -> List[Finding]:
        if not errors.misplaced:
            return []
        worst = sorted(errors.misplaced, key=lambda s: -s['error'])
        named = '; '.join(
            f'{s.get("img_path", "unknown image")} (id {s.get("id")}): '
            f'{s["error"]:.1f} px' for s in worst[:_MAX_NAMED])
        return [
            Finding(
                'target_misplaced',
                f'The targets of {len(worst)} of the first {errors.count} '
                'training samples are not where the annotations are.',
                'The distance of the median keypoint in px of the input, of '
                f'which the codec allows {errors.allowed:.1f}: {named}.',
                'Look at the target in train/images. Look for a transform '
                'that changes only the image or only the keypoints, such as a '
                'flip after TopdownAffine; for keypoints that are exchanged; '
                'and for a codec of GenerateTarget that is not that of the '
                'head. A pipeline with a crop of its own needs '
                'pack_transformed=True of PackPoseInputs to be judged.')
        ]
