# Copyright (c) OpenMMLab. All rights reserved.
"""The commits of a series, made in a work tree of MMPose."""
from collections import namedtuple
from pathlib import Path

from . import checks, cover, documents
from .git import PatchError, edit, git, make_commit, read
from .imports import HOOK_FILE, PACKAGE

ROOT = Path(__file__).resolve().parents[2]
EXPORTS = 'mmpose/engine/hooks/__init__.py'
TEMPLATE = '.github/pull_request_template.md'
REQUIREMENTS = 'requirements/tests.txt'
# MMPose's own.
HOOK_TESTS = 'tests/test_engine/test_hooks/test_*.py'
# The page that upstream has a place for in its indices.
GUIDES = {
    f'docs/{language}/advanced_guides/customize_logging.md':
    f'docs/{language}/customize_logging.md'
    for language in ('en', 'zh_cn')
}
CHANGELOGS = tuple(f'docs/{language}/notes/changelog.md'
                   for language in ('en', 'zh_cn'))
# The linters that MMPose's guide to contributions names.
NAMED_LINTERS = ('flake8', 'isort', 'yapf', 'docformatter', 'codespell',
                 'mdformat')

# name: of the branch. commit: it. counts: files, library and tests, in lines.
# ran, missing: linters. tests: what pytest said. text: of the pull request.
Made = namedtuple('Made', 'name commit counts ran missing tests text')


class Series:
    """Make the commits of a series in a work tree.

    Args:
        tree (Path): The work tree, at the base.
        prefix (str): What the branches' names begin with.
        branches (list[Branch]): What each branch adds.
        modules (Modules): The modules of the library.
    """

    def __init__(self, tree, prefix, branches, modules):
        self.tree = tree
        self.modules = modules
        self.branches = branches
        self.template = read(tree, TEMPLATE)
        self.is_exported = False
        self.hook_tests = git(tree, 'ls-files', HOOK_TESTS).splitlines()
        self.names = [
            f'{prefix}/{i}-{name}'
            for i, name in enumerate(map(short_name, branches), 1)
        ]

    def make(self, test):
        """Make all commits.

        Args:
            test (bool): Run the tests.

        Returns:
            list[Made]: The branches.
        """
        made, have, unclean = [], set(), []
        before = checks.imported_modules(self.tree)
        for i, branch in enumerate(self.branches):
            have.update(branch.library)
            replaced = self._write(branch, have)
            git(self.tree, 'add', '--all')
            changed = git(self.tree, 'diff', '--cached', '--name-only', '-z',
                          '--diff-filter=d').strip('\0').split('\0')
            ran, missing, objections = self._check(changed)
            unclean += [f'{self.names[i]}: {said}' for said in objections]
            loaded = ()
            if HOOK_FILE in branch.library:
                loaded = before, checks.imported_modules(self.tree)
            tests = self._test(branch) if test else ''
            counts = self._count(branch, changed)
            commit = make_commit(self.tree, subject_of(branch),
                                 branch.stage.why)
            text = self._text(i, counts, replaced, loaded,
                              (ran, missing, tests), changed)
            self.is_exported |= HOOK_FILE in branch.library
            made.append(
                Made(self.names[i], commit, counts, ran, missing, tests, text))
        if unclean:
            raise PatchError(f'not clean: {" ".join(unclean)}')
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
        if PACKAGE in have:
            package = documents.exports_for(self.modules.texts[PACKAGE], have)
            (self.tree / PACKAGE).write_bytes(package.encode('utf-8'))
        if branch.tests:
            edit(self.tree, REQUIREMENTS, documents.add_requirement)
        for place, source in GUIDES.items():
            guide = documents.guide_for((ROOT / source).read_text('utf-8'),
                                        have, self.modules)
            (self.tree / place).write_bytes(guide.encode('utf-8'))
        if HOOK_FILE in branch.library:
            edit(self.tree, EXPORTS, documents.add_export)
        if branch.part == branch.parts:
            for place, entry in zip(CHANGELOGS, branch.stage.changes):
                edit(self.tree, place,
                     lambda text: documents.add_change(text, entry))
        return replaced

    def _check(self, changed):
        """Run the linters on the files that a branch changes."""
        ran, missing, objections = checks.lint(self.tree, changed)
        objections += checks.too_new(self.tree, changed)
        return ran, missing, [' '.join(said.split()) for said in objections]

    def _test(self, branch):
        """Run the tests of a branch and MMPose's own of its hooks."""
        files = [
            path for path in branch.tests
            if path.rpartition('/')[2].startswith('test_')
        ]
        # A hook that is exported must not break the others.
        files += [path for path in self.hook_tests if path not in files]
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
        series = f'Pull request {i + 1} of {len(self.branches)}{before}.'
        sections = {
            'Motivation':
            branch.stage.why,
            'Modification':
            cover.modification(branch, self.modules, counts, series, changed,
                               replaced) + '\n\n' +
            cover.vouched(ran, missing, tests, bool(branch.tests)),
            'BC-breaking':
            cover.breaking(loaded, self.is_exported, replaced),
        }
        if branch.stage.use and branch.part == branch.parts:
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
