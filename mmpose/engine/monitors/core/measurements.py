# Copyright (c) OpenMMLab. All rights reserved.
"""Measurements of monitors, which the detectors judge.

A monitor yields measurements beside the values that it writes. They carry the
numbers in full precision, whether or not a curve of them is written.
"""
from dataclasses import dataclass, field
from typing import Dict, NamedTuple, Optional, Tuple

from ..writers.record import Measurement


class Nonfinite(NamedTuple):
    """Tensors that hold a NaN or an infinity.

    Attributes:
        name (str): The dotted name of the one that says most on the cause.
        fraction (float): The fraction of all tensors that do, in (0, 1].
    """
    name: str
    fraction: float


class Spike(NamedTuple):
    """The loss that stands out most from those around it.

    Attributes:
        step (int): Its training step.
        score (float): Its MAD z-score among 50 losses before and after it.
        ratio (float, optional): The loss over their median; None where not
            all of them are positive.
    """
    step: int
    score: float
    ratio: Optional[float]


@dataclass(frozen=True)
class Losses(Measurement):
    """The losses of all iterations since the last logging step.

    Attributes:
        median (float, optional): Of the loss that is minimised, over 101
            iterations at least; None where no loss counts.
        deviation (float): Their standard deviation, estimated by the MAD.
        spike (Spike, optional): None where too few losses are known.
        nonfinite (dict[str, int]): For each loss that was NaN or infinite,
            the first training step.
        num_zero (int): How many consecutive losses, up to the last one, are
            exactly 0.
        accuracy (float, optional): The mean of ``acc_pose``, the fraction of
            keypoints predicted correctly; None if the model has none.
        terms (tuple[tuple[str, float]]): What the loss is made of: the names
            of the losses, and the settings of the model that weigh them.
        parts (dict[str, float]): The medians of several single losses.
        count (int): The number of losses that the median is of.
        new (int): Those of them since the last measurement.
        lowest (float, optional): The lowest of the new ones.
    """
    median: Optional[float] = None
    deviation: float = 0.
    spike: Optional[Spike] = None
    nonfinite: Dict[str, int] = field(default_factory=dict)
    num_zero: int = 0
    accuracy: Optional[float] = None
    terms: Tuple[Tuple[str, float], ...] = ()
    parts: Dict[str, float] = field(default_factory=dict)
    count: int = 101
    new: int = 101
    lowest: Optional[float] = None


@dataclass(frozen=True)
class GradientNorms(Measurement):
    """The gradients of an update, before clipping.

    Attributes:
        total (float): L2 norm of all gradients.
        nonfinite (Nonfinite, optional): The parameters whose gradient is not
            finite; named is the one that backpropagation reaches first.
    """
    total: float
    nonfinite: Optional[Nonfinite] = None


@dataclass(frozen=True)
class LayerGradientNorms(Measurement):
    """The L2 norms of the gradients of the layer groups, by group."""
    norms: Dict[str, float]


@dataclass(frozen=True)
class Updates(Measurement):
    """An update of all weights.

    Attributes:
        number (int): How many updates there have been, this one included.
        ratio (float, optional): Norm of the change of the weights over their
            norm; None where there was no change to measure.
        nonfinite_before (Nonfinite, optional): Weights that were not finite
            before the update.
        nonfinite_after (Nonfinite, optional): Those that only the update made
            so.
        unchanged (dict[str, int]): By module, the number of its parameters
            that have a gradient and did not change.
        stopped (dict[str, int]): Those of them with a learning rate of 0.
        is_skipped (bool): Whether mixed precision skipped the update: only
            ``nonfinite_before`` is known.
    """
    number: int = 0
    ratio: Optional[float] = None
    nonfinite_before: Optional[Nonfinite] = None
    nonfinite_after: Optional[Nonfinite] = None
    unchanged: Dict[str, int] = field(default_factory=dict)
    stopped: Dict[str, int] = field(default_factory=dict)
    is_skipped: bool = False


@dataclass(frozen=True)
class LayerUpdates(Measurement):
    """Norm of the change over norm of the weights, by layer group."""
    ratios: Dict[str, float]


@dataclass(frozen=True)
class LearningRates(Measurement):
    """The highest learning rate of each optimizer's param groups.

    Attributes:
        by_optimizer (dict[str, float]): ``''`` is the name of the only one.
    """
    by_optimizer: Dict[str, float]

    @property
    def highest(self) -> float:
        return max(self.by_optimizer.values())


@dataclass(frozen=True)
class Clipping(Measurement):
    """The effect of gradient clipping on the updates of an optimizer.

    Attributes:
        optimizer (str): Its name; ``''`` where there is just one.
        norm_before (float): Norm of the last update's gradients.
        threshold (float): The largest norm or value after clipping.
        fraction (float): Of the updates since the last logging step, the
            fraction that was clipped.
        step_factor (float, optional): By what clipping multiplies the length
            of the step; None where that does not depend on the gradient's.
    """
    optimizer: str
    norm_before: float
    threshold: float
    fraction: float
    step_factor: Optional[float] = None


@dataclass(frozen=True)
class LossScale(Measurement):
    """The updates of an optimizer in mixed precision.

    Attributes:
        optimizer (str): Its name; ``''`` where there is just one.
        scale (float): The factor of the loss.
        updates (int): Updates since the last logging step.
        skipped (int): Those of them that were skipped for an overflow.
    """
    optimizer: str
    scale: float
    updates: int
    skipped: int


@dataclass(frozen=True)
class UnusedParameters(Measurement):
    """Parameters that require a gradient for nothing.

    Attributes:
        no_gradient (dict[str, int]): By module, how many never had one.
        not_in_optimizer (dict[str, int]): By module, how many have one and
            are in no optimizer.
        frozen_head (int): How many parameters the model's head has, if it is
            frozen and other parts are not; else 0.
    """
    no_gradient: Dict[str, int] = field(default_factory=dict)
    not_in_optimizer: Dict[str, int] = field(default_factory=dict)
    frozen_head: int = 0


