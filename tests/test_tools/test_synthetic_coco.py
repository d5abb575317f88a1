# Copyright (c) OpenMMLab. All rights reserved.
import importlib.util
import json
import random
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.registry import init_default_scope
from xtcocotools.coco import COCO

from mmpose.datasets import CocoDataset

TOOL = (
    Path(__file__).resolve().parents[2] /
    'tools/dataset_generators/synthetic_coco.py')
SIZE = (128, 96)


def load_tool():
    spec = importlib.util.spec_from_file_location('synthetic_coco', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load_tool()


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """A small data set; tests only read it."""
    root = tmp_path_factory.mktemp('synthetic')
    assert tool.generate_dataset(root, 12, 3, SIZE) == ['train', 'val']
    return root


@pytest.fixture(scope='module')
def samples():
    return [
        tool.draw_sample(np.random.default_rng(seed), SIZE)
        for seed in range(25)
    ]


def read_files(root):
    return {
        path.relative_to(root): path.read_bytes()
        for path in root.rglob('*') if path.is_file()
    }


def place_figure(seed, x=150, heading=None):
    """A figure that stands in an image of 300 x 300 with nothing else.

    ``heading`` fixes the direction it looks in.
    """
    rng = np.random.default_rng(seed)
    if heading is not None:
        tool._sample_heading = lambda _: heading
    try:
        figure = tool._sample_figure(rng)
    finally:
        tool._sample_heading = ORIGINAL_HEADING
    figure.update(
        scale=100, layer=tool.LAYER, ground=250, origin=np.array((x, 150)))
    canvas = tool._Canvas((300, 300), np.array((0, 0, -1)))
    tool._draw_figure(canvas, figure, 0)
    return canvas, figure


ORIGINAL_HEADING = tool._sample_heading


@pytest.mark.parametrize('split, number', [('train', 12), ('val', 3)])
def test_mmpose_can_use_it(root, split, number):
    init_default_scope('mmpose')
    ann_file = root / 'annotations' / f'person_keypoints_{split}.json'
    coco = COCO(str(ann_file))
    dataset = CocoDataset(
        ann_file=str(ann_file), data_prefix=dict(img=str(root / split)))

    # MMPose leaves out annotations that it finds invalid.
    assert len(dataset) == len(coco.anns) >= number
    assert {ann['image_id'] for ann in coco.anns.values()} == set(coco.imgs)
    assert len(coco.imgs) == number
    for info in coco.imgs.values():
        image = cv2.imread(str(root / split / info['file_name']))
        assert image.shape == (info['height'], info['width'], 3)
        assert (info['width'], info['height']) == SIZE
    category = coco.cats[1]
    meta = dataset.metainfo
    assert category['name'] == 'person'
    assert dict(enumerate(category['keypoints'])) == meta['keypoint_id2name']
    assert {frozenset((i - 1, j - 1))
            for i, j in category['skeleton']
            } == {frozenset(link)
                  for link in meta['skeleton_links']}


def test_annotations_match_the_pixels(root):
    """The file's outlines, boxes and keypoints against one another."""
    coco = COCO(str(root / 'annotations/person_keypoints_train.json'))
    for ann in coco.anns.values():
        mask = coco.annToMask(ann)
        x, y, width, height = ann['bbox']
        # Polygons are rounded, and cover what is seen through the arms.
        grown = cv2.dilate(mask, np.ones((3, 3)))
        assert grown.sum() == grown[max(y - 1, 0):y + height + 1,
                                    max(x - 1, 0):x + width + 1].sum()
        assert ann['area'] <= grown.sum()
        keypoints = np.array(ann['keypoints']).reshape(17, 3)
        assert ann['num_keypoints'] == (keypoints[:, 2] > 0).sum() >= 6
        for x, y, visible in keypoints:
            if visible == 2:
                assert grown[int(y + 0.5), int(x + 0.5)]


def test_samples(samples):
    seen = set()
    for image, people in samples:
        assert image.shape == (SIZE[1], SIZE[0], 3)
        assert image.dtype == np.uint8
        assert 1 <= len(people) <= 3
        assert sum(person['mask'].astype(int) for person in people).max() == 1
        for person in people:
            mask, keypoints = person['mask'], person['keypoints']
            seen.update(keypoints[:, 2])
            x, y, visible = keypoints.T
            assert not keypoints[visible == 0].any()
            assert np.all((0 <= x) & (x <= SIZE[0] - 1))
            assert np.all((0 <= y) & (y <= SIZE[1] - 1))
            on = visible == 2
            assert mask[np.int32(y[on] + 0.5), np.int32(x[on] + 0.5)].all()

            ann = tool._to_coco(person)
            rows, columns = np.nonzero(mask)
            assert ann['area'] == len(rows)
            assert ann['bbox'] == [
                columns.min(),
                rows.min(),
                np.ptp(columns) + 1,
                np.ptp(rows) + 1
            ]
    assert seen == {0, 1, 2}


def test_keypoint_outside_of_the_image():
    for seed in range(5):
        canvas, figure = place_figure(seed, x=295)
        keypoints = tool._annotate(canvas, figure, 0)['keypoints']
        whole = tool._annotate(*place_figure(seed, x=150), 0)['keypoints']
        assert np.all(whole[:, 2] > 0)
        outside = whole[:, 0] + 145 > 299
        assert outside.any() and not outside.all()
        np.testing.assert_array_equal(keypoints[:, 2] == 0, outside)
        np.testing.assert_allclose(keypoints[~outside, :2],
                                   whole[~outside, :2] + (145, 0))


def test_hidden_keypoints():
    names = tool.KEYPOINTS
    for seed in range(5):
        canvas, figure = place_figure(seed, heading=0)
        front = tool._annotate(canvas, figure, 0)['keypoints']
        back = tool._annotate(*place_figure(seed, heading=180), 0)['keypoints']
        assert front[names.index('nose'), 2] == 2
        assert back[names.index('nose'), 2] == 1
        left, right = (
            names.index(f'{side}_hip') for side in ('left', 'right'))
        # Who looks at the viewer has the left side on the image's right.
        assert front[left, 0] > front[right, 0]
        assert back[left, 0] < back[right, 0]

        # Behind a ball as large as the image, and before one.
        for depth, seen in ((-1e4, False), (1e5, True)):
            ball = np.array((150, 150, depth))
            canvas.draw_limb((ball, ball), (400, 400), np.zeros(3))
            person = tool._annotate(canvas, figure, 0)
            assert person['mask'].any() == seen
            assert (2 in person['keypoints'][:, 2]) == seen
            canvas, figure = place_figure(seed, heading=0)


def test_seed(root, tmp_path):
    random_state, numpy_state = random.getstate(), np.random.get_state()
    tool.generate_dataset(tmp_path / 'same', 12, 3, SIZE)
    tool.generate_dataset(tmp_path / 'other', 12, 3, SIZE, seed=1)
    assert random.getstate() == random_state
    np.testing.assert_equal(np.random.get_state(), numpy_state)

    files = read_files(root)
    assert len(files) == 12 + 3 + 2
    assert read_files(tmp_path / 'same') == files
    other = read_files(tmp_path / 'other')
    assert other.keys() == files.keys()
    assert not any(other[name] == files[name] for name in files)
    # No image of one split is in the other, either.
    assert len(set(files.values())) == len(files)


def test_draws_only_what_is_missing(tmp_path):
    arguments = (tmp_path, 2, 1, SIZE)
    tool.generate_dataset(*arguments)
    files = read_files(tmp_path)
    times = [path.stat().st_mtime_ns for path in tmp_path.rglob('*')]
    assert tool.generate_dataset(*arguments) == []
    assert times == [path.stat().st_mtime_ns for path in tmp_path.rglob('*')]

    (tmp_path / 'val/000000000001.jpg').unlink()
    assert tool.generate_dataset(*arguments) == ['val']
    assert read_files(tmp_path) == files
    assert tool.generate_dataset(tmp_path, 3, 1, SIZE) == ['train']
    assert tool.generate_dataset(
        tmp_path, 3, 1, SIZE, seed=5) == ['train', 'val']


def test_interrupted_run_looks_unfinished(tmp_path, monkeypatch):
    tool.generate_dataset(tmp_path, 2, 1, SIZE)
    draw, calls = tool.draw_sample, []

    def draw_once(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return draw(*args)

    monkeypatch.setattr(tool, 'draw_sample', draw_once)
    with pytest.raises(KeyboardInterrupt):
        tool.generate_dataset(tmp_path, 3, 1, SIZE)
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / 'annotations').iterdir()
            ] == ['person_keypoints_val.json']
    assert tool.generate_dataset(tmp_path, 3, 1, SIZE) == ['train']


