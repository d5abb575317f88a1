# Copyright (c) OpenMMLab. All rights reserved.
"""Lay the patch over an installed MMPose, as symbolic links.

The links lead into this checkout, so that an edit here takes effect at once.
One file of MMPose is changed: ``mmpose/engine/hooks/__init__.py`` exports the
hook. With ``--remove``, MMPose is as it was, to the byte.
"""
import argparse
import os
import shutil
import sys
from pathlib import Path

from hook_migration.exports import add_export, edit_file, remove_export
from hook_migration.mmpose_tree import (BASES, DEMO, EXPORTS_FILE, HOOK_FILE,
                                        MONITORS, NoMMPoseError,
                                        config_folders, find_package,
                                        model_configs)
from hook_migration.state import MANIFEST

ROOT = Path(__file__).resolve().parents[1]


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
    except (LinkError, NoMMPoseError, OSError) as error:
        sys.exit(f'link_patch: {error}')


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
    if (package / MANIFEST).exists():
        raise LinkError(f'{package} was migrated: take the hook out with '
                        'tools/migrate_hook.py --restore')
    links = patch_links(package)
    done = []
    # First, so that no export is left without its hook. With another hook in
    # its place, the export is of that one.
    if not is_taken(*links[0]):
        done += edit_exports(package, remove_export)
    for place, source in links:
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
        list[tuple[Path, Path]]: The place of each link and what it leads to,
        the hook first.
    """
    links = [(package / path, ROOT / 'mmpose' / path)
             for path in (HOOK_FILE, MONITORS)]
    for configs in config_folders(package):
        links += [(configs / path, ROOT / 'configs' / path)
                  for path in (BASES, Path(DEMO))]
        links += list(model_configs(configs).items())
    return links


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
    file = package / EXPORTS_FILE
    old = file.read_bytes()
    try:
        new = edit_file(old, edit)
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


if __name__ == '__main__':
    main()
