# Copyright (c) OpenMMLab. All rights reserved.
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import setup_env
from setup_env import SetupError, Torch

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = sorted((ROOT / 'requirements').glob('*.txt'))
PYTHONS = [(3, minor) for minor in range(8, 13)]
CUDA = Torch('2.1.2+cu121', '12.1')
CPU = Torch('2.1.2+cpu', '')

# A machine forbids it.
install = setup_env.install


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A checkout without ``.venv`` on a machine that has all that is
    needed."""
    (tmp_path / 'tools').mkdir()
    shutil.copytree(str(ROOT / 'requirements'), str(tmp_path / 'requirements'))
    venv = tmp_path / '.venv'
    paths = dict(
        ROOT=tmp_path,
        REQUIREMENTS=tmp_path / 'requirements',
        VENV=venv,
        PYTHON=venv / 'bin' / 'python',
        STAMP=venv / 'setup_stamp',
        TEMP=venv / 'tmp')
    for name, path in paths.items():
        monkeypatch.setattr(setup_env, name, path)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    set_free_disk(monkeypatch, 1000)
    # The index cannot be reached, and nothing is installed by accident.
    monkeypatch.setattr(setup_env, 'index_mmcv', lambda torch: None)
    monkeypatch.setattr(setup_env, 'missing_build_tools', lambda: [])
    for name in ('run', 'install'):
        monkeypatch.setattr(setup_env, name, forbidden)
    return tmp_path


def forbidden(*args):
    raise AssertionError(f'called with {args}')


def set_free_disk(monkeypatch, gigabytes):
    usage = namedtuple('usage', 'free')(gigabytes * 1e9)
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage)


def error_of_main():
    with pytest.raises(SystemExit) as error:
        setup_env.main()
    message = error.value.code
    assert message.startswith('setup: ') and '\n' not in message
    return message


# Requirements


@pytest.mark.parametrize('python', PYTHONS)
def test_every_package_has_one_version(python):
    versions = {}
    for file in REQUIREMENTS:
        if file.name == 'torch-latest.txt':
            continue  # It is there instead of torch.txt.
        text = file.read_text()
        pins = setup_env.parse_pins(text, python)
        named = re.findall(r'^([\w.-]+)', text, re.M)
        assert set(pins) == set(named), file
        if file.name == 'trackers.txt':
            continue  # In an environment of its own, over .venv.
        for name, version in pins.items():
            assert versions.setdefault(name, version) == version, name


def test_markers_choose_the_version():
    text = '''# torch==1.0
torch==2.1.2; python_version < '3.12'
torch==2.2.2; python_version >= '3.12'
mmcv==2.1.0
'''
    assert setup_env.parse_pins(text, (3, 8))['torch'] == '2.1.2'
    assert setup_env.parse_pins(text, (3, 11))['torch'] == '2.1.2'
    assert setup_env.parse_pins(text, (3, 12)) == {
        'torch': '2.2.2',
        'mmcv': '2.1.0'
    }


# What is missing is said in one line


def test_python_out_of_range(machine, monkeypatch):
    monkeypatch.setattr(setup_env, 'NEWEST', (3, 7))
    assert 'choose one with PYTHON=' in error_of_main()


@pytest.mark.parametrize('module', ['venv', 'ensurepip'])
def test_no_venv_module(machine, monkeypatch, module):
    monkeypatch.setattr(setup_env.importlib.util, 'find_spec',
                        lambda name: None if name == module else 'a spec')
    message = error_of_main()
    assert f'no {module} module' in message and 'apt install' in message


def test_too_little_disk(machine, monkeypatch):
    set_free_disk(monkeypatch, 3.25)
    message = error_of_main()
    assert f'{setup_env.disk_needed()} GB' in message
    assert '3.2 GB are free' in message


def test_no_compiler(machine, monkeypatch):
    monkeypatch.setattr(setup_env, 'missing_build_tools',
                        lambda: ['C++ compiler (c++)', 'Python.h'])
    message = error_of_main()
    assert 'no C++ compiler (c++) and no Python.h' in message
    assert 'apt install build-essential' in message


def test_compiler_is_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv('CXX', 'my-c++ -m64')
    monkeypatch.setattr(setup_env.sysconfig, 'get_config_var',
                        lambda name: 'g++ -pthread')
    monkeypatch.setattr(setup_env.sysconfig, 'get_path',
                        lambda name: str(tmp_path))
    monkeypatch.setenv('PATH', str(tmp_path / 'bin'))
    assert setup_env.missing_build_tools() == [
        'C++ compiler (g++)', 'C++ compiler (my-c++)',
        str(tmp_path / 'Python.h')
    ]
    (tmp_path / 'Python.h').write_text('')
    for name in ('bin/g++', 'bin/my-c++'):
        write_script(tmp_path / name, 'exit 0')
    assert setup_env.missing_build_tools() == []


def test_no_compiler_is_needed_for_a_wheel(machine, monkeypatch):
    monkeypatch.setattr(setup_env, 'missing_build_tools', forbidden)
    folder = setup_env.cache_folder(setup_env.expected_torch())
    folder.mkdir(parents=True)
    (folder / 'mmcv-2.1.0-any.whl').write_text('')
    setup_env.check_machine()


def write_script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n{text}\n')
    path.chmod(0o755)
    return path


def make(checkout, *args, path):
    shutil.copy(str(ROOT / 'Makefile'), str(checkout))
    return subprocess.run([shutil.which('make'), *args],
                          cwd=str(checkout),
                          env=dict(PATH=str(path)),
                          stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE,
                          universal_newlines=True)


@pytest.mark.parametrize('target', ['demo', 'test', 'tensorboard'])
def test_make_without_a_suitable_python(tmp_path, target):
    # As pyenv's commands do for a version that is not chosen.
    write_script(tmp_path / 'bin' / 'python3', 'echo not found >&2; exit 127')
    result = make(tmp_path, target, path=tmp_path / 'bin')
    said, failed = result.stderr.splitlines()
    assert said.startswith('setup: none of these is a Python 3.8 to 3.12: ')
    assert 'PYTHON=' in said
    assert result.returncode and 'Error 1' in failed
    assert result.stdout == ''


@pytest.mark.parametrize('args', [[], ['PYTHON=my python']])
def test_make_chooses_the_first_python_that_is_complete(tmp_path, args):
    path = tmp_path / 'bin'
    write_script(path / 'python3.11', 'exit 1')
    # Has no venv.
    write_script(path / 'python3.10', 'case "$2" in *venv*) exit 1;; esac')
    write_script(path / 'python3.9', '[ "$1" = -c ] || echo this one: $@')
    write_script(path / 'my python', '[ "$1" = -c ] || echo mine: $@')
    result = make(tmp_path, 'setup', *args, path=path)
    name = 'mine' if args else 'this one'
    assert result.stdout == f'{name}: tools/setup_env.py\n'
    assert result.stderr == '' and not result.returncode


def test_make_lets_the_script_say_that_venv_is_missing(tmp_path):
    write_script(
        tmp_path / 'bin' / 'python3.12',
        'case "$2" in *venv*) exit 1;; esac; [ "$1" = -c ] || echo $@')
    result = make(tmp_path, 'setup', path=tmp_path / 'bin')
    assert result.stdout == 'tools/setup_env.py\n'


# Once set up


@pytest.fixture
def calls(machine, monkeypatch):
    """What is done, on a machine where everything works."""
    calls = []

    def install():
        calls.append('install')
        setup_env.PYTHON.parent.mkdir(parents=True, exist_ok=True)
        setup_env.PYTHON.write_text('')
        setup_env.STAMP.write_text(setup_env.UNFINISHED)

    monkeypatch.setattr(setup_env, 'install', install)
    for name in ('link_patch', 'check_imports'):
        monkeypatch.setattr(
            setup_env, name, lambda name=name: calls.append(name))
    return calls


def test_second_call_only_looks_at_the_links(calls):
    setup_env.main()
    assert calls == ['install', 'link_patch', 'check_imports']
    calls.clear()
    setup_env.main()
    assert calls == ['link_patch']


@pytest.mark.parametrize('change', ['requirements', 'python', 'environment'])
def test_change_is_noticed(calls, monkeypatch, change):
    setup_env.main()
    calls.clear()
    if change == 'requirements':
        with (setup_env.REQUIREMENTS / 'runtime.txt').open('a') as file:
            file.write('more==1.0\n')
    elif change == 'python':
        monkeypatch.setattr(setup_env.platform, 'python_version',
                            lambda: '3.8.0')
    else:
        setup_env.PYTHON.unlink()
    setup_env.main()
    assert 'install' in calls


@pytest.mark.parametrize('name', ['install', 'link_patch', 'check_imports'])
@pytest.mark.parametrize('error', [
    KeyboardInterrupt(),
    subprocess.CalledProcessError(1, ['pip', Path('install')]),
    SetupError('no')
])
def test_interrupted_call_is_taken_up(calls, monkeypatch, name, error):
    with monkeypatch.context() as patch:
        patch.setattr(setup_env, name, lambda: raise_error(error))
        error_of_main()
    calls.clear()
    setup_env.main()
    assert calls == ['install', 'link_patch', 'check_imports']


def raise_error(error):
    raise error


# The environment


@pytest.fixture
def commands(machine, monkeypatch):
    """The commands that are run, the version of ``.venv``'s Python."""
    commands = []
    monkeypatch.setattr(setup_env, 'run', commands.append)
    return commands


