# Copyright (c) OpenMMLab. All rights reserved.
"""What file systems, git and other versions do to a migration."""
import errno
import fcntl
import json
import os
import stat
import subprocess
import sys

import pytest
from hook_migration import command, migration, pip_records, state, transaction
from hook_migration.exports import HOOK
from hook_migration.git_tree import GitTree, reason
from hook_migration.verification import VerificationError
from migrated_trees import (EXPORTS, HOOK_FILE, HOOKS, MANIFEST, MONITOR,
                            ORIGINAL, TOOL, borrowed, check_parts, clone,
                            corrected, make_older, make_tree, original, read,
                            run_tool, write)
from mmpose_copies import contents

# File systems


@pytest.mark.parametrize('number', [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS])
def test_file_system_without_locks(number, tree, run, monkeypatch):
    """Such as Lustre without ``-o flock``, and NFS without its daemon."""
    before = contents(tree)
    refuse(monkeypatch, fcntl, 'flock', number)
    code, printed = run(tree)
    assert code == 0
    assert printed.count('has no locks') == 1
    assert run(tree, '--restore')[0] == 0
    assert contents(tree) == before


def test_other_errors_of_a_lock_are_told(tree, run, monkeypatch):
    before = contents(tree)
    refuse(monkeypatch, fcntl, 'flock', errno.EIO)
    assert run(tree)[0] == command.FAILED
    # It may be somebody else's who has it.
    (tree / 'mmpose' / state.LOCK).unlink()
    assert contents(tree) == before


def refuse(monkeypatch, module, name, number, wanted=lambda *args: True):
    """Let a function of the system fail, where that is wanted."""
    function = getattr(module, name)

    def refusing(*args):
        if wanted(*args):
            raise OSError(number, os.strerror(number))
        return function(*args)

    monkeypatch.setattr(module, name, refusing)


def is_folder(handle):
    return stat.S_ISDIR(os.fstat(handle).st_mode)


@pytest.mark.parametrize('number', [errno.EINVAL, errno.ENOTSUP])
def test_folder_that_cannot_be_synced(number, tree, run, monkeypatch):
    refuse(monkeypatch, os, 'fsync', number, is_folder)
    assert run(tree)[0] == 0
    check_parts(tree, ())


def test_disk_that_fails_while_a_folder_is_synced(tree, run, monkeypatch):
    before = contents(tree)
    refuse(monkeypatch, os, 'fsync', errno.EIO, is_folder)
    assert run(tree)[0] == command.FAILED
    monkeypatch.undo()
    transaction.Transaction(tree / HOOKS / state.JOURNAL.name).recover()
    assert contents(tree) == before


def test_files_and_folders_are_on_disk_before_they_are_relied_on(
        tree, monkeypatch):
    """After a power cut nothing is named that is not there."""
    done = []
    sync, replace = os.fsync, os.replace

    def note_sync(handle):
        sync(handle)
        done.append(os.readlink(f'/proc/self/fd/{handle}'))

    def note_rename(old, new):
        done.append((old, new))
        replace(old, new)

    monkeypatch.setattr(os, 'fsync', note_sync)
    monkeypatch.setattr(os, 'replace', note_rename)
    path = tree / EXPORTS
    transaction.Transaction(tree / 'journal').run([
        (path, transaction.File(b'new', 0o644))
    ])
    journal = done.index(
        (str(tree / '.journal.migration_new'), str(tree / 'journal')))
    rename = done.index(
        (str(path.with_name(f'.{path.name}.migration_new')), str(path)))
    over = done.index((str(tree / 'journal'), str(tree / 'journal.done')))
    # The journal's content before its name, and that before all else.
    assert str(tree / '.journal.migration_new') in done[:journal]
    staged = done[journal:rename]
    assert str(tree) in staged
    for kept in ('new', 'old'):
        name = path.with_name(f'.{path.name}.migration_{kept}')
        assert str(name) in staged
    # The names of what is staged before the rename, the new name before the
    # end of the journal, and that end before what it needs goes.
    assert str(path.parent) in staged
    assert str(path.parent) in done[rename:over]
    assert done[over + 1] == str(tree)


