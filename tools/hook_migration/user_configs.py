# Copyright (c) OpenMMLab. All rights reserved.
"""What the new hook changes for a user's config, and how to keep it."""
import re
import sys
from difflib import get_close_matches

from .exports import HOOK, MODULE
from .hook_defaults import our_defaults
from .state import FIXED
from .transaction import File, Transaction, free_name, read

# MMEngine takes these away before the hook sees them.
NOT_THE_HOOKS = ('type', 'priority', '_scope_')


class ConfigError(Exception):
    """A config that cannot be read or edited; the message says why."""


def check_configs(files, comparison, keep_behaviour, force=False):
    """Report on configs and, if wanted, edit them.

    Args:
        files (list[Path]): The configs.
        comparison (Comparison or None): What the new hook does differently;
            None if there is no other one to compare it with.
        keep_behaviour (bool): Write what they got by default until now.
        force (bool): Put right what an interrupted run has left also where
            the config was edited since. Defaults to False.

    Returns:
        bool: Whether something is wrong with one of them.
    """
    wrong = False
    differing = comparison.differing if comparison else {}
    if comparison:
        print_comparison(comparison)
    for file in files:
        print(file)
        try:
            recovered = edit_of(file).recover(force)
            if recovered:
                print('  the interrupted run before this one was '
                      f'{recovered}')
            hooks, leftovers = read_hooks(file)
            unknown, notes = report(hooks, differing)
            for line in leftovers + unknown + notes:
                print(f'  {line}')
            wrong |= bool(leftovers + unknown)
            wanted = missing(hooks, differing)
            if keep_behaviour and wanted:
                print(f'  {keep(file, hooks, wanted)}')
        except (ConfigError, OSError) as error:
            print(f'  {error}')
            wrong = True
    return wrong


def print_comparison(comparison):
    """Say what the new hook does differently in every config.

    Args:
        comparison (Comparison): What that is.
    """
    if comparison.new:
        print(f'New, and on unless set to False: {", ".join(comparison.new)}')
    for name in comparison.unclear:
        print(f'The default of {name} was not a literal: compare it by hand')
    for line in comparison.tags:
        print(line)


def read_hooks(file):
    """Find the hook in a config with its bases.

    Args:
        file (Path): The config.

    Returns:
        tuple[dict[str, dict], list[str]]: Where it is,
        ``default_hooks.enhanced_tensorboard`` say, and its arguments; and what
        is wrong because a migration takes another module away.

    Raises:
        ConfigError: The config cannot be read.
    """
    try:
        from mmengine.config import Config
    except ImportError:
        raise ConfigError(f'{sys.executable} has no MMEngine to read configs '
                          'with: use the Python that you train with')
    try:
        config = Config.fromfile(str(file), import_custom_modules=False)
        values = config.to_dict()
        found = dict(find_hooks(values))
    # A config is code: anything can go wrong in it.
    except Exception as error:
        raise ConfigError(f'cannot be read: {type(error).__name__}: {error}')
    leftovers = []
    if FIXED in repr(values):
        leftovers.append(f'names {FIXED}, which a migration takes away: name '
                         f'mmpose.engine.hooks.{MODULE} instead')
    # Else a file that only others take their hook from.
    hooks = {
        place: hook
        for place, hook in found.items()
        if place.startswith(('default_hooks', 'custom_hooks'))
    }
    return hooks or found, leftovers


def find_hooks(value, place=''):
    """Find the hook in a part of a config.

    Args:
        value (Any): The part.
        place (str): Where it is. Defaults to ''.

    Yields:
        tuple[str, dict]: Where the hook is, and its arguments.
    """
    if isinstance(value, dict):
        kind = value.get('type')
        name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
        if name.split('.')[-1] == HOOK:
            yield place, value
        parts = value.items()
    elif isinstance(value, (list, tuple)):
        parts = enumerate(value)
    else:
        return
    for key, part in parts:
        yield from find_hooks(part, f'{place}.{key}' if place else str(key))


