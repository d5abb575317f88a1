# Copyright (c) OpenMMLab. All rights reserved.
"""Every scalar and image of a training reaches each tracker, once.

With the real packages, offline: ``make test-trackers``.
"""
import collections
import csv
import glob
import json
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator

from mmpose.engine.monitors.writers.mirrors.clients import (_mlflow_key,
                                                            flat_key)

ROOT = Path(__file__).resolve().parents[2]
DEMO = 'configs/enhanced_tensorboard/td-hm_res18_1xb8-12e_synthetic-128x96.py'
TRAIN = """
import runpy, sys
{prelude}
sys.argv = ['tools/train.py', *sys.argv[1:]]
sys.path.insert(0, {tools!r})
runpy.run_path({tools!r} + '/train.py', run_name='__main__')
"""
# What MMEngine sends to its backends itself.
OF_MMENGINE = ('lr', 'data_time', 'loss', 'loss_kpt', 'acc_pose', 'time',
               'epoch', 'iter', 'coco/', 'PCK')


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'synthetic_coco'
    subprocess.run([
        sys.executable, 'tools/dataset_generators/synthetic_coco.py', '--out',
        str(root), '--num-train', '4', '--num-val', '2'
    ],
                   cwd=str(ROOT),
                   check=True)
    return root


@pytest.fixture
def train(data_root, tmp_path):
    """A function that trains one epoch with a backend beside TensorBoard."""

    def run(backend=None, prelude='', config_end='', cwd=ROOT, more=(), **env):
        options = [
            'train_cfg.max_epochs=1', 'default_hooks.enhanced_tensorboard.'
            'strict=True', 'default_hooks.enhanced_tensorboard.'
            'grad_norm_interval=1', 'default_hooks.enhanced_tensorboard.'
            'val_image_interval=1'
        ]
        for split in ('train', 'val'):
            options += [
                f'{split}_dataloader.dataset.data_root={data_root}',
                f'{split}_dataloader.num_workers=0',
                f'{split}_dataloader.persistent_workers=False',
                f'{split}_dataloader.batch_size=2'
            ]
        if not config_end:
            options.append('val_evaluator.ann_file=' +
                           str(data_root /
                               'annotations/person_keypoints_val.json'))
        backends = [dict(type='TensorboardVisBackend'), backend]
        config = tmp_path / 'config.py'
        config.write_text(
            f'_base_ = [{str(ROOT / DEMO)!r}]\n'
            f'visualizer = dict(vis_backends={list(filter(None, backends))})\n'
            f'{config_end}')
        result = subprocess.run([
            sys.executable, '-c',
            TRAIN.format(prelude=prelude, tools=str(ROOT / 'tools')),
            str(config), '--work-dir',
            str(tmp_path / 'run'), '--cfg-options', *options, *more
        ],
                                cwd=str(cwd),
                                env={
                                    **os.environ, 'OMP_NUM_THREADS': '1',
                                    **env
                                },
                                stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT,
                                universal_newlines=True)
        assert result.returncode == 0, result.stdout[-3000:]
        assert ', 0 failures' in result.stdout
        return written(tmp_path / 'run')

    return run


def written(work_dir):
    """The hook's scalars as (tag, step), and its pictures as (tag, i, step),
    that are in the event file."""
    # A resumed training adds a file, with all that the tracker has to have.
    *_, path = sorted(glob.glob(f'{work_dir}/*/vis_data/events*'))
    events = EventAccumulator(path, dict(scalars=0, tensors=0)).Reload()
    scalars = [(tag, e.step) for tag in events.Tags()['scalars']
               if not tag.startswith(OF_MMENGINE) for e in events.Scalars(tag)]
    images = [
        (tag, i, e.step) for tag in events.Tags()['tensors']
        if events.SummaryMetadata(tag).plugin_data.plugin_name == 'images'
        for e in events.Tensors(tag)
        for i in range(len(e.tensor_proto.string_val) - 2)
    ]
    assert len(scalars) > 100 and len(images) > 4
    return collections.Counter(scalars), collections.Counter(images)