def test_times_are_those_of_the_original_after_a_failure(
        tree, run, monkeypatch):
    os.utime(str(tree / EXPORTS), (1e9, 1e9))

    def fail(self):
        raise VerificationError('not today')

    monkeypatch.setattr(migration.Migration, 'verify', fail)
    assert run(tree)[0] == command.UNVERIFIED
    assert (tree / EXPORTS).stat().st_mtime == 1e9


@pytest.mark.parametrize('mode', [0o755, 0o775, 0o2775])
def test_new_folders_are_as_open_as_their_parents(mode, tmp_path, run):
    tree = make_tree(tmp_path / 'tree', clone)
    (tree / 'mmpose' / 'engine').chmod(mode)
    before = contents(tree)
    mask = os.umask(0o077)
    try:
        assert run(tree)[0] == 0
    finally:
        os.umask(mask)
    folders = [
        path.parent for path in (tree / MONITOR).parent.rglob('*')
        if path.parent != tree / 'mmpose' / 'engine'
    ]
    assert len(set(folders)) > 3
    assert {folder.stat().st_mode & 0o7777 for folder in folders} == {mode}
    assert (tree / MONITOR).stat().st_mode & 0o777 == 0o644
    run(tree, '--restore')
    assert contents(tree) == before


@pytest.mark.parametrize('mode, expected', [(0o664, 0o664), (0o640, 0o640),
                                            (0o755, 0o644), (0o444, 0o644)])
def test_new_files_are_as_open_as_the_exports(mode, expected, tree, run):
    (tree / EXPORTS).chmod(mode)
    before = contents(tree)
    assert run(tree)[0] == 0
    for path in (MONITOR, HOOK_FILE, MANIFEST):
        assert (tree / path).stat().st_mode & 0o7777 == expected
    assert (tree / EXPORTS).stat().st_mode & 0o7777 == mode
    run(tree, '--restore')
    assert contents(tree) == before


@pytest.mark.skipif(os.geteuid() != 0, reason='only root gives files away')
@pytest.mark.parametrize('options', [(), ('--link', )])
def test_roots_migration_leaves_a_clone_to_its_owner(options, tmp_path, run):
    """In a container, root works on a clone of a user's."""
    tree = make_tree(tmp_path / 'tree', original)
    for path in (tree, *tree.rglob('*')):
        os.chown(str(path), 1234, 5678, follow_symlinks=False)
    for action in (options, ('--restore', )):
        assert run(tree, *action)[0] == 0
        owners = {(path.lstat().st_uid, path.lstat().st_gid)
                  for path in (tree, *tree.rglob('*'))}
        assert owners == {(1234, 5678)}


@pytest.mark.parametrize('name', ['chown', 'chmod'])
def test_file_system_without_owners_or_modes(name, tree, run, monkeypatch):
    """Such as FAT: all files have the same."""
    original = getattr(os, name)

    def refuse_change(path, value, *args, **kwargs):
        if name == 'chown' or os.stat(str(path)).st_mode & 0o7777 != value:
            raise PermissionError(errno.EPERM, 'none here')
        original(path, value, *args, **kwargs)

    mask = os.umask(0o037)
    try:
        (tree / EXPORTS).chmod(0o640)
        before = contents(tree)
        monkeypatch.setattr(os, name, refuse_change)
        assert run(tree)[0] == run(tree, '--restore')[0] == 0
    finally:
        os.umask(mask)
    assert contents(tree) == before


@pytest.mark.parametrize('number', [errno.EACCES, errno.EPERM, errno.EROFS])
def test_mmpose_that_must_not_be_changed(number, tree, run, monkeypatch):
    """It is said what can be done instead."""
    before = contents(tree)
    with monkeypatch.context() as patch:
        refuse(patch, os, 'replace', number)
        code, printed = run(tree)
    assert code == command.FAILED and os.strerror(number) in printed
    assert '--target FOLDER' in printed and '--target CLONE' in printed
    assert contents(tree) == before
    # Another error is none of that, nor is a restoration.
    with monkeypatch.context() as patch:
        refuse(patch, os, 'replace', errno.EIO)
        assert 'FOLDER' not in run(tree)[1]
    run(tree)
    refuse(monkeypatch, os, 'replace', number)
    code, printed = run(tree, '--restore')
    assert code == command.FAILED and 'FOLDER' not in printed


# Git


