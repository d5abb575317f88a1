# Copyright (c) OpenMMLab. All rights reserved.
import ast
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hook_migration.exports import (HOOK, IMPORT, add_export, edit_file,
                                    redirect_import, remove_block,
                                    remove_export)
from mmpose_copies import installed_exports

ROOT = Path(__file__).resolve().parents[2]

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
        assert remove_block(text) == text, text
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
    after = run_module(add_export(exports), names)
    if before is None:
        assert after is None
    else:
        assert list(after) == [*before, HOOK]
        assert type(after) is type(before)


def run_module(text, names):
    lines = [line for line in text.splitlines(True) if line.strip() != IMPORT]
    names = dict(names)
    exec(''.join(lines), names)
    return names.get('__all__')


BLOCK = f'''
# >>> enhanced_tensorboard_hook >>>
{IMPORT}

__all__ += ('{HOOK}', )
# <<< enhanced_tensorboard_hook <<<
'''


def test_what_is_added_to_mmposes_own():
    before = installed_exports()
    assert add_export(before) == before + BLOCK


def test_linters_leave_the_block_as_it_is(tmp_path):
    """A fork's own, with MMPose's settings."""
    file = tmp_path / '__init__.py'
    file.write_text(add_export(installed_exports()))
    before = file.read_text()
    for command in (['flake8'], ['isort', '--settings-path',
                                 str(ROOT)], ['yapf', '--in-place'],
                    ['docformatter', '--in-place']):
        subprocess.run([sys.executable, '-m', *command,
                        str(file)],
                       cwd=str(ROOT),
                       check=True)
    assert file.read_text() == before


def test_byte_order_mark_stays():
    before = '\ufeffx = 1\n'.encode('utf-8')
    after = edit_file(before, add_export)
    assert after.startswith(before) and IMPORT.encode() in after
    assert edit_file(after, remove_export) == before


@pytest.mark.parametrize('text', [
    f"{IMPORT}\n\n__all__ = ['A', '{HOOK}']\n",
    f'{IMPORT}\n',
    f"{IMPORT}\n__all__ = []\n__all__ += ['{HOOK}']\n",
    f'{IMPORT} as {HOOK}\n',
])
def test_what_exports_it_already_stays(text):
    assert add_export(text) == text


def test_only_what_is_missing_is_added():
    before = f"{IMPORT}\n__all__ = ['A']\n"
    after = add_export(before)
    assert after.count(IMPORT) == 1 and after.count(HOOK) == 2
    assert remove_block(after) == before
    before = f"__all__ = ['A', '{HOOK}']\n"
    assert add_export(before).count(HOOK) == 2


def test_under_another_name_it_is_not_exported():
    before = f'{IMPORT} as ETB\n'
    after = add_export(before)
    assert sorted(imported(after)) == [HOOK, HOOK]
    assert remove_export(after) == before


def test_export_survives_changes_by_others():
    before = "from .a import A\n\n__all__ = ['A']\n"
    text = add_export(before).replace("'A'", "'A', 'B'")
    text = 'from .b import B\n' + text + 'x = 1\n'
    assert remove_export(text) == ('from .b import B\nfrom .a import A\n\n'
                                   "__all__ = ['A', 'B']\nx = 1\n")


# What versions before 2.0 have written, and forks have


@pytest.mark.parametrize('before, after', [
    ("__all__ = ['A', '{}']\n", "__all__ = ['A']\n"),
    ('__all__ = ["A", "{}"]\n', '__all__ = ["A"]\n'),
    ("__all__ = ['{}']\n", '__all__ = []\n'),
    ("__all__ = ['{}', 'B']\n", "__all__ = ['B']\n"),
    ("__all__ = ['A', '{}', 'B']\n", "__all__ = ['A', 'B']\n"),
    ("__all__ = ('A', '{}',)\n", "__all__ = ('A',)\n"),
    ("__all__ = [\n    'A', 'B',\n    '{}'\n]\n",
     "__all__ = [\n    'A', 'B'\n]\n"),
    ("__all__ = [\n    'A',\n    '{}',\n]\n", "__all__ = [\n    'A',\n]\n"),
    ("__all__ = ['A',\n           '{}']\n", "__all__ = ['A']\n"),
])
@pytest.mark.parametrize('newline', ['\n', '\r\n'])
def test_an_export_among_others_is_removed(before, after, newline):
    head = 'from .a import A\n{}from .z import Z\n'
    before = head.format(f'{IMPORT}  # mine\n') + before.format(HOOK)
    after = head.format('') + after
    assert remove_export(before.replace('\n', newline)) == after.replace(
        '\n', newline)


@pytest.mark.parametrize('text', [
    f'from .enhanced_tensorboard_hook import ({HOOK}, PRESETS)\n',
    f'{IMPORT}; x = 1\n',
])
def test_import_with_more_is_left_to_the_user(text):
    with pytest.raises(ValueError, match='line 1 .* by hand'):
        remove_export(text)


@pytest.mark.parametrize('text', [
    f'from .enhanced_tensorboard_hook_fixed import {HOOK}  # mine\n',
    f'from .a import A\nfrom .enhanced_tensorboard_hook_fixed import (\n'
    f'    {HOOK})\nfrom .z import Z\n',
])
def test_redirected_import(text):
    old, new = 'enhanced_tensorboard_hook_fixed', 'enhanced_tensorboard_hook'
    redirected = redirect_import(text, old, new)
    assert redirected == text.replace(old, new)
    assert redirect_import(redirected, new, old) == text
    assert redirect_import('from .a import A\n', old, new).count(new) == 0
