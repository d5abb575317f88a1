# Copyright (c) OpenMMLab. All rights reserved.
"""People whose predictions have errors of known kinds.

A person is a list: its image, keypoints, which are visible, its area, and its
prediction or None.
"""
import numpy as np

from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.engine.monitors.poses.accuracy.instances import (Instances,
                                                             instance_batch)
from mmpose.engine.monitors.poses.diagnosis.error_kinds import ErrorKinds
from mmpose.engine.monitors.poses.pose_samples import PoseSample


def data_set_meta(name):
    return parse_pose_metainfo(
        dict(from_file=f'configs/_base_/datasets/{name}.py'))


def names_of(meta):
    return [meta['keypoint_id2name'][i] for i in range(meta['num_keypoints'])]


COCO = data_set_meta('coco')


def instances_of(people, batch=5):
    """People as a validation adds them, some at once."""
    instances = Instances()
    for start in range(0, len(people), batch):
        images, truth, visible, areas, predicted = zip(*people[start:start +
                                                               batch])
        samples = [
            PoseSample(
                None,
                truth=truth[i][None],
                visible=visible[i][None],
                boxes=np.array([[0., 0, 1, 1]]),
                areas=np.array([areas[i]]),
                predicted=np.zeros((0, *truth[i].shape))
                if predicted[i] is None else predicted[i][None],
                scores=np.ones((int(predicted[i] is not None), len(truth[i]))),
                img_id=images[i],
                ids=np.array([start + i]),
                occluded=np.zeros((1, len(truth[i])), bool),
                instance_scores=np.ones(int(predicted[i] is not None)))
            for i in range(len(images))
        ]
        instances.add(
            instance_batch(
                samples,
                [np.array([-1 if p is None else 0]) for p in predicted]))
    return instances


def tally_of(people, sigmas, mirrored, batch=5):
    return ErrorKinds(
        instances_of(people, batch).batch(), np.array(sigmas), mirrored)


def planted(people, sigmas, mirrored, first=0):
    """Predictions with as many errors of each kind as of any other.

    Returns:
        np.ndarray: Which kind each keypoint has, shape (N, K).
    """
    kinds = np.full((len(people), len(sigmas)), -1)
    for i, person in enumerate(people):
        _, truth, visible, area, _ = person
        # The next one of the same image.
        other = next(
            (p for p in people[i + 1:] + people[:i] if p[0] == person[0]),
            None)
        predicted = np.full_like(truth, -5000.)
        for k, sigma in enumerate(sigmas):
            kind = (first + i + k) % 5
            has_mirrored = mirrored[k] != k and visible[mirrored[k]]
            has_other = other is not None and other[2][k]
            if (kind == 2 and not has_mirrored) or (kind == 3
                                                    and not has_other):
                kind = 0
            distance = 2 * sigma * np.sqrt(2 * area)
            if kind < 2:
                similarity = (0.9, 0.7)[kind]
                predicted[k] = truth[k] + [
                    distance * np.sqrt(-np.log(similarity)), 0
                ]
            elif kind == 2:
                predicted[k] = truth[mirrored[k]]
            elif kind == 3:
                predicted[k] = other[1][k]
            if visible[k]:
                kinds[i, k] = kind
        person[4] = predicted
    return kinds


def apart(number, num_keypoints, area=400., seed=0):
    """People of whom no keypoint is near another one."""
    rng = np.random.default_rng(seed)
    places = rng.permutation(number * num_keypoints).reshape(number, -1)
    truth = 100. + 60 * np.stack(np.divmod(places, 40), -1)
    return [[i // 4, points,
             rng.random(num_keypoints) < 0.8, area, None]
            for i, points in enumerate(truth)]