def wandb_rows(path):
    """The rows of W&B's log: blocks of 32 KiB, as those of LevelDB."""
    from wandb.proto.wandb_internal_pb2 import Record
    data, at, record = Path(path).read_bytes(), 7, b''
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, size, kind = struct.unpack('<IHB', data[at:at + 7])
        record += data[at + 7:at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # Whole, or the last part.
            message, record = Record.FromString(record), b''
            if message.WhichOneof('record_type') == 'history':
                yield {
                    item.key or '/'.join(item.nested_key):
                    json.loads(item.value_json)
                    for item in message.history.item
                }


def test_wandb(train, tmp_path):
    scalars, images = train(
        dict(type='WandbVisBackend'),
        WANDB_MODE='offline',
        WANDB_SILENT='true')
    path, = (tmp_path / 'run').rglob('*.wandb')
    rows = [row for row in wandb_rows(path) if 'tensorboard_step' in row]
    arrived, pictures = collections.Counter(), collections.Counter()
    for row in rows:
        step = row.pop('tensorboard_step')
        for key, value in row.items():
            # Newer versions take a dict apart.
            key, _, part = key.partition('/_type')
            kind = value.get('_type') if isinstance(value, dict) else value
            if kind == 'image-file':
                tag, _, i = key.rpartition('/')
                pictures[tag, int(i), step] += 1
            elif (key, step) in scalars and not isinstance(value, dict):
                arrived[key, step] += 1
    assert arrived == scalars
    assert pictures == images


def test_a_resumed_run_is_complete_on_wandb(train, tmp_path):
    """With the id of the run, as its page says."""
    env = dict(
        WANDB_MODE='offline',
        WANDB_SILENT='true',
        WANDB_RUN_ID='poses',
        WANDB_RESUME='allow')
    first, _ = train(dict(type='WandbVisBackend'), **env)
    again, _ = train(
        dict(type='WandbVisBackend'),
        more=('resume=True', 'train_cfg.max_epochs=2'),
        **env)
    paths = list((tmp_path / 'run').rglob('*.wandb'))
    assert len(paths) == 2
    arrived = {(key, row['tensorboard_step'])
               for path in paths for row in wandb_rows(path)
               if 'tensorboard_step' in row for key in row}
    assert set(first) | set(again) <= arrived
    steps = {s for tag, s in arrived if tag == 'train/gradient_norm/global'}
    # Two iterations an epoch.
    assert steps == set(range(1, max(steps) + 1)) and max(steps) >= 4


def check_mlflow(uri, scalars, images):
    import mlflow
    mlflow.set_tracking_uri(uri)
    client = mlflow.tracking.MlflowClient()
    run, = [
        run for experiment in client.search_experiments()
        for run in client.search_runs([experiment.experiment_id])
    ]
    arrived = collections.Counter((tag, metric.step)
                                  for tag in {tag
                                              for tag, _ in scalars}
                                  for metric in client.get_metric_history(
                                      run.info.run_id, _mlflow_key(tag)))
    assert arrived == scalars
    for tag, i, step in images:
        folder = f'{_mlflow_key(tag)}/{i}'
        names = [
            artifact.path
            for artifact in client.list_artifacts(run.info.run_id, folder)
        ]
        assert f'{folder}/step_{step}.png' in names


def test_mlflow(train, tmp_path):
    # MMEngine's backend fails on COCO's metrics, such as 'coco/AP (M)'.
    found = train(
        dict(type='MLflowVisBackend', tracked_config_keys=[]),
        config_end="val_evaluator = dict(_delete_=True, type='PCKAccuracy')\n"
        "default_hooks = dict(checkpoint=dict(save_best='PCK'))\n",
        MLFLOW_ALLOW_FILE_STORE='true')
    os.environ['MLFLOW_ALLOW_FILE_STORE'] = 'true'
    path, = (tmp_path / 'run').glob('*/vis_data')
    check_mlflow(f'file:{path}', *found)


def test_mlflow_that_captures_tensorboard(train, tmp_path):
    uri = f'file:{tmp_path}/mlruns'
    found = train(
        prelude=f'import mlflow; mlflow.set_tracking_uri({uri!r}); '
        'mlflow.pytorch.autolog(); mlflow.start_run()',
        MLFLOW_ALLOW_FILE_STORE='true')
    os.environ['MLFLOW_ALLOW_FILE_STORE'] = 'true'
    check_mlflow(uri, *found)


@pytest.mark.parametrize('captures', [False, True])
def test_clearml(train, tmp_path, captures):
    task = dict(project_name='poses', task_name='demo')
    prelude = 'from clearml import Task; Task.set_offline(True)'
    if captures:
        prelude += f'; Task.init(**{task})'
        backend = None
    else:
        backend = dict(type='ClearMLVisBackend', init_kwargs=task)
    scalars, images = train(
        backend, prelude, CLEARML_CACHE_DIR=str(tmp_path / 'clearml'))
    session, = (tmp_path / 'clearml').rglob('*.zip')
    arrived, pictures = collections.Counter(), collections.Counter()
    for line in zipfile.ZipFile(session).read(
            'metrics.jsonl').decode().splitlines():
        for event in json.loads(line):
            title, series = event['metric'], event['variant']
            step = event.get('iter', 0)
            tag = title if title == series else f'{title}/{series}'
            if event['type'] == 'training_stats_scalar':
                if not tag.startswith(OF_MMENGINE):
                    arrived[tag, step] += 1
            elif title != 'config':
                pictures[title, int(series), step] += 1
    assert arrived == scalars
    assert pictures == images


def test_neptune(train, tmp_path):
    found = train(dict(type='NeptuneVisBackend'), cwd=tmp_path)
    path, = (tmp_path / '.neptune').rglob('data-*.log')
    arrived, pictures = collections.Counter(), collections.Counter()
    decoder = json.JSONDecoder()
    text, at = path.read_text(), 0
    while at < len(text):
        operation, at = decoder.raw_decode(text, at)
        at += len(text[at:]) - len(text[at:].lstrip())
        operation = operation['obj']
        key = '/'.join(operation['path'])
        for value in operation.get('values', ()):
            if operation['type'] == 'LogFloats':
                arrived[key, value['step']] += 1
            elif operation['type'] == 'LogImages':
                pictures[key, value['step']] += 1
    scalars, images = found
    expected = collections.Counter(
        (flat_key(tag), step) for tag, step in scalars.elements())
    assert {key: n
            for key, n in arrived.items() if key in expected} == dict(expected)
    expected = collections.Counter(
        (flat_key(f'{tag}/{i}'), step) for tag, i, step in images)
    assert {key: n
            for key, n in pictures.items()
            if key in expected} == dict(expected)


def test_dvclive(train, tmp_path):
    scalars, images = train(
        dict(
            type='DVCLiveVisBackend',
            init_kwargs=dict(dir=str(tmp_path / 'live'), save_dvc_exp=False)),
        cwd=tmp_path)
    arrived, pictures = collections.Counter(), collections.Counter()
    folder = tmp_path / 'live/plots/metrics'
    for path in folder.rglob('*.tsv'):
        tag = str(path.relative_to(folder))[:-len('.tsv')]
        for row in csv.DictReader(path.open(), delimiter='\t'):
            if (tag, int(row['step'])) in scalars:
                arrived[tag, int(row['step'])] += 1
    folder = tmp_path / 'live/plots/images'
    for path in folder.rglob('*.png'):
        *tag, i, step = path.relative_to(folder).with_suffix('').parts
        pictures['/'.join(tag), int(i), int(step)] += 1
    assert arrived == scalars
    assert pictures == images


def test_aim(train, tmp_path):
    scalars, images = train(
        dict(type='AimVisBackend', init_kwargs=dict(repo=str(tmp_path))),
        cwd=tmp_path)
    from aim import Repo, Run
    from aim.storage.context import Context
    name, = Repo(str(tmp_path)).list_all_runs()
    # What is opened to be read alone is empty until it was opened once.
    run = Run(
        name,
        repo=str(tmp_path),
        system_tracking_interval=None,
        log_system_params=False)
    arrived, pictures = collections.Counter(), collections.Counter()
    for metric in run.metrics():
        for step in metric.data.indices_list():
            if (metric.name, step) in scalars:
                arrived[metric.name, step] += 1
    for sequence in run.collect_sequence_info(('images', ))['images']:
        tag, _, i = sequence['name'].rpartition('/')
        series = run.get_image_sequence(sequence['name'], Context({}))
        for step in series.data.indices_list():
            pictures[tag, int(i), step] += 1
    # Aim keeps the last value of a step.
    assert arrived == collections.Counter(set(scalars))
    assert pictures == images
