# Copyright (c) OpenMMLab. All rights reserved.
import glob
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator

from mmpose.engine.hooks import EnhancedTensorBoardHook

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ROOT / 'tools/train.py'
DEMO = 'configs/enhanced_tensorboard/td-hm_res18_1xb8-12e_synthetic-128x96.py'
UPSTREAM = ('mmpose::body_2d_keypoint/topdown_heatmap/coco/'
            'td-hm_res50_8xb64-210e_coco-256x192.py')


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


train = load(TRAIN)


def run(*args, cwd=ROOT, script=TRAIN, **env):
    return subprocess.run([sys.executable,
                           str(script), *map(str, args)],
                          cwd=str(cwd),
                          env={
                              **os.environ, 'OMP_NUM_THREADS': '1',
                              **env
                          },
                          stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT,
                          universal_newlines=True)


def tags(work_dir):
    path, = glob.glob(f'{work_dir}/*/vis_data/events.out.tfevents.*')
    return EventAccumulator(path).Reload()


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    """Four training and two validation images of the demo's data set."""
    root = tmp_path_factory.mktemp('data') / 'synthetic_coco'
    generator = load(ROOT / 'tools/dataset_generators/synthetic_coco.py')
    generator.generate_dataset(root, num_train=4, num_val=2)
    return root


def short(root):
    """Options that make any top-down config on COCO a run of seconds."""
    options = dict(
        train_cfg=dict(max_epochs=1, val_interval=1),
        val_evaluator=dict(
            ann_file=f'{root}/annotations/person_keypoints_val.json'))
    for split in ('train', 'val'):
        options[f'{split}_dataloader'] = dict(
            batch_size=2,
            num_workers=0,
            persistent_workers=False,
            dataset=dict(
                data_root=f'{root}/',
                ann_file=f'annotations/person_keypoints_{split}.json',
                data_prefix=dict(img=f'{split}/')))
    options['val_dataloader']['dataset']['bbox_file'] = None
    return options


def flat(options, prefix=''):
    for key, value in options.items():
        if isinstance(value, dict):
            yield from flat(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}={value}'


# The command line


@pytest.mark.parametrize('args, expected', [
    (['c.py'], (None, ['c.py'])),
    (['c.py', '--enhanced-tensorboard'], ('', ['c.py'])),
    (['c.py', '--enhanced-tensorboard', 'fast'], ('fast', ['c.py'])),
    (['c.py', '--enhanced-tensorboard=fast'], ('fast', ['c.py'])),
    (['--enhanced-tensorboard', 'c.py'], ('', ['c.py'])),
    (['--enhanced-tensorboard', 'fast', 'c.py', '--amp'],
     ('fast', ['c.py', '--amp'])),
    (['c.py', '--enhanced-tensorboard', '--cfg-options', 'a=1', 'b=2'],
     ('', ['c.py', '--cfg-options', 'a=1', 'b=2'])),
])
def test_the_option_is_taken_out(args, expected):
    assert train.split_args(args) == expected


def test_an_unknown_preset_is_named_with_the_known_ones():
    result = run('c.py', '--enhanced-tensorboard', 'quick')
    assert result.returncode != 0
    assert result.stdout.strip().count('\n') == 0
    for word in ("'quick'", 'fast', 'balanced', 'detailed'):
        assert word in result.stdout


def test_help_is_that_of_both(tmp_path):
    result = run('--help', cwd=tmp_path)
    assert result.returncode == 0
    for option in ('--enhanced-tensorboard', '--cfg-options', '--resume'):
        assert option in result.stdout


def test_without_mmpose_one_line_says_what_to_do(tmp_path):
    """Also where a bare folder ``mmpose`` lies on the path."""
    (tmp_path / 'mmpose').mkdir()
    result = subprocess.run([sys.executable, '-S', '-E',
                             str(TRAIN), 'c.py'],
                            cwd=str(tmp_path),
                            stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT,
                            universal_newlines=True)
    assert result.returncode != 0
    assert 'MMPose is not installed' in result.stdout
    assert result.stdout.strip().count('\n') == 0


def test_without_the_patch_one_line_says_what_to_do(monkeypatch):
    for module in train.MODULES:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit, match='migrate_hook.py') as info:
        train.add_hook_to_every_runner('')
    assert '\n' not in str(info.value)


# The config


@pytest.mark.parametrize('hooks', [None, [], [dict(type='SyncBuffersHook')]])
def test_the_hook_is_added_to_the_others(hooks):
    cfg = Config(dict(custom_hooks=hooks) if hooks is not None else dict())
    message = train.add_hook(cfg, 'fast')
    assert cfg.custom_hooks[:-1] == (hooks or [])
    added = HOOKS.build(cfg.custom_hooks[-1])
    assert isinstance(added, EnhancedTensorBoardHook)
    assert added.grad_norm_interval == 500
    assert 'added' in message


