# Copyright (c) OpenMMLab. All rights reserved.
"""Measurements of poses, of their targets, and of how a training begins.

See ``measurements``.
"""
from dataclasses import dataclass
from typing import Dict, Optional, Tuple

from ..writers.record import Measurement


@dataclass(frozen=True)
class KeypointBias(Measurement):
    """The mean offsets of a top-down model's predictions in a validation.

    Of the keypoints that are within 0.1 of the box's longer side.

    Attributes:
        codec (str): The type of the codec that has decoded them.
        in_place (float): Of the annotated keypoints, the fraction of these.
        offsets (dict[str, tuple[float, float]]): By keypoint, the mean offset
            from the ground truth to the right and downwards, in pixels of the
            heatmap.
    """
    codec: str
    in_place: float
    offsets: Dict[str, Tuple[float, float]]


@dataclass(frozen=True)
class PoseSpread(Measurement):
    """How much the poses of a validation differ, relative to their boxes.

    Attributes:
        instances (int): The number of instances with a prediction.
        spread (float): The standard deviation of the predicted keypoints over
            that of the ground truth.
        pck_auc (float): The area under the PCK over the thresholds from 0 to
            0.2, from 0 to 1.
        of_mean_pose (float): The same if the mean pose of the ground truth
            were predicted for each instance.
    """
    instances: int
    spread: float
    pck_auc: float
    of_mean_pose: float


@dataclass(frozen=True)
class CodecCeiling(Measurement):
    """How accurate the predictions of a perfect model would be.

    Attributes:
        codec (str): The class of the codec.
        pixel (float): The longer side of a pixel of its heatmaps in pixels of
            the input; 1 where there are no heatmaps.
        pck (float): As in :class:`KeypointAccuracy`.
        oks (float, optional): As in :class:`KeypointAccuracy`.
    """
    codec: str
    pixel: float
    pck: float
    oks: Optional[float] = None


@dataclass(frozen=True)
class PretrainedWeights(Measurement):
    """How many weights a training has from a checkpoint when it begins.

    Attributes:
        checkpoint (str): As in the config; of several that of which least is
            loaded.
        place (str): The part of the model that it is for, or 'model'.
        fraction (float): Of the weights of that part.
        of_model (float): Of those of the model, from all checkpoints.
    """
    checkpoint: str
    place: str
    fraction: float
    of_model: float


@dataclass(frozen=True)
class SanityValidation(Measurement):
    """The validation of a few samples before the training.

    Attributes:
        samples (int): How many were predicted.
        problems (tuple[str]): What is wrong, a sentence each.
    """
    samples: int
    problems: Tuple[str, ...] = ()


@dataclass(frozen=True)
class TargetErrors(Measurement):
    """How far the decoded targets of a training are from the annotations.

    Attributes:
        count (int): The number of samples that were compared.
        allowed (float): The largest error that the codec explains, in pixels
            of the input.
        misplaced (tuple[dict]): The samples with a larger one: ``img_path``
            and ``id``, as far as they are known, and ``error``, that of the
            median keypoint.
    """
    count: int
    allowed: float
    misplaced: Tuple[dict, ...] = ()


@dataclass(frozen=True)
class SharedImages(Measurement):
    """Images that are both in the training and in the validation.

    Attributes:
        total (int): The number of images of the validation.
        same_path (int): Of these, those that are the same file.
        same_content (int): Those that are a copy of a file of the training.
        first (tuple[tuple[str, str]]): The first of them: the file in the
            validation and the one in the training.
        listed_in (str): The file that lists all of them.
        is_complete (bool): Whether all files of the same size were compared.
    """
    total: int
    same_path: int
    same_content: int
    first: Tuple[Tuple[str, str], ...] = ()
    listed_in: str = ''
    is_complete: bool = True


@dataclass(frozen=True)
class HeatmapPeaks(Measurement):
    """The predicted heatmaps of a few training samples.

    Attributes:
        peak (float): The mean of their highest values, over those of the
            targets.
        near (float): The fraction of them whose highest value is within 5 % of
            the input's longer side of the target, in [0, 1].
    """
    peak: float
    near: float


@dataclass(frozen=True)
class FixedLosses(Measurement):
    """The losses of fixed samples at a validation, all in evaluation mode.

    Attributes:
        iteration (int): The training iterations before it.
        validation (float, optional): Of samples of the validation; None where
            it could not be computed, as for the others.
        training (float, optional): Of training samples that are prepared like
            these.
        batch (float, optional): Of a batch of the training as its pipeline
            prepares it, the first one since the last validation.
        training_pck (float, optional): PCK@0.05 of the training samples that
            are prepared like those of the validation.
        training_accuracy (float, optional): The accuracy that the head returns
            with the loss of these samples, ``acc_pose``.
        batch_accuracy (float, optional): The same of that batch.
    """
    iteration: int
    validation: Optional[float] = None
    training: Optional[float] = None
    batch: Optional[float] = None
    training_pck: Optional[float] = None
    training_accuracy: Optional[float] = None
    batch_accuracy: Optional[float] = None
