# Copyright (c) OpenMMLab. All rights reserved.
"""Which monitors and detectors there are.

The modules of a room register what they define. A config may name anything
that is registered, a class in the user's own file as well.
"""
from importlib import import_module
from inspect import Parameter, Signature
from pkgutil import iter_modules, walk_packages
from typing import Iterable, List, Optional, Tuple

from mmengine.registry import Registry
from mmengine.runner.priority import get_priority

from .arguments import RUN_ARGUMENTS, Argument, Arguments, unique
from .monitor import Monitor

PACKAGE = __name__.rpartition('.core.')[0]
ROOMS = ('optimization', 'poses', 'run', 'health')

MONITORS = Registry('monitor', scope='mmpose')
DETECTORS = Registry('detector', scope='mmpose')


def import_rooms() -> None:
    """Import every module of the rooms, so that it registers its classes.

    A room that is not installed is skipped.
    """
    package = import_module(PACKAGE)
    found = [m.name for m in iter_modules(package.__path__) if m.ispkg]
    for room in ROOMS:
        if room in found:
            name = f'{PACKAGE}.{room}'
            path = import_module(name).__path__
            for module in walk_packages(path, f'{name}.'):
                import_module(module.name)


def monitor_classes() -> List[type]:
    """Return the registered classes in the order in which they see events."""
    import_rooms()
    return sorted(
        dict.fromkeys(MONITORS.module_dict.values()),
        key=lambda cls: (get_priority(cls.priority), *_place(cls)))


def _place(cls: type) -> Tuple[int, str]:
    """Where a class stands, whichever module was imported first: ours by room
    and module, then those of users as they were registered."""
    ours = cls.__module__.startswith(f'{PACKAGE}.')
    name = cls.__module__[len(PACKAGE) + 1:] if ours else ''
    room = name.partition('.')[0]
    if room not in ROOMS:
        return len(ROOMS), ''
    return ROOMS.index(room), name


def hook_arguments() -> List[Argument]:
    """Return the arguments of the hook.

    Those of a run, and those that the registered monitors declare.
    """
    declared = [
        argument for cls in monitor_classes()
        for argument in cls.declared_arguments()
    ]
    return unique([*declared, *RUN_ARGUMENTS])


class HookSignature:
    """Show the hook's arguments in ``inspect.signature`` and ``help``."""

    def __get__(self, hook, owner) -> Signature:
        return Signature([
            Parameter(a.name, Parameter.KEYWORD_ONLY, default=a.default)
            for a in hook_arguments()
        ])


def build_monitors(given: Arguments,
                   changes: Optional[Iterable] = None) -> List[Monitor]:
    """Build the monitors that a config asks for.

    Args:
        given (Arguments): The arguments of the hook.
        changes (Iterable[dict | Monitor], optional): Further monitors, as
            ``dict(type=..., <its arguments>)`` or built; for one that the
            arguments of the hook switch on, its arguments to change, or
            ``enabled=False``. Defaults to None.

    Returns:
        list[Monitor]: In the order in which they see events.

    Raises:
        KeyError: A type is not registered.
        TypeError: A monitor is no dict with a type, or cannot be built with
            its arguments.
    """
    classes = monitor_classes()
    settings = {
        cls: cls.settings_from(given)
        for cls in classes if cls.is_wanted(given)
    }
    monitors: List[Monitor] = []
    for change in changes or ():
        if isinstance(change, Monitor):
            monitors.append(change)
            continue
        cls, change = class_and_arguments(MONITORS, change)
        if not change.pop('enabled', True):
            settings.pop(cls, None)
        elif cls in settings:
            settings[cls].update(change)
        elif cls.settings:
            settings[cls] = {**cls.settings_from(given), **change}
        else:
            monitors.append(build(cls, {'strict': given.strict, **change}))
    monitors += [
        build(cls, {
            'strict': given.strict,
            **arguments
        }) for cls, arguments in settings.items()
    ]
    if all(monitor.watches_others for monitor in monitors):
        return []
    # Stable: of the same priority, the order of the classes.
    order = {cls: i for i, cls in enumerate(classes)}
    monitors.sort(key=lambda monitor: (get_priority(monitor.priority),
                                       order.get(type(monitor), len(order))))
    for monitor in monitors:
        monitor.peers = monitors
    return monitors


def class_and_arguments(registry: Registry, change) -> Tuple[type, dict]:
    """Return the class that a dict of a config names, and its arguments.

    Args:
        registry (Registry): :data:`MONITORS` or :data:`DETECTORS`.
        change (dict): ``dict(type=..., <arguments>)``.

    Raises:
        KeyError: The type is not registered.
        TypeError: It is no dict with a type.
    """
    noun = registry.name
    if not isinstance(change, dict) or 'type' not in change:
        raise TypeError(f"a {noun} must be a dict(type='...', ...), but got "
                        f'{change!r}')
    arguments = dict(change)
    kind = arguments.pop('type')
    cls = registry.get(kind) if isinstance(kind, str) else kind
    if cls is None:
        names = ', '.join(sorted(registry.module_dict))
        raise KeyError(f'no {noun} {kind!r} is registered; there are {names}')
    return cls, arguments


def build(cls: type, arguments: dict):
    """Build a monitor or detector, whose class an error names.

    Raises:
        TypeError: It cannot be built with these arguments.
    """
    try:
        return cls(**arguments)
    except TypeError as error:
        raise TypeError(f'{cls.__name__}: {error}') from error
