# Copyright (c) OpenMMLab. All rights reserved.
import math

# The files of control groups: the limit, and the statistics with the key of
# what cannot be given back. Version 2 and version 1.
_FILES = (('/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory.stat', 'anon'),
          ('/sys/fs/cgroup/memory/memory.limit_in_bytes',
           '/sys/fs/cgroup/memory/memory.stat', 'total_rss'))


def free_in_container(files=_FILES) -> float:
    """Return what is left of the memory that a container may use.

    Cached files do not count, since their memory is given back.

    Args:
        files (Sequence[tuple[str, str, str]]): Where the system says it.

    Returns:
        float: In bytes; inf where no limit is known.
    """
    for limit, statistics, key in files:
        try:
            with open(limit) as file:
                most = float(file.read())
            with open(statistics) as file:
                used = dict(line.split() for line in file)[key]
            return most - float(used)
        except (OSError, ValueError, KeyError):
            continue  # Without a limit version 2 says 'max'.
    return math.inf