@pytest.mark.parametrize('content', ['{"info": {}, "images": []}', '[]', '?'])
def test_keeps_other_data(tmp_path, content):
    path = tmp_path / 'annotations/person_keypoints_val.json'
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(FileExistsError, match=path.name):
        tool.generate_dataset(tmp_path, 1, 1, SIZE)
    assert read_files(tmp_path) == {
        path.relative_to(tmp_path): content.encode()
    }


@pytest.mark.parametrize('arguments, named', [
    (dict(num_train=0), 'num_train .* got 0'),
    (dict(num_val=-3), 'num_val .* got -3'),
    (dict(seed=-1), 'seed .* got -1'),
    (dict(image_size=(63, 100)), 'image_size .* got 63 100'),
    (dict(image_size=(100, 2049)), 'image_size .* got 100 2049'),
    (dict(image_size=(100, 301)), 'image_size .* got 100 301'),
])
def test_bad_arguments(tmp_path, arguments, named):
    with pytest.raises(ValueError, match=named):
        tool.generate_dataset(tmp_path / 'new', **arguments)
    assert not (tmp_path / 'new').exists()


def test_command_line(tmp_path, monkeypatch, capsys):

    def call(*arguments):
        monkeypatch.setattr(sys, 'argv', [TOOL.name, *arguments])
        tool.main()

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        call('--num-val', '0')
    assert error.value.code == 2
    assert 'num_val must be 1 to 1000000, got 0' in capsys.readouterr().err

    call('--out', 'new', '--num-train', '1', '--num-val', '1', '--image-size',
         '70', '80', '--seed', '3')
    tool.generate_dataset(tmp_path / 'same', 1, 1, (70, 80), 3)
    assert read_files(tmp_path / 'new') == read_files(tmp_path / 'same')
    content = json.loads(
        (tmp_path / 'new/annotations/person_keypoints_val.json').read_text())
    assert content['images'][0]['width'] == 70
