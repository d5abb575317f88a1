# Copyright (c) OpenMMLab. All rights reserved.
"""Sphinx's settings, the same for all languages; see tools/build_docs.py."""
import re
from pathlib import Path

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


def setup(app):
    app.add_search_language(SearchKorean)
