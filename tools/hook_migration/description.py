# Copyright (c) OpenMMLab. All rights reserved.
"""Say what a plan changes."""
import difflib
import os
from pathlib import Path

from .transaction import File, Link, read


def describe(migration, plan, every_file=False):
    """Say what a plan does.

    Args:
        migration (Migration): Where.
        plan (Plan): The plan.
        every_file (bool): Name each file, else only folders where there are
            many. Defaults to False.
    """
    folders = {}
    for path, content in plan.changes:
        if content is None:
            done = 'remove'
        elif isinstance(content, Link):
            done = 'link'
        else:
            done = 'add' if read(path) is None else 'change'
        place = Path(os.path.relpath(str(path), str(migration.package)))
        folders.setdefault((done, place.parent), []).append(place.name)
    for (done, folder), names in folders.items():
        if len(names) > 5 and not every_file:
            print(f'  {done:6} {folder}: {len(names)} files')
            continue
        for name in names:
            print(f'  {done:6} {folder / name}')


def diff(path, before, after):
    """Compare what is at a path with what is to be there.

    Args:
        path (Path): The path.
        before (File or Link): What is there.
        after (File, Link or None): What is to be there.

    Returns:
        Iterator[str]: The lines of a unified diff.
    """

    def lines(content):
        if isinstance(content, Link):
            return [f'link to {content.target}\n']
        data = content.data if isinstance(content, File) else b''
        text = data.decode('utf-8', 'replace')
        return [line + '\n' for line in text.splitlines()]

    return difflib.unified_diff(
        lines(before), lines(after), str(path),
        '/dev/null' if after is None else str(path))
