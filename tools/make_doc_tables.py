# Copyright (c) OpenMMLab. All rights reserved.
"""Make the tables of the documentation from the docstrings.

    python tools/make_doc_tables.py

writes the parameters and the presets of the hook and the tags of its monitors
into ``docs/en``, each between two comments that name the table; the rest of a
page is written by hand. The cells of the other languages are translated by
hand: of these it is said which tables differ in the columns that no
translation changes.
"""
import inspect
import re
import sys
from pathlib import Path

import mdformat

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / 'docs'
LANGUAGES = ('ko', 'zh_cn')

PARAMETER_COLUMNS = ('parameter', 'type', 'default', 'meaning')
# How many columns of each page's tables are names and values, not words.
PAGES = {'parameters.md': 3, 'presets.md': 4, 'tags.md': 1}
# As tests/test_lint.py calls mdformat.
FORMAT = dict(number=True, table_width=200)


def main():
    for page in PAGES:
        file = DOCS / 'en' / page
        old = file.read_text(encoding='utf-8')
        new = fill(old)
        if new != old:
            file.write_text(new, encoding='utf-8')
            print(f'wrote {file}')
    drifted = [
        f'{file}: its tables differ from the English ones in the first '
        f'{PAGES[file.name]} columns' for file in translations()
        if not is_up_to_date(file)
    ]
    sys.exit('\n'.join(drifted) or None)


def fill(text):
    """Put the tables into a page.

    Args:
        text (str): The page, with ``<!-- begin NAME -->`` and ``<!-- end NAME
            -->`` around each place.

    Returns:
        str: The page with new tables.
    """
    makers = dict(
        parameters=parameter_table, presets=preset_table, tags=tag_sections)
    for name in re.findall('<!-- begin (.+) -->', text):
        begin, end = f'<!-- begin {name} -->', f'<!-- end {name} -->'
        before, rest = text.split(begin)
        after = rest.split(end)[1]
        text = f'{before}{begin}\n\n{makers[name]()}\n\n{end}{after}'
    return mdformat.text(text, options=FORMAT, extensions={'openmmlab'})


def translations():
    """The translated pages that there are.

    Returns:
        list[Path]: Their files.
    """
    files = [
        DOCS / language / page for language in LANGUAGES for page in PAGES
    ]
    return [file for file in files if file.exists()]


def is_up_to_date(file):
    """Whether a translated page has the names and values of the English one.

    Args:
        file (Path): The page.

    Returns:
        bool: True if it does.
    """
    columns = PAGES[file.name]
    english = DOCS / 'en' / file.name
    return all_cells(file, columns) == all_cells(english, columns)


def all_cells(file, columns):
    """The cells of all tables of a page, without their head.

    Args:
        file (Path): The page.
        columns (int): How many columns to take.

    Returns:
        list[list[str]]: The first cells of each row.
    """
    rows = []
    for line in file.read_text(encoding='utf-8').splitlines():
        cells = [cell.strip() for cell in line.strip().split('|')[1:-1]]
        if cells and set(''.join(cells)) <= set(':- '):
            rows.pop()
        elif cells:
            rows.append(cells[:columns])
    return rows


# The tables


def parameter_table():
    """The parameters of the hook.

    Returns:
        str: A Markdown table.
    """
    rows = []
    for argument in registry().hook_arguments():
        kind = argument.type_name.replace(' | ', ' or ')
        text = re.sub(r'`(\w+Monitor)`', link_to_monitor,
                      plain(argument.meaning))
        rows.append((f'`{argument.name}`', f'`{kind}`',
                     f'`{argument.default!r}`', text))
    return table(PARAMETER_COLUMNS, rows)


def link_to_monitor(match):
    """Link a monitor's name to its section in the page of the tags.

    Args:
        match (re.Match): The name, as code; its first group is the name.

    Returns:
        str: The link.
    """
    return f'[{match.group()}](tags.md#{match.group(1).lower()})'


def preset_table():
    """What each preset stands for.

    Returns:
        str: A Markdown table.
    """
    from mmpose.engine.monitors import presets
    values = presets(registry().hook_arguments())
    # From the one that logs least.
    names = sorted(values, key=('fast', 'balanced', 'detailed').index)
    return table(['parameter', *(f'`{name!r}`' for name in names)],
                 [(f'`{argument}`', *(f'`{values[name][argument]!r}`'
                                      for name in names))
                  for argument in values['balanced']])


