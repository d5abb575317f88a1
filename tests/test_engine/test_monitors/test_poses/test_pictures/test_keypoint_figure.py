# Copyright (c) OpenMMLab. All rights reserved.
import threading
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.engine.monitors.poses.pictures import captions
from mmpose.engine.monitors.poses.pictures.keypoint_figure import (
    draw_keypoint_figure, keypoint_figure)


def arguments(k=17, seed=0, **kwargs) -> dict:
    rng = np.random.default_rng(seed)
    return dict(
        dict(
            names=[f'keypoint_{i}' for i in range(k)],
            accuracy=rng.uniform(.2, 1, k),
            counts=np.full(k, 10),
            pose=rng.random((k, 2)),
            drawn=np.ones(k, bool),
            links=[(i, i + 1) for i in range(k - 1)],
            title='PCK@0.2, epoch 3'), **kwargs)


@pytest.mark.parametrize('has_font', [True, False])
def test_names_in_any_letters(monkeypatch, has_font):
    """Korean ones were empty boxes, and a warning at every validation.

    The font here stands for one of the system: it is not matplotlib's own.
    """
    fonts = Path(matplotlib.get_data_path()) / 'fonts/ttf'
    own = captions._plain_font
    known = captions._letters(str(fonts / 'STIXGeneral.ttf'))
    letter = next(
        chr(code) for code in sorted(known)
        if code not in captions._letters(own()) and code > 0x2000)
    monkeypatch.setattr(
        captions, '_wide_fonts', lambda: [str(fonts / 'STIXGeneral.ttf')]
        if has_font else [])
    captions.legible.cache_clear()
    names = [f'nose {letter}', 'left_eye']
    kwargs = arguments(2, names=names, title=f'{letter}, epoch 3')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        figure = keypoint_figure(**kwargs)
        figure.canvas.draw()
    captions.legible.cache_clear()
    drawn = {text.get_text(): text for text in texts(figure)}
    if has_font:
        font = drawn[names[0]].get_fontproperties().get_file()
        assert Path(font).name == 'STIXGeneral.ttf'
    else:
        assert f'nose \\u{ord(letter):04x}' in drawn
    assert drawn['left_eye'].get_fontproperties().get_file() is None


def texts(figure) -> list:
    return [text for axes in figure.axes for text in axes.texts]


def points(figure):
    """The collection of the pose's points, None where there is no pose."""
    found = [
        c for axes in figure.axes for c in axes.collections
        if c.get_offsets().size
    ]
    return next((c for c in found if len(c.get_sizes())), None)


def pixels_of(figure, collection):
    """Column and row of each point in the picture."""
    at = collection.axes.transData.transform(collection.get_offsets())
    return np.column_stack([at[:, 0], figure.bbox.height - at[:, 1]])


def color_at(picture, spot) -> np.ndarray:
    x, y = np.round(spot).astype(int)
    return picture[y, x] / 255


def distance(a, b) -> float:
    return np.abs(np.asarray(a) - np.asarray(b)).max()


@pytest.mark.parametrize('k', [1, 17, 30, 31, 133])
@pytest.mark.parametrize('has_pose', [True, False])
def test_every_keypoint_is_named_and_inside_the_picture(k, has_pose):
    kwargs = arguments(k)
    if not has_pose:
        kwargs.update(pose=None, drawn=None)
    figure = keypoint_figure(**kwargs)
    figure.canvas.draw()
    shown = texts(figure)
    assert {text.get_text()
            for text in shown} == {
                *kwargs['names'], kwargs['title'],
                *(f'{value:.3f}' for value in kwargs['accuracy'])
            }
    boxes = [text.get_window_extent() for text in shown]
    for box in boxes:
        assert 0 <= box.x0 and box.x1 <= figure.bbox.width
        assert 0 <= box.y0 and box.y1 <= figure.bbox.height
    # No text runs into another.
    for i, a in enumerate(boxes):
        assert a.count_overlaps(boxes[i + 1:]) == 0
    assert (points(figure) is not None) == has_pose


def test_a_picture_is_rgb_and_fits_a_card():
    """Shown 380 pixels wide, letters must be 8 pixels high or more."""
    picture = draw_keypoint_figure(**arguments(17))
    assert picture.dtype == np.uint8 and picture.shape == (600, 900, 3)
    sizes = [t.get_size() for t in texts(keypoint_figure(**arguments(17)))]
    assert min(sizes) * 100 / 72 * 380 / 900 > 8
    width, height = keypoint_figure(**arguments(30)).bbox.size
    assert width == 900 and height <= 900


