# Copyright (c) OpenMMLab. All rights reserved.
import functools
import logging
from typing import Iterable, List, Optional, Tuple

from mmengine.logging import print_log
from torch import nn

from ..core.arguments import Arguments
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import bare_model, data_set, needs_all_ranks
from ..core.schedule import Interval
from ..writers.record import IMAGE, Record
from .activations import ActivationProbe
from .arguments import (KPT_THR, LOG_TRAIN_IMAGES, MAX_TRAIN_IMAGES,
                        TRAIN_IMAGE_INTERVAL)
from .heatmaps.heatmap_pictures import HeatmapPictures, MapSample
from .model_kinds import is_bottom_up, lifts_poses
from .pictures.fixed_samples import FixedSamples, Predicted
from .pictures.model_inputs import image_prefixes
from .pictures.sample_pictures import SamplePictures
from .pictures.scenes import Scene, error_caption, scene_tensors
from .pipelines import PipelineWatch


@MONITORS.register_module()
class TrainImageMonitor(Monitor):
    """Show predictions for a few training samples, always the same ones.

    ================= =======================================================
    ``train/images``  A picture for each sample: the model's input with the
                      target that the loss is computed from; with the
                      prediction, joined to the target; and with the heatmap,
                      if there is one
    ================= =======================================================

    What it tells: If the target does not lie on the subject, the annotations,
    the codec or an augmentation are wrong; look at that first. If the colours
    are not natural, the data preprocessor is wrong. Then see how the
    prediction approaches the target.

    The samples are the first ones of the first batch, augmented; after a
    switch of the pipeline a second set is shown beside them. The input is the
    output of the data preprocessor, see :func:`make_visible`. The target is
    decoded from the labels by the model's own codec. The prediction is the
    result of ``forward(mode='predict')`` in evaluation mode, at one scale and,
    for a top-down model, without ``flip_test``. The report says so if an
    activation of the model lets nothing through in it.

    Args:
        interval (int | dict | Schedule): At which iterations.
        max_images (int): The number of samples of a set.
        kpt_thr (float): The score below which a keypoint is drawn hollow.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_TRAIN_IMAGES, )
    settings = dict(
        interval=TRAIN_IMAGE_INTERVAL,
        max_images=MAX_TRAIN_IMAGES,
        kpt_thr=KPT_THR)
    parts = (HeatmapPictures, )

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
        # Each with the text that its captions add.
        self._sets: List[Tuple[FixedSamples, str]] = []
        self._pipeline = PipelineWatch()
        self._said_shapes = False
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

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        if self._off:
            return
        dataset = data_set(runner.train_dataloader)
        if not self._pipeline.has_changed(dataset):
            return
        self._off = True  # A failure would be repeated.
        note = f', pipeline of step {runner.iter + 1:,}' if self._sets else ''
        meta = getattr(dataset, 'metainfo', {})
        samples = FixedSamples(
            bare_model(runner.model), data_batch, self._max_images, meta,
            image_prefixes(dataset))
        with self.guard:
            samples.decode_targets(data_batch['data_samples'])
        self._pictures = SamplePictures(self._kpt_thr, 'target')
        # The first set, and the set after the last switch.
        self._sets = [*self._sets[:1], (samples, note)]
        self._meta = meta
        self._off = False

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        step = runner.iter + 1
        if self._off or not self.is_due(step):
            return
        model = bare_model(runner.model)
        with ActivationProbe(model) as probe:
            predicted = [samples.predict(model) for samples, _ in self._sets]
        scenes = [
            scene
            for (samples, note), of_samples in zip(self._sets, predicted)
            for scene in _scenes(samples, of_samples, f'step {step:,}{note}',
                                 self._meta)
        ]
        activations = probe.record(
            step, sum(samples.num_batches for samples, _ in self._sets))
        if activations is not None:
            self.emit(activations)
        draw = functools.partial(self._pictures.images, 'train/images', scenes)
        self.emit(Record(step, draw, scene_tensors(scenes), IMAGE))
        for record in self._heatmap_records(step, model, predicted[0]):
            self.emit(record)

    def _heatmap_records(self, step: int, model: nn.Module,
                         predicted: List[Predicted]) -> Iterable[Record]:
        """Return what shows the heatmaps of the first set."""
        samples, _ = self._sets[0]
        kept = [
            MapSample(name, target, one.maps) for name, target, one in zip(
                samples.names, samples.target_maps, predicted)
            if target is not None and one.maps
        ]
        shapes = [[tuple(one.shape) for one in maps] for sample in kept[:1]
                  for maps in (sample.predicted, sample.target.maps)]
        if shapes and shapes[0] != shapes[1]:
            if not self._said_shapes:
                self._said_shapes = True
                print_log(
                    'EnhancedTensorBoardHook writes no train/heatmaps and no '
                    f'heatmap/*: the model returns heatmaps of {shapes[0]}, '
                    f'its targets have {shapes[1]}.',
                    logger='current',
                    level=logging.INFO)
            return ()
        pictures = HeatmapPictures(samples.loss, self._meta,
                                   samples.inputs[0].shape[-2:],
                                   not is_bottom_up(model))
        return pictures.records(step, kept)


def _scenes(samples: FixedSamples, predicted: List[Predicted], when: str,
            meta: dict) -> Iterable[Scene]:
    for name, size, target, one in zip(samples.names, samples.sizes,
                                       samples.targets, predicted):
        keypoints = one.keypoints
        truth, visible = target or (keypoints[:0], one.scores[:0] > 0)
        error = error_caption(truth, visible, keypoints, size, 'input')
        yield Scene('   '.join(filter(None, [when, error])), name, keypoints,
                    one.scores, truth, visible, one.seen, meta, one.heatmap)
