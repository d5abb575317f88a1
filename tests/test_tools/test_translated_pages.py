# Copyright (c) OpenMMLab. All rights reserved.
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / 'docs'
ENGLISH = DOCS / 'en'
LANGUAGES = sorted(
    index.parent for index in DOCS.glob('*/index.md')
    if index.parent != ENGLISH)
# The one is meant for MMPose's documentation, the other is made by a tool.
ENGLISH_ALONE = ('customize_logging.md', 'benchmarks.md', 'benchmarks_gpu.md',
                 'verified_findings.md')
FAMILIES = 'verified_configs.md'


def pages(folder):
    """The pages of a language.

    Args:
        folder (Path): Its folder.

    Returns:
        list[Path]: All that are to be translated.
    """
    return sorted(
        page for page in folder.glob('*.md') if page.name not in ENGLISH_ALONE)


@pytest.mark.parametrize('folder', LANGUAGES, ids=lambda path: path.name)
def test_a_language_has_all_pages(folder):
    there, english = map(pages, (folder, ENGLISH))
    assert [page.name for page in there] == [page.name for page in english]


@pytest.mark.parametrize(
    'page', [page for folder in LANGUAGES for page in pages(folder)],
    ids=lambda path: f'{path.parent.name}/{path.name}')
def test_a_page_has_what_no_translation_changes(page):
    assert unchanging(page) == unchanging(ENGLISH / page.name)


@pytest.mark.parametrize('folder', LANGUAGES, ids=lambda path: path.name)
def test_the_families_are_looked_up_on_the_english_page(folder):
    families = (folder / FAMILIES).read_text(encoding='utf-8').split('\n## ')
    assert len(families) == 2
    assert f'](../en/{FAMILIES})' in families[1]


def unchanging(page):
    """What is the same in all languages.

    Args:
        page (Path): The page.

    Returns:
        dict: The levels of the headings, the blocks of code without comments,
        the names in the text, and the numbers in the tables.
    """
    text = page.read_text(encoding='utf-8')
    if page.name == FAMILIES:  # A tool makes the table at its end
        text = text.split('\n## ')[0]
    code = re.compile('^```.*?^```', re.M | re.S)
    prose = code.sub('', text)
    return dict(
        headings=re.findall('^#+ ', prose, re.M),
        code=[re.sub('# .*', '', block) for block in code.findall(text)],
        names=set(re.findall('`[^`]+`', prose)),
        numbers=re.findall(r'\| +([\d.]+)(?= +\|)', prose))


@pytest.mark.parametrize('old, new', [('## A', '### A'), ('--logdir', '--log'),
                                      ('`b`', '`c`'), ('| 3', '| 4')])
def test_a_difference_is_seen(old, new, tmp_path):
    english, other = tmp_path / 'en.md', tmp_path / 'ko.md'
    english.write_text('## A\n\nThe `b`.\n\n| a |\n| - |\n| 3 |\n\n'
                       '```shell\ntensorboard --logdir A  # There\n```\n')
    text = english.read_text()
    text = text.replace('The', '그').replace('There', '거기')
    other.write_text(text, encoding='utf-8')
    assert unchanging(other) == unchanging(english)
    other.write_text(text.replace(old, new), encoding='utf-8')
    assert unchanging(other) != unchanging(english)


def test_the_table_of_the_families_is_no_difference(tmp_path):
    english, other = tmp_path / 'en', tmp_path / 'ko'
    for folder, table in ((english, '| `a` | 3 |'), (other, '')):
        folder.mkdir()
        (folder /
         FAMILIES).write_text(f'# The `b`\n\n## Families\n\n{table}\n')
    assert unchanging(other / FAMILIES) == unchanging(english / FAMILIES)
    (other / FAMILIES).write_text('# The `c`\n\n## Families\n')
    assert unchanging(other / FAMILIES) != unchanging(english / FAMILIES)
