# Copyright (c) OpenMMLab. All rights reserved.
"""The text of a pull request, in MMPose's own template."""
import ast
import re

from .imports import HOOK_FILE, HOUSE


def fill_template(template, sections, ticked):
    """Write the text of a pull request.

    Args:
        template (str): MMPose's template: sections under ``## TITLE``, with
            comments on what to write there.
        sections (dict[str, str]): The texts, by how the title of their
            section begins.
        ticked (Sequence[str]): The items of the checklist that are true, by
            words in them; what the author has to vouch for stays open.

    Returns:
        str: The template filled in. What it does not ask for is added.
    """
    before, *parts = re.split('^(?=## )', template, flags=re.M)
    left = dict(sections)
    filled = []
    for part in parts:
        title = part.splitlines()[0]
        name = next((n for n in left if title.startswith(f'## {n}')), None)
        if name:
            part = f'{title}\n\n{left.pop(name)}\n\n'
        filled.append(part)
    filled += [f'## {name}\n\n{text}\n\n' for name, text in left.items()]
    lines = (re.sub('<!--.*?-->\n*', '', before, flags=re.S) +
             ''.join(filled)).splitlines()
    return '\n'.join(
        line.replace('- [ ]', '- [x]') if any(word in line
                                              for word in ticked) else line
        for line in lines)


def modification(branch, modules, counts, series, changed, replaced):
    """Say what a branch changes.

    Args:
        branch (Branch): The branch.
        modules (Modules): The modules.
        counts (dict[str, int]): Numbers of files and lines.
        series (str): Where it stands in the series.
        changed (Sequence[str]): All files that it adds or changes.
        replaced (Sequence[str]): Files of the base that it replaces.

    Returns:
        str: A list, in Markdown.
    """
    lines = [series, '']
    library = branch.library
    if library:
        lines += [
            f'{counts["files"]} files: {counts["library"]:,} lines of library '
            f'code and {counts["tests"]:,} lines of tests.', ''
        ]
    if library and HOOK_FILE not in library and not (modules.registered
                                                     & set(library)):
        lines += [
            'Nothing but its tests uses it yet: the next part of the series '
            'does.', ''
        ]
    for path in library:
        what = summary(path, modules.texts[path])
        if what and not path.endswith('__init__.py'):
            name = path.replace(f'{HOUSE}/', 'monitors/', 1)
            lines.append(f'- `{name}`: {what}')
    others = sorted(set(changed) - {*library, *branch.tests})
    lines += [f'- `{path}`' for path in others]
    lines += [
        f'- `{path}` of this repository is replaced.' for path in replaced
    ]
    return '\n'.join(lines)


def summary(path, text):
    """Say what a module is for.

    Args:
        path (str): The file.
        text (str): The module.

    Returns:
        str: The first line of its docstring, or else of the class that has
        its name or is registered, or else of the first one; empty if there is
        none.
    """
    tree = ast.parse(text)
    documented = [
        node for node in tree.body if isinstance(node, (
            ast.ClassDef, ast.FunctionDef)) and not node.name.startswith('_')
    ]
    stem = path.rpartition('/')[2][:-3].replace('_', '')
    documented.sort(
        key=lambda node: (node.name.lower() != stem, not node.decorator_list))
    manuals = filter(None, map(ast.get_docstring, [tree, *documented]))
    return next(manuals, '').split('\n\n')[0].replace('\n', ' ')


def breaking(loaded, exported, replaced):
    """Say what a branch changes for those who do not use it.

    Args:
        loaded (Sequence[int or None]): How many modules importing MMPose's
            hooks imports before and after the branch that exports the hook;
            empty for other branches.
        exported (bool): Whether an earlier branch exports the hook.
        replaced (Sequence[str]): Files of the base that it replaces.

    Returns:
        str: The text.
    """
    name = '`import mmpose.engine.hooks`'
    if not loaded:
        said = (f'{name} loads none of the new modules.'
                if exported else f'{name} loads nothing of this yet.')
    elif None in loaded:
        said = f'How many modules more {name} loads was not measured.'
    else:
        more = loaded[1] - loaded[0]
        said = (f'{name} loads {abs(more)} modules '
                f'{"fewer" if more < 0 else "more"} than before this branch '
                f'({loaded[1]} for {loaded[0]}).')
    if replaced:
        return f'{said} It replaces {", ".join(map("`{}`".format, replaced))}.'
    return f'{said} It changes no class or function that was there.'


def vouched(ran, missing, tests, has_tests):
    """Say what was tried.

    Args:
        ran (Sequence[str]): The linters that were run.
        missing (Sequence[str]): Those that were not.
        tests (str): What pytest said; empty if it was not run.
        has_tests (bool): Whether the branch has tests.

    Returns:
        str: A text.
    """
    parts = []
    if ran:
        parts.append(f'Linters run on its files: {", ".join(ran)}.')
    if missing:
        parts.append(f'Not installed, so not run: {", ".join(missing)}.')
    if tests:
        parts.append(f"Its tests and those of MMPose's own hooks: {tests}.")
    elif has_tests:
        parts.append('Its tests were not run where this text was made.')
    return ' '.join(parts)
