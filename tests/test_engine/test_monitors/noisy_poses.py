# Copyright (c) OpenMMLab. All rights reserved.
"""Runs in which every prediction is known: the truth and some noise.

Small enough for many of them in a test. The images exist nowhere: a storage
backend of MMEngine's kind paints them as they are asked for, and the model is
given the whole image.
"""
import copy
import glob
import json
import os.path as osp
import re
import uuid
import zlib
from typing import List, NamedTuple

import cv2
import numpy as np
import torch
from mmengine.fileio import BaseStorageBackend, register_backend
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement, InstanceData
from switches import switches
from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator
from torch.utils.data import Dataset

from mmpose.registry import DATASETS, HOOKS, MODELS
from mmpose.structures import PoseDataSample

WIDTH, HEIGHT = 96, 72


@register_backend('painted', force=True)
class PaintedImages(BaseStorageBackend):
    """Paints whatever it is asked for, except what is called broken."""

    def get(self, filepath: str) -> bytes:
        name = osp.basename(filepath)
        if 'missing' in name:
            raise FileNotFoundError(name)
        if 'broken' in name:
            return b'no image at all'
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        image = rng.integers(60, 200, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
        return cv2.imencode('.png', image.repeat(8, 0).repeat(8, 1))[1]

    def get_text(self, filepath: str) -> str:
        raise NotImplementedError


def metainfo(num_keypoints: int = 17, **replaced) -> dict:
    """What a data set says of its keypoints; what is None is left out."""
    meta = dict(
        dataset_name='noisy',
        num_keypoints=num_keypoints,
        keypoint_id2name={i: f'joint_{i}'
                          for i in range(num_keypoints)},
        sigmas=np.linspace(0.03, 0.1, num_keypoints),
        skeleton_links=[(i, i + 1) for i in range(num_keypoints - 1)])
    meta.update(replaced)
    return {name: value for name, value in meta.items() if value is not None}


class Person(NamedTuple):
    """A person, and what is predicted of it."""
    truth: np.ndarray
    visible: np.ndarray
    box: np.ndarray
    area: float
    predicted: np.ndarray


def person(index: int, num_keypoints: int = 17) -> Person:
    """Always the same for the same index; some are predicted badly."""
    rng = np.random.default_rng(index)
    corner, size = rng.uniform(0, (40, 20)), rng.uniform(20, 50, 2)
    truth = corner + size * rng.random((num_keypoints, 2))
    noise = rng.normal(0, rng.choice([0.5, 3, 9]), (num_keypoints, 2))
    return Person(
        truth.astype(np.float32),
        rng.random(num_keypoints) < 0.8,
        np.float32([*corner, *(corner + size)]), 0.6 * size.prod(),
        (truth + noise).astype(np.float32))


@DATASETS.register_module(force=True)
class NoisyPoses(Dataset):
    """One person in each image, in memory.

    Args:
        num_samples (int): The number of samples. Defaults to 7.
        meta (dict, optional): Its ``metainfo``. Defaults to None:
            :func:`metainfo`.
        name (str): How the files are called. Defaults to 'image'.
        fields (dict, optional): Replaces fields of ``gt_instances``; None
            leaves one out. Defaults to None.
    """

    def __init__(self,
                 num_samples: int = 7,
                 meta: dict = None,
                 name: str = 'image',
                 fields: dict = None) -> None:
        self.metainfo = metainfo() if meta is None else meta
        self.num_samples = num_samples
        self.name = name
        self.fields = fields or {}

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> dict:
        num_keypoints = self.metainfo.get('num_keypoints', 17)
        known = person(index, num_keypoints)
        sample = PoseDataSample(
            metainfo=dict(
                id=index,
                img_id=index,
                raw_ann_info=dict(area=known.area),
                prediction=known.predicted))
        if self.name:
            sample.set_metainfo(dict(img_path=f'{self.name}_{index}.png'))
        fields = dict(
            keypoints=known.truth[None],
            keypoints_visible=known.visible[None].astype(np.float32),
            bboxes=known.box[None])
        fields.update(self.fields)
        sample.gt_instances = InstanceData(
            **{k: v
               for k, v in fields.items() if v is not None})
        painted = PaintedImages().get(f'{self.name}_{index}.png')
        image = cv2.imdecode(np.frombuffer(painted, np.uint8), 1)
        return dict(
            inputs=torch.from_numpy(image).permute(2, 0, 1).contiguous(),
            data_samples=sample)


@MODELS.register_module(force=True)
class NoisyModel(BaseModel):
    """Predicts what the data set says it does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.test_cfg = None

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode == 'loss':
            means = torch.stack([i.float().mean((1, 2)) / 255 for i in inputs])
            return dict(loss=self.layer(means).square().mean())
        for sample in data_samples:
            keypoints = sample.prediction[None].copy()
            sample.pred_instances = InstanceData(
                keypoints=keypoints,
                keypoint_scores=np.ones(keypoints.shape[:2], np.float32))
        return data_samples


def runner_cfg(work_dir, hook: dict, dataset: dict = None, **kwargs) -> dict:
    """The arguments of a Runner with this data set and model.

    Args:
        work_dir (str): Where to write.
        hook (dict): What to give the hook.
        dataset (dict, optional): What to give the data set of the validation.
        **kwargs: Replaces arguments of the Runner.
    """

    def loader(shuffle: bool, **dataset) -> dict:
        return dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=shuffle),
            dataset=dict(type='NoisyPoses', **dataset))

    cfg = dict(
        model=dict(type='NoisyModel'),
        work_dir=str(work_dir),
        experiment_name=uuid.uuid4().hex,
        train_dataloader=loader(True, num_samples=4),
        val_dataloader=loader(False, **(dataset or {})),
        train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1),
        val_cfg=dict(),
        val_evaluator=dict(type='PCKAccuracy', thr=0.2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-4)),
        default_hooks=dict(checkpoint=None),
        custom_hooks=[
            dict(
                type='EnhancedTensorBoardHook',
                **switches({
                    'backend_args': dict(backend='painted'),
                    'val_image_interval': 1,
                    'log_train_images': False,
                    'log_data': False,
                    'log_details': True,
                    'strict': True,
                    **hook
                }))
        ],
        visualizer=dict(
            type='PoseLocalVisualizer',
            vis_backends=[dict(type='TensorboardVisBackend')]),
        default_scope='mmpose',
        randomness=dict(seed=0))
    cfg.update(kwargs)
    return cfg


def write_coco(path, num_people: int = 9, num_keypoints: int = 17) -> None:
    """Write annotations of :func:`person`'s, some two in an image.

    Args:
        path (Path): The file to write.
        num_people (int): The number of people. Defaults to 9.
        num_keypoints (int): The number of keypoints; what is more than 17 are
            those of a whole body. Defaults to 17.
    """
    annotations = []
    for i in range(num_people):
        known = person(i, num_keypoints)
        left, top, right, bottom = map(float, known.box)
        flags = 2. * known.visible[:, None]
        rows = np.where(flags > 0, np.hstack([known.truth, flags]), 0)
        ends = np.cumsum([17, 6, 68, 21, 21])
        parts = dict(
            zip(('keypoints', 'foot_kpts', 'face_kpts', 'lefthand_kpts',
                 'righthand_kpts'),
                [part.ravel().tolist() for part in np.split(rows, ends[:-1])]))
        annotations.append(
            dict(
                id=i,
                image_id=1 + i * 3 // 4,
                category_id=1,
                iscrowd=0,
                segmentation=[],
                bbox=[left, top, right - left, bottom - top],
                area=known.area,
                num_keypoints=int(known.visible.sum()),
                **parts))
    images = [
        dict(id=i, file_name=f'image_{i}.png', width=WIDTH, height=HEIGHT)
        for i in {a['image_id']
                  for a in annotations}
    ]
    categories = [
        dict(
            id=1,
            name='person',
            keypoints=[f'joint_{i}' for i in range(17)],
            skeleton=[])
    ]
    path.write_text(
        json.dumps(
            dict(
                images=images, annotations=annotations,
                categories=categories)))


def topdown_cfg(work_dir, hook: dict, ann_file, **kwargs) -> dict:
    """The same with a real model, data set and pipeline.

    Args:
        work_dir (str): Where to write.
        hook (dict): What to give the hook.
        ann_file (Path): What :func:`write_coco` has written.
        **kwargs: Replaces arguments of the Runner.
    """
    codec = dict(
        type='MSRAHeatmap',
        input_size=(64, 96),
        heatmap_size=(16, 24),
        sigma=1)

    def loader(shuffle: bool, *transforms) -> dict:
        return dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=shuffle),
            dataset=dict(
                type='CocoDataset',
                ann_file=str(ann_file),
                test_mode=not shuffle,
                pipeline=[
                    dict(
                        type='LoadImage',
                        backend_args=dict(backend='painted')),
                    dict(type='GetBBoxCenterScale'),
                    *transforms,
                    dict(type='PackPoseInputs'),
                ]))

    affine = dict(type='TopdownAffine', input_size=codec['input_size'])
    cfg = runner_cfg(
        work_dir,
        dict(backend_args=None, **hook),
        model=dict(
            type='TopdownPoseEstimator',
            data_preprocessor=dict(
                type='PoseDataPreprocessor',
                mean=[120.] * 3,
                std=[60.] * 3,
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
                decoder=codec),
            test_cfg=dict(output_heatmaps=True)),
        train_dataloader=loader(
            True, dict(type='RandomFlip', direction='horizontal'),
            dict(type='RandomBBoxTransform'), affine,
            dict(type='GenerateTarget', encoder=codec)),
        val_dataloader=loader(False, affine))
    cfg.update(kwargs)
    return cfg


def comparable(value):
    """All that a value holds, to be compared by ``==``."""
    if isinstance(value, BaseDataElement):
        value = dict(value.all_items())
    if isinstance(value, dict):
        value = list(value.items())
    if isinstance(value, (list, tuple)):
        return [comparable(item) for item in value]
    if isinstance(value, torch.Tensor):
        value = value.cpu().numpy()
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return value


@HOOKS.register_module(force=True)
class OutputWitness(Hook):
    """Remembers what the models of validations have returned.

    Attributes:
        outputs (list): A deep copy of each sample.
        seen (list): The same of batches and samples, comparable.
    """

    def __init__(self) -> None:
        self.outputs = []
        self.seen = []

    def after_val_iter(self, runner, batch_idx, data_batch, outputs) -> None:
        self.outputs += copy.deepcopy(outputs)
        self.seen.append(comparable([data_batch, outputs]))


def keypoint_scalars(events: EventAccumulator) -> dict:
    """The measures by keypoint: the value of each by tag and step.

    Not the distribution of the errors, which has tests of its own.
    """
    others = r'keypoints/(error_p\d+|PCK_AUC|bias|spread)'
    return {(tag, event.step): event.value
            for tag in events.Tags()['scalars']
            if tag.startswith('keypoints/') and not re.match(others, tag)
            for event in events.Scalars(tag)}


def pictures(events: EventAccumulator, tag: str) -> dict:
    """The pictures of a tag by step, RGB."""
    if tag not in events.Tags()['tensors']:
        return {}
    return {
        event.step: [
            cv2.imdecode(np.frombuffer(png, np.uint8), 1)[..., ::-1]
            for png in event.tensor_proto.string_val[2:]
        ]
        for event in events.Tensors(tag)
    }


def warnings_of(work_dir) -> List[str]:
    """The WARNINGs of the hook in the log of a run."""
    path, = glob.glob(f'{work_dir}/*/*.log')
    with open(path) as file:
        return [
            line for line in file if '- WARNING -' in line and (
                'failed with' in line or 'EnhancedTensorBoardHook' in line)
        ]
