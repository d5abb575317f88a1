# Copyright (c) OpenMMLab. All rights reserved.
import glob
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from importlib.util import find_spec
from pathlib import Path

import pytest
from hook_migration import command
from migrated_trees import add_original, make_older
from mmengine.config import Config
from mmpose_copies import PARTS, contents, copy_mmpose
from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator

ROOT = Path(__file__).resolve().parents[2]
NAME, PACKAGE = 'mmpose-enhanced-tensorboard', 'mmpose_enhanced_tensorboard'
DEMO = 'configs/enhanced_tensorboard/td-hm_res18_1xb8-12e_synthetic-128x96.py'
PACKED = ('setup.py', 'setup.cfg', 'MANIFEST.in', 'README.md', 'CHANGELOG.md',
          'LICENSE', 'configs', 'mmpose', 'tools')

# The ways by which a config gets the hook.
BASE = f'''
_base_ = [
    'flat.py',
    __import__('{PACKAGE}').config_path(
        '_base_/enhanced_tensorboard/detailed.py'),
]
default_hooks = dict(enhanced_tensorboard=_base_.enhanced_tensorboard)
'''
CUSTOM_IMPORTS = f'''
_base_ = ['flat.py']
custom_imports = dict(imports=['{PACKAGE}'], allow_failed_imports=False)
default_hooks = dict(
    enhanced_tensorboard=dict(
        type='EnhancedTensorBoardHook', preset='detailed'))
'''
FULL_NAME = f'''
_base_ = ['flat.py']
default_hooks = dict(
    enhanced_tensorboard=dict(
        type='{PACKAGE}.EnhancedTensorBoardHook', preset='detailed'))
'''
TRAIN = '''
from mmengine.config import Config
from mmengine.runner import Runner
Runner.from_cfg(Config.fromfile('config.py')).train()
'''
# The train script of the checkout, which changes no file.
SCRIPT = f'''
import runpy, sys
sys.argv = [{str(ROOT / 'tools' / 'train.py')!r}, 'flat.py',
            '--enhanced-tensorboard', 'detailed']
runpy.run_path(sys.argv[0], run_name='__main__')
'''
WHERE = '''
import mmpose
print('MMPose is', mmpose.__file__)
'''


