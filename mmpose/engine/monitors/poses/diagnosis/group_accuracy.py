# Copyright (c) OpenMMLab. All rights reserved.
import functools
from typing import Iterator, Sequence

import numpy as np

from ...core.measurements import Remark
from ...core.monitor import Chart
from ...writers.record import IMAGE, LAYER_SCALAR, Image, Record, Scalar, Value
from ..accuracy.data_set_accuracy import DataSetAccuracy
from .diagnosis import Diagnosis, Validation
from .groups.group_figure import draw_group_figure
from .groups.group_tally import GROUPINGS, GroupTally
from .groups.groups import CROWDING, SIZE


class GroupDiagnosis(Diagnosis):
    """Log for which instances and keypoints the predictions are wrong.

    ========================================= ==============================
    ``instances/OKS/size/<group>``            Mean object keypoint similarity
                                              (OKS) of the small, medium and
                                              large instances; where the data
                                              set has no sigmas,
                                              ``instances/NME/size/<group>``
    ``instances/OKS/<by>/<group>``            The same by crowding and by
                                              annotated keypoints, and the mean
                                              keypoint similarity (KS) by
                                              visibility; with ``log_details``
    ``instances/NME/<by>/<group>``            Mean distance over the box's
                                              longer side, with ``log_details``
    ``instances/count/<by>/<group>``          Number of instances, by
                                              visibility that of keypoints,
                                              with ``log_details``
    ``instances/count/<data set>``            Number of instances of each data
                                              set, if the validation has
                                              several, with ``log_details``
    ``instances/size_and_crowding``           A figure: the OKS (without
                                              sigmas, the NME) and the number
                                              of instances by size and crowding
    ========================================= ==============================

    The groups by size are small (an area below 32 x 32 pixels), medium (below
    96 x 96) and large, as in COCO's evaluation; by crowding alone, some (one
    or two other boxes of the image overlap the instance's by a tenth of their
    union) and many (three or more); by keypoints few (up to a third of them
    are annotated), half (up to two thirds) and most; by visibility visible and
    occluded, where the data set annotates it. An empty group has no curve. The
    report names the group of keypoints that lowers the mean OKS most.
    """

    charts = (Chart('Keypoints', 'OKS by size', 'instances/OKS/size/'), )

    def records(self, runner, validation: Validation) -> Iterator[Record]:

        @functools.lru_cache(None)
        def tally() -> GroupTally:  # In the writer's thread, once.
            return GroupTally(validation.parts)

        yield Record(
            validation.step,
            lambda: group_values(tally(), validation.parts, validation.details
                                 ),
            kind=LAYER_SCALAR)
        yield Record(
            validation.step,
            lambda: group_figure(tally(), validation.when),
            kind=IMAGE)


def group_values(tally: GroupTally, parts: Sequence[DataSetAccuracy],
                 details: bool) -> Iterator[Value]:
    """Yield the scalars of the groups, and what the report says.

    Args:
        tally (GroupTally): The groups.
        parts (Sequence[DataSetAccuracy]): The data sets.
        details (bool): Whether to yield all of them.
    """
    has_sigmas = any(part.sigmas is not None for part in parts)
    for by in GROUPINGS if details else (SIZE, ):
        means = tally.means(by)
        for group, oks, nme, count in zip(by.groups, *means):
            place = f'{by.name}/{group}'
            if np.isfinite(oks):
                yield Scalar(f'instances/OKS/{place}', oks)
            if np.isfinite(nme) and (details or not has_sigmas):
                yield Scalar(f'instances/NME/{place}', nme)
            if count and details:
                yield Scalar(f'instances/count/{place}', count)
    if details and len(parts) > 1:
        for part in parts:
            yield Scalar(f'instances/count/{part.name}', part.tally.instances)
    weakest = tally.weakest()
    if weakest is not None:
        yield Remark(
            'weakest_group', f'{weakest.name[0].upper()}{weakest.name[1:]} '
            f'lower the mean OKS of {weakest.mean:.3f} most: their keypoint '
            f'similarity is {weakest.similarity:.2f} in {weakest.count:,} '
            f'cases, which costs {100 * weakest.cost:.1f} points.')


def group_figure(tally: GroupTally, when: str) -> Iterator[Image]:
    """Draw the accuracy by size and crowding.

    Args:
        tally (GroupTally): The groups.
        when (str): The epoch or iteration, for the title.
    """
    means = tally.means(SIZE, CROWDING)
    has_oks = np.isfinite(means.oks).any()
    yield Image('instances/size_and_crowding', [
        draw_group_figure(
            means.oks if has_oks else means.nme, means.counts,
            [*SIZE.groups, 'all'], [
                'alone\nno overlap', 'some\n1 or 2 others', 'many\n3 or more',
                'all'
            ], float(has_oks),
            f'{"OKS" if has_oks else "NME"} by size and crowding, {when}')
    ])
