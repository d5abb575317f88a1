# Copyright (c) OpenMMLab. All rights reserved.
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from hook_migration import command, hook_defaults, user_configs
from hook_migration.exports import HOOK
from hook_migration.state import FIXED
from mmengine.config import Config

from mmpose.engine.hooks import EnhancedTensorBoardHook

# An original hook of which one default is another now.
ORIGINAL = '''
class EnhancedTensorBoardHook(Hook):

    def __init__(self, log_lr=True, val_image_interval: int = 1,
                 max_layers_to_log=20):
        pass
'''
# One of which several are.
FORK = '''
class Other:

    def __init__(self, kpt_thr=9):
        pass


class EnhancedTensorBoardHook(Hook):

    def __init__(self, log_lr: bool = True, log_val_images: bool = False, *,
                 val_image_interval=10, max_train_images=4, kpt_thr=.5,
                 backend_args=None, hard_samples=True, flush_secs=TEN):
        pass

    def after_train_iter(self, runner):
        for name, layer_name in runner.names:
            self.writer.add_scalar(f'val/{metric_name}', 1)
            self.writer.add_scalar(f'weights/{layer_name}', 1)
        self.writer.add_image('train/images_gt', None, runner.iter)
        self.writer.add_image(tag='no_literal')
        self.writer.add_scalar('train/mine', 1)
        self.writer.add_scalar('train/gradient_norm/global', 1)
'''
BEFORE = '''# 한글, and what else there is
lr = 1e-3;x = [ 1,2 ]   # not as yapf has it

custom_hooks = [dict(type='SyncBuffersHook'), {HOOK}]
'''
TYPE = "type='EnhancedTensorBoardHook'"
ARGUMENT = 'val_image_interval=1'

# The hook in a config, before and after.
EDITS = [
    (f'dict({TYPE}, preset=None)', f'dict({TYPE}, preset=None, {ARGUMENT})'),
    ("{'type': 'EnhancedTensorBoardHook', 'preset': None}",
     "{'type': 'EnhancedTensorBoardHook', 'preset': None, "
     "'val_image_interval': 1}"),
    (f'dict({TYPE})', f'dict({TYPE}, {ARGUMENT})'),
    (f'dict({TYPE}, kpt_thr=.5,)', f'dict({TYPE}, kpt_thr=.5, {ARGUMENT},)'),
    (f'dict( {TYPE} )', f'dict( {TYPE}, {ARGUMENT} )'),
    (f'dict(kpt_thr=.5, {TYPE}, **dict(log_lr=False))',
     f'dict(kpt_thr=.5, {TYPE}, **dict(log_lr=False), {ARGUMENT})'),
    (f'dict(\n    {TYPE},  # one\n    kpt_thr=.5,  # two\n    # end\n)',
     f'dict(\n    {TYPE},  # one\n    kpt_thr=.5,  # two\n    {ARGUMENT},\n'
     '    # end\n)'),
    (f'dict(\n    {TYPE}  # one\n)',
     f'dict(\n    {TYPE},  # one\n    {ARGUMENT}\n)'),
    (f'dict({TYPE},\n     kpt_thr=.5)',
     f'dict({TYPE},\n     kpt_thr=.5,\n     {ARGUMENT})'),
    ("{'type': 'mmpose.EnhancedTensorBoardHook'}",
     "{'type': 'mmpose.EnhancedTensorBoardHook', 'val_image_interval': 1}"),
    ("{\n    'type': 'mmpose.'\n    'EnhancedTensorBoardHook',  # one\n}",
     "{\n    'type': 'mmpose.'\n    'EnhancedTensorBoardHook',  # one\n"
     "    'val_image_interval': 1,\n}"),
    ('{"type": "EnhancedTensorBoardHook", "kpt_thr": .5}',
     '{"type": "EnhancedTensorBoardHook", "kpt_thr": .5, '
     '"val_image_interval": 1}'),
]
LEFT_ALONE = [
    f'dict({TYPE}, val_image_interval=3)',
    f"dict({TYPE}, preset='fast')",
    "{'type': 'EnhancedTensorBoardHook', 'val_image_interval': 3}",
    "dict(type='PoseVisualizationHook')",
]


