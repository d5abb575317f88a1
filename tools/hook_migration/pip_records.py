# Copyright (c) OpenMMLab. All rights reserved.
"""What pip has noted about the package of the hook, and of what it needs."""
import contextlib
import csv
import os
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

DISTRIBUTION = 'mmpose-enhanced-tensorboard'
# The oldest versions that the hook is tested with.
OLDEST = dict(mmpose='1.2', torch='1.13', mmengine='0.8')


class TooOldError(Exception):
    """A package is older than the hook needs; the message says which."""


def check_version(name, found):
    """Refuse what is too old for the hook.

    Args:
        name (str): A package of ``OLDEST``.
        found (str): Its version; empty if that is not known.

    Raises:
        TooOldError: It is older.
    """
    if found and release(found) < release(OLDEST[name]):
        raise TooOldError(f'{name} {found} is too old: the hook needs '
                          f'{name} {OLDEST[name]} or newer')


def check_environment():
    """Refuse packages of this Python that are too old for the hook.

    What is missing is found when the hook is imported.

    Raises:
        TooOldError: One is older.
    """
    for name in ('torch', 'mmengine'):
        with contextlib.suppress(PackageNotFoundError):
            check_version(name, version(name))


def release(text):
    """Read a version.

    Args:
        text (str): '1.13.0+cu117' say.

    Returns:
        tuple[int]: Its first three numbers.
    """
    return tuple(map(int, re.findall(r'\d+', text)[:3]))


def installations(package):
    """Find where pip has noted the package of the hook.

    Args:
        package (Path): The folder of an MMPose, which may not be on the path.

    Yields:
        tuple[Path, list[Path]]: The folder of the notes, and the files that
        pip has installed.
    """
    pattern = DISTRIBUTION.replace('-', '_') + '-*.dist-info'
    # An MMPose that lies elsewhere may be used with what is on the path.
    folders = {package.parent}
    folders.update(Path(path).resolve() for path in sys.path if path)
    for folder in sorted(folders):
        for info in folder.glob(pattern):
            yield info, list(_recorded(info))


def _recorded(info):
    with contextlib.suppress(FileNotFoundError):
        with (info / 'RECORD').open(encoding='utf-8', newline='') as record:
            for name, *_ in csv.reader(record):
                yield Path(os.path.normpath(str(info.parent / name)))


def installed_into(package):
    """Find out whether pip has put the hook into an MMPose.

    Version 1 of the package did; since then it is a package of its own.

    Args:
        package (Path): The folder of the MMPose.

    Returns:
        str or None: A clause that says so; None if it has not.
    """
    for info, files in installations(package):
        if any(package in path.parents for path in files):
            return f'pip has put the hook into {package} ({info.name})'
    return None


def files_in(package):
    """Find the files in an MMPose that pip will take out.

    Args:
        package (Path): The folder of the MMPose.

    Returns:
        set[Path]: The files.
    """
    return {
        path
        for _, files in installations(package) for path in files
        if package in path.parents
    }


def installed_beside(package):
    """Find the package of the hook that pip has put beside an MMPose.

    Args:
        package (Path): The folder of the MMPose.

    Returns:
        list[str]: What there is to say of it.
    """
    said = []
    for info, files in installations(package):
        old = info.parent / 'mmpose'
        if all(old not in path.parents for path in files):
            said.append(f'{info} is the package {DISTRIBUTION}. It uses the '
                        'hook of an MMPose that has it.')
        elif old != package:
            said.append(f'{info} has put files into {old}, which hides an '
                        'MMPose that is installed as editable: upgrade '
                        f'{DISTRIBUTION}, or uninstall it.')
    return said
