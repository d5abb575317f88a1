# Copyright (c) OpenMMLab. All rights reserved.
import configparser
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pytest
import setup_env
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from setup_env import Setup, SetupError

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ROOT / 'requirements'
PYTHONS = [f'3.{minor}' for minor in range(8, 13)]
# Asked for, among other things, by packages that are installed without them.
ASKED_ONLY = 'pip', 'setuptools', 'wheel'

find_uv, look = setup_env.find_uv, setup_env.look


def read(name, python):
    """Return the packages that a file names for a Python on Linux."""
    environment = dict(
        python_version=python,
        python_full_version=f'{python}.9',
        sys_platform='linux',
        platform_machine='x86_64',
        platform_python_implementation='CPython')
    lines = (SETTINGS / f'{name}.txt').read_text().splitlines()
    found = [
        Requirement(line) for line in lines
        if line.strip() and not line.startswith('#')
    ]
    return {
        canonicalize_name(package.name): str(package.specifier)
        for package in found
        if not package.marker or package.marker.evaluate(environment)
    }


# The versions


@pytest.mark.parametrize('lock, python',
                         [('lock', python)
                          for python in PYTHONS] + [('lock-latest', '3.11'),
                                                    ('lock-latest', '3.12')])
def test_every_package_that_is_named_is_locked_as_named(lock, python):
    locked = read(lock, python)
    torch = 'torch-latest' if 'latest' in lock else 'torch'
    for name in 'build', torch, 'runtime', 'tests':
        for package, version in read(name, python).items():
            assert locked[package] == version.replace('===', '==')
    assert all(version.startswith('==') for version in locked.values())


def test_the_lock_is_complete():
    """Whatever the packages ask for, to the last one."""
    locked = read('lock', '{}.{}'.format(*sys.version_info))
    unlocked = read('mminstall', '3.11')
    seen, to_see = set(), [*locked]
    while to_see:
        name = to_see.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            asked = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # Of docs.txt and verify.txt, or for another system.
        for text in asked:
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or marker.evaluate({'extra': ''}):
                to_see.append(canonicalize_name(requirement.name))
    assert seen - set(locked) - set(unlocked) - set(ASKED_ONLY) == set()


def test_locks_name_no_place():
    for file in SETTINGS.glob('lock*.txt'):
        text = file.read_text()
        assert not re.search('://|--|@', text), file
        assert 'make pins' in text


