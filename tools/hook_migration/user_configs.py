# Copyright (c) OpenMMLab. All rights reserved.
"""What the new hook changes for a user's config, and how to keep it."""
import ast
import re
import sys
from difflib import get_close_matches

from .exports import HOOK, MODULE
from .migration import FIXED
from .mmpose_tree import hook_source
from .transaction import File, Transaction, free_name, read

# Of the original hook; the new one has 10.
ARGUMENT, ORIGINAL = 'val_image_interval', '1'
BY_HAND = (f'set {ARGUMENT}={ORIGINAL} by hand: this config puts its hook '
           'together in a way that is not understood')
# What declares an argument: see core/arguments.py.
DECLARING = ('Argument', 'choice', 'count', 'flag', 'interval', 'interval_of',
             'number')
# MMEngine takes these away before the hook sees them.
NOT_THE_HOOKS = ('type', 'priority', '_scope_')


class ConfigError(Exception):
    """A config that cannot be read or edited; the message says why."""


def check_configs(files, keep_behaviour, force=False):
    """Report on configs and, if wanted, edit them.

    Args:
        files (list[Path]): The configs.
        keep_behaviour (bool): Write what they got by default until now.
        force (bool): Put right what an interrupted run has left also where
            the config was edited since. Defaults to False.

    Returns:
        bool: Whether something is wrong with one of them.
    """
    wrong = False
    for file in files:
        print(file)
        try:
            recovered = edit_of(file).recover(force)
            if recovered:
                print('  the interrupted run before this one was '
                      f'{recovered}')
            hooks, leftovers = read_hooks(file)
            unknown, notes = report(hooks)
            for line in leftovers + unknown + notes:
                print(f'  {line}')
            wrong |= bool(leftovers + unknown)
            if keep_behaviour and any(map(relies_on_default, hooks.values())):
                print(f'  {keep(file)}')
        except ConfigError as error:
            print(f'  {error}')
            wrong = True
    return wrong


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


def relies_on_default(hook):
    """Whether validation pictures would become fewer.

    Args:
        hook (dict): The hook in a config.

    Returns:
        bool: True if neither the config nor a preset sets their interval.
    """
    return ARGUMENT not in hook and not hook.get('preset')


def report(hooks):
    """Say what is different with the new hook.

    Args:
        hooks (dict[str, dict]): Where it is in a config, and its arguments.

    Returns:
        tuple[list[str], list[str]]: What is wrong, and what is different.
    """
    allowed = hook_arguments()
    wrong, notes = [], []
    for place, hook in hooks.items():
        for name in hook:
            if name not in (*allowed, *NOT_THE_HOOKS):
                close = get_close_matches(name, allowed, n=1)
                hint = f' (did you mean {close[0]!r}?)' if close else ''
                wrong.append(f'{place}: {HOOK} has no argument {name!r}{hint}')
        if relies_on_default(hook):
            notes.append(f'{place}: {ARGUMENT} is not set; the default was 1, '
                         'now it is 10: pictures of fewer validation batches')
        if 'max_train_images' not in hook and not hook.get('preset'):
            notes.append(f'{place}: max_train_images is new; by default 4 '
                         'training samples are shown')
    if not hooks:
        notes.append(f'has no {HOOK}: nothing changes')
    elif not wrong + notes:
        notes.append('nothing changes')
    return wrong, notes


def hook_arguments():
    """Read the names of the hook's arguments from their declarations.

    Importing them takes torch and seconds.

    Returns:
        list[str]: The names, sorted.
    """
    return sorted(
        node.args[0].value
        for file in (hook_source().parents[1] / 'monitors').rglob('*.py')
        for node in ast.walk(ast.parse(file.read_text(encoding='utf-8')))
        if isinstance(node, ast.Call) and getattr(node.func, 'id', None) in
        DECLARING and node.args and isinstance(node.args[0], ast.Constant))


def edit_of(file):
    """The edit of a config, which is done or not.

    Args:
        file (Path): The config, or a link to it.

    Returns:
        Transaction: To be run, or to be put right.
    """
    file = file.resolve()
    return Transaction(file.with_name(f'.{file.name}.journal.json'))


def keep(config):
    """Write the original default into a config that relies on it.

    Args:
        config (Path): The config, which is backed up where it is.

    Returns:
        str: What was done.

    Raises:
        ConfigError: It cannot be edited. It is as it was.
    """
    try:
        from .config_edit import add_argument
    except ImportError:
        raise ConfigError('editing needs LibCST: pip install libcst')
    file = config.resolve()
    if file.suffix != '.py':
        raise ConfigError(f'only .py files are edited: set {ARGUMENT} to '
                          f'{ORIGINAL} by hand')
    before = read(file)
    data = add_argument(file.read_bytes(), HOOK, ARGUMENT, ORIGINAL)
    if data == before.data:
        if re.search(rb'\b(_base_|read_base)\b', data):
            raise ConfigError(f'this file does not state the {HOOK}: name the '
                              'base that does instead, or set '
                              f'{ARGUMENT}={ORIGINAL} by hand')
        raise ConfigError(BY_HAND)
    backup = free_name(file)

    def check():
        # By its name: the bases are looked for beside that.
        hooks, _ = read_hooks(config)
        if any(map(relies_on_default, hooks.values())):
            raise ConfigError(BY_HAND)

    edit_of(file).run([(backup, before), (file, File(data, before.mode))],
                      check=check)
    return f'wrote {ARGUMENT}={ORIGINAL}; what it was is in {backup.name}'
