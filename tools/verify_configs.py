# Copyright (c) OpenMMLab. All rights reserved.
"""Try the hook on any configs: does it write, and does it change nothing?

    python tools/verify_configs.py my_config.py
    python tools/verify_configs.py mmpose::body_2d_keypoint/.../x.py --own-data
    python tools/verify_configs.py --bundled

Each config is trained for a few iterations and validated, twice: without the
hook, and with all that the hook can do at every iteration, where its first
failure ends the run. Then weights, buffers, averaged weights, the state of the
optimizers, the generators and every module's mode are compared bit for bit.
The config stays as it is but for the data, the batch size, the length and the
pretrained weights. What does not train is validated alone. Without a config:
one of each family in MMPose.
"""
import argparse
import copy
import glob
import importlib.util
import itertools
import json
import os
import os.path as osp
import random
import subprocess
import sys
import sysconfig
import time
import traceback
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hub import get_config

sys.path.insert(0, osp.join(osp.dirname(__file__), 'dataset_generators'))
import synthetic_coco  # noqa: E402
import synthetic_h36m  # noqa: E402
import synthetic_keypoints  # noqa: E402
from train import is_the_hook  # noqa: E402

FAMILIES = [
    f'mmpose::{name}.py' for name in '''
body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192
body_2d_keypoint/topdown_heatmap/coco/td-hm_hrnet-w32_8xb64-210e_coco-256x192
body_2d_keypoint/topdown_heatmap/coco/td-hm_mobilenetv2_8xb64-210e_coco-256x192
body_2d_keypoint/topdown_heatmap/coco/td-hm_hrnet-w32_udp-8xb64-210e_coco-256x192
body_2d_keypoint/topdown_heatmap/coco/td-hm_hrnet-w32_dark-8xb64-210e_coco-256x192
body_2d_keypoint/simcc/coco/simcc_res50_8xb64-210e_coco-256x192
body_2d_keypoint/rtmpose/coco/rtmpose-m_8xb256-420e_coco-256x192
body_2d_keypoint/topdown_regression/coco/td-reg_res50_8xb64-210e_coco-256x192
body_2d_keypoint/topdown_regression/coco/td-reg_res50_rle-8xb64-210e_coco-256x192
body_2d_keypoint/integral_regression/coco/ipr_res50_8xb64-210e_coco-256x256
body_2d_keypoint/associative_embedding/coco/ae_hrnet-w32_8xb24-300e_coco-512x512
body_2d_keypoint/dekr/coco/dekr_hrnet-w32_8xb10-140e_coco-512x512
body_2d_keypoint/cid/coco/cid_hrnet-w32_8xb20-140e_coco-512x512
body_2d_keypoint/rtmo/coco/rtmo-s_8xb32-600e_coco-640x640
body_2d_keypoint/yoloxpose/coco/yoloxpose_tiny_4xb64-300e_coco-416
body_2d_keypoint/edpose/coco/edpose_res50_8xb2-50e_coco-800x1333
wholebody_2d_keypoint/rtmpose/coco-wholebody/rtmpose-m_8xb64-270e_coco-wholebody-256x192
face_2d_keypoint/rtmpose/wflw/rtmpose-m_8xb64-60e_wflw-256x256
hand_2d_keypoint/rtmpose/coco_wholebody_hand/rtmpose-m_8xb32-210e_coco-wholebody-hand-256x256
hand_2d_keypoint/topdown_heatmap/onehand10k/td-hm_res50_8xb32-210e_onehand10k-256x256
animal_2d_keypoint/topdown_heatmap/ap10k/td-hm_res50_8xb64-210e_ap10k-256x256
body_3d_keypoint/video_pose_lift/h36m/video-pose-lift_tcn-27frm-supv_8xb128-160e_h36m
body_3d_keypoint/image_pose_lift/h36m/image-pose-lift_tcn_8xb64-200e_h36m
body_3d_keypoint/motionbert/h36m/motionbert_dstformer-243frm_8xb32-240e_h36m
hand_3d_keypoint/internet/interhand3d/internet_res50_4xb16-20e_interhand3d-256x256
'''.split()
]  # noqa: E501

