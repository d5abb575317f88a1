# Copyright (c) OpenMMLab. All rights reserved.
import itertools

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from torch import nn

from mmpose.engine.monitors.poses.pictures.model_inputs import (VisibleInput,
                                                                image_name,
                                                                make_visible,
                                                                preprocess,
                                                                read_input,
                                                                sample_name)
from mmpose.models import PoseDataPreprocessor
from mmpose.structures import PoseDataSample

IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
RIGHT = dict(IMAGENET, bgr_to_rgb=True)


@pytest.fixture
def image():
    """As LoadImage gives it: BGR, uint8; something like a photograph."""
    rng = np.random.default_rng(0)
    image = rng.normal((90, 110, 140), 40, (64, 48, 3)).clip(0, 255)
    return torch.from_numpy(image.astype(np.uint8)).permute(2, 0, 1)


class Model(nn.Module):

    def __init__(self, **kwargs):
        super().__init__()
        self.data_preprocessor = PoseDataPreprocessor(**kwargs)


def given(image, **meta):
    return read_input([image], 0, PoseDataSample(metainfo=meta), ())


def seen(image, **kwargs):
    """What is shown of an image behind a data preprocessor."""
    visible = make_visible(preprocess(Model(**kwargs), given(image)))
    return VisibleInput(*(part.numpy() for part in visible))


def test_behind_the_usual_preprocessor_an_image_looks_as_it_is(image):
    (title, picture), = seen(image, **RIGHT).pictures()
    expected = image.flip(0).permute(1, 2, 0).numpy()
    assert title == '' and picture.dtype == np.uint8
    assert np.abs(picture.astype(int) - expected).max() <= 1


MISTAKES = dict(
    right=RIGHT,
    channels_not_swapped=IMAGENET,
    no_mean=dict(RIGHT, mean=[0., 0, 0]),
    no_std=dict(RIGHT, std=[1., 1, 1]),
    mean_of_bgr=dict(RIGHT, mean=IMAGENET['mean'][::-1]),
    zero_to_one=dict(mean=[0., 0, 0], std=[255.] * 3, bgr_to_rgb=True),
    minus_one_to_one=dict(mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True),
    not_normalised=dict(),
    not_normalised_rgb=dict(mean=[0., 0, 0], std=[1., 1, 1], bgr_to_rgb=True))


@pytest.mark.parametrize('one, other', [
    pair for pair in itertools.combinations(MISTAKES, 2) if pair[0] == 'right'
] + [('channels_not_swapped', 'not_normalised'), ('no_mean', 'no_std'),
     ('zero_to_one', 'not_normalised_rgb')])
def test_each_wrong_setting_gives_another_picture(image, one, other):
    """P8: the four were identical, with the config's own constants."""
    one, other = (
        seen(image, **MISTAKES[name]).pictures()[0] for name in (one, other))
    away = np.abs(one[1].astype(int) - other[1]).mean()
    assert away > 4, 'to be seen'


def test_channels_in_the_wrong_order_are_a_red_that_is_blue():
    red = torch.tensor([0, 0, 255], dtype=torch.uint8).view(3, 1, 1)
    red = red.repeat(1, 16, 16)
    assert (seen(red, **RIGHT).pictures()[0][1] == (255, 0, 0)).all()
    # The swapped channels under the same constants, to a unit or two.
    picture = seen(red, **IMAGENET).pictures()[0][1].astype(int)
    assert np.abs(picture - (0, 0, 255)).max() <= 2


@pytest.mark.parametrize('name', ['not_normalised', 'no_std'])
def test_an_input_out_of_range_says_so(image, name):
    """And what is drawn on is stretched, which is said as well."""
    (title, picture), (how, stretched) = seen(image,
                                              **MISTAKES[name]).pictures()
    assert title.startswith('input, ') and title.endswith('% out of range')
    assert how == 'stretched'
    assert stretched.std() > 40 and (picture != stretched).any()


