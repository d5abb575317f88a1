# Copyright (c) OpenMMLab. All rights reserved.
"""Draw a data set for the keypoints of any of MMPose's data sets.

    python tools/dataset_generators/synthetic_keypoints.py WFLWDataset

Faces, hands, animals, clothes, whole bodies: what a figure looks like follows
from the data set's own meta information. Keypoints that its skeleton links lie
as far apart as there are links between them, others spread over a disc.
Nothing is downloaded: a figure is drawn from the seed, and its annotations are
exact. (People with COCO's 17 keypoints look better from synthetic_coco.py.)
"""
import argparse
import inspect
import json
import os
from pathlib import Path

import cv2
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, shortest_path
from synthetic_coco import draw_background

# The parts of COCO-WholeBody's 133 keypoints, in their order.
WHOLE_BODY = dict(
    keypoints=17,
    foot_kpts=6,
    face_kpts=68,
    lefthand_kpts=21,
    righthand_kpts=21)
SPLITS = ('train', 'val')
# Of InterHand2.6M's two hands of 21 joints: the numbers of the wrists.
WRISTS = (20, 41)
# In millimetres: how far away InterHand's hands are, and how large.
DISTANCE, HAND = 1000., 180.
FOCAL_LENGTH = 1200.


def generate_dataset(out,
                     dataset,
                     num_images=8,
                     image_size=(320, 320),
                     seed=0,
                     **arguments):
    """Write a training and a validation split under a folder.

    Each split has its annotations in ``annotations/<split>.json``, in the
    format of COCO with the additions that MMPose's data sets of faces, hands
    and whole bodies ask for, or in that of MPII, and its images in
    ``<split>/``. InterHand2.6M's cameras and joints are in
    ``annotations/<split>_camera.json`` and
    ``annotations/<split>_joint_3d.json``.

    Args:
        out (str | Path): The folder; made if needed.
        dataset (type): One of MMPose's classes of data sets in COCO's format.
        num_images (int): Images of a split. Defaults to 8.
        image_size (tuple): Width and height in pixels, at least 64. Defaults
            to (320, 320).
        seed (int): Any integer from 0 on. Defaults to 0.
        **arguments: Arguments of the class that its keypoints depend on, such
            as ``subset`` of DeepFashion.

    Raises:
        ValueError: If an argument is outside of what is allowed.
        FileExistsError: If there is an annotation file in the way that this
            tool did not write.
    """
    if min(num_images, seed + 1, min(image_size) - 63) < 1:
        raise ValueError(
            'num_images must be 1 or more, seed 0 or more and both sides of '
            f'image_size 64 or more, got {num_images}, {seed}, {image_size}')
    has_cameras = 'camera_param_file' in inspect.signature(dataset).parameters
    # It cannot be built before its cameras are written.
    meta = dataset._load_metainfo() if has_cameras else dataset(
        lazy_init=True, **arguments).metainfo
    for index, split in enumerate(SPLITS):
        path = Path(out) / 'annotations' / f'{split}.json'
        if path.exists() and not _is_ours(json.loads(path.read_text())):
            raise FileExistsError(
                f'{path} is not by this tool; choose another folder')
        path.parent.mkdir(parents=True, exist_ok=True)
        (Path(out) / split).mkdir(exist_ok=True)
        content = _coco_header(meta)
        joints = {}
        for image_id in range(1, num_images + 1):
            rng = np.random.default_rng((seed, index, image_id))
            image, points = draw_sample(rng, meta, image_size)
            name = f'{image_id - 1:06d}.jpg'  # As PoseTrack18's frames.
            cv2.imwrite(str(Path(out) / split / name), image)
            content['images'].append(
                dict(
                    id=image_id,
                    file_name=name,
                    width=image_size[0],
                    height=image_size[1],
                    capture=0,
                    camera='0',
                    frame_idx=image_id,
                    frame_id=image_id,
                    nframes=num_images))
            content['annotations'].append(
                dict(_annotate(points), id=image_id, image_id=image_id))
            joints[image_id] = dict(
                world_coord=_lift(rng, points, image_size).tolist())
        if has_cameras:
            camera = dict(
                campos={'0': [0, 0, 0]},
                camrot={'0': np.eye(3).tolist()},
                focal={'0': [FOCAL_LENGTH] * 2},
                princpt={'0': [side / 2 for side in image_size]})
            _write(path.with_name(f'{split}_camera.json'), {'0': camera})
            _write(path.with_name(f'{split}_joint_3d.json'), {'0': joints})
        if dataset.__name__ == 'MpiiDataset':
            content = _as_in_mpii(content)
        _write(path, content)