# A training that is made short has the schedules and the batch size of a long
# one.
OF_A_SHORT_TRAINING = [
    dict(type=f'{name}Detector', enabled=False)
    for name in ('Schedule', 'BatchSize')
]
# Everything that the hook can do, as often as it can.
EVERYTHING = dict(
    # By its full name it is found also where pip has installed it.
    type='mmpose.engine.hooks.enhanced_tensorboard_hook.'
    'EnhancedTensorBoardHook',
    preset='detailed',
    grad_norm_interval=1,
    weight_hist_interval=1,
    train_image_interval=1,
    val_image_interval=1,
    detectors=OF_A_SHORT_TRAINING,
    strict=True)
# Models without a loss in MMPose.
WITHOUT_LOSS = ('EDPoseHead', )
PICTURES = ('train/images', 'val/images', 'val/hard_samples',
            'keypoints/accuracy')


def bundled():
    """List the configs of this checkout that are MMPose's with the hook.

    Returns:
        list[str]: Their names in an MMPose that has them.
    """
    folder = Path(__file__).resolve().parents[1] / 'configs'
    # The one in pure Python has its base in a clone only.
    return [
        f'mmpose::{file.relative_to(folder).as_posix()}'
        for file in sorted(folder.glob('*_keypoint/**/*.py'))
        if 'read_base' not in file.read_text(encoding='utf-8')
    ]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        epilog='Exit status: 0 if the hook is neutral in every config, 1 if '
        'it is not or fails in one, 2 if one could not be tried, or by its '
        'validation alone: it does not train without the hook either, or '
        'lacks a package.')
    parser.add_argument(
        'configs',
        nargs='*',
        metavar='CONFIG',
        help='files, or names such as mmpose::body_2d_keypoint/...; default: '
        'one of each family in MMPose')
    parser.add_argument(
        '--bundled',
        action='store_true',
        help='the configs in configs/, which must be in the installed MMPose, '
        'too')
    parser.add_argument(
        '--own-data',
        action='store_true',
        help='train on the data that the config names, not on generated data')
    parser.add_argument(
        '--batch-size', type=int, default=2, help='(default: 2)')
    parser.add_argument(
        '--images',
        type=int,
        default=4,
        help='to generate, for each of training and validation; of your own '
        'data four times as many are taken (default: 4)')
    parser.add_argument(
        '--epochs',
        type=int,
        default=2,
        help='with a validation after half of them and at the end; findings '
        'that need a longer training have no chance to show in a short one '
        '(default: 2)')
    parser.add_argument(
        '--work-dir',
        default='work_dirs/verify_configs',
        help='for runs, logs and generated data (default: %(default)s)')
    parser.add_argument('--json', help='a file for all that was found out')
    parser.add_argument('--child', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return verify(args.configs[0], args)

    rows = []
    given = args.configs + bundled() * args.bundled
    for config in given or FAMILIES:
        rows.append(verify_in_process(config, args))
        print(_line(rows[-1]), flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=2))
    print('\n' + table(rows))
    if any(row['outcome'] in ('CHANGED', 'error') for row in rows):
        sys.exit(1)
    sys.exit(0 if all(map(is_verified, rows)) else 2)


def is_verified(row):
    """Whether all that a config can do was tried, and was neutral."""
    return row['outcome'] == 'neutral' and (row['loop'] == 'train'
                                            or row['only_predicts'])


