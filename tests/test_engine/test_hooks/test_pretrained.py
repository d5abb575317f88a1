# Copyright (c) OpenMMLab. All rights reserved.
"""How much of a checkpoint is loaded, against MMEngine's own count."""
import copy
import os

import pytest
import torch
from mmengine.runner import checkpoint as checkpoints
from mmengine.runner import load_state_dict
from test_hparams import hparams_of
from test_planted_settings import findings
from test_planted_training_illness import WATCH

from mmpose.engine.monitors.run.pretrained import local_file
from mmpose.registry import MODELS

LENGTH = dict(train_cfg=dict(by_epoch=True, max_epochs=1, val_interval=9))


def weights(module):
    return {n: p for n, p in module.named_parameters() if p.dim() > 1}


def size(parameters):
    return sum(p.numel() for p in parameters)


@pytest.fixture
def model_cfg(runner_cfg):
    return copy.deepcopy(runner_cfg()['model'])


def train_from(train, model, checkpoint, **init_cfg):
    init_cfg = dict(type='Pretrained', checkpoint=str(checkpoint), **init_cfg)
    model = copy.deepcopy(model)
    model['backbone']['init_cfg'] = init_cfg
    runner = train(dict(WATCH), model=model, **copy.deepcopy(LENGTH))
    return runner, float(hparams_of(runner.work_dir)['pretrained'])


def test_the_backbone_of_a_whole_model(train, model_cfg, tmp_path):
    """With its prefix all is loaded, without it nothing."""
    model = MODELS.build(model_cfg)
    path = tmp_path / 'model.pth'
    torch.save(dict(state_dict=model.state_dict()), str(path))
    runner, fraction = train_from(train, model_cfg, path, prefix='backbone.')
    # The batch norms of MMPose's ResNet are no part of it.
    expected = size(weights(model.backbone).values()) / size(
        weights(model).values())
    assert fraction == pytest.approx(expected, abs=0.005)
    assert not findings(runner, 0)
    runner, fraction = train_from(train, model_cfg, path)
    assert fraction == 0
    line, = findings(runner, 1)
    assert 'Hardly any weight of backbone' in line
    assert f'0.0% of the weights of backbone are in {path}' in line


@pytest.mark.parametrize('change', [
    dict(base_channels=16),
    dict(strides=(1, 2, 2, 2), depth=34),
])
def test_another_architecture(train, model_cfg, tmp_path, change):
    """What MMEngine loads of it, by names and shapes."""
    backbone = dict(model_cfg['backbone'])
    other = MODELS.build({**backbone, **change})
    other.init_weights()
    path = tmp_path / 'other.pth'
    torch.save(other.state_dict(), str(path))
    own = MODELS.build(backbone)
    before = {n: p.clone() for n, p in weights(own).items()}
    load_state_dict(own, other.state_dict(), strict=False)
    loaded = [p for n, p in weights(own).items() if not (p == before[n]).all()]
    runner, fraction = train_from(train, model_cfg, path)
    whole = MODELS.build(model_cfg)
    expected = size(loaded) / size(weights(whole).values())
    assert fraction == pytest.approx(expected, abs=0.005)
    is_little = size(loaded) < 0.1 * size(weights(own).values())
    assert len(findings(runner, int(is_little))) == is_little


def test_a_checkpoint_with_another_head(train, model_cfg, tmp_path):
    """A fine-tuning: most of it is loaded, and there is no finding."""
    model_cfg['head'].update(out_channels=21, deconv_out_channels=(16, 16, 16))
    path = tmp_path / 'model.pth'
    other = MODELS.build(model_cfg)
    torch.save(dict(state_dict=other.state_dict()), str(path))
    runner = train(dict(WATCH), load_from=str(path), **copy.deepcopy(LENGTH))
    # As MMEngine decides it.
    others = other.state_dict()
    whole = weights(runner.model)
    loaded = [p for n, p in whole.items() if others[n].shape == p.shape]
    fraction = float(hparams_of(runner.work_dir)['pretrained'])
    expected = size(loaded) / size(whole.values())
    assert fraction == pytest.approx(expected, abs=0.005) and fraction < 0.97
    assert not findings(runner, 0)


def test_converted_names_are_the_same_weights(train, model_cfg, tmp_path,
                                              monkeypatch):
    """As of Swin, whose elements are in another order as well."""
    backbone = MODELS.build(model_cfg['backbone'])
    path = tmp_path / 'backbone.pth'
    torch.save(backbone.state_dict(), str(path))
    renamed = {
        f'stage.{name}': value.flip(0)
        for name, value in backbone.state_dict().items()
    }
    expected = train_from(train, model_cfg, path)[1]
    # The hook is shown the same weights under other names.
    monkeypatch.setattr(checkpoints, 'load_from_local', lambda *_: renamed)
    assert train_from(train, model_cfg, path)[1] == expected > 0.5


def test_where_mmengine_has_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    folder = tmp_path / 'checkpoints'
    folder.mkdir()
    assert local_file('https://host/a/b.pth?x=1') is None
    assert local_file('torchvision://nothing') is None
    (folder / 'b.pth').touch()
    assert local_file('https://host/a/b.pth?x=1') == str(folder / 'b.pth')
    url = checkpoints.get_torchvision_models()['resnet50']
    file = folder / os.path.basename(url)
    file.touch()
    assert local_file('torchvision://resnet50') == str(file)
    assert local_file(str(file)) == str(file)
