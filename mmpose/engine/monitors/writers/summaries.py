# Copyright (c) OpenMMLab. All rights reserved.
from typing import Iterable

import numpy as np
import torch

from .encoding.pictures import encode_drawing, encode_photo
from .record import (Histogram, HParams, Image, Mesh, PrecisionRecall, Scalar,
                     ScalarLayout, Text, Value)

# Camera and lights of TensorBoard's mesh page.
_SCENE = dict(
    camera=dict(cls='PerspectiveCamera', fov=60),
    lights=[
        dict(cls='AmbientLight', color='#ffffff', intensity=0.75),
        dict(
            cls='DirectionalLight',
            color='#ffffff',
            intensity=0.5,
            position=[0, -1, 2])
    ])


def to_summary(values: Iterable[Value]):
    """Convert values to TensorBoard's protobuf.

    Args:
        values (Iterable[Value]): See :mod:`record`.

    Returns:
        tensorboard.compat.proto.summary_pb2.Summary: All values, in order.

    Raises:
        TypeError: A value is of an unknown type.
    """
    # Here, because MMPose must import without tensorboard.
    from tensorboard.compat.proto.summary_pb2 import Summary
    from torch.utils.tensorboard.summary import custom_scalars, mesh, text

    summary = Summary()
    for value in values:
        if isinstance(value, Scalar):
            summary.value.add(tag=value.tag, simple_value=float(value.value))
        elif isinstance(value, Text):
            summary.value.extend(text(value.tag, value.text).value)
        elif isinstance(value, Histogram):
            summary.value.add(tag=value.tag, histo=_histogram(value))
        elif isinstance(value, Image):
            if value.pictures:
                summary.value.add(tag=value.tag, **_pictures(value))
        elif isinstance(value, PrecisionRecall):
            summary.value.add(tag=value.tag, **_precision_recall(value))
        elif isinstance(value, Mesh):
            summary.value.extend(
                mesh(value.tag, _batch(value.vertices), _batch(value.colors),
                     _batch(value.faces), _SCENE).value)
        elif isinstance(value, ScalarLayout):
            summary.value.extend(custom_scalars(value.categories).value)
        elif isinstance(value, HParams):
            summary.value.extend(_hparams(value))
        else:
            raise TypeError(
                f'TensorBoard has no place for a {type(value).__name__}')
    return summary


def _hparams(value: HParams) -> list:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
    from torch.utils.tensorboard.summary import hparams

    parts = hparams(value.hparams, dict.fromkeys(value.metrics))
    summary, = [
        v for part in parts for v in part.value
        if v.tag == f'_hparams_/{value.part}'
    ]
    plugin_data = summary.metadata.plugin_data
    content = HParamsPluginData.FromString(plugin_data.content)
    for info in content.experiment.hparam_infos:
        # By this and then by name TensorBoard sorts the columns; the first
        # ones it shows. Older versions show all.
        if hasattr(info, 'differs'):
            info.differs = info.name in value.shown
    if value.part == 'experiment':
        plugin_data.content = content.SerializeToString()
    return [summary]


def _batch(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))[None]


def _pictures(value: Image) -> dict:
    """Return several pictures under one tag, which ``SummaryWriter`` lacks."""
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.plugins.image import metadata

    height, width = value.pictures[0].shape[:2]
    encode = encode_photo if value.photo else encode_drawing
    strings = [b'%d' % width, b'%d' % height, *map(encode, value.pictures)]
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=len(strings))])
    return dict(
        metadata=metadata.create_summary_metadata(
            display_name=None, description=None),
        tensor=TensorProto(
            dtype='DT_STRING', string_val=strings, tensor_shape=shape))


def _precision_recall(value: PrecisionRecall) -> dict:
    """Return counts as they are; ``SummaryWriter.add_pr_curve_raw`` has no
    description."""
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.plugins.pr_curve import metadata

    right, wrong = value.true_positives, value.false_positives
    rows = np.stack([
        right, wrong,
        wrong.max(initial=0) - wrong, value.positives - right,
        right / np.maximum(right + wrong, 1), right / max(value.positives, 1)
    ])
    shape = TensorShapeProto(
        dim=[TensorShapeProto.Dim(size=size) for size in rows.shape])
    return dict(
        metadata=metadata.create_summary_metadata(
            display_name=None,
            description=value.description,
            num_thresholds=len(right)),
        tensor=TensorProto(
            dtype='DT_FLOAT', float_val=rows.ravel(), tensor_shape=shape))


def _histogram(value: Histogram):
    from tensorboard.compat.proto.summary_pb2 import HistogramProto
    limits, counts = _without_empty_runs(value.edges, value.counts)
    return HistogramProto(
        min=value.min,
        max=value.max,
        num=int(value.counts.sum()),
        sum=value.sum,
        sum_squares=value.sum_squares,
        bucket_limit=limits,
        bucket=counts)


def _without_empty_runs(edges: np.ndarray, counts: np.ndarray):
    """Merge neighbouring empty buckets, which leaves a few hundred.

    TensorBoard has the upper limit of each bucket and takes the limit before
    as its lower edge, so the last one of several empty buckets stays.

    Args:
        edges (np.ndarray): Shape (N + 1, ).
        counts (np.ndarray): Shape (N, ).

    Returns:
        tuple[np.ndarray]: Upper limits and counts, of the same length.
    """
    filled = counts > 0
    used = np.flatnonzero(filled)
    if not len(used):
        return edges[1:2], counts[:1]
    keep = filled.copy()
    keep[:-1] |= filled[1:]
    keep[:used[0]] = False
    return edges[1:][keep], counts[keep]
