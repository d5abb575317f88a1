# Copyright (c) OpenMMLab. All rights reserved.
import dataclasses
import inspect
import json
import re
import shutil
import subprocess
from pathlib import Path

import make_doc_tables
import pytest
from make_doc_tables import (all_cells, fill, is_up_to_date,
                             monitors_with_switches, plain, simple_table,
                             translations)

ROOT = Path(__file__).resolve().parents[2]
ENGLISH = ROOT / 'docs' / 'en'
PAGES = sorted(make_doc_tables.PAGES)


@pytest.mark.parametrize('page', PAGES)
def test_the_tables_are_those_of_the_docstrings(page):
    text = (ENGLISH / page).read_text(encoding='utf-8')
    assert fill(text) == text, 'run `python tools/make_doc_tables.py`'


def test_translated_tables_have_the_english_names_and_values():
    drifted = [file for file in translations() if not is_up_to_date(file)]
    assert not drifted


def test_every_parameter_is_on_the_page():
    hook = make_doc_tables.hook_module().EnhancedTensorBoardHook
    expected = [
        (f'`{name}`', f'`{parameter.default!r}`')
        for name, parameter in inspect.signature(hook).parameters.items()
    ]
    rows = all_cells(ENGLISH / 'parameters.md', 3)
    assert [(name, default) for name, _, default in rows] == expected


def test_every_monitor_says_what_it_tells():
    silent = [
        monitor.__name__ for monitor, _ in monitors_with_switches()
        if '\nWhat it tells: ' not in inspect.getdoc(monitor)
    ]
    assert not silent


def test_a_monitor_has_the_switches_that_build_it():
    switches = {
        monitor.__name__: names
        for monitor, names in monitors_with_switches()
    }
    assert switches['GradientMonitor'] == ['log_grad_norm']
    assert switches['KeypointMonitor'] == ['log_keypoints', 'hard_samples']
    assert switches['TelemetryMonitor'] == []


def test_a_changed_declaration_is_noticed(monkeypatch):
    registry = make_doc_tables.registry()
    changed = [
        dataclasses.replace(argument, meaning='Another meaning')
        if argument.name == 'log_grad_norm' else argument
        for argument in registry.hook_arguments()
    ]
    monkeypatch.setattr(registry, 'hook_arguments', lambda: changed)
    text = (ENGLISH / 'parameters.md').read_text(encoding='utf-8')
    assert 'Another meaning' in fill(text)


def test_the_tool_writes_what_differs(tmp_path, monkeypatch, capsys):
    for language in ('en', 'ko'):
        (tmp_path / language).mkdir()
        for page in PAGES:
            text = (ENGLISH / page).read_text(encoding='utf-8')
            (tmp_path / language / page).write_text(text, encoding='utf-8')
    monkeypatch.setattr(make_doc_tables, 'DOCS', tmp_path)
    page = tmp_path / 'en' / 'presets.md'
    right = page.read_text(encoding='utf-8')
    page.write_text(right.replace('`500`', '`501`'), encoding='utf-8')
    with pytest.raises(SystemExit) as end:
        make_doc_tables.main()
    assert end.value.code is None
    assert capsys.readouterr().out == f'wrote {page}\n'
    assert page.read_text(encoding='utf-8') == right


def test_a_translation_may_differ_in_words_and_not_in_values(
        tmp_path, monkeypatch):
    monkeypatch.setattr(make_doc_tables, 'DOCS', tmp_path)
    english = '| name | type | default | meaning |\n|---|---|---|---|\n'
    for language in ('en', 'ko'):
        (tmp_path / language).mkdir()
    (tmp_path / 'en' /
     'parameters.md').write_text(english + '| `a` | `int` | `1` | Of that |\n')
    korean = tmp_path / 'ko' / 'parameters.md'
    head = '| 이름 | 형 | 기본값 | 뜻 |\n|:--|:--|:--|:--|\n'
    korean.write_text(head + '| `a` | `int` | `1` | 그것의 |\n', encoding='utf-8')
    assert translations() == [korean] and is_up_to_date(korean)
    korean.write_text(head + '| `a` | `int` | `2` | 그것의 |\n', encoding='utf-8')
    assert not is_up_to_date(korean)


def test_another_checkout_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(make_doc_tables, 'ROOT', tmp_path)
    with pytest.raises(RuntimeError, match='link_patch'):
        make_doc_tables.hook_module()