def run(*command, fails=False, cwd=None, **variables):
    """Run a command without the checkout in sight, and without a network."""
    env = dict(
        os.environ,
        OMP_NUM_THREADS='1',
        PIP_NO_INDEX='1',
        PIP_DISABLE_PIP_VERSION_CHECK='1',
        PYTHONWARNINGS='ignore')
    env.pop('PYTHONPATH', None)
    result = subprocess.run(
        list(map(str, command)),
        cwd=cwd and str(cwd),
        env=dict(env, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True)
    assert bool(result.returncode) == fails, result.stdout
    return result.stdout


# What is built


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    folder = tmp_path_factory.mktemp('checkout')
    for name in PACKED:
        if (ROOT / name).is_dir():
            shutil.copytree(
                str(ROOT / name),
                str(folder / name),
                ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copy(str(ROOT / name), str(folder))
    deep = folder / 'mmpose' / 'engine' / 'monitors' / 'deep' / 'deeper'
    deep.mkdir(parents=True)
    (deep / 'module.py').write_text('from ... import __doc__\n')
    return folder


@pytest.fixture(scope='module')
def wheel(checkout, tmp_path_factory):
    """The wheel, built from the source distribution."""
    folder = tmp_path_factory.mktemp('build')
    run(sys.executable, 'setup.py', 'sdist', '-d', folder, cwd=checkout)
    source, = folder.glob('*.tar.gz')
    # As an earlier version would have left it in the same folder.
    stale = checkout / 'build' / 'lib' / 'mmpose' / 'engine' / 'monitors'
    stale.mkdir(parents=True)
    (stale / 'gone.py').write_text('')
    wheels = []
    for index, package in enumerate((source, checkout)):
        run(sys.executable, '-m', 'pip', 'wheel', '--no-deps',
            '--no-build-isolation', '-w', folder / str(index), package)
        wheels += (folder / str(index)).glob('*.whl')
    assert names(wheels[0]) == names(wheels[1])
    return wheels[0]


@pytest.fixture(scope='module')
def older(wheel, tmp_path_factory):
    """An earlier version, with a module that this one has no more."""
    folder = tmp_path_factory.mktemp('older')
    content = folder / 'content'
    with zipfile.ZipFile(str(wheel)) as file:
        file.extractall(str(content))
    info, = content.glob('*.dist-info')
    metadata = info / 'METADATA'
    text = metadata.read_text(encoding='utf-8')
    metadata.write_text(
        re.sub('^Version: .*', 'Version: 1.99', text, flags=re.MULTILINE),
        encoding='utf-8')
    info.rename(content / f'{PACKAGE}-1.99.dist-info')
    (content / PACKAGE / 'gone.py').write_text('')
    return pack(folder)


def names(wheel):
    with zipfile.ZipFile(str(wheel)) as file:
        return set(file.namelist())


def test_the_wheel_has_nothing_in_mmpose(wheel):
    assert {name.split('/')[0].split('-')[0]
            for name in names(wheel)} == {
                PACKAGE, 'mmpose_migrate_hook.py',
                'mmpose_train_tensorboard.py'
            }


def test_everything_is_in_the_wheel(wheel, checkout):
    packed = {
        name[len(PACKAGE) + 1:]
        for name in names(wheel) if name.startswith(f'{PACKAGE}/')
    }
    for folder in ('mmpose/engine', 'tools', 'configs'):
        for file in (checkout / folder).rglob('*.py'):
            path = file.relative_to(checkout / folder).as_posix()
            if folder == 'configs':
                # What trains on generated data stays with the generator.
                wanted = not path.startswith('enhanced_tensorboard/')
                assert wanted == (f'hook_migration/configs/{path}' in packed)
                is_base = path.startswith('_base_/enhanced_tensorboard/')
                assert is_base == (f'.mim/configs/{path}' in packed)
                continue
            elif folder == 'tools' and not path.startswith('hook_migration'):
                continue
            assert path in packed
    assert 'monitors/deep/deeper/module.py' in packed


def test_configs_of_the_wheel_name_the_package(wheel):
    checked = 0
    with zipfile.ZipFile(str(wheel)) as file:
        for name in names(wheel):
            if name.startswith(f'{PACKAGE}/.mim/'):
                text = file.read(name).decode('utf-8')
                assert 'mmpose.engine.hooks' not in text
                assert "type='EnhancedTensorBoardHook'" not in text
                checked += f"'{PACKAGE}." in text
    assert checked == 3


def test_no_module_names_where_it_is():
    """In the package it is elsewhere than in MMPose."""
    wrong = [
        str(file) for file in (ROOT / 'mmpose').rglob('*.py')
        if re.search(r'mmpose\.engine\.(monitors|hooks)', file.read_text())
    ]
    assert not wrong


def test_metadata(wheel):
    with zipfile.ZipFile(str(wheel)) as file:
        info, = {
            name.split('/')[0]
            for name in names(wheel) if '.dist-info/' in name
        }
        metadata = message_from_string(
            file.read(f'{info}/METADATA').decode('utf-8'))
        licences = [
            name for name in names(wheel)
            if name.startswith(info) and name.endswith('/LICENSE')
        ]
        assert licences and b'www.apache.org' in file.read(licences[0])
    assert metadata['Name'] == NAME
    # The second is how setuptools calls it from 77 on.
    licence = metadata['License'] or metadata['License-Expression']
    assert licence == 'Apache-2.0'
    assert metadata['Author']
    assert len(metadata.get_all('Project-URL')) >= 3
    assert len(metadata.get_all('Classifier')) > 5
    needed = {
        re.sub(r'[ ()]', '', name)
        for name in metadata.get_all('Requires-Dist')
    }
    assert {'mmengine>=0.8', 'tensorboard'} < needed
    links = re.findall(r'\]\(([^)]+)\)', metadata.get_payload())
    assert len(links) > 10
    assert all(link.startswith('https://') for link in links)
    changes = (ROOT / 'CHANGELOG.md').read_text()
    assert re.search(r'^## (.+)', changes, re.MULTILINE).group(1) == \
        metadata['Version']


@pytest.mark.parametrize('options', [
    (), ('--use-pep517', ),
    ('--use-pep517', '--config-settings', 'editable_mode=compat')
])
def test_editable_installation_says_what_to_do(options, checkout, tmp_path):
    printed = run(
        sys.executable,
        '-m',
        'pip',
        'install',
        '-e',
        checkout,
        '--no-build-isolation',
        '--no-deps',
        '--target',
        tmp_path,
        *options,
        fails=True)
    assert 'python tools/link_patch.py' in printed
    assert 'not recognized' not in printed


# Beside every kind of MMPose


@pytest.fixture(scope='module')
def borrowed(tmp_path_factory):
    """What is installed here, without MMPose and what finds it."""
    folder = tmp_path_factory.mktemp('borrowed')
    for site in sys.path:
        for path in Path(site).glob('*') if 'site-packages' in site else ():
            if path.suffix == '.pth' or (folder / path.name).exists():
                continue
            if not path.name.lower().startswith(('mmpose', '__editable__')):
                (folder / path.name).symlink_to(path)
    return folder


class Environment:
    """A fresh environment.

    Args:
        folder (Path): Where to make it.
        borrowed (Path, optional): A folder of packages that it has, too.
            Defaults to None.
    """

    def __init__(self, folder, borrowed=None):
        run(sys.executable, '-m', 'venv', '--without-pip', folder)
        self.folder = folder
        self.site, = folder.glob('lib/python*/site-packages')
        if borrowed:
            (self.site / 'zz_borrowed.pth').write_text(f'{borrowed}\n')
        self.variables = {}

    def pip(self, action, *args):
        options = []
        if action == 'install':
            options = ['--no-deps', '--no-compile']
        return run(sys.executable, '-m', 'pip', '--python',
                   self.folder / 'bin' / 'python', action, *options, *args)

    def python(self, *args, **kwargs):
        return self.command('python', *args, **kwargs)

    def command(self, name, *args, **kwargs):
        # A folder that has no mmpose in it.
        kwargs.setdefault('cwd', self.folder)
        return run(self.folder / 'bin' / name, *args, **self.variables,
                   **kwargs)

    def installed(self):
        return without_compiled(contents(self.site))


def without_compiled(found):
    return {
        path: content
        for path, content in found.items() if '__pycache__' not in path
    }


@pytest.fixture(scope='module')
def mmpose_wheel(tmp_path_factory):
    """A wheel of the installed MMPose, as it was without the patch."""
    folder = tmp_path_factory.mktemp('mmpose_wheel')
    copy_mmpose(folder / 'content')
    site = Path(find_spec('mmpose').origin).parents[1]
    info, = site.glob('mmpose-*.dist-info')
    shutil.copytree(str(info), str(folder / 'content' / info.name))
    return pack(folder)


def pack(folder):
    run(sys.executable, '-m', 'wheel', 'pack', folder / 'content', '-d',
        folder)
    packed, = folder.glob('*.whl')
    return packed


@pytest.fixture(scope='module')
def clone(tmp_path_factory):
    """A clone of MMPose, with what setuptools needs to install it."""
    folder = tmp_path_factory.mktemp('clone')
    mim = copy_mmpose(folder) / '.mim'
    for name in ('configs', 'tools'):
        shutil.move(str(mim / name), str(folder / name))
    shutil.rmtree(str(mim))
    (folder / 'setup.py').write_text(
        'from setuptools import find_packages, setup\n'
        "setup(name='mmpose', version='1.3.2', "
        "packages=find_packages(include=['mmpose', 'mmpose.*']))\n")
    return folder


def install_wheel(environment, mmpose_wheel, clone):
    environment.pip('install', mmpose_wheel)
    return environment.site / 'mmpose'


def install_editable(environment, mmpose_wheel, clone):
    environment.pip('install', '--no-build-isolation', '--use-pep517', '-e',
                    clone)
    # The kind that is found last of all.
    assert list(environment.site.glob('__editable__*finder*'))
    return clone / 'mmpose'


def install_legacy(environment, mmpose_wheel, clone):
    """What ``setup.py develop`` writes; newer setuptools do not have it."""
    (environment.site / 'mmpose.egg-link').write_text(f'{clone}\n.')
    (environment.site / 'easy-install.pth').write_text(f'{clone}\n')
    return clone / 'mmpose'


def put_on_path(environment, mmpose_wheel, clone):
    environment.variables['PYTHONPATH'] = str(clone)
    return clone / 'mmpose'


@pytest.fixture(scope='module')
def flat(tmp_path_factory):
    """A folder with data and a config that has no base."""
    folder = tmp_path_factory.mktemp('flat')
    run(sys.executable, ROOT / 'tools/dataset_generators/synthetic_coco.py',
        '--out', folder / 'data' / 'synthetic_coco', '--num-train', '8',
        '--num-val', '2')
    config = Config.fromfile(str(ROOT / DEMO))
    config.train_cfg.max_epochs = 1
    config.default_hooks.pop('enhanced_tensorboard')
    config.work_dir = 'work_dir'
    config.dump(str(folder / 'flat.py'))
    return folder


KINDS = {
    'wheel': (install_wheel, TRAIN, BASE),
    'editable': (install_editable, TRAIN, FULL_NAME),
    'legacy editable': (install_legacy, SCRIPT, ''),
    'on the path': (put_on_path, TRAIN, CUSTOM_IMPORTS)
}


@pytest.mark.parametrize('kind', KINDS)
def test_beside(kind, older, wheel, mmpose_wheel, clone, borrowed, flat,
                tmp_path):
    install, code, config = KINDS[kind]
    environment = Environment(tmp_path / 'venv', borrowed)
    mmpose = install(environment, mmpose_wheel, clone)
    before = environment.installed(), without_compiled(contents(mmpose))
    environment.pip('install', older)
    assert without_compiled(contents(mmpose)) == before[1]
    environment.pip('install', wheel)
    assert without_compiled(contents(mmpose)) == before[1]
    assert not (environment.site / PACKAGE / 'gone.py').exists()

    folder = tmp_path / 'run'
    shutil.copytree(str(flat), str(folder))
    # Without .mim, MMPose looks there for the keypoints of a data set.
    (folder / 'configs').symlink_to(clone / 'configs')
    (folder / 'config.py').write_text(config)
    printed = environment.python('-c', code + WHERE, cwd=folder)
    assert f'MMPose is {mmpose / "__init__.py"}' in printed
    check_events(folder)

    environment.pip('uninstall', '-y', NAME)
    after = environment.installed(), without_compiled(contents(mmpose))
    assert after == before
    assert not (environment.folder / 'bin' / 'mmpose-migrate-hook').exists()
    printed = environment.python('-c', WHERE)
    assert f'MMPose is {mmpose / "__init__.py"}' in printed


def install_fork(environment, mmpose_wheel, clone):
    add_original(clone)
    return put_on_path(environment, mmpose_wheel, clone)


@pytest.mark.parametrize('install', [
    install_wheel, install_editable, install_legacy, put_on_path, install_fork
])
def test_migrated(install, mmpose_wheel, clone, borrowed, flat, tmp_path):
    """Brought in, trained with, upgraded and taken out, by the Python that
    imports MMPose, whichever way it does."""
    shutil.copytree(str(clone), str(tmp_path / 'clone'))
    environment = Environment(tmp_path / 'venv', borrowed)
    mmpose = install(environment, mmpose_wheel, tmp_path / 'clone')
    trees = environment.site, tmp_path / 'clone'
    before = [without_compiled(contents(tree)) for tree in trees]
    tool = ROOT / 'tools' / 'migrate_hook.py'
    printed = environment.python(tool)
    assert f'in {mmpose}\n' in printed and 'finds it' in printed

    folder = tmp_path / 'run'
    shutil.copytree(str(flat), str(folder))
    (folder / 'configs').symlink_to(clone / 'configs')
    (folder / 'config.py').write_text(
        FULL_NAME.replace(f'{PACKAGE}.Enhanced', 'Enhanced'))
    printed = environment.python('-c', TRAIN + WHERE, cwd=folder)
    assert f'MMPose is {mmpose / "__init__.py"}' in printed
    check_events(folder)

    make_older(mmpose.parent)
    assert 'An upgrade is due' in environment.python(tool, '--status')
    assert 'change engine/hooks/enhanced_' in environment.python(tool)
    assert 'It is up to date' in environment.python(tool, '--status')
    # Which imports MMPose's hooks once more.
    assert 'Done: everything is as' in environment.python(tool, '--restore')
    assert [without_compiled(contents(tree)) for tree in trees] == before


def test_beside_a_fork(older, wheel, clone, borrowed, flat, tmp_path):
    """The package leaves its hook in place, says that it does, and a training
    from elsewhere uses that one."""
    shutil.copytree(str(clone), str(tmp_path / 'clone'))
    environment = Environment(tmp_path / 'venv', borrowed)
    mmpose = install_fork(environment, None, tmp_path / 'clone')
    before = environment.installed(), without_compiled(contents(mmpose))
    environment.pip('install', older)
    environment.pip('install', wheel)
    folder = tmp_path / 'run'
    shutil.copytree(str(flat), str(folder))
    (folder / 'configs').symlink_to(clone / 'configs')
    (folder / 'config.py').write_text(
        CUSTOM_IMPORTS.replace(", preset='detailed'", ''))
    printed = environment.python('-c', TRAIN + WHERE, cwd=folder)
    assert 'that one is used' in printed
    assert f'MMPose is {mmpose / "__init__.py"}' in printed
    assert list(folder.glob('work_dir/epoch_1.pth'))
    environment.pip('uninstall', '-y', NAME)
    assert (environment.installed(),
            without_compiled(contents(mmpose))) == before
    environment.python('-c', 'import mmpose.engine.hooks')


def check_events(folder):
    """The hook has written its curves and pictures."""
    file, = glob.glob(f'{folder}/work_dir/*/vis_data/events.out.tfevents.*')
    tags = EventAccumulator(file).Reload().Tags()
    assert 'train/gradient_norm/global' in tags['scalars']
    assert 'train/images' in tags['tensors']


@pytest.fixture(scope='module')
def environment(wheel, clone, borrowed, tmp_path_factory):
    """One that has the package, and MMPose where PYTHONPATH says."""
    made = Environment(tmp_path_factory.mktemp('fresh') / 'venv', borrowed)
    made.pip('install', wheel)
    return made


BUILD = f'''
from mmengine.config import Config
from mmengine.registry import HOOKS, init_default_scope
init_default_scope('mmpose')
Config.fromfile('config.py').dump('dumped.py')
config = Config.fromfile('dumped.py')
hook = HOOKS.build(config.default_hooks.enhanced_tensorboard)
assert type(hook).__module__.startswith('{PACKAGE}.')
assert HOOKS.build(dict(type='EnhancedTensorBoardHook'))
# As configs for a migrated MMPose name it.
from mmpose.engine.hooks.enhanced_tensorboard_hook import *
assert EnhancedTensorBoardHook is type(hook)
print('neither is missing')
'''


def test_what_is_saved_of_a_config(environment, clone, flat, tmp_path):
    """It imports the package by itself."""
    (tmp_path / 'flat.py').write_text(
        # As MMPose's ViTPose has; two bases must not have the same.
        "custom_imports = dict(imports=['mmpose.engine.optim_wrappers'])\n")
    folder = environment.site / PACKAGE / '.mim' / 'configs'
    base = folder / '_base_' / 'enhanced_tensorboard' / 'fast.py'
    (tmp_path /
     'config.py').write_text(f'_base_ = [{str(base)!r}, "flat.py"]\n' +
                             BASE.splitlines()[-1])
    printed = environment.python(
        '-c', BUILD, cwd=tmp_path, PYTHONPATH=str(clone))
    assert 'neither is missing' in printed


def test_the_tools_find_the_monitors(environment, clone):
    """Defect: a test with the hook of the package could not import them."""
    printed = environment.python(
        '-c', 'from train import import_monitors\n'
        "print(import_monitors('core.runner_parts').__name__)",
        PYTHONPATH=os.pathsep.join([str(clone),
                                    str(ROOT / 'tools')]))
    assert f'{PACKAGE}.monitors.core.runner_parts' in printed
    for name in ('test', 'make_report', 'check_settings'):
        text = (ROOT / 'tools' / f'{name}.py').read_text()
        assert 'import_monitors(' in text
        assert 'mmpose.engine.monitors' not in text


IMPORT = f'''
import {PACKAGE} as package
from mmpose.registry import HOOKS
assert HOOKS.get('EnhancedTensorBoardHook') is package.EnhancedTensorBoardHook
print(package.EnhancedTensorBoardHook.__module__)
'''


@pytest.mark.parametrize('name, exported', [('', False), ('_fixed', True)])
def test_the_hook_of_mmpose_wins(name, exported, environment, tmp_path):
    """Migrated, or with a hook of its own; a stub is imported faster."""
    module = f'enhanced_tensorboard_hook{name}'
    files = {
        'registry.py':
        'from mmengine.registry import HOOKS as root, Registry\n'
        "HOOKS = Registry('hook', parent=root, scope='mmpose', "
        "locations=['mmpose.engine.hooks'])\n",
        'engine/hooks/__init__.py':
        f'from .{module} import *\n' * exported,
        f'engine/hooks/{module}.py':
        'from mmpose.registry import HOOKS\n'
        '@HOOKS.register_module()\n'
        'class EnhancedTensorBoardHook:\n'
        '    pass\n',
        '__init__.py':
        '',
        'engine/__init__.py':
        ''
    }
    for path, text in files.items():
        path = tmp_path / 'mmpose' / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    printed = environment.python('-c', IMPORT, PYTHONPATH=str(tmp_path))
    said, module_of_it = printed.strip().splitlines()
    assert module_of_it == f'mmpose.engine.hooks.{module}'
    assert 'MMPose has an EnhancedTensorBoardHook already' in said
    assert str(tmp_path / 'mmpose') in said


# Where MMPose cannot be used


def error_of_import(environment, **variables):
    printed = environment.python(
        '-c', f'import {PACKAGE}', fails=True, **variables)
    line = printed.splitlines()[-1]
    assert line.startswith(f'ImportError: {PACKAGE} needs MMPose')
    return line


def test_no_mmpose(environment):
    assert str(environment.folder) in error_of_import(environment)


def test_mmpose_that_cannot_be_imported(environment, tmp_path):
    package = tmp_path / 'mmpose'
    package.mkdir()
    (package / '__init__.py').write_text('import mmcv_of_old\n')
    line = error_of_import(environment, PYTHONPATH=str(tmp_path))
    assert str(package) in line and "No module named 'mmcv_of_old'" in line


@pytest.fixture(scope='module')
def old_wheel(tmp_path_factory):
    """As version 1 of the package was: inside of MMPose."""
    folder = tmp_path_factory.mktemp('old')
    place = folder / 'content' / 'mmpose' / 'engine'
    for name in ('hooks/enhanced_tensorboard_hook.py', 'monitors/__init__.py'):
        (place / name).parent.mkdir(parents=True)
        (place / name).write_text('')
    info = folder / 'content' / f'{PACKAGE}-1.0.0.dist-info'
    info.mkdir()
    (info / 'METADATA'
     ).write_text(f'Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0.0\n')
    (info / 'WHEEL').write_text('Wheel-Version: 1.0\nGenerator: a test\n'
                                'Root-Is-Purelib: true\nTag: py3-none-any\n')
    return pack(folder)


def test_folder_that_hides_an_editable_mmpose(old_wheel, wheel, mmpose_wheel,
                                              clone, borrowed, tmp_path):
    environment = Environment(tmp_path / 'venv', borrowed)
    mmpose = install_editable(environment, mmpose_wheel, clone)
    environment.pip('install', old_wheel)
    find = 'import mmpose; print(mmpose.__file__)'
    hidden = environment.site / 'mmpose'
    assert environment.python('-c', find).strip() == 'None'

    # An upgrade takes the files away, and pip leaves their empty folders.
    environment.pip('install', wheel)
    assert f'finds only {hidden}' in error_of_import(environment)
    printed = environment.command('mmpose-migrate-hook', fails=True)
    assert f'{hidden} hides it' in printed
    assert not [path for path in hidden.rglob('*') if path.is_file()]

    shutil.rmtree(str(hidden))
    printed = environment.command('mmpose-migrate-hook', '--status')
    assert f'in {mmpose}' in printed and f'the package {NAME}' in printed


def test_status_of_version_1(old_wheel, clone, tmp_path, capsys, monkeypatch):
    """Its files belong to MMPose where MMPose is, and are in the way else."""
    printed = {}
    for place in ('with', 'without'):
        environment = Environment(tmp_path / place)
        target = clone
        if place == 'with':
            target = copy_mmpose(environment.site, PARTS)
        environment.pip('install', old_wheel)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(environment.site))
            assert command.main(['--status', '--target', str(target)]) == 0
        printed[place] = capsys.readouterr().out
    assert 'pip has put the hook into' in printed['with']
    assert 'hides' not in printed['with']
    assert f'{environment.site / "mmpose"}, which hides' in printed['without']
    assert 'There is no enhanced_tensorboard_hook.py' in printed['without']


def test_command_needs_neither_mmpose_nor_torch(wheel, clone, tmp_path):
    environment = Environment(tmp_path / 'venv')
    environment.pip('install', wheel)
    migrate = 'mmpose-migrate-hook'
    printed = environment.command(migrate, fails=True)
    assert printed.startswith(f'{migrate}: ') and printed.count('\n') == 1
    printed = environment.command('mmpose-train', 'config.py', fails=True)
    assert 'MMPose is not installed' in printed and printed.count('\n') == 1
    printed = environment.command(migrate, '--target', clone, '--dry-run')
    assert 'add    engine/monitors/core/monitor.py' in printed
    assert 'add    engine/monitors/deep/deeper/module.py' in printed
    assert 'add    ../configs/_base_/enhanced_tensorboard/fast' in printed
    assert '\n+from .enhanced_tensorboard_hook import' in printed