def test_a_very_dark_image_has_a_stretched_copy(image):
    dark = (image // 12).byte()
    (title, picture), (how, stretched) = seen(dark, **RIGHT).pictures()
    assert (title, how) == ('input, very dark', 'stretched')
    assert picture.max() < 30 and stretched.std() > 40
    # A night with a lamp in it is one, and a day is none.
    dark[:, :3, :3] = 255
    assert len(seen(dark, **RIGHT).pictures()) == 2
    assert len(seen(image // 2, **RIGHT).pictures()) == 1


@pytest.mark.parametrize('settings', [RIGHT, IMAGENET, dict()])
def test_what_is_grey_is_grey_when_stretched(settings):
    """A dark image was blue: its black differs by the channel's constants."""
    grey = torch.randint(0, 16, (1, 64, 48), dtype=torch.uint8).repeat(3, 1, 1)
    (_, picture) = seen(grey, **settings).pictures()[-1]
    assert picture.std() > 40
    assert np.ptp(picture.astype(int), axis=-1).max() < 12


@pytest.mark.parametrize('kind', ['0..1', '16 bit', 'overshoot', 'int'])
def test_any_input_is_kept_as_it_came(image, kind):
    """Thermal, depth, 0..1: they were clamped to a byte, and predicted so."""
    values = image.float()
    values = {
        '0..1': values / 255,
        '16 bit': values * 257,
        'overshoot': values / 200 - 0.1,
        'int': image.int() * 257
    }[kind]
    kept = given(values).tensor
    assert kept.dtype == values.dtype and torch.equal(kept, values)
    assert kept.data_ptr() != values.data_ptr()
    # And can be seen.
    assert seen(values, **RIGHT).pictures()[-1][1].std() > 10


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_any_number_of_channels(channels):
    torch.manual_seed(0)
    visible = make_visible(torch.randn(channels, 16, 12))
    picture = VisibleInput(*(p.numpy() for p in visible)).pictures()[0][1]
    assert picture.shape == (16, 12, 3)
    if channels < 3:
        assert (picture == picture[..., :1]).all()


@pytest.mark.parametrize('values', [
    torch.full((3, 8, 8), np.nan),
    torch.full((3, 8, 8), np.inf),
    torch.zeros(3, 8, 8),
])
def test_odd_values(values):
    visible = VisibleInput(*(p.numpy() for p in make_visible(values)))
    for _, picture in visible.pictures():
        assert picture.shape == (8, 8, 3)


def test_of_frames_the_first_is_seen(image):
    """Shape (T, C, H, W): MMPose's videos begin with the annotated frame."""
    frames = torch.stack([image, 255 - image])
    assert torch.equal(given(frames).tensor, frames)
    normalized = [
        torch.randn(3, 16, 12, generator=torch.manual_seed(i))
        for i in range(2)
    ]
    for seen, alone in zip(
            make_visible(torch.stack(normalized)),
            make_visible(normalized[0])):
        assert torch.equal(seen, alone)


@pytest.mark.parametrize('shape', [(12288, ), (1, 2, 3, 8, 8)])
def test_what_is_no_image_is_named(shape):
    with pytest.raises(ValueError, match=r'shape \(C, H, W\)'):
        given(torch.zeros(shape))


def test_the_preprocessor_is_given_copies(image):
    """And is in evaluation mode, though the model trains."""
    modes = []

    class InPlace(PoseDataPreprocessor):

        def forward(self, data, training=False):
            modes.append((training, self.training))
            data['inputs'][0].fill_(7)
            data['data_samples'][0].set_metainfo(dict(mark=1))
            return super().forward(data, training)

    model = Model(**RIGHT)
    model.data_preprocessor = InPlace(**RIGHT)
    kept = given(image, mark=0)
    preprocess(model, kept)
    assert torch.equal(kept.tensor, image) and kept.meta['mark'] == 0
    assert modes == [(False, False)] and model.data_preprocessor.training


def test_what_part_of_the_image_an_input_is(image):
    """As MMPose's estimators convert back what they have predicted."""
    meta = dict(
        input_size=(48, 64),
        input_center=np.array([[200., 90.]]),
        input_scale=np.array([[144., 192.]]))
    kept = given(image, **meta)
    in_input = np.array([[10., 20.], [0., 0.]])
    in_image = in_input / (48, 64) * (144, 192) + (200, 90) - (72, 96)
    np.testing.assert_allclose(kept.project(in_image), in_input)
    # All of the image, where nothing is said.
    np.testing.assert_allclose(given(image).project(in_input), in_input)


# Which sample it is


@pytest.mark.parametrize('path, prefixes, expected', [
    ('/data/coco/val/a/0001.jpg', ['/data/coco/val/'], 'a/0001.jpg'),
    ('/data/coco/val/a/0001.jpg', ['/data/coco'], 'val/a/0001.jpg'),
    ('/data/other/video_3/cam_1/000000.jpg', ['/data/coco'
                                              ], 'video_3/cam_1/000000.jpg'),
    ('000000.jpg', [], '000000.jpg'),
    ('s3://bucket/val/1.jpg', ['s3://bucket/val'], '1.jpg'),
    ('C:\\data\\val\\1.jpg', ['C:\\data'], 'val/1.jpg'),
    (None, [], ''),
])
def test_the_path_of_an_image(path, prefixes, expected):
    assert image_name(path, prefixes) == expected


@pytest.mark.parametrize('meta, expected', [
    (dict(raw_ann_info=dict(id=45), id=3), 'a.jpg  id 45'),
    (dict(raw_ann_info=[dict(id=45), dict(id=46)], id=3), 'a.jpg'),
    (dict(id=17), 'a.jpg  sample 17'),
    (dict(id=[17, 18]), 'a.jpg'),
    (dict(), 'a.jpg'),
])
def test_the_id_of_an_annotation(meta, expected):
    sample = PoseDataSample(metainfo=dict(img_path='a.jpg', **meta))
    sample.gt_instances = InstanceData()
    assert sample_name(sample) == expected
