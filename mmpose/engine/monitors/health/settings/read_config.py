# Copyright (c) OpenMMLab. All rights reserved.
"""Describe the settings of a config, without building anything of it."""
import posixpath
from typing import Iterable, Iterator, List, Optional, Sequence, Tuple

from .description import (Codec, DataSet, Length, Metas, Pipeline,
                          Preprocessing, Settings, Size)
from .read_schedules import read_schedules

_CROPS = ('TopdownAffine', 'BottomupRandomAffine', 'BottomupResize')
# A model that sees the whole image may be tested in another size.
_OF_ANY_SIZE = ('BottomupResize', )
_UDP = dict(UDPHeatmap=True, MSRAHeatmap=False, MegviiHeatmap=False)
# What the output of a model means, by the codec, and MMPose's defaults.
_CODED_BY = dict(
    SimCCLabel=dict(simcc_split_ratio=2.0),
    UDPHeatmap=dict(heatmap_type='gaussian'))
_OKS_METRICS = ('CocoMetric', 'CocoWholeBodyMetric')
_CONVERTERS = ('KeypointConverter', 'SingleHandConverter')
# What a head calls the number of its keypoints.
_COUNTS = ('out_channels', 'num_joints', 'num_keypoints')
_SUBSETS = ('indices', 'subset', 'subset_frac', 'sample_interval')


def read_config(config: dict,
                metas: Metas,
                length: Length = Length(),
                num_processes: int = 1) -> Settings:
    """Describe the settings of a config.

    Args:
        config (dict): The config of a training.
        metas (dict[str, list[dict]]): The ``metainfo`` of the data sets by
            'train' and 'val', in the order of :func:`config_parts`.
        length (Length): How long the training is, as far as it is known.
            Defaults to what the config says.
        num_processes (int): The number of processes. Defaults to 1.

    Returns:
        Settings: With None in the place of what the config does not say.
    """
    model = _dict(config.get('model'))
    head = _dict(model.get('head'))
    # The head of a model that predicts visibility wraps another one.
    pose_head = _dict(head.get('pose_cfg')) or head
    data_sets, pipelines = [], []
    for where in ('train', 'val'):
        loader = _dict(config.get(f'{where}_dataloader'))
        parts = _leaves(_dict(loader.get('dataset')), where, metas)
        for data_set, transforms in parts:
            data_sets.append(data_set)
            pipelines.append(read_pipeline(where, transforms))
    pipelines += _switched_pipelines(config)
    test_cfg = _dict(model.get('test_cfg'))
    lifts = _type(model) == 'PoseLifter'
    epochs = _dict(config.get('train_cfg')).get('max_epochs')
    iterations = _dict(config.get('train_cfg')).get('max_iters')
    auto_scale = _dict(config.get('auto_scale_lr'))
    return Settings(
        data_sets=tuple(data_sets),
        pipelines=tuple(dict.fromkeys(pipelines)),
        flips=_any([
            test_cfg.get('flip_test', False),
            *(pipeline.flips for pipeline in pipelines)
        ]),
        evaluates_oks=any(
            _type(metric) in _OKS_METRICS
            for metric in _metrics(config.get('val_evaluator'))),
        head=_type(head),
        head_keypoints=None if lifts else _head_keypoints(pose_head),
        head_input_size=_size(pose_head.get('input_size')),
        keypoints_evaluated=_length_of(
            test_cfg.get('output_keypoint_indices')),
        decoder=None if lifts else _last_codec(pose_head.get('decoder')),
        schedules=tuple(read_schedules(config.get('param_scheduler'))),
        length=Length(length.epochs or epochs, length.iterations
                      or iterations),
        total_batch_size=_total_batch_size(config, num_processes),
        base_batch_size=None
        if auto_scale.get('enable') else auto_scale.get('base_batch_size'),
        preprocessing=_preprocessing(
            # MMEngine gives it to a model without one.
            model.get('data_preprocessor', config.get('data_preprocessor'))),
        pretrained=_pretrained(config, model),
        ema_momentum=_ema_momentum(config))


def config_parts(config: dict) -> Iterator[dict]:
    """Iterate over the config of a data set and of all that it wraps.

    Args:
        config (dict): The config of a data set.

    Yields:
        dict: In the order of :func:`data_set_parts`.
    """
    yield config
    for part in _wrapped(config):
        yield from config_parts(part)


def read_pipeline(where: str, transforms: Iterable[dict]) -> Pipeline:
    """Describe a pipeline.

    Args:
        where (str): See :class:`Pipeline`.
        transforms (Iterable[dict]): The configs of its transforms.
    """
    pipeline = Pipeline(where)
    encoders: List[Codec] = []
    transforms = list(transforms)
    for step in transforms:
        kind = _type(step)
        if kind in _CROPS:
            pipeline = pipeline._replace(
                transform=kind,
                input_size=None if kind in _OF_ANY_SIZE else _size(
                    step.get('input_size')),
                use_udp=bool(step.get('use_udp', False)))
        encoders += map(_codec, _dicts(step.get('encoder')))
    return pipeline._replace(
        encoders=tuple(dict.fromkeys(encoders)),
        # RandomFlip, RandomFlipAroundRoot, or one of the user's.
        flips=any('Flip' in _type(step)
                  for step in transforms) if transforms else None)


