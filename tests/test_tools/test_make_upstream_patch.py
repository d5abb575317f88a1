# Copyright (c) OpenMMLab. All rights reserved.
import re
import subprocess
import sys
from pathlib import Path

import make_upstream_patch
import pytest
from make_upstream_patch import STAGES, make_series
from upstream_series import checks, cover
from upstream_series.cut import LIMIT, TESTS, cut, lines_of
from upstream_series.documents import (MARK, add_change, add_requirement,
                                       blocks, exports_for, guide_for)
from upstream_series.git import PatchError
from upstream_series.imports import (HOOK, HOOK_FILE, HOUSE, PACKAGE, Modules,
                                     place_of)
from upstream_series.series import (CHANGELOGS, EXPORTS, GUIDES, REQUIREMENTS,
                                    TEMPLATE)

ROOT = Path(__file__).resolve().parents[2]
PREFIX = 'enhanced-tensorboard'

# What the tool needs of MMPose: the same places, with little in them.
FILES = {
    EXPORTS:
    '# Copyright (c) OpenMMLab. All rights reserved.\n'
    'from .badcase_hook import BadCaseAnalysisHook\n'
    'from .visualization_hook import PoseVisualizationHook\n\n'
    "__all__ = ['PoseVisualizationHook', 'BadCaseAnalysisHook']\n",
    TEMPLATE:
    '<!-- Thanks. -->\n\n## Motivation\n\n<!-- Please\ndescribe. -->\n\n'
    '## Modification\n\n<!-- What. -->\n\n## BC-breaking (Optional)\n\n'
    '## Checklist\n\n- [ ] I have read CONTRIBUTING.md.\n'
    '- [ ] Linting tools are used.\n'
    '- [ ] New functionalities are covered by complete unit tests.\n',
    REQUIREMENTS:
    'flake8\npytest\nxdoctest>=0.10.0\n',
    'docs/en/notes/changelog.md':
    '# Changelog\n\n## **v1.3.2 (12/07/2024)**\n\nOld.\n',
    'docs/zh_cn/notes/changelog.md':
    '# Changelog\n\n## **v1.3.1 (11/01/2024)**\n\n旧。\n',
    'tests/test_engine/test_hooks/test_badcase_hook.py':
    '# Of MMPose.\n',
    **{place: '# Customize Logging\n\nComing soon.\n'
       for place in GUIDES},
}


def git(folder, *args):
    return subprocess.run(['git', '-C', str(folder), *args],
                          stdout=subprocess.PIPE,
                          universal_newlines=True,
                          check=True).stdout.strip()


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A git repository that is to the tool what MMPose is."""
    return make_clone(tmp_path, monkeypatch)


def make_clone(tmp_path, monkeypatch):
    for who in ('AUTHOR', 'COMMITTER'):
        monkeypatch.setenv(f'GIT_{who}_NAME', 'Jane')
        monkeypatch.setenv(f'GIT_{who}_EMAIL', 'jane@example.org')
    folder = tmp_path / 'MM 포즈'
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode('utf-8'))
    git(tmp_path, 'init', '--quiet', str(folder))
    git(folder, 'checkout', '--quiet', '-b', 'main')
    git(folder, 'add', '--all')
    git(folder, 'commit', '--quiet', '-m', 'MMPose')
    return folder


def state_of(clone):
    """All that a user sees of a clone."""
    files = {
        path: path.read_bytes()
        for path in clone.rglob('*')
        if path.is_file() and '.git' not in path.relative_to(clone).parts
    }
    return (files, git(clone, 'status', '--porcelain', '--branch'),
            git(clone, 'branch', '--list'), git(clone, 'worktree', 'list'))


@pytest.fixture(scope='module')
def series():
    """The branches that this checkout makes, and its modules."""
    return cut(ROOT, STAGES)


@pytest.fixture(scope='module')
def whole(tmp_path_factory, series):
    """A clone with all branches, what was said of them, and the branches."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        be_quick(monkeypatch, series)
        clone = make_clone(tmp_path_factory.mktemp('whole'), monkeypatch)
        return (clone, *make_series(clone))


