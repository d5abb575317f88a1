# Copyright (c) OpenMMLab. All rights reserved.
"""Why keypoints are wrong, as Ronchi and Perona define it (ICCV 2017)."""
import json
import pickle

import numpy as np
import pytest
import torch
from evaluated_poses import IMAGES, annotations, known_dataset
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from noisy_poses import (HEIGHT, WIDTH, NoisyModel, metainfo, pictures,
                         runner_cfg, warnings_of)
from planted_errors import (COCO, apart, data_set_meta, instances_of, names_of,
                            planted, tally_of)
from run_logs import read_run
from test_evaluators import counted, validate

from mmpose.engine.monitors.poses.accuracy.data_set_accuracy import \
    DataSetAccuracy
from mmpose.engine.monitors.poses.accuracy.hard_samples import HardSample
from mmpose.engine.monitors.poses.diagnosis.error_kinds import (
    ErrorKinds, mirrored_keypoints)
from mmpose.engine.monitors.poses.diagnosis.error_summary import (ErrorSummary,
                                                                  kinds_of)
from mmpose.engine.monitors.poses.pose_samples import PoseSample
from mmpose.registry import TRANSFORMS
from mmpose.structures import PoseDataSample
from mmpose.utils import register_all_modules

register_all_modules()
MIRRORED = np.array(COCO['flip_indices'])
KINDS = ('good', 'jitter', 'inversion', 'swap', 'miss', 'not_found')

# An independent computation, one keypoint after the other


def by_loops(people, sigmas, mirrored):
    """Kinds of people: (image, truth, visible, area, predicted or None).

    Returns:
        tuple: How many there are by kind and keypoint; and how much higher
        the mean OKS is with all of a kind corrected.
    """

    def near(point, person, k, place):
        _, truth, visible, area, _ = person
        if not visible[place]:
            return -1
        square = sum(
            (float(a) - float(b))**2 for a, b in zip(point, truth[place]))
        return np.exp(-square / (2 * (2 * sigmas[k])**2 *
                                 (area + np.spacing(1))))

    counts = {kind: np.zeros(len(sigmas), int) for kind in KINDS}
    scores = {kind: [] for kind in (None, *KINDS)}
    found = []
    for me in people:
        image, _, visible, _, predicted = me
        mine = {kind: [] for kind in scores}
        for k in np.flatnonzero(visible):
            if predicted is None:
                counts['not_found'][k] += 1
                for values in mine.values():
                    values.append(0.)
                continue
            places = [(near(predicted[k], me, k, k), 'own')]
            if mirrored[k] != k:
                places.append((near(predicted[k], me, k,
                                    mirrored[k]), 'inversion'))
            for other in people:
                if other is not me and other[0] == image:
                    places += [(near(predicted[k], other, k, place), 'swap')
                               for place in {k, mirrored[k]}]
            own = places[0][0]
            best, where = max(places, key=lambda place: place[0])
            if best < 0.5:
                kind, better = 'miss', 0.5
            elif where == 'own':
                kind = 'good' if best > 0.85 else 'jitter'
                better = max(own, 0.85)
            else:
                kind, better = where, best
            counts[kind][k] += 1
            for corrected, values in mine.items():
                values.append(better if corrected == kind else own)
        if visible.any():
            for kind, values in mine.items():
                scores[kind].append(np.mean(values))
            if predicted is not None:
                found.append(np.mean(mine[None]))
    scores['not_found'] = [
        score if predicted is not None else np.mean(found or [0])
        for (score, (*_, predicted)) in zip(
            scores[None], [person for person in people if person[2].any()])
    ]
    mean = np.mean(scores[None])
    return counts, {kind: np.mean(scores[kind]) - mean for kind in KINDS[1:]}


