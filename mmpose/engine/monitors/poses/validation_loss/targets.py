# Copyright (c) OpenMMLab. All rights reserved.
"""Pipelines of a validation that make targets as those of the training do."""
import copy
from typing import Callable, List, Optional, Sequence, Tuple

import cv2
import numpy as np

from mmpose.datasets.transforms import (BottomupRandomAffine, BottomupResize,
                                        GenerateTarget, PackPoseInputs,
                                        TopdownAffine)
from mmpose.registry import KEYPOINT_CODECS
from mmpose.structures.bbox import (bbox_clip_border, bbox_corner2xyxy,
                                    bbox_xyxy2corner, get_udp_warp_matrix,
                                    get_warp_matrix)
from mmpose.structures.keypoint import keypoint_clip_border

# What decides which instances have a target, and where; by class name, since
# not every version has all of them.
_ABOUT_TARGETS = ('FilterAnnotations', 'BottomupGetHeatmapMask')


class NoTargetsError(ValueError):
    """Raised where a pipeline cannot make targets; it says why."""


def with_targets(validation: Sequence[Callable],
                 training: Sequence[Callable]) -> List[Callable]:
    """Insert the target generator of a training into another pipeline.

    Args:
        validation (Sequence[Callable]): The transforms of a validation.
        training (Sequence[Callable]): Those of the training.

    Returns:
        list[Callable]: The transforms of the validation, with the target
        generator before the packing and what the training packs.

    Raises:
        NoTargetsError: The validation does not pack, the training has no
            target generator, or it is unknown where the keypoints are in the
            input.
    """
    steps = list(validation)
    packs = _last(steps, PackPoseInputs)
    if packs is None:
        raise NoTargetsError('the validation pipeline has no PackPoseInputs')
    if _last(steps, GenerateTarget) is not None:
        return steps
    targets = _target_steps(training)
    steps[packs] = _packing(steps[packs], training)
    resizes = _last(steps, BottomupResize)
    if resizes is not None:
        affine = _last(training, BottomupRandomAffine)
        targets = [
            _InInput(steps[resizes], targets,
                     None if affine is None else training[affine])
        ]
        steps[resizes] = _at_one_scale(steps[resizes])
    elif _last(steps, TopdownAffine) is None:
        raise NoTargetsError(
            'the validation pipeline has neither TopdownAffine nor '
            'BottomupResize, so it is unknown where the keypoints are in the '
            'input')
    else:
        targets.append(_pack_boxes)
    return [*steps[:packs], *targets, *steps[packs:]]


def _last(steps: Sequence[Callable], kind: type) -> Optional[int]:
    places = [i for i, step in enumerate(steps) if isinstance(step, kind)]
    return places[-1] if places else None


def _target_steps(training: Sequence[Callable]) -> List[Callable]:
    """Return what a training pipeline makes its targets with."""
    first = next((i for i, step in enumerate(training)
                  if isinstance(step, GenerateTarget)), None)
    if first is None:
        raise NoTargetsError('the training pipeline has no GenerateTarget')
    return [
        step for i, step in enumerate(training) if i >= first or any(
            cls.__name__ in _ABOUT_TARGETS for cls in type(step).__mro__)
        if not isinstance(step, PackPoseInputs)
    ]


def _packing(validation: PackPoseInputs,
             training: Sequence[Callable]) -> PackPoseInputs:
    """Return a step that packs what both pipelines do."""
    last = _last(training, PackPoseInputs)
    packing = copy.copy(validation if last is None else training[last])
    packing.meta_keys = tuple(
        dict.fromkeys((*validation.meta_keys, *packing.meta_keys)))
    return packing


def _pack_boxes(results: Optional[dict]) -> Optional[dict]:
    """Have boxes packed, which a prediction needs.

    A codec may list what is packed without them.
    """
    packed = (results or {}).get('instance_mapping_table')
    if packed:
        results['instance_mapping_table'] = dict(
            packed, bbox='bboxes', bbox_score='bbox_scores')
    return results


