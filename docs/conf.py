# Copyright (c) OpenMMLab. All rights reserved.
"""Sphinx's settings, the same for all languages; see `make docs`."""
import re
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.search import SearchEnglish

project = 'EnhancedTensorBoardHook'
author = 'OpenMMLab'
html_title = project

extensions = ['myst_parser']
# Links such as tags.md#keypointmonitor.
myst_heading_anchors = 3

html_theme = 'furo'
html_show_copyright = False
html_show_sphinx = False

# Chinese has no spaces: jieba finds the words, with the help of this list.
html_search_options = {
    'dict': str(Path(__file__).parent / 'zh_cn' / 'search_words.txt')
}


class SearchKorean(SearchEnglish):
    """Finds words that are followed by a particle.

    No space parts them, and where Sphinx has found a word on one page it does
    not look inside of longer ones. So the beginnings of Korean words count as
    words, and Latin letters before Korean ones.
    """
    lang = 'ko'

    def split(self, input):
        words = super().split(input)
        for part in re.findall('[가-힣]+|[a-zA-Z0-9_]+', input):
            shortest = 1 if part >= '가' else len(part)
            words += [part[:end] for end in range(shortest, len(part) + 1)]
        return words


def link_other_languages(app, doctree):
    """Lead links to a page of another language to what is built of it.

    Each language is built by itself, so Sphinx does not know that page.
    """
    for link in list(doctree.findall(pending_xref)):
        page = Path(link['reftarget'])
        if page.parent.parent == Path(app.srcdir).parent:
            url = f'../{page.parent.name}/{page.name}.html'
            link.replace_self(
                nodes.reference('', '', *link.children, refuri=url))


def setup(app):
    app.add_search_language(SearchKorean)
    app.connect('doctree-read', link_other_languages)
