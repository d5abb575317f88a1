# Copyright (c) OpenMMLab. All rights reserved.
"""What the tallies and diagnoses of a validation take.

Beside COCO's own evaluation, which is measured in turn with the rest. Pictures
are not among it: there is the same number of them in any validation.
"""
import io
import pickle
import sys
import tempfile
import tracemalloc
from types import SimpleNamespace
from typing import Callable, Dict, List, NamedTuple, Sequence

import numpy as np
from torch import nn

from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.engine.monitors.poses.accuracy.data_set_accuracy import \
    DataSetAccuracy
from mmpose.engine.monitors.poses.accuracy.evaluation_rules import \
    EvaluationRules
from mmpose.engine.monitors.poses.accuracy.hard_samples import (HardSamples,
                                                                image_key)
from mmpose.engine.monitors.poses.accuracy.instances import instance_batch
from mmpose.engine.monitors.poses.accuracy.matching import match
from mmpose.engine.monitors.poses.accuracy.scored_predictions import \
    score_predictions
from mmpose.engine.monitors.poses.diagnosis.diagnoses import DIAGNOSES
from mmpose.engine.monitors.poses.diagnosis.diagnosis import Validation
from mmpose.engine.monitors.poses.pose_samples import PoseSample
from mmpose.engine.monitors.writers.record import IMAGE
from .timing import Subject, interleave

# Those that say why keypoints are wrong.
KINDS = tuple(kind for kind in DIAGNOSES
              if '.comparison.' not in kind.__module__)
# COCO's validation: people with keypoints, images with any of them, all
# images, and how many predictions of an image are evaluated at most. In all
# images together that is about as many as there are boxes in the file of a
# detector, 104,000.
INSTANCES, IMAGES, ALL_IMAGES, PREDICTIONS = 6352, 2346, 5000, 20
_BATCH = 32
# The name of what the rest is compared with.
COCOS = "COCO's evaluation"
# By whose boxes people are predicted.
ANNOTATED, DETECTED = 'boxes of the annotations', 'boxes of a detector'


class People(NamedTuple):
    """The images of a validation.

    Attributes:
        samples (list[PoseSample]): The images. If people were predicted in the
            boxes of a detector, with all predictions; if in those of the
            ground truth, one for each person.
        detected (bool): Whether they were.
        meta (dict): The metainfo of the data set.
    """
    samples: List[PoseSample]
    detected: bool
    meta: dict

    @property
    def count(self) -> int:
        """int: The number of annotated people."""
        return sum(len(sample.truth) for sample in self.samples)


