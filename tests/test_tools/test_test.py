# Copyright (c) OpenMMLab. All rights reserved.
"""A checkpoint shows what the validation in its training has shown."""
import json
import re

import pytest
from mmengine.config import Config
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
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
        for tag in events.Tags()['scalars']
        # What is measured on fixed samples is measured in a training alone.
        if tag.startswith(SHOWN) and tag != 'val/loss'
        and not tag.startswith('keypoints/train_as_val/')
    }


def images(events):
    return {
        tag: [(e.step, e.tensor_proto.string_val) for e in events.Tensors(tag)]
        for tag in events.Tags()['tensors'] if tag.startswith(SHOWN)
    }


def every_chart_has_a_curve(events):
    event, = {
        e.tensor_proto.string_val[0]
        for e in events.Tensors('custom_scalars__config__')
    }
    charts = [
        chart for category in Layout.FromString(event).category
        for chart in category.chart
    ]
    assert {'validation metrics', 'OKS'} <= {chart.title for chart in charts}
    written = events.Tags()['scalars']
    for chart in charts:
        patterns = [
            *chart.multiline.tag,
            *(re.escape(series.value) for series in chart.margin.series)
        ]
        assert any(re.match(p, tag) for p in patterns for tag in written), (
            chart.title)


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
    assert 'data/overview' in now.Tags()['tensors']
    # Those of the figures are the same to the bit.
    assert images(now)['keypoints/accuracy'] == images(
        then)['keypoints/accuracy']
    every_chart_has_a_curve(now)
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


def compare(trained, work_dir, *options):
    """Test a checkpoint beside the training that it is from."""
    return run(
        DEMO,
        trained / 'epoch_1.pth',
        '--compare',
        trained,
        '--work-dir',
        work_dir,
        '--cfg-options',
        *options,
        script=TEST)


def test_a_checkpoint_is_compared_with_a_run(trained, data_root, tmp_path):
    """The differences are those of the curves of the training."""
    result = compare(trained, tmp_path, *options_of(data_root))
    assert result.returncode == 0, result.stdout[-3000:]
    then, now = tags(trained), tags(tmp_path)
    found = [
        tag for tag in now.Tags()['scalars'] if tag.startswith('compare/KS/')
    ]
    assert len(found) == 17
    for tag in found:
        curve = then.Scalars(tag.replace('compare/KS', 'keypoints/OKS'))
        event, = now.Scalars(tag)
        assert event.step == 1
        assert event.value == pytest.approx(
            curve[0].value - curve[1].value, abs=1e-6)
    event, = now.Scalars('compare/OKS')
    low, high = (
        now.Scalars(f'compare/{tag}')[0].value for tag in ('low', 'high'))
    assert low <= event.value <= high
    texts = now.Tags()['tensors']
    assert {
        'compare/summary/text_summary', 'compare/config/text_summary',
        'compare/by_keypoint'
    } <= set(texts)
    every_chart_has_a_curve(now)


def test_other_data_ends_the_test_with_an_error(trained, data_root, tmp_path):
    annotations = json.loads(
        (data_root / 'annotations/person_keypoints_val.json').read_text())
    for annotation in annotations['annotations']:
        annotation['id'] += 10**6
    other = tmp_path / 'other.json'
    other.write_text(json.dumps(annotations))
    result = compare(trained, tmp_path / 'run', *options_of(data_root),
                     f'test_dataloader.dataset.ann_file={other}',
                     f'test_evaluator.ann_file={other}')
    assert result.returncode == 1
    assert 'none in common; only validations on the same data' in ' '.join(
        result.stdout.split())
    # What the test itself has measured is there.
    assert scalars(tags(tmp_path / 'run'))['val/coco/AP']


def test_what_is_no_run_is_refused_before_the_test(trained):
    test = load(TEST)
    with pytest.raises(SystemExit, match="--compare .* there is no 'nowhere'"):
        test.compare_with('nowhere')
    with pytest.raises(SystemExit, match='a checkpoint is to be tested first'):
        test.compare_with(str(trained / 'epoch_1.pth'))
    assert test.split_compare(['a.py', '--compare', 'b', '--out',
                               'c']) == ('b', ['a.py', '--out', 'c'])


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
