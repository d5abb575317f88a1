# Copyright (c) OpenMMLab. All rights reserved.
"""A few annotations in the format of each of MMPose's data sets.

And predictions of them: the ground truth and some noise.
"""
import json

import numpy as np
import torch
from mmengine.structures import InstanceData
from scipy.io import savemat

from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.datasets.transforms import PackPoseInputs
from mmpose.registry import DATASETS, TRANSFORMS
from mmpose.structures import PoseDataSample

SIZE = 400
# What a data set needs beside the file of its annotations.
FURTHER = dict(
    DeepFashionDataset=dict(subset='upper'),
    PoseTrack18VideoDataset=dict(
        frame_sampler_mode='fixed', frame_indices=[-1, 0]))
# Hands and wholebody parts are read from the annotations of a whole body.
WHOLE_BODY = dict(
    keypoints=17,
    foot_kpts=6,
    face_kpts=68,
    lefthand_kpts=21,
    righthand_kpts=21)


def write_dataset(kind, folder, count=6):
    """Write annotations as a class of data sets reads them.

    Args:
        kind (str): The name of the class.
        folder (Path): Where to write.
        count (int): The number of instances. Defaults to 6.

    Returns:
        dict: The config of the data set.
    """
    cfg = dict(
        type=kind,
        ann_file=str(folder / f'{kind}.json'),
        test_mode=True,
        pipeline=[
            dict(type='PackNoisyPose'
                 if '3d' in kind or 'H36M' in kind else 'PackNoisy')
        ],
        **FURTHER.get(kind, {}))
    rng = np.random.default_rng(len(kind))
    writers = dict(
        MpiiDataset=_write_mpii,
        InterHand3DDataset=_write_hands,
        InterHand2DDoubleDataset=_write_hands,
        UBody3dDataset=_write_ubody3d,
        H36MWholeBodyDataset=_write_h3wb)
    writers.get(kind, _write_coco)(cfg, folder, count, rng)
    return cfg


def _poses(num_keypoints, count, rng):
    """Keypoints within boxes, and which of them are visible."""
    corners = rng.uniform(20, 150, (count, 1, 2))
    points = corners + rng.uniform(0, 200, (count, num_keypoints, 2))
    return points, rng.choice([0, 1, 2], (count, num_keypoints),
                              p=[.2, .3, .5])


def _write(path, content):
    with open(path, 'w') as file:
        json.dump(content, file)


def _images(count, **fields):
    return [
        dict(
            id=i,
            file_name=f'folder/{i:06}.jpg',
            width=SIZE,
            height=SIZE,
            crowdIndex=0.5,
            frame_id=i,
            nframes=9,
            **{name: value(i)
               for name, value in fields.items()})
        for i in range(1, count + 1)
    ]


def _rows(points, flags):
    return np.concatenate([points, flags[..., None]], -1).reshape(-1).tolist()


