# Copyright (c) OpenMMLab. All rights reserved.
"""What a migration changes, and what a restoration puts back."""
import contextlib
import errno
import json
import os
from collections import namedtuple

from . import __version__, pip_records, state, verification
from .git_tree import GitTree
from .mmpose_tree import EXPORTS_FILE, HOOK_FILE
from .state import FIXED_FILE, LOCK, MANIFEST, State, exporting
from .transaction import (BlockedError, ConflictError, File, fingerprint,
                          free_name, read)

try:
    import fcntl
except ImportError:  # On Windows two at once are not kept apart.
    fcntl = None

# What file systems of clusters say that have no locks.
NO_LOCKS = (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL)
# What it does: the changes of files in their order, what the manifest is to
# say (None: there is to be none), and folders to remove if they are empty.
Plan = namedtuple('Plan', 'changes manifest removed_folders')


class BusyError(Exception):
    """Another migration is at work."""


class Migration(State):
    """What to do to an MMPose.

    Args:
        package (Path): The folder of MMPose's package.
        force (bool): Overwrite what was edited since, and keep a backup of
            it. Defaults to False.
    """

    def __init__(self, package, force=False):
        super().__init__(package)
        self.force = force

    # What to do

    def plan(self, link=False, tree=None):
        """Find out what a migration would change.

        Args:
            link (bool): Lay links instead of copies. Defaults to False.
            tree (GitTree, optional): What keeps what was before. Defaults to
                None: backups.

        Returns:
            Plan: The changes; none of them if it is migrated already.

        Raises:
            ConflictError: Files that are not the patch's, or not any more, are
                where its own would be.
            BlockedError: The hook came here in another way.
        """
        for found in (self._linked(),
                      pip_records.installed_into(self.package)):
            if found:
                raise BlockedError(f'{found}: it needs no migration')
        there = self.manifest()
        if there and self.is_older_than(there) and not self.force:
            raise BlockedError(
                f'what is there is {there["version"]}, from a newer checkout '
                f'than this, which is {__version__}: --force takes it back')
        manifest = there or self.found_again() or dict(files={}, folders=[])
        entries = dict(self._entries(manifest))
        wanted = self._wanted(entries, link)
        backups = self._check_conflicts(wanted, entries)
        changes = []
        for path, content in wanted.items():
            now = read(path)
            entry = entries.get(path)
            if entry is None and now != content:
                entry = dict(before=fingerprint(now), backup=None)
                if now is not None and tree and tree.has(path, now):
                    entry['commit'] = tree.head()
                elif now is not None:
                    self._found[path] = now
                entries[path] = entry
            if path in self._found:
                backup = free_name(path)
                entry['backup'] = backup.name
                backups.append((backup, self._found[path]))
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
        if not changes and not entries:
            return Plan([], None, [])
        committed = state.committed_at()
        manifest = dict(
            version=__version__,
            **(dict(committed=committed) if committed else {}),
            **(dict(git=True) if tree else {}),
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
        manifest = self.manifest() or self.found_again()
        if manifest is None:
            return Plan([], None, [])
        pips = pip_records.files_in(self.package)
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
                wanted[exports] = self._restored_exports(wanted[exports])
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

    def git_tree(self, wanted=False):
        """Find the work tree that a commit is to be made in.

        Args:
            wanted (bool): Whether git is to keep what was before. Defaults to
                False: if the migration before this one was like that.

        Returns:
            GitTree or None: None if there is to be no commit.

        Raises:
            BlockedError: No commit can be made, or it would not be this
                migration's alone.
        """
        manifest = self.manifest() or {}
        if not (wanted or manifest.get('git')):
            return None
        if manifest and not manifest.get('git'):
            raise BlockedError('the migration before this one has made '
                               'backups: --restore takes them out first')
        tree = GitTree(self.package)
        if self.package / EXPORTS_FILE not in tree.tracked():
            raise BlockedError(f'git does not keep {self.package}: leave out '
                               '--git')
        ours = {path for path, _ in self._entries(manifest or dict(files={}))}
        changed = sorted(
            map(str,
                tree.changed() - ours - {self.package / MANIFEST}))
        if changed and wanted:
            raise BlockedError(f'{changed[0]} has changes that are not '
                               'committed: commit or stash them first')
        return tree

    def carry_out(self, plan, check=lambda: None, tree=None, message=''):
        """Make all changes of a plan, or none.

        Args:
            plan (Plan): What to do.
            check (Callable): Called when all is in place; if it raises, all
                is put back. Defaults to nothing.
            tree (GitTree, optional): Where to commit them. Defaults to None:
                nowhere.
            message (str): The message of the commit. Defaults to ''.
        """
        changes = list(plan.changes)
        manifest = self.package / MANIFEST
        if plan.manifest is not None:
            text = json.dumps(plan.manifest, indent=1) + '\n'
            content = File(text.encode(), self.new_mode)
            if fingerprint(content) != fingerprint(read(manifest)):
                changes.append((manifest, content))
        elif read(manifest):
            changes.append((manifest, None))
        before = [(path, read(path)) for path, _ in reversed(changes)]
        made = {
            folder
            for path, content in changes for folder in path.parents
            if content and not folder.exists()
        }
        self.transaction.run(changes, plan.removed_folders, check)
        if tree is None:
            return
        entries = (plan.manifest or {}).get('files', {})
        paths = {path for path, _ in changes}
        paths |= {path for path, _ in self._entries(dict(files=entries))}
        try:
            commit = tree.commit({*paths, manifest}, message)
        except BlockedError:
            self.transaction.run(before, made)
            raise
        if commit:
            print(f'Committed as {commit}.')

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
        verification.verify_hook(self.package, self.package / HOOK_FILE)

    def verify_without(self):
        """Import MMPose's hooks in a fresh Python.

        Raises:
            VerificationError: They cannot be imported.
        """
        verification.verify_mmpose(self.package)

    @contextlib.contextmanager
    def lock(self):
        """Keep a second migration out.

        Raises:
            BusyError: One is at work.
        """
        path = self.package / LOCK
        with path.open('w') as file:
            try:
                if fcntl:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The one before has removed it after it was opened here.
                if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    raise FileNotFoundError
            except (BlockingIOError, FileNotFoundError):
                raise BusyError(
                    f'another migration is at work in {self.package}')
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                print(f'The file system of {self.package} has no locks: let '
                      'no second migration run there meanwhile.')
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
            for path, source in self.patch().items()
        }
        for path in self.own_configs(entries):
            del wanted[path]
        exports, fixed = self.package / EXPORTS_FILE, self.package / FIXED_FILE
        # Files of an earlier version that this one has no more.
        places = self._places()
        for path, entry in entries.items():
            if path not in places:
                wanted[path] = self._original(path, entry)
        wanted[exports] = self._edit_exports(exporting)
        if read(fixed) or fixed in entries:
            wanted[fixed] = None
        return wanted

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
