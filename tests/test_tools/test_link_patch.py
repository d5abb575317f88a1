# Copyright (c) OpenMMLab. All rights reserved.
import ast
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import link_patch
import pytest
from link_patch import HOOK, IMPORT, add_export, remove_export

ROOT = Path(__file__).resolve().parents[2]

# As MMPose writes it.
MMPOSE = '''# Copyright (c) OpenMMLab. All rights reserved.
from .a_hook import AHook
from .mode_hooks import OneModeHook, TwoModeHook

__all__ = [
    'AHook', 'OneModeHookWithAVeryLongName', 'TwoModeHookWithAVeryLongName'
]
'''

# Everything that can stand around an entry of __all__.
HEADS = ('', '# comment\n', '"""Doc."""\n',
         '"""Doc.\n\nLong.\n"""\nimport os\n', 'from .a import A\n',
         'from .a import (A,\n                B)\n',
         'from .a import A\nfrom .zz import Z  # noqa\n',
         '# é\nfrom .z import Z\n', 'from .. import x\nfrom . import y\n',
         'from __future__ import annotations\n')
EXPORTS = (
    '',
    "__all__ = ['A']\n",
    "__all__ = ['A', 'B',]\n",
    '__all__ = ["A", "B"]\n',
    "__all__ = ('A',)\n",
    "__all__ = ('A', 'B')\n",
    "__all__ = 'A', 'B'\n",
    "__all__ = 'A',  # one\n",
    '__all__ = []\n',
    '__all__ = ()\n',
    '__all__ = [\n    # nothing yet\n]\n',
    "__all__ = [\n    'A',\n    'B',\n]\n",
    "__all__ = [\n    'A',\n    'B'\n]\n",
    "__all__ = [\n    'A',  # first\n    'B',  # last, with [brackets]\n]\n",
    "__all__ = [\n    'A',  # first\n    'B'  # last\n    # the end\n]\n",
    "__all__ = ['A',\n           'B']\n",
    "__all__ = ['A'\n           , 'B'\n           ,]\n",
    "__all__ = [\n    'A', \\\n    'B' \\\n]\n",
    "__all__ = [('A'), ('B')]\n",
    "__all__ = ('A'), ('B')\n",
    "__all__ = ['A' 'B', str('C'), *['D']]\n",
    "__all__: list = ['A']\n",
    "__all__ = ['é', 'B']; x = 1\n",
    "__all__ = ['A'] + other\n",
    "__all__ = other + ('A',)\n",
    "__all__ = []\n__all__ += ['A']\n",
    '__all__ = list(other)\n',
    '__all__: list\n',
    f"__all__ = ['{'A' * 60}']\n",
    f"__all__ = ['{'A' * 30}', '{'B' * 29}',]\n",
    f"__all__ = ['{'A' * 60}',\n\t'B', '{'C' * 60}'\n\t]\n",
)
TEXTS = [
    head + exports + tail
    for head, exports, tail in itertools.product(HEADS, EXPORTS, ('', 'x\n'))
]
ENDS = [('\n', True), ('\n', False), ('\r\n', True), ('\r\n', False)]


@pytest.mark.parametrize('newline, ends', ENDS)
def test_export_is_reversible(newline, ends):
    for text in TEXTS:
        text = text if ends else text.rstrip('\n')
        text = text.replace('\n', newline)
        added = add_export(text)
        assert add_export(added) == added, text
        assert remove_export(added) == text, text
        assert remove_export(text) == text, text
        assert HOOK in imported(added), text
        if newline in text:
            assert set(re.findall(r'\r?\n', added)) == {newline}


def imported(text):
    return [
        alias.name for statement in ast.parse(text).body
        if isinstance(statement, ast.ImportFrom) for alias in statement.names
    ]


@pytest.mark.parametrize('exports', EXPORTS)
def test_entry_is_last(exports):
    names = dict(other=['O'] if '+ (' not in exports else ('O', ))
    before = run_module(exports, names)
    if not isinstance(before, (list, tuple)) or 'list(' in exports:
        return
    after = run_module(add_export(exports), names)
    assert sorted(after) == sorted([*before, HOOK])
    assert type(after) is type(before)


def run_module(text, names):
    lines = [line for line in text.splitlines(True) if line.strip() != IMPORT]
    names = dict(names)
    exec(''.join(lines), names)
    return names.get('__all__')


