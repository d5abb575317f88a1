# Copyright (c) OpenMMLab. All rights reserved.
import functools
from collections import Counter
from typing import Dict, Iterable, List, Optional, Sequence

from ..core.arguments import Arguments
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import (bare_model, data_set, evaluation_step,
                                 has_ema_model)
from ..core.schedule import Interval, build_schedule, spread
from ..writers.record import IMAGE, Record
from .arguments import (KPT_THR, LOG_VAL_IMAGES, MAX_VAL_IMAGES,
                        VAL_IMAGE_INTERVAL)
from .model_kinds import is_bottom_up, lifts_poses
from .pictures.heatmaps import read_heatmap
from .pictures.model_inputs import (image_prefixes, make_visible, preprocess,
                                    read_input)
from .pictures.pose_targets import find_codec
from .pictures.sample_pictures import SamplePictures
from .pictures.scenes import Scene, sample_scene, scene_tensors
from .pose_samples import PoseSampleReader


@MONITORS.register_module()
class ValImageMonitor(Monitor):
    """Show predictions for some of the validation samples.

    =============== =========================================================
    ``val/images``  A picture for each sample: the model's input with the
                    ground truth; with the prediction, joined to the ground
                    truth; and with the heatmap, if the model returns it. The
                    instance is cut out; bottom-up models show the whole input
    =============== =========================================================

    What it tells: Whether the model generalizes. Good training pictures and
    bad validation pictures mean that the model is overfitted, or that the
    validation prepares its input differently: the input is the output of the
    data preprocessor, see :func:`make_visible`.

    The samples are the same in every validation. They are spread over the
    batches that are due, or over all if too few are due. With a detector's
    boxes, those of annotated instances come first, and the others are called
    false positives, unless there is a crowd or an instance without annotated
    keypoints, which is not evaluated. With an ``EMAHook`` the EMA model
    predicts, and the pictures say so.

    Args:
        interval (int | dict | Schedule): From which batches to take samples.
        max_images (int): The largest number of samples of a validation.
        kpt_thr (float): The score below which a keypoint is drawn hollow.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_VAL_IMAGES, )
    settings = dict(
        interval=VAL_IMAGE_INTERVAL,
        max_images=MAX_VAL_IMAGES,
        kpt_thr=KPT_THR)

    @classmethod
    def is_wanted(cls, given: Arguments) -> bool:
        return bool(super().is_wanted(given) and given.val_image_interval)

    def __init__(self,
                 interval: Interval,
                 max_images: int,
                 kpt_thr: float,
                 strict: bool = False) -> None:
        super().__init__(strict=strict)
        self._batches = build_schedule(interval)
        self._max_images = max_images
        self._kpt_thr = kpt_thr
        self._scenes: List[Scene] = []
        self._takes: Counter = Counter()
        self._dataset = None

    def after_val_iter(self, runner, batch_idx: int, data_batch,
                       outputs: Optional[Sequence]) -> None:
        if batch_idx == 0:
            self._begin(runner)
        count = self._takes[batch_idx]
        if count and outputs:
            self._take(runner, data_batch, outputs, count)

    def show(self, runner, batches: Sequence[tuple]) -> None:
        """Write pictures of some batches, now.

        Args:
            runner (Runner): The runner, outside of a validation.
            batches (Sequence[tuple[dict, Sequence]]): Of each batch what the
                data set gave and what the model returned.
        """
        self._begin(runner)
        if self._takes:  # Else nothing is shown.
            takes = spread(range(len(batches)), self._max_images)
            for i, (data_batch, outputs) in enumerate(batches):
                self._take(runner, data_batch, outputs, takes[i])
            self.after_val_epoch(runner, None)

    def _take(self, runner, data_batch, outputs: Sequence, count: int) -> None:
        """Keep some samples of a batch."""
        model = bare_model(runner.model)
        for i, sample in self._choose(outputs, min(count, len(outputs))):
            given = read_input(data_batch['inputs'], i, outputs[i],
                               self._prefixes)
            self._scenes.append(
                sample_scene(
                    sample,
                    given,
                    make_visible(preprocess(model, given)),
                    read_heatmap(outputs[i], self._codec),
                    whole=self._whole,
                    detected=outputs[i].gt_instances.get('bboxes'),
                    ignored=not sample.visible.any()
                    and self._reader.is_ignored(outputs[i])))

    def after_val_epoch(self, runner, metrics: Optional[Dict]) -> None:
        scenes, self._scenes = self._scenes, []
        if scenes:
            draw = functools.partial(self._pictures.images, 'val/images',
                                     scenes)
            self.emit(
                Record(
                    evaluation_step(runner), draw, scene_tensors(scenes),
                    IMAGE))

    def _begin(self, runner) -> None:
        self._scenes = []
        dataset = data_set(runner.val_dataloader)
        if dataset is self._dataset:
            return
        self._takes = Counter()
        model = bare_model(runner.model)
        if lifts_poses(model):
            return
        self._codec = find_codec(model)
        self._reader = PoseSampleReader(dataset, runner.val_evaluator)
        self._prefixes = image_prefixes(dataset)
        self._whole = is_bottom_up(model)
        self._pictures = SamplePictures(
            self._kpt_thr, averaged=has_ema_model(runner))
        every = range(len(runner.val_dataloader))
        due = [i for i in every if self._batches.is_due(i + 1)]
        if due and len(due) < self._max_images:
            due = every
        self._takes = spread(due, self._max_images)
        self._dataset = dataset

    def _choose(self, outputs: Sequence, count: int) -> Iterable[tuple]:
        """Choose samples of a batch, spread over it; annotated ones first.

        Yields:
            tuple[int, PoseSample]: Its index, and the sample.
        """
        chosen = set()
        for start in range(count):
            start = start * len(outputs) // count
            candidates = [(start + i) % len(outputs)
                          for i in range(len(outputs))]
            candidates = [i for i in candidates if i not in chosen]
            first = None
            for i in candidates:
                with self.guard:
                    sample = self._reader.read(outputs[i])
                    first = first or (i, sample)
                    if sample.visible.any():
                        first = i, sample
                        break
            if first is not None:
                chosen.add(first[0])
                yield first
