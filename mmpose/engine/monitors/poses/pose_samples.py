# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import torch

from mmpose.structures.bbox import bbox_overlaps, bbox_xywh2xyxy
from .accuracy.evaluation_rules import EvaluationRules, find_rules
from .accuracy.matching import match
from .annotations import has_keypoints, nobody, read_annotations
from .pictures.model_inputs import ModelInput, image_path
from .predictions import box_scales, box_scores, predictions, to_numpy


class PoseSample(NamedTuple):
    """The annotated and the predicted instances of an image, in its pixels.

    There are ``N`` annotated and ``M`` predicted instances with ``K``
    keypoints.

    Attributes:
        img_path (str, optional): The file of the image.
        truth (np.ndarray): Annotated keypoints, shape (N, K, 2).
        visible (np.ndarray): Which keypoints are annotated, bool of shape
            (N, K).
        boxes (np.ndarray): Annotated boxes, (left, top, right, bottom), shape
            (N, 4).
        areas (np.ndarray): The areas of the instances in square pixels, shape
            (N, ).
        predicted (np.ndarray): Predicted keypoints, shape (M, K, 2).
        scores (np.ndarray): The scores of the keypoints, shape (M, K).
        meta (dict): The metainfo of the keypoints; empty if no known metainfo
            has as many keypoints, and then no skeleton is drawn.
        img_id (int, optional): The id of the image in its data set.
        given (ModelInput, optional): The input of the model. None for the
            image of a detector's boxes.
        ids (np.ndarray, optional): The ids of the annotations, -1 where
            unknown, int64 of shape (N, ).
        occluded (np.ndarray, optional): Which keypoints are annotated as
            occluded, bool of shape (N, K).
        instance_scores (np.ndarray, optional): The scores by which the
            evaluator sorts the predictions, shape (M, ).
    """
    img_path: Optional[str]
    truth: np.ndarray
    visible: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    predicted: np.ndarray
    scores: np.ndarray
    meta: dict = {}
    img_id: Optional[int] = None
    given: Optional[ModelInput] = None
    ids: Optional[np.ndarray] = None
    occluded: Optional[np.ndarray] = None
    instance_scores: Optional[np.ndarray] = None


