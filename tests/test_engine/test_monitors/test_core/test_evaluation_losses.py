# Copyright (c) OpenMMLab. All rights reserved.
import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import nn

from mmpose.engine.monitors.core.side_effects import evaluation_losses
from mmpose.utils.dist_utils import reduce_mean


class Drawing(BaseModel):
    """Its loss draws, counts, logs and asks the other ranks."""

    def __init__(self):
        super().__init__(BaseDataPreprocessor())
        self.head = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
        self.num_calls = 0

    def forward(self, inputs, mode='tensor'):
        self.num_calls += 1
        MessageHub.get_current_instance().update_scalar('train/mine', 1.)
        loss = self.head(inputs).sum() + torch.rand(()) + np.random.rand()
        return dict(
            loss_a=reduce_mean(loss), loss_b=[loss, loss], accuracy=loss)


@pytest.fixture
def hub():
    return MessageHub.get_instance('evaluation_losses')


def test_no_other_rank_is_waited_for(monkeypatch):
    """P2: the others do not take part, so an exchange would never end."""
    distributed = torch.distributed

    def hang(*args, **kwargs):
        raise AssertionError('waits for the other ranks')

    monkeypatch.setattr(distributed, 'is_initialized', lambda: True)
    monkeypatch.setattr(distributed, 'get_world_size', lambda: 2)
    monkeypatch.setattr(distributed, 'all_reduce', hang)
    with evaluation_losses(Drawing()) as losses:
        losses(dict(inputs=torch.ones(2)))
    assert distributed.is_initialized()


def test_it_draws_the_same_and_leaves_nothing(hub):
    """P1."""
    model = Drawing().train()
    hub.update_scalar('train/mine', 5.)
    states = torch.get_rng_state(), np.random.get_state()[1]
    with evaluation_losses(model) as losses:
        first, second = (losses(dict(inputs=torch.ones(2))) for _ in range(2))
        assert model.num_calls == 2 and not model.head[1].training
    assert set(first) == {'loss', 'loss_a', 'loss_b'}
    assert first == second
    assert first['loss'] == first['loss_a'] + first['loss_b']
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()
    assert model.num_calls == 0
    assert all(module.training for module in model.modules())
    assert hub.get_scalar('train/mine').data[0].tolist() == [5.]


def test_an_error_leaves_nothing_either(hub):
    model = Drawing().train()
    with pytest.raises(ZeroDivisionError):
        with evaluation_losses(model) as losses:
            losses(dict(inputs=torch.ones(2)))
            1 / 0
    assert model.num_calls == 0 and model.training
