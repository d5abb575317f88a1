# Copyright (c) OpenMMLab. All rights reserved.
import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import ConcatDataset
from mmengine.structures import InstanceData
from noisy_poses import NoisyPoses
from xtcocotools.coco import COCO
from xtcocotools.cocoeval import COCOeval

from mmpose.datasets import CocoDataset, CocoWholeBodyDataset, CombinedDataset
from mmpose.engine.monitors.poses.accuracy.evaluation_rules import \
    EvaluationRules
from mmpose.engine.monitors.poses.accuracy.instances import instance_batch
from mmpose.engine.monitors.poses.annotations import read_annotations
from mmpose.engine.monitors.poses.pictures.model_inputs import sample_name
from mmpose.engine.monitors.poses.pose_samples import (PoseSample,
                                                       PoseSampleReader,
                                                       owners, predictions)
from mmpose.structures import PoseDataSample
from mmpose.structures.bbox import bbox_xyxy2corner


def packed(fields, predicted=None, **meta):
    """A sample as a model returns it, in two people's image."""
    sample = PoseDataSample(metainfo=dict(img_path='a.png', **meta))
    sample.gt_instances = InstanceData(**fields)
    if predicted is None:
        predicted = np.zeros((2, 3, 2))
    sample.pred_instances = InstanceData(
        keypoints=predicted,
        keypoint_scores=np.full(predicted.shape[:-1], 0.5))
    return sample


@pytest.fixture
def people():
    """Two people with three keypoints."""
    return dict(
        keypoints=np.arange(12, dtype=np.float32).reshape(2, 3, 2),
        keypoints_visible=np.array([[1, 0, 1], [0, 1, 1]], np.float32),
        bboxes=np.array([[0, 0, 10, 20], [5, 5, 15, 10]], np.float32))


def fields_of(sample):
    return [v.tobytes() for v in sample if isinstance(v, np.ndarray)]


def test_what_is_read_is_a_copy(people):
    """P1, and the model may write into its outputs again."""
    sample = packed(people, np.ones((2, 3, 2), np.float32))
    before = copy.deepcopy(sample)
    read = PoseSampleReader(None).read(sample)
    assert fields_of(read) == fields_of(PoseSampleReader(None).read(before))
    for instances in (sample.gt_instances, sample.pred_instances):
        for value in instances.values():
            value += 7
    assert fields_of(read) == fields_of(PoseSampleReader(None).read(before))
    assert read.img_path == 'a.png'
    assert (read.truth == people['keypoints'] - 7).all()
    assert read.visible.tolist() == [[True, False, True], [False, True, True]]
    assert (read.predicted == 1).all() and (read.scores == 0.5).all()


def test_of_the_frames_of_a_video_the_annotated_one(people):
    """``PoseTrack18VideoDataset``: the path of an image is a list."""
    sample = packed(people, id=3)
    for path, expected in ((['v/000007.jpg',
                             'v/000006.jpg'], 'v/000007.jpg'), ([], None)):
        sample.set_metainfo(dict(img_path=path))
        assert PoseSampleReader(None).read(sample).img_path == expected
        assert sample_name(sample) == '  '.join(
            filter(None, [expected, 'sample 3']))


def test_visibility_with_weights_beside_it(people):
    read = PoseSampleReader(None).read(packed(people))
    weights = np.ones((2, 3))
    people['keypoints_visible'] = np.stack(
        [people['keypoints_visible'], weights], axis=-1)
    weighted = PoseSampleReader(None).read(packed(people))
    assert (weighted.visible == read.visible).all()


def test_without_visibility_and_boxes(people):
    """All is visible then, and the box is what the keypoints span."""
    people.pop('keypoints_visible')
    people.pop('bboxes')
    read = PoseSampleReader(None).read(packed(people))
    assert read.visible.all()
    assert read.boxes.tolist() == [[0, 1, 4, 5], [6, 7, 10, 11]]


