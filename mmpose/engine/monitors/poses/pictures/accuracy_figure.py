# Copyright (c) OpenMMLab. All rights reserved.
from typing import Iterator, List

from ...writers.record import Image
from ..accuracy.data_set_accuracy import DataSetAccuracy, together
from .keypoint_figure import draw_keypoint_figure


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
    pose, drawn = tally.canonical_pose() or (None, None)
    measures = tally.measures()
    if 'OKS' in measures:
        title, values = 'Keypoint similarity', measures['OKS']
        counts = tally.similarity_counts
    else:
        title, values = 'PCK@0.05', measures['PCK@0.05']
        counts = tally.counts
    title += f', {when}, {tally.instances:,} instances'
    yield Image('keypoints/accuracy', [
        draw_keypoint_figure(names, values, counts, pose, drawn, links, title)
    ])
