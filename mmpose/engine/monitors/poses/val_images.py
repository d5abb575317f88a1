# Copyright (c) OpenMMLab. All rights reserved.
import functools
import math
from typing import Dict, Iterable, List, Optional, Sequence, Union

import numpy as np

from ..core.arguments import Arguments
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import (bare_model, data_set, evaluation_step,
                                 is_averaged)
from ..core.schedule import Interval, build_schedule
from ..writers.record import IMAGE, Image, Record
from .arguments import (BACKEND_ARGS, KPT_THR, LOG_VAL_IMAGES, MAX_VAL_IMAGES,
                        VAL_IMAGE_INTERVAL)
from .heatmaps import Heatmaps
from .model_kinds import is_bottom_up, lifts_poses
from .pose_samples import PoseSample, PoseSampleReader
from .pose_targets import find_codec
from .sample_pictures import ImageLoader, SamplePictures, mean_error


@MONITORS.register_module()
class ValImageMonitor(Monitor):
    """What the model predicts for some of the validation samples.

    =============== =========================================================
    ``val/images``  A picture for each sample: the annotated people beside the
                    predicted ones, and the heatmap where the model returns
                    it; cut out around the person, for bottom-up models the
                    whole image
    =============== =========================================================

    What it tells: Whether what was learnt holds for other people. Good
    training pictures beside bad validation pictures are a model that knows its
    training set by heart, or a validation that prepares its input differently.

    The same samples in every validation, spread over the first of its batches
    and those that are due. With an ``EMAHook`` they are predicted by the
    averaged model, and the pictures say so.

    Args:
        interval (int | dict | Schedule): Of which batches samples are taken.
        max_images (int): The largest number of samples of a validation.
        kpt_thr (float): The score from which on a keypoint is drawn.
        images (ImageLoader | dict, optional): What loads the images of
            samples, or its ``backend_args``. Defaults to None: as the data
            set says.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_VAL_IMAGES, )
    settings = dict(
        interval=VAL_IMAGE_INTERVAL,
        max_images=MAX_VAL_IMAGES,
        kpt_thr=KPT_THR,
        images=BACKEND_ARGS)

    @classmethod
    def is_wanted(cls, given: Arguments) -> bool:
        return bool(super().is_wanted(given) and given.val_image_interval)

    def __init__(self,
                 interval: Interval,
                 max_images: int,
                 kpt_thr: float,
                 images: Union[ImageLoader, dict, None] = None,
                 strict: bool = False) -> None:
        super().__init__(strict=strict)
        self._batches = build_schedule(interval)
        self._max_images = max_images
        self._kpt_thr = kpt_thr
        self._images = (
            images if isinstance(images, ImageLoader) else ImageLoader(images))
        self._samples: List[PoseSample] = []
        self._heatmaps = Heatmaps()
        self._takes: Dict[int, int] = {}
        self._dataset = None

    def after_val_iter(self, runner, batch_idx: int, data_batch,
                       outputs: Optional[Sequence]) -> None:
        if batch_idx == 0:
            self._begin(runner)
        for result in (outputs or ())[:self._takes.get(batch_idx, 0)]:
            self._samples.append(self._reader.read(result))
            self._heatmaps.add(result, self._codec, result)

    def after_val_epoch(self, runner, metrics: Optional[Dict]) -> None:
        samples, self._samples = self._samples, []
        heatmaps, self._heatmaps = self._heatmaps, Heatmaps()
        if samples:
            draw = functools.partial(self._draw, self._pictures, samples,
                                     heatmaps)
            self.emit(
                Record(evaluation_step(runner), draw, heatmaps.tensors, IMAGE))

    def _begin(self, runner) -> None:
        self._samples, self._heatmaps = [], Heatmaps()
        dataset = data_set(runner.val_dataloader)
        if dataset is self._dataset:
            return
        self._takes = {}
        model = bare_model(runner.model)
        if lifts_poses(model):
            return
        self._codec = find_codec(model)
        self._reader = PoseSampleReader(dataset, runner.val_evaluator)
        self._pictures = SamplePictures(
            dataset,
            self._images,
            self._kpt_thr,
            whole=is_bottom_up(model),
            averaged=is_averaged(runner))
        due = [
            i for i in range(len(runner.val_dataloader))
            if self._batches.is_due(i + 1)
        ]
        self._takes = _spread(due, self._max_images)
        self._dataset = dataset

    @staticmethod
    def _draw(pictures: SamplePictures, samples: List[PoseSample],
              heatmaps: 'Heatmaps', *arrays: np.ndarray) -> Iterable[Image]:
        drawn = []
        for sample, heatmap in zip(samples, heatmaps.drawn(arrays)):
            error = mean_error(sample.truth, sample.visible, sample.predicted)
            caption = f'error {error:.1f} px' if np.isfinite(error) else ''
            drawn.append(
                pictures.draw(sample, caption, *(heatmap or (None, None))))
        yield Image('val/images', [d for d in drawn if d is not None])


def _spread(batches: List[int], count: int) -> Dict[int, int]:
    """How many samples to take of which batch: ``count`` in all, if it can."""
    ends = [
        math.ceil(i * count / max(len(batches), 1))
        for i in range(len(batches) + 1)
    ]
    return {
        batch: end - begin
        for batch, begin, end in zip(batches, ends, ends[1:])
    }
