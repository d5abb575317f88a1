# Copyright (c) OpenMMLab. All rights reserved.
"""What a branch says: the guide, the changelog, the names it exports.

Each names what the branch has, and nothing that comes later.
"""
import ast
import re

from hook_migration.exports import IMPORT

from .imports import HOOK, HOOK_FILE, HOUSE, place_of

UNRELEASED = '## **Unreleased**'
FEATURES = '**New Features**'
# Before a block of a guide or the heading of a section: it is true from the
# branch on that has the module, or the hook.
MARK = re.compile(r'^<!-- with (\S+) -->$')
# As tests/test_lint.py calls mdformat.
FORMAT = dict(number=True, table_width=200)


def is_there(name, have, modules):
    """Whether a name means something where only some modules are.

    Args:
        name (str): An argument of the hook, a tag, or any other name.
        have (Collection[str]): The files that are there.
        modules (Modules): All modules.

    Returns:
        bool: False for an argument or a tag that none of the files has.
    """
    if HOOK in name or 'enhanced_tensorboard' in name:
        return HOOK_FILE in have
    for names in (modules.arguments, modules.tags):
        if name in names:
            return any(path in have for path in names[name])
    return True


def guide_for(text, have, modules):
    """Cut a guide down to what is there.

    Args:
        text (str): The guide, in Markdown.
        have (Collection[str]): The files of the library that are there.
        modules (Modules): All modules.

    Returns:
        str: The guide without the rows, lines and paragraphs that name
        anything else, and without sections that say nothing then.
    """
    kept, needed, missing = [], True, 0
    for block in blocks(text):
        mark = MARK.match(block)
        if mark:
            needed = place_of(mark.group(1)) in have
            continue
        if 0 < level(block) <= missing:
            missing = 0
        if not needed:
            missing = missing or level(block)
        is_true = needed and not missing
        block = block_for(block, have, modules) if is_true else ''
        # Without what it announces, a sentence announces nothing.
        if not block and kept and kept[-1].endswith((':', '：')):
            kept.pop()
        if block:
            kept.append(block)
        needed = True
    # A heading that the next one follows is of an empty section.
    full = [
        block for block, after in zip(kept, [*kept[1:], '# '])
        if not (level(block) and level(after) and level(block) >= level(after))
    ]
    return formatted('\n\n'.join(full) + '\n')


def formatted(text):
    """Align the tables of a page, if mdformat is installed.

    Args:
        text (str): The page.

    Returns:
        str: The page.
    """
    try:
        import mdformat
    except ImportError:
        return text
    return mdformat.text(text, options=FORMAT, extensions={'openmmlab'})


def blocks(text):
    """Split Markdown at its blank lines, but not in code.

    Args:
        text (str): The text.

    Yields:
        str: A block.
    """
    lines, in_code = [], False
    for line in [*text.splitlines(), '']:
        in_code ^= line.startswith('```')
        if line.strip() or in_code:
            lines.append(line)
        elif lines:
            yield '\n'.join(lines)
            lines = []


def level(block):
    """The level of a heading; 0 for other blocks."""
    return len(re.match('#* ?', block).group().rstrip())


def block_for(block, have, modules):
    """Cut a block of a guide down to what is there.

    Args:
        block (str): The block.
        have (Collection[str]): The files of the library that are there.
        modules (Modules): All modules.

    Returns:
        str: What is left of it.
    """

    def holds(names):
        return all(is_there(name, have, modules) for name in names)

    def code(line):
        return [name.split('=')[0] for name in re.findall('`([^`]+)`', line)]

    lines = block.split('\n')
    if block.startswith('|'):
        rows = [line for line in lines[2:] if holds(code(line))]
        return '\n'.join([*lines[:2], *rows]) if rows else ''
    if not block.startswith('```'):
        return block if holds(code(block)) else ''
    kept = []
    for line in lines:
        if holds(re.findall(r'\w+', line)):
            kept.append(line)
            continue
        while kept[-1].strip().startswith('#'):  # The comment on the line.
            kept.pop()
    is_empty = len(kept) <= 2 or HOOK in block and HOOK not in '\n'.join(kept)
    return '' if is_empty else '\n'.join(kept)


def add_export(text):
    """Export the hook from MMPose's own package of hooks.

    Args:
        text (str): Its ``__init__.py``.

    Returns:
        str: The text with the import in its place and the entry at the end.

    Raises:
        ValueError: There is no place for them.
    """
    below = [
        line for line in re.findall(r'^from \..*\n', text, re.MULTILINE)
        if line > IMPORT
    ]
    end = re.search(r"(?<=')(\n?)\]\n\Z", text)
    if not below or not end:
        raise ValueError('it has another form than before')
    indent = ' ' * len('    ' if end.group(1) else '__all__ = [')
    entry = f",\n{indent}'{HOOK}'{end.group()}"
    return text[:end.start()].replace(below[0],
                                      f'{IMPORT}\n{below[0]}') + entry


def exports_for(text, have):
    """Take out of the monitors' package the names that are not there.

    Args:
        text (str): ``monitors/__init__.py``.
        have (Collection[str]): The files of the library that are there.

    Returns:
        str: The text without the rows of its table of other modules.
    """
    lines = text.splitlines(keepends=True)
    for statement in ast.parse(text).body:
        if not isinstance(statement, ast.Assign) or not isinstance(
                statement.value, ast.Dict):
            continue
        table = statement.value
        for key, value in reversed(list(zip(table.keys, table.values))):
            module = getattr(key, 'value', None)
            path = f'{HOUSE}/{str(module).replace(".", "/")}.py'
            if isinstance(module, str) and path not in have:
                del lines[key.lineno - 1:value.end_lineno]
    return ''.join(lines)


def add_requirement(text):
    """Let the tests have tensorboard.

    Args:
        text (str): The requirements, in the order of the alphabet.

    Returns:
        str: The same with tensorboard.
    """
    lines = text.splitlines(keepends=True)
    names = [re.split(r'\W', line, maxsplit=1)[0].lower() for line in lines]
    if 'tensorboard' in names:
        return text
    at = sum(name < 'tensorboard' for name in names)
    return ''.join([*lines[:at], 'tensorboard\n', *lines[at:]])


def add_change(text, entry):
    """Add an entry to the changelog.

    Args:
        text (str): The changelog.
        entry (str): What was changed, in a line.

    Returns:
        str: The changelog with the entry among what is not released yet.
    """
    title, rest = text.split('\n', 1)
    rest = rest.lstrip('\n')
    section, others = '', rest
    if rest.startswith(UNRELEASED):
        section = re.split('^## ', rest[len(UNRELEASED):], flags=re.M)[0]
        others = rest[len(UNRELEASED) + len(section):]
    section = section.strip('\n')
    if FEATURES in section:
        before, after = section.split(FEATURES)
        items, *left = re.split('\n\n(?!-)', after.strip('\n'))
        section = '\n\n'.join(
            [f'{before}{FEATURES}\n\n{items}\n- {entry}', *left])
    else:
        section = '\n\n'.join(
            filter(None, [f'{FEATURES}\n\n- {entry}', section]))
    return f'{title}\n\n{UNRELEASED}\n\n{section}\n\n{others}'
