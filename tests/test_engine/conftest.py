# Copyright (c) OpenMMLab. All rights reserved.
import copy
import glob
import shutil
import signal
import subprocess
import uuid

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from switches import switches
from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator
from torch.utils.data import Dataset

from mmpose.registry import DATASETS, KEYPOINT_CODECS
from mmpose.testing import get_packed_inputs
from mmpose.utils import register_all_modules

NUM_SAMPLES = 16
BATCH_SIZE = 4
ITERS_PER_EPOCH = NUM_SAMPLES // BATCH_SIZE
CODEC = dict(
    type='MSRAHeatmap', input_size=(64, 64), heatmap_size=(16, 16), sigma=2)

# So small a model is faster on one thread, above all on a busy machine.
torch.set_num_threads(1)
# In the background of a shell Ctrl-C is ignored, also by whom we start.
signal.signal(signal.SIGINT, signal.default_int_handler)
# What is compared bit for bit has to be the same twice, on a GPU too.
torch.backends.cudnn.deterministic = True


@DATASETS.register_module(force=True)
class TinyPoseDataset(Dataset):
    """Packed samples, noisier by what the global generators draw.

    So a hook that draws a single number changes every later sample.
    """

    metainfo = dict(dataset_name='tiny')

    def __init__(self, noise: bool = True) -> None:
        batch = get_packed_inputs(
            NUM_SAMPLES,
            img_shape=(64, 64),
            input_size=(64, 64),
            heatmap_size=(16, 16),
            with_simcc_label=False)
        self.inputs, self.data_samples = batch.values()
        codec = KEYPOINT_CODECS.build(CODEC)
        for sample in self.data_samples:
            points = sample.gt_instances.keypoints - sample.input_center
            points = points * (64 / np.array(sample.input_scale)) + 32
            peaks = codec.encode(points.astype(np.float32))['heatmaps']
            # Noise with its peak where the keypoint is annotated.
            sample.gt_fields.heatmaps[torch.from_numpy(peaks) == 1] = 1
        self.noise = noise

    def __len__(self) -> int:
        return NUM_SAMPLES

    def __getitem__(self, index: int) -> dict:
        image = self.inputs[index].clone()
        if self.noise:
            image = image // 2 + torch.randint_like(image, 60)
            image += np.random.randint(60, dtype=np.uint8)
        return dict(
            inputs=image, data_samples=copy.deepcopy(self.data_samples[index]))


@pytest.fixture
def runner_cfg(tmp_path):
    """A function that makes the arguments of a Runner for a small real model.

    Three epochs of four iterations, validated after each. Keyword arguments
    replace arguments of the Runner; ``hook`` is what to give the hook, None
    leaves it out.
    """
    register_all_modules()

    def make(hook=None, **kwargs) -> dict:

        def loader(noise: bool) -> dict:
            return dict(
                batch_size=BATCH_SIZE,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=noise),
                dataset=dict(type='TinyPoseDataset', noise=noise))

        cfg = dict(
            model=dict(
                type='TopdownPoseEstimator',
                data_preprocessor=dict(
                    type='PoseDataPreprocessor',
                    mean=[123.675, 116.28, 103.53],
                    std=[58.395, 57.12, 57.375],
                    bgr_to_rgb=True),
                backbone=dict(
                    type='ResNet', depth=18, stem_channels=8, base_channels=8),
                head=dict(
                    type='HeatmapHead',
                    in_channels=64,
                    out_channels=17,
                    deconv_out_channels=(8, 8, 8),
                    deconv_kernel_sizes=(4, 4, 4),
                    loss=dict(type='KeypointMSELoss', use_target_weight=True),
                    decoder=dict(CODEC)),
                test_cfg=dict(output_heatmaps=False)),
            work_dir=str(tmp_path / uuid.uuid4().hex),
            experiment_name=uuid.uuid4().hex,
            train_dataloader=loader(True),
            val_dataloader=loader(False),
            test_dataloader=loader(False),
            train_cfg=dict(by_epoch=True, max_epochs=3, val_interval=1),
            val_cfg=dict(),
            test_cfg=dict(),
            val_evaluator=dict(type='PCKAccuracy', thr=0.5),
            test_evaluator=dict(type='PCKAccuracy', thr=0.5),
            optim_wrapper=dict(
                optimizer=dict(
                    type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4)),
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1), checkpoint=None),
            custom_hooks=[],
            visualizer=dict(
                type='PoseLocalVisualizer',
                vis_backends=[dict(type='TensorboardVisBackend')]),
            default_scope='mmpose',
            randomness=dict(seed=0))
        if hook is not None:
            hook = switches({
                'type': 'EnhancedTensorBoardHook',
                'strict': True,
                **hook
            })
        cfg.update(kwargs)
        if hook is not None:
            cfg['custom_hooks'] = [*cfg['custom_hooks'], hook]
        return cfg

    return make


@pytest.fixture
def train(runner_cfg):
    """A function that trains with :func:`runner_cfg`'s arguments.

    Returns the Runner.
    """

    def run(hook=None, **kwargs) -> Runner:
        runner = Runner(**runner_cfg(hook, **kwargs))
        runner.train()
        return runner

    return run


@pytest.fixture
def read_events():
    """A function that reads a run as TensorBoard does.

    Takes a Runner, returns an :obj:`EventAccumulator`, and requires that the
    run has exactly one event file.
    """

    def read(runner) -> EventAccumulator:
        files = glob.glob(
            f'{runner.work_dir}/**/events.out.tfevents.*', recursive=True)
        assert len(files) == 1, files
        events = EventAccumulator(
            files[0], size_guidance=dict(scalars=0, histograms=0, tensors=0))
        return events.Reload()

    return read


@pytest.fixture
def small_disk(tmp_path):
    """The folder of a disk of 256 KiB, where one can be mounted."""
    folder = tmp_path / 'small_disk'
    folder.mkdir()
    if not shutil.which('mount'):
        pytest.skip('there is no mount')
    mounted = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=256k', 'tmpfs',
         str(folder)],
        stderr=subprocess.PIPE,
        universal_newlines=True)
    if mounted.returncode:
        pytest.skip(f'no tmpfs can be mounted here: {mounted.stderr.strip()}')
    yield folder
    subprocess.run(['umount', '-l', str(folder)], check=True)
