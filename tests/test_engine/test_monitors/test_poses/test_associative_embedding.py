# Copyright (c) OpenMMLab. All rights reserved.
"""A training of MMPose's head for associative embedding.

MMPose has no training pipeline for it, and its parts do not fit together: its
packing drops the indices of the keypoints, which its loss of tags needs, and
its loss of heatmaps refuses the weights of several instances in an image. Two
classes here make up for that.
"""
import glob

import pytest
import torch
from loss_families import RESNET, settings_of
from painted_people import paint_data_set

from mmpose.datasets.transforms import PackPoseInputs
from mmpose.engine.monitors.poses.pictures.sample_pictures import \
    SamplePictures
from mmpose.models.losses import KeypointMSELoss
from mmpose.registry import MODELS, TRANSFORMS

CODEC = dict(
    type='AssociativeEmbedding',
    input_size=(64, 64),
    heatmap_size=(16, 16),
    sigma=1,
    decode_max_instances=10,
    decode_keypoint_order=list(range(17)))


@TRANSFORMS.register_module(force=True)
class PackIndices(PackPoseInputs):
    label_mapping_table = dict(
        PackPoseInputs.label_mapping_table,
        keypoint_indices='keypoint_indices')


@MODELS.register_module(force=True)
class WithoutWeights(KeypointMSELoss):

    def forward(self, output, target, target_weights=None, mask=None):
        return super().forward(output, target, None, mask)


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    folders = {
        name: tmp_path_factory.mktemp(name)
        for name in ('train', 'val')
    }
    for seed, folder in enumerate(folders.values()):
        paint_data_set(folder, num_images=4, size=(128, 128), seed=seed)
    return folders


def settings(folders, restored):
    model = dict(
        type='BottomupPoseEstimator',
        backbone=RESNET,
        head=dict(
            type='AssociativeEmbeddingHead',
            in_channels=64,
            num_keypoints=17,
            deconv_out_channels=(8, 8, 8),
            deconv_kernel_sizes=(4, 4, 4),
            keypoint_loss=dict(type='WithoutWeights'),
            tag_loss=dict(type='AssociativeEmbeddingLoss', loss_weight=0.001),
            decoder=dict(CODEC, heatmap_size=(64, 64)) if restored else CODEC),
        test_cfg=dict(
            flip_test=True,  # Without it the head predicts nothing at all.
            shift_heatmap=False,
            restore_heatmap_size=restored,
            align_corners=False))
    cfg = settings_of('dekr', folders)
    cfg['model'] = dict(
        model, data_preprocessor=cfg['model']['data_preprocessor'])
    for step in cfg['train_dataloader']['dataset']['pipeline']:
        if step['type'] == 'GenerateTarget':
            step['encoder'] = CODEC
        if step['type'] == 'PackPoseInputs':
            step['type'] = 'PackIndices'
    packing = cfg['val_dataloader']['dataset']['pipeline'][-1]
    packing['meta_keys'] = (*packing['meta_keys'], 'flip_indices')
    return cfg


@pytest.mark.parametrize('restored', [False, True])
def test_it_trains_as_without_the_hook(restored, train, folders, monkeypatch):
    """P1 and P8: with the targets in the labels' cells, and the heatmaps of
    the keypoints, without the tags, where they are of the targets' size."""
    scenes = []
    draw = SamplePictures.draw

    def remember(self, scene, arrays):
        scenes.append(scene)
        return draw(self, scene, arrays)

    monkeypatch.setattr(SamplePictures, 'draw', remember)
    runner = train(
        dict(
            train_image_interval=1,
            max_train_images=2,
            log_graph=False,
            log_model_stats=False), **settings(folders, restored))
    without = train(None, **settings(folders, restored))
    state = runner.model.state_dict()
    assert all(
        torch.equal(state[name], value)
        for name, value in without.model.state_dict().items())

    targets = [scene for scene in scenes if 'step' in scene.caption]
    assert targets
    for scene in targets:
        assert scene.truth.shape[1:] == (17, 2) and scene.visible.any()
        # The codec's cells are four pixels wide.
        assert (scene.truth[scene.visible] % 4 == 0).all()
        assert scene.heatmap.tensors[0].shape == ((64, 64) if restored else
                                                  (16, 16))
    log, = glob.glob(f'{runner.work_dir}/*/*.log')
    with open(log) as file:
        said = file.read().count('no train/heatmaps')
    assert said == restored