def git(tree, *args):
    who = ['-c', 'user.name=me', '-c', 'user.email=me@example.org']
    return subprocess.run(['git', *who, *args],
                          cwd=str(tree),
                          check=True,
                          stdout=subprocess.PIPE,
                          universal_newlines=True).stdout


@pytest.fixture(params=[clone, original])
def work_tree(request, tmp_path, monkeypatch):
    """A clone whose files are committed, with a hook or without."""
    for variable in ('AUTHOR', 'COMMITTER'):
        monkeypatch.setenv(f'GIT_{variable}_NAME', 'me')
        monkeypatch.setenv(f'GIT_{variable}_EMAIL', 'me@example.org')
    tree = make_tree(tmp_path / 'a clone', request.param)
    git(tree, 'init', '-q')
    git(tree, 'add', '.')
    git(tree, 'commit', '-q', '-m', 'MMPose')
    return tree


def without_git(tree):
    return {
        path: content
        for path, content in contents(tree).items()
        if path.split(os.sep)[0] != '.git'
    }


@pytest.mark.parametrize('options', [(), ('--link', )])
@pytest.mark.parametrize('again', [False, True])
def test_manifest_lost_to_git_clean(again, options, work_tree, run):
    """And with it all else that git does not know; the export stays."""
    before = without_git(work_tree)
    assert run(work_tree, *options)[0] == 0
    git(work_tree, 'clean', '-fdq')
    assert HOOK in read(work_tree, EXPORTS)
    assert not (work_tree / MONITOR).exists()
    if again:
        assert run(work_tree, *options)[0] == 0
        check_parts(work_tree, options)
    code, printed = run(work_tree, '--restore')
    assert code == 0, printed
    assert without_git(work_tree) == before


@pytest.mark.parametrize('again', [False, True])
@pytest.mark.parametrize('kind', [clone, original, corrected, borrowed])
def test_only_the_manifest_is_lost(kind, again, tmp_path, run):
    tree = make_tree(tmp_path / 'tree', kind)
    before = contents(tree)
    run(tree)
    (tree / MANIFEST).unlink()
    assert 'is lost' in run(tree, '--status')[1]
    if again:
        code, printed = run(tree)
        assert code == 0
        assert (tree / MANIFEST).exists()
    assert run(tree, '--restore')[0] == 0
    assert contents(tree) == before


def test_export_without_its_module(tree, run):
    """As earlier versions left it where the manifest had been lost."""
    before = contents(tree)
    run(tree)
    exports = read(tree, EXPORTS)
    run(tree, '--restore')
    write(tree, EXPORTS, exports + '# mine\n')
    code, printed = run(tree, '--restore')
    assert code == 0
    assert read(tree, EXPORTS).endswith('# mine\n')
    assert HOOK not in read(tree, EXPORTS)
    write(tree, EXPORTS, before[str(EXPORTS)][0].decode())
    assert contents(tree) == before


def test_manifest_of_another_version_is_lost(tree, run):
    """What it had put there is not known: nothing goes without a word."""
    before = contents(tree)
    run(tree)
    (tree / MANIFEST).unlink()
    older = read(tree, HOOK_FILE) + '# older\n'
    write(tree, HOOK_FILE, older)
    changed = contents(tree)
    for options in [(), ('--restore', )]:
        code, printed = run(tree, *options)
        assert code == command.CONFLICT and str(tree / HOOK_FILE) in printed
        assert contents(tree) == changed
    assert run(tree, '--restore', '--force')[0] == 0
    kept = tree / f'{HOOK_FILE}.backup'
    assert kept.read_text() == older
    kept.unlink()
    assert not set(contents(tree)) ^ set(before)


def test_commit_instead_of_backups(work_tree, run):
    before = without_git(work_tree)
    code, printed = run(work_tree, '--git')
    assert code == 0, printed
    check_parts(work_tree, ())
    assert not git(work_tree, 'status', '--porcelain')
    assert not list(work_tree.rglob('*.backup'))
    head = git(work_tree, 'rev-parse', '--short', 'HEAD').strip()
    assert f'Committed as {head}.' in printed
    assert 'nothing to do' in run(work_tree, '--git')[1]
    assert git(work_tree, 'rev-parse', '--short', 'HEAD').strip() == head
    code, printed = run(work_tree, '--restore')
    assert code == 0 and 'Committed as' in printed
    assert without_git(work_tree) == before
    assert not git(work_tree, 'status', '--porcelain')
    assert len(git(work_tree, 'log', '--oneline').splitlines()) == 3


