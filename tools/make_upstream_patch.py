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
import subprocess
import sys
import tempfile
import textwrap
from collections import namedtuple
from pathlib import Path

from hook_migration.exports import add_export
from upstream_series import checks, cover, documents
from upstream_series.cut import cut
from upstream_series.imports import HOOK_FILE, HOUSE
from upstream_series.stages import STAGES

ROOT = Path(__file__).resolve().parents[1]
EXPORTS = 'mmpose/engine/hooks/__init__.py'
TEMPLATE = '.github/pull_request_template.md'
REQUIREMENTS = 'requirements/tests.txt'
PACKAGE = f'{HOUSE}/__init__.py'
# The page that upstream has a place for in its indices.
GUIDES = {
    f'docs/{language}/advanced_guides/customize_logging.md':
    f'docs/{language}/customize_logging.md'
    for language in ('en', 'zh_cn')
}
CHANGELOGS = tuple(f'docs/{language}/notes/changelog.md'
                   for language in ('en', 'zh_cn'))
# The branch that pull requests to MMPose go to; a fork may not have it.
BASES = ('dev-1.x', 'main')
# The linters that MMPose's guide to contributions names.
NAMED_LINTERS = ('flake8', 'isort', 'yapf', 'docformatter', 'codespell',
                 'mdformat')

# name: of the branch. commit: it. counts: files, library and tests, in lines.
# ran, missing: linters. tests: what pytest said. text: of the pull request.
Made = namedtuple('Made', 'name commit counts ran missing tests text')


class PatchError(Exception):
    """Something the user can put right; the message is one line."""


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
            made = Series(clone, tree, prefix, branches, modules).make(test)
        finally:
            git(clone, 'worktree', 'remove', '--force', tree)
    texts = Path(git(clone, 'rev-parse', '--absolute-git-dir')) / prefix
    is_new = add_branches(clone, made, start, prefix)
    texts.mkdir(exist_ok=True)
    for branch in made:
        file = texts / f'{branch.name.rpartition("/")[2]}.md'
        file.write_text(branch.text + '\n', 'utf-8')
    if not is_new:
        return f'the branches of {clone} are there and up to date', made
    return (f'made {len(made)} branches of {clone} on {base}; push them with '
            f'`git push FORK {prefix}/NAME`, the first one first. Their texts '
            f'are in {texts}'), made


