# Copyright (c) OpenMMLab. All rights reserved.
"""A clone of MMPose: calls of git, and edits of its files."""
import subprocess
import textwrap


class PatchError(Exception):
    """Something the user can put right; the message is one line."""


def git(folder, *args):
    """Call git.

    Args:
        folder (Path): Where.
        *args (str or Path): Its arguments.

    Returns:
        str: What it printed.
    """
    result = subprocess.run(['git', '-C',
                             str(folder), *map(str, args)],
                            stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE,
                            universal_newlines=True)
    if result.returncode:
        reason = ' '.join(result.stderr.split()) or 'no reason given'
        raise PatchError(f'git {args[0]} failed in {folder}: {reason}')
    return result.stdout.strip()


def make_commit(tree, subject, why):
    """Commit what is staged.

    Args:
        tree (Path): The work tree.
        subject (str): The first line of the message.
        why (str): The rest of it.

    Returns:
        str: The commit.
    """
    # Hooks of the clone, pre-commit's say, are for its owner to run.
    git(tree, 'commit', '--quiet', '--no-verify', '-m', subject, '-m',
        textwrap.fill(why, 72))
    return git(tree, 'rev-parse', 'HEAD')


def edit(tree, path, change):
    """Change a file of MMPose.

    Args:
        tree (Path): The work tree.
        path (str): The file.
        change (Callable[[str], str]): Gives the new text.
    """
    try:
        text = change(read(tree, path))
    except (ValueError, SyntaxError) as error:
        raise PatchError(f'{path} of MMPose cannot be edited: {error}')
    (tree / path).write_bytes(text.encode('utf-8'))


def read(tree, path):
    """Read a file of MMPose.

    Args:
        tree (Path): The work tree.
        path (str): The file.

    Returns:
        str: Its text, with the line ends that it has.
    """
    return (tree / path).read_bytes().decode('utf-8')
