# Copyright (c) OpenMMLab. All rights reserved.
"""The metrics of MMPose: which is the main one, and what is better."""
import math
import re
from typing import Iterable, NamedTuple, Optional

from mmengine.hooks import CheckpointHook

# What the last word of a metric's name ends with, of MMPose's metrics.
_GREATER_IS_BETTER = re.compile(r'(AP|AR|PCKh?|AUC|OKS|IoU|[Aa]cc(uracy)?)$')
_LESS_IS_BETTER = re.compile(r'(NME|EPE|MPJPE|MRRPE|[Ll]oss|[Ee]rror)$')
# The metrics that matter most come first, by the last part of their names.
_MAIN = ('AP', 'PCK', 'PCKh', 'tPCK', 'AUC', 'NME', 'EPE', 'MPJPE', 'P-MPJPE',
         'N-MPJPE', 'MPJPE_all', 'MRRPE', 'val_loss', 'loss')
_OF_ALL = re.compile(r'^(Total|Mean) ')
# Parts of the body that ``KeypointPartitionMetric`` is usually told.
_PARTS = re.compile(r'(body|foot|feet|face|hand|head|upper|lower)')


class MainMetric(NamedTuple):
    """The metric that a training is judged by.

    Attributes:
        name (str): As its evaluator names it: 'coco/AP'.
        rule (str): 'greater' or 'less'.
    """
    name: str
    rule: str

    @property
    def sign(self) -> int:
        """1 where higher values are better, else -1."""
        return 1 if self.rule == 'greater' else -1


def direction(metric: str) -> str:
    """Return which values of a metric are the better ones.

    Args:
        metric (str): As its evaluator names it: 'coco/AP (M)'.

    Returns:
        str: 'greater', 'less' or, where it is not known, ''.
    """
    for word in re.findall('[A-Za-z]+', metric.rpartition('/')[2]):
        if _GREATER_IS_BETTER.search(word):
            return 'greater'
        if _LESS_IS_BETTER.search(word):
            return 'less'
    return ''


def better(rule: str, best: Optional[float], value: float) -> float:
    """Return the better one of two values.

    Args:
        rule (str): See :func:`direction`; '' takes the new one.
        best (float, optional): The best one so far, if there is one.
        value (float): The new one.

    Returns:
        float: Not NaN, unless both are.
    """
    if best is None or math.isnan(best):
        return value
    if math.isnan(value):
        return best
    return dict(
        greater=max, less=min).get(rule, lambda _, new: new)(best, value)


def main_metric(names: Iterable[str]) -> Optional[MainMetric]:
    """Choose the metric that matters most.

    Args:
        names (Iterable[str]): Those of a validation.

    Returns:
        MainMetric | None: That of the whole body before that of a part; None
        if no metric is known.
    """
    ranked = []
    for i, name in enumerate(names):
        *path, last = name.split('/')
        last = _OF_ALL.sub('', last)
        if last in _MAIN:
            is_part = any(map(_PARTS.search, path)) and 'wholebody' not in name
            ranked.append((_MAIN.index(last), is_part, i, name))
    if not ranked:
        return None
    name = min(ranked)[-1]
    return MainMetric(name, direction(name.replace('_all', '')))


def metric_of_best_checkpoint(runner) -> Optional[MainMetric]:
    """Return the metric that ``CheckpointHook`` saves the best one by.

    Args:
        runner (Runner): The runner, when its training begins.

    Returns:
        MainMetric | None: None where the config does not say.
    """
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best:
            if hook.rules[0] is not None:
                return MainMetric(hook.key_indicators[0], hook.rules[0])
    return None
