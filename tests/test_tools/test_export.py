# Copyright (c) OpenMMLab. All rights reserved.
import ast
import itertools
import re

import pytest
from hook_migration.exports import (HOOK, IMPORT, add_export, edit_file,
                                    redirect_import, remove_export)

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


# The forms that this file has had from MMPose 1.0 to its main branch, and two
# with the original hook: imports, entries, and entries with the hook.
RELEASES = [
    (['zoo_hook import ZooHook'], "['ZooHook']", f"['ZooHook', '{HOOK}']"),
    (['a_hook import A',
      'zoo_hook import ZooHookWithALongName'], "['ZooHookWithALongName', 'A']",
     f"['ZooHookWithALongName', 'A', '{HOOK}']"),
    (['a_hook import AHook', 'mode_hooks import ModeHook'
      ], "[\n    'ModeHook', 'AHookWithQuiteALongName', 'OneMoreHook',\n"
     "    'Another', 'Last'\n]",
     "[\n    'ModeHook', 'AHookWithQuiteALongName', 'OneMoreHook',\n"
     f"    'Another', 'Last', '{HOOK}'\n]"),
    (['a_hook import AHook', 'mode_hooks import OneHook, TwoHook'
      ], "[\n    'OneHook', 'AHookWithQuiteALongName', 'OneMoreHook',\n"
     "    'AnotherOneWithALongName', 'SyncHook', 'TheLastOneOfAll'\n]",
     "[\n    'OneHook', 'AHookWithQuiteALongName', 'OneMoreHook',\n"
     "    'AnotherOneWithALongName', 'SyncHook', 'TheLastOneOfAll',\n"
     f"    '{HOOK}'\n]"),
    (['a_hook import A', IMPORT[6:], 'zoo_hook import Z'],
     f"['Z', 'A',\n           '{HOOK}']", f"['Z', 'A',\n           '{HOOK}']"),
    (['a_hook import A', IMPORT[6:]], "['A']", f"['A', '{HOOK}']"),
]


@pytest.mark.parametrize('imports, entries, expected', RELEASES)
def test_forms_of_releases(imports, entries, expected):
    lines = [f'from .{line}\n' for line in imports]
    head = '# Copyright (c) OpenMMLab. All rights reserved.\n'
    before = head + ''.join(lines) + f'\n__all__ = {entries}\n'
    lines = sorted({*lines, f'{IMPORT}\n'})
    after = head + ''.join(lines) + f'\n__all__ = {expected}\n'
    assert add_export(before) == after
    if IMPORT not in before:
        assert remove_export(after) == before


def test_byte_order_mark_stays():
    before = '\ufeffx = 1\n'.encode('utf-8')
    after = edit_file(before, add_export)
    assert after == f'\ufeff{IMPORT}\nx = 1\n'.encode('utf-8')
    assert edit_file(after, remove_export) == before


def test_under_another_name_it_is_not_exported():
    before = f'{IMPORT} as ETB\n'
    after = add_export(before)
    assert run_imports(after) == {'ETB', HOOK}
    assert remove_export(after) == before
    same = f'{IMPORT} as {HOOK}\n'
    assert add_export(same) == same


def run_imports(text):
    return {
        alias.asname or alias.name
        for statement in ast.parse(text).body for alias in statement.names
    }


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