def verify_in_process(config, args):
    """Verify a config in a process of its own.

    Args:
        config (str): A file or the name of an installed config.
        args (argparse.Namespace): The command line.

    Returns:
        dict: See :func:`verify`; ``outcome`` may be 'error' as well, with
        ``why`` and ``log``, the output of the process.
    """
    folder = osp.join(args.work_dir, Path(config.split('::')[-1]).stem)
    os.makedirs(folder, exist_ok=True)
    log, out = osp.join(folder, 'output.log'), osp.join(folder, 'row.json')
    if osp.exists(out):
        os.remove(out)
    command = [
        sys.executable, __file__, config, '--child', out, '--work-dir',
        args.work_dir, '--batch-size',
        str(args.batch_size), '--images',
        str(args.images), '--epochs',
        str(args.epochs)
    ] + ['--own-data'] * args.own_data
    with open(log, 'w') as output:
        code = subprocess.call(
            command, stdout=output, stderr=subprocess.STDOUT)
    if osp.exists(out):
        return dict(json.loads(Path(out).read_text()), log=log)
    return dict(
        config=config,
        outcome='error',
        why=f'the process ended with {code}',
        log=log)


def verify(config, args):
    """Train with and without the hook, and write what differs as JSON.

    The row has ``config``; ``outcome``: 'neutral', 'CHANGED', 'not
    reproducible' if two trainings without the hook differ as well, 'not tried'
    if there is none without it, or 'error', the last two with ``why``;
    ``loop``, 'train', or 'val' where the training fails without the hook, with
    ``training_error`` and ``only_predicts``, why it must; ``tags``,
    ``findings``, ``seconds`` with the hook and ``extra``, their ratio to those
    without it, minus 1; ``differing``, paths in the state.
    """
    row = dict(config=config, outcome='not tried')
    try:
        cfg = load(config, args)
        missing = find_missing_packages(cfg)
        if missing:
            raise ModuleNotFoundError(f'needs {", ".join(missing)}')
        loop, first, without, failure = find_loop(cfg)
        row.update(outcome='error', loop=loop)
        if loop == 'val':
            row['training_error'] = _one_line(failure)
            row['only_predicts'] = only_predicts(cfg)
        with_hook, row['seconds'], work_dir = run(cfg, loop, EVERYTHING)
        row['extra'] = row['seconds'] / first - 1
        row.update(read_run(work_dir))
        row['differing'] = differences(without, with_hook)
        row['outcome'] = 'CHANGED' if row['differing'] else 'neutral'
        if row['differing'] and differences(without, run(cfg, loop)[0]):
            row['outcome'] = 'not reproducible'
    except Exception as error:
        traceback.print_exc()
        row['why'] = _one_line(error)
    Path(args.child).write_text(json.dumps(row))


def find_loop(cfg):
    """What runs without the hook: MMPose cannot train all that it has.

    Returns:
        tuple: 'train' or, if that fails, 'val'; the seconds that it took, the
        state that it left, and what the training raised, if it did.

    Raises:
        Exception: What the training raised, if the validation fails as well
            or a package is missing.
    """
    try:
        state, seconds, _ = run(cfg, 'train')
        return 'train', seconds, state, None
    except Exception as error:
        # MMPose raises a RuntimeError where albumentations is missing.
        if isinstance(error, ImportError) or 'not installed' in str(error):
            raise
        traceback.print_exc()
        try:
            state, seconds, _ = run(cfg, 'val')
            return 'val', seconds, state, error
        except Exception:
            traceback.print_exc()
            raise error


def only_predicts(cfg):
    """Why a config is not one to train with, whatever the data; or ''."""
    kinds = [node.get('type') for node in _dicts(cfg.model)]
    # In the newer kind of config files it is the class itself.
    if any(getattr(k, '__name__', k) in WITHOUT_LOSS for k in kinds):
        return 'MMPose has no loss for it'
    if cfg.train_dataloader.dataset.get('pipeline') == []:
        return 'the config has no training pipeline'
    return ''


def _one_line(error):
    last = str(error).strip().split('\n')[-1]
    # The table may be shown to others.
    last = last.replace(f'{sysconfig.get_path("purelib")}{os.sep}', '')
    return f'{type(error).__name__}: {last}'


