# Copyright (c) OpenMMLab. All rights reserved.
"""A validation beside that of another run."""
import os
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from noisy_poses import (NoisyModel, metainfo, person, pictures, runner_cfg,
                         warnings_of)
from run_logs import read_run
from scipy.stats import bootstrap
from xtcocotools.coco import COCO
from xtcocotools.cocoeval import COCOeval

from mmpose.engine.hooks import EnhancedTensorBoardHook
from mmpose.engine.monitors.core.other_runs.compared_run import \
    find_saved_instances
from mmpose.engine.monitors.poses.accuracy.data_set_accuracy import \
    DataSetAccuracy
from mmpose.engine.monitors.poses.accuracy.instances import InstanceBatch
from mmpose.engine.monitors.poses.diagnosis.comparison.changed_instances import (  # noqa: E501
    changed_counts, changed_instances)
from mmpose.engine.monitors.poses.diagnosis.comparison.comparison import \
    _Compared
from mmpose.engine.monitors.poses.diagnosis.comparison.differences import \
    differences
from mmpose.engine.monitors.poses.diagnosis.comparison.pairing import pair
from mmpose.engine.monitors.poses.diagnosis.comparison.saved_instances import (
    SavedInstances, load, save, saved_part)
from mmpose.evaluation.functional import keypoint_pck_accuracy
from mmpose.utils import register_all_modules

register_all_modules()
NUMBER, K = 12, 17
META = metainfo()


def other_prediction(index):
    """What another model predicts: sometimes better, sometimes worse."""
    rng = np.random.default_rng(1000 + index)
    known = person(index)
    noise = rng.normal(0, rng.choice([0.5, 3, 9]), known.truth.shape)
    return (known.truth + noise).astype(np.float32)


def predict_otherwise(self, inputs, data_samples=None, mode='tensor'):
    if mode == 'loss':
        return stock(self, inputs, data_samples, mode)
    for sample in data_samples:
        keypoints = other_prediction(sample.id)[None]
        sample.pred_instances = InstanceData(
            keypoints=keypoints,
            keypoint_scores=np.full(keypoints.shape[:2], .5, np.float32))
    return data_samples


stock = NoisyModel.forward


def validate(folder, hook=None, dataset=None, **kwargs):
    cfg = runner_cfg(
        folder,
        dict(
            log_keypoints=True,
            log_error_kinds=True,
            log_val_images=False,
            hard_samples=0,
            **(hook or {})), dict(num_samples=NUMBER, **(dataset or {})),
        **kwargs)
    # A config cannot be dumped with keys that are numbers.
    runner = Runner(**cfg) if dataset else Runner.from_cfg(cfg)
    runner.val()
    return folder


@pytest.fixture(scope='module')
def earlier(tmp_path_factory):
    return validate(tmp_path_factory.mktemp('earlier'))


