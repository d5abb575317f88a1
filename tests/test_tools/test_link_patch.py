# Copyright (c) OpenMMLab. All rights reserved.
import os
import subprocess
import sys
from pathlib import Path

import link_patch
import pytest
from hook_migration.command import main as migrate
from hook_migration.exports import IMPORT, add_export
from hook_migration.migration import Migration
from hook_migration.mmpose_tree import NoMMPoseError, find_package

ROOT = Path(__file__).resolve().parents[2]

# As MMPose writes it.
MMPOSE = '''# Copyright (c) OpenMMLab. All rights reserved.
from .a_hook import AHook
from .mode_hooks import OneModeHook, TwoModeHook

__all__ = [
    'AHook', 'OneModeHookWithAVeryLongName', 'TwoModeHookWithAVeryLongName'
]
'''


@pytest.fixture
def package(tmp_path):
    """An MMPose as pip installs it."""
    package = tmp_path / 'site-packages' / 'mmpose'
    hooks = package / 'engine' / 'hooks'
    hooks.mkdir(parents=True)
    (package / '__init__.py').write_text('')
    (hooks / '__init__.py').write_text(MMPOSE)
    make_configs(package / '.mim' / 'configs')
    return package


def make_configs(folder):
    (folder / '_base_').mkdir(parents=True)
    (folder / '_base_' / 'default_runtime.py').write_text('')


def contents(folder):
    """All there is in a folder: of files what is in them, of links where they
    lead to."""
    return {
        path: path.is_symlink() and os.readlink(str(path))
        or path.is_file() and (path.read_bytes(), path.stat().st_mode)
        for path in folder.rglob('*')
    }


def link(*args, **kwargs):
    return subprocess.run([
        sys.executable,
        str(ROOT / 'tools' / 'link_patch.py'), *map(str, args)
    ],
                          stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE,
                          universal_newlines=True,
                          **kwargs)


def test_links_lead_into_the_checkout(package):
    assert link('--target', package).returncode == 0
    links = {
        str(path.relative_to(package)): os.readlink(str(path))
        for path in package.rglob('*') if path.is_symlink()
    }
    hook = 'engine/hooks/enhanced_tensorboard_hook.py'
    assert links == {
        hook:
        f'{ROOT}/mmpose/{hook}',
        'engine/monitors':
        f'{ROOT}/mmpose/engine/monitors',
        '.mim/configs/_base_/enhanced_tensorboard':
        f'{ROOT}/configs/_base_/enhanced_tensorboard',
        # Of the models' configs, the copy has none that ours are based on.
        '.mim/configs/_base_/enhanced_tensorboard_runtime.py':
        f'{ROOT}/configs/_base_/enhanced_tensorboard_runtime.py',
        '.mim/configs/enhanced_tensorboard':
        f'{ROOT}/configs/enhanced_tensorboard',
    }
    exports = (package / 'engine' / 'hooks' / '__init__.py').read_text()
    assert exports == add_export(MMPOSE)


def test_second_call_changes_nothing(package):
    link('--target', package)
    before = contents(package)
    again = link('--target', package.parent)
    assert again.returncode == 0 and again.stdout == ''
    assert contents(package) == before


def test_remove_leaves_nothing_behind(package):
    exports = package / 'engine' / 'hooks' / '__init__.py'
    exports.write_bytes(MMPOSE.replace('\n', '\r\n').encode())
    exports.chmod(0o640)
    before = contents(package)
    link('--target', package)
    cache = exports.parent / '__pycache__'
    cache.mkdir()
    (cache / 'enhanced_tensorboard_hook.cpython-311.pyc').write_bytes(b'')
    assert contents(package) != before
    assert link('--target', package, '--remove').returncode == 0
    cache.rmdir()
    assert contents(package) == before


def test_hard_link_is_not_written_through(package, tmp_path):
    exports = package / 'engine' / 'hooks' / '__init__.py'
    kept = tmp_path / 'kept.py'
    os.link(str(exports), str(kept))
    link('--target', package)
    assert kept.read_text() == MMPOSE
    assert exports.read_text() != MMPOSE


@pytest.mark.parametrize('place', [
    'engine/monitors', 'engine/hooks/enhanced_tensorboard_hook.py',
    '.mim/configs/enhanced_tensorboard'
])
def test_what_is_not_ours_is_kept(package, place):
    (package / place).mkdir()
    before = contents(package)
    result = link('--target', package)
    assert result.returncode != 0
    assert str(package / place) in result.stderr
    assert result.stderr.count('\n') == 1
    assert link('--target', package, '--remove').returncode == 0
    assert contents(package) == before