def test_how_each_part_is_installed(commands, monkeypatch):
    """What pip is to build with, and what it must not bring along."""
    monkeypatch.setattr(setup_env, 'make_venv', lambda: None)
    monkeypatch.setattr(setup_env, 'expected_torch', lambda: CPU)
    monkeypatch.setattr(setup_env, 'obtain_mmcv', lambda torch: 'mmcv.whl')
    setup_env.VENV.mkdir()
    install()
    given = [[str(word) for word in command[3:]] for command in commands]
    folder = str(setup_env.REQUIREMENTS)
    given = [[word.replace(f'{folder}/', '') for word in words]
             for words in given]
    build, torch, runtime, tests, openmmlab = setup_env.INSTALLED
    assert given == [
        ['install', '-c', build, '-c', torch, 'pip', 'setuptools', 'wheel'],
        ['install', '-r', build, '-r', torch, '-c', runtime],
        [
            'install', '--no-build-isolation', '-c', build, '-c', torch, '-r',
            runtime, '-r', tests
        ],
        ['install', '--no-deps', '--force-reinstall', 'mmcv.whl'],
        ['install', '--no-deps', '-r', openmmlab],
    ]


def test_environment_of_others_is_not_touched(commands):
    setup_env.VENV.mkdir()
    with pytest.raises(SetupError, match='remove it first'):
        setup_env.make_venv()
    assert commands == []


