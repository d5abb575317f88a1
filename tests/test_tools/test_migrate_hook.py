# Copyright (c) OpenMMLab. All rights reserved.
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hook_migration import command, migration, mmpose_tree, state, transaction
from hook_migration.exports import HOOK
from hook_migration.verification import VerificationError
from migrated_trees import (EXPORTS, FAULTY, FIXED_FILE, GONE, HOOK_FILE,
                            HOOKS, JOURNAL, KINDS, MANIFEST, MONITOR,
                            MY_EXPORTS, MY_HOOK, ORDINARY, ORIGINAL, ROOT,
                            TOOL, check_parts, clone, corrected, fresh,
                            make_older, make_tree, marked, only_corrected,
                            original, others, read, run_tool, write)
from mmpose_copies import contents

# There and back


@pytest.mark.parametrize('kind', [fresh, corrected, others])
def test_whole_mmpose(kind, tmp_path):
    tree = make_tree(tmp_path / '한글 폴더', kind, parts=('', ))
    before = contents(tree)
    result = run_tool('--target', tree)
    assert result.returncode == 0, result.stdout
    assert 'finds it' in result.stdout
    assert HOOK in read(tree, EXPORTS)
    assert not [path for path in contents(tree) if 'pycache' in path]
    result = run_tool('--target', tree / 'mmpose', '--restore')
    assert result.returncode == 0, result.stdout
    assert contents(tree) == before


@pytest.mark.parametrize('link', [(), ('--link', )])
@pytest.mark.parametrize('kind', KINDS)
def test_there_and_back(kind, link, tmp_path, run):
    tree = make_tree(tmp_path, kind)
    before = contents(tree)
    assert run(tree, *link)[0] == 0
    migrated = contents(tree)
    assert migrated != before
    check_parts(tree, link)
    code, printed = run(tree, *link)
    assert code == 0 and 'nothing to do' in printed
    assert contents(tree) == migrated
    assert run(tree, '--restore')[0] == 0
    assert contents(tree) == before
    code, printed = run(tree, '--restore')
    assert code == 0 and 'nothing to do' in printed
    assert contents(tree) == before


@pytest.mark.parametrize('there, back', [('site', 'clone'), ('clone', 'site')])
def test_package_reached_by_a_link(there, back, tmp_path, run):
    tree = make_tree(tmp_path / 'clone', clone)
    (tmp_path / 'site').mkdir()
    (tmp_path / 'site' / 'mmpose').symlink_to(tree / 'mmpose')
    before = contents(tmp_path)
    assert run(tmp_path / there)[0] == 0
    check_parts(tree, ())
    bases = tree / 'configs' / '_base_' / 'enhanced_tensorboard'
    assert (bases / 'fast.py').is_file()
    assert run(tmp_path / back / 'mmpose', '--restore')[0] == 0
    assert contents(tmp_path) == before


def test_backups_and_manifest(tmp_path, run):
    tree = make_tree(tmp_path, original)
    exports = read(tree, EXPORTS)
    run(tree)
    assert read(tree, f'{HOOK_FILE}.backup') == ORIGINAL
    assert read(tree, f'{FIXED_FILE}.backup') == ORIGINAL + '# corrected\n'
    # The original was exported already: this file needed no change.
    assert read(tree, EXPORTS) == exports
    manifest = json.loads(read(tree, MANIFEST))
    entry = manifest['files']['engine/hooks/enhanced_tensorboard_hook.py']
    assert entry['backup'] == f'{HOOK_FILE.name}.backup'
    assert entry['before'] == sha256(ORIGINAL)
    assert entry['after'] == sha256(read(ROOT, HOOK_FILE))


def sha256(text):
    return hashlib.sha256(text.encode('utf-8')).hexdigest()


def test_earlier_backup_is_kept(tmp_path, run):
    tree = make_tree(tmp_path, others)
    run(tree)
    assert read(tree, HOOKS / '__init__.py.backup') == 'mine\n'
    assert read(tree, HOOKS /
                '__init__.py.backup2') == MY_EXPORTS.replace('\n', '\r\n')


