# Copyright (c) OpenMMLab. All rights reserved.
import cv2
import numpy as np
import pytest

from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.engine.monitors.poses.pictures.panels import view
from mmpose.engine.monitors.poses.pictures.pose_painter import (
    PosePainter, keypoint_colors, skeleton)

PLAIN = dict(dataset_name='plain')
SHAPE = (256, 192, 3)


@pytest.fixture(scope='module')
def coco():
    return parse_pose_metainfo(
        dict(from_file='configs/_base_/datasets/coco.py'))


def grey(shape=SHAPE, value=128):
    return np.full(shape, value, np.uint8)


def difference(one, other):
    return np.abs(one.astype(int) - other).max(-1)


def to_image(part, changed):
    """The middle of some of a panel's pixels, in the image's, (x, y)."""
    assert changed.any()
    y, x = np.nonzero(changed)
    middle = (np.array([x.mean(), y.mean()]) + 0.5) * 2 - 0.5
    return (middle + 0.5) / part.scale - 0.5 + part.origin


def points_of(*points):
    return np.array([points], float)


@pytest.mark.parametrize('shape',
                         [SHAPE, (64, 64, 3), (512, 512, 3), (300, 1000, 3)])
def test_a_keypoint_is_drawn_where_it_is(shape, coco):
    """Within 1.5 pixels of the image, in its colour."""
    part = view(grey(shape))
    painter = PosePainter(coco, 0.3)
    nothing = painter.draw(part, np.zeros((1, 17, 2)), np.zeros((1, 17)) > 0)
    rng = np.random.default_rng(0)
    for i in range(17):
        keypoints = np.zeros((1, 17, 2))
        keypoints[0, i] = rng.uniform(0.2, 0.8, 2) * shape[1::-1]
        panel = painter.draw(part, keypoints, np.eye(17)[i:i + 1] > 0)
        changed = difference(panel, nothing) > 20
        assert np.hypot(*(to_image(part, changed) - keypoints[0, i])) < 1.5
        x, y = (part.project(keypoints[0, i]) / 2).astype(int)
        away = np.subtract(
            panel[y, x], keypoint_colors(coco, 17)[i], dtype=int)
        assert np.abs(away).max() < 60


@pytest.mark.parametrize('threshold, scores, kinds', [
    (0.3, (0.29, 0.3, 0.31), ('hollow', 'solid', 'solid')),
    (0, (-0.1, 0, 0.1), ('hollow', 'solid', 'solid')),
    (0, (False, True, False), (None, 'solid', None)),
    (2, (False, True, False), (None, 'solid', None)),
    (2, (0.5, 1.5, 2.5), ('hollow', 'hollow', 'solid')),
])
def test_what_is_drawn(threshold, scores, kinds):
    """Below the threshold hollow; what is annotated whatever it is."""
    painter = PosePainter(PLAIN, threshold)
    part = view(grey())
    points = points_of((50, 50), (50, 128), (50, 200))
    panel = painter.draw(part, points, np.array([scores]))
    changed = difference(panel, 128) > 20
    for (x, y), kind in zip(part.project(points[0]) / 2, kinds):
        x, y = int(x), int(y)
        assert changed[y - 9:y + 9, x - 9:x + 9].any() == bool(kind)
        if kind:
            assert changed[y, x] == (kind == 'solid')


def test_how_many_of_how_many():
    painter = PosePainter(PLAIN, 0.3)
    assert painter.count(np.array([[0.2, 0.3, 0.4]])) == '2 of 3'
    assert painter.count(np.zeros((0, 17))) == '0 of 0'


