# Copyright (c) OpenMMLab. All rights reserved.
import functools
import logging
import re
from typing import Dict, Iterator, List, Optional, Sequence

import numpy as np
from mmengine.logging import print_log

from ..core.arguments import Arguments
from ..core.monitor import Chart, Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import (bare_model, data_set, evaluation_step,
                                 needs_all_ranks, own_samples)
from ..core.schedule import Interval, build_schedule, spread
from ..writers.record import IMAGE, LAYER_SCALAR, Image, Record, Value
from .accuracy.evaluator_measures import EvaluatorMeasures, Sums, add_sums
from .accuracy.keypoint_curves import measured_curves
from .arguments import (LOG_KEYPOINTS, LOG_TRAIN_IMAGES, LOG_VAL_IMAGES,
                        MAX_TRAIN_IMAGES, MAX_VAL_IMAGES, TRAIN_IMAGE_INTERVAL,
                        VAL_IMAGE_INTERVAL)
from .lifted_poses import LiftedPose, LiftingProbe, joint_errors, middle_pose
from .model_kinds import lifts_poses
from .pictures.skeletons_3d import draw_skeletons, skeleton_mesh

_MAX_MESHES = 4
# The data sets of MMPose whose unit is the metre, by their names.
_IN_METRES = ('h36m', 'h3wb')
# The color of joints without a bone, and of bones without a color.
_COLOR = (51, 153, 255)


