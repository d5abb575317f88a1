# Copyright (c) OpenMMLab. All rights reserved.
from typing import Iterator, Tuple

from ....core.registry import DETECTORS
from ...report import Finding
from ...settings.check import SettingsDetector
from ...settings.description import Preprocessing, Settings

# Of ImageNet, in the order R, G, B and for pixels from 0 to 255.
_MEAN = (123.675, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)
# Their backbones were trained on RGB with these, except for the families
# below.
_SOURCES = ('torchvision://', 'https://download.pytorch.org/', 'mmcls://',
            'mmpretrain://', 'https://download.openmmlab.com/mmpose/',
            'https://download.openmmlab.com/mmclassification/',
            'https://download.openmmlab.com/mmpretrain/')
_OTHERS = ('yolox', 'rtmo', 'caffe', 'detectron', 'vitpose', 'clip', 'beit')
_EXPECTED = ('bgr_to_rgb=True, mean=[123.675, 116.28, 103.53] and '
             'std=[58.395, 57.12, 57.375]')


@DETECTORS.register_module()
class ChannelDetector(SettingsDetector):
    """``normalization``: the input is not what the backbone expects.

    Images are read as BGR with values from 0 to 255. ImageNet's mean is in
    the wrong order or for values up to 1; or a backbone that was trained on
    RGB with it, as is known of some sources, gets something else.
    """

    findings = ('normalization', )

    def check(self, settings: Settings) -> Iterator[Finding]:
        given = settings.preprocessing
        if given is None:
            return
        wrong = _wrong(given, _expects_imagenet(settings.pretrained))
        if wrong:
            expects = (f'{settings.pretrained} expects {_EXPECTED}.'
                       if _expects_imagenet(settings.pretrained) else
                       f'ImageNet in the order R, G, B: {_EXPECTED}.')
            yield Finding(
                'normalization', f'The input of the model: {wrong}.',
                f'data_preprocessor has bgr_to_rgb={given.swaps_channels}, '
                f'mean={list(given.mean)} and std={list(given.std)}. '
                f'{expects}',
                f'Set {_EXPECTED}. Look at the colours in train/images.')


def _wrong(given: Preprocessing, is_known: bool) -> str:
    if _is_unit(given.mean) and _is_unit(given.std):
        return ('mean and std are for pixels from 0 to 1, and pixels are from '
                '0 to 255')
    order = _order(given.mean)
    if order and order != ('RGB' if given.swaps_channels else 'BGR'):
        channels = 'RGB' if given.swaps_channels else 'BGR'
        return (f'mean is in the order {order}, and the channels are in the '
                f'order {channels}')
    if is_known and not given.swaps_channels:
        return 'the channels are in the order BGR, the backbone expects RGB'
    if is_known and not given.mean:
        return 'it is not normalized as the backbone expects'
    return ''


def _order(mean: Tuple[float, ...]) -> str:
    """Return the order of ImageNet's mean, '' if it is another one."""
    if _is_close(mean, _MEAN):
        return 'RGB'
    return 'BGR' if _is_close(mean, _MEAN[::-1]) else ''


def _is_close(values: Tuple[float, ...], others: Tuple[float, ...]) -> bool:
    return len(values) == len(others) and all(
        abs(a - b) < 1 for a, b in zip(values, others))


def _is_unit(values: Tuple[float, ...]) -> bool:
    return bool(values) and all(0 < value < 1 for value in values)


def _expects_imagenet(pretrained: str) -> bool:
    name = pretrained.lower()
    return name.startswith(_SOURCES) and not any(o in name for o in _OTHERS)
