# Copyright (c) OpenMMLab. All rights reserved.
"""Make ``.venv``: all that the patch needs, with the patch linked into it.

``make`` calls this before anything else. It runs on a bare Python, uses the
standard library only, and can be interrupted anywhere: called again, it goes
on. When nothing has changed since it last finished, it does nothing.

What is missing on the machine is found out first and said in one line; only
then the long downloads begin. Versions are read from ``requirements/``.

With ``--latest`` it is ``.venv-latest``, with a recent PyTorch.
"""
import functools
import hashlib
import http.client
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import urllib.request
from collections import namedtuple
from pathlib import Path
from urllib.parse import unquote, urljoin

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / 'requirements'
LATEST = '--latest' in sys.argv[1:]
# docs.txt is installed by who builds the documentation.
INSTALLED = ('build.txt', 'torch-latest.txt' if LATEST else 'torch.txt',
             'runtime.txt', 'tests.txt', 'mminstall.txt')
VENV = ROOT / ('.venv-latest' if LATEST else '.venv')
PYTHON = VENV / 'bin' / 'python'
# The stamp also tells an environment made here from one made by hand.
STAMP = VENV / 'setup_stamp'
UNFINISHED = 'unfinished'
# Where pip unpacks. The system's folder for that is often small, or one that
# nothing may be executed from.
TEMP = VENV / 'tmp'

OLDEST, NEWEST = (3, 8), (3, 12)
MMCV_INDEX = ('https://download.openmmlab.com/mmcv/dist/'
              '{device}/torch{series}/index.html')
INDEX_TIMEOUT = 5
# Nearly all of it is torch and, on Linux, CUDA: 5.7 GB stay in .venv, 2.1 more
# are taken while pip unpacks, and 2.7 are kept in pip's cache.
DISK_GB = 11
DISK_GB_WITHOUT_CUDA = 4

Torch = namedtuple('Torch', 'version cuda')


class SetupError(Exception):
    """Something the user can put right; the message is one line."""


def main():
    try:
        set_up()
    except SetupError as error:
        sys.exit(f'setup: {error}')
    except subprocess.CalledProcessError as error:
        command = ' '.join(map(str, error.cmd))
        sys.exit(f'setup: failed with exit code {error.returncode}: {command} '
                 '(the reason is above; run it again to go on from here)')
    except KeyboardInterrupt:
        sys.exit('setup: interrupted; run it again to go on from here')


def set_up():
    """Bring ``.venv`` up to date and link the patch into it."""
    check_python()
    stamp = fingerprint()
    finished = PYTHON.exists() and read_stamp() == stamp
    if not finished:
        check_machine()
        install()
    link_patch()
    if not finished:
        check_imports()
        STAMP.write_text(stamp)
        step(f'{VENV.name} is ready')


def step(text):
    """Say what is being done now.

    Args:
        text (str): What to say.
    """
    print(f'==> {text}', flush=True)


# What is there


def fingerprint():
    """What the environment is made from, as one short text.

    Returns:
        str: A hash of the requirements, of this script and of the version of
        Python.
    """
    files = [REQUIREMENTS / name for name in INSTALLED] + [Path(__file__)]
    digest = hashlib.sha256(platform.python_version().encode())
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def read_stamp():
    """The fingerprint of the environment that is there.

    Returns:
        str or None: None if ``.venv`` is not there or not made here.
    """
    return STAMP.read_text() if STAMP.exists() else None


def read_pin(name, requirements):
    """The version of a package that is wanted for the running Python.

    Args:
        name (str): The package.
        requirements (str): The name of the file in ``requirements/``.

    Returns:
        str: The version.
    """
    pins = parse_pins((REQUIREMENTS / requirements).read_text(),
                      sys.version_info[:2])
    return pins[name]


def parse_pins(text, python):
    """Read the pinned versions from a requirements file.

    Args:
        text (str): The file's text: lines such as
            ``torch==2.1.2; python_version < '3.12'``.
        python (tuple[int, int]): The version of Python to read it for.

    Returns:
        dict[str, str]: Package to version.
    """
    pattern = re.compile(r'(?P<name>[\w.-]+)===?(?P<version>[\w.+]+)'
                         r"(?:; python_version (?P<sign><|>=) '3\.(\d+)')?$")
    pins = {}
    for line in text.splitlines():
        match = pattern.match(line)
        if not match:
            continue
        sign, minor = match.group(3, 4)
        older = sign and python < (3, int(minor))
        if sign is None or older == (sign == '<'):
            pins[match['name']] = match['version']
    return pins


