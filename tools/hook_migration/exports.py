# Copyright (c) OpenMMLab. All rights reserved.
"""The export of the hook: a marked block at the end of a module.

It goes into whatever ``hooks/__init__.py`` there is, and is taken out again by
its marks, to the byte. What is exported already stays where it is.
"""
import ast
import codecs
import io
import re

MODULE = 'enhanced_tensorboard_hook'
HOOK = 'EnhancedTensorBoardHook'
IMPORT = f'from .{MODULE} import {HOOK}'
# A tuple, which a list takes, too.
ENTRY = f"__all__ += ('{HOOK}', )"
FIRST, LAST = f'# >>> {MODULE} >>>', f'# <<< {MODULE} <<<'
NEWLINE = r'(?:\r\n|\r|\n)'
# With the empty line above it.
BLOCK = re.compile(f'{NEWLINE}?{FIRST}{NEWLINE}.*?{LAST}(?P<end>{NEWLINE}?)',
                   re.DOTALL)


def edit_file(data, edit):
    """Edit the content of a file as text.

    Args:
        data (bytes): What is in the file, UTF-8.
        edit (Callable[[str], str]): The edit.

    Returns:
        bytes: What is to be in the file; a byte order mark stays.
    """
    mark = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b''
    return mark + edit(data[len(mark):].decode('utf-8')).encode('utf-8')


def add_export(text):
    """Export the hook from a package of hooks.

    Args:
        text (str): The package's ``__init__.py``.

    Returns:
        str: The text with the import of the hook and with its entry in
        ``__all__``, if there is one; the same text if they are there.
    """
    lines = [] if find_imports(text) else [IMPORT]
    exported = exported_nodes(text)
    if exported and not any(
            getattr(node, 'value', None) == HOOK for node in exported):
        lines += [''] * bool(lines) + [ENTRY]
    if not lines:
        return text
    newline = re.search(f'{NEWLINE}|$', text).group() or '\n'
    block = newline.join([FIRST, *lines, LAST])
    if not text:
        return block + newline
    if re.search(f'{NEWLINE}\\Z', text):
        return f'{text}{newline}{block}{newline}'
    # It stays a text without a line end.
    return f'{text}{newline}{newline}{block}'


def remove_export(text):
    """Take the export out again.

    Args:
        text (str): The package's ``__init__.py``.

    Returns:
        str: The text without it.

    Raises:
        ValueError: A line imports more than the hook.
    """
    removed = remove_block(text)
    return remove_lines(removed) if removed == text else removed


def remove_block(text):
    """Take out what :func:`add_export` has put in.

    Args:
        text (str): The package's ``__init__.py``.

    Returns:
        str: The text without the block.
    """
    match = BLOCK.search(text)
    if not match:
        return text
    above = text[:match.start()]
    if not match['end']:
        above = re.sub(f'{NEWLINE}\\Z', '', above)
    return above + text[match.end():]


def remove_lines(text):
    """Take out an export that stands among others.

    There versions before 2.0 have put it, as a fork has that brings the hook.

    Args:
        text (str): The package's ``__init__.py``.

    Returns:
        str: The text without the import and the entry.

    Raises:
        ValueError: A line imports more than the hook.
    """
    if any(
            getattr(node, 'value', None) == HOOK
            for node in exported_nodes(text)):
        entry = rf'([\'"]){HOOK}\1'
        text, found = re.subn(rf',\s*{entry}', '', text, 1)
        if not found:
            text = re.sub(rf'{entry},?[ \t]*', '', text, 1)
    text = re.sub(
        rf'^{re.escape(IMPORT)}[ \t]*(#.*)?({NEWLINE}|$)',
        '',
        text,
        flags=re.MULTILINE)
    for statement in find_imports(text):
        raise ValueError(f'line {statement.lineno} does more than to import '
                         f'{HOOK}; take it out by hand')
    return text


def redirect_import(text, old, new):
    """Let the hook be imported from another module.

    Args:
        text (str): A module.
        old (str): The module that the hook may be imported from.
        new (str): The one to import it from.

    Returns:
        str: The module; the same one if it does not import the hook from
        there.
    """
    # As Python splits lines, and nowhere else.
    lines = io.StringIO(text, newline='').readlines()
    for statement in find_imports(text, old):
        line = lines[statement.lineno - 1]
        lines[statement.lineno - 1] = line.replace(f'.{old}', f'.{new}', 1)
    return ''.join(lines)


def find_imports(text, module=MODULE):
    """Find the imports of the hook.

    Args:
        text (str): A module.
        module (str): The module to import it from.

    Returns:
        list[ast.ImportFrom]: The statements that bind it to its own name.
    """
    return [
        statement for statement in ast.parse(text).body
        if isinstance(statement, ast.ImportFrom) and statement.level == 1
        and statement.module == module and any(
            alias.name == HOOK and alias.asname in (None, HOOK)
            for alias in statement.names)
    ]


def find_mention(text, module):
    """Find an import, wherever it stands, that needs a module.

    Args:
        text (str): A module.
        module (str): The name of the other one, without its package.

    Returns:
        ast.Import or ast.ImportFrom or None: The first one.
    """
    for statement in ast.walk(ast.parse(text)):
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in statement.names]
            names.append(getattr(statement, 'module', None) or '')
            if module in '.'.join(names).split('.'):
                return statement
    return None


def exported_nodes(text):
    """Find what ``__all__`` is made from.

    Args:
        text (str): A module.

    Returns:
        list[ast.AST]: All parts of the statements that give it a value;
        empty if there is none.
    """
    nodes = []
    for statement in ast.parse(text).body:
        targets = getattr(statement, 'targets',
                          [getattr(statement, 'target', None)])
        if '__all__' in [getattr(target, 'id', None) for target in targets
                         ] and statement.value is not None:
            nodes += ast.walk(statement.value)
    return nodes
