# Copyright (c) OpenMMLab. All rights reserved.
"""What a migration has left in an MMPose, and what was there before it.

The manifest beside the hook says for each changed file what it was and what it
is now, by SHA-256, and which backup holds what it was.
"""
import json
import os
from pathlib import Path

from . import __version__, pip_records
from .exports import (MODULE, add_export, edit_file, find_imports,
                      find_mention, redirect_import, remove_block,
                      remove_export)
from .git_tree import GitTree
from .hook_defaults import is_ours
from .lost_manifest import find_entries
from .mmpose_tree import (BASES, EXPORTS_FILE, HOOK_FILE, HOOKS, MONITORS,
                          config_folders, hook_source, model_configs,
                          patch_files)
from .transaction import (BlockedError, File, Link, Transaction, fingerprint,
                          follow, read)

# A corrected copy of the original hook that users were given.
FIXED = f'{MODULE}_fixed'
FIXED_FILE = HOOKS / f'{FIXED}.py'
MANIFEST = HOOKS / f'{MODULE}.manifest.json'
JOURNAL = HOOKS / f'.{MODULE}.journal.json'
LOCK = HOOKS / f'.{MODULE}.lock'


class State:
    """The hook in one MMPose, as it is there.

    Args:
        package (Path): The folder of MMPose's package.
    """

    def __init__(self, package):
        self.package = package
        # What was before, where no backup has it, if the manifest is lost.
        self._found = {}
        self.transaction = Transaction(package / JOURNAL)

    def patch(self):
        """Return the files of the patch, place to source."""
        return patch_files(self.package)

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
        pips = pip_records.files_in(self.package)
        return [
            path for path, entry in self._entries(manifest)
            if path not in pips and fingerprint(read(path)) != entry['after']
        ]

    def origin(self):
        """Say how the hook came here without a migration.

        Returns:
            str: One sentence.
        """
        found = self._linked() or pip_records.installed_into(self.package)
        if found:
            return f'{found}.'
        if read(self.package / HOOK_FILE):
            return f'There is another {HOOK_FILE.name}.'
        return f'There is no {HOOK_FILE.name}.'

    def _linked(self):
        for path in self.patch():
            folder = path.parent
            # That one is MMPose's, and may be anywhere.
            if folder == self.package / HOOKS or not folder.is_symlink():
                continue
            target = os.readlink(str(folder))
            if Path(target).parts[-2:] == folder.parts[-2:]:
                return (f'{folder} is a link to {target}, which '
                        'tools/link_patch.py has laid, and --remove takes out')
        return None

    def original_hook(self):
        """Find the hook that the new one replaces, or has replaced.

        Returns:
            tuple[str, str] or None: Its module, and what to call it; None if
            there is none.
        """
        entries = dict(self._entries(self.manifest() or dict(files={})))
        # The correction is what a clone with both of them has used.
        for path in (self.package / FIXED_FILE, self.package / HOOK_FILE):
            content = read(path)
            if path in entries:
                content = self._original(path, entries[path])
            content = follow(path, content)
            if content:
                text = content.data.decode('utf-8', 'replace')
                if not is_ours(text):
                    return text, str(path)
        return None

    def is_outdated(self, manifest):
        """Whether a migration from here would bring other files.

        Args:
            manifest (dict): The manifest.

        Returns:
            bool: True if so.
        """
        link = manifest['linked']
        there = {
            path: entry['after']
            for path, entry in self._entries(manifest) if entry['after']
        }
        own = self.own_configs(there)
        return any(
            there.get(path) != fingerprint(
                self._patch_content(path, source, link))
            for path, source in self.patch().items() if path not in own)

    def is_older_than(self, manifest):
        """Whether what is in place is from a newer checkout than this.

        Args:
            manifest (dict): The manifest.

        Returns:
            bool: True if so.
        """

        def age(version, committed):
            return pip_records.release(version), committed or 0

        now, committed = committed_at(), manifest.get('committed')
        # Only a checkout has a time.
        return age(manifest['version'], now and committed) > age(
            __version__, committed and now)

    def found_again(self):
        """Make a lost manifest again from what is there.

        Returns:
            dict or None: The manifest; None if nothing was migrated.
        """
        if self._linked() or pip_records.installed_into(self.package):
            return None
        entries, self._found = find_entries(self.package, exporting,
                                            self.package / FIXED_FILE)
        if not entries:
            return None
        monitors = self.package / MONITORS
        folders = {
            folder
            for path in entries for folder in path.parents
            if folder == monitors or monitors in folder.parents
            or folder.name == BASES.name
        }
        return dict(
            files={
                self._relative(path): entry
                for path, entry in entries.items()
            },
            folders=sorted(map(self._relative, folders)))

    def own_configs(self, entries):
        """Find configs of the user's that have the name of one of ours.

        They are left as they are: a fork may have the same idea.

        Args:
            entries (dict[Path, dict]): What the manifest has.

        Returns:
            list[Path]: The configs.
        """
        return [
            path for configs in config_folders(self.package)
            for path, source in model_configs(configs).items()
            if path not in entries and isinstance(read(path), File)
            and read(path).data != source.read_bytes()
        ]

    def _places(self):
        """What a migration by this version may change."""
        return [
            *self.patch(), self.package / EXPORTS_FILE,
            self.package / FIXED_FILE
        ]

    def _entries(self, manifest):
        return [(Path(os.path.normpath(str(self.package / path))), entry)
                for path, entry in manifest['files'].items()]

    def _relative(self, path):
        return Path(os.path.relpath(str(path), str(self.package))).as_posix()

    def _patch_content(self, path, source, link):
        if link:
            return Link(str(source))
        now = read(path)
        mode = now.mode if isinstance(now, File) else self.new_mode
        return File(source.read_bytes(), mode)

    @property
    def new_mode(self):
        """int: The mode of a new file: as open to others as the exports."""
        return (self.package / EXPORTS_FILE).stat().st_mode & 0o666 | 0o600

    def _original(self, path, entry):
        if entry['before'] is None:
            return None
        if path in self._found:
            return self._found[path]
        if 'commit' in entry:
            backup = f'commit {entry["commit"]}'
            content = GitTree(self.package).earlier(path, entry['commit'],
                                                    entry['before'])
        else:
            backup = path.with_name(entry['backup'])
            content = read(backup)
        if fingerprint(content) != entry['before']:
            raise BlockedError(f'{backup}, the backup of {path}, is gone or '
                               'was changed' +
                               (': if this clone is shallow, git fetch '
                                '--unshallow' if 'commit' in entry else ''))
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

    def _restored_exports(self, original):
        """What was exported, with what the user or an upgrade of MMPose has
        changed since."""
        exports = self.package / EXPORTS_FILE
        content = follow(exports, original)
        if content is None or exports.read_bytes() == edit_file(
                content.data, exporting):
            return original
        before = content.data.decode('utf-8-sig')
        return self._edit_exports(lambda text: not_exporting(text, before))


def committed_at():
    """When the checkout that the patch is in was committed; None: unknown."""
    tree = GitTree.around(hook_source().parent)
    if not tree or hook_source() not in tree.tracked():
        return None
    return int(tree.git('log', '-1', '--format=%ct') or 0)


def exporting(text):
    text = redirect_import(text, FIXED, MODULE)
    statement = find_mention(text, FIXED)
    if statement:
        raise ValueError(f'line {statement.lineno} imports {FIXED}, which a '
                         'migration takes away; take that out by hand')
    return add_export(text)


def not_exporting(text, before):
    """Take out of an edited text what :func:`exporting` has put in.

    Args:
        text (str): The text as the user has edited it since.
        before (str): The text before the migration.

    Returns:
        str: The text without the export, if there was none before.
    """
    if exporting(before) == before:
        return text
    if find_imports(before, FIXED):
        return redirect_import(remove_block(text), MODULE, FIXED)
    return remove_export(text)
