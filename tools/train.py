# Copyright (c) OpenMMLab. All rights reserved.
"""MMPose's own train script, with the hook in any config.

    python tools/train.py CONFIG --enhanced-tensorboard [PRESET]

runs the ``train.py`` of the MMPose that is installed, with all its options,
and puts :class:`EnhancedTensorBoardHook` into the config, whatever hooks that
has; ``--cfg-options default_hooks.enhanced_tensorboard.ARGUMENT=VALUE`` sets
an argument of it. ``torchrun`` and ``--launcher`` work as ever, and also where
there is no GPU.
"""
import argparse
import functools
import importlib
import importlib.util
import os
import os.path as osp
import runpy
import sys
from typing import Callable, List, Optional, Tuple
from unittest import mock

HOOK = 'EnhancedTensorBoardHook'
# Under this name in default_hooks, --cfg-options may set arguments of it.
NAME = 'enhanced_tensorboard'
# In an MMPose that has the hook, and in the package beside one.
MODULES = ('mmpose.engine.hooks.enhanced_tensorboard_hook',
           'mmpose_enhanced_tensorboard')
PRESETS = ('fast', 'balanced', 'detailed')
OPTION = '--enhanced-tensorboard'
# Which process this is, by launcher; MMEngine reads the same.
RANKS = dict(pytorch='RANK', mpi='OMPI_COMM_WORLD_RANK', slurm='SLURM_PROCID')


def main() -> None:
    preset, mmpose_args = split_args(sys.argv[1:])
    script = find_script('train.py', __file__)
    change_every_config(functools.partial(restore_command, sys.argv[:]))
    change_every_config(complete_environment)
    change_every_config(train_on_cpu)
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
                 f'{", ".join(PRESETS)}, or leave it out for balanced.')
    if {'-h', '--help'} & set(rest):
        print(parser.format_help().replace('optional arguments',
                                           'options of this patch'))
    return preset, rest


def restore_command(command: List[str], cfg) -> None:
    """Let the hook log the command that starts the training again.

    Args:
        command (list[str]): The command line, with this script's option.
        cfg (mmengine.Config): The config.
    """
    sys.argv[:] = command


def find_script(name: str, own: str) -> str:
    """Find a script of the installed MMPose.

    Args:
        name (str): The name of the script.
        own (str): The path of the script that replaces it.

    Returns:
        str: Its path: in the wheel ``mmpose/.mim/tools/``, in a source install
        ``tools/`` beside the package.
    """
    spec = importlib.util.find_spec('mmpose')
    # A folder of that name without ``__init__.py``, such as this checkout's,
    # is found as well, but has no origin.
    if spec is None or not spec.origin:
        hidden = (
            f', or hidden by {", ".join(spec.submodule_search_locations)}'
            if spec else '')
        sys.exit(f'MMPose is not installed in this Python{hidden}: run `make '
                 'setup` and use .venv/bin/python, or `pip install mmpose`.')
    package = osp.dirname(spec.origin)
    for folder in (osp.join(package, '.mim'), osp.dirname(package)):
        script = osp.join(folder, 'tools', name)
        if osp.isfile(script) and not osp.samefile(script, own):
            return script
    sys.exit(f'The MMPose in {package} has no tools/{name}: install it '
             'from a wheel or from a clone (`pip install -e CLONE`).')


def add_hook_to_every_runner(preset: str) -> None:
    """Add the hook to the configs that are trained.

    Args:
        preset (str): The preset; '' for the default one.
    """
    module = import_hook()
    change_every_config(
        functools.partial(add_hook, preset=preset, module=module))


def import_hook() -> str:
    """Import the hook, which registers it.

    Returns:
        str: The module that it was imported from.
    """
    errors = []
    for module in MODULES:
        try:
            importlib.import_module(module)
            return module
        except ImportError as error:
            errors.append(str(error))
    sys.exit(f'There is no {HOOK} ({"; ".join(errors)}): run `python '
             'tools/migrate_hook.py` or `pip install .` first.')


def import_monitors(name: str = ''):
    """Import a module of the hook's monitors, from where the hook is.

    Args:
        name (str): The module, such as 'run.html_report'. Defaults to '', the
            public names.

    Returns:
        module: The module.
    """
    module = import_hook()
    package = module if module == MODULES[1] else 'mmpose.engine'
    return importlib.import_module(f'{package}.monitors.{name}'.rstrip('.'))


