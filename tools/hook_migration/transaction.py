# Copyright (c) OpenMMLab. All rights reserved.
"""Change several files, so that all of them change or none.

What happens, in this order: a journal names the files; the new ones are
written beside their places and the old ones are copied beside them; the new
ones are renamed into place, one after the other; the caller checks the result;
the journal is renamed, and with that everything holds. Whatever ends this
early, the journal tells the next run what to put back, for which no disk space
is needed.
"""
import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections import namedtuple
from pathlib import Path

# What can be at a path, None if nothing is.
File = namedtuple('File', 'data mode')
Link = namedtuple('Link', 'target')
# File systems of clusters say so where they cannot sync a folder.
NO_SYNC = (errno.EINVAL, errno.ENOTSUP)


class ConflictError(Exception):
    """Somebody else has changed a file; it names the files."""


class BlockedError(Exception):
    """Something has to be put right by the user first."""


def read(path):
    """What is at a path.

    Args:
        path (Path): The path.

    Returns:
        File, Link or None: None if nothing is there.
    """
    if path.is_symlink():
        return Link(os.readlink(str(path)))
    try:
        return File(path.read_bytes(), path.stat().st_mode & 0o7777)
    except (FileNotFoundError, NotADirectoryError):
        return None


def follow(path, content):
    """What is read at a path that has a content.

    Args:
        path (Path): The path.
        content (File, Link or None): What is, or is to be, there.

    Returns:
        File or None: What a link leads to; None if that is not there.
    """
    if not isinstance(content, Link):
        return content
    return read(Path(os.path.realpath(str(path.parent / content.target))))


def fingerprint(content):
    """Tell contents from one another.

    Args:
        content (File, Link or None): What is at a path.

    Returns:
        str or None: The SHA-256 of a file; the target of a link.
    """
    if isinstance(content, Link):
        return f'link to {content.target}'
    return content and hashlib.sha256(content.data).hexdigest()


def free_name(path):
    """A name for a backup that nothing has.

    Args:
        path (Path): What to back up.

    Returns:
        Path: ``NAME.backup``, or with a number behind it.
    """
    backup = path.with_name(f'{path.name}.backup')
    number = 1
    while os.path.lexists(str(backup)):
        number += 1
        backup = path.with_name(f'{path.name}.backup{number}')
    return backup


