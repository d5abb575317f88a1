# Copyright (c) OpenMMLab. All rights reserved.
import functools
import itertools
import logging
import re
from collections import defaultdict
from typing import Dict, List, Optional, Sequence, Tuple

from mmengine.logging import print_log

from ..core.arguments import LOG_DETAILS
from ..core.monitor import Chart, Monitor
from ..core.other_runs.compared_run import COMPARE
from ..core.registry import MONITORS
from ..core.runner_parts import (bare_model, data_set, evaluation_step,
                                 has_ema_model, is_iter_based, own_samples)
from ..writers.record import IMAGE, LAYER_SCALAR, Record
from .accuracy.data_set_accuracy import DataSetAccuracy
from .accuracy.detections import (AnnotatedImage, Detections, annotated_images,
                                  evaluated)
from .accuracy.evaluator_measures import EvaluatorMeasures
from .accuracy.hard_samples import HardSample, image_key, positions_of
from .accuracy.instances import instance_batch
from .accuracy.keypoint_curves import keypoint_curves
from .accuracy.scored_predictions import score_predictions
from .accuracy.validation_shard import ValidationShard
from .arguments import (BACKEND_ARGS, HARD_SAMPLES, KPT_THR, LOG_ERROR_KINDS,
                        LOG_KEYPOINTS)
from .diagnosis.diagnoses import DIAGNOSES
from .diagnosis.diagnosis import Validation
from .diagnosis.error_summary import kinds_of
from .model_kinds import is_bottom_up, lifts_poses
from .pictures.accuracy_figure import accuracy_figure
from .pictures.hard_scenes import hard_scene
from .pictures.image_files import ImageFiles
from .pictures.model_inputs import image_prefixes, read_input
from .pictures.sample_pictures import SamplePictures
from .pictures.scenes import scene_tensors
from .pose_samples import PoseSample, PoseSampleReader, owners

_MEASURES = ('PCK@0.05', 'OKS')
_FURTHER_MEASURES = ('PCK@0.2', 'normalized_error')
# How many images with a detector's boxes are compared at once.
_IMAGES = 64