def test_export_looks_as_mmpose_writes_it():
    assert add_export(MMPOSE) == '''\
# Copyright (c) OpenMMLab. All rights reserved.
from .a_hook import AHook
from .enhanced_tensorboard_hook import EnhancedTensorBoardHook
from .mode_hooks import OneModeHook, TwoModeHook

__all__ = [
    'AHook', 'OneModeHookWithAVeryLongName', 'TwoModeHookWithAVeryLongName',
    'EnhancedTensorBoardHook'
]
'''


@pytest.mark.parametrize('before, after', [
    ("__all__ = ['A']\n", f"__all__ = ['A', '{HOOK}']\n"),
    ('__all__ = ["A"]\n', f'__all__ = ["A", "{HOOK}"]\n'),
    ("__all__ = ('A',)\n", f"__all__ = ('A', '{HOOK}',)\n"),
    ('__all__ = ()\n', f"__all__ = ('{HOOK}',)\n"),
    ("__all__ = [\n    'A',  # a\n]\n",
     f"__all__ = [\n    'A',  # a\n    '{HOOK}',\n]\n"),
    ("__all__ = [\n    'A',\n    'B'  # b\n]\n",
     f"__all__ = [\n    'A',\n    'B',  # b\n    '{HOOK}'\n]\n"),
    (f"__all__ = ['{'A' * 50}']\n",
     f"__all__ = ['{'A' * 50}',\n           '{HOOK}']\n"),
])
def test_style_of_entry(before, after):
    assert add_export(before).replace(f'{IMPORT}\n', '') == after


def test_export_survives_changes_by_others():
    text = add_export(MMPOSE).replace(f"'{HOOK}'", f"'{HOOK}', 'Other'")
    text = text.replace(IMPORT, IMPORT + '  # noqa')
    text = text.replace('from .mode', 'from .other import Other\nfrom .mode')
    removed = remove_export(text)
    assert HOOK not in removed
    assert "'Other'\n]" in removed
    ast.parse(removed)


@pytest.mark.parametrize('before, after', [
    (f"__all__ = ['{HOOK}', 'B']\n", "__all__ = ['B']\n"),
    (f"__all__ = ['A', '{HOOK}', 'B']\n", "__all__ = ['A', 'B']\n"),
    (f"__all__ = [\n    '{HOOK}',\n    'B',\n]\n",
     "__all__ = [\n    'B',\n]\n"),
    (f"__all__ = ['{HOOK}',\n           'B']\n",
     "__all__ = [\n           'B']\n"),
    (f"__all__ = ('A', '{HOOK}')\n", "__all__ = ('A',)\n"),
])
def test_entry_is_removed_wherever_it_is(before, after):
    assert remove_export(before) == after


@pytest.mark.parametrize('text', [
    f'from .enhanced_tensorboard_hook import ({HOOK}, PRESETS)\n',
    f'{IMPORT}; x = 1\n',
])
def test_import_with_more_is_left_to_the_user(text):
    with pytest.raises(ValueError, match='line 1 .* by hand'):
        remove_export(text)


def test_import_that_finds_no_place():
    with pytest.raises(ValueError, match='no place'):
        add_export('x = """\n"""; from .z import Z\n')


# On disk


@pytest.fixture
def package(tmp_path):
    """An MMPose as pip installs it."""
    package = tmp_path / 'site-packages' / 'mmpose'
    hooks = package / 'engine' / 'hooks'
    hooks.mkdir(parents=True)
    (package / '__init__.py').write_text('')
    (hooks / '__init__.py').write_text(MMPOSE)
    make_configs(package / '.mim' / 'configs')
    return package


def make_configs(folder):
    (folder / '_base_').mkdir(parents=True)
    (folder / '_base_' / 'default_runtime.py').write_text('')


def contents(folder):
    """All there is in a folder: of files what is in them, of links where they
    lead to."""
    return {
        path: path.is_symlink() and os.readlink(str(path))
        or path.is_file() and (path.read_bytes(), path.stat().st_mode)
        for path in folder.rglob('*')
    }


def link(*args, **kwargs):
    return subprocess.run([
        sys.executable,
        str(ROOT / 'tools' / 'link_patch.py'), *map(str, args)
    ],
                          stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE,
                          universal_newlines=True,
                          **kwargs)


def test_links_lead_into_the_checkout(package):
    assert link('--target', package).returncode == 0
    links = {
        str(path.relative_to(package)): os.readlink(str(path))
        for path in package.rglob('*') if path.is_symlink()
    }
    hook = 'engine/hooks/enhanced_tensorboard_hook.py'
    assert links == {
        hook:
        f'{ROOT}/mmpose/{hook}',
        'engine/monitors':
        f'{ROOT}/mmpose/engine/monitors',
        '.mim/configs/_base_/enhanced_tensorboard':
        f'{ROOT}/configs/_base_/enhanced_tensorboard',
        '.mim/configs/enhanced_tensorboard':
        f'{ROOT}/configs/enhanced_tensorboard',
    }
    exports = (package / 'engine' / 'hooks' / '__init__.py').read_text()
    assert exports == add_export(MMPOSE)


