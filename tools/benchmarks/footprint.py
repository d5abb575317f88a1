# Copyright (c) OpenMMLab. All rights reserved.
"""What the hook costs elsewhere than in an iteration: when MMPose is imported,
and on the disk."""
import glob
import os
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from statistics import median
from typing import Dict, List

from mmengine.config import Config
from tensorboard.backend.event_processing.event_file_loader import \
    EventFileLoader

from mmpose.engine.monitors import TrainImageMonitor
from mmpose.registry import HOOKS
from . import hook_parts, models
from .training import DEMO, ROOT

# COCO's training as MMPose's configs have it: 149,813 people in batches of 64,
# 210 epochs, a validation after each tenth.
COCO_EPOCHS, COCO_VALIDATIONS = 210, 21
COCO_ITERATIONS = 149813 // 64 * COCO_EPOCHS

# With an argument: as if the hook were not there.
_IMPORT = '''
import sys, time, types
if sys.argv[1:]:
    name = 'mmpose.engine.hooks.enhanced_tensorboard_hook'
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].EnhancedTensorBoardHook = None
began = time.perf_counter()
import mmpose.engine.hooks
print(time.perf_counter() - began, len(sys.modules))
'''


def imports(repeat: int) -> Dict[str, List[float]]:
    """Import ``mmpose.engine.hooks`` with and without the hook, in turn.

    Args:
        repeat (int): How often each, in a process of its own.

    Returns:
        dict[str, list[float]]: ``with`` and ``without``, the seconds;
        ``modules``, how many more there are with it.
    """
    found: Dict[str, List[float]] = {'with': [], 'without': [], 'modules': []}
    for _ in range(repeat):
        counts = []
        for name, arguments in (('with', ()), ('without', ('without', ))):
            seconds, modules = subprocess.run(
                [sys.executable, '-W', 'ignore', '-c', _IMPORT, *arguments],
                check=True,
                stdout=subprocess.PIPE,
                universal_newlines=True).stdout.split()
            found[name].append(float(seconds))
            counts.append(int(modules))
        found['modules'].append(counts[0] - counts[1])
    return found


def demo(data_root: str, *options: str) -> dict:
    """Train the demo, and look into its event file.

    Args:
        data_root (str): Its data set.
        options (str): Other settings, as for ``--cfg-options``.

    Returns:
        dict: ``bytes``, the size of the file; ``scalars``, the number of
        scalar tags; ``pictures``, by tag the bytes of the pictures of each
        step.
    """
    config = Config.fromfile(str(ROOT / DEMO))
    file = config.val_evaluator.ann_file.replace(config.data_root, '')
    changed = [
        f'{key}={value}' for part in ('val', 'test') for key, value in (
            (f'{part}_dataloader.dataset.data_root', f'{data_root}/'),
            (f'{part}_evaluator.ann_file', f'{data_root}/{file}'))
    ] + [f'train_dataloader.dataset.data_root={data_root}/', *options]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([
            sys.executable, '-W', 'ignore',
            str(ROOT / 'tools/train.py'),
            str(ROOT / DEMO), '--work-dir', folder, '--cfg-options', *changed
        ],
                       check=True,
                       stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        path, = glob.glob(f'{folder}/**/events.out.tfevents.*', recursive=True)
        return dict(bytes=os.path.getsize(path), **_contents(path))


def _contents(path: str) -> dict:
    kinds, pictures = {}, defaultdict(Counter)
    for event in EventFileLoader(path).Load():
        for value in event.summary.value:
            kind = kinds.setdefault(value.tag,
                                    value.metadata.plugin_data.plugin_name)
            if kind == 'images':
                # After width and height.
                pictures[value.tag][event.step] += sum(
                    map(len, value.tensor.string_val[2:]))
    return dict(
        scalars=list(kinds.values()).count('scalars'),
        pictures={
            tag: list(steps.values())
            for tag, steps in pictures.items()
        })


def coco_pictures(demo: dict) -> dict:
    """The pictures of a training on COCO with the hook's defaults.

    Args:
        demo (dict): See :func:`demo`, which has the same figures.

    Returns:
        dict: ``steps``, how often training samples are drawn; ``step_bytes``,
        the pictures of one, which show a photograph, and the heatmaps;
        ``bytes``, all pictures of the training, those of its epochs and
        validations included.
    """
    hook = HOOKS.build(dict(type='EnhancedTensorBoardHook'))
    monitor, = (m for m in hook.monitors if isinstance(m, TrainImageMonitor))
    steps = sum(map(monitor.schedule.is_due, range(1, COCO_ITERATIONS + 1)))
    with tempfile.TemporaryDirectory() as folder:
        subject = hook_parts.train_pictures(models.build('RTMPose-m'), folder)
        subject.run()
        subject.close()
        path, = glob.glob(f'{folder}/events.out.tfevents.*')
        photos, = _contents(path)['pictures']['train/images']
    # Of augmentation, one is a sheet of many draws.
    each = {tag: median(sizes) for tag, sizes in demo['pictures'].items()}
    step_bytes = photos + each.pop('train/heatmaps')
    del each['train/images'], each['data/overview']
    augmentation = each.pop('data/augmentation')
    return dict(
        steps=steps,
        step_bytes=step_bytes,
        bytes=steps * step_bytes + COCO_VALIDATIONS * sum(each.values()) +
        COCO_EPOCHS * augmentation)