@pytest.mark.parametrize('is_link', [False, True])
def test_export_of_another_hook_is_kept(package, tmp_path, is_link):
    hooks = package / 'engine' / 'hooks'
    hook = hooks / 'enhanced_tensorboard_hook.py'
    if is_link:
        hook.symlink_to(tmp_path / 'my_hook.py')
    else:
        hook.write_text('class EnhancedTensorBoardHook: pass\n')
    (hooks / '__init__.py').write_text(add_export(MMPOSE))
    before = contents(package)
    assert link('--target', package, '--remove').returncode == 0
    assert contents(package) == before


def test_links_of_a_migration_are_kept(package, monkeypatch):
    monkeypatch.setattr(Migration, 'verify', lambda self: None)
    assert migrate(['--target', str(package), '--link']) == 0
    before = contents(package)
    result = link('--target', package, '--remove')
    assert result.returncode != 0
    assert 'migrate_hook.py --restore' in result.stderr
    assert contents(package) == before


def test_export_whose_hook_is_gone_is_taken_out(package):
    hooks = package / 'engine' / 'hooks'
    (hooks / '__init__.py').write_text(add_export(MMPOSE))
    assert link('--target', package, '--remove').returncode == 0
    assert (hooks / '__init__.py').read_text() == MMPOSE


def test_byte_order_mark_stays(package):
    exports = package / 'engine' / 'hooks' / '__init__.py'
    exports.write_text('\ufeff' + MMPOSE, encoding='utf-8')
    before = contents(package)
    assert link('--target', package).returncode == 0
    assert exports.read_text(encoding='utf-8') == '\ufeff' + add_export(MMPOSE)
    assert link('--target', package, '--remove').returncode == 0
    assert contents(package) == before


def test_link_of_somebody_else_is_kept(package, tmp_path):
    place = package / 'engine' / 'monitors'
    place.symlink_to(tmp_path / 'other' / 'monitors')
    before = contents(package)
    assert str(place) in link('--target', package).stderr
    link('--target', package, '--remove')
    assert contents(package) == before


def test_link_to_a_checkout_that_moved_is_replaced(package, tmp_path):
    place = package / 'engine' / 'monitors'
    place.symlink_to(tmp_path / 'gone' / 'mmpose' / 'engine' / 'monitors')
    assert link('--target', package).returncode == 0
    assert os.readlink(str(place)) == f'{ROOT}/mmpose/engine/monitors'


def test_source_tree(package):
    source = package.parent / 'configs'
    make_configs(source)
    mim = package / '.mim' / 'configs'
    for path in sorted(mim.rglob('*'), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    mim.rmdir()
    mim.symlink_to(source)
    before = contents(package.parent)
    assert link('--target', package.parent).returncode == 0
    assert (source / 'enhanced_tensorboard').is_symlink()
    assert link('--target', package.parent, '--remove').returncode == 0
    assert contents(package.parent) == before


def test_folder_of_others_called_configs_is_left_alone(package):
    configs = package.parent / 'configs' / '_base_'
    configs.mkdir(parents=True)
    link('--target', package)
    assert list(configs.parent.iterdir()) == [configs]


@pytest.mark.parametrize('text', ['def f(:\n', f'{IMPORT}; x = 1\n'])
def test_file_that_cannot_be_edited_is_named(package, text):
    exports = package / 'engine' / 'hooks' / '__init__.py'
    exports.write_text(text)
    result = link('--target', package, '--remove')
    assert result.returncode != 0
    assert str(exports) in result.stderr
    assert result.stderr.count('\n') == 1
    assert exports.read_text() == text


def test_mmpose_of_this_python_is_found(package):
    env = dict(os.environ, PYTHONPATH=str(package.parent))
    # The checkout has a folder called mmpose as well.
    assert link(cwd=str(ROOT), env=env).returncode == 0
    assert (package / 'engine' / 'monitors').is_symlink()


def test_no_mmpose(monkeypatch):
    monkeypatch.setattr(sys, 'path', [str(ROOT)])
    monkeypatch.delitem(sys.modules, 'mmpose', raising=False)
    with pytest.raises(NoMMPoseError, match='no MMPose installed'):
        find_package()


def test_no_mmpose_in_target(tmp_path):
    result = link('--target', tmp_path)
    assert result.returncode != 0
    assert result.stderr == f'link_patch: there is no MMPose in {tmp_path}\n'


def test_mmpose_that_must_not_be_changed(package, monkeypatch):

    def refuse(*args):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(Path, 'symlink_to', refuse)
    monkeypatch.setattr(sys, 'argv', ['', '--target', str(package)])
    with pytest.raises(SystemExit, match='link_patch: .*Permission denied'):
        link_patch.main()
