# Copyright (c) OpenMMLab. All rights reserved.
import copy
import functools
import logging
import math
import pickle
from contextlib import contextmanager
from typing import (Dict, Iterable, Iterator, List, Optional, Sequence, Tuple,
                    Union)

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmpose.structures import PoseDataSample
from ..core.arguments import Arguments
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import (bare_model, data_set, evaluation_step,
                                 is_averaged, needs_all_ranks)
from ..core.schedule import Interval, build_schedule
from ..core.undisturbed import undisturbed
from ..writers.dropping_queue import IMAGE
from ..writers.record import Image, Record
from .arguments import (BACKEND_ARGS, KPT_THR, LOG_TRAIN_IMAGES,
                        LOG_VAL_IMAGES, MAX_TRAIN_IMAGES, MAX_VAL_IMAGES,
                        TRAIN_IMAGE_INTERVAL, VAL_IMAGE_INTERVAL)
from .input_pixels import input_pixels
from .model_kinds import is_bottom_up, is_top_down, lifts_poses
from .pose_pictures import PANEL_HEIGHT, PosePainter, compose, heat, view
from .pose_samples import PoseSample, PoseSampleReader, predictions
from .pose_targets import decode_target, find_codec
from .sample_pictures import (HeatmapPlace, ImageLoader, SamplePictures,
                              heatmap_of, heatmap_place)


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
        self._probe: Optional[_Probe] = None
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
        probe = _Probe(
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

    def _draw(self, probe: '_Probe', step: int, people: List[tuple],
              heatmaps: '_Heatmaps', *arrays: np.ndarray) -> Iterable[Image]:
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
                error = _mean_error(target, visible, keypoints)
                if np.isfinite(error):
                    caption += f'   error {error:.1f} px'
            if heatmap is not None:
                values, place = heatmap
                panels.append((f'heatmap, max {values.max():.2g}',
                               heat(part, values, *place)))
            pictures.append(compose(panels, caption))
        yield Image('train/images', pictures)


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
        self._heatmaps = _Heatmaps()
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
        heatmaps, self._heatmaps = self._heatmaps, _Heatmaps()
        if samples:
            draw = functools.partial(self._draw, self._pictures, samples,
                                     heatmaps)
            self.emit(
                Record(evaluation_step(runner), draw, heatmaps.tensors, IMAGE))

    def _begin(self, runner) -> None:
        self._samples, self._heatmaps = [], _Heatmaps()
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
              heatmaps: '_Heatmaps', *arrays: np.ndarray) -> Iterable[Image]:
        drawn = []
        for sample, heatmap in zip(samples, heatmaps.drawn(arrays)):
            error = _mean_error(sample.truth, sample.visible, sample.predicted)
            caption = f'error {error:.1f} px' if np.isfinite(error) else ''
            drawn.append(
                pictures.draw(sample, caption, *(heatmap or (None, None))))
        yield Image('val/images', [d for d in drawn if d is not None])


class _Heatmaps:
    """The heatmaps of samples, on their way to the thread that draws.

    Attributes:
        tensors (list[Tensor]): What of them has to come to the host.
    """

    def __init__(self) -> None:
        self.tensors: List[Tensor] = []
        self._heatmaps: List[Optional[tuple]] = []

    def add(self, result, codec, sample) -> None:
        """Add what a model returned for a sample, maybe none."""
        heatmap = heatmap_of(result, codec)
        if isinstance(heatmap, Tensor):
            self.tensors.append(heatmap)
        self._heatmaps.append(None if heatmap is None else (
            heatmap, heatmap_place(heatmap, codec, sample)))

    def drawn(
        self, arrays: Sequence[np.ndarray]
    ) -> Iterator[Optional[Tuple[np.ndarray, HeatmapPlace]]]:
        """For each sample the heatmap, shape (h, w), and where it lies.

        Args:
            arrays (Sequence[np.ndarray]): What came of ``tensors``.
        """
        arrays = iter(arrays)
        for item in self._heatmaps:
            if item is None:
                yield None
                continue
            heatmap, place = item
            yield (next(arrays) if isinstance(heatmap, Tensor) else
                   heatmap.largest(), place)


