# Copyright (c) OpenMMLab. All rights reserved.
"""Whether a long training stays as quick and as small as it began.

    cd tools; python -m benchmarks.long_run --steps 1000000

trains a model of one layer with the hook at its defaults, and says for each
tenth of the steps what one takes, and what the process holds. What MMEngine
itself keeps of all iterations is cut to the last thousands.
"""
import argparse
import gc
import tempfile
import threading
import time
from pathlib import Path
from typing import Dict, List
from unittest import mock

import psutil
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from mmpose.registry import DATASETS, HOOKS, MODELS
from mmpose.utils import register_all_modules

_KEPT = 10000


@DATASETS.register_module(force=True)
class Zeros(torch.utils.data.Dataset):
    """Has a sample for each iteration."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=torch.zeros(4))


@MODELS.register_module(force=True)
class OneLayer(BaseModel):
    """Costs next to nothing beside what is measured."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, inputs, mode: str = 'loss'):
        return dict(loss=(self.layer(torch.stack(inputs)) - 1).square().mean())


@HOOKS.register_module(force=True)
class Tenths(Hook):
    """Measure at the end of each tenth of the training.

    Args:
        steps (int): All iterations.
        rows (list[dict]): Where the measurements go.
    """
    priority = 'LOWEST'

    def __init__(self, steps: int, rows: List[Dict[str, float]]) -> None:
        self._every = max(steps // 10, 1)
        self._rows = rows
        self._process = psutil.Process()

    def before_train(self, runner) -> None:
        self._began = time.perf_counter()

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        step = runner.iter + 1
        if step % self._every:
            return
        seconds = time.perf_counter() - self._began
        gc.collect()
        self._rows.append(
            dict(
                step=step,
                microseconds=1e6 * seconds / self._every,
                memory=self._process.memory_info().rss / (1 << 20),
                files=self._process.num_fds(),
                threads=threading.active_count()))
        print(
            '{step:>9,} steps  {microseconds:8.1f} us/step  {memory:8.1f} '
            'MiB  {files} files  {threads} threads'.format(**self._rows[-1]),
            flush=True)
        self._began = time.perf_counter()


def train(steps: int, folder: str, custom_hooks: list, **hook) -> Runner:
    """Train for so many steps, with the hook.

    Args:
        steps (int): How many.
        folder (str): The work directory.
        custom_hooks (list): Other hooks.
        **hook: Arguments of the hook.

    Returns:
        Runner: That has trained.
    """
    register_all_modules()
    runner = Runner(
        model=dict(type='OneLayer'),
        work_dir=folder,
        experiment_name=Path(folder).name,
        train_dataloader=dict(
            batch_size=1,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(type='Zeros', length=steps)),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1000), checkpoint=None),
        custom_hooks=[
            *custom_hooks,
            dict(type='EnhancedTensorBoardHook', **hook)
        ],
        visualizer=dict(
            type='Visualizer',
            vis_backends=[dict(type='TensorboardVisBackend')]),
        default_scope='mmpose',
        log_level='WARNING')
    with mock.patch.object(HistoryBuffer.__init__, '__defaults__',
                           ([], [], _KEPT)):
        runner.train()
    return runner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--steps', type=int, default=10**6, help='how many (default: 10^6)')
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: List[Dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        train(args.steps, folder,
              [dict(type='Tenths', steps=args.steps, rows=rows)])


if __name__ == '__main__':
    main()
