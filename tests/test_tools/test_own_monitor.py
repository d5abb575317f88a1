# Copyright (c) OpenMMLab. All rights reserved.
"""The example of the documentation, from a folder outside of the checkout."""
import os
import re
import subprocess
import sys

import pytest
from test_train_distributed import (CONFIG, DEMO, GENERATOR, ROOT, TRAIN, load,
                                    read)

PAGE = ROOT / 'docs/en/write_a_monitor.md'
TAG = 'my/keypoints_in_loss'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """What a user has: data, a monitor and a config that names it."""
    folder = tmp_path_factory.mktemp('own')
    load(GENERATOR).generate_dataset(folder / 'data', num_train=8, num_val=2)
    monitor, config, *_ = re.findall('```python\n(.*?)```',
                                     PAGE.read_text(encoding='utf-8'), re.S)
    assert len([line for line in monitor.splitlines() if line]) <= 22
    (folder / 'my_monitor.py').write_text(monitor)
    base = CONFIG.format(demo=ROOT / DEMO, data=folder / 'data')
    (folder / 'base.py').write_text(base)
    (folder /
     'config.py').write_text("_base_ = ['base.py']\n" +
                             config.replace('interval=50', 'interval=3'))
    return folder


@pytest.mark.parametrize('processes', [1, 2])
def test_the_example_works_as_it_is_printed(folder, processes):
    command = [sys.executable]
    if processes > 1:
        command += [
            '-m', 'torch.distributed.run', '--standalone',
            f'--nproc-per-node={processes}'
        ]
    command += [str(TRAIN), 'config.py', '--work-dir', f'run{processes}']
    if processes > 1:
        command += ['--launcher', 'pytorch']
    result = subprocess.run(
        command,
        cwd=str(folder),
        env={
            **os.environ, 'OMP_NUM_THREADS': '1',
            'CUDA_VISIBLE_DEVICES': '-1',
            'PYTHONPATH': str(folder)
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        timeout=200)
    assert result.returncode == 0, result.stdout[-3000:]
    assert 'KeypointsInLoss failed' not in result.stdout
    events = read(folder / f'run{processes}')
    steps = {e.step: e.value for e in events.Scalars(TAG)}
    # Sixteen samples twice, two of them for each process.
    last = 2 * 16 // 2 // processes
    assert list(steps) == [1, *range(3, last + 1, 3)]
    assert all(0 < value <= 1 for value in steps.values())
    # Ours are there as well.
    assert 'train/gradient_norm/global' in events.Tags()['scalars']


def test_the_page_names_every_event():
    from mmpose.engine.monitors import Monitor
    events = [
        name for name in vars(Monitor) if re.match('(before|after)_', name)
    ]
    text = PAGE.read_text(encoding='utf-8')
    assert not [name for name in events if not re.search(f'`{name}[`(]', text)]