@pytest.mark.parametrize('infos, areas', [
    (None, [0.53 * 200, 0.53 * 50]),
    ([dict(area=7), dict(area=8.5)], [7, 8.5]),
    ([dict(area=7), dict()], [7, 0.53 * 50]),
    ([dict(area=0), None], [0, 0.53 * 50]),
    ([dict(area=np.nan), dict(area=None)], [0.53 * 200, 0.53 * 50]),
    ([dict(area=7)], [0.53 * 200, 0.53 * 50]),
])
def test_the_area_is_the_annotated_one(people, infos, areas):
    sample = packed(people, raw_ann_info=infos)
    assert PoseSampleReader(None).read(sample).areas == pytest.approx(areas)


def test_the_area_of_one_person(people):
    one = {name: value[:1] for name, value in people.items()}
    sample = packed(one, raw_ann_info=dict(area=7))
    assert PoseSampleReader(None).read(sample).areas == [7]


@pytest.mark.parametrize('fields', [
    dict(),
    dict(
        keypoints=np.zeros((0, 3, 2)),
        keypoints_visible=np.zeros((0, 3)),
        bboxes=np.zeros((0, 4)))
])
def test_an_image_without_people(fields):
    """In bottom-up data an image may have none annotated, or none found."""
    read = PoseSampleReader(None).read(packed(fields, np.zeros((0, 3, 2))))
    assert read.truth.shape == read.predicted.shape == (0, 3, 2)
    assert read.visible.shape == read.scores.shape == (0, 3)
    assert read.boxes.shape == (0, 4) and read.areas.shape == (0, )
    keypoints, found = matched(read)
    assert keypoints.shape == (0, 3, 2) and found.shape == (0, )


def test_predictions_on_a_device_with_depth_and_without_scores():
    keypoints = torch.arange(9.).reshape(1, 3, 3).requires_grad_()
    read, scores = predictions(InstanceData(keypoints=keypoints))
    assert read.tolist() == [[[0, 1], [3, 4], [6, 7]]]
    assert scores.tolist() == [[1, 1, 1]]


# People from a detector's boxes


def annotation(index, box, num_keypoints=17, **more):
    keypoints = np.random.default_rng(index).uniform(1, 40, (num_keypoints, 3))
    keypoints[:, 2] = np.arange(num_keypoints) % 3
    return dict(
        id=index,
        image_id=5,
        category_id=1,
        bbox=box,
        area=100 + index,
        iscrowd=0,
        num_keypoints=num_keypoints,
        segmentation=[[1, 2, 3, 4, 5, 6]],
        keypoints=keypoints.ravel().tolist(),
        **more)


@pytest.fixture
def annotations():
    """Three people who overlap, one of them without a keypoint."""
    crowd = annotation(3, [0, 0, 20, 40])
    crowd['iscrowd'] = 1
    unlabelled = annotation(4, [50, 10, 20, 20])
    unlabelled.update(num_keypoints=0, keypoints=[0] * 51)
    return [
        annotation(1, [0, 0, 20, 44]),
        annotation(2, [10, 0, 20, 40]), crowd, unlabelled,
        annotation(5, [52, 10, 20, 30])
    ]


def evaluator_of(coco):
    """One that has loaded these annotations."""
    return SimpleNamespace(
        metrics=[SimpleNamespace(coco=coco, nms_mode='none')])


def detecting_reader(tmp_path, annotations, kind=CocoDataset):
    content = dict(
        images=[dict(id=5, file_name='a.png', width=100, height=100)],
        annotations=annotations,
        categories=[dict(id=1, name='person')])
    path = tmp_path / 'annotations.json'
    path.write_text(json.dumps(content))
    (tmp_path / 'boxes.json').write_text('[]')
    dataset = kind(
        str(path),
        bbox_file=str(tmp_path / 'boxes.json'),
        test_mode=True,
        lazy_init=True)
    return PoseSampleReader(dataset, evaluator_of(COCO(str(path))))


