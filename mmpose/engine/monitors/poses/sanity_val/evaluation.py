# Copyright (c) OpenMMLab. All rights reserved.
import copy
import math
from typing import Iterator, List, Sequence, Tuple

import numpy as np

from ..predictions import predictions

# These need the predictions of whole videos.
_OF_WHOLE_DATA_SETS = ('PoseTrack18Metric', )
_MAX_NAMED = 3


def evaluate(evaluator, predicted: Sequence[Tuple[dict,
                                                  Sequence]]) -> List[str]:
    """Evaluate some batches, and say what is wrong.

    Args:
        evaluator (Evaluator): That of the validation. It is not changed: a
            copy evaluates.
        predicted (Sequence[tuple[dict, Sequence]]): Of each batch what the
            data set gave and what the model returned.

    Returns:
        list[str]: A sentence for each problem.
    """
    outputs = [output for _, of_batch in predicted for output in of_batch]
    problems = [*_not_finite(outputs)]
    for metric in evaluator.metrics:
        if getattr(metric, 'coco', None) is not None:
            problems += _unknown_images(metric.coco, outputs)
            problems += _areas(metric)
    if outputs:
        problems += _metric_problems(_copy(evaluator), predicted)
    return problems


def _metric_problems(probe, predicted) -> Iterator[str]:
    try:
        for batch, outputs in predicted:
            probe.process(data_samples=outputs, data_batch=batch)
        for metric in probe.metrics:
            if metric.results and not _is_skipped(metric):
                yield from _judge(metric.compute_metrics(metric.results))
    except Exception as error:
        yield f'Evaluating fails with {type(error).__name__}: {error}'


def _copy(evaluator):
    """Copy an evaluator; annotations, which may be large, are shared."""
    shared = [getattr(metric, 'coco', None) for metric in evaluator.metrics]
    probe = copy.deepcopy(evaluator, {id(one): one for one in shared})
    for metric in probe.metrics:
        metric.results = []
        if hasattr(metric, 'outfile_prefix'):
            metric.outfile_prefix = None
    return probe


def _is_skipped(metric) -> bool:
    return (getattr(metric, 'format_only', False)
            or type(metric).__name__ in _OF_WHOLE_DATA_SETS)


def _judge(values: dict) -> Iterator[str]:
    # Of sizes that no instance has, AP is -1 as well.
    if math.isclose(float(values.get('AP', 0)), -1):
        yield 'AP is -1: the evaluator counts no annotation'


def _not_finite(outputs: Sequence) -> Iterator[str]:
    count = sum(not np.isfinite(predictions(output.pred_instances)[0]).all()
                for output in outputs if 'pred_instances' in output)
    if count:
        yield (f'The keypoints that the model predicts are NaN or infinite in '
               f'{count} of {len(outputs)} samples')


def _unknown_images(coco, outputs: Sequence) -> Iterator[str]:
    ids = [o.get('img_id') for o in outputs if o.get('img_id') is not None]
    unknown = [i for i in ids if i not in coco.imgs]
    if unknown:
        named = ', '.join(map(str, unknown[:_MAX_NAMED]))
        yield (f'The evaluator does not know {len(unknown)} of {len(ids)} '
               f'images: img_id {named} '
               f'{"are" if len(unknown) > 1 else "is"} not in its ann_file')


def _areas(metric) -> Iterator[str]:
    if not getattr(metric, 'use_area', True):
        return
    counted = [
        annotation for annotation in metric.coco.anns.values()
        if annotation.get('num_keypoints') and not annotation.get('iscrowd')
    ]
    wrong = [a['id'] for a in counted if not a.get('area', 0) > 0]
    if wrong:
        named = ', '.join(map(str, wrong[:_MAX_NAMED]))
        yield (f'Of {len(counted)} annotations with keypoints {len(wrong)} '
               f'have no area above 0, which OKS is relative to: id {named} '
               '(with use_area=False, the metric takes that of the box)')
