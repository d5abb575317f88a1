# Copyright (c) OpenMMLab. All rights reserved.
"""Where something was measured."""
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Dict, Optional

import mmcv
import mmengine
import psutil
import tensorboard
import torch

import mmpose
from . import peers

ROOT = Path(__file__).resolve().parents[2]


def describe() -> Dict[str, str]:
    """Machine, versions and commit.

    Returns:
        dict[str, str]: What each is, by its name.
    """
    gpu = 'none'
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_name()
    return {
        'CPU': f'{_cpu()}, {psutil.cpu_count(logical=False)} cores, '
        f'{torch.get_num_threads()} threads used',
        'Memory': f'{psutil.virtual_memory().total / 2**30:.0f} GiB',
        'GPU': gpu,
        'System': f'{platform.system()}, {platform.machine()}',
        'Python': platform.python_version(),
        'torch': torch.__version__,
        'mmpose': mmpose.__version__,
        'mmengine': mmengine.__version__,
        'mmcv': mmcv.__version__,
        'tensorboard': tensorboard.__version__,
        **peers.versions(),
        'Commit': _commit() or 'unknown',
    }


def load() -> float:
    """How many other processes want a core: the average of a minute."""
    return os.getloadavg()[0]


def _cpu() -> str:
    info = Path('/proc/cpuinfo')
    name = info.exists() and re.search(r'model name\s*:\s*(.+)',
                                       info.read_text())
    return name.group(1) if name else platform.processor() or 'unknown'


def _commit() -> Optional[str]:
    try:
        commit, changed = (
            subprocess.run(['git', *command],
                           cwd=str(ROOT),
                           stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL,
                           universal_newlines=True,
                           check=True).stdout.strip()
            for command in (['rev-parse', '--short', 'HEAD'],
                            ['status', '--porcelain', '--', 'mmpose']))
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + (', changed since' if changed else '')