def detected(box, num_keypoints=17, image=5):
    """MMPose gives zeros as the truth of a detected box."""
    return packed(
        dict(
            keypoints=np.zeros((1, num_keypoints, 2), np.float32),
            keypoints_visible=np.ones((1, num_keypoints), np.float32),
            bboxes=np.array([box], np.float32)),
        np.ones((1, num_keypoints, 2)),
        img_id=image)


@pytest.mark.parametrize('box, index', [
    ([0, 0, 20, 44], 0),
    ([0, 0, 20, 40], 0),
    ([9, 0, 30, 41], 1),
    ([53, 10, 72, 41], 4),
])
def test_a_box_counts_for_the_person_it_overlaps_most(tmp_path, annotations,
                                                      box, index):
    """Not for a crowd, which fits the second box exactly."""
    before = copy.deepcopy(annotations)
    reader = detecting_reader(tmp_path, annotations)
    read = reader.read(detected(box))
    keypoints = np.reshape(annotations[index]['keypoints'], (17, 3))
    np.testing.assert_allclose(read.truth[0], keypoints[:, :2], rtol=1e-6)
    assert (read.visible[0] == (keypoints[:, 2] > 0)).all()
    x, y, w, h = annotations[index]['bbox']
    assert read.boxes.tolist() == [[x, y, x + w, y + h]]
    assert read.areas == [annotations[index]['area']]
    assert reader.rules(None).coco.dataset['annotations'] == before


class Heavy:
    """What an annotation may hold."""

    def __deepcopy__(self, memo):
        raise AssertionError('took long')


def test_what_a_box_counts_for_is_not_copied_in_vain(tmp_path, annotations):
    """The data set copies all that it is given, outlines and all."""
    reader = detecting_reader(tmp_path, annotations)
    reader.rules(None).coco.imgToAnns[5][0]['segmentation'] = Heavy()
    assert len(reader.read(detected([0, 0, 20, 44])).truth) == 1


@pytest.mark.parametrize('box, image', [([70, 70, 90, 90], 5),
                                        ([0, 0, 9, 40], 5),
                                        ([0, 0, 20, 44], 6)])
def test_a_box_that_overlaps_with_nobody(tmp_path, annotations, box, image):
    read = detecting_reader(tmp_path,
                            annotations).read(detected(box, image=image))
    assert read.truth.shape == (0, 17, 2) and read.predicted.shape[0] == 1


def test_a_box_of_a_person_without_keypoints(tmp_path, annotations):
    """It does not count for a neighbour."""
    reader = detecting_reader(tmp_path, annotations)
    assert not reader.read(detected([50, 10, 70, 30])).visible.any()


def test_boxes_that_are_corners():
    """DEKR's and AE's training samples: the hook failed on two instances."""
    boxes = np.array([[0, 0, 20, 40], [50, 10, 70, 30]], np.float32)
    keypoints, visible = np.zeros((2, 17, 2)), np.ones((2, 17))
    read = [
        read_annotations(keypoints, visible, given, [{}, {}],
                         EvaluationRules())
        for given in (boxes, bbox_xyxy2corner(boxes))
    ]
    for name in ('boxes', 'areas'):
        np.testing.assert_array_equal(read[0][name], read[1][name])
    assert len(read[1]['areas']) == 2


@pytest.mark.parametrize('box, image, ignored', [
    ([50, 10, 70, 30], 5, True),
    ([9, 0, 30, 40], 5, True),
    ([12, 5, 20, 30], 5, True),
    ([70, 70, 90, 90], 5, False),
    ([9, 0, 30, 40], 6, False),
])
def test_a_box_on_what_is_not_evaluated(tmp_path, annotations, box, image,
                                        ignored):
    """It was called a false positive; a crowd may be larger than the box."""
    reader = detecting_reader(tmp_path, annotations)
    assert reader.is_ignored(detected(box, image=image)) is ignored


