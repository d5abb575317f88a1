# Copyright (c) OpenMMLab. All rights reserved.
"""What the hook costs in a real training, per iteration."""
import copy
import multiprocessing
import random
import re
import resource
import tempfile
import time
import uuid
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

from mmengine.config import Config
from mmengine.runner import Runner

from mmpose.engine.hooks import EnhancedTensorBoardHook
from mmpose.engine.monitors import ValImageMonitor
from mmpose.registry import HOOKS
from mmpose.utils import register_all_modules
from .counting import Counting, written
from .described import DescribedHook
from .models import load_config
from .timing import clock, synchronize
from .turns import Turns, TurnTakingLoop

HOOKS.register_module(module=DescribedHook, force=True)

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
_NO_PICTURES = dict(_EVERY, log_train_images=False, log_data=False)


def _preset(name: str) -> dict:
    return dict(type='EnhancedTensorBoardHook', strict=True, preset=name)


# What is added to the training with LoggerHook and TensorBoard.
ARMS: Dict[str, Optional[dict]] = {
    'without TensorBoard': None,
    'LoggerHook': {},
    'fast': _preset('fast'),
    'balanced': _preset('balanced'),
    'detailed': _preset('detailed'),
    'every iteration': dict(_EVERY, train_image_interval=1),
    'every iteration, no pictures': _NO_PICTURES,
    'requirements, before': dict(type='DescribedHook', version='before'),
    'requirements, after': dict(type='DescribedHook', version='after'),
}
BASE = 'LoggerHook'
MODELS = {
    'demo':
    list(ARMS),
    'RTMPose-t': [
        'without TensorBoard', 'LoggerHook', 'balanced', 'detailed',
        'requirements, after'
    ],
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


def peak_memory(arm: str, iterations: int, data_root: str) -> int:
    """The most memory that a training of the demo takes, alone in a process.

    Args:
        arm (str): One of ``ARMS``.
        iterations (int): How long it trains.
        data_root (str): The demo's data set.

    Returns:
        int: In bytes.
    """
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        return pool.apply(_peak_memory, (arm, iterations, data_root))


def _peak_memory(arm: str, iterations: int, data_root: str) -> int:
    register_all_modules()

    def drive(loops: List[TurnTakingLoop]) -> None:
        only = _Arm(loops[0])
        for _ in range(iterations):
            only.step()

    with tempfile.TemporaryDirectory() as folder:
        Turns([make_config('demo', arm, data_root, folder)], drive).run()
    status = Path('/proc/self/status')
    if status.exists():
        # Unlike getrusage(), without what the parent had before.
        found = re.search(r'VmHWM:\s*(\d+) kB', status.read_text())
        return int(found.group(1)) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def validation_panels(repeat: int, data_root: str) -> Dict[str, list]:
    """What pictures of validation samples take in the training thread.

    Args:
        repeat (int): How many validations.
        data_root (str): The demo's data set.

    Returns:
        dict[str, list]: ``own``, the milliseconds that a validation's pictures
        take; ``count``, how many pictures; ``validation``, the milliseconds
        of all of it.
    """
    register_all_modules()
    cfg = Config.fromfile(str(ROOT / DEMO))
    cfg.merge_from_dict(dict(log_level='ERROR'))
    for part in (cfg.val_dataloader.dataset, cfg.test_dataloader.dataset):
        part.data_root = f'{data_root}/'
    for part in (cfg.val_evaluator, cfg.test_evaluator):
        part.ann_file = f'{data_root}/annotations/person_keypoints_val.json'
    cfg.default_hooks.checkpoint = None
    cfg.default_hooks.enhanced_tensorboard.update(
        val_image_interval=1, log_keypoints=False, hard_samples=0)
    found: Dict[str, list] = dict(own=[], count=[], validation=[])
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir = folder
        cfg.experiment_name = uuid.uuid4().hex
        runner = Runner.from_cfg(cfg)
        loop = runner._val_loop = runner.build_val_loop(runner._val_loop)
        runner.call_hook('before_run')
        hook = next(
            h for h in runner.hooks if isinstance(h, EnhancedTensorBoardHook))
        monitor = next(
            m for m in hook.monitors if isinstance(m, ValImageMonitor))
        for i in range(repeat + 1):
            seconds = monitor.guard.seconds
            images = hook._writer.written['Image']
            took = clock(loop.run)
            hook._writer.flush()
            if i:
                found['own'].append(1e3 * (monitor.guard.seconds - seconds))
                found['count'].append(hook._writer.written['Image'] - images)
                found['validation'].append(took)
        runner.call_hook('after_run')
    return found
