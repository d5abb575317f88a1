# Copyright (c) OpenMMLab. All rights reserved.
"""Make .venv with uv: MMPose and all that the patch needs, linked with it.

``make`` calls this before anything else. It needs a Python with pip, or uv,
and can be interrupted anywhere: called again, it goes on. Once it has
finished, it only looks at the links, until a version in ``requirements/``
changes. What is missing is said in one line before anything long begins.
"""
import argparse
import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / 'requirements'
CACHE = Path(
    os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache',
    'enhanced-tensorboard')
UV = '0.13.9'
# OpenMMLab has no wheel of mmcv for the last one.
PYTHONS = '3.11', '3.10', '3.9', '3.8', '3.12'
MMCV_WHEELS = 'https://download.openmmlab.com/mmcv/dist/{}/torch{}/index.html'
# By whether torch does without CUDA; uv's cache and .venv share the files.
DISK_GB = {True: 3, False: 8}
FACTS = '''
import json, platform, sys, sysconfig
print(json.dumps(dict(
    version=platform.python_version(), series='%d.%d' % sys.version_info[:2],
    header=sysconfig.get_path('include') + '/Python.h',
    compilers=[sysconfig.get_config_var('CXX') or 'c++'],
    platform='-'.join(filter(None, (
        'cp%d%d' % sys.version_info[:2], sysconfig.get_platform(),
        ''.join(platform.libc_ver())))))))
'''
# uv's variables, and the options of pip that mean the same.
OF_PIP = {
    'UV_DEFAULT_INDEX': 'index_url',
    'UV_INDEX': 'extra_index_url',
    'UV_FIND_LINKS': 'find_links',
    'UV_CONSTRAINT': 'constraint',
    'UV_INSECURE_HOST': 'trusted_host',
    'SSL_CERT_FILE': 'cert',
    'ALL_PROXY': 'proxy'
}


class SetupError(Exception):
    """Something the user can put right; the message is one line."""


def main(args=None):
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument(
        '--latest',
        action='store_true',
        help='make .venv-latest instead, with a recent PyTorch')
    parser.add_argument(
        '--python',
        help=f'its Python, as a version, command or path; by default that of '
        f'.venv, or the first here of {", ".join(PYTHONS)}')
    options = parser.parse_args(args)
    try:
        Setup(options.latest, options.python).run()
    except (SetupError, OSError) as error:
        sys.exit(f'setup: {error}')
    except subprocess.CalledProcessError as error:
        sys.exit(f'setup: failed with exit code {error.returncode}: '
                 f'{" ".join(error.cmd)} (the reason is above; run it again '
                 'to go on from here)')
    except KeyboardInterrupt:
        sys.exit('setup: interrupted; run it again to go on from here')