def test_file_modes_are_kept(tree, run):
    (tree / EXPORTS).chmod(0o600)
    before = contents(tree)
    run(tree)
    assert (tree / EXPORTS).stat().st_mode & 0o777 == 0o600
    run(tree, '--restore')
    assert contents(tree) == before


def test_compiled_files_of_the_hook_go_too(tree, run):
    before = contents(tree)
    run(tree)
    for path in (HOOK_FILE, MONITOR):
        cache = (tree / path).parent / '__pycache__'
        cache.mkdir()
        (cache / f'{path.stem}.cpython-311.pyc').write_bytes(b'')
    run(tree, '--restore')
    (tree / HOOKS / '__pycache__').rmdir()
    assert contents(tree) == before


def test_hard_link_is_not_written_through(tree, run):
    kept = tree / 'kept.py'
    text = read(tree, EXPORTS)
    os.link(str(tree / EXPORTS), str(kept))
    run(tree)
    assert kept.read_text() == text


@pytest.mark.parametrize('first, second', [((), ('--link', )),
                                           (('--link', ), ())])
def test_from_copies_to_links_and_back(first, second, tree, run):
    before = contents(tree)
    run(tree, *first)
    assert run(tree, *second)[0] == 0
    check_parts(tree, second)
    run(tree, '--restore')
    assert contents(tree) == before


def test_newer_version(tmp_path, run, monkeypatch):
    tree = make_tree(tmp_path, original)
    before = contents(tree)
    all_files = state.patch_files

    def older(package):
        files = all_files(package)
        files[package / 'engine' / 'monitors' / 'gone.py'] = TOOL
        files[package / 'engine' / 'hooks' / HOOK_FILE.name] = TOOL
        del files[tree / MONITOR]
        return files

    with monkeypatch.context() as patch:
        patch.setattr(state, 'patch_files', older)
        assert run(tree)[0] == 0
    assert run(tree)[0] == 0
    check_parts(tree, ())
    assert not (tree / MONITOR).with_name('gone.py').exists()
    run(tree, '--restore')
    assert contents(tree) == before


def test_newer_version_with_the_same_files(tree, run, monkeypatch):
    run(tree)
    before = contents(tree)
    monkeypatch.setattr(migration, '__version__', '9.0')
    assert 'nothing to do' in run(tree)[1]
    assert f'{HOOK} 9.0 as copies' in run(tree, '--status')[1]
    changed = contents(tree)
    assert changed.pop(str(MANIFEST)) != before.pop(str(MANIFEST))
    assert changed == before


def with_one_more(package):
    """The files of an older version of the patch."""
    place = package.parent / GONE
    return {**mmpose_tree.patch_files(package), place: TOOL}


@pytest.mark.parametrize('is_there', [False, True])
def test_users_file_where_an_older_version_had_one(is_there, tree, run,
                                                   monkeypatch):
    """It is the user's from then on, and never lost."""
    if is_there:
        (tree / GONE).parent.mkdir()
        write(tree, GONE, 'before\n')
    with monkeypatch.context() as patch:
        patch.setattr(state, 'patch_files', with_one_more)
        run(tree, '--force')
    assert run(tree)[0] == 0
    there = {
        path.name: path.read_text()
        for path in (tree / GONE).parent.glob('gone*')
    }
    assert there == ({GONE.name: 'before\n'} if is_there else {})
    write(tree, GONE, 'mine\n')
    for options in [(), ('--restore', )]:
        assert run(tree, *options)[0] == 0
        assert read(tree, GONE) == 'mine\n'