# What is missing is said in one line


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A checkout without ``.venv`` on a machine with all that is needed; uv
    and pip are only seen to be called."""
    (tmp_path / 'tools').mkdir()
    monkeypatch.setattr(setup_env, 'ROOT', tmp_path)
    monkeypatch.setattr(setup_env, 'CACHE', tmp_path / 'cache')
    requirements = tmp_path / 'requirements'
    shutil.copytree(str(SETTINGS), str(requirements))
    monkeypatch.setattr(setup_env, 'REQUIREMENTS', requirements)
    monkeypatch.setattr(setup_env, 'find_uv', lambda: 'uv')
    monkeypatch.setattr(setup_env, 'pip_settings', dict)
    monkeypatch.setattr(setup_env, 'has_gpu', lambda: False)
    set_free_disk(monkeypatch, 1000)
    machine = Machine(tmp_path)
    monkeypatch.setattr(setup_env, 'look', machine.look)
    monkeypatch.setattr(Setup, 'call',
                        lambda self, *command: machine.call(*command))
    monkeypatch.setattr(Setup, 'check_compiler', lambda self: None)
    return machine


class Machine:
    """What uv and Python answer.

    Args:
        folder (Path): The checkout.
    """

    def __init__(self, folder):
        self.folder = folder
        self.calls = []
        # What uv finds a version for, and where.
        self.has_cpu_index = self.has_mmcv_index = False
        self.pythons = {'3.11', '3.9'}
        self.torch = ''
        self.compiled = 'not available'
        self.fails_at = None

    def look(self, *command, given='', **variables):
        words = [str(word) for word in command]
        if words[0] != 'uv':
            return self.answer(words)
        if words[1:3] == ['python', 'find']:
            return f'python{words[-1]}' if words[-1] in self.pythons else None
        if '--torch-backend' in words:
            return 'torch==2.1.2+cpu' if self.has_cpu_index else None
        if '--no-index' in words:
            self.page = words[-1]
            return given if self.has_mmcv_index else None
        return 'torch==2.1.2'

    def answer(self, words):
        if 'get_compiling_cuda_version' in words[-1]:
            return self.compiled
        if 'torch' in words[-1]:
            return self.torch
        series = re.search(r'3\.\d+', words[0])
        if series:
            return facts(series.group())
        venv = Path(words[0]).parent.parent / 'of'
        return venv.exists() and facts(venv.read_text())

    def call(self, *command):
        words = [str(word) for word in command]
        if self.fails_at and self.fails_at in words:
            raise subprocess.CalledProcessError(1, words)
        self.calls.append(words)
        if 'venv' in words:
            series = re.search(r'3\.\d+', words[-2]).group()
            Path(words[-1], 'of').write_text(series)
        if any(word.endswith('torch.txt') for word in words):
            cpu = '--torch-backend' in words
            self.torch = '2.1.2+cpu' if cpu else '2.1.2+cu121'

    def installed(self):
        """Return the arguments of each ``uv pip install``."""
        return [
            ' '.join(
                word.replace(f'{self.folder}/', '') for word in words[7:])
            for words in self.calls if words[1:3] == ['pip', 'install']
        ]


def facts(series):
    tag = 'cp' + series.replace('.', '')
    return (f'{{"version": "{series}.9", "series": "{series}", '
            f'"platform": "{tag}-linux-x86_64-glibc2.36", '
            '"compilers": ["c++"], "header": "/nowhere/Python.h"}')


def set_free_disk(monkeypatch, gigabytes):
    usage = namedtuple('usage', 'free')(gigabytes * 1e9)
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage)


def set_up(*args):
    setup_env.main(args)


def error_of(*args):
    with pytest.raises(SystemExit) as error:
        set_up(*args)
    message = error.value.code
    assert message.startswith('setup: ') and '\n' not in message
    return message


@pytest.fixture
def wheel(machine):
    """A wheel of mmcv that was built before."""
    folder = machine.folder / 'cache/wheels'
    folder /= 'cp311-linux-x86_64-glibc2.36-torch2.1.2+cu121'
    folder.mkdir(parents=True)
    (folder / 'mmcv-2.1.0-cp311.whl').write_text('')
    return folder


def test_help_installs_nothing(machine, capsys):
    with pytest.raises(SystemExit) as error:
        set_up('--help')
    assert error.value.code == 0 and '--latest' in capsys.readouterr().out
    assert machine.calls == [] and not (machine.folder / '.venv').exists()


@pytest.mark.parametrize('args', [[], ['--python', '3.9']])
def test_an_environment_of_the_users_own_is_not_taken_over(machine, args):
    folder = machine.folder / '.venv'
    folder.mkdir()
    (folder / 'of').write_text('3.11')
    assert 'move or remove it first' in error_of(*args)
    assert machine.calls == [] and len(list(folder.iterdir())) == 1


def test_a_link_that_leads_nowhere_is_left(machine):
    """To a disk that is not mounted, say."""
    (machine.folder / '.venv').symlink_to(machine.folder / 'gone')
    assert 'move or remove it first' in error_of()
    assert machine.calls == [] and not (machine.folder / 'gone').exists()


def test_a_checkout_that_must_not_be_written_to(machine, wheel, monkeypatch):

    def refuse(*args, **kwargs):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(Path, 'mkdir', refuse)
    assert 'Permission denied' in error_of()


def test_too_little_disk(machine, wheel, monkeypatch):
    set_free_disk(monkeypatch, 3.25)
    message = error_of()
    assert '8 GB' in message and '3.2 GB are free' in message
    assert machine.installed() == []
    # Without CUDA it is enough; and where torch is, nothing more is taken.
    machine.torch = '2.1.2+cu121'
    set_up()


def test_less_disk_is_enough_without_cuda(machine, monkeypatch):
    machine.has_cpu_index = machine.has_mmcv_index = True
    set_free_disk(monkeypatch, 3.25)
    set_up()


def test_no_compiler(machine, monkeypatch, tmp_path):
    monkeypatch.undo()
    setup = Setup()
    monkeypatch.setattr(
        setup, 'facts', lambda: dict(
            compilers=['g++ -pthread'],
            header=str(tmp_path / 'Python.h'),
            series='3.11'))
    monkeypatch.setenv('CXX', 'my-c++ -m64')
    monkeypatch.setenv('PATH', str(tmp_path / 'bin'))
    with pytest.raises(SetupError) as error:
        setup.check_compiler()
    assert (f'no C++ compiler (g++) and no C++ compiler (my-c++) and no '
            f'{tmp_path}/Python.h: ') in str(error.value)
    assert 'apt install build-essential python3.11-dev' in str(error.value)
    (tmp_path / 'Python.h').write_text('')
    for name in 'g++', 'my-c++':
        write_script(tmp_path / 'bin' / name, 'exit 0')
    setup.check_compiler()


def test_the_compiler_is_looked_for_first(machine, monkeypatch):

    def refuse(self):
        raise SetupError('no compiler')

    monkeypatch.setattr(Setup, 'check_compiler', refuse)
    assert 'no compiler' in error_of()
    assert machine.installed() == []


def test_no_index(machine, monkeypatch):
    monkeypatch.setattr(Setup, 'resolve', lambda *args: None)
    assert 'no package index can be reached' in error_of()
    assert machine.installed() == []


@pytest.mark.parametrize('name', ['3.7', 'my-python'])
def test_a_python_that_does_not_do(machine, name):
    message = error_of('--python', name)
    assert f'{name} is not one of Python 3.11, 3.10' in message


def test_neither_pip_nor_uv(monkeypatch, tmp_path):
    monkeypatch.setattr(setup_env, 'CACHE', tmp_path)
    monkeypatch.setattr(setup_env, 'look', lambda *args: None)
    monkeypatch.setattr(shutil, 'which', lambda name: None)
    with pytest.raises(SetupError, match='no pip, and there is no uv'):
        find_uv()
    monkeypatch.setattr(shutil, 'which', lambda name: '/my/uv')
    assert find_uv() == '/my/uv'


# What is installed


def test_how_each_part_is_installed(machine, wheel):
    set_up()
    assert machine.calls[0][1:] == [
        'venv', '--quiet', '--allow-existing', '--no-project', '--python',
        'python3.11',
        str(machine.folder / '.venv')
    ]
    assert machine.installed() == [
        '-r requirements/build.txt -r requirements/torch.txt',
        '--no-build-isolation -r requirements/runtime.txt '
        '-r requirements/tests.txt',
        '--no-deps --reinstall-package mmcv --no-index --find-links '
        f'cache/wheels/{wheel.name} mmcv==2.1.0',
        '--no-deps --link-mode copy -r requirements/mminstall.txt',
    ]
    for words in machine.calls:
        if words[1:3] == ['pip', 'install']:
            assert words[5:7] == [
                '-c', f'{machine.folder}/requirements/'
                'lock.txt'
            ]


def test_a_machine_without_a_gpu_does_without_cuda(machine, monkeypatch,
                                                   capsys):
    machine.has_cpu_index = machine.has_mmcv_index = True
    set_up()
    torch, others, mmcv, _ = machine.installed()
    assert torch.startswith('--torch-backend cpu ')
    assert others.startswith('--torch-backend cpu ')
    assert machine.page.endswith('/cpu/torch2.1/index.html')
    assert f'--find-links {machine.page} mmcv==2.1.0' in mmcv
    assert 'without CUDA' not in capsys.readouterr().out


@pytest.mark.parametrize('compiled, is_told', [('12.1', False),
                                               ('not available', True)])
def test_a_gpu_with_an_mmcv_without_cuda_is_told(machine, wheel, monkeypatch,
                                                 capsys, compiled, is_told):
    machine.has_cpu_index = True
    machine.compiled = compiled
    monkeypatch.setattr(setup_env, 'has_gpu', lambda: True)
    set_up()
    assert '--torch-backend' not in machine.installed()[0]
    told = 'mmcv is built without CUDA' in capsys.readouterr().out
    assert told == is_told


def test_the_page_of_wheels_is_the_one_for_torch(machine):
    machine.has_mmcv_index = True
    set_up()
    assert machine.page.endswith('/cu121/torch2.1/index.html')


def test_without_a_network_what_is_there_is_enough(machine, wheel,
                                                   monkeypatch):
    set_up()
    (machine.folder / 'requirements/lock.txt').write_text('')
    monkeypatch.setattr(Setup, 'resolve', lambda *args: None)
    set_up()
    assert len(machine.installed()) == 8


def test_a_python_that_is_not_there_is_downloaded(machine, wheel):
    machine.pythons = set()
    set_up()
    assert machine.calls[0][-2] == '3.11'


def test_the_environment_keeps_its_python(machine):
    machine.has_mmcv_index = True
    set_up('--python', '3.9')
    assert 'python3.9' in machine.calls[0]
    machine.calls.clear()
    set_up()
    assert [words[0] for words in machine.calls] == [str(python_of(machine))]
    set_up('--python', '3.9')
    assert not machine.installed()
    set_up('--python', '3.11')
    assert any('python3.11' in words for words in machine.calls)


def python_of(machine):
    return machine.folder / '.venv/bin/python'


def test_second_call_only_looks_at_the_links(machine, wheel):
    set_up()
    machine.calls.clear()
    set_up()
    (words, ) = machine.calls
    assert words[1].endswith('link_patch.py')


@pytest.mark.parametrize('change', ['lock', 'runtime', 'python'])
def test_change_is_noticed(machine, wheel, change):
    set_up()
    machine.calls.clear()
    if change == 'python':
        (machine.folder / '.venv/of').unlink()
    else:
        with (setup_env.REQUIREMENTS / f'{change}.txt').open('a') as file:
            file.write('more==1.0\n')
    set_up()
    assert len(machine.installed()) == 4
    # With a Python that works, the environment is not made anew.
    assert any('venv' in words for words in machine.calls) == (
        change == 'python')


@pytest.mark.parametrize('at', ['venv', 'install', '-W'])
def test_interrupted_call_is_taken_up(machine, wheel, at):
    machine.fails_at = at
    assert 'run it again to go on from here' in error_of()
    machine.fails_at = None
    machine.calls.clear()
    set_up()
    assert len(machine.installed()) == 4
    machine.calls.clear()
    set_up()
    assert len(machine.calls) == 1


def test_latest_has_an_environment_of_its_own():
    latest = Setup(latest=True)
    assert latest.folder.name == '.venv-latest'
    assert latest.torch.name == 'torch-latest.txt'
    assert latest.lock.name == 'lock-latest.txt'


# mmcv


@pytest.fixture
def builds(machine, monkeypatch):
    """The commands that build; the build of a wheel is a script's."""
    script = write_script(
        machine.folder / 'build',
        'echo "a.cpp: no memory"\n'
        '[ -e "$0.fails" ] && exit 1\n'
        # The folder is the last argument but one.
        'while [ $# -gt 2 ]; do shift; done\n'
        'echo "$MMCV_WITH_OPS $FORCE_CUDA" > "$1/mmcv-2.1.0-built.whl"')
    run = subprocess.run
    commands = []

    def run_script(command, **options):
        commands.append(command)
        return run([str(script), *command[1:]], **options)

    monkeypatch.setattr(subprocess, 'run', run_script)
    monkeypatch.delenv('FORCE_CUDA', raising=False)
    return commands