@pytest.mark.parametrize('k', [98, 133])
def test_a_long_list_is_readable_in_full_size(k):
    figure = keypoint_figure(**arguments(k))
    width, height = figure.bbox.size
    assert 900 < height < 1100 and 1200 < width < 3000
    assert min(t.get_size() for t in texts(figure)) * 100 / 72 > 16


def test_the_worst_keypoint_comes_first_and_missing_ones_last():
    kwargs = arguments(5, accuracy=np.array([.9, np.nan, .1, .5, .3]))
    kwargs['counts'][4] = 0
    figure = keypoint_figure(**kwargs)
    names = [t for t in texts(figure) if t.get_text() in kwargs['names']]
    names.sort(key=lambda text: -text.get_window_extent().y0)
    assert [text.get_text()[-1] for text in names] == list('23014')
    missing = [t for t in texts(figure) if t.get_text() == 'no data']
    assert len(missing) == 2
    values = {t.get_text() for t in texts(figure)}
    assert {'0.100', '0.500', '0.900'} < values and '0.300' not in values
    colors = [text.get_color() for text in names]
    assert colors[0] == colors[1] == colors[2] != colors[3] == colors[4]


def test_a_bar_is_as_long_as_its_value_and_has_its_color():
    kwargs = arguments(4, accuracy=np.array([.25, 1, 0, np.nan]))
    figure = keypoint_figure(**kwargs)
    tracks, bars = figure.axes[-1].containers
    lengths = [
        bar.get_width() / track.get_width()
        for bar, track in zip(bars, tracks)
    ]
    np.testing.assert_allclose(lengths, [0, .25, 1, 0])
    viridis = matplotlib.cm.viridis
    for bar, value in zip(bars, [0., .25, 1.]):
        assert distance(bar.get_facecolor(), viridis(value)) < 1e-6


@pytest.mark.parametrize('k', [17, 133])
def test_a_bad_keypoint_shows_on_the_pose(k):
    """In the rasterised picture, where the pose has it."""
    accuracy = np.full(k, .95)
    accuracy[3], accuracy[5] = .1, np.nan
    kwargs = arguments(k, accuracy=accuracy)
    figure = keypoint_figure(**kwargs)
    picture = draw_keypoint_figure(**kwargs)
    collection = points(figure)
    at = pixels_of(figure, collection)
    # Without data at the bottom, the worst on top.
    viridis = matplotlib.cm.viridis
    assert distance(color_at(picture, at[-1]), viridis(.1)[:3]) < .02
    assert distance(collection.get_facecolors()[0],
                    to_rgb('#b0b0b0') + (1, )) < .01
    pose = kwargs['pose']
    np.testing.assert_allclose(
        at[-1] - at[0],
        (pose[3] - pose[5]) * np.ptp(at, axis=0) / np.ptp(pose, axis=0),
        rtol=1e-6)
    assert distance(viridis(.1), viridis(.95)) > .5


def test_a_color_bar_goes_from_0_to_1_whatever_there_is():
    kwargs = arguments(5, accuracy=np.full(5, .9))
    figure = keypoint_figure(**kwargs)
    bar, = [axes for axes in figure.axes if axes.axison]
    figure.canvas.draw()
    labels = [label.get_text() for label in bar.get_xticklabels()]
    assert labels == ['0.0', '0.5', '1.0']
    assert bar.get_xlim() == (0, 1)
    picture = draw_keypoint_figure(**kwargs)
    box = bar.get_window_extent()
    row = figure.bbox.height - (box.y0 + box.y1) / 2
    for part in (.02, .5, .98):
        color = color_at(picture, [box.x0 + part * box.width, row])
        assert distance(color, matplotlib.cm.viridis(part)[:3]) < .03
    without = keypoint_figure(**dict(kwargs, pose=None, drawn=None))
    assert not any(axes.axison for axes in without.axes)


def test_the_pose_keeps_its_aspect_and_stays_inside():
    pose = np.array([[0, 0], [1, 0], [0, 3.]])
    for scale in ([1, 1], [200, 1], [1, 200]):
        figure = keypoint_figure(**arguments(3, pose=pose * scale))
        at = pixels_of(figure, points(figure))
        wide, high = np.ptp(at, axis=0)
        assert high / wide == pytest.approx(3 * scale[1] / scale[0])
        room = points(figure).axes.get_window_extent()
        assert 12 <= at[:, 0].min() - room.x0 and at[:, 0].max() <= room.x1
        assert room.y0 <= figure.bbox.height - at[:, 1].max() - 12


