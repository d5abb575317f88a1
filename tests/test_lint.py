# Copyright (c) OpenMMLab. All rights reserved.
"""MMPose's linters, as its pre-commit settings call them."""
import ast
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINTED = ('mmpose', 'configs', 'tools', 'tests', 'docs', 'README.md',
          'CONTRIBUTING.md', 'setup.py')
COPYRIGHTED = ('mmpose', 'tests', 'tools', 'setup.py')
COPYRIGHT = '# Copyright (c) OpenMMLab. All rights reserved.\n'

PYTHON = ('.py', )
MARKDOWN = ('.md', )
TEXT = PYTHON + MARKDOWN + ('.cfg', '.rst', '.sh', '.txt', '.yml')

# Each linter: its command, the files it is for, and what it must object to.
LINTERS = {
    'flake8': ('flake8', PYTHON, 'import os\n'),
    'isort': ('isort --check-only --diff', PYTHON, 'import re\nimport os\n'),
    'yapf': ('yapf --diff', PYTHON, 'x = [ 1 ]\n'),
    'docformatter': ('docformatter --wrap-descriptions 79', PYTHON,
                     'def f():\n    """\n    One line\n    """\n'),
    'codespell': ('codespell -L mot', TEXT, '# recie' + 've\n'),
    'mdformat':
    ('mdformat --check --number --table-width 200', MARKDOWN, '* a\n* b\n'),
    'quotes': ('double-quote-string-fixer', PYTHON, 'x = "a"\n'),
    'trailing whitespace': ('trailing-whitespace-fixer', TEXT, 'x = 1 \n'),
    'end of file': ('end-of-file-fixer', TEXT, 'x = 1'),
}


@pytest.fixture(scope='module')
def copies(tmp_path_factory):
    """The files to check, copied: some linters write."""
    folder = tmp_path_factory.mktemp('checkout')
    shutil.copy(str(ROOT / 'setup.cfg'), str(folder))
    for name in list_files():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(ROOT / name), str(place))
    return folder


def list_files():
    """The files that git tracks or would track.

    Returns:
        list[str]: Their paths in the checkout.
    """
    listed = subprocess.run([
        'git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard',
        '--', *LINTED
    ],
                            cwd=str(ROOT),
                            stdout=subprocess.PIPE,
                            universal_newlines=True,
                            check=True).stdout
    names = sorted(set(listed.split('\0')) - {''})
    return [name for name in names if (ROOT / name).is_file()]


def lint(linter, folder, names):
    """Run a linter.

    Args:
        linter (str): Its key in ``LINTERS``.
        folder (Path): Where to run it.
        names (list[str]): The files to check.

    Returns:
        str: What it objects to.
    """
    script, *options = LINTERS[linter][0].split()
    script = Path(sys.executable).parent / script
    assert script.exists(), f'{script} is not installed: make setup'
    result = subprocess.run([sys.executable,
                             str(script), *options, *names],
                            cwd=str(folder),
                            stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT,
                            universal_newlines=True)
    if result.returncode:
        return result.stdout or f'{script} failed with {result.returncode}'
    # It prints the changes it would make, and exits with 0.
    return result.stdout if linter == 'docformatter' else ''


@pytest.mark.parametrize('linter', LINTERS)
def test_lint(linter, copies):
    names = [
        name for name in list_files() if name.endswith(LINTERS[linter][1])
    ]
    if not names:
        pytest.skip('there are no such files')
    objections = lint(linter, copies, names)
    assert not objections, objections


@pytest.mark.parametrize('linter', LINTERS)
def test_linter_objects(linter, tmp_path):
    _, suffixes, text = LINTERS[linter]
    shutil.copy(str(ROOT / 'setup.cfg'), str(tmp_path))
    name = f'sample{suffixes[0]}'
    (tmp_path / name).write_text(text)
    assert lint(linter, tmp_path, [name])


def test_copyright():
    missing = [
        name for name in list_files()
        if name.endswith(PYTHON) and name.startswith(COPYRIGHTED)
        and not (ROOT / name).read_text().startswith(COPYRIGHT)
    ]
    assert not missing, missing


def test_a_registered_name_has_one_class():
    """The last import would win, whichever test it is for."""
    names = [
        node.name for name in list_files() if name.endswith(PYTHON)
        for node in ast.walk(ast.parse((ROOT / name).read_text()))
        if isinstance(node, ast.ClassDef) for decorator in node.decorator_list
        if 'register_module' in ast.dump(decorator)
    ]
    assert len(names) > 100
    twice = [name for name, count in Counter(names).items() if count > 1]
    assert not twice, twice
