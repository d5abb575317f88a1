# Copyright (c) OpenMMLab. All rights reserved.
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmpose.engine.monitors.optimization import free_memory as module
from mmpose.engine.monitors.optimization.free_memory import (_in_cgroups,
                                                             free_memory)

CPU = torch.device('cpu')
GIB = 1 << 30


def write(folder, **texts):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name.replace('__', '.')).write_text(text)


def v2(folder, limit, usage):
    write(
        folder,
        memory__max=f'{limit}\n',
        memory__current=f'{usage}\n',
        memory__stat='anon 5\ninactive_file 100\nactive_file 20\n')


def v1(folder, limit, usage):
    write(
        folder,
        memory__limit_in_bytes=f'{limit}\n',
        memory__usage_in_bytes=f'{usage}\n',
        memory__stat='inactive_file 1\nactive_file 1\n'
        'total_inactive_file 100\ntotal_active_file 20\n')


@pytest.mark.parametrize('make, line, top', [
    (v2, '0::/a c/b', ''),
    (v1, '4:cpu,memory:/a c/b', 'memory'),
])
def test_the_limits_of_all_groups_around_the_process(tmp_path, make, line,
                                                     top):
    """Files that were read do not count."""
    (tmp_path / 'own').write_text(f'9:pids:/\n{line}\n')
    root = tmp_path / 'root'
    make(root / top / 'a c' / 'b', 10000, 3000)
    make(root / top / 'a c', 8000, 4000)
    make(root / top / 'other', 10, 10)
    assert list(_in_cgroups(tmp_path / 'own', root)) == [7120, 4120]
    # As in a container, where the path is the host's.
    (tmp_path / 'own').write_text(f'{line}/c/d\n'.replace('/a c/b', '/x/y'))
    make(root / top, 5000, 1000)
    assert list(_in_cgroups(tmp_path / 'own', root)) == [4120]


def test_a_group_without_a_limit(tmp_path):
    (tmp_path / 'own').write_text('0::/a\n')
    v2(tmp_path / 'a', 'max', 3000)
    assert list(_in_cgroups(tmp_path / 'own', tmp_path)) == []
    assert list(_in_cgroups(tmp_path / 'nothing', tmp_path)) == []


def test_the_least_of_all_counts(monkeypatch):
    monkeypatch.setattr(module, '_below_limit', lambda: iter([5 * GIB]))
    monkeypatch.setattr(module, '_in_cgroups', lambda: iter([7, 3]))
    assert free_memory(CPU) == 3
    monkeypatch.setattr(module, '_in_cgroups', lambda: iter([]))
    monkeypatch.setattr(module, 'psutil', None)
    assert free_memory(CPU) == 5 * GIB
    monkeypatch.setattr(module, '_below_limit', lambda: iter([]))
    assert free_memory(CPU) is None
    assert free_memory(torch.device('meta')) is None


def test_on_a_gpu_the_cache_counts(monkeypatch):
    for name, value in dict(
            mem_get_info=(100, 1000), memory_reserved=70,
            memory_allocated=50).items():
        monkeypatch.setattr(torch.cuda, name, lambda _, value=value: value)
    device = torch.device('cuda', 0)
    assert free_memory(device) == 120
    assert free_memory(device, in_cache=False) == 100


# Looks for the least memory that a training takes, trains with the monitor in
# so much and in more, and prints what came of it.
SCRIPT = """
import os, resource, sys
import torch
from stepping import Training
from torch import nn
from mmpose.engine.monitors import Every, UpdateMonitor
from mmpose.engine.monitors.optimization.free_memory import _words

torch.set_num_threads(1)

def training(*monitors):
    model = nn.Sequential(nn.Linear(6, 1024), *(
        nn.Linear(1024, 1024, bias=False) for _ in range(4)))
    return Training(
        *monitors, model=model, optimizer=lambda p: torch.optim.AdamW(
            p, lr=1e-4, foreach=sys.argv[1] == 'foreach'))

def outcome(mib, *monitors):
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        return {0: 'trained', 256: 'read'}.get(status, 'died')
    try:
        trained = training(*monitors)
        limit = int(_words('/proc/self/statm')[0]) * resource.getpagesize()
        limit += mib << 20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        trained.run(3)
        os._exit(len(trained.written.records) > 0)
    except BaseException:
        os._exit(2)

# Whatever is loaded late is loaded now.
training(UpdateMonitor(Every(1), 5)).read(3)
few, enough = 8, 256
while enough - few > 2:
    mib = (few + enough) // 2
    few, enough = (few, mib) if outcome(mib) == 'trained' else (mib, enough)
for more in (*range(2, 74, 6), 160):
    print('outcome', outcome(enough + more, UpdateMonitor(Every(1), 5)))
"""


@pytest.mark.skipif(
    not sys.platform.startswith('linux'), reason='needs RLIMIT_AS')
@pytest.mark.parametrize('form', ['foreach', 'one by one'])
def test_a_training_that_just_fits_does_not_run_out(form):
    """P2: the optimizer finds the memory that it finds without the hook."""
    environment = dict(
        os.environ,
        PYTHONPATH=os.pathsep.join(
            [str(Path(__file__).parents[1]),
             os.environ.get('PYTHONPATH', '')]),
        # What is freed goes back, and what is large has pages of its own.
        MALLOC_MMAP_THRESHOLD_='65536',
        MALLOC_TRIM_THRESHOLD_='65536',
        MALLOC_ARENA_MAX='1')
    output = subprocess.run([sys.executable, '-c', SCRIPT, form],
                            env=environment,
                            check=True,
                            stdout=subprocess.PIPE,
                            universal_newlines=True).stdout
    outcomes = [
        line.split()[1] for line in output.splitlines()
        if line.startswith('outcome ')
    ]
    assert len(outcomes) == 13 and 'died' not in outcomes
    # The copy takes 16 MiB: there is too little for it, then enough.
    assert outcomes[0] == 'trained' and outcomes[-1] == 'read'
