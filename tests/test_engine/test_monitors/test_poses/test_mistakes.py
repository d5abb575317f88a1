# Copyright (c) OpenMMLab. All rights reserved.
"""P8: each mistake that the documentation of the training pictures says can be
seen is made here, and must give another picture."""
import cv2
import numpy as np
import pytest
from mmcv.transforms import BaseTransform
from mmengine.dataset import pseudo_collate
from painted_people import dot_near, paint_data_set

from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.engine.monitors.poses import train_images
from mmpose.engine.monitors.poses.pictures import sample_pictures
from mmpose.engine.monitors.poses.pictures.fixed_samples import FixedSamples
from mmpose.engine.monitors.poses.pictures.sample_pictures import \
    SamplePictures
from mmpose.registry import DATASETS, MODELS, TRANSFORMS
from mmpose.utils import register_all_modules

register_all_modules()
CODEC = dict(
    type='UDPHeatmap', input_size=(192, 256), heatmap_size=(48, 64), sigma=2)
NORMALIZED = dict(
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True)

# Of each of COCO's keypoints, as the painted dots are numbered.
PARTNERS = [0, *np.arange(1, 17).reshape(8, 2)[:, ::-1].ravel()]


@TRANSFORMS.register_module(force=True)
class ImageOnly(BaseTransform):
    """An augmentation that leaves the keypoints where they were."""

    def __init__(self, kind):
        self.kind = kind

    def transform(self, results):
        image = results['img']
        if self.kind == 'flip':
            image = image[:, ::-1]
        elif self.kind == 'rotate':
            image = image[::-1, ::-1]
        elif self.kind == 'halve':
            image = np.pad(image[::2, ::2], ((0, 144), (0, 160), (0, 0)))
        else:
            image = image[..., ::-1]
        results['img'] = np.ascontiguousarray(image)
        return results


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('painted')
    paint_data_set(root, shown=17)
    for path in root.glob('*.png'):
        image = cv2.imread(str(path))
        image[(image == 128).all(-1)] = (60, 100, 150)
        cv2.imwrite(str(path), image)
    return root


@pytest.fixture
def picture(root, monkeypatch):
    """A function that makes the training pictures, the images flipped.

    Returns the first panels, and a function: the fraction of keypoints whose
    target is on the painted dot of some, by default on the one that is right
    in a flipped image: that of the partner.
    """
    composed = []
    monkeypatch.setattr(
        sample_pictures, 'compose',
        lambda panels, caption, name: composed.append(panels) or panels[0][1])

    def make(augmentation=None,
             metainfo=None,
             encoder=CODEC,
             preprocessor=NORMALIZED):
        composed.clear()
        pipeline = [
            dict(type='LoadImage'),
            dict(type='GetBBoxCenterScale'),
            dict(type='RandomFlip', prob=1.),
            dict(type='TopdownAffine', input_size=(192, 256), use_udp=True),
            dict(type='GenerateTarget', encoder=encoder),
            dict(type='PackPoseInputs')
        ]
        if augmentation:
            pipeline.insert(1, dict(type='ImageOnly', kind=augmentation))
        dataset = DATASETS.build(
            dict(
                type='CocoDataset',
                data_root=str(root),
                ann_file='people.json',
                data_prefix=dict(img=''),
                metainfo=metainfo,
                pipeline=pipeline))
        model = MODELS.build(
            dict(
                type='TopdownPoseEstimator',
                data_preprocessor=dict(
                    type='PoseDataPreprocessor', **preprocessor),
                backbone=dict(
                    type='ResNet', depth=18, stem_channels=8, base_channels=8),
                head=dict(
                    type='HeatmapHead',
                    in_channels=64,
                    out_channels=17,
                    deconv_out_channels=(8, 8, 8),
                    deconv_kernel_sizes=(4, 4, 4),
                    loss=dict(type='KeypointMSELoss'),
                    decoder=CODEC)))
        batch = pseudo_collate([dataset[i] for i in range(4)])
        samples = FixedSamples(model, batch, 4, dataset.metainfo)
        samples.decode_targets(batch['data_samples'])
        scenes = list(
            train_images._scenes(samples, samples.predict(model), '',
                                 dataset.metainfo))
        on = []
        for scene in scenes:
            SamplePictures(0.3,
                           'target').draw(scene,
                                          [t.numpy() for t in scene.tensors])
            image = scene.seen.fixed.permute(1, 2, 0).numpy().astype(int)
            for target in scene.truth[0]:
                on.append([
                    k for k in range(17)
                    if dot_near(image, k, target, radius=4) is not None
                ])
        return [panels[0] for panels in composed], lambda expected=PARTNERS: (
            np.mean([expected[i % 17] in near for i, near in enumerate(on)]))

    return make


