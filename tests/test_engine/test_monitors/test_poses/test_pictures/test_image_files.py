# Copyright (c) OpenMMLab. All rights reserved.
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.fileio import register_backend
from mmengine.fileio.backends import BaseStorageBackend
from PIL import Image

from mmpose.engine.monitors.poses.pictures.image_files import ImageFiles
from mmpose.utils import register_all_modules

register_all_modules()
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


class Memory(BaseStorageBackend):
    """As LMDB and Petrel: what is loaded is no file."""

    images = {}

    def get(self, filepath):
        return self.images[filepath]

    def get_text(self, filepath):
        raise NotImplementedError


register_backend('memory', Memory, force=True)


def dataset(**arguments):
    load = dict(type='LoadImage', **arguments)
    return SimpleNamespace(
        pipeline=Compose([dict(type='GetBBoxCenterScale'), load]))


def halves(left=RED, right=BLUE, shape=(40, 60)):
    image = np.zeros((*shape, 3), np.uint8)
    image[:, :shape[1] // 2], image[:, shape[1] // 2:] = left, right
    return image


def assert_halves(image, first, second):
    """Of a lossy image, left and right of the middle."""
    middle = image.shape[1] // 2
    for part, color in ((image[:, :middle - 8], first), (image[:, middle + 8:],
                                                         second)):
        assert np.abs(part.astype(int) - color).max() < 40


def test_an_image_is_loaded_in_rgb(tmp_path):
    path = str(tmp_path / 'image.png')
    Image.fromarray(halves()).save(path)
    loaded = ImageFiles(dataset()).load(path)
    np.testing.assert_array_equal(loaded, halves())
    assert loaded.flags['C_CONTIGUOUS'] and loaded.dtype == np.uint8


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('color_type', ['color', 'color_ignore_orientation'])
def test_a_rotated_photograph_is_seen_as_the_data_set_sees_it(
        tmp_path, backend, color_type):
    """A skeleton was drawn beside the person in it."""
    path = str(tmp_path / 'photo.jpg')
    exif = Image.Exif()
    exif[0x0112] = 6  # To be rotated by 90 degrees, clockwise.
    Image.fromarray(halves()).save(path, quality=95, exif=exif)
    files = ImageFiles(
        dataset(color_type=color_type, imdecode_backend=backend))
    loaded = files.load(path)
    if color_type == 'color':
        assert loaded.shape == (60, 40, 3)
        loaded = loaded.transpose(1, 0, 2)
    assert_halves(loaded, RED, BLUE)


@pytest.mark.parametrize('color_type, shape', [('grayscale', (40, 60)),
                                               ('unchanged', (40, 60)),
                                               ('unchanged', (40, 60, 4))])
def test_an_image_of_any_number_of_channels(tmp_path, color_type, shape):
    path = str(tmp_path / 'image.png')
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    cv2.imwrite(path, image)
    loaded = ImageFiles(dataset(color_type=color_type)).load(path)
    assert loaded.shape == (40, 60, 3) and loaded.dtype == np.uint8
    if len(shape) == 3:
        np.testing.assert_array_equal(loaded, image[..., 2::-1])
    else:
        np.testing.assert_array_equal(loaded, image[..., None].repeat(3, 2))


@pytest.mark.parametrize('low, high', [(300, 700), (0, 65535)])
def test_an_image_of_16_bits_is_stretched(tmp_path, low, high):
    """Of a depth camera: clamped to a byte it is white."""
    path = str(tmp_path / 'depth.png')
    image = np.linspace(low, high, 60).astype(np.uint16)
    cv2.imwrite(path, np.broadcast_to(image, (40, 60)).copy())
    loaded = ImageFiles(dataset(color_type='unchanged')).load(path)
    assert loaded.dtype == np.uint8
    assert loaded[0, 0, 0] == 0 and loaded[0, -1, 0] == 255
    assert (np.diff(loaded[0, :, 0].astype(int)) >= 0).all()
    assert len(np.unique(loaded)) > 50


@pytest.mark.parametrize('given', ['pipeline', 'argument'])
def test_what_is_in_no_file_is_loaded_by_its_backend(given):
    encoded = cv2.imencode('.png', halves(GREEN, RED)[..., ::-1])[1]
    Memory.images = {'key of LMDB': encoded.tobytes()}
    backend = dict(backend='memory')
    if given == 'pipeline':
        files = ImageFiles(dataset(backend_args=backend))
    else:
        files = ImageFiles(dataset(), backend)
    assert_halves(files.load('key of LMDB'), GREEN, RED)


def test_of_several_data_sets_the_loader_of_the_first(tmp_path):
    path = str(tmp_path / 'image.png')
    Image.fromarray(halves()).save(path)
    combined = SimpleNamespace(
        pipeline=Compose([]), datasets=[dataset(color_type='grayscale')])
    loaded = ImageFiles(combined).load(path)
    assert (np.ptp(loaded, axis=-1) == 0).all()


def test_an_image_that_cannot_be_read_is_named_once(tmp_path, warnings_logged):
    """P2: made in memory, or lost. It costs its own picture."""
    path = tmp_path / 'broken.jpg'
    path.write_bytes(b'no image')
    files = ImageFiles(dataset())
    for name in (str(path), str(tmp_path / 'lost.jpg'), None):
        assert files.load(name) is None
    assert len(warnings_logged) == 1 and 'broken.jpg' in warnings_logged[0]