@pytest.fixture(autouse=True)
def quick(monkeypatch, series):
    """As far as the branch with the hook."""
    branches, modules = series
    until, = [
        i for i, branch in enumerate(branches) if HOOK_FILE in branch.library
    ]
    be_quick(monkeypatch, (branches[:until + 1], modules))


def be_quick(monkeypatch, series):
    """Cut once, and neither lint nor import, which have tests of their own."""
    monkeypatch.setattr(make_upstream_patch, 'cut', lambda *args: series)
    monkeypatch.setattr(checks, 'lint', lambda tree, paths: ([], [], []))
    monkeypatch.setattr(checks, 'imported_modules', lambda tree: None)


def names_in(clone):
    listed = git(clone, 'branch', '--list', f'{PREFIX}/*',
                 '--format=%(refname:short)').splitlines()
    return sorted(listed, key=lambda name: int(re.findall(r'\d+', name)[0]))


def files_of(clone, commit):
    return set(
        git(clone, '-c', 'core.quotepath=off', 'ls-tree', '-r', '--name-only',
            commit).splitlines())


# The cut


def test_every_file_is_in_one_branch(series):
    branches, modules = series
    library = [path for branch in branches for path in branch.library]
    assert sorted(library) == sorted(modules.texts)
    tests = [path for branch in branches for path in branch.tests]
    there = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / TESTS).rglob('*.py')
    }
    # They need a tool of this repository, which MMPose does not have.
    staying = {
        f'{TESTS}/test_hooks/{name}.py'
        for name in ('test_contract', 'test_documented_tags')
    }
    assert sorted(tests) == sorted(there - staying)
    assert 'configs/_base_/enhanced_tensorboard/fast.py' in [
        path for branch in branches for path in branch.others
    ]


def test_no_branch_is_too_large_to_be_reviewed(series):
    (docs, *branches), modules = series
    assert docs.library == docs.tests == []
    for branch in branches:
        assert 0 < lines_of(branch.library, modules) <= LIMIT
        assert branch.tests, branch.stage.name
    assert LIMIT == 2000


def test_no_branch_needs_a_later_one(series):
    branches, modules = series
    have = set()
    for branch in branches:
        have.update(branch.library)
        for path in branch.library:
            assert modules.needs[path] <= have, path


def test_the_order_of_the_stages(series):
    branches, _ = series
    names = [branch.stage.name for branch in branches]
    assert list(dict.fromkeys(names)) == [
        stage.name for stage in STAGES if stage.name in names
    ]
    at = {
        path: branch.stage.name
        for branch in branches for path in branch.library
    }
    for module, stage in [('optimization/gradients', 'core'),
                          ('run/metrics', 'core'),
                          ('poses/train_images', 'pictures'),
                          ('poses/keypoints', 'keypoints'),
                          ('poses/pose_codec', 'codec'),
                          ('poses/codec/round_trip', 'codec'),
                          ('poses/diagnosis/group_accuracy', 'diagnosis'),
                          ('run/hparams', 'run'), ('health/health', 'health'),
                          ('poses/lifting', 'lifting')]:
        assert at[f'{HOUSE}/{module}.py'] == stage
    assert at[HOOK_FILE] == 'core'


