# Copyright (c) OpenMMLab. All rights reserved.
"""The configs that are MMPose's own with the hook."""
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from hook_migration import command, migration, mmpose_tree
from migrated_trees import clone as as_clone
from migrated_trees import make_tree, write
from mmengine.config import Config
from mmpose_copies import PARTS, contents
from verify_configs import bundled

from mmpose.engine.hooks import EnhancedTensorBoardHook
from mmpose.registry import HOOKS

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = [name.split('::')[1] for name in bundled()]
RUNTIME = '_base_/enhanced_tensorboard_runtime.py'
LAZY = next((ROOT / 'configs').rglob('rtmpose_s_*.py')).relative_to(ROOT)
MODULE = ('mmpose/configs/body_2d_keypoint/rtmpose/coco/'
          'rtmpose_s_8xb256_420e_aic_coco_256x192.py')


@pytest.fixture(scope='module')
def clone(tmp_path_factory):
    """A clone of MMPose, without ``.mim``, with the hook in it."""
    installed = Path(find_spec('mmpose').origin).parent / '.mim' / 'configs'
    if not installed.exists():
        pytest.skip('this MMPose has no .mim')
    tree = make_tree(tmp_path_factory.mktemp('a clone'), as_clone)
    shutil.rmtree(str(tree / 'configs'))
    shutil.copytree(
        str(installed),
        str(tree / 'configs'),
        ignore=lambda folder, names:
        [name for name in names if (Path(folder) / name).is_symlink()])
    assert not list(tree.rglob('*tensorboard*.py'))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migration.Migration, 'verify', lambda self: None)
        assert command.main(['--target', str(tree)]) == 0
    return tree


def test_there_is_one_for_each_kind_of_model():
    assert len(CONFIGS) == 11
    assert len({config.split('/')[0] for config in CONFIGS}) == 6


def test_readme_names_every_one():
    text = (ROOT / 'configs' / 'README.md').read_text(encoding='utf-8')
    named = re.findall(r'\[config\]\((.+?)\)', text)
    lazy = LAZY.relative_to('configs').as_posix()
    assert sorted(named) == sorted([*CONFIGS, lazy])


@pytest.mark.parametrize('name', CONFIGS)
def test_config_in_a_clone(name, clone):
    """It is MMPose's own with the hook, and nothing else."""
    file = clone / 'configs' / name
    base = file.with_name(file.name.replace('_tensorboard-', '_'))
    assert base.exists()
    config, before = (
        Config.fromfile(str(path)).to_dict() for path in (file, base))
    hook = config['default_hooks'].pop('enhanced_tensorboard')
    # What the preset itself is called.
    assert config.pop('enhanced_tensorboard') == hook
    assert config == before
    assert isinstance(HOOKS.build(hook), EnhancedTensorBoardHook)


def test_runtime_is_all_that_a_config_needs(clone, tmp_path):
    base = str(clone / 'configs' / RUNTIME)
    (tmp_path / 'mine.py').write_text(
        f'_base_ = [{base!r}]\ndefault_hooks = dict(logger=dict(interval=9))')
    config = Config.fromfile(str(tmp_path / 'mine.py'))
    assert config.default_hooks.logger == dict(type='LoggerHook', interval=9)
    hook = HOOKS.build(config.default_hooks.enhanced_tensorboard)
    assert isinstance(hook, EnhancedTensorBoardHook)
    backends = [backend.type for backend in config.visualizer.vis_backends]
    assert backends == ['LocalVisBackend', 'TensorboardVisBackend']


def test_config_in_pure_python(clone):
    """MMPose's own is in clones of 1.3 and later, and in no wheel."""
    assert not (clone / LAZY).exists()
    (clone / MODULE).parent.mkdir(parents=True)
    write(clone, MODULE, 'default_hooks = dict(logger=None)\nx = 1\n')
    configs = mmpose_tree.model_configs(clone / 'configs')
    shutil.copy(str(configs[clone / LAZY]), str(clone / LAZY))
    config = Config.fromfile(str(clone / LAZY))
    assert config.x == 1
    assert list(config.default_hooks) == ['logger', 'enhanced_tensorboard']
    hook = HOOKS.build(config.default_hooks.enhanced_tensorboard)
    assert isinstance(hook, EnhancedTensorBoardHook)


def test_config_that_somebody_else_has(tmp_path, run):
    """A fork may have had the same idea: its file stays."""
    tree = make_tree(tmp_path / 'tree', as_clone, PARTS)
    write(tree, f'configs/{RUNTIME}', "_base_ = ['./default_runtime.py']\n")
    before = contents(tree)
    for _ in range(2):
        code, printed = run(tree)
        assert code == 0
        assert f'keep   {tree}/configs/{RUNTIME}' in printed
    assert 'It is up to date.' in run(tree, '--status')[1]
    assert run(tree, '--restore')[0] == 0
    assert contents(tree) == before


def test_config_whose_base_mmpose_lacks(tmp_path, run):
    """An MMPose of another version gets those that it can load."""
    tree = make_tree(tmp_path / 'tree', as_clone, PARTS)
    assert run(tree)[0] == 0
    there = {
        path.relative_to(tree / 'configs').as_posix()
        for path in (tree / 'configs').rglob('*.py')
    }
    presets = {'fast', 'balanced', 'detailed'}
    assert there == {
        '_base_/default_runtime.py', RUNTIME,
        *(f'_base_/enhanced_tensorboard/{name}.py' for name in presets)
    }
