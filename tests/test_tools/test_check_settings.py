# Copyright (c) OpenMMLab. All rights reserved.
"""Settings are checked without a training; MMPose's own are right."""
import dataclasses
import os
import re
import sys
from collections import Counter
from pathlib import Path

import pytest
from mmengine.config import Config

import mmpose
from mmpose.utils import register_all_modules

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tools'))
import check_settings as tool  # noqa: E402

PACKAGE = Path(mmpose.__file__).resolve().parent
# Of the metainfo of DeepFashion2, keypoint vest_kpt13 lacks the swap that
# vest_kpt9 has: a mistake of MMPose's.
WRONG = {('flip_indices', 'deepfashion2'): 13}


def mmpose_configs():
    """MMPose's own configs, of an installed MMPose or of a clone."""
    folders = (PACKAGE / '.mim' / 'configs', PACKAGE.parent / 'configs')
    found = [
        path for folder in folders[:1 if folders[0].exists() else 2]
        for path in sorted(folder.rglob('*.py'))
        if '_base_' not in path.parts and 'tensorboard' not in str(path)
    ]
    return found if len(found) > 300 else []


@pytest.fixture(scope='module', autouse=True)
def registered():
    register_all_modules()


def test_no_config_of_mmpose_has_a_finding(capsys):
    configs = mmpose_configs()
    if not configs:
        pytest.skip('this MMPose has no configs')
    check = tool.import_monitors('health.settings.check').check_settings
    found, notes, unknown, not_loaded = Counter(), Counter(), [], []
    for path in configs:
        try:
            config = Config.fromfile(
                str(path),
                use_predefined_variables=False,
                import_custom_modules=False)
        except Exception as error:  # Of a base that is not there, say.
            not_loaded.append(f'{path.name} ({type(error).__name__})')
            continue
        processes = re.search(r'(\d+)xb\d+', path.name)
        settings = tool.describe(config, int(processes[1]) if processes else 1)
        # As if an epoch had 50 iterations; how many it has, only data tell.
        epochs = settings.length.epochs or 0
        length = settings.length._replace(
            iterations=settings.length.iterations or 50 * epochs)
        settings = dataclasses.replace(settings, length=length)
        for finding in check(settings):
            count = notes if finding.severity == 'note' else found
            count[finding.name, path.parent.name] += 1
        unknown += [f'{path.name}: {what}' for what in tool.unknown(settings)]
    with capsys.disabled():
        print(f'\n{len(configs) - len(not_loaded)} configs were checked: '
              f'{sum(found.values())} findings, {sum(notes.values())} notes. '
              f'Not loaded: {", ".join(not_loaded) or "none"}. '
              f'Not known: {len(unknown)} ({"; ".join(unknown[:3])} ...).')
    assert found == WRONG
    assert len(not_loaded) <= 1


def test_a_config_is_checked_without_data(tmp_path, capsys, monkeypatch):
    """The command names what is wrong, what is unknown, and ends with 1."""
    config = tmp_path / 'config.py'
    demo = 'td-hm_res18_1xb8-12e_synthetic-128x96.py'
    base = ROOT / 'configs' / 'enhanced_tensorboard' / demo
    config.write_text(
        f'_base_ = {str(base)!r}\n'
        'param_scheduler = [dict(type="MultiStepLR", milestones=[10, 20])]\n',
        encoding='utf-8')
    monkeypatch.setattr(sys, 'argv', ['check_settings.py', str(config)])
    with pytest.raises(SystemExit) as ended:
        tool.main()
    printed = capsys.readouterr().out
    assert ended.value.code == 1
    assert '1 finding\n' in printed and 'milestone_too_late' in printed
    assert '1 of 2 milestones' in printed and 'after 12 epochs' in printed
    monkeypatch.setattr(sys, 'argv', ['check_settings.py', str(base)])
    with pytest.raises(SystemExit) as ended:
        tool.main()
    assert ended.value.code == 0
    assert f'{base}: no findings' in capsys.readouterr().out


def test_what_is_unknown_is_said(tmp_path, capsys):
    config = tmp_path / 'config.py'
    config.write_text(
        'model = dict(type="DWPoseDistiller")\n'
        'train_dataloader = dict(dataset=dict(type="CombinedDataset", '
        'datasets=[dict(type="NoSuchData")]))\n',
        encoding='utf-8')
    assert tool.report(os.fspath(config)) == []
    printed = capsys.readouterr().out
    assert 'unknown: metainfo of NoSuchData (train), head' in printed


@pytest.mark.parametrize('change, said', [
    (dict(sigmas=None), 'lacks sigmas.'),
    (dict(keypoint_info={0: dict(name='a', id=0, swap='b')}),
     'names b in a swap or a link'),
    (dict(skeleton_info={0: dict(link=('a', 'c'), id=0)}), 'names c in'),
])
@pytest.mark.parametrize('in_file', [True, False])
def test_a_metainfo_that_mmpose_cannot_read_is_said(tmp_path, capsys, change,
                                                    said, in_file):
    """Defect: an assertion without a text, or the name of a keypoint."""
    meta = dict(
        dataset_name='mine',
        keypoint_info={0: dict(name='a', id=0, color=[0, 0, 0], swap='')},
        skeleton_info={},
        joint_weights=[1.],
        sigmas=[.1])
    meta.update(change)
    meta = {name: value for name, value in meta.items() if value is not None}
    if in_file:
        (tmp_path / 'meta.py').write_text(f'dataset_info = {meta}\n')
        meta = dict(from_file=str(tmp_path / 'meta.py'))
    config = tmp_path / 'config.py'
    config.write_text('train_dataloader = dict(dataset=dict('
                      f'type="CocoDataset", metainfo={meta}))\n')
    assert len(tool.report(os.fspath(config))) == 1
    assert said in capsys.readouterr().out