def test_links_are_thin_where_an_end_is_hollow(coco):
    part = view(grey())
    keypoints = np.full((1, 17, 2), -100.)
    keypoints[0, 5], keypoints[0, 6] = (40, 128), (150, 128)
    painter = PosePainter(coco, 0.3)
    rows = []
    for scores in ((True, False), (1., 0.1), (1., 1.)):
        values = np.zeros((1, 17), type(scores[0]))
        values[0, 5:7] = scores
        panel = painter.draw(part, keypoints, values)
        rows.append((difference(panel, 128)[:, 140:146] > 20).any(1).sum())
        if len(rows) == 2:
            # In its colour, not a black line: there were only rims.
            link, = (c for a, b, c in skeleton(coco, 17) if {a, b} == {5, 6})
            away = np.abs(panel[:, 140:146].astype(int) - link).max(-1)
            assert away.min() < 60
    assert rows[0] == 0 < rows[1] < rows[2]


def test_a_light_dot_on_a_light_image_has_a_dark_rim():
    """White keypoints of a locust, a zebra, a white shirt."""
    meta = dict(keypoint_colors=[[255, 255, 255]])
    part = view(grey(value=255))
    panel = PosePainter(meta, 0.3).draw(part, points_of((90, 90)),
                                        np.array([[True]]))
    assert panel.min() < 80
    rows, columns = np.nonzero(panel.max(-1) < 128)
    assert len(rows) > 12
    middle = part.project(np.array([90, 90])) / 2
    assert np.hypot(columns - middle[0], rows - middle[1]).max() < 10


def test_dots_are_small_where_keypoints_are_dense():
    """68 dots of a face of 45 pixels leave most of it to be seen."""
    rng = np.random.default_rng(0)
    part = view(grey())
    face = np.stack(np.meshgrid(range(8), range(8)), -1).reshape(-1, 2)
    keypoints = np.concatenate([face * 6. + 70, rng.uniform(0, 1, (5, 2))])
    visible = np.arange(69)[None] < 64
    panel = PosePainter(PLAIN, 0.3).draw(part, keypoints[None], visible)
    low, high = (part.project(np.array([[70, 70], [112, 112]])) /
                 2).astype(int)
    of_face = difference(panel, 128)[low[1]:high[1], low[0]:high[0]] > 20
    assert 0.05 < of_face.mean() < 0.7
    # One alone is larger.
    alone = PosePainter(PLAIN, 0.3).draw(part, keypoints[None],
                                         np.arange(69)[None] < 1)
    assert (difference(alone, 128) > 20).sum() > 2 * 81 * of_face.mean()


@pytest.mark.parametrize('names', [('left_eye', 'right_eye'),
                                   ('l_eye', 'r_eye'), ('L-eye', 'R-eye'),
                                   ('forelegL1', 'forelegR1'),
                                   ('Ankle_Left', 'Ankle_Right')])
@pytest.mark.parametrize('exchanged', [False, True])
def test_left_and_right_are_told_apart_where_their_colours_are_not(
        names, exchanged):
    names = names[::-1] if exchanged else names
    meta = dict(
        keypoint_colors=[[255, 255, 255]] * 3,
        flip_indices=[0, 2, 1],
        keypoint_id2name={
            0: 'nose',
            1: names[0],
            2: names[1]
        })
    white, one, other = keypoint_colors(meta, 3)
    assert white == (255, 255, 255)
    pair = (one, other) if not exchanged else (other, one)
    assert pair == ((0, 255, 0), (255, 128, 0))


@pytest.mark.parametrize('name', ['300w', 'wflw', 'lapa', 'coco_wholebody'])
def test_the_jaw_begins_on_the_right(name):
    """The first keypoint is next to the right ear, which no name says."""
    meta = parse_pose_metainfo(
        dict(from_file=f'configs/_base_/datasets/{name}.py'))
    first = 23 if name == 'coco_wholebody' else 0
    count = len(meta['keypoint_id2name'])
    colors = keypoint_colors(meta, count)
    assert colors[first] == (255, 128, 0)
    assert colors[meta['flip_indices'][first]] == (0, 255, 0)


