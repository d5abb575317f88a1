# Copyright (c) OpenMMLab. All rights reserved.
"""MMPoses to migrate: clones, installations, with hooks of others in them."""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from hook_migration.exports import HOOK
from hook_migration.mmpose_tree import patch_files
from hook_migration.transaction import File, fingerprint
from mmpose_copies import PARTS, copy_mmpose

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools' / 'migrate_hook.py'
FAULTY = Path(__file__).with_name('interrupted_migration.py')

HOOKS = Path('mmpose', 'engine', 'hooks')
HOOK_FILE = HOOKS / 'enhanced_tensorboard_hook.py'
FIXED_FILE = HOOKS / 'enhanced_tensorboard_hook_fixed.py'
EXPORTS = HOOKS / '__init__.py'
MONITOR = Path('mmpose', 'engine', 'monitors', '__init__.py')
GONE = MONITOR.with_name('gone.py')
MANIFEST = HOOKS / 'enhanced_tensorboard_hook.manifest.json'
JOURNAL = HOOKS / '.enhanced_tensorboard_hook.journal.json'
ORDINARY = 0o100644

# A stand-in for the original hook.
ORIGINAL = '''# Copyright (c) OpenMMLab. All rights reserved.
from mmengine.hooks import Hook

from mmpose.registry import HOOKS


@HOOKS.register_module()
class EnhancedTensorBoardHook(Hook):

    def __init__(self, log_grad_norm=True, val_image_interval=1):
        self.log_grad_norm = log_grad_norm
        self.val_image_interval = val_image_interval

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        pass
'''
MY_HOOK = '''from mmengine.hooks import Hook

from mmpose.registry import HOOKS


@HOOKS.register_module()
class MyHook(Hook):
    pass
'''
# Somebody's own, in his own format.
MY_EXPORTS = '''from .my_hook import MyHook  # mine
from .visualization_hook import (
    PoseVisualizationHook,
)
from .badcase_hook import BadCaseAnalysisHook; import os

__all__ = ["MyHook",
           'PoseVisualizationHook'  # as in MMPose
           , "BadCaseAnalysisHook"]
__all__ += []
'''


def write(tree, path, text):
    (tree / path).write_bytes(text.encode('utf-8'))


def read(tree, path):
    return (tree / path).read_bytes().decode('utf-8')


def fresh(tree):
    """An MMPose as pip installs it."""


def clone(tree):
    """A clone: its configs are beside the package."""
    shutil.move(str(tree / 'mmpose' / '.mim' / 'configs'), str(tree))
    shutil.rmtree(str(tree / 'mmpose' / '.mim'))


def original(tree):
    """A clone with the original hook and its correction in it."""
    clone(tree)
    add_original(tree)
    write(tree, FIXED_FILE, ORIGINAL + '# corrected\n')


def add_original(tree):
    """Make a fork of an MMPose: it exports the original hook."""
    write(tree, HOOK_FILE, ORIGINAL)
    text = read(tree, EXPORTS)
    text = text.replace(
        'from .mode', 'from .enhanced_tensorboard_hook import '
        f'{HOOK}\nfrom .mode')
    write(tree, EXPORTS, text.replace('\n]', f",\n    '{HOOK}'\n]"))


def corrected(tree):
    """A clone that takes the hook from the correction."""
    original(tree)
    text = read(tree, EXPORTS)
    write(tree, EXPORTS,
          text.replace('_hook import En', '_hook_fixed import En'))


def only_corrected(tree):
    """A clone in which the original was renamed."""
    corrected(tree)
    (tree / HOOK_FILE).unlink()


def others(tree):
    """A clone with somebody's own hooks, on Windows."""
    clone(tree)
    write(tree, HOOKS / 'my_hook.py', MY_HOOK)
    write(tree, EXPORTS, MY_EXPORTS.replace('\n', '\r\n'))
    write(tree, HOOKS / '__init__.py.backup', 'mine\n')


def marked(tree):
    """One whose exports were saved by Windows' Notepad."""
    write(tree, EXPORTS, '\ufeff' + read(tree, EXPORTS))


def elsewhere(tree):
    """Somebody keeps the hooks in another folder."""
    shutil.move(str(tree / HOOKS), str(tree / 'my' / 'engine' / 'hooks'))
    (tree / HOOKS).symlink_to(tree / 'my' / 'engine' / 'hooks')


def borrowed(tree):
    """Another hook, not exported, and the exports are links to files."""
    clone(tree)
    write(tree, HOOK_FILE, ORIGINAL)
    (tree / 'my').mkdir()
    for path in (HOOK_FILE, EXPORTS):
        mine = tree / 'my' / path.name
        shutil.move(str(tree / path), str(mine))
        (tree / path).symlink_to(
            os.path.relpath(str(mine), str((tree / path).parent)))


KINDS = (fresh, clone, original, corrected, only_corrected, others, marked,
         elsewhere, borrowed)


def make_tree(folder, kind, parts=PARTS):
    """Make an MMPose to work on.

    Args:
        folder (Path): Where to.
        kind (Callable): What is special about it.
        parts (Iterable[str]): What of MMPose to have in it.

    Returns:
        Path: The folder that the package is in.
    """
    copy_mmpose(folder, parts)
    kind(folder)
    return folder


def run_tool(*args, prefix=(), script=TOOL, env=None, **kwargs):
    env = dict(os.environ, **(env or {}))
    # Else Python compiles nothing, whatever the tool says.
    env.pop('PYTHONDONTWRITEBYTECODE', None)
    return subprocess.run(
        [*prefix, sys.executable,
         str(script), *map(str, args)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        **kwargs)


def check_parts(tree, link):
    """All of the patch is where it belongs, and exported once."""
    for place, source in patch_files(tree / 'mmpose').items():
        assert place.read_bytes() == source.read_bytes()
        assert place.is_symlink() == bool(link)
    assert not (tree / FIXED_FILE).exists()
    text = read(tree, EXPORTS)
    assert text.count(f'from .enhanced_tensorboard_hook import {HOOK}') == 1
    assert text.count(HOOK) == 2


def make_older(tree):
    """Let what a migration has brought be of an older version."""
    write(tree, HOOK_FILE, 'older\n')
    manifest = json.loads(read(tree, MANIFEST))
    manifest['version'] = '1.9'
    manifest['files']['engine/hooks/enhanced_tensorboard_hook.py'][
        'after'] = fingerprint(File(b'older\n', 0o644))
    write(tree, MANIFEST, json.dumps(manifest))
