# Copyright (c) OpenMMLab. All rights reserved.
import functools
import logging
from typing import Iterable, List, Optional

import numpy as np
from mmengine.logging import print_log

from ..core.arguments import Arguments
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import bare_model, data_set, needs_all_ranks
from ..core.schedule import Interval
from ..writers.record import IMAGE, Image, Record
from .arguments import (KPT_THR, LOG_TRAIN_IMAGES, MAX_TRAIN_IMAGES,
                        TRAIN_IMAGE_INTERVAL)
from .fixed_samples import FixedSamples
from .heatmaps import Heatmaps
from .model_kinds import lifts_poses
from .pose_pictures import PANEL_HEIGHT, PosePainter, compose, heat, view
from .sample_pictures import mean_error


@MONITORS.register_module()
class TrainImageMonitor(Monitor):
    """What the model makes of a few training samples, always the same ones.

    ================= =======================================================
    ``train/images``  A picture for each sample: the input with the target
                      that the loss is computed from, beside it what the model
                      predicts, and the heatmap where there is one
    ================= =======================================================

    What it tells: The target must lie on the person: else the annotations, the
    codec or an augmentation are wrong, and nothing else is worth looking at
    before. Then, how the prediction comes closer to it.

    The samples are the first ones of the first batch, as the model received
    them, augmented. The target is decoded from the labels by the model's own
    codec. The prediction is by the model's own ``predict``, in evaluation
    mode, that of a top-down model without ``flip_test``; see
    :func:`undisturbed`.

    Args:
        interval (int | dict | Schedule): At which iterations.
        max_images (int): The number of samples.
        kpt_thr (float): The score from which on a keypoint is drawn.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_TRAIN_IMAGES, )
    settings = dict(
        interval=TRAIN_IMAGE_INTERVAL,
        max_images=MAX_TRAIN_IMAGES,
        kpt_thr=KPT_THR)

    @classmethod
    def is_wanted(cls, given: Arguments) -> bool:
        return bool(super().is_wanted(given) and given.train_image_interval)

    def __init__(self,
                 interval: Interval,
                 max_images: int,
                 kpt_thr: float,
                 strict: bool = False) -> None:
        super().__init__(interval, strict)
        self._max_images = max_images
        self._kpt_thr = kpt_thr

    def before_train(self, runner) -> None:
        self._probe: Optional[FixedSamples] = None
        # A lifter has no images.
        self._off = not self._max_images or lifts_poses(
            bare_model(runner.model))
        if needs_all_ranks(runner.model):
            self._off = True
            print_log(
                f'{type(self).__name__}: a model that is sharded, or wrapped '
                'part by part, or by another than DDP, may predict on all '
                'ranks together only, so there are no training images.',
                logger='current',
                level=logging.INFO)
        self._meta = getattr(data_set(runner.train_dataloader), 'metainfo', {})
        self._painter = PosePainter(self._meta, self._kpt_thr)

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        if self._off or self._probe is not None:
            return
        self._off = True  # If it fails, it would again.
        probe = FixedSamples(
            bare_model(runner.model), data_batch, self._max_images,
            _loads_rgb(runner), self._meta)
        with self.guard:
            probe.decode_targets(data_batch['data_samples'])
        self._probe, self._off = probe, False

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        step = runner.iter + 1
        if self._off or not self.is_due(step):
            return
        people, heatmaps = self._probe.predict(bare_model(runner.model))
        draw = functools.partial(self._draw, self._probe, step, people,
                                 heatmaps)
        self.emit(Record(step, draw, heatmaps.tensors, IMAGE))

    def _draw(self, probe: 'FixedSamples', step: int, people: List[tuple],
              heatmaps: 'Heatmaps', *arrays: np.ndarray) -> Iterable[Image]:
        pictures = []
        for i, ((keypoints, scores),
                heatmap) in enumerate(zip(people, heatmaps.drawn(arrays))):
            picture = probe.pixels[i].picture()
            height, width = picture.shape[:2]
            part = view(picture, (0, 0, width, height),
                        min(round(PANEL_HEIGHT * width / height), 512))
            panels = [('prediction',
                       self._painter.people(part, keypoints, scores))]
            caption = f'step {step:,}'
            if probe.targets[i] is not None:
                target, visible = probe.targets[i]
                panels.insert(0, ('target',
                                  self._painter.people(part, target, visible)))
                error = mean_error(target, visible, keypoints)
                if np.isfinite(error):
                    caption += f'   error {error:.1f} px'
            if heatmap is not None:
                values, place = heatmap
                panels.append((f'heatmap, max {values.max():.2g}',
                               heat(part, values, *place)))
            pictures.append(compose(panels, caption))
        yield Image('train/images', pictures)


def _loads_rgb(runner) -> bool:
    """Whether the data preprocessor says that it is given RGB."""
    cfg = runner.cfg
    model = cfg.get('model') or {}
    preprocessor = model.get('data_preprocessor') or cfg.get(
        'data_preprocessor') or {}
    return bool(preprocessor.get('rgb_to_bgr'))