class Setup:
    """``.venv``, or ``.venv-latest``, with the Python that the user named."""

    def __init__(self, latest=False, wanted=None):
        self.wanted = wanted
        self.folder = ROOT / ('.venv-latest' if latest else '.venv')
        self.python = self.folder / 'bin' / 'python'
        # It also tells an environment made here from one made by hand.
        self.stamp = self.folder / 'setup_stamp'
        suffix = '-latest' if latest else ''
        self.torch, self.lock, *self.others = [
            REQUIREMENTS / f'{name}.txt'
            for name in (f'torch{suffix}', f'lock{suffix}', 'build', 'runtime',
                         'tests', 'mminstall')
        ]
        self.mmcv = re.search('^mmcv==.*', self.others[-1].read_text(),
                              re.M).group()

    def run(self):
        """Bring the environment up to date and link the patch into it."""
        stamp = self.stamp.read_text() if self.stamp.exists() else None
        finished = stamp == self.fingerprint() and self.has_wanted_python()
        if not finished:
            if os.path.lexists(str(self.folder)) and stamp is None:
                raise SetupError(f'{self.folder} was not made by this script: '
                                 'move or remove it first')
            os.environ.update(pip_settings())
            self.uv = find_uv()
            self.make_venv()
            self.install()
        self.call(self.python, ROOT / 'tools' / 'link_patch.py')
        if not finished:
            step('Importing MMPose with the hook')
            self.call(
                self.python, '-W', 'ignore', '-c',
                'import mmpose.models, mmpose.datasets; '
                'from mmpose.engine.hooks import EnhancedTensorBoardHook')
            self.stamp.write_text(self.fingerprint())
            step(f'{self.folder.name} is ready')

    def fingerprint(self):
        """Return a hash of all that the environment is made from, or None."""
        facts = self.facts()
        if facts:
            files = [self.torch, self.lock, *self.others, Path(__file__)]
            content = b'\0'.join(file.read_bytes() for file in files)
            return f'{facts["version"]} {hashlib.sha256(content).hexdigest()}'

    def has_wanted_python(self):
        """Return whether the environment's Python is the one to use."""
        there = self.facts() or {}
        if not self.wanted:
            return there.get('series') in PYTHONS
        return self.wanted in there.values() or self.facts(
            self.wanted) == there

    def make_venv(self):
        """Make the environment, or keep the one with the Python wanted."""
        if self.has_wanted_python():
            return self.stamp.write_text('unfinished')
        for name in [self.wanted] if self.wanted else PYTHONS:
            found = look(self.uv, 'python', 'find', '--no-project', '--system',
                         '--no-python-downloads', name)
            facts = found and self.facts(found)
            if facts and facts['series'] in PYTHONS:
                break
        else:
            if self.wanted:
                raise SetupError(f'{self.wanted} is not one of Python '
                                 f'{", ".join(PYTHONS)} on this machine')
            found = PYTHONS[0]  # uv downloads it.
        step(f'Making {self.folder.name} with Python {found}')
        shutil.rmtree(str(self.folder), ignore_errors=True)
        self.folder.mkdir()
        self.stamp.write_text('unfinished')
        self.call(self.uv, 'venv', '--quiet', '--allow-existing',
                  '--no-project', '--python', found, self.folder)

    def install(self):
        """Install everything; keep what is there already."""
        torch = self.installed_torch()
        if not torch:
            torch = self.choose_torch()
            check_disk(DISK_GB['+cpu' in torch])
        if not self.find_mmcv(torch):
            self.check_compiler()
        options = ['--torch-backend', 'cpu'] if '+cpu' in torch else []
        build, runtime, tests, openmmlab = self.others
        step('Installing torch and the tools to build with')
        self.add(*options, '-r', build, '-r', self.torch)
        step('Installing what MMPose and the tests need')
        # In isolation, the build of xtcocotools does not find numpy.
        self.add(*options, '--no-build-isolation', '-r', runtime, '-r', tests)
        step('Installing mmcv and MMPose')
        torch = self.installed_torch()
        wheels = self.find_mmcv(torch) or self.build_mmcv(torch)
        # Anew, because one for another torch has the same version.
        self.add('--no-deps', '--reinstall-package', 'mmcv', '--no-index',
                 '--find-links', wheels, self.mmcv)
        # Copied: what the patch changes would be a file of uv's cache, too.
        self.add('--no-deps', '--link-mode', 'copy', '-r', openmmlab)
        compiled = has_gpu() and look(
            self.python, '-W', 'ignore', '-c', 'import mmcv.ops as ops; '
            'print(ops.get_compiling_cuda_version())')
        if compiled == 'not available':
            step('mmcv is built without CUDA: on a GPU, models that use its '
                 'operators, such as deformable convolutions, will fail. With '
                 'the nvcc of torch\'s CUDA: rm -r '
                 f'{self.folder.name}; FORCE_CUDA=1 make setup')

    def choose_torch(self):
        """Return the version of torch to install."""
        wanted = self.torch.read_text()
        # PyPI's torch for Linux on x86 brings 5 GB of CUDA along.
        without_cuda = sys.platform == 'linux' and not has_gpu()
        found = without_cuda and self.resolve(wanted, '--torch-backend', 'cpu')
        found = found or self.resolve(wanted)
        if not found:
            raise SetupError('no package index can be reached: '
                             f'"{self.uv} pip compile {self.torch}" says more')
        return re.search('^torch=+(.*)', found, re.M).group(1)

    # mmcv, whose compiled operators fit one torch and one Python only

    def find_mmcv(self, torch):
        """Return the folder or page with a wheel for a torch, or None."""
        folder = self.cache_folder(torch)
        pattern = f'{folder.name}*/{self.mmcv.replace("==", "-")}-*.whl'
        for wheel in folder.parent.glob(pattern):
            return wheel.parent
        version, _, device = torch.partition('+')
        if not device:
            device = 'cu121' if 'linux-x86_64' in folder.name else 'cpu'
        url = MMCV_WHEELS.format(device, version.rpartition('.')[0])
        options = '--no-index', '--only-binary', ':all:', '--find-links', url
        return url if self.resolve(self.mmcv, *options) else None

    def cache_folder(self, torch):
        """Return the folder for a wheel that fits a torch."""
        cuda = 'cuda-' if os.environ.get('FORCE_CUDA') == '1' else ''
        name = f'{cuda}{self.facts()["platform"]}-torch{torch}'
        return CACHE / 'wheels' / name

    def build_mmcv(self, torch):
        """Build a wheel for the torch that is there; return its folder."""
        folder = self.cache_folder(torch)
        folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / 'mmcv_build.log'
        step('Building mmcv from source, about 10 minutes on two cores: '
             'OpenMMLab has no wheel for this Python and torch, or cannot be '
             f'reached. What is being compiled is in {log}')
        env = dict(os.environ, MMCV_WITH_OPS='1')
        if env.setdefault('FORCE_CUDA', '0') == '0':
            # With a GPU in view, mmcv asks for NVIDIA's compiler, which
            # seldom is there in the version that torch was built with.
            env['CUDA_VISIBLE_DEVICES'] = ''
        # One compilation takes more than 1 GB of memory.
        env.setdefault('MAX_JOBS', str(min(8, os.cpu_count())))
        # torch looks for ninja on the path.
        env['PATH'] = f'{self.python.parent}:{env.get("PATH", os.defpath)}'
        # Beside its place: an interruption leaves no half of a wheel, and the
        # system's folder for that may be too small.
        with tempfile.TemporaryDirectory(dir=str(folder)) as fresh:
            # The caches of pip and uv do not tell wheels for one torch from
            # those for another.
            command = [
                self.python, '-m', 'pip', 'wheel', '-v', '--no-cache-dir',
                '--no-deps', '--no-build-isolation', '--no-binary', 'mmcv',
                '-w', fresh, self.mmcv
            ]
            with log.open('w') as output:
                failed = subprocess.run([str(part) for part in command],
                                        env=dict(env, TMPDIR=fresh),
                                        stdout=output,
                                        stderr=subprocess.STDOUT).returncode
            if failed:
                print(''.join(log.read_text().splitlines(True)[-30:]))
                raise SetupError(f'mmcv cannot be built: all is in {log}')
            wheel, = Path(fresh).glob('*.whl')
            wheel.replace(folder / wheel.name)
        return folder

    def check_compiler(self):
        """Refuse to build mmcv without the tools for it."""
        facts = self.facts()
        commands = {os.environ.get('CXX') or 'c++', *facts['compilers']}
        commands = sorted(command.split()[0] for command in commands)
        missing = [
            f'C++ compiler ({command})' for command in commands
            if not shutil.which(command)
        ]
        if not Path(facts['header']).exists():
            missing.append(facts['header'])
        if missing:
            raise SetupError(
                f'mmcv has to be built from source, and there is no '
                f'{" and no ".join(missing)}: install what is missing (Debian,'
                ' Ubuntu: apt install build-essential '
                f'python{facts["series"]}-dev)')

    # Commands

    def facts(self, python=None):
        """Return facts about a Python, or None if it does not run."""
        printed = look(python or self.python, '-I', '-c', FACTS)
        return json.loads(printed) if printed else None

    def installed_torch(self):
        """Return the version of the torch that is there, or None."""
        return look(self.python, '-I', '-c',
                    'import torch; print(torch.__version__)')

    def add(self, *args):
        """Install packages, every one in the version of the lock file."""
        self.call(self.uv, 'pip', 'install', '--python', self.python, '-c',
                  self.lock, *args)

    def resolve(self, requirements, *options):
        """Return the versions that uv finds for requirements, or None."""
        return look(
            self.uv,
            *('pip compile - --quiet --no-deps --no-header --no-annotate '
              '--python').split(),
            self.python,
            *options,
            given=requirements,
            UV_HTTP_RETRIES='1',
            UV_HTTP_TIMEOUT='10')

    def call(self, *command):
        """Run a command, its output in view."""
        # In the checkout, Python would look for modules there.
        cwd = self.folder if self.folder.exists() else ROOT
        subprocess.run([str(part) for part in command],
                       cwd=str(cwd),
                       check=True)


