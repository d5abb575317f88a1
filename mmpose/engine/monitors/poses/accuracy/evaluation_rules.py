# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, Optional

import numpy as np

from .keypoint_tally import usable_sigmas
from .matching import MAX_PREDICTIONS, suppress


class EvaluationRules:
    """Choose and sort instances as the evaluator of a data set does.

    The rules are read from the settings of a :obj:`CocoMetric`. Other metrics
    compare one prediction for each instance.

    Args:
        metric (BaseMetric, optional): The data set's metric. Defaults to
            None.

    Attributes:
        meta (dict): The metainfo of the keypoints that the metric compares.
        converts_predictions (bool): Whether the metric turns predictions into
            the keypoints of the data set before it compares.
    """

    def __init__(self, metric=None) -> None:
        self._metric = metric
        self._score_mode = getattr(metric, 'score_mode', 'keypoint')
        self._score_thr = getattr(metric, 'keypoint_score_thr', 0)
        self._nms_mode = getattr(metric, 'nms_mode', 'none')
        self._nms_thr = getattr(metric, 'nms_thr', 0.9)
        self._pred_converter = getattr(metric, 'pred_converter', None)
        self._gt_converter = getattr(metric, 'gt_converter', None)
        self._use_area = getattr(metric, 'use_area', True)
        self._crowd_pose = getattr(metric, 'iou_type', '') == 'keypoints_crowd'
        self.meta: dict = getattr(metric, 'dataset_meta', None) or {}
        self.converts_predictions = self._pred_converter is not None

    @property
    def coco(self):
        """COCO | None: The annotations that the metric has loaded."""
        return getattr(self._metric, 'coco', None)

    def counts(self, annotation: dict) -> bool:
        """Return whether an annotated instance counts: crowds do not.

        Args:
            annotation (dict): As in a COCO file.
        """
        # The evaluation of CrowdPose ignores instances with occluded keypoints
        # only, which its ``num_keypoints`` does not count.
        return not annotation.get('iscrowd') and not (
            self._crowd_pose and annotation.get('num_keypoints') == 0)

    def area(self, annotation: dict) -> Optional[float]:
        """Return the area of an instance; None to compute it from the box.

        Args:
            annotation (dict): As in a COCO file.
        """
        if self._use_area or 'bbox' not in annotation:
            return annotation.get('area')
        width, height = annotation['bbox'][2:4]
        return AREA_OF_BOX * width * height

    def convert_truth(self, values: np.ndarray) -> np.ndarray:
        """Convert annotated keypoints, (N, K, ...), to those of the metric."""
        return _convert(values, self._gt_converter)

    def convert_prediction(self, values: np.ndarray) -> np.ndarray:
        """Convert predicted keypoints, (N, K, ...), to those of the metric."""
        return _convert(values, self._pred_converter)

    def sigmas(self, num_keypoints: int, meta: dict) -> Optional[np.ndarray]:
        """Return the sigmas of the keypoints that are compared.

        Args:
            num_keypoints (int): The number of keypoints.
            meta (dict): Their metainfo.
        """
        for source in (self.meta, meta):
            sigmas = usable_sigmas(source.get('sigmas'), num_keypoints)
            if sigmas is not None:
                return sigmas
        return None

    def score(self, keypoint_scores: np.ndarray,
              box_scores: np.ndarray) -> np.ndarray:
        """Score predicted instances.

        Args:
            keypoint_scores (np.ndarray): Shape (M, K).
            box_scores (np.ndarray): Shape (M, ).

        Returns:
            np.ndarray: Shape (M, ).
        """
        if self._score_mode == 'bbox':
            return box_scores
        if self._score_mode == 'bbox_keypoint':
            valid = keypoint_scores > self._score_thr
            sums = np.where(valid, keypoint_scores, 0).sum(1)
            return box_scores * sums / np.maximum(valid.sum(1), 1)
        mean = keypoint_scores.mean(1)
        if self._score_mode == 'bbox_rle':
            return box_scores + mean + keypoint_scores.max(1)
        return mean

    def choose(self, keypoints: np.ndarray, keypoint_scores: np.ndarray,
               scores: np.ndarray, areas: np.ndarray,
               sigmas: Optional[np.ndarray]) -> np.ndarray:
        """Choose the predictions of an image that are evaluated.

        Args:
            keypoints (np.ndarray): Shape (M, K, 2).
            keypoint_scores (np.ndarray): Shape (M, K).
            scores (np.ndarray): The result of :meth:`score`, shape (M, ).
            areas (np.ndarray): The areas of the boxes, shape (M, ); NaN for
                the area that the keypoints span.
            sigmas (np.ndarray, optional): The sigmas, shape (K, ).

        Returns:
            np.ndarray: Their indices, the highest-scoring first.
        """
        kept = np.arange(len(scores))
        if self._nms_mode != 'none' and sigmas is not None and len(kept) > 1:
            unknown = np.isnan(areas)
            if unknown.any():
                spanned = np.ptp(keypoints, axis=1).prod(-1)
                areas = np.where(unknown, spanned, areas)
            kept = suppress(keypoints, scores, areas, sigmas, self._nms_thr,
                            self._nms_mode == 'soft_oks_nms')
        if self._metric is not None:
            # COCO's evaluation ignores instances without a positive score.
            kept = kept[(keypoint_scores[kept] > 0).any(1)]
        order = np.argsort(-scores[kept], kind='stable')
        return kept[order][:MAX_PREDICTIONS]


# The fraction of its box that a person covers, in COCO's evaluation.
AREA_OF_BOX = 0.53


def find_rules(evaluator, dataset_name: Optional[str]) -> EvaluationRules:
    """Return the rules of the evaluation of a data set.

    Args:
        evaluator (Evaluator, optional): The evaluator of the validation.
        dataset_name (str, optional): The name of the data set.

    Returns:
        EvaluationRules: The rules of the first :obj:`CocoMetric`, or of the
        data set's metric in a :obj:`MultiDatasetEvaluator`.
    """
    by_name: Dict[str, object] = getattr(evaluator, 'metrics_dict', {})
    metrics = getattr(evaluator, 'metrics', ())
    if by_name:
        name = dataset_name or evaluator.dataset_meta.get('dataset_name')
        metrics = [by_name[name]] if name in by_name else []
    for metric in metrics:
        if hasattr(metric, 'partitions'):  # All parts have the same settings.
            metric = next(iter(metric.metrics.values()))
        if hasattr(metric, 'nms_mode'):
            return EvaluationRules(metric)
    return EvaluationRules()


def _convert(values: np.ndarray, converter: Optional[dict]) -> np.ndarray:
    if converter is None:
        return values
    sources, targets = map(list, zip(*converter['mapping']))
    shape = (len(values), converter['num_keypoints'], *values.shape[2:])
    converted = np.zeros(shape, values.dtype)
    converted[:, targets] = values[:, sources]
    return converted
