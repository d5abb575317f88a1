# Copyright (c) OpenMMLab. All rights reserved.
"""Whether the scores of keypoints tell right from wrong."""
import numpy as np
import pytest
from evaluated_poses import annotations, known_dataset
from noisy_poses import pictures
from scipy.stats import ks_2samp, mannwhitneyu
from test_evaluators import counted, longer_side, validate

from mmpose.engine.monitors.core.measurements import Remark
from mmpose.engine.monitors.poses.diagnosis.calibration import Calibration
from mmpose.engine.monitors.writers.record import Scalar

rng = np.random.default_rng(0)
CASES = dict(
    informative=(rng.random(3000), rng.random(3000)),
    tied=(rng.integers(0, 6, 500) / 5, rng.random(500)),
    above_one=(rng.gamma(1, 1, 800), rng.random(800)),
    reversed=(rng.random(400), 1 - rng.random(400)),
)


def case(name):
    scores, luck = CASES[name]
    hits = luck < scores / scores.max()
    return scores, ~hits if name == 'reversed' else hits


def ece_by_hand(scores, hits, number=15):
    total = 0.
    clipped = np.minimum(scores, 1)
    for i in range(number):
        inside = (clipped >= i / number) & ((clipped < (i + 1) / number) |
                                            (i == number - 1))
        if inside.any():
            total += inside.mean() * abs(hits[inside].mean() -
                                         clipped[inside].mean())
    return total


@pytest.mark.parametrize('name', CASES)
def test_the_numbers_are_those_of_others(name):
    scores, hits = case(name)
    calibration = Calibration(scores, hits)
    u, _ = mannwhitneyu(scores[hits], scores[~hits])
    assert calibration.auroc() == pytest.approx(u / (hits.sum() *
                                                     (~hits).sum()))
    assert (calibration.auroc() < 0.5) == (name == 'reversed')
    assert calibration.ece() == pytest.approx(ece_by_hand(scores, hits))
    best = calibration.best_threshold()
    if name == 'reversed':
        return
    # The statistic of Kolmogorov and Smirnov is Youden's.
    largest = ks_2samp(scores[hits], scores[~hits], 'less').statistic
    kept = calibration.kept(best)
    assert kept.hits - kept.misses == pytest.approx(largest)
    assert kept.hits == (scores[hits] >= best).mean()
    assert kept.misses == (scores[~hits] >= best).mean()


@pytest.mark.parametrize('name', CASES)
def test_the_numbers_are_those_of_scikit_learn(name):
    metrics = pytest.importorskip('sklearn.metrics')
    scores, hits = case(name)
    calibration = Calibration(scores, hits)
    assert calibration.auroc() == pytest.approx(
        metrics.roc_auc_score(hits, scores))
    false, true, _ = metrics.roc_curve(hits, scores)
    if name != 'reversed':
        kept = calibration.kept(calibration.best_threshold())
        assert kept.hits - kept.misses == pytest.approx((true - false).max())


@pytest.mark.parametrize('scores, hits', [
    ([0.1, 0.9], [True, True]),
    ([0.1, 0.9], [False, False]),
    ([0.5, 0.5], [False, True]),
    ([], []),
])
def test_what_is_not_known_is_not_written(scores, hits):
    calibration = Calibration(np.array(scores, float), np.array(hits, bool))
    assert np.isnan(calibration.best_threshold())
    tags = [
        value.tag for value in calibration.values(0.3, True)
        if isinstance(value, Scalar)
    ]
    assert 'calibration/best_threshold' not in tags
    assert ('calibration/ece' in tags) == bool(scores)
    assert len(list(calibration.figure(0.3, 'epoch 1'))) == bool(scores)


@pytest.mark.parametrize('detected', [False, True])
def test_calibration_of_a_validation(tmp_path, evaluations, detected):
    """By hand from what COCO's evaluation has matched."""
    ann_file, dataset = known_dataset(tmp_path, annotations(), not detected)
    events = validate(
        tmp_path / 'run',
        dataset,
        dict(type='CocoMetric', ann_file=ann_file),
        not detected,
        log_details=True)
    scores, hits = [], []
    for annotation, _, predicted in counted(evaluations[0], numbers=3):
        if predicted is None:
            continue
        known = np.reshape(annotation['keypoints'], (-1, 3))
        size = longer_side(annotation)
        for (x, y, flag), (px, py, score) in zip(known, predicted):
            if flag and size > 0:
                scores.append(score)
                hits.append(np.hypot(px - x, py - y) < 0.1 * size)
    scores, hits = np.array(scores), np.array(hits)

    def scalar(name):
        event, = events.Scalars(f'calibration/{name}')
        return event.value

    u, _ = mannwhitneyu(scores[hits], scores[~hits])
    assert scalar('auroc') == pytest.approx(u / hits.sum() / (~hits).sum())
    assert scalar('ece') == pytest.approx(ece_by_hand(scores, hits), abs=1e-5)
    kept = scores >= scalar('best_threshold') - 1e-6
    gain = kept[hits].mean() - kept[~hits].mean()
    assert gain == pytest.approx(
        ks_2samp(scores[hits], scores[~hits], 'less').statistic)
    picture, = pictures(events, 'calibration/keypoints')[0]
    assert picture.shape[1] == 900


def test_the_report_says_what_a_threshold_keeps():
    scores = np.repeat([0.1, 0.2, 0.5, 0.9], 25)
    hits = np.repeat([False, True, False, True], 25)

    def remark(hits, kpt_thr):
        remark, = (
            value
            for value in Calibration(scores, hits).values(kpt_thr, False)
            if isinstance(value, Remark))
        assert remark.name == 'kpt_thr'
        return remark.text

    assert remark(hits, 0.3) == (
        'Of the predicted keypoints, kpt_thr=0.3 keeps 50% of the right and '
        '50% of the wrong ones. A threshold of 0.2 would tell them apart '
        'best: it keeps 100% of the right and 50% of the wrong ones.')
    # A score that is exactly the threshold is kept.
    assert remark(
        hits | True, 0.2
    ) == 'Of the predicted keypoints, kpt_thr=0.2 keeps 75% of the right ones.'