def make_people(instances: int, detected: bool) -> People:
    """Make people as there are in COCO, some predicted badly.

    Args:
        instances (int): About how many.
        detected (bool): Whether a detector has found them, and much more.
    """
    rng = np.random.default_rng(0)
    meta = parse_pose_metainfo(
        dict(from_file='configs/_base_/datasets/coco.py'))
    samples = []
    counts = rng.geometric(IMAGES / INSTANCES,
                           max(instances * IMAGES // INSTANCES, 1))
    counts = counts.clip(max=PREDICTIONS).tolist()
    if detected:
        counts += [0] * (len(counts) * (ALL_IMAGES - IMAGES) // IMAGES)
    for image, count in enumerate(counts):
        corners = rng.uniform(0, 400, (count, 2))
        sizes = rng.uniform(30, 200, (count, 1)) * [.5, 1.]
        truth = (corners[:, None] + sizes[:, None] * rng.random(
            (count, 17, 2))).astype(np.float32)
        visible = rng.random((count, 17)) < .7
        visible[:, 0] = True
        noise = rng.choice([1., 5., 60.],
                           (count, 17, 1)) * rng.normal(size=(count, 17, 2))
        predicted = (truth + noise).astype(np.float32)
        if detected:
            more = rng.uniform(0, 500, (PREDICTIONS - count, 17, 2))
            predicted = np.concatenate([predicted, more.astype(np.float32)])
        scores = rng.random((len(predicted), 17)).astype(np.float32)
        boxes = np.concatenate([corners, corners + sizes], 1)
        people = PoseSample(
            f'data/coco/val2017/{image:012}.jpg',
            truth=truth,
            visible=visible,
            boxes=boxes.astype(np.float32),
            areas=.53 * sizes.prod(1),
            predicted=predicted,
            scores=scores,
            meta=meta,
            img_id=image,
            ids=100 * image + np.arange(count),
            occluded=visible & (rng.random((count, 17)) < .3),
            instance_scores=scores.mean(1))
        samples += [people] if detected else _one_by_one(people)
    return People(samples, detected, meta)


def _one_by_one(people: PoseSample) -> List[PoseSample]:
    """A sample for each box, as with boxes of the ground truth."""
    return [
        people._replace(
            **{
                name: getattr(people, name)[i:i + 1]
                for name in ('truth', 'visible', 'boxes', 'areas', 'predicted',
                             'scores', 'ids', 'occluded', 'instance_scores')
            }) for i in range(len(people.truth))
    ]


def collect(people: People, diagnosed: bool = True) -> DataSetAccuracy:
    """What :class:`KeypointMonitor` does with the batches of a validation.

    Args:
        people (People): The images.
        diagnosed (bool): Whether they are kept for the diagnoses. Defaults to
            True.
    """
    sigmas = np.array(people.meta['sigmas'])
    part = DataSetAccuracy(None, 17, people.meta, sigmas)
    hardest = HardSamples(4)
    for start in range(0, len(people.samples), _BATCH):
        samples = people.samples[start:start + _BATCH]
        if people.detected:
            owners = [
                match(s.truth, s.visible, s.areas, s.predicted, sigmas)
                for s in samples
            ]
        else:
            owners = [np.zeros(1, int)] * len(samples)
        batch = instance_batch(samples, owners)
        part.add(batch, samples, [start / len(people.samples)] * len(samples),
                 hardest)
        if not diagnosed:
            continue
        part.instances.add(batch,
                           [image_key(s) for s in samples if len(s.truth)])
        if people.detected:
            part.instances.add_predictions(
                score_predictions(samples, EvaluationRules(), sigmas))
    return part


def diagnose(part: DataSetAccuracy, kinds: Sequence[type]) -> None:
    """Let diagnoses say all but pictures of a validation.

    Args:
        part (DataSetAccuracy): The result of :func:`collect`.
        kinds (Sequence[type]): The classes of the diagnoses.
    """
    runner = SimpleNamespace(model=nn.Identity(), _train_loop=None, cfg=None)
    with tempfile.TemporaryDirectory() as folder:
        validation = Validation([part], 1, 'epoch 1', False, .3,
                                lambda name: EvaluationRules(), folder, None,
                                (), None)
        for kind in kinds:
            for record in kind().records(runner, validation):
                if record.kind != IMAGE:
                    list(record.values())


def cocos_evaluation(people: People) -> Callable:
    """COCO's evaluation of the same people, without reading any file."""
    from xtcocotools.coco import COCO
    from xtcocotools.cocoeval import COCOeval

    def rows(points, flags):
        return np.dstack([points, flags]).reshape(len(points), 51).tolist()

    truth, results = [], []
    for s in people.samples:
        for keypoints, box, area, number in zip(
                rows(s.truth, 2 * s.visible), s.boxes.tolist(), s.areas,
                s.ids):
            truth.append(
                dict(
                    id=int(number) + 1,
                    image_id=s.img_id,
                    category_id=1,
                    iscrowd=0,
                    area=float(area),
                    bbox=[*box[:2], box[2] - box[0], box[3] - box[1]],
                    num_keypoints=sum(f > 0 for f in keypoints[2::3]),
                    keypoints=keypoints))
        results += [
            dict(
                image_id=s.img_id,
                category_id=1,
                score=float(score),
                keypoints=keypoints) for keypoints, score in zip(
                    rows(s.predicted, s.scores), s.instance_scores)
        ]

    def evaluate() -> None:
        coco = COCO()
        coco.dataset = dict(
            images=[dict(id=i) for i in {s.img_id
                                         for s in people.samples}],
            annotations=truth,
            categories=[dict(id=1, name='person')])
        stdout, sys.stdout = sys.stdout, io.StringIO()
        try:
            coco.createIndex()
            evaluation = COCOeval(coco, coco.loadRes(results), 'keypoints',
                                  np.array(people.meta['sigmas']))
            evaluation.evaluate()
            evaluation.accumulate()
        finally:
            sys.stdout = stdout

    return evaluate


def measure(instances: int, detected: bool, repeat: int) -> dict:
    """Time the tallies and each diagnosis, and COCO's evaluation, in turn.

    Args:
        instances (int): About how many annotated people.
        detected (bool): See :func:`make_people`.
        repeat (int): How often.

    Returns:
        dict: ``boxes``, how many people are predicted; ``times``, the
        microseconds of one of them by what takes them.
    """
    people = make_people(instances, detected)
    part = collect(people)
    subjects = {
        'tallies': Subject(lambda: collect(people)),
        COCOS: Subject(cocos_evaluation(people))
    }
    for kind in KINDS:
        subjects[kind.__name__] = Subject(
            lambda kind=kind: diagnose(part, [kind]))
    times = interleave(subjects, repeat)
    boxes = sum(len(sample.predicted) for sample in people.samples)
    return dict(
        boxes=boxes,
        times={
            name: [1e3 * time / boxes for time in found.run]
            for name, found in times.items()
        })


def memory(instances: int, detected: bool) -> Dict[str, int]:
    """Bytes that a validation holds.

    Args:
        instances (int): About how many annotated people.
        detected (bool): See :func:`make_people`.

    Returns:
        dict[str, int]: ``kept`` at its end, the ``most`` until it has been
        diagnosed, and what another rank would send, ``pickled``.
    """
    people = make_people(instances, detected)
    collect(people)
    tracemalloc.start()
    try:
        part = collect(people)
        kept, _ = tracemalloc.get_traced_memory()
        diagnose(part, KINDS)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return dict(kept=kept, most=most, pickled=len(pickle.dumps(part)))
