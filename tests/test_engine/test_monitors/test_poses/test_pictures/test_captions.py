# Copyright (c) OpenMMLab. All rights reserved.
import numpy as np
import pytest
from PIL import Image, ImageDraw

from mmpose.engine.monitors.poses.pictures import captions
from mmpose.engine.monitors.poses.pictures.model_inputs import (ModelInput,
                                                                VisibleInput)
from mmpose.engine.monitors.poses.pictures.scenes import sample_scene
from mmpose.engine.monitors.poses.pose_samples import PoseSample


@pytest.fixture(autouse=True)
def forget():
    captions.legible.cache_clear()
    yield
    captions.legible.cache_clear()


def test_a_name_is_shortened_in_its_middle():
    name = 'train/a_very_long_name_of_a_folder/with_a_file_000123.jpg  id 45'
    short = captions.shorten(name, 300, 24)
    start, end = short.split('…')
    assert name.startswith(start) and name.endswith(end)
    assert len(start) > 5 and end.endswith('id 45')
    font = captions._font(captions._plain_font(), 24)
    assert font.getlength(short) <= 300 < font.getlength(name)
    assert captions.shorten('a.jpg', 300, 24) == 'a.jpg'
    # What the number is is said whatever the file is called.
    short = captions.shorten(f'{"clip/" * 20}00001.png  sample 1000002300001',
                             400, 24)
    start, end = short.split('…')
    assert 'clip' in start and end.endswith('.png  sample 1000002300001')


def test_letters_that_no_font_has_are_escaped(monkeypatch):
    monkeypatch.setattr(captions, '_wide_fonts', lambda: [])
    text, path = captions.legible('사진_1.jpg')
    assert text == r'\uc0ac\uc9c4_1.jpg' and path == captions._plain_font()
    assert captions.legible('été Ж')[0] == 'été Ж'


@pytest.mark.parametrize('broken', [False, True])
def test_a_font_of_the_system_that_has_the_letters_is_used(
        monkeypatch, tmp_path, broken):
    """One that is broken is passed over."""
    (tmp_path / 'broken.ttf').write_bytes(b'no font')
    letters = captions._letters

    def with_korean(path):
        korean = {ord(letter) for letter in '사진_1.jpg'}
        return letters(path) | (korean if 'Korean' in path else set())

    monkeypatch.setattr(captions, '_letters', with_korean)
    fonts = [str(tmp_path / 'broken.ttf')] * broken + ['Korean.ttf']
    monkeypatch.setattr(captions, '_wide_fonts', lambda: fonts)
    assert captions.legible('사진_1.jpg') == ('사진_1.jpg', 'Korean.ttf')


def test_fonts_are_found_by_their_names(monkeypatch):
    from matplotlib import font_manager
    monkeypatch.setattr(
        font_manager, 'findSystemFonts', lambda: [
            '/fonts/NotoSansCJK-Regular.ttc', '/fonts/Arial.ttf',
            '/fonts/NanumGothic.ttf', '/fonts/msyh.ttc'
        ])
    captions._wide_fonts.cache_clear()
    assert captions._wide_fonts() == [
        '/fonts/NanumGothic.ttf', '/fonts/NotoSansCJK-Regular.ttc',
        '/fonts/msyh.ttc'
    ]
    captions._wide_fonts.cache_clear()


def test_a_line_that_is_too_long_is_written_smaller():
    heights = []
    for text in ('short', 'a line that is far too long for its width'):
        canvas = Image.new('RGB', (200, 60))
        captions.write_line(
            ImageDraw.Draw(canvas), (4, 30), text, width=190, size=28)
        rows, columns = np.nonzero(np.asarray(canvas).max(-1) > 100)
        assert columns.max() < 199
        heights.append(np.ptp(rows))
    assert heights[1] < heights[0]


@pytest.mark.parametrize('count, expected', [
    (1, 'error 0.200 of the box, 2.0 px of the image'),
    (2, 'error 0.133 of the boxes, 3.3 px of the image'),
])
def test_the_error_is_a_fraction_of_each_instances_own_box(count, expected):
    """P8: its longer side. The first has one keypoint, 2 pixels off in 10 x 4;
    the second two, 4 pixels off in 8 x 40: (2 / 10 + 2 * 4 / 40) / 3, and (2 +
    2 * 4) / 3 pixels."""
    truth = np.array([[(3, 3), (0, 0)], [(60, 60), (62, 90)]], float)[:count]
    visible = np.array([[True, False], [True, True]])[:count]
    off = np.array([(2, 0), (0, 4)], float)[:count, None]
    boxes = np.array([(0, 0, 10, 4), (58, 55, 66, 95)], float)[:count]
    # The order of the predictions is not that of the instances.
    sample = PoseSample('a.jpg', truth, visible, boxes, np.ones(count),
                        (truth + off)[::-1], np.ones((count, 2)))
    pixels = np.zeros((3, 100, 100), np.uint8)
    given = ModelInput(None, {}, 'a.jpg', np.zeros(2), np.ones(2))
    seen = VisibleInput(pixels, pixels, np.zeros(()))
    assert sample_scene(sample, given, seen).caption == expected
