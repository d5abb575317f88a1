# Copyright (c) OpenMMLab. All rights reserved.
import copy
import functools
import math
import operator
import pickle

import numpy as np
import pytest
from xtcocotools.cocoeval import COCOeval

from mmpose.engine.monitors.poses.accuracy.data_set_accuracy import accuracy
from mmpose.engine.monitors.poses.accuracy.keypoint_tally import (
    KeypointTally, keypoint_similarity, usable_sigmas)
from mmpose.evaluation.metrics import PCKAccuracy

K = 6
SIGMAS = np.array([.026, .025, .035, .079, .072, .062])


@pytest.fixture(autouse=True)
def _strict_arithmetic():
    """Nothing is divided by 0, and no NaN is made, on the way."""
    with np.errstate(all='raise', under='ignore'):
        yield


def instances(n=50, num_keypoints=K, seed=0) -> dict:
    """Instances of which some keypoints are hard and some invisible."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 300, (n, 2))
    sides = rng.uniform(40, 200, (n, 2))
    truth = corners[:,
                    None] + rng.uniform(0, 1,
                                        (n, num_keypoints, 2)) * sides[:, None]
    noise = rng.normal(0, 1, (n, num_keypoints, 2))
    noise *= np.linspace(1, 30, num_keypoints)[:, None]
    return dict(
        truth=truth,
        visible=rng.random((n, num_keypoints)) < .8,
        predicted=truth + noise,
        boxes=np.hstack([corners, corners + sides]),
        areas=sides.prod(axis=1) * .6,
        found=np.ones(n, bool))


def tally_of(batch, sigmas=SIGMAS, parts=1):
    """A tally, and the scores, of what is added in some parts."""
    tally = KeypointTally(batch['truth'].shape[1], sigmas)
    size = math.ceil(len(batch['truth']) / parts)
    scores = [
        tally.add(**{
            name: array[i * size:(i + 1) * size]
            for name, array in batch.items()
        }).scores for i in range(parts)
    ]
    return tally, np.concatenate(scores)


def assert_same(a, b, rtol=0):
    assert a.measures().keys() == b.measures().keys()
    for name, values in a.measures().items():
        np.testing.assert_allclose(
            values, b.measures()[name], rtol, err_msg=name)
    np.testing.assert_array_equal(a.counts, b.counts)


def test_the_measures_are_the_means_of_each_keypoint():
    batch = instances()
    batch['found'][::7] = False
    tally, scores = tally_of(batch)
    measures = tally.measures()
    of_instance = [[] for _ in scores]
    for k in range(K):
        errors, similarities, count = [], [], 0
        for i in np.flatnonzero(batch['visible'][:, k]):
            count += 1
            left, top, right, bottom = batch['boxes'][i]
            similarity = 0
            if batch['found'][i]:
                distance = math.dist(batch['truth'][i, k],
                                     batch['predicted'][i, k])
                errors.append(distance / max(right - left, bottom - top))
                similarity = math.exp(-distance**2 / (2 * batch['areas'][i] *
                                                      (2 * SIGMAS[k])**2))
            similarities.append(similarity)
            of_instance[i].append(similarity)
        assert tally.counts[k] == count
        expected = {
            'PCK@0.05': sum(e < .05 for e in errors) / count,
            'PCK@0.2': sum(e < .2 for e in errors) / count,
            'normalized_error': np.mean(errors),
            'OKS': np.mean(similarities)
        }
        assert measures.keys() == expected.keys()
        for name, value in expected.items():
            assert measures[name][k] == pytest.approx(value, rel=1e-12), name
    np.testing.assert_allclose(scores, [np.mean(s) for s in of_instance])


def test_the_accuracy_that_detectors_judge_by():
    """Of all visible keypoints; those of instances not found are missed."""
    batch = instances()
    batch['found'][::7] = False
    measured, = accuracy(tally_of(batch)[0])
    sizes = (batch['boxes'][:, 2:] - batch['boxes'][:, :2]).max(1)
    errors = np.linalg.norm(batch['truth'] - batch['predicted'], axis=-1)
    hits = (errors < 0.05 * sizes[:, None]) & batch['found'][:, None]
    assert measured.pck == pytest.approx(hits[batch['visible']].mean())


@pytest.mark.parametrize('threshold', [.05, .2])
def test_pck_is_that_of_mmpose(threshold):
    """Its own metric, shown one keypoint at a time."""
    batch = instances()
    pck = tally_of(batch)[0].measures()[f'PCK@{threshold}']
    assert len(set(pck)) > 2
    for k in range(K):
        metric = PCKAccuracy(threshold, prefix='pose')
        for truth, visible, predicted, box in zip(batch['truth'],
                                                  batch['visible'],
                                                  batch['predicted'],
                                                  batch['boxes']):
            metric.process(None, [
                dict(
                    pred_instances=dict(keypoints=predicted[None]),
                    gt_instances=dict(
                        keypoints=truth[None],
                        keypoints_visible=(visible & (np.arange(K) == k)),
                        bboxes=box[None]))
            ])
        expected = metric.evaluate(len(batch['truth']))['pose/PCK']
        assert pck[k] == pytest.approx(expected, abs=1e-6)


def test_oks_of_an_instance_is_that_of_coco():
    batch = instances()
    batch['visible'][:, 0] = True
    _, scores = tally_of(batch)

    def coco(points, visible):
        return np.column_stack([points, 2 * visible]).ravel().tolist()

    for i, score in enumerate(scores):
        evaluation = COCOeval(iouType='keypoints', sigmas=SIGMAS)
        visible = batch['visible'][i]
        evaluation._gts[0, 1] = [
            dict(
                keypoints=coco(batch['truth'][i], visible),
                bbox=[0, 0, 1, 1],
                area=batch['areas'][i])
        ]
        evaluation._dts[0, 1] = [
            dict(keypoints=coco(batch['predicted'][i], np.ones(K)), score=1)
        ]
        assert score == pytest.approx(
            evaluation.computeOks(0, 1)[0, 0], abs=1e-6)


@pytest.mark.parametrize('sigmas', [SIGMAS, None])
def test_shards_merge_into_the_whole(sigmas):
    batch = instances(300)
    batch['found'][::7] = False
    whole, scores = tally_of(batch, sigmas)
    batches, scores_of_batches = tally_of(batch, sigmas, parts=7)
    shards = [
        tally_of({name: array[i::4]
                  for name, array in batch.items()}, sigmas)[0]
        for i in (2, 0, 3, 1)
    ]
    shards = pickle.loads(pickle.dumps(shards))
    total = functools.reduce(operator.add, shards)
    shards[0].merge(shards[1])
    shards[0].merge(shards[2])
    shards[0].merge(shards[3])
    assert ('OKS' in whole.measures()) == (sigmas is not None)
    for other in (batches, total, shards[0]):
        assert_same(whole, other, 1e-12)
        np.testing.assert_array_equal(whole.example_pose(),
                                      other.example_pose())
    np.testing.assert_allclose(scores, scores_of_batches, 1e-12)


def test_a_sum_leaves_its_parts_alone():
    a, _ = tally_of(instances(seed=1))
    b, _ = tally_of(instances(seed=2))
    before = pickle.dumps((a, b))
    assert (a + b).counts.sum() == a.counts.sum() + b.counts.sum()
    assert pickle.dumps((a, b)) == before


def test_the_size_does_not_grow_with_the_samples():
    few, _ = tally_of(instances(200))
    many, _ = tally_of(instances(5000))
    assert len(pickle.dumps(many)) == len(pickle.dumps(few)) < 10000


def test_the_arguments_are_not_touched():
    """P1."""
    batch = instances()
    batch['predicted'][3, 2] = np.nan
    before = copy.deepcopy(batch)
    tally_of(batch)
    for name, array in batch.items():
        np.testing.assert_array_equal(array, before[name])


def test_a_keypoint_that_is_never_visible_has_no_measures():
    batch = instances()
    batch['visible'][:, 1] = False
    tally, scores = tally_of(batch)
    assert tally.counts[1] == 0
    for values in tally.measures().values():
        assert np.isnan(values).tolist() == [k == 1 for k in range(K)]
    assert np.isfinite(scores[batch['visible'].any(axis=1)]).all()


@pytest.mark.parametrize('sigmas', [SIGMAS, None])
@pytest.mark.parametrize('n', [0, 5])
def test_nothing_visible_at_all(sigmas, n):
    batch = instances(n)
    batch['visible'][:] = False
    tally, scores = tally_of(batch, sigmas)
    assert not tally.counts.any()
    assert np.isnan(list(tally.measures().values())).all()
    assert len(scores) == n and np.isnan(scores).all()
    assert np.isnan(tally.example_pose()).all()


def test_one_keypoint():
    batch = instances(num_keypoints=1)
    batch['visible'][:] = True
    tally, scores = tally_of(batch, SIGMAS[:1])
    assert tally.measures()['OKS'] == pytest.approx([scores.mean()])
    assert np.isfinite(tally.example_pose()).tolist() == [[True, True]]


@pytest.mark.parametrize('sigmas', [SIGMAS, None])
@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_a_prediction_that_is_not_finite_is_a_miss(value, sigmas):
    batch = instances(20)
    batch['visible'][:] = True
    clean, _ = tally_of(batch, sigmas)
    batch['predicted'] = batch['truth'].copy()
    batch['predicted'][:10, 2, 0] = value
    tally, scores = tally_of(batch, sigmas)
    measures = tally.measures()
    half = np.where(np.arange(K) == 2, .5, 1)
    np.testing.assert_array_equal(measures.pop('normalized_error'), 0)
    for name, values in measures.items():
        np.testing.assert_array_equal(values, half, name)
    np.testing.assert_array_equal(tally.counts, clean.counts)
    best, missed = (1, -1 / K) if sigmas is not None else (0, 1 / K)
    np.testing.assert_allclose(scores[:10], best + missed)
    np.testing.assert_allclose(scores[10:], best)


@pytest.mark.parametrize('sigmas', [SIGMAS, None])
def test_what_was_not_found_is_missed(sigmas):
    """Its prediction, whatever stands there, is not read."""
    batch = instances(20)
    batch['visible'][:] = True
    batch['found'][::2] = False
    found, _ = tally_of({name: array[1::2]
                         for name, array in batch.items()}, sigmas)
    batch['predicted'][::2] = batch['truth'][::2]
    tally, scores = tally_of(batch, sigmas)
    error = tally.measures().pop('normalized_error')
    np.testing.assert_allclose(error, found.measures()['normalized_error'])
    for name, values in tally.measures().items():
        if name != 'normalized_error':
            np.testing.assert_allclose(values, found.measures()[name] / 2)
    np.testing.assert_array_equal(scores[::2], 0 if sigmas is not None else 1)
    assert (scores[1::2] != scores[0]).all()


@pytest.mark.parametrize('sigmas', [SIGMAS, None])
@pytest.mark.parametrize('box', [[7, 7, 7, 7], [9, 9, 2, 3], [0, 0, np.nan, 9],
                                 [0, 0, np.inf, 9], [-np.inf, 0, -np.inf, 9]])
def test_an_instance_without_a_usable_box_has_an_oks_alone(box, sigmas):
    """As COCO's evaluation, which has its scale from the area."""
    batch = instances(20)
    whole, whole_scores = tally_of(batch, sigmas)
    rest, _ = tally_of({name: a[1:] for name, a in batch.items()}, sigmas)
    batch['boxes'][0] = box
    tally, scores = tally_of(batch, sigmas)
    for name, values in tally.measures().items():
        expected = whole if name == 'OKS' else rest
        np.testing.assert_allclose(values, expected.measures()[name], 1e-12)
    np.testing.assert_array_equal(tally.counts, rest.counts)
    if sigmas is None:
        assert np.isnan(scores).tolist() == [True] + [False] * 19
    else:
        np.testing.assert_array_equal(scores, whole_scores)
        assert tally.mean_oks() == whole.mean_oks()
    np.testing.assert_array_equal(tally.example_pose(), rest.example_pose())