def test_commit_can_be_reverted(work_tree, run):
    before = without_git(work_tree)
    run(work_tree, '--git')
    git(work_tree, 'revert', '--no-edit', 'HEAD')
    assert without_git(work_tree) == before
    assert 'nothing to do' in run(work_tree, '--restore')[1]


def test_upgrade_of_a_commit(work_tree, run):
    before = without_git(work_tree)
    run(work_tree, '--git')
    make_older(work_tree)
    git(work_tree, 'commit', '-aqm', 'older')
    assert 'Committed as' in run(work_tree)[1]
    check_parts(work_tree, ())
    assert not list(work_tree.rglob('*.backup'))
    run(work_tree, '--restore')
    assert without_git(work_tree) == before


def test_commit_after_a_kill(work_tree, run, monkeypatch):
    """All is in place, and was not committed: the next run does that."""
    with monkeypatch.context() as patch:
        patch.setattr('hook_migration.git_tree.GitTree.commit',
                      lambda *args: None)
        run(work_tree, '--git')
    assert git(work_tree, 'status', '--porcelain')
    code, printed = run(work_tree, '--git')
    assert code == 0 and 'Committed as' in printed
    assert not git(work_tree, 'status', '--porcelain')


def test_commit_that_git_refuses(work_tree, run):
    hook = work_tree / '.git' / 'hooks' / 'pre-commit'
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\necho not on a Friday >&2\nexit 1\n')
    hook.chmod(0o755)
    before = without_git(work_tree)
    code, printed = run(work_tree, '--git')
    assert code == command.FAILED and 'not on a Friday' in printed
    assert without_git(work_tree) == before
    assert not git(work_tree, 'status', '--porcelain')


def test_work_tree_with_changes(work_tree, run):
    write(work_tree, 'mmpose/version.py', "__version__ = '1.3.1'\n")
    before = without_git(work_tree)
    code, printed = run(work_tree, '--git')
    assert code == command.FAILED and 'version.py has changes' in printed
    assert without_git(work_tree) == before


def test_nothing_to_commit(work_tree, run):
    """The hook is committed by hand: nothing of the user's is."""
    run(work_tree)
    for path in (MANIFEST, *work_tree.rglob('*.backup')):
        (work_tree / path).unlink()
    git(work_tree, 'add', '.')
    git(work_tree, 'commit', '-qm', 'by hand')
    write(work_tree, 'notes.txt', 'mine\n')
    head = git(work_tree, 'rev-parse', 'HEAD')
    code, printed = run(work_tree, '--git')
    assert code == 0 and 'Committed' not in printed
    assert git(work_tree, 'rev-parse', 'HEAD') == head
    assert git(work_tree, 'status', '--porcelain') == '?? notes.txt\n'


@pytest.mark.parametrize('shallow', [False, True])
def test_commit_that_is_not_there_any_more(shallow, tmp_path, work_tree, run):
    """After a rebase, a clone has other commits."""
    before = without_git(work_tree)
    main = git(work_tree, 'rev-parse', '--abbrev-ref', 'HEAD').strip()
    git(work_tree, 'checkout', '-qb', 'work')
    git(work_tree, 'commit', '-q', '--allow-empty', '-m', 'one')
    assert run(work_tree, '--git')[0] == 0
    git(work_tree, 'checkout', '-q', main)
    git(work_tree, 'commit', '-q', '--allow-empty', '-m', 'two')
    git(work_tree, 'rebase', '-q', main, 'work')
    depth = ('--depth', '1') if shallow else ()
    git(tmp_path, 'clone', '-q', *depth, work_tree.as_uri(), 'other')
    other = tmp_path / 'other'
    brought = without_git(other)
    code, printed = run(other, '--restore')
    if shallow:
        assert code == command.FAILED and '--unshallow' in printed
        assert without_git(other) == brought
    else:
        assert code == 0
        assert without_git(other) == before


