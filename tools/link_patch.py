# Copyright (c) OpenMMLab. All rights reserved.
"""Lay the patch over an installed MMPose, as symbolic links.

The links lead into this checkout, so that an edit here takes effect at once.
One file of MMPose is changed: ``mmpose/engine/hooks/__init__.py`` exports the
hook. With ``--remove``, MMPose is as it was, to the byte.
"""
import argparse
import ast
import importlib.util
import io
import os
import re
import shutil
import sys
import tokenize
from collections import namedtuple
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULE = 'enhanced_tensorboard_hook'
HOOK = 'EnhancedTensorBoardHook'
IMPORT = f'from .{MODULE} import {HOOK}'
LINE_LENGTH = 79
OPENING, CLOSING = '([{', ')]}'

# What the patch adds: to the package, and to the folders of configs.
PACKAGE_PATHS = (f'engine/hooks/{MODULE}.py', 'engine/monitors')
CONFIG_PATHS = ('_base_/enhanced_tensorboard', 'enhanced_tensorboard')

# The list or tuple of __all__: where it begins in the text, what it is like,
# and its entries.
Exports = namedtuple('Exports', 'start is_tuple has_brackets entries')
# What it is for Python, from where to where it goes, and where the comma after
# it ends, if there is one.
Entry = namedtuple('Entry', 'value start end comma_end')