def test_points_shrink_where_keypoints_are_dense():
    pose = np.random.default_rng(0).random((60, 2))
    pose[:40] *= .1
    figure = keypoint_figure(**arguments(60, pose=pose))
    at = pixels_of(figure, points(figure))
    sizes = points(figure).get_sizes()
    apart = np.linalg.norm(at[:, None] - at, axis=2) + 1e9 * np.eye(60)
    dense = apart.min(axis=1) < 8
    assert 5 < dense.sum() < 55
    assert sizes[dense].max() < sizes[~dense].max() / 4


def test_only_links_between_drawn_keypoints_are_drawn():
    kwargs = arguments(5, links=[(0, 1), (1, 2), (3, 4)])
    kwargs['drawn'][2] = False
    kwargs['pose'][2] = np.nan
    figure = keypoint_figure(**kwargs)
    collection = points(figure)
    assert len(collection.get_offsets()) == 4
    assert len(collection.axes.lines) == 2
    picture = draw_keypoint_figure(**kwargs)
    at = pixels_of(figure, collection)
    drawn = np.array([0, 1, 3, 4])
    drawn = drawn[np.argsort(kwargs['accuracy'][drawn])[::-1]].tolist()
    middle = at[[drawn.index(3), drawn.index(4)]].mean(axis=0)
    assert distance(color_at(picture, middle), to_rgb('#9a9a9a')) < .1


def test_a_pose_without_any_keypoint_is_no_pose():
    kwargs = arguments(5, drawn=np.zeros(5, bool))
    assert points(keypoint_figure(**kwargs)) is None


def test_a_dollar_sign_begins_no_formula():
    kwargs = arguments(2, names=[r'cost_$x$', r'$\frac$'], title='$')
    figure = keypoint_figure(**kwargs)
    figure.canvas.draw()
    plain = keypoint_figure(**arguments(2, names=['cost_|x|', 'x'], title='|'))

    def height(figure):
        return texts(figure)[-2].get_window_extent().height

    assert height(figure) == pytest.approx(height(plain), rel=.5)


def test_long_names_leave_room_for_the_bars():
    kwargs = arguments(5, names=['n' * 60 + str(i) for i in range(5)])
    figure = keypoint_figure(**kwargs)
    figure.canvas.draw()
    tracks, _ = figure.axes[-1].containers
    assert tracks[0].get_width() > 100
    names = [t for t in texts(figure) if t.get_text() in kwargs['names']]
    for text in names:
        assert text.get_window_extent().x0 >= 340
        assert text.get_window_extent().x1 < tracks[0].get_window_extent().x0


@pytest.mark.parametrize('name', ['coco', 'coco_wholebody', 'wflw', 'lapa'])
def test_what_mmpose_says_of_a_data_set_can_be_drawn(name):
    """Its names and its skeleton, as they are; wflw has none."""
    meta = parse_pose_metainfo(
        dict(from_file=f'configs/_base_/datasets/{name}.py'))
    names = [meta['keypoint_id2name'][i] for i in range(meta['num_keypoints'])]
    kwargs = arguments(len(names), names=names, links=meta['skeleton_links'])
    figure = keypoint_figure(**kwargs)
    assert set(names) < {text.get_text() for text in texts(figure)}
    assert len(points(figure).axes.lines) == len(meta['skeleton_links'])


def test_any_thread_may_draw_and_no_figure_stays_open():
    """The writer's thread does, beside a user's own plots."""
    import matplotlib.pyplot as plt
    before = plt.get_fignums()
    pictures = []

    def draw():
        pictures.append(draw_keypoint_figure(**arguments()))

    threads = [threading.Thread(target=draw) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert plt.get_fignums() == before
    np.testing.assert_array_equal(*pictures)


def test_a_users_dark_style_does_not_darken_the_figure():
    import matplotlib.pyplot as plt
    plain = draw_keypoint_figure(**arguments())
    with plt.style.context('dark_background'):
        dark = draw_keypoint_figure(**arguments())
    assert (plain[0, 0] == 255).all()
    np.testing.assert_array_equal(plain, dark)