def test_files_that_git_ignores_are_named(work_tree, run):
    """Not git's hint at the end, which is how to switch off hints."""
    before = without_git(work_tree)
    write(work_tree, '.git/info/exclude', '*.manifest.json\n')
    code, printed = run(work_tree, '--git')
    assert code == command.FAILED
    assert 'ignored' in printed and str(MANIFEST) in printed
    assert without_git(work_tree) == before


def test_run_by_a_hook_of_another_repository(tmp_path, work_tree, run,
                                             monkeypatch):
    git(tmp_path, 'init', '-q', 'other')
    other = tmp_path / 'other'
    git(other, 'commit', '-q', '--allow-empty', '-m', 'theirs')
    with monkeypatch.context() as patch:
        patch.setenv('GIT_DIR', str(other / '.git'))
        patch.setenv('GIT_WORK_TREE', str(other))
        patch.setenv('GIT_INDEX_FILE', str(other / '.git' / 'index'))
        code, printed = run(work_tree, '--git')
    assert code == 0, printed
    assert not git(work_tree, 'status', '--porcelain')
    assert git(work_tree, 'log', '--oneline').count('\n') == 2
    assert git(other, 'log', '--oneline').count('\n') == 1


def test_signatures_in_the_log(work_tree, run):
    """What gpg says of a commit is no time and no hash."""
    assert run(work_tree, '--git')[0] == 0
    before, body = git(work_tree, 'cat-file', 'commit',
                       'HEAD').split('\n\n', 1)
    signed = work_tree.parent / 'signed'
    signed.write_text(f'{before}\ngpgsig -----BEGIN PGP SIGNATURE-----\n x\n '
                      f'-----END PGP SIGNATURE-----\n\n{body}')
    commit = git(work_tree, 'hash-object', '-t', 'commit', '-w', str(signed))
    git(work_tree, 'reset', '-q', '--hard', commit.strip())
    git(work_tree, 'config', 'log.showSignature', 'true')
    tree = GitTree(work_tree)
    assert int(tree.git('log', '-1', '--format=%ct')) > 0


@pytest.mark.parametrize('said, expected', [
    ('', 'no message'),
    ('fatal: dubious ownership\nTo add an exception:\n\n\tgit config',
     'fatal: dubious ownership'),
    ('error: gpg failed to sign\nfatal: failed to write',
     'error: gpg failed to sign'),
    ('lint\nnot on a Friday\n', 'not on a Friday'),
])
def test_why_git_failed(said, expected):
    assert reason(said) == expected


def test_file_that_git_does_not_have_is_backed_up(work_tree, run):
    (work_tree / MONITOR).parent.mkdir()
    write(work_tree, MONITOR, 'mine\n')
    assert run(work_tree, '--git', '--force')[0] == 0
    assert read(work_tree, f'{MONITOR}.backup') == 'mine\n'
    run(work_tree, '--restore')
    assert read(work_tree, MONITOR) == 'mine\n'


def test_no_work_tree(tree, run):
    before = contents(tree)
    code, printed = run(tree, '--git')
    assert code == command.FAILED and 'git' in printed
    assert contents(tree) == before


def test_package_that_git_ignores(work_tree, run):
    """An installation in a folder of a repository."""
    site = make_tree(work_tree / '.venv', clone)
    write(work_tree, '.gitignore', '.venv\n')
    git(work_tree, 'add', '.gitignore')
    git(work_tree, 'commit', '-qm', 'ignore')
    before = contents(site)
    code, printed = run(site, '--git')
    assert code == command.FAILED and 'leave out --git' in printed
    assert contents(site) == before


# Versions


@pytest.mark.parametrize('version', ['1.0.0', '1.1.0', '1.1.1'])
def test_mmpose_that_is_too_old(version, tree, run):
    write(tree, 'mmpose/version.py', f"__version__ = '{version}'\n")
    before = contents(tree)
    for options in [(), ('--dry-run', )]:
        code, printed = run(tree, *options)
        assert code == command.NO_MMPOSE
        assert f'mmpose {version} is too old' in printed
        assert '1.2 or newer' in printed
    assert contents(tree) == before
    # It is taken out of whatever it was brought into.
    assert run(tree, '--restore')[0] == 0