def run(cfg, loop, hook=None):
    """Run a config to its end.

    Args:
        cfg (Config): It is not changed.
        loop (str): 'train', with validations, or 'val' alone.
        hook (dict, optional): A hook to add. Defaults to None.

    Returns:
        tuple: The state in the end as nested dicts, the seconds that it took,
        and its work directory.
    """
    from mmengine.runner import Runner
    cfg = copy.deepcopy(cfg)
    name = 'with_hook' if hook else 'without_hook'
    cfg.work_dir = osp.join(cfg.work_dir, f'{name}_{time.time_ns()}')
    cfg.experiment_name = osp.basename(cfg.work_dir)
    # By its name MMEngine finds the visualizer of the last run again.
    cfg.visualizer = cfg.get('visualizer') or dict(type='PoseLocalVisualizer')
    cfg.visualizer.name = cfg.experiment_name
    if hook:
        cfg.custom_hooks = [*cfg.custom_hooks, hook]
    runner = Runner.from_cfg(cfg)
    if loop == 'val':
        # Memory that nobody has initialized would differ between two runs.
        for parameter in runner.model.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
    start = time.perf_counter()
    result = runner.train() if loop == 'train' else runner.val()
    seconds = time.perf_counter() - start
    state = state_of(runner)
    if loop == 'val':
        state['metrics'] = result
    else:
        state['optimizers'] = runner.optim_wrapper.state_dict()
    return state, seconds, cfg.work_dir


def state_of(runner):
    """What the hook may not have changed, as nested dicts."""
    return dict(
        model=runner.model.state_dict(),
        averaged={
            str(i): hook.ema_model.state_dict()
            for i, hook in enumerate(runner.hooks)
            if hasattr(hook, 'ema_model')
        },
        modes={
            name: module.training
            for name, module in runner.model.named_modules()
        },
        generators=dict(
            python=str(random.getstate()),
            numpy=np.random.get_state(),
            torch=torch.get_rng_state(),
            cuda=torch.cuda.get_rng_state_all()
            if torch.cuda.is_available() else None))


def differences(a, b, path=''):
    """The paths at which two nested structures differ, ten at most."""
    if type(a) is not type(b):
        return [path]
    if isinstance(a, (list, tuple)):
        a, b = dict(enumerate(a)), dict(enumerate(b))
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [path]
        found = (differences(a[key], b[key], f'{path}/{key}') for key in a)
        return list(itertools.islice(itertools.chain(*found), 10))
    return [] if _bits(a) == _bits(b) else [path]


def _bits(value):
    """What tells a value from all others: -0 from 0, a NaN from another."""
    if isinstance(value, torch.Tensor):
        flat = value.detach().cpu().reshape(-1).contiguous()
        # NumPy does not know all types.
        return value.dtype, value.shape, flat.view(
            torch.uint8).numpy().tobytes()
    if isinstance(value, (float, np.ndarray, np.generic)):
        array = np.asarray(value)
        return array.dtype, array.shape, array.tobytes()
    return value


def read_run(work_dir):
    """What a run wrote to TensorBoard: ``tags`` and ``findings``."""
    from tensorboard.backend.event_processing.event_accumulator import \
        EventAccumulator
    files = glob.glob(f'{work_dir}/**/events.out.tfevents.*', recursive=True)
    if len(files) != 1:
        raise RuntimeError(f'{len(files)} event files instead of one: {files}')
    events = EventAccumulator(files[0], size_guidance=dict(scalars=0))
    tags = events.Reload().Tags()
    prefix = 'health/finding/'
    return dict(
        tags=sorted({
            tag
            for kind in ('scalars', 'histograms', 'tensors', 'images')
            for tag in tags[kind]
        } | ({'graph'} if tags['graph'] else set())),
        findings=sorted(tag[len(prefix):] for tag in tags['scalars']
                        if tag.startswith(prefix) and any(
                            event.value for event in events.Scalars(tag))))


