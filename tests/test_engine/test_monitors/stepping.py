# Copyright (c) OpenMMLab. All rights reserved.
"""Trainings of a few steps, for the monitors that look at an update."""
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmpose.engine.monitors import Dispatcher, Every, FailureGuard
from mmpose.engine.monitors.writers.record import Measurement
from mmpose.registry import OPTIM_WRAPPERS

# MMPose supports versions of PyTorch that do not have it.
TorchDispatchMode = pytest.importorskip(
    'torch.utils._python_dispatch').TorchDispatchMode


class Written:
    """Takes the place of a writer."""
    log_dir = ''

    def __init__(self):
        self.records = []
        self.log_dir = ''
        self._readings = {}
        self._num_read = 0

    def write(self, record, guard):
        self.records.append(record)

    @property
    def readings(self):
        """The scalars by step and tag."""
        for record in self.records[self._num_read:]:
            reading = self._readings.setdefault(record.step, {})
            reading.update({
                v.tag: v.value
                for v in record.read() if not isinstance(v, Measurement)
            })
        self._num_read = len(self.records)
        return self._readings


@contextmanager
def no_waiting():
    """Allows nothing that brings a value from the device to the host."""

    def fail(*args, **kwargs):
        raise AssertionError('waits for the device')

    names = ('item', 'cpu', 'tolist', 'numpy', '__float__', '__bool__')
    with mock.patch.multiple(torch.Tensor, **dict.fromkeys(names, fail)):
        with NoTransfer():
            yield


class NoTransfer(TorchDispatchMode):
    """What tensor methods do not show."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        words = '_local_scalar_dense', 'nonzero', '_to_copy', 'masked_select'
        assert not any(word in func.name() for word in words), func.name()
        return func(*args, **(kwargs or {}))


class Net(nn.Module):
    """A stem, a block with a batch norm, and a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.block = nn.Sequential(
            nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU())
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.block(torch.tanh(self.stem(x))))


class Training:
    """Steps that a monitor sees as those of a Runner.

    Args:
        monitors (list): Under test; strict.
        model (nn.Module): What is trained. Defaults to None: a :obj:`Net`.
        optimizer (Callable): Makes the optimizer of the parameters.
        wrapper (type): The class of the optimizer wrapper.
        **kwargs: Of the wrapper.
    """

    def __init__(self,
                 *monitors,
                 model=None,
                 optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
                 wrapper=OptimWrapper,
                 **kwargs):
        torch.manual_seed(0)
        self.model = model or Net()
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.wrapper = wrapper(optimizer=optimizer(parameters), **kwargs)
        self.runner = SimpleNamespace(
            iter=0, model=self.model, optim_wrapper=self.wrapper)
        self.runner.message_hub = self.wrapper.message_hub
        self.written = Written()
        self.monitors = list(monitors)
        self.dispatcher = Dispatcher(self.monitors,
                                     FailureGuard('Dispatcher', strict=True))
        self.begin()

    def begin(self):
        """Let the monitors attach themselves to what the runner has now."""
        self.dispatcher.monitors = self.monitors
        self.dispatcher.before_run(self.runner, self.written)
        self.dispatcher.before_train(self.runner)
        self.notify('before_train')

    def loss(self):
        x = torch.randn(16, 6, device=next(self.model.parameters()).device)
        return self.model(x).square().mean()

    def run(self, count=1, before_step=lambda: None):
        """Train for some iterations.

        Args:
            count (int): How many.
            before_step (Callable): Called when the gradients are there.
        """
        for _ in range(count):
            self.dispatcher.before_train_iter(self.runner)
            self.notify('before_train_iter', 0, None)
            self.wrapper.backward(self.wrapper.scale_loss(self.loss()))
            if self.wrapper.should_update():
                before_step()
                self.wrapper.step()
                self.wrapper.zero_grad()
            self.notify('after_train_iter', 0, None, None)
            self.runner.iter += 1

    def read(self, *args, **kwargs):
        """All readings after some iterations, by step and tag."""
        self.run(*args, **kwargs)
        return self.written.readings

    def notify(self, event, *args):
        self.dispatcher.notify(event, self.runner, *args)

    def end(self):
        self.dispatcher.after_train()
        self.notify('after_train')


class Scaler:
    """A GradScaler without a GPU, that finds overflows when it is told.

    Args:
        overflows (Iterable[bool]): Whether each update is one.
    """

    def __init__(self, overflows):
        self._overflows = iter(overflows)
        self._scale = torch.tensor(1024.)
        self._overflow = None

    def scale(self, loss):
        return loss * self._scale

    def unscale_(self, optimizer):
        self._overflow = next(self._overflows)
        for group in optimizer.param_groups:
            for parameter in group['params']:
                parameter.grad.div_(self._scale)
                if self._overflow:
                    parameter.grad.fill_(float('inf'))

    def step(self, optimizer, *args, **kwargs):
        if self._overflow is None:
            self.unscale_(optimizer)
        overflows, self._overflow = self._overflow, None
        if getattr(optimizer, '_step_supports_amp_scaling', False):
            optimizer.found_inf = torch.tensor(float(overflows))
            optimizer.step(*args, **kwargs)
            del optimizer.found_inf
        elif not overflows:
            optimizer.step(*args, **kwargs)
        # In place, as GradScaler does.
        self._scale.mul_(0.5 if overflows else 1)

    def update(self):
        pass


class FusedSGD(torch.optim.SGD):
    """Does what GradScaler leaves to a fused kernel, which needs a GPU."""

    _step_supports_amp_scaling = True

    def step(self, closure=None):
        # Recent ones of torch raise if SGD is told it and has no such kernel.
        told = {
            name: vars(self).pop(name)
            for name in ('grad_scale', 'found_inf') if name in vars(self)
        }
        for group in self.param_groups:
            for parameter in group['params']:
                parameter.grad.div_(told.get('grad_scale', 1))
                skipped = torch.as_tensor(told.get('found_inf', 0.)) > 0
                parameter.grad.masked_fill_(skipped, 0)
        super().step(closure)
        vars(self).update(told)


@OPTIM_WRAPPERS.register_module(force=True)
class ScalingWrapper(OptimWrapper):
    """AmpOptimWrapper needs a GPU to be made."""

    def __init__(self, overflows, **kwargs):
        super().__init__(**kwargs)
        self.loss_scaler = Scaler(overflows)

    def backward(self, loss, **kwargs):
        self.loss_scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs):
        if self.clip_grad_kwargs:
            self.loss_scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update()


def every(interval=1):
    return Every(interval)


def of(kind, readings, step):
    """The readings of a step under a prefix, by the rest of the tag."""
    return {
        tag[len(kind):]: value
        for tag, value in readings[step].items() if tag.startswith(kind)
    }