@MONITORS.register_module()
class LiftingMonitor(Monitor):
    """Show how well a model lifts 2D poses to 3D.

    It does nothing unless the model is a :obj:`PoseLifter`.

    =============================== ===========================================
    ``train/images``                Prediction and target from two sides, for a
                                    few training samples, always the same ones
    ``val/images``                  The same for some of the validation samples
    ``val/skeletons/<i>``           The first four of those, to rotate in 3D
    ``keypoints/MPJPE/<joint>``     Mean per-joint position error of one joint:
                                    its mean distance to the visible ground
                                    truth over the whole validation, in the
                                    unit of the data (metres in Human3.6M and
                                    H3WB). The evaluator's value where it
                                    measures it
    ``keypoints/<measure>/<joint>`` The same after the alignment of the
                                    evaluator: P-MPJPE, N-MPJPE. See
                                    :class:`EvaluatorMeasures`
    =============================== ===========================================

    What it tells: Which joints are lifted badly. A pose that is right as the
    camera sees it and wrong from the side has its error in the depth.

    The training samples are the first ones of the first batch, augmented.
    Their target is the label, which the loss is computed from, decoded by the
    model. The prediction is that of the model's own ``predict``. The middle
    pose of a sequence is drawn. Its caption has the error in mm, where the
    unit of the data set is known, and the number of predicted joints outside
    of the picture.

    With more than 30 joints, the errors are the means over body parts.

    The errors are summed over all ranks. Samples that a sampler repeats to
    give all ranks the same number count once.

    Args:
        train_interval (int | dict | Schedule, optional): At which iterations
            to draw training samples. None: never.
        val_interval (int | dict | Schedule, optional): From which validation
            batches to draw samples. None: from none.
        max_train_images (int): The number of training samples.
        max_val_images (int): The largest number of samples of a validation.
        log_joint_errors (bool): Whether to log the errors of the joints.
            Defaults to True.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_TRAIN_IMAGES, LOG_VAL_IMAGES, LOG_KEYPOINTS)
    settings = dict(
        train_interval=TRAIN_IMAGE_INTERVAL,
        val_interval=VAL_IMAGE_INTERVAL,
        max_train_images=MAX_TRAIN_IMAGES,
        max_val_images=MAX_VAL_IMAGES,
        log_joint_errors=LOG_KEYPOINTS)
    charts = (Chart('Keypoints', 'MPJPE', 'keypoints/MPJPE/'), )

    @classmethod
    def settings_from(cls, given: Arguments) -> dict:
        settings = super().settings_from(given)
        if not given.log_train_images:
            settings['train_interval'] = None
        if not given.log_val_images:
            settings['val_interval'] = None
        return settings

    def charts_of(self, runner) -> Sequence[Chart]:
        if not self._log_joint_errors or not _lifts(runner):
            return ()
        evaluator = getattr(
            getattr(runner, 'val_loop', None), 'evaluator', None)
        return self.charts + tuple(
            Chart('Keypoints', measure, f'keypoints/{re.escape(measure)}/')
            for measure in EvaluatorMeasures(evaluator).names
            if measure != 'MPJPE')

    def __init__(self,
                 train_interval: Optional[Interval],
                 val_interval: Optional[Interval],
                 max_train_images: int,
                 max_val_images: int,
                 log_joint_errors: bool = True,
                 strict: bool = False) -> None:
        super().__init__(train_interval, strict)
        self._batches = (None if val_interval is None else
                         build_schedule(val_interval))
        self._max_train_images = max_train_images
        self._max_val_images = max_val_images
        self._log_joint_errors = log_joint_errors
        self._sums: Optional[Sums] = {}
        self._poses: List[LiftedPose] = []

    def is_on_every_rank(self, runner) -> bool:
        return self._log_joint_errors and _lifts(runner)

    def before_train(self, runner) -> None:
        self._probe: Optional[LiftingProbe] = None
        self._draws = (
            self.schedule is not None and self._max_train_images > 0
            and self.writer is not None and _lifts(runner))
        if self._draws and needs_all_ranks(runner.model):
            self._draws = False
            print_log(
                f'{type(self).__name__}: a model that is sharded, or wrapped '
                'part by part, or by another than DDP, may predict on all '
                'ranks together only, so there are no training images.',
                logger='current',
                level=logging.INFO)
        if self._draws:
            self._painter = _Painter(data_set(runner.train_dataloader))

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        if self._draws and self._probe is None:
            self._draws = False  # A failure would be repeated.
            self._probe = LiftingProbe(data_batch, self._max_train_images)
            self._draws = True

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        step = runner.iter + 1
        if not self._draws or not self.is_due(step):
            return
        poses = self._probe.predict(bare_model(runner.model))
        draw = functools.partial(self._painter.draw, 'train/images', poses,
                                 f'step {step:,}   ')
        self.emit(Record(step, draw, kind=IMAGE))

    def after_val_iter(self, runner, batch_idx: int, data_batch,
                       outputs: Optional[Sequence]) -> None:
        if batch_idx == 0:
            self._begin(runner)
        if self._takes is None:
            return
        sums, self._sums = self._sums, None
        if sums is not None:  # None after a batch that could not be read.
            own = max(self._own_samples - self._seen, 0)
            self._evaluated.read(outputs, own)
            if own and 'MPJPE' not in self._evaluated.names:
                errors = sum(map(joint_errors, outputs[:own]))
                add_sums(sums, {(None, 'MPJPE'): errors})
            self._seen += len(outputs)
            self._sums = sums
        count = min(self._takes[batch_idx], len(outputs))
        self._poses += [
            middle_pose(outputs[i * len(outputs) // count])
            for i in range(count)
        ]

    def rank_results(self) -> Optional[Sums]:
        """Return the sums; None if a batch could not be read."""
        sums, self._sums = self._sums, {}
        return sums

    def after_val_epoch(self, runner, metrics: Optional[Dict]) -> None:
        total: Sums = {}
        for sums in self.all_results:
            add_sums(total, sums)
        self.all_results = []
        poses, self._poses = self._poses, []
        step = evaluation_step(runner)
        dataset = data_set(runner.val_dataloader)
        if total:
            meta = getattr(dataset, 'metainfo', {})
            several = len({name for name, _ in total}) > 1
            values = functools.partial(measured_curves, total, lambda *_: meta,
                                       several)
            self.emit(Record(step, values, kind=LAYER_SCALAR))
        if poses:
            draw = functools.partial(_Painter(dataset).draw_val, poses)
            self.emit(Record(step, draw, kind=IMAGE))

    def _begin(self, runner) -> None:
        """Choose the samples of a validation that begins."""
        self._sums, self._takes = None, None
        self._poses, self._seen = [], 0
        if _lifts(runner):
            loader, due = runner.val_dataloader, []
            if self._batches is not None and self.writer is not None:
                due = [
                    i for i in range(len(loader))
                    if self._batches.is_due(i + 1)
                ]
            self._takes = spread(due, self._max_val_images)
            self._own_samples = (
                own_samples(loader) if self._log_joint_errors else 0)
        self._evaluated = EvaluatorMeasures(
            getattr(runner, 'val_evaluator', None))
        self._sums = self._evaluated.sums


class _Painter:
    """Draw poses of a data set.

    Args:
        dataset (Dataset): Without ``skeleton_links``, or with another number
            of joints, only joints are drawn; without ``skeleton_link_colors``,
            all bones have the same color.
    """

    def __init__(self, dataset) -> None:
        meta = getattr(dataset, 'metainfo', {})
        self._is_metric = meta.get('dataset_name') in _IN_METRES
        self._num_joints = meta.get('num_keypoints')
        self._links = meta.get('skeleton_links', [])
        colors = meta.get('skeleton_link_colors', [])
        if len(colors) != len(self._links):
            colors = [_COLOR] * len(self._links)
        self._colors = np.array([*colors, _COLOR])

    def draw(self, tag: str, poses: List[LiftedPose],
             caption: str) -> Iterator[Image]:
        pictures = []
        for pose in poses:
            error = f'MPJPE {pose.error:,.4g} data set units'
            if self._is_metric:
                error = f'MPJPE {1000 * pose.error:.1f} mm'
            pictures.append(
                draw_skeletons(*self._scene(pose), caption + error))
        yield Image(tag, pictures)

    def draw_val(self, poses: List[LiftedPose]) -> Iterator[Value]:
        yield from self.draw('val/images', poses, '')
        for i, pose in enumerate(poses[:_MAX_MESHES]):
            yield skeleton_mesh(f'val/skeletons/{i}', *self._scene(pose))

    def _scene(self, pose: LiftedPose) -> tuple:
        """Return the arguments of :func:`draw_skeletons` but the caption."""
        truth, predicted = (
            joints[:, [0, 2, 1]] * (1, 1, -1)
            for joints in (pose.truth, pose.predicted))
        links, colors = self._links, self._colors
        if self._num_joints not in (None, len(truth)):
            links, colors = [], colors[-1:]
        return truth, predicted, pose.visible, links, colors


def _lifts(runner) -> bool:
    return lifts_poses(bare_model(runner.model))
