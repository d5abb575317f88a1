# Copyright (c) OpenMMLab. All rights reserved.
import numpy as np
import pytest

from mmpose.engine.monitors.poses.pictures.panels import (PANEL_HEIGHT,
                                                          PANEL_WIDTH, compose,
                                                          heat, view)

SHAPE = (256, 192, 3)


def grey(shape=SHAPE, value=128):
    return np.full(shape, value, np.uint8)


# What part of an image is shown


@pytest.mark.parametrize(
    'box',
    [None, (40, 30, 100, 200), (-30.5, 100, 60, 300), (100, 5, 260.2, 140)])
def test_a_pixel_is_found_where_it_is_projected_to(box):
    image = grey()
    x, y = (20, 30) if box is None else (int(max(box[0], 0) + 12),
                                         int(max(box[1], 0) + 10))
    image[y, x] = (255, 0, 0)
    part = view(image, box)
    red = part.picture[..., 0].astype(int) - part.picture[..., 1] > 60
    rows, columns = np.nonzero(red)
    middle = np.array([columns.mean(), rows.mean()])
    np.testing.assert_allclose(part.project(np.array([x, y])), middle, atol=1)
    assert part.scale[0] == pytest.approx(part.scale[1], rel=0.05)
    # The whole box is in it, as far as there is an image.
    corners = np.array((0, 0, 192, 256) if box is None else box).reshape(2, 2)
    corners = part.project(corners.clip(0, (192, 256)) - 0.5)
    assert (corners >= -1).all()
    assert (corners <= np.array(part.picture.shape[1::-1]) + 1).all()


@pytest.mark.parametrize('box, aspect', [
    ((10, 10, 110, 60), 2),
    ((10, 10, 60, 110), 1 / 2),
    ((-50, 100, 80, 180), 1),
    ((0, 0, 192, 10), 192 / 37),
    (None, 3 / 4),
])
def test_a_panel_has_the_aspect_of_what_it_shows(box, aspect):
    """And nothing but the image is in it: no tiger in grey."""
    part = view(grey(value=200), box)
    height, width = np.array(part.picture.shape[:2]) / 2
    assert width / height == pytest.approx(aspect, rel=0.05)
    assert width == PANEL_WIDTH or height == PANEL_HEIGHT
    assert (part.picture == 200).all()


@pytest.mark.parametrize('box', [
    (1000, 1000, 1010, 1010),
    (np.nan, 0, 10, 10),
    (-1e9, -1e9, 1e9, 1e9),
    (300, 0, 200, 10),
])
@pytest.mark.filterwarnings('error')
def test_of_an_odd_box_the_image_is_shown(box):
    part = view(grey(), box)
    assert part.picture.shape == (768, 576, 3)
    assert (part.origin == 0).all()


@pytest.mark.filterwarnings('error')
def test_a_part_without_size():
    assert view(grey(), (50, 60, 50, 60)).picture.shape[2] == 3


# Heatmaps


@pytest.mark.parametrize('stride', [(4, 4), (0.5, 0.5), (8, 8), (3, 5)])
@pytest.mark.parametrize('box', [None, (30, 40, 120, 200)])
def test_the_largest_value_is_brightest_where_it_lies(stride, box):
    stride = np.array(stride)
    size = np.ceil((192, 256) / stride).astype(int)
    heatmap = np.zeros(size[::-1])
    x, y = size // 3
    heatmap[y, x] = 1
    part = view(grey(value=20), box)
    panel = heat(part, heatmap, stride)
    bright = panel.max(-1).astype(int)
    rows, columns = np.nonzero(bright > (bright.max() + bright.min()) / 2)
    middle = np.array([columns.mean(), rows.mean()])
    expected = (part.project(stride * (x, y)) + 0.5) / 2 - 0.5
    assert np.abs(middle - expected).max() < 1.5 * part.scale.max()


@pytest.mark.parametrize('heatmap', [
    np.zeros((64, 48)),
    np.full((64, 48), -3.),
    np.full((64, 48), np.nan),
    np.full((64, 48), 1e-5),
])
def test_a_heatmap_without_a_peak_is_dark(heatmap):
    """As in the first steps: it was bright yellow at a maximum of 1e-05."""
    panel = heat(view(grey()), heatmap, np.array([4, 4]))
    assert np.abs(panel.astype(int) - int(128 * 0.6)).max() <= 1


@pytest.mark.parametrize('peak', [1e-11, 1, 255])
def test_the_scale_is_that_of_the_target(peak):
    heatmap = np.full((64, 48), peak)
    heatmap[:, :24] = peak / 2
    panel = heat(view(grey()), heatmap, np.array([4, 4]), peak)
    left, right = panel[:, 20:120].mean((0, 1)), panel[:, 170:260].mean((0, 1))
    assert np.abs(right - (252, 255, 164)).max() < 3, 'the brightest'
    assert left.mean() < 0.6 * right.mean()


# Panels side by side


def test_panels_are_side_by_side_and_as_given():
    one, other = grey((384, 300, 3), 10), grey((384, 250, 3), 250)
    picture = compose([('one', one), ('other', other)], 'a caption', 'name')
    height, width = picture.shape[:2]
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[height - 384:, :300], one)
    np.testing.assert_array_equal(picture[height - 384:, width - 250:], other)
    for strip in np.split(picture[:height - 384].astype(int), 3):
        assert (strip > 180).any(), 'written'


def test_the_measure_is_readable_whatever_the_sample_is_called():
    """A long file name shrank "OKS 0.03" to nothing."""
    panels = [('one', grey((384, 288, 3)))]
    short = compose(panels, 'OKS 0.03', 'a.jpg')
    long = compose(panels, 'OKS 0.03', 'a' * 200 + '.jpg')
    np.testing.assert_array_equal(short[:40], long[:40])
    assert (short[40:80] != long[40:80]).any()


@pytest.mark.parametrize('caption', ['', '姿勢 → 3', 'x' * 1000])
def test_any_caption(caption):
    picture = compose([('', grey((384, 60, 3)))], caption, caption)
    assert picture.shape == (384 + 120, 440, 3), 'wide enough for a measure'
