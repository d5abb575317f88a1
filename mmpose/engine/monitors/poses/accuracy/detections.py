# Copyright (c) OpenMMLab. All rights reserved.
"""Validations on a detector's boxes, where a sample is a box."""
import os.path as osp
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence

import numpy as np

from ..annotations import nobody
from ..pose_samples import PoseSample, PoseSampleReader
from ..predictions import box_scales, box_scores, predicted_arrays


class Detections:
    """Keep the predictions in a detector's boxes until all boxes are seen.

    The boxes of an image may be in several batches and on several ranks. A box
    takes about 12 K + 40 bytes, much less than in the results of a
    :obj:`CocoMetric`.
    """

    def __init__(self) -> None:
        self._chunks: List[Dict[str, np.ndarray]] = []

    def add(self, samples: Sequence) -> None:
        """Copy the predictions of samples.

        Args:
            samples (Sequence[PoseDataSample]): What the model returned.
        """
        read = [predicted_arrays(s.pred_instances) for s in samples]
        counts = [len(scores) for _, scores in read]
        keypoints = np.concatenate([keypoints for keypoints, _ in read])
        scores = np.concatenate([scores for _, scores in read])
        scales = np.concatenate(
            [box_scales(s, n) for s, n in zip(samples, counts)])
        chunk = dict(
            keypoints=keypoints[..., :2].astype(np.float32),
            keypoint_scores=scores.astype(np.float32),
            box_scores=np.concatenate(
                [box_scores(s, n) for s, n in zip(samples, counts)]),
            areas=scales[:, 0] * scales[:, 1])
        for name in ('img_id', 'id'):
            values = [sample.get(name) for sample in samples]
            chunk[name] = np.repeat(np.array(values), counts)
        self._chunks.append(chunk)

    def count(self) -> int:
        """Return the number of predictions."""
        return sum(len(chunk['id']) for chunk in self._chunks)

    def merge(self, other: 'Detections') -> None:
        """Add the predictions of another rank."""
        self._chunks += other._chunks

    def arrays(self) -> Dict[str, np.ndarray]:
        """Return each box once, image by image, in the data set's order.

        They are handed over: afterwards there are none.
        """
        chunks, self._chunks = self._chunks, []
        if not chunks:
            return {}
        ids, images = (
            np.concatenate([chunk[name] for chunk in chunks])
            for name in ('id', 'img_id'))
        order = np.lexsort((ids, images))
        ids, images = ids[order], images[order]
        # A sampler may give a box to two ranks; the evaluator also drops it.
        is_new = np.ones(len(order), bool)
        is_new[1:] = (ids[1:] != ids[:-1]) | (images[1:] != images[:-1])
        order = order[is_new]
        # One after the other: only one is in memory twice.
        return {
            name: np.concatenate([chunk.pop(name) for chunk in chunks])[order]
            for name in list(chunks[0])
        }


class AnnotatedImage(NamedTuple):
    """The annotated instances of an image that count.

    Attributes:
        truth (dict[str, np.ndarray]): See :func:`read_annotations`.
        img_path (str, optional): The file of the image.
        position (float): Its place in the validation, from 0 to 1.
    """
    truth: dict
    img_path: Optional[str]
    position: float


def annotated_images(reader: PoseSampleReader,
                     dataset_name: Optional[str]) -> Dict[int, AnnotatedImage]:
    """Read all annotations that a detector's boxes are evaluated on.

    Args:
        reader (PoseSampleReader): Reads the annotations.
        dataset_name (str, optional): See
            :meth:`PoseSampleReader.dataset_name`.

    Returns:
        dict[int, AnnotatedImage]: The images with an instance that counts, by
        their ids.
    """
    coco = reader.rules(dataset_name).coco
    if coco is None:
        return {}
    dataset, _ = reader.part(dataset_name)
    folder = (getattr(dataset, 'data_prefix', None) or {}).get('img', '')
    images = {}
    for index, (image, info) in enumerate(coco.imgs.items()):
        truth = reader.annotated(dataset_name, image,
                                 coco.imgToAnns.get(image, ()))
        if truth is not None and truth['visible'].any():
            images[image] = AnnotatedImage(
                truth, osp.join(folder, info.get('file_name', '')),
                index / len(coco.imgs))
    return images


def evaluated(detections: Detections,
              images: Dict[int, AnnotatedImage],
              reader: PoseSampleReader,
              dataset_name: Optional[str],
              everywhere: bool = False) -> Iterator[PoseSample]:
    """Choose the predictions of all images that are evaluated.

    Args:
        detections (Detections): Those of all ranks.
        images (dict[int, AnnotatedImage]): What :func:`annotated_images`
            returned.
        reader (PoseSampleReader): The reader that they come from.
        dataset_name (str, optional): See
            :meth:`PoseSampleReader.dataset_name`.
        everywhere (bool): Whether to go on with the predictions in the images
            without an instance that counts. Defaults to False.

    Yields:
        PoseSample: Each of the images, with the predictions that the
        evaluator keeps, the highest-scoring first.
    """
    rules = reader.rules(dataset_name)
    arrays = detections.arrays()
    rows: Dict[int, np.ndarray] = {}
    if arrays:
        for name in ('keypoints', 'keypoint_scores'):
            arrays[name] = rules.convert_prediction(arrays[name])
        scores = rules.score(arrays['keypoint_scores'], arrays['box_scores'])
        ids, begins = np.unique(arrays['img_id'], return_index=True)
        rows = dict(
            zip(ids.tolist(), np.split(np.arange(len(scores)), begins[1:])))
    if everywhere and arrays:
        empty = AnnotatedImage(nobody(arrays['keypoints'].shape[1]), None, 0.)
        others = [i for i in rows if i not in images and i in rules.coco.imgs]
        images = {**images, **dict.fromkeys(others, empty)}
    for img_id, image in images.items():
        number = image.truth['truth'].shape[1]
        chosen = dict(
            predicted=np.zeros((0, number, 2), np.float32),
            scores=np.zeros((0, number), np.float32),
            instance_scores=np.zeros(0, np.float32))
        meta = reader.meta(dataset_name, number)
        row = rows.get(img_id)
        if row is not None:
            sigmas = rules.sigmas(arrays['keypoints'].shape[1], meta)
            row = row[rules.choose(arrays['keypoints'][row],
                                   arrays['keypoint_scores'][row], scores[row],
                                   arrays['areas'][row], sigmas)]
            chosen = dict(
                predicted=arrays['keypoints'][row],
                scores=arrays['keypoint_scores'][row],
                instance_scores=scores[row])
        yield PoseSample(
            image.img_path, **image.truth, **chosen, meta=meta, img_id=img_id)