def step(text):
    """Say what is being done now."""
    print(f'==> {text}', flush=True)


def look(*command, given='', **variables):
    """Return what a command prints, or None if it cannot be run."""
    try:
        return subprocess.run([str(part) for part in command],
                              env=dict(os.environ, **variables),
                              input=given,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL,
                              universal_newlines=True,
                              check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def has_gpu():
    """Return whether NVIDIA's driver is there."""
    return bool(
        shutil.which('nvidia-smi')
        or Path('/proc/driver/nvidia/version').exists())


def check_disk(needed):
    """Refuse a disk that the environment does not fit on."""
    free = shutil.disk_usage(str(ROOT)).free / 1e9
    if free < needed:
        raise SetupError(f'too little free disk: the installation needs '
                         f'{needed} GB in {ROOT}, and {free:.1f} GB are free')


def find_uv():
    """Return uv, which pip installs into the cache: or the user's own."""
    folder = CACHE / f'uv-{UV}'
    uv = folder / 'bin' / 'uv'
    if look(uv, '--version'):
        return uv
    if look(sys.executable, '-m', 'pip', '--version'):
        step(f'Installing uv {UV}')
        subprocess.run([
            sys.executable, '-m', 'pip', 'install', '--no-deps', '-qq',
            '--upgrade', '--target',
            str(folder), f'uv=={UV}'
        ],
                       env=dict(os.environ, PIP_USER='0'),
                       check=True)
        return uv
    if shutil.which('uv'):
        return shutil.which('uv')
    raise SetupError(f'{sys.executable} has no pip, and there is no uv: '
                     'install one (Debian, Ubuntu: apt install python3-pip)')


def pip_settings():
    """Return what pip is told here, as variables for uv, which does not ask.

    Those of uv that are set already stay.
    """
    listed = look(sys.executable, '-m', 'pip', 'config', 'list') or ''
    settings = {}
    for line in listed.splitlines():
        option, _, value = line.partition('=')
        settings[option.replace('-', '_')] = value
    found = {
        'SSL_CERT_FILE':
        os.environ.get('REQUESTS_CA_BUNDLE', os.environ.get('CURL_CA_BUNDLE'))
    }
    for name, option in OF_PIP.items():
        for scope in 'global', 'install', ':env:':
            value = settings.get(f'{scope}.{option}')
            if value:
                words = str(ast.literal_eval(value)).split()
                comma = name == 'UV_FIND_LINKS'
                found[name] = (',' if comma else ' ').join(words)
    if 'UV_INDEX' in found:
        # As in pip, the best of all indexes, not that of the first.
        found['UV_INDEX_STRATEGY'] = 'unsafe-best-match'
    return {
        key: to
        for key, to in found.items() if to and key not in os.environ
    }


if __name__ == '__main__':
    main()