@pytest.mark.parametrize('kind', [
    'EnhancedTensorBoardHook', 'mmpose.EnhancedTensorBoardHook',
    EnhancedTensorBoardHook
])
@pytest.mark.parametrize('place', ['custom_hooks', 'default_hooks'])
def test_a_config_that_has_the_hook_wins(kind, place):
    hook = dict(type=kind, grad_norm_interval=7)
    hooks = dict(mine=hook) if place == 'default_hooks' else [hook]
    cfg = Config({place: hooks})
    before = cfg.copy()
    message = train.add_hook(cfg, 'fast')
    assert cfg._cfg_dict == before._cfg_dict
    assert 'already' in message


@pytest.mark.parametrize('preset, given, expected', [
    ('fast', dict(val_image_interval=3), 500),
    ('', dict(val_image_interval=3), 100),
    ('fast', dict(val_image_interval=3, grad_norm_interval=7), 7),
    ('', dict(val_image_interval=3, preset='fast'), 500),
])
def test_arguments_on_the_command_line(preset, given, expected):
    """``--cfg-options`` has made a dict without a type of them."""
    cfg = Config(dict(default_hooks=dict(timer=dict(type='IterTimerHook'))))
    cfg.merge_from_dict({
        f'default_hooks.enhanced_tensorboard.{name}': value
        for name, value in given.items()
    })
    message = train.add_hook(cfg, preset)
    assert not cfg.get('custom_hooks')
    hook = HOOKS.build(cfg.default_hooks.enhanced_tensorboard)
    assert isinstance(hook, EnhancedTensorBoardHook)
    assert hook.grad_norm_interval == expected
    assert hook.val_image_interval == 3
    assert "'val_image_interval': 3" in message
    # As MMEngine saves it.
    assert Config.fromstring(cfg.pretty_text, '.py').default_hooks


def test_a_built_hook_is_recognised():
    cfg = Config(dict())
    cfg.custom_hooks = [EnhancedTensorBoardHook()]
    assert 'already' in train.add_hook(cfg, '')


# Real runs


@pytest.fixture(scope='module')
def demo(data_root, tmp_path_factory):
    """The output and the events of an epoch of the demo."""
    work_dir = tmp_path_factory.mktemp('demo')
    result = run(DEMO, '--work-dir', work_dir, '--cfg-options',
                 *flat(short(data_root)))
    assert result.returncode == 0, result.stdout[-3000:]
    return result.stdout, tags(work_dir)


def test_the_demo_config_runs(demo):
    output, events = demo
    norms = events.Scalars('train/gradient_norm/global')
    assert norms and all(0 < e.value < float('inf') for e in norms)
    assert 'val/coco/AP' in events.Tags()['scalars']
    assert '0 failures' in output


def test_the_demo_takes_less_than_10_megabytes(demo):
    """All its pictures 8, if there were as many as there may be."""
    _, events = demo
    cfg = Config.fromfile(ROOT / DEMO)
    hook = HOOKS.build(cfg.default_hooks.enhanced_tensorboard)
    iters = 1320  # Of its 12 epochs on 500 images.
    validations = cfg.train_cfg.max_epochs // cfg.train_cfg.val_interval
    total = 0
    for tag in events.Tags()['images'] + events.Tags()['tensors']:
        pictures = [
            len(picture) for event in events.Tensors(tag)
            for picture in event.tensor_proto.string_val[2:]
        ] if events.SummaryMetadata(
            tag).plugin_data.plugin_name == 'images' else []
        if not pictures:
            continue
        count, steps = 1, validations
        if tag == 'train/images':
            count = hook.max_train_images
            steps = 1 + iters // hook.train_image_interval
        elif tag.startswith('errors/examples/'):
            count = 2
        elif tag.startswith('val/'):
            count = dict(
                hard_samples=hook.hard_samples).get(tag[len('val/'):],
                                                    hook.max_val_images)
        total += steps * count * sum(pictures) / len(pictures)
    assert 1e6 < total < 8e6


def test_the_flag_puts_the_hook_into_an_upstream_config(data_root, tmp_path):
    """A config that knows nothing of the hook, and has no TensorBoard."""
    config = tmp_path / 'upstream.py'
    config.write_text(f"_base_ = ['{UPSTREAM}']\n")
    options = short(data_root)
    options['model'] = dict(
        backbone=dict(depth=18, init_cfg=None), head=dict(in_channels=512))
    result = run(
        config,
        '--enhanced-tensorboard',
        'detailed',
        '--work-dir',
        tmp_path / 'run',
        '--cfg-options',
        *flat(options),
        cwd=tmp_path)
    assert result.returncode == 0, result.stdout[-3000:]
    assert '--enhanced-tensorboard: added' in result.stdout
    events = tags(tmp_path / 'run')
    environment, = events.Tensors('run/environment/text_summary')
    command = environment.tensor_proto.string_val[0].decode()
    assert f'train.py {config} --enhanced-tensorboard detailed' in command
    tags_written = events.Tags()
    assert 'train/gradient_norm/global' in tags_written['scalars']
    assert 'loss' in tags_written['scalars']
    # 30 groups, by the preset.
    groups = [
        tag for tag in tags_written['histograms'] if tag.startswith('weights/')
    ]
    assert 20 < len(groups) <= 30


