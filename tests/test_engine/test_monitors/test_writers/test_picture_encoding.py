# Copyright (c) OpenMMLab. All rights reserved.
import cv2
import numpy as np
import pytest

from mmpose.engine.monitors.poses.diagnosis.distribution.pck_figure import \
    draw_pck_curves
from mmpose.engine.monitors.writers.encoding.pictures import (encode_drawing,
                                                              encode_photo)

PALETTE_TYPE = 3  # Of the header of a PNG.


def decoded(encoded):
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), 1)[..., ::-1]


def photograph(shape=(240, 320, 3)):
    noise = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 3)


def test_a_figure_looks_the_same_and_takes_a_third():
    thresholds = np.linspace(0, .2, 101)
    curves = {f'keypoint {i}': thresholds**(i / 4) for i in range(7)}
    figure = draw_pck_curves(thresholds, curves, dict.fromkeys(curves, .5),
                             'PCK')
    encoded = encode_drawing(figure)
    off = np.abs(decoded(encoded).astype(int) - figure).max(-1)
    assert 0 < (off > 0).mean() < 0.03  # At the edges of lines.
    assert off.mean() < 0.2
    _, before = cv2.imencode('.png', figure, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    assert len(encoded) < 0.5 * len(before)


@pytest.mark.parametrize('colors, indexed', [(1, True), (256, True),
                                             (300, False), (5000, False)])
def test_few_and_many_colors_are_lossless(colors, indexed):
    keys = np.arange(100 * 100).reshape(100, 100) % colors
    drawing = np.stack([keys & 255, keys >> 8, 255 - (keys & 255)],
                       -1).astype(np.uint8)
    encoded = encode_drawing(drawing)
    assert (encoded[25] == PALETTE_TYPE) == indexed
    assert (decoded(encoded) == drawing).all()


def test_a_photograph_is_a_jpeg_without_visible_loss():
    picture = photograph()
    encoded = encode_photo(picture)
    assert encoded[:2] == b'\xff\xd8'
    assert np.abs(decoded(encoded).astype(int) - picture).mean() < 4
    assert len(encoded) < len(encode_drawing(picture)) / 4