def test_second_call_changes_nothing(package):
    link('--target', package)
    before = contents(package)
    again = link('--target', package.parent)
    assert again.returncode == 0 and again.stdout == ''
    assert contents(package) == before


def test_remove_leaves_nothing_behind(package):
    exports = package / 'engine' / 'hooks' / '__init__.py'
    exports.write_bytes(MMPOSE.replace('\n', '\r\n').encode())
    exports.chmod(0o640)
    before = contents(package)
    link('--target', package)
    cache = exports.parent / '__pycache__'
    cache.mkdir()
    (cache / 'enhanced_tensorboard_hook.cpython-311.pyc').write_bytes(b'')
    assert contents(package) != before
    assert link('--target', package, '--remove').returncode == 0
    cache.rmdir()
    assert contents(package) == before


def test_hard_link_is_not_written_through(package, tmp_path):
    exports = package / 'engine' / 'hooks' / '__init__.py'
    kept = tmp_path / 'kept.py'
    os.link(str(exports), str(kept))
    link('--target', package)
    assert kept.read_text() == MMPOSE
    assert exports.read_text() != MMPOSE


@pytest.mark.parametrize('place', [
    'engine/monitors', 'engine/hooks/enhanced_tensorboard_hook.py',
    '.mim/configs/enhanced_tensorboard'
])
def test_what_is_not_ours_is_kept(package, place):
    (package / place).mkdir()
    before = contents(package)
    result = link('--target', package)
    assert result.returncode != 0
    assert str(package / place) in result.stderr
    assert result.stderr.count('\n') == 1
    assert link('--target', package, '--remove').returncode == 0
    assert contents(package) == before


def test_link_of_somebody_else_is_kept(package, tmp_path):
    place = package / 'engine' / 'monitors'
    place.symlink_to(tmp_path / 'other' / 'monitors')
    before = contents(package)
    assert str(place) in link('--target', package).stderr
    link('--target', package, '--remove')
    assert contents(package) == before


def test_link_to_a_checkout_that_moved_is_replaced(package, tmp_path):
    place = package / 'engine' / 'monitors'
    place.symlink_to(tmp_path / 'gone' / 'mmpose' / 'engine' / 'monitors')
    assert link('--target', package).returncode == 0
    assert os.readlink(str(place)) == f'{ROOT}/mmpose/engine/monitors'


def test_source_tree(package):
    source = package.parent / 'configs'
    make_configs(source)
    mim = package / '.mim' / 'configs'
    for path in sorted(mim.rglob('*'), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    mim.rmdir()
    mim.symlink_to(source)
    before = contents(package.parent)
    assert link('--target', package.parent).returncode == 0
    assert (source / 'enhanced_tensorboard').is_symlink()
    assert link('--target', package.parent, '--remove').returncode == 0
    assert contents(package.parent) == before


def test_folder_of_others_called_configs_is_left_alone(package):
    configs = package.parent / 'configs' / '_base_'
    configs.mkdir(parents=True)
    link('--target', package)
    assert list(configs.parent.iterdir()) == [configs]


@pytest.mark.parametrize('text', ['def f(:\n', f'{IMPORT}; x = 1\n'])
def test_file_that_cannot_be_edited_is_named(package, text):
    exports = package / 'engine' / 'hooks' / '__init__.py'
    exports.write_text(text)
    result = link('--target', package, '--remove')
    assert result.returncode != 0
    assert str(exports) in result.stderr
    assert result.stderr.count('\n') == 1
    assert exports.read_text() == text


def test_mmpose_of_this_python_is_found(package):
    env = dict(os.environ, PYTHONPATH=str(package.parent))
    # The checkout has a folder called mmpose as well.
    assert link(cwd=str(ROOT), env=env).returncode == 0
    assert (package / 'engine' / 'monitors').is_symlink()


def test_no_mmpose(monkeypatch):
    monkeypatch.setattr(sys, 'path', [str(ROOT)])
    monkeypatch.delitem(sys.modules, 'mmpose', raising=False)
    with pytest.raises(link_patch.LinkError, match='no MMPose installed'):
        link_patch.find_package()


def test_no_mmpose_in_target(tmp_path):
    result = link('--target', tmp_path)
    assert result.returncode != 0
    assert result.stderr == f'link_patch: there is no MMPose in {tmp_path}\n'