class _Probe:
    """The first samples of a batch, to be predicted again and again.

    Args:
        model (nn.Module): The model without a wrapper.
        data_batch (dict): A batch as the data loader gives it; shares no
            memory with the probe.
        count (int): The number of samples.
        is_rgb (bool): Whether the images are RGB, not BGR.
        meta (dict): The data set's ``metainfo``.

    Attributes:
        pixels (list[InputPixels]): The inputs.
        targets (list): For each sample :func:`decode_target`'s.
    """

    def __init__(self, model: nn.Module, data_batch: dict, count: int,
                 is_rgb: bool, meta: dict) -> None:
        inputs = data_batch['inputs'][:count]
        self.pixels = input_pixels(inputs, model.data_preprocessor, is_rgb)
        self._samples = [
            _in_input(sample, pixels.pixels.shape[1:], meta)
            for sample, pixels in zip(data_batch['data_samples'], self.pixels)
        ]
        # A prediction may change its samples, and each is given new ones. To
        # copy them takes longer.
        self._pickled = list(map(pickle.dumps, self._samples))
        self.targets: List[Optional[Tuple[np.ndarray, np.ndarray]]] = [
            None for _ in self._samples
        ]
        self._codec = find_codec(model)
        self._is_stacked = isinstance(inputs, Tensor)
        # Most bottom-up heads predict one image at a time. Those with a vector
        # for each axis make a heatmap of each keypoint at several times the
        # input's size: of a whole body's, a quarter of a gigabyte.
        self._batch_size = len(self._samples)
        if is_bottom_up(model) or hasattr(self._codec, 'simcc_split_ratio'):
            self._batch_size = 1

    def decode_targets(self, samples: Sequence[PoseDataSample]) -> None:
        """Make keypoints of the labels, which are not kept."""
        self.targets = [
            decode_target(self._codec, sample)
            for sample, _ in zip(samples, self._samples)
        ]

    def predict(self, model: nn.Module) -> Tuple[List[tuple], _Heatmaps]:
        """Let the model predict; nothing of it is changed.

        Returns:
            tuple[list[tuple], _Heatmaps]: For each sample the keypoints in the
            input's pixels, shape (M, K, 2), with their scores, shape (M, K);
            and the heatmaps.
        """
        people, heatmaps = [], _Heatmaps()
        with undisturbed(model), _everything_returned(model):
            for i in range(0, len(self._samples), self._batch_size):
                batch = slice(i, i + self._batch_size)
                inputs = [pixels.as_input() for pixels in self.pixels[batch]]
                data = dict(
                    inputs=torch.stack(inputs) if self._is_stacked else inputs,
                    data_samples=list(map(pickle.loads, self._pickled[batch])))
                data = model.data_preprocessor(data, False)
                # Read at once, so that nothing large is kept.
                for sample, result in zip(self._samples[batch],
                                          model.predict(**data)):
                    people.append(predictions(result.pred_instances))
                    heatmaps.add(result, self._codec, sample)
        return people, heatmaps


@contextmanager
def _everything_returned(model: nn.Module) -> Iterator[None]:
    """Have the model return its heatmaps, and all keypoints it is trained on.

    Trained on several data sets, it may be tested on the keypoints of one. A
    top-down model predicts what it sees, without the mean with what it makes
    of the mirrored input, which takes as long again; some bottom-up heads
    cannot do without.
    """
    test_cfg = model.test_cfg
    model.test_cfg = copy.copy(test_cfg or {})
    model.test_cfg['output_heatmaps'] = True
    if is_top_down(model):
        model.test_cfg['flip_test'] = False
    model.test_cfg.pop('output_keypoint_indices', None)
    try:
        yield
    finally:
        model.test_cfg = test_cfg


def _in_input(sample: PoseDataSample, shape: Tuple[int, int],
              meta: dict) -> PoseDataSample:
    """A copy without labels, whose prediction is in the input's pixels.

    Models turn their predictions back into the image by where the input was
    cut out. Here the input is the image.
    """
    # A pipeline for training need not hand on what only a prediction needs.
    metainfo = {
        name: meta[name]
        for name in ('flip_indices', 'skeleton_links') if name in meta
    }
    metainfo.update(sample.metainfo)
    metainfo.pop('raw_ann_info', None)
    metainfo = copy.deepcopy(metainfo)
    size = np.array(shape[::-1])
    metainfo.update(
        img_shape=tuple(shape),
        ori_shape=tuple(shape),
        input_size=tuple(size),
        input_center=size / 2,
        input_scale=size)
    bare = PoseDataSample(metainfo=metainfo)
    bare.gt_instances = copy.deepcopy(sample.gt_instances)
    # Nor the box, which a prediction is given: here it is all of the input.
    count = len(bare.gt_instances) or 1
    for name, value in (('bboxes', (0, 0, *size)), ('bbox_scores', 1)):
        if name not in bare.gt_instances:
            values = np.array([value] * count, np.float32)
            bare.gt_instances.set_field(values, name)
    return bare


def _loads_rgb(runner) -> bool:
    """Whether the data preprocessor says that it is given RGB."""
    cfg = runner.cfg
    model = cfg.get('model') or {}
    preprocessor = model.get('data_preprocessor') or cfg.get(
        'data_preprocessor') or {}
    return bool(preprocessor.get('rgb_to_bgr'))


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


def _mean_error(truth: np.ndarray, visible: np.ndarray,
                predicted: np.ndarray) -> float:
    """Mean distance to the nearest predicted person's keypoints, in pixels."""
    if truth.shape[1] != predicted.shape[1]:
        return math.nan
    # Untrained, a model may predict what overflows, or is no number.
    distances = np.nan_to_num(
        np.linalg.norm(truth[:, None] - predicted.astype(float), axis=-1),
        nan=np.inf)
    counts = visible.sum(-1)
    if not distances.size or not counts.any():
        return math.nan
    sums = np.where(visible[:, None], distances, 0).sum(-1)
    return sums.min(1).sum() / counts.sum()
