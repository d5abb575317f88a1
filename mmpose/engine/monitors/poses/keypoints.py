# Copyright (c) OpenMMLab. All rights reserved.
import functools
import heapq
import re
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Union

import numpy as np

from ..core.measurements import KeypointAccuracy
from ..core.monitor import Chart, Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import (bare_model, data_set, evaluation_step,
                                 is_averaged, is_iter_based, keypoint_names,
                                 own_samples, val_annotations)
from ..writers.dropping_queue import IMAGE, LAYER_SCALAR
from ..writers.record import Image, Record, Scalar, Value
from .arguments import BACKEND_ARGS, HARD_SAMPLES, KPT_THR, LOG_KEYPOINTS
from .keypoint_figure import draw_keypoint_figure
from .keypoint_parts import keypoint_parts
from .keypoint_tally import KeypointTally, usable_sigmas
from .model_kinds import is_bottom_up, lifts_poses
from .pose_samples import PoseSample, PoseSampleReader, match
from .sample_pictures import ImageLoader, SamplePictures

# With more keypoints the scalars are by body part.
_MAX_SCALARS = 30


@MONITORS.register_module()
class KeypointMonitor(Monitor):
    """How well each keypoint is predicted, and where it goes worst.

    ========================================= ==============================
    ``keypoints/PCK@0.05/<keypoint>``         Share that is less than 0.05 of
                                              the box's longer side away
    ``keypoints/PCK@0.2/<keypoint>``          The same for 0.2
    ``keypoints/normalized_error/<keypoint>`` Mean distance over the box's
                                              longer side
    ``keypoints/OKS/<keypoint>``              What it adds to the object
                                              keypoint similarity, where the
                                              data set has sigmas
    ``keypoints/accuracy``                    A figure of PCK@0.2: the
                                              keypoints on a typical pose,
                                              and as bars
    ``val/hard_samples``                      The people who are predicted
                                              worst, annotated beside
                                              predicted
    ========================================= ==============================

    What it tells: Which keypoints hold the metric down, and what the people on
    whom the model fails have in common: wrong annotations, people who hide
    each other, rare poses.

    The curves are over all visible keypoints of the validation, see
    :meth:`KeypointTally.measures`; with more than 30 keypoints they are the
    mean by body part. Over all ranks: each sums up what it has seen, and the
    sums are added. Samples that a sampler gives to a second rank to make the
    shares equal count once.

    Args:
        log_accuracy (bool): Write the scalars and the figure.
        hard_samples (int): How many people to show.
        kpt_thr (float): The score from which on a keypoint is drawn.
        images (ImageLoader | dict, optional): What loads the images of
            samples, or its ``backend_args``. Defaults to None: as the data
            set says.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_KEYPOINTS, HARD_SAMPLES)
    settings = dict(
        log_accuracy=LOG_KEYPOINTS,
        hard_samples=HARD_SAMPLES,
        kpt_thr=KPT_THR,
        images=BACKEND_ARGS)
    charts = tuple(
        Chart('Keypoints', measure, f'keypoints/{re.escape(measure)}/')
        for measure in ('PCK@0.05', 'PCK@0.2', 'normalized_error', 'OKS'))

    def charts_of(self, runner) -> Sequence[Chart]:
        lifts = lifts_poses(bare_model(runner.model))
        return self.charts if self._log_accuracy and not lifts else ()

    def __init__(self,
                 log_accuracy: bool,
                 hard_samples: int,
                 kpt_thr: float,
                 images: Union[ImageLoader, dict, None] = None,
                 strict: bool = False) -> None:
        super().__init__(strict=strict)
        self._log_accuracy = log_accuracy
        self._hard_samples = hard_samples
        self._kpt_thr = kpt_thr
        self._images = (
            images if isinstance(images, ImageLoader) else ImageLoader(images))
        self._dataset = None
        self._forget()

    def is_on_every_rank(self, runner) -> bool:
        return not lifts_poses(bare_model(runner.model))

    def after_val_iter(self, runner, batch_idx: int, data_batch,
                       outputs: Optional[Sequence]) -> None:
        if batch_idx == 0:
            self._forget()
        if not self._whole:
            return
        # Until the batch has been read to its end.
        self._whole = False
        if batch_idx == 0:
            self._begin(runner)
        own = own_samples(runner.val_dataloader) - self._seen
        if not self._off and outputs and own > 0:
            self._read(outputs[:own])
        self._whole = True

    def shard(self) -> Optional['_Shard']:
        shard, whole = _Shard(self._tally, self._hardest), self._whole
        self._forget()
        return shard if whole else None

    def after_val_epoch(self, runner, metrics: Optional[Dict]) -> None:
        tallies = [
            shard.tally for shard in self.shards if shard.tally is not None
        ]
        hardest = _hardest(
            self._hard_samples,
            [hard for shard in self.shards for hard in shard.hardest])
        self.shards = []
        if self.writer is None or not tallies:
            return
        tally = functools.reduce(KeypointTally.__add__, tallies)
        step = evaluation_step(runner)
        self._begin(runner)  # This rank may have had no samples.
        if self._log_accuracy and tally.counts.any():
            values = functools.partial(self._accuracy, tally)
            self.emit(Record(step, values, kind=LAYER_SCALAR))
            unit = 'iteration' if is_iter_based(runner) else 'epoch'
            when = f'{unit} {step:,}'
            if is_averaged(runner):
                when += ', averaged model'
            figure = functools.partial(self._figure, tally, when)
            self.emit(Record(step, figure, kind=IMAGE))
        if hardest:
            measure = 'OKS' if 'OKS' in tally.measures() else 'error'
            values = functools.partial(self._draw, hardest, measure)
            self.emit(Record(step, values, kind=IMAGE))

    def _forget(self) -> None:
        self._tally: Optional[KeypointTally] = None
        self._hardest: List[_HardSample] = []
        self._seen = 0
        self._whole = True

    def _begin(self, runner) -> None:
        dataset = data_set(runner.val_dataloader)
        if dataset is self._dataset:
            return
        model = bare_model(runner.model)
        self._off = lifts_poses(model)
        self._meta = getattr(dataset, 'metainfo', {})
        self._reader = PoseSampleReader(dataset, val_annotations(runner))
        self._pictures = SamplePictures(
            dataset,
            self._images,
            self._kpt_thr,
            whole=is_bottom_up(model),
            averaged=is_averaged(runner))
        self._dataset = dataset

    def _read(self, outputs: Sequence) -> None:
        samples = [self._reader.read(result) for result in outputs]
        self._seen += len(samples)
        if self._tally is None:
            num_keypoints = samples[0].predicted.shape[1]
            self._sigmas = usable_sigmas(
                self._meta.get('sigmas'), num_keypoints)
            self._tally = KeypointTally(num_keypoints, self._sigmas)
        matches = [match(sample, self._sigmas) for sample in samples]
        predicted = np.concatenate([predicted for predicted, _ in matches])
        found = np.concatenate([found for _, found in matches])
        scores = self._tally.add(
            truth=np.concatenate([s.truth for s in samples]),
            visible=np.concatenate([s.visible for s in samples]),
            predicted=predicted,
            boxes=np.concatenate([s.boxes for s in samples]),
            areas=np.concatenate([s.areas for s in samples]),
            found=found)
        people = [(sample, person) for sample in samples
                  for person in range(len(sample.truth))]
        self._hardest = _hardest(
            self._hard_samples, self._hardest + [
                _HardSample(
                    float(scores[i]), *people[i],
                    predicted[i].copy() if found[i] else None)
                for i in _lowest(scores, self._hard_samples)
            ])

    def _accuracy(self, tally: KeypointTally) -> Iterable[Value]:
        names = keypoint_names(self._meta, len(tally.counts))
        groups = {name: [i] for i, name in enumerate(names)}
        if len(names) > _MAX_SCALARS:
            groups = keypoint_parts(names, self._meta.get('dataset_name'))
        for measure, values in tally.measures().items():
            for name, indices in groups.items():
                known = values[indices][np.isfinite(values[indices])]
                if len(known):
                    yield Scalar(f'keypoints/{measure}/{name}', known.mean())
        pck = tally.measures()['PCK@0.2']
        known = np.isfinite(pck)
        if known.any():
            yield KeypointAccuracy(
                float(np.average(pck[known], weights=tally.counts[known])))

    def _figure(self, tally: KeypointTally, when: str) -> Iterable[Image]:
        pose, drawn = tally.canonical_pose() or (None, None)
        names = keypoint_names(self._meta, len(tally.counts))
        figure = draw_keypoint_figure(names,
                                      tally.measures()['PCK@0.2'],
                                      tally.counts, pose, drawn,
                                      self._meta.get('skeleton_links',
                                                     []), f'PCK@0.2, {when}')
        yield Image('keypoints/accuracy', [figure])

    def _draw(self, hardest: List['_HardSample'],
              measure: str) -> Iterable[Image]:
        drawn = []
        for hard in hardest:
            caption = f'{measure} {abs(hard.score):.2f}'
            if measure == 'error':
                caption += ' of the diagonal'
            caption += ', ' + self._worst(hard)
            drawn.append(
                self._pictures.draw(hard.sample, caption, person=hard.person))
        yield Image('val/hard_samples', [d for d in drawn if d is not None])

    def _worst(self, hard: '_HardSample') -> str:
        """What is worst about it."""
        if hard.predicted is None:
            return 'not found'
        sample, person = hard.sample, hard.person
        errors = np.linalg.norm(sample.truth[person] - hard.predicted, axis=-1)
        errors = np.where(sample.visible[person], errors, -1)
        names = keypoint_names(self._meta, len(errors))
        return f'worst {names[np.argmax(errors)]}'


class _HardSample(NamedTuple):
    """A person who was predicted badly.

    Attributes:
        score (float): What :meth:`KeypointTally.add` says of it.
        sample (PoseSample): All people of the image.
        person (int): Which of them.
        predicted (np.ndarray, optional): Its prediction, shape (K, 2); None
            if it was not found.
    """
    score: float
    sample: PoseSample
    person: int
    predicted: Optional[np.ndarray]


class _Shard(NamedTuple):
    """What a rank has seen of a validation."""
    tally: Optional[KeypointTally]
    hardest: List[_HardSample]


def _hardest(count: int, samples: List[_HardSample]) -> List[_HardSample]:
    """The worst ones, the same whatever order they come in."""
    return heapq.nsmallest(
        count,
        samples,
        key=lambda hard: (hard.score, str(hard.sample.img_path), hard.sample.
                          boxes[hard.person].tolist()))


def _lowest(scores: np.ndarray, count: int) -> np.ndarray:
    """The indices of the ``count`` lowest, and of all that tie with those."""
    known = np.flatnonzero(np.isfinite(scores))
    if not count or len(known) <= count:
        return known[:count]
    limit = np.partition(scores[known], count - 1)[count - 1]
    return known[scores[known] <= limit]
