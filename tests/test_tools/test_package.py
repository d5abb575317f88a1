# Copyright (c) OpenMMLab. All rights reserved.
import base64
import contextlib
import csv
import glob
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from mmpose_copies import PARTS, contents, copy_mmpose
from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator

ROOT = Path(__file__).resolve().parents[2]
NAME = 'mmpose-enhanced-tensorboard'
PACKED = ('setup.py', 'setup.cfg', 'MANIFEST.in', 'README.md', 'configs',
          'mmpose', 'tools')
DEMO = 'mmpose::enhanced_tensorboard/td-hm_res18_1xb8-12e_synthetic-128x96.py'

CONFIG = f'''
_base_ = ['{DEMO}', 'mmpose::_base_/enhanced_tensorboard/detailed.py']
train_cfg = dict(max_epochs=1)
default_hooks = dict(enhanced_tensorboard=_base_.enhanced_tensorboard)
'''


def run(*command, cwd=None):
    result = subprocess.run(
        list(map(str, command)),
        cwd=cwd and str(cwd),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True)
    assert result.returncode == 0, result.stdout
    return result.stdout


def environment():
    """Without the checkout in sight, and without a network."""
    env = {
        key: value
        for key, value in os.environ.items() if key != 'PYTHONPATH'
    }
    return dict(
        env,
        OMP_NUM_THREADS='1',
        PIP_NO_INDEX='1',
        PIP_DISABLE_PIP_VERSION_CHECK='1')


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """The wheel, built from the source distribution."""
    folder = tmp_path_factory.mktemp('build')
    checkout = folder / 'checkout'
    checkout.mkdir()
    for name in PACKED:
        if (ROOT / name).is_dir():
            shutil.copytree(
                str(ROOT / name),
                str(checkout / name),
                ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copy(str(ROOT / name), str(checkout))
    run(sys.executable, 'setup.py', 'sdist', '-d', folder, cwd=checkout)
    source, = folder.glob('*.tar.gz')
    # As an earlier build in the same folder would have left it.
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


def names(wheel):
    with zipfile.ZipFile(str(wheel)) as file:
        return set(file.namelist())


@pytest.fixture(scope='module')
def mmpose_wheel(tmp_path_factory):
    """A wheel of the installed MMPose, as it was without the patch."""
    folder = tmp_path_factory.mktemp('mmpose_wheel')
    copy_mmpose(folder / 'content')
    site = Path(find_spec('mmpose').origin).parents[1]
    info, = site.glob('mmpose-*.dist-info')
    shutil.copytree(str(info), str(folder / 'content' / info.name))
    run(sys.executable, '-m', 'wheel', 'pack', folder / 'content', '-d',
        folder)
    packed, = folder.glob('*.whl')
    return packed


@pytest.fixture(scope='module')
def venv(mmpose_wheel, tmp_path_factory):
    """A fresh environment with MMPose in it, and without what that needs."""
    folder = tmp_path_factory.mktemp('fresh') / 'venv'
    run(sys.executable, '-m', 'venv', '--without-pip', folder)
    pip(folder, 'install', mmpose_wheel)
    return folder


def pip(venv, *args):
    options = ['--no-deps'] if args[0] == 'install' else []
    return run(sys.executable, '-m', 'pip', '--python',
               venv / 'bin' / 'python', *args, *options)


@contextlib.contextmanager
def borrowing(venv):
    """Let an environment use what this one has installed.

    Only while pip is not at work: it must not find the MMPose here.
    """
    path = mmpose_of(venv).with_name('borrowed.pth')
    path.write_text(sysconfig.get_path('purelib') + '\n')
    yield
    path.unlink()


def mmpose_of(venv):
    package, = venv.glob('lib/python*/site-packages/mmpose')
    return package


def check_record(venv):
    """Every file of MMPose's has the hash that pip has noted."""
    site = mmpose_of(venv).parent
    record, = site.glob('mmpose-*.dist-info/RECORD')
    checked = 0
    for name, noted, _ in csv.reader(record.open()):
        if noted:
            data = hashlib.sha256((site / name).read_bytes()).digest()
            digest = base64.urlsafe_b64encode(data).rstrip(b'=').decode()
            assert noted == f'sha256={digest}', name
            checked += 1
    assert checked > 500


def without_compiled(found):
    return {
        path: content
        for path, content in found.items() if '__pycache__' not in path
    }


def test_nothing_of_mmposes_is_packed(wheel, mmpose_wheel):
    ours, mmposes = names(wheel), names(mmpose_wheel)
    assert not ours & mmposes
    assert 'mmpose/engine/hooks/enhanced_tensorboard_hook.py' in ours
    assert 'mmpose/engine/monitors/core/monitor.py' in ours
    assert ('mmpose/.mim/configs/_base_/enhanced_tensorboard/fast.py' in ours)
    assert 'mmpose/engine/monitors/gone.py' not in ours


def test_install_train_upgrade_uninstall(wheel, mmpose_wheel, venv, tmp_path):
    before = without_compiled(contents(mmpose_of(venv)))
    pip(venv, 'install', wheel)
    check_record(venv)
    with borrowing(venv):
        train(venv, tmp_path)

    # Either is upgraded: the other one stays as it is.
    ours = installed_by_us(venv)
    pip(venv, 'install', '--force-reinstall', mmpose_wheel)
    assert installed_by_us(venv) == ours
    pip(venv, 'install', '--force-reinstall', wheel)
    assert installed_by_us(venv) == ours
    check_record(venv)
    check_command(venv, tmp_path)

    pip(venv, 'uninstall', '-y', NAME)
    check_record(venv)
    assert without_compiled(contents(mmpose_of(venv))) == before
    assert not mmpose_of(venv).joinpath('engine', 'monitors').exists()
    assert not (venv / 'bin' / 'mmpose-migrate-hook').exists()


def train(venv, folder):
    """Train with MMPose's own script, far from the checkout."""
    python = venv / 'bin' / 'python'
    run(python, ROOT / 'tools/dataset_generators/synthetic_coco.py', '--out',
        folder / 'data' / 'synthetic_coco', '--num-train', '8', '--num-val',
        '2')
    (folder / 'config.py').write_text(CONFIG)
    script = mmpose_of(venv) / '.mim' / 'tools' / 'train.py'
    run(python, script, 'config.py', '--work-dir', 'work_dir', cwd=folder)
    file, = glob.glob(f'{folder}/work_dir/*/vis_data/events.out.tfevents.*')
    tags = EventAccumulator(file).Reload().Tags()
    assert 'train/gradient_norm/global' in tags['scalars']
    assert 'train/images' in tags['tensors']


def installed_by_us(venv):
    package = mmpose_of(venv)
    return {
        path: content
        for path, content in without_compiled(contents(package)).items()
        if 'enhanced_tensorboard' in path or 'monitors' in path
    }


def check_command(venv, folder):
    """The command works on other MMPoses, and leaves that of pip alone."""
    command = venv / 'bin' / 'mmpose-migrate-hook'
    assert 'pip has put the hook into' in run(command, '--status')
    copy_mmpose(folder / 'clone', PARTS)
    printed = run(command, '--target', folder / 'clone', '--dry-run')
    assert 'add    engine/monitors/core/monitor.py' in printed
    assert 'add    .mim/configs/_base_/enhanced_tensorboard/fast' in printed
    assert '\n+from .enhanced_tensorboard_hook import' in printed


@pytest.mark.parametrize('command', ['develop', 'editable_wheel'])
def test_editable_installation_is_refused(command):
    result = subprocess.run([sys.executable, 'setup.py', command],
                            cwd=str(ROOT),
                            stderr=subprocess.PIPE,
                            universal_newlines=True)
    assert result.returncode != 0
    assert 'tools/link_patch.py' in result.stderr