@pytest.mark.parametrize('package, version, allowed', [
    ('torch', '1.12.1+cu116', False),
    ('torch', '1.13.0', True),
    ('torch', '2.1.2+cpu', True),
    ('mmengine', '0.7.4', False),
    ('mmengine', '0.8.0', True),
    ('mmengine', '0.10.7', True),
])
def test_packages_that_are_too_old(package, version, allowed, tree, run,
                                   monkeypatch):

    def versions(name):
        if name != package:
            raise pip_records.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(pip_records, 'version', versions)
    before = contents(tree)
    code, printed = run(tree)
    assert (code == 0) == allowed
    if not allowed:
        assert code == command.NO_MMPOSE
        assert f'{package} {version} is too old' in printed
        assert contents(tree) == before


def test_python_that_is_too_old(tree):
    """In a line, not in a traceback; as Python 3.7 reads the script."""
    script = ('import runpy, sys; sys.version_info = (3, 7, 16); '
              f'runpy.run_path({str(TOOL)!r}, run_name="__main__")')
    result = subprocess.run([sys.executable, '-c', script],
                            stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE,
                            universal_newlines=True)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert '3.8 or newer' in result.stderr and 'is Python 3.7' in result.stderr


def test_status_says_whether_an_upgrade_is_due(tree, run):
    run(tree)
    assert 'It is up to date.' in run(tree, '--status')[1]
    make_older(tree)
    assert 'An upgrade is due' in run(tree, '--status')[1]
    run(tree)
    assert 'It is up to date.' in run(tree, '--status')[1]


def newer_version(manifest):
    manifest['version'] = '10.0.0'


def newer_commit(manifest):
    manifest['committed'] = manifest.get('committed', 0) + 1


@pytest.mark.parametrize('newer', [newer_version, newer_commit])
def test_older_checkout(newer, tree, run, monkeypatch):
    monkeypatch.setattr(state, 'committed_at', lambda: 1700000000)
    before = contents(tree)
    run(tree)
    manifest = json.loads(read(tree, MANIFEST))
    newer(manifest)
    write(tree, MANIFEST, json.dumps(manifest))
    there = contents(tree)
    code, printed = run(tree)
    assert code == command.FAILED and 'newer checkout' in printed
    assert 'checkout is older' in run(tree, '--status')[1]
    assert contents(tree) == there
    assert run(tree, '--force')[0] == 0
    assert 'It is up to date.' in run(tree, '--status')[1]
    run(tree, '--restore')
    assert contents(tree) == before


# What is left after a restoration


def test_restoration_that_would_break_mmpose(tmp_path):
    tree = make_tree(tmp_path / 'tree', clone, parts=('', ))
    assert run_tool('--target', tree).returncode == 0
    text = read(tree, HOOKS / 'visualization_hook.py')
    write(tree, HOOKS / 'visualization_hook.py',
          f'{text}\nfrom . import enhanced_tensorboard_hook  # mine\n')
    there = contents(tree)
    result = run_tool('--target', tree, '--restore')
    assert result.returncode == command.UNVERIFIED
    assert '--force takes it out' in result.stdout
    assert contents(tree) == there
    result = run_tool('--target', tree, '--restore', '--force')
    assert result.returncode == command.UNVERIFIED
    assert 'cannot import mmpose.engine.hooks' in result.stdout
    assert not (tree / HOOK_FILE).exists()


def test_restoration_where_mmpose_does_not_work_anyway(tree, run, monkeypatch):
    """It is not kept from the user, and he is told."""
    before = contents(tree)
    run(tree)

    def fail(self):
        raise VerificationError('no torch any more')

    monkeypatch.setattr(migration.Migration, 'verify_without', fail)
    code, printed = run(tree, '--restore')
    assert code == command.UNVERIFIED and 'no torch any more' in printed
    assert contents(tree) == before


def test_original_hook_is_found(tmp_path):
    tree = make_tree(tmp_path / 'tree', original)
    found = migration.Migration(tree / 'mmpose').original_hook()
    assert found[0] == ORIGINAL + '# corrected\n'


@pytest.mark.parametrize('migrated', [False, True])
def test_original_hook_that_is_a_link(migrated, tmp_path, run):
    tree = make_tree(tmp_path / 'tree', borrowed)
    if migrated:
        run(tree)
    found = migration.Migration(tree / 'mmpose').original_hook()
    assert found[0] == ORIGINAL