def draw_sample(rng, meta, image_size):
    """Draw one figure before a background.

    Args:
        rng (np.random.Generator): The source of everything that is random.
        meta (dict): A data set's meta information, as MMPose parses it.
        image_size (tuple): Width W and height H in pixels.

    Returns:
        tuple: The image, uint8 of shape (H, W, 3) in BGR, and the K
        keypoints, float of shape (K, 3): x, y in pixels and the visibility,
        0 (x and y are 0 then) or 2.
    """
    points = lay_out(meta['num_keypoints'], meta['skeleton_links'])
    angle = np.deg2rad(rng.uniform(-25, 25))
    turn = np.array(
        ((np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))))
    points = (points + rng.normal(0, 0.01, points.shape)) @ turn.T
    points -= (points.min(0) + points.max(0)) / 2
    room = np.array(image_size, float)
    scale = rng.uniform(0.55, 0.8) * (room / np.ptp(points, axis=0)).min()
    points = room / 2 + scale * points + rng.uniform(-.08, .08, 2) * room

    image = draw_background(rng, image_size)
    thickness = max(int(min(image_size) / 60), 1)
    spots = np.int32(np.round(points * 16))
    hull = cv2.convexHull(spots)
    cv2.fillPoly(
        image, [hull], rng.uniform(60, 200, 3), lineType=cv2.LINE_AA, shift=4)
    for (start, end), color in zip(meta['skeleton_links'],
                                   meta['skeleton_link_colors']):
        cv2.line(image, tuple(map(int, spots[start])),
                 tuple(map(int, spots[end])), color[::-1].tolist(), thickness,
                 cv2.LINE_AA, 4)
    for spot, color in zip(spots, meta['keypoint_colors']):
        cv2.circle(image, tuple(map(int, spot)), 16 * thickness,
                   color[::-1].tolist(), -1, cv2.LINE_AA, 4)
    image += rng.normal(0, 3, image.shape)

    inside = ((points >= 0) & (points <= room - 1)).all(1)
    labeled = inside & (rng.random(len(points)) < 0.95)
    # Metrics of faces and of two hands measure by certain points.
    if not labeled.all() and rng.random() < 0.5:
        labeled = inside
    keypoints = np.column_stack((points.round(2), np.full(len(points), 2)))
    keypoints[~labeled] = 0
    return np.uint8(np.clip(np.round(image), 0, 255)), keypoints


def lay_out(num_keypoints, links):
    """Find a place for each keypoint.

    Linked keypoints are placed by classical multidimensional scaling of the
    number of links between them, each connected part beside the last; those
    without any link are spread over a disc.

    Args:
        num_keypoints (int): Their number K.
        links (Sequence[tuple[int, int]]): Pairs of keypoints.

    Returns:
        np.ndarray: Of shape (K, 2), in units of about a part's size.
    """
    starts, ends = np.array(links, int).reshape(-1, 2).T
    graph = coo_matrix((np.ones(len(starts)), (starts, ends)),
                       (num_keypoints, num_keypoints))
    labels = connected_components(graph, directed=False)[1]
    sizes = np.bincount(labels)
    parts = [
        np.flatnonzero(labels == label) for label in np.flatnonzero(sizes > 1)
    ]
    loose = np.flatnonzero(sizes[labels] == 1)
    if loose.size:
        parts.append(loose)
    points = np.zeros((num_keypoints, 2))
    for column, part in enumerate(parts):
        if part is loose:
            places = _sunflower(len(part))
        else:
            steps = shortest_path(graph, directed=False)[np.ix_(part, part)]
            places = _scale(steps)
        places -= (places.min(0) + places.max(0)) / 2
        places /= max(np.ptp(places, axis=0).max(), 1e-6)
        points[part] = places + (1.2 * column, 0)
    return points


def _scale(distances):
    """Points (N, 2) of about these distances (N, N); see Torgerson, 1952."""
    center = np.eye(len(distances)) - 1 / len(distances)
    values, vectors = np.linalg.eigh(-center @ distances**2 @ center / 2)
    return vectors[:, -2:] * np.sqrt(np.maximum(values[-2:], 1e-6))


def _sunflower(number):
    """Points (N, 2) spread evenly over a disc, as a sunflower's seeds."""
    index = np.arange(number) + 0.5
    angle = index * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(index / number)
    return np.column_stack((radius * np.cos(angle), radius * np.sin(angle)))


