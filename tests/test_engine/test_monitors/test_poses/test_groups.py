# Copyright (c) OpenMMLab. All rights reserved.
"""For which instances and keypoints predictions are wrong."""
import numpy as np
import pytest
from evaluated_poses import annotations, known_dataset
from planted_errors import COCO, data_set_meta
from pycocotools import mask
from test_evaluators import counted, validate

from mmpose.engine.monitors.core.measurements import Remark
from mmpose.engine.monitors.poses.accuracy.data_set_accuracy import \
    DataSetAccuracy
from mmpose.engine.monitors.poses.accuracy.instances import InstanceBatch
from mmpose.engine.monitors.poses.diagnosis.group_accuracy import (
    group_figure, group_values)
from mmpose.engine.monitors.poses.diagnosis.groups.group_tally import (
    GROUPINGS, GroupTally)
from mmpose.engine.monitors.poses.diagnosis.groups.groups import (CROWDING,
                                                                  KEYPOINTS,
                                                                  SIZE,
                                                                  VISIBILITY)
from mmpose.engine.monitors.writers.record import Scalar
from mmpose.utils import register_all_modules

register_all_modules()


def batch_of(number=200, num_keypoints=17, seed=0, **replaced):
    """Instances of all sizes, five in an image, some on each other."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 300, (number, 2))
    sides = rng.uniform(10, 200, (number, 2))
    truth = corner[:, None] + sides[:, None] * rng.random(
        (number, num_keypoints, 2))
    shown = rng.random((number, 1))
    visible = rng.random((number, num_keypoints)) < shown
    fields = dict(
        images=np.arange(number) // 5,
        ids=np.arange(number),
        truth=truth.astype(np.float32),
        visible=visible,
        occluded=visible & (rng.random(visible.shape) < .3),
        areas=.6 * sides.prod(1),
        boxes=np.float32(np.hstack([corner, corner + sides])),
        predicted=np.float32(truth + rng.normal(0, 6, truth.shape)),
        found=rng.random(number) < .9,
        scores=np.ones(number, np.float32),
        keypoint_scores=np.ones(visible.shape, np.float32))
    return InstanceBatch(**{**fields, **replaced})


def part_of(batch, meta=COCO, name=None, sigmas=True):
    number = batch.truth.shape[1]
    part = DataSetAccuracy(name, number, meta,
                           np.array(meta['sigmas']) if sigmas else None)
    part.instances.add(batch)
    part.tally.add(batch.truth, batch.visible, batch.predicted, batch.boxes,
                   batch.areas, batch.found)
    return part


def by_loops(batch, sigmas):
    """The groups and the accuracy, one instance and keypoint after another.

    Returns:
        dict: For each grouping and group, the OKS of its instances (the KS of
        its keypoints), and the NME of its keypoints.
    """
    groups = {}
    corners = batch.boxes.astype(float)
    as_coco = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    for i in range(len(batch.areas)):
        shown = np.flatnonzero(batch.visible[i])
        if not len(shown):
            continue
        others = [
            j for j in np.flatnonzero(batch.images == batch.images[i])
            if j != i and mask.iou(as_coco[[i]], as_coco[[j]], [0])[0, 0] >= .1
        ]
        of = dict(
            size='small' if batch.areas[i] < 1024 else
            'medium' if batch.areas[i] < 9216 else 'large',
            crowding='alone'
            if not others else 'some' if len(others) <= 2 else 'many',
            keypoints='few' if len(shown) <= len(sigmas) / 3 else
            'half' if len(shown) <= 2 * len(sigmas) / 3 else 'most')
        similarity, errors = [], {}
        for k in shown:
            distance = np.linalg.norm(
                np.float64(batch.predicted[i, k]) - batch.truth[i, k])
            near = np.exp(-distance**2 / 2 / (2 * sigmas[k])**2 /
                          batch.areas[i]) if batch.found[i] else 0
            similarity.append(near)
            if batch.found[i]:
                errors[k] = distance / max(as_coco[i, 2:])
            flag = 'occluded' if batch.occluded[i, k] else 'visible'
            entry = groups.setdefault(('visibility', flag), ([], []))
            entry[0].append(near)
            entry[1].extend([errors[k]] if k in errors else [])
        for by, group in of.items():
            entry = groups.setdefault((by, group), ([], []))
            entry[0].append(np.mean(similarity))
            entry[1].extend(errors.values())
    return groups


def test_the_groups_are_those_computed_one_by_one():
    batch = batch_of()
    expected = by_loops(batch, COCO['sigmas'])
    assert len(expected) == 3 + 3 + 3 + 2
    tally = GroupTally([part_of(batch)])
    for by in GROUPINGS:
        means = tally.means(by)
        for group, oks, nme, count in zip(by.groups, *means):
            similarity, errors = expected[by.name, group]
            assert count == len(similarity)
            assert oks == pytest.approx(np.mean(similarity), abs=1e-6)
            assert nme == pytest.approx(np.mean(errors), abs=1e-6)


def test_all_groups_together_are_all_instances():
    """P8: they are those of ``instances/OKS`` and ``keypoints/*``."""
    part = part_of(batch_of())
    tally = GroupTally([part])
    measures = part.tally.measures()
    located = part.tally._counts[3]
    for by in (SIZE, CROWDING, KEYPOINTS):
        means = tally.means(by)
        assert means.oks[-1] == pytest.approx(part.tally.mean_oks())
        assert means.counts[-1] == means.counts[:-1].sum()
        assert means.counts[-1] == part.tally.instances
        assert means.nme[-1] == pytest.approx(
            np.average(measures['normalized_error'], weights=located))
    matrix = tally.means(SIZE, CROWDING)
    assert matrix.counts[:-1, :-1].sum() == matrix.counts[-1, -1]
    assert matrix.oks[:-1, -1] == pytest.approx(tally.means(SIZE).oks[:-1])
    assert matrix.oks[-1, :-1] == pytest.approx(tally.means(CROWDING).oks[:-1])


def test_shards_merge_into_the_whole():
    """Also where the instances of an image are on two ranks."""
    batch = batch_of()
    rows = np.arange(len(batch.found))
    whole = GroupTally([part_of(batch)])
    one, two = (part_of(batch.take(rows[rank::2])) for rank in range(2))
    one.merge(two)
    merged = GroupTally([one])
    for by in GROUPINGS:
        for mine, expected in zip(merged.means(by), whole.means(by)):
            assert mine == pytest.approx(expected, rel=1e-12)
    assert merged.weakest() == pytest.approx(whole.weakest())


def test_instances_are_sorted_by_image_whatever_its_number():
    """The numbers are hashes: from one to the next may be more than int64."""
    batch = batch_of(4, images=np.array([2**62, -2**62 - 9, -2**62 - 9, 5]))
    assert part_of(batch).instances.batch().ids.tolist() == [1, 2, 3, 0]


def test_several_data_sets_are_added():
    crowd = data_set_meta('crowdpose')
    one = batch_of(seed=1)
    other = batch_of(seed=2, num_keypoints=14)
    parts = [part_of(one, name='a'), part_of(other, crowd, 'b')]
    expected = by_loops(one, COCO['sigmas'])
    for key, (similarity, errors) in by_loops(other, crowd['sigmas']).items():
        expected[key][0].extend(similarity)
        expected[key][1].extend(errors)
    scalars = {
        v.tag: v.value
        for v in group_values(GroupTally(parts), parts, True)
        if isinstance(v, Scalar)
    }
    for (by, group), (similarity, errors) in expected.items():
        place = f'{by}/{group}'
        assert scalars.pop(f'instances/OKS/{place}') == pytest.approx(
            np.mean(similarity), abs=1e-6)
        assert scalars.pop(f'instances/NME/{place}') == pytest.approx(
            np.mean(errors), abs=1e-6)
        assert scalars.pop(f'instances/count/{place}') == len(similarity)
    assert scalars == {
        'instances/count/a': parts[0].tally.instances,
        'instances/count/b': parts[1].tally.instances
    }


def test_what_is_not_known_is_in_no_group():
    batch = batch_of(20)
    areas, boxes = batch.areas.copy(), batch.boxes.copy()
    areas[:3] = np.nan, np.inf, -1
    boxes[3] = np.nan
    boxes[4] = 0
    part = part_of(
        batch._replace(
            areas=areas,
            boxes=boxes,
            visible=np.ones_like(batch.visible),
            occluded=np.zeros_like(batch.visible)))
    tally = GroupTally([part])
    assert tally.means(SIZE).counts[:-1].sum() == 17
    assert tally.means(SIZE).counts[-1] == 20
    assert tally.means(CROWDING).oks[-1] == pytest.approx(
        part.tally.mean_oks())
    # No keypoint is annotated as occluded: the data set may not tell.
    assert not tally.means(VISIBILITY).counts[:-1].any()
    assert not [
        v.tag for v in group_values(tally, [part], True)
        if isinstance(v, Scalar) and 'visibility' in v.tag
    ]


def test_without_sigmas_the_distances_are_logged():
    part = part_of(batch_of(), sigmas=False)
    tags = [v.tag for v in group_values(GroupTally([part]), [part], False)]
    assert tags == [
        f'instances/NME/size/{group}' for group in ('small', 'medium', 'large')
    ]
    image, = group_figure(GroupTally([part]), 'epoch 1')
    assert image.pictures[0].shape == (600, 900, 3)


# The weakest group


def wrong_for(planted, number=600):
    """Predictions with a similarity of 0.9, but of 0 for some keypoints.

    Args:
        planted (Callable): Returns which, shape (N, K).
    """
    batch = batch_of(number, areas=np.tile([500., 5000., 50000.], number // 3))
    batch = batch._replace(found=np.ones(number, bool))
    away = 2 * np.array(COCO['sigmas']) * np.sqrt(
        -2 * np.log(.9) * batch.areas)[:, None]
    away[planted(batch)] = 5000
    predicted = batch.truth.astype(float)
    predicted[..., 0] += away
    return batch._replace(predicted=predicted.astype(np.float32))


def occluded_wrists(batch):
    wrists = np.isin(np.arange(17), [9, 10])
    return batch.occluded & wrists & (batch.areas < 1024)[:, None]


def test_the_weakest_group_is_the_planted_one():
    """And its cost is how much the mean OKS would rise."""
    batch = wrong_for(occluded_wrists)
    planted = occluded_wrists(batch)
    weakest = GroupTally([part_of(batch)]).weakest()
    assert weakest.name == 'occluded wrist keypoints of small instances'
    assert weakest.count == planted.sum() > 30
    assert weakest.similarity == pytest.approx(0, abs=1e-3)

    def mean_oks(similarity):
        rows = batch.visible.any(1)
        total = np.where(batch.visible, similarity, 0)[rows].sum(1)
        return (total / batch.visible[rows].sum(1)).mean()

    similarity = np.where(planted, 0, .9)
    mean = mean_oks(similarity)
    assert weakest.mean == pytest.approx(mean, abs=1e-4)
    rise = mean_oks(np.where(planted, mean, similarity)) - mean
    assert weakest.cost == pytest.approx(rise, abs=1e-4) and rise > .005


@pytest.mark.parametrize('planted, name', [
    (lambda batch: np.tile(np.arange(17) == 0, (600, 1)), 'nose keypoints'),
    (lambda batch: np.tile(batch.areas[:, None] > 9216, 17),
     'keypoints of large instances'),
    (lambda batch: batch.occluded, 'occluded keypoints'),
    (lambda batch: np.zeros_like(batch.visible), None),
    (lambda batch: np.ones_like(batch.visible), None),
])
def test_the_weakest_group_has_the_simplest_name(planted, name):
    """And where all are equally bad, there is none."""
    weakest = GroupTally([part_of(wrong_for(planted))]).weakest()
    assert (weakest and weakest.name) == name


def test_by_default_there_are_the_curves_by_size():
    part = part_of(batch_of())
    *scalars, _ = group_values(GroupTally([part]), [part], False)
    assert [scalar.tag for scalar in scalars] == [
        f'instances/OKS/size/{group}' for group in ('small', 'medium', 'large')
    ]


def test_what_the_report_says():
    part = part_of(wrong_for(occluded_wrists))
    remark, = [
        v for v in group_values(GroupTally([part]), [part], False)
        if isinstance(v, Remark)
    ]
    assert remark.text.startswith(
        'Occluded wrist keypoints of small instances lower the mean OKS')
    assert 'similarity is 0.00' in remark.text


# Real runs


@pytest.mark.parametrize('bottom_up', [False, True])
def test_the_instances_are_those_of_cocos_evaluation(tmp_path, evaluations,
                                                     bottom_up):
    """P8: with boxes of a detector, and of all instances at once."""
    people = annotations()
    for i, annotation in enumerate(people):
        annotation['area'] *= (.3, 1., 15.)[i % 3]
    ann_file, dataset = known_dataset(tmp_path, people, bottom_up)
    events = validate(
        tmp_path / 'run', dataset,
        dict(type='CocoMetric', ann_file=ann_file, nms_mode='none'), bottom_up)
    evaluation, = evaluations
    expected = {}
    for annotation, similarity, _ in counted(evaluation):
        group = [
            name for name, limit in (('small', 1024), ('medium', 9216),
                                     ('large', 1e10))
            if annotation['area'] < limit
        ][0]
        expected.setdefault(group, []).append(similarity)
    assert len(expected) == 3
    for group, values in expected.items():
        for name, value in (('OKS', np.mean(values)), ('count', len(values))):
            event, = events.Scalars(f'instances/{name}/size/{group}')
            assert event.value == pytest.approx(value, abs=1e-5)