def crowd(seed, number, spread=60):
    """People in groups, whose predictions have errors of all kinds."""
    rng = np.random.default_rng(seed)
    people = []
    for i in range(number):
        truth = rng.uniform(0, spread, (17, 2))
        people.append([
            i // 3 if i % 7 else 1000 + i, truth,
            rng.random(17) < 0.8,
            rng.uniform(200, 900), None
        ])
    for i, person in enumerate(people):
        if i % 9 == 4:
            continue  # Not found.
        where = rng.permutation(17)
        other = people[max(i - 1, 0)][1]
        predicted = np.array(person[1])
        some, more, most = np.array_split(where, 6)[:3]
        predicted[some] = other[some]
        predicted[more] = person[1][MIRRORED[more]]
        predicted[most] += 100
        person[4] = predicted + rng.normal(0, rng.choice([.5, 2]),
                                           predicted.shape)
    people[2][2][:] = False
    return people


def assert_is_by_hand(results, people, sigmas, mirrored):
    counts, gains = by_loops(people, sigmas, mirrored)
    for kind, of_kind in zip(KINDS, results.counts):
        assert of_kind.tolist() == counts[kind].tolist(), kind
    assert results.gains[0] == 0
    assert results.gains[1:] / results.instances == pytest.approx(
        [gains[kind] for kind in KINDS[1:]], abs=1e-5)
    return counts


@pytest.mark.parametrize('seed', range(4))
def test_the_kinds_are_those_computed_by_hand(seed):
    people = crowd(seed, 40)
    results = tally_of(people, COCO['sigmas'], MIRRORED).results()
    counts = assert_is_by_hand(results, people, COCO['sigmas'], MIRRORED)
    assert all(of_kind.sum() > 3 for of_kind in counts.values())


def test_shards_merge_into_the_whole():
    """Also where the instances of an image are not on the same rank."""
    people = crowd(0, 60)
    whole = tally_of(people, COCO['sigmas'], MIRRORED).results()
    shards = [instances_of(people[rank::2]) for rank in range(2)]
    total, other = pickle.loads(pickle.dumps(shards))
    total.merge(other)

    def results(instances):
        return ErrorKinds(instances.batch(), np.array(COCO['sigmas']),
                          MIRRORED).results()

    for mine, its in zip(results(total), whole):
        assert mine == pytest.approx(its, rel=1e-12)
    assert (results(total).counts != results(shards[0]).counts).any()


def test_known_fractions_are_read_back_by_keypoint():
    people = apart(50, 17)
    kinds = planted(people, COCO['sigmas'], MIRRORED)
    results = tally_of(people, COCO['sigmas'], MIRRORED).results()
    assert results.counts.tolist() == [(kinds == kind).sum(0).tolist()
                                       for kind in range(6)]
    assert (results.counts[:5, 1:] > 0).all()
    counts = assert_is_by_hand(results, people, COCO['sigmas'], MIRRORED)
    # Of an inversion and of a swap, in its own place it is all right.
    assert counts['inversion'].sum() > 100


def test_each_instance_is_told_for_its_caption():
    people = apart(8, 17)
    kinds = planted(people, COCO['sigmas'], MIRRORED)
    part = DataSetAccuracy(None, 17, COCO, np.array(COCO['sigmas']))
    part.instances.merge(instances_of(people))

    def told(image, person):
        sample = PoseSample(
            None,
            np.float32(people[person][1])[None],
            *5 * [None],
            img_id=image)
        return kinds_of(HardSample(0., 0., 'OKS', sample, 0, None), [part])

    assert told(people[5][0],
                5) == [KINDS[k] if k >= 0 else None for k in kinds[5]]
    assert told(77, 5) is None
    assert told(people[5][0], 0) is None


def test_what_is_no_number_and_who_has_no_area():
    people = apart(4, 17)
    for person in people:
        person[4] = person[1] + 0.
        person[2][:] = True
    people[0][4][:] = np.nan
    people[1][3] = np.nan
    people[2][1] = np.full((17, 2), np.inf)
    results = tally_of(people, COCO['sigmas'], None).results()
    assert results.counts.sum(1).tolist() == [17, 0, 0, 0, 17, 0]
    assert results.instances == 2


