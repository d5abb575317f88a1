# Copyright (c) OpenMMLab. All rights reserved.
"""Make the pull requests to MMPose: a series of branches on a clone of it.

    python tools/make_upstream_patch.py --mmpose CLONE

Each branch stands on the one before, has one commit, and is useful without
those after it: what it adds to the library, at most 2,000 lines, with the
tests that can run there, its part of the guide and a line of the changelog.
Which files those are is worked out from their imports; tools of this
repository stay here. MMPose's linters, as far as they are installed, are run
on every commit, and ``--test`` runs its tests. What is checked out in the
clone is left alone. Called again, it does nothing if nothing has changed.

The texts of the pull requests, in MMPose's own template, are written into the
clone's git folder.
"""
import argparse
import sys
import tempfile
from pathlib import Path

from upstream_series.cut import cut
from upstream_series.git import PatchError, git
from upstream_series.series import (CHANGELOGS, EXPORTS, GUIDES, REQUIREMENTS,
                                    TEMPLATE, Series)
from upstream_series.stages import STAGES

ROOT = Path(__file__).resolve().parents[1]
# The branch that pull requests to MMPose go to; a fork may not have it.
BASES = ('dev-1.x', 'main')


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--mmpose', type=Path, required=True, help='a git clone of MMPose')
    parser.add_argument(
        '--base',
        help='the branch of the clone to start from; unless given, '
        f'{BASES[0]}, or {BASES[1]} where that is not there')
    parser.add_argument(
        '--prefix',
        default='enhanced-tensorboard',
        help='the folder of the branches to make')
    parser.add_argument(
        '--test',
        action='store_true',
        help="run each branch's tests: this takes long")
    args = parser.parse_args()
    try:
        said, made = make_series(args.mmpose, args.base, args.prefix,
                                 args.test)
    except PatchError as error:
        sys.exit(f'make_upstream_patch: {error}')
    print(said)
    for branch in made:
        print(f'{branch.name}: {branch.counts["files"]} files, '
              f'{branch.counts["library"]:,} lines of library code, '
              f'{branch.counts["tests"]:,} of tests; linters: '
              f'{", ".join(branch.ran) or "none"}'
              f'{"; " + branch.tests if branch.tests else ""}')


def make_series(clone, base=None, prefix='enhanced-tensorboard', test=False):
    """Make the branches, or find that they are there.

    Args:
        clone (Path): The clone of MMPose.
        base (str, optional): The branch to start from. Defaults to None: the
            first of ``BASES`` that is there.
        prefix (str): What the branches' names begin with.
        test (bool): Run the tests of each branch. Defaults to False.

    Returns:
        tuple[str, list[Made]]: What was done, for the user, and the branches.
    """
    check_clone(clone)
    base, start = find_base(clone, base)
    branches, modules = cut(ROOT, STAGES)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / 'mmpose'
        git(clone, 'worktree', 'add', '--quiet', '--detach', tree, start)
        try:
            made = Series(tree, prefix, branches, modules).make(test)
        finally:
            git(clone, 'worktree', 'remove', '--force', tree)
    texts = Path(git(clone, 'rev-parse', '--absolute-git-dir')) / prefix
    is_new = add_branches(clone, made, start, prefix)
    texts.mkdir(parents=True, exist_ok=True)
    for branch in made:
        file = texts / f'{branch.name.rpartition("/")[2]}.md'
        file.write_text(branch.text + '\n', 'utf-8')
    if not is_new:
        return f'the branches of {clone} are there and up to date', made
    return (f'made {len(made)} branches of {clone} on {base}; push them with '
            f'`git push FORK {prefix}/NAME`, the first one first. Their texts '
            f'are in {texts}'), made


def add_branches(clone, made, start, prefix):
    """Add the branches to the clone, all or none.

    Args:
        clone (Path): The clone.
        made (list[Made]): The branches.
        start (str): The commit that they stand on.
        prefix (str): What their names begin with.

    Returns:
        bool: False if they are there, with the same in them.
    """
    there = git(clone, 'for-each-ref', '--format=%(refname:short)',
                f'refs/heads/{prefix}').split()
    parents = [start, *(branch.name for branch in made)]
    same = there and set(there) == {
        branch.name
        for branch in made
    } and all(
        tree_of(clone, branch.name) == tree_of(clone, branch.commit)
        and git(clone, 'rev-parse', f'{branch.name}~1') == git(
            clone, 'rev-parse', parent)
        for branch, parent in zip(made, parents))
    if same:
        return False
    if there:
        raise PatchError(
            f'{clone} has branches {prefix}/ with something else in them: '
            'choose another name with --prefix, or remove them with '
            f'`git branch -D $(git branch --format="%(refname:short)" --list '
            f'"{prefix}/*")`')
    for branch in made:
        git(clone, 'branch', branch.name, branch.commit)
    return True


def tree_of(clone, commit):
    """The hash of the files of a commit."""
    return git(clone, 'rev-parse', f'{commit}^{{tree}}')


def check_clone(clone):
    """Refuse what is not a clone of MMPose 1.x.

    Args:
        clone (Path): The folder.
    """
    if not clone.is_dir():
        raise PatchError(f'there is no folder {clone}')
    try:
        top = git(clone, 'rev-parse', '--show-toplevel')
    except PatchError:
        raise PatchError(f'{clone} is not a git clone')
    if Path(top).resolve() != clone.resolve():
        raise PatchError(f'{clone} is not a clone but a folder of {top}')
    if clone.resolve() == ROOT:
        raise PatchError(f'{clone} is the patch itself; it needs a clone of '
                         'https://github.com/open-mmlab/mmpose')


def find_base(clone, base):
    """Find the commit to start from.

    Args:
        clone (Path): The clone.
        base (str or None): A branch of it, or of the remote it was cloned
            from; None: the first of ``BASES``.

    Returns:
        tuple[str, str]: The branch and its commit.
    """
    for name in [base] if base else BASES:
        commit = find_branch(clone, name) or find_branch(
            clone, f'origin/{name}')
        if commit:
            break
    else:
        raise PatchError(f'{clone} has no branch {base or BASES[1]}: choose '
                         'another one with --base')
    for path in (EXPORTS, TEMPLATE, REQUIREMENTS, *GUIDES, *CHANGELOGS):
        if not git(clone, 'ls-tree', '--name-only', commit, path):
            raise PatchError(f'branch {name} of {clone} has no {path}: it is '
                             'not MMPose 1.x')
    return name, commit


def find_branch(clone, name):
    """Find a branch.

    Args:
        clone (Path): The clone.
        name (str): Its name.

    Returns:
        str or None: Its commit; None if there is none.
    """
    try:
        return git(clone, 'rev-parse', '--verify', '--quiet',
                   f'{name}^{{commit}}')
    except PatchError:
        return None


if __name__ == '__main__':
    main()