MINIATURE = {
    HOOK_FILE:
    'from ..monitors.core.base import Base\n' * 3,
    f'{HOUSE}/__init__.py':
    '',
    f'{HOUSE}/core/__init__.py':
    '',
    f'{HOUSE}/core/base.py':
    'from ..writers.record import Record\n'
    'try:\n    from ..writers.background import Background\n'
    'except ImportError:\n    pass\n',
    f'{HOUSE}/writers/__init__.py':
    '',
    f'{HOUSE}/writers/record.py':
    '# 1\n# 2\n# 3\n',
    f'{HOUSE}/writers/background.py':
    'from .record import Record\n',
    f'{HOUSE}/optimization/__init__.py':
    '',
    f'{HOUSE}/optimization/gradients.py':
    'from ..core.base import Base\n@MONITORS.register_module()\nclass G:\n'
    '    switches = (flag("log_grads", ""), )\n',
    f'{HOUSE}/poses/__init__.py':
    '',
    f'{HOUSE}/poses/arguments.py':
    'LOG = flag("log_poses", "")\n',
    f'{HOUSE}/poses/drawing.py':
    '',
    f'{HOUSE}/poses/lifting.py':
    'from .arguments import LOG\nfrom .drawing import x\n'
    '@MONITORS.register_module()\nclass L:\n'
    '    """L.\n\n    ========\n    ``val/skeletons/<i>``  A skeleton\n'
    '    """\n',
    f'{HOUSE}/poses/new.py':
    'def f():\n    from .drawing import x\n',
    f'{HOUSE}/poses/diagnosis/why.py':
    '',
    f'{TESTS}/conftest.py':
    f"def train():\n    return dict(type='{HOOK}')\n",
    f'{TESTS}/test_monitors/test_core.py':
    'from mmpose.engine.monitors.core import base\n',
    f'{TESTS}/test_monitors/drawn.py':
    'from mmpose.engine.monitors.poses import drawing\n',
    f'{TESTS}/test_monitors/test_drawn.py':
    'from drawn import x\n',
    f'{TESTS}/test_monitors/test_a.py':
    'def test(train):\n    train(dict(log_grads=1))\n',
    f'{TESTS}/test_monitors/test_b.py':
    "def test():\n    assert 'val/skeletons/0'\n",
    f'{TESTS}/test_monitors/test_d.py':
    'from test_drawn import x\n',
    f'{TESTS}/test_monitors/test_c.py':
    'def test(train):\n    train(dict(log_poses=False))\n',
}


@pytest.fixture
def miniature(tmp_path):
    for name, text in MINIATURE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def stage(name, *claims):
    return STAGES[0]._replace(name=name, claims=claims)


def test_the_cut_follows_the_imports(miniature):
    branches, modules = cut(miniature, [
        stage('core', 'hook', 'optimization/gradients'),
        stage('poses', 'poses/'),
        stage('background', 'writers/', 'core/'),
        stage('lifting', 'poses/lifting'),
        stage('diagnosis', 'poses/diagnosis/')
    ])
    library = {
        branch.stage.name: {
            path[len(HOUSE) + 1:]
            for path in branch.library if path != HOOK_FILE
        }
        for branch in branches
    }
    inits = {'__init__.py', 'core/__init__.py', 'writers/__init__.py'}
    assert library['core'] == inits | {
        'core/base.py', 'writers/record.py', 'optimization/__init__.py',
        'optimization/gradients.py'
    }
    # A new module is found without being named, and brings what it imports,
    # in a function too.
    assert library['poses'] == {
        'poses/__init__.py', 'poses/new.py', 'poses/drawing.py'
    }
    # What may be missing is not needed.
    assert library['background'] == {'writers/background.py'}
    assert library['lifting'] == {'poses/arguments.py', 'poses/lifting.py'}
    # The innermost folder that is claimed decides.
    assert library['diagnosis'] == {'poses/diagnosis/why.py'}
    tests = {
        branch.stage.name: [path.rpartition('/')[2] for path in branch.tests]
        for branch in branches
    }
    assert tests == {
        # A switch that is off may be absent.
        'core': ['conftest.py', 'test_a.py', 'test_c.py', 'test_core.py'],
        'poses': ['drawn.py', 'test_d.py', 'test_drawn.py'],
        'background': [],
        'lifting': ['test_b.py'],
        'diagnosis': []
    }
    assert modules.arguments['log_poses'] == {f'{HOUSE}/poses/lifting.py'}


