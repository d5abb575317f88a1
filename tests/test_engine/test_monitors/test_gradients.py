# Copyright (c) OpenMMLab. All rights reserved.
import pytest
import torch
from stepping import FusedSGD, Net, Training, every, of

from mmpose.engine.monitors import GradientMonitor

NAN = float('nan')
GLOBAL = 'train/gradient_norm/global'


def gradients(**kwargs):
    return Training(GradientMonitor(every(), 20, strict=True), **kwargs)


def test_what_backpropagation_comes_to_first_is_named():
    """What is not finite spreads to all that is in front of it."""
    training = gradients()
    assert not of('health/', training.read(), 1)
    model = training.model

    def spoil():
        for parameter in (model.stem.weight, model.block[1].bias,
                          model.block[0].weight):
            parameter.grad.view(-1)[0] = NAN

    found = of('health/nonfinite_gradient/', training.read(1, spoil), 2)
    assert found == {'block.1.bias': pytest.approx(3 / 7)}


def test_a_parameter_that_is_not_the_model_s_has_no_name():
    scale = torch.nn.Parameter(torch.ones(()))
    training = gradients(
        optimizer=lambda p: torch.optim.SGD([*p, scale], lr=0.1))

    def spoil():
        scale.grad = torch.tensor(NAN)

    found = of('health/nonfinite_gradient/', training.read(1, spoil), 1)
    assert found == {'unnamed': 1 / 8}


def test_an_overflow_of_a_fused_optimizer_is_no_reading():
    """GradScaler says it on the device, and the optimizer skips."""
    training = gradients(optimizer=lambda p: FusedSGD(p, lr=0.1))
    optimizer = training.wrapper.optimizer
    optimizer.grad_scale = torch.tensor(2.)
    for overflow in (0., 1., 0.):
        optimizer.found_inf = torch.tensor(overflow)
        readings = training.read()
    assert [bool(reading)
            for reading in readings.values()] == [True, False, True]


def test_layer_groups_are_in_the_order_of_the_model():
    """Large gradients are read first, and are not the first of the model."""
    model = Net()
    model.head = torch.nn.Linear(8, 20000)
    training = gradients(model=model)
    assert list(of('train/gradient_norm/layers/', training.read(),
                   1)) == ['stem', 'block/0', 'block/1', 'head']
