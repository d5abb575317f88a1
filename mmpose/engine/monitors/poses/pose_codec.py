# Copyright (c) OpenMMLab. All rights reserved.
import functools
import logging
from typing import Dict, Iterator, List, Optional, Sequence

from mmengine.logging import print_log

from ..core.arguments import LOG_DETAILS, Arguments
from ..core.monitor import Chart, Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import (bare_model, data_set, evaluation_step,
                                 pipeline_transforms)
from ..writers.record import Record, Value
from .accuracy.keypoint_tally import usable_sigmas
from .arguments import LOG_ERROR_KINDS, LOG_KEYPOINTS
from .codec.codec_tally import CodecTally
from .codec.round_trip import find_encoder, input_size, why_not
from .codec.training_samples import (Geometry, TrainingSample,
                                     read_training_sample)
from .model_kinds import lifts_poses
from .pictures.pose_targets import find_codec

# How many instances are encoded and decoded, and of how many batches.
_INSTANCES = 64
_BATCHES = 16


@MONITORS.register_module()
class CodecMonitor(Monitor):
    """Log how accurate the predictions of a perfect model would be.

    ======================================== ===============================
    ``codec/ceiling/OKS``                    ``instances/OKS`` of keypoints
                                             that are encoded and decoded
                                             again, where the data set has
                                             sigmas
    ``codec/ceiling/PCK@0.05``               Mean of
                                             ``keypoints/PCK@0.05/*``, in the
                                             same way; where there is an OKS,
                                             with ``log_details``
    ``codec/ceiling/<measure>/<keypoint>``   Of each keypoint, with
                                             ``log_details``
    ======================================== ===============================

    What it tells: How much of the error no training can repair, because the
    codec rounds: how far the curves of the validation can rise. It also finds
    targets that are not where the annotations are.

    The first instances of the training are encoded as its pipeline does, in
    crops as in the validation, and decoded as the model does, in the thread
    of the writer. Keypoints outside of the input do not count. Measured once,
    and written at each validation: a line beside the curves. A line of the log
    says where it cannot be measured.

    Args:
        by_keypoint (bool): Whether to log the details. Defaults to False.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    # Both are needed.
    switches = (LOG_ERROR_KINDS, )
    settings = dict(by_keypoint=LOG_DETAILS)
    charts = (Chart('Keypoints', 'OKS and its codec ceiling',
                    '(instances|codec/ceiling)/OKS$'), )

    @classmethod
    def is_wanted(cls, given: Arguments) -> bool:
        return bool(super().is_wanted(given)
                    and getattr(given, LOG_KEYPOINTS.name))

    def __init__(self,
                 by_keypoint: bool = False,
                 strict: bool = False) -> None:
        super().__init__(strict=strict)
        self._by_keypoint = by_keypoint
        self._reads = False
        # Set in the thread of the writer.
        self._tally: Optional[CodecTally] = None

    def charts_of(self, runner) -> Sequence[Chart]:
        model = bare_model(runner.model)
        if lifts_poses(model) or why_not(find_codec(model)):
            return ()
        return self.charts

    def before_train(self, runner) -> None:
        self._samples: List[TrainingSample] = []
        self._batches = 0
        self._instances = 0
        self._tally = None
        model = bare_model(runner.model)
        self._codec = find_codec(model)
        reason = why_not(self._codec)
        self._reads = not reason and not lifts_poses(model)
        if reason and not lifts_poses(model):
            print_log(
                'EnhancedTensorBoardHook writes no codec/ceiling/*: '
                f'{reason}.',
                logger='current',
                level=logging.INFO)

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        if not self._reads:
            return
        self._batches += 1
        for sample in data_batch['data_samples']:
            if self._instances < _INSTANCES:
                read = read_training_sample(sample)
                if read is not None:
                    self._samples.append(read)
                    self._instances += len(read.truth)
        if self._instances >= _INSTANCES or self._batches == _BATCHES:
            self._measure(runner)

    def after_train_epoch(self, runner) -> None:
        if self._reads:  # It has only a few batches.
            self._measure(runner)

    def after_val_epoch(self, runner, metrics: Optional[Dict]) -> None:
        self.emit(Record(evaluation_step(runner), self._scalars))

    def _measure(self, runner) -> None:
        """Encode and decode what has been read, in the writer's thread."""
        self._reads = False
        samples, self._samples = self._samples, []
        if not samples:
            return
        dataset = data_set(runner.train_dataloader)
        meta = getattr(dataset, 'metainfo', {})
        num_keypoints = samples[0].truth.shape[1]
        tally = CodecTally(self._codec, find_encoder(dataset, self._codec),
                           meta,
                           usable_sigmas(meta.get('sigmas'), num_keypoints),
                           _geometry(runner, self._codec), num_keypoints)
        self.emit(
            Record(
                evaluation_step(runner),
                functools.partial(self._measured, tally, samples)))

    def _measured(self, tally: CodecTally,
                  samples: List[TrainingSample]) -> Iterator[Value]:
        for sample in samples:
            tally.add(sample)
        self._tally = tally
        yield from self._scalars()
        yield from tally.measurements()

    def _scalars(self) -> Iterator[Value]:
        if self._tally is not None:
            yield from self._tally.scalars(self._by_keypoint)


def _geometry(runner, codec) -> Geometry:
    """Return how the validation crops, and whether the training uses UDP."""
    from mmpose.datasets.transforms import GetBBoxCenterScale, TopdownAffine
    geometry = Geometry(input_size(codec))
    loader = getattr(runner.val_loop, 'dataloader', None)
    for step in pipeline_transforms(loader.dataset) if loader else ():
        if isinstance(step, GetBBoxCenterScale):
            geometry = geometry._replace(padding=step.padding)
    for step in pipeline_transforms(runner.train_dataloader.dataset):
        if isinstance(step, TopdownAffine):
            geometry = geometry._replace(use_udp=step.use_udp)
    return geometry
