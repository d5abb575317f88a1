# Copyright (c) OpenMMLab. All rights reserved.
from pathlib import Path
from typing import Iterator, List, Optional

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None
try:
    import psutil
except ImportError:
    psutil = None


def free_memory(device: torch.device, in_cache: bool = True) -> Optional[int]:
    """Return how much memory can still be allocated on a device.

    Nothing is allocated, and the device is not waited for.

    Args:
        device (torch.device): The device of a tensor.
        in_cache (bool): Whether the memory in PyTorch's cache counts, on a
            GPU. Defaults to True.

    Returns:
        int | None: In bytes; on the CPU the smallest amount that is left by
        the limit of the process (``ulimit -v``), by those of its control
        groups and by the machine. None if it is unknown.
    """
    if device.type == 'cuda':
        free, _ = torch.cuda.mem_get_info(device)
        if in_cache:
            free += (
                torch.cuda.memory_reserved(device) -
                torch.cuda.memory_allocated(device))
        return free
    if device.type != 'cpu':
        return None
    free = [*_below_limit(), *_in_cgroups()]
    if psutil is not None:
        free.append(psutil.virtual_memory().available)
    return min(free, default=None)


def _below_limit() -> Iterator[int]:
    if resource is None:
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _words('/proc/self/statm')
    if limit != resource.RLIM_INFINITY and pages:
        yield limit - int(pages[0]) * resource.getpagesize()


def _in_cgroups(own: str = '/proc/self/cgroup',
                root: str = '/sys/fs/cgroup') -> Iterator[int]:
    """Yield what each control group of the process leaves, v1 or v2."""
    for line in _text(own).splitlines():
        _, controllers, path = line.split(':', 2)
        if not controllers:
            top, prefix = Path(root), ''
            limit, usage = 'memory.max', 'memory.current'
        elif 'memory' in controllers.split(','):
            top, prefix = Path(root, 'memory'), 'total_'
            limit, usage = 'memory.limit_in_bytes', 'memory.usage_in_bytes'
        else:
            continue
        # The limits of all parent groups hold as well. In a container the path
        # may be that of the host, and the topmost group its own.
        group = top / path.lstrip('/')
        for group in (group, *group.parents):
            free = _in_cgroup(
                _words(group / limit), _words(group / usage),
                _words(group / 'memory.stat'), prefix)
            if free is not None:
                yield free
            if group == top:
                break


def _in_cgroup(limit: List[str], usage: List[str], stat: List[str],
               prefix: str) -> Optional[int]:
    if not limit or not usage or limit == ['max']:
        return None
    # The page cache counts as used, but can be freed.
    stat = dict(zip(stat[::2], stat[1::2]))
    files = sum(
        int(stat.get(f'{prefix}{kind}_file', 0))
        for kind in ('active', 'inactive'))
    return int(limit[0]) - int(usage[0]) + files


def _words(path) -> List[str]:
    return _text(path).split()


def _text(path) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ''