@MONITORS.register_module()
class KeypointMonitor(Monitor):
    """Log how well each keypoint is predicted, and show the worst instances.

    ========================================= ==============================
    ``keypoints/PCK@0.05/<keypoint>``         Fraction that is less than 0.05
                                              of the box's longer side away
                                              from the ground truth; where
                                              there is a KS, with
                                              ``log_details``
    ``keypoints/PCK@0.2/<keypoint>``          The same for 0.2, with
                                              ``log_details``
    ``keypoints/normalized_error/<keypoint>`` Mean distance over the box's
                                              longer side (NME), with
                                              ``log_details``
    ``keypoints/OKS/<keypoint>``              Mean keypoint similarity (KS),
                                              where the data set has sigmas
    ``keypoints/<measure>/<keypoint>``        The evaluator's measure: PCKh,
                                              tPCK, NME, EPE, AUC or MPJPE; PCK
                                              at its own threshold with
                                              ``log_details``; see
                                              :class:`EvaluatorMeasures`
    ``instances/OKS``                         Mean object keypoint similarity
                                              of the instances; 0 for one that
                                              was not found
    ``keypoints/<data set>/...``              The same for each data set, if
                                              the validation has several
    ``instances/OKS/<data set>``              The mean of each data set, if the
                                              validation has several
    ``keypoints/accuracy``                    A figure of the KS (without
                                              sigmas, of PCK@0.05): the
                                              keypoints on an instance's pose,
                                              and as bars. With more than 30
                                              keypoints, the bars are those of
                                              the body parts and of the lowest
                                              keypoints
    ``val/hard_samples``                      The worst instances, ground truth
                                              beside prediction
    ========================================= ==============================

    What it tells: Which keypoints lower the metric, and what the instances on
    which the model fails have in common: wrong annotations, occlusion by other
    instances, rare poses. The diagnoses below tell why.

    The same instances count as in the evaluator: each annotated one once,
    found or not, and no crowds. With a detector's boxes and bottom-up models,
    the predictions of an image are scored and suppressed by the settings of
    the :obj:`CocoMetric`, and matched with the instances of the image, see
    :func:`match`. With ground truth boxes, a prediction belongs to the
    instance of its box. The curves are means over all visible keypoints, see
    :meth:`KeypointTally.measures`; with more than 30 keypoints, over those of
    a body part. The mean of an evaluator's measure over the keypoints is the
    evaluator's number. For NME, EPE, MPJPE and :obj:`MpiiPCKAccuracy`, the
    mean is weighted by the visible instances of each keypoint, and the last
    excludes the pelvis and the thorax. Sums are added over all ranks. Samples
    that a sampler repeats to give all ranks the same number count once.

    If a validation has several data sets, the keypoints that are annotated and
    predicted are compared, after the converters of the evaluator; those with
    the same name are added. A data set with other keypoints than the model
    predicts is skipped, and a WARNING says so.

    The hard samples are spread over the validation, which is divided into as
    many parts as there are pictures. From each part comes the instance with
    the largest sum of 1 - KS over its visible keypoints; without sigmas, the
    largest sum of errors.

    Args:
        log_accuracy (bool): Whether to log the scalars and the figure.
        hard_samples (int): The number of instances to show.
        kpt_thr (float): The least score with which a keypoint is drawn filled,
            and with which an unmatched instance is a false positive.
        backend_args (dict, optional): Arguments to load the image of an
            instance in a detector's box, see :class:`ImageFiles`. Defaults to
            None.
        every_measure (bool): Whether to log PCK and NME by keypoint, too, and
            PCK at the evaluator's threshold. Defaults to False.
        error_kinds (bool): Whether to diagnose why keypoints are wrong, see
            :data:`DIAGNOSES`. Defaults to False.
        compare (str, optional): The run to compare with, see
            :class:`Comparison`. Defaults to None.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_KEYPOINTS, HARD_SAMPLES)
    settings = dict(
        log_accuracy=LOG_KEYPOINTS,
        hard_samples=HARD_SAMPLES,
        error_kinds=LOG_ERROR_KINDS,
        kpt_thr=KPT_THR,
        backend_args=BACKEND_ARGS,
        every_measure=LOG_DETAILS,
        compare=COMPARE)
    charts = (*(Chart(
        'Keypoints', measure,
        f'(keypoints/{re.escape(measure)}/|codec/ceiling/{measure}$)')
                for measure in (*_MEASURES, *_FURTHER_MEASURES)),
              *(chart for cls in DIAGNOSES for chart in cls.charts))
    parts = DIAGNOSES

    def charts_of(self, runner) -> Sequence[Chart]:
        if not self._log_accuracy or lifts_poses(bare_model(runner.model)):
            return ()
        loop = getattr(runner, 'val_loop', None)
        measures = self._measures
        if not self._every_measure:
            dataset = getattr(
                getattr(loop, 'dataloader', None), 'dataset', None)
            meta = getattr(dataset, 'metainfo', {})
            measures = (_MEASURES[meta.get('sigmas') is not None], )
        charts = [c for c in self.charts if c.title in measures]
        evaluator = getattr(loop, 'evaluator', None)
        charts += [
            Chart('Keypoints', measure, f'keypoints/{re.escape(measure)}/')
            for measure in EvaluatorMeasures(evaluator).names
            if self._is_written(measure)
        ]
        return charts + [c for d in self.diagnoses for c in d.charts]

    def _is_written(self, measure: str) -> bool:
        """Return whether a measure of the evaluator is logged."""
        return measure not in self._measures and (
            self._every_measure or not re.search('(^|/)PCK@', measure))

    def __init__(self,
                 log_accuracy: bool,
                 hard_samples: int,
                 kpt_thr: float,
                 backend_args: Optional[dict] = None,
                 every_measure: bool = False,
                 error_kinds: bool = False,
                 compare: Optional[str] = None,
                 strict: bool = False) -> None:
        super().__init__(strict=strict)
        if compare is not None and not log_accuracy:
            raise ValueError(f'compare={compare!r} needs log_keypoints=True')
        self._log_accuracy = log_accuracy
        self._every_measure = every_measure
        self._measures = _MEASURES + every_measure * _FURTHER_MEASURES
        self._hard_samples = hard_samples
        self.diagnoses = [
            cls(compare) if cls.compares else cls() for cls in DIAGNOSES
            if (compare is not None if cls.compares else error_kinds)
        ]
        self._kpt_thr = kpt_thr
        self._backend_args = backend_args
        self._dataset = None
        self._told: set = set()
        self._forget()

    def is_on_every_rank(self, runner) -> bool:
        return not lifts_poses(bare_model(runner.model))

    def after_val_iter(self, runner, batch_idx: int, data_batch,
                       outputs: Optional[Sequence]) -> None:
        if batch_idx == 0:
            self._forget()
        if not self._whole:
            return
        # Until the whole batch has been read.
        self._whole = False
        if batch_idx == 0:
            self._begin(runner)
            self._evaluated = EvaluatorMeasures(runner.val_evaluator)
        own = own_samples(runner.val_dataloader) - self._seen
        if not self._off and outputs and own > 0:
            self._read(runner.val_dataloader, data_batch['inputs'],
                       outputs[:own])
            self._evaluated.read(outputs, own)
            self._shard.evaluated = self._evaluated.sums
        self._whole = True

    def rank_results(self) -> Optional[ValidationShard]:
        shard, whole = self._shard, self._whole
        self._forget()
        return shard if whole else None

    def after_val_epoch(self, runner, metrics: Optional[Dict]) -> None:
        shards, self.all_results = self.all_results, []
        if self.writer is None or not shards:
            return
        self._begin(runner)  # This rank may have had no samples.
        total = functools.reduce(ValidationShard.merge, shards)
        for name, detections in total.detections.items():
            self._evaluate(total, name, detections)
        self._tell(total)
        parts = [part for part in total.parts.values() if part.tally.instances]
        step = evaluation_step(runner)
        if self._log_accuracy and parts:
            measured = {
                key: sums
                for key, sums in total.evaluated.items()
                if self._is_written(key[1])
            }
            values = functools.partial(keypoint_curves, parts, measured,
                                       self._every_measure, self._reader.meta)
            self.emit(Record(step, values, kind=LAYER_SCALAR))
            unit = 'iteration' if is_iter_based(runner) else 'epoch'
            when = f'{unit} {step:,}'
            if has_ema_model(runner):
                when += ', EMA model'
            figure = functools.partial(accuracy_figure, parts, when)
            self.emit(Record(step, figure, kind=IMAGE))
            for part in parts if self.diagnoses else ():
                part.instances.batch()  # Before another thread asks.
            validation = Validation(parts, step, when, self._every_measure,
                                    self._kpt_thr, self._reader.rules,
                                    self.writer.log_dir, self._files,
                                    self._prefixes, self._pictures)
            for diagnosis in self.diagnoses:
                for record in diagnosis.records(runner, validation):
                    self.emit(record)
        hardest = total.hardest.worst()
        if hardest:
            self._show(runner, step, hardest, parts)

    def _forget(self) -> None:
        self._shard = ValidationShard(self._hard_samples)
        self._seen = 0
        self._whole = True

    def _begin(self, runner) -> None:
        dataset = data_set(runner.val_dataloader)
        if dataset is self._dataset:
            return
        model = bare_model(runner.model)
        self._off = lifts_poses(model)
        self._paired = not is_bottom_up(model)
        self._reader = PoseSampleReader(dataset, runner.val_evaluator)
        self._annotated: Dict[Optional[str], Dict[int, AnnotatedImage]] = {}
        self._files = ImageFiles(dataset, self._backend_args)
        self._prefixes = image_prefixes(dataset)
        self._pictures = SamplePictures(
            self._kpt_thr, averaged=has_ema_model(runner))
        self._dataset = dataset

    def _read(self, loader, inputs: Sequence, outputs: Sequence) -> None:
        """Compare samples, or keep those of a detector for the end."""
        groups = defaultdict(list)
        positions = positions_of(loader, self._seen, len(outputs))
        for i, (result, position) in enumerate(zip(outputs, positions)):
            name = self._reader.dataset_name(result)
            if self._reader.is_detected(result):
                groups[name].append(result)
                continue
            sample = self._reader.read(result)
            if self._hard_samples:
                given = read_input(inputs, i, result, self._prefixes)
                sample = sample._replace(given=given)
            size = sample.truth.shape[1], sample.predicted.shape[1]
            groups[name, size].append((sample, result, position))
        for key, group in groups.items():
            if isinstance(key, tuple):
                self._compare(self._shard, *key, *zip(*group))
                continue
            self._shard.detections.setdefault(key, Detections()).add(group)
            if self.writer is not None:
                # An evaluator may convert them when it evaluates.
                self._images_of(key)
        self._seen += len(outputs)

    def _evaluate(self, total: ValidationShard, name: Optional[str],
                  detections: Detections) -> None:
        """Compare the predictions in a detector's boxes."""
        images = self._images_of(name)
        if not images:
            total.skipped[name, None, None] += detections.count()
            return
        samples = evaluated(
            detections,
            images,
            self._reader,
            name,
            everywhere=bool(self.diagnoses))
        while True:
            groups = defaultdict(list)
            for sample in itertools.islice(samples, _IMAGES):
                size = sample.truth.shape[1], sample.predicted.shape[1]
                at = getattr(images.get(sample.img_id), 'position', 0)
                groups[size].append((sample, None, at))
            if not groups:
                return
            for size, group in groups.items():
                self._compare(total, name, size, *zip(*group))

    def _compare(self, shard: ValidationShard, name: Optional[str],
                 size: Tuple[int, int], samples: Sequence[PoseSample],
                 results: Sequence, positions: Sequence[float]) -> None:
        """Compare samples with the same numbers of keypoints.

        The predictions of a detector's boxes, which have no ``results``, have
        been chosen already.
        """
        num_keypoints, num_predicted = size
        if num_keypoints != num_predicted:
            shard.skipped[name, num_keypoints, num_predicted] += len(samples)
            return
        if (name, num_keypoints) not in shard.parts:
            meta = self._reader.meta(name, num_keypoints)
            sigmas = self._reader.rules(name).sigmas(num_keypoints, meta)
            shard.parts[name, num_keypoints] = DataSetAccuracy(
                name, num_keypoints, meta, sigmas)
        part = shard.parts[name, num_keypoints]
        if not self._paired:
            samples = [
                sample if result is None else self._reader.chosen(
                    result, sample, part.sigmas)
                for sample, result in zip(samples, results)
            ]
        paired = self._paired and results[0] is not None
        found = [owners(sample, part.sigmas, paired) for sample in samples]
        batch = instance_batch(samples, found)
        part.add(batch, samples, positions, shard.hardest)
        if not self.diagnoses:
            return
        part.instances.add(batch,
                           [image_key(s) for s in samples if len(s.truth)])
        if not paired and part.sigmas is not None:
            part.instances.add_predictions(
                score_predictions(samples, self._reader.rules(name),
                                  part.sigmas, self._kpt_thr))

    def _images_of(self, name: Optional[str]) -> Dict[int, AnnotatedImage]:
        if name not in self._annotated:
            self._annotated[name] = annotated_images(self._reader, name)
        return self._annotated[name]

    def _tell(self, total: ValidationShard) -> None:
        """Log once which data sets cannot be compared or diagnosed."""
        told = [(logging.WARNING, *why) for why in total.skip_reasons()]
        told += [(logging.INFO, part.name, diagnosis.unmeasured(part))
                 for diagnosis in self.diagnoses
                 for part in total.parts.values()]
        for level, name, reason in told:
            if reason and (level, name) not in self._told:
                self._told.add((level, name))
                print_log(f'EnhancedTensorBoardHook {reason}', 'current',
                          level)

    def _show(self, runner, step: int, hardest: List[HardSample],
              parts: Sequence[DataSetAccuracy]) -> None:
        """Draw the hard samples."""
        if self.diagnoses:
            hardest = [
                hard._replace(kinds=kinds_of(hard, parts)) for hard in hardest
            ]
        scenes = [
            hard_scene(hard, bare_model(runner.model), self._files,
                       self._prefixes) for hard in hardest
        ]
        values = functools.partial(self._pictures.images, 'val/hard_samples',
                                   scenes)
        self.emit(Record(step, values, scene_tensors(scenes), IMAGE))
