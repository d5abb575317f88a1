# Copyright (c) OpenMMLab. All rights reserved.
import argparse
import copy
import json
import os.path as osp
import random
import subprocess
import sys
import sysconfig
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import verify_configs
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmpose.models.heads import EDPoseHead
from mmpose.registry import DATASETS, TRANSFORMS

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
class DrawsNumbers(Hook):

    def after_train_iter(self, runner, *args, **kwargs):
        torch.rand(1)

    def after_train(self, runner):
        # Earlier, the data would be augmented by other numbers.
        np.random.rand()


@TRANSFORMS.register_module()
class NeedsAPackage:
    """As MMPose's Albumentation."""

    def __init__(self):
        raise RuntimeError('albumentations is not installed')


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
            images=4,
            epochs=2,
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
''', 'DrawsNumbers')
    assert row['outcome'] == 'CHANGED'
    # One number moves NumPy's place in its state, and leaves the rest.
    assert row['differing'] == ['/generators/numpy/2', '/generators/torch']


def test_a_hook_that_fails_is_an_error(verify):
    row = verify(SMALL, 'Raises')
    assert row['outcome'] == 'error'
    assert row['why'] == 'ZeroDivisionError: planted'


def test_what_does_not_train_is_validated(verify):
    """And why it does not is said, and that something is missing."""
    row = verify(SMALL + """
train_dataloader = dict(dataset=dict(pipeline=[dict(type='LoadImage')]))
""")
    assert (row['outcome'], row['loop']) == ('neutral', 'val')
    assert 'val/coco/AP' in row['tags']
    error = ('RuntimeError: each data_itement in list of batch should be of '
             'equal size')
    assert row['training_error'] == error
    assert not verify_configs.is_verified(row)
    line = verify_configs._line(row)
    assert ('neutral, validation only: training fails without the hook: ' +
            error) in line


def test_a_package_that_the_training_lacks_is_named(verify):
    """The validation, which does without it, would say nothing of it."""
    row = verify(SMALL + '''
train_dataloader = dict(dataset=dict(pipeline=[dict(type='NeedsAPackage')]))
''')
    assert row['outcome'] == 'not tried'
    assert 'albumentations is not installed' in row['why']


@pytest.mark.parametrize('kind', ['EDPoseHead', EDPoseHead])
def test_some_configs_are_not_to_train_with(kind):
    dataset = dict(pipeline=[dict(type='LoadImage')])
    cfg = Config(
        dict(
            model=dict(head=dict(type=kind)),
            train_dataloader=dict(dataset=dataset)))
    assert verify_configs.only_predicts(cfg) == 'MMPose has no loss for it'
    cfg.model.head.type = 'HeatmapHead'
    assert not verify_configs.only_predicts(cfg)
    cfg.train_dataloader.dataset.pipeline = []
    assert verify_configs.only_predicts(
        cfg) == 'the config has no training pipeline'


def test_a_missing_package_is_named(verify):
    row = verify(SMALL + '''
model = dict(
    backbone=dict(_delete_=True, type='mmpretrain.VisionTransformer'))
''')
    assert row['outcome'] == 'not tried'
    assert row['why'] == 'ModuleNotFoundError: needs mmpretrain'


def test_a_detectors_boxes_are_validated_on(tmp_path, verify):
    """As the config has it: their number is not that of the instances."""
    text = SMALL + """
val_dataloader = dict(dataset=dict(bbox_file='boxes.json'))
"""
    cfg = Config.fromstring(text, '.py')
    verify_configs.use_generated_data(cfg, str(tmp_path / 'data'), 2)
    dataset = DATASETS.build(dict(cfg.val_dataloader.dataset, pipeline=[]))
    with open(dataset.ann_file) as file:
        people = len(json.load(file)['annotations'])
    assert dataset.bbox_file and len(dataset) == 3 * people
    row = verify(text)
    assert row['outcome'] == 'neutral'
    assert {'val/hard_samples', 'keypoints/accuracy'} <= set(row['tags'])


def test_a_data_set_without_generated_data_is_named(verify):
    row = verify(SMALL + '''
train_dataloader = dict(dataset=dict(type='H36MWholeBodyDataset'))
''')
    assert row['outcome'] == 'not tried'
    assert 'no generated data for H36MWholeBodyDataset; use --own-data' in row[
        'why']


@pytest.mark.parametrize('dataset, length', [
    ("dict(_delete_=True, type='RepeatDataset', times=2, dataset=COCO)", 8),
    ('''dict(
    _delete_=True, type='CombinedDataset', datasets=[COCO, COCO],
    metainfo=dict(from_file='configs/_base_/datasets/coco.py'))''', 8),
    ('COCO', 4),
])
def test_own_data_are_shortened(tmp_path, dataset, length):
    """Inside of what would ignore or refuse it."""
    verify_configs.synthetic_coco.generate_dataset(str(tmp_path), 8, 1)
    coco = dict(
        type='CocoDataset',
        data_root=str(tmp_path),
        ann_file='annotations/person_keypoints_train.json',
        test_mode=False)
    config = tmp_path / 'own.py'
    config.write_text(f'''{SMALL}
