# Copyright (c) OpenMMLab. All rights reserved.
"""What the report refers to is there, in every language."""
import re
from pathlib import Path

import pytest

from mmpose.engine.monitors import build_detectors
from mmpose.engine.monitors.health.report import DOCS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(ROOT.glob('docs/*/health.md'))


def declared():
    return {name for d in build_detectors() for name in d.findings}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.parent.name)
def test_every_finding_has_an_anchor_and_every_anchor_a_finding(page):
    anchors = re.findall('<a id="(.*?)"></a>', page.read_text('utf-8'))
    assert sorted(anchors) == sorted(declared())


def test_the_page_that_the_report_refers_to():
    url, path = DOCS
    assert ROOT / path in PAGES and url.endswith(path)
