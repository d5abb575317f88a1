# Copyright (c) OpenMMLab. All rights reserved.
import sys

import make_report
import pytest
from torch.utils.tensorboard import SummaryWriter


def test_each_run_of_a_work_directory_gets_a_report(tmp_path, monkeypatch,
                                                    capsys):
    for run in ('one', 'two'):
        with SummaryWriter(str(tmp_path / run / 'vis_data')) as writer:
            writer.add_scalar('loss', 1., 1)
    monkeypatch.setattr(sys, 'argv', ['make_report.py', str(tmp_path)])
    make_report.main()
    told = capsys.readouterr().out
    for run in ('one', 'two'):
        path = tmp_path / run / 'vis_data/report.html'
        assert f'{tmp_path.name}/{run}</h1>' in path.read_text()
        assert str(path) in told


def test_a_directory_without_a_run_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['make_report.py', str(tmp_path)])
    with pytest.raises(SystemExit, match='no event file'):
        make_report.main()
