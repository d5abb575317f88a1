# Copyright (c) OpenMMLab. All rights reserved.
"""Run a migration that ends, or fails, at a given step.

    interrupted_migration.py FAULT STEP TREE [OPTION ...]

A step is an operation on a file in the tree: Python tells of each one before
it is done. The first step is 1. FAULT is ``kill``: the process is killed, at
once and without a chance to clean up; ``kill_at_the_end``: when all is in
place; ``disk_full``: from that step on nothing new can be written, and only
what needs space is a step; ``none``. In the end the number of steps is
printed.

With ``--config`` among the options, TREE is only where the config is. To read
and to edit it is made simple, so that no package is imported.
"""
import errno
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'tools'))

from hook_migration import command, migration, user_configs  # noqa: E402

NEEDS_SPACE = ('open', 'os.mkdir', 'os.symlink')
OTHERS = ('os.rename', 'os.remove', 'os.rmdir', 'os.chmod', 'os.utime',
          'os.truncate', 'os.link')
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# A few of the patch's files are enough: a step is like another.
SAMPLE = ('monitors/__init__.py', '/fast.py', 'enhanced_tensorboard_hook.py')

all_patch_files = migration.state.patch_files


def some_patch_files(package):
    """A part of what the patch adds.

    Args:
        package (Path): The folder of MMPose's package.

    Returns:
        dict[Path, Path]: See ``patch_files``.
    """
    return {
        place: source
        for place, source in all_patch_files(package).items()
        if place.as_posix().endswith(SAMPLE)
    }


class Fault:
    """Counts the steps; see the module.

    Args:
        kind (str): The fault.
        step (int): Where it is.
        tree (str): The folder whose files count.
    """

    def __init__(self, kind, step, tree):
        self.kind = kind
        self.step = step
        self.tree = tree
        self.count = 0

    def __call__(self, event, args):
        needs_space = event in NEEDS_SPACE
        if not (needs_space or event in OTHERS and self.kind == 'kill'):
            return
        if event == 'open' and not args[2] & WRITING:
            return
        paths = [os.fspath(arg) for arg in args if isinstance(arg, str)]
        if not any(path.startswith(self.tree) for path in paths):
            return
        self.count += 1
        if self.kind == 'kill' and self.count == self.step:
            die()
        if self.kind == 'disk_full' and self.count >= self.step > 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), paths[0])


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def read_hooks(config):
    """Read a config of one line, ``hook = dict(type='...')``.

    Args:
        config (Path): The config.

    Returns:
        tuple[dict[str, dict], list[str]]: See ``user_configs``.
    """
    names = {}
    exec(config.read_text(), names)
    return {'hook': names['hook']}, []


def main():
    kind, step, tree, *options = sys.argv[1:]
    migration.state.patch_files = some_patch_files
    migration.Migration.verify = lambda self: (
        kind == 'kill_at_the_end' and die())
    migration.Migration.verify_without = lambda self: None
    user_configs.read_hooks = read_hooks
    sys.modules['hook_migration.config_edit'] = SimpleNamespace(
        add_argument=lambda source, kind, name, value: source.replace(
            b')', f', {name}={value})'.encode()))
    fault = Fault(kind, int(step), tree)
    sys.addaudithook(fault)
    code = command.main(['--target', tree, *options])
    print(fault.count)
    return code


if __name__ == '__main__':
    sys.exit(main())
