# Copyright (c) OpenMMLab. All rights reserved.
"""Annotations with everything that makes a difference to an evaluation.

And models that predict what is known, in a detector's boxes or bottom-up.
"""
import json

import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from noisy_poses import HEIGHT, WIDTH, person

from mmpose.models import BottomupPoseEstimator
from mmpose.registry import MODELS, TRANSFORMS
from mmpose.structures import PoseDataSample

IMAGES, PEOPLE = 8, 3


def annotations(num_keypoints=17, seed=0):
    """Three instances in each image."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(IMAGES * PEOPLE):
        known = person(index + 100 * seed, num_keypoints)
        left, top, right, bottom = map(float, known.box)
        flags = rng.choice([0, 1, 2], num_keypoints)
        found.append(
            dict(
                id=1 + index,
                image_id=1 + index // PEOPLE,
                category_id=1,
                iscrowd=0,
                segmentation=[],
                bbox=[left, top, right - left, bottom - top],
                area=float(known.area),
                num_keypoints=int((flags > 0).sum()),
                keypoints=np.column_stack([known.truth,
                                           flags]).ravel().tolist()))
    found[1]['iscrowd'] = 1
    found[5].update(num_keypoints=0)
    found[5]['keypoints'][2::3] = [0] * num_keypoints
    found[8]['area'] = 0
    found[10]['bbox'] = [-20, -10, 60, 70]
    # Outside the image.
    found[13]['bbox'] = [WIDTH + 5, 5, 20, 20]
    # Occluded all over, which CrowdPose does not count.
    found[16].update(num_keypoints=0)
    found[16]['keypoints'][2::3] = [1] * num_keypoints
    return found


def write(path, annotations):
    """Write a COCO file, with an image more, and return its name."""
    images = [
        dict(
            id=i,
            file_name=f'image_{i}.png',
            width=WIDTH,
            height=HEIGHT,
            crowdIndex=0.5) for i in range(1, IMAGES + 2)
    ]
    path.write_text(
        json.dumps(
            dict(
                images=images,
                annotations=annotations,
                categories=[dict(id=1, name='person')])))
    return str(path)


def known_dataset(folder, annotations, bottom_up=None):
    """Write annotations, and describe a data set of them.

    Args:
        folder (Path): Where to write.
        annotations (list[dict]): The annotations.
        bottom_up (bool, optional): Whether an image is a sample; else a box of
            a detector. Defaults to None: a box of the ground truth.

    Returns:
        tuple[str, dict]: The file of annotations, and the config.
    """
    ann_file = write(folder / 'a.json', annotations)
    packed = dict(type='PackKnown', ann_file=ann_file)
    dataset = dict(
        type='CocoDataset',
        ann_file=ann_file,
        test_mode=True,
        pipeline=[packed])
    if bottom_up:
        dataset['data_mode'] = 'bottomup'
        packed['count'] = 8
    elif bottom_up is not None:
        dataset['bbox_file'] = write_boxes(folder / 'b.json')
    return ann_file, dataset


def write_boxes(path):
    """Write a detector's boxes: many of some instances, none of others.

    Those of an image do not follow each other.
    """
    rng = np.random.default_rng(0)
    boxes = []
    for image in rng.permutation(np.repeat(np.arange(1, IMAGES + 2),
                                           8)).tolist():
        # Of one image no box at all; in one nobody is annotated.
        if image != 3:
            boxes.append(
                dict(
                    image_id=image,
                    category_id=1,
                    bbox=[*rng.uniform(0, 40, 2).tolist(), 30, 30],
                    score=float(rng.random())))
    path.write_text(json.dumps(boxes))
    return str(path)


def prediction(truth, seed):
    """Of one instance, somewhat wrong, or of two mixed up."""
    rng = np.random.default_rng(seed)
    chosen = truth[rng.integers(len(truth))]
    noise = rng.choice([0.3, 1, 3, 9])
    return chosen + rng.normal(0, noise, chosen.shape), rng.random(len(chosen))


@TRANSFORMS.register_module(force=True)
class PackKnown:
    """Packs a sample with what will be predicted, without an image."""

    def __init__(self, ann_file, count=1, mapping=None):
        with open(ann_file) as file:
            self.annotations = json.load(file)['annotations']
        self.count, self.mapping = count, mapping

    def __call__(self, results):
        names = ('id', 'img_id', 'img_path', 'raw_ann_info', 'crowd_index',
                 'dataset_name')
        sample = PoseDataSample(
            metainfo=dict(
                {name: results[name]
                 for name in names if name in results},
                ori_shape=(HEIGHT, WIDTH)))
        fields = dict(
            bbox='bboxes',
            bbox_score='bbox_scores',
            keypoints='keypoints',
            keypoints_visible='keypoints_visible')
        sample.gt_instances = InstanceData(
            **{
                packed: results[name]
                for name, packed in fields.items() if name in results
            })
        truth = [
            np.reshape(a['keypoints'], (-1, 3))[:, :2]
            for a in self.annotations if a['image_id'] == results['img_id']
        ] or [np.zeros((17, 2))]
        ident = results['id'] if np.ndim(results['id']) == 0 else \
            100 + results['img_id']
        predicted = [
            prediction(truth, 1000 * int(ident) + i) for i in range(self.count)
        ]
        keypoints = np.float32([keypoints for keypoints, _ in predicted])
        if self.mapping:  # A model that predicts other ones.
            targets, sources = map(list, zip(*self.mapping))
            known = keypoints
            keypoints = np.zeros((len(known), 17, 2), np.float32)
            keypoints[:, targets] = known[:, sources]
        sample.set_metainfo(dict(prediction=keypoints))
        scores = np.random.default_rng(int(ident)).random(
            keypoints.shape[:2], np.float32)
        sample.set_metainfo(dict(prediction_scores=scores))
        return dict(inputs=torch.zeros(3, 2, 2), data_samples=sample)


def predict(data_samples):
    for sample in data_samples:
        count = len(sample.prediction)
        instances = InstanceData(
            keypoints=sample.prediction.copy(),
            keypoint_scores=sample.prediction_scores.copy())
        if count > 1:
            instances.bbox_scores = sample.prediction_scores.max(1)
        sample.pred_instances = instances
    return data_samples


@TRANSFORMS.register_module(force=True)
class KeepPacked:
    """Undoes what a combined data set adds to a packed sample."""

    def __call__(self, results):
        return {name: results[name] for name in ('inputs', 'data_samples')}


@MODELS.register_module(force=True)
class KnownTopdown(BaseModel):
    """Predicts what is known."""
    test_cfg = None

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return predict(data_samples)


@MODELS.register_module(force=True)
class KnownBottomup(BottomupPoseEstimator):
    """The same for all instances of an image."""

    def __init__(self):
        BaseModel.__init__(self)
        self.test_cfg, self.head = {}, None

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return predict(data_samples)
