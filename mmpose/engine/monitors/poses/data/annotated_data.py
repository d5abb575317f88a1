# Copyright (c) OpenMMLab. All rights reserved.
"""The annotations that a data set holds in memory, without its pipeline."""
import time
from typing import Iterator, List, NamedTuple, Optional

import numpy as np
from mmengine.dataset import BaseDataset

from ...core.runner_parts import data_set_parts
from ..annotations import annotated_flags
from ..pictures.model_inputs import image_path
from ..pose_samples import PoseSampleReader

# How many samples of a data set are read at most, spread over it.
MAX_SAMPLES = 200_000
# After so many samples the thread lets the training have the interpreter.
_AT_ONCE = 10
_PAUSE = 5e-4


class AnnotatedSample(NamedTuple):
    """What is annotated in a sample: N instances with K keypoints.

    Attributes:
        path (str, optional): The file of the image.
        keypoints (np.ndarray): In the image's pixels, shape (N, K, 2).
        annotated (np.ndarray): Which of them are annotated, bool of shape
            (N, K).
        occluded (np.ndarray): Which of these are occluded, bool of shape
            (N, K).
        boxes (np.ndarray): (left, top, right, bottom), shape (N, 4).
        crowds (int): How many crowds there are beside the instances.
        tells_occluded (bool): Whether a keypoint is said to be visible, and
            not just to be annotated.
        crop (tuple[np.ndarray, np.ndarray], optional): The center and the
            scale that the data set gives in the place of a box.
    """
    path: Optional[str]
    keypoints: np.ndarray
    annotated: np.ndarray
    occluded: np.ndarray
    boxes: np.ndarray
    crowds: int = 0
    tells_occluded: bool = False
    crop: Optional[tuple] = None


def loaded_parts(dataset) -> List[BaseDataset]:
    """Return the data sets that hold annotations in memory.

    Args:
        dataset (Dataset): A data set, which may wrap or combine others.
    """
    parts = [
        part for part in data_set_parts(dataset)
        if isinstance(part, BaseDataset) and not hasattr(part, 'datasets')
        and part._fully_initialized
    ]
    return list({id(part): part for part in parts}.values())


