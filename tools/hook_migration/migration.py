# Copyright (c) OpenMMLab. All rights reserved.
"""What a migration changes, and what a restoration puts back.

The manifest beside the hook says for each changed file what it was and what it
is now, by SHA-256, and which backup holds what it was.
"""
import contextlib
import csv
import json
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

from . import __version__
from .exports import (MODULE, add_export, edit_file, find_mention,
                      redirect_import, remove_export)
from .mmpose_tree import EXPORTS_FILE, HOOK_FILE, HOOKS, patch_files
from .transaction import (BlockedError, ConflictError, File, Link, Transaction,
                          fingerprint, free_name, read)

try:
    import fcntl
except ImportError:  # On Windows two at once are not kept apart.
    fcntl = None

DISTRIBUTION = 'mmpose-enhanced-tensorboard'
# A corrected copy of the original hook that users were given.
FIXED = f'{MODULE}_fixed'
FIXED_FILE = HOOKS / f'{FIXED}.py'
MANIFEST = HOOKS / f'{MODULE}.manifest.json'
JOURNAL = HOOKS / f'.{MODULE}.journal.json'
LOCK = HOOKS / f'.{MODULE}.lock'

# Run by a fresh Python. Nothing is compiled into the tree. Its folder is not
# put on the path: where pip installs, there may be a package that has the name
# of one of Python's own and must come after that.
VERIFICATION = '''
import os, sys
from importlib.util import module_from_spec, spec_from_file_location
package, hook = sys.argv[1:]
if not sys.path[0]:
    del sys.path[0]
spec = spec_from_file_location(
    'mmpose', os.path.join(package, '__init__.py'),
    submodule_search_locations=[package])
sys.modules['mmpose'] = module_from_spec(spec)
spec.loader.exec_module(sys.modules['mmpose'])
from mmpose.engine.hooks import EnhancedTensorBoardHook
from mmpose.registry import HOOKS
found = HOOKS.get('EnhancedTensorBoardHook')
assert found is EnhancedTensorBoardHook, 'the registry has another hook'
file = sys.modules[found.__module__].__file__
assert os.path.samefile(file, hook), f'the hook comes from {file}'
EnhancedTensorBoardHook()
'''

# What it does: the changes of files in their order, what the manifest is to
# say (None: there is to be none), and folders to remove if they are empty.
Plan = namedtuple('Plan', 'changes manifest removed_folders')


class VerificationError(Exception):
    """The new hook cannot be imported; the message says why."""


class BusyError(Exception):
    """Another migration is at work."""