def test_edited_file_that_a_newer_version_has_no_more(tree, run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(state, 'patch_files', with_one_more)
        run(tree)
    write(tree, GONE, 'mine\n')
    assert run(tree)[0] == command.CONFLICT
    assert run(tree, '--force')[0] == 0
    assert not (tree / GONE).exists()
    assert read(tree, f'{GONE}.backup') == 'mine\n'


# What it says


def test_dry_run_changes_nothing(tmp_path, run):
    tree = make_tree(tmp_path, corrected)
    before = contents(tree)
    code, printed = run(tree, '--dry-run')
    assert code == 0
    assert contents(tree) == before
    assert f'\n-from .enhanced_tensorboard_hook_fixed import {HOOK}' in printed
    assert f'\n+from .enhanced_tensorboard_hook import {HOOK}' in printed
    assert 'add    engine/monitors/__init__.py' in printed
    assert '\n-    def after_train_iter(self, runner, batch_idx,' in printed


def test_status(tree, run):
    assert 'There is no enhanced_tensorboard_hook.py' in run(tree,
                                                             '--status')[1]
    write(tree, HOOK_FILE, ORIGINAL)
    assert 'another enhanced_tensorboard_hook.py' in run(tree, '--status')[1]
    run(tree)
    code, printed = run(tree, '--status')
    assert code == 0
    assert f'{HOOK} {migration.__version__} as copies' in printed
    assert 'Nothing was edited since' in printed
    write(tree, MONITOR, 'mine\n')
    assert str(tree / MONITOR) in run(tree, '--status')[1]
    before = contents(tree)
    run(tree, '--status')
    assert contents(tree) == before


def test_mmpose_of_this_python(tree):
    result = run_tool(
        '--status', cwd=str(ROOT), env=dict(PYTHONPATH=str(tree)))
    assert result.returncode == 0
    assert str(tree / 'mmpose') in result.stdout


def test_help_names_exit_codes():
    printed = run_tool('--help').stdout
    for code in range(7):
        assert f'\n  {code}  ' in printed


@pytest.mark.parametrize('options', [('--keep-behaviour', ),
                                     ('--restore', '--dry-run')])
def test_wrong_command_line(options):
    assert run_tool(*options).returncode == command.USAGE


# What somebody has edited


@pytest.mark.parametrize('path', [HOOK_FILE, MONITOR])
def test_edited_file_is_not_overwritten(path, tmp_path, run, monkeypatch):
    tree = make_tree(tmp_path, original)
    before = contents(tree)
    run(tree)
    write(tree, path, 'edited = True\n')
    edited = contents(tree)
    for options in [(), ('--restore', )]:
        code, printed = run(tree, *options)
        assert code == command.CONFLICT
        assert str(tree / path) in printed and '--force' in printed
        assert contents(tree) == edited
    assert run(tree, '--force')[0] == 0
    check_parts(tree, ())
    write(tree, path, 'edited = 2\n')
    assert run(tree, '--restore', '--force')[0] == 0
    # All but what was edited, which is kept beside.
    after = contents(tree)
    kept = [name for name in sorted(after) if '.backup' in name]
    assert [read(tree, name)
            for name in kept] == ['edited = True\n', 'edited = 2\n']
    assert {Path(name).parent for name in kept} == {path.parent}
    for name in [*kept, str(MONITOR.parent)]:
        after.pop(name, None)
    assert after == before


def test_deleted_file_comes_back(tree, run):
    run(tree)
    (tree / MONITOR).unlink()
    assert run(tree)[0] == 0
    check_parts(tree, ())


@pytest.mark.parametrize('force', [(), ('--force', )])
@pytest.mark.parametrize('again', [False, True])
@pytest.mark.parametrize('kind', [fresh, original, only_corrected, marked])
def test_edits_of_the_exports_are_kept(kind, again, force, tmp_path, run):
    tree = make_tree(tmp_path, kind)
    before = contents(tree)
    old = read(tree, EXPORTS)
    run(tree)
    mine = '\nfrom .my_hook import MyHook  # noqa\n'
    write(tree, EXPORTS, read(tree, EXPORTS) + mine)
    if again:
        assert run(tree, *force)[0] == 0
    assert run(tree, '--restore', *force)[0] == 0
    assert read(tree, EXPORTS) == old + mine
    write(tree, EXPORTS, old)
    assert contents(tree) == before


def test_export_of_an_earlier_version(tree, run):
    """It stood among MMPose's own, and goes with the others of its time."""
    before = contents(tree)
    old = read(tree, EXPORTS)
    run(tree)
    line = f'from .enhanced_tensorboard_hook import {HOOK}\n'
    text = old.replace('from .mode', f'{line}from .mode')
    write(tree, EXPORTS, text.replace("'\n]", f"',\n    '{HOOK}'\n]"))
    make_older(tree)
    assert run(tree)[0] == 0
    check_parts(tree, ())
    assert run(tree, '--restore')[0] == 0
    assert contents(tree) == before


def test_exports_that_cannot_be_edited_any_more(tree, run):
    before = contents(tree)
    run(tree)
    write(tree, EXPORTS, 'mine = (\n')
    edited = contents(tree)
    code, printed = run(tree, '--restore')
    assert code == command.FAILED and str(tree / EXPORTS) in printed
    assert contents(tree) == edited
    assert run(tree, '--restore', '--force')[0] == 0
    kept = f'{EXPORTS}.backup2'
    assert read(tree, kept) == 'mine = (\n'
    (tree / kept).unlink()
    assert contents(tree) == before


def test_mmpose_was_upgraded(tree, run):
    before = contents(tree)
    run(tree)
    newer = 'from .new_hook import NewHook\n\n__all__ = [\'NewHook\']\n'
    write(tree, EXPORTS, newer)
    assert run(tree)[0] == 0
    assert HOOK in read(tree, EXPORTS)
    run(tree, '--restore')
    before[str(EXPORTS)] = (newer.encode(), ORDINARY)
    assert contents(tree) == before


def test_monitors_of_somebody_else(tree, run):
    (tree / MONITOR).parent.mkdir()
    write(tree, MONITOR, 'mine\n')
    before = contents(tree)
    code, printed = run(tree)
    assert code == command.CONFLICT and str(tree / MONITOR) in printed
    assert contents(tree) == before
    assert run(tree, '--force')[0] == 0
    assert read(tree, f'{MONITOR}.backup') == 'mine\n'
    run(tree, '--restore')
    assert contents(tree) == before


@pytest.mark.parametrize('spoil', [
    lambda backup: backup.unlink(), lambda backup: backup.write_text('other')
])
def test_backup_is_gone(spoil, tmp_path, run):
    tree = make_tree(tmp_path, original)
    run(tree)
    backup = tree / f'{HOOK_FILE}.backup'
    spoil(backup)
    before = contents(tree)
    code, printed = run(tree, '--restore', '--force')
    assert code == command.FAILED and str(backup) in printed
    assert contents(tree) == before


def test_linked_by_the_other_tool(tree, run):
    run_tool('--target', tree, script=TOOL.with_name('link_patch.py'))
    before = contents(tree)
    code, printed = run(tree)
    assert code == command.FAILED and 'link_patch' in printed
    for options in ((), ('--status', ), ('--restore', )):
        assert '--remove takes out' in run(tree, *options)[1]
    assert contents(tree) == before


def test_installed_by_pip(tree, run):
    info = tree / 'mmpose_enhanced_tensorboard-1.0.0.dist-info'
    info.mkdir()
    (info / 'RECORD').write_text(f'{HOOK_FILE},sha256=x,1\n')
    before = contents(tree)
    code, printed = run(tree)
    assert code == command.FAILED and 'needs no migration' in printed
    assert contents(tree) == before


@pytest.mark.parametrize('kind', [fresh, original])
def test_pip_over_a_migration(kind, tmp_path, run):
    tree = make_tree(tmp_path, kind)
    before = contents(tree)
    run(tree)
    info = tree / 'mmpose_enhanced_tensorboard-1.0.0.dist-info'
    info.mkdir()
    record = f'{HOOK_FILE},sha256=x,1\n"{MONITOR}",sha256=x,1\n'
    (info / 'RECORD').write_text(record + f'{info.name}/RECORD,,\n')
    write(tree, HOOK_FILE, 'of a newer version\n')
    code, printed = run(tree, '--status')
    assert 'pip has put the hook into' in printed
    assert 'Nothing was edited since' in printed
    code, printed = run(tree, '--restore')
    assert code == 0 and 'pip uninstall mmpose-enhanced-tens' in printed
    after = contents(tree)
    assert after[str(HOOK_FILE)] == (b'of a newer version\n', ORDINARY)
    assert str(MONITOR) in after
    assert (f'{HOOK_FILE}.backup' in after) == (kind is original)
    for path in (HOOK_FILE, f'{HOOK_FILE}.backup', MONITOR, MONITOR.parent,
                 info.name, f'{info.name}/RECORD'):
        for found in (before, after):
            found.pop(str(path), None)
    assert after == before


# What goes wrong


@pytest.fixture
def stub(tmp_path):
    """A folder as pip installs into, with as much of MMPose in it as a
    verification asks for."""
    (tmp_path / HOOKS).mkdir(parents=True)
    write(tmp_path, 'mmpose/__init__.py', 'import enum, pathlib, typing\n')
    write(tmp_path, 'mmpose/engine/__init__.py', '')
    write(tmp_path, 'mmpose/registry.py', 'HOOKS = {}\n')
    write(tmp_path, EXPORTS,
          f'from .enhanced_tensorboard_hook import {HOOK}\n')
    write(
        tmp_path, HOOK_FILE, 'from mmpose.registry import HOOKS\n'
        f'class {HOOK}:\n    pass\nHOOKS["{HOOK}"] = {HOOK}\n')
    return tmp_path


@pytest.mark.parametrize('name', ['enum', 'pathlib', 'typing'])
def test_packages_with_names_of_pythons_own(name, stub, monkeypatch):
    """As PyPI has them: in a normal import they come after Python's."""
    write(stub, f'{name}.py', 'raise RuntimeError("an old backport")\n')
    migration.Migration(stub / 'mmpose').verify()
    monkeypatch.chdir(stub)
    migration.Migration(stub / 'mmpose').verify()


def test_the_target_is_what_is_verified(stub, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(stub))
    other = stub / 'other' / 'mmpose'
    shutil.copytree(str(stub / 'mmpose'), str(other))
    migration.Migration(other).verify()
    write(other, 'registry.py', 'HOOKS = dict()\n')
    write(other, 'engine/hooks/enhanced_tensorboard_hook.py',
          f'class {HOOK}:\n    pass\n')
    with pytest.raises(VerificationError, match='has another hook'):
        migration.Migration(other).verify()


def test_hook_that_comes_from_another_file(stub):
    """As where somebody has copied it, and exports the copy."""
    write(stub, HOOKS / 'my_copy.py', read(stub, HOOK_FILE))
    write(stub, EXPORTS, f'from .my_copy import {HOOK}\n')
    with pytest.raises(VerificationError, match='comes from .*my_copy.py'):
        migration.Migration(stub / 'mmpose').verify()


def test_verified_also_when_nothing_is_to_do(tree, run, monkeypatch):
    run(tree)
    before = contents(tree)

    def fail(self):
        raise VerificationError('no TensorBoard any more')

    monkeypatch.setattr(migration.Migration, 'verify', fail)
    code, printed = run(tree)
    assert code == command.UNVERIFIED and 'no TensorBoard' in printed
    assert contents(tree) == before


def test_hook_that_does_not_import_is_taken_out(tmp_path):
    # The models, which the hook imports, are not there.
    tree = make_tree(tmp_path, original)
    before = contents(tree)
    result = run_tool('--target', tree)
    assert result.returncode == command.UNVERIFIED
    assert 'No module named' in result.stdout
    assert contents(tree) == before


def test_another_hook_of_that_name_is_noticed(tmp_path, monkeypatch):
    tree = make_tree(tmp_path, others, parts=('', ))
    write(
        tree, HOOKS / 'my_hook.py',
        MY_HOOK.replace('class MyHook', f'class {HOOK}') +
        f'MyHook = {HOOK}\n')
    before = contents(tree)
    result = run_tool('--target', tree)
    assert result.returncode == command.UNVERIFIED
    assert 'already registered' in result.stdout
    assert contents(tree) == before


def test_no_mmpose(tmp_path, run):
    code, printed = run(tmp_path)
    assert code == command.NO_MMPOSE
    assert f'there is no MMPose in {tmp_path}' in printed


def test_another_package_with_hooks(tree, run):
    (tree / 'mmpose').rename(tree / 'mmdet')
    for target in (tree, tree / 'mmdet'):
        code, printed = run(target)
        assert code == command.NO_MMPOSE
        assert f'there is no MMPose in {target}' in printed


def test_mmpose_0(tmp_path, run):
    (tmp_path / 'mmpose' / 'core').mkdir(parents=True)
    write(tmp_path, 'mmpose/version.py', "__version__ = '0.29.0'\n")
    for target in (tmp_path, tmp_path / 'mmpose'):
        code, printed = run(target)
        assert code == command.NO_MMPOSE
        assert '0.29.0' in printed and '1.2 or newer' in printed


def test_exports_that_cannot_be_edited(tree, run):
    write(tree, EXPORTS, 'def f(:\n')
    before = contents(tree)
    code, printed = run(tree)
    assert code == command.FAILED and str(tree / EXPORTS) in printed
    assert contents(tree) == before


@pytest.mark.parametrize('statement', [
    'from .enhanced_tensorboard_hook_fixed import *',
    'from . import a, enhanced_tensorboard_hook_fixed',
    f'from .enhanced_tensorboard_hook_fixed import {HOOK} as Fixed',
    'import mmpose.engine.hooks.enhanced_tensorboard_hook_fixed as fixed',
    'try:\n    from mmpose.engine.hooks import '
    'enhanced_tensorboard_hook_fixed\nexcept ImportError:\n    pass',
])
def test_import_of_the_corrected_hook_that_would_break(statement, tmp_path,
                                                       run):
    tree = make_tree(tmp_path, original)
    write(tree, EXPORTS, f'{read(tree, EXPORTS)}{statement}\n')
    before = contents(tree)
    code, printed = run(tree)
    assert code == command.FAILED
    assert 'imports enhanced_tensorboard_hook_fixed' in printed
    assert contents(tree) == before


@pytest.mark.parametrize('path', [MANIFEST, JOURNAL])
def test_damaged_notes(path, tree, run):
    write(tree, path, '{')
    code, printed = run(tree)
    assert code == command.FAILED
    assert f'{tree / path} is damaged' in printed


def test_no_permission(tree):
    hooks = tree / HOOKS
    hooks.chmod(0o555)
    # Root may do anything, except without its capabilities.
    prefix = []
    if os.geteuid() == 0:
        if not shutil.which('setpriv'):
            pytest.skip('there is no setpriv to take rights away from root')
        prefix = ['setpriv', '--bounding-set=-all', '--inh-caps=-all']
    before = contents(tree)
    result = run_tool('--target', tree, prefix=prefix)
    hooks.chmod(0o755)
    assert result.returncode == command.FAILED
    assert 'Permission denied' in result.stdout
    assert 'Traceback' not in result.stdout
    before[str(HOOKS)] = contents(tree)[str(HOOKS)]
    assert contents(tree) == before


def test_no_permission_for_the_configs(tree):
    configs = tree / 'mmpose' / '.mim' / 'configs' / '_base_'
    before = contents(tree)
    configs.chmod(0o555)
    prefix = []
    if os.geteuid() == 0:
        if not shutil.which('setpriv'):
            pytest.skip('there is no setpriv to take rights away from root')
        prefix = ['setpriv', '--bounding-set=-all', '--inh-caps=-all']
    result = run_tool('--target', tree, prefix=prefix)
    configs.chmod(0o755)
    assert result.returncode == command.FAILED
    assert str(configs) in result.stdout
    assert contents(tree) == before


MOUNTS = dict(
    read_only='mount --bind {0} {1} && mount -o remount,bind,ro {1}',
    full_disk='mount -t tmpfs -o size=400k tmpfs {1} && cp -r {0}/. {1}')


@pytest.mark.parametrize('kind, reason', [
    ('read_only', 'Read-only file system'),
    ('full_disk', 'No space left on device'),
])
def test_file_system(kind, reason, tree, tmp_path):
    mounted = tmp_path / 'mounted'
    mounted.mkdir()
    mount = MOUNTS[kind].format(f"'{tree}'", f"'{mounted}'")
    script = (f"{mount} || exit 77; '{sys.executable}' '{TOOL}' --target "
              f"'{mounted}'; code=$?; diff -r '{tree}' '{mounted}' && "
              'exit $code')
    result = subprocess.run(['unshare', '-m', 'sh', '-c', script],
                            stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT,
                            universal_newlines=True)
    if result.returncode == 77 or 'unshare' in result.stdout:
        pytest.skip(f'nothing can be mounted here: {result.stdout}')
    assert result.returncode == command.FAILED, result.stdout
    assert reason in result.stdout
    assert 'Only in' not in result.stdout


def test_second_migration_is_kept_out(tree, run):
    before = contents(tree)
    with migration.Migration(tree / 'mmpose').lock():
        code, printed = run(tree)
    assert code == command.BUSY and 'at work' in printed
    assert contents(tree) == before


def test_many_at_once(tree, run):
    processes = [
        subprocess.Popen([sys.executable,
                          str(FAULTY), 'none', '0',
                          str(tree)],
                         stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL) for _ in range(4)
    ]
    codes = {process.wait() for process in processes}
    assert codes <= {0, command.BUSY} and 0 in codes
    alone = make_tree(tree.parent / 'alone', fresh)
    faulty('none', 0, alone)
    assert contents(tree) == contents(alone)


# Killed at every step


def faulty(fault, step, tree, *options):
    """Run a migration that goes wrong; see interrupted_migration.py.

    Returns:
        CompletedProcess: The run.
    """
    return subprocess.run([
        sys.executable, '-I', '-S',
        str(FAULTY), fault,
        str(step),
        str(tree), *options
    ],
                          stdout=subprocess.PIPE,
                          universal_newlines=True)


# What a run begins with, and its options.
RUNS = dict(
    migrate=('before', ()),
    restore=('after', ('--restore', )),
    link=('before', ('--link', )),
    upgrade=('older', ()),
    # Which is to put right what a killed one has left.
    recover=('killed', ('--restore', )))


def make_state(folder, state):
    """Make a tree for a run to begin with.

    Args:
        folder (Path): Where to.
        state (str): One of those that RUNS names.

    Returns:
        Path: The folder that the package is in.
    """
    tree = make_tree(folder, only_corrected)
    if state == 'killed':
        assert faulty('kill_at_the_end', 0, tree).returncode == -9
    elif state != 'before':
        assert faulty('none', 0, tree).returncode == 0
    if state == 'older':
        write(tree, MONITOR, 'older\n')
        manifest = json.loads(read(tree, MANIFEST))
        manifest['version'] = '0.1'
        manifest['files']['engine/monitors/__init__.py']['after'] = sha256(
            'older\n')
        write(tree, MANIFEST, json.dumps(manifest))
    return tree


def pytest_generate_tests(metafunc):
    fault, runs = getattr(metafunc.function, 'fault', (None, ()))
    if fault is None:
        return
    cases = []
    for run in runs:
        state, options = RUNS[run]
        with tempfile.TemporaryDirectory() as folder:
            tree = make_state(Path(folder), state)
            steps = int(faulty(fault, 0, tree, *options).stdout.split()[-1])
        cases += [(run, step) for step in range(1, steps + 1)]
    metafunc.parametrize('name, step', cases)


@pytest.fixture(scope='module')
def states(tmp_path_factory):
    """Trees for a run to begin with."""
    return {
        state: make_state(tmp_path_factory.mktemp('tree') / 'a b', state)
        for state in ('before', 'after', 'older', 'killed')
    }


def test_killed(name, step, states, tmp_path):
    state, options = RUNS[name]
    tree = tmp_path / 'tree'
    shutil.copytree(str(states[state]), str(tree), symlinks=True)
    assert faulty('kill', step, tree, *options).returncode == -9
    check_imports(tree)
    other = tmp_path / 'other'
    shutil.copytree(str(tree), str(other), symlinks=True)
    assert faulty('none', 0, tree).returncode == 0
    assert contents(tree) == contents(states['after'])
    assert faulty('none', 0, other, '--restore').returncode == 0
    assert contents(other) == contents(states['before'])


test_killed.fault = 'kill', tuple(RUNS)


def test_interrupted_by_the_user(tree, run, monkeypatch):
    before = contents(tree)
    monkeypatch.setattr(migration.Migration, 'verify', interrupt)
    code, printed = run(tree)
    assert code == command.FAILED and 'nothing was changed' in printed
    assert contents(tree) == before


def test_interrupted_twice_by_the_user(tree, run, monkeypatch):
    before = contents(tree)
    with monkeypatch.context() as patch:
        patch.setattr(migration.Migration, 'verify', interrupt)
        patch.setattr(transaction.Transaction, '_remove_leftovers', interrupt)
        code, printed = run(tree)
    assert code == command.FAILED and 'the next run puts right' in printed
    assert 'nothing was changed' not in printed
    assert 'was undone' in run(tree, '--restore')[1]
    assert contents(tree) == before


def interrupt(*args):
    raise KeyboardInterrupt


def kill_when_all_is_in_place(tree, run, monkeypatch):
    """All is in place, and nobody is there any more to put it back."""
    with monkeypatch.context() as patch:
        patch.setattr(migration.Migration, 'verify', interrupt)
        patch.setattr(transaction.Transaction, 'recover', lambda *args: None)
        run(tree)


def test_what_there_was_is_gone(tree, run, monkeypatch):
    """As after a power cut, when names of files reach the disk in any
    order."""
    kill_when_all_is_in_place(tree, run, monkeypatch)
    old, = (tree / HOOKS).glob('*__init__.py.migration_old')
    old.unlink()
    before = contents(tree)
    code, printed = run(tree, '--restore')
    assert code == command.FAILED and f'{old} is gone' in printed
    assert 'undone' not in printed
    assert contents(tree) == before


def test_what_there_was_goes_last(tree, run, monkeypatch):
    """Not before the end of the journal is on disk, also after a power cut."""
    sync, there = transaction._sync, []

    def note(folder):
        sync(folder)
        if (tree / f'{JOURNAL}.done').exists():
            there.extend((tree / HOOKS).glob('*.migration_old'))

    monkeypatch.setattr(transaction, '_sync', note)
    run(tree)
    assert there


def test_edited_after_a_kill(tmp_path, run, monkeypatch):
    tree = make_tree(tmp_path, original)
    before = contents(tree)
    kill_when_all_is_in_place(tree, run, monkeypatch)
    assert 'was interrupted' in run(tree, '--status')[1]
    assert 'was interrupted' in run(tree, '--dry-run')[1]
    write(tree, HOOK_FILE, 'mine\n')
    edited = contents(tree)
    code, printed = run(tree)
    assert code == command.CONFLICT and str(tree / HOOK_FILE) in printed
    assert contents(tree) == edited
    code, printed = run(tree, '--restore', '--force')
    assert code == 0 and 'was undone' in printed
    kept = tree / f'{HOOK_FILE}.backup2'
    assert kept.read_text() == 'mine\n'
    kept.unlink()
    assert contents(tree) == before


def check_imports(tree):
    """MMPose can be imported: what the exports name is there, and the hook's
    monitors are where the new one is."""
    if 'enhanced_tensorboard_hook_fixed' in read(tree, EXPORTS):
        assert (tree / FIXED_FILE).exists()
    else:
        assert HOOK in read(tree, EXPORTS)
        assert (tree / HOOK_FILE).exists()
        assert (tree / MONITOR).exists()


def test_disk_full(name, step, states, tmp_path):
    state, options = RUNS[name]
    shutil.copytree(str(states[state]), str(tmp_path / 'tree'))
    result = faulty('disk_full', step, tmp_path / 'tree', *options)
    assert result.returncode in (0, command.FAILED)
    # Towards the end nothing is written any more.
    done = 'before' if name == 'restore' else 'after'
    expected = state if result.returncode else done
    assert contents(tmp_path / 'tree') == contents(states[expected])


test_disk_full.fault = 'disk_full', ('migrate', 'restore', 'upgrade')
