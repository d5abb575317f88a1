# Copyright (c) OpenMMLab. All rights reserved.
"""What the hook costs in a real training, per iteration."""
import copy
import random
import tempfile
import time
import uuid
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

from mmengine.config import Config

from mmpose.engine.hooks import EnhancedTensorBoardHook
from mmpose.utils import register_all_modules
from .counting import Counting, written
from .models import load_config
from .timing import clock, synchronize
from .turns import Turns, TurnTakingLoop

ROOT = Path(__file__).resolve().parents[2]
DEMO = ('configs/enhanced_tensorboard/'
        'td-hm_res18_1xb8-12e_synthetic-128x96.py')
RTMPOSE = 'rtmpose/coco/rtmpose-t_8xb256-420e_coco-256x192'
_EVERY = dict(
    type='EnhancedTensorBoardHook',
    strict=True,
    grad_norm_interval=1,
    weight_hist_interval=1,
    val_image_interval=1)


def _preset(name: str) -> dict:
    return dict(type='EnhancedTensorBoardHook', strict=True, preset=name)


# What is added to the training with LoggerHook and TensorBoard.
ARMS: Dict[str, Optional[dict]] = {
    'without TensorBoard':
    None,
    'LoggerHook': {},
    'fast':
    _preset('fast'),
    'balanced':
    _preset('balanced'),
    'detailed':
    _preset('detailed'),
    'every iteration':
    dict(_EVERY, train_image_interval=1),
    'every iteration, no pictures':
    dict(_EVERY, log_train_images=False, log_data=False),
}
BASE = 'LoggerHook'
MODELS = {
    'demo': list(ARMS),
    'RTMPose-t': ['LoggerHook', 'balanced', 'detailed'],
}


class Run(NamedTuple):
    """What was measured of one way to train.

    Attributes:
        times (list[float]): Of each iteration, in milliseconds.
        behind (list[float]): How long its other threads took afterwards.
        inside (list[float]): What the hook's own clock says that it took of
            the training thread.
        logged (list[bool]): Whether the hook read anything.
        first (float): The first iteration, which is none of the above.
        syncs (float): Values brought to the host, per iteration.
        launches (float): Operators, per iteration.
        bytes (int): Of the event file, without the first iteration.
    """
    times: List[float]
    behind: List[float]
    inside: List[float]
    logged: List[bool]
    first: float
    syncs: float
    launches: float
    bytes: int


def measure(model: str,
            arms: List[str],
            iterations: int,
            data_root: str,
            batch_size: int = 8,
            seconds: float = float('inf')) -> Dict[str, Run]:
    """Train in every way at once, an iteration each in turn.

    The first iteration, in which the hook sets itself up, is measured apart.
    Afterwards operators are counted for some more that are not timed.

    Args:
        model (str): 'demo' or 'RTMPose-t'.
        arms (list[str]): Keys of ``ARMS``.
        iterations (int): How many to time at most.
        data_root (str): The demo's data set.
        batch_size (int): Samples of an iteration. Defaults to 8, the demo's.
        seconds (float): After how long to end, with ten at least. Defaults to
            infinity.

    Returns:
        dict[str, Run]: By arm.
    """
    register_all_modules()
    found: Dict[str, Run] = {}
    with tempfile.TemporaryDirectory() as folder:

        def drive(loops: List[TurnTakingLoop]) -> None:
            found.update(
                _take_turns(dict(zip(arms, loops)), iterations, seconds))

        configs = [
            make_config(model, arm, data_root, f'{folder}/{i}')
            for i, arm in enumerate(arms)
        ]
        for config in configs:
            config.train_dataloader.batch_size = batch_size
        Turns(configs, drive).run()
    return found


