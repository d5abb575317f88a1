# Copyright (c) OpenMMLab. All rights reserved.
"""What the checks of the settings need to know of a training.

None stands for what is unknown: a check without its numbers finds nothing.
"""
from dataclasses import dataclass, field
from typing import Dict, NamedTuple, Optional, Tuple

from ...writers.record import Measurement

Size = Tuple[int, int]


class Codec(NamedTuple):
    """What encodes keypoints, or decodes them.

    Attributes:
        type (str): Its class.
        input_size (tuple[int, int], optional): Width and height.
        heatmap_size (tuple[int, int], optional): Width and height.
        use_udp (bool, optional): Whether it expects crops with unbiased data
            processing; None if it works with either.
        coded_by (tuple[tuple[str, object]]): What else the output of a model
            means to it, such as the split ratio of SimCC.
    """
    type: str
    input_size: Optional[Size] = None
    heatmap_size: Optional[Size] = None
    use_udp: Optional[bool] = None
    coded_by: Tuple[Tuple[str, object], ...] = ()


class Pipeline(NamedTuple):
    """The transforms that a data set applies.

    Attributes:
        where (str): 'train', 'val', or 'train of <hook>' if a hook switches
            to it.
        transform (str): The transform that makes the input, '' if it is none
            of those that are known.
        input_size (tuple[int, int], optional): What it makes.
        use_udp (bool, optional): Whether it uses unbiased data processing.
        encoders (tuple[Codec]): What encodes the targets.
        flips (bool, optional): Whether it flips images.
    """
    where: str
    transform: str = ''
    input_size: Optional[Size] = None
    use_udp: Optional[bool] = None
    encoders: Tuple[Codec, ...] = ()
    flips: Optional[bool] = None


class DataSet(NamedTuple):
    """A data set that combines no others.

    Attributes:
        where (str): 'train' or 'val'.
        type (str): Its class.
        meta (dict): Its ``metainfo``; {} if unknown.
        num_keypoints (int, optional): Of its samples after a
            ``KeypointConverter``.
        ann_file (str): The path of its annotations, '' if unknown.
        subset (str): Which part of the annotations it uses, '' if all.
        is_converted (bool): Whether a transform replaces its keypoints.
    """
    where: str
    type: str
    meta: dict
    num_keypoints: Optional[int] = None
    ann_file: str = ''
    subset: str = ''
    is_converted: bool = False

    @property
    def name(self) -> str:
        name = self.meta.get('dataset_name') or self.type
        return f'{name} ({self.where})'


class Schedule(NamedTuple):
    """A scheduler of the learning rate.

    Attributes:
        type (str): Its class.
        begin (int): When it begins, in epochs or iterations.
        end (int, optional): When it ends; None: never.
        milestones (tuple[int]): When it lowers the learning rate, in the same
            unit.
        by_epoch (bool): Whether the unit is the epoch.
        start_factor (float, optional): Of a warm-up: the factor at its
            beginning; None if it is no warm-up.
        converted (bool): Whether MMEngine lets it count iterations, as many
            as those epochs have.
    """
    type: str
    begin: int
    end: Optional[int]
    milestones: Tuple[int, ...]
    by_epoch: bool
    start_factor: Optional[float] = None
    converted: bool = False


class Length(NamedTuple):
    """How long the training is.

    Attributes:
        epochs (int, optional): None if it is iteration-based.
        iterations (int, optional): None if unknown.
    """
    epochs: Optional[int] = None
    iterations: Optional[int] = None


class Preprocessing(NamedTuple):
    """How images become the input of the model.

    Attributes:
        mean (tuple[float]): What is subtracted, () if nothing.
        std (tuple[float]): What it is divided by, () if nothing.
        swaps_channels (bool): Whether BGR becomes RGB.
    """
    mean: Tuple[float, ...] = ()
    std: Tuple[float, ...] = ()
    swaps_channels: bool = False


@dataclass(frozen=True)
class Settings(Measurement):
    """The settings of a training.

    Attributes:
        data_sets (tuple[DataSet]): Those of the training and the validation.
        pipelines (tuple[Pipeline]): Those of these, without repetitions.
        flips (bool, optional): Whether images are flipped in the training or
            the validation.
        evaluates_oks (bool): Whether the validation needs sigmas.
        head (str): The class of the head, '' if unknown.
        head_keypoints (int, optional): How many keypoints it predicts.
        head_input_size (tuple[int, int], optional): Of a head that asks for
            it.
        keypoints_evaluated (int, optional): How many of them the model
            returns in tests; None: all.
        decoder (Codec, optional): Decodes its output.
        schedules (tuple[Schedule]): Of the learning rates.
        length (Length): Of the training.
        total_batch_size (int, optional): Of an update.
        base_batch_size (int, optional): For which the learning rate was
            chosen; None if unknown or if MMEngine scales the learning rate.
        preprocessing (Preprocessing, optional): What comes before the model.
        pretrained (str): Where the weights of the backbone come from, '' for
            random ones.
        ema_momentum (float, optional): Of the ``EMAHook``.
    """
    data_sets: Tuple[DataSet, ...] = ()
    pipelines: Tuple[Pipeline, ...] = ()
    flips: Optional[bool] = None
    evaluates_oks: bool = False
    head: str = ''
    head_keypoints: Optional[int] = None
    head_input_size: Optional[Size] = None
    keypoints_evaluated: Optional[int] = None
    decoder: Optional[Codec] = None
    schedules: Tuple[Schedule, ...] = ()
    length: Length = field(default_factory=Length)
    total_batch_size: Optional[int] = None
    base_batch_size: Optional[int] = None
    preprocessing: Optional[Preprocessing] = None
    pretrained: str = ''
    ema_momentum: Optional[float] = None


Metas = Dict[str, list]