def _leaves(config: dict,
            where: str,
            metas: Metas,
            outer: Tuple[dict, ...] = ()) -> Iterator[tuple]:
    """Yield the data sets that combine no others, and their transforms.

    Those of a data set around it come last.
    """
    parts = list(config_parts(config))
    of_parts = metas.get(where) or [{}] * len(parts)
    known = {id(part): meta for part, meta in zip(parts, of_parts)}

    def walk(part, outer):
        steps = [*_dicts(part.get('pipeline')), *outer]
        inner = _wrapped(part)
        for wrapped in inner:
            yield from walk(wrapped, steps)
        if not inner and (part or known.get(id(part))):
            yield _data_set(part, where,
                            known.get(id(part)) or {}, steps), steps

    yield from walk(config, outer)


def _data_set(config: dict, where: str, meta: dict,
              transforms: Sequence[dict]) -> DataSet:
    count = meta.get('num_keypoints')
    converted = [step for step in transforms if _type(step) in _CONVERTERS]
    for step in converted:
        count = step.get('num_keypoints')
    ann_file = str(config.get('ann_file') or '')
    if ann_file and '://' not in ann_file:
        ann_file = posixpath.normpath(
            posixpath.join(str(config.get('data_root') or ''), ann_file))
    return DataSet(
        where, _type(config), meta, count, ann_file,
        ', '.join(f'{name}={config[name]}' for name in _SUBSETS
                  if config.get(name) is not None), bool(converted))


def _switched_pipelines(config: dict) -> Iterator[Pipeline]:
    """Yield those that a hook switches to in the training."""
    for hook in _dicts(config.get('custom_hooks')):
        for name in ('switch_pipeline', 'new_train_pipeline'):
            if hook.get(name):
                yield read_pipeline(f'train of {_type(hook)}',
                                    _dicts(hook[name]))


def _wrapped(config: dict) -> List[dict]:
    return [*_dicts(config.get('dataset')), *_dicts(config.get('datasets'))]


def _codec(config: dict) -> Codec:
    kind = _type(config)
    return Codec(
        kind, _size(config.get('input_size')),
        _size(config.get('heatmap_size')), _UDP.get(kind),
        tuple((name, config.get(name, default))
              for name, default in _CODED_BY.get(kind, {}).items()))


def _last_codec(config) -> Optional[Codec]:
    codecs = list(map(_codec, _dicts(config)))
    return codecs[-1] if codecs else None


def _head_keypoints(head: dict) -> Optional[int]:
    counts = [
        head[name] for name in _COUNTS if isinstance(head.get(name), int)
    ]
    if not counts:
        return None
    decoder = _dict(head.get('decoder'))
    # A heatmap and two maps of offsets for each.
    is_combined = decoder.get('heatmap_type') == 'combined'
    return counts[0] // 3 if is_combined else counts[0]


def _total_batch_size(config: dict, num_processes: int) -> Optional[int]:
    size = _dict(config.get('train_dataloader')).get('batch_size')
    accumulated = _dict(config.get('optim_wrapper')).get(
        'accumulative_counts', 1)
    if not isinstance(size, int):
        return None
    return size * num_processes * accumulated


def _preprocessing(config) -> Optional[Preprocessing]:
    if not isinstance(config, dict):
        return None
    return Preprocessing(
        tuple(map(float,
                  config.get('mean') or ())),
        tuple(map(float,
                  config.get('std') or ())),
        bool(config.get('bgr_to_rgb') or config.get('rgb_to_bgr')))


def _pretrained(config: dict, model: dict) -> str:
    if config.get('load_from'):
        return str(config['load_from'])
    for part in (model, _dict(model.get('backbone'))):
        for init in _dicts(part.get('init_cfg')):
            if _type(init) == 'Pretrained':
                return str(init.get('checkpoint') or '')
    return ''


def _any(values: Sequence[Optional[bool]]) -> Optional[bool]:
    """Return whether a value is true, None if that is not known."""
    return any(values) or (None if None in values else False)


def _metrics(config) -> Iterator[dict]:
    """Yield the metrics of an evaluator, which may hold them."""
    for metric in _dicts(config):
        yield metric
        yield from _metrics(metric.get('metrics'))


def _ema_momentum(config: dict) -> Optional[float]:
    hooks = [
        *_dicts(config.get('custom_hooks')),
        *_dicts(list(_dict(config.get('default_hooks')).values()))
    ]
    for hook in hooks:
        if _type(hook) == 'EMAHook':
            return hook.get('momentum')
    return None


def _type(config: dict) -> str:
    """Return the name of a class: it may have a scope or be the class."""
    kind = config.get('type', '')
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2]


def _dict(value) -> dict:
    return value if isinstance(value, dict) else {}


def _dicts(value) -> List[dict]:
    """Return the dicts of a list, or of a value that may be one."""
    if isinstance(value, dict):
        return [value]
    if isinstance(value, (list, tuple)):
        return [item for item in value if isinstance(item, dict)]
    return []


def _size(value) -> Optional[Size]:
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(
            isinstance(n, (int, float)) for n in value):
        return int(value[0]), int(value[1])
    return None


def _length_of(value) -> Optional[int]:
    return len(value) if isinstance(value, (list, tuple)) else None