def test_a_stage_that_is_too_large_is_split(miniature):
    stages = [
        stage('core', 'hook', 'optimization/gradients'),
        stage('rest', 'poses/', 'writers/', 'core/')
    ]
    branches, modules = cut(miniature, stages, limit=9)
    parts = [(b.stage.name, b.part, b.parts) for b in branches]
    assert parts[:2] == [('core', 1, 2), ('core', 2, 2)]
    have = set()
    for branch in branches:
        have.update(branch.library)
        assert lines_of(branch.library, modules) <= 9
        assert all(modules.needs[path] <= have for path in branch.library)


@pytest.mark.parametrize('change, words', [
    (lambda stages, root: stages.pop(),
     f'no stage claims {HOUSE}/core/base.py; no stage claims '
     f'{HOUSE}/writers/background.py.*upstream_series/stages.py'),
    (lambda stages, root: stages.append(stage('gone', 'poses/renamed')),
     f'there is no {HOUSE}/poses/renamed.py, which a stage claims'),
    (lambda stages, root: (root / HOUSE / 'new.py').write_text(''),
     f'no stage claims {HOUSE}/new.py'),
    (lambda stages, root: [
        (root / HOUSE / f'poses/{a}.py').write_text(f'from . import {b}\n')
        for a, b in ('xy', 'yx')
    ], f'nothing imports {HOUSE}/poses/x.py, {HOUSE}/poses/y.py'),
])
def test_a_module_without_a_stage_is_named(miniature, change, words):
    stages = [
        stage('core', 'hook', 'optimization/'),
        stage('poses', 'poses/'),
        stage('rest', 'writers/', 'core/')
    ]
    cut(miniature, stages)
    change(stages, miniature)
    with pytest.raises(PatchError, match=words):
        cut(miniature, stages)


# The branches


def test_a_series_of_stacked_branches(whole, series):
    clone, said, made = whole
    branches, modules = series
    assert said.startswith(f'made {len(branches)} branches')
    names = [f'{PREFIX}/{i}-' for i in range(1, len(branches) + 1)]
    assert all(b.name.startswith(n) for b, n in zip(made, names))
    assert names_in(clone) == [branch.name for branch in made]
    parent, have = 'main', set()
    for branch, expected in zip(made, branches):
        assert git(clone, 'rev-parse',
                   f'{branch.name}~1') == git(clone, 'rev-parse', parent)
        changed = set(
            git(clone, '-c', 'core.quotepath=off', 'diff', '--name-only',
                parent, branch.name).splitlines())
        have.update(expected.library)
        assert changed >= {*expected.library, *expected.tests} - {PACKAGE}
        assert branch.counts['files'] == len(changed)
        assert branch.counts['library'] <= LIMIT
        there = files_of(clone, branch.name)
        assert {path
                for path in there
                if path.startswith(HOUSE)} == have - {HOOK_FILE}
        parent = branch.name
    for path in set(modules.texts) - {PACKAGE}:
        blob = git(clone, 'rev-parse', f'{parent}:{path}')
        assert blob == git(ROOT, 'hash-object', '--no-filters', path)
    exports = git(clone, 'show', f'{parent}:{EXPORTS}')
    assert f'from .enhanced_tensorboard_hook import {HOOK}\n' in exports
    assert f"'{HOOK}'" in exports.split('__all__')[1]
    subject, empty, *why = git(clone, 'show', '-s', '--format=%B',
                               names_in(clone)[1]).splitlines()
    assert HOOK in subject and not empty and why
    assert max(map(len, why)) <= 72


