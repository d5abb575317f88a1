# Copyright (c) OpenMMLab. All rights reserved.
import numpy as np
import pytest

from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.engine.monitors.poses.pose_pictures import (PANEL_HEIGHT,
                                                        PosePainter, compose,
                                                        heat, view)
from mmpose.visualization import PoseLocalVisualizer

PLAIN = dict(dataset_name='plain')
SHAPE = (256, 192, 3)


@pytest.fixture(scope='module')
def coco():
    return parse_pose_metainfo(
        dict(from_file='configs/_base_/datasets/coco.py'))


def grey(shape=SHAPE, value=128):
    return np.full(shape, value, np.uint8)


def whole(image, width=288):
    return view(image, (0, 0, image.shape[1], image.shape[0]), width)


def to_image(part, panel, changed):
    """The middle of some of a panel's pixels, in the image's, (x, y)."""
    assert changed.any()
    y, x = np.nonzero(changed)
    rate = part.picture.shape[1] / panel.shape[1]
    middle = (np.array([x.mean(), y.mean()]) + 0.5) * rate - 0.5
    return (middle + 0.5) / part.scale - 0.5 + part.origin


def difference(one, other):
    return np.abs(one.astype(int) - other).max(-1)


# What part of an image is shown


@pytest.mark.parametrize('box', [(0, 0, 192, 256), (40, 30, 100, 200),
                                 (-30.5, 100, 60, 300), (150, 5, 260.2, 40)])
@pytest.mark.parametrize('width', [128, 288, 512])
def test_a_pixel_is_found_where_it_is_projected_to(box, width):
    image = grey()
    x, y = int(max(box[0], 0) + 12), int(max(box[1], 0) + 10)
    image[y, x] = (255, 0, 0)
    part = view(image, box, width)
    assert part.picture.shape == (2 * PANEL_HEIGHT, 2 * width, 3)
    red = part.picture[..., 0].astype(int) - part.picture[..., 1] > 60
    rows, columns = np.nonzero(red)
    middle = np.array([columns.mean(), rows.mean()])
    np.testing.assert_allclose(part.project(np.array([x, y])), middle, atol=1)
    # The whole box is in it, up to a pixel, and undistorted.
    corners = part.project(np.array(box).reshape(2, 2) - 0.5)
    assert (corners >= -part.scale).all()
    assert (corners <= (2 * width, 768) + part.scale).all()
    assert part.scale[0] == pytest.approx(part.scale[1], rel=0.05)


def test_what_is_outside_of_the_image_is_grey():
    part = view(grey(value=255), (-192, 0, 0, 256), 288)
    assert part.picture[:, :560].max() < 100
    part = view(grey(value=255), (1000, 1000, 1010, 1010), 288)
    assert part.picture.max() < 100


@pytest.mark.filterwarnings('error')
def test_a_part_without_size():
    assert view(grey(), (50, 60, 50, 60), 128).picture.shape[2] == 3


# People


@pytest.mark.parametrize('shape',
                         [SHAPE, (64, 64, 3), (512, 512, 3), (300, 1000, 3)])
def test_a_keypoint_is_drawn_where_it_is(shape, coco):
    """Within 1.5 pixels of the image."""
    part = whole(grey(shape), min(round(384 * shape[1] / shape[0]), 512))
    painter = PosePainter(coco, 0.3)
    nothing = painter.people(part, np.zeros((1, 17, 2)), np.zeros((1, 17)))
    rng = np.random.default_rng(0)
    for i in range(17):
        keypoints = np.zeros((1, 17, 2))
        keypoints[0, i] = rng.uniform(0.2, 0.8, 2) * shape[1::-1]
        panel = painter.people(part, keypoints, np.eye(17)[i:i + 1])
        changed = difference(panel, nothing) > 20
        off = to_image(part, panel, changed) - keypoints[0, i]
        assert np.hypot(*off) < 1.5
        # In the data set's own colour.
        x, y = (part.project(keypoints[0, i]) / 2).astype(int)
        away = panel[y, x].astype(int) - coco['keypoint_colors'][i]
        assert np.abs(away).max() < 60


@pytest.mark.parametrize('threshold, scores, drawn', [
    (0.3, (0.29, 0.3, 0.31), (False, True, True)),
    (0, (-0.1, 0, 0.1), (False, True, True)),
    (0, (False, True, False), (False, True, False)),
    (2, (False, True, False), (False, True, False)),
    (2, (0.5, 1.5, 2.5), (False, False, True)),
])
def test_what_is_drawn(threshold, scores, drawn):
    """By the score; what is annotated, whatever the threshold is."""
    keypoints = np.array([[[50., 50], [50, 128], [50, 200]]])
    panel = PosePainter(PLAIN, threshold).people(
        whole(grey()), keypoints, np.array([scores]))
    changed = difference(panel, 128) > 20
    assert tuple(changed[y:y + 20].any() for y in (65, 182, 290)) == drawn


