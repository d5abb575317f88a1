# Copyright (c) OpenMMLab. All rights reserved.
"""What is tried on a branch: MMPose's linters, its Python, tests, imports."""
import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

SETTINGS = '.pre-commit-config.yaml'
# The oldest Python of MMPose's own tests.
OLDEST = (3, 7)
PYTHON = r'\.py$'
TEXT = r'\.(py|md|txt|cfg|rst|sh|ya?ml)$'
# For pre-commit's hooks: what they call, unless it is named as they are, and
# which files they are for.
COMMANDS = {
    'yapf': ('yapf -i', PYTHON),
    'flake8': ('flake8', PYTHON),
    'isort': ('isort', PYTHON),
    'docformatter': ('docformatter', PYTHON),
    'codespell': ('codespell', TEXT),
    'mdformat': ('mdformat', r'\.md$'),
    'trailing-whitespace': ('trailing-whitespace-fixer', TEXT),
    'end-of-file-fixer': ('end-of-file-fixer', TEXT),
    'requirements-txt-fixer':
    ('requirements-txt-fixer', r'requirements.*\.txt$'),
    'double-quote-string-fixer': ('double-quote-string-fixer', PYTHON),
    'fix-encoding-pragma': ('fix-encoding-pragma', PYTHON),
    'mixed-line-ending': ('mixed-line-ending', TEXT),
    'check-merge-conflict': ('check-merge-conflict', TEXT),
    'check-yaml': ('check-yaml', r'\.ya?ml$'),
}


def call(command, folder, **env):
    """Run a command.

    Args:
        command (Sequence[str]): The command.
        folder (Path): Where.
        **env: Variables of the environment.

    Returns:
        tuple[int, str]: Its exit code, and what it printed.
    """
    result = subprocess.run(
        command,
        cwd=str(folder),
        env={
            **os.environ, 'PYTHONDONTWRITEBYTECODE': '1',
            **env
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True)
    return result.returncode, result.stdout.strip()


def lint(tree, paths):
    """Run MMPose's linters, as far as they are installed.

    Args:
        tree (Path): A work tree of MMPose, whose changes are staged.
        paths (Sequence[str]): The files to check.

    Returns:
        tuple[list[str], list[str], list[str]]: The linters that were run,
        those that were not, and what was objected to.
    """
    ran, missing, objections = [], [], []
    for name, args in settings(tree):
        command, pattern = COMMANDS.get(name, (name, TEXT))
        script, *options = command.split()
        script = find_script(script)
        if script is None:
            missing.append(name)
            continue
        ran.append(name)
        files = [path for path in paths if re.search(pattern, path)]
        if not files:
            continue
        code, said = call([script, *options, *args, *files], tree)
        changed = call(['git', 'diff', '--name-only'], tree)[1]
        if code or changed:
            objections.append(f'{name}: {said or changed}')
        if changed:
            call(['git', 'checkout', '--quiet', '--', '.'], tree)
    return ran, missing, objections


def settings(tree):
    """Read which linters MMPose uses.

    Args:
        tree (Path): A work tree of MMPose.

    Returns:
        list[tuple[str, list[str]]]: The name of each hook of pre-commit, and
        its arguments.
    """
    file = tree / SETTINGS
    if not file.exists():
        return []
    import yaml
    repos = yaml.safe_load(file.read_text('utf-8'))['repos']
    return [(hook['id'], hook.get('args', [])) for repo in repos
            for hook in repo['hooks']]


def find_script(name):
    """Find a linter.

    Args:
        name (str): What it is called.

    Returns:
        str or None: Its path: beside this Python, or elsewhere.
    """
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def too_new(tree, paths):
    """Find what the oldest Python of MMPose's tests cannot read.

    Args:
        tree (Path): A work tree of MMPose.
        paths (Sequence[str]): The files to check.

    Returns:
        list[str]: The syntax errors.
    """
    errors = []
    for path in paths:
        if path.endswith('.py'):
            try:
                ast.parse(
                    (tree / path).read_text('utf-8'), feature_version=OLDEST)
            except SyntaxError as error:
                errors.append(f'{path}:{error.lineno}: {error.msg}')
    return errors


def imported_modules(tree):
    """Count what importing MMPose's hooks imports.

    Args:
        tree (Path): A work tree of MMPose.

    Returns:
        int or None: The number of modules; None if it cannot be imported
        with this Python.
    """
    script = '''
import sys
from importlib.util import find_spec
if not str(find_spec('mmpose').origin).startswith(sys.argv[1]):
    sys.exit('another MMPose')
import mmpose.engine.hooks
print(len(sys.modules))
'''
    code, said = call(
        [sys.executable, '-W', 'ignore', '-c', script,
         str(tree)],
        tree,
        PYTHONPATH=str(tree))
    return None if code else int(said.split()[-1])


def run_tests(tree, paths):
    """Run tests.

    Args:
        tree (Path): A work tree of MMPose.
        paths (Sequence[str]): Their files.

    Returns:
        tuple[bool, str]: Whether they passed, and pytest's last lines.
    """
    code, said = call([
        sys.executable, '-m', 'pytest', '-q', '-o', 'addopts=', '--tb=line',
        '-p', 'no:cacheprovider', '-W', 'ignore', *paths
    ],
                      tree,
                      PYTHONPATH=str(tree),
                      PYTHONNOUSERSITE='1',
                      OMP_NUM_THREADS='1')
    return not code, '\n'.join(said.splitlines()[-20:])
