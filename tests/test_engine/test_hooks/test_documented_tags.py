# Copyright (c) OpenMMLab. All rights reserved.
import re
from pathlib import Path

import mmcv
import numpy as np
from make_doc_tables import all_cells
from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator

from mmpose.registry import DATASETS

PAGE = Path(__file__).resolve().parents[3] / 'docs' / 'en' / 'tags.md'
# Written for one of TensorBoard's pages, under a name that nobody sees.
INTERNAL = ('_hparams_/', 'custom_scalars__config__')
# What takes a GPU, several processes, workers, a pipeline, another run, mixed
# precision, a lifter, several data sets, an illness, several param groups, a
# config with a base, annotations in memory, a hundred iterations or a full
# queue.
ELSEWHERE = ('compare/', 'system/gpu_', 'health/amp/', 'health/nonfinite_',
             'health/no_gradient/', 'health/not_in_optimizer/',
             'health/frozen_head', 'health/unchanged_weights/',
             'health/zero_learning_rate/', 'health/finding/',
             'health/loss/spike_', 'train/<setting>/', 'telemetry/dropped/',
             'time/slowest_rank', 'val/skeletons/', 'keypoints/MPJPE/',
             'keypoints/<data set>/', 'instances/OKS/<data set>',
             'errors/false_positives', 'health/suspects', 'val/suspect_labels',
             'data/overview', 'data/augmentation', 'train_as_val/',
             'keypoints/train_as_val/', 'instances/count/<data set>',
             'data/transforms', 'run/profile', 'system/workers_memory_mib',
             'run/config_changes')


def test_what_is_written_is_described_and_what_is_described_is_written(
        train, read_events, monkeypatch, tmp_path):
    give_images_and_sigmas(monkeypatch, tmp_path)
    optim_wrapper = dict(
        optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
        clip_grad=dict(max_norm=1.))
    stock = all_tags(read_events(train(optim_wrapper=optim_wrapper)))
    runner = train(
        hook=dict(
            preset='detailed', grad_norm_interval=1, val_image_interval=1),
        optim_wrapper=optim_wrapper)
    runner.test()
    written = {
        tag
        for tag in all_tags(read_events(runner)) - stock
        if not tag.startswith(INTERNAL)
    }
    described = [tag.strip('`') for tag, in all_cells(PAGE, 1) if '/' in tag]
    missing = [
        tag for tag in written
        if not any(is_like(tag, pattern) for pattern in described)
    ]
    assert not missing
    gone = [
        pattern for pattern in described
        if not pattern.startswith(ELSEWHERE) and not any(
            is_like(tag, pattern) for tag in written)
    ]
    assert not gone


def test_by_default_there_are_no_more_curves_than_are_looked_at(
        train, read_events, monkeypatch, tmp_path):
    """Of a ResNet-18 on 17 keypoints; the rest with ``log_details``."""
    give_images_and_sigmas(monkeypatch, tmp_path)
    runner = train(dict(grad_norm_interval=1, log_error_kinds=True))
    tags = read_events(runner).Tags()['scalars']
    assert 'keypoints/OKS/keypoint_0' in tags
    # Those of LoggerHook are among them, those of CocoMetric are 20 more.
    assert len(tags) <= 118
    for detail in ('telemetry/time_percent/', 'telemetry/interval/',
                   'keypoints/PCK@', 'keypoints/normalized_error/',
                   'errors/miss/', 'errors/good', 'health/loss/',
                   'telemetry/queue_depth', 'train/momentum/'):
        assert not [tag for tag in tags if tag.startswith(detail)]


def give_images_and_sigmas(monkeypatch, folder: Path) -> None:
    """Let the small data set have what a real one has."""
    image = str(folder / 'image.png')
    mmcv.imwrite(np.zeros((64, 64, 3), np.uint8), image)
    kind = DATASETS.get('TinyPoseDataset')
    get = kind.__getitem__

    def get_with_image(self, index):
        item = get(self, index)
        item['data_samples'].set_metainfo(dict(img_path=image))
        return item

    monkeypatch.setattr(kind, '__getitem__', get_with_image)
    monkeypatch.setattr(
        kind,
        'metainfo',
        dict(
            dataset_name='tiny',
            num_keypoints=17,
            # The nose, then pairs.
            flip_indices=[0, *(i + 2 * (i % 2) - 1 for i in range(1, 17))],
            sigmas=np.full(17, 0.1, np.float32)))


def all_tags(events: EventAccumulator) -> set:
    """The tags of all kinds, as the user sees them."""
    return {
        re.sub('/text_summary$', '', tag)
        for tags in events.Tags().values() if isinstance(tags, list)
        for tag in tags
    }


def is_like(tag: str, pattern: str) -> bool:
    """Whether a tag is one that a pattern with ``<name>`` stands for."""
    literal = re.split('<[^>]+>', pattern)
    return re.fullmatch('.+'.join(map(re.escape, literal)), tag) is not None