def test_wheel_is_built_once(machine, builds, capsys):
    set_up()
    (command, ) = builds
    for option in ('--no-build-isolation', '--no-deps', '--no-cache-dir'):
        assert option in command
    # What a find-links of pip's settings has may be for another torch.
    assert command[command.index('--no-binary') + 1] == 'mmcv'
    assert 'Building mmcv from source' in capsys.readouterr().out
    (wheel, ) = machine.folder.glob('cache/wheels/*/*')
    assert wheel.parent.name.endswith('-torch2.1.2+cu121')
    assert wheel.read_text() == '1 0\n'
    shutil.rmtree(str(machine.folder / '.venv'))
    set_up()
    assert len(builds) == 1
    # One for another torch is no use.
    setup = Setup()
    setup.uv = 'uv'
    assert setup.find_mmcv('2.1.2+cu121') == wheel.parent
    assert setup.find_mmcv('2.2.2+cu121') is None


def test_build_that_fails(machine, builds, capsys):
    (machine.folder / 'build.fails').write_text('')
    assert 'mmcv_build.log' in error_of()
    assert 'a.cpp: no memory' in capsys.readouterr().out
    assert not list(machine.folder.glob('cache/wheels/*/*'))
    (machine.folder / 'build.fails').unlink()
    set_up()