@pytest.mark.parametrize('name, first, lower, inner, inner_lower', [
    ('300w', 48, 55, 60, 65),
    ('coco_wholebody', 23 + 48, 23 + 55, 23 + 60, 23 + 65),
    ('wflw', 76, 83, 88, 93),
    ('lapa', 84, 91, 96, 101),
])
def test_the_lower_lip_goes_back(name, first, lower, inner, inner_lower):
    """Each side of a mouth has one colour, as the landmarks are published.

    From the right corner along the upper lip to the left one, and back.
    """
    meta = parse_pose_metainfo(
        dict(from_file=f'configs/_base_/datasets/{name}.py'))
    colors = keypoint_colors(meta, len(meta['keypoint_id2name']))
    green, orange = (0, 255, 0), (255, 128, 0)
    rows = (first, 7), (lower, 5), (inner, 5), (inner_lower, 3)
    for (start, count), is_back in zip(rows, (False, True, False, True)):
        sides = (green, orange) if is_back else (orange, green)
        half = count // 2
        row = colors[start:start + count]
        assert row[:half] == [sides[0]] * half
        assert row[-half:] == [sides[1]] * half


def test_the_colours_of_a_data_set_that_differ_are_kept(coco):
    """Those of COCO's face are the same on both sides."""
    colors = keypoint_colors(coco, 17)
    own = [tuple(c) for c in coco['keypoint_colors'].tolist()]
    assert colors[5:] == own[5:] and colors[0] == own[0]
    assert own[1] == own[2] and colors[1] != colors[2]


def test_no_skeleton_of_another_number_of_keypoints(coco):
    """Of two data sets with one metainfo: bones joined the wrong points."""
    assert len(skeleton(coco, 17)) == 19
    assert not len(skeleton(coco, 14)) and not len(skeleton(coco, 21))


@pytest.mark.parametrize('meta', [
    dict(),
    dict(skeleton_links=[(0, 1)]),
    dict(keypoint_colors=[(0, 255, 0)]),
    dict(skeleton_links=[(0, 40)], skeleton_link_colors=[(1, 2, 3)]),
    dict(skeleton_links=[(0, 1)], keypoint_colors=np.full((2, 3), 200)),
])
@pytest.mark.parametrize('count', [1, 2, 133])
def test_data_sets_without_names_colours_or_a_skeleton(meta, count):
    keypoints = np.random.default_rng(0).uniform(30, 160, (2, count, 2))
    part = view(grey())
    panel = PosePainter(meta, 0.3).draw(part, keypoints, np.ones((2, count)))
    assert panel.shape == (384, 288, 3) and panel.dtype == np.uint8
    assert (difference(panel, 128) > 20).any()


@pytest.mark.parametrize('place', [(np.nan, 5), (np.inf, 5), (1e30, -1e30),
                                   (-50, 20), (20, 300)])
def test_what_is_nowhere_in_the_picture_is_left_out(place):
    keypoints = points_of(place, (100, 100))
    panel = PosePainter(dict(skeleton_links=[(0, 1)]),
                        0.3).draw(view(grey()), keypoints, np.ones((1, 2)))
    rows, columns = np.nonzero(difference(panel, 128) > 20)
    assert np.hypot(rows - 150, columns - 150).max() < 12


def test_nobody():
    panel = PosePainter(PLAIN, 0.3).draw(
        view(grey()), np.zeros((0, 17, 2)), np.zeros((0, 17)))
    assert not difference(panel, 128).any()


def test_of_a_crowd_the_highest_scoring_are_drawn(monkeypatch):
    """Bounded work: an untrained model may find thousands."""
    circle, drawn = cv2.circle, []

    def count(*args):
        drawn.append(args)
        return circle(*args)

    monkeypatch.setattr(cv2, 'circle', count)
    keypoints = np.full((5000, 1, 2), 20.)
    keypoints[3456] = 150
    scores = np.full((5000, 1), 0.5)
    scores[3456] = 0.9
    panel = PosePainter(PLAIN, 0.3).draw(view(grey()), keypoints, scores)
    assert len(drawn) == 2 * 30, 'each with a rim'
    assert difference(panel, 128)[225, 225] > 20