def test_a_box_needs_only_one_side():
    """As in MMPose: all keypoints may lie on one line."""
    batch = instances(20)
    batch['boxes'][:, 2] = batch['boxes'][:, 0]
    tally, scores = tally_of(batch)
    np.testing.assert_array_equal(tally.counts, batch['visible'].sum(axis=0))
    assert np.isfinite(scores).all()


@pytest.mark.parametrize('area', [-1, np.nan, np.inf])
def test_an_instance_without_an_area_has_no_oks_alone(area):
    batch = instances(20)
    # Perfect, so that the mean would show it.
    batch['predicted'][0] = batch['truth'][0]
    rest, _ = tally_of({name: a[1:] for name, a in batch.items()})
    whole, _ = tally_of(batch)
    batch['areas'][0] = area
    tally, scores = tally_of(batch)
    np.testing.assert_allclose(tally.measures()['OKS'], rest.measures()['OKS'])
    for name in ('PCK@0.05', 'PCK@0.2', 'normalized_error'):
        np.testing.assert_array_equal(tally.measures()[name],
                                      whole.measures()[name])
    assert np.isnan(scores).tolist() == [True] + [False] * 19


def test_at_an_area_of_0_every_error_is_too_large():
    """As in COCO's evaluation; only what is exact is right."""
    batch = instances(2)
    batch['visible'][:] = True
    batch['areas'][:] = 0
    batch['predicted'][0] = batch['truth'][0]
    tally, scores = tally_of(batch)
    assert scores.tolist() == [1, 0] and tally.mean_oks() == 0.5


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_a_ground_truth_that_is_not_finite_is_not_visible(value):
    batch = instances(20)
    batch['visible'][:] = True
    batch['truth'][4, 3, 1] = batch['predicted'][4, 3, 1] = value
    tally, scores = tally_of(batch)
    batch['visible'][4, 3] = False
    expected, expected_scores = tally_of(batch)
    assert tally.counts[3] == 19
    assert_same(tally, expected)
    np.testing.assert_array_equal(scores, expected_scores)


