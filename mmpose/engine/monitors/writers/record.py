# Copyright (c) OpenMMLab. All rights reserved.
from typing import Callable, Dict, Iterable, NamedTuple, Sequence, Union

import numpy as np
from torch import Tensor

from .dropping_queue import SCALAR


class Scalar(NamedTuple):
    """One number."""
    tag: str
    value: float


class Text(NamedTuple):
    """A text in Markdown."""
    tag: str
    text: str


class Histogram(NamedTuple):
    """How often values fell between edges.

    Attributes:
        tag (str): The name of the histogram.
        edges (np.ndarray): The ``N + 1`` ascending edges of the buckets,
            shape (N + 1, ). Bucket ``i`` holds ``edges[i] <= x <
            edges[i + 1]``.
        counts (np.ndarray): How many values are in each bucket, shape (N, ).
        min (float): The smallest value.
        max (float): The largest value.
        sum (float): The sum of all values.
        sum_squares (float): The sum of their squares.
    """
    tag: str
    edges: np.ndarray
    counts: np.ndarray
    min: float
    max: float
    sum: float
    sum_squares: float


class Image(NamedTuple):
    """Pictures that TensorBoard shows side by side, each with its own slider.

    Attributes:
        tag (str): Their common name.
        pictures (Sequence[np.ndarray]): RGB pictures of any sizes, uint8 of
            shape (H, W, 3).
    """
    tag: str
    pictures: Sequence[np.ndarray]


class Mesh(NamedTuple):
    """A surface in 3D.

    Attributes:
        tag (str): The name of the mesh.
        vertices (np.ndarray): Float, shape (V, 3).
        colors (np.ndarray): Each vertex' RGB, uint8 of shape (V, 3).
        faces (np.ndarray): Each triangle's vertices, int of shape (F, 3).
    """
    tag: str
    vertices: np.ndarray
    colors: np.ndarray
    faces: np.ndarray


class ScalarLayout(NamedTuple):
    """Which scalars share a chart on the Custom Scalars page.

    A run has one layout: the last one that was written holds.

    Attributes:
        categories (dict): For each category its charts, for each chart
            ``['Multiline', [regular expressions of tags]]``.
    """
    categories: Dict[str, dict]


class HParams(NamedTuple):
    """A part of what the HParams page needs to show the run as a row.

    Attributes:
        part (str): 'session_start_info', the row; 'experiment', the columns;
            or 'session_end_info', that the run has come to its end.
        hparams (dict[str, float | str]): The hyperparameters.
        metrics (Sequence[str]): The tags of the scalars to compare by.
        shown (Sequence[str]): The hyperparameters that are columns from the
            beginning; TensorBoard takes five.
    """
    part: str
    hparams: Dict[str, Union[float, str]]
    metrics: Sequence[str]
    shown: Sequence[str]


class Measurement:
    """Carry numbers to whoever listens for them; nothing draws a curve of it.

    The base class of what detectors are given. ``values()`` of a record may
    yield measurements beside scalars: no writer writes them, and
    :meth:`EventWriter.listen` says who gets them.
    """


Value = Union[Scalar, Text, Histogram, Image, Mesh, ScalarLayout, HParams,
              Measurement]


class Record(NamedTuple):
    """What one monitor has read at one step.

    A record is made in the training thread, where nothing may wait for the
    device, and written elsewhere. So it carries the tensors as they are, and
    the function that makes values of them once they are on the host.

    Attributes:
        step (int): The global step.
        values (Callable): Called with one :obj:`np.ndarray` for each of
            ``tensors``, in their order; returns the values to write.
        tensors (Sequence[Tensor]): Results on the device. Nobody may change
            them in place any more. Defaults to ().
        kind (str): One of :data:`dropping_queue.KINDS`: how much it matters
            where not everything can be written. Defaults to 'scalar'.
    """
    step: int
    values: Callable[..., Iterable[Value]]
    tensors: Sequence[Tensor] = ()
    kind: str = SCALAR