# What is missing


def check_python():
    """Refuse a Python that the packages have no release for."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        raise SetupError(
            f'this is Python {platform.python_version()}, and 3.{OLDEST[1]} '
            f'to 3.{NEWEST[1]} can be used: choose one with PYTHON=, as in '
            'make demo PYTHON=python3.10')


def check_machine():
    """Say what is missing before anything long begins."""
    check_venv_module()
    if installed_torch() is None:
        check_disk(ROOT, disk_needed())
    torch = expected_torch()
    if not cached_mmcv(torch) and not index_mmcv(torch):
        check_compiler()


def check_venv_module():
    """Refuse a Python that cannot make an environment.

    Debian takes both modules out of its Python, into a package of their own.
    """
    for module in ('venv', 'ensurepip'):
        if importlib.util.find_spec(module) is None:
            version = '{}.{}'.format(*sys.version_info)
            raise SetupError(
                f'{sys.executable} has no {module} module: install it '
                f'(Debian, Ubuntu: apt install python{version}-venv) or '
                'choose another Python, as in make demo PYTHON=python3.10')


def disk_needed():
    """How much an installation takes.

    Returns:
        int: In GB.
    """
    return DISK_GB if torch_has_cuda() else DISK_GB_WITHOUT_CUDA


def check_disk(folder, needed):
    """Refuse a disk that the environment does not fit on.

    Args:
        folder (Path): Where it is to be made.
        needed (int): How much it takes, in GB.
    """
    free = shutil.disk_usage(folder).free / 1e9
    if free < needed:
        raise SetupError(f'too little free disk: the installation needs '
                         f'{needed} GB in {folder}, and {free:.1f} GB are '
                         'free')


def check_compiler():
    """Refuse to build mmcv without the tools for it."""
    missing = missing_build_tools()
    if missing:
        version = '{}.{}'.format(*sys.version_info)
        raise SetupError(
            f'mmcv has to be built from source, and there is no '
            f'{" and no ".join(missing)}: install what is missing (Debian, '
            f'Ubuntu: apt install build-essential python{version}-dev)')


def missing_build_tools():
    """What is not there of what an extension of Python is built with.

    Returns:
        list[str]: Descriptions.
    """
    missing = []
    to_compile = os.environ.get('CXX') or 'c++'
    to_link = sysconfig.get_config_var('CXX') or 'c++'
    for command in sorted({to_compile, to_link}):
        compiler = command.split()[0]
        if not shutil.which(compiler):
            missing.append(f'C++ compiler ({compiler})')
    header = Path(sysconfig.get_path('include')) / 'Python.h'
    if not header.exists():
        missing.append(str(header))
    return missing


# The installation


def install():
    """Install everything into ``.venv``; what is there already is kept."""
    step(f'Making {VENV.name} with Python {platform.python_version()}')
    make_venv()
    shutil.rmtree(str(TEMP), ignore_errors=True)
    TEMP.mkdir()
    build, torch, runtime, tests, openmmlab = [
        REQUIREMENTS / name for name in INSTALLED
    ]
    step('Installing pip, setuptools and wheel')
    pip('install', '-c', build, '-c', torch, 'pip', 'setuptools', 'wheel')
    step('Installing torch and the tools to build with')
    pip('install', '-r', build, '-r', torch, '-c', runtime)
    step('Installing what MMPose and the tests need')
    # In isolation, the build of xtcocotools does not find numpy.
    pip('install', '--no-build-isolation', '-c', build, '-c', torch, '-r',
        runtime, '-r', tests)
    step('Installing mmcv')
    # Forced, because one for another torch has the same version.
    pip('install', '--no-deps', '--force-reinstall',
        obtain_mmcv(expected_torch()))
    step('Installing MMPose')
    pip('install', '--no-deps', '-r', openmmlab)
    shutil.rmtree(str(TEMP))


def make_venv():
    """Make ``.venv``, or keep the one that has the running Python's
    version."""
    version = venv_version()
    if version != platform.python_version():
        if VENV.exists() and read_stamp() is None:
            raise SetupError(
                f'{VENV} is there, has {version or "no working Python"} and '
                'was not made by this script: remove it first')
        run([sys.executable, '-m', 'venv', '--clear', '--without-pip', VENV])
    STAMP.write_text(UNFINISHED)
    if run_quietly(PYTHON, '-m', 'pip', '--version') is None:
        run([PYTHON, '-m', 'ensurepip', '--upgrade'])


def venv_version():
    """The version of the Python in ``.venv``.

    Returns:
        str or None: None if there is none that runs.
    """
    return run_quietly(PYTHON, '-c',
                       'import platform; print(platform.python_version())')


def link_patch():
    """Link the patch into the MMPose of ``.venv``."""
    run([PYTHON, ROOT / 'tools' / 'link_patch.py'])


def check_imports():
    """Import what training needs."""
    step('Importing MMPose with the hook')
    run([
        PYTHON, '-W', 'ignore', '-c', 'import mmpose.models, mmpose.datasets; '
        'from mmpose.engine.hooks import EnhancedTensorBoardHook'
    ])


def pip(*args):
    """Call pip in ``.venv``.

    Args:
        *args (str or Path): Its arguments.
    """
    run([PYTHON, '-m', 'pip', *args])


def run(command):
    """Run a command, its output in view.

    Args:
        command (list[str or Path]): The command.
    """
    # In the checkout, Python would look for modules there.
    cwd = VENV if VENV.exists() else ROOT
    subprocess.run([str(part) for part in command],
                   cwd=str(cwd),
                   env=child_env(),
                   check=True)


def run_quietly(*command):
    """Run a command for its output.

    Args:
        *command (str or Path): The command.

    Returns:
        str or None: What it printed; None if it could not be run.
    """
    try:
        return subprocess.run([str(part) for part in command],
                              env=child_env(),
                              stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL,
                              universal_newlines=True,
                              check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def child_env(**more):
    """The environment for the commands that are run.

    Args:
        **more (str): Variables to set.

    Returns:
        dict[str, str]: All variables.
    """
    # Another MMPose on PYTHONPATH would be taken for the one in .venv.
    env = {
        key: value
        for key, value in os.environ.items()
        if key not in ('PYTHONPATH', 'PYTHONHOME')
    }
    # torch looks for ninja on the path.
    env['PATH'] = os.pathsep.join(
        [str(PYTHON.parent), env.get('PATH', os.defpath)])
    env.update(
        TMPDIR=str(TEMP), PIP_DISABLE_PIP_VERSION_CHECK='1', PIP_USER='0')
    env.update(more)
    return env


# mmcv, whose compiled operators fit one torch and one Python only


def obtain_mmcv(torch):
    """Get a wheel of mmcv: from the cache, OpenMMLab's index, or its source.

    Args:
        torch (Torch): The torch it has to fit.

    Returns:
        Path: The wheel, in the cache.
    """
    cached = cached_mmcv(torch)
    if cached:
        return cached
    url = index_mmcv(torch)
    if not url:
        check_compiler()
    folder = cache_folder(torch)
    folder.mkdir(parents=True, exist_ok=True)
    # Beside its place, so that an interruption leaves no half of a wheel.
    with tempfile.TemporaryDirectory(dir=str(folder)) as fresh:
        if url:
            pip('download', '--no-deps', '-d', fresh, url)
        else:
            build_mmcv(fresh)
        wheel, = Path(fresh).glob('*.whl')
        return wheel.replace(folder / wheel.name)


def build_mmcv(folder):
    """Build mmcv, with its operators for the CPU.

    Args:
        folder (str): Where to put the wheel.
    """
    version = read_pin('mmcv', 'mminstall.txt')
    step('Building mmcv from source, about 10 minutes on two cores: '
         'OpenMMLab has no wheel for this Python and torch, or cannot be '
         'reached')
    log = VENV / 'mmcv_build.log'
    # pip's cache and configuration do not tell the wheels for one torch from
    # those for another: neither is asked.
    command = [
        PYTHON, '-m', 'pip', 'wheel', '-v', '--no-cache-dir', '--no-deps',
        '--no-build-isolation', '--no-binary', 'mmcv', '-w', folder,
        f'mmcv=={version}'
    ]
    env = child_env(
        MMCV_WITH_OPS='1',
        # With a GPU in view, mmcv would ask for NVIDIA's compiler, which
        # seldom is there in the version that torch was built with.
        CUDA_VISIBLE_DEVICES='',
        FORCE_CUDA='0',
        # One compilation takes more than 1 GB of memory.
        MAX_JOBS=os.environ.get('MAX_JOBS', str(min(8, os.cpu_count()))))
    with subprocess.Popen([str(part) for part in command],
                          env=env,
                          stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT,
                          universal_newlines=True) as process:
        show_progress(process.stdout, log)
    if process.returncode:
        print(''.join(log.read_text().splitlines(True)[-30:]))
        raise SetupError(
            f'building mmcv failed; all of its output is in {log}')


def show_progress(lines, log):
    """Show ninja's count of compiled files; keep the rest in a file.

    Args:
        lines (Iterable[str]): The output of the build.
        log (Path): Where to keep it.
    """
    with log.open('w') as file:
        for line in lines:
            file.write(line)
            done = re.match(r'\s*\[(\d+)/(\d+)\] ', line)
            if done:
                print(
                    '    {} of {} files compiled'.format(*done.groups()),
                    flush=True)


def cached_mmcv(torch):
    """The wheel that an earlier installation has left.

    Args:
        torch (Torch): The torch it has to fit.

    Returns:
        Path or None: The wheel.
    """
    version = read_pin('mmcv', 'mminstall.txt')
    return next(cache_folder(torch).glob(f'mmcv-{version}-*.whl'), None)


def cache_folder(torch):
    """Where the wheels for a torch and the running Python are kept.

    Args:
        torch (Torch): The torch.

    Returns:
        Path: The folder.
    """
    cache = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    # A wheel built here does not load where the C library is older.
    libc = ''.join(platform.libc_ver())
    key = (python_tag(), sysconfig.get_platform(), libc,
           f'torch{torch.version}')
    return Path(cache, 'enhanced-tensorboard', 'wheels',
                '-'.join(part for part in key if part))


def python_tag():
    """The running Python as the names of wheels have it.

    Returns:
        str: For example ``cp311``.
    """
    return 'cp{}{}'.format(*sys.version_info)


@functools.lru_cache(maxsize=None)
def index_mmcv(torch):
    """Look for a wheel in OpenMMLab's index.

    Args:
        torch (Torch): The torch it has to fit.

    Returns:
        str or None: The wheel's address; None if there is none or the index
        cannot be reached.
    """
    url = index_url(torch)
    try:
        with urllib.request.urlopen(url, timeout=INDEX_TIMEOUT) as answer:
            page = answer.read().decode('utf-8', 'replace')
    except (OSError, http.client.HTTPException):
        return None
    return find_wheel(page, url, read_pin('mmcv', 'mminstall.txt'))


def index_url(torch):
    """The page that lists the wheels for a torch.

    Args:
        torch (Torch): The torch.

    Returns:
        str: The page's address.
    """
    device = 'cu' + torch.cuda.replace('.', '') if torch.cuda else 'cpu'
    series = '.'.join(torch.version.split('.')[:2])
    return MMCV_INDEX.format(device=device, series=series)


def find_wheel(page, url, version):
    """Find the wheel for the running Python in an index.

    Args:
        page (str): The index, HTML.
        url (str): The index's address.
        version (str): The version of mmcv.

    Returns:
        str or None: The wheel's address.
    """
    system = 'linux' if sys.platform == 'linux' else 'macosx'
    tag = python_tag()
    wanted = re.compile(
        f'mmcv-{re.escape(version)}-{tag}-{tag}-[^-]*{system}[^-]*'
        rf'_{platform.machine()}\.whl')
    for link in re.findall(r'href="([^"]+)"', page):
        if wanted.fullmatch(unquote(link.rsplit('/', 1)[-1])):
            return urljoin(url, link)
    return None


def expected_torch():
    """The torch that will be there when mmcv is installed.

    Returns:
        Torch: The one that is there now, if it has the right version.
    """
    version = read_pin('torch', INSTALLED[1])
    torch = installed_torch()
    if torch and torch.version.split('+')[0] == version:
        return torch
    if torch_has_cuda():
        return Torch(f'{version}+cu121', '12.1')
    return Torch(version, '')


def installed_torch():
    """The torch in ``.venv``.

    Returns:
        Torch or None: Its version and that of its CUDA.
    """
    printed = run_quietly(
        PYTHON, '-c', 'import torch; '
        'print(torch.__version__, torch.version.cuda or "")')
    if not printed:
        return None
    version, _, cuda = printed.partition(' ')
    return Torch(version, cuda)


def torch_has_cuda():
    """Whether PyPI's torch brings CUDA along on this machine.

    Returns:
        bool: Only for Linux on x86; torch 2.1 to 2.4 bring CUDA 12.1, later
        ones, for which there are no wheels of mmcv, a later one.
    """
    return sys.platform == 'linux' and platform.machine() == 'x86_64'


if __name__ == '__main__':
    main()