def test_an_instance_takes_few_bytes():
    """P6: COCO's validation stays below 5 MB."""
    sizes = [
        len(pickle.dumps(instances_of(apart(n, 17), batch=32)))
        for n in (320, 640)
    ]
    assert (sizes[1] - sizes[0]) / 320 * 6352 < 3e6


# Which keypoints are mirrored


@pytest.mark.parametrize('name',
                         ['coco', 'crowdpose', 'mpii', 'coco_wholebody'])
def test_names_and_flip_indices_agree(name):
    meta = data_set_meta(name)
    mirrored = mirrored_keypoints(names_of(meta), meta)
    assert mirrored.tolist() == list(meta['flip_indices'])


def test_names_are_believed_before_flip_indices():
    """Else a missing swap would hide the inversions that it makes."""
    names = names_of(COCO)
    wrong = dict(COCO, flip_indices=list(range(17)))
    mirrored = mirrored_keypoints(names, wrong)
    assert mirrored.tolist() == list(COCO['flip_indices'])
    assert mirrored_keypoints(['a', 'b'],
                              dict(flip_indices=[1, 0])).tolist() == [1, 0]
    assert mirrored_keypoints(['a', 'b'], {}) is None
    assert mirrored_keypoints(['L_Eye', 'R_Eye'], {}).tolist() == [1, 0]


# Real runs


@TRANSFORMS.register_module(force=True)
class PackPlanted:
    """Packs a sample with the prediction that a file has for its id."""

    def __init__(self, predictions):
        with open(predictions) as file:
            self.predictions = json.load(file)

    def __call__(self, results):
        names = ('id', 'img_id', 'img_path', 'raw_ann_info', 'crowd_index')
        predicted = np.float32(self.predictions[str(results['id'])])[None]
        sample = PoseDataSample(
            metainfo=dict(
                {name: results[name]
                 for name in names if name in results},
                ori_shape=(HEIGHT, WIDTH),
                prediction=predicted,
                prediction_scores=np.ones(predicted.shape[:2], np.float32)))
        sample.gt_instances = InstanceData(
            bboxes=results['bbox'],
            keypoints=results['keypoints'],
            keypoints_visible=results['keypoints_visible'])
        return dict(inputs=torch.zeros(3, 2, 2), data_samples=sample)


def coco_form(people, path):
    """Write annotations as COCO and CrowdPose have them."""
    path.write_text(
        json.dumps(
            dict(
                images=[
                    dict(
                        id=i,
                        file_name=f'{i}.png',
                        width=4000,
                        height=4000,
                        crowdIndex=0.5) for i in {p[0]
                                                  for p in people}
                ],
                categories=[dict(id=1, name='person')],
                annotations=[
                    dict(
                        id=i,
                        image_id=image,
                        category_id=1,
                        iscrowd=0,
                        bbox=[10, 10, 100, 100],
                        area=area,
                        num_keypoints=int(visible.sum()),
                        keypoints=np.column_stack([truth, 2 * visible
                                                   ]).ravel().tolist())
                    for i, (image, truth, visible, area,
                            _) in enumerate(people)
                ])))


def mpii_form(people, path):
    path.write_text(
        json.dumps([
            dict(
                image=f'{image:09}.jpg',
                center=[60., 60.],
                scale=0.5,
                joints=truth.tolist(),
                joints_vis=visible.astype(int).tolist())
            for image, truth, visible, _, _ in people
        ]))


