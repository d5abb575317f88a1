# Copyright (c) OpenMMLab. All rights reserved.
import argparse
import json
import os.path as osp
import subprocess
import sys

import numpy as np
import pytest
import torch
import verify_configs
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

ROOT = osp.abspath(osp.join(osp.dirname(__file__), '../..'))
SMALL = f"""
_base_ = '{ROOT}/configs/enhanced_tensorboard/"""
SMALL += """td-hm_res18_1xb8-12e_synthetic-128x96.py'
model = dict(
    backbone=dict(stem_channels=8, base_channels=8),
    head=dict(in_channels=112, deconv_out_channels=(8, ),
              conv_out_channels=(8, )))
"""


@HOOKS.register_module()
class DrawsANumber(Hook):

    def after_train_iter(self, runner, *args, **kwargs):
        torch.rand(1)


@HOOKS.register_module()
class Raises(Hook):

    def before_train(self, runner):
        raise ZeroDivisionError('planted')


@pytest.fixture
def verify(tmp_path, monkeypatch):
    """A function that verifies a config's text with a hook."""
    torch.set_num_threads(1)

    def run(text, hook='EnhancedTensorBoardHook'):
        config = tmp_path / 'small.py'
        config.write_text(text)
        args = argparse.Namespace(
            child=str(tmp_path / 'row.json'),
            own_data=False,
            batch_size=2,
            work_dir=str(tmp_path))
        if hook != 'EnhancedTensorBoardHook':
            monkeypatch.setattr(verify_configs, 'EVERYTHING', dict(type=hook))
        verify_configs.verify(str(config), args)
        return json.loads((tmp_path / 'row.json').read_text())

    return run


def test_the_command(tmp_path):
    config = tmp_path / 'small.py'
    config.write_text(SMALL)
    out = tmp_path / 'rows.json'
    done = subprocess.run([
        sys.executable, f'{ROOT}/tools/verify_configs.py', config,
        '--work-dir', tmp_path / 'work', '--json', out
    ],
                          stdout=subprocess.PIPE,
                          universal_newlines=True)
    row, = json.loads(out.read_text())
    assert done.returncode == 0, row
    assert row['outcome'] == 'neutral' and row['loop'] == 'train'
    assert set(verify_configs.PICTURES) < set(row['tags'])
    assert 'train/gradient_norm/global' in row['tags']
    line = done.stdout.strip().split('\n')[-1]
    assert 'train/images' in line and '| neutral |' in line


def test_a_hook_that_changes_the_training_is_found(verify):
    row = verify(
        SMALL + '''
visualizer = dict(vis_backends=[dict(type='TensorboardVisBackend')])
''', 'DrawsANumber')
    assert row['outcome'] == 'CHANGED'
    assert row['differing'] == ['/generators/torch']


def test_a_hook_that_fails_is_an_error(verify):
    row = verify(SMALL, 'Raises')
    assert row['outcome'] == 'error'
    assert row['why'] == 'ZeroDivisionError: planted'


def test_what_cannot_be_trained_is_validated(verify):
    row = verify(SMALL + 'train_dataloader = dict(dataset=dict(pipeline=[]))')
    assert (row['outcome'], row['loop']) == ('neutral', 'val')
    assert 'val/coco/AP' in row['tags']


def test_a_missing_package_is_named(verify):
    row = verify(SMALL + '''
model = dict(
    backbone=dict(_delete_=True, type='mmpretrain.VisionTransformer'))
''')
    assert row['outcome'] == 'not tried'
    assert row['why'] == 'ModuleNotFoundError: needs mmpretrain'


def test_a_data_set_without_generated_data_is_named(verify):
    row = verify(SMALL + '''
train_dataloader = dict(dataset=dict(type='H36MWholeBodyDataset'))
''')
    assert row['outcome'] == 'not tried'
    assert 'no generated data for H36MWholeBodyDataset; use --own-data' in row[
        'why']


@pytest.mark.parametrize('outcomes, code', [
    (['neutral', 'neutral'], 0),
    (['neutral', 'CHANGED'], 1),
    (['error', 'not tried'], 1),
    (['neutral', 'not tried'], 2),
    (['not reproducible'], 2),
])
def test_exit_status(outcomes, code, monkeypatch):
    monkeypatch.setattr(
        verify_configs, 'verify_in_process', lambda config, args: dict(
            config=config, outcome=config, why='', log=''))
    monkeypatch.setattr(sys, 'argv', ['verify_configs.py', *outcomes])
    with pytest.raises(SystemExit) as ended:
        verify_configs.main()
    assert ended.value.code == code


@pytest.mark.parametrize('change', [
    lambda state: state['model'].update(weight=torch.tensor([1., 2.0001])),
    lambda state: state['model'].update(weight=torch.tensor([1.])),
    lambda state: state['model'].pop('weight'),
    lambda state: state['steps'].append(3),
    lambda state: state.update(mode=True),
])
def test_every_difference_is_found(change):

    def state():
        return dict(
            model=dict(weight=torch.tensor([1., np.nan])),
            steps=[1, 2],
            mode=False,
            metric=float('nan'))

    changed = state()
    assert verify_configs.differences(changed, state()) == []
    change(changed)
    assert len(verify_configs.differences(changed, state())) == 1
