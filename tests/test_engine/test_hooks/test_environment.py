# Copyright (c) OpenMMLab. All rights reserved.
import os
import platform
import re
import socket
import subprocess
import sys
import threading

import cv2
import mmcv
import mmengine
import numpy as np
import pytest
import tensorboard
import torch
from tensorboard.plugins.text.text_plugin import text_array_to_html

import mmpose
from mmpose.engine.monitors.run import environment
from mmpose.engine.monitors.run.environment import describe_command
from mmpose.engine.monitors.run.redaction import without_user

# What takes long and is not looked at here is left out.
HOOK = dict(
    log_train_images=False,
    log_val_images=False,
    log_keypoints=False,
    hard_samples=0,
    log_model_stats=False)
ONE_EPOCH = dict(train_cfg=dict(by_epoch=True, max_epochs=1))
TAG = 'run/environment/text_summary'


def rows_of(events):
    """The table, by the names of the rows."""
    event, = events.Tensors(TAG)
    assert event.step == 0
    text = event.tensor_proto.string_val[0].decode()
    rows = [
        re.fullmatch(r'\| (.*?) \| (.*) \|', line).groups()
        for line in text.splitlines()[2:]
    ]
    assert len(dict(rows)) == len(rows)
    return dict(rows)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one commit, where the test runs; and the commit."""
    folder = tmp_path / 'repository'
    folder.mkdir()
    (folder / 'train.py').write_text('')
    monkeypatch.chdir(folder)
    git = ['git', '-c', 'user.name=a', '-c', 'user.email=a@b']
    for command in (['init', '-q'], ['add', '.'], ['commit', '-qm', 'one']):
        subprocess.run([*git, *command], check=True)
    return folder, subprocess.check_output(['git', 'rev-parse',
                                            'HEAD']).decode().strip()


def test_what_a_training_runs_in(train, read_events, repository, monkeypatch):
    folder, commit = repository
    monkeypatch.setattr(sys, 'argv', [
        'tools/train.py',
        os.path.expanduser('~/configs/mine.py'), '--api-token', 'abc', 'a|b'
    ])
    asked_in = []
    git_commit = environment._git_commit

    def ask():
        asked_in.append(threading.current_thread().name)
        return git_commit()

    monkeypatch.setattr(environment, '_git_commit', ask)
    rows = rows_of(read_events(train(HOOK, **ONE_EPOCH)))
    expected = {
        'python': platform.python_version(),
        'mmpose': mmpose.__version__,
        'mmengine': mmengine.__version__,
        'mmcv': mmcv.__version__,
        'torch': torch.__version__,
        'tensorboard': tensorboard.__version__,
        'opencv': cv2.__version__,
        'processes': '1',
        'seed': '0',
        'deterministic': 'no',
        'git commit': commit,
        'working directory': without_user(str(folder)),
        'command': "`tools/train.py ~/configs/mine.py --api-token *** 'a|b'`",
    }
    assert {name: rows[name] for name in expected} == expected
    assert {'numpy', 'device', 'processor', 'system'} <= set(rows)
    assert os.path.expanduser('~') not in ' '.join(rows.values())
    # The training does not wait for git.
    assert asked_in == ['EventWriter']


def test_tensorboard_shows_the_table():
    run = dict(device='a|b')
    text, = environment._values(run, ['c|d'])
    html = text_array_to_html(np.array(text.text.encode(), dtype=object), True)
    rows = re.findall(r'<tr>\s*<td>(.*?)</td>\s*<td>(.*?)</td>\s*</tr>', html)
    assert dict(rows)['device'] == 'a|b'
    assert dict(rows)['command'] == "<code>'c|d'</code>"


@pytest.mark.parametrize('variables, job', [
    (dict(), None),
    (dict(SLURM_JOB_ID='8'), '8'),
    (dict(SLURM_JOB_ID='17', SLURM_ARRAY_JOB_ID='15',
          SLURM_ARRAY_TASK_ID='2'), '15_2'),
])
def test_host_and_job(variables, job, monkeypatch):
    """The number is the one that ``sacct -j`` and ``scancel`` take."""
    for name in list(os.environ):
        if name.startswith('SLURM_'):
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    text, = environment._values({}, [])
    rows = dict(re.findall(r'\| (.*?) \| (.*) \|', text.text))
    assert rows['host'] == socket.gethostname()
    assert rows.get('SLURM job') == job


def test_seed_and_determinism(train, read_events):
    try:
        rows = rows_of(
            read_events(
                train(
                    HOOK,
                    randomness=dict(seed=7, deterministic=True),
                    **ONE_EPOCH)))
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False
    assert (rows['seed'], rows['deterministic']) == ('7', 'yes')


def test_what_is_not_committed(repository, monkeypatch):
    folder, commit = repository
    (folder / 'new.py').write_text('')  # Nobody has asked git to know it.
    # Git would take note of the new time.
    os.utime(folder / 'train.py', (1, 1))
    index = (folder / '.git' / 'index').read_bytes()
    assert environment._git_commit() == commit
    assert (folder / '.git' / 'index').read_bytes() == index
    (folder / 'train.py').write_text('changed')
    assert environment._git_commit() == f'{commit}, with changes'


@pytest.mark.parametrize('without', ['repository', 'git'])
def test_without_git(tmp_path, monkeypatch, without):
    monkeypatch.chdir(tmp_path)
    if without == 'git':
        monkeypatch.setenv('PATH', '')
    else:
        monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path.parent))
    assert environment._git_commit() == 'unknown'


def test_git_is_not_waited_for_long(repository, tmp_path, monkeypatch):
    fake = tmp_path / 'bin' / 'git'
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\nexec sleep 60\n')
    fake.chmod(0o755)
    monkeypatch.setenv('PATH', str(fake.parent), prepend=os.pathsep)
    monkeypatch.setattr(environment, '_GIT_SECS', 0.2)
    assert environment._git_commit() == 'unknown'


@pytest.mark.parametrize('arguments, shown', [
    (['train.py', 'a b.py', '--amp'], "train.py 'a b.py' --amp"),
    (['--token', 'abc', 'x'], '--token *** x'),
    (['--wandb-api-key', 'abc'], '--wandb-api-key ***'),
    (['--password', '--amp'], '--password --amp'),
    (['--MY_SECRET=abc'], '--MY_SECRET=***'),
    (['vis.init_kwargs.api_key=abc'], 'vis.init_kwargs.api_key=***'),
    (["backend_args=dict(access_key_id='a', secret_access_key='b')"
      ], 'backend_args=dict(access_key_id=***'),
    (['{"auth_token": "abc"}'], '{"auth_token":***'),
    (['s3://me:abc@host/data'], 's3://***@host/data'),
    (['ghp_0123456789abcdef'], '***'),
    (['load_from=hf_0123456789abcdef0123'], 'load_from=***'),
    (['optim_wrapper.optimizer.lr=0.1'], 'optim_wrapper.optimizer.lr=0.1'),
    (['model.keypoint_head.passes=3'], 'model.keypoint_head.passes=3'),
])
def test_secrets_are_taken_out(arguments, shown):
    assert describe_command(arguments) == shown


def test_it_can_be_switched_off(train, read_events):
    tags = read_events(train(dict(HOOK, log_run_info=False),
                             **ONE_EPOCH)).Tags()
    assert TAG not in tags['tensors']
    assert not [t for t in tags['tensors'] if t.startswith('_hparams_')]


def test_a_slow_status_does_not_lose_the_commit(monkeypatch):
    git = environment._git

    def slow(*arguments):
        if arguments[0] == 'status':
            raise subprocess.TimeoutExpired('git', 10)
        return 'abc' if arguments[0] == 'rev-parse' else git(*arguments)

    monkeypatch.setattr(environment, '_git', slow)
    assert environment._git_commit() == ('abc, unknown whether with changes')