def spread_indices(count: int, most: int) -> np.ndarray:
    """Return at most so many indices, evenly spread over all."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def read_info(part: BaseDataset, index: int) -> dict:
    """Return what a data set holds of a sample, not to be changed.

    The ``get_data_info`` of MMPose's data sets copies all metainfo, and that
    of a :obj:`CombinedDataset` runs a pipeline, which draws random numbers.
    """
    if part.serialize_data:
        return BaseDataset.get_data_info(part, index)
    return part.data_list[index]


def read_samples(part: BaseDataset,
                 most: int = MAX_SAMPLES) -> Iterator[AnnotatedSample]:
    """Iterate over what a data set holds in memory.

    It pauses often, so that the training does not wait for the interpreter.

    Args:
        part (BaseDataset): One of :func:`loaded_parts`.
        most (int): How many samples to read at most.

    Yields:
        AnnotatedSample: With the keypoints that the first
        :obj:`KeypointConverter` of its pipeline makes.
    """
    converter = _find_converter(part)
    for n, index in enumerate(spread_indices(len(part), most)):
        if n % _AT_ONCE == 0:
            time.sleep(_PAUSE)
        sample = read_sample(read_info(part, int(index)))
        if sample is not None:
            yield _converted(sample, converter)


def read_sample(info: dict) -> Optional[AnnotatedSample]:
    """Read what is annotated in a sample.

    Args:
        info (dict): The ``data_info`` of a data set of MMPose.

    Returns:
        AnnotatedSample | None: None without boxes, as for lifting. An image
        without annotations has no instances.
    """
    path = image_path(info)
    if 'keypoints' not in info and 'raw_ann_info' in info:
        return AnnotatedSample(path, np.zeros((0, 0, 2)),
                               *(np.zeros((0, 0), bool), ) * 2, np.zeros(
                                   (0, 4)))
    if 'keypoints' not in info or 'bbox' not in info:
        return None
    keypoints = np.asarray(info['keypoints'], float)[..., :2]
    if keypoints.ndim != 3:
        return None
    count = len(keypoints)
    visible = info.get('keypoints_visible')
    annotated = np.ones(keypoints.shape[:2], bool)
    if visible is not None:
        visible = np.asarray(visible)
        annotated = (visible[..., 0] if visible.ndim == 3 else visible) > 0
    boxes = np.asarray(info['bbox'], float).reshape(-1, 4)
    raw = info.get('raw_ann_info')
    raw = raw if isinstance(raw, (list, tuple)) else [raw]
    flags = np.zeros(annotated.shape)
    if len(raw) == count:
        for i, one in enumerate(raw):
            known = annotated_flags(one or {}, annotated.shape[1])
            flags[i] = 0 if known is None else known
    is_crowd = np.ravel(info.get('iscrowd', 0)).astype(bool)
    if len(is_crowd) != count:
        is_crowd = np.zeros(count, bool)
    kept = ~is_crowd
    crop = None
    if 'bbox_center' in info and 'bbox_scale' in info:
        crop = tuple(
            np.asarray(info[name], float).reshape(-1, 2)[kept]
            for name in ('bbox_center', 'bbox_scale'))
    return AnnotatedSample(path, keypoints[kept], annotated[kept],
                           (annotated & (flags == 1))[kept], boxes[kept],
                           int(is_crowd.sum()), bool((flags == 2).any()), crop)


def read_evaluated(reader: PoseSampleReader,
                   name: Optional[str],
                   most: int = MAX_SAMPLES) -> Iterator[AnnotatedSample]:
    """Iterate over what a validation on a detector's boxes is compared with.

    Args:
        reader (PoseSampleReader): Reads the evaluator's annotations.
        name (str, optional): The data set, see
            :meth:`PoseSampleReader.dataset_name`.
        most (int): How many images to read at most.

    Yields:
        AnnotatedSample: Each image.
    """
    coco = reader.rules(name).coco
    images = [] if coco is None else list(coco.imgs)
    dataset, _ = reader.part(name)
    folder = (getattr(dataset, 'data_prefix', None) or {}).get('img', '')
    for n, i in enumerate(spread_indices(len(images), most)):
        if n % _AT_ONCE == 0:
            time.sleep(_PAUSE)
        image = images[i]
        annotations = coco.imgToAnns.get(image, ())
        path = f'{folder}/{coco.imgs[image].get("file_name", "")}'
        truth = reader.annotated(name, image, annotations)
        if truth is None:
            yield AnnotatedSample(path, np.zeros((0, 0, 2)),
                                  *(np.zeros((0, 0), bool), ) * 2,
                                  np.zeros((0, 4)))
            continue
        tells = any((flags == 2).any()
                    for flags in (annotated_flags(a, truth['visible'].shape[1])
                                  for a in annotations) if flags is not None)
        yield AnnotatedSample(path, truth['truth'], truth['visible'],
                              truth['visible'] & truth['occluded'],
                              truth['boxes'],
                              sum(bool(a.get('iscrowd'))
                                  for a in annotations), tells)


def _find_converter(part: BaseDataset):
    from mmpose.datasets.transforms import KeypointConverter
    for step in getattr(part.pipeline, 'transforms', ()):
        if isinstance(step, KeypointConverter):
            return step
    return None


def _converted(sample: AnnotatedSample, converter) -> AnnotatedSample:
    """Return a sample with the keypoints of a :obj:`KeypointConverter`."""
    if converter is None or not len(sample.keypoints):
        return sample
    first = converter.source_index
    second = getattr(converter, 'source_index2', first)
    target = converter.target_index
    shape = len(sample.keypoints), converter.num_keypoints
    keypoints = np.zeros((*shape, 2))
    keypoints[:, target] = (sample.keypoints[:, first] +
                            sample.keypoints[:, second]) / 2
    annotated, occluded = np.zeros(shape, bool), np.zeros(shape, bool)
    annotated[:, target] = (
        sample.annotated[:, first] & sample.annotated[:, second])
    occluded[:, target] = (
        sample.occluded[:, first] | sample.occluded[:, second])
    return sample._replace(
        keypoints=keypoints,
        annotated=annotated,
        occluded=occluded & annotated)