def _annotate(points):
    """An annotation that all of MMPose's data sets in COCO's format read."""
    seen = points[points[:, 2] > 0, :2]
    low, high = seen.min(0) - 8, seen.max(0) + 8
    box = [round(side, 2) for side in (*low, *(high - low))]
    x, y, width, height = box
    values = points.ravel().tolist()
    annotation = dict(
        category_id=1,
        iscrowd=0,
        bbox=box,
        area=width * height,
        segmentation=[[
            x, y, x + width, y, x + width, y + height, x, y + height
        ]],
        center=[x + width / 2, y + height / 2],
        # Of MPII and the faces: in units of 200 pixels.
        scale=max(width, height) / 200,
        box_size=max(width, height),
        head_size=max(width, height) / 4,
        num_keypoints=len(seen),
        keypoints=values,
        keypoints_21=values,
        hand_type='interacting',
        hand_type_valid=1,
        joint_valid=[int(v > 0) for v in points[:, 2]])
    # Of a face or a hand as a part of COCO-WholeBody all is that part.
    parts = dict.fromkeys(WHOLE_BODY, values)
    if len(points) == sum(WHOLE_BODY.values()):
        ends = np.cumsum(list(WHOLE_BODY.values())) * 3
        parts = {
            name: values[end - 3 * number:end]
            for (name, number), end in zip(WHOLE_BODY.items(), ends)
        }
        annotation['keypoints'] = parts['keypoints']
    for name in ('foot', 'face', 'lefthand', 'righthand'):
        annotation[f'{name}_kpts'] = parts[f'{name}_kpts']
        annotation[f'{name}_box'] = box
        annotation[f'{name}_valid'] = True
    return annotation


def _lift(rng, points, image_size):
    """Joints in the world (K, 3), in millimetres, that are seen there."""
    depth = DISTANCE + rng.uniform(-HAND, HAND, len(points)) / 4
    rays = (points[:, :2] - np.array(image_size) / 2) / FOCAL_LENGTH
    return np.column_stack((rays * depth[:, None], depth))


def _coco_header(meta):
    return dict(
        info=dict(synthetic_keypoints=meta['dataset_name']),
        images=[],
        annotations=[],
        categories=[
            dict(
                id=1,
                name=meta['dataset_name'],
                supercategory='figure',
                keypoints=list(meta['keypoint_id2name'].values()),
                skeleton=[[a + 1, b + 1] for a, b in meta['skeleton_links']])
        ])


def _as_in_mpii(content):
    """The same annotations in MPII's format: a list of people."""
    return [
        dict(
            synthetic_keypoints='mpii',
            image=image['file_name'],
            center=annotation['center'],
            scale=annotation['scale'],
            joints=points[:, :2].tolist(),
            joints_vis=(points[:, 2] > 0).astype(int).tolist())
        for image, annotation, points in (
            (image, annotation, np.reshape(annotation['keypoints'], (-1, 3)))
            for image, annotation in zip(content['images'],
                                         content['annotations']))
    ]


def _is_ours(content):
    """Whether this tool has written what is in an annotation file."""
    if isinstance(content, list):
        return all('synthetic_keypoints' in person for person in content)
    return 'synthetic_keypoints' in content.get('info', {})


def _write(path, content):
    """Write JSON in one step."""
    partial = path.with_name(f'{path.name}.{os.getpid()}.tmp')
    partial.write_text(json.dumps(content))
    os.replace(partial, path)


def main():
    parser = argparse.ArgumentParser(
        description='Draw a data set for the keypoints of any of MMPose\'s '
        'data sets in the format of COCO.')
    parser.add_argument('dataset', help='its class, such as WFLWDataset')
    parser.add_argument(
        '--out',
        help='folder to write to (default: data/'
        'synthetic_<dataset>)')
    parser.add_argument(
        '--num-images', type=int, default=100, help='images of each split')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--subset', help='of DeepFashion: full, upper or lower')
    args = parser.parse_args()

    from mmpose.registry import DATASETS
    from mmpose.utils import register_all_modules
    register_all_modules()
    dataset = DATASETS.get(args.dataset)
    if dataset is None:
        parser.error(f'MMPose has no data set {args.dataset}')
    out = args.out or f'data/synthetic_{args.dataset}'
    arguments = dict(subset=args.subset) if args.subset else {}
    try:
        generate_dataset(
            out, dataset, args.num_images, seed=args.seed, **arguments)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f'{out}: wrote {", ".join(SPLITS)}')


if __name__ == '__main__':
    main()