def test_a_branch_names_what_it_has(whole, series):
    clone, *_ = whole
    branches, modules = series
    have = set()
    for name, branch in zip(names_in(clone), branches):
        have.update(branch.library)
        package = git(clone, 'show',
                      f'{name}:{PACKAGE}') if PACKAGE in have else ''
        for module in re.findall(r"^    '([\w.]+)':", package, re.M):
            assert f'{HOUSE}/{module.replace(".", "/")}.py' in have
        for place in GUIDES:
            guide = git(clone, 'show', f'{name}:{place}')
            assert 'Coming soon' not in guide and '<!--' not in guide
            assert 'LoggerHook' in guide
            assert (HOOK in guide) == (HOOK_FILE in have)
            for names in (modules.tags, modules.arguments):
                for code in re.findall('`([^`\n]+)`', guide):
                    assert code not in names or have & names[code], code
    for place, source in GUIDES.items():
        text = (ROOT / source).read_text('utf-8')
        whole = re.sub('<!-- with .* -->\n\n', '', text).strip()
        assert git(clone, 'show', f'{name}:{place}') == whole


def test_the_texts_of_the_pull_requests(whole):
    clone, _, made = whole
    folder = clone / '.git' / PREFIX
    for i, branch in enumerate(made):
        text = (folder / f'{branch.name[len(PREFIX) + 1:]}.md').read_text()
        assert text == branch.text + '\n'
        assert text.startswith('## Motivation\n')
        assert f'Pull request {i + 1} of {len(made)}' in text
        has_code = branch.counts['library'] > 0
        lines = f'{branch.counts["library"]:,} lines of library'
        assert (lines in text) == ('- [x] New func' in text) == has_code
        # Nothing was measured here, and no linter run.
        assert 'modules more than' not in text
        assert ('were not run' in text) == has_code
        assert '- [ ] Linting tools' in text
        assert 'BC-breaking' in text and 'None' not in text


def test_what_is_checked_out_is_left_alone(clone):
    (clone / EXPORTS).write_text('# in the middle of something\n')
    (clone / 'new.txt').write_text('not committed')
    git(clone, 'add', 'new.txt')
    files, status, _, worktrees = state_of(clone)
    make_series(clone)
    after = state_of(clone)
    assert (after[0], after[1], after[3]) == (files, status, worktrees)


def test_called_again_it_does_nothing(clone):
    make_series(clone)
    before = state_of(clone), git(clone, 'rev-parse', *names_in(clone))
    said, made = make_series(clone)
    assert said.endswith('are there and up to date') and made
    assert (state_of(clone), git(clone, 'rev-parse',
                                 *names_in(clone))) == before


def test_the_base_is_what_upstream_says(clone):
    git(clone, 'checkout', '--quiet', '-b', 'dev-1.x')
    git(clone, 'commit', '--quiet', '--allow-empty', '-m', 'newer')
    git(clone, 'checkout', '--quiet', 'main')
    make_series(clone)
    make_series(clone, 'main', 'other')
    subjects = [
        git(clone, 'show', '-s', '--format=%s', f'{prefix}~1')
        for prefix in (names_in(clone)[0],
                       names_in(clone)[0].replace(PREFIX, 'other'))
    ]
    assert subjects == ['newer', 'MMPose']


def test_a_base_that_only_the_remote_has(clone, tmp_path):
    git(clone, 'branch', 'dev-1.x')
    mine = tmp_path / 'mine'
    git(tmp_path, 'clone', '--quiet', '-b', 'main', str(clone), str(mine))
    said, _ = make_series(mine)
    assert names_in(mine) and 'on dev-1.x' in said


def test_a_fork_with_the_original_hook(clone):
    (clone / HOOK_FILE).write_text('# The original one.\n')
    git(clone, 'add', '--all')
    git(clone, 'commit', '--quiet', '-m', 'fork')
    _, made = make_series(clone)
    replacing = [b for b in made if 'It replaces' in b.text]
    assert len(replacing) == 1
    assert f'`{HOOK_FILE}` of this repository is replaced' in (
        replacing[0].text)
    assert f'class {HOOK}' in git(clone, 'show',
                                  f'{made[-1].name}:{HOOK_FILE}')


