# Copyright (c) OpenMMLab. All rights reserved.
import gc
import pickle
import weakref

import numpy as np
import pytest
import torch

from mmpose.engine.monitors.poses.input_pixels import input_pixels
from mmpose.models import PoseDataPreprocessor

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
RED = torch.tensor([0, 0, 255]).view(3, 1, 1)  # As BGR.


@pytest.fixture
def images():
    """Two BGR images of a camera, one with a red patch."""
    torch.manual_seed(0)
    images = torch.randint(256, (2, 3, 24, 18), dtype=torch.uint8)
    images[0, :, 4:12, 6:15] = RED
    return images


def preprocessor(**kwargs):
    return PoseDataPreprocessor(**{
        'mean': MEAN,
        'std': STD,
        'bgr_to_rgb': True,
        **kwargs
    })


def rgb(image):
    """What a BGR image must look like."""
    return image.flip(0).permute(1, 2, 0).numpy()


# uint8, as MMPose's pipelines give it


@pytest.mark.parametrize('as_list', [True, False])
def test_uint8_is_kept_as_it_is(images, as_list):
    inputs = list(images) if as_list else images
    kept = input_pixels(inputs, preprocessor())
    assert len(kept) == 2
    for one, image in zip(kept, images):
        assert torch.equal(one.as_input(), image)
        assert one.as_input().dtype == torch.uint8
        np.testing.assert_array_equal(one.picture(), rgb(image))
    assert (kept[0].picture()[4:12, 6:15] == (255, 0, 0)).all(), 'red is red'


def test_images_of_several_sizes(images):
    kept = input_pixels([images[0], images[1, :, :10]], preprocessor())
    assert [one.picture().shape for one in kept] == [(24, 18, 3), (10, 18, 3)]


def test_rgb_is_shown_as_rgb(images):
    kept = input_pixels(images.flip(1), preprocessor(), is_rgb=True)
    np.testing.assert_array_equal(kept[0].picture(), rgb(images[0]))


def test_nothing_of_the_batch_is_kept_alive():
    """Memory: four inputs of 256x192 in less than 1 MB."""
    batch = torch.zeros((64, 3, 256, 192), dtype=torch.uint8)
    gone = weakref.ref(batch)
    kept = input_pixels(batch[:4], preprocessor())
    batch.fill_(7)
    assert not any(one.pixels.any() for one in kept)
    # Also what is not seen of a view is pickled.
    assert len(pickle.dumps(kept)) < 1e6
    del batch
    gc.collect()
    assert gone() is None


# Floats


@pytest.mark.parametrize('bgr_to_rgb', [True, False])
def test_normalised_floats_are_brought_back(images, bgr_to_rgb):
    """By the preprocessor's own mean, std and channel order."""
    normalise = preprocessor(bgr_to_rgb=bgr_to_rgb)
    inputs = images.flip(1) if bgr_to_rgb else images
    inputs = (inputs.float() - normalise.mean) / normalise.std
    kept = input_pixels(inputs, normalise)
    for one, image, given in zip(kept, images, inputs):
        np.testing.assert_array_equal(one.picture(), rgb(image))
        torch.testing.assert_close(one.as_input(), given)
        assert one.pixels.dtype == torch.uint8


@pytest.mark.parametrize('top', [1, 255])
@pytest.mark.parametrize('mean', [MEAN, None])
def test_ranges_are_told_apart(images, top, mean):
    inputs = images.float() * (top / 255)
    std = mean and STD
    kept = input_pixels(inputs, preprocessor(mean=mean, std=std))
    for one, image, given in zip(kept, images, inputs):
        np.testing.assert_array_equal(one.picture(), rgb(image))
        torch.testing.assert_close(one.as_input(), given)


def test_floats_of_an_unknown_range_are_stretched(images):
    inputs = images.double() / 40 - 3
    kept = input_pixels(inputs, preprocessor(mean=None, std=None))
    np.testing.assert_array_equal(kept[0].picture(), rgb(images[0]))
    assert torch.allclose(kept[1].as_input().double(), inputs[1], atol=1e-5)


def test_the_range_is_that_of_all_images():
    """A dark image in a batch of floats from 0 to 255 stays dark."""
    inputs = torch.zeros(2, 3, 4, 4)
    inputs[0] = 200
    inputs[1] = 1
    kept = input_pixels(inputs, preprocessor())
    assert (kept[1].picture() == 1).all()

    # Nor is one of normalised ones taken for one from 0 to 1.
    inputs[0] = -1
    inputs[1] = 0
    kept = input_pixels(inputs, preprocessor())
    assert (kept[1].picture() == np.round(MEAN)).all()


@pytest.mark.parametrize('value', [0., 0.5, -3.])
def test_an_image_of_one_value(value):
    inputs = torch.full((1, 3, 4, 4), value)
    kept, = input_pixels(inputs, preprocessor(mean=None, std=None))
    torch.testing.assert_close(kept.as_input(), inputs[0], atol=2e-3, rtol=0)
    assert torch.isfinite(kept.scale).all()


# Other channels than three


def test_a_grey_image_is_grey():
    image = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    kept, = input_pixels([image], preprocessor(mean=[100.], std=[50.]))
    for channel in range(3):
        np.testing.assert_array_equal(kept.picture()[..., channel], image[0])


def test_a_normalised_grey_image_is_grey():
    image = torch.arange(256.).view(1, 16, 16)
    normalise = preprocessor(mean=[100.], std=[50.], bgr_to_rgb=False)
    kept, = input_pixels([(image - 100) / 50], normalise)
    assert kept.as_input().shape == (1, 16, 16)
    np.testing.assert_array_equal(kept.picture()[..., 0], image[0])


@pytest.mark.parametrize('channels', [2, 4, 5])
def test_unusual_numbers_of_channels_give_a_picture(channels):
    image = torch.stack([
        torch.full((4, 6), 10 * i, dtype=torch.uint8) for i in range(channels)
    ])
    kept, = input_pixels([image], preprocessor(mean=None, std=None))
    assert torch.equal(kept.as_input(), image)
    picture = kept.picture()
    assert picture.shape == (4, 6, 3) and picture.dtype == np.uint8
    expected = (5, 5, 5) if channels == 2 else (20, 10, 0)
    assert (picture == expected).all()


# No images


@pytest.mark.parametrize('bad', [
    torch.zeros(4, 4),
    torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
    torch.zeros(3, 4, 4, dtype=torch.complex64),
])
def test_what_is_no_image_is_named(bad):
    with pytest.raises(ValueError) as info:
        input_pixels([bad], preprocessor())
    for word in ('(C, H, W)', str(bad.dtype), str(tuple(bad.shape))):
        assert word in str(info.value)