@pytest.fixture(scope='session')
def originals(tmp_path_factory):
    """The files of original hooks, by name."""
    folder = tmp_path_factory.mktemp('originals')
    for name, text in dict(one=ORIGINAL, fork=FORK).items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def run(tmp_path, capsys, originals):
    """A function that writes a config and runs the tool on it.

    Returns the exit code and what was printed.
    """

    def run(text, *options, name='config.py', original='one'):
        file = tmp_path / name
        file.write_bytes(text.encode('utf-8'))
        code = command.main([
            '--config',
            str(file), '--original',
            str(originals / original), *options
        ])
        return code, capsys.readouterr().out

    return run


@pytest.mark.parametrize('newline', ['\n', '\r\n'])
@pytest.mark.parametrize('before, after', EDITS)
def test_keep_behaviour(before, after, newline, run, tmp_path):
    old, new = (
        BEFORE.replace('{HOOK}', hook).replace('\n', newline)
        for hook in (before, after))
    code, printed = run(old, '--keep-behaviour')
    assert code == 0, printed
    assert (tmp_path / 'config.py').read_bytes() == new.encode('utf-8')
    backup = tmp_path / 'config.py.backup'
    assert backup.read_bytes() == old.encode('utf-8')
    assert sorted(tmp_path.iterdir()) == [tmp_path / 'config.py', backup]
    hook = Config.fromfile(str(tmp_path / 'config.py')).custom_hooks[1]
    assert hook.val_image_interval == 1
    # There is nothing left to do.
    assert run(new, '--keep-behaviour')[0] == 0
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize('hook', LEFT_ALONE)
def test_nothing_to_keep(hook, run, tmp_path):
    text = BEFORE.replace('{HOOK}', hook)
    assert run(text, '--keep-behaviour')[0] == 0
    assert (tmp_path / 'config.py').read_bytes() == text.encode('utf-8')
    assert len(list(tmp_path.iterdir())) == 1


def test_report(run, tmp_path):
    text = BEFORE.replace('{HOOK}', f'dict({TYPE}, priority=10)')
    code, printed = run(text)
    assert code == 0
    assert 'custom_hooks.1: val_image_interval is not set' in printed
    assert 'the default was 1, now it is 10' in printed
    assert len(list(tmp_path.iterdir())) == 1


def test_wrong_argument(run):
    hook = f'dict({TYPE}, grad_norm_intervall=3, preset="fast")'
    code, printed = run(BEFORE.replace('{HOOK}', hook))
    assert code == command.FAILED
    assert "no argument 'grad_norm_intervall'" in printed
    assert "(did you mean 'grad_norm_interval'?)" in printed


def test_defaults_are_those_of_the_hook():
    """Read from the declarations without importing them."""
    defaults = hook_defaults.our_defaults()
    hook = EnhancedTensorBoardHook()
    arguments = list(inspect.signature(EnhancedTensorBoardHook).parameters)
    assert sorted(defaults) == sorted(arguments)
    # On the hook, those are the monitors that it has made.
    assert defaults.pop('monitors') is None
    arguments.remove('monitors')
    assert defaults == {name: getattr(hook, name) for name in arguments}


def test_report_for_a_fork(run):
    """It is of the hook that was there, whatever its defaults were."""
    code, printed = run(
        BEFORE.replace('{HOOK}', f'dict({TYPE}, kpt_thr=.4)'), original='fork')
    assert code == 0
    lines = printed.splitlines()
    assert lines[0].endswith('fork:')
    assert lines[1].startswith('New, and on unless set to False: ')
    assert 'log_keypoints' in lines[1] and 'log_details' not in lines[1]
    assert lines[2:-3] == [
        'The default of flush_secs was not a literal: compare it by hand',
        'train/images_gt is not written any more: see train/images',
        'train/mine is not written any more',
        'weights/<layer_name> is weights/<group> now'
    ]
    assert [line.split(':', 1)[1] for line in lines[-2:]] == [
        ' log_val_images is not set; the default was False, now it is True',
        ' hard_samples is not set; the default was True, now it is 4'
    ]