@pytest.mark.parametrize('is_there', [False, True])
def test_environment_is_made_anew(commands, monkeypatch, is_there):
    if is_there:
        write_script(setup_env.PYTHON, 'echo 3.7.1')
        setup_env.STAMP.write_text('from another Python')
    monkeypatch.setattr(setup_env, 'run', run_and_make(commands))
    setup_env.make_venv()
    create, pip = commands
    assert create[1:] == [
        '-m', 'venv', '--clear', '--without-pip', setup_env.VENV
    ]
    assert pip[1:] == ['-m', 'ensurepip', '--upgrade']
    assert setup_env.read_stamp() == setup_env.UNFINISHED


def run_and_make(commands):

    def run(command):
        commands.append(command)
        if 'venv' in command:
            shutil.rmtree(str(setup_env.VENV), ignore_errors=True)
            setup_env.VENV.mkdir()

    return run


def test_environment_is_kept(commands):
    version = setup_env.platform.python_version()
    write_script(setup_env.PYTHON, f'echo {version}')
    setup_env.make_venv()
    assert commands == []


def test_child_does_not_see_other_packages(monkeypatch):
    monkeypatch.setenv('PYTHONPATH', '/other')
    env = setup_env.child_env(MORE='1')
    assert 'PYTHONPATH' not in env
    assert env['MORE'] == '1'
    assert env['PATH'].startswith(str(setup_env.PYTHON.parent))


