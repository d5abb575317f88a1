# Copyright (c) OpenMMLab. All rights reserved.
import pytest
import torch
from stepping import no_waiting
from torch import nn

from mmpose.engine.monitors.poses.activations import ActivationProbe
from mmpose.models.backbones import TCN


def closed(model, *inputs, forwards=1):
    """The fraction of closed channels of each layer."""
    with torch.no_grad(), ActivationProbe(model) as probe:
        for entering in inputs:
            model(entering)
    assert not any(m._forward_pre_hooks for m in model.modules())
    record = probe.record(3, forwards)
    if record is None:
        return None
    activations, = record.read()
    return activations.closed


def by_autograd(layer, entering):
    """The fraction of channels without a gradient above 0.003."""
    entering = entering.clone().requires_grad_()
    layer(entering * 1).sum().backward()
    largest = entering.grad.abs().transpose(0, 1).flatten(1).max(1)[0]
    return float((largest < 0.003).float().mean())


@pytest.mark.parametrize(
    'layer', [
        nn.ReLU(),
        nn.ReLU(inplace=True),
        nn.ReLU6(),
        nn.SiLU(inplace=True),
        nn.GELU(),
        nn.Hardswish(),
        nn.Sigmoid(),
        nn.Hardsigmoid(),
        nn.Tanh()
    ],
    ids=str)
def test_a_channel_is_closed_where_no_gradient_passes(layer):
    """Against autograd; of eight channels the first ones are far below 0, the
    last one far above."""
    torch.manual_seed(0)
    entering = torch.rand(2, 8, 5, 5)
    entering[:, :3] -= 30
    entering[0, 2, 1, 1] = 0.5
    entering[:, 7] += 30
    expected = by_autograd(layer, entering)
    assert expected in (2 / 8, 3 / 8)
    assert closed(nn.Sequential(layer), entering.clone()) == {
        '0': pytest.approx(expected)
    }


def test_the_worst_of_several_calls_counts_and_any_sample_opens_a_channel():

    class Block(nn.Module):

        def __init__(self):
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x):
            return self.relu(self.relu(x) - 0.5)

    open_first, open_second, half = (
        torch.tensor(channels).view(1, 2, 1, 1).repeat(1, 1, 2, 2)
        for channels in ([1., -1.], [-1., 1.], [.4, 1.]))
    assert closed(Block(), open_first) == {'relu': .5}
    assert closed(Block(), open_first, open_second, forwards=2) == {'relu': 0.}
    # Both channels pass the first call, and one the second.
    assert closed(Block(), half) == {'relu': .5}


@pytest.mark.parametrize('layer', [nn.ReLU(), nn.Sigmoid()], ids=str)
def test_what_is_nan_is_not_closed(layer):
    """Behind a running variance of NaN, which has a finding of its own."""
    entering = torch.rand(2, 8, 5, 5)
    entering[:, :3] = float('nan')
    assert closed(nn.Sequential(layer), entering) == {'0': 0}


def test_the_channels_of_a_sequence_are_not_its_frames():
    """Defect: dead channels of a lifter were invisible, by MMPose's TCN."""
    torch.manual_seed(0)
    model = TCN(6, 16, num_blocks=1, kernel_sizes=(3, 3), dropout=0.)
    model.eval()
    block = model.tcn_blocks[0]
    modules = model.expand_conv, block.conv1[0], block.conv2[0]
    for module, number in zip(modules, (4, 8, 0)):
        module.bn.weight.data[:] = 0
        module.bn.bias.data[:] = 1
        module.bn.bias.data[:number] = -1
    # Of a frame any other channel is open.
    assert closed(model, torch.randn(2, 6, 9)) == {
        'expand_conv.activate': .25,
        'tcn_blocks.0.conv1.0.activate': .5,
        'tcn_blocks.0.conv2.0.activate': 0.
    }


@pytest.mark.parametrize('number, expected', [(4, 1.), (3, 0.)])
def test_a_vector_is_closed_only_as_a_whole(number, expected):
    """Defect: a hidden layer of a healthy InterNet, after a global mean."""
    vectors = torch.ones(2, 4)
    vectors[:, :number] = -1
    assert closed(nn.Sequential(nn.ReLU()), vectors) == {'0': expected}


def test_tokens_have_their_channels_last():
    tokens = torch.ones(2, 3, 4)
    tokens[..., 0] = -20
    assert closed(nn.Sequential(nn.GELU()), tokens) == {'0': .25}


def test_the_squeezed_channels_of_an_attention_are_not_judged():
    """Of LiteHRNet's five, four were closed with random weights."""
    squeezed = torch.full((4, 5, 1, 1), -1.)
    assert closed(nn.Sequential(nn.ReLU()), squeezed) is None


def test_a_model_without_such_layers_has_nothing_to_say():
    assert closed(nn.Sequential(nn.Linear(2, 2)), torch.ones(1, 2)) is None


def test_nothing_waits_for_the_device():
    """P3."""
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Sigmoid())
    with torch.no_grad(), no_waiting(), ActivationProbe(model) as probe:
        model(torch.rand(2, 3, 4, 4))
        record = probe.record(1, 1)
    assert len(record.tensors) == 1


def test_an_error_in_the_block_leaves_no_hook():
    """P1."""
    model = nn.Sequential(nn.ReLU())
    with pytest.raises(ZeroDivisionError):
        with ActivationProbe(model):
            1 / 0
    assert not model[0]._forward_pre_hooks
