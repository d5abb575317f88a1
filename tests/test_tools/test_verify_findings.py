# Copyright (c) OpenMMLab. All rights reserved.
"""The page and the pictures on how the findings were verified."""
import json
import math
import re
from pathlib import Path

import finding_page
import finding_pictures
import pytest

from mmpose.engine.monitors import build_detectors

DOCS = Path(__file__).resolve().parents[2] / 'docs'


def row(test, *findings, **changes):
    return dict(
        dict(
            test=test,
            steps=[10],
            iterations=40,
            passed=True,
            findings=list(findings)), **changes)


SPIKE = ('loss_spike', 'warning', 70, 'The loss jumped at step 10.', True)
PLATEAU = ('plateau', 'warning', 30, 'AP is flat.', False)
NOTE = ('unchanged_weights/head', 'note', 30, 'head does not learn.', False)


def table_of(page, heading):
    """The cells of the first table under a heading, by the first cell."""
    lines = page.split(heading)[1].split('\n')
    start = next(i for i, line in enumerate(lines) if line.startswith('|'))
    rows = {}
    for line in lines[start + 2:]:
        if not line.startswith('|'):
            break
        first, *others = (cell.strip() for cell in line.strip('|').split('|'))
        rows[first] = others
    return rows


def test_the_page_counts_what_was_found():
    found = dict(
        planted={
            'a.py': [
                row('test_a_jump[1]', SPIKE),
                row('test_a_jump[2]', SPIKE, passed=False),
                row('test_healthy_jump', NOTE)
            ]
        },
        healthy={'b.py': [row('test_healthy[x]', PLATEAU)]},
        families=dict(
            good=dict(
                iterations=300, images=4, batch_size=2, scale=.5, findings=[]),
            bad=dict(
                iterations=90,
                images=8,
                batch_size=2,
                scale=1.,
                findings=['plateau']),
            none=dict(why='it has no loss')))
    page = finding_page.page(found, 5)
    summary = table_of(page, '# How')
    # Planted, tests passed, iterations later, samples, healthy, families.
    assert summary['`loss_spike`'] == [
        '2', '1', '60', 'named', '0 of 2', '0 of 2'
    ]
    assert summary['`plateau`'] == ['0', '0', '', '', '1 of 2', '1 of 2']
    assert set(summary) == {f'`{name}`' for name in declared()}
    assert table_of(page, '## Planted')['`loss_spike`'][0] == '`test_a_jump`'
    assert '2 trainings of a small model, with 1 false findings' in page
    healthy = table_of(page, '## Healthy runs')
    assert healthy['`test_healthy_jump`'][1].endswith('(a note)')
    assert '1 of the 5 cannot be trained' in page
    assert ('2 of the other 4 were trained, 1 of them for 300 iterations, '
            'with 1 that') in page
    rows = table_of(page, '## Families')
    assert rows['`none`'] == ['', '', '', '', 'it has no loss']
    assert rows['`good`'] == ['300', '4', '2', '0.5', 'none']


def declared():
    return {name for d in build_detectors() for name in d.findings}


def test_every_finding_is_drawn_or_has_no_curve():
    drawn = [
        name for group in finding_pictures.GROUPS.values() for name in group
    ]
    assert {*drawn, *finding_pictures.WITHOUT_CURVE} == declared()
    assert len(drawn) == len(set(drawn))
    assert not {*drawn} & {*finding_pictures.WITHOUT_CURVE}


@pytest.mark.parametrize(
    'page',
    sorted(DOCS.glob('*/health.md')),
    ids=lambda page: page.parent.name)
def test_the_page_of_the_report_shows_them(page):
    text = page.read_text(encoding='utf-8')
    for group in finding_pictures.GROUPS:
        path, = re.findall(rf'\]\((.*findings_{group}.png)\)', text)
        assert (page.parent / path).stat().st_size < 300_000


def test_a_picture_of_the_curves_of_a_training(tmp_path):
    """With the line where it was planted, and crosses where it is NaN."""
    (tmp_path / 'curve.json').write_text(
        json.dumps(
            dict(
                loss=[(s, math.nan if s > 30 else 1 / s)
                      for s in range(1, 41)],
                epoch=[(s, s // 4) for s in range(1, 41)],
                PCK=[(e, .5) for e in range(1, 11)])))
    rows = [row('test_a', SPIKE, curves='curve.json')]
    panel = finding_pictures.panel_of('loss_spike', ('loss', ), rows, tmp_path)
    assert panel['planted'] == [10] and panel['found'] == 70
    assert panel['unit'] == 1
    by_epoch = finding_pictures.panel_of('loss_spike', ('PCK', ), rows,
                                         tmp_path)
    assert by_epoch['unit'] == 4 and by_epoch['planted'] == [2.5]
    for name, tag in (('plateau', 'loss'), ('loss_spike', 'nothing')):
        assert finding_pictures.panel_of(name, (tag, ), rows, tmp_path) is None
    finding_pictures.draw([panel, by_epoch], tmp_path / 'a.png')
    assert (tmp_path / 'a.png').read_bytes()[:4] == b'\x89PNG'
