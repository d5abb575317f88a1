# Copyright (c) OpenMMLab. All rights reserved.
import re
import subprocess
import sys
from pathlib import Path

import pytest
from make_upstream_patch import (EXPORTS, GUIDES, HOOK, REQUIREMENTS, STAYS,
                                 TEMPLATE, PatchError, add_change,
                                 add_requirement, fill_template, make_branch,
                                 travelling_files)

ROOT = Path(__file__).resolve().parents[2]
BRANCH = 'enhanced-tensorboard-hook'

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


def test_one_commit_with_all_that_travels(clone):
    said, body = make_branch(clone, 'main', BRANCH)
    assert said.startswith(f'made branch {BRANCH}')
    assert git(clone, 'rev-parse',
               f'{BRANCH}~1') == git(clone, 'rev-parse', 'main')
    subject, empty, *why = git(clone, 'show', '-s', '--format=%B',
                               BRANCH).splitlines()
    assert HOOK in subject and not empty and why
    assert max(map(len, why)) <= 72
    changed = set(
        git(clone, '-c', 'core.quotepath=off', 'diff', '--name-only', 'main',
            BRANCH).splitlines())
    assert changed == {
        *travelling_files(), *GUIDES, EXPORTS, REQUIREMENTS,
        'docs/en/notes/changelog.md', 'docs/zh_cn/notes/changelog.md'
    }
    for name in travelling_files():
        blob = git(clone, 'rev-parse', f'{BRANCH}:{name}')
        assert blob == git(ROOT, 'hash-object', '--no-filters', name)
    exports = git(clone, 'show', f'{BRANCH}:{EXPORTS}')
    assert f'from .enhanced_tensorboard_hook import {HOOK}\n' in exports
    assert f"'{HOOK}'" in exports.split('__all__')[1]
    guide = git(clone, 'show',
                f'{BRANCH}:docs/zh_cn/advanced_guides/customize_logging.md')
    assert guide.startswith('# 自定义日志') and HOOK in guide
    assert HOOK in body


def test_what_travels():
    names = travelling_files()
    for name in ('mmpose/engine/hooks/enhanced_tensorboard_hook.py',
                 'mmpose/engine/monitors/optimization/gradients.py',
                 'configs/_base_/enhanced_tensorboard/fast.py',
                 'tests/test_engine/conftest.py',
                 'tests/test_engine/test_monitors/noisy_poses.py'):
        assert name in names
    assert not [n for n in names if n.startswith('tests/test_tools')]
    assert not set(names) & set(STAYS)
    assert all((ROOT / name).is_file() for name in STAYS)


def test_nothing_that_travels_needs_what_stays():
    stays = {path.stem for path in (ROOT / 'tools').rglob('*.py')}
    stays -= {Path(name).stem for name in travelling_files()}
    for name in travelling_files():
        text = (ROOT / name).read_text(encoding='utf-8')
        used = set(re.findall(r'^\s*(?:from|import) (\w+)', text, re.M))
        used |= set(re.findall(r'tools/(?:\w+/)?(\w+)\.py', text))
        # Which is a name in a test, too: MMPose has one of its own.
        assert not used & stays - {'train'}, name


def test_what_is_checked_out_is_left_alone(clone):
    (clone / EXPORTS).write_text('# in the middle of something\n')
    (clone / 'new.txt').write_text('not committed')
    git(clone, 'add', 'new.txt')
    files, status, _, worktrees = state_of(clone)
    make_branch(clone, 'main', BRANCH)
    after = state_of(clone)
    assert (after[0], after[1], after[3]) == (files, status, worktrees)


def test_called_again_it_does_nothing(clone):
    make_branch(clone, 'main', BRANCH)
    before = state_of(clone), git(clone, 'rev-parse', BRANCH)
    said, body = make_branch(clone, 'main', BRANCH)
    assert said.endswith('is there and up to date') and body
    assert (state_of(clone), git(clone, 'rev-parse', BRANCH)) == before


def test_another_base(clone):
    git(clone, 'checkout', '--quiet', '-b', 'dev-1.x')
    git(clone, 'commit', '--quiet', '--allow-empty', '-m', 'newer')
    git(clone, 'checkout', '--quiet', 'main')
    make_branch(clone, 'dev-1.x', BRANCH)
    assert git(clone, 'show', '-s', '--format=%s', f'{BRANCH}~1') == 'newer'


def test_a_base_that_only_the_remote_has(clone, tmp_path):
    git(clone, 'branch', 'dev-1.x')
    mine = tmp_path / 'mine'
    git(tmp_path, 'clone', '--quiet', '-b', 'main', str(clone), str(mine))
    make_branch(mine, 'dev-1.x', BRANCH)
    assert git(mine, 'branch', '--list', BRANCH)


@pytest.mark.parametrize('make, words', [
    (lambda c: c.rename(c.parent / 'away'), 'there is no folder'),
    (lambda c: (c / '.git').rename(c / 'no git'), 'is not a git clone'),
    (lambda c: git(c, 'branch', BRANCH), 'something else in it.*branch -D'),
    (lambda c: git(c, 'branch', '-m', 'other'), 'no branch main.*--base'),
    (lambda c: git(c, 'rm', '--quiet', EXPORTS), 'is not MMPose 1.x'),
    (lambda c: write_hook(c), 'already'),
    (lambda c: break_exports(c), 'cannot be edited'),
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
        make_branch(clone, 'main', BRANCH)
    assert '\n' not in str(error.value)
    if before:
        assert state_of(clone) == before


def write_hook(clone):
    hook = clone / 'mmpose/engine/hooks/enhanced_tensorboard_hook.py'
    hook.write_text('# The original one.\n')


def break_exports(clone):
    (clone / EXPORTS).write_text('def broken(:\n')


def test_a_folder_of_a_clone_and_this_repository_are_refused(clone):
    with pytest.raises(PatchError, match='is not a clone but a folder of'):
        make_branch(clone / 'docs', 'main', BRANCH)


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
        make_branch(clone, 'main', BRANCH)
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
    assert result.stderr.startswith(f'made branch {BRANCH} of ')
    # The body alone, to be piped.
    assert result.stdout.startswith('## Motivation\n')


# The texts


def test_the_template_is_filled_in():
    body = fill_template(FILES[TEMPLATE])
    assert '<!--' not in body
    assert '## Motivation\n\nMMPose logs' in body
    assert '## BC-breaking (Optional)\n\nNone.' in body
    assert '- [ ] I have read' in body and '- [x] New func' in body
    # The miniature does not ask for it.
    assert '## Use cases\n\n```python' in body
    assert body.index('## Motivation') < body.index('## Checklist')


def test_the_changelog():
    once = add_change('# Changelog\n\n## **v1**\n\nOld.\n', 'New.\n')
    assert once == ('# Changelog\n\n## **Unreleased**\n\nNew.\n\n'
                    '## **v1**\n\nOld.\n')
    twice = add_change(once, 'Newer.\n')
    assert twice == ('# Changelog\n\n## **Unreleased**\n\nNewer.\n\nNew.\n\n'
                     '## **v1**\n\nOld.\n')


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
        for tag in re.findall('`([^`]+)`', cells[0])
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
