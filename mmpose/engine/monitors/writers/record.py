# Copyright (c) OpenMMLab. All rights reserved.
from dataclasses import dataclass
from typing import (Any, Callable, Dict, Iterable, List, NamedTuple, Optional,
                    Sequence, Union)

import numpy as np
import torch
from torch import Tensor

# The kinds of records, in the order in which they are dropped.
IMAGE, HISTOGRAM, LAYER_SCALAR, SCALAR = KINDS = ('image', 'histogram',
                                                  'layer_scalar', 'scalar')


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
        photo (bool): Whether they show photographs, which may lose a little
            to be a fourth of the size. Defaults to False: figures, which stay
            exact.
    """
    tag: str
    pictures: Sequence[np.ndarray]
    photo: bool = False


class PrecisionRecall(NamedTuple):
    """How precision and recall depend on the threshold of the scores.

    TensorBoard's PR Curves page takes the thresholds to be evenly spaced from
    0 to 1.

    Attributes:
        tag (str): The name of the curve.
        true_positives (np.ndarray): The number kept and right at each of T
            ascending thresholds, int of shape (T, ).
        false_positives (np.ndarray): The number kept and wrong, shape (T, ).
        positives (int): How many there are to be found; some may have no
            prediction at any threshold.
        description (str): The text on the page, in Markdown. Defaults to
            ''.
    """
    tag: str
    true_positives: np.ndarray
    false_positives: np.ndarray
    positives: int
    description: str = ''


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
            ``['Multiline', [regular expressions of tags]]`` or ``['Margin',
            [the tags of the curve and of its lower and upper bound]]``.
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


class Encoded(NamedTuple):
    """An event that was encoded elsewhere, for example by MMEngine.

    Attributes:
        event (Any): The event, in the form of the file that it goes to.
    """
    event: Any


class Measurement:
    """Carry numbers to listeners; the base class of all measurements.

    ``values()`` of a record may yield measurements beside scalars. They are
    not written: :meth:`EventWriter.listen` delivers them.
    """


@dataclass(frozen=True)
class Alert(Measurement):
    """A finding that begins or ends, for those who want to be notified.

    Attributes:
        name (str): The name of the finding.
        begins (bool): Whether it begins; False: it ends.
        severity (str): 'error', 'warning' or 'note'.
        what (str): One sentence on what is going wrong.
        evidence (str): The numbers that show it.
        advice (str): What to check or to try first.
    """
    name: str
    begins: bool
    severity: str
    what: str
    evidence: str
    advice: str


Value = Union[Scalar, Text, Histogram, Image, PrecisionRecall, Mesh,
              ScalarLayout, HParams, Encoded, Measurement]


class Record(NamedTuple):
    """Hold what one monitor has measured at one step.

    A record is made in the training thread, which must not wait for the
    device, and written elsewhere. So it holds the tensors on the device, and
    the function that computes values from them on the host.

    Attributes:
        step (int): The global step.
        values (Callable): Called with one :obj:`np.ndarray` for each of
            ``tensors``, in their order; returns the values to write.
        tensors (Sequence[Tensor]): Results on the device. Nobody may change
            them in place any more. Defaults to ().
        kind (str): One of :data:`KINDS`, which decides what is dropped first.
            Defaults to 'scalar'.
        size (int): The approximate memory that ``values`` holds, in bytes.
            Defaults to 0.
        wall_time (float, optional): When it was measured, in seconds since
            the epoch. Defaults to None: when a writer gets it.
        ready (Sequence): CUDA events after which ``tensors`` hold their
            values. Defaults to ().
    """
    step: int
    values: Callable[..., Iterable[Value]]
    tensors: Sequence[Tensor] = ()
    kind: str = SCALAR
    size: int = 0
    wall_time: Optional[float] = None
    ready: Sequence['torch.cuda.Event'] = ()

    def read(self) -> List[Value]:
        """Wait for the device and compute the values."""
        for event in self.ready:
            event.synchronize()
        # Other devices than CUDA's are waited for here.
        return list(self.values(*map(_to_numpy, self.tensors)))


def _to_numpy(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    # NumPy does not know bfloat16.
    return (tensor.float()
            if tensor.dtype == torch.bfloat16 else tensor).numpy()
