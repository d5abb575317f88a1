# Copyright (c) OpenMMLab. All rights reserved.
"""Some samples of a training's data set, for another process."""
import copy
from typing import List, NamedTuple, Optional

from ...core.runner_parts import unwrapped
from .annotated_data import (AnnotatedSample, loaded_parts, read_sample,
                             spread_indices)

# What a CombinedDataset adds to a sample.
_ADDED = ('upper_body_ids', 'lower_body_ids', 'flip_pairs',
          'dataset_keypoint_weights', 'flip_indices')


class Source(NamedTuple):
    """Where a sample comes from.

    Attributes:
        info (dict): What its data set holds of it.
        pipeline (Compose): The pipeline of its data set.
        meta (dict): The metainfo of its data set.
    """
    info: dict
    pipeline: object
    meta: dict


class FewSamples:
    """Make some samples of a data set as often as one likes.

    It can be pickled without the data set. Transforms that mix images take
    the others from it.

    Args:
        sources (list[Source]): The samples.
        outer (Compose, optional): The pipeline of a :obj:`CombinedDataset`.
        meta (dict): The metainfo of the samples that come out.
    """

    def __init__(self, sources: List[Source], outer, meta: dict) -> None:
        self.sources = sources
        self.outer = outer
        self.meta = meta

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> dict:
        """Make a sample anew."""
        pipeline = self.outer or self.sources[index].pipeline
        # The same as in the data sets, where a lock would be copied else.
        return pipeline(dict(self.get_data_info(index), dataset=self))

    def get_data_info(self, index: int) -> dict:
        """Return what the last pipeline begins with."""
        source = self.sources[index]
        info = copy.deepcopy(source.info)
        if self.outer is not None:
            info = source.pipeline(dict(info, dataset=self))
            info.pop('dataset', None)
            info.update({
                name: copy.deepcopy(self.meta[name])
                for name in _ADDED if name in self.meta
            })
        return info

    def annotated(self, index: int) -> Optional[AnnotatedSample]:
        """Return what is annotated in a sample."""
        return read_sample(self.sources[index].info)


def choose_samples(dataset, count: int) -> Optional[FewSamples]:
    """Choose samples that are spread over a data set.

    No pipeline runs and no number is drawn.

    Args:
        dataset (Dataset): A data set, which may wrap or combine others.
        count (int): How many samples of each part to choose at most.

    Returns:
        FewSamples | None: The samples, those of the parts in turn. None where
        no part holds its annotations in memory.
    """
    sources = []
    parts = loaded_parts(dataset)
    for part in parts:
        sources.append([
            Source(part.get_data_info(int(i)), part.pipeline, part.metainfo)
            for i in spread_indices(len(part), count)
        ])
    # Those of the parts in turn.
    order = [
        of_part[i] for i in range(count) for of_part in sources
        if i < len(of_part)
    ]
    if not order:
        return None
    dataset = unwrapped(dataset)
    outer = None
    if hasattr(dataset, 'datasets') and hasattr(dataset, 'pipeline'):
        outer = dataset.pipeline
    return FewSamples(order, outer, getattr(dataset, 'metainfo',
                                            order[0].meta))