@pytest.fixture(scope='module')
def compared(earlier, tmp_path_factory):
    """A validation with other predictions, and the other run's directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NoisyModel, 'forward', predict_otherwise)
        return validate(
            tmp_path_factory.mktemp('compared'),
            dict(compare=str(earlier)),
            optim_wrapper=dict(
                optimizer=dict(type='SGD', lr=1e-4, momentum=.5)))


def scalars(events, prefix='compare/'):
    return {
        tag: events.Scalars(tag)[-1].value
        for tag in events.Tags()['scalars'] if tag.startswith(prefix)
    }


def coco_oks(predict, only=None):
    """The OKS of each instance, by COCOeval.

    Args:
        predict (Callable): Returns the prediction by the index.
        only (int, optional): The only keypoint that counts.
    """
    annotations, results = [], []
    for i in range(NUMBER):
        known = person(i)
        visible = known.visible.copy()
        if only is not None:
            visible &= np.arange(K) == only
        rows = np.column_stack([known.truth, 2 * visible])
        common = dict(image_id=i, category_id=1)
        annotations.append(
            dict(
                common,
                id=i + 1,
                iscrowd=0,
                area=known.area,
                bbox=[0, 0, 1, 1],
                num_keypoints=int(visible.sum()),
                keypoints=rows.ravel().tolist()))
        rows = np.column_stack([predict(i), np.ones(K)])
        results.append(dict(common, score=1., keypoints=rows.ravel().tolist()))
    coco = COCO()
    coco.dataset = dict(
        images=[dict(id=i) for i in range(NUMBER)],
        annotations=annotations,
        categories=[dict(id=1)])
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes(results), 'keypoints',
                          META['sigmas'])
    evaluation.evaluate()
    return np.array([
        np.ravel(evaluation.ious[i, 1])[0]
        if annotations[i]['num_keypoints'] else np.nan for i in range(NUMBER)
    ])


def test_differences_are_those_of_cocoeval(compared):
    assert not warnings_of(compared)
    found = scalars(read_run(compared))
    before = coco_oks(lambda i: person(i).predicted)
    now = coco_oks(other_prediction)
    assert found['compare/OKS'] == pytest.approx(
        (now - before).mean(), abs=1e-6)
    for k in range(K):
        change = coco_oks(other_prediction, k) - coco_oks(
            lambda i: person(i).predicted, k)
        assert found[f'compare/KS/joint_{k}'] == pytest.approx(
            np.nanmean(change), abs=1e-6)


def test_its_interval_is_that_of_scipy(compared):
    found = scalars(read_run(compared))
    change = coco_oks(other_prediction) - coco_oks(
        lambda i: person(i).predicted)
    low, high = bootstrap((change, ),
                          np.mean,
                          n_resamples=20000,
                          method='percentile',
                          random_state=1).confidence_interval
    assert [found['compare/low'],
            found['compare/high']] == pytest.approx([low, high],
                                                    abs=.05 * (high - low))


def test_what_changed_most_is_drawn(compared):
    change = coco_oks(other_prediction) - coco_oks(
        lambda i: person(i).predicted)
    events = read_run(compared)
    for tag, number in (('better', (change > .02).sum()),
                        ('worse', (change < -.02).sum())):
        (drawn, ), = [pictures(events, f'compare/{tag}').values()]
        assert len(drawn) == min(4, number) > 1
    text, = events.Tensors('compare/summary/text_summary')
    text = text.tensor_proto.string_val[0].decode()
    assert f'{(change > .1).sum()} instances became better' in text
    assert f'{(change < -.1).sum()} worse' in text
    assert f'**{NUMBER}' not in text and f', {NUMBER} instances.' in text
    assert '| joint_3 |' in text and '| **OKS** |' in text
    (figure, ), = pictures(events, 'compare/by_keypoint').values()
    assert figure.shape[1] == 900


def test_the_settings_that_differ_are_a_table(compared):
    text, = read_run(compared).Tensors('compare/config/text_summary')
    rows = text.tensor_proto.string_val[0].decode().split('\n')[2:]
    names = [row.split(' | ')[0].strip('| ') for row in rows]
    assert 'optim_wrapper.optimizer.momentum' in names
    assert 'optim_wrapper.optimizer.lr' not in names
    assert rows[names.index('optim_wrapper.optimizer.momentum')].endswith(
        '|  | `0.5` |')


def test_with_itself_nothing_differs(earlier, tmp_path):
    validate(tmp_path, dict(compare=str(earlier)))
    events = read_run(tmp_path)
    assert set(scalars(events).values()) == {0.}
    assert len(scalars(events)) == K + 3
    assert not pictures(events, 'compare/better')


def test_without_another_run_there_is_none_of_it(earlier):
    tags = read_run(earlier).Tags()
    assert not [t for t in tags['scalars'] + tags['tensors'] if 'compare' in t]


def test_without_sigmas_it_is_the_pck_of_mmpose(tmp_path, monkeypatch):
    data = dict(meta=metainfo(sigmas=None))
    validate(tmp_path / 'a', dataset=data)
    monkeypatch.setattr(NoisyModel, 'forward', predict_otherwise)
    validate(tmp_path / 'b', dict(compare=str(tmp_path / 'a')), data)
    known = list(map(person, range(NUMBER)))
    truth, visible, box = (
        np.stack([getattr(one, name) for one in known])
        for name in ('truth', 'visible', 'box'))
    sides = (box[:, 2:] - box[:, :2]).max(1)[:, None].repeat(2, 1)
    pck = [
        keypoint_pck_accuracy(predicted, truth, visible, .05, sides)[0]
        for predicted in (np.stack([one.predicted for one in known]),
                          np.stack(list(map(other_prediction, range(NUMBER)))))
    ]
    found = scalars(read_run(tmp_path / 'b'))
    assert 'compare/PCK@0.05' in found
    for k, change in enumerate(pck[1] - pck[0]):
        assert found[f'compare/PCK@0.05/joint_{k}'] == pytest.approx(
            change, abs=1e-6)


# Without a run


def part_of(number=40, per_image=3, seed=0, ids=True, wrong=None, name=None):
    """What a validation knows of some instances."""
    rng = np.random.default_rng(7)
    truth = np.float32(rng.uniform(0, 300, (number, K, 2)))
    visible = rng.random((number, K)) < .8
    visible[:, 5] = np.arange(number) == 0
    rng = np.random.default_rng(seed)
    batch = InstanceBatch(
        np.arange(number) // per_image,
        np.arange(number) + 500 if ids else np.full(number, -1), truth,
        visible, np.zeros_like(visible), np.full(number, 5000.),
        np.float32([[0, 0, 300, 300]] * number),
        np.float32(truth + rng.normal(0, 12, truth.shape)),
        rng.random(number) < .9, np.ones(number, np.float32),
        np.ones((number, K), np.float32))
    if wrong:
        batch = wrong(batch)
    part = DataSetAccuracy(name, batch.truth.shape[1],
                           metainfo(batch.truth.shape[1]),
                           metainfo(batch.truth.shape[1])['sigmas'])
    part.instances.add(batch)
    return part


def saved(*parts):
    return SavedInstances('other', 'epoch 1', list(map(saved_part, parts)))


def test_where_nothing_can_be_compared_nothing_is_drawn():
    """Defect: a figure without numbers raised."""
    part = part_of(wrong=lambda b: b._replace(areas=np.full(40, np.nan)))
    found = _Compared(saved(part), SimpleNamespace(parts=[part], when='now'))
    assert not list(found.figure())
    assert [value.tag for value in found.scalars()] == ['compare/summary']


def test_images_are_resampled_and_not_instances():
    """By SciPy, with the sums of each image; a rare keypoint may be absent."""
    now = part_of()
    pairs = pair([now], saved(part_of(seed=1)))
    state = np.random.get_state()
    found = differences(pairs)
    assert np.array_equal(np.random.get_state()[1], state[1])
    again = differences(pairs)
    assert np.array_equal(found.low, again.low, equal_nan=True)
    change = np.diff(pairs[0].values, axis=0)[0]
    images = pairs[0].images
    for k in (0, 4):
        sums = np.bincount(images, change[:, k])
        counts = np.bincount(images, pairs[0].counted[:, k])
        low, high = bootstrap(
            (np.arange(len(sums)), ),
            lambda i, axis: sums[i].sum(axis) / counts[i].sum(axis),
            vectorized=True,
            n_resamples=20000,
            method='percentile',
            random_state=1).confidence_interval
        assert [found.low[k],
                found.high[k]] == pytest.approx([low, high],
                                                abs=.05 * (high - low))
    assert found.counts[5] == 1
    assert found.low[5] == found.high[5] == pytest.approx(found.change[5])


def test_it_is_paired_by_ids_or_by_the_ground_truth():
    order = np.random.default_rng(0).permutation(40)[:30]
    for ids in (True, False):
        now = part_of(ids=ids)
        other = part_of(seed=1, ids=ids, wrong=lambda batch: batch.take(order))
        found, = pair([now], saved(other))
        assert found.missing == 10 and found.changed == 0
        assert found.rows.tolist() == sorted(order)
        theirs = part_of(seed=1).instances.batch()
        assert np.array_equal(found.earlier.predicted,
                              theirs.predicted[found.rows])
        assert np.array_equal(found.earlier.found, theirs.found[found.rows])


def test_a_corrected_label_counts_as_it_is_now():
    now = part_of()

    def uncorrected(batch):
        batch.truth[3] += 40
        return batch

    found, = pair([now], saved(part_of(seed=1, wrong=uncorrected)))
    same, = pair([now], saved(part_of(seed=1)))
    assert found.changed == 1
    assert np.array_equal(found.values[1], same.values[1])


def test_each_data_set_has_its_own():
    now = [part_of(name='a'), part_of(20, seed=2, name='b')]
    then = saved(part_of(20, seed=3, name='b'), part_of(seed=4, name='c'))
    found, = pair(now, then)
    assert found.part is now[1]
    then = saved(part_of(20, seed=3, name='b'), part_of(seed=1, name='a'))
    both = differences(pair(now, then))
    alone = differences(pair(now[:1], then))
    assert both.counts[0] > alone.counts[0]
    assert len(both.names) == K + 1


def fewer_keypoints(batch):
    return InstanceBatch(
        *(values[:, :5] if values.ndim > 1 and values.shape[1] == K else values
          for values in batch))


@pytest.mark.parametrize('wrong, message', [
    (fewer_keypoints, r'has 17 keypoints \(joint_0, .*and 5 keypoints .*only '
     'the same keypoints can be compared'),
    (lambda batch: batch._replace(ids=batch.ids + 1000),
     '40 instances here and 40 there, and none in common; only validations on '
     'the same data'),
    (lambda batch: batch._replace(truth=batch.truth + 9),
     '40 annotations with the same ids as there, but 40 have another ground'),
])
def test_other_data_is_an_error(wrong, message):
    with pytest.raises(ValueError, match=message):
        pair([part_of()], saved(part_of(wrong=wrong)))


def test_a_data_set_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match='b was not validated there'):
        pair([part_of(name='b')], saved(part_of(name='a')))


def test_it_costs_a_warning_in_a_training(earlier, tmp_path):
    """And the rest is there; P2."""
    validate(
        tmp_path, dict(compare=str(earlier)),
        dict(
            meta=metainfo(keypoint_id2name={i: f'other_{i}'
                                            for i in range(K)})))
    warning, = warnings_of(tmp_path)
    assert 'cannot compare with earlier' in warning
    assert '17 keypoints (other_0, other_1, other_2, ...) here' in warning
    tags = read_run(tmp_path).Tags()['scalars']
    assert 'keypoints/OKS/other_0' in tags
    assert not [tag for tag in tags if tag.startswith('compare/')]


def test_it_needs_the_accuracy_by_keypoint(earlier):
    """Defect: it was left out without a word."""
    with pytest.raises(ValueError, match='needs log_keypoints=True'):
        EnhancedTensorBoardHook(compare=str(earlier), log_keypoints=False)


def test_what_is_no_run_is_refused(tmp_path):
    (tmp_path / 'a.pth').touch()
    (tmp_path / 'instances.npz').write_bytes(b'PK no archive')
    (tmp_path / 'empty').mkdir()
    for run, message in (
        ('nowhere', 'must be the directory of a run or its instances.npz, but '
         "there is no 'nowhere'"),
        (str(tmp_path / 'a.pth'), 'a checkpoint is to be tested first'),
        (str(tmp_path / 'empty'), 'there is none in .*empty'),
        (str(tmp_path), 'is not what a validation of this version has saved'),
    ):
        with pytest.raises(ValueError, match=message):
            EnhancedTensorBoardHook(compare=run)
    with pytest.raises(TypeError, match='compare must be .* but got 3'):
        EnhancedTensorBoardHook(compare=3)


def test_the_file_is_small_and_whole(tmp_path):
    """As many instances as in COCO's validation."""
    rng = np.random.default_rng(0)
    truth = np.float32(rng.uniform(0, 640, (6352, K, 2)))
    part = part_of(1)
    part.instances._batches = []
    part.instances.add(
        InstanceBatch(
            np.arange(6352) // 3, np.sort(rng.permutation(2000000)[:6352]),
            truth, np.ones(truth.shape[:2], bool),
            np.zeros(truth.shape[:2], bool), np.ones(6352),
            np.zeros((6352, 4), np.float32),
            np.float32(truth + rng.normal(0, 9, truth.shape)),
            rng.random(6352) < .9, np.ones(6352, np.float32),
            np.float32(rng.beta(5, 1, truth.shape[:2]))))
    path = str(tmp_path / 'instances.npz')
    save(path, 'epoch 3', [saved_part(part)], {'a.b': 'c'})
    assert os.path.getsize(path) < 1e6
    assert os.listdir(str(tmp_path)) == ['instances.npz']
    found = load(path)
    assert found.when == 'epoch 3' and found.parts[0].keypoints == part.names
    for one, other in zip(found.parts[0][2:], saved_part(part)[2:]):
        assert one.dtype == other.dtype and np.array_equal(one, other)
    same = differences(pair([part], found))
    assert not same.change.any() and not same.low.any()