@pytest.mark.parametrize('kind, name, form', [
    ('CocoDataset', 'coco', coco_form),
    ('CrowdPoseDataset', 'crowdpose', coco_form),
    ('MpiiDataset', 'mpii', mpii_form),
])
def test_known_fractions_of_a_validation(tmp_path, kind, name, form):
    """P8: the others of an image are in other samples."""
    meta = data_set_meta(name)
    names, sigmas = names_of(meta), meta['sigmas']
    people = apart(30, len(names), area=0.53 * 100**2)
    for person in people:
        person[1] *= 10
    kinds = planted(people, sigmas, meta['flip_indices'])
    form(people, tmp_path / 'a.json')
    (tmp_path / 'p.json').write_text(
        json.dumps({i: p[4].tolist()
                    for i, p in enumerate(people)}))
    dataset = dict(
        type=kind,
        ann_file=str(tmp_path / 'a.json'),
        test_mode=True,
        pipeline=[
            dict(type='PackPlanted', predictions=str(tmp_path / 'p.json'))
        ])
    events = validate(tmp_path / 'run', dataset,
                      dict(type='PCKAccuracy', thr=0.2))
    known = kinds >= 0

    def scalar(tag):
        event, = events.Scalars(tag)
        return event.value

    for i, of_kind in enumerate(KINDS):
        assert scalar(f'errors/{of_kind}') == pytest.approx(
            (kinds == i).sum() / known.sum())
    for i in range(1, 5):
        of_kind = {
            tag.split('/')[-1]: scalar(tag)
            for tag in events.Tags()['scalars']
            if tag.startswith(f'errors/{KINDS[i]}/')
        }
        assert of_kind == pytest.approx({
            keypoint: (kinds[:, k] == i).sum() / known[:, k].sum()
            for k, keypoint in enumerate(names)
        })
    _, gains = by_loops(people, sigmas, meta['flip_indices'])
    for of_kind in KINDS[1:]:
        assert scalar(f'errors/oks_lost/{of_kind}') == pytest.approx(
            gains[of_kind], abs=1e-5)
    # Ground truth boxes have no false positives.
    assert 'errors/false_positives' not in events.Tags()['scalars']
    assert len(pictures(events, 'errors/by_keypoint')[0]) == 1
    assert not warnings_of(tmp_path / 'run')


@pytest.mark.parametrize('bottom_up', [False, True])
def test_what_is_matched_is_what_cocos_evaluation_matches(
        tmp_path, evaluations, bottom_up):
    """P8: with boxes of a detector, and of all instances at once."""
    people = annotations()
    # As in COCO, crowds have no keypoints.
    people[1]['keypoints'], people[1]['num_keypoints'] = [0] * 51, 0
    people[1]['bbox'] = [0, 0, 30, 30]
    ann_file, dataset = known_dataset(tmp_path, people, bottom_up)
    evaluator = dict(type='CocoMetric', ann_file=ann_file, nms_mode='none')
    events = validate(
        tmp_path / 'run', dataset, evaluator, bottom_up, kpt_thr=0.5)
    evaluation, = evaluations
    found = counted(evaluation)
    assert_is_written(events, [[
        a['image_id'],
        np.reshape(a['keypoints'], (-1, 3))[:, :2],
        np.reshape(a['keypoints'], (-1, 3))[:, 2] > 0, a['area'], predicted
    ] for a, _, predicted in found])
    images = {annotation['image_id'] for annotation, _, _ in found}
    extra = 0
    for image in filter(None, evaluation.evalImgs):
        if image['image_id'] not in images:
            continue
        for id_, match, ignored in zip(image['dtIds'], image['dtMatches'][0],
                                       image['dtIgnore'][0]):
            keypoints = evaluation.cocoDt.anns[id_]['keypoints']
            extra += not ignored and match <= 0 and np.mean(
                keypoints[2::3]) >= 0.5
    event, = events.Scalars('errors/false_positives')
    assert extra > 3 and event.value == pytest.approx(extra / len(images))
    assert len(images) == IMAGES


