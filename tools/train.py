# Copyright (c) OpenMMLab. All rights reserved.
"""MMPose's own train script, with the hook in any config.

    python tools/train.py CONFIG --enhanced-tensorboard [PRESET]

runs the ``train.py`` of the MMPose that is installed, with all its options,
and puts :class:`EnhancedTensorBoardHook` into the config, whatever hooks that
has. ``torchrun`` and ``--launcher`` work as ever.
"""
import argparse
import importlib.util
import os
import os.path as osp
import runpy
import sys
from typing import List, Optional, Tuple

HOOK = 'EnhancedTensorBoardHook'
PRESETS = ('fast', 'balanced', 'detailed')
OPTION = '--enhanced-tensorboard'


def main() -> None:
    preset, mmpose_args = split_args(sys.argv[1:])
    script = find_train_script()
    if preset is not None:
        add_hook_to_every_runner(preset)
    sys.argv[1:] = mmpose_args
    runpy.run_path(script, run_name='__main__')


def split_args(args: List[str]) -> Tuple[Optional[str], List[str]]:
    """Take this script's option out of the command line.

    Args:
        args (list[str]): The command line without the script.

    Returns:
        tuple[str | None, list[str]]: The preset, '' for the default one and
        None if the option is not there; and the options of MMPose's script.
    """
    parser = argparse.ArgumentParser(
        add_help=False, allow_abbrev=False, usage=argparse.SUPPRESS)
    parser.add_argument(
        OPTION,
        nargs='?',
        const='',
        metavar='PRESET',
        help='log gradients, weights, learning rates and metrics to '
        f'TensorBoard; PRESET is {", ".join(PRESETS)} (default: balanced)')
    own, rest = parser.parse_known_args(args)
    preset = own.enhanced_tensorboard
    if preset and preset not in PRESETS:
        if not preset.startswith('-') and osp.splitext(preset)[1]:
            # ``--enhanced-tensorboard CONFIG``: that is no preset.
            return '', [preset, *rest]
        sys.exit(f'{OPTION}: {preset!r} is no preset; choose one of '
                 f'{", ".join(PRESETS)}, or none for balanced.')
    if {'-h', '--help'} & set(rest):
        print(parser.format_help().replace('optional arguments',
                                           'options of this patch'))
    return preset, rest


def find_train_script() -> str:
    """The train script of the installed MMPose.

    Returns:
        str: Its path: in the wheel ``mmpose/.mim/tools/train.py``, in a
        source install ``tools/train.py`` beside the package.
    """
    spec = importlib.util.find_spec('mmpose')
    # A folder of that name without ``__init__.py``, such as this checkout's,
    # is found as well, but has no origin.
    if spec is None or not spec.origin:
        sys.exit('MMPose is not installed in this Python: run `make setup` '
                 'and use .venv/bin/python, or `pip install mmpose`.')
    package = osp.dirname(spec.origin)
    for folder in (osp.join(package, '.mim'), osp.dirname(package)):
        script = osp.join(folder, 'tools', 'train.py')
        if osp.isfile(script) and not osp.samefile(script, __file__):
            return script
    sys.exit(f'The MMPose in {package} has no tools/train.py: install it '
             'from a wheel or from a clone (`pip install -e CLONE`).')


def add_hook_to_every_runner(preset: str) -> None:
    """Let ``Runner.from_cfg`` add the hook to the configs it is given.

    There every option of the command line is in the config already.

    Args:
        preset (str): The preset; '' for the default one.
    """
    from mmengine.runner import Runner
    try:
        from mmpose.engine.hooks import EnhancedTensorBoardHook  # noqa: F401
    except ImportError as error:
        sys.exit(f'This MMPose has no {HOOK} ({error}): run `python '
                 'tools/link_patch.py` first.')
    from_cfg = Runner.from_cfg.__func__

    def from_cfg_with_hook(cls, cfg):
        message = add_hook(cfg, preset)
        if os.environ.get('RANK', '0') == '0':
            print(message)
        return from_cfg(cls, cfg)

    Runner.from_cfg = classmethod(from_cfg_with_hook)


def add_hook(cfg, preset: str) -> str:
    """Add the hook to a config that does not have it.

    Args:
        cfg (mmengine.Config): The config, changed in place.
        preset (str): The preset; '' for the default one.

    Returns:
        str: What was done, for the user.
    """
    custom_hooks = list(cfg.get('custom_hooks') or [])
    default_hooks = (cfg.get('default_hooks') or {}).values()
    if any(map(is_the_hook, [*custom_hooks, *default_hooks])):
        return (f'{OPTION}: the config has the {HOOK} already; its own '
                'settings hold.')
    # With its scope: a config in pure Python has no default one.
    hook = dict(type=f'mmpose.{HOOK}')
    if preset:
        hook['preset'] = preset
    cfg.custom_hooks = [*custom_hooks, hook]
    return f'{OPTION}: added {hook} to custom_hooks.'


def is_the_hook(hook) -> bool:
    """Whether a hook, or the config of one, is the patch's.

    Args:
        hook (Hook | dict | None): One of the config's hooks.

    Returns:
        bool: True whether it is named by string, by class, or built.
    """
    kind = hook.get('type') if isinstance(hook, dict) else type(hook)
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return name.split('.')[-1] == HOOK


if __name__ == '__main__':
    main()