def test_keep_the_behaviour_of_a_fork(run, tmp_path):
    text = BEFORE.replace('{HOOK}', f'dict({TYPE}, kpt_thr=.4)')
    code, printed = run(text, '--keep-behaviour', original='fork')
    assert code == 0, printed
    written = 'log_val_images=False, hard_samples=True'
    assert f'wrote {written};' in printed
    assert (tmp_path /
            'config.py').read_text() == text.replace('kpt_thr=.4',
                                                     f'kpt_thr=.4, {written}')


def test_two_hooks_that_rely_on_different_defaults(run, tmp_path):
    """What a base sets for one of them is not overwritten for the other."""
    run(f'default_hooks = dict(a=dict({TYPE}, val_image_interval=3))',
        name='base.py')
    text = (f"_base_ = ['./base.py']\ndefault_hooks = dict(a=dict({TYPE}), "
            f'b=dict({TYPE}))\n')
    code, printed = run(text, '--keep-behaviour')
    assert code == command.FAILED and 'by hand' in printed
    assert (tmp_path / 'config.py').read_text() == text


def test_original_without_the_hook(run, originals, capsys):
    (originals / 'none').write_text('x = 1\n')
    assert run('x = 1\n', original='none')[0] == command.FAILED
    (originals / 'wrong').write_text('x = (\n')
    assert run('x = 1\n', original='wrong')[0] == command.FAILED


def test_no_original(tmp_path, capsys):
    config = tmp_path / 'config.py'
    config.write_text(f'custom_hooks = [dict({TYPE}, log_lrr=True)]\n')
    options = ['--config', str(config), '--target', str(tmp_path)]
    assert command.main(options) == command.FAILED
    printed = capsys.readouterr().out
    assert 'no original hook' in printed and "argument 'log_lrr'" in printed
    assert 'default was' not in printed
    assert command.main([*options, '--keep-behaviour']) == command.FAILED
    assert '--original' in capsys.readouterr().err


def test_default_hooks_and_presets(run):
    code, printed = run(f'default_hooks = dict(tensorboard=dict({TYPE}))')
    assert 'default_hooks.tensorboard: val_image_interval' in printed
    code, printed = run('''
_base_ = ['mmpose::_base_/enhanced_tensorboard/fast.py']
default_hooks = dict(enhanced_tensorboard=_base_.enhanced_tensorboard)
''')
    assert code == 0 and 'no default that it relies on' in printed


def test_base_states_the_hook(run, tmp_path):
    base = f'default_hooks = dict(tensorboard=dict({TYPE}))\n'
    assert run(base, name='base.py')[0] == 0
    child = "_base_ = ['./base.py']\n"
    code, printed = run(child, '--keep-behaviour')
    assert code == command.FAILED
    assert 'default_hooks.tensorboard: val_image_interval' in printed
    assert 'name the base that does' in printed
    assert (tmp_path / 'base.py').read_text() == base
    assert len(list(tmp_path.iterdir())) == 2
    # The base's value holds for the child as well.
    assert run(base, '--keep-behaviour', name='base.py')[0] == 0
    assert 'val_image_interval' not in run(child)[1]


def test_base_sets_the_interval(run, tmp_path):
    hook = f'dict({TYPE}, val_image_interval=7)'
    run(f'default_hooks = dict(tensorboard={hook})\n', name='base.py')
    child = f'''_base_ = ['./base.py']
default_hooks = dict(tensorboard=dict({TYPE}, log_lr=False))
'''
    code, printed = run(child, '--keep-behaviour')
    assert code == 0 and 'val_image_interval' not in printed
    assert (tmp_path / 'config.py').read_text() == child


def test_type_in_a_variable(run, tmp_path):
    text = f"HOOK = '{HOOK}'\ncustom_hooks = [dict(type=HOOK)]\n"
    code, printed = run(text, '--keep-behaviour')
    assert code == command.FAILED
    assert 'by hand' in printed and 'base' not in printed
    run('x = 1\n', name='base.py')
    code, printed = run(f"_base_ = ['./base.py']\n{text}", '--keep-behaviour')
    assert code == command.FAILED
    assert 'by hand' in printed and 'base' in printed