def assert_is_written(events, people):
    counts, gains = by_loops(people, COCO['sigmas'], COCO['flip_indices'])
    total = sum(of_kind.sum() for of_kind in counts.values())
    for kind in KINDS:
        event, = events.Scalars(f'errors/{kind}')
        assert event.value == pytest.approx(counts[kind].sum() / total)
        if kind != 'good':
            event, = events.Scalars(f'errors/oks_lost/{kind}')
            assert event.value == pytest.approx(gains[kind], abs=1e-5)


@pytest.mark.parametrize('left_out, reason, there', [
    (dict(sigmas=None), 'no sigmas', []),
    (dict(), 'mirrored one', ['errors/swap']),
])
def test_what_cannot_be_measured_is_said_once(tmp_path, left_out, reason,
                                              there):
    cfg = runner_cfg(tmp_path, dict(log_val_images=False),
                     dict(meta=metainfo(**left_out)))
    Runner(**cfg).train()
    path, = tmp_path.glob('*/*.log')
    lines = [line for line in path.read_text().splitlines() if reason in line]
    assert len(lines) == 1 and 'errors/' in lines[0]
    tags = read_run(tmp_path).Tags()['scalars']
    assert [tag for tag in tags if tag == 'errors/swap'] == there
    assert not [tag for tag in tags if 'inversion' in tag]


def test_many_keypoints_are_told_by_part():
    meta = data_set_meta('coco_wholebody')
    part = DataSetAccuracy(None, 133, meta, np.array(meta['sigmas']))
    people = apart(12, 133)
    mirrored = np.array(meta['flip_indices'])
    kinds = planted(people, meta['sigmas'], mirrored)
    results = tally_of(people, meta['sigmas'], mirrored).results()
    summary = ErrorSummary([(part, results)])
    scalars = dict(summary.scalars(True))
    assert {
        tag.split('/')[-1]
        for tag in scalars if tag.startswith('errors/swap/')
    } == {'body', 'feet', 'face', 'left_hand', 'right_hand'}
    assert scalars['errors/miss/face'] == pytest.approx(
        (kinds[:, 23:91] == 4).sum() / (kinds[:, 23:91] >= 0).sum())
    image, = summary.figure('epoch 1')
    assert image.pictures[0].shape[1] == 900


@pytest.mark.parametrize('planted_fault, expected', [
    (None, set()),
    ('mirrored labels', {'left_right_exchanged'}),
    ('wrong swap', {'flip_indices'}),
])
def test_exchanged_sides_are_found_in_a_training(tmp_path, monkeypatch,
                                                 planted_fault, expected):
    """Three validations of a model that is good but for that."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode == 'loss':
            return stock(self, inputs, data_samples, mode)
        for sample in data_samples:
            keypoints = sample.gt_instances.keypoints + 0.1
            if planted_fault == 'mirrored labels':
                keypoints = keypoints[:, MIRRORED]
            sample.pred_instances = InstanceData(
                keypoints=keypoints,
                keypoint_scores=np.ones((1, 17), np.float32))
        return data_samples

    stock = NoisyModel.forward
    monkeypatch.setattr(NoisyModel, 'forward', forward)
    meta = metainfo(
        keypoint_id2name=COCO['keypoint_id2name'],
        sigmas=np.full(17, 0.02),
        flip_indices=MIRRORED.tolist())
    if planted_fault == 'wrong swap':
        meta['flip_indices'] = list(range(17))
    cfg = runner_cfg(
        tmp_path,
        dict(
            log_val_images=False,
            hard_samples=0,
            log_train_images=False,
            grad_norm_interval=0),
        dict(num_samples=60, meta=meta),
        train_cfg=dict(by_epoch=True, max_epochs=3))
    Runner(**cfg).train()
    events = read_run(tmp_path)
    found = {
        tag.split('/')[-1]
        for tag in events.Tags()['scalars'] if 'health/finding/' in tag
    }
    assert found == expected
    inversions = [e.value for e in events.Scalars('errors/inversion')]
    assert (inversions[-1] > 0.5) == (planted_fault == 'mirrored labels')
