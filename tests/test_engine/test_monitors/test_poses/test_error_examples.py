# Copyright (c) OpenMMLab. All rights reserved.
"""The instances that are shown of each kind of error."""
import numpy as np
import pytest
from mmengine.runner import Runner
from noisy_poses import pictures, runner_cfg
from planted_errors import COCO, apart, instances_of
from run_logs import read_run

from mmpose.engine.monitors.poses.accuracy.data_set_accuracy import \
    DataSetAccuracy
from mmpose.engine.monitors.poses.diagnosis.diagnosis import Validation
from mmpose.engine.monitors.poses.diagnosis.error_examples import (
    error_examples, judge)
from mmpose.engine.monitors.writers.record import Image

MIRRORED = np.array(COCO['flip_indices'])
SIGMAS = np.array(COCO['sigmas'])
KINDS = ('jitter', 'inversion', 'swap', 'miss', 'not_found')


def planted():
    """People, four in each image, and who has which error.

    The second one of a kind has it at a single keypoint, so that it is less
    clear.
    """
    people = apart(64, 17)
    for person in people:
        person[2][:] = True
        person[4] = person[1].copy()
    who = {kind: (4 * i, 4 * i + 20) for i, kind in enumerate(KINDS)}
    for kind, (first, second) in who.items():
        for index, keypoints in ((first, slice(None)), (second, [5])):
            truth, predicted = people[index][1], people[index][4]
            if kind == 'jitter':
                # A similarity of 0.7.
                away = 2 * np.sqrt(2 * 400 * -np.log(.7)) * SIGMAS
                predicted[keypoints, 0] += away[keypoints]
            elif kind == 'inversion':
                predicted[keypoints] = truth[MIRRORED][keypoints]
            elif kind == 'swap':
                predicted[keypoints] = people[index + 1][1][keypoints]
            elif kind == 'miss':
                predicted[keypoints] = -3000
            else:
                people[index][4] = None
                people[second][2][5:] = False
    return people, who


class Drawing:
    """Stands in for the files and for what draws them."""

    def __init__(self, missing=()):
        self.missing = missing
        self.loaded = []

    def load(self, path):
        self.loaded.append(path)
        if path in self.missing:
            return None
        return np.zeros((20, 20, 3), np.uint8)

    def images(self, tag, scenes):
        yield Image(tag, [s for s in (scene() for scene in scenes) if s])


def examples(missing=()):
    people, who = planted()
    part = DataSetAccuracy(None, 17, COCO, SIGMAS)
    part.instances.merge(instances_of(people))
    part.instances.add(part.instances.batch().take(slice(0, 0)),
                       [(f'{i}.png', i) for i in range(16)])
    numbers = {key[1]: n for n, key in part.instances.images().items()}
    batch = part.instances.batch()
    # What instances_of() does not know: the path of each image.
    for i, person in enumerate(people):
        row = batch.ids.tolist().index(i)
        batch.images[row] = numbers[person[0]]
    order = np.argsort(batch.images, kind='stable')
    part.instances._batches = [batch.take(order)]
    drawing = Drawing(missing)
    validation = Validation([part], 1, 'epoch 1', False, 0.3, None, '',
                            drawing, (), drawing)
    found = {
        image.tag: image.pictures
        for image in error_examples([judge(part)], validation)
    }
    return people, who, found, drawing


@pytest.fixture(scope='module')
def shown():
    return examples()


@pytest.mark.parametrize('kind', KINDS)
def test_the_clearest_come_first(kind, shown):
    people, who, found, _ = shown
    scenes = found[f'errors/examples/{kind}']
    assert len(scenes) == 2
    expected = [people[i] for i in who[kind]]
    assert [scene.name
            for scene in scenes] == [f'{p[0]}.png' for p in expected]
    for scene, person in zip(scenes, expected):
        # All of the image, with the instance marked.
        assert len(scene.truth) == 4
        assert (scene.truth == np.float32(person[1])).all((1, 2)).any()
        assert scene.caption.startswith(kind.replace('_', ' '))
    if kind not in ('not_found', 'inversion'):
        assert scenes[0].caption == f'{kind}: nose, left_eye and 15 more'
    if kind != 'not_found':
        assert scenes[1].caption == f'{kind}: left_shoulder'


def test_images_are_loaded_when_they_are_drawn(shown):
    """P6: as many as are drawn."""
    assert len(shown[3].loaded) == 10


def test_an_image_that_cannot_be_read_costs_that_picture():
    people, who, found, _ = examples(missing=('0.png', ))
    scene, = found['errors/examples/jitter']
    assert scene.name == f'{people[who["jitter"][1]][0]}.png'


def test_nothing_is_shown_of_a_kind_that_does_not_occur(tmp_path):
    """A real run; its predictions are never on another instance."""
    cfg = runner_cfg(tmp_path, dict(log_val_images=False, hard_samples=0))
    cfg['train_cfg']['max_epochs'] = 1
    runner = Runner(**cfg)
    runner.train()
    events = read_run(runner.work_dir)
    tags = {
        tag
        for tag in events.Tags()['tensors']
        if tag.startswith('errors/examples/')
    }
    assert tags == {'errors/examples/jitter', 'errors/examples/miss'}
    assert len(pictures(events, 'errors/examples/miss')[1]) == 2
