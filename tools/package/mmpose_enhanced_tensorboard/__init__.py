# Copyright (c) OpenMMLab. All rights reserved.
"""EnhancedTensorBoardHook as a package beside MMPose.

Importing it registers the hook. The full name in a config imports it, nothing
else is needed::

    default_hooks = dict(
        enhanced_tensorboard=dict(
            type='mmpose_enhanced_tensorboard.EnhancedTensorBoardHook',
            preset='balanced'))

For the short name there is
``custom_imports = dict(imports=['mmpose_enhanced_tensorboard'])``, and for a
base :func:`config_path`.
"""
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from .hook_migration import __version__

HOOK = 'EnhancedTensorBoardHook'
# Where a migrated MMPose has it, and configs name it.
MMPOSES_MODULE = 'mmpose.engine.hooks.enhanced_tensorboard_hook'


def config_path(name):
    """Return the path of a config of this package, for example for a base.

    MMEngine's ``::`` knows OpenMMLab's packages only, but takes any expression
    for a base::

        _base_ = [
            'YOUR_CONFIG.py',
            __import__('mmpose_enhanced_tensorboard').config_path(
                '_base_/enhanced_tensorboard/balanced.py'),
        ]
        default_hooks = dict(enhanced_tensorboard=_base_.enhanced_tensorboard)

    Args:
        name (str): The config's path in the folder of configs.

    Returns:
        str: Its path.

    Raises:
        FileNotFoundError: There is no such config.
    """
    path = Path(__file__).resolve().parent / '.mim' / 'configs' / name
    if not path.is_file():
        raise FileNotFoundError(f'{__name__} has no config {name}: {path}')
    return str(path)


def register_hook():
    """Register the hook with MMPose, unless MMPose has it.

    Returns:
        type: The hook that is registered.

    Raises:
        ImportError: There is no MMPose that can be imported.
    """
    spec = find_spec('mmpose')
    if spec is None:
        raise ImportError(
            f'{__name__} needs MMPose, and {sys.executable} does not find it: '
            'install it, or put your clone on PYTHONPATH')
    if spec.origin is None:
        folders = ', '.join(spec.submodule_search_locations)
        raise ImportError(
            f'{__name__} needs MMPose, and {sys.executable} finds only '
            f'{folders}, which has no __init__.py and hides an MMPose that is '
            'installed as editable: rename or remove it, or start Python in '
            'another folder')
    try:
        return _load_hook()
    # MMPose asserts which mmcv it is with.
    except Exception as error:
        raise ImportError(
            f'{__name__} needs MMPose 1.2 or newer, and {spec.origin} cannot '
            f'be used: {type(error).__name__}: {error}') from error


def _load_hook():
    from mmengine.logging import print_log

    # It registers what MMPose itself has under this name.
    import_module('mmpose.engine.hooks')
    from mmpose.registry import HOOKS
    hook = HOOKS.module_dict.get(HOOK)
    if hook is None and find_spec(MMPOSES_MODULE):
        hook = getattr(import_module(MMPOSES_MODULE), HOOK)
    if hook is None:
        module = import_module(f'{__name__}.hooks.enhanced_tensorboard_hook')
        # For configs that name it as in a migrated MMPose.
        sys.modules[MMPOSES_MODULE] = module
        hook = getattr(module, HOOK)
    elif not hook.__module__.startswith(__name__):
        print_log(
            f'{__name__}: MMPose has an {HOOK} already, in '
            f'{sys.modules[hook.__module__].__file__}: that one is used',
            logger='current')
    return hook


EnhancedTensorBoardHook = register_hook()

__all__ = ['EnhancedTensorBoardHook', 'config_path', '__version__']