def test_boxes_without_annotations():
    """No COCO metric is in the config."""
    dataset = NoisyPoses()
    dataset.bbox_file = 'boxes.json'
    assert len(PoseSampleReader(dataset).read(detected([0, 0, 9, 9])).truth) \
        == 0


@pytest.mark.parametrize('wrapper', [CombinedDataset, ConcatDataset])
def test_boxes_in_a_combined_data_set(tmp_path, annotations, wrapper):
    """The zeros that MMPose gives as their truth count for nobody."""
    part = detecting_reader(tmp_path, annotations).dataset
    combined = wrapper.__new__(wrapper)
    combined.datasets = [NoisyPoses(), part]
    combined._metainfo = {}
    reader = PoseSampleReader(combined)
    read = reader.read(detected([0, 0, 20, 44]))
    assert read.truth.shape == (0, 17, 2) and len(read.predicted) == 1
    # Where the evaluator knows who it is, it is read.
    reader = PoseSampleReader(combined, evaluator_of(COCO(part.ann_file)))
    assert len(reader.read(detected([0, 0, 20, 44])).truth) == 1
    sample = detected([0, 0, 20, 44])
    sample.set_metainfo(dict(raw_ann_info=annotations[0]))
    assert len(reader.read(sample).truth) == 1
    # Where nobody was detected, all are annotated.
    combined.datasets = [NoisyPoses()]
    reader = PoseSampleReader(combined)
    assert len(reader.read(detected([0, 0, 20, 44])).truth) == 1


def test_boxes_of_whole_bodies(tmp_path):
    """Their 133 keypoints are in five places of an annotation."""
    parts = [
        annotation(i, [0, 0, 20, 40], count)['keypoints']
        for i, count in enumerate((17, 6, 68, 21, 21))
    ]
    names = ('keypoints', 'foot_kpts', 'face_kpts', 'lefthand_kpts',
             'righthand_kpts')
    whole = dict(annotation(1, [0, 0, 20, 40]), **dict(zip(names, parts)))
    reader = detecting_reader(tmp_path, [whole], CocoWholeBodyDataset)
    read = reader.read(detected([0, 0, 20, 40], 133))
    keypoints = np.reshape(sum(parts, []), (133, 3))
    np.testing.assert_allclose(read.truth[0], keypoints[:, :2], rtol=1e-6)
    assert (read.visible[0] == (keypoints[:, 2] > 0)).all()


# Whose prediction is it?


def matched(sample, *args):
    """The predictions of the instances, and who was found."""
    batch = instance_batch([sample], [owners(sample, *args)])
    return batch.predicted, batch.found


def sample_of(truth, predicted, scores=None, visible=None):
    truth, predicted = np.asarray(truth, float), np.asarray(predicted, float)
    if scores is None:
        scores = np.ones(len(predicted))
    if visible is None:
        visible = np.ones(truth.shape[:2], bool)
    return PoseSample(
        'a.png',
        truth,
        visible,
        np.zeros((len(truth), 4)),
        np.full(len(truth), 100.),
        predicted,
        np.tile(np.reshape(scores, (-1, 1)), truth.shape[1]),
        ids=np.arange(len(truth)),
        occluded=np.zeros(truth.shape[:2], bool),
        instance_scores=np.array(scores, float))


def test_one_person_and_one_prediction_belong_together():
    """However far apart: so it is in top-down models."""
    keypoints, found = matched(
        sample_of(np.zeros((1, 3, 2)), np.full((1, 3, 2), 1e6)))
    assert (keypoints == 1e6).all() and found.all()