def test_rows_of_a_table():
    rows = simple_table('''======= ==========
``a/b`` First
        and more
``c``   Second
======= ==========''')
    assert rows == [('`a/b`', 'First and more'), ('`c`', 'Second')]


def test_roles_become_code():
    assert plain('See :class:`~x.Y`\n and ``z``.') == 'See `x.Y` and `z`.'


# What Sphinx makes of the pages

LINKS = [(page, link) for page in sorted(ROOT.glob('docs/*/*.md'))
         for link in re.findall(r'\]\(([^)#:]+)[^):]*\)',
                                page.read_text(encoding='utf-8'))]


@pytest.mark.parametrize('page, link', LINKS)
def test_a_link_leads_to_a_file(page, link):
    assert (page.parent / link).is_file()


def test_make_docs_installs_what_it_needs_and_builds():
    if not shutil.which('make'):
        pytest.skip('there is no make')
    printed = subprocess.check_output(['make', '--dry-run', 'docs'],
                                      cwd=str(ROOT),
                                      universal_newlines=True)
    before, _, after = printed.partition('-r requirements/docs.txt')
    assert 'tools/setup_env.py' in before and 'pip install' in before
    assert '.venv/bin/python -m sphinx' in after


MAKE = ['make', '-C', str(ROOT), 'html']


def build(folder):
    """Build the languages beside a folder; return its first page."""
    docs = folder.parent
    subprocess.run([*MAKE, f'DOCS={docs}'], check=True)
    return docs / '_build' / folder.name / 'index.html'


def test_the_documentation_builds_without_warnings():
    pytest.importorskip('sphinx', reason='`make docs` installs it')
    subprocess.run(MAKE, check=True)


def test_a_word_is_found_with_a_korean_particle_at_its_end(tmp_path):
    pytest.importorskip('sphinx', reason='`make docs` installs it')
    (tmp_path / 'conf.py').write_bytes((ROOT / 'docs/conf.py').read_bytes())
    (tmp_path / 'ko').mkdir()
    (tmp_path / 'ko' / 'index.md').write_text(
        '# 한 쪽\n\n훅은 loss를, 즉 손실을 기록합니다.\n', encoding='utf-8')
    page = build(tmp_path / 'ko')
    index = page.with_name('searchindex.js').read_text(encoding='utf-8')
    terms = json.loads(re.search(r'\((.*)\)', index, re.S).group(1))['terms']
    assert {'훅', '손실', '손실을', 'loss', 'loss를'} <= set(terms)


def test_a_warning_is_an_error(tmp_path):
    pytest.importorskip('sphinx', reason='`make docs` installs it')
    (tmp_path / 'conf.py').write_bytes((ROOT / 'docs/conf.py').read_bytes())
    (tmp_path / 'zh_cn').mkdir()
    index = tmp_path / 'zh_cn' / 'index.md'
    index.write_text('# One page\n')
    page = build(index.parent)
    assert 'lang="zh-CN"' in page.read_text(encoding='utf-8')
    index.write_text('# One page\n\n[nowhere](gone.md)\n')
    with pytest.raises(subprocess.CalledProcessError):
        build(index.parent)


def test_a_link_leads_to_the_built_page_of_another_language(tmp_path):
    pytest.importorskip('sphinx', reason='`make docs` installs it')
    (tmp_path / 'conf.py').write_bytes((ROOT / 'docs/conf.py').read_bytes())
    for language, link in (('en', 'here'), ('ko', '[en](../en/index.md)')):
        (tmp_path / language).mkdir()
        (tmp_path / language / 'index.md').write_text(f'# One\n\n{link}\n')
    english, korean = (build(tmp_path / language) for language in ('en', 'ko'))
    link = re.search('href="([^"]*en/index[^"]*)"',
                     korean.read_text()).group(1)
    assert (korean.parent / link).resolve() == english.resolve()


def test_chinese_can_be_searched(tmp_path):
    pytest.importorskip('sphinx', reason='`make docs` installs it')
    folder = tmp_path / 'zh_cn'
    folder.mkdir()
    for name in ('conf.py', 'zh_cn/search_words.txt'):
        (tmp_path / name).write_bytes((ROOT / 'docs' / name).read_bytes())
    (folder / 'index.md').write_text('# 一页\n\n看梯度范数和学习率。\n', encoding='utf-8')
    index = build(folder).with_name('searchindex.js')
    words = json.loads(re.search('{.*}', index.read_text()).group())['terms']
    assert {'梯度', '范数', '梯度范数', '学习率'} <= set(words)