@dataclass(frozen=True)
class DeadChannels(Measurement):
    """Of the channels that a batch norm once let through, those it does not.

    Attributes:
        fraction (float): In [0, 1].
    """
    fraction: float


@dataclass(frozen=True)
class Activations(Measurement):
    """The activations of the model in a prediction of a few samples.

    Attributes:
        closed (dict[str, float]): By the name of the layer, the fraction of
            its channels that no gradient passes for any sample, in [0, 1].
        kinds (dict[str, str]): The class of each layer.
    """
    closed: Dict[str, float]
    kinds: Dict[str, str]


@dataclass(frozen=True)
class Buffers(Measurement):
    """The buffers of the model, such as the statistics of batch norms.

    Attributes:
        nonfinite (Nonfinite, optional): Those that are not finite; named is
            the first of the model.
    """
    nonfinite: Optional[Nonfinite] = None


@dataclass(frozen=True)
class EmaModel(Measurement):
    """The EMA model, which validations and checkpoints use.

    Attributes:
        nonfinite (Nonfinite, optional): Its weights and buffers that are not
            finite; named is the first of the model.
    """
    nonfinite: Optional[Nonfinite] = None


@dataclass(frozen=True)
class EmaLosses(Measurement):
    """The loss of a training batch, in evaluation mode.

    Attributes:
        own (float): With the weights of the model in training.
        averaged (float): With those of the EMA model.
        momentum (float, optional): By how much of their difference the EMA
            model moves in an update.
    """
    own: float
    averaged: float
    momentum: Optional[float] = None


@dataclass(frozen=True)
class DataTime(Measurement):
    """Of an iteration, the fraction spent waiting for the data loader, the
    seconds of the rest, and the samples of its batch; 0 if unknown."""
    fraction: float
    rest: float = 0.
    samples: int = 0


@dataclass(frozen=True)
class TransformTimes(Measurement):
    """The milliseconds of the transforms for a training sample, by name."""
    milliseconds: Dict[str, float]


@dataclass(frozen=True)
class Progress(Measurement):
    """How long the training has been where it is.

    Measured where that is long, and once when it goes on.

    Attributes:
        last_step (int): The last training step that has ended.
        idle (float): The seconds since it last began or ended an iteration.
        usual (float): The median of that time between two of them.
        longest (float): The longest such time before.
        where (str): The lines of code that its thread is in, the innermost
            first.
    """
    last_step: int
    idle: float
    usual: float
    longest: float
    where: str


@dataclass(frozen=True)
class HostMemory(Measurement):
    """The main memory, in MiB.

    Attributes:
        resident (float): That of this process.
        available (float): What is left of the machine's or the container's.
        children (float): Resident memory of its child processes together,
            such as the workers of the data loader. Defaults to 0.
    """
    resident: float
    available: float
    children: float = 0.


@dataclass(frozen=True)
class HookTime(Measurement):
    """Of the training's time, the fraction that this hook's monitors took."""
    fraction: float


@dataclass(frozen=True)
class ValidationMetrics(Measurement):
    """The metrics of a validation.

    Attributes:
        iteration (int): The training iterations before it.
        values (dict[str, float]): By the evaluators' names: ``'coco/AP'``.
    """
    iteration: int
    values: Dict[str, float]


@dataclass(frozen=True)
class KeypointWeights(Measurement):
    """The weights of a training batch's keypoints in the loss.

    Attributes:
        fraction (float): Of all keypoints, those with a weight above 0.
    """
    fraction: float


@dataclass(frozen=True)
class SuspectSamples(Measurement):
    """The training samples that a finding speaks of.

    Attributes:
        step (int): The training step whose batch they were in.
        samples (tuple[dict]): Of each ``img_path``, ``id`` and what else says
            which it is.
    """
    step: int
    samples: Tuple[dict, ...]


@dataclass(frozen=True)
class KeypointAccuracy(Measurement):
    """How accurate the keypoints of a validation are.

    Attributes:
        pck (float): The fraction of the visible keypoints that are within
            0.05 of the box's longer side, in [0, 1].
        error (float, optional): Their mean distance, as a fraction of the
            box's longer side.
        oks (float, optional): The mean object keypoint similarity of the
            instances; None without sigmas.
    """
    pck: float
    error: Optional[float] = None
    oks: Optional[float] = None


class Sides(NamedTuple):
    """How often a keypoint and its mirrored one were exchanged.

    Of those of instances that were found, where the two are so far apart that
    no prediction is near both. By chance one is as likely as the other.

    Attributes:
        names (tuple[str, str]): The two keypoints.
        count (int): How many there are of both.
        right_side (int): Those predicted near their own place.
        wrong_side (int): Those predicted near the other's place.
    """
    names: Tuple[str, str]
    count: int
    right_side: int
    wrong_side: int


@dataclass(frozen=True)
class LocalizationErrors(Measurement):
    """The errors of the keypoints of a validation, by kind.

    Attributes:
        fractions (dict[str, float]): Of the annotated keypoints, by kind:
            good, jitter, inversion, swap, miss, not_found.
        sides (tuple[Sides]): Of each pair of mirrored keypoints.
    """
    fractions: Dict[str, float]
    sides: Tuple[Sides, ...] = ()


@dataclass(frozen=True)
class Remark(Measurement):
    """A sentence of the report on a run that is no finding.

    Attributes:
        name (str): Its name; it replaces the last one of that name.
        text (str): The sentence. Empty: there is nothing to say any more.
    """
    name: str
    text: str
