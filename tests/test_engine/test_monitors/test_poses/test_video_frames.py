# Copyright (c) OpenMMLab. All rights reserved.
"""Models whose input are several frames of a video, of which one is annotated.

MMPose has :obj:`PoseTrack18VideoDataset` for them, whose samples name several
files, and no config: neither its loader nor its data preprocessor take more
than one image. The smallest that does is here.
"""
import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from noisy_poses import topdown_cfg, warnings_of
from run_logs import read_run

from mmpose.datasets.transforms import LoadImage
from mmpose.engine.monitors.core.measurements import SuspectSamples
from mmpose.engine.monitors.poses.data import drawing_process
from mmpose.engine.monitors.poses.data.drawing_process import Job, draw
from mmpose.engine.monitors.poses.data.few_samples import choose_samples
from mmpose.engine.monitors.poses.data.input_statistics import \
    InputStatisticsMonitor
from mmpose.engine.monitors.poses.pictures.image_files import ImageFiles
from mmpose.engine.monitors.poses.pictures.sample_pictures import \
    SamplePictures
from mmpose.engine.monitors.poses.suspect_images import SuspectImageMonitor
from mmpose.models import PoseDataPreprocessor
from mmpose.models.backbones import ResNet
from mmpose.registry import DATASETS, MODELS, TRANSFORMS
from mmpose.utils import register_all_modules

register_all_modules()
SIZE, FRAMES = 120, 4
# Of each frame, blue first.
COLORS = np.array([(200, 90, 90), (90, 200, 90), (90, 90, 200),
                   (200, 200, 90)])


@TRANSFORMS.register_module(force=True)
class LoadFrames(LoadImage):
    """Loads all frames of a sample."""

    def transform(self, results):
        assert isinstance(results['img_path'], list)
        frames = [
            LoadImage.transform(self, dict(img_path=path))
            for path in results['img_path']
        ]
        return dict(
            frames[0], **results, img=[frame['img'] for frame in frames])


@MODELS.register_module(force=True)
class FramesPreprocessor(PoseDataPreprocessor):
    """Normalizes frames, shape (N, T, C, H, W)."""

    def forward(self, data, training=False):
        frames = [frame for sample in data['inputs'] for frame in sample]
        images = super().forward(dict(data, inputs=frames), training)
        shape = len(data['inputs']), -1, *images['inputs'].shape[1:]
        return dict(images, inputs=images['inputs'].view(shape))


@MODELS.register_module(force=True)
class FramesResNet(ResNet):

    def forward(self, x):
        return super().forward(x.flatten(1, 2))


def keypoints_of(frame):
    """Within the image, elsewhere in each frame."""
    return np.random.default_rng(frame).uniform(20, 100, (17, 2)).round()


