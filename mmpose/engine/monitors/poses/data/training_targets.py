# Copyright (c) OpenMMLab. All rights reserved.
import functools
import logging
from collections import deque
from typing import Iterator, List

from mmengine.logging import print_log

from ...core.arguments import GRAD_NORM_INTERVAL, LOG_DETAILS, Arguments
from ...core.monitor import Chart, Monitor
from ...core.registry import MONITORS
from ...core.runner_parts import bare_model, data_set
from ...core.schedule import Interval
from ...writers.record import Record, Scalar
from ..arguments import LOG_DATA
from ..model_kinds import lifts_poses
from ..pipelines import PipelineWatch, mixes_images
from .lost_keypoints import count_keypoints

# A curve is over so many measured batches.
_BATCHES = 20


@MONITORS.register_module()
class TargetMonitor(Monitor):
    """Log how many keypoints the pipeline of the training loses.

    ======================== ================================================
    ``data/keypoints_lost``  Fraction of the annotated keypoints that do not
                             count in the loss, with ``log_details``
    ``data/empty_samples``   Fraction of the samples in which no keypoint
                             counts in the loss, with ``log_details``
    ======================== ================================================

    What it tells: A crop, a rotation or a half body moves keypoints out of
    the input, and they are not trained. Many lost keypoints mean an
    augmentation that is too strong, or a padding that is too small. An empty
    sample costs time and teaches nothing.

    Counted in the batches of the logging steps, over the last 20 of them since
    the pipeline was switched. Keypoints of weight 0 in the data set are not
    counted. A line of the log says where it cannot be measured: if images are
    mixed, a sample does not tell what was annotated in them.

    Args:
        interval (int | dict | Schedule): At which iterations.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    # Both are needed.
    switches = (LOG_DETAILS, )
    settings = dict(interval=GRAD_NORM_INTERVAL)
    charts = (Chart('Data', 'keypoints lost in the pipeline',
                    'data/(keypoints_lost|empty_samples)$'), )

    @classmethod
    def is_wanted(cls, given: Arguments) -> bool:
        return bool(super().is_wanted(given) and getattr(given, LOG_DATA.name))

    def __init__(self, interval: Interval, strict: bool = False) -> None:
        super().__init__(interval, strict)
        self._off = False

    def before_train(self, runner) -> None:
        self._batches: deque = deque(maxlen=_BATCHES)
        self._pipeline = PipelineWatch()
        self._mixes = False
        self._off = lifts_poses(bare_model(runner.model))
        if self._off:
            _say('a lifting model is trained on all keypoints')

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        step = runner.iter + 1
        if self._off or not self.is_due(step):
            return
        dataset = runner.train_dataloader.dataset
        if self._pipeline.has_changed(dataset):
            self._batches.clear()
            self._mixes = mixes_images(dataset)
            if self._mixes:  # A later pipeline may not.
                _say('the pipeline mixes images')
        if self._mixes:
            return
        if not isinstance(data_batch,
                          dict) or not data_batch.get('data_samples'):
            self._off = True
            _say('the batches have no data_samples')
            return
        meta = getattr(data_set(runner.train_dataloader), 'metainfo', {})
        weights = meta.get('dataset_keypoint_weights')
        counts = [
            count_keypoints(sample, weights)
            for sample in data_batch['data_samples']
        ]
        if None in counts:
            self._off = True
            _say('the samples do not tell which keypoints were annotated')
            return
        self._batches.append((len(counts), *map(sum, zip(*counts))))
        self.emit(
            Record(step, functools.partial(_scalars, list(self._batches))))


def _scalars(batches: List[tuple]) -> Iterator[Scalar]:
    """Yield the curves, in the writer's thread."""
    number, annotated, kept, empty = map(sum, zip(*batches))
    if annotated:
        yield Scalar('data/keypoints_lost', (annotated - kept) / annotated)
    yield Scalar('data/empty_samples', empty / number)


def _say(reason: str) -> None:
    print_log(
        f'EnhancedTensorBoardHook writes no data/keypoints_lost: {reason}.',
        logger='current',
        level=logging.INFO)