# mmcv


def index_page(*names):
    links = [f'<a href="../torch2.1.0/{name}">{name}</a>' for name in names]
    return '<br>\n'.join(links)


@pytest.mark.parametrize('name, fits', [
    ('mmcv-2.1.0-{tag}-{tag}-manylinux1_x86_64.whl', True),
    ('mmcv-2.1.0-{tag}-{tag}-linux_x86_64.whl', True),
    ('mmcv-2.1.0-{tag}-{tag}-manylinux2014_aarch64.whl', False),
    ('mmcv-2.1.0-{tag}-{tag}-win_amd64.whl', False),
    ('mmcv-2.1.0-cp37-cp37m-manylinux1_x86_64.whl', False),
    ('mmcv-2.1.0rc1-{tag}-{tag}-manylinux1_x86_64.whl', False),
    ('mmcv-2.1.01-{tag}-{tag}-manylinux1_x86_64.whl', False),
    ('mmcv_full-2.1.0-{tag}-{tag}-manylinux1_x86_64.whl', False),
])
def test_wheel_in_the_index(monkeypatch, name, fits):
    monkeypatch.setattr(setup_env.sys, 'platform', 'linux')
    monkeypatch.setattr(setup_env.platform, 'machine', lambda: 'x86_64')
    name = name.format(tag=setup_env.python_tag())
    found = setup_env.find_wheel(
        index_page('other-1.0.whl', name), 'https://host/cpu/torch2.1/i.html',
        '2.1.0')
    url = f'https://host/cpu/torch2.1.0/{name}'
    assert found == (url if fits else None)


@pytest.mark.parametrize('torch, path', [
    (CUDA, 'cu121/torch2.1/index.html'),
    (CPU, 'cpu/torch2.1/index.html'),
    (Torch('2.10.0', ''), 'cpu/torch2.10/index.html'),
])
def test_index_is_the_one_for_torch(torch, path):
    assert setup_env.index_url(torch).endswith(f'/mmcv/dist/{path}')


def test_index_that_cannot_be_reached(monkeypatch, tmp_path):
    monkeypatch.setattr(setup_env, 'MMCV_INDEX', 'http://127.0.0.1:9/{device}')
    monkeypatch.setattr(setup_env, 'INDEX_TIMEOUT', 1)
    assert setup_env.index_mmcv.__wrapped__(CPU) is None


def test_index_is_read(monkeypatch, tmp_path):
    monkeypatch.setattr(setup_env.sys, 'platform', 'linux')
    monkeypatch.setattr(setup_env.platform, 'machine', lambda: 'x86_64')
    monkeypatch.setattr(setup_env, 'MMCV_INDEX',
                        f'file://{tmp_path}/{{device}}.html')
    tag = setup_env.python_tag()
    name = f'mmcv-2.1.0-{tag}-{tag}-manylinux1_x86_64.whl'
    (tmp_path / 'cu121.html').write_text(index_page(name))
    read = setup_env.index_mmcv.__wrapped__
    assert read(CUDA).endswith(f'/torch2.1.0/{name}')
    assert read(CPU) is None


