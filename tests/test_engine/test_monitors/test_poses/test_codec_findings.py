# Copyright (c) OpenMMLab. All rights reserved.
"""What the report says about a codec and its targets."""
import re

import numpy as np
import pytest
import test_codec
import torch
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from test_codec import configured, trained

from mmpose.registry import KEYPOINT_CODECS, MODELS

annotations = test_codec.annotations


@MODELS.register_module(force=True)
class NearlyPerfect(BaseModel):
    """Finds all keypoints, up to a pixel of the image."""

    def __init__(self, codec, noise):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.layer.decoder = KEYPOINT_CODECS.build(codec)
        self.noise = noise

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode == 'loss':
            means = torch.stack([i.float().mean((1, 2)) / 255 for i in inputs])
            return dict(loss=self.layer(means).square().mean())
        for sample in data_samples:
            points = sample.gt_instances.keypoints
            points = points + np.random.default_rng(sample.id).normal(
                0, self.noise, points.shape)
            sample.pred_instances = InstanceData(
                keypoints=points,
                keypoint_scores=np.ones(points.shape[:2], np.float32))
        return data_samples


@pytest.mark.parametrize('heatmap, noise, found', [
    ((4, 6), .3, True),
    ((16, 24), 9., False),
])
def test_a_codec_that_is_too_coarse(heatmap, noise, found, annotations,
                                    tmp_path):
    cfg, pipeline = configured(annotations, tmp_path, keypoints=True)
    codec = pipeline[-2]['encoder']
    codec['heatmap_size'] = heatmap
    cfg['model'] = dict(type='NearlyPerfect', codec=codec, noise=noise)
    cfg['train_cfg']['max_epochs'] = 3
    events = trained(cfg)
    assert events.Scalars('instances/OKS')[-1].value > .1
    tag = 'health/finding/codec_ceiling'
    assert (tag in events.Tags()['scalars']) == found
    if found:
        text, = events.Tensors('health/report/text_summary')[-1:]
        text = text.tensor_proto.string_val[0].decode()
        assert 'MSRAHeatmap' in text and '16 px' in text


@pytest.mark.parametrize('target', ['GenerateTarget', 'Shifted'])
def test_the_report_names_the_samples(target, annotations, tmp_path):
    cfg, pipeline = configured(annotations, tmp_path, dict(type='RandomFlip'),
                               dict(type='RandomBBoxTransform'))
    pipeline[-2]['type'] = target
    events = trained(cfg)
    tag = 'health/finding/target_misplaced'
    assert (tag in events.Tags()['scalars']) == (target == 'Shifted')
    if target == 'Shifted':
        text, = events.Tensors('health/report/text_summary')[-1:]
        text = text.tensor_proto.string_val[0].decode()
        assert re.search(r'image_\d.png \(id \d\): \d+\.\d px', text)
