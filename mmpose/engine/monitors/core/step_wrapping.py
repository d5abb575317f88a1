# Copyright (c) OpenMMLab. All rights reserved.
import functools
import types
from typing import Callable, NamedTuple, Optional

from .failure_guard import FailureGuard


def call_around(owner,
                name: str,
                guard: FailureGuard,
                before: Optional[Callable] = None,
                after: Optional[Callable] = None) -> Callable[[], None]:
    """Let functions see each call of a method of one object.

    Several may see the same method, and may stop in any order: the object
    has its own method back when the last has. ``optimizer.step`` is wrapped
    like any other and ``register_step_pre_hook`` not used: ``torch.compile``,
    once called, silently takes those hooks away from all optimizers.

    Args:
        owner (object): The object.
        name (str): The name of the method.
        guard (FailureGuard): Where a failure of the functions ends, and who
            says when they are not to be called any more.
        before (Callable, optional): Called with the arguments, before the
            method is. Defaults to None.
        after (Callable, optional): Called with what the method has returned
            and then with the arguments. Defaults to None.

    Returns:
        Callable: Lets the functions see no more.
    """
    observers = getattr(vars(owner).get(name), 'observers', None)
    # Who wraps the wrapper may have taken its attributes over.
    if observers is None or observers.wrapper is not vars(owner)[name]:
        observers = _Observers(owner, name)
    observer = _Observer(guard, before, after)
    observers.append(observer)

    def stop() -> None:
        observers.remove(observer)
        if not observers:
            observers.take_off()

    return stop


def has_closure(*args, **kwargs) -> bool:
    """Whether the gradients are computed inside an optimizer's step.

    Args:
        *args: What ``optimizer.step`` is called with.
        **kwargs: The same.

    Returns:
        bool: True with a closure. Before the step there are no gradients
        then, or those of an earlier one.
    """
    return kwargs.get('closure', args[0] if args else None) is not None


class _Observer(NamedTuple):
    """Who sees the calls of a method."""
    guard: FailureGuard
    before: Optional[Callable]
    after: Optional[Callable]

    def call(self, function: Optional[Callable], *args, **kwargs) -> None:
        if function is not None and not self.guard.tripped:
            with self.guard:
                function(*args, **kwargs)


class _Observers(list):
    """All who see the calls of a method, and the wrapper around it."""

    def __init__(self, owner, name: str) -> None:
        super().__init__()
        self._owner, self._name = owner, name
        self._was_set = name in vars(owner)
        self._method = method = getattr(owner, name)

        @functools.wraps(getattr(method, '__func__', method))
        def wrapper(_, *args, **kwargs):
            for observer in self:
                observer.call(observer.before, *args, **kwargs)
            result = method(*args, **kwargs)
            for observer in self:
                observer.call(observer.after, result, *args, **kwargs)
            return result

        wrapper.observers = self
        # Schedulers, when they are made, ask ``optimizer.step`` whose it is.
        self.wrapper = types.MethodType(wrapper, owner)
        setattr(owner, name, self.wrapper)

    def take_off(self) -> None:
        # Whoever has wrapped the wrapper since needs it, empty as it is.
        if vars(self._owner).get(self._name) is not self.wrapper:
            return
        if self._was_set:
            setattr(self._owner, self._name, self._method)
        else:
            delattr(self._owner, self._name)
