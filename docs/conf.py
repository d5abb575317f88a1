# Copyright (c) OpenMMLab. All rights reserved.
"""Sphinx's settings, the same for all languages; see tools/build_docs.py."""
project = 'EnhancedTensorBoardHook'
author = 'OpenMMLab'
html_title = project

extensions = ['myst_parser']
# Links such as tags.md#keypointmonitor.
myst_heading_anchors = 3

html_theme = 'furo'
html_show_copyright = False
html_show_sphinx = False
