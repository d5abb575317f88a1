# Copyright (c) OpenMMLab. All rights reserved.
"""A report on a run that needs no TensorBoard."""
import csv
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from torch.utils.tensorboard import SummaryWriter

from mmpose.engine.hooks import EnhancedTensorBoardHook
from mmpose.engine.monitors import EventWriter, Image, Record, Scalar, Text
from mmpose.engine.monitors.run.html_report.html_report import (
    HTMLReportMonitor, config_changes, write_report)

AP = [0.1, 0.5, 0.3]
VOID = ('meta', 'img', 'br', 'hr')


class Page(HTMLParser):
    """The tags, texts and addresses of a page; all tags must be closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text, self.addresses = [], [], '', []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [
            value for name, value in attrs
            if name in ('src', 'href', 'xlink:href') and value
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        if tag in VOID:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += f' {data}'


@pytest.fixture(scope='module')
def log_dir(tmp_path_factory):
    """A run with two validations more than it keeps pictures of."""
    folder = tmp_path_factory.mktemp('run')
    writer = EventWriter(SummaryWriter(str(folder)), async_write=False)
    rng = np.random.RandomState(0)
    large = rng.randint(0, 255, (1200, 1200, 3)).astype(np.uint8)
    for step in range(1, 1001):
        writer.write(Record(step, lambda: [Scalar('loss', 1 / step)]))
    for epoch, ap in enumerate(AP, 1):
        writer.write(
            Record(
                epoch, lambda: [
                    Scalar('val/coco/AP', ap),
                    Scalar('val/coco/AR', ap),
                    Image('val/images', [large] * 8, photo=True),
                    Image('keypoints/accuracy', [large[:40, :60]])
                ]))
    writer.write(
        Record(
            1000, lambda: [
                Text(
                    'health/report', '**A spike.** At the end.\n\n'
                    '#### warning: A <b>spike</b>.\n\n- **Evidence:** 9.'),
                Text('run/environment', '| | |\n| :-- | :-- |\n| GPU | no |')
            ]))
    writer.close()
    return str(folder)


@pytest.fixture(scope='module')
def page(log_dir):
    return Path(write_report(log_dir, 'runs/<1>')).read_text(encoding='utf-8')


def test_it_is_one_page_that_needs_nothing_else(page):
    found = Page(page)
    assert 'script' not in found.tags and 'link' not in found.tags
    for address in found.addresses:
        assert address.startswith(('data:image/', '#')), address
    assert len(page) < 5e6
    assert 'width=device-width' in page


def test_it_has_metrics_curves_pictures_and_findings(page):
    found = Page(page)
    assert re.search(r'coco/AP\s+0\.3\s+0\.5\s+2 ', found.text)
    assert found.tags.count('svg') == 2  # Loss and validation metrics.
    # Not all eight large ones: they would be more than 5 MB.
    assert 2 < found.tags.count('img') < 9
    assert 'keypoints/accuracy/0, step 3' in found.text
    assert 'A spike.' in found.text and 'Evidence:' in found.text
    assert 'GPU' in found.text
    # What names of files and findings hold is no HTML.
    assert 'runs/<1>' in found.text and '<b>spike</b>' in found.text


def test_all_scalars_are_in_the_table(log_dir, page):
    with open(f'{log_dir}/scalars.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['tag'] for row in rows].count('loss') == 1000
    found = {(row['tag'], int(row['step'])): float(row['value'])
             for row in rows}
    assert found['val/coco/AP', 2] == pytest.approx(0.5)
    assert found['loss', 1000] == pytest.approx(1e-3)


def test_a_resumed_run_has_its_last_curve(tmp_path):
    writer = EventWriter(SummaryWriter(str(tmp_path)), async_write=False)
    for step in (1, 2, 3):
        writer.write(Record(step, lambda: [Scalar('loss', 1.)]))
    writer.close()
    writer = EventWriter(SummaryWriter(str(tmp_path)), async_write=False)
    writer.continue_run(str(tmp_path), 3)
    writer.write(Record(3, lambda: [Scalar('loss', 2.)]))
    writer.close()
    write_report(str(tmp_path))
    with open(tmp_path / 'scalars.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [(r['step'], r['value']) for r in rows] == [('1', '1.0'),
                                                       ('2', '1.0'),
                                                       ('3', '2.0')]


def test_a_training_whose_validation_loss_is_nan_has_a_report(tmp_path):
    writer = EventWriter(SummaryWriter(str(tmp_path)), async_write=False)
    for epoch, ap in ((1, .1), (2, float('nan')), (3, .3)):
        values = [Scalar('val/loss', float('nan')), Scalar('val/coco/AP', ap)]
        writer.write(Record(epoch, lambda: values))
    writer.close()
    found = Page(Path(write_report(str(tmp_path))).read_text(encoding='utf-8'))
    assert re.search(r'val/coco/AP\s+0\.3\s+0\.3\s+3 ', found.text)
    assert re.search(r'val/loss\s+nan', found.text)
    # The last value, no best one.
    assert re.search(r'loss\s+nan\s+[A-Z]', found.text)


def test_a_directory_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=tmp_path.name):
        write_report(str(tmp_path))


def test_what_a_config_changes_is_in_the_report(tmp_path):
    """Without the values of secrets."""
    (tmp_path / 'base.py').write_text('lr = 0.1\nmodel = dict(depth=50)\n')
    config = tmp_path / 'mine.py'
    config.write_text("_base_ = ['base.py']\nmodel = dict(depth=18)\n"
                      "api_key = 'abc123'\n")
    changes = config_changes(Config.fromfile(str(config)))
    assert '-model = dict(depth=50)' in changes
    assert '+model = dict(depth=18)' in changes
    assert '+api_key' in changes and 'abc123' not in changes
    assert '-lr' not in changes
    assert config_changes(Config.fromfile(str(tmp_path / 'base.py'))) == ''
    assert config_changes(Config(dict(lr=1))) == ''
    assert config_changes(None) == ''


def test_the_presets_decide():
    assert any(
        isinstance(m, HTMLReportMonitor)
        for m in EnhancedTensorBoardHook(preset='detailed').monitors)
    assert not any(
        isinstance(m, HTMLReportMonitor)
        for m in EnhancedTensorBoardHook().monitors)
