# Copyright (c) OpenMMLab. All rights reserved.
"""Make up a data set of moving people in the format of Human3.6M.

Nothing is downloaded: a stick figure walks or waves before a camera, and its
joints are computed from the seed. There are no images: a model that lifts
poses to 3D trains on the joints alone.

Units are metres, seconds, radians and pixels.
"""
import argparse
import os
import pickle
from pathlib import Path

import numpy as np

FRAMES_PER_SECOND = 50
# Name, subject, and one in how many sequences.
SPLITS = (('train', 'S1', 1), ('test', 'S9', 4))
CAMERA = '54138969'
# Of somebody who stands: to the right, forward, up from the pelvis.
PELVIS_HEIGHT = 0.92
HIP, THIGH, SHIN = np.array((0.13, 0, 0)), 0.45, 0.44
SPINE = np.array((0, 0.01, 0.23))
THORAX = np.array((0, 0, 0.48))
NECK, HEAD = np.array((0, 0.06, 0.58)), np.array((0, 0.05, 0.71))
SHOULDER, UPPER_ARM, FOREARM = np.array((0.16, 0, -0.03)), 0.28, 0.25


def generate_dataset(out, num_sequences=8, num_frames=250, seed=0):
    """Write a training and a test split under a folder.

    The layout is that of Human3.6M as MMPose's configs expect it in
    ``data_root``.

    Args:
        out (str | Path): The folder; made if needed.
        num_sequences (int): Number of training sequences. The test split has
            a quarter as many, at least one. Defaults to 8.
        num_frames (int): Frames of a sequence, at 50 per second. Defaults to
            250.
        seed (int): Any integer from 0 on. Defaults to 0.

    Raises:
        ValueError: If an argument is outside of what is allowed.
        FileExistsError: If there is an annotation file in the way that this
            tool did not write.
    """
    if min(num_sequences, num_frames, seed + 1) < 1:
        raise ValueError('num_sequences and num_frames must be at least 1, '
                         'seed at least 0')
    folder = Path(out) / 'annotation_body3d'
    paths = [folder / 'fps50' / f'h36m_{name}.npz' for name, *_ in SPLITS]
    for path in paths:
        if path.exists() and 'synthetic_h36m' not in np.load(path):
            raise FileExistsError(
                f'{path} is not by this tool; choose another folder')
    paths[0].parent.mkdir(parents=True, exist_ok=True)

    camera = _make_camera()
    cameras = {(subject, CAMERA): camera for _, subject, _ in SPLITS}
    (folder / 'cameras.pkl').write_bytes(pickle.dumps(cameras))
    for index, (path, (_, subject, share)) in enumerate(zip(paths, SPLITS)):
        sequences = [
            # A stream of random numbers for each sequence: it stays the same
            # when their number changes.
            _annotate(subject, i, num_frames, camera,
                      np.random.default_rng((seed, index, i)))
            for i in range(max(1, num_sequences // share))
        ]
        partial = path.with_name(f'{path.stem}.{os.getpid()}.tmp.npz')
        np.savez_compressed(
            partial,
            synthetic_h36m=True,
            **{
                key: np.concatenate([s[key] for s in sequences])
                for key in sequences[0]
            })
        os.replace(partial, path)


def _make_camera():
    """A camera that looks at the place where the figures move.

    As in Human3.6M ``R`` (3, 3) turns from the camera to the world, ``T`` (3,
    1) is where it stands, ``f`` and ``c`` (2, 1) are focal length and
    principal point, ``w`` and ``h`` the size of the image.
    """
    position, target = np.array(((0, -5.2, 1.6), (0, 0, 1)))
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.array((1, 0, 0))
    return dict(
        R=np.stack((right, np.cross(forward, right), forward), axis=1),
        T=position[:, None],
        f=np.full((2, 1), 1145.),
        c=np.array(((505., ), (507., ))),
        w=1000,
        h=1002)


def _annotate(subject, index, num_frames, camera, rng):
    """The annotations of a sequence of T frames.

    ``S`` (T, 17, 4) are the joints seen from the camera in metres (right,
    down, forward) and a 1, ``part`` (T, 17, 3) those in the image in pixels
    and a 1, ``center`` (T, 2) and ``scale`` (T, ) belong to their box.
    """
    action = ('Walking', 'Waving')[index % 2]
    joints = (move(action, num_frames, rng) - camera['T'].T) @ camera['R']
    pixels = joints[..., :2] / joints[..., 2:] * camera['f'].T + camera['c'].T
    ones = np.ones((num_frames, 17, 1))
    low, high = pixels.min(1), pixels.max(1)
    name = f'{subject}_{action}_{index + 1}.{CAMERA}'
    return dict(
        imgname=np.array([
            f'{subject}/{name}/{name}_{i + 1:06d}.jpg'
            for i in range(num_frames)
        ]),
        S=np.concatenate((joints, ones), axis=2),
        part=np.concatenate((pixels, ones), axis=2),
        center=(low + high) / 2,
        scale=1.25 * (high - low).max(1) / 200)


def move(action, num_frames, rng):
    """Let a figure move.

    Args:
        action (str): 'Walking', in a circle, or 'Waving', in place.
        num_frames (int): The length T of the sequence.
        rng (np.random.Generator): Where size, place and pace come from.

    Returns:
        np.ndarray: The joints in the world, z up, in metres, (T, 17, 3).
    """
    walks = action == 'Walking'
    time = np.arange(num_frames) / FRAMES_PER_SECOND
    phase = 2 * np.pi * (rng.uniform(0.7, 1.1) * time + rng.random())
    heading = rng.uniform(0, 2 * np.pi) + walks * rng.uniform(0.6, 1.2) * time
    stride = rng.uniform(0.35, 0.6) if walks else 0.03
    # How far outward the upper arm is, and the forearm.
    hanging = 0.12, 0.12
    waving = rng.uniform(1.1, 1.5), 2.6 + 0.5 * np.sin(2 * phase)

    joints = np.zeros((num_frames, 17, 3))
    joints[:, 7:11] = SPINE, THORAX, NECK, HEAD
    # Where leg and arm begin, on the right side and on the left.
    sides = ((1, 14, 1, hanging if walks else waving), (4, 11, -1, hanging))
    for leg, arm, side, (upper, lower) in sides:
        swing = side * stride * np.sin(phase)
        knee = 1.4 * stride * np.maximum(side * np.cos(phase), 0)
        joints[:, leg] = HIP * (side, 1, 1)
        joints[:, arm] = THORAX + SHOULDER * (side, 1, 1)
        limbs = ((leg, THIGH, swing, 0), (leg + 1, SHIN, swing - knee, 0),
                 (arm, UPPER_ARM, -swing,
                  side * upper), (arm + 1, FOREARM, 0.3 - swing, side * lower))
        for joint, length, forward, outward in limbs:
            joints[:, joint + 1] = (
                joints[:, joint] + length * _direction(forward, outward))

    right = np.stack((np.cos(heading), np.sin(heading)), axis=1)
    forward = right[:, ::-1] * (-1, 1)
    joints[..., :2] = joints[..., :2] @ np.stack((right, forward), axis=1)
    joints[..., 2] += PELVIS_HEIGHT
    joints *= rng.uniform(0.9, 1.1)
    place = rng.uniform(-0.4, 0.4, 2) + 0.8 * walks * right
    joints[..., :2] += place[:, None]
    return joints


def _direction(forward, outward):
    """Where a limb points that hangs down at 0; to the right, forward, up."""
    forward, outward = np.broadcast_arrays(forward, outward)
    return np.stack((np.sin(outward), np.cos(outward) * np.sin(forward),
                     -np.cos(outward) * np.cos(forward)), -1)


def main():
    parser = argparse.ArgumentParser(
        description='Make up a data set of moving people in the format of '
        'Human3.6M, without images.')
    parser.add_argument(
        '--out', default='data/synthetic_h36m', help='folder to write to')
    parser.add_argument(
        '--num-sequences', type=int, default=8, help='training sequences')
    parser.add_argument(
        '--num-frames', type=int, default=250, help='their length')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    try:
        generate_dataset(args.out, args.num_sequences, args.num_frames,
                         args.seed)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f'{args.out}: wrote {", ".join(name for name, *_ in SPLITS)}')


if __name__ == '__main__':
    main()
