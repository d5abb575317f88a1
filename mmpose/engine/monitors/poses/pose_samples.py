# Copyright (c) OpenMMLab. All rights reserved.
from typing import NamedTuple, Optional, Sequence, Tuple

import numpy as np
from scipy.optimize import linear_sum_assignment

# As many people of an image as COCO's evaluation looks at.
_MAX_PREDICTIONS = 20
# Of a segmented person in its box, by COCO's evaluation.
_AREA_OF_BOX = 0.53


class PoseSample(NamedTuple):
    """The annotated and the predicted people of an image, in its pixels.

    ``N`` annotated people, ``M`` predicted ones, ``K`` keypoints.

    Attributes:
        img_path (str, optional): The file of the image.
        truth (np.ndarray): Annotated keypoints, shape (N, K, 2).
        visible (np.ndarray): Which of them are annotated, bool of shape
            (N, K).
        boxes (np.ndarray): Annotated boxes, (left, top, right, bottom), shape
            (N, 4).
        areas (np.ndarray): What the people cover, in square pixels, shape
            (N, ).
        predicted (np.ndarray): Predicted keypoints, shape (M, K, 2).
        scores (np.ndarray): How sure the model is of each, shape (M, K).
    """
    img_path: Optional[str]
    truth: np.ndarray
    visible: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    predicted: np.ndarray
    scores: np.ndarray


class PoseSampleReader:
    """Reads what a model has predicted beside what is annotated.

    Args:
        dataset (Dataset): The data set of the validation.
        annotations (COCO, optional): What is annotated, for a data set that
            takes its people from a detector's boxes. Defaults to None.
    """

    def __init__(self, dataset, annotations=None) -> None:
        self._dataset = dataset
        self._detected = getattr(dataset, 'bbox_file', None) is not None
        self._partly_detected = not self._detected and _is_detected(dataset)
        self._coco = annotations

    def read(self, sample) -> PoseSample:
        """Copy the people of a sample.

        Args:
            sample (PoseDataSample): What the model returned for an image.

        Returns:
            PoseSample: Without a person where none is annotated or found. A
            detected box' person is the annotated one that overlaps with it
            most and by no less than half of the union. Of a data set that is
            combined of others a detected box' person is not known, so is
            nobody.
        """
        predicted, scores = predictions(sample.pred_instances)
        if self._detected:
            truth = self._truth_of_box(sample, predicted.shape[1])
        elif self._partly_detected and sample.get('raw_ann_info') is None:
            truth = _nobody(predicted.shape[1])
        else:
            truth = _annotated(sample, predicted.shape[1])
        return PoseSample(
            sample.get('img_path'), *truth, predicted=predicted, scores=scores)

    def _truth_of_box(self, sample, num_keypoints: int):
        image = sample.get('img_id')
        people = [] if self._coco is None else [
            person for person in self._coco.imgToAnns.get(image, ())
            if 'keypoints' in person and not person.get('iscrowd')
        ]
        if not people:
            return _nobody(num_keypoints)
        box = np.asarray(sample.gt_instances.bboxes, float).reshape(-1, 4)[0]
        overlaps = _overlaps(box, np.array([p['bbox'] for p in people], float))
        if overlaps.max() < 0.5:
            return _nobody(num_keypoints)
        # Where a data set keeps its keypoints, it knows itself.
        info = self._dataset.parse_data_info(
            dict(
                raw_ann_info=_Uncopied(people[overlaps.argmax()]),
                raw_img_info=dict(self._coco.imgs[image], img_path='')))
        if not info:
            return _nobody(num_keypoints)
        return _people(info['keypoints'], info['keypoints_visible'],
                       info['bbox'], [info])


def _is_detected(dataset) -> bool:
    """Whether a data set, or one that it is combined of, has boxes only."""
    return getattr(dataset, 'bbox_file', None) is not None or any(
        map(_is_detected, getattr(dataset, 'datasets', ())))


class _Uncopied(dict):
    """An annotation whose deep copy, which takes long, nobody needs."""

    def __deepcopy__(self, memo: dict) -> '_Uncopied':
        return self


