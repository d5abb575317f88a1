# Copyright (c) OpenMMLab. All rights reserved.
"""What a reading costs the training thread, beside the memory's own floor.

For each model the gradients of all layers are read and handed to the writer as
in a training, on random gradients of the model's real shapes. The floor is one
pass over the same bytes, measured in the same run and in turn with it, so that
the ratio means something on a machine that others use too.
"""
import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from torch.utils.tensorboard import SummaryWriter

from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.engine.monitors import (EventWriter, Every, GradientMonitor,
                                    TrainImageMonitor)
from mmpose.registry import MODELS
from mmpose.testing import get_packed_inputs
from mmpose.utils import register_all_modules

CONFIGS = {
    'RTMPose-m': 'rtmpose/coco/rtmpose-m_8xb256-420e_coco-256x192',
    'ResNet-50': 'topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192',
    'HRNet-w32': 'topdown_heatmap/coco/'
    'td-hm_hrnet-w32_8xb64-210e_coco-256x192',
    'HRNet-w48': 'topdown_heatmap/coco/'
    'td-hm_hrnet-w48_8xb32-210e_coco-256x192',
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--models',
        nargs='+',
        choices=list(CONFIGS),
        default=list(CONFIGS),
        metavar='MODEL',
        help=f'which to measure: {", ".join(CONFIGS)} (default: all)')
    parser.add_argument(
        '--repeat', type=int, default=21, help='readings of each model')
    parser.add_argument(
        '--json', type=Path, help='a file for every single measurement')
    args = parser.parse_args()

    register_all_modules()
    samples = {name: measure(name, args.repeat) for name in args.models}
    for name, sample in samples.items():
        sample.update(measure_panel(name, args.repeat))
    if args.json:
        args.json.write_text(json.dumps(samples, indent=2))
    print(f'\n{platform.machine()}, {torch.get_num_threads()} threads, '
          f'Python {platform.python_version()}, torch {torch.__version__}; '
          f'medians of {args.repeat}, in ms\n')
    print('| model | tensors | MB | reading | floor | reading / floor |')
    print('| :-- | --: | --: | --: | --: | --: |')
    for name, sample in samples.items():
        reading = statistics.median(sample['reading'])
        floor = statistics.median(sample['floor'])
        print(f'| {name} | {sample["tensors"]} | {sample["bytes"] / 1e6:.0f} '
              f'| {reading:.1f} | {floor:.1f} | {reading / floor:.2f} |')
    print('\nA picture of four training samples, 256x192:\n')
    print('| model | in the training thread | beside the prediction of |')
    print('| :-- | --: | --: |')
    for name, sample in samples.items():
        print(f'| {name} | {statistics.median(sample["panel"]):.1f} '
              f'| {statistics.median(sample["prediction"]):.0f} |')


def measure(name: str, repeat: int) -> dict:
    """Time the reading of all gradient norms of a model.

    Args:
        name (str): A key of ``CONFIGS``.
        repeat (int): The number of readings.

    Returns:
        dict: ``tensors`` and ``bytes`` of the gradients; ``reading`` and
        ``floor``, the times of all repeats in milliseconds.
    """
    model = build(name)
    grads = []
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
        grads.append(parameter.grad)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.)
    # What it does itself is not what is measured.
    optimizer.step = lambda: None
    runner = SimpleNamespace(
        model=model, optim_wrapper=OptimWrapper(optimizer), iter=0)

    monitor = GradientMonitor(Every(1), max_groups=20, strict=True)
    # As many bytes in one piece: nothing but the memory is in the way.
    flat = torch.cat([grad.flatten() for grad in grads])
    times = dict(reading=[], floor=[])
    with tempfile.TemporaryDirectory() as folder:
        monitor.writer = EventWriter(SummaryWriter(folder))
        monitor.before_train(runner)
        for runner.iter in range(repeat + 1):
            times['floor'].append(clock(lambda: torch.dot(flat, flat)))
            times['reading'].append(clock(lambda: read(monitor, runner)))
            # The worker shall not have to share the cores with the next.
            monitor.writer.flush()
        monitor.writer.close()
    readings = monitor.writer.written['Scalar'] // 21
    assert readings == repeat + 1, f'{readings} readings were written'
    # The first of each warms up.
    return dict(
        tensors=len(grads),
        bytes=sum(g.numel() * g.element_size() for g in grads),
        **{kind: values[1:]
           for kind, values in times.items()})


def measure_panel(name: str, repeat: int) -> dict:
    """Time a picture of four training samples beside the model's prediction.

    Args:
        name (str): A key of ``CONFIGS``, for 256x192 pixels.
        repeat (int): The number of pictures.

    Returns:
        dict: ``panel``, the times of all repeats in milliseconds without what
        the model's own preprocessing and prediction take; ``prediction``,
        theirs.
    """
    model = build(name).train()
    batch = get_packed_inputs(
        4, img_shape=(256, 192), input_size=(192, 256), heatmap_size=(48, 64))
    runner = SimpleNamespace(
        model=model,
        iter=0,
        cfg={},
        train_dataloader=SimpleNamespace(
            dataset=SimpleNamespace(
                metainfo=parse_pose_metainfo(
                    dict(from_file='configs/_base_/datasets/coco.py')))))
    own = []
    for owner, function in ((model, 'predict'), (model.data_preprocessor,
                                                 'forward')):
        timed(owner, function, own)
    monitor = TrainImageMonitor(Every(1), 4, kpt_thr=0.3, strict=True)
    times = dict(panel=[], prediction=[])
    with tempfile.TemporaryDirectory() as folder:
        monitor.writer = EventWriter(SummaryWriter(folder))
        monitor.before_train(runner)
        monitor.before_train_iter(runner, 0, batch)
        for runner.iter in range(repeat + 1):
            del own[:]
            whole = clock(
                lambda: monitor.after_train_iter(runner, 0, batch, None))
            times['panel'].append(whole - sum(own))
            times['prediction'].append(sum(own))
            monitor.writer.flush()
        monitor.writer.close()
    pictures = monitor.writer.written['Image']
    assert pictures == 4 * (repeat + 1), f'{pictures} pictures were written'
    return {kind: values[1:] for kind, values in times.items()}


def timed(owner, name: str, times: list) -> None:
    """Have ``times`` filled with what calls of ``owner.name`` take."""
    function = getattr(owner, name)

    def call(*args, **kwargs):
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            times.append((time.perf_counter() - began) * 1e3)

    setattr(owner, name, call)


def build(name: str) -> torch.nn.Module:
    """The model of an upstream config, with random weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'config.py')
        path.write_text(
            f"_base_ = ['mmpose::body_2d_keypoint/{CONFIGS[name]}.py']\n")
        cfg = Config.fromfile(str(path)).model
    cfg.backbone.pop('init_cfg', None)
    return MODELS.build(cfg)


def read(monitor: GradientMonitor, runner) -> None:
    """What the hook does in an iteration whose gradients it logs."""
    monitor.before_train_iter(runner, 0, None)
    runner.optim_wrapper.step()
    monitor.after_train_iter(runner, 0, None, None)


def clock(function) -> float:
    """The time of one call, in milliseconds."""
    began = time.perf_counter()
    function()
    return (time.perf_counter() - began) * 1e3


if __name__ == '__main__':
    main()
