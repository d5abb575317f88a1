# Copyright (c) OpenMMLab. All rights reserved.
import subprocess
import sys
from pathlib import Path

import pytest
from hook_migration import command, user_configs
from hook_migration.exports import HOOK
from hook_migration.migration import FIXED
from mmengine.config import Config

from mmpose.engine.hooks import EnhancedTensorBoardHook

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


@pytest.fixture
def run(tmp_path, capsys):
    """A function that writes a config and runs the tool on it.

    Returns the exit code and what was printed.
    """

    def run(text, *options, name='config.py'):
        file = tmp_path / name
        file.write_bytes(text.encode('utf-8'))
        code = command.main(['--config', str(file), *options])
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
    assert 'custom_hooks.1: max_train_images is new' in printed
    assert len(list(tmp_path.iterdir())) == 1


def test_wrong_argument(run):
    hook = f'dict({TYPE}, grad_norm_intervall=3, preset="fast")'
    code, printed = run(BEFORE.replace('{HOOK}', hook))
    assert code == command.FAILED
    assert "no argument 'grad_norm_intervall'" in printed
    assert "(did you mean 'grad_norm_interval'?)" in printed


def test_arguments_are_those_of_the_hook():
    import inspect
    arguments = list(inspect.signature(EnhancedTensorBoardHook).parameters)
    assert user_configs.hook_arguments() == sorted(arguments)


def test_default_hooks_and_presets(run):
    code, printed = run(f'default_hooks = dict(tensorboard=dict({TYPE}))')
    assert 'default_hooks.tensorboard: val_image_interval' in printed
    code, printed = run('''
_base_ = ['mmpose::_base_/enhanced_tensorboard/fast.py']
default_hooks = dict(enhanced_tensorboard=_base_.enhanced_tensorboard)
''')
    assert code == 0 and 'nothing changes' in printed


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
    with monkeypatch.context() as patch:
        patch.setattr(user_configs, 'relies_on_default', lambda hook: True)
        patch.setattr(user_configs.Transaction, 'recover', lambda *args: None)
        run(text, '--keep-behaviour')


@pytest.mark.parametrize('options', [(), ('--keep-behaviour', )])
def test_put_right_first_after_a_kill(options, tmp_path, capsys, run,
                                      monkeypatch):
    text = f'custom_hooks = [dict({TYPE})]\n'
    kill(run, text, monkeypatch)
    file = tmp_path / 'config.py'
    assert ARGUMENT in file.read_text()
    assert command.main(['--config', str(file), *options]) == 0
    printed = capsys.readouterr().out
    assert 'was undone' in printed
    assert 'val_image_interval is not set' in printed
    assert file.read_text() == (
        text.replace(TYPE, f'{TYPE}, {ARGUMENT}') if options else text)
    assert len(list(tmp_path.iterdir())) == 1 + len(options)


def faulty(fault, step, folder):
    """Edit a config, and be killed; see interrupted_migration.py."""
    script = Path(__file__).with_name('interrupted_migration.py')
    return subprocess.run([
        sys.executable, '-I', '-S',
        str(script), fault,
        str(step),
        str(folder), '--config',
        str(folder / 'config.py'), '--keep-behaviour'
    ],
                          stdout=subprocess.PIPE,
                          universal_newlines=True)


def test_killed_at_every_step(tmp_path):
    text = f'hook = dict({TYPE})\n'
    after = text.replace(')', f', {ARGUMENT})')

    def make(name):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'config.py').write_text(text)
        return tmp_path / name

    steps = int(faulty('kill', 0, make('all')).stdout.split()[-1])
    assert steps > 10
    for step in range(1, steps + 1):
        folder = make(str(step))
        assert faulty('kill', step, folder).returncode == -9
        assert (folder / 'config.py').read_text() in (text, after)
        assert faulty('none', 0, folder).returncode == 0
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