def make_config(model: str, arm: str, data_root: str, work_dir: str) -> Config:
    """The config of a training.

    Args:
        model (str): 'demo' or 'RTMPose-t'.
        arm (str): One of ``ARMS``.
        data_root (str): The demo's data set.
        work_dir (str): Where it may write.

    Returns:
        Config: Without validation and checkpoints.
    """
    cfg = Config.fromfile(str(ROOT / DEMO))
    if model == 'RTMPose-t':
        rtmpose = load_config(RTMPOSE)
        for key in ('model', 'optim_wrapper', 'codec'):
            cfg[key] = rtmpose[key]
        cfg.model.backbone.pop('init_cfg', None)
        for step in cfg.train_dataloader.dataset.pipeline:
            if step['type'] == 'TopdownAffine':
                step['input_size'] = cfg.codec['input_size']
            if step['type'] == 'GenerateTarget':
                step['encoder'] = cfg.codec
    cfg.train_dataloader.dataset.data_root = f'{data_root}/'
    for key in ('val', 'test'):
        for part in ('cfg', 'dataloader', 'evaluator'):
            cfg.pop(f'{key}_{part}', None)
    cfg.param_scheduler = None
    cfg.work_dir, cfg.experiment_name = work_dir, uuid.uuid4().hex
    cfg.log_level = 'ERROR'
    hooks = cfg.default_hooks
    for key in ('enhanced_tensorboard', 'checkpoint', 'visualization',
                'badcase'):
        hooks.pop(key, None)
    hooks.logger = dict(type='LoggerHook', interval=10)
    # The name: of those with the same there is only one in a process.
    cfg.visualizer.update(
        name=cfg.experiment_name,
        vis_backends=[dict(type='TensorboardVisBackend')])
    added = ARMS[arm]
    if added is None:
        hooks.logger = None
        cfg.visualizer.vis_backends = []
    cfg.custom_hooks = [copy.deepcopy(added)] if added else []
    return cfg


def _take_turns(loops: Dict[str, TurnTakingLoop], count: int,
                seconds: float) -> Dict[str, Run]:
    arms = {name: _Arm(loop) for name, loop in loops.items()}
    first = {name: arm.step() for name, arm in arms.items()}
    before = {name: arm.written() for name, arm in arms.items()}
    names = list(arms)
    steps: Dict[str, list] = {name: [] for name in names}
    until = time.monotonic() + seconds
    for i in range(count):
        if i >= 10 and time.monotonic() > until:
            break
        # In any order, so that nobody always follows the same one.
        for name in random.Random(i).sample(names, len(names)):
            steps[name].append(arms[name].step())
    after = {name: arm.written() for name, arm in arms.items()}
    counted = {name: arm.count(min(count, 4)) for name, arm in arms.items()}
    return {
        name: Run(*map(list, zip(*steps[name])), first[name][0],
                  *counted[name], after[name] - before[name])
        for name in names
    }


class _Arm:
    """One of the trainings."""

    def __init__(self, loop: TurnTakingLoop) -> None:
        self._iterations = loop.iterations()
        runner = loop.runner
        self._log_dir = str(runner.work_dir)
        self._hook = next(
            (h
             for h in runner.hooks if isinstance(h, EnhancedTensorBoardHook)),
            None)
        self._writers = [
            backend.experiment
            for backend in runner.visualizer._vis_backends.values()
        ]
        self._num_records = 0
        if self._hook is not None:
            self._count_records(self._hook._writer)

    def step(self) -> tuple:
        """Train for one iteration.

        Returns:
            tuple: See the first four of :obj:`Run`.
        """
        inside, records = self._inside(), self._num_records
        took = clock(self._run)
        logged = self._num_records > records
        return took, clock(self._settle), self._inside() - inside, logged

    def count(self, iterations: int) -> tuple:
        """Values brought to the host and operators, per iteration."""
        with Counting() as counting:
            for _ in range(iterations):
                next(self._iterations)
        return (sum(counting.syncs.values()) / iterations,
                sum(counting.launches.values()) / iterations)

    def written(self) -> int:
        """The size of the event file."""
        self._settle()
        return written(self._log_dir).bytes

    def _run(self) -> None:
        next(self._iterations)
        synchronize()

    def _settle(self) -> None:
        for writer in self._writers:
            writer.flush()

    def _inside(self) -> float:
        if self._hook is None:
            return 0.
        return 1e3 * sum(guard.seconds for guard in self._hook._guards())

    def _count_records(self, writer) -> None:
        write = writer.write

        def counted(*args) -> None:
            self._num_records += 1
            write(*args)

        writer.write = counted
