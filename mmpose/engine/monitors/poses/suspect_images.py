# Copyright (c) OpenMMLab. All rights reserved.
import functools
from typing import Iterator, Optional, Tuple

import numpy as np
from mmengine.dataset import BaseDataset

from ..core.measurements import SuspectSamples
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import data_set, data_set_parts
from ..writers.record import IMAGE, Image, Record
from .arguments import LOG_TRAIN_IMAGES
from .pictures.image_files import ImageFiles
from .pictures.model_inputs import image_path, image_prefixes
from .pictures.panels import compose, view
from .pictures.pose_painter import PosePainter
from .pictures.scenes import file_scene
from .pose_samples import PoseSample

_MAX_IMAGES = 8


@MONITORS.register_module()
class SuspectImageMonitor(Monitor):
    """Show the training samples of a finding.

    ====================== ==================================================
    ``health/suspects``    Up to eight samples of the batch of a finding with
                           their annotations, read again from the file before
                           any augmentation
    ====================== ==================================================

    What it tells: Whether the annotation is wrong, or the image. The report
    names the finding and its step; ``suspects.json`` lists the whole batch.

    Args:
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_TRAIN_IMAGES, )

    def before_train(self, runner) -> None:
        self._dataset = data_set(runner.train_dataloader)
        self._files = ImageFiles(self._dataset)
        self._prefixes = image_prefixes(self._dataset)
        self.writer.listen(SuspectSamples, self._look, self.guard)

    def _look(self, step: int, suspects: SuspectSamples) -> Optional[Record]:
        """Return the pictures; called in the writer's thread."""
        return Record(
            step, functools.partial(self._images, suspects), kind=IMAGE)

    def _images(self, suspects: SuspectSamples) -> Iterator[Image]:
        samples = {
            _key(sample): sample
            for sample in suspects.samples if image_path(sample)
        }
        pictures = []
        for key, annotation, meta in self._annotations() if samples else ():
            sample = samples.pop(key, None)
            if sample is None:
                continue
            picture = self._picture(sample, annotation, meta,
                                    f'step {suspects.step:,}')
            if picture is not None:
                pictures.append(picture)
            if not samples or len(pictures) == _MAX_IMAGES:
                break
        if pictures:
            yield Image('health/suspects', pictures, photo=True)

    def _picture(self, sample: dict, annotation: dict, meta: dict,
                 when: str) -> Optional[np.ndarray]:
        keypoints = np.asarray(annotation['keypoints'], float)[..., :2]
        visible = np.asarray(annotation['keypoints_visible'])
        if visible.ndim == 3:
            visible = visible[..., 0]
        visible = (visible > 0) & np.isfinite(keypoints).all(-1)
        boxes = np.asarray(annotation['bbox'], float).reshape(-1, 4)
        broken = sample.get('nonfinite')
        scene = file_scene(
            PoseSample(
                image_path(sample), keypoints, visible, boxes,
                np.zeros(len(boxes)), keypoints[:0], visible[:0].astype(float),
                meta), self._files, self._prefixes,
            f'{when}, {broken} not finite' if broken else when)
        if scene is None:
            return None
        *_, (_, picture) = scene.seen.pictures()
        part = view(picture, scene.box)
        painter = PosePainter(meta, kpt_thr=0)
        return compose([(f'GT, {visible.sum()} of {visible.size} keypoints',
                         painter.draw(part, scene.truth, scene.visible))],
                       scene.caption, f'{scene.name}  id {sample.get("id")}')

    def _annotations(self) -> Iterator[Tuple[tuple, dict, dict]]:
        """Yield the key, the annotation and the metainfo of each sample."""
        for part in data_set_parts(self._dataset):
            if isinstance(part, BaseDataset) and not hasattr(part, 'datasets'):
                for i in range(len(part)):
                    # The ``get_data_info`` of MMPose's data sets copies all
                    # metainfo, and that of a CombinedDataset runs the
                    # pipeline, which would change the random numbers.
                    info = BaseDataset.get_data_info(part, i)
                    yield _key(info), info, part.metainfo


def _key(sample: dict) -> tuple:
    return image_path(sample), tuple(np.ravel(sample.get('id')))
