# Copyright (c) OpenMMLab. All rights reserved.
"""The metrics of MMPose: the main one, and which values are better."""
import itertools
import math
import re
from typing import Dict, Iterable, NamedTuple, Optional, Sequence

from mmengine.hooks import CheckpointHook

# The ends of the last words in the names of MMPose's metrics.
_GREATER_IS_BETTER = re.compile(r'(AP|AR|PCKh?|AUC|OKS|IoU|[Aa]cc(uracy)?)$')
_LESS_IS_BETTER = re.compile(r'(NME|EPE|MPJPE|MRRPE|[Ll]oss|[Ee]rror)$')
# The metrics that matter most come first, by the last part of their names.
_MAIN = ('AP', 'PCK', 'PCKh', 'tPCK', 'AUC', 'NME', 'EPE', 'MPJPE', 'P-MPJPE',
         'N-MPJPE', 'MPJPE_all', 'MRRPE', 'val_loss', 'loss')
# The number of validations that show which values of an unknown metric are
# better.
_LEARNED_FROM = 4
_LEARNED_PAIRS = 0.9
_OF_ALL = re.compile(r'^(Total|Mean) ')
# Names of body parts that ``KeypointPartitionMetric`` is usually given.
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
        MainMetric | None: That of the whole body before that of a part, and
        one of MMPose before another one whose name says which values are
        better; None if no name does.
    """
    names = list(names)
    ranked = []
    for i, name in enumerate(names):
        *path, last = name.split('/')
        last = _OF_ALL.sub('', last)
        if last in _MAIN:
            is_part = any(map(_PARTS.search, path)) and 'wholebody' not in name
            ranked.append((_MAIN.index(last), is_part, i, name))
    if ranked:
        name = min(ranked)[-1]
        return MainMetric(name, direction(name.replace('_all', '')))
    return next((MainMetric(name, direction(name))
                 for name in names if direction(name)), None)


def learned_metric(validations: Sequence[Dict[str,
                                              float]]) -> Optional[MainMetric]:
    """Choose a metric by its course in the beginning of a training.

    A model that starts to learn gets better: what rises is better when it is
    greater.

    Args:
        validations (Sequence[dict[str, float]]): The metrics of the first
            validations, during which the training loss has fallen.

    Returns:
        MainMetric | None: The first metric whose later value is above the
        earlier one, or below it, in 90 % of all pairs of validations; None if
        there is none, or there are fewer than :data:`_LEARNED_FROM`.
    """
    if len(validations) < _LEARNED_FROM:
        return None
    for name in validations[0]:
        values = [metrics.get(name, math.nan) for metrics in validations]
        changes = [b - a for a, b in itertools.combinations(values, 2)]
        for rule, sign in ('greater', 1), ('less', -1):
            better_ones = sum(sign * change > 0 for change in changes)
            if better_ones >= _LEARNED_PAIRS * len(changes):
                return MainMetric(name, rule)
    return None


def checkpoint_rules(runner) -> Dict[str, Optional[str]]:
    """Return the metrics that ``CheckpointHook`` saves the best one by.

    Args:
        runner (Runner): The runner, when its training begins.

    Returns:
        dict[str, str | None]: By the metric's name 'greater', 'less' or,
        where the config does not say, None.
    """
    rules: Dict[str, Optional[str]] = {}
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best:
            rules.update(zip(hook.key_indicators, hook.rules))
    return rules


def metric_of_best_checkpoint(runner) -> Optional[MainMetric]:
    """Return the first of :func:`checkpoint_rules` that has a rule."""
    known = (MainMetric(*it) for it in checkpoint_rules(runner).items())
    return next((metric for metric in known if metric.rule), None)