class LinkError(Exception):
    """Something the user can put right; the message is one line."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--target',
        type=Path,
        help='the MMPose to link into: the folder of the package, or the '
        'one it is in; the MMPose of this Python unless given')
    parser.add_argument(
        '--remove', action='store_true', help='take the patch out again')
    args = parser.parse_args()
    try:
        package = find_package(args.target)
        change = remove_patch if args.remove else add_patch
        for line in change(package):
            print(line)
    except LinkError as error:
        sys.exit(f'link_patch: {error}')


def find_package(target=None):
    """Find the MMPose to link into.

    Args:
        target (Path, optional): Where the user says it is.

    Returns:
        Path: The folder of the package.
    """
    if target is None:
        spec = importlib.util.find_spec('mmpose')
        # The mmpose/ of this checkout has no __init__.py: where no MMPose is
        # installed, it is found as a package without an origin.
        if spec is None or spec.origin is None:
            raise LinkError(f'{sys.executable} has no MMPose installed')
        return Path(spec.origin).parent
    for package in (target, target / 'mmpose'):
        if (package / 'engine' / 'hooks' / '__init__.py').exists():
            return package
    raise LinkError(f'there is no MMPose in {target}')


def add_patch(package):
    """Link the patch into a package.

    Args:
        package (Path): The folder of MMPose's package.

    Returns:
        list[str]: What was done, for the user.
    """
    links = patch_links(package)
    for place, source in links:
        if is_taken(place, source):
            raise LinkError(f'{place} is there and is not a link to the '
                            'patch: move it away first')
    new = [(place, source) for place, source in links
           if not points_to(place, source)]
    for place, source in new:
        if place.is_symlink():
            place.unlink()
        place.symlink_to(source)
    done = [f'linked {place} -> {source}' for place, source in new]
    return done + edit_exports(package, add_export)


def remove_patch(package):
    """Take the patch out of a package.

    Args:
        package (Path): The folder of MMPose's package.

    Returns:
        list[str]: What was done, for the user.
    """
    # First, so that no export is left without its hook.
    done = edit_exports(package, remove_export)
    for place, source in patch_links(package):
        if place.is_symlink() and not is_taken(place, source):
            place.unlink()
            done.append(f'removed {place}')
            cache = place.parent / '__pycache__'
            for compiled in cache.glob(f'{place.stem}.*.pyc'):
                compiled.unlink()
    return done


def patch_links(package):
    """The links that make up the patch.

    Args:
        package (Path): The folder of MMPose's package.

    Returns:
        list[tuple[Path, Path]]: The place of each link and what it leads to.
    """
    links = [(package / path, ROOT / 'mmpose' / path)
             for path in PACKAGE_PATHS]
    for configs in config_folders(package):
        links += [(configs / path, ROOT / 'configs' / path)
                  for path in CONFIG_PATHS]
    return links


def config_folders(package):
    """The folders in which MMPose's configs are.

    They come in ``.mim`` with an installed MMPose and lie beside the package
    in a source tree; an editable installation has both, one a link to the
    other.

    Args:
        package (Path): The folder of MMPose's package.

    Returns:
        list[Path]: The folders.
    """
    folders = (package / '.mim' / 'configs', package.parent / 'configs')
    found = {
        folder.resolve(): folder
        for folder in folders
        # Tells MMPose's from any other folder called configs.
        if (folder / '_base_' / 'default_runtime.py').exists()
    }
    return list(found.values())


def points_to(place, source):
    """Whether a link leads where it should.

    Args:
        place (Path): The place of the link.
        source (Path): What it should lead to.

    Returns:
        bool: True if it does.
    """
    return place.is_symlink() and os.readlink(str(place)) == str(source)


def is_taken(place, source):
    """Whether there is something at a link's place that is not ours.

    A link to the same path in another checkout, which may be gone, is ours.

    Args:
        place (Path): The place of the link.
        source (Path): What it should lead to.

    Returns:
        bool: True for a file, a folder or somebody else's link.
    """
    if not place.is_symlink():
        return place.exists()
    path = source.relative_to(ROOT).parts
    return Path(os.readlink(str(place))).parts[-len(path):] != path


def edit_exports(package, edit):
    """Change what ``mmpose.engine.hooks`` exports.

    Args:
        package (Path): The folder of MMPose's package.
        edit (Callable[[str], str]): Gives the new text of its
            ``__init__.py``.

    Returns:
        list[str]: What was done, for the user.
    """
    file = package / 'engine' / 'hooks' / '__init__.py'
    old = file.read_bytes()
    try:
        new = edit(old.decode('utf-8')).encode('utf-8')
    except (ValueError, SyntaxError) as error:
        raise LinkError(f'{file} cannot be edited: {error}')
    if new == old:
        return []
    # Never into the file itself: it may be one with a package manager's copy.
    fresh = file.with_name(f'{file.name}.{os.getpid()}.tmp')
    fresh.write_bytes(new)
    shutil.copymode(str(file), str(fresh))
    os.replace(str(fresh), str(file))
    return [f'edited {file}']


# The export, as an edit of text


def add_export(text):
    """Export the hook from a package of hooks.

    Args:
        text (str): The package's ``__init__.py``.

    Returns:
        str: The text with the import of the hook and with its entry in
        ``__all__``, if there is one; the same text if they are there.
    """
    if not find_imports(text):
        text = add_import(text)
        if not find_imports(text):
            raise ValueError(f'there is no place for "{IMPORT}"')
    exports = find_exports(text)
    if exports and not find_entry(exports):
        text = add_entry(text, exports)
    return text


def remove_export(text):
    """Undo :func:`add_export`.

    Args:
        text (str): The package's ``__init__.py``.

    Returns:
        str: The text without the import and the entry.
    """
    exports = find_exports(text)
    if exports and find_entry(exports):
        text = remove_entry(text, exports)
    for statement in find_imports(text):
        text = remove_import(text, statement)
    return text


def find_imports(text):
    """Find the imports of the hook.

    Args:
        text (str): A module.

    Returns:
        list[ast.ImportFrom]: The statements.
    """
    return [
        statement for statement in relative_imports(text)
        if statement.module == MODULE and HOOK in imported_names(statement)
    ]


def relative_imports(text):
    """Find the imports from the package that a module is in.

    Args:
        text (str): The module.

    Returns:
        list[ast.ImportFrom]: The statements.
    """
    return [
        statement for statement in ast.parse(text).body
        if isinstance(statement, ast.ImportFrom) and statement.level == 1
    ]


def imported_names(statement):
    """The names that a statement imports.

    Args:
        statement (ast.ImportFrom): The statement.

    Returns:
        list[str]: The names.
    """
    return [alias.name for alias in statement.names]


def add_import(text):
    """Add the import where isort would have it.

    Args:
        text (str): A module without it.

    Returns:
        str: The module with it.
    """
    lines = split_lines(text)
    index = import_line(text, lines)
    if index and not line_end(lines[index - 1]):
        lines.append(newline(text) + IMPORT)
    else:
        lines.insert(index, IMPORT + newline(text))
    return ''.join(lines)


def import_line(text, lines):
    """Where the import belongs.

    Args:
        text (str): The module.
        lines (list[str]): Its lines.

    Returns:
        int: The index of the line to put it before.
    """
    relative = relative_imports(text)
    earlier = [
        statement for statement in relative
        if (statement.module or '').lower() < MODULE
    ]
    if earlier:
        return earlier[-1].end_lineno
    if relative:
        return relative[0].lineno - 1
    module = ast.parse(text)
    above = [
        statement for index, statement in enumerate(module.body)
        if isinstance(statement, (ast.Import, ast.ImportFrom)) or (
            not index and ast.get_docstring(module) is not None)
    ]
    if above:
        return above[-1].end_lineno
    for index, line in enumerate(lines):
        if line.strip() and not line.startswith('#'):
            return index
    return len(lines)


def remove_import(text, statement):
    """Take out the lines of an import.

    Args:
        text (str): A module.
        statement (ast.ImportFrom): The import.

    Returns:
        str: The module without it.
    """
    lines = split_lines(text)
    first, last = statement.lineno - 1, statement.end_lineno
    alone = len(ast.parse(''.join(lines[first:last])).body) == 1
    if not alone or set(imported_names(statement)) != {HOOK}:
        raise ValueError(f'line {first + 1} does more than to import {HOOK}; '
                         'take it out by hand')
    # Where the text ends without a line end, add_import put one before.
    if not line_end(lines[last - 1]) and first:
        previous = lines[first - 1]
        lines[first - 1] = previous[:-len(line_end(previous))]
    return ''.join(lines[:first] + lines[last:])


def find_exports(text):
    """Find the list or tuple that ``__all__`` is made from.

    Args:
        text (str): A module.

    Returns:
        Exports or None: None if there is no ``__all__``, or none that is
        written out.
    """
    for statement in ast.parse(text).body:
        targets = getattr(statement, 'targets',
                          [getattr(statement, 'target', None)])
        if '__all__' in [getattr(target, 'id', None) for target in targets]:
            literal = find_literal(statement.value)
            if literal:
                return read_exports(text, literal)
    return None


def find_literal(value):
    """Find a list or tuple in an expression such as ``['A'] + other``.

    Args:
        value (ast.expr or None): The expression.

    Returns:
        ast.List or ast.Tuple or None: The first one.
    """
    if isinstance(value, (ast.List, ast.Tuple)):
        return value
    if isinstance(value, ast.BinOp):
        return find_literal(value.left) or find_literal(value.right)
    return None


def read_exports(text, literal):
    """Find out where the entries of a list or tuple are in the text.

    Python's syntax tree knows neither the commas nor the parentheses around
    an entry; the tokens do.

    Args:
        text (str): A module.
        literal (ast.List or ast.Tuple): The list or tuple.

    Returns:
        Exports: Where everything is.
    """
    lines = split_lines(text)
    starts = [sum(map(len, lines[:index])) for index in range(len(lines))]
    start = starts[literal.lineno - 1] + width(lines[literal.lineno - 1],
                                               literal.col_offset)
    end = starts[literal.end_lineno - 1] + width(lines[literal.end_lineno - 1],
                                                 literal.end_col_offset)
    tokens = []
    for token in tokenize.generate_tokens(iter(lines).__next__):
        if token.type in (tokenize.COMMENT, tokenize.NL, tokenize.ENDMARKER):
            continue
        at = starts[token.start[0] - 1] + token.start[1]
        if start <= at < end:
            tokens.append((token.string, at, at + len(token.string)))
    has_brackets = closing_bracket(tokens) == len(tokens) - 1
    if has_brackets:
        tokens = tokens[1:-1]
    return Exports(start, isinstance(literal, ast.Tuple), has_brackets,
                   list(split_entries(tokens, literal.elts)))


def width(line, column):
    """Turn a column of the syntax tree, in bytes, into one in characters.

    Args:
        line (str): The line.
        column (int): The column in bytes.

    Returns:
        int: The column in characters.
    """
    return len(line.encode('utf-8')[:column].decode('utf-8'))


def closing_bracket(tokens):
    """Find the bracket that closes the first token.

    Args:
        tokens (list[tuple[str, int, int]]): Each token, its start and end.

    Returns:
        int: The index of the token, 0 if the first one is not a bracket.
    """
    depth = 0
    for index, (string, _, _) in enumerate(tokens):
        depth += (string in OPENING) - (string in CLOSING)
        if not depth:
            return index


def split_entries(tokens, values):
    """Split the inside of a list or tuple at its commas.

    Args:
        tokens (list[tuple[str, int, int]]): Each token, its start and end.
        values (list[ast.expr]): What the entries are for Python.

    Yields:
        Entry: Where an entry is.
    """
    values = iter(values)
    depth, start, end = 0, None, None
    for string, token_start, token_end in tokens:
        if string == ',' and not depth:
            yield Entry(next(values), start, end, token_end)
            start = None
            continue
        depth += (string in OPENING) - (string in CLOSING)
        start = token_start if start is None else start
        end = token_end
    if start is not None:
        yield Entry(next(values), start, end, None)


def find_entry(exports):
    """Find the hook in ``__all__``.

    Args:
        exports (Exports): The list or tuple.

    Returns:
        Entry or None: Its entry.
    """
    for entry in exports.entries:
        if getattr(entry.value, 'value', None) == HOOK:
            return entry
    return None


def add_entry(text, exports):
    """Add the hook as the last entry, in the style of the others.

    Args:
        text (str): A module.
        exports (Exports): Its list or tuple.

    Returns:
        str: The module with the entry.
    """
    if not exports.entries:
        inside = exports.start + 1
        comma = ',' if exports.is_tuple else ''
        return splice(text, inside, inside, f"'{HOOK}'{comma}")
    last = exports.entries[-1]
    quote = '"' if text[last.end - 1] == '"' else "'"
    entry = quote + HOOK + quote + (',' if last.comma_end else '')
    end = last.comma_end or last.end
    rest = text[end:line_stop(text, end)]
    place = end
    if exports.has_brackets and wants_line(text, exports, entry, rest):
        # A comment stays with the entry that it is about.
        if not rest.strip() or rest.lstrip().startswith('#'):
            place += len(rest)
        entry = newline(text) + indentation(text, exports) + entry
    else:
        entry = ' ' + entry
    text = splice(text, place, place, entry)
    return text if last.comma_end else splice(text, end, end, ',')


def wants_line(text, exports, entry, rest):
    """Whether the entry goes on a line of its own.

    Args:
        text (str): A module.
        exports (Exports): Its list or tuple, with brackets and entries.
        entry (str): The entry to add.
        rest (str): What stands behind the last entry, on its line.

    Returns:
        bool: True if the others do, or if there is no room.
    """
    entries = exports.entries
    last = entries[-1]
    if rest.lstrip().startswith('#'):
        return True
    if all(is_first(text, other.start) for other in entries[1:] or entries):
        return True
    line = text[line_start(text, last.end):last.end] + ', ' + entry + rest
    return len(line) > LINE_LENGTH


def indentation(text, exports):
    """What a new line of entries begins with.

    Args:
        text (str): A module.
        exports (Exports): Its list or tuple, with entries.

    Returns:
        str: White space that puts an entry below those of the last line.
    """
    start = line_start(text, exports.entries[-1].start)
    head = next(entry.start for entry in exports.entries
                if entry.start >= start)
    indent = text[start:head]
    return indent if is_first(text, head) else ' ' * len(indent)


def remove_entry(text, exports):
    """Take out the hook.

    Args:
        text (str): A module.
        exports (Exports): Its list or tuple, with the hook.

    Returns:
        str: The module without the entry.
    """
    entries = exports.entries
    entry = find_entry(exports)
    index = entries.index(entry)
    before, after = entries[:index], entries[index + 1:]
    start, end = entry.start, entry.comma_end or entry.end
    if after and after[0].start <= line_stop(text, end):
        return splice(text, start, after[0].start, '')
    if before or after:
        if is_first(text, start):
            start = previous_stop(text, start)
        elif before:
            start = before[-1].comma_end
    text = splice(text, start, end, '')
    # A comma is what makes a tuple of one entry.
    is_needed = exports.is_tuple and len(before) == 1
    if before and not entry.comma_end and not is_needed:
        comma_end = before[-1].comma_end
        text = splice(text, comma_end - 1, comma_end, '')
    return text


# Text


def splice(text, start, end, new):
    """Replace a part of a text.

    Args:
        text (str): The text.
        start (int): Where the part begins.
        end (int): Where it ends.
        new (str): What to put there.

    Returns:
        str: The new text.
    """
    return text[:start] + new + text[end:]


def split_lines(text):
    """Split a text where Python does, and nowhere else.

    Args:
        text (str): The text.

    Returns:
        list[str]: The lines with their ends.
    """
    return io.StringIO(text, newline='').readlines()


def newline(text):
    """How lines end in a text.

    Args:
        text (str): The text.

    Returns:
        str: The first line end.
    """
    return re.search('\r\n|\r|\n|$', text).group() or '\n'


def line_start(text, at):
    """Where a line begins.

    Args:
        text (str): The text.
        at (int): A position in the line.

    Returns:
        int: The position of its first character.
    """
    return re.search('[^\r\n]*$', text[:at]).start()


def line_stop(text, at):
    """Where a line ends.

    Args:
        text (str): The text.
        at (int): A position in the line.

    Returns:
        int: The position after its last character.
    """
    return at + re.match('[^\r\n]*', text[at:]).end()


def previous_stop(text, at):
    """Where the line before a line ends.

    Args:
        text (str): The text.
        at (int): A position in the line, which is not the first one.

    Returns:
        int: The position after the last character of the line before.
    """
    above = text[:line_start(text, at)]
    return len(above) - len(line_end(above))


def line_end(text):
    """The line end that a text closes with.

    Args:
        text (str): The text.

    Returns:
        str: The line end; empty if there is none.
    """
    return re.search('(\r\n|\r|\n)?$', text).group()


def is_first(text, at):
    """Whether there is nothing before a position in its line.

    Args:
        text (str): The text.
        at (int): The position.

    Returns:
        bool: True if there is only white space.
    """
    return not text[line_start(text, at):at].strip()


if __name__ == '__main__':
    main()
