# Copyright (c) OpenMMLab. All rights reserved.
from typing import Iterator, List

from ...writers.record import Image
from ..accuracy.data_set_accuracy import DataSetAccuracy, together
from ..accuracy.keypoint_curves import curve_groups
from .keypoint_figure import keypoint_figure, picture_of


def accuracy_figure(parts: List[DataSetAccuracy],
                    when: str) -> Iterator[Image]:
    """Draw how accurate the keypoints of a validation are.

    Args:
        parts (list[DataSetAccuracy]): Of each data set, at least one.
        when (str): Which validation it is, for the title.
    """
    names, tally = together(parts)
    links = []
    if len(names) == len(parts[0].names):
        links = parts[0].meta.get('skeleton_links', [])
    measures = tally.measures()
    if 'OKS' in measures:
        title, values = 'Keypoint similarity', measures['OKS']
    else:
        title, values = 'PCK@0.05', measures['PCK@0.05']
    title += f', {when}, {tally.instances:,} instances'
    groups = curve_groups(names, parts[0].meta)
    figure = keypoint_figure(names, values, groups, tally.example_pose(),
                             links, title)
    yield Image('keypoints/accuracy', [picture_of(figure)])
