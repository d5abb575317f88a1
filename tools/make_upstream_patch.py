# Copyright (c) OpenMMLab. All rights reserved.
"""Make the pull request to MMPose: a branch with one commit on a clone of it.

    python tools/make_upstream_patch.py --mmpose CLONE

The commit has the hook, the monitors, the presets, their tests and their
documentation; tools of this repository stay here. What is checked out in the
clone is left alone: the commit is made beside it. Called again, it does
nothing if nothing has changed. Prints the body of the pull request in MMPose's
own template.
"""
import argparse
import re
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from hook_migration.exports import HOOK, add_export

ROOT = Path(__file__).resolve().parents[1]
EXPORTS = 'mmpose/engine/hooks/__init__.py'
TEMPLATE = '.github/pull_request_template.md'
REQUIREMENTS = 'requirements/tests.txt'

# What travels; a folder with all Python in it.
TRAVELS = (
    'mmpose/engine/hooks/enhanced_tensorboard_hook.py',
    'mmpose/engine/monitors',
    'configs/_base_/enhanced_tensorboard',
    'tests/test_engine',
    # The test of lifting draws its data with it.
    'tools/dataset_generators/synthetic_h36m.py',
)
# It compares the documentation of this repository with the code.
STAYS = ('tests/test_engine/test_hooks/test_documented_tags.py', )
# The page that upstream has a place for in its indices.
GUIDES = {
    f'docs/{language}/advanced_guides/customize_logging.md':
    f'docs/{language}/customize_logging.md'
    for language in ('en', 'zh_cn')
}
UNRELEASED = '## **Unreleased**'
CHANGES = {
    'docs/en/notes/changelog.md':
    '**New Features**\n\n'
    f'- Add `{HOOK}`: pose pictures, accuracy by keypoint, gradients '
    'and weights, and a report on the health of a training, in TensorBoard\n',
    'docs/zh_cn/notes/changelog.md':
    f'新增 `{HOOK}`：在 TensorBoard 中查看姿态图片、各关键点精度、'
    '梯度、权重以及训练健康报告。\n',
}

SUBJECT = f'[Feature] Add {HOOK}'
MOTIVATION = f'''MMPose logs the loss of a training. What the training does \
is not seen: whether the targets lie on the people, which keypoints hold the \
metric down, where in the network the gradients vanish or explode, whether \
the machine waits for data.

`{HOOK}` shows it in TensorBoard, beside the losses and at their steps, and \
says in the log and in a report what is going wrong and what to do. One line \
in any config adds it. `advanced_guides/customize_logging.md` has said \
"Coming soon"; it now describes this.'''
MODIFICATION = f'''- `mmpose/engine/hooks/enhanced_tensorboard_hook.py`: the \
hook, exported and registered; off unless a config has it.
- `mmpose/engine/monitors/`: a file for each thing that it watches, and the \
writer, which has a thread of its own and limits of memory and disk.
- `configs/_base_/enhanced_tensorboard/`: three presets.
- `tests/test_engine/`: tests of all of it, with real trainings of small \
models. Among others: weights, optimizer state, buffers and random generators \
are the same to the bit with and without the hook; a full disk or a failing \
part does not end a training; after `kill -9` the event file loads.
- `tools/dataset_generators/synthetic_h36m.py`: draws the data that the test \
of 3D lifting needs.
- `docs/`: the guide in English and Chinese, and the changelog.
- `{REQUIREMENTS}`: tensorboard.'''
BREAKING = 'None. Nothing changes for a config that does not have the hook.'
USE_CASES = f'''```python
default_hooks = dict(
    enhanced_tensorboard=dict(type='{HOOK}', preset='fast'))
```'''
# By how the section's title begins.
SECTIONS = {
    'Motivation': MOTIVATION,
    'Modification': MODIFICATION,
    'BC-breaking': BREAKING,
    'Use cases': USE_CASES,
}
# The items of the checklist that are true of every pull request made here, by
# a word in them; what the author has to vouch for stays open.
TICKED = ('lint', 'New functionalities', 'documentation')


