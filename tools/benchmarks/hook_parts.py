# Copyright (c) OpenMMLab. All rights reserved.
"""The hook's monitors, each alone, as subjects to time or count.

A subject does what the hook does in one iteration in which it reads; how often
that is, the intervals say.
"""
from types import SimpleNamespace
from typing import Sequence

import numpy as np
import torch
from matplotlib.cbook import get_sample_data
from mmengine.optim import OptimWrapper
from PIL import Image
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.engine.monitors import (EventWriter, Every, GradientMonitor,
                                    Monitor, TrainImageMonitor, WeightMonitor)
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


def train_pictures(model: nn.Module, folder: str) -> Subject:
    """Pictures of four training samples, crops of a photograph.

    Args:
        model (nn.Module): A top-down model for 256x192 pixels.
        folder (str): Where to write.
    """
    monitor = TrainImageMonitor(Every(1), 4, 0.3, strict=True)
    batch = get_packed_inputs(
        4, img_shape=(256, 192), input_size=(192, 256), heatmap_size=(48, 64))
    with get_sample_data('grace_hopper.jpg') as file:
        # As OpenCV reads it.
        photo = np.array(Image.open(file))[..., ::-1].copy()
    photo = torch.from_numpy(photo).permute(2, 0, 1)
    batch['inputs'] = [
        photo[:, y:y + 256, x:x + 192].contiguous()
        for x, y in ((0, 0), (160, 0), (320, 0), (160, 344))
    ]
    runner = _runner(model.train())
    runner.cfg = {}
    meta = parse_pose_metainfo(
        dict(from_file='configs/_base_/datasets/coco.py'))
    runner.train_dataloader = SimpleNamespace(
        dataset=SimpleNamespace(metainfo=meta))
    subject = _subject(monitor, runner, folder)
    monitor.before_train_iter(runner, 0, batch)

    def draw() -> None:
        monitor.after_train_iter(runner, 0, batch, None)
        runner.iter += 1

    return subject._replace(run=draw)


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
