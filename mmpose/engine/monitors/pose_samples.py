# Copyright (c) OpenMMLab. All rights reserved.
from collections import defaultdict
from typing import Dict, NamedTuple, Optional, Tuple

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
        self._detected = getattr(dataset, 'bbox_file', None) is not None
        self._annotations: Dict[object, list] = defaultdict(list)
        if self._detected and annotations is not None:
            for annotation in annotations.anns.values():
                if annotation.get('num_keypoints', 1):
                    self._annotations[annotation['image_id']].append(
                        annotation)

    def read(self, sample) -> PoseSample:
        """Copy the people of a sample.

        Args:
            sample (PoseDataSample): What the model returned for an image.

        Returns:
            PoseSample: Without a person where none is annotated or found. A
            detected box' person is the annotated one that overlaps with it
            most and by no less than half of the union.
        """
        predicted, scores = predictions(sample.pred_instances)
        if self._detected:
            truth = self._truth_of_box(sample, predicted.shape[1])
        else:
            truth = _annotated(sample, predicted.shape[1])
        return PoseSample(
            sample.get('img_path'), *truth, predicted=predicted, scores=scores)

    def _truth_of_box(self, sample, num_keypoints: int):
        box = np.asarray(sample.gt_instances.bboxes, float).reshape(-1, 4)[0]
        best, best_overlap = None, 0.5
        for annotation in self._annotations.get(sample.get('img_id'), ()):
            x, y, w, h = annotation['bbox']
            overlap = _iou(box, np.array([x, y, x + w, y + h]))
            if overlap >= best_overlap:
                best, best_overlap = annotation, overlap
        if best is None:
            return _nobody(num_keypoints)
        x, y, w, h = best['bbox']
        keypoints = np.array(best['keypoints'], np.float32).reshape(1, -1, 3)
        return (keypoints[..., :2], keypoints[..., 2] > 0,
                np.array([[x, y, x + w, y + h]], np.float32),
                np.array([best.get('area', w * h * _AREA_OF_BOX)]))


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
    if len(truth) and len(predicted):
        surest = np.argsort(
            -sample.scores.mean(1), kind='stable')[:_MAX_PREDICTIONS]
        predicted = predicted[surest]
        if sigmas is None:
            sigmas = np.full(truth.shape[1], 0.05)
        squares = np.square(truth[:, None] - predicted[None]).sum(-1)
        widths = 2 * sample.areas[:, None, None] * np.square(2 * sigmas)
        visible = sample.visible[:, None]
        similarity = (np.exp(-squares / np.maximum(widths, 1e-9)) *
                      visible).sum(-1) / np.maximum(visible.sum(-1), 1)
        similarity = np.nan_to_num(similarity)
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
    keypoints = np.array(_to_numpy(instances.keypoints)[..., :2], np.float32)
    if 'keypoints_visible' in instances:
        visible = _to_numpy(instances.keypoints_visible)
        if visible.ndim == 3:  # With the weight of each beside it.
            visible = visible[..., 0]
        visible = visible > 0
    else:
        visible = np.ones(keypoints.shape[:2], bool)
    if 'bboxes' in instances:
        boxes = np.array(_to_numpy(instances.bboxes), np.float32)
    else:
        boxes = np.stack(
            [_bounds(*person) for person in zip(keypoints, visible)])
    boxes = boxes.reshape(-1, 4)
    return keypoints, visible, boxes, _areas(sample, boxes)


def _nobody(num_keypoints: int):
    return (np.zeros(
        (0, num_keypoints, 2), np.float32), np.zeros(
            (0, num_keypoints), bool), np.zeros((0, 4),
                                                np.float32), np.zeros(0))


def _areas(sample, boxes: np.ndarray) -> np.ndarray:
    infos = sample.get('raw_ann_info')
    infos = infos if isinstance(infos, (list, tuple)) else [infos]
    areas = _AREA_OF_BOX * (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1)
    if len(infos) == len(boxes):
        for i, info in enumerate(infos):
            areas[i] = (info or {}).get('area', areas[i])
    return areas.astype(float)


def _bounds(keypoints: np.ndarray, visible: np.ndarray) -> np.ndarray:
    points = keypoints[visible] if visible.any() else keypoints
    return np.concatenate([points.min(0), points.max(0)])


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    common = (np.minimum(one[2:], other[2:]) -
              np.maximum(one[:2], other[:2])).clip(0).prod()
    union = (one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod()
    return common / max(union - common, 1e-9)


def _to_numpy(value) -> np.ndarray:
    return np.asarray(
        value.detach().cpu() if hasattr(value, 'detach') else value)