class Identity(BaseModel):

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return inputs


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Frames in their colors, with a dark square on the nose."""
    folder = tmp_path_factory.mktemp('frames')
    (folder / 'video').mkdir()
    images, annotations = [], []
    for i, color in enumerate(COLORS):
        name = f'video/{i:06}.jpg'
        image = np.full((SIZE, SIZE, 3), color, np.uint8)
        points = keypoints_of(i)
        x, y = points[0].astype(int)
        image[y - 6:y + 7, x - 6:x + 7] = 0
        cv2.imwrite(str(folder / name), image)
        images.append(
            dict(
                id=i,
                frame_id=i,
                nframes=FRAMES,
                file_name=name,
                width=SIZE,
                height=SIZE))
        annotations.append(
            dict(
                id=10 + i,
                image_id=i,
                category_id=1,
                iscrowd=0,
                bbox=[10, 10, 100, 100],
                area=5000,
                num_keypoints=17,
                keypoints=np.column_stack([points,
                                           np.full(17, 2)]).ravel().tolist()))
    (folder / 'annotations.json').write_text(
        json.dumps(
            dict(
                images=images,
                annotations=annotations,
                categories=[dict(id=1, name='person')])))
    return folder


def config(folder, work_dir, hook):
    cfg = topdown_cfg(
        work_dir,
        dict(hook),
        '',
        val_evaluator=[dict(type='PCKAccuracy', thr=0.2),
                       dict(type='EPE')])
    for name in 'train', 'val':
        loader = cfg[f'{name}_dataloader']
        loader['dataset'].update(
            type='PoseTrack18VideoDataset',
            ann_file=str(folder / 'annotations.json'),
            data_prefix=dict(img=f'{folder}/'),
            frame_sampler_mode='fixed',
            frame_indices=[-1, 1],
            frame_weights=[.5, .5])
        loader['dataset']['pipeline'][0] = dict(type='LoadFrames')
        # Of the annotated one, so that its color can be told.
        loader['dataset']['pipeline'] = [
            step for step in loader['dataset']['pipeline']
            if step['type'] not in ('RandomFlip', 'RandomBBoxTransform')
        ]
    model = cfg['model']
    model['data_preprocessor'] = dict(
        type='FramesPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True)
    model['backbone'].update(type='FramesResNet', in_channels=9)
    if not hook:
        cfg['custom_hooks'] = []
    return cfg


@pytest.fixture(scope='module')
def trained(folder, tmp_path_factory):
    """A runner with the hook, its scenes with their input, and the weights
    that a training without the hook ends with."""
    scenes = []
    draw_scene = SamplePictures.draw

    def remember(self, scene, arrays):
        scenes.append((scene, np.array(arrays[0])))
        return draw_scene(self, scene, arrays)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SamplePictures, 'draw', remember)
        work_dir = tmp_path_factory.mktemp('run')
        everything = dict(
            preset='detailed',
            log_train_images=True,
            log_data=True,
            train_image_interval=1,
            strict=True)
        runner = Runner(**config(folder, work_dir, everything))
        runner.train()
    without = Runner(**config(folder, tmp_path_factory.mktemp('other'), {}))
    without.train()
    return runner, scenes, without.model.state_dict()


def test_the_annotated_frame_is_shown_under_its_name(trained):
    """The first of three, with its keypoints on it."""
    _, scenes, _ = trained
    shown = set()
    for scene, picture in scenes:
        # What is drawn on a file has only its path for a name.
        path, *number = scene.name.split('  ')
        frame = int(path[len('video/'):-len('.jpg')])
        assert number in ([], [f'sample {10 + frame}'])
        color = np.median(picture.reshape(3, -1), axis=1)
        assert np.abs(color - COLORS[frame][::-1]).max() < 12
        x, y = scene.truth[0, 0].round().astype(int)
        assert picture[:, y, x].max() < 60
        shown.add(('target' if 'step' in scene.caption else 'GT', frame))
    assert {('GT', i) for i in range(FRAMES)} < shown
    assert sum(kind == 'target' for kind, _ in shown) == 2


def test_it_trains_as_without_the_hook(trained):
    """P1, with all that the hook can do, and without a warning."""
    runner, _, without = trained
    state = runner.model.state_dict()
    assert all(torch.equal(state[name], without[name]) for name in without)
    assert not warnings_of(runner.work_dir)


def test_the_numbers_are_the_evaluators(trained):
    """P8."""
    runner, _, _ = trained
    events = read_run(runner.work_dir)
    names = runner.val_dataloader.dataset.metainfo['keypoint_name2id']
    for measure, metric in (('PCK@0.2', 'PCK'), ('EPE', 'EPE')):
        own = [
            events.Scalars(f'keypoints/{measure}/{name}')[-1].value
            for name in names
        ]
        evaluated = events.Scalars(f'val/{metric}')[-1].value
        assert np.mean(own) == pytest.approx(evaluated, rel=1e-5)


def test_the_statistics_are_those_of_all_frames():
    """Of a channel, and not of a frame."""
    monitor = InputStatisticsMonitor(1, strict=True)
    monitor.before_train(SimpleNamespace(model=Identity()))
    records = []
    monitor.emit = records.append
    frames = torch.rand(2, 5, 3, 16, 12, generator=torch.manual_seed(0))
    monitor._seen(1, None, (None, True), dict(inputs=frames))
    values = {scalar.tag: scalar.value for scalar in records[0].read()}
    assert len(values) == 6
    for channel in range(3):
        seen = frames[:, :, channel, ::4, ::4].numpy()
        assert values[f'data/input_mean/{channel}'] == pytest.approx(
            seen.mean(), rel=1e-5)
        assert values[f'data/input_std/{channel}'] == pytest.approx(
            seen.std(), rel=1e-4)


def built(folder):
    cfg = config(folder, '', {})['train_dataloader']['dataset']
    return DATASETS.build(cfg)


def test_what_the_pipeline_makes_is_the_annotated_frame(folder, monkeypatch):
    """The name was that of a list, and the frames no image."""
    sheets = []
    compose = drawing_process.sheet

    def remember(panels, when, name):
        sheets.append((panels, name))
        return compose(panels, when, name)

    monkeypatch.setattr(drawing_process, 'sheet', remember)
    dataset = built(folder)
    draw(
        Job(
            choose_samples(dataset, FRAMES), FRAMES, 1, None, [f'{folder}/'],
            'a pipeline'))
    assert len(sheets) == FRAMES
    for i, (panels, name) in enumerate(sheets):
        assert name == f'video/{i:06}.jpg  id {10 + i}'
        assert panels[0][0] == 'annotated, 17 keypoints'
        assert len(panels) == 2
        for _, picture in panels:
            color = np.median(picture.reshape(-1, 3), axis=0)
            assert np.abs(color - COLORS[i][::-1]).max() < 12


def test_a_frame_is_loaded_without_the_others(folder):
    """For a picture of an instance, by a transform that loads several."""
    image = ImageFiles(built(folder)).load(f'{folder}/video/000002.jpg')
    color = np.median(image.reshape(-1, 3), axis=0)
    assert np.abs(color - COLORS[2][::-1]).max() < 12


def test_the_samples_of_a_finding_are_found(folder):
    """By the first of their paths; a list of them could not be looked up."""
    monitor = SuspectImageMonitor(strict=True)
    monitor.writer = SimpleNamespace(listen=lambda *args: None)
    dataset = built(folder)
    monitor.before_train(
        SimpleNamespace(train_dataloader=SimpleNamespace(dataset=dataset)))
    info = dataset.get_data_info(1)
    sample = dict(img_path=info['img_path'], id=info['id'])
    image, = monitor._look(3, SuspectSamples(3, (sample, ))).read()
    picture, = image.pictures
    color = np.median(picture[-60:].reshape(-1, 3), axis=0)
    assert np.abs(color - COLORS[1][::-1]).max() < 12