def load(config, args):
    """Load a config and change its data, batch size, length and weights."""
    from mmpose.utils import register_all_modules
    register_all_modules()
    cfg = get_config(config) if '::' in config else Config.fromfile(config)
    if not args.own_data:
        use_generated_data(cfg, osp.join(args.work_dir, 'data'), args.images)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(
            # Of images of different sizes there is one in a batch.
            batch_size=min(args.batch_size,
                           loader.get('batch_size') or 1),
            num_workers=0,
            persistent_workers=False)
        loader.pop('prefetch_factor', None)
        if args.own_data:
            # Those around others, which repeat or combine them, have none.
            for dataset in _dicts(loader.dataset):
                if 'ann_file' in dataset:
                    dataset.setdefault('indices', 4 * args.images)
    by_epoch = cfg.train_cfg.get('by_epoch', 'max_iters' not in cfg.train_cfg)
    # What is trained by iterations has no epochs: twice as many of them.
    length = args.epochs if by_epoch else 2 * args.epochs
    cfg.train_cfg.update({
        'max_epochs' if by_epoch else 'max_iters': length,
        'val_interval': length // 2 or 1
    })
    cfg.train_cfg.pop('dynamic_intervals', None)
    cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
    cfg.default_hooks = {
        name: hook
        for name, hook in (cfg.get('default_hooks') or {}).items()
        if not is_the_hook(hook)
    }
    cfg.default_hooks['checkpoint'] = None
    cfg.custom_hooks = [
        hook for hook in cfg.get('custom_hooks') or [] if not is_the_hook(hook)
    ]
    cfg.randomness = dict(seed=0, deterministic=torch.cuda.is_available())
    cfg.load_from, cfg.resume = None, False
    without_pretrained(cfg.model)
    cfg.work_dir = osp.join(args.work_dir, Path(config.split('::')[-1]).stem)
    return cfg


def without_pretrained(model):
    """Take weights that would be downloaded out of a model's config."""
    for node in _dicts(model):
        init_cfg = node.get('init_cfg')
        if isinstance(init_cfg, dict) and 'checkpoint' in init_cfg:
            node['init_cfg'] = None
        if isinstance(node.get('pretrained'), str):
            node['pretrained'] = None


def use_generated_data(cfg, root, images):
    """Let training and validation run on generated data.

    Args:
        cfg (Config): Changed in place.
        root (str): Where to write it.
        images (int): How many, for each of training and validation.

    Raises:
        NotImplementedError: There is no generator for a data set.
    """
    files = {}
    for kind, split in (('train', 0), ('val', 1)):
        for dataset in _dicts(cfg[f'{kind}_dataloader'].dataset):
            if 'ann_file' in dataset:
                old = osp.join(
                    dataset.get('data_root') or '', dataset['ann_file'])
                _generate(dataset, root, split, images)
                files[osp.normpath(old)] = osp.join(dataset['data_root'],
                                                    dataset['ann_file'])
    for evaluator in _dicts(cfg.val_evaluator):
        path = osp.normpath(evaluator.get('ann_file') or '')
        if path in files:
            evaluator['ann_file'] = files[path]


