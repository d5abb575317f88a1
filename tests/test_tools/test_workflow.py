# Copyright (c) OpenMMLab. All rights reserved.
"""The settings of GitHub and pre-commit, which nothing here runs."""
import os
import re
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ROOT / '.github' / 'workflows' / 'test.yml'
# Where a mirror has another name than the package.
PACKAGES = {'mirrors-yapf': 'yapf'}


def load(path):
    return yaml.safe_load(path.read_text(encoding='utf-8'))


def matrix():
    jobs = load(WORKFLOW)['jobs']
    return jobs['test']['strategy']['matrix']['include']


def test_matrix_is_that_of_the_page_on_versions():
    """All of it that needs no GPU."""
    page = (ROOT / 'docs/en/versions.md').read_text(encoding='utf-8')
    rows = [[cell.strip() for cell in line.split('|')[1:-1]]
            for line in page.splitlines() if re.match(r'\| 3\.', line)]
    named = {(row[0], row[1]) for row in rows if 'NVIDIA' not in row[3]}
    assert len(named) == 3
    assert {(case['python'], case['torch']) for case in matrix()} == named


def test_commands_of_the_matrix_are_there():
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    for case in matrix():
        name, *words = case['command'].split()
        if name == 'make':
            assert f'\n{words[0]}: ' in makefile
        else:
            assert os.access(str(ROOT / name), os.X_OK)
            subprocess.run(['bash', '-n', str(ROOT / name)], check=True)


def test_each_torch_is_the_one_that_is_installed():
    """By ``make``, from the requirements."""
    for case in matrix():
        if case['command'].startswith('make'):
            name = 'torch-latest' if 'latest' in case['command'] else 'torch'
            text = (ROOT / f'requirements/{name}.txt').read_text('utf-8')
            assert re.search(rf'^torch={{2,3}}{case["torch"]}\b', text,
                             re.MULTILINE)


def test_pre_commit_has_the_versions_that_the_tests_have():
    text = (ROOT / 'requirements/tests.txt').read_text(encoding='utf-8')
    pinned = {}
    for name, version in re.findall(r'^([\w-]+)==([\w.]+)', text,
                                    re.MULTILINE):
        pinned.setdefault(name.lower(), []).append(version)
    checked = 0
    for repo in load(ROOT / '.pre-commit-config.yaml')['repos']:
        owner, name = repo['repo'].split('/')[-2:]
        name = PACKAGES.get(name, name).lower()
        if name in pinned and owner != 'open-mmlab':
            assert repo['rev'].lstrip('v') in pinned[name]
            checked += 1
        for hook in repo['hooks']:
            for needed in hook.get('additional_dependencies', ()):
                name, version = needed.lower().split('==')
                assert version in pinned[name]
                checked += 1
    assert checked == 10
