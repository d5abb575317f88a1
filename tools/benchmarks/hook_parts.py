# Copyright (c) OpenMMLab. All rights reserved.
"""The hook's monitors, each alone, as subjects to time or count.

A subject does what the hook does in one iteration in which it reads; how often
that is, the intervals say.
"""
import time
from types import SimpleNamespace
from typing import Sequence

import torch
from mmengine.optim import OptimWrapper
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.engine.monitors import (EventWriter, Every, GradientMonitor,
                                    LearningRateMonitor, Monitor,
                                    TrainImageMonitor, WeightMonitor)
from mmpose.engine.monitors.core.optimizer_probe import OptimizerProbe
from mmpose.testing import get_packed_inputs
from .timing import Subject

MAX_GROUPS = 20


def gradient_norms(model: nn.Module, folder: str) -> Subject:
    """The norms of all gradients, at an optimizer's step."""
    monitor = GradientMonitor(Every(1), MAX_GROUPS, strict=True)
    runner = _runner(model)
    subject = _subject(monitor, runner, folder)
    OptimizerProbe([monitor]).follow(runner.optim_wrapper)

    def read() -> None:
        monitor.before_train_iter(runner, 0, None)
        runner.optim_wrapper.step()
        monitor.after_train_iter(runner, 0, None, None)
        runner.iter += 1

    return subject._replace(run=read)


def weight_histograms(model: nn.Module, folder: str) -> Subject:
    """Histograms of all weights, after an epoch."""
    monitor = WeightMonitor(Every(1), MAX_GROUPS, strict=True)
    runner = _runner(model)
    subject = _subject(monitor, runner, folder)

    def read() -> None:
        runner.iter += 1
        monitor.after_train_epoch(runner)
        runner.epoch += 1

    return subject._replace(run=read)


def learning_rates(model: nn.Module, folder: str) -> Subject:
    """The optimizer's settings, before an iteration."""
    monitor = LearningRateMonitor(Every(1), MAX_GROUPS, strict=True)
    runner = _runner(model)
    subject = _subject(monitor, runner, folder)

    def read() -> None:
        monitor.before_train_iter(runner, 0, None)
        runner.iter += 1

    return subject._replace(run=read)


class Panels:
    """Pictures of training samples, 256x192 pixels.

    Args:
        model (nn.Module): A top-down model.
        batch (dict): A batch for it, see :func:`make_batch`.
        folder (str): Where to write.
        count (int): The number of samples. Defaults to 4.

    Attributes:
        subject (Subject): Makes the pictures.
        own (list[float]): Of each time, the milliseconds that the training
            thread was busy with it, without the model's predictions. Another
            thread that begins to draw, and lets this one wait for Python's
            lock, does not count here.
        monitor (TrainImageMonitor): Makes the pictures.
    """

    def __init__(self,
                 model: nn.Module,
                 batch: dict,
                 folder: str,
                 count: int = 4) -> None:
        self.monitor = TrainImageMonitor(Every(1), count, 0.3, strict=True)
        self.own = []
        runner = _runner(model.train())
        runner.cfg = {}
        meta = parse_pose_metainfo(
            dict(from_file='configs/_base_/datasets/coco.py'))
        runner.train_dataloader = SimpleNamespace(
            dataset=SimpleNamespace(metainfo=meta))
        predicted = []
        for owner, name in ((model, 'predict'), (model.data_preprocessor,
                                                 'forward')):
            _time_calls(owner, name, predicted)
        subject = _subject(self.monitor, runner, folder)
        self.monitor.before_train_iter(runner, 0, batch)

        def draw() -> None:
            del predicted[:]
            began = time.thread_time()
            self.monitor.after_train_iter(runner, 0, batch, None)
            took = time.thread_time() - began
            self.own.append(1e3 * (took - sum(predicted)))
            runner.iter += 1

        def settle() -> None:
            subject.settle()
            # A picture comes right after an iteration, not after a pause, in
            # which the cores have gone to sleep. Without gradients: their
            # memory would be given back in the middle of the next picture.
            with torch.no_grad():
                model.extract_feat(images)

        images = torch.stack(batch['inputs']).float()
        self.subject = subject._replace(run=draw, settle=settle)


def make_batch(size: int) -> dict:
    """Packed samples as a data loader gives them, 256x192 pixels."""
    return get_packed_inputs(
        size,
        img_shape=(256, 192),
        input_size=(192, 256),
        heatmap_size=(48, 64))


def spread_over(items: Sequence, count: int) -> list:
    """Some of many, at equal distances."""
    return [items[i * len(items) // count] for i in range(count)]


def _runner(model: nn.Module) -> SimpleNamespace:
    optimizer = torch.optim.SGD(model.parameters(), lr=0., momentum=0.9)
    # What it does itself is not what is measured.
    optimizer.step = lambda: None
    return SimpleNamespace(
        model=model,
        optim_wrapper=OptimWrapper(optimizer),
        iter=0,
        epoch=0,
        _train_loop=None)


def _subject(monitor: Monitor, runner: SimpleNamespace,
             folder: str) -> Subject:
    monitor.writer = EventWriter(SummaryWriter(folder))
    monitor.before_train(runner)
    return Subject(lambda: None, monitor.writer.flush, monitor.writer.close)


def _time_calls(owner, name: str, times: list) -> None:
    """Have ``times`` filled with how long calls keep this thread busy."""
    function = getattr(owner, name)

    def call(*args, **kwargs):
        began = time.thread_time()
        try:
            return function(*args, **kwargs)
        finally:
            times.append(time.thread_time() - began)

    setattr(owner, name, call)