def test_of_very_many_the_same_are_saved(monkeypatch):
    from mmpose.engine.monitors.poses.diagnosis.comparison import \
        saved_instances
    monkeypatch.setattr(saved_instances, '_MAX_KEYPOINTS', 10 * K)
    one, other = saved_part(part_of()), saved_part(part_of(seed=1))
    assert len(one.ids) == 10
    assert np.array_equal(one.ids, other.ids)


def test_those_that_changed_most_are_of_different_images():
    now = part_of()
    pairs = pair([now], saved(part_of(seed=1)))
    scores = pairs[0].scores()
    change = scores[1] - scores[0]
    for sign in (1, -1):
        found = changed_instances(pairs, sign)
        assert len({int(pairs[0].images[it.row]) for it in found}) == 4
        assert found[0].row == (sign * change).argmax()
        assert [it.change for it in found] == sorted(
            (it.change for it in found), key=lambda c: -sign * c)
    better, worse, neither = changed_counts(pairs)
    assert (better, worse) == ((change > .1).sum(), (change < -.1).sum())
    assert better + worse + neither == 40


def test_a_run_of_the_same_name_is_the_newest(tmp_path):
    for i, name in enumerate('ba'):
        folder = tmp_path / name / 'vis_data'
        folder.mkdir(parents=True)
        save(str(folder / 'instances.npz'), f'epoch {i}', [], {})
        os.utime(str(folder / 'instances.npz'), (i, i))
    path = find_saved_instances(str(tmp_path))
    assert load(path).when == 'epoch 1'
    assert load(path).run.endswith('/a')
    assert find_saved_instances(path) == path