class Series:
    """Make the commits of a series in a work tree.

    Args:
        clone (Path): The clone of MMPose.
        tree (Path): A work tree of it, at the base.
        prefix (str): What the branches' names begin with.
        branches (list[Branch]): What each branch adds.
        modules (Modules): The modules of the library.
    """

    def __init__(self, clone, tree, prefix, branches, modules):
        self.tree = tree
        self.modules = modules
        self.branches = branches
        self.template = read(tree, TEMPLATE)
        self.names = [
            f'{prefix}/{i}-{name}'
            for i, name in enumerate(map(short_name, branches), 1)
        ]
        self.in_base = set(
            git(clone, 'ls-tree', '-r', '--name-only', '-z',
                git(tree, 'rev-parse', 'HEAD')).split('\0'))

    def make(self, test):
        """Make all commits.

        Args:
            test (bool): Run the tests.

        Returns:
            list[Made]: The branches.
        """
        made, have = [], set()
        loaded = checks.imported_modules(self.tree)
        for i, branch in enumerate(self.branches):
            have.update(branch.library)
            replaced = self._write(branch, have)
            git(self.tree, 'add', '--all')
            changed = git(self.tree, 'diff', '--cached', '--name-only', '-z',
                          '--diff-filter=d').split('\0')
            ran, missing = self._check(self.names[i], changed)
            before, loaded = loaded, checks.imported_modules(self.tree)
            tests = self._test(branch) if test else ''
            counts = self._count(branch, changed)
            commit = make_commit(self.tree, subject_of(branch),
                                 branch.stage.why)
            text = self._text(i, counts, replaced, (before, loaded),
                              (ran, missing, tests), changed)
            made.append(
                Made(self.names[i], commit, counts, ran, missing, tests, text))
        return made

    def _write(self, branch, have):
        """Put what a branch adds into the work tree."""
        replaced = []
        for path in [*branch.library, *branch.tests, *branch.others]:
            data = (ROOT / path).read_bytes()
            place = self.tree / path
            if place.exists() and place.read_bytes() != data:
                if path not in self.modules.texts:
                    raise PatchError(f'MMPose has another {path} already')
                replaced.append(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        package = documents.exports_for(self.modules.texts[PACKAGE], have)
        (self.tree / PACKAGE).write_bytes(package.encode('utf-8'))
        if branch.tests:
            edit(self.tree, REQUIREMENTS, documents.add_requirement)
        for place, source in GUIDES.items():
            guide = documents.guide_for((ROOT / source).read_text('utf-8'),
                                        have, self.modules)
            (self.tree / place).write_bytes(guide.encode('utf-8'))
        if HOOK_FILE in branch.library:
            edit(self.tree, EXPORTS, add_export)
        if branch.part == branch.parts:
            for place, entry in zip(CHANGELOGS, branch.stage.changes):
                edit(self.tree, place,
                     lambda text: documents.add_change(text, entry))
        return replaced

    def _check(self, name, changed):
        """Run the linters on the files that a branch changes."""
        errors = checks.too_new(self.tree, changed)
        ran, missing, objections = checks.lint(self.tree, changed)
        if errors or objections:
            said = ' '.join('; '.join(errors + objections).split())
            raise PatchError(f'{name} is not clean: {said}')
        return ran, missing

    def _test(self, branch):
        """Run the tests of a branch and MMPose's own of its hooks."""
        files = [path for path in branch.tests if '/test_' in path]
        files = [path for path in files if path.split('/')[-1][:5] == 'test_']
        passed, said = checks.run_tests(self.tree, files)
        if not passed:
            raise PatchError(f'tests of {short_name(branch)} fail: '
                             f'{" ".join(said.split())}')
        return said.splitlines()[-1].strip('= ')

    def _count(self, branch, changed):
        sizes = {
            path: len((self.tree / path).read_text('utf-8').splitlines())
            for path in (*branch.library, *branch.tests)
        }
        return dict(
            files=len(changed),
            library=sum(sizes[path] for path in branch.library),
            tests=sum(sizes[path] for path in branch.tests))

    def _text(self, i, counts, replaced, loaded, tried, changed):
        """Write the text of a pull request."""
        branch = self.branches[i]
        ran, missing, tests = tried
        before = f', on top of `{self.names[i - 1]}`' if i else ''
        series = f'Branch {i + 1} of {len(self.branches)}{before}.'
        sections = {
            'Motivation':
            branch.stage.why,
            'Modification':
            cover.modification(branch, self.modules, counts, series, replaced)
            + '\n\n' + cover.vouched(ran, missing, tests),
            'BC-breaking':
            cover.breaking(*loaded, replaced),
        }
        if branch.part == branch.parts:
            sections['Use cases'] = branch.stage.use
        ticked = []
        if set(NAMED_LINTERS) <= set(ran):
            ticked.append('lint')
        if branch.tests:
            ticked.append('New functionalities')
        if set(changed) & {*GUIDES, *CHANGELOGS}:
            ticked.append('documentation')
        return cover.fill_template(self.template, sections, ticked)


def short_name(branch):
    """Name a branch.

    Args:
        branch (Branch): The branch.

    Returns:
        str: The name of its stage, with its part if there are several.
    """
    part = f'-{branch.part}' if branch.parts > 1 else ''
    return branch.stage.name + part


def subject_of(branch):
    """Write the subject of a commit.

    Args:
        branch (Branch): The branch.

    Returns:
        str: That of its stage, with its part if there are several.
    """
    part = f' ({branch.part}/{branch.parts})' if branch.parts > 1 else ''
    return branch.stage.subject + part


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


if __name__ == '__main__':
    main()