# uv and pip


def settings_of(variables, monkeypatch):
    """Return what uv is told where these variables alone are set."""
    monkeypatch.setattr(os, 'environ', variables)
    return setup_env.pip_settings()


def test_uv_is_told_what_pip_is_told(monkeypatch, tmp_path):
    """The real pip, with a file of settings and variables."""
    file = tmp_path / 'pip.conf'
    # pip takes an underscore for a hyphen.
    options = dict(
        index_url='https://name:secret@packages.example/simple',
        extra_index_url='https://one.example/simple\n '
        'https://two.example/simple',
        find_links='/wheels /more',
        proxy='http://proxy.example:3128',
        trusted_host='one.example',
        cert='/of/file.pem')
    config = configparser.ConfigParser()
    config.read_dict({
        'global': options,
        'install': dict(proxy='http://another.example:3128'),
        'download': dict(cert='/not/this')
    })
    with file.open('w') as opened:
        config.write(opened)
    variables = dict(
        PATH=os.environ['PATH'],
        HOME=str(tmp_path),
        XDG_CONFIG_DIRS=str(tmp_path),
        PIP_CONFIG_FILE=str(file),
        PIP_TRUSTED_HOST='two.example',
        UV_DEFAULT_INDEX='https://own.example/simple')
    expected = {
        'UV_INDEX': 'https://one.example/simple https://two.example/simple',
        'UV_INDEX_STRATEGY': 'unsafe-best-match',
        'UV_FIND_LINKS': '/wheels,/more',
        'UV_INSECURE_HOST': 'two.example',
        'ALL_PROXY': 'http://another.example:3128',
        'SSL_CERT_FILE': '/of/file.pem'
    }
    found = settings_of(variables, monkeypatch)
    # The machine's own settings may be more.
    assert {key: found[key] for key in expected} == expected
    assert 'UV_DEFAULT_INDEX' not in found
    variables.pop('UV_DEFAULT_INDEX')
    variables['PIP_CERT'] = '/of/pip.pem'
    found = settings_of(variables, monkeypatch)
    assert found['UV_DEFAULT_INDEX'].endswith('@packages.example/simple')
    assert found['SSL_CERT_FILE'] == '/of/pip.pem'