@pytest.mark.parametrize('make, words', [
    (lambda c: c.rename(c.parent / 'away'), 'there is no folder'),
    (lambda c: (c / '.git').rename(c / 'no git'), 'is not a git clone'),
    (lambda c: git(c, 'branch', f'{PREFIX}/9-mine'),
     'something else in them.*branch -D'),
    (lambda c: git(c, 'branch', '-m', 'other'), 'no branch main.*--base'),
    (lambda c: git(c, 'rm', '--quiet', EXPORTS), 'is not MMPose 1.x'),
    (lambda c: (c / TESTS / 'conftest.py').write_text('# Of MMPose.\n'),
     'has another tests/test_engine/conftest.py'),
    (lambda c: (c / EXPORTS).write_text('def broken(:\n'), 'cannot be edited'),
])
def test_what_is_wrong_is_said_and_nothing_is_left(clone, make, words):
    make(clone)
    if clone.exists() and (clone / '.git').exists():
        if git(clone, 'status', '--porcelain'):
            git(clone, 'add', '--all')
            git(clone, 'commit', '--quiet', '-m', 'changed')
        before = state_of(clone)
    else:
        before = None
    with pytest.raises(PatchError, match=words) as error:
        make_series(clone)
    assert '\n' not in str(error.value)
    if before:
        assert state_of(clone) == before


def test_a_folder_of_a_clone_and_this_repository_are_refused(clone):
    with pytest.raises(PatchError, match='is not a clone but a folder of'):
        make_series(clone / 'docs')


def test_nobody_to_commit_as(clone, monkeypatch, tmp_path):
    for who in ('AUTHOR', 'COMMITTER'):
        monkeypatch.delenv(f'GIT_{who}_NAME')
        monkeypatch.delenv(f'GIT_{who}_EMAIL')
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path))
    monkeypatch.setenv('GIT_CONFIG_NOSYSTEM', '1')
    git(clone, 'config', 'user.useConfigOnly', 'true')
    before = state_of(clone)
    with pytest.raises(PatchError, match='git commit failed'):
        make_series(clone)
    assert state_of(clone) == before


def test_the_command(clone):
    result = subprocess.run([
        sys.executable,
        str(ROOT / 'tools' / 'make_upstream_patch.py'), '--mmpose',
        str(clone)
    ],
                            stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE,
                            universal_newlines=True)
    assert result.returncode == 0, result.stderr
    said, *lines = result.stdout.splitlines()
    assert said.startswith('made ')
    assert [line.split(':')[0] for line in lines] == names_in(clone)


# What is tried


def test_the_linters_of_the_clone_are_run(clone, monkeypatch):
    monkeypatch.undo()
    (clone / checks.SETTINGS).write_text(
        'repos:\n- hooks:\n  - id: flake8\n  - id: isort\n'
        '  - id: no-such-linter\n')
    (clone / 'a.py').write_text('import sys\nimport os\n')
    (clone / 'b.md').write_text('no Python\n')
    for who in ('AUTHOR', 'COMMITTER'):
        monkeypatch.setenv(f'GIT_{who}_NAME', 'Jane')
        monkeypatch.setenv(f'GIT_{who}_EMAIL', 'jane@example.org')
    git(clone, 'add', '--all')
    ran, missing, objections = checks.lint(clone, ['a.py', 'b.md'])
    assert ran == ['flake8', 'isort'] and missing == ['no-such-linter']
    assert [text.split(':')[0] for text in objections] == ['flake8', 'isort']
    assert 'F401' in objections[0] and 'b.md' not in objections[0]
    # What a linter has changed is not in the commit.
    assert (clone / 'a.py').read_text() == 'import sys\nimport os\n'
    (clone / 'a.py').write_text('x = 1\n')
    git(clone, 'add', '--all')
    assert checks.lint(clone, ['a.py'])[2] == []


def test_what_is_not_clean_is_not_made(clone, monkeypatch):
    monkeypatch.setattr(checks, 'lint', lambda *args:
                        (['yapf'], [], ['yapf: no']))
    before = state_of(clone)
    with pytest.raises(
            PatchError, match='not clean.*1-docs.*2-core.*yapf: no'):
        make_series(clone)
    assert state_of(clone) == before