class PoseSampleReader:
    """Read the annotations and predictions of validation samples.

    Args:
        dataset (Dataset): The data set of the validation.
        evaluator (Evaluator, optional): Its evaluator, which decides what
            counts. Defaults to None.
    """

    def __init__(self, dataset, evaluator=None) -> None:
        self.dataset = dataset
        self._evaluator = evaluator
        self._has_several = bool(
            getattr(dataset, 'datasets', None)
            or getattr(evaluator, 'metrics_dict', None))
        self._rules: Dict[Optional[str], EvaluationRules] = {}
        self._parts: Dict[Optional[str], tuple] = {}
        self._detected: Dict[Optional[str], bool] = {}

    def dataset_name(self, sample) -> Optional[str]:
        """Return the data set of a sample, None if there is just one.

        Args:
            sample (PoseDataSample): What the model returned for an image.
        """
        return sample.get('dataset_name') if self._has_several else None

    def rules(self, dataset_name: Optional[str]) -> EvaluationRules:
        """Return the rules of the evaluation of a data set.

        Args:
            dataset_name (str, optional): See :meth:`dataset_name`.
        """
        if dataset_name not in self._rules:
            self._rules[dataset_name] = find_rules(self._evaluator,
                                                   dataset_name)
        return self._rules[dataset_name]

    def part(self, dataset_name: Optional[str]) -> tuple:
        """Return one of the data sets of a validation.

        Args:
            dataset_name (str, optional): See :meth:`dataset_name`.

        Returns:
            tuple[Dataset, dict]: The data set and its metainfo; those of the
            whole validation if there is no such part.
        """
        if dataset_name not in self._parts:
            found = self.dataset, getattr(self.dataset, 'metainfo', {})
            for part in _parts(self.dataset) if dataset_name else ():
                meta = getattr(part, 'metainfo', {})
                if meta.get('dataset_name') == dataset_name:
                    found = part, meta
            self._parts[dataset_name] = found
        return self._parts[dataset_name]

    def meta(self, dataset_name: Optional[str], num_keypoints: int) -> dict:
        """Return the metainfo of the keypoints that are compared.

        Args:
            dataset_name (str, optional): See :meth:`dataset_name`.
            num_keypoints (int): The number of keypoints.

        Returns:
            dict: Empty if no known metainfo has as many keypoints.
        """
        rules = self.rules(dataset_name)
        known = [self.part(None)[1], self.part(dataset_name)[1], rules.meta]
        if rules.converts_predictions:
            known.reverse()
        for meta in known:
            sigmas = meta.get('sigmas')
            known_by = meta.get('keypoint_id2name') or (
                () if sigmas is None else sigmas)
            if num_keypoints == meta.get('num_keypoints', len(known_by)):
                return meta
        return {}

    def is_detected(self, sample) -> bool:
        """Return whether a sample is a detector's box, without annotation.

        Args:
            sample (PoseDataSample): What the model returned for an image.
        """
        if sample.get('raw_ann_info') is not None:
            return False
        name = self.dataset_name(sample)
        if name not in self._detected:
            self._detected[name] = any(
                getattr(part, 'bbox_file', None) is not None
                for part in _parts(self.part(name)[0]))
        return self._detected[name]

    def read(self, sample) -> PoseSample:
        """Copy the instances of a sample.

        Args:
            sample (PoseDataSample): What the model returned for an image.

        Returns:
            PoseSample: The sample, without crowds. The instance of a
            detector's box is the annotated one with the largest overlap, if
            that is at least half of the union.
        """
        name = self.dataset_name(sample)
        rules = self.rules(name)
        predicted, scores = map(rules.convert_prediction,
                                predictions(sample.pred_instances))
        if self.is_detected(sample):
            truth = self._truth_of_box(sample, rules)
        else:
            truth = _annotated(sample, rules)
        if truth is None:
            truth = nobody(predicted.shape[1])
        return PoseSample(
            image_path(sample),
            **truth,
            predicted=predicted,
            scores=scores,
            meta=self.meta(name, predicted.shape[1]),
            img_id=sample.get('img_id'),
            instance_scores=rules.score(scores,
                                        box_scores(sample, len(scores))))

    def is_ignored(self, sample) -> bool:
        """Return whether a prediction without an annotation may be right.

        Args:
            sample (PoseDataSample): What the model returned for an image.

        Returns:
            bool: True where an instance is annotated that is not evaluated: a
            crowd, or an instance without annotated keypoints. With a
            detector's boxes, as in :meth:`read`, it overlaps with the box; a
            crowd covers at least half of the box.
        """
        rules = self.rules(self.dataset_name(sample))
        if rules.coco is None:
            infos = sample.get('raw_ann_info') or ()
        else:
            infos = rules.coco.imgToAnns.get(sample.get('img_id'), ())
        infos = [
            info for info in ([infos] if isinstance(infos, dict) else infos)
            if info and not (rules.counts(info) and has_keypoints(info))
        ]
        if not infos or not self.is_detected(sample):
            return bool(infos)
        box = np.asarray(sample.gt_instances.bboxes, float).reshape(-1, 4)[:1]
        boxes = bbox_xywh2xyxy(
            np.array([info['bbox'] for info in infos], float))
        boxes = torch.from_numpy(box), torch.from_numpy(boxes)
        overlaps, covered = (
            bbox_overlaps(*boxes, mode=mode)[0] for mode in ('iou', 'iof'))
        crowds = torch.tensor([bool(info.get('iscrowd')) for info in infos])
        return bool((torch.where(crowds, covered, overlaps) >= 0.5).any())

    def chosen(self, result, sample: PoseSample,
               sigmas: Optional[np.ndarray]) -> PoseSample:
        """Choose the predictions of an image that are evaluated.

        Args:
            result (PoseDataSample): What the model returned for the image.
            sample (PoseSample): The result of :meth:`read`.
            sigmas (np.ndarray, optional): The sigmas, shape (K, ).

        Returns:
            PoseSample: The sample with these predictions, the highest-scoring
            first.
        """
        count = len(sample.predicted)
        if not count:
            return sample
        rules = self.rules(self.dataset_name(result))
        kept = rules.choose(sample.predicted, sample.scores,
                            sample.instance_scores,
                            box_scales(result, count).prod(1), sigmas)
        return sample._replace(
            predicted=sample.predicted[kept],
            scores=sample.scores[kept],
            instance_scores=sample.instance_scores[kept])

    def annotated(self, dataset_name: Optional[str], image: int,
                  annotations: Sequence[dict]) -> Optional[dict]:
        """Read annotations of an image as its data set reads them.

        Args:
            dataset_name (str, optional): See :meth:`dataset_name`.
            image (int): The id of the image.
            annotations (Sequence[dict]): As in a COCO file.

        Returns:
            dict | None: As from :func:`read_annotations`; None if no
            annotation counts.
        """
        rules = self.rules(dataset_name)
        dataset, _ = self.part(dataset_name)
        # Data sets differ in the fields that hold the keypoints.
        parse = next(
            part.parse_data_info for part in _parts(dataset)
            if getattr(part, 'bbox_file', None) is not None)
        img = dict(rules.coco.imgs[image], img_path='')
        infos = [
            parse(dict(raw_ann_info=_Uncopied(a), raw_img_info=img))
            for a in annotations if rules.counts(a)
        ]
        infos = [info for info in infos if info]
        if not infos:
            return None
        return read_annotations(
            *(np.concatenate([info[name] for info in infos])
              for name in ('keypoints', 'keypoints_visible', 'bbox')),
            [info['raw_ann_info'] for info in infos], rules)

    def _truth_of_box(self, sample, rules: EvaluationRules):
        image = sample.get('img_id')
        annotations = [] if rules.coco is None else [
            annotation for annotation in rules.coco.imgToAnns.get(image, ())
            if 'keypoints' in annotation and rules.counts(annotation)
        ]
        if not annotations:
            return None
        box = np.asarray(sample.gt_instances.bboxes, float).reshape(-1, 4)[:1]
        boxes = bbox_xywh2xyxy(
            np.array([a['bbox'] for a in annotations], float))
        overlaps = bbox_overlaps(*map(torch.from_numpy, (box, boxes)))[0]
        if overlaps.max() < 0.5:
            return None
        return self.annotated(
            self.dataset_name(sample), image, [annotations[overlaps.argmax()]])


