# Copyright (c) OpenMMLab. All rights reserved.
import pytest
import torch
from mmengine.optim import AmpOptimWrapper
from run_logs import read_run
from stepping import FusedSGD, Net, Training, every, of

from mmpose.engine.monitors import GradientMonitor
from mmpose.registry import OPTIMIZERS

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


def test_parameters_that_come_later():
    """As in a fine-tuning whose layers are thawed one by one."""
    training = gradients()
    optimizer = training.wrapper.optimizer

    def norm(parameter, size):

        def fill():
            parameter.grad = torch.full((1, ), size)

        step = training.runner.iter + 1
        return training.read(1, fill)[step][GLOBAL]

    first, second = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    assert norm(first, 1000.) < 1000
    optimizer.add_param_group(dict(params=[first]))
    assert norm(first, 1000.) > 1000
    assert norm(second, 1000.) < 1000
    optimizer.param_groups[1]['params'] = [second]
    assert norm(second, 1000.) > 1000


@pytest.mark.parametrize('optimizer', [torch.optim.SGD, FusedSGD])
def test_a_training_in_mixed_precision_with_an_overflow(train, optimizer):
    """Gradients are read unscaled, and none of the update left out."""
    OPTIMIZERS.register_module('Watched', force=True, module=optimizer)
    hook = dict(
        grad_norm_interval=1,
        log_train_images=False,
        log_val_images=False,
        log_keypoints=False,
        hard_samples=0)
    norms = []
    for wrapper in (dict(type='OptimWrapper'),
                    dict(
                        type='ScalingWrapper',
                        overflows=[step == 5 for step in range(1, 9)])):
        runner = train(
            hook,
            train_cfg=dict(by_epoch=True, max_epochs=2),
            val_dataloader=None,
            val_cfg=None,
            val_evaluator=None,
            optim_wrapper=dict(
                wrapper, optimizer=dict(type='Watched', lr=0.01)))
        events = read_run(runner.work_dir)
        norms.append({e.step: e.value for e in events.Scalars(GLOBAL)})
    assert list(norms[1]) == [1, 2, 3, 4, 6, 7, 8]
    for step in range(1, 5):
        assert norms[1][step] == pytest.approx(norms[0][step], rel=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.parametrize('clip_grad', [None, dict(max_norm=1e-3)])
def test_mixed_precision_on_a_gpu(fused, clip_grad):
    """With MMEngine's wrapper and PyTorch's own scaler."""
    training = gradients(
        model=Net().cuda(),
        optimizer=lambda p: torch.optim.AdamW(p, lr=1e-3, fused=fused),
        wrapper=AmpOptimWrapper,
        loss_scale=dict(init_scale=2.**10),
        clip_grad=clip_grad)
    expected = {}

    def before_step():
        step = training.runner.iter + 1
        grads = [p.grad for p in training.model.parameters()]
        if step == 3:
            grads[0].view(-1)[0] = float('inf')
            return
        norm = torch.cat([grad.flatten() for grad in grads]).norm().item()
        expected[step] = norm / training.wrapper.loss_scaler.get_scale()

    readings = training.read(5, before_step)
    assert {
        step: reading[GLOBAL]
        for step, reading in readings.items() if reading
    } == pytest.approx(
        expected, rel=1e-4)
    assert list(expected) == [1, 2, 4, 5]
