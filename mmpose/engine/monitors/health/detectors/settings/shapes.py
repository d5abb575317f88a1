# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, Iterator, List, Tuple

from ....core.registry import DETECTORS
from ...report import NOTE, WARNING, Finding
from ...settings.check import SettingsDetector
from ...settings.description import Settings, Size


@DETECTORS.register_module()
class KeypointCountDetector(SettingsDetector):
    """``keypoint_count``: data set and head have other numbers of keypoints.

    Also ``joint_weights``, which are the weights of the keypoints in the loss.
    """

    findings = ('keypoint_count', )

    def check(self, settings: Settings) -> Iterator[Finding]:
        counts = list(_counts(settings))
        if len({count for _, count in counts}) > 1:
            yield Finding(
                'keypoint_count',
                'The numbers of keypoints of data set and model differ.',
                '; '.join(f'{where}: {count}'
                          for where, count in counts) + '.',
                'Give the head as many keypoints as the data set has '
                '(out_channels, num_keypoints or num_joints), and '
                'joint_weights of the metainfo one number for each. A data '
                'set with other keypoints needs a KeypointConverter.')


@DETECTORS.register_module()
class GeometryDetector(SettingsDetector):
    """Compare what crops, encodes and decodes.

    ================== ====================================================
    ``input_size``     Pipelines, codecs and head have other sizes of input
    ``use_udp``        Unbiased data processing is on in one and off in
                       another (a note if both pipelines crop alike)
    ``codec_differs``  Targets are encoded by another codec than decoded
    ================== ====================================================
    """

    findings = ('input_size', 'use_udp', 'codec_differs')

    def check(self, settings: Settings) -> Iterator[Finding]:
        sizes = _sizes(settings)
        if len(set(sizes.values())) > 1:
            yield Finding(
                'input_size', 'The sizes of the input differ between '
                'pipelines, codec and head.',
                _groups(
                    (f'{w}x{h}', where) for where, (w, h) in sizes.items()),
                "Use the codec's input_size in all of them, as "
                "input_size=codec['input_size'].")
        yield from _mixed_udp(settings)
        yield from _other_codecs(settings)


def _counts(settings: Settings) -> Iterator[Tuple[str, int]]:
    """Yield how many keypoints there are, and where."""
    if settings.head_keypoints is None:
        return
    yield settings.head, settings.head_keypoints
    for data_set in settings.data_sets:
        if not data_set.num_keypoints:
            continue
        # A model may be evaluated on some of its keypoints only.
        if data_set.where == 'train' or (settings.keypoints_evaluated is None
                                         and not _has_several(settings)):
            yield data_set.name, data_set.num_keypoints
        weights = data_set.meta.get('dataset_keypoint_weights')
        if weights is not None and not data_set.is_converted and len(
                weights) != data_set.meta.get('num_keypoints'):
            yield f'joint_weights of {data_set.name}', len(weights)


def _has_several(settings: Settings) -> bool:
    """Return whether the validation has data sets that are converted."""
    return sum(d.where == 'val' for d in settings.data_sets) > 1


def _sizes(settings: Settings) -> Dict[str, Size]:
    """Return the sizes of the input by the place that gives them."""
    sizes = {}
    for pipeline in settings.pipelines:
        sizes[f'{pipeline.transform} of {pipeline.where}'] = (
            pipeline.input_size)
        for codec in pipeline.encoders:
            sizes[f'encoder {codec.type} of {pipeline.where}'] = (
                codec.input_size)
    if settings.decoder is not None:
        sizes[f'decoder {settings.decoder.type}'] = settings.decoder.input_size
    sizes[settings.head] = settings.head_input_size
    return {where: size for where, size in sizes.items() if size}


def _mixed_udp(settings: Settings) -> Iterator[Finding]:
    used = {
        f'{pipeline.transform} of {pipeline.where}': pipeline.use_udp
        for pipeline in settings.pipelines if pipeline.transform
    }
    crops_differ = len(set(used.values())) > 1
    decoder = settings.decoder
    if decoder is not None and decoder.use_udp is not None:
        used[f'decoder {decoder.type}'] = decoder.use_udp
    if len(set(used.values())) < 2:
        return
    yield Finding(
        'use_udp',
        'Unbiased data processing is used in one place and not in '
        'another: the input is scaled by another factor, which differs by a '
        'pixel over its width.',
        _groups((f'{"with" if is_used else "without"} UDP', where)
                for where, is_used in used.items()),
        'Set use_udp=True of the transform in both pipelines with UDPHeatmap, '
        'and with other heatmaps in neither.',
        # A codec encodes and decodes alike with either crop.
        WARNING if crops_differ else NOTE)


def _other_codecs(settings: Settings) -> Iterator[Finding]:
    decoder = settings.decoder
    for pipeline in settings.pipelines:
        encoders = pipeline.encoders
        if decoder is None or not encoders or any(
                encoder.type == decoder.type and encoder.heatmap_size ==
                decoder.heatmap_size and encoder.coded_by == decoder.coded_by
                for encoder in encoders):
            continue
        yield Finding(
            'codec_differs', 'The targets are encoded by another codec than '
            'the predictions are decoded by.',
            f'Pipeline of {pipeline.where}: '
            f'{", ".join(f"{e.type} {_of(e)}" for e in encoders)}; decoder of '
            f'{settings.head}: {decoder.type} {_of(decoder)}.',
            'Use the same codec as encoder of GenerateTarget and as decoder '
            'of the head.')
        return


def _of(codec) -> str:
    size = 'x'.join(map(str, codec.heatmap_size or codec.input_size or ()))
    return ', '.join([size, *(f'{k}={v}' for k, v in codec.coded_by)])


def _groups(values) -> str:
    """Return values, each with the places that have it."""
    groups: Dict[str, List[str]] = {}
    for value, where in values:
        groups.setdefault(value, []).append(where)
    return '; '.join(f'{value}: {", ".join(places)}'
                     for value, places in groups.items()) + '.'
