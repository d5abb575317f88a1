# Copyright (c) OpenMMLab. All rights reserved.
import os
import re
import subprocess
import sys
from pathlib import Path

import collect_bug_report
import mmengine
import pytest
import torch
from collect_bug_report import (environment_of_run, fence, find_log,
                                make_report, read_records, shorten,
                                what_the_hook_said)

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools' / 'collect_bug_report.py'
DEMO = 'configs/enhanced_tensorboard/td-hm_res18_1xb8-12e_synthetic-128x96.py'
HOME = '/'.join(['', 'home', 'jane'])  # Of nobody.
SECRETS = dict(
    wandb_api_key='0123456789abcdef0123456789abcdef01234567',
    hub_token='hf_abcdefghijklmnopqrstuvwxyz',
    db_password='correct-horse',
    mirror='https://jane:battery@example.org/x',
    data_dir=f'{HOME}/staple')
WORDS = ('0123456789abcdef', 'hf_abc', 'correct', 'battery', 'jane')


def run(script, *args, **env):
    return subprocess.run(
        [sys.executable, '-W', 'ignore',
         str(script), *map(str, args)],
        cwd=str(ROOT),
        env={
            **os.environ, 'OMP_NUM_THREADS': '1',
            **env
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True)


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory):
    """Of a short real training, with secrets in its config."""
    folder = tmp_path_factory.mktemp('bug')
    data = folder / 'synthetic_coco'
    made = run(ROOT / 'tools/dataset_generators/synthetic_coco.py', '--out',
               data, '--num-train', 4, '--num-val', 2)
    assert made.returncode == 0, made.stdout
    result = run(
        ROOT / 'tools/train.py', DEMO, '--work-dir', folder / '실험 1',
        '--cfg-options', 'train_cfg.max_epochs=1',
        'default_hooks.enhanced_tensorboard.hparams=[no.such.key]',
        f'val_evaluator.ann_file={data}/annotations/person_keypoints_val.json',
        *(f'{split}_dataloader.{key}={value}' for split in ('train', 'val')
          for key, value in (('dataset.data_root', f'{data}/'),
                             ('num_workers', 0), ('persistent_workers',
                                                  False))),
        *(f'{name}={value}' for name, value in SECRETS.items()))
    assert result.returncode == 0, result.stdout
    return folder / '실험 1'


def sections_of(report):
    titles = re.split('^## (.+)\n', report, flags=re.M)[1:]
    return dict(zip(titles[::2], titles[1::2]))


def test_the_report_of_a_real_run(work_dir, tmp_path):
    out = tmp_path / 'report.md'
    result = run(TOOL, work_dir, '--out', out, HOME='/srv/nobody')
    assert result.returncode == 0, result.stdout
    assert f'Wrote {out}' in result.stdout
    report = out.read_text(encoding='utf-8')
    sections = sections_of(report)
    versions = sections['Versions']
    assert f'\nmmengine: {mmengine.__version__}\n' in versions
    assert f'\nPyTorch: {torch.__version__}\n' in versions
    assert '\nCUDA available: ' in versions
    assert re.search(r'\nhook: .*enhanced_tensorboard_hook\.py', versions)
    environment = sections['Environment of the run, by its log']
    assert 'Distributed launcher: none' in environment
    config = sections['Config']
    assert "type='TopdownPoseEstimator'" in config
    assert "wandb_api_key = '***'" in config
    assert "mirror = 'https://***@example.org/x'" in config
    assert "data_dir = '~/staple'" in config
    said = sections['What the hook said']
    assert 'no.such.key' in said and 'EnhancedTensorBoardHook wrote' in said
    assert 'eta:' not in said
    assert 'Epoch(val) [1]' in sections['End of the log']
    for word in WORDS:
        assert word not in report, word


def run_here(monkeypatch, *args):
    monkeypatch.setattr(sys, 'argv', ['x', *map(str, args)])
    monkeypatch.setattr(collect_bug_report, 'versions', lambda: ['x: 1'])
    collect_bug_report.main()


def test_it_stands_in_the_work_directory(work_dir, monkeypatch):
    run_here(monkeypatch, work_dir)
    assert (work_dir / 'bug_report.md').is_file()


def test_the_directory_of_a_run_is_enough(work_dir, tmp_path):
    log = find_log(work_dir)
    out = tmp_path / 'report.md'
    result = run(TOOL, log.parent, '--out', out)
    assert result.returncode == 0, result.stdout
    report = out.read_text(encoding='utf-8')
    assert "type='TopdownPoseEstimator'" in sections_of(report)['Config']


def test_it_works_where_mmengine_does_not(work_dir, tmp_path):
    """And says what is broken: that may be what the report is about."""
    for name in ('mmengine', 'mmpose'):
        (tmp_path / name).mkdir()
        (tmp_path / name / '__init__.py').write_text('import missing_thing')
    out = tmp_path / 'report.md'
    result = run(TOOL, work_dir, '--out', out, PYTHONPATH=str(tmp_path))
    assert result.returncode == 0, result.stdout
    versions = sections_of(out.read_text(encoding='utf-8'))['Versions']
    assert 'hook: cannot be imported: ModuleNotFoundError: No' in versions
    assert 'MMEngine says nothing more: ModuleNotFoundError' in versions