def test_at_the_threshold_a_keypoint_is_wrong():
    batch = instances(2, 1)
    batch['visible'][:] = True
    batch['boxes'][:] = 0, 0, 50, 100
    batch['truth'][:] = 0
    batch['predicted'][:] = [[[0, 20]], [[0, 19.99]]]
    assert tally_of(batch, None)[0].measures()['PCK@0.2'] == [.5]


def test_without_sigmas_the_score_is_the_error_over_the_longer_side():
    batch = instances(4, 2)
    batch['visible'][:] = [[1, 1], [1, 0], [1, 1], [0, 0]]
    batch['boxes'][:] = 10, 10, 40, 60
    batch['truth'][:] = 10
    batch['predicted'][:] = batch['truth'] + [[[0, 5], [
        3, 4
    ]], [[0, 10], [9, 9]], [[0, 1e9], [0, 25]], [[0, 1], [0, 1]]]
    scores, costs = KeypointTally(2).add(**batch)
    np.testing.assert_allclose(scores, [.1, .2, .75, np.nan])
    np.testing.assert_allclose(costs, [.2, .2, 1.5, np.nan])


def test_what_an_instance_costs_is_what_its_keypoints_lack():
    batch = instances(20)
    batch['found'][3] = False
    scores, costs = KeypointTally(K, SIGMAS).add(**batch)
    visible = batch['visible'].sum(axis=1)
    np.testing.assert_allclose(costs, visible * (1 - scores))
    assert costs[3] == visible[3]