def test_the_picture_itself_is_not_drawn_on():
    part = view(grey())
    painter = PosePainter(PLAIN, 0.3)
    point = np.full((1, 1, 2), 90.)
    painter.draw(part, point, np.ones((1, 1)))
    painter.draw_errors(part, point, np.ones((1, 1)), point + 20,
                        np.ones((1, 1), bool), np.array([0]))
    assert (part.picture == 128).all()


def test_a_line_leads_from_each_keypoint_to_its_ground_truth():
    """Five pixels are seen that nobody sees side by side."""
    part = view(grey())
    predicted = points_of((60, 60), (60, 120), (60, 180))
    truth = predicted + (30, 0)
    visible = np.array([[True, False, True]])
    painter = PosePainter(PLAIN, 0.3)
    plain = painter.draw(part, predicted, np.ones((1, 3)))
    joined = painter.draw_errors(part, predicted, np.ones((1, 3)), truth,
                                 visible, np.array([0]))
    changed = difference(plain, joined) > 40
    for (x, y), seen in zip(part.project(predicted[0]) / 2, visible[0]):
        x, y = int(x), int(y)
        assert changed[y - 3:y + 4, x + 15:x + 40].any(0).all() == seen
        assert changed[y - 3:y + 4].any() == seen
    # Nobody was found.
    same = painter.draw_errors(part, predicted, np.ones((1, 3)), truth,
                               visible, np.array([-1]))
    np.testing.assert_array_equal(same, plain)


@pytest.mark.parametrize('place', [(100, -300), (-4000, 100), (1e9, 100),
                                   (600, 700)])
def test_what_is_outside_is_at_the_end_of_a_line_that_leaves(place):
    """The panel of the worst hand was empty when it was found elsewhere."""
    part = view(grey())
    truth = np.array([100., 100])
    panel = PosePainter(PLAIN, 0.3).draw_errors(part, points_of(place),
                                                np.ones((1, 1)),
                                                points_of(truth),
                                                np.ones((1, 1), bool),
                                                np.array([0]))
    start = part.project(truth) / 2
    rows, columns = np.nonzero(difference(panel, 128) > 60)
    assert (panel[int(start[1]), int(start[0])] > 200).all(), 'its dot'
    # A line, in the direction of what is outside, to the border.
    way = np.array(place) - truth
    points = np.stack([columns, rows], -1) - start
    away = np.abs(points @ [-way[1], way[0]]) / np.hypot(*way)
    assert away.max() < 5
    size = np.array(panel.shape[1::-1])
    ends = np.concatenate([[columns.min(), rows.min()], size - 1 -
                           [columns.max(), rows.max()]])
    assert ends.min() <= 1 and np.hypot(*points.T).max() > 100


@pytest.mark.parametrize('place', [(np.nan, 5), (np.inf, 5), (1e30, -1e30)])
def test_a_prediction_that_is_nowhere_leaves_its_ground_truth(place):
    part = view(grey())
    panel = PosePainter(PLAIN, 0.3).draw_errors(part, points_of(place),
                                                np.ones((1, 1)),
                                                points_of((100, 100)),
                                                np.ones((1, 1), bool),
                                                np.array([0]))
    x, y = (part.project(np.array([100, 100])) / 2).astype(int)
    assert (panel[y, x] > 200).all()


@pytest.mark.parametrize('count, hidden', [(17, False), (294, True)])
def test_of_garments_of_another_kind_only_what_scores_is_drawn(count, hidden):
    """Each kind has keypoints of its own, and an instance is of one kind."""
    part = view(grey())
    points = np.full((1, count, 2), 40.)
    points[0, 1:4] = (60, 100), (60, 150), (60, 200)
    scores = np.zeros((1, count))
    scores[0, 2] = 1
    visible = np.zeros((1, count), bool)
    visible[0, 3] = True
    painter = PosePainter(PLAIN, 0.3)
    panel = painter.draw_errors(part, points, scores, points + 500, visible,
                                np.array([0]))
    drawn = [(difference(panel, 128)[y - 9:y + 10, x - 9:x + 10] > 20).any()
             for x, y in (part.project(points[0, 1:4]) / 2).astype(int)]
    assert drawn == [not hidden, True, True]
