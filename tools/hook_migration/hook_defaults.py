# Copyright (c) OpenMMLab. All rights reserved.
"""Compare the hook that is there with the new one, by their sources.

Neither is imported: that takes torch and seconds, and an original hook may not
be importable any more.
"""
import ast
import functools
import re
from collections import namedtuple

from .exports import HOOK
from .mmpose_tree import hook_source

# What declares an argument, as it is called where it is used, and its name in
# core/arguments.py.
DECLARING = dict(
    Argument='Argument',
    choice='choice',
    count='count',
    flag='flag',
    interval='interval',
    interval_of='interval',
    number='number')
PRESET = 'balanced'
# Methods of a SummaryWriter that take a tag first.
WRITING = ('add_scalar', 'add_histogram', 'add_image', 'add_images',
           'add_figure', 'add_text', 'add_mesh', 'add_video', 'add_embedding')

# The defaults that differ, as (was, now) by argument; arguments that cannot be
# compared; switches that are new and on; what happens to the tags, in lines.
Comparison = namedtuple('Comparison', 'differing unclear new tags')


class NoHookError(Exception):
    """A file does not have the hook; the message says so."""


def compare(source, name):
    """Compare an original hook with the new one.

    Args:
        source (str): The module of the original hook.
        name (str): What to call it in an error.

    Returns:
        Comparison: What is different.

    Raises:
        NoHookError: The hook is not in it.
    """
    before, now = read_defaults(source, name), our_defaults()
    unclear = [arg for arg, value in before.items() if value is Ellipsis]
    differing = {
        arg: (value, now[arg])
        for arg, value in before.items()
        if arg in now and arg not in unclear and not same(value, now[arg])
    }
    new = [
        arg for arg, value in now.items()
        if arg not in before and arg.startswith('log_') and value is True
    ]
    return Comparison(differing, unclear, new, changed_tags(source))


def same(a, b):
    """Whether two values are equal and of one type: True is not 1."""
    return type(a) is type(b) and a == b


def is_ours(source):
    """Whether a module has the new hook, of whatever version.

    Args:
        source (str): The module.

    Returns:
        bool: True if its hook has presets.
    """
    try:
        arguments = _find_init(source, '')
    except NoHookError:
        return False
    return bool(arguments) and (
        arguments.kwarg is not None
        or 'preset' in [argument.arg for argument in arguments.args])


def read_defaults(source, name):
    """Read the defaults of a hook's arguments.

    Args:
        source (str): Its module.
        name (str): What to call it in an error.

    Returns:
        dict[str, Any]: The default by the name of each argument that has one,
        in their order; ``...`` if it is not a literal.

    Raises:
        NoHookError: The hook is not in it.
    """
    arguments = _find_init(source, name)
    return dict(_defaults(arguments)) if arguments else {}


def _find_init(source, name):
    """Find the arguments of the hook; None if it has no ``__init__``."""
    try:
        module = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise NoHookError(f'{name} cannot be read: {error}')
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef) and node.name == HOOK:
            for method in node.body:
                if getattr(method, 'name', None) == '__init__':
                    return method.args
            return None
    raise NoHookError(f'{name} has no {HOOK}')


def _defaults(arguments):
    positional = arguments.args[len(arguments.args) - len(arguments.defaults):]
    pairs = [
        *zip(positional, arguments.defaults),
        *zip(arguments.kwonlyargs, arguments.kw_defaults)
    ]
    for argument, default in pairs:
        if default is not None:
            yield argument.arg, _value(default)


@functools.lru_cache(maxsize=None)
def our_defaults():
    """Read the new hook's arguments from where they are declared.

    Returns:
        dict[str, Any]: The default by the name of each; what the default
        preset says where that decides.
    """
    signatures = _signatures()
    found = {}
    for node in _nodes(ast.Call):
        kind = DECLARING.get(getattr(node.func, 'id', None))
        if kind and node.args and isinstance(node.args[0], ast.Constant):
            given = dict(signatures[kind])
            given.update(zip(given, map(_value, node.args)))
            given.update(
                (word.arg, _value(word.value)) for word in node.keywords)
            presets = given.get('presets')
            found[given['name']] = (
                presets[PRESET] if presets else given.get('default'))
    return found


def _signatures():
    """The arguments of what declares an argument, with their defaults."""
    path = _monitors() / 'core' / 'arguments.py'
    found = {}
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.FunctionDef):
            names = [argument.arg for argument in node.args.args]
            found[node.name] = {
                **dict.fromkeys(names),
                **dict(_defaults(node.args))
            }
        elif isinstance(node, ast.ClassDef):
            found[node.name] = {
                field.target.id: None
                for field in node.body if isinstance(field, ast.AnnAssign)
            }
    return found


def _value(node):
    if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'dict':
        return {word.arg: _value(word.value) for word in node.keywords}
    try:
        return ast.literal_eval(node)
    except ValueError:
        return Ellipsis


def changed_tags(source):
    """Find the tags of an original hook that the new one does not write.

    Args:
        source (str): The module of the original hook.

    Returns:
        list[str]: A line for each.
    """
    ours = sorted(our_tags())
    lines = []
    for tag in sorted(written_tags(source)):
        if any(re.fullmatch(_like(tag), other) for other in ours):
            # Only the names in the place of a variable may be others.
            alike = [other for other in ours if _like(other) == _like(tag)]
            if alike and _names(tag) not in map(_names, alike):
                lines.append(f'{tag} is {alike[0]} now')
            continue
        stem = tag.rsplit('_', 1)[0]
        hint = f': see {stem}' if stem in ours else ''
        lines.append(f'{tag} is not written any more{hint}')
    return lines


def written_tags(source):
    """Find the tags that a module writes to TensorBoard.

    Args:
        source (str): The module.

    Returns:
        set[str]: The tags, with ``<name>`` in the place of a variable.
    """
    return {
        tag
        for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)
        and getattr(node.func, 'attr', None) in WRITING and node.args
        for tag in _tag(node.args[0])
    }


def _tag(node):
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield ''.join(
            part.value if isinstance(part, ast.Constant) else
            f'<{getattr(part.value, "id", "...")}>' for part in node.values)


def our_tags():
    """Read the new hook's tags from the docstrings of its monitors.

    Returns:
        set[str]: The tags, with ``<name>`` in the place of a variable.
    """
    return {
        tag
        for node in _nodes(ast.ClassDef)
        for tag in re.findall(r'``([\w-]+(?:/[\w.@<>-]+)+)``',
                              ast.get_docstring(node) or '')
    }


def _like(tag):
    """A pattern of all the tags that only other names make differ."""
    return '[^/]+'.join(map(re.escape, re.split('<[^>]*>', tag)))


def _names(tag):
    return [name.split('_name')[0] for name in re.findall('<([^>]*)>', tag)]


def _nodes(kind):
    for module in _modules():
        for node in ast.walk(module):
            if isinstance(node, kind):
                yield node


@functools.lru_cache(maxsize=None)
def _modules():
    return [
        ast.parse(file.read_text(encoding='utf-8'))
        for file in sorted(_monitors().rglob('*.py'))
    ]


def _monitors():
    return hook_source().parents[1] / 'monitors'