@pytest.mark.parametrize('seed', range(8))
def test_the_matches_are_those_of_cocos_evaluation(seed):
    """At the same threshold, with ties and invisible keypoints."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 3, (4, 5, 2))
    predicted = truth[[2, 0, 1, 1, 3, 2]] + rng.normal(0, 0.8, (6, 5, 2))
    predicted[4] = predicted[5]
    visible = rng.random((4, 5)) < 0.8
    visible[:, 0] = True
    scores = np.sort(rng.random(6))[::-1]
    sample = sample_of(truth, predicted, scores, visible)
    keypoints, found = matched(sample)
    coco = COCOeval(iouType='keypoints', sigmas=np.full(5, 0.05))
    coco.params.iouThrs = np.array([0.1])

    def rows(points, seen):
        return np.column_stack([points, 2 * seen]).ravel().tolist()

    coco._gts[0, 1] = [
        dict(
            id=i,
            ignore=0,
            iscrowd=0,
            area=100,
            bbox=[0, 0, 9, 9],
            keypoints=rows(*instance))
        for i, instance in enumerate(zip(truth, visible))
    ]
    coco._dts[0, 1] = [
        dict(id=i, score=score, area=100, keypoints=rows(points, np.ones(5)))
        for i, (points, score) in enumerate(zip(predicted, scores))
    ]
    coco.ious = {(0, 1): coco.computeOks(0, 1)}
    matches = coco.evaluateImg(0, 1, [0, 1e10], 20)['gtMatches'][0]
    assert (found == (matches >= 0)).all() and found.sum() > 1
    np.testing.assert_allclose(keypoints[found],
                               predicted[matches[matches >= 0]])


def test_who_is_not_near_a_prediction_was_not_found():
    truth = np.stack([np.zeros((3, 2)), np.full((3, 2), 50)])
    # Similarities of about 0.13 and 0.08.
    keypoints, found = matched(sample_of(truth, truth + [2.02, 0]))
    assert found.all()
    keypoints, found = matched(sample_of(truth, truth + [2.25, 0]))
    assert not found.any() and (keypoints == 0).all()


@pytest.mark.parametrize('people, found', [(0, 3), (2, 0)])
def test_nobody_or_nothing_to_assign(people, found):
    keypoints, who = matched(
        sample_of(np.zeros((people, 3, 2)), np.ones((found, 3, 2))))
    assert keypoints.shape == (people, 3, 2) and not who.any()


def test_fewer_predictions_than_people():
    truth = np.arange(4.)[:, None, None] * 40 + np.zeros((4, 3, 2))
    keypoints, found = matched(sample_of(truth, truth[[3, 1]] + 0.1))
    assert found.tolist() == [False, True, False, True]
    np.testing.assert_allclose(keypoints[found], truth[[1, 3]] + 0.1)


def test_only_visible_keypoints_say_who_it_is():
    truth = np.zeros((2, 3, 2))
    truth[1] += 90
    predicted = truth[::-1].copy()
    truth[:, 0] = [[70, 3], [np.nan, 8]]
    predicted[:, 1] = np.nan
    visible = np.array([[False, True, True]] * 2)
    keypoints, found = matched(sample_of(truth, predicted, visible=visible))
    assert found.all()
    np.testing.assert_array_equal(keypoints, predicted[::-1])


def test_what_is_not_visible_does_not_mislead():
    """Similarities of 0.3 with oneself, of 1 where it does not count."""
    truth = np.zeros((2, 3, 2))
    truth[1] += 90
    predicted = truth + [1.55, 0]
    predicted[:, 0] = truth[::-1, 0]
    visible = np.array([[False, True, True]] * 2)
    keypoints, found = matched(sample_of(truth, predicted, visible=visible))
    assert found.all()
    np.testing.assert_array_equal(keypoints, np.float32(predicted))


def test_the_sigmas_decide_how_near_is_near():
    truth = np.stack([np.zeros((3, 2)), np.full((3, 2), 50)])
    sample = sample_of(truth, truth + 3)
    assert not matched(sample)[1].any()
    assert matched(sample, np.full(3, 0.2))[1].all()