def relied_on(hook, differing):
    """Find the defaults that a config relies on and that are others now.

    Args:
        hook (dict): The hook in a config.
        differing (dict[str, tuple]): The defaults that differ, as (was, now).

    Returns:
        dict[str, Any]: What each was, by argument. A preset is of the new
        hook: a config that names one relies on no other.
    """
    if hook.get('preset'):
        return {}
    return {
        name: was
        for name, (was, _) in differing.items() if name not in hook
    }


def missing(hooks, differing):
    """Find what has to be written so that a config goes on as it did.

    Args:
        hooks (dict[str, dict]): Where the hook is, and its arguments.
        differing (dict[str, tuple]): The defaults that differ, as (was, now).

    Returns:
        dict[str, Any]: The values by argument, in the order of the arguments.
    """
    found = {}
    for hook in hooks.values():
        found.update(relied_on(hook, differing))
    return {name: found[name] for name in differing if name in found}


def report(hooks, differing):
    """Say what is different with the new hook.

    Args:
        hooks (dict[str, dict]): Where it is in a config, and its arguments.
        differing (dict[str, tuple]): The defaults that differ, as (was, now).

    Returns:
        tuple[list[str], list[str]]: What is wrong, and what is different.
    """
    allowed = sorted(our_defaults())
    wrong, notes = [], []
    for place, hook in hooks.items():
        for name in hook:
            if name not in (*allowed, *NOT_THE_HOOKS):
                close = get_close_matches(name, allowed, n=1)
                hint = f' (did you mean {close[0]!r}?)' if close else ''
                wrong.append(f'{place}: {HOOK} has no argument {name!r}{hint}')
        for name, was in relied_on(hook, differing).items():
            notes.append(f'{place}: {name} is not set; the default was '
                         f'{was!r}, now it is {differing[name][1]!r}')
    if not hooks:
        notes.append(f'has no {HOOK}: nothing changes')
    elif not wrong + notes:
        notes.append('no default that it relies on differs')
    return wrong, notes


def edit_of(file):
    """The edit of a config, which is done or not.

    Args:
        file (Path): The config, or a link to it.

    Returns:
        Transaction: To be run, or to be put right.
    """
    file = file.resolve()
    return Transaction(file.with_name(f'.{file.name}.journal.json'))


def keep(config, hooks, wanted):
    """Write original defaults into a config that relies on them.

    Args:
        config (Path): The config, which is backed up where it is.
        hooks (dict[str, dict]): Where the hook is in it, and its arguments.
        wanted (dict[str, Any]): The values to write, by argument.

    Returns:
        str: What was done.

    Raises:
        ConfigError: It cannot be edited. It is as it was.
    """
    written = ', '.join(f'{name}={value!r}' for name, value in wanted.items())
    by_hand = (f'set {written} by hand: this config puts its hook together in '
               'a way that is not understood')
    try:
        from .config_edit import add_argument
    except ImportError:
        raise ConfigError('editing needs LibCST: pip install libcst')
    file = config.resolve()
    if file.suffix != '.py':
        raise ConfigError(f'only .py files are edited: set {written} by hand')
    before = read(file)
    data = before.data
    for name, value in wanted.items():
        data = add_argument(data, HOOK, name, repr(value))
    if data == before.data:
        if re.search(rb'\b(_base_|read_base)\b', data):
            raise ConfigError(f'this file does not state the {HOOK}: name the '
                              f'base that does instead, or set {written} by '
                              'hand')
        raise ConfigError(by_hand)
    backup = free_name(file)
    # A preset sets what is not written.
    expected = {
        place: hook if hook.get('preset') else {
            **wanted,
            **hook
        }
        for place, hook in hooks.items()
    }

    def check():
        # By its name: the bases are looked for beside that.
        try:
            understood = read_hooks(config)[0] == expected
        except ConfigError:  # An argument that ** gives as well.
            understood = False
        if not understood:
            raise ConfigError(by_hand)

    edit_of(file).run([(backup, before), (file, File(data, before.mode))],
                      check=check)
    return f'wrote {written}; what it was is in {backup.name}'