def change_every_config(change: Callable[..., Optional[str]]) -> None:
    """Let ``Runner.from_cfg`` change the configs that it is given.

    There every option of the command line is in the config already.

    Args:
        change (Callable): Changes a config in place and returns what there is
            to tell the user, None if nothing.
    """
    from mmengine.runner import Runner
    from_cfg = Runner.from_cfg.__func__

    def from_changed_cfg(cls, cfg):
        message = change(cfg)
        if message and is_first_process(cfg.get('launcher')):
            print(message)
        return from_cfg(cls, cfg)

    Runner.from_cfg = classmethod(from_changed_cfg)


def is_first_process(launcher: Optional[str]) -> bool:
    """Whether this is the process that speaks for all of a training.

    MMEngine does not know yet: it asks when it makes the runner.

    Args:
        launcher (str | None): What has started the processes. Without one,
            each is a training of its own, also among several tasks of SLURM.

    Returns:
        bool: True if it is the first one, or the only one.
    """
    return os.environ.get(RANKS.get(launcher, ''), '0') == '0'


def complete_environment(cfg) -> None:
    """Set what MMEngine reads and the launcher does not set.

    Under MPI the GPU of a process on its node: MMPose's script says 0 where
    ``LOCAL_RANK`` is not set. Under SLURM a port for each job step: of two on
    one node, the second cannot have MMEngine's default port.

    Args:
        cfg (mmengine.Config): The config.
    """
    local_rank = os.environ.get('OMPI_COMM_WORLD_LOCAL_RANK')
    if cfg.get('launcher') == 'mpi' and local_rank is not None:
        os.environ['LOCAL_RANK'] = local_rank
    if cfg.get('launcher') == 'slurm':
        job, step = (
            int(os.environ.get(f'SLURM_{name}_ID', 0))
            for name in ('JOB', 'STEP'))
        # Below those that the system gives to outgoing connections.
        port = 10000 + (10 * job + step) % 20000
        os.environ.setdefault('MASTER_PORT', str(port))


def train_on_cpu(cfg) -> Optional[str]:
    """Let ``--launcher`` train where there is no GPU.

    MMEngine gives each process a GPU there, and fails if there is none.

    Args:
        cfg (mmengine.Config): The config, changed in place.

    Returns:
        str | None: What was done, for the user; None if there was no need.
    """
    from mmengine.device import get_device
    from mmengine.registry import MODEL_WRAPPERS
    from mmengine.runner import runner
    from torch.nn.parallel import DistributedDataParallel
    if cfg.get('launcher') not in RANKS or get_device() != 'cpu':
        return None
    runner.init_dist = functools.partial(init_dist_on_cpu, runner.init_dist)
    wrapper = cfg.get('model_wrapper_cfg') or dict(
        # As MMEngine wraps a model if nothing is said.
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False))
    kind = wrapper.get('type', 'MMDistributedDataParallel')
    if isinstance(kind, str):
        kind = MODEL_WRAPPERS.get(kind)
    if issubclass(kind, DistributedDataParallel):
        wrapper['device_ids'] = None
    cfg.model_wrapper_cfg = wrapper
    return ('There is no GPU: the processes train on the CPU and talk by '
            'gloo, whatever env_cfg.dist_cfg.backend is.')


def init_dist_on_cpu(init_dist: Callable, launcher: str, **dist_cfg) -> None:
    """Connect the processes by gloo.

    The config keeps its backend: what is saved of it may go to a GPU.

    Args:
        init_dist (Callable): MMEngine's function.
        launcher (str): What has started the processes.
        **dist_cfg: The settings of the config.
    """
    with mock.patch('torch.cuda.set_device'):
        init_dist(launcher, **{**dist_cfg, 'backend': 'gloo'})


def add_hook(cfg, preset: str, module: str = MODULES[0]) -> str:
    """Add the hook to a config that does not have it.

    Args:
        cfg (mmengine.Config): The config, changed in place.
        preset (str): The preset; '' for the default one.
        module (str): The module that has the hook. Defaults to the one in
            MMPose.

    Returns:
        str: What was done, for the user.
    """
    custom_hooks = list(cfg.get('custom_hooks') or [])
    default_hooks = cfg.get('default_hooks') or {}
    if any(map(is_the_hook, [*custom_hooks, *default_hooks.values()])):
        return (f'{OPTION}: the config has the {HOOK} already; its own '
                'settings hold.')
    # The full name: a config in pure Python has no default scope, and what is
    # saved of the config finds the package by it.
    hook = dict(type=f'{module}.{HOOK}')
    if preset:
        hook['preset'] = preset
    settings = default_hooks.get(NAME)
    if settings and 'type' not in settings:
        default_hooks[NAME] = hook = {**hook, **settings}
        return f'{OPTION}: default_hooks.{NAME} is {hook}.'
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