def test_config_that_is_a_link(run, tmp_path):
    """It stays one, and its bases are looked for beside it."""
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'base.py').write_text('x = 1\n')
    text = f"_base_ = ['./base.py']\ncustom_hooks = [dict({TYPE})]\n"
    (tmp_path / 'mine' / 'there.py').write_text(text)
    (tmp_path / 'config.py').symlink_to(tmp_path / 'mine' / 'there.py')
    assert run(text, '--keep-behaviour')[0] == 0
    assert (tmp_path / 'config.py').is_symlink()
    there = {
        path.name: path.read_text()
        for path in (tmp_path / 'mine').iterdir()
    }
    assert there == {
        'there.py': text.replace(TYPE, f'{TYPE}, {ARGUMENT}'),
        'there.py.backup': text
    }


def kill(run, text, monkeypatch):
    """All is in place, and nobody is there any more to put it back."""
    reads = [user_configs.read_hooks, lambda config: ({}, [])]
    with monkeypatch.context() as patch:
        patch.setattr(user_configs, 'read_hooks', lambda config: reads.pop(0)
                      (config))
        patch.setattr(user_configs.Transaction, 'recover', lambda *args: None)
        run(text, '--keep-behaviour')


@pytest.mark.parametrize('options', [(), ('--keep-behaviour', )])
def test_put_right_first_after_a_kill(options, tmp_path, capsys, run,
                                      originals, monkeypatch):
    text = f'custom_hooks = [dict({TYPE})]\n'
    kill(run, text, monkeypatch)
    file = tmp_path / 'config.py'
    assert ARGUMENT in file.read_text()
    original = ['--original', str(originals / 'one')]
    assert command.main(['--config', str(file), *original, *options]) == 0
    printed = capsys.readouterr().out
    assert 'was undone' in printed
    assert 'val_image_interval is not set' in printed
    assert file.read_text() == (
        text.replace(TYPE, f'{TYPE}, {ARGUMENT}') if options else text)
    assert len(list(tmp_path.iterdir())) == 1 + len(options)


def faulty(fault, step, folder, original):
    """Edit a config, and be killed; see interrupted_migration.py."""
    script = Path(__file__).with_name('interrupted_migration.py')
    return subprocess.run([
        sys.executable, '-I', '-S',
        str(script), fault,
        str(step),
        str(folder), '--config',
        str(folder / 'config.py'), '--keep-behaviour', '--original',
        str(original)
    ],
                          stdout=subprocess.PIPE,
                          universal_newlines=True)


def test_killed_at_every_step(tmp_path, originals):
    original = originals / 'one'
    text = f'hook = dict({TYPE})\n'
    after = text.replace(')', f', {ARGUMENT})')

    def make(name):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'config.py').write_text(text)
        return tmp_path / name

    steps = int(faulty('kill', 0, make('all'), original).stdout.split()[-1])
    assert steps > 10
    for step in range(1, steps + 1):
        folder = make(str(step))
        assert faulty('kill', step, folder, original).returncode == -9
        assert (folder / 'config.py').read_text() in (text, after)
        assert faulty('none', 0, folder, original).returncode == 0
        there = {path.name: path.read_text() for path in folder.iterdir()}
        assert there == {'config.py': after, 'config.py.backup': text}


def test_edited_after_a_kill(tmp_path, capsys, run, monkeypatch):
    text = f'custom_hooks = [dict({TYPE})]\n'
    kill(run, text, monkeypatch)
    file = tmp_path / 'config.py'
    file.write_text('mine = 1\n')
    assert command.main(['--config', str(file)]) == command.CONFLICT
    assert file.read_text() == 'mine = 1\n'
    assert command.main(['--config', str(file), '--force']) == 0
    assert file.read_text() == text
    assert (tmp_path / 'config.py.backup2').read_text() == 'mine = 1\n'