def _at_one_scale(resize: BottomupResize) -> BottomupResize:
    resize = copy.copy(resize)
    resize.aug_scales = None
    return resize


class _InInput:
    """Make the targets of an image that a validation has resized.

    :obj:`BottomupResize` leaves the annotations in the image.

    Args:
        resize (BottomupResize): What has resized the image.
        steps (Sequence[Callable]): What makes targets.
        affine (BottomupRandomAffine, optional): What resizes in the training,
            which decides on the form of boxes.
    """

    def __init__(self, resize: BottomupResize, steps: Sequence[Callable],
                 affine: Optional[BottomupRandomAffine]) -> None:
        self._resize = resize
        self._keeps_corners = getattr(affine, 'bbox_keep_corner', False)
        self._clips = getattr(affine, 'clip_border', False)
        self._steps = [
            _OfAnySize(step) if isinstance(step, GenerateTarget) else step
            for step in steps
        ]

    def __call__(self, results: Optional[dict]) -> Optional[dict]:
        # An image without instances has no keypoints.
        if results is None or 'keypoints' not in results:
            return None
        matrix = self._matrix(results)
        self._move(results, matrix)
        # The masks of a training are made in the image, and warped.
        shape = results['img_shape']
        results.update(warp_mat=matrix, img_shape=results['ori_shape'])
        for step in self._steps:
            results = step(results)
            if results is None or not len(results['keypoints']):
                return None
        results['img_shape'] = shape
        return results

    def _move(self, results: dict, matrix: np.ndarray) -> None:
        """Move annotations as :obj:`BottomupRandomAffine` does."""
        size = results['input_size']
        results['keypoints'] = cv2.transform(results['keypoints'], matrix)
        box = cv2.transform(bbox_xyxy2corner(results['bbox']), matrix)
        if not self._keeps_corners:
            box = bbox_corner2xyxy(box)
        if self._clips:
            results['keypoints'], results[
                'keypoints_visible'] = keypoint_clip_border(
                    results['keypoints'], results['keypoints_visible'], size)
            box = bbox_clip_border(box, size)
        results['bbox'] = box
        if 'area' in results:
            results['area'] = results['area'] * np.linalg.det(matrix[:, :2])

    def _matrix(self, results: dict) -> np.ndarray:
        """Return the matrix with which the image was warped."""
        center, scale = results['input_center'], results['input_scale']
        if not self._resize.use_udp:
            return get_warp_matrix(
                center, scale, 0, output_size=results['input_size'])
        height, width = results['ori_shape']
        size, _ = self._resize._get_input_size((width, height),
                                               self._resize.input_size)
        return get_udp_warp_matrix(center, scale, 0, output_size=size)


class _OfAnySize:
    """Generate targets in inputs of any size, whose scale is the codec's.

    Args:
        generator (GenerateTarget): What generates targets of one size.
    """

    def __init__(self, generator: GenerateTarget) -> None:
        self._generator = generator

    def __call__(self, results: dict) -> dict:
        size = tuple(map(int, results['input_size']))
        generator = copy.copy(self._generator)
        if isinstance(generator.encoder, list):
            generator.encoder = [
                _resized(codec, cfg, size)
                for codec, cfg in zip(generator.encoder, generator.encoder_cfg)
            ]
        else:
            generator.encoder = _resized(generator.encoder,
                                         generator.encoder_cfg, size)
        return generator(results)


def _resized(codec, cfg: dict, size: Tuple[int, int]):
    """Return a codec for another size of the input."""
    heatmap_size = getattr(codec, 'heatmap_size', None)
    if heatmap_size is None or tuple(codec.input_size) == size:
        return codec
    ratios = np.array(codec.input_size) / np.array(heatmap_size)
    cfg = dict(cfg)
    cfg.update(
        input_size=size,
        heatmap_size=tuple(int(n) for n in np.round(size / ratios)))
    return KEYPOINT_CODECS.build(cfg)
