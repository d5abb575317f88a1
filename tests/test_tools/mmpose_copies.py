# Copyright (c) OpenMMLab. All rights reserved.
"""Copies of the installed MMPose, as it was without the patch."""
import os
import shutil
from importlib.util import find_spec
from pathlib import Path

from hook_migration.exports import remove_export

# What a migration reads or changes, for tests that import nothing from it.
PARTS = ('engine', 'version.py', '__init__.py', 'registry.py',
         '.mim/configs/_base_/default_runtime.py')


def copy_mmpose(site_packages, parts=('', )):
    """Copy the installed MMPose without what was added to it.

    Args:
        site_packages (Path): The folder to copy it into.
        parts (Iterable[str]): What of the package to copy. Defaults to all.

    Returns:
        Path: The folder of the package.
    """
    source = Path(find_spec('mmpose').origin).parent
    package = site_packages / 'mmpose'
    for part in parts:
        if (source / part).is_dir():
            shutil.copytree(
                str(source / part), str(package / part), ignore=not_mmposes)
        else:
            (package / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(source / part), str(package / part))
    exports = package / 'engine' / 'hooks' / '__init__.py'
    exports.write_bytes(installed_exports().encode('utf-8'))
    return package


def installed_exports():
    """Return what MMPose's own ``hooks/__init__.py`` has in it."""
    package = Path(find_spec('mmpose').origin).parent
    exports = package / 'engine' / 'hooks' / '__init__.py'
    return remove_export(exports.read_bytes().decode('utf-8'))


def not_mmposes(folder, names):
    """Name what the patch may have added; links are not followed."""
    return [
        name for name in names
        if (Path(folder) / name).is_symlink() or name == '__pycache__'
    ]


def contents(folder):
    """All there is in a folder: of files what is in them, of links where they
    lead to."""
    return {
        str(path.relative_to(folder)):
        path.is_symlink() and os.readlink(str(path))
        or path.is_file() and (path.read_bytes(), path.stat().st_mode)
        for path in folder.rglob('*')
    }