def _generate(dataset, root, split, images):
    """Generate data for a data set and change its config in place."""
    from mmpose.datasets.datasets.base import BaseCocoStyleDataset
    from mmpose.registry import DATASETS
    kind = dataset['type']
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    name = getattr(kind, '__name__', str(dataset['type']))
    folder = osp.join(root, f'{name}_{images}')
    # Frames in a sequence: MotionBERT takes 243 at once.
    frames = max(3 * images, dataset.get('multiple_target') or 0)
    if name == 'Human36mDataset':
        folder += f'_{frames}_frames'
    dataset['data_root'] = folder
    if name == 'CocoDataset':
        synthetic_coco.generate_dataset(folder, images, images)
        part = synthetic_keypoints.SPLITS[split]
        dataset['ann_file'] = f'annotations/person_keypoints_{part}.json'
    elif name == 'Human36mDataset':
        synthetic_h36m.generate_dataset(folder, 2, frames)
        part = ('train', 'test')[split]
        dataset['ann_file'] = f'annotation_body3d/fps50/h36m_{part}.npz'
        if 'camera_param_file' in dataset:
            dataset['camera_param_file'] = 'annotation_body3d/cameras.pkl'
        return
    elif isinstance(kind, type) and issubclass(kind, BaseCocoStyleDataset):
        arguments = {
            key: dataset[key]
            for key in ('subset', ) if key in dataset
        }
        folder = dataset['data_root'] = '_'.join([folder, *arguments.values()])
        synthetic_keypoints.generate_dataset(folder, kind, images, **arguments)
        part = synthetic_keypoints.SPLITS[split]
        dataset['ann_file'] = f'annotations/{part}.json'
        if 'camera_param_file' in dataset:
            dataset['camera_param_file'] = f'annotations/{part}_camera.json'
            dataset['joint_file'] = f'annotations/{part}_joint_3d.json'
    else:
        raise NotImplementedError(
            f'there is no generated data for {name}; use --own-data')
    dataset['data_prefix'] = dict(img=f'{part}/')
    # Of a few images none may be left.
    dataset.pop('sample_interval', None)
    if dataset.get('bbox_file'):
        dataset['bbox_file'] = _detect(osp.join(folder, dataset['ann_file']))


def _detect(ann_file):
    """Write what a detector may find: everybody twice, and nobody there."""
    boxes = []
    with open(ann_file) as file:
        annotations = json.load(file)['annotations']
    for annotation in annotations:
        x, y, width, height = annotation['bbox']
        boxes += [
            dict(
                image_id=annotation['image_id'],
                category_id=1,
                bbox=[x + shift * width, y, width, height],
                score=score)
            for shift, score in ((0, 0.9), (0.1, 0.5), (0.8, 0.05))
        ]
    bbox_file = osp.splitext(ann_file)[0] + '_boxes.json'
    with open(bbox_file, 'w') as file:
        json.dump(boxes, file)
    return bbox_file


def find_missing_packages(cfg):
    """The packages that a config names before a dot and that are not here."""
    scopes = {
        node['type'].split('.')[0]
        for node in _dicts(cfg._cfg_dict)
        if isinstance(node.get('type'), str) and '.' in node['type']
    }
    return sorted(s for s in scopes if importlib.util.find_spec(s) is None)


def _dicts(node):
    """All dicts in nested dicts and lists."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from _dicts(child)


def table(rows):
    """The Markdown table of all rows."""
    return '\n'.join([
        '| family | config | tags | pictures | findings | with the hook | '
        'seconds | extra |',
        '| :-- | :-- | --: | :-- | :-- | :-- | --: | --: |', *map(_line, rows)
    ])


def _line(row):
    path = Path(row['config'].split('::')[-1])
    # As MMPose's folders are named; a file of the user's own has none.
    family = path.parent.parent.as_posix() if '::' in row['config'] else ''
    cells = [family, path.stem]
    outcome = row['outcome']
    if 'why' in row:
        cells += [''] * 3 + [f'{outcome}: {row["why"]} (see {row["log"]})']
        return f'| {" | ".join(cells + [""] * 2)} |'
    if row['differing']:
        outcome += f' ({row["differing"][0]}, ...)'
    if row['loop'] == 'val':
        outcome += ', validation only: ' + (
            row['only_predicts']
            or f'training fails without the hook: {row["training_error"]}')
    pictures = [tag for tag in row['tags'] if tag in PICTURES]
    cells += [
        str(len(row['tags'])), ', '.join(pictures), ', '.join(row['findings'])
        or 'none', outcome, f'{row["seconds"]:.0f}', f'{row["extra"]:+.0%}'
    ]
    return f'| {" | ".join(cells)} |'


if __name__ == '__main__':
    main()