def _parts(dataset) -> List:
    """Return a data set and all that it combines."""
    found = [dataset]
    for part in getattr(dataset, 'datasets', ()):
        found += _parts(part)
    return found


class _Uncopied(dict):
    """An annotation that is not copied deeply, which would take long."""

    def __deepcopy__(self, memo: dict) -> '_Uncopied':
        return self


def owners(sample: PoseSample,
           sigmas: Optional[np.ndarray] = None,
           paired: bool = True) -> np.ndarray:
    """Find the prediction of each annotated instance.

    Args:
        sample (PoseSample): ``N`` annotated instances; the predictions in the
            order of :meth:`EvaluationRules.choose`.
        sigmas (np.ndarray, optional): The sigmas, shape (K, ). Defaults to
            None: the same for all keypoints.
        paired (bool): Whether a single prediction always belongs to a single
            instance, as in top-down models. Defaults to True.

    Returns:
        np.ndarray: The index of each prediction, -1 if the instance was not
        found, shape (N, ).
    """
    truth, predicted = sample.truth, sample.predicted
    if paired and len(truth) == len(predicted) == 1:
        return np.zeros(1, int)
    return match(truth, sample.visible, sample.areas, predicted, sigmas)


def _annotated(sample, rules: EvaluationRules) -> Optional[dict]:
    instances = sample.gt_instances
    keypoints = to_numpy(instances.get('keypoints'))
    if keypoints is None or not len(keypoints):
        return None
    visible = to_numpy(instances.get('keypoints_visible'))
    boxes = to_numpy(instances.get('bboxes'))
    infos = _annotations(sample, rules, len(keypoints))
    ids = np.ravel(sample.get('id', ())).tolist()
    if len(ids) == len(infos):
        infos = [dict(dict(id=i), **info) for i, info in zip(ids, infos)]
    kept = [i for i, info in enumerate(infos) if rules.counts(info)]
    if len(kept) < len(infos):
        if not kept:
            return None
        keypoints, visible, boxes = (
            array if array is None else array[kept]
            for array in (keypoints, visible, boxes))
        infos = [infos[i] for i in kept]
    return read_annotations(keypoints, visible, boxes, infos, rules)


def _annotations(sample, rules: EvaluationRules, count: int) -> List[dict]:
    """Return the annotations of a sample's instances, {} where unknown."""
    infos = sample.get('raw_ann_info')
    if infos is None and rules.coco is not None:
        # Not every pipeline packs the annotations.
        ids = np.ravel(sample.get('id', ())).tolist()
        infos = [rules.coco.anns.get(index, {}) for index in ids]
        image = sample.get('img_id')
        if any(info.get('image_id') != image for info in infos):
            infos = None
    if not isinstance(infos, (list, tuple)):
        infos = [infos]
    if len(infos) != count:
        return [{}] * count
    return [info or {} for info in infos]
