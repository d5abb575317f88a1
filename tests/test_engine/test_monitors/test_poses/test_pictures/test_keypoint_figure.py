# Copyright (c) OpenMMLab. All rights reserved.
import threading
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.engine.monitors.poses.accuracy.keypoint_curves import curve_groups
from mmpose.engine.monitors.poses.pictures import captions
from mmpose.engine.monitors.poses.pictures.keypoint_figure import (
    keypoint_figure, picture_of)


def arguments(k=17, seed=0, **kwargs) -> dict:
    rng = np.random.default_rng(seed)
    names = kwargs.get('names', [f'keypoint_{i}' for i in range(k)])
    groups = {name: [i] for i, name in enumerate(names)}
    if k > 30:
        groups = dict(few=[*range(9)], many=[*range(9, k)])
    return dict(
        dict(
            names=names,
            accuracy=rng.uniform(.2, 1, k),
            groups=groups,
            pose=rng.random((k, 2)),
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
    return [
        *figure.texts, *(text for axes in figure.axes for text in axes.texts)
    ]


def points(figure):
    """The collection of the pose's points, None where there is no pose."""
    found = [
        c for axes in figure.axes for c in axes.collections
        if c.get_offsets().size
    ]
    return next((c for c in found if len(c.get_sizes())), None)


def pixels_of(figure, collection):
    """Column and row of each point in the picture."""
    figure.canvas.draw()
    at = collection.axes.transData.transform(collection.get_offsets())
    return np.column_stack([at[:, 0], figure.bbox.height - at[:, 1]])


def color_at(picture, spot) -> np.ndarray:
    x, y = np.round(spot).astype(int)
    return picture[y, x] / 255


def distance(a, b) -> float:
    return np.abs(np.asarray(a) - np.asarray(b)).max()


@pytest.mark.parametrize('k', [1, 17, 30])
def test_every_keypoint_is_named_and_inside_the_picture(k):
    kwargs = arguments(k)
    figure = keypoint_figure(**kwargs)
    figure.canvas.draw()
    assert {text.get_text()
            for text in texts(figure)} == {
                *kwargs['names'], kwargs['title'],
                *(f'{value:.3f}' for value in kwargs['accuracy'])
            }
    assert_texts_fit(figure)


def assert_texts_fit(figure) -> None:
    boxes = [text.get_window_extent() for text in texts(figure)]
    for box in boxes:
        assert 0 <= box.x0 and box.x1 <= figure.bbox.width
        assert 0 <= box.y0 and box.y1 <= figure.bbox.height
    # No text runs into another.
    for i, a in enumerate(boxes):
        assert a.count_overlaps(boxes[i + 1:]) == 0


@pytest.mark.parametrize('k', [31, 133])
def test_many_keypoints_have_their_parts_and_the_lowest_named(k):
    """A row for each was not to be read on a card."""
    kwargs = arguments(k)
    kwargs['accuracy'][[0, 9]] = np.nan
    figure = keypoint_figure(**kwargs)
    figure.canvas.draw()
    assert_texts_fit(figure)
    shown = [text.get_text() for text in texts(figure)]
    accuracy = kwargs['accuracy']
    lowest = np.argsort(accuracy)[:8]
    means = [np.nanmean(accuracy[:9]), np.nanmean(accuracy[9:])]
    assert sorted(shown[1:6]) == sorted(
        ['few', 'many', *(f'{m:.3f}' for m in means), 'lowest keypoints'])
    assert shown[6::2] == [f'{accuracy[i]:.3f}' for i in lowest]
    assert shown[7::2] == [kwargs['names'][i] for i in lowest]


@pytest.mark.parametrize('k', [17, 30, 133])
def test_a_picture_is_rgb_and_fits_a_card(k):
    """Shown 350 pixels wide, letters must be 8 pixels high or more."""
    figure = keypoint_figure(**arguments(k))
    picture = picture_of(figure)
    height, width, _ = picture.shape
    assert picture.dtype == np.uint8 and width == 900 and 600 <= height < 1000
    assert min(t.get_size() for t in texts(figure)) * 100 / 72 * 350 / 900 > 8


def test_the_worst_keypoint_comes_first_and_missing_ones_last():
    kwargs = arguments(5, accuracy=np.array([.9, np.nan, .1, .5, np.nan]))
    figure = keypoint_figure(**kwargs)
    names = [t for t in texts(figure) if t.get_text() in kwargs['names']]
    names.sort(key=lambda text: -text.get_window_extent().y0)
    assert [text.get_text()[-1] for text in names] == list('23014')
    missing = [t for t in texts(figure) if t.get_text() == 'no data']
    assert len(missing) == 2
    values = {t.get_text() for t in texts(figure)}
    assert {'0.100', '0.500', '0.900'} < values
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
    picture = picture_of(figure)
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


def test_only_links_between_drawn_keypoints_are_drawn():
    kwargs = arguments(5, links=[(0, 1), (1, 2), (3, 4)])
    kwargs['pose'][2] = np.nan
    figure = keypoint_figure(**kwargs)
    picture = picture_of(figure)
    at = pixels_of(figure, points(figure))
    order = np.argsort(kwargs['accuracy'])[::-1].tolist()
    assert np.isnan(at[order.index(2)]).all()
    for link, is_drawn in zip(kwargs['links'], [True, False, True]):
        middle = kwargs['pose'][list(link)].mean(axis=0)
        if is_drawn:
            middle = at[[order.index(i) for i in link]].mean(axis=0)
            assert distance(color_at(picture, middle), to_rgb('#9a9a9a')) < .1
        else:
            assert np.isnan(middle).all()


def test_a_pose_without_any_keypoint_leaves_the_bars():
    figure = keypoint_figure(**arguments(5, pose=np.full((5, 2), np.nan)))
    picture_of(figure)
    assert len(texts(figure)) == 11


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
    assert_texts_fit(figure)
    tracks, _ = figure.axes[-1].containers
    assert tracks[0].get_window_extent().width > 100
    names = [t for t in texts(figure) if 'n…n' in t.get_text()]
    assert sorted(text.get_text()[-1] for text in names) == list('01234')
    for text in names:
        assert text.get_window_extent().x1 < tracks[0].get_window_extent().x0


@pytest.mark.parametrize('name', ['coco', 'coco_wholebody', 'wflw', 'lapa'])
def test_what_mmpose_says_of_a_data_set_can_be_drawn(name):
    """Its names and its skeleton, as they are; wflw has none."""
    meta = parse_pose_metainfo(
        dict(from_file=f'configs/_base_/datasets/{name}.py'))
    names = [meta['keypoint_id2name'][i] for i in range(meta['num_keypoints'])]
    groups = curve_groups(names, meta)
    kwargs = arguments(
        len(names), names=names, groups=groups, links=meta['skeleton_links'])
    figure = keypoint_figure(**kwargs)
    assert set(groups) < {text.get_text() for text in texts(figure)}
    assert len(points(figure).axes.lines) == len(meta['skeleton_links'])


def test_any_thread_may_draw_and_no_figure_stays_open():
    """The writer's thread does, beside a user's own plots."""
    import matplotlib.pyplot as plt
    before = plt.get_fignums()
    pictures = []

    def draw():
        pictures.append(picture_of(keypoint_figure(**arguments())))

    threads = [threading.Thread(target=draw) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert plt.get_fignums() == before
    np.testing.assert_array_equal(*pictures)


def test_a_users_dark_style_does_not_darken_the_figure():
    import matplotlib.pyplot as plt
    plain = picture_of(keypoint_figure(**arguments()))
    with plt.style.context('dark_background'):
        dark = picture_of(keypoint_figure(**arguments()))
    assert (plain[0, 0] == 255).all()
    np.testing.assert_array_equal(plain, dark)