class PatchError(Exception):
    """Something the user can put right; the message is one line."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--mmpose', type=Path, required=True, help='a git clone of MMPose')
    parser.add_argument(
        '--base',
        default='main',
        help='the branch of the clone to start from, such as dev-1.x, the '
        'one that pull requests to MMPose go to; main unless given')
    parser.add_argument(
        '--branch',
        default='enhanced-tensorboard-hook',
        help='the branch to make')
    args = parser.parse_args()
    try:
        said, body = make_branch(args.mmpose, args.base, args.branch)
    except PatchError as error:
        sys.exit(f'make_upstream_patch: {error}')
    print(said, file=sys.stderr)
    print(body)


def make_branch(clone, base, branch):
    """Make the branch, or find that it is there.

    Args:
        clone (Path): The clone of MMPose.
        base (str): The branch to start from.
        branch (str): The branch to make.

    Returns:
        tuple[str, str]: What was done, for the user, and the body of the pull
        request.
    """
    check_clone(clone)
    start = find_commit(clone, base)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / 'mmpose'
        git(clone, 'worktree', 'add', '--quiet', '--detach', tree, start)
        try:
            body = fill_template(read(tree, TEMPLATE))
            apply_patch(tree)
            commit = make_commit(tree)
        finally:
            git(clone, 'worktree', 'remove', '--force', tree)
    there = find_branch(clone, branch)
    if there is None:
        git(clone, 'branch', branch, commit)
        return (f'made branch {branch} of {clone}: one commit on {base}; '
                f'push it with `git push FORK {branch}`'), body
    if content_of(clone, there) == content_of(clone, commit):
        return f'branch {branch} of {clone} is there and up to date', body
    raise PatchError(f'branch {branch} of {clone} is there and has something '
                     'else in it: choose another name with --branch, or '
                     f'remove it with `git branch -D {branch}`')


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


def find_commit(clone, base):
    """Find the commit to start from.

    Args:
        clone (Path): The clone.
        base (str): A branch of it, or of the remote it was cloned from.

    Returns:
        str: The commit.
    """
    for name in (base, f'origin/{base}'):
        commit = find_branch(clone, name)
        if commit:
            break
    else:
        raise PatchError(f'{clone} has no branch {base}: choose another one '
                         'with --base')
    for path in (EXPORTS, TEMPLATE, REQUIREMENTS, *GUIDES, *CHANGES):
        if not git(clone, 'ls-tree', '--name-only', commit, path):
            raise PatchError(f'branch {base} of {clone} has no {path}: it is '
                             'not MMPose 1.x')
    return commit


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


def content_of(clone, commit):
    """What a commit has in it and what it stands on.

    Args:
        clone (Path): The clone.
        commit (str): The commit.

    Returns:
        str: The hashes of its files and of its parents.
    """
    return git(clone, 'show', '--no-patch', '--format=%T %P', commit)


def apply_patch(tree):
    """Put the patch into a work tree of MMPose.

    Args:
        tree (Path): The work tree.
    """
    for path in travelling_files():
        place = tree / path
        if place.exists():
            raise PatchError(f'MMPose has a file {path} already: is the hook '
                             'in it?')
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((ROOT / path).read_bytes())
    for place, source in GUIDES.items():
        (tree / place).write_bytes((ROOT / source).read_bytes())
    edit(tree, EXPORTS, add_export)
    edit(tree, REQUIREMENTS, add_requirement)
    for place, entry in CHANGES.items():
        edit(tree, place, lambda text, entry=entry: add_change(text, entry))


def travelling_files():
    """The files that go into MMPose as they are.

    Returns:
        list[str]: Their paths, the same here and there.
    """
    files = []
    for name in TRAVELS:
        path = ROOT / name
        files += sorted(path.rglob('*.py')) if path.is_dir() else [path]
    names = [file.relative_to(ROOT).as_posix() for file in files]
    return [name for name in names if name not in STAYS]


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


def add_requirement(text):
    """Let the tests have tensorboard.

    Args:
        text (str): The requirements, in the order of the alphabet.

    Returns:
        str: The same with tensorboard.
    """
    lines = text.splitlines(keepends=True)
    names = [re.split(r'\W', line, maxsplit=1)[0].lower() for line in lines]
    if 'tensorboard' in names:
        return text
    at = sum(name < 'tensorboard' for name in names)
    return ''.join([*lines[:at], 'tensorboard\n', *lines[at:]])


def add_change(text, entry):
    """Put an entry at the top of the changelog.

    Args:
        text (str): The changelog.
        entry (str): What was changed.

    Returns:
        str: The changelog with a section for what is not released yet.
    """
    title, rest = text.split('\n', 1)
    rest = rest.lstrip('\n')
    if rest.startswith(UNRELEASED):
        rest = rest[len(UNRELEASED):].lstrip('\n')
    return f'{title}\n\n{UNRELEASED}\n\n{entry}\n{rest}'


def make_commit(tree):
    """Commit everything.

    Args:
        tree (Path): The work tree.

    Returns:
        str: The commit.
    """
    git(tree, 'add', '--all')
    # Hooks of the clone, pre-commit's say, are for its owner to run.
    why = [textwrap.fill(part, 72) for part in MOTIVATION.split('\n\n')]
    git(tree, 'commit', '--quiet', '--no-verify', '-m', SUBJECT, '-m',
        '\n\n'.join(why))
    return git(tree, 'rev-parse', 'HEAD')


def fill_template(template):
    """Write the body of the pull request.

    Args:
        template (str): MMPose's template: sections under ``## TITLE``, with
            comments on what to write there.

    Returns:
        str: The template filled in. What it does not ask for is added.
    """
    before, *sections = re.split('^(?=## )', template, flags=re.M)
    left = dict(SECTIONS)
    filled = []
    for section in sections:
        title = section.splitlines()[0]
        name = next((n for n in left if title.startswith(f'## {n}')), None)
        if name:
            section = f'{title}\n\n{left.pop(name)}\n\n'
        filled.append(section)
    filled += [f'## {name}\n\n{text}\n\n' for name, text in left.items()]
    lines = (re.sub('<!--.*?-->\n*', '', before, flags=re.S) +
             ''.join(filled)).splitlines()
    return '\n'.join(tick(line) for line in lines)


def tick(line):
    """Tick an item of the checklist, if it is one that is true.

    Args:
        line (str): A line of the template.

    Returns:
        str: The line.
    """
    if any(word in line for word in TICKED):
        return line.replace('- [ ]', '- [x]')
    return line


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