def test_uv_is_told_before_it_is_called(machine, wheel, monkeypatch):
    seen = []

    def find():
        seen.append(os.environ['UV_INDEX'])
        return 'uv'

    monkeypatch.setattr(os, 'environ', dict(os.environ))
    monkeypatch.setattr(setup_env, 'pip_settings', lambda: dict(UV_INDEX='a'))
    monkeypatch.setattr(setup_env, 'find_uv', find)
    set_up()
    assert seen == ['a'] and machine.installed()


def test_certificates_of_requests(monkeypatch):
    monkeypatch.setattr(setup_env, 'look', lambda *args: '')
    variables = dict(REQUESTS_CA_BUNDLE='/a.pem')
    found = settings_of(variables, monkeypatch)
    assert found == {'SSL_CERT_FILE': '/a.pem'}
    variables['SSL_CERT_FILE'] = '/b.pem'
    assert settings_of(variables, monkeypatch) == {}


def uv_that_is_there():
    return next(setup_env.CACHE.glob('uv-*/bin/uv'), None)


@pytest.mark.skipif(not uv_that_is_there(), reason='uv is not installed here')
def test_uv_goes_through_pips_proxy(tmp_path, monkeypatch):
    asked = []

    class Proxy(http.server.BaseHTTPRequestHandler):

        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header('Content-Type', 'text/html')
            self.end_headers()
            self.wfile.write(b'<a href="six-1.17.0-py3-none-any.whl">x</a>')

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    proxy = f'http://127.0.0.1:{server.server_port}'
    variables = dict(
        PATH=os.environ['PATH'],
        HOME=str(tmp_path),
        XDG_CONFIG_DIRS=str(tmp_path),
        PIP_PROXY=proxy,
        PIP_INDEX_URL='http://packages.invalid/simple')
    variables.update(settings_of(variables, monkeypatch))
    setup = Setup()
    setup.uv, setup.python = uv_that_is_there(), sys.executable
    found = setup.resolve('six')
    server.shutdown()
    server.server_close()
    assert found == 'six==1.17.0'
    assert asked[0] == 'http://packages.invalid/simple/six/'


# make


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
    assert said.startswith('setup: none of these is a Python 3.8 or later: ')
    assert result.returncode and 'Error 1' in failed
    assert result.stdout == ''


@pytest.mark.parametrize('target, args, given', [
    ('setup', [], ''), ('setup', ['PYTHON=my python'], '--python my python'),
    ('setup-latest', [], '--latest')
])
def test_make_runs_the_script_with_the_first_python(tmp_path, target, args,
                                                    given):
    path = tmp_path / 'bin'
    write_script(path / 'python3', 'exit 1')
    write_script(path / 'python3.11', '[ "$1" = -c ] || echo this one: $@')
    result = make(tmp_path, target, *args, path=path)
    said = f'this one: tools/setup_env.py {given}'.strip()
    assert result.stdout == f'{said}\n'
    assert result.stderr == '' and not result.returncode


def test_script_runs_alone():
    """Before anything is installed, by any Python."""
    result = subprocess.run(
        [sys.executable, '-I', '-S', 'tools/setup_env.py', '--help'],
        cwd=str(ROOT),
        env=dict(PATH=os.defpath, HOME='/'),
        stdout=subprocess.PIPE,
        check=True)
    assert b'--latest' in result.stdout