def test_the_oldest_python(tmp_path):
    (tmp_path / 'a.py').write_text('if (x := 1):\n    pass\n')
    (tmp_path / 'b.py').write_text('x = 1\n')
    error, = checks.too_new(tmp_path, ['a.py', 'b.py', 'c.md'])
    assert error.startswith('a.py:1')


def test_what_importing_costs(tmp_path, monkeypatch):
    monkeypatch.undo()
    hooks = tmp_path / 'mmpose/engine/hooks'
    hooks.mkdir(parents=True)
    for folder in (hooks, *list(hooks.parents)[:2]):
        (folder / '__init__.py').write_text('')
    few = checks.imported_modules(tmp_path)
    (hooks / 'other.py').write_text('')
    (hooks / '__init__.py').write_text('from . import other\n')
    assert checks.imported_modules(tmp_path) == few + 1
    (hooks / '__init__.py').write_text('import no_such_module\n')
    assert checks.imported_modules(tmp_path) is None
    # Another MMPose, installed in this Python, is not counted.
    assert checks.imported_modules(tmp_path / 'mmpose') is None


def test_the_tests_of_a_branch_are_run(tmp_path):
    for name, result in (('x', 2), ('y', 3)):
        (tmp_path / f'test_{name}.py'
         ).write_text(f'def test_{name}():\n    assert 1 + 1 == {result}\n')
    passed, said = checks.run_tests(tmp_path, ['test_x.py'])
    assert passed and said.splitlines()[-1].startswith('1 passed')
    assert not checks.run_tests(tmp_path, ['test_y.py'])[0]


# The texts


def test_the_template_is_filled_in():
    body = cover.fill_template(FILES[TEMPLATE], {
        'Motivation': 'Why.',
        'BC-breaking': 'Little.',
        'Use cases': 'Many.'
    }, ['New functionalities'])
    assert '## Motivation\n\nWhy.' in body
    assert '## BC-breaking (Optional)\n\nLittle.' in body
    assert '- [ ] I have read' in body and '- [x] New func' in body
    # The miniature does not ask for it.
    assert '## Use cases\n\nMany.' in body
    assert body.index('## Motivation') < body.index('## Checklist')


def test_what_breaks_is_what_was_measured():
    said = cover.breaking((2107, 2126), False, [])
    assert 'loads 19 modules more' in said and 'replaces' not in said
    assert '458 modules fewer' in cover.breaking((2582, 2124), False, [])
    assert 'was not measured' in cover.breaking((None, 3), False, [])
    assert 'none of the new modules' in cover.breaking((), True, [])
    assert 'nothing of this yet' in cover.breaking((), False, [])
    assert 'replaces `a.py`' in cover.breaking((1, 1), False, ['a.py'])


def test_what_a_module_is_for():
    text = 'class A:\n    """Do a."""\n\n\nclass B:\n    """Do b."""\n'
    assert cover.summary('x/b.py', text) == 'Do b.'
    assert cover.summary('x/c.py', text) == 'Do a.'
    assert cover.summary('x/c.py', '"""All.\n\nMore."""\n' + text) == 'All.'
    assert cover.summary('x/c.py', '') == ''


GUIDE = f"""# Logging

`{HOOK}` logs.

## Pictures

Look at `val/skeletons/<i>`:

```python
log_poses=True
```

## All

| tag | what |
| --- | ---- |
| `val/skeletons/<i>` | Skeletons |
| `log_grads` | Gradients |

```python
x = dict(
    # Of gradients.
    log_grads=True,
    # Of poses.
    log_poses=True,
)
```

<!-- with writers/background -->

In a thread.

<!-- with hook -->

## Hook

It costs little.

### Its parts

Many.

## The end
"""