def metainfo(swap, color=None):
    """COCO's keypoints as users write their own.

    Args:
        swap (bool): Whether each names its partner.
        color (list, optional): Of all keypoints. Defaults to None: COCO's.
    """
    coco = parse_pose_metainfo(
        dict(from_file='configs/_base_/datasets/coco.py'))
    names = coco['keypoint_id2name']
    return dict(
        dataset_name='own',
        keypoint_info={
            i: dict(
                name=name,
                id=i,
                color=color or coco['keypoint_colors'][i].tolist(),
                type='',
                swap=names[coco['flip_indices'][i]]
                if swap and coco['flip_indices'][i] != i else '')
            for i, name in names.items()
        },
        skeleton_info={},
        joint_weights=[1.] * 17,
        sigmas=coco['sigmas'].tolist())


def away(one, other):
    """By how much pictures differ, over all of them."""
    return np.mean([
        np.abs(a.astype(int) - b).mean() if a.shape == b.shape else 255
        for (_, a), (_, b) in zip(one, other)
    ])


def test_what_is_right_lies_on_the_subject(picture):
    _, found = picture()
    assert found() > 0.9, 'some are outside of the input'


@pytest.mark.parametrize('kind', ['flip', 'rotate', 'halve'])
def test_an_augmentation_or_annotation_that_is_wrong(picture, kind):
    """'The target beside the subject, rotated or flipped'."""
    right, _ = picture()
    wrong, found = picture(augmentation=kind)
    assert away(right, wrong) > 0.5
    assert found() < 0.2


@pytest.mark.parametrize('encoder', [
    dict(CODEC, input_size=(256, 256)),
    dict(CODEC, input_size=(288, 384)),
])
def test_a_codec_that_is_not_that_of_the_model(picture, encoder):
    right, _ = picture()
    wrong, found = picture(encoder=encoder)
    assert away(right, wrong) > 1
    assert found() < 0.3


@pytest.mark.parametrize('color', [None, [255, 255, 255]])
def test_wrong_flip_indices(picture, color):
    """'Left and right exchanged in the target': each is on its partner.

    They are told apart by colours that are not those of ``flip_indices``.
    """
    right, found = picture(metainfo=metainfo(True, color))
    assert found() > 0.9
    wrong, found = picture(metainfo=metainfo(False, color))
    assert found(range(17)) > 0.9
    # The same dots of other colours.
    assert away(right, wrong) > 0.5
    grey = [[('', panel.max(-1) - panel.min(-1) < 40) for _, panel in panels]
            for panels in (right, wrong)]
    assert away(*grey) < 0.01


@pytest.mark.parametrize('mistake', [
    dict(augmentation='channels'),
    dict(preprocessor=dict(NORMALIZED, bgr_to_rgb=False)),
])
def test_red_and_blue_exchanged(picture, mistake):
    """A loader that gives RGB already; a forgotten ``bgr_to_rgb``."""
    right, _ = picture()
    wrong, _ = picture(**mistake)
    for (_, one), (_, other) in zip(right, wrong):
        paper = [np.median(p[p.any(-1)], 0).astype(int) for p in (one, other)]
        assert np.abs(paper[0] - (150, 100, 60)).max() <= 2
        assert np.abs(paper[1] - (60, 100, 150)).max() <= 2


def test_no_normalisation(picture):
    """'A first panel "input, 98% out of range", almost white'."""
    panels, _ = picture(preprocessor=dict(bgr_to_rgb=True))
    for title, panel in panels:
        assert title.startswith('input, ') and 'out of range' in title
        assert np.median(panel) > 250


@pytest.mark.parametrize('mean, std', [(0., 255.), (127.5, 127.5)])
def test_another_normalisation(picture, mean, std):
    """'Pale grey images': of less contrast, and no panel but the usual."""
    right, _ = picture()
    wrong, _ = picture(
        preprocessor=dict(mean=[mean] * 3, std=[std] * 3, bgr_to_rgb=True))
    for (title, panel), (_, usual) in zip(wrong, right):
        assert title == 'target'
        assert away([('', panel)], [('', usual)]) > 4