def match(sample: PoseSample,
          sigmas: Optional[np.ndarray] = None
          ) -> Tuple[np.ndarray, np.ndarray]:
    """Each annotated person's prediction.

    One person and one prediction belong together. Otherwise people and the 20
    surest predictions are assigned so that the sum of their object keypoint
    similarities is largest; at less than 0.1 nobody was found.

    Args:
        sample (PoseSample): ``N`` annotated people.
        sigmas (np.ndarray, optional): Each keypoint's, shape (K, ). Defaults
            to None: 0.05 for all.

    Returns:
        tuple[np.ndarray, np.ndarray]: The predicted keypoints, shape
        (N, K, 2), and who was found, bool of shape (N, ).
    """
    truth, predicted = sample.truth, sample.predicted
    if len(truth) == len(predicted) == 1:
        return predicted, np.ones(1, bool)
    matched = np.zeros_like(truth)
    found = np.zeros(len(truth), bool)
    surest = np.argsort(
        -sample.scores.mean(1), kind='stable')[:_MAX_PREDICTIONS]
    predicted = predicted[surest]
    if sigmas is None:
        sigmas = np.full(truth.shape[1], 0.05)
    squares = np.square(truth[:, None] - predicted[None]).sum(-1)
    widths = 2 * sample.areas[:, None, None] * np.square(2 * sigmas)
    visible = sample.visible[:, None]
    near = np.exp(-squares / np.maximum(widths, 1e-9))
    similarity = np.where(visible, np.nan_to_num(near),
                          0).sum(-1) / np.maximum(visible.sum(-1), 1)
    for person, index in zip(
            *linear_sum_assignment(similarity, maximize=True)):
        if similarity[person, index] >= 0.1:
            matched[person] = predicted[index]
            found[person] = True
    return matched, found


def predictions(instances) -> Tuple[np.ndarray, np.ndarray]:
    """Copy what a model has predicted.

    Args:
        instances (InstanceData): ``pred_instances`` of a sample.

    Returns:
        tuple[np.ndarray, np.ndarray]: Keypoints, shape (M, K, 2), and their
        scores, shape (M, K).
    """
    keypoints = _to_numpy(instances.keypoints)
    keypoints = keypoints.reshape(-1, *keypoints.shape[-2:])
    if 'keypoint_scores' in instances:
        scores = _to_numpy(instances.keypoint_scores)
    else:
        scores = np.ones(keypoints.shape[:2])
    return (np.array(keypoints[..., :2], np.float32),
            np.array(scores, np.float32).reshape(keypoints.shape[:2]))


def _annotated(sample, num_keypoints: int):
    instances = sample.gt_instances
    if 'keypoints' not in instances or not len(instances.keypoints):
        return _nobody(num_keypoints)
    infos = sample.get('raw_ann_info')
    return _people(
        _to_numpy(instances.keypoints),
        _to_numpy(instances.get('keypoints_visible')),
        _to_numpy(instances.get('bboxes')),
        infos if isinstance(infos, (list, tuple)) else [infos])


def _people(keypoints: np.ndarray, visible: Optional[np.ndarray],
            boxes: Optional[np.ndarray], infos: Sequence[Optional[dict]]):
    """The truth of a :obj:`PoseSample`, copied."""
    keypoints = np.array(keypoints[..., :2], np.float32)
    if visible is None:
        visible = np.ones(keypoints.shape[:2])
    elif visible.ndim == 3:  # With the weight of each beside it.
        visible = visible[..., 0]
    visible = visible > 0
    if boxes is None:
        boxes = [_bounds(*person) for person in zip(keypoints, visible)]
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    areas = _AREA_OF_BOX * (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1)
    if len(infos) == len(boxes):
        for i, info in enumerate(infos):
            area = (info or {}).get('area')
            if area is not None and area > 0:
                areas[i] = area
    return keypoints, visible, boxes, areas.astype(float)


def _nobody(num_keypoints: int):
    return (np.zeros(
        (0, num_keypoints, 2), np.float32), np.zeros(
            (0, num_keypoints), bool), np.zeros((0, 4),
                                                np.float32), np.zeros(0))


def _bounds(keypoints: np.ndarray, visible: np.ndarray) -> np.ndarray:
    points = keypoints[visible] if visible.any() else keypoints
    return np.concatenate([points.min(0), points.max(0)])


def _overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersections over unions of a box with others, (x, y, w, h)."""
    sizes = others[:, 2:]
    ends = others[:, :2] + sizes
    common = (np.minimum(box[2:], ends) -
              np.maximum(box[:2], others[:, :2])).clip(0).prod(1)
    union = (box[2:] - box[:2]).prod() + sizes.prod(1) - common
    return common / np.maximum(union, 1e-9)


def _to_numpy(value) -> Optional[np.ndarray]:
    if hasattr(value, 'detach'):
        value = value.detach().cpu()
    return None if value is None else np.asarray(value)
