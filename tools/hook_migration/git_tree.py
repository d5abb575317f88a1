# Copyright (c) OpenMMLab. All rights reserved.
"""The git work tree that an MMPose may be in."""
import contextlib
import os
import subprocess
from pathlib import Path

from .transaction import BlockedError, File, Link, fingerprint, read

# With these a git hook says where it is at work, which is not here.
ELSEWHERE = ('GIT_DIR', 'GIT_WORK_TREE', 'GIT_INDEX_FILE', 'GIT_PREFIX',
             'GIT_COMMON_DIR', 'GIT_OBJECT_DIRECTORY')


class GitTree:
    """A git work tree.

    Args:
        folder (Path): A folder in it.

    Raises:
        BlockedError: It is in none, or there is no git.
    """

    def __init__(self, folder):
        self.folder = folder
        self.top = Path(self.git('rev-parse', '--show-toplevel').strip())

    @classmethod
    def around(cls, folder):
        """Find the work tree that a folder is in.

        Args:
            folder (Path): The folder.

        Returns:
            GitTree or None: None if it is in none, or without git.
        """
        try:
            return cls(folder)
        except BlockedError:
            return None

    def git(self, *args):
        """Run git.

        Args:
            *args (str): Its arguments.

        Returns:
            str: What it printed.

        Raises:
            BlockedError: It failed; the message is its own.
        """
        return os.fsdecode(self._git(*args))

    def _git(self, *args):
        env = {
            name: value
            for name, value in os.environ.items() if name not in ELSEWHERE
        }
        # Paths are names, whatever characters they have.
        env['GIT_LITERAL_PATHSPECS'] = '1'
        # What gpg says of a commit would be among what is asked for.
        command = ['git', '-c', 'log.showSignature=false', *args]
        try:
            done = subprocess.run(
                command,
                cwd=str(self.folder),
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE)
        except FileNotFoundError:
            raise BlockedError('there is no git here')
        if done.returncode:
            said = (done.stderr or done.stdout).decode('utf-8', 'replace')
            raise BlockedError(f'git {args[0]} in {self.folder}: '
                               f'{reason(said)}')
        return done.stdout

    def head(self):
        """Return the commit that is checked out, as a hash."""
        return self.git('rev-parse', 'HEAD').strip()

    def tracked(self):
        """Return the paths that git knows, as a set."""
        names = self.git('ls-files', '-z', '--full-name', str(self.top))
        return {self.top / name for name in names.split('\0') if name}

    def changed(self):
        """Return the paths with changes that are not committed, as a set."""
        lines = self.git('status', '--porcelain', '-z', '--no-renames',
                         '--untracked-files=no')
        return {self.top / line[3:] for line in lines.split('\0') if line}

    def content(self, path, commit='HEAD'):
        """Read what a commit has at a path.

        Args:
            path (Path): The path.
            commit (str): The commit. Defaults to that which is checked out.

        Returns:
            File, Link or None: None if it has nothing there.
        """
        name = path.relative_to(self.top).as_posix()
        entry = self.git('ls-tree', '--full-tree', commit, name)
        if not entry:
            return None
        mode, _, blob = entry.split('\t')[0].split()
        data = self._git('cat-file', 'blob', blob)
        if mode == '120000':
            return Link(os.fsdecode(data))
        now = read(path)
        # Of the mode, git knows only whether a file can be run.
        return File(data, now.mode if isinstance(now, File) else 0o644)

    def earlier(self, path, commit, wanted):
        """Find what there once was at a path.

        Args:
            path (Path): The path.
            commit (str): The commit that had it. A rebase makes others, and a
                clone has only those.
            wanted (str): Its fingerprint.

        Returns:
            File, Link or None: None if no commit has it.
        """
        others = self.git('log', '--full-history', '--format=%H', '--',
                          str(path)).split()
        for known in (commit, *others):
            with contextlib.suppress(BlockedError):
                content = self.content(path, known)
                if fingerprint(content) == wanted:
                    return content
        return None

    def has(self, path, now):
        """Return whether the commit that is checked out has a content.

        Args:
            path (Path): Where it is.
            now (File or Link): The content.
        """
        return path in self.tracked() and (fingerprint(self.content(path))
                                           == fingerprint(now))

    def commit(self, paths, message):
        """Commit what is at some paths, and nothing else.

        Args:
            paths (Iterable[Path]): The paths; there may be nothing.
            message (str): The message.

        Returns:
            str or None: The commit, shortened; None if it would be empty.

        Raises:
            BlockedError: It cannot be made; nothing is staged then.
        """
        tracked = self.tracked()
        names = sorted(
            str(path) for path in set(paths)
            if os.path.lexists(str(path)) or path in tracked)
        if not names:  # To git, no path is every path.
            return None
        try:
            self.git('add', '--all', '--', *names)
            if not self.git('status', '--porcelain', '--', *names):
                return None
            self.git('commit', '--quiet', '--message', message, '--', *names)
        except BlockedError:
            self.git('reset', '--quiet', '--', *names)
            raise
        return self.git('rev-parse', '--short', 'HEAD').strip()


def reason(said):
    """Find the line that says why git failed.

    Args:
        said (str): All that it printed.

    Returns:
        str: The line; with the first of what it names, if it names something.
    """
    lines = [
        line.strip() for line in said.splitlines()
        if line.strip() and not line.startswith('hint:')
    ] or ['no message']
    for line in lines:
        if line.startswith(('fatal:', 'error:')):
            return line
    return ' '.join(lines[:2]) if lines[0].endswith(':') else lines[-1]
