# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from mmpose.structures.bbox import bbox_xyxy2cs
from ..accuracy.evaluation_rules import EvaluationRules
from ..annotations import read_annotations
from ..pictures.model_inputs import image_path
from ..pictures.pose_targets import read_labels
from ..predictions import to_numpy


class TrainingSample(NamedTuple):
    """The annotations of a training sample, and the labels made from them.

    Those of a top-down model are in the pixels of the image, which may be
    flipped; those of a bottom-up model in the pixels of the input.

    Attributes:
        source (dict): ``img_path`` and ``id``, as far as they are known.
        truth (np.ndarray): Annotated keypoints, shape (N, K, 2).
        visible (np.ndarray): Which keypoints are annotated, bool of shape
            (N, K).
        boxes (np.ndarray): (left, top, right, bottom), shape (N, 4).
        areas (np.ndarray): In square pixels, shape (N, ).
        labels (dict[str, np.ndarray]): See :func:`read_labels`.
        crop (tuple, optional): Center and scale of the crop that became the
            input. None: the sample was not cropped.
        in_input (np.ndarray, optional): The annotated keypoints in the pixels
            of the input, shape (N, K, 2). None if the pipeline does not pack
            them.
    """
    source: dict
    truth: np.ndarray
    visible: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    labels: Dict[str, np.ndarray]
    crop: Optional[tuple]
    in_input: Optional[np.ndarray]


def read_training_sample(sample) -> Optional[TrainingSample]:
    """Copy the annotations and labels of a training sample.

    Args:
        sample (PoseDataSample): As the data loader gives it.

    Returns:
        TrainingSample | None: None without an instance.
    """
    instances = sample.get('gt_instances', {})
    keypoints, visible, boxes, in_input = (
        to_numpy(instances.get(name))
        for name in ('keypoints', 'keypoints_visible', 'bboxes',
                     'transformed_keypoints'))
    if keypoints is None or not len(keypoints):
        return None
    crop, infos = None, sample.get('raw_ann_info')
    if 'input_center' in sample and 'input_scale' in sample:
        crop = tuple(
            np.array(value, float).reshape(2)
            for value in (sample.input_center, sample.input_scale))
    if not isinstance(infos, (list, tuple)):
        infos = [infos]
    # The areas of annotations are in the pixels of the image.
    if crop is None or len(infos) != len(keypoints):
        infos = [{}] * len(keypoints)
    annotated = read_annotations(keypoints, visible, boxes,
                                 [info or {} for info in infos],
                                 EvaluationRules())
    ids = np.ravel(sample.get('id', ())).tolist()
    source = dict(img_path=image_path(sample), id=ids[0] if ids else None)
    return TrainingSample(
        {name: value
         for name, value in source.items() if value is not None},
        annotated['truth'].astype(float), annotated['visible'],
        annotated['boxes'], annotated['areas'], read_labels(sample), crop,
        None if in_input is None else np.array(in_input[..., :2], float))


class Geometry(NamedTuple):
    """How images of a top-down model are cropped.

    Attributes:
        size (tuple[int, int]): Width and height of the input.
        padding (float): What a validation multiplies the sides of a box by.
        use_udp (bool): Whether pixels are points and not squares.
    """
    size: Sequence[int]
    padding: float = 1.25
    use_udp: bool = False

    def validated(self, box: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Return center and scale of the crop of a box in a validation."""
        center, scale = bbox_xyxy2cs(np.array(box, float), self.padding)
        ratio = self.size[0] / self.size[1]
        width = max(scale[0], scale[1] * ratio)
        return center, np.array([width, width / ratio])

    def to_input(self, points: np.ndarray, center: np.ndarray,
                 scale: np.ndarray) -> np.ndarray:
        """Return the places of points, (..., 2), in a crop that is not
        rotated."""
        size = np.array(self.size) - self.use_udp
        return (points - center) * (size / scale) + size / 2

    def to_image(self, points: np.ndarray, center: np.ndarray,
                 scale: np.ndarray) -> np.ndarray:
        """Return the places of predictions, (..., 2), in the image, as
        :obj:`TopdownPoseEstimator` computes them."""
        return points / self.size * scale + center - 0.5 * scale

    def trained(self, sample: TrainingSample, target: np.ndarray,
                counted: np.ndarray) -> np.ndarray:
        """Return the annotated keypoints in the input of a training sample.

        A pipeline does not pack by what angle it has rotated. It is the angle
        by which the target fits best, which is none that could hide a shift or
        a flip.

        Args:
            sample (TrainingSample): The sample.
            target (np.ndarray): Its decoded target, shape (1, K, 2).
            counted (np.ndarray): Which keypoints of that count, bool of shape
                (1, K).

        Returns:
            np.ndarray: Shape (N, K, 2).
        """
        if sample.in_input is not None:
            return sample.in_input
        if sample.crop is None:
            return sample.truth
        center = self.to_input(sample.crop[0], *sample.crop)
        # As complex numbers, a rotation is a factor.
        points = (self.to_input(sample.truth, *sample.crop) - center) @ [1, 1j]
        aims = (target - center) @ [1, 1j]
        turn = (points.conj() * aims)[counted].sum()
        points = points * (turn / abs(turn) if turn else 1)
        return np.stack([points.real, points.imag], -1) + center