def test_sums_can_be_those_of_a_larger_set_of_keypoints():
    """Of several data sets, of which each has some of them."""
    batch = instances()
    few, whole = KeypointTally(3, SIGMAS[:3]), tally_of(batch)[0]
    few.add(
        **{
            name: array[:, [4, 0, 2]]
            if array.ndim > 1 and array.shape[1] == K else array
            for name, array in batch.items()
        })
    total = few.spread([4, 0, 2], K)
    np.testing.assert_array_equal(total.counts > 0,
                                  [True, False, True, False, True, False])
    for name, values in few.measures().items():
        np.testing.assert_array_equal(total.measures()[name][[4, 0, 2]],
                                      values)
    total.merge(whole)
    np.testing.assert_array_equal(total.counts[[1, 3, 5]],
                                  whole.counts[[1, 3, 5]])
    np.testing.assert_array_equal(total.counts[[0, 2, 4]],
                                  2 * whole.counts[[0, 2, 4]])
    pose = few.spread([4, 0, 2], K).example_pose()
    np.testing.assert_array_equal(pose[[4, 0, 2]], few.example_pose())
    assert np.isnan(pose[[1, 3, 5]]).all()


def test_sigmas_that_cannot_be_used_are_none():
    assert usable_sigmas(SIGMAS.tolist(), K).tolist() == SIGMAS.tolist()
    bad = [None, [], SIGMAS[:-1], SIGMAS[None], SIGMAS * 0, -SIGMAS]
    bad += [np.where(np.arange(K) == 1, x, SIGMAS) for x in (np.nan, np.inf)]
    for sigmas in bad:
        assert usable_sigmas(sigmas, K) is None
        assert 'OKS' not in KeypointTally(K, sigmas).measures()


def test_similarity_falls_with_the_distance_in_units_of_scale_and_sigma():
    """At d = s k it is exp(-1/2), by definition of the standard deviation."""
    similarity = keypoint_similarity(
        np.array([[0, 6.], [12, 1e9]])**2, np.array([[900], [3600]]),
        np.array([.05, .1]))
    np.testing.assert_allclose(similarity[:, 0], [1, math.exp(-2)])
    np.testing.assert_allclose(similarity[:, 1], [math.exp(-.5), 0])


def test_the_example_is_the_largest_of_the_fullest_poses():
    batch = instances()
    batch['visible'][:] = True
    batch['visible'][10:, 3] = False
    sizes = (batch['boxes'][:, 2:] - batch['boxes'][:, :2]).max(1)
    tally, _ = tally_of(batch, parts=7)
    np.testing.assert_array_equal(tally.example_pose(),
                                  batch['truth'][sizes[:10].argmax()])


def test_what_is_not_visible_in_the_example_is_not_a_number():
    batch = instances(5)
    batch['visible'][:] = [True] * 4 + [False, True]
    batch['truth'][:, 4] = 1e30
    pose = tally_of(batch)[0].example_pose()
    assert np.isnan(pose).all(1).tolist() == [False] * 4 + [True, False]
