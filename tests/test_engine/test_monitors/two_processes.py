# Copyright (c) OpenMMLab. All rights reserved.
"""Runs that are made in one pair of processes, over gloo on the CPU.

One after the other, since a process takes long to start. One that hangs fails
all that come after it.
"""
import datetime
import json
import os
import time
from pathlib import Path
from typing import Callable, Dict, List
from unittest import mock

import torch
from torch import distributed, multiprocessing

from mmpose.utils import register_all_modules

# Seconds. On a busy machine the runs may take a minute.
TIMEOUT = 240


def start_two(work: Callable[[int, str], None], folder: Path) -> None:
    """Let two processes work, and kill what hangs.

    Args:
        work (Callable): Called in each with its rank and the folder.
        folder (Path): Where they write.
    """
    # One GPU is not enough for two.
    with mock.patch.dict(os.environ, CUDA_VISIBLE_DEVICES=''):
        processes = multiprocessing.spawn(
            work, args=(str(folder), ), nprocs=2, join=False)
    deadline = time.monotonic() + TIMEOUT
    error = None
    try:
        while not processes.join(1) and time.monotonic() < deadline:
            pass
    except Exception as raised:
        error = raised
    for process in processes.processes:
        if process.is_alive():
            process.kill()
    if error is not None:
        print(error)  # The tests say which run it was.


def make_runs(rank: int, folder: str, runs: Dict[str, Callable]) -> None:
    """To be called in each of them: makes runs and writes what they return.

    Args:
        rank (int): The process's.
        folder (str): Where to write.
        runs (dict[str, Callable]): Called with a folder of their own.
    """
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2')
    distributed.init_process_group(
        'gloo',
        init_method=f'file://{folder}/rendezvous',
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=TIMEOUT / 4))
    register_all_modules()
    for name, make in runs.items():
        result = make(f'{folder}/{name}')
        Path(f'{folder}/{name}_{rank}.json').write_text(json.dumps(result))


def results_of(folder: Path, name: str) -> List[dict]:
    """The results of a run, of both processes."""
    paths = [folder / f'{name}_{rank}.json' for rank in (0, 1)]
    assert all(map(Path.exists, paths)), f'{name} did not come to an end'
    return [json.loads(path.read_text()) for path in paths]
