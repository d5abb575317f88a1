# Copyright (c) OpenMMLab. All rights reserved.
import functools
import os
import platform
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from typing import Dict, Iterator, Sequence

import torch
from mmengine.dist import get_world_size

from ..core.arguments import LOG_RUN_INFO
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..writers.record import Record, Text
from .redaction import SECRET_NAME, without_secrets, without_user

_PACKAGES = ('mmpose', 'mmengine', 'mmcv', 'torch', 'torchvision',
             'tensorboard', 'numpy', 'cv2')
_NAMED_SECRET = re.compile(rf'(?i)((?:{SECRET_NAME})[\w-]*["\']?\s*[=:]).+')
_SECRET_OPTION = re.compile(rf'(?i)--?[\w.-]*(?:{SECRET_NAME})[\w-]*')
_GIT_SECS = 10


@MONITORS.register_module()
class EnvironmentMonitor(Monitor):
    """Log the environment of the training, once, when it begins.

    ==================== ==================================================
    ``run/environment``  A table: versions, devices, seed, host, the number of
                         the SLURM job, the commit of the working directory,
                         the command
    ==================== ==================================================

    What it tells: How to reproduce the run, and what has changed since an
    earlier run that was better.

    Passwords and tokens in the command are replaced by ``***``, the home
    directory and the name of the user by ``~``.

    Args:
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_RUN_INFO, )

    def before_train(self, runner) -> None:
        device = next(runner.model.parameters(), torch.empty(0)).device
        run = {
            'processes':
            str(get_world_size()),
            'device':
            _device_name(device),
            'seed':
            str(runner.seed),
            # A FlexibleRunner has no such attribute.
            'deterministic':
            'yes' if torch.are_deterministic_algorithms_enabled() else 'no',
        }
        # In the writer's thread, since git may take a while.
        self.emit(
            Record(runner.iter, functools.partial(_values, run, sys.argv[:])))


def describe_command(arguments: Sequence[str]) -> str:
    """Return a command without secrets.

    Args:
        arguments (Sequence[str]): As in :data:`sys.argv`.

    Returns:
        str: The command, quoted for a shell.
    """
    shown, secret = [], False
    for argument in arguments:
        # The rest of the argument after the name of a secret is its value.
        hidden = _NAMED_SECRET.sub(r'\1***', argument)
        hidden = without_secrets(hidden)
        # This may be the value of the option before it.
        if secret and not argument.startswith('-'):
            hidden = '***'
        shown.append(shlex.quote(hidden) if hidden == argument else hidden)
        secret = _SECRET_OPTION.fullmatch(argument) is not None
    return ' '.join(shown)


def _values(run: Dict[str, str], arguments: Sequence[str]) -> Iterator[Text]:
    rows = {
        **dict(_versions()),
        **run,
        'processor': f'{_processor()}, {os.cpu_count()} cores',
        'system': platform.platform(),
        'host': platform.node(),
        **_slurm_job(),
        'git commit': _git_commit(),
        'working directory': os.getcwd(),
        'command': f'`{describe_command(arguments)}`',
    }
    lines = ['| | |', '| :-- | :-- |']
    for name, value in rows.items():
        value = without_user(value)
        if name != 'command':  # Inside backticks it is no separator.
            value = value.replace('|', '\\|')
        lines.append(f'| {name} | {value} |')
    yield Text('run/environment', '\n'.join(lines))


def _versions() -> Iterator[tuple]:
    yield 'python', platform.python_version()
    for name in _PACKAGES:
        version = getattr(sys.modules.get(name), '__version__', None)
        if version is not None:
            yield 'opencv' if name == 'cv2' else name, str(version)
    if torch.version.cuda:
        yield 'CUDA', torch.version.cuda
        yield 'cuDNN', str(torch.backends.cudnn.version())


def _device_name(device: torch.device) -> str:
    if device.type != 'cuda':
        return device.type
    name = torch.cuda.get_device_name(device)
    return f'{name}, {torch.cuda.device_count()} on this machine'


def _processor() -> str:
    with suppress(OSError):
        with open('/proc/cpuinfo') as file:
            for line in file:
                if line.startswith('model name'):
                    return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()


def _slurm_job() -> Dict[str, str]:
    """Return what SLURM calls the job, if it runs under SLURM."""
    names = ('SLURM_ARRAY_JOB_ID', 'SLURM_ARRAY_TASK_ID')
    array = [os.environ[name] for name in names if name in os.environ]
    job = '_'.join(array) or os.environ.get('SLURM_JOB_ID')
    return {'SLURM job': job} if job else {}


def _git_commit() -> str:
    """Return the commit of the working directory and whether files differ."""
    try:
        commit = _git('rev-parse', 'HEAD')
    except (OSError, subprocess.SubprocessError):
        return 'unknown'
    try:
        changed = _git('status', '--porcelain', '--untracked-files=no')
    except subprocess.TimeoutExpired:  # A large tree on a slow disk.
        return f'{commit}, unknown whether with changes'
    except (OSError, subprocess.SubprocessError):
        return commit
    return f'{commit}, with changes' if changed else commit


def _git(*arguments: str) -> str:
    return subprocess.run(
        ['git', *arguments],
        # Git must not write to the index.
        env=dict(os.environ, GIT_OPTIONAL_LOCKS='0'),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=_GIT_SECS,
        check=True,
        universal_newlines=True).stdout.strip()