class Migration:
    """The hook in one MMPose.

    Args:
        package (Path): The folder of MMPose's package.
        force (bool): Overwrite what was edited since, and keep a backup of
            it. Defaults to False.
    """

    def __init__(self, package, force=False):
        self.package = package
        self.force = force
        self.transaction = Transaction(package / JOURNAL)

    # What is there

    @property
    def interrupted(self):
        """bool: Whether a run was killed and has to be put right."""
        return (self.transaction.journal.exists()
                or self.transaction.done.exists())

    def manifest(self):
        """Read the manifest.

        Returns:
            dict or None: None if there is none.
        """
        file = self.package / MANIFEST
        if not file.exists():
            return None
        try:
            return json.loads(file.read_text(encoding='utf-8'))
        except ValueError as error:
            raise BlockedError(f'{file} is damaged: {error}')

    def edited(self, manifest):
        """Find what somebody has changed since the migration.

        Args:
            manifest (dict): The manifest.

        Returns:
            list[Path]: The files.
        """
        pips = self.files_of_pip()
        return [
            path for path, entry in self._entries(manifest)
            if path not in pips and fingerprint(read(path)) != entry['after']
        ]

    def origin(self):
        """Say how the hook came here without a migration.

        Returns:
            str: One sentence.
        """
        found = self._linked() or self.installed()
        if found:
            return f'{found}.'
        if read(self.package / HOOK_FILE):
            return f'There is another {HOOK_FILE.name}.'
        return f'There is no {HOOK_FILE.name}.'

    def _linked(self):
        for path in patch_files(self.package):
            folder = path.parent
            # That one is MMPose's, and may be anywhere.
            if folder == self.package / HOOKS or not folder.is_symlink():
                continue
            target = os.readlink(str(folder))
            if Path(target).parts[-2:] == folder.parts[-2:]:
                return (f'{folder} is a link to {target}, which '
                        'tools/link_patch.py has laid')
        return None

    def installed(self):
        """Find out whether pip has put the hook into this MMPose.

        Version 1 of the package did; since then it is a package of its own.

        Returns:
            str or None: A clause that says so; None if it has not.
        """
        for info, files in self._installations():
            if any(self.package in path.parents for path in files):
                return (f'pip has put the hook into {self.package} '
                        f'({info.name})')
        return None

    def beside(self):
        """Find the package that pip has put beside this MMPose.

        Returns:
            list[str]: What there is to say of it.
        """
        said = []
        for info, files in self._installations():
            old = info.parent / 'mmpose'
            if all(old not in path.parents for path in files):
                said.append(f'{info} is the package {DISTRIBUTION}. It uses '
                            'the hook of an MMPose that has it.')
            elif old != self.package:
                said.append(f'{info} has put files into {old}, which hides '
                            'an MMPose that is installed as editable: upgrade '
                            f'{DISTRIBUTION}, or uninstall it.')
        return said

    def files_of_pip(self):
        """Find the files in this MMPose that pip will take out.

        Returns:
            set[Path]: The files.
        """
        return {
            path
            for _, files in self._installations() for path in files
            if self.package in path.parents
        }

    def _installations(self):
        """Find where pip has noted the package, and its files."""
        pattern = DISTRIBUTION.replace('-', '_') + '-*.dist-info'
        # An MMPose that lies elsewhere may be used with what is on the path.
        folders = {self.package.parent}
        folders.update(Path(path).resolve() for path in sys.path if path)
        for folder in sorted(folders):
            for info in folder.glob(pattern):
                yield info, list(_recorded(info))

    # What to do

    def plan(self, link=False):
        """Find out what a migration would change.

        Args:
            link (bool): Lay links instead of copies. Defaults to False.

        Returns:
            Plan: The changes; none of them if it is migrated already.

        Raises:
            ConflictError: Files that are not the patch's, or not any more, are
                where its own would be.
            BlockedError: The hook came here in another way.
        """
        for found in (self._linked(), self.installed()):
            if found:
                raise BlockedError(f'{found}: it needs no migration')
        there = self.manifest()
        manifest = there or dict(files={}, folders=[])
        entries = dict(self._entries(manifest))
        wanted = self._wanted(entries, link)
        backups = self._check_conflicts(wanted, entries)
        changes = []
        for path, content in wanted.items():
            now = read(path)
            entry = entries.get(path)
            if entry is None and now != content:
                entry = dict(before=fingerprint(now), backup=None)
                if now is not None:
                    backup = free_name(path)
                    entry['backup'] = backup.name
                    backups.append((backup, now))
                entries[path] = entry
            if entry is not None:
                entry['after'] = fingerprint(content)
            if now != content:
                changes.append((path, content))
        # What is as it was before any migration is nobody's but the user's.
        places = self._places()
        left = [path for path in wanted if path not in places]
        changes += [(path.with_name(entries[path]['backup']), None)
                    for path in left if entries[path]['backup']]
        folders = [
            folder for path, content in changes for folder in path.parents
            if content and not folder.exists()
        ]
        if not changes and there is None:
            return Plan([], None, [])
        manifest = dict(
            version=__version__,
            linked=link,
            files={
                self._relative(path): entries[path]
                for path in wanted if path in entries and path not in left
            },
            folders=sorted({
                *manifest['folders'],
                *(self._relative(folder) for folder in folders)
            }))
        return Plan([*backups, *changes], manifest, [])

    def plan_restoration(self):
        """Find out what putting everything back would change.

        Returns:
            Plan: The changes; none of them if nothing was migrated. What pip
            will take out is left to it.

        Raises:
            ConflictError: Files were edited since the migration.
            BlockedError: A backup is gone or was changed.
        """
        manifest = self.manifest()
        if manifest is None:
            return Plan([], None, [])
        pips = self.files_of_pip()
        entries = {
            path: entry
            for path, entry in self._entries(manifest) if path not in pips
        }
        wanted = {
            path: self._original(path, entry)
            for path, entry in reversed(list(entries.items()))
        }
        kept = self._check_conflicts(wanted, entries)
        exports = self.package / EXPORTS_FILE
        if exports in entries:
            try:
                wanted[exports] = self._restored_exports(
                    wanted[exports], entries[exports]['backup'])
            except BlockedError:
                if not self.force:
                    raise
                kept.append((free_name(exports), read(exports)))
        changes = [(path, content) for path, content in wanted.items()
                   if read(path) != content]
        backups = [(path.with_name(entry['backup']), None)
                   for path, entry in entries.items() if entry['backup']]
        return Plan([*kept, *changes, *backups], None,
                    [self.package / folder for folder in manifest['folders']])

    def carry_out(self, plan, check=lambda: None):
        """Make all changes of a plan, or none.

        Args:
            plan (Plan): What to do.
            check (Callable): Called when all is in place; if it raises, all
                is put back. Defaults to nothing.
        """
        changes = list(plan.changes)
        manifest = self.package / MANIFEST
        if plan.manifest is not None:
            text = json.dumps(plan.manifest, indent=1) + '\n'
            content = File(text.encode(), 0o644)
            if fingerprint(content) != fingerprint(read(manifest)):
                changes.append((manifest, content))
        elif read(manifest):
            changes.append((manifest, None))
        self.transaction.run(changes, plan.removed_folders, check)

    def recover(self):
        """Put right what a killed run has left.

        Returns:
            str or None: 'undone', 'completed' or None if there was nothing.
        """
        return self.transaction.recover(self.force)

    def verify(self):
        """Import the hook in a fresh Python.

        Raises:
            VerificationError: It does not find the one of this MMPose.
        """
        result = subprocess.run([
            sys.executable, '-B', '-W', 'ignore', '-c', VERIFICATION,
            str(self.package),
            str(self.package / HOOK_FILE)
        ],
                                stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)
        if result.returncode:
            error = result.stderr.decode('utf-8', 'replace').strip()
            reason = error.splitlines()[-1] if error else 'it was killed'
            raise VerificationError(
                f'{sys.executable} cannot use the new hook: {reason}')

    @contextlib.contextmanager
    def lock(self):
        """Keep a second migration out.

        Raises:
            BusyError: One is at work.
        """
        path = self.package / LOCK
        with path.open('w') as file:
            if fcntl:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    # The one before has removed it after it was opened here.
                    if not os.path.samestat(
                            os.fstat(file.fileno()), path.stat()):
                        raise FileNotFoundError
                except (BlockingIOError, FileNotFoundError):
                    raise BusyError(
                        f'another migration is at work in {self.package}')
            try:
                yield
            finally:
                with contextlib.suppress(PermissionError):  # On Windows.
                    path.unlink()

    # Parts

    def _wanted(self, entries, link):
        """What is to be where, in the order in which to put it there."""
        wanted = {
            path: self._patch_content(path, source, link)
            for path, source in patch_files(self.package).items()
        }
        exports, fixed = self.package / EXPORTS_FILE, self.package / FIXED_FILE
        # Files of an earlier version that this one has no more.
        places = self._places()
        for path, entry in entries.items():
            if path not in places:
                wanted[path] = self._original(path, entry)
        wanted[exports] = self._edit_exports(_exporting)
        if read(fixed) or fixed in entries:
            wanted[fixed] = None
        return wanted

    def _places(self):
        """What a migration by this version may change."""
        return [
            *patch_files(self.package), self.package / EXPORTS_FILE,
            self.package / FIXED_FILE
        ]

    def _entries(self, manifest):
        return [(Path(os.path.normpath(str(self.package / path))), entry)
                for path, entry in manifest['files'].items()]

    def _relative(self, path):
        return Path(os.path.relpath(str(path), str(self.package))).as_posix()

    @staticmethod
    def _patch_content(path, source, link):
        if link:
            return Link(str(source))
        now = read(path)
        mode = now.mode if isinstance(now, File) else 0o644
        return File(source.read_bytes(), mode)

    @staticmethod
    def _original(path, entry):
        if entry['before'] is None:
            return None
        backup = path.with_name(entry['backup'])
        content = read(backup)
        if fingerprint(content) != entry['before']:
            raise BlockedError(f'{backup}, the backup of {path}, is gone or '
                               'was changed')
        return content

    def _edit_exports(self, edit):
        path = self.package / EXPORTS_FILE
        data = path.read_bytes()
        try:
            new = edit_file(data, edit)
        except (ValueError, SyntaxError) as error:
            raise BlockedError(f'{path} cannot be edited: {error}')
        return read(path) if new == data else File(
            new,
            path.stat().st_mode & 0o7777)

    def _restored_exports(self, original, backup):
        """What was exported, with what the user or an upgrade of MMPose has
        changed since."""
        exports = self.package / EXPORTS_FILE
        data = exports.with_name(backup).read_bytes()
        if exports.read_bytes() == edit_file(data, _exporting):
            return original
        before = data.decode('utf-8-sig')
        return self._edit_exports(lambda text: _not_exporting(text, before))

    def _check_conflicts(self, wanted, entries):
        """Refuse to overwrite what is not the patch's, or not any more.

        Returns:
            list[tuple[Path, File or Link]]: With force, backups to make of
            what was edited since.
        """
        # The hook is backed up, the exports are edited around what is there.
        ours = [
            self.package / path
            for path in (EXPORTS_FILE, HOOK_FILE, FIXED_FILE)
        ]
        conflicts = []
        for path, content in wanted.items():
            now = read(path)
            if now is None or now == content:
                continue
            if path in entries and path != self.package / EXPORTS_FILE:
                known = fingerprint(now) == entries[path]['after']
            else:
                known = path in ours
            if not known:
                conflicts.append(path)
        if conflicts and not self.force:
            raise ConflictError(*conflicts)
        return [(free_name(path), read(path)) for path in conflicts
                if path in entries]


def _recorded(info):
    """Read which files pip has noted for a package."""
    with contextlib.suppress(FileNotFoundError):
        with (info / 'RECORD').open(encoding='utf-8', newline='') as record:
            for name, *_ in csv.reader(record):
                yield Path(os.path.normpath(str(info.parent / name)))


def _exporting(text):
    text = redirect_import(text, FIXED, MODULE)
    statement = find_mention(text, FIXED)
    if statement:
        raise ValueError(f'line {statement.lineno} imports {FIXED}, which a '
                         'migration takes away; take that out by hand')
    return add_export(text)


def _not_exporting(text, before):
    """Take out of an edited text what :func:`_exporting` has put in.

    Args:
        text (str): The text as the user has edited it since.
        before (str): The text before the migration.

    Returns:
        str: The text without the export, if there was none before.
    """
    if add_export(before) == before:
        return text
    if _exporting(before) != add_export(before):
        return redirect_import(text, MODULE, FIXED)
    return remove_export(text)