def _write_coco(cfg, folder, count, rng):
    """All fields that any of the data sets in COCO's format reads."""
    meta = getattr(DATASETS.get(cfg['type']), 'METAINFO')
    name = meta.get('from_file',
                    'configs/_base_/datasets/deepfashion_upper.py')
    num_keypoints = parse_pose_metainfo(dict(from_file=name))['num_keypoints']
    is_whole = 'Wholebody' in cfg['type'] or num_keypoints == 133
    annotations = []
    points, flags = _poses(
        133 if is_whole or 'WholeBody' in cfg['type'] else num_keypoints,
        count, rng)
    for i, (pose, seen) in enumerate(zip(points, flags)):
        left, top = pose.min(0).tolist()
        width, height = np.ptp(pose, 0).tolist()
        box = [left, top, width, height]
        found = dict(
            id=1 + i,
            image_id=1 + i // 2,
            category_id=1 + i % 2 if cfg['type'] == 'AP10KDataset' else 1,
            iscrowd=0,
            segmentation=[],
            bbox=box,
            area=0.6 * width * height,
            num_keypoints=int((seen > 0).sum()),
            num_joints=int((seen > 0).sum()),
            center=[left + width / 2, top + height / 2],
            scale=max(width, height) / 200,
            box_size=max(width, height),
            head_size=float(rng.uniform(20, 40)),
            keypoints=_rows(pose, seen))
        found['keypoints_21'] = found['keypoints']
        if len(pose) == 133:
            ends = np.cumsum(list(WHOLE_BODY.values()))[:-1]
            for name, part, part_seen in zip(WHOLE_BODY, np.split(pose, ends),
                                             np.split(seen, ends)):
                found[name] = _rows(part, part_seen)
            if is_whole and cfg['type'] in ('HalpeDataset', ):
                found['keypoints'] = _rows(pose, seen)
            for part in ('face', 'lefthand', 'righthand'):
                found.update({
                    f'{part}_valid': True,
                    f'{part}_box': box,
                })
        annotations.append(found)
    _write(
        cfg['ann_file'],
        dict(
            images=_images(1 + (count - 1) // 2),
            annotations=annotations,
            categories=[dict(id=i, name=f'kind_{i}') for i in (1, 2)]))


def _write_mpii(cfg, folder, count, rng):
    points, flags = _poses(16, count, rng)
    _write(cfg['ann_file'], [
        dict(
            image=f'{i:09}.jpg',
            center=pose.mean(0).tolist(),
            scale=float(np.ptp(pose, 0).max() / 200),
            joints=pose.tolist(),
            joints_vis=np.minimum(seen, 1).tolist())
        for i, (pose, seen) in enumerate(zip(points, flags))
    ])
    heads = rng.uniform(10, 60, (2, 2, count))
    cfg['headbox_file'] = str(folder / 'heads.mat')
    savemat(cfg['headbox_file'], dict(headboxes_src=heads))


def _write_hands(cfg, folder, count, rng):
    """InterHand2.6M: joints in the world in mm, and a camera."""
    images = _images(
        count,
        capture=lambda i: 0,
        camera=lambda i: 'first',
        frame_idx=lambda i: i)
    _write(
        cfg['ann_file'],
        dict(
            images=images,
            annotations=[
                dict(
                    id=i,
                    image_id=i,
                    category_id=1,
                    bbox=[50, 50, 200, 240],
                    iscrowd=0,
                    joint_valid=[[int(v)] for v in valid],
                    hand_type='interacting' if i % 2 else 'right',
                    hand_type_valid=1)
                for i, valid in enumerate(rng.random((count, 42)) < 0.8, 1)
            ],
            categories=[dict(id=1, name='hand')]))
    cfg['camera_param_file'] = str(folder / 'camera.json')
    _write(
        cfg['camera_param_file'], {
            0:
            dict(
                campos=dict(first=[0, 0, -900]),
                camrot=dict(first=np.eye(3).tolist()),
                focal=dict(first=[1200, 1200]),
                princpt=dict(first=[200, 200]))
        })
    cfg['joint_file'] = str(folder / 'joints.json')
    _write(
        cfg['joint_file'], {
            0: {
                i: dict(world_coord=rng.normal(0, 60, (42, 3)).tolist())
                for i in range(1, count + 1)
            }
        })


def _write_ubody3d(cfg, folder, count, rng):
    """Frames of a video with poses in 3D."""
    cfg.update(data_root=str(folder), data_mode='topdown', seq_len=1)
    points, flags = _poses(133, count, rng)
    _write(
        cfg['ann_file'],
        dict(
            images=_images(count),
            annotations=[
                dict(
                    id=i,
                    image_id=i,
                    category_id=1,
                    bbox=[20, 20, 300, 300],
                    keypoints=pose.tolist(),
                    keypoints_3d=rng.normal(0, 500, (133, 3)).tolist(),
                    keypoints_valid=np.minimum(seen, 1).tolist(),
                    camera_param=dict(focal=[1000, 1000], princpt=[200, 200]))
                for i, (pose, seen) in enumerate(zip(points, flags), 1)
            ],
            categories=[dict(id=1, name='person')]))


def _write_h3wb(cfg, folder, count, rng):
    """Frames of a camera, in mm."""
    cfg['ann_file'] = str(folder / 'h3wb.npz')
    cfg.update(data_root=str(folder), seq_len=1)
    camera, frames = '54138969', list(range(count))
    box = dict(x_min=0, y_min=0, x_max=300, y_max=300)
    pose = dict(
        pose_2d=rng.uniform(20, 300, (count, 133, 2)),
        camera_3d=rng.normal(0, 500, (count, 133, 3)))
    parameters = dict(
        K=np.eye(3)[None],
        R=np.eye(3)[None],
        T=np.zeros(3),
        Distortion=np.zeros((1, 5)))
    np.savez(
        cfg['ann_file'],
        train_data=dict(S7={'Walking': {
            'frame_id': frames,
            camera: pose
        }}),
        metadata=dict(S7={camera: parameters}),
        bbox={('S7', 'Walking', camera, frame): box
              for frame in frames})


@TRANSFORMS.register_module(force=True)
class PackNoisyPose:
    """The same of a sequence of poses in 3D."""

    def __call__(self, results):
        truth = results['lifting_target']
        sample = PoseDataSample(
            metainfo=dict(
                target_img_path=['S7_Walking_1.54138969_000001.jpg'],
                prediction=(truth +
                            truth.std() * truth[:, ::-1]).astype(np.float32),
                prediction_scores=np.ones(truth.shape[:2])))
        sample.gt_instances = InstanceData(
            lifting_target=truth,
            lifting_target_visible=results['lifting_target_visible'])
        return dict(
            inputs=torch.from_numpy(results['keypoints']), data_samples=sample)


@TRANSFORMS.register_module(force=True)
class PackNoisy(PackPoseInputs):
    """Packs a sample as MMPose does, with what will be predicted."""

    def __init__(self):
        super().__init__(
            meta_keys=('id', 'img_id', 'img_path', 'category_id',
                       'crowd_index', 'ori_shape', 'raw_ann_info',
                       'dataset_name', 'hand_type', 'hand_type_valid', 'focal',
                       'principal_pt', 'abs_depth'))

    def transform(self, results):
        results['img'] = np.zeros((4, 4, 3), np.uint8)
        results['ori_shape'] = SIZE, SIZE
        packed = super().transform(results)
        truth = packed['data_samples'].gt_instances.keypoints
        rng = np.random.default_rng(abs(hash(truth.tobytes())) % 1000)
        noise = rng.normal(0, 1, truth.shape) * rng.choice([1, 6, 25])
        packed['data_samples'].set_metainfo(
            dict(
                prediction=(truth + noise).astype(np.float32),
                prediction_scores=rng.random(truth.shape[:2], np.float32)))
        return packed


def predict(samples):
    """Let samples have been predicted as they say, also the hands' type."""
    for sample in samples:
        sample.pred_instances = InstanceData(
            keypoints=sample.prediction.copy(),
            keypoint_scores=sample.prediction_scores.copy())
        if 'in_image' in sample:  # The others are in 3D.
            sample.pred_instances.transformed_keypoints = sample.in_image
        if 'hand_type' in sample:
            sample.pred_instances.set_field([sample.hand_type], 'hand_type')
            sample.pred_instances.set_field([3.], 'rel_root_depth')
    return samples