def test_every_torch_has_its_own_cache(machine):
    folders = [setup_env.cache_folder(torch) for torch in (CUDA, CPU)]
    assert folders[0] != folders[1]
    for folder in folders:
        assert machine / 'cache' in folder.parents
        assert setup_env.python_tag() in folder.name


def test_wheel_is_built_once(machine, capsys):
    write_script(
        setup_env.PYTHON,
        'echo "  [1/2] c++ -c a.cpp"\necho noise\n'
        'echo "  [2/2] c++ -c b.cpp"\n'
        # The folder is the last argument but one.
        'while [ $# -gt 2 ]; do shift; done\n'
        'echo "$MMCV_WITH_OPS" > "$1/mmcv-2.1.0-built.whl"')
    wheel = setup_env.obtain_mmcv(CUDA)
    assert wheel.parent == setup_env.cache_folder(CUDA)
    assert wheel.read_text() == '1\n'
    assert list(wheel.parent.iterdir()) == [wheel]
    shown = capsys.readouterr().out
    assert '1 of 2 files' in shown and '2 of 2 files' in shown
    assert 'noise' not in shown
    setup_env.PYTHON.unlink()
    assert setup_env.obtain_mmcv(CUDA) == wheel
    with pytest.raises(OSError):
        setup_env.obtain_mmcv(CPU)


def test_build_that_fails(machine, capsys):
    write_script(setup_env.PYTHON, 'echo "a.cpp: no memory"; exit 1')
    with pytest.raises(SetupError, match='mmcv_build.log'):
        setup_env.obtain_mmcv(CUDA)
    assert 'a.cpp: no memory' in capsys.readouterr().out
    assert setup_env.cached_mmcv(CUDA) is None


def test_wheel_of_the_index_is_kept(machine, monkeypatch):
    monkeypatch.setattr(setup_env, 'index_mmcv', lambda torch: 'https://a.whl')
    monkeypatch.setattr(setup_env, 'pip', download)
    wheel = setup_env.obtain_mmcv(CUDA)
    assert wheel == setup_env.cached_mmcv(CUDA)
    assert wheel.read_text() == 'https://a.whl'


def download(*args):
    Path(args[-2], 'mmcv-2.1.0-a.whl').write_text(args[-1])


def test_latest_has_an_environment_of_its_own():
    code = ('import sys; sys.path.insert(0, "tools"); import setup_env; '
            'print(setup_env.VENV.name, setup_env.INSTALLED[1], '
            'setup_env.expected_torch().version.split("+")[0])')
    command = [sys.executable, '-c', code]
    default, latest = [
        subprocess.check_output([*command, *options],
                                universal_newlines=True,
                                cwd=str(ROOT)).split()
        for options in ([], ['--latest'])
    ]
    assert default[:2] == ['.venv', 'torch.txt']
    assert latest[:2] == ['.venv-latest', 'torch-latest.txt']
    assert int(default[2].split('.')[1]) < 4 <= int(latest[2].split('.')[1])


def test_torch_that_is_installed_counts(machine):
    pin = setup_env.read_pin('torch', 'torch.txt')
    assert setup_env.expected_torch().version.startswith(pin)
    write_script(setup_env.PYTHON, f'echo {pin}+cpu')
    assert setup_env.expected_torch() == Torch(f'{pin}+cpu', '')
    write_script(setup_env.PYTHON, 'echo 1.0+cpu')
    assert setup_env.expected_torch().version.startswith(pin)


def test_script_runs_alone():
    # Before anything is installed.
    code = ('import sys; sys.path.insert(0, "tools"); import setup_env; '
            'print(setup_env.fingerprint())')
    result = subprocess.run([sys.executable, '-I', '-S', '-c', code],
                            cwd=str(ROOT),
                            env=dict(PATH=os.defpath),
                            stdout=subprocess.PIPE,
                            check=True)
    assert len(result.stdout.strip()) == 64