def test_links_need_both_ends(coco):
    part = whole(grey())
    keypoints = np.zeros((1, 17, 2))
    keypoints[0, 5], keypoints[0, 6] = (60, 128), (130, 128)
    scores = np.zeros((1, 17))
    scores[0, 5] = 1
    painter = PosePainter(coco, 0.3)
    assert not difference(painter.people(part, keypoints, scores),
                          128)[:, 130:150].any()
    scores[0, 6] = 1
    assert difference(painter.people(part, keypoints, scores),
                      128)[:, 130:150].any()


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
    panel = PosePainter(meta, 0.3).people(
        whole(grey()), keypoints, np.ones((2, count)))
    assert panel.shape == (384, 288, 3) and panel.dtype == np.uint8
    assert (difference(panel, 128) > 20).any()


@pytest.mark.parametrize('place', [(np.nan, 5), (np.inf, 5), (1e30, -1e30),
                                   (-50, 20), (20, 300)])
def test_what_is_nowhere_in_the_picture_is_left_out(place):
    keypoints = np.array([[place, (100, 100)]], float)
    panel = PosePainter(dict(skeleton_links=[(0, 1)]),
                        0.3).people(whole(grey()), keypoints, np.ones((1, 2)))
    changed = difference(panel, 128) > 20
    rows, columns = np.nonzero(changed)
    assert np.hypot(rows - 150, columns - 150).max() < 12


def test_nobody():
    panel = PosePainter(PLAIN, 0.3).people(
        whole(grey()), np.zeros((0, 17, 2)), np.zeros((0, 17)))
    assert not difference(panel, 128).any()


def test_of_a_crowd_the_surest_are_drawn(monkeypatch):
    """Bounded work: an untrained model may find thousands."""
    counts = []
    draw = PoseLocalVisualizer.draw_circles

    def count(self, *args, **kwargs):
        counts.append(kwargs)
        return draw(self, *args, **kwargs)

    monkeypatch.setattr(PoseLocalVisualizer, 'draw_circles', count)
    keypoints = np.full((5000, 1, 2), 20.)
    keypoints[3456] = 150
    scores = np.full((5000, 1), 0.5)
    scores[3456] = 0.9
    panel = PosePainter(PLAIN, 0.3).people(whole(grey()), keypoints, scores)
    assert len(counts) == 30
    assert difference(panel, 128)[225, 225] > 20


def test_the_picture_itself_is_not_drawn_on():
    part = whole(grey())
    PosePainter(PLAIN, 0.3).people(part, np.full((1, 1, 2), 90.),
                                   np.ones((1, 1)))
    assert (part.picture == 128).all()


# Heatmaps


@pytest.mark.parametrize('stride, offset', [((4, 4), (0, 0)),
                                            ((0.5, 0.5), (0, 0)),
                                            ((8, 8), (3.5, 3.5)),
                                            ((3, 5), (-20, 10))])
def test_the_largest_value_is_brightest_where_it_lies(stride, offset):
    stride, offset = np.array(stride), np.array(offset)
    size = np.ceil((192, 256) / stride).astype(int)
    heatmap = np.zeros(size[::-1])
    x, y = size // 3
    heatmap[y, x] = 5
    part = whole(grey(value=20))
    panel = heat(part, heatmap, stride, offset)
    bright = panel.max(-1).astype(int)
    changed = bright > (bright.max() + bright.min()) / 2
    off = to_image(part, panel, changed) - (offset + stride * (x, y))
    assert np.abs(off).max() < 1


@pytest.mark.parametrize('heatmap', [
    np.zeros((64, 48)),
    np.full((64, 48), -3.),
    np.full((64, 48), np.nan),
])
def test_a_heatmap_without_a_peak_is_dark(heatmap):
    panel = heat(whole(grey()), heatmap, np.array([4, 4]), np.zeros(2))
    assert (panel == int(128 * 0.6)).all()


@pytest.mark.parametrize('top', [1e-3, 1, 255])
def test_a_heatmap_of_any_range(top):
    heatmap = np.full((64, 48), top)
    heatmap[:, :24] = top / 2
    panel = heat(whole(grey()), heatmap, np.array([4, 4]), np.zeros(2))
    left, right = panel[:, 20:120].mean((0, 1)), panel[:, 170:260].mean((0, 1))
    assert np.abs(right - (252, 255, 164)).max() < 3, 'the brightest'
    assert left.mean() < 0.6 * right.mean()


# Panels side by side


def test_panels_are_side_by_side_and_as_given():
    one, other = grey((384, 100, 3), 10), grey((384, 50, 3), 250)
    picture = compose([('one', one), ('other', other)], 'a caption')
    height, width = picture.shape[:2]
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[height - 384:, :100], one)
    np.testing.assert_array_equal(picture[height - 384:, width - 50:], other)
    strip = picture[:height - 384].astype(int)
    for half in (strip[:len(strip) // 2], strip[len(strip) // 2:]):
        assert (half > 200).any(), 'written'


@pytest.mark.parametrize('caption', ['', '姿勢 → 3', 'x' * 1000])
def test_any_caption(caption):
    picture = compose([('', grey((384, 60, 3)))], caption)
    assert picture.shape[1] == 60
