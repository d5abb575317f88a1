# Copyright (c) OpenMMLab. All rights reserved.
"""The export of the hook, as an edit of text.

It goes into whatever ``hooks/__init__.py`` there is, in the style of that
file, and can be taken out again, to the byte.
"""
import ast
import codecs
import io
import re
import tokenize
from collections import namedtuple

MODULE = 'enhanced_tensorboard_hook'
HOOK = 'EnhancedTensorBoardHook'
IMPORT = f'from .{MODULE} import {HOOK}'
LINE_LENGTH = 79
OPENING, CLOSING = '([{', ')]}'

# The list or tuple of __all__: where it begins in the text, what it is like,
# and its entries.
Exports = namedtuple('Exports', 'start is_tuple has_brackets entries')
# What it is for Python, from where to where it goes, and where the comma after
# it ends, if there is one.
Entry = namedtuple('Entry', 'value start end comma_end')


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
    lines = split_lines(text)
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
        statement for statement in relative_imports(text)
        if statement.module == module and any(
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
    if not alone or imported_names(statement) != [HOOK]:
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
