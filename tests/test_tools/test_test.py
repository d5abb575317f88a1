# Copyright (c) OpenMMLab. All rights reserved.
"""A checkpoint shows what the validation in its training has shown."""
import json

import pytest
from mmengine.config import Config
from test_train import DEMO, ROOT, data_root, flat, load, run, short, tags

TEST = ROOT / 'tools/test.py'
SHOWN = ('val/', 'keypoints/', 'errors/', 'instances/')
__all__ = ['data_root']


def options_of(root):
    options = short(root)
    options['train_cfg']['max_epochs'] = 2
    options['test_dataloader'] = options['val_dataloader']
    options['test_evaluator'] = options['val_evaluator']
    options['default_hooks'] = dict(
        checkpoint=dict(max_keep_ckpts=-1),
        enhanced_tensorboard=dict(strict=True))
    return list(flat(options))


@pytest.fixture(scope='module')
def trained(data_root, tmp_path_factory):
    """The work directory of a training of two epochs."""
    folder = tmp_path_factory.mktemp('trained')
    result = run(DEMO, '--work-dir', folder, '--cfg-options',
                 *options_of(data_root))
    assert result.returncode == 0, result.stdout[-3000:]
    return folder


def scalars(events):
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)]
        for tag in events.Tags()['scalars'] if tag.startswith(SHOWN)
    }


def images(events):
    return {
        tag: [(e.step, e.tensor_proto.string_val) for e in events.Tensors(tag)]
        for tag in events.Tags()['tensors'] if tag.startswith(SHOWN)
    }


def test_all_checkpoints_of_a_run_stand_at_their_epochs(
        trained, data_root, tmp_path):
    """With the same numbers as in the training, and pictures."""
    result = run(
        DEMO,
        trained,
        '--enhanced-tensorboard',
        '--work-dir',
        tmp_path,
        '--out',
        tmp_path / 'metrics.json',
        '--cfg-options',
        *options_of(data_root),
        script=TEST)
    assert result.returncode == 0, result.stdout[-3000:]
    then, now = tags(trained), tags(tmp_path)
    assert scalars(now) == scalars(then)
    assert [step for step, _ in scalars(now)['val/coco/AP']] == [1, 2]
    assert set(images(now)) >= {
        'val/images', 'val/hard_samples', 'keypoints/accuracy',
        'errors/by_keypoint'
    }
    # Those of the figures are the same to the bit.
    assert images(now)['keypoints/accuracy'] == images(
        then)['keypoints/accuracy']
    saved = json.loads((tmp_path / 'metrics.json').read_text())
    assert saved['coco/AP'] == pytest.approx(
        scalars(now)['val/coco/AP'][-1][1])


def test_a_config_without_the_hook_gets_it(trained, data_root, tmp_path):
    """One checkpoint, by the flag alone."""
    cfg = Config.fromfile(str(ROOT / DEMO))
    del cfg.default_hooks.enhanced_tensorboard
    cfg.dump(str(tmp_path / 'plain.py'))
    options = [o for o in options_of(data_root) if 'default_hooks' not in o]
    result = run(
        tmp_path / 'plain.py',
        trained / 'epoch_2.pth',
        '--enhanced-tensorboard',
        'fast',
        '--work-dir',
        tmp_path,
        '--cfg-options',
        *options,
        script=TEST)
    assert result.returncode == 0, result.stdout[-3000:]
    assert '--enhanced-tensorboard: added' in result.stdout
    assert scalars(tags(tmp_path))['val/coco/AP'] == scalars(
        tags(trained))['val/coco/AP'][-1:]


def test_checkpoints_are_in_the_order_of_their_numbers(tmp_path):
    test = load(TEST)
    for name in ('epoch_10.pth', 'epoch_9.pth', 'iter_5.pth', 'best_AP.pth'):
        (tmp_path / name).touch()
    found = test.list_checkpoints(str(tmp_path))
    assert [path.split('/')[-1] for path in found
            ] == ['epoch_9.pth', 'epoch_10.pth', 'iter_5.pth']
    assert test.list_checkpoints('https://a/b.pth') == ['https://a/b.pth']
    (tmp_path / 'empty').mkdir()
    with pytest.raises(SystemExit, match='no epoch_.*empty'):
        test.list_checkpoints(str(tmp_path / 'empty'))
