# Copyright (c) OpenMMLab. All rights reserved.
"""Where MMPose is, and where in it the parts of the patch belong."""
import ast
import importlib.util
import os
import re
import sys
from pathlib import Path

from .exports import MODULE

ENGINE = Path('engine')
HOOKS = ENGINE / 'hooks'
HOOK_FILE = HOOKS / f'{MODULE}.py'
EXPORTS_FILE = HOOKS / '__init__.py'
MONITORS = ENGINE / 'monitors'
# The presets, in each folder in which MMPose keeps its configs.
BASES = Path('_base_', 'enhanced_tensorboard')
# Those that train on generated data stay where the generator is.
DEMO = 'enhanced_tensorboard'


class NoMMPoseError(Exception):
    """There is no MMPose that the hook could be brought into."""


def find_package(target=None):
    """Find the MMPose to work on.

    Args:
        target (Path, optional): The folder of the package or the one it is
            in. Defaults to None: the MMPose that this Python imports.

    Returns:
        Path: The folder of the package, the same by whatever links it is
        reached.

    Raises:
        NoMMPoseError: There is none, or it is MMPose 0.x.
    """
    if target is None:
        spec = importlib.util.find_spec('mmpose')
        if spec is None:
            raise NoMMPoseError(f'{sys.executable} has no MMPose installed')
        # A folder called mmpose without __init__.py, such as that of this
        # checkout, is found as a package without an origin.
        if spec.origin is None:
            folders = ', '.join(spec.submodule_search_locations)
            raise NoMMPoseError(
                f'{sys.executable} has no MMPose installed, or {folders} '
                'hides it, which has no __init__.py: uninstall what has put '
                'that there, rename it, or name the MMPose with --target')
        target = Path(spec.origin).parent
    for package in (target, target / 'mmpose'):
        # A link may have another name than what it leads to.
        names = (os.path.basename(os.path.abspath(str(package))),
                 package.resolve().name)
        if 'mmpose' not in names:
            continue
        if (package / EXPORTS_FILE).is_file():
            return package.resolve()
        version = mmpose_version(package)
        if version.startswith('0.'):
            raise NoMMPoseError(
                f'the MMPose in {package} is {version}: the hook needs MMPose '
                '1.2 or newer, which runs on MMEngine')
    raise NoMMPoseError(f'there is no MMPose in {target}')


def mmpose_version(package):
    """The version of an MMPose.

    Args:
        package (Path): The folder of the package.

    Returns:
        str: For example '1.3.2'; empty if it does not say.
    """
    try:
        text = (package / 'version.py').read_text(encoding='utf-8')
    except OSError:
        return ''
    found = re.search(r'^__version__ = [\'"](.+?)[\'"]', text, re.MULTILINE)
    return found.group(1) if found else ''


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


def patch_source():
    """Where the patch itself is: a checkout, or where pip has put it.

    Returns:
        tuple[Path, Path]: The folder with ``hooks`` and ``monitors``, which
        in a checkout is ``mmpose/engine``, and the folder of configs.
    """
    here = Path(__file__).resolve().parent
    package, checkout = here.parent, here.parents[1]
    if (package / HOOK_FILE.relative_to(ENGINE)).exists():
        return package, here / 'configs'
    return checkout / 'mmpose' / ENGINE, checkout / 'configs'


def hook_source():
    """The source of the hook.

    Returns:
        Path: The file.
    """
    return patch_source()[0] / HOOK_FILE.relative_to(ENGINE)


def patch_files(package):
    """What the patch adds to an MMPose.

    A config over one of MMPose's own is for an MMPose that has that one.

    Args:
        package (Path): The folder of MMPose's package.

    Returns:
        dict[Path, Path]: Each file's place in MMPose and its source; what
        needs others comes after them, so the hook is last.
    """
    source, source_configs = patch_source()
    folders = [(package / MONITORS, source / MONITORS.relative_to(ENGINE))]
    folders += [(configs / BASES, source_configs / BASES)
                for configs in config_folders(package)]
    files = {
        place / file.relative_to(folder): file
        for place, folder in folders for file in sorted(folder.rglob('*.py'))
    }
    for configs in config_folders(package):
        files.update(model_configs(configs))
    files[package / HOOK_FILE] = hook_source()
    return files


def model_configs(configs):
    """Find the configs that are MMPose's own with the hook.

    Args:
        configs (Path): A folder of MMPose's configs.

    Returns:
        dict[Path, Path]: The place of each in that folder, and its source.
    """
    source = patch_source()[1]
    return {
        configs / file.relative_to(source): file
        for file in sorted(source.rglob('*.py'))
        if file.parent not in (source / BASES, source / DEMO)
        and has_base(file, configs / file.parent.relative_to(source))
    }


def has_base(config, folder):
    """Whether the file that a config is based on first is there.

    Args:
        config (Path): The config.
        folder (Path): The folder that it would be in.

    Returns:
        bool: True if it is.
    """
    for node in ast.walk(ast.parse(config.read_text(encoding='utf-8'))):
        if isinstance(node, ast.List):
            return (folder / node.elts[0].value).is_file()
        if isinstance(node, ast.ImportFrom) and node.level:
            for _ in range(node.level - 1):
                folder = folder.parent
            path = node.module.replace('.', '/')
            return (folder / f'{path}.py').is_file()
    return True