@pytest.mark.parametrize('preset', ['fast', 'balanced', 'detailed'])
def test_a_preset_is_added_to_an_upstream_config(tmp_path, preset):
    """The documented form: no hook that the config has is lost."""
    config = tmp_path / 'mine.py'
    config.write_text(f"""
_base_ = ['{UPSTREAM}', 'mmpose::_base_/enhanced_tensorboard/{preset}.py']
default_hooks = dict(enhanced_tensorboard=_base_.enhanced_tensorboard)
""")
    cfg = Config.fromfile(str(config))
    built = HOOKS.build(cfg.default_hooks.enhanced_tensorboard)
    assert isinstance(built, EnhancedTensorBoardHook)
    assert built.preset == preset
    assert [hook.type for hook in cfg.custom_hooks] == ['SyncBuffersHook']
    assert cfg.default_hooks.checkpoint.save_best == 'coco/AP'
    assert 'logger' in cfg.default_hooks


@pytest.mark.parametrize('launcher, variables, speaks', [
    ('none', dict(), True),
    ('pytorch', dict(RANK='0', SLURM_PROCID='1'), True),
    ('pytorch', dict(RANK='1', SLURM_PROCID='0'), False),
    ('slurm', dict(SLURM_PROCID='0'), True),
    ('slurm', dict(SLURM_PROCID='3'), False),
    ('mpi', dict(OMPI_COMM_WORLD_RANK='0', SLURM_PROCID='1'), True),
    ('mpi', dict(OMPI_COMM_WORLD_RANK='2'), False),
    ('none', dict(SLURM_PROCID='3'), True),
])
def test_only_the_first_process_speaks(launcher, variables, speaks,
                                       monkeypatch, capsys):
    """Tasks of srun without a launcher are trainings of their own."""
    for name in train.RANKS.values():
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    built = []
    monkeypatch.setattr(Runner, 'from_cfg',
                        classmethod(lambda cls, cfg: built.append(cfg)))
    train.change_every_config(lambda cfg: 'said')
    Runner.from_cfg(dict(launcher=launcher))
    assert built == [dict(launcher=launcher)]
    assert capsys.readouterr().out == 'said\n' * speaks


@pytest.fixture
def started(tmp_path):
    """A function that runs a script with stand-ins for what it starts."""
    for name in ('python', 'srun'):
        stand_in = tmp_path / name
        stand_in.write_text(f'#!/bin/sh\nprintf "%s\\n" {name} "$@"\n')
        stand_in.chmod(0o755)

    def started(script, *args, **variables):
        env = dict(
            os.environ, PATH=f'{tmp_path}:{os.environ["PATH"]}', **variables)
        result = subprocess.run([str(ROOT / 'tools' / script), *args],
                                env=env,
                                stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT,
                                universal_newlines=True)
        return result.returncode, result.stdout.splitlines()

    return started


def test_dist_train(started):
    code, words = started(
        'dist_train.sh',
        'a config.py',
        '2',
        '--cfg-options',
        'a=1 b',
        PORT='29501')
    script = str(ROOT / 'tools' / 'train.py')
    assert code == 0 and words[:3] == ['python', '-m', 'torch.distributed.run']
    assert '--nproc_per_node=2' in words and '--master_port=29501' in words
    assert words[words.index(script):] == [
        script, 'a config.py', '--launcher', 'pytorch',
        '--enhanced-tensorboard', 'balanced', '--cfg-options', 'a=1 b'
    ]


def test_slurm_train(started):
    code, words = started(
        'slurm_train.sh',
        'gpu',
        'a job',
        'config.py',
        'my work',
        '--resume',
        GPUS='4',
        GPUS_PER_NODE='2',
        SRUN_ARGS='--qos=low --mem=8G',
        PRESET='fast')
    script = str(ROOT / 'tools' / 'train.py')
    assert code == 0 and words[:3] == [
        'srun', '--partition=gpu', '--job-name=a job'
    ]
    for word in ('--ntasks=4', '--ntasks-per-node=2', '--gres=gpu:2',
                 '--qos=low', '--mem=8G'):
        assert word in words
    assert words[words.index('python'):] == [
        'python', '-u', script, 'config.py', '--work-dir=my work',
        '--launcher=slurm', '--enhanced-tensorboard', 'fast', '--resume'
    ]


@pytest.mark.parametrize('script, args', [('dist_train.sh', ['a.py']),
                                          ('slurm_train.sh', ['a', 'b', 'c'])])
def test_too_few_arguments(script, args, started):
    code, words = started(script, *args)
    assert code == 2 and len(words) == 1 and words[0].startswith('usage: ')
