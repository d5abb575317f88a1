# Copyright (c) OpenMMLab. All rights reserved.
import functools
import sys
import types
from contextlib import ExitStack
from typing import Callable, Iterable, List

import torch

from .monitor import Monitor
from .runner_parts import optim_wrappers

EVENTS = ('before_clipping', 'after_clipping', 'before_step', 'after_step')


class OptimizerProbe:
    """Tell monitors what happens at the optimizers of a training.

    Each method is wrapped once, however many monitors listen.
    ``register_step_pre_hook`` is not used: one ``torch.compile`` in the
    process silently removes such hooks from all optimizers.

    Args:
        monitors (Iterable[Monitor]): Those that override one of the events
            at the optimizer listen.

    Attributes:
        num_steps (int): How often any optimizer has stepped so far.
    """

    def __init__(self, monitors: Iterable[Monitor] = ()) -> None:
        monitors = list(monitors)
        self._listeners = {
            event: [m for m in monitors if handles(m, event)]
            for event in EVENTS
        }
        self._observed: List[tuple] = []
        self._detach = ExitStack()
        self.num_steps = 0

    def follow(self, optim_wrapper) -> None:
        """Observe the optimizers of a run, unless they are observed already.

        To be called before each iteration: a hook may replace an optimizer.

        Args:
            optim_wrapper (OptimWrapper | OptimWrapperDict):
                ``runner.optim_wrapper``.
        """
        optimizers = [(name, wrapper, wrapper.optimizer)
                      for name, wrapper in optim_wrappers(optim_wrapper)]
        if optimizers == self._observed:
            return
        self.detach()
        self._observed = optimizers
        if any(self._listeners.values()):
            for name, wrapper, optimizer in optimizers:
                self._attach(name, wrapper, optimizer)

    def detach(self) -> None:
        """Restore the methods that were wrapped."""
        self._observed = []
        self._detach.close()

    def _attach(self, name: str, wrapper, optimizer) -> None:

        def before_step(*args, **kwargs):
            self.num_steps += 1
            closure = kwargs.get('closure', args[0] if args else None)
            self._tell('before_step', name, optimizer, closure is not None)

        def after_step(*_, **__):
            # GradScaler tells a fused optimizer on the device to skip.
            overflow = getattr(optimizer, 'found_inf', None)
            taken = overflow is None or (overflow == 0).reshape(())
            self._tell('after_step', name, optimizer, taken)

        self._wrap(optimizer, 'step', before_step, after_step)
        if getattr(wrapper, 'clip_grad_kwargs', None):
            self._wrap(
                wrapper, 'clip_func',
                lambda *_, **__: self._tell('before_clipping', name, wrapper),
                lambda *_, **__: self._tell('after_clipping', name, wrapper))
        scaler = getattr(wrapper, 'loss_scaler', None)
        if hasattr(scaler, 'step'):
            self._attach_scaler(name, optimizer, scaler)

    def _attach_scaler(self, name: str, optimizer, scaler) -> None:
        """Notice that GradScaler does not let the optimizer step."""
        num_steps = 0

        def before(*_, **__):
            nonlocal num_steps
            num_steps = self.num_steps

        def after(stepping, *_, **__):
            # Several optimizers may share a scaler.
            if stepping is optimizer and num_steps == self.num_steps:
                self._tell('after_step', name, optimizer, False)

        self._wrap(scaler, 'step', before, after)

    @torch.no_grad()
    def _tell(self, event: str, *args) -> None:
        for monitor in self._listeners[event]:
            monitor.notify(event, *args)

    def _wrap(self, owner, name: str, before: Callable,
              after: Callable) -> None:
        self._detach.callback(observe_method(owner, name, before, after))


def handles(monitor: Monitor, event: str) -> bool:
    """Return whether a monitor does anything at an event."""
    handler = getattr(monitor, event)
    return getattr(handler, '__func__', None) is not getattr(Monitor, event)


def observe_method(owner, name: str, before: Callable,
                   after: Callable) -> Callable[[], None]:
    """Call functions before and after a method of one object.

    Args:
        owner (Any): The object.
        name (str): The name of the method.
        before (Callable): Called with the arguments of each call.
        after (Callable): The same; not called if the method raises.

    Returns:
        Callable: Restores the method.
    """
    was_set, method = name in vars(owner), getattr(owner, name)
    before, after = _untraced(before), _untraced(after)
    attached = True

    @functools.wraps(getattr(method, '__func__', method))
    def call(_, *args, **kwargs):
        # Others may have wrapped it since, and still call this.
        if not attached:
            return method(*args, **kwargs)
        before(*args, **kwargs)
        result = method(*args, **kwargs)
        after(*args, **kwargs)
        return result

    # By these attributes, which LBFGS and others get from the first
    # ``torch.compile`` of a process, the method would be taken for this.
    for attribute in [a for a in vars(call) if '_torchdynamo' in a]:
        delattr(call, attribute)

    # A new scheduler reads ``optimizer.step.__self__``.
    wrapper = types.MethodType(_untraced(call, recursive=False), owner)
    setattr(owner, name, wrapper)

    def detach() -> None:
        nonlocal attached
        attached = False
        if vars(owner).get(name) is not wrapper:
            return
        if was_set:
            setattr(owner, name, method)
        else:
            delattr(owner, name)

    return detach


def _untraced(function: Callable, recursive: bool = True) -> Callable:
    """Keep ``torch.compile`` from tracing a function.

    Args:
        function (Callable): The function.
        recursive (bool): Whether what it calls is not traced either.
            Defaults to True.
    """
    # It takes seconds to import. If nothing was compiled, it is not needed.
    dynamo = sys.modules.get('torch._dynamo')
    if dynamo is None:
        return function
    return dynamo.disable(function, recursive)