class Transaction:
    """Changes of files that hold together.

    Args:
        journal (Path): Where to keep the journal while it is at work.
    """

    def __init__(self, journal):
        self.journal = journal
        self.done = journal.with_name(journal.name + '.done')

    def run(self, changes, removed_folders=(), check=lambda: None):
        """Make changes.

        Args:
            changes (list[tuple[Path, File or Link or None]]): What there is
                to be at which path. They are made in this order.
            removed_folders (Iterable[Path]): Folders to remove in the end, if
                there is nothing left in them.
            check (Callable): Called when all is in place. If it raises,
                everything is put back.

        Raises:
            OSError: A file could not be written. Everything is as it was.
        """
        try:
            self._write_journal(changes, removed_folders)
            for path, content in changes:
                _make_folder(path.parent)
                _stage(path, content)
            _sync_folders(changes)
            for path, content in changes:
                if content is None:
                    path.unlink()
                else:
                    os.replace(str(_new(path)), str(path))
            _sync_folders(changes)
            check()
            os.replace(str(self.journal), str(self.done))
        except BaseException:
            self.recover()
            raise
        self._clean_up()

    def recover(self, force=False):
        """Put back what an interrupted run has changed, or complete it where
        nothing but the cleaning up was missing.

        Args:
            force (bool): Also where the files were changed since; what they
                are is kept beside them. Defaults to False.

        Returns:
            str or None: What was done; None if there was nothing to do.

        Raises:
            ConflictError: A file was changed since.
            BlockedError: What there was is gone.
        """
        if _lexists(_new(self.journal)):
            _new(self.journal).unlink()
        if self.done.exists():
            self._clean_up()
            return 'completed'
        if not self.journal.exists():
            return None
        files, made, _ = self._read_journal(self.journal)
        to_undo = []
        for path, before, after in files:
            now = fingerprint(read(path))
            if now == before:
                continue
            edited = now != after
            if edited and not force:
                raise ConflictError(path)
            if before and not _lexists(_old(path)):
                if edited:  # Before it was this run's turn.
                    continue
                raise BlockedError(
                    f'{path} cannot be put back, because {_old(path)} is '
                    f'gone; to keep what is there, remove {self.journal}')
            to_undo.append((path, before, edited and now))
        for path, before, edited in reversed(to_undo):
            if edited:
                os.replace(str(path), str(free_name(path)))
            if before:
                os.replace(str(_old(path)), str(path))
            elif _lexists(path):
                path.unlink()
        self._remove_leftovers(files, made)
        self.journal.unlink()
        return 'undone'

    def _write_journal(self, changes, removed_folders):
        files = [(self._relative(path), fingerprint(read(path)),
                  fingerprint(content)) for path, content in changes]
        made = []
        for path, _ in changes:
            made += [
                folder for folder in path.parents
                if not folder.exists() and folder not in made
            ]
        journal = dict(
            files=files,
            made=[self._relative(folder) for folder in made],
            removed=[self._relative(folder) for folder in removed_folders])
        write(_new(self.journal), File(json.dumps(journal).encode(), 0o644))
        os.replace(str(_new(self.journal)), str(self.journal))
        _sync(self.journal.parent)

    def _relative(self, path):
        # The tree may be somewhere else when it is put right: in a container.
        return os.path.relpath(str(path), str(self.journal.parent))

    def _read_journal(self, journal):
        try:
            kept = json.loads(journal.read_text(encoding='utf-8'))
        except ValueError as error:
            raise BlockedError(f'{journal} is damaged: {error}')

        def absolute(path):
            joined = os.path.join(str(self.journal.parent), path)
            return Path(os.path.normpath(joined))

        return ([(absolute(path), before, after)
                 for path, before, after in kept['files']
                 ], [absolute(folder) for folder in kept['made']],
                [absolute(folder) for folder in kept['removed']])

    def _clean_up(self):
        # Before what it takes to put things back goes.
        _sync(self.done.parent)
        files, _, removed = self._read_journal(self.done)
        self._remove_leftovers(files, removed)
        self.done.unlink()
        _sync(self.done.parent)

    @staticmethod
    def _remove_leftovers(files, folders):
        for path, _, _ in files:
            for leftover in (_new(path), _old(path)):
                if _lexists(leftover):
                    leftover.unlink()
            if not _lexists(path):
                cache = path.parent / '__pycache__'
                for compiled in cache.glob(f'{path.stem}.*.pyc'):
                    compiled.unlink()
        # What is inside another one comes first.
        for folder in sorted(folders, key=lambda f: -len(f.parts)):
            for empty in (folder / '__pycache__', folder):
                if empty.is_dir() and not any(empty.iterdir()):
                    empty.rmdir()


def write(path, content, place=None):
    """Write a file or link, and wait until it is on disk.

    Args:
        path (Path): Where to; what is there is removed.
        content (File or Link): What to write.
        place (Path, optional): Where it is for. It belongs to whom what is
            there does, or the folder. Defaults to None: the path.
    """
    if _lexists(path):
        path.unlink()
    place = place or path
    owner = place if _lexists(place) else place.parent
    if isinstance(content, Link):
        path.symlink_to(content.target)
        _give(path, owner)
        return
    with path.open('wb') as file:
        file.write(content.data)
        file.flush()
        os.fsync(file.fileno())
    _give(path, owner)
    _open_up(path, content.mode)


def _give(path, owner):
    """Let a path belong to whom another one does, as far as is allowed.

    Root may: in a container, or by sudo, in somebody's clone.
    """
    there = owner.lstat()
    for user, group in ((-1, there.st_gid), (there.st_uid, -1)):
        # There is no chown on Windows.
        with contextlib.suppress(OSError, AttributeError):
            os.chown(str(path), user, group, follow_symlinks=False)


def _make_folder(folder):
    """Make a folder, as open to others as the one that it is in."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir()
    _give(folder, folder.parent)
    _open_up(folder, folder.parent.stat().st_mode & 0o7777)


def _open_up(path, mode):
    """Set a mode, whatever the umask is.

    Some file systems have none.
    """
    with contextlib.suppress(PermissionError):
        path.chmod(mode)


def _stage(path, content):
    if content is not None:
        write(_new(path), content, path)
    before = read(path)
    if before is not None:
        write(_old(path), before, path)
        shutil.copystat(str(path), str(_old(path)), follow_symlinks=False)


def _new(path):
    return path.with_name(f'.{path.name}.migration_new')


def _old(path):
    return path.with_name(f'.{path.name}.migration_old')


def _lexists(path):
    return os.path.lexists(str(path))


def _sync_folders(changes):
    for folder in {path.parent for path, _ in changes}:
        _sync(folder)


def _sync(folder):
    """Wait until the names in a folder are on disk.

    Args:
        folder (Path): The folder.
    """
    if os.name == 'nt':
        return
    handle = os.open(str(folder), os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(handle)