def tag_sections():
    """What the monitors write, and what it tells.

    Returns:
        str: A section for each monitor.
    """
    return '\n\n'.join(
        tag_section(monitor, switches)
        for monitor, switches in monitors_with_switches())


def tag_section(monitor, switches):
    """What a monitor writes, and what it tells.

    Args:
        monitor (type): The monitor's class.
        switches (list[str]): The parameters that each switch it on.

    Returns:
        str: A section, with the monitor's name as its title.
    """
    parts = [f'## {monitor.__name__}']
    for paragraph in paragraphs(monitor):
        if paragraph.startswith('==='):
            parts.append(table(('tag', 'what it is'), simple_table(paragraph)))
        else:
            paragraph = re.sub('^What it tells:', '**What it tells you:**',
                               plain(paragraph))
            parts.append(paragraph)
    names = ' or '.join(f'`{switch}`' for switch in switches)
    parts.insert(2, f'Switched by {names}.' if names else 'Always on.')
    return '\n\n'.join(parts)


def documented_tags():
    """The tags that the monitors' docstrings describe.

    Returns:
        list[str]: ``<...>`` in them stands for any text.
    """
    return [
        tag.strip('`') for monitor, _ in monitors_with_switches()
        for paragraph in paragraphs(monitor) if paragraph.startswith('===')
        for tag, _ in simple_table(paragraph)
    ]


# The docstrings


def paragraphs(monitor):
    """What the docstrings of a monitor and its parts say, but for arguments.

    Args:
        monitor (type): The monitor's class.

    Returns:
        list[str]: The paragraphs.
    """
    return [
        paragraph for cls in (monitor, *monitor.parts)
        for paragraph in re.split('\n(?:Args|Attributes):\n',
                                  inspect.getdoc(cls))[0].split('\n\n')
    ]


def hook_module():
    """The module of the hook, in the MMPose that it is linked into.

    Returns:
        module: The module.

    Raises:
        RuntimeError: It is not the one of this checkout.
    """
    from mmpose.engine.hooks import enhanced_tensorboard_hook as module
    if ROOT not in Path(module.__file__).resolve().parents:
        raise RuntimeError(
            f'this Python has the hook of {module.__file__}, and the tables '
            f'are to be made from the one in {ROOT}: run `python '
            'tools/link_patch.py` first')
    return module


def registry():
    """The module that knows all monitors.

    Returns:
        module: The one of this checkout.
    """
    hook_module()
    from mmpose.engine.monitors.core import registry as module
    return module


def monitors_with_switches():
    """The monitors, and which parameters switch each of them on.

    Returns:
        list[tuple[type, list[str]]]: Class and parameters of each, in the
        order of their names.
    """
    classes = [
        cls for cls in registry().monitor_classes()
        # One's own may be registered as well.
        if cls.__name__.endswith('Monitor')
        and cls.__module__.startswith('mmpose.')
    ]
    return [(cls, [switch.name for switch in cls.switches])
            for cls in sorted(classes, key=lambda cls: cls.__name__)]


def simple_table(text):
    """Read a simple table of reStructuredText with two columns.

    Args:
        text (str): The table, with its rules.

    Returns:
        list[tuple[str, str]]: The two cells of each row, as Markdown.
    """
    rule, *lines = text.splitlines()
    second = rule.index(' ') + 1
    rows = []
    for line in lines[:-1]:
        if not line.startswith(' '):
            rows.append(('', ''))
        rows[-1] = tuple(f'{old} {new.strip()}'.strip()
                         for old, new in zip(rows[-1], (line[:second],
                                                        line[second:])))
    return [(plain(left), plain(right)) for left, right in rows]


def plain(text):
    """Turn the reStructuredText of a docstring into Markdown.

    Args:
        text (str): One paragraph.

    Returns:
        str: The same in one line.
    """
    text = re.sub(r':\w+:`~?([^`]+)`', r'``\1``', ' '.join(text.split()))
    return text.replace('``', '`')


def table(head, rows):
    """Write a Markdown table.

    Args:
        head (Sequence[str]): The titles of the columns.
        rows (Sequence[Sequence[str]]): The cells.

    Returns:
        str: The table.
    """
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


if __name__ == '__main__':
    main()