def test_a_guide_says_what_is_there(miniature):
    modules = Modules(miniature)
    few = modules.closure([HOOK_FILE, f'{HOUSE}/optimization/gradients.py'])
    text = guide_for(GUIDE, few, modules)
    assert '## Pictures' not in text and 'poses' not in text
    assert 'skeletons' not in text and 'thread' not in text
    assert '## All' in text and text.count('log_grads') == 2
    assert '    # Of gradients.\n    log_grads=True,\n)\n```' in text
    assert 'It costs little.' in text and 'Many.' in text
    text = guide_for(GUIDE, [], modules)
    assert 'costs' not in text and 'parts' not in text and 'Many' not in text
    whole = guide_for(GUIDE, list(modules.texts), modules)
    assert 'In a thread.' in whole and 'Many.' in whole
    assert '## Pictures' in whole and whole.count('log_poses') == 2


@pytest.mark.parametrize('source', GUIDES.values())
def test_the_marks_of_the_guides_name_modules(source):
    text = (ROOT / source).read_text('utf-8')
    marks = [MARK.match(block) for block in blocks(text)]
    for mark in filter(None, marks):
        assert (ROOT / place_of(mark.group(1))).is_file()
    assert any(marks)


def test_the_package_exports_what_is_there():
    text = ("_MODULES = {\n    'core.a': ('A', ),\n    'health.b':\n"
            "    ('B', ),\n}\nX = {'core.c': 1}\n")
    assert exports_for(text, [
        f'{HOUSE}/core/a.py', f'{HOUSE}/core/c.py'
    ]) == ("_MODULES = {\n    'core.a': ('A', ),\n}\nX = {'core.c': 1}\n")


def test_the_changelog():
    once = add_change('# Changelog\n\n## **v1**\n\nOld.\n', 'New')
    assert once == ('# Changelog\n\n## **Unreleased**\n\n'
                    '**New Features**\n\n- New\n\n## **v1**\n\nOld.\n')
    twice = add_change(once, 'Newer')
    assert twice == once.replace('- New\n', '- New\n- Newer\n')
    fixes = once.replace('## **v1', '**Bug Fixes**\n\n- Fix\n\n## **v1')
    assert add_change(fixes, 'Newer') == fixes.replace('- New\n',
                                                       '- New\n- Newer\n')
    others = once.replace('**New Features**\n\n- New\n\n', '- Mine\n\n')
    assert '- New\n\n- Mine\n\n## **v1' in add_change(others, 'New')
    assert len(CHANGELOGS) == len(STAGES[0].changes)


def test_the_requirements():
    assert add_requirement('pytest\nxdoctest\n') == (
        'pytest\ntensorboard\nxdoctest\n')
    assert add_requirement('tensorboard>=2\n') == 'tensorboard>=2\n'


@pytest.mark.parametrize('source', GUIDES.values())
def test_the_guides_name_what_there_is(source):
    """They are written by hand: tags and parameters are compared here."""
    from make_doc_tables import all_cells, documented_tags, registry
    guide = ROOT / source
    tags = [
        tag for cells in all_cells(guide, 1)
        for tag in re.findall('`([^`/]+/[^`]+)`', cells[0])
    ]
    assert len(tags) > 10
    assert not set(tags) - set(documented_tags())
    arguments = {argument.name for argument in registry().hook_arguments()}
    allowed = {*arguments, 'type', 'max_bytes'}
    text = guide.read_text(encoding='utf-8')
    named = set(re.findall(r'`((?:log|max)_\w+|hard_samples)', text))
    named |= set(re.findall(r'^ *(\w+(?:interval|budget|quota))=', text, re.M))
    assert len(named) > 10 and not named - allowed


def test_the_guides_have_the_same_parts():
    shapes = [
        re.findall('^(#+ |```.*|\\|)',
                   (ROOT / source).read_text(encoding='utf-8'), re.M)
        for source in GUIDES.values()
    ]
    assert shapes[0] == shapes[1]
