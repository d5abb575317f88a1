# Copyright (c) OpenMMLab. All rights reserved.
import pytest
import torch
from torch import nn

from mmpose.engine.monitors.core.layer_groups import (layer_groups,
                                                      named_parameters)
from mmpose.registry import MODELS
from mmpose.utils import register_all_modules


@pytest.fixture(scope='module')
def resnet18():
    register_all_modules()
    model = nn.Module()
    model.backbone = MODELS.build(dict(type='ResNet', depth=18))
    model.head = nn.Sequential(nn.Conv2d(512, 256, 1), nn.Conv2d(256, 17, 1))
    return dict(named_parameters(model))


@pytest.mark.parametrize('max_groups', [1, 2, 3, 8, 20, 30, 1000])
def test_the_groups_hold_every_parameter_once(resnet18, max_groups):
    groups = layer_groups(resnet18, max_groups)
    members = [name for names in groups.values() for name in names]
    assert sorted(members) == sorted(resnet18)
    assert len(groups) <= max_groups
    for group, names in groups.items():
        prefix = '' if group == 'model' else group.replace('/', '.') + '.'
        assert all(name.startswith(prefix) for name in names)


def test_a_level_is_opened_before_the_next(resnet18):
    assert list(layer_groups(resnet18, 8)) == [
        'backbone/conv1', 'backbone/bn1', 'backbone/layer1', 'backbone/layer2',
        'backbone/layer3', 'backbone/layer4', 'head/0', 'head/1'
    ]


def test_within_a_level_the_largest_is_opened_first(resnet18):
    groups = layer_groups(resnet18, 9)
    assert 'backbone/layer4/0' in groups and 'backbone/layer3' in groups


def test_one_group_is_the_model(resnet18):
    assert list(layer_groups(resnet18, 1)) == ['model']


def test_minus_one_is_every_parameter(resnet18):
    groups = layer_groups(resnet18, -1)
    assert groups['backbone/conv1/weight'] == ['backbone.conv1.weight']
    assert len(groups) == len(resnet18)


def test_zero_is_none(resnet18):
    assert layer_groups(resnet18, 0) == {}


def test_parameters_of_an_opened_module_stay_together():

    class Embedded(nn.Module):

        def __init__(self):
            super().__init__()
            self.position = nn.Parameter(torch.zeros(3))
            self.token = nn.Parameter(torch.zeros(3))
            self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))

    model = nn.Module()
    model.backbone = Embedded()
    assert list(layer_groups(dict(named_parameters(model)), 3)) == [
        'backbone', 'backbone/layers/0', 'backbone/layers/1'
    ]


def test_names_are_those_of_the_bare_model():
    model = nn.Sequential(nn.Linear(2, 2))
    wrapped = nn.Module()
    wrapped._orig_mod = model
    assert [n for n, _ in named_parameters(wrapped)
            ] == [n for n, _ in model.named_parameters()]


def test_a_shared_parameter_is_there_once():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    assert '1.weight' not in dict(named_parameters(model))