@pytest.mark.parametrize('args, words', [
    (['no/such'], 'there is no directory no/such'),
    (['tools'], 'neither a log nor a config'),
    ([], 'usage'),
])
def test_what_is_wrong_is_said(args, words, tmp_path):
    if args == ['tools']:
        args = [tmp_path]
    result = run(TOOL, *args)
    assert result.returncode != 0 and words in result.stdout


def test_a_place_that_cannot_be_written_to(work_dir, monkeypatch):
    with pytest.raises(SystemExit, match='cannot write .*--out'):
        run_here(monkeypatch, work_dir, '--out', '/no/such/place')


# Logs

LOG = f'''2026/01/02 03:04:05 - mmengine - INFO - System environment:
    GPU 0: H200
2026/01/02 03:04:05 - mmengine - INFO - Config:
hook = dict(type='EnhancedTensorBoardHook')
2026/01/02 03:04:06 - mmengine - WARNING - WeightMonitor failed with X: y
2026/01/02 03:04:06 - mmengine - DEBUG - Traceback (most recent call last):
  File "{HOME}/x.py", line 1
ValueError: y
2026/01/02 03:04:07 - mmengine - INFO - Epoch(train) [1][50/100]
2026/01/02 03:04:07 - mmengine - INFO - TensorBoard: everything is written
2026/01/02 03:04:08 - mmengine - ERROR - of somebody else
'''


@pytest.fixture
def log(tmp_path):
    file = tmp_path / 'run' / 'x.log'
    file.parent.mkdir()
    file.write_text(LOG)
    return file


def test_what_the_hook_and_all_that_failed_said(log):
    records = read_records(log)
    said = ''.join(what_the_hook_said(records))
    assert 'ValueError: y\n' in said
    assert 'WeightMonitor failed' in said and 'of somebody else' in said
    assert 'TensorBoard: everything' in said
    assert 'Epoch(train)' not in said and 'type=' not in said
    assert environment_of_run(records).endswith('GPU 0: H200\n')


def test_a_log_without_config_and_a_config_without_log(log):
    report = make_report(log, None)
    assert sections_of(report)['Config'].strip() == 'There is none.'
    assert 'jane' not in report
    sections = sections_of(make_report(None, log))
    assert 'There is none.' in sections['Environment of the run, by its log']
    assert 'GPU 0' in sections['Config']


def test_the_last_run_is_taken(log):
    other = log.parent.parent / 'later' / 'y.log'
    other.parent.mkdir()
    other.write_text('')
    os.utime(str(log), (1, 1))
    assert find_log(log.parent.parent) == other


def test_what_is_no_file_is_passed_over(log):
    (log.parent / 'latest.log').symlink_to('gone.log')
    (log.parent / 'old.log').mkdir()
    (log.parent / 'mine.py').mkdir()
    assert find_log(log.parent) == log
    assert collect_bug_report.find_config(log.parent) is None


def test_bytes_that_are_no_text(log):
    log.write_bytes(LOG.encode() + b'\xff\xfe\n' * 3)
    assert '\ufffd' in make_report(log, None)


def test_a_long_report_fits_into_an_issue(log, tmp_path):
    log.write_text(LOG + LOG.splitlines()[-1] + 'x' * 100000)
    config = tmp_path / 'config.py'
    config.write_text('x = 1\n' * 100000)
    report = make_report(log, config)
    assert len(report) < 65536
    assert 'characters are left out' in report


def test_a_secret_is_not_cut_in_two_to_be_read(tmp_path, monkeypatch):
    """Shortened first, the second half would be no token any more."""
    monkeypatch.setattr(collect_bug_report, 'MAX_CONFIG', 40)
    config = tmp_path / 'config.py'
    secret = 'hf_' + 'abcdefgh' * 4
    for before in range(60):
        config.write_text('#' * before + f'"{secret}"' + '#' * 50)
        assert 'efgh' not in make_report(None, config)


def test_shorten():
    assert shorten('abcdef', 6) == 'abcdef'
    short = shorten('a' * 50 + 'b' * 50, 10)
    assert short.startswith('aaaaa\n') and short.endswith('\nbbbbb')
    assert '90 characters' in short


@pytest.mark.parametrize('text', ['a', '```', '````text\nx\n````'])
def test_a_block_cannot_be_ended_from_within(text):
    first, *_, last = fence(text).splitlines()
    assert first == last + 'text'
    assert last not in text


def test_the_issue_template_points_here():
    template = ROOT / '.github' / 'ISSUE_TEMPLATE' / 'bug_report.md'
    assert 'python tools/collect_bug_report.py' in template.read_text()