@pytest.mark.parametrize('text', [
    f"custom_imports = dict(imports=['mmpose.engine.hooks.{FIXED}'])\n",
    f"custom_hooks = [dict(type='mmpose.engine.hooks.{FIXED}.{HOOK}')]\n",
])
def test_corrected_hook_that_a_migration_takes_away(text, run):
    code, printed = run(text)
    assert code == command.FAILED
    assert f'names {FIXED}' in printed
    assert run(f'# no {FIXED}\n')[0] == 0


def test_hook_that_cannot_be_edited(run, tmp_path):
    text = 'custom_hooks = [dict([("type", "EnhancedTensorBoardHook")])]\n'
    assert run(text, '--keep-behaviour')[0] == command.FAILED
    # One of the two is out of reach: the other is put back.
    text += f'custom_hooks += [dict({TYPE})]\n'
    code, printed = run(text, '--keep-behaviour')
    assert code == command.FAILED and 'by hand' in printed
    assert (tmp_path / 'config.py').read_text() == text
    assert len(list(tmp_path.iterdir())) == 1


def test_config_that_must_not_be_changed(tmp_path, originals, capsys,
                                         monkeypatch):
    """The others are looked at nevertheless."""

    def refuse(*args):
        raise PermissionError(13, 'Permission denied')

    files = [tmp_path / 'a.py', tmp_path / 'b.py']
    for file in files:
        file.write_text(f'custom_hooks = [dict({TYPE})]\n')
    monkeypatch.setattr('os.replace', refuse)
    code = command.main([
        '--config', *map(str, files), '--keep-behaviour', '--original',
        str(originals / 'one')
    ])
    assert code == command.FAILED
    assert capsys.readouterr().out.count('Permission denied') == 2


def test_argument_that_is_given_in_another_way(run, tmp_path):
    """Written out, it would be there twice."""
    settings = '**dict(val_image_interval=5)'
    text = f'custom_hooks = [dict({TYPE}, {settings})]\n'
    text += f'custom_hooks += [dict({TYPE})]\n'
    code, printed = run(text, '--keep-behaviour')
    assert code == command.FAILED and 'by hand' in printed
    assert (tmp_path / 'config.py').read_text() == text


def test_config_in_pure_python(run, tmp_path):
    (tmp_path / 'base.py').write_text('lr = 1\n')
    text = '''from mmengine.config import read_base

from mmpose.engine.hooks import EnhancedTensorBoardHook

with read_base():
    from .base import *

custom_hooks = [dict(type=EnhancedTensorBoardHook)]
'''
    code, printed = run(text, '--keep-behaviour')
    assert code == 0, printed
    assert (tmp_path /
            'config.py').read_text() == text.replace('Hook)]',
                                                     f'Hook, {ARGUMENT})]')


@pytest.mark.parametrize('text', ['x = (\n', '_base_ = ["./gone.py"]\n'])
def test_config_that_cannot_be_read(text, run):
    code, printed = run(text)
    assert code == command.FAILED and 'cannot be read' in printed


def test_yaml(run, tmp_path):
    text = 'custom_hooks:\n- type: EnhancedTensorBoardHook\n'
    code, printed = run(text, '--keep-behaviour', name='config.yml')
    assert code == command.FAILED and 'by hand' in printed
    assert (tmp_path / 'config.yml').read_text() == text


def test_without_libcst(run, monkeypatch):
    monkeypatch.setitem(sys.modules, 'libcst', None)
    monkeypatch.delitem(
        sys.modules, 'hook_migration.config_edit', raising=False)
    monkeypatch.delattr('hook_migration.config_edit', raising=False)
    text = BEFORE.replace('{HOOK}', f'dict({TYPE})')
    assert run(text)[0] == 0
    code, printed = run(text, '--keep-behaviour')
    assert code == command.FAILED and 'pip install libcst' in printed


def test_without_mmengine(tmp_path):
    (tmp_path / 'config.py').write_text('')
    tool = Path(__file__).resolve().parents[2] / 'tools' / 'migrate_hook.py'
    result = subprocess.run([
        sys.executable, '-S', '-E',
        str(tool), '--config',
        str(tmp_path / 'config.py')
    ],
                            stdout=subprocess.PIPE,
                            universal_newlines=True)
    assert result.returncode == command.FAILED
    assert 'no MMEngine' in result.stdout