train_dataloader = dict(dataset={dataset.replace("COCO", str(coco))})
''')
    args = argparse.Namespace(
        own_data=True,
        batch_size=2,
        images=1,
        epochs=3,
        work_dir=str(tmp_path))
    cfg = verify_configs.load(str(config), args)
    assert len(DATASETS.build(cfg.train_dataloader.dataset)) == length
    assert (cfg.train_cfg.max_epochs, cfg.train_cfg.val_interval) == (3, 1)


@pytest.mark.parametrize('outcomes, code', [
    (['neutral', 'neutral'], 0),
    (['neutral', 'only_predicts'], 0),
    (['neutral', 'validation_only'], 2),
    (['neutral', 'CHANGED'], 1),
    (['error', 'not tried'], 1),
    (['neutral', 'not tried'], 2),
    (['not reproducible'], 2),
])
def test_exit_status(outcomes, code, monkeypatch):
    rows = dict(
        neutral=dict(loop='train'),
        only_predicts=dict(
            loop='val', only_predicts='no loss', outcome='neutral'),
        validation_only=dict(loop='val', only_predicts='', outcome='neutral'))
    monkeypatch.setattr(
        verify_configs, 'verify_in_process', lambda config, args: dict(
            dict(config=config, outcome=config, why='', log=''),
            **rows.get(config, {})))
    monkeypatch.setattr(sys, 'argv', ['verify_configs.py', *outcomes])
    with pytest.raises(SystemExit) as ended:
        verify_configs.main()
    assert ended.value.code == code


@pytest.mark.parametrize('change', [
    lambda state: state['model'].update(weight=torch.tensor([1., 2.0001])),
    lambda state: state['model'].update(weight=torch.tensor([1.])),
    lambda state: state['model'].update(bias=torch.tensor([-0.])),
    lambda state: state['model'].update(bias=torch.tensor([0.]).double()),
    lambda state: state['model'].update(bias=torch.zeros(1, 1)),
    lambda state: state['array'].fill(-0.),
    lambda state: state.update(array=np.zeros(2, np.float32)),
    lambda state: state.update(metric=-0.),
    lambda state: state['model'].pop('weight'),
    lambda state: state['steps'].append(3),
    lambda state: state.update(mode=True),
])
def test_every_difference_is_found(change):

    def state():
        return dict(
            model=dict(
                weight=torch.tensor([1., np.nan]), bias=torch.tensor([0.])),
            array=np.zeros(2),
            steps=[1, 2],
            mode=False,
            metric=float('nan'))

    changed = state()
    assert verify_configs.differences(changed, state()) == []
    change(changed)
    assert len(verify_configs.differences(changed, state())) == 1


def runner_with(seed=0):
    """As much of a runner as its state is taken from."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    averaged = torch.nn.Linear(2, 2)
    return SimpleNamespace(
        model=model, hooks=[Hook(),
                            SimpleNamespace(ema_model=averaged)])


@pytest.mark.parametrize('change, path', [
    (lambda runner: runner.model[0].weight.data.add_(1), '/model/0.weight'),
    (lambda runner: runner.model[1].running_var.mul_(2),
     '/model/1.running_var'),
    (lambda runner: runner.hooks[1].ema_model.bias.data.add_(1),
     '/averaged/1/bias'),
    (lambda runner: runner.model[1].eval(), '/modes/1'),
    (lambda runner: torch.rand(1), '/generators/torch'),
    (lambda runner: random.random(), '/generators/python'),
    (lambda runner: np.random.rand(), '/generators/numpy/'),
])
def test_state_has_all_that_may_not_change(change, path):
    runner = runner_with()
    before = copy.deepcopy(verify_configs.state_of(runner))
    change(runner)
    after = verify_configs.state_of(runner)
    assert verify_configs.differences(before, after)[0].startswith(path)


def test_a_reason_does_not_name_folders_of_this_machine():
    folder = sysconfig.get_path('purelib')
    error = ValueError(f'one\n{folder}/mmpose/x.py not found')
    assert verify_configs._one_line(
        error) == 'ValueError: mmpose/x.py not found'
